/* tokenizer.json (Hugging Face `tokenizers`) -> seam_tokenizer.
 *
 * Each component is dispatched on its "type"; a type, or a field of a known type, that is not
 * understood is refused by name.  `truncation` and `padding` are settings of a caller, not of the
 * encoding, and are not read. */
#include <jansson.h>
#include <string.h>

#include "json_read.h"
#include "tokenizer_build.h"
#include "tokenizer_files.h"
#include "try.h"

typedef struct reader {
    seam_tokenizer *tokenizer;
    const char *file;
    seam_error *err;
} reader;

static seam_status refuse(const reader *r, const char *part, const char *what) {
    return seam_error_set(r->err, SEAM_E_UNIMPLEMENTED, "%s: %s: %.100s is not supported", r->file,
                          part, what == NULL ? "a component without a type" : what);
}

static seam_status malformed(const reader *r, const char *part, const char *why) {
    return seam_error_set(r->err, SEAM_E_FORMAT, "%s: %s: %s", r->file, part, why);
}

static bool is_type(const json_t *object, const char *type) {
    const char *text = json_string_value(json_object_get(object, "type"));
    return text != NULL && strcmp(text, type) == 0;
}

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
        return malformed(r, "model", "is missing");
    }
    if (type != NULL && !is_type(model, "BPE")) {
        return refuse(r, "model", json_string_value(type));
    }
    if (!is_false(json_object_get(model, "byte_fallback"))) {
        return refuse(r, "model", "byte_fallback (a SentencePiece-style vocabulary)");
    }
    const json_t *dropout = json_object_get(model, "dropout");
    if (dropout != NULL && !json_is_null(dropout) && json_number_value(dropout) != 0.0) {
        return refuse(r, "model", "dropout");
    }
    if (!is_empty(json_object_get(model, "continuing_subword_prefix"))) {
        return refuse(r, "model", "continuing_subword_prefix");
    }
    if (!is_empty(json_object_get(model, "end_of_word_suffix"))) {
        return refuse(r, "model", "end_of_word_suffix");
    }
    return SEAM_OK;
}

static seam_status vocab_read(const reader *r, json_t *vocab) {
    const char *text;
    json_t *id;
    if (!json_is_object(vocab) || json_object_size(vocab) == 0) {
        return malformed(r, "model.vocab", "is missing or empty");
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
        return malformed(r, "model.merges", "is missing");
    }
    const size_t count = json_array_size(merges);
    if (count > SEAM_VOCAB_MAX) {
        return malformed(r, "model.merges", "is over the limit");
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
        return malformed(r, "model.unk_token", "is no string");
    }
    if (!seam_tokenizer_find_added(&bpe->unk_id, r->tokenizer, text)) {
        bpe->unk_id = seam_bpe_find(bpe, text, strlen(text));
    }
    return bpe->unk_id == SEAM_NO_TOKEN ? malformed(r, "model.unk_token", "is no token") : SEAM_OK;
}

static seam_status added_read(const reader *r, const json_t *list) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        const char *text = json_string_value(json_object_get(item, "content"));
        const json_t *id = json_object_get(item, "id");
        if (text == NULL || !json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= SEAM_VOCAB_MAX) {
            return malformed(r, "added_tokens", "an entry lacks a good content or id");
        }
        static const char *const FLAGS[] = {"single_word", "lstrip", "rstrip"};
        for (size_t f = 0; f < sizeof(FLAGS) / sizeof(FLAGS[0]); f++) {
            if (!is_false(json_object_get(item, FLAGS[f]))) {
                return seam_error_set(r->err, SEAM_E_UNIMPLEMENTED,
                                      "%s: added token %.64s: %s is not supported", r->file, text,
                                      FLAGS[f]);
            }
        }
        const seam_added_token token = {
            .text = (char *)(uintptr_t)text, /* copied by the callee */
            .bytes = strlen(text),
            .id = (uint32_t)json_integer_value(id),
            .is_special = json_is_true(json_object_get(item, "special")),
            .is_normalized = json_is_true(json_object_get(item, "normalized"))};
        SEAM_TRY(seam_tokenizer_add_added(r->tokenizer, &token, r->file, r->err));
    }
    return SEAM_OK;
}

/* ---- Normalizer, split patterns, decoder, post-processor ---- */

/* A component that may be a Sequence: `one` runs on each member (of the field `members`). */
typedef seam_status (*component_read)(const reader *r, const json_t *component);

static seam_status each_component(const reader *r, const char *part, const char *members,
                                  const json_t *component, component_read one) {
    if (component == NULL || json_is_null(component)) {
        return SEAM_OK;
    }
    if (!is_type(component, "Sequence")) {
        return one(r, component);
    }
    const json_t *list = json_object_get(component, members);
    if (!json_is_array(list)) {
        return malformed(r, part, "a Sequence without members");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        SEAM_TRY(one(r, json_array_get(list, i)));
    }
    return SEAM_OK;
}

static seam_status normalizer_read(const reader *r, const json_t *component) {
    if (!is_type(component, "NFC")) {
        return refuse(r, "normalizer", json_string_value(json_object_get(component, "type")));
    }
    r->tokenizer->nfc = true;
    return SEAM_OK;
}

static seam_status split_add(const reader *r, const char *pattern, bool is_literal,
                             seam_split_keep keep) {
    const seam_status st = seam_split_add(r->tokenizer->split, pattern, is_literal, keep, r->err);
    return st == SEAM_OK ? st : seam_error_prefix(r->err, st, "%s: pre_tokenizer", r->file);
}

static seam_status split_read(const reader *r, const json_t *component) {
    const json_t *pattern = json_object_get(component, "pattern");
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    const char *literal = json_string_value(json_object_get(pattern, "String"));
    const char *behavior = json_string_value(json_object_get(component, "behavior"));
    const bool invert = json_is_true(json_object_get(component, "invert"));
    if ((regex == NULL) == (literal == NULL) || behavior == NULL) {
        return malformed(r, "pre_tokenizer", "Split without a pattern or a behavior");
    }
    const char *text = regex != NULL ? regex : literal;
    if (strcmp(behavior, "Isolated") == 0) {
        return split_add(r, text, regex == NULL, SEAM_SPLIT_BOTH);
    }
    if (strcmp(behavior, "Removed") == 0) {
        return split_add(r, text, regex == NULL, invert ? SEAM_SPLIT_MATCHES : SEAM_SPLIT_GAPS);
    }
    return refuse(r, "pre_tokenizer: Split: behavior", behavior);
}

static seam_status pre_tokenizer_read(const reader *r, const json_t *component) {
    if (is_type(component, "Split")) {
        return split_read(r, component);
    }
    if (is_type(component, "Digits")) {
        const bool one = json_is_true(json_object_get(component, "individual_digits"));
        return split_add(r, one ? "\\p{N}" : "\\p{N}+", false, SEAM_SPLIT_BOTH);
    }
    if (!is_type(component, "ByteLevel")) {
        return refuse(r, "pre_tokenizer", json_string_value(json_object_get(component, "type")));
    }
    if (!is_false(json_object_get(component, "add_prefix_space"))) {
        return refuse(r, "pre_tokenizer: ByteLevel", "add_prefix_space");
    }
    if (json_is_false(json_object_get(component, "use_regex"))) {
        return SEAM_OK;
    }
    return split_add(r, SEAM_SPLIT_GPT2, false, SEAM_SPLIT_BOTH);
}

static seam_status decoder_read(const reader *r, const json_t *component) {
    return is_type(component, "ByteLevel")
               ? SEAM_OK
               : refuse(r, "decoder", json_string_value(json_object_get(component, "type")));
}

/* Of a template only what stands before the text matters here. */
static seam_status template_read(const reader *r, const json_t *component) {
    const json_t *single = json_object_get(component, "single");
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *item = json_array_get(single, i);
        if (json_object_get(item, "Sequence") != NULL) {
            return SEAM_OK;
        }
        const char *text =
            json_string_value(json_object_get(json_object_get(item, "SpecialToken"), "id"));
        uint32_t id;
        if (text == NULL || !seam_tokenizer_find_added(&id, r->tokenizer, text) ||
            r->tokenizer->prefix_count == SEAM_PREFIX_MAX) {
            return malformed(r, "post_processor", "TemplateProcessing names no added token");
        }
        r->tokenizer->prefix[r->tokenizer->prefix_count++] = id;
    }
    return malformed(r, "post_processor", "TemplateProcessing without the text");
}

static seam_status post_processor_read(const reader *r, const json_t *component) {
    if (is_type(component, "ByteLevel")) {
        return SEAM_OK; /* offsets only */
    }
    if (is_type(component, "TemplateProcessing")) {
        return template_read(r, component);
    }
    return refuse(r, "post_processor", json_string_value(json_object_get(component, "type")));
}

static seam_status root_read(const reader *r, const json_t *root) {
    json_t *model = json_object_get(root, "model");
    const json_t *decoder = json_object_get(root, "decoder");
    const json_t *split = json_object_get(root, "pre_tokenizer");
    SEAM_TRY(model_check(r, model));
    SEAM_TRY(each_component(r, "normalizer", "normalizers", json_object_get(root, "normalizer"),
                            normalizer_read));
    if (split == NULL || json_is_null(split) || decoder == NULL || json_is_null(decoder)) {
        return refuse(r, "pre_tokenizer and decoder", "a file without ByteLevel");
    }
    SEAM_TRY(each_component(r, "pre_tokenizer", "pretokenizers", split, pre_tokenizer_read));
    SEAM_TRY(each_component(r, "decoder", "decoders", decoder, decoder_read));
    SEAM_TRY(vocab_read(r, json_object_get(model, "vocab")));
    SEAM_TRY(added_read(r, json_object_get(root, "added_tokens")));
    SEAM_TRY(merges_read(r, json_object_get(model, "merges")));
    SEAM_TRY(unk_read(r, model));
    return each_component(r, "post_processor", "processors",
                          json_object_get(root, "post_processor"), post_processor_read);
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
    json_decref(root);
    if (st != SEAM_OK) {
        seam_tokenizer_close(r.tokenizer);
        return st;
    }
    seam_tokenizer_finish(r.tokenizer);
    *ret_tokenizer = r.tokenizer;
    return SEAM_OK;
}
