/* What is well-formed UTF-8: no overlong form, no surrogate, nothing above U+10FFFF (Unicode, table
 * 3-7). */
#ifndef SEAM_UTF8_H
#define SEAM_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the character at `s` (1..4) when well formed; else 0 and *ret_bad = how many bytes form
 * a maximal prefix of one (at least 1).  left > 0. */
size_t seam_utf8_length(size_t *ret_bad, const uint8_t *s, size_t left);
/* Offset of the first byte that is not part of well-formed UTF-8; `count` when all is. */
size_t seam_utf8_check(const char *bytes, size_t count);

#endif
