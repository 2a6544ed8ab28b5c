/* See math_answer.h.  Each rule rewrites the answer in a buffer that has room for all of them: a
 * rule at most doubles it. */
#include "math_answer.h"

#include <ctype.h>
#include <string.h>

#include "try.h"

#define ROOM (8 * SEAM_MATH_ANSWER_BYTES_MAX)

typedef struct answer {
    char text[ROOM]; /* zero-terminated */
} answer;

/* ---- Finding it ---- */

/* The last place of `word`, or NULL. */
static const char *last_of(const char *text, const char *word) {
    const char *last = NULL;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at++) {
        last = at;
    }
    return last;
}

/* Bytes inside of the brace that `open` stands on, up to its partner; false: it has none. */
static bool brace_content(size_t *ret_bytes, const char *open) {
    int depth = 0;
    for (const char *at = open; *at != '\0'; at++) {
        depth += *at == '{' ? 1 : *at == '}' ? -1 : 0;
        if (depth == 0) {
            *ret_bytes = (size_t)(at - open) - 1;
            return true;
        }
    }
    return false;
}

bool seam_math_boxed(const char **ret_content, size_t *ret_bytes, const char *text) {
    const char *const boxed = last_of(text, "\\boxed");
    const char *const mark = boxed != NULL ? boxed : last_of(text, "\\fbox");
    if (mark == NULL) {
        return false;
    }
    const char *const after = mark + (boxed != NULL ? 6 : 5);
    if (boxed != NULL && *after == ' ') {
        *ret_content = after + 1;
        *ret_bytes = strcspn(after + 1, "$");
        return true;
    }
    *ret_content = after + 1;
    return *after == '{' && brace_content(ret_bytes, after);
}

/* ---- Rewriting it ---- */

static void replace(answer *a, const char *from, const char *to) {
    const size_t from_bytes = strlen(from), to_bytes = strlen(to);
    answer done;
    size_t used = 0;
    for (const char *at = a->text; *at != '\0';) {
        const bool hit = strncmp(at, from, from_bytes) == 0;
        const char *const source = hit ? to : at;
        const size_t count = hit ? to_bytes : 1;
        SEAM_ASSERT(used + count < ROOM);
        memcpy(done.text + used, source, count);
        used += count;
        at += hit ? from_bytes : 1;
    }
    done.text[used] = '\0';
    *a = done;
}

static void put(answer *a, size_t *used, const char *text, size_t count) {
    SEAM_ASSERT(*used + count < ROOM);
    memcpy(a->text + *used, text, count);
    *used += count;
    a->text[*used] = '\0';
}

static void braced_put(answer *a, size_t *used, const char *one) {
    put(a, used, "{", 1);
    put(a, used, one, 1);
    put(a, used, "}", 1);
}

/* \sqrt3 -> \sqrt{3} */
static void roots_brace(answer *a) {
    static const char ROOT[] = "\\sqrt";
    const answer before = *a;
    size_t used = 0;
    a->text[0] = '\0';
    for (const char *at = before.text; *at != '\0';) {
        if (strncmp(at, ROOT, sizeof ROOT - 1) != 0) {
            put(a, &used, at++, 1);
            continue;
        }
        put(a, &used, ROOT, sizeof ROOT - 1);
        at += sizeof ROOT - 1;
        if (*at != '\0' && *at != '{') {
            braced_put(a, &used, at++);
        }
    }
}

/* \frac12 -> \frac{1}{2}, \frac1{72} -> \frac{1}{72} */
static void fractions_brace(answer *a) {
    static const char FRACTION[] = "\\frac";
    const answer before = *a;
    size_t used = 0;
    a->text[0] = '\0';
    for (const char *at = before.text; *at != '\0';) {
        if (strncmp(at, FRACTION, sizeof FRACTION - 1) != 0) {
            put(a, &used, at++, 1);
            continue;
        }
        put(a, &used, FRACTION, sizeof FRACTION - 1);
        at += sizeof FRACTION - 1;
        if (*at == '{' || *at == '\0') {
            continue;
        }
        if (at[1] == '\0') {
            *a = before; /* \frac of one thing is none */
            return;
        }
        braced_put(a, &used, at++);
        if (*at != '{') {
            braced_put(a, &used, at++);
        }
    }
}

/* Digits of an integer as it is printed: no sign but '-', no zeros before it. */
static bool is_integer(const char *text, size_t count) {
    const size_t sign = count > 0 && text[0] == '-' ? 1 : 0;
    for (size_t i = sign; i < count; i++) {
        if (isdigit((unsigned char)text[i]) == 0) {
            return false;
        }
    }
    return count > sign && (text[sign] != '0' || (count == 1 && sign == 0));
}

/* 1/2 -> \frac{1}{2} */
static void slash_spell(answer *a) {
    const answer before = *a;
    const char *const slash = strchr(before.text, '/');
    size_t used = 0;
    if (slash == NULL || !is_integer(before.text, (size_t)(slash - before.text)) ||
        !is_integer(slash + 1, strlen(slash + 1))) {
        return;
    }
    put(a, &used, "\\frac{", 6);
    put(a, &used, before.text, (size_t)(slash - before.text));
    put(a, &used, "}{", 2);
    put(a, &used, slash + 1, strlen(slash + 1));
    put(a, &used, "}", 1);
}

/* "x=5" -> "5": one '=' with at most two bytes before it. */
static void name_drop(answer *a) {
    const char *const equals = strchr(a->text, '=');
    if (equals != NULL && equals - a->text <= 2 && strchr(equals + 1, '=') == NULL) {
        memmove(a->text, equals + 1, strlen(equals + 1) + 1);
    }
}

static void normalize(answer *a) {
    static const char *const RULES[][2] = {
        {"\n", ""},     {"\\!", ""},     {"\\\\", "\\"},    {"tfrac", "frac"}, {"dfrac", "frac"},
        {"\\left", ""}, {"\\right", ""}, {"^{\\circ}", ""}, {"^\\circ", ""},   {"\\$", ""},
    };
    for (size_t i = 0; i < sizeof RULES / sizeof RULES[0]; i++) {
        replace(a, RULES[i][0], RULES[i][1]);
    }
    char *const unit = strstr(a->text, "\\text{ ");
    if (unit != NULL) {
        *unit = '\0';
    }
    replace(a, "\\%", "");
    replace(a, " .", " 0.");
    replace(a, "{.", "{0.");
    if (a->text[0] == '.') {
        memmove(a->text + 1, a->text, strlen(a->text) + 1);
        a->text[0] = '0';
    }
    name_drop(a);
    roots_brace(a);
    replace(a, " ", "");
    fractions_brace(a);
    if (strcmp(a->text, "0.5") == 0) {
        replace(a, "0.5", "\\frac{1}{2}");
    }
    slash_spell(a);
}

bool seam_math_is_same(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    if (a_bytes > SEAM_MATH_ANSWER_BYTES_MAX || b_bytes > SEAM_MATH_ANSWER_BYTES_MAX) {
        return a_bytes == b_bytes && memcmp(a, b, a_bytes) == 0;
    }
    answer x, y;
    memcpy(x.text, a, a_bytes);
    x.text[a_bytes] = '\0';
    memcpy(y.text, b, b_bytes);
    y.text[b_bytes] = '\0';
    normalize(&x);
    normalize(&y);
    return strcmp(x.text, y.text) == 0;
}
