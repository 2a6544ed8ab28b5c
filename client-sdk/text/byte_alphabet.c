/* The alphabet by arithmetic; see byte_alphabet.h. */
#include "byte_alphabet.h"

enum { LOW_COUNT = 33, MIDDLE_COUNT = 34, SHIFTED_COUNT = LOW_COUNT + MIDDLE_COUNT + 1 };

/* The byte of a code point below U+0800, or -1. */
static int byte_of(uint32_t point) {
    if (point >= 0x100) {
        const uint32_t i = point - 0x100;
        if (i >= SHIFTED_COUNT) {
            return -1;
        }
        if (i < LOW_COUNT) {
            return (int)i;
        }
        return i < LOW_COUNT + MIDDLE_COUNT ? (int)(127 + i - LOW_COUNT) : 173;
    }
    const bool stands = (point >= 33 && point <= 126) || (point >= 161 && point != 173);
    return stands ? (int)point : -1;
}

bool seam_byte_alphabet_read(char *ret, size_t *ret_bytes, const char *text, size_t bytes) {
    const uint8_t *s = (const uint8_t *)text;
    size_t count = 0;
    for (size_t i = 0; i < bytes; count++) {
        uint32_t point = s[i++];
        if (point >= 0x80) {
            if ((point & 0xe0) != 0xc0 || i == bytes || (s[i] & 0xc0) != 0x80) {
                return false; /* the alphabet ends before U+0800: two bytes at most */
            }
            point = (point & 0x1f) << 6 | (s[i++] & 0x3f);
        }
        const int byte = byte_of(point);
        if (byte < 0) {
            return false;
        }
        ret[count] = (char)(uint8_t)byte;
    }
    *ret_bytes = count;
    return true;
}
