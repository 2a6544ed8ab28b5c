/* Running split patterns with PCRE2; see split.h.  Translation of a pattern is in
 * split_pattern.c.  PCRE2 gets our allocator; its compiler is used if it is there. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "split.h"

#include <pcre2.h>
#include <stdint.h>

#include "arena.h"
#include "split_pattern.h"
#include "text_buffer.h"
#include "try.h"

/* Steps of one match attempt; a split pattern of a tokenizer needs a few a character. */
#define MATCH_LIMIT 50000000

const char SEAM_SPLIT_GPT2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

struct seam_split {
    pcre2_general_context *memory;
    pcre2_match_context *limits;
    struct {
        pcre2_code *code;
        seam_split_keep keep;
    } steps[SEAM_SPLIT_STEPS_MAX];
    size_t step_count;
};

static void *pcre_alloc(size_t bytes, void *context) {
    (void)context;
    return seam_mem_alloc(bytes);
}

static void pcre_free(void *memory, void *context) {
    (void)context;
    seam_mem_free(memory);
}

seam_status seam_split_create(seam_split **ret_split, seam_error *err) {
    seam_split *split = seam_mem_zalloc(1, sizeof(*split));
    if (split != NULL) {
        split->memory = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    }
    if (split != NULL && split->memory != NULL) {
        split->limits = pcre2_match_context_create(split->memory);
    }
    if (split == NULL || split->limits == NULL) {
        seam_split_destroy(split);
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    (void)pcre2_set_match_limit(split->limits, MATCH_LIMIT);
    *ret_split = split;
    return SEAM_OK;
}

void seam_split_destroy(seam_split *gift_split) {
    if (gift_split == NULL) {
        return;
    }
    for (size_t i = 0; i < gift_split->step_count; i++) {
        pcre2_code_free(gift_split->steps[i].code);
    }
    pcre2_match_context_free(gift_split->limits);
    pcre2_general_context_free(gift_split->memory);
    seam_mem_free(gift_split);
}

static seam_status compile(pcre2_code **ret_code, const seam_split *split, const char *pattern,
                           size_t bytes, bool is_literal, seam_error *err) {
    pcre2_compile_context *context = pcre2_compile_context_create(split->memory);
    if (context == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    int code = 0;
    PCRE2_SIZE offset = 0;
    const uint32_t options = PCRE2_UTF | (is_literal ? PCRE2_LITERAL : PCRE2_UCP);
    *ret_code = pcre2_compile((PCRE2_SPTR)pattern, bytes, options, &code, &offset, context);
    pcre2_compile_context_free(context);
    if (*ret_code == NULL && code == PCRE2_ERROR_HEAP_FAILED) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    if (*ret_code == NULL) {
        PCRE2_UCHAR reason[128] = "";
        (void)pcre2_get_error_message(code, reason, sizeof(reason));
        return seam_error_set(err, SEAM_E_FORMAT, "split pattern, at byte %zu: %s", offset,
                              (const char *)reason);
    }
    (void)pcre2_jit_compile(*ret_code, PCRE2_JIT_COMPLETE); /* without it matching is slower */
    return SEAM_OK;
}

seam_status seam_split_add(seam_split *split, const char *pattern, bool is_literal,
                           seam_split_keep keep, seam_error *err) {
    seam_text translated = {0};
    seam_status st = SEAM_OK;
    if (split->step_count == SEAM_SPLIT_STEPS_MAX) {
        return seam_error_set(err, SEAM_E_LIMIT, "more than %d split steps", SEAM_SPLIT_STEPS_MAX);
    }
    if (is_literal) {
        st = seam_text_append_string(&translated, pattern);
    } else {
        st = seam_split_pattern_translate(&translated, pattern, err);
    }
    pcre2_code *code = NULL;
    if (st == SEAM_OK) {
        st = compile(&code, split, translated.bytes, translated.count, is_literal, err);
    }
    seam_text_deinit(&translated);
    SEAM_TRY(st);
    split->steps[split->step_count].code = code;
    split->steps[split->step_count].keep = keep;
    split->step_count++;
    return SEAM_OK;
}

typedef struct run {
    const seam_split *split;
    pcre2_match_data *match[SEAM_SPLIT_STEPS_MAX]; /* one a step: steps nest */
    seam_split_piece piece;
    void *context;
    seam_error *err;
} run;

static seam_status fragment_run(run *r, size_t step_idx, const char *text, size_t bytes);

/* *ret_found: the next match at or after `at` is [*ret_begin, *ret_end). */
static seam_status match_next(bool *ret_found, size_t *ret_begin, size_t *ret_end, run *r,
                              size_t step_idx, const char *text, size_t bytes, size_t at) {
    const pcre2_code *code = r->split->steps[step_idx].code;
    pcre2_match_data *match = r->match[step_idx];
    const PCRE2_SPTR subject = (PCRE2_SPTR)text;
    int rc = pcre2_match(code, subject, bytes, at, PCRE2_NO_UTF_CHECK, match, r->split->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
        rc = pcre2_match(code, subject, bytes, at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match,
                         r->split->limits);
    }
    *ret_found = rc >= 0;
    if (rc == PCRE2_ERROR_NOMATCH) {
        return SEAM_OK;
    }
    if (rc == PCRE2_ERROR_NOMEMORY) {
        return seam_error_set(r->err, SEAM_E_MEMORY, "out of memory");
    }
    if (rc < 0) {
        return seam_error_set(r->err, SEAM_E_LIMIT, "a split pattern gave up (PCRE2 error %d)", rc);
    }
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(match);
    *ret_begin = ends[0];
    *ret_end = ends[1];
    return SEAM_OK;
}

/* Bytes of the character at text[at]; at < bytes. */
static size_t character_bytes(const char *text, size_t bytes, size_t at) {
    size_t end = at + 1;
    while (end < bytes && ((uint8_t)text[end] & 0xc0) == 0x80) {
        end++;
    }
    return end - at;
}

static seam_status step_run(run *r, size_t step_idx, const char *text, size_t bytes) {
    const seam_split_keep keep = r->split->steps[step_idx].keep;
    size_t gap = 0; /* where the text that no match has taken begins */
    size_t at = 0;
    bool found = true;
    while (found && at <= bytes) {
        size_t begin = bytes;
        size_t end = bytes;
        SEAM_TRY(match_next(&found, &begin, &end, r, step_idx, text, bytes, at));
        if (!found) {
            break;
        }
        if (keep != SEAM_SPLIT_MATCHES) {
            SEAM_TRY(fragment_run(r, step_idx + 1, text + gap, begin - gap));
        }
        if (keep != SEAM_SPLIT_GAPS) {
            SEAM_TRY(fragment_run(r, step_idx + 1, text + begin, end - begin));
        }
        gap = end;
        at = end > begin || end == bytes ? end : end + character_bytes(text, bytes, end);
        if (end == bytes) {
            break;
        }
    }
    return keep == SEAM_SPLIT_MATCHES ? SEAM_OK
                                      : fragment_run(r, step_idx + 1, text + gap, bytes - gap);
}

static seam_status fragment_run(run *r, size_t step_idx, const char *text, size_t bytes) {
    if (bytes == 0) {
        return SEAM_OK;
    }
    return step_idx == r->split->step_count ? r->piece(r->context, text, bytes)
                                            : step_run(r, step_idx, text, bytes);
}

seam_status seam_split_run(const seam_split *split, const char *text, size_t bytes,
                           seam_split_piece piece, void *context, seam_error *err) {
    run r = {.split = split, .piece = piece, .context = context, .err = err};
    seam_status st = SEAM_OK;
    for (size_t i = 0; i < split->step_count && st == SEAM_OK; i++) {
        r.match[i] = pcre2_match_data_create(1, split->memory);
        if (r.match[i] == NULL) {
            st = seam_error_set(err, SEAM_E_MEMORY, "out of memory");
        }
    }
    if (st == SEAM_OK) {
        st = fragment_run(&r, 0, text, bytes);
    }
    for (size_t i = 0; i < split->step_count; i++) {
        pcre2_match_data_free(r.match[i]);
    }
    return st;
}
