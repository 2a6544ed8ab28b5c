/* Encoding and decoding; see tokenizer.h.  Who fills a tokenizer: tokenizer_json.c,
 * tokenizer_gguf.c, tokenizer_open.c.
 *
 * A text passes: added tokens that are matched before the normalizer, normalizer, added tokens
 * matched after it, split patterns, merges. */
#include "tokenizer.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "arena.h"
#include "byte_alphabet.h"
#include "tokenizer_build.h"
#include "try.h"

/* ---- Building ---- */

seam_status seam_tokenizer_alloc(seam_tokenizer **ret_tokenizer, seam_error *err) {
    seam_tokenizer *t = seam_mem_zalloc(1, sizeof(*t));
    if (t == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    seam_bpe_init(&t->bpe);
    t->bos_id = t->eos_id = -1;
    const seam_status st = seam_split_create(&t->split, err);
    if (st != SEAM_OK) {
        seam_tokenizer_close(t);
        return st;
    }
    *ret_tokenizer = t;
    return SEAM_OK;
}

void seam_tokenizer_close(seam_tokenizer *gift_tokenizer) {
    seam_tokenizer *t = gift_tokenizer;
    if (t == NULL) {
        return;
    }
    for (size_t i = 0; i < t->added_count; i++) {
        seam_mem_free(t->added[i].text);
    }
    seam_mem_free(t->added);
    seam_mem_free(t->chat_template);
    seam_split_destroy(t->split);
    seam_bpe_deinit(&t->bpe);
    seam_mem_free(t);
}

static char *bytes_copy(const char *text, size_t bytes) {
    char *copy = seam_mem_alloc(bytes + 1);
    if (copy != NULL) {
        memcpy(copy, text, bytes);
        copy[bytes] = '\0';
    }
    return copy;
}

/* Whether the vocabulary's entry of this id spells the token, as it is or in the byte alphabet. */
static seam_status is_same_token(bool *ret_same, const seam_bpe *bpe,
                                 const seam_added_token *token) {
    const seam_bpe_token *known = &bpe->tokens[token->id];
    const char *bytes = bpe->pool.bytes + known->offset;
    char *raw = seam_mem_alloc(token->bytes);
    size_t raw_bytes = 0;
    if (raw == NULL) {
        return SEAM_E_MEMORY;
    }
    *ret_same = (known->bytes == token->bytes && memcmp(bytes, token->text, token->bytes) == 0) ||
                (seam_byte_alphabet_read(raw, &raw_bytes, token->text, token->bytes) &&
                 raw_bytes == known->bytes && memcmp(bytes, raw, raw_bytes) == 0);
    seam_mem_free(raw);
    return SEAM_OK;
}

/* Enters an added token in the vocabulary, or finds it there. */
static seam_status added_enter(seam_tokenizer *t, const seam_added_token *token, const char *file,
                               seam_error *err) {
    seam_status st = SEAM_OK;
    bool same = true;
    if (token->id < t->bpe.token_count && t->bpe.tokens[token->id].is_present) {
        st = is_same_token(&same, &t->bpe, token);
        /* Merging must never produce a control token. */
        t->bpe.tokens[token->id].is_literal |= token->is_special;
    } else {
        st = seam_bpe_add_literal(&t->bpe, token->id, token->text, token->bytes);
    }
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "%s: added token %u: out of memory", file, token->id);
    }
    if (!same) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              "%s: added token %.*s has the id of another token, %u", file,
                              (int)(token->bytes < 64 ? token->bytes : 64), token->text, token->id);
    }
    return SEAM_OK;
}

seam_status seam_tokenizer_add_added(seam_tokenizer *tokenizer, const seam_added_token *token,
                                     const char *file, seam_error *err) {
    seam_tokenizer *t = tokenizer;
    if (token->bytes == 0 || token->id >= SEAM_VOCAB_MAX) {
        return seam_error_set(err, SEAM_E_FORMAT, "%s: added token %u is empty or over the limit",
                              file, token->id);
    }
    if (t->added_count == SEAM_ADDED_TOKENS_MAX) {
        return seam_error_set(err, SEAM_E_LIMIT, "%s: more than %d added tokens", file,
                              SEAM_ADDED_TOKENS_MAX);
    }
    SEAM_TRY(added_enter(t, token, file, err));
    if (t->added_count == t->added_capacity) {
        const size_t capacity = t->added_capacity == 0 ? 32 : 2 * t->added_capacity;
        seam_added_token *added = seam_mem_realloc(t->added, capacity * sizeof(*added));
        if (added == NULL) {
            return seam_error_set(err, SEAM_E_MEMORY, "%s: out of memory", file);
        }
        t->added = added;
        t->added_capacity = capacity;
    }
    seam_added_token copy = *token;
    copy.text = bytes_copy(token->text, token->bytes);
    if (copy.text == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "%s: out of memory", file);
    }
    t->added[t->added_count++] = copy;
    return SEAM_OK;
}

/* First byte, then longer before shorter: the first hit is the longest. */
static int added_order(const void *a, const void *b) {
    const seam_added_token *x = a;
    const seam_added_token *y = b;
    const uint8_t first_x = (uint8_t)x->text[0];
    const uint8_t first_y = (uint8_t)y->text[0];
    if (first_x != first_y) {
        return first_x < first_y ? -1 : 1;
    }
    if (x->bytes != y->bytes) {
        return x->bytes > y->bytes ? -1 : 1;
    }
    return memcmp(x->text, y->text, x->bytes);
}

void seam_tokenizer_finish(seam_tokenizer *tokenizer) {
    seam_tokenizer *t = tokenizer;
    if (t->added_count > 1) {
        qsort(t->added, t->added_count, sizeof(*t->added), added_order);
    }
    size_t i = 0;
    for (size_t first = 0; first <= 256; first++) {
        while (i < t->added_count && (uint8_t)t->added[i].text[0] < first) {
            i++;
        }
        t->added_begin[first] = i;
    }
}

seam_status seam_tokenizer_set_chat_template(seam_tokenizer *tokenizer, const char *text,
                                             size_t bytes) {
    char *copy = bytes_copy(text, bytes);
    if (copy == NULL) {
        return SEAM_E_MEMORY;
    }
    seam_mem_free(tokenizer->chat_template);
    tokenizer->chat_template = copy;
    return SEAM_OK;
}

/* ---- Looking ---- */

uint32_t seam_tokenizer_vocab_count(const seam_tokenizer *tokenizer) {
    return (uint32_t)tokenizer->bpe.token_count;
}

int64_t seam_tokenizer_bos(const seam_tokenizer *tokenizer) {
    return tokenizer->bos_id;
}

int64_t seam_tokenizer_eos(const seam_tokenizer *tokenizer) {
    return tokenizer->eos_id;
}

const uint32_t *seam_tokenizer_prefix(size_t *ret_count, const seam_tokenizer *tokenizer) {
    *ret_count = tokenizer->prefix_count;
    return tokenizer->prefix;
}

const char *seam_tokenizer_chat_template(const seam_tokenizer *tokenizer) {
    return tokenizer->chat_template;
}

bool seam_tokenizer_find_added(uint32_t *ret_id, const seam_tokenizer *tokenizer,
                               const char *text) {
    const size_t bytes = strlen(text);
    for (size_t i = 0; i < tokenizer->added_count; i++) {
        const seam_added_token *token = &tokenizer->added[i];
        if (token->bytes == bytes && memcmp(token->text, text, bytes) == 0) {
            *ret_id = token->id;
            return true;
        }
    }
    return false;
}

static const seam_added_token *added_by_id(const seam_tokenizer *t, uint32_t id) {
    for (size_t i = 0; i < t->added_count; i++) {
        if (t->added[i].id == id) {
            return &t->added[i];
        }
    }
    return NULL;
}

bool seam_tokenizer_is_special(const seam_tokenizer *tokenizer, uint32_t id) {
    const seam_added_token *token = added_by_id(tokenizer, id);
    return token != NULL && token->is_special;
}

const char *seam_tokenizer_token(size_t *ret_bytes, const seam_tokenizer *tokenizer, uint32_t id) {
    const seam_bpe *bpe = &tokenizer->bpe;
    if (id >= bpe->token_count || !bpe->tokens[id].is_present) {
        return NULL;
    }
    *ret_bytes = bpe->tokens[id].bytes;
    return bpe->pool.bytes + bpe->tokens[id].offset;
}

/* ---- Encoding ---- */

typedef struct encoder {
    const seam_tokenizer *tokenizer;
    seam_ids *ids;
    seam_special special;
    seam_error *err;
} encoder;

static seam_status normalized_encode(encoder *e, const char *text, size_t bytes);

static seam_status piece_encode(void *context, const char *piece, size_t bytes) {
    encoder *e = context;
    const seam_status st = seam_bpe_encode(e->ids, &e->tokenizer->bpe, piece, bytes);
    return st == SEAM_OK ? st : seam_error_set(e->err, st, "no memory to encode a text");
}

/* The longest added token of this class that `text` begins with, or NULL. */
static const seam_added_token *added_at(const encoder *e, const char *text, size_t bytes,
                                        bool is_normalized) {
    const seam_tokenizer *t = e->tokenizer;
    const uint8_t first = (uint8_t)text[0];
    for (size_t i = t->added_begin[first]; i < t->added_begin[first + 1]; i++) {
        const seam_added_token *token = &t->added[i];
        if (token->is_normalized == is_normalized && token->bytes <= bytes &&
            !(token->is_special && e->special == SEAM_SPECIAL_AS_TEXT) &&
            memcmp(token->text, text, token->bytes) == 0) {
            return token;
        }
    }
    return NULL;
}

/* What lies between added tokens of this class goes on to the next stage. */
static seam_status gap_encode(encoder *e, const char *text, size_t bytes, bool is_normalized) {
    if (bytes == 0) {
        return SEAM_OK;
    }
    return is_normalized ? seam_split_run(e->tokenizer->split, text, bytes, piece_encode, e, e->err)
                         : normalized_encode(e, text, bytes);
}

static seam_status added_encode(encoder *e, const char *text, size_t bytes, bool is_normalized) {
    size_t gap = 0;
    for (size_t at = 0; at < bytes;) {
        const seam_added_token *token = added_at(e, text + at, bytes - at, is_normalized);
        if (token == NULL) {
            at++;
            continue;
        }
        SEAM_TRY(gap_encode(e, text + gap, at - gap, is_normalized));
        if (seam_ids_append(e->ids, &token->id, 1) != SEAM_OK) {
            return seam_error_set(e->err, SEAM_E_MEMORY, "no memory to encode a text");
        }
        at += token->bytes;
        gap = at;
    }
    return gap_encode(e, text + gap, bytes - gap, is_normalized);
}

static bool is_ascii(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if (((uint8_t)text[i] & 0x80) != 0) {
            return false;
        }
    }
    return true;
}

static seam_status nfc_encode(encoder *e, const char *text, size_t bytes) {
    const utf8proc_uint8_t *input = (const utf8proc_uint8_t *)text;
    const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    const utf8proc_ssize_t input_bytes = (utf8proc_ssize_t)bytes;
    const utf8proc_ssize_t points = utf8proc_decompose(input, input_bytes, NULL, 0, options);
    if (points < 0) {
        return seam_error_set(e->err, SEAM_E_FORMAT, "a text cannot be normalized: %s",
                              utf8proc_errmsg(points));
    }
    utf8proc_int32_t *buffer = seam_mem_zalloc((size_t)points + 1, sizeof(*buffer));
    if (buffer == NULL) {
        return seam_error_set(e->err, SEAM_E_MEMORY, "no memory to encode a text");
    }
    (void)utf8proc_decompose(input, input_bytes, buffer, points, options);
    const utf8proc_ssize_t count = utf8proc_reencode(buffer, points, options);
    const seam_status st =
        count < 0 ? seam_error_set(e->err, SEAM_E_FORMAT, "a text cannot be normalized")
                  : added_encode(e, (const char *)buffer, (size_t)count, true);
    seam_mem_free(buffer);
    return st;
}

static seam_status normalized_encode(encoder *e, const char *text, size_t bytes) {
    return e->tokenizer->nfc && !is_ascii(text, bytes) ? nfc_encode(e, text, bytes)
                                                       : added_encode(e, text, bytes, true);
}

seam_status seam_tokenizer_encode(seam_ids *ids, const seam_tokenizer *tokenizer, const char *text,
                                  size_t bytes, seam_special special, seam_error *err) {
    const size_t good = seam_utf8_check(text, bytes);
    if (good < bytes) {
        return seam_error_set(err, SEAM_E_FORMAT, "a text is not UTF-8 at byte %zu", good);
    }
    encoder e = {.tokenizer = tokenizer, .ids = ids, .special = special, .err = err};
    return added_encode(&e, text, bytes, false);
}

/* ---- Decoding ---- */

seam_status seam_tokenizer_decode(seam_text *text, const seam_tokenizer *tokenizer,
                                  const uint32_t *ids, size_t count, seam_decode mode,
                                  seam_error *err) {
    seam_text raw = {0};
    seam_status st = SEAM_OK;
    for (size_t i = 0; i < count && st == SEAM_OK; i++) {
        size_t bytes = 0;
        const char *token = seam_tokenizer_token(&bytes, tokenizer, ids[i]);
        if (token == NULL) {
            st = seam_error_set(err, SEAM_E_ARG, "id %u has no token", ids[i]);
        } else if (mode != SEAM_DECODE_SKIP_SPECIAL ||
                   !seam_tokenizer_is_special(tokenizer, ids[i])) {
            st = seam_text_append(&raw, token, bytes);
        }
    }
    if (st == SEAM_OK) {
        st = mode == SEAM_DECODE_RAW ? seam_text_append(text, raw.bytes, raw.count)
                                     : seam_text_append_lossy(text, raw.bytes, raw.count);
    }
    seam_text_deinit(&raw);
    return st == SEAM_E_MEMORY ? seam_error_set(err, st, "no memory to decode a text") : st;
}
