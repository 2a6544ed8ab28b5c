/* When a generated text counts as right: see evaluate.h. */
#include <string.h>

#include "evaluate.h"
#include "math_answer.h"

static void strip(const char **text, size_t *count) {
    static const char white[] = " \t\r\n";
    while (*count > 0 && strchr(white, **text) != NULL) {
        (*text)++;
        (*count)--;
    }
    while (*count > 0 && strchr(white, (*text)[*count - 1]) != NULL) {
        (*count)--;
    }
}

/* The number behind the last "####", up to the end of its line, equals the answer; commas between
 * digits do not count on either side. */
static bool answer_matches(const char *generated, const char *answer) {
    const char *mark = NULL;
    for (const char *at = generated; (at = strstr(at, "####")) != NULL; at += 4) {
        mark = at + 4;
    }
    if (mark == NULL) {
        return false;
    }
    size_t count = strcspn(mark, "\n");
    size_t wanted_count = strlen(answer);
    strip(&mark, &count);
    strip(&answer, &wanted_count);
    size_t i = 0, j = 0;
    for (;;) {
        while (i < count && mark[i] == ',') {
            i++;
        }
        while (j < wanted_count && answer[j] == ',') {
            j++;
        }
        if (i == count || j == wanted_count) {
            return i == count && j == wanted_count && count > 0;
        }
        if (mark[i++] != answer[j++]) {
            return false;
        }
    }
}

bool seam_text_is_exact(const char *generated, const char *completion, const char *answer) {
    const char *boxed = NULL;
    size_t boxed_bytes = 0;
    if (answer != NULL && seam_math_boxed(&boxed, &boxed_bytes, completion)) {
        return seam_math_boxed(&boxed, &boxed_bytes, generated) &&
               seam_math_is_same(boxed, boxed_bytes, answer, strlen(answer));
    }
    if (answer != NULL) {
        return answer_matches(generated, answer);
    }
    size_t count = strlen(generated);
    size_t wanted_count = strlen(completion);
    strip(&generated, &count);
    strip(&completion, &wanted_count);
    return count == wanted_count && memcmp(generated, completion, count) == 0;
}

/* Chen et al. 2021, arXiv:2107.03374, section 2.1: a sample ends where the function does, before
 * the first of these. */
static const char *const FUNCTION_ENDS[] = {"\nclass", "\ndef", "\n#", "\nif", "\nprint"};

size_t seam_function_end(const char *text) {
    size_t end = strlen(text);
    for (size_t i = 0; i < sizeof FUNCTION_ENDS / sizeof FUNCTION_ENDS[0]; i++) {
        const char *const at = strstr(text, FUNCTION_ENDS[i]);
        end = at != NULL && (size_t)(at - text) < end ? (size_t)(at - text) : end;
    }
    return end;
}

uint32_t seam_choice_pick(const double *scores, const uint32_t *lengths, uint32_t count) {
    uint32_t best = 0;
    double best_score = 0.0;
    for (uint32_t i = 0; i < count; i++) {
        const double score = lengths != NULL ? scores[i] / (double)lengths[i] : scores[i];
        if (i == 0 || score > best_score) {
            best = i;
            best_score = score;
        }
    }
    return best;
}

uint32_t seam_choice_length(const char *text, uint32_t bytes) {
    const uint32_t length = bytes > 0 && text[0] == ' ' ? bytes - 1 : bytes;
    return length > 0 ? length : 1;
}
