/* Normalizer, pre-tokenizer, decoder and post-processor of a tokenizer.json; the rest of the file
 * is read in tokenizer_json.c.
 *
 * Each component is dispatched on its "type".  A file with ByteLevel on both ways is a model by
 * bytes; any other is one by characters, whose decoder then says what a token shows. */
#include <jansson.h>
#include <string.h>

#include "tokenizer_json.h"
#include "try.h"

typedef seam_tokenizer_json_reader reader;

seam_status seam_tokenizer_json_refuse(const reader *r, const char *part, const char *what) {
    return seam_error_set(r->err, SEAM_E_UNIMPLEMENTED, "%s: %s: %.100s is not supported", r->file,
                          part, what == NULL ? "a component without a type" : what);
}

seam_status seam_tokenizer_json_malformed(const reader *r, const char *part, const char *why) {
    return seam_error_set(r->err, SEAM_E_FORMAT, "%s: %s: %s", r->file, part, why);
}

bool seam_json_is_type(const json_t *object, const char *type) {
    const char *text = json_string_value(json_object_get(object, "type"));
    return text != NULL && strcmp(text, type) == 0;
}

/* A component that may be a Sequence: `one` runs on each member (of the field `members`). */
typedef seam_status (*component_read)(const reader *r, const json_t *component);

static seam_status each_component(const reader *r, const char *part, const char *members,
                                  const json_t *component, component_read one) {
    if (component == NULL || json_is_null(component)) {
        return SEAM_OK;
    }
    if (!seam_json_is_type(component, "Sequence")) {
        return one(r, component);
    }
    const json_t *list = json_object_get(component, members);
    if (!json_is_array(list)) {
        return seam_tokenizer_json_malformed(r, part, "a Sequence without members");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        SEAM_TRY(one(r, json_array_get(list, i)));
    }
    return SEAM_OK;
}

/* A text field of a step of a normalizer or decoder; NULL where it is none. */
static const char *text_of(const json_t *component, const char *field) {
    return json_string_value(json_object_get(component, field));
}

static const char *replaced_text(const json_t *component) {
    return json_string_value(json_object_get(json_object_get(component, "pattern"), "String"));
}

static seam_status step_add(const reader *r, seam_normalizer_kind kind, const char *from,
                            const char *to) {
    const seam_status st = seam_normalizer_add(&r->tokenizer->normalizer, kind, from, to);
    return st == SEAM_OK ? st
                         : seam_error_set(r->err, st,
                                          "%s: normalizer: too many steps, or a text "
                                          "that is empty or too long",
                                          r->file);
}

static seam_status normalizer_read(const reader *r, const json_t *component) {
    const char *const from = replaced_text(component);
    const char *const to = text_of(component, "content");
    const char *const prepend = text_of(component, "prepend");
    if (seam_json_is_type(component, "NFC")) {
        return step_add(r, SEAM_NORMALIZER_NFC, NULL, NULL);
    }
    if (seam_json_is_type(component, "Prepend") && prepend != NULL) {
        return step_add(r, SEAM_NORMALIZER_PREPEND, NULL, prepend);
    }
    if (seam_json_is_type(component, "Replace") && from != NULL && to != NULL) {
        return step_add(r, SEAM_NORMALIZER_REPLACE, from, to);
    }
    return seam_tokenizer_json_refuse(r, "normalizer", text_of(component, "type"));
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
        return seam_tokenizer_json_malformed(r, "pre_tokenizer",
                                             "Split without a pattern or a behavior");
    }
    const char *text = regex != NULL ? regex : literal;
    if (strcmp(behavior, "Isolated") == 0) {
        return split_add(r, text, regex == NULL, SEAM_SPLIT_BOTH);
    }
    if (strcmp(behavior, "Removed") == 0) {
        return split_add(r, text, regex == NULL, invert ? SEAM_SPLIT_MATCHES : SEAM_SPLIT_GAPS);
    }
    return seam_tokenizer_json_refuse(r, "pre_tokenizer: Split: behavior", behavior);
}

/* Fields of Metaspace that the pre-tokenizer and the decoder have.  add_prefix_space is the older
 * form of prepend_scheme. */
static seam_status metaspace_scheme(seam_metaspace_prepend *ret, const reader *r, const char *part,
                                    const json_t *component) {
    static const char *const NAMES[] = {"never", "first", "always"};
    const char *const mark = text_of(component, "replacement");
    const char *const scheme = text_of(component, "prepend_scheme");
    if (mark == NULL || strcmp(mark, SEAM_METASPACE) != 0) {
        return seam_tokenizer_json_refuse(r, part, "Metaspace with another mark than U+2581");
    }
    *ret = json_is_false(json_object_get(component, "add_prefix_space")) ? SEAM_METASPACE_NEVER
                                                                         : SEAM_METASPACE_ALWAYS;
    for (size_t i = 0; scheme != NULL; i++) {
        if (i == sizeof NAMES / sizeof NAMES[0]) {
            return seam_tokenizer_json_refuse(r, part, scheme);
        }
        if (strcmp(scheme, NAMES[i]) == 0) {
            *ret = (seam_metaspace_prepend)i;
            break;
        }
    }
    return SEAM_OK;
}

static seam_status metaspace_read(const reader *r, const json_t *component) {
    seam_metaspace *m = &r->tokenizer->metaspace;
    if (m->is_used || !r->tokenizer->bpe.by_character) {
        return seam_tokenizer_json_refuse(r, "pre_tokenizer", "Metaspace twice or with ByteLevel");
    }
    m->is_used = true;
    m->splits = !json_is_false(json_object_get(component, "split"));
    return metaspace_scheme(&m->prepend, r, "pre_tokenizer", component);
}

static seam_status pre_tokenizer_read(const reader *r, const json_t *component) {
    if (seam_json_is_type(component, "Split")) {
        return split_read(r, component);
    }
    if (seam_json_is_type(component, "Digits")) {
        const bool one = json_is_true(json_object_get(component, "individual_digits"));
        return split_add(r, one ? "\\p{N}" : "\\p{N}+", false, SEAM_SPLIT_BOTH);
    }
    if (seam_json_is_type(component, "Metaspace")) {
        return metaspace_read(r, component);
    }
    if (!seam_json_is_type(component, "ByteLevel") || r->tokenizer->bpe.by_character) {
        return seam_tokenizer_json_refuse(r, "pre_tokenizer",
                                          json_string_value(json_object_get(component, "type")));
    }
    if (json_is_true(json_object_get(component, "add_prefix_space"))) {
        return seam_tokenizer_json_refuse(r, "pre_tokenizer: ByteLevel", "add_prefix_space");
    }
    if (json_is_false(json_object_get(component, "use_regex"))) {
        return SEAM_OK;
    }
    return split_add(r, SEAM_SPLIT_GPT2, false, SEAM_SPLIT_BOTH);
}

static seam_status decoder_rule(const reader *r, const char *from, const char *to) {
    seam_token_decoder *d = &r->tokenizer->decoder;
    const size_t from_bytes = strlen(from), to_bytes = strlen(to);
    if (d->from[0] != '\0' || from_bytes == 0 || from_bytes >= sizeof d->from ||
        to_bytes >= sizeof d->to) {
        return seam_tokenizer_json_refuse(r, "decoder", "a second Replace, or one that long");
    }
    memcpy(d->from, from, from_bytes + 1);
    memcpy(d->to, to, to_bytes + 1);
    return SEAM_OK;
}

static seam_status strip_read(const reader *r, const json_t *component) {
    const char *const content = text_of(component, "content");
    const json_int_t start = json_integer_value(json_object_get(component, "start"));
    const json_int_t stop = json_integer_value(json_object_get(component, "stop"));
    if (content == NULL || strcmp(content, " ") != 0 || start < 0 || start > 16 || stop != 0) {
        return seam_tokenizer_json_refuse(r, "decoder", "Strip of anything but leading spaces");
    }
    r->tokenizer->decoder.strip_spaces = (size_t)start;
    return SEAM_OK;
}

/* Steps of a decoder by characters.  They mean what tokenizer_decode.c does in this order only. */
enum { STEP_REPLACE = 1, STEP_BYTES, STEP_FUSE, STEP_STRIP };

static seam_status decoder_step(const reader *r, const json_t *component, int *latest) {
    seam_token_decoder *d = &r->tokenizer->decoder;
    const char *const from = replaced_text(component);
    const char *const to = text_of(component, "content");
    int step = 0;
    seam_status st = SEAM_OK;
    if (seam_json_is_type(component, "Replace") && from != NULL && to != NULL) {
        step = STEP_REPLACE;
        st = decoder_rule(r, from, to);
    } else if (seam_json_is_type(component, "Metaspace")) {
        seam_metaspace_prepend scheme = SEAM_METASPACE_NEVER;
        step = STEP_REPLACE;
        SEAM_TRY(metaspace_scheme(&scheme, r, "decoder", component));
        d->drops_in_first = scheme != SEAM_METASPACE_NEVER;
        st = decoder_rule(r, SEAM_METASPACE, " ");
    } else if (seam_json_is_type(component, "ByteFallback")) {
        step = STEP_BYTES;
        d->byte_fallback = true;
    } else if (seam_json_is_type(component, "Fuse")) {
        step = STEP_FUSE;
    } else if (seam_json_is_type(component, "Strip")) {
        step = STEP_STRIP;
        st = strip_read(r, component);
    }
    SEAM_TRY(st);
    if (step <= *latest || (step == STEP_STRIP && *latest != STEP_FUSE)) {
        return seam_tokenizer_json_refuse(r, "decoder", text_of(component, "type"));
    }
    *latest = step;
    return SEAM_OK;
}

static seam_status decoder_read(const reader *r, const json_t *decoder) {
    const json_t *const list = json_object_get(decoder, "decoders");
    int latest = 0;
    if (!r->tokenizer->bpe.by_character) {
        return SEAM_OK; /* ByteLevel, or a Sequence with it: see byte_level_find */
    }
    if (!seam_json_is_type(decoder, "Sequence")) {
        return decoder_step(r, decoder, &latest);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        SEAM_TRY(decoder_step(r, json_array_get(list, i), &latest));
    }
    return SEAM_OK;
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
            return seam_tokenizer_json_malformed(r, "post_processor",
                                                 "TemplateProcessing names no added token");
        }
        r->tokenizer->prefix[r->tokenizer->prefix_count++] = id;
    }
    return seam_tokenizer_json_malformed(r, "post_processor",
                                         "TemplateProcessing without the text");
}

static seam_status post_processor_read(const reader *r, const json_t *component) {
    if (seam_json_is_type(component, "ByteLevel")) {
        return SEAM_OK; /* offsets only */
    }
    if (seam_json_is_type(component, "TemplateProcessing")) {
        return template_read(r, component);
    }
    return seam_tokenizer_json_refuse(r, "post_processor",
                                      json_string_value(json_object_get(component, "type")));
}

/* Whether a component is ByteLevel or has it as a member. */
static seam_status byte_level_find(bool *ret_has, const reader *r, const char *part,
                                   const char *members, const json_t *component) {
    const json_t *const list = json_object_get(component, members);
    bool has = seam_json_is_type(component, "ByteLevel");
    if (seam_json_is_type(component, "Sequence") && !json_is_array(list)) {
        return seam_tokenizer_json_malformed(r, part, "a Sequence without members");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        has = has || seam_json_is_type(json_array_get(list, i), "ByteLevel");
    }
    *ret_has = has;
    return SEAM_OK;
}

seam_status seam_tokenizer_parts_read(const seam_tokenizer_json_reader *r, const json_t *root) {
    const json_t *const split = json_object_get(root, "pre_tokenizer");
    const json_t *const decoder = json_object_get(root, "decoder");
    bool splits_bytes = false, joins_bytes = false;
    SEAM_TRY(byte_level_find(&splits_bytes, r, "pre_tokenizer", "pretokenizers", split));
    SEAM_TRY(byte_level_find(&joins_bytes, r, "decoder", "decoders", decoder));
    if (!json_is_object(decoder) || splits_bytes != joins_bytes) {
        return seam_tokenizer_json_refuse(r, "pre_tokenizer and decoder",
                                          "a file without a decoder, or with one ByteLevel only");
    }
    r->tokenizer->bpe.by_character = !splits_bytes;
    SEAM_TRY(each_component(r, "normalizer", "normalizers", json_object_get(root, "normalizer"),
                            normalizer_read));
    SEAM_TRY(each_component(r, "pre_tokenizer", "pretokenizers", split, pre_tokenizer_read));
    return decoder_read(r, decoder);
}

seam_status seam_tokenizer_prefix_read(const seam_tokenizer_json_reader *r, const json_t *root) {
    return each_component(r, "post_processor", "processors",
                          json_object_get(root, "post_processor"), post_processor_read);
}
