/* Pattern translation; see split_pattern.h.
 *
 * The two engines agree on what tokenizers use, but for three things, handled here:
 * - \s: Oniguruma means Unicode's White_Space; PCRE2 adds U+180E.  It becomes an explicit set.
 * - ^ and $ are line anchors in Ruby syntax: refused.
 * - a '[' inside a class opens a nested class there and is a letter here: refused, as is "&&".
 * Escapes outside the list below are refused too (\h, for one, is a hex digit in Ruby). */
#include "split_pattern.h"

#include <stdbool.h>
#include <string.h>

#include "try.h"

#define SPACE_SET                                                                                  \
    "\\t-\\r "                                                                                     \
    "\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

static seam_status refuse(seam_error *err, const char *pattern, const char *at) {
    return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                          "split pattern: the construct at byte %zu (\"%.8s\") is not supported",
                          (size_t)(at - pattern), at);
}

/* "\p{..}" or "\P{..}": bytes of the whole, 0 when malformed. */
static size_t property_bytes(const char *at) {
    const char *close = at[2] == '{' ? strchr(at, '}') : NULL;
    return close == NULL ? 0 : (size_t)(close - at) + 1;
}

/* The escape at *at; moves past it. */
static seam_status escape_translate(seam_text *ret, const char **at, bool in_class,
                                    const char *pattern, seam_error *err) {
    const char c = (*at)[1];
    if (c == 's' || (c == 'S' && !in_class)) {
        const char *form = in_class ? SPACE_SET : c == 's' ? "[" SPACE_SET "]" : "[^" SPACE_SET "]";
        *at += 2;
        return seam_text_append_string(ret, form);
    }
    size_t bytes = 2;
    if (c == 'p' || c == 'P') {
        bytes = property_bytes(*at);
        if (bytes == 0) {
            return refuse(err, pattern, *at);
        }
    } else if (c == '\0' || strchr("rntdD\\.+*?()[]{}|^$-/'\"#&~<>=!,:;@%_` ", c) == NULL) {
        return refuse(err, pattern, *at);
    }
    const seam_status st = seam_text_append(ret, *at, bytes);
    *at += bytes;
    return st;
}

seam_status seam_split_pattern_translate(seam_text *ret_pattern, const char *pattern,
                                         seam_error *err) {
    bool in_class = false;
    const char *at = pattern;
    while (*at != '\0') {
        const char c = *at;
        if (c == '\\') {
            SEAM_TRY(escape_translate(ret_pattern, &at, in_class, pattern, err));
            continue;
        }
        const bool opens = !in_class && c == '[';
        if (in_class ? c == '[' || (c == '&' && at[1] == '&') : c == '^' || c == '$') {
            return refuse(err, pattern, at);
        }
        SEAM_TRY(seam_text_append(ret_pattern, at, 1));
        at++;
        if (opens) {
            in_class = true;
            if (*at == '^') {
                SEAM_TRY(seam_text_append(ret_pattern, at, 1));
                at++;
            }
            if (*at == ']') {
                return refuse(err, pattern, at);
            }
        } else if (in_class && c == ']') {
            in_class = false;
        }
    }
    return in_class ? seam_error_set(err, SEAM_E_FORMAT, "split pattern: a class is not closed")
                    : SEAM_OK;
}
