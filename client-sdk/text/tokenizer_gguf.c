/* The tokenizer section of a GGUF file -> seam_tokenizer.
 *
 * tokenizer.ggml.model must be "gpt2" (byte-level BPE); tokenizer.ggml.pre names the split
 * patterns, which are not in the file: those of llama.cpp, each step cutting what the one before
 * left.  A name that is not in the table is refused. */
#include <string.h>

#include "gguf.h"
#include "tokenizer_build.h"
#include "try.h"

#define LLAMA3_HEAD "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define LLAMA3_TAIL "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5 };

static const struct pre_type {
    const char *name;
    const char *patterns[4];
    bool adds_bos, ignores_merges; /* unless the file says otherwise */
} PRE_TYPES[] = {
    {"default",
     {"[\\p{P}\\$\\+<=>\\^~\\|]+", SEAM_SPLIT_GPT2, "\\p{N}+", "[0-9][0-9][0-9]"},
     false,
     false},
    {"gpt-2", {SEAM_SPLIT_GPT2}, false, false},
    {"smollm", {"\\p{N}", SEAM_SPLIT_GPT2}, false, false},
    {"llama-bpe", {LLAMA3_HEAD "\\p{N}{1,3}" LLAMA3_TAIL}, true, true},
    {"llama3", {LLAMA3_HEAD "\\p{N}{1,3}" LLAMA3_TAIL}, true, true},
    {"qwen2", {LLAMA3_HEAD "\\p{N}" LLAMA3_TAIL}, false, false},
};

typedef struct reader {
    seam_tokenizer *tokenizer;
    const seam_gguf *gguf;
    const char *file;
    const struct pre_type *pre;
    seam_error *err;
} reader;

static seam_status pre_read(reader *r) {
    seam_gguf_string model;
    seam_gguf_string pre = {"default", 7};
    SEAM_TRY(seam_gguf_get_string(&model, r->gguf, "tokenizer.ggml.model", r->err));
    if (!seam_gguf_string_is(model, "gpt2")) {
        return seam_error_set(r->err, SEAM_E_UNIMPLEMENTED,
                              "%s: tokenizer.ggml.model: %.*s is not supported (gpt2, byte-level "
                              "BPE, is; SentencePiece-style vocabularies are not)",
                              r->file, (int)(model.bytes < 64 ? model.bytes : 64), model.text);
    }
    if (seam_gguf_has(r->gguf, "tokenizer.ggml.pre")) {
        SEAM_TRY(seam_gguf_get_string(&pre, r->gguf, "tokenizer.ggml.pre", r->err));
    }
    for (size_t i = 0; i < sizeof(PRE_TYPES) / sizeof(PRE_TYPES[0]); i++) {
        if (seam_gguf_string_is(pre, PRE_TYPES[i].name)) {
            r->pre = &PRE_TYPES[i];
            break;
        }
    }
    if (r->pre == NULL) {
        return seam_error_set(r->err, SEAM_E_UNIMPLEMENTED,
                              "%s: tokenizer.ggml.pre: %.*s is not supported", r->file,
                              (int)(pre.bytes < 64 ? pre.bytes : 64), pre.text);
    }
    for (size_t i = 0; i < 4 && r->pre->patterns[i] != NULL; i++) {
        SEAM_TRY(seam_split_add(r->tokenizer->split, r->pre->patterns[i], false, SEAM_SPLIT_BOTH,
                                r->err));
    }
    return SEAM_OK;
}

static seam_status token_add(const reader *r, uint32_t id, seam_gguf_string text, int32_t type) {
    if (type == CONTROL || type == USER_DEFINED || type == UNKNOWN) {
        const seam_added_token token = {.text = (char *)(uintptr_t)text.text, /* copied */
                                        .bytes = (size_t)text.bytes,
                                        .id = id,
                                        .is_special = type != USER_DEFINED};
        return seam_tokenizer_add_added(r->tokenizer, &token, r->file, r->err);
    }
    if (type != NORMAL && type != UNUSED) {
        return seam_error_set(r->err, SEAM_E_UNIMPLEMENTED,
                              "%s: tokenizer.ggml.token_type: type %d of token %u is not supported",
                              r->file, (int)type, id);
    }
    const seam_status st =
        type == NORMAL
            ? seam_bpe_add_token(&r->tokenizer->bpe, id, text.text, (size_t)text.bytes)
            : seam_bpe_add_literal(&r->tokenizer->bpe, id, text.text, (size_t)text.bytes);
    return st == SEAM_OK ? st : seam_error_set(r->err, st, "%s: token %u: bad", r->file, id);
}

static seam_status tokens_read(const reader *r) {
    seam_gguf_array tokens;
    seam_gguf_array types;
    SEAM_TRY(
        seam_gguf_get_array(&tokens, r->gguf, "tokenizer.ggml.tokens", SEAM_GGUF_STRING, r->err));
    SEAM_TRY(
        seam_gguf_get_array(&types, r->gguf, "tokenizer.ggml.token_type", SEAM_GGUF_I32, r->err));
    if (tokens.count == 0 || tokens.count > SEAM_VOCAB_MAX || types.count != tokens.count) {
        return seam_error_set(r->err, SEAM_E_FORMAT,
                              "%s: tokenizer.ggml.tokens: empty, over the limit or not as many as "
                              "tokenizer.ggml.token_type",
                              r->file);
    }
    for (uint32_t id = 0; id < tokens.count; id++) {
        const int32_t type = (int32_t)seam_gguf_array_u32(&types);
        SEAM_TRY(token_add(r, id, seam_gguf_array_next(&tokens), type));
    }
    return SEAM_OK;
}

static seam_status merges_read(const reader *r) {
    seam_gguf_array merges;
    SEAM_TRY(
        seam_gguf_get_array(&merges, r->gguf, "tokenizer.ggml.merges", SEAM_GGUF_STRING, r->err));
    if (merges.count > SEAM_VOCAB_MAX) {
        return seam_error_set(r->err, SEAM_E_FORMAT, "%s: tokenizer.ggml.merges: over the limit",
                              r->file);
    }
    if (seam_bpe_finish_tokens(&r->tokenizer->bpe, (size_t)merges.count) != SEAM_OK) {
        return seam_error_set(r->err, SEAM_E_MEMORY, "%s: out of memory", r->file);
    }
    for (uint64_t i = 0; i < merges.count; i++) {
        const seam_gguf_string merge = seam_gguf_array_next(&merges);
        const char *space = merge.bytes == 0 ? NULL : memchr(merge.text, ' ', (size_t)merge.bytes);
        seam_status st = SEAM_E_FORMAT;
        if (space != NULL) {
            const size_t left = (size_t)(space - merge.text);
            st = seam_bpe_add_merge(&r->tokenizer->bpe, merge.text, left, space + 1,
                                    (size_t)merge.bytes - left - 1);
        }
        if (st != SEAM_OK) {
            return seam_error_set(r->err, st,
                                  "%s: tokenizer.ggml.merges[%llu]: not two tokens and their union",
                                  r->file, (unsigned long long)i);
        }
    }
    return SEAM_OK;
}

static seam_status id_read(int64_t *ret_id, const reader *r, const char *key) {
    uint64_t id;
    if (!seam_gguf_has(r->gguf, key)) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_gguf_get_u64(&id, r->gguf, key, r->err));
    if (id >= r->tokenizer->bpe.token_count) {
        return seam_error_set(r->err, SEAM_E_FORMAT, "%s: %s: no such token", r->file, key);
    }
    *ret_id = (int64_t)id;
    return SEAM_OK;
}

static seam_status rest_read(const reader *r) {
    seam_tokenizer *t = r->tokenizer;
    bool adds_bos = r->pre->adds_bos;
    SEAM_TRY(id_read(&t->bos_id, r, "tokenizer.ggml.bos_token_id"));
    SEAM_TRY(id_read(&t->eos_id, r, "tokenizer.ggml.eos_token_id"));
    t->bpe.ignore_merges = r->pre->ignores_merges;
    if (seam_gguf_has(r->gguf, "tokenizer.ggml.add_bos_token")) {
        SEAM_TRY(seam_gguf_get_bool(&adds_bos, r->gguf, "tokenizer.ggml.add_bos_token", r->err));
    }
    if (adds_bos && t->bos_id >= 0) {
        t->prefix[t->prefix_count++] = (uint32_t)t->bos_id;
    }
    if (seam_gguf_has(r->gguf, "tokenizer.chat_template")) {
        seam_gguf_string text;
        SEAM_TRY(seam_gguf_get_string(&text, r->gguf, "tokenizer.chat_template", r->err));
        if (seam_tokenizer_set_chat_template(t, text.text, (size_t)text.bytes) != SEAM_OK) {
            return seam_error_set(r->err, SEAM_E_MEMORY, "%s: out of memory", r->file);
        }
    }
    return SEAM_OK;
}

seam_status seam_tokenizer_from_gguf(seam_tokenizer **ret_tokenizer, const struct seam_gguf *gguf,
                                     seam_error *err) {
    reader r = {.gguf = gguf, .file = seam_gguf_file(gguf), .err = err};
    seam_status st = SEAM_OK;
    SEAM_TRY(seam_tokenizer_alloc(&r.tokenizer, err));
    SEAM_TRY_GOTO(pre_read(&r), st, fail);
    SEAM_TRY_GOTO(tokens_read(&r), st, fail);
    SEAM_TRY_GOTO(merges_read(&r), st, fail);
    SEAM_TRY_GOTO(rest_read(&r), st, fail);
    SEAM_TRY_GOTO(seam_tokenizer_finish(r.tokenizer, err), st, fail);
    *ret_tokenizer = r.tokenizer;
    return SEAM_OK;
fail:
    seam_tokenizer_close(r.tokenizer);
    return st;
}
