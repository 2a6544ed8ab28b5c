/* Rewriting of a part of a text; see normalizer.h. */
#include "normalizer.h"

#include <string.h>
#include <utf8proc.h>

#include "arena.h"
#include "try.h"

seam_status seam_normalizer_add(seam_normalizer *normalizer, seam_normalizer_kind kind,
                                const char *from, const char *to) {
    seam_normalizer_step step = {.kind = kind};
    const char *const from_text = from != NULL ? from : "";
    const char *const to_text = to != NULL ? to : "";
    const size_t from_bytes = strlen(from_text), to_bytes = strlen(to_text);
    if (normalizer->step_count == SEAM_NORMALIZER_STEPS_MAX ||
        from_bytes > SEAM_NORMALIZER_TEXT_MAX || to_bytes > SEAM_NORMALIZER_TEXT_MAX) {
        return SEAM_E_LIMIT;
    }
    if (kind == SEAM_NORMALIZER_REPLACE && from_bytes == 0) {
        return SEAM_E_FORMAT;
    }
    memcpy(step.from, from_text, from_bytes + 1);
    memcpy(step.to, to_text, to_bytes + 1);
    normalizer->steps[normalizer->step_count++] = step;
    return SEAM_OK;
}

bool seam_normalizer_keeps_ascii(const seam_normalizer *normalizer) {
    for (size_t i = 0; i < normalizer->step_count; i++) {
        if (normalizer->steps[i].kind != SEAM_NORMALIZER_NFC) {
            return false;
        }
    }
    return true;
}

static seam_status nfc_append(seam_text *ret, const char *text, size_t bytes, seam_error *err) {
    const utf8proc_uint8_t *input = (const utf8proc_uint8_t *)text;
    const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    const utf8proc_ssize_t input_bytes = (utf8proc_ssize_t)bytes;
    const utf8proc_ssize_t points = utf8proc_decompose(input, input_bytes, NULL, 0, options);
    if (points < 0) {
        return seam_error_set(err, SEAM_E_FORMAT, "a text cannot be normalized: %s",
                              utf8proc_errmsg(points));
    }
    utf8proc_int32_t *buffer = seam_mem_zalloc((size_t)points + 1, sizeof(*buffer));
    if (buffer == NULL) {
        return SEAM_E_MEMORY;
    }
    (void)utf8proc_decompose(input, input_bytes, buffer, points, options);
    const utf8proc_ssize_t count = utf8proc_reencode(buffer, points, options);
    const seam_status st = count < 0
                               ? seam_error_set(err, SEAM_E_FORMAT, "a text cannot be normalized")
                               : seam_text_append(ret, (const char *)buffer, (size_t)count);
    seam_mem_free(buffer);
    return st;
}

static seam_status replace_append(seam_text *ret, const char *text, size_t bytes, const char *from,
                                  const char *to) {
    const size_t from_bytes = strlen(from), to_bytes = strlen(to);
    size_t begin = 0;
    for (size_t at = 0; at + from_bytes <= bytes;) {
        if (memcmp(text + at, from, from_bytes) != 0) {
            at++;
            continue;
        }
        SEAM_TRY(seam_text_append(ret, text + begin, at - begin));
        SEAM_TRY(seam_text_append(ret, to, to_bytes));
        at += from_bytes;
        begin = at;
    }
    return seam_text_append(ret, text + begin, bytes - begin);
}

static seam_status step_append(seam_text *ret, const seam_normalizer_step *step, const char *text,
                               size_t bytes, bool begins, seam_error *err) {
    switch (step->kind) {
    case SEAM_NORMALIZER_NFC:
        return nfc_append(ret, text, bytes, err);
    case SEAM_NORMALIZER_PREPEND:
        if (begins && bytes > 0) {
            SEAM_TRY(seam_text_append_string(ret, step->to));
        }
        return seam_text_append(ret, text, bytes);
    case SEAM_NORMALIZER_REPLACE:
        break;
    }
    return replace_append(ret, text, bytes, step->from, step->to);
}

seam_status seam_normalizer_run(seam_text *ret_text, const seam_normalizer *normalizer,
                                const char *text, size_t bytes, bool begins, seam_error *err) {
    seam_text next = {0};
    seam_status st = SEAM_OK;
    ret_text->count = 0;
    SEAM_TRY(seam_text_append(ret_text, text, bytes));
    for (size_t i = 0; st == SEAM_OK && i < normalizer->step_count; i++) {
        next.count = 0;
        st = step_append(&next, &normalizer->steps[i], ret_text->bytes, ret_text->count, begins,
                         err);
        const seam_text done = *ret_text;
        *ret_text = next;
        next = done;
    }
    seam_text_deinit(&next);
    return st;
}

seam_status seam_metaspace_run(seam_text *ret_text, const char *text, size_t bytes, bool prepends) {
    static const char MARK[] = SEAM_METASPACE;
    const size_t mark_bytes = sizeof MARK - 1;
    const bool begins_so =
        bytes > 0 &&
        (text[0] == ' ' || (bytes >= mark_bytes && memcmp(text, MARK, mark_bytes) == 0));
    ret_text->count = 0;
    if (prepends && !begins_so) {
        SEAM_TRY(seam_text_append_string(ret_text, MARK));
    }
    return replace_append(ret_text, text, bytes, " ", MARK);
}
