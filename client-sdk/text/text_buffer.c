/* Growable text and ids; see text_buffer.h. */
#include "text_buffer.h"

#include <stdbool.h>
#include <string.h>

#include "arena.h"
#include "try.h"
#include "utf8.h"

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

seam_status seam_text_append_lossy(seam_text *text, const char *bytes, size_t count) {
    size_t at = 0;
    while (at < count) {
        const size_t good = seam_utf8_check(bytes + at, count - at);
        SEAM_TRY(seam_text_append(text, bytes + at, good));
        at += good;
        if (at < count) {
            size_t bad;
            (void)seam_utf8_length(&bad, (const uint8_t *)bytes + at, count - at);
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
