/* GPT-2's alphabet: each byte as one printable character, in which vocabulary files spell tokens.
 * Bytes 33..126, 161..172, 174..255 stand for themselves (as code points); the other 68, in
 * rising order, for U+0100 and up. */
#ifndef SEAM_BYTE_ALPHABET_H
#define SEAM_BYTE_ALPHABET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes spelt by `text` into ret (room for `bytes`); false when a character is not in the
 * alphabet or the UTF-8 is broken. */
bool seam_byte_alphabet_read(char *ret, size_t *ret_bytes, const char *text, size_t bytes);

#endif
