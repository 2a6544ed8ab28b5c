/* tokenizer.json (Hugging Face `tokenizers`) -> seam_tokenizer.
 *
 * The model and the added tokens here, the components around it in tokenizer_parts.c.  A type, or a
 * field of a known type, that is not understood is refused by name.  `truncation` and `padding` are
 * settings of a caller, not of the encoding, and are not read. */
#include <jansson.h>
#include <string.h>

#include "json_read.h"
#include "tokenizer_build.h"
#include "tokenizer_files.h"
#include "tokenizer_json.h"
#include "try.h"

typedef seam_tokenizer_json_reader reader;

/* ---- Model ---- */

static bool is_empty(const json_t *value) {
    return value == NULL || json_is_null(value) ||
           (json_is_string(value) && json_string_length(value) == 0);
}

static bool is_false(const json_t *value) {
    return value == NULL || json_is_null(value) || json_is_false(value);
}

static seam_status model_check(const reader *r, const json_t *model) {
    const json_t *type = json_object_get(model, "type");
    if (!json_is_object(model)) {
        return seam_tokenizer_json_malformed(r, "model", "is missing");
    }
    if (type != NULL && !seam_json_is_type(model, "BPE")) {
        return seam_tokenizer_json_refuse(r, "model", json_string_value(type));
    }
    r->tokenizer->bpe.byte_fallback = json_is_true(json_object_get(model, "byte_fallback"));
    if (r->tokenizer->bpe.byte_fallback && !r->tokenizer->bpe.by_character) {
        return seam_tokenizer_json_refuse(r, "model", "byte_fallback beside ByteLevel");
    }
    const json_t *dropout = json_object_get(model, "dropout");
    if (dropout != NULL && !json_is_null(dropout) && json_number_value(dropout) != 0.0) {
        return seam_tokenizer_json_refuse(r, "model", "dropout");
    }
    if (!is_empty(json_object_get(model, "continuing_subword_prefix"))) {
        return seam_tokenizer_json_refuse(r, "model", "continuing_subword_prefix");
    }
    if (!is_empty(json_object_get(model, "end_of_word_suffix"))) {
        return seam_tokenizer_json_refuse(r, "model", "end_of_word_suffix");
    }
    return SEAM_OK;
}

static seam_status vocab_read(const reader *r, json_t *vocab) {
    const char *text;
    json_t *id;
    if (!json_is_object(vocab) || json_object_size(vocab) == 0) {
        return seam_tokenizer_json_malformed(r, "model.vocab", "is missing or empty");
    }
    json_object_foreach(vocab, text, id) {
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= SEAM_VOCAB_MAX) {
            return seam_error_set(r->err, SEAM_E_FORMAT, "%s: model.vocab: %.64s: bad id", r->file,
                                  text);
        }
        const seam_status st = seam_bpe_add_token(
            &r->tokenizer->bpe, (uint32_t)json_integer_value(id), text, strlen(text));
        if (st != SEAM_OK) {
            return seam_error_set(r->err, st, "%s: model.vocab: %.64s: %s", r->file, text,
                                  st == SEAM_E_FORMAT ? "its id occurs twice" : "out of memory");
        }
    }
    return SEAM_OK;
}

/* "left right", or ["left", "right"]. */
static bool merge_halves(const char **ret_left, size_t *ret_left_bytes, const char **ret_right,
                         const json_t *merge) {
    if (json_is_array(merge) && json_array_size(merge) == 2) {
        *ret_left = json_string_value(json_array_get(merge, 0));
        *ret_right = json_string_value(json_array_get(merge, 1));
        *ret_left_bytes = *ret_left == NULL ? 0 : strlen(*ret_left);
        return *ret_left != NULL && *ret_right != NULL;
    }
    *ret_left = json_string_value(merge);
    const char *space = *ret_left == NULL ? NULL : strchr(*ret_left, ' ');
    if (space == NULL) {
        return false;
    }
    *ret_left_bytes = (size_t)(space - *ret_left);
    *ret_right = space + 1;
    return true;
}

static seam_status merges_read(const reader *r, const json_t *merges) {
    if (!json_is_array(merges)) {
        return seam_tokenizer_json_malformed(r, "model.merges", "is missing");
    }
    const size_t count = json_array_size(merges);
    if (count > SEAM_VOCAB_MAX) {
        return seam_tokenizer_json_malformed(r, "model.merges", "is over the limit");
    }
    if (seam_bpe_finish_tokens(&r->tokenizer->bpe, count) != SEAM_OK) {
        return seam_error_set(r->err, SEAM_E_MEMORY, "%s: out of memory", r->file);
    }
    for (size_t i = 0; i < count; i++) {
        const char *left;
        const char *right;
        size_t left_bytes;
        seam_status st = SEAM_E_FORMAT;
        if (merge_halves(&left, &left_bytes, &right, json_array_get(merges, i))) {
            st = seam_bpe_add_merge(&r->tokenizer->bpe, left, left_bytes, right, strlen(right));
        }
        if (st != SEAM_OK) {
            return seam_error_set(
                r->err, st, "%s: model.merges[%zu]: not two tokens and their union", r->file, i);
        }
    }
    return SEAM_OK;
}

/* After the vocabulary's table is there. */
static seam_status unk_read(const reader *r, const json_t *model) {
    seam_bpe *bpe = &r->tokenizer->bpe;
    const json_t *unk = json_object_get(model, "unk_token");
    bpe->fuse_unk = json_is_true(json_object_get(model, "fuse_unk"));
    bpe->ignore_merges = json_is_true(json_object_get(model, "ignore_merges"));
    if (unk == NULL || json_is_null(unk)) {
        return SEAM_OK;
    }
    const char *text = json_string_value(unk);
    if (text == NULL) {
        return seam_tokenizer_json_malformed(r, "model.unk_token", "is no string");
    }
    if (!seam_tokenizer_find_added(&bpe->unk_id, r->tokenizer, text)) {
        bpe->unk_id = seam_bpe_find(bpe, text, strlen(text));
    }
    return bpe->unk_id == SEAM_NO_TOKEN
               ? seam_tokenizer_json_malformed(r, "model.unk_token", "is no token")
               : SEAM_OK;
}

static seam_status added_read(const reader *r, const json_t *list) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        const char *text = json_string_value(json_object_get(item, "content"));
        const json_t *id = json_object_get(item, "id");
        if (text == NULL || !json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= SEAM_VOCAB_MAX) {
            return seam_tokenizer_json_malformed(r, "added_tokens",
                                                 "an entry lacks a good content or id");
        }
        const bool is_normalized = json_is_true(json_object_get(item, "normalized"));
        /* Hugging Face would look for what the normalizer makes of its text. */
        const bool is_rewritten =
            is_normalized && !seam_normalizer_keeps_ascii(&r->tokenizer->normalizer);
        if (is_rewritten || !is_false(json_object_get(item, "single_word"))) {
            return seam_error_set(
                r->err, SEAM_E_UNIMPLEMENTED, "%s: added token %.64s: %s is not supported", r->file,
                text, is_rewritten ? "normalized by a rewriting normalizer" : "single_word");
        }
        const seam_added_token token = {
            .text = (char *)(uintptr_t)text, /* copied by the callee */
            .bytes = strlen(text),
            .id = (uint32_t)json_integer_value(id),
            .is_special = json_is_true(json_object_get(item, "special")),
            .is_normalized = is_normalized,
            .takes_left = json_is_true(json_object_get(item, "lstrip")),
            .takes_right = json_is_true(json_object_get(item, "rstrip"))};
        SEAM_TRY(seam_tokenizer_add_added(r->tokenizer, &token, r->file, r->err));
    }
    return SEAM_OK;
}

static seam_status root_read(const reader *r, const json_t *root) {
    json_t *model = json_object_get(root, "model");
    SEAM_TRY(seam_tokenizer_parts_read(r, root));
    SEAM_TRY(model_check(r, model));
    SEAM_TRY(vocab_read(r, json_object_get(model, "vocab")));
    SEAM_TRY(added_read(r, json_object_get(root, "added_tokens")));
    SEAM_TRY(merges_read(r, json_object_get(model, "merges")));
    SEAM_TRY(unk_read(r, model));
    return seam_tokenizer_prefix_read(r, root);
}

seam_status seam_tokenizer_from_json(seam_tokenizer **ret_tokenizer, const void *bytes,
                                     size_t count, const char *name, seam_error *err) {
    json_t *root = NULL;
    reader r = {.file = name, .err = err};
    SEAM_TRY(seam_json_parse(&root, bytes, count, SEAM_TOKENIZER_JSON_MAX, name, err));
    seam_status st = seam_tokenizer_alloc(&r.tokenizer, err);
    if (st == SEAM_OK) {
        st = root_read(&r, root);
    }
    if (st == SEAM_OK) {
        st = seam_tokenizer_finish(r.tokenizer, err);
    }
    json_decref(root);
    if (st != SEAM_OK) {
        seam_tokenizer_close(r.tokenizer);
        return st;
    }
    *ret_tokenizer = r.tokenizer;
    return SEAM_OK;
}
