/* See utf8.h. */
#include "utf8.h"

size_t seam_utf8_length(size_t *ret_bad, const uint8_t *s, size_t left) {
    const uint8_t lead = s[0];
    uint8_t low = 0x80; /* bounds of the second byte */
    uint8_t high = 0xbf;
    size_t length;
    *ret_bad = 1;
    if (lead < 0x80) {
        return 1;
    }
    if (lead >= 0xc2 && lead <= 0xdf) {
        length = 2;
    } else if (lead >= 0xe0 && lead <= 0xef) {
        length = 3;
        low = lead == 0xe0 ? 0xa0 : low;
        high = lead == 0xed ? 0x9f : high;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
        length = 4;
        low = lead == 0xf0 ? 0x90 : low;
        high = lead == 0xf4 ? 0x8f : high;
    } else {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if (i >= left || s[i] < low || s[i] > high) {
            *ret_bad = i;
            return 0;
        }
        low = 0x80;
        high = 0xbf;
    }
    return length;
}

size_t seam_utf8_check(const char *bytes, size_t count) {
    const uint8_t *s = (const uint8_t *)bytes;
    size_t at = 0;
    while (at < count) {
        size_t bad;
        const size_t length = seam_utf8_length(&bad, s + at, count - at);
        if (length == 0) {
            return at;
        }
        at += length;
    }
    return count;
}
