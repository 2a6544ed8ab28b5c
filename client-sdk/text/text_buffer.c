/* Growable text and ids, and UTF-8 checks; see text_buffer.h. */
#include "text_buffer.h"

#include <stdbool.h>
#include <string.h>

#include "arena.h"
#include "try.h"

void seam_text_deinit(seam_text *text) {
    seam_mem_free(text->bytes);
    *text = (seam_text){0};
}

void seam_ids_deinit(seam_ids *ids) {
    seam_mem_free(ids->ids);
    *ids = (seam_ids){0};
}

/* Room for `need` items of a growing array, by doubling. */
static bool grow(void **items, size_t *capacity, size_t need, size_t item_bytes) {
    if (need <= *capacity) {
        return true;
    }
    size_t wanted = *capacity < 32 ? 32 : *capacity;
    size_t bytes;
    while (wanted < need) {
        if (wanted > SIZE_MAX / 2) {
            return false;
        }
        wanted *= 2;
    }
    if (!seam_mul_bytes(&bytes, wanted, item_bytes)) {
        return false;
    }
    void *larger = seam_mem_realloc(*items, bytes);
    if (larger == NULL) {
        return false;
    }
    *items = larger;
    *capacity = wanted;
    return true;
}

seam_status seam_text_append(seam_text *text, const char *bytes, size_t count) {
    void *items = text->bytes;
    if (count > SIZE_MAX - text->count - 1 ||
        !grow(&items, &text->capacity, text->count + count + 1, 1)) {
        return SEAM_E_MEMORY;
    }
    text->bytes = items;
    if (count > 0) {
        memcpy(text->bytes + text->count, bytes, count);
    }
    text->count += count;
    text->bytes[text->count] = '\0';
    return SEAM_OK;
}

seam_status seam_text_append_string(seam_text *text, const char *string) {
    return seam_text_append(text, string, strlen(string));
}

seam_status seam_ids_append(seam_ids *ids, const uint32_t *values, size_t count) {
    void *items = ids->ids;
    if (count > SIZE_MAX - ids->count ||
        !grow(&items, &ids->capacity, ids->count + count, sizeof(*ids->ids))) {
        return SEAM_E_MEMORY;
    }
    ids->ids = items;
    if (count > 0) {
        memcpy(ids->ids + ids->count, values, count * sizeof(*values));
    }
    ids->count += count;
    return SEAM_OK;
}

/* Bytes of the character at `s` (1..4) when well formed; else 0 and *ret_bad = how many bytes form
 * a maximal prefix of one (at least 1).  Unicode, table 3-7. */
static size_t utf8_length(size_t *ret_bad, const uint8_t *s, size_t left) {
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
        const size_t length = utf8_length(&bad, s + at, count - at);
        if (length == 0) {
            return at;
        }
        at += length;
    }
    return count;
}

seam_status seam_text_append_lossy(seam_text *text, const char *bytes, size_t count) {
    size_t at = 0;
    while (at < count) {
        const size_t good = seam_utf8_check(bytes + at, count - at);
        SEAM_TRY(seam_text_append(text, bytes + at, good));
        at += good;
        if (at < count) {
            size_t bad;
            (void)utf8_length(&bad, (const uint8_t *)bytes + at, count - at);
            SEAM_TRY(seam_text_append_string(text, "\xef\xbf\xbd"));
            at += bad;
        }
    }
    return SEAM_OK;
}

size_t seam_space_at(const char *text, size_t bytes) {
    const uint8_t *const u = (const uint8_t *)text;
    if (bytes >= 1 && (u[0] == ' ' || (u[0] >= 0x09 && u[0] <= 0x0d))) {
        return 1;
    }
    if (bytes >= 2 && u[0] == 0xc2 && (u[1] == 0x85 || u[1] == 0xa0)) {
        return 2;
    }
    const uint32_t three = bytes < 3 ? 0 : (uint32_t)u[0] << 16 | (uint32_t)u[1] << 8 | u[2];
    const bool is_space = three == 0xe19a80 ||                        /* U+1680 */
                          (three >= 0xe28080 && three <= 0xe2808a) || /* U+2000..200A */
                          three == 0xe280a8 || three == 0xe280a9 ||   /* U+2028, 2029 */
                          three == 0xe280af || three == 0xe2819f ||   /* U+202F, 205F */
                          three == 0xe38080;                          /* U+3000 */
    return is_space ? 3 : 0;
}

size_t seam_space_before(const char *text, size_t bytes) {
    for (size_t n = 1; n <= 3 && n <= bytes; n++) {
        if (seam_space_at(text + bytes - n, n) == n) {
            return n;
        }
    }
    return 0;
}
