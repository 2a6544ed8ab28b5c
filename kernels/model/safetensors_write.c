/* The safetensors container: see safetensors_write.h.
 *
 * Written by hand and not through a JSON library: the header is one flat object of names that
 * need no escape, and its bytes must be the same on every machine. */
#include "safetensors_write.h"

#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "try.h"

#define METADATA "{\"__metadata__\":{\"format\":\"pt\"}"
/* Of one entry besides its name: two shapes of 10 digits, two offsets of 20, punctuation. */
#define ENTRY_BYTES_MAX 128

static size_t count_rows(const seam_safetensors_entry *entry) {
    return entry->rows > 0 ? entry->rows : 1;
}

static void assert_plain(const char *name) {
    for (const char *c = name; *c != 0; c++) {
        SEAM_ASSERT(*c >= ' ' && *c != '"' && *c != '\\' && *c < 0x7f);
    }
}

seam_status seam_safetensors_layout(uint8_t **ret_bytes, size_t *ret_count, size_t *ret_data_begin,
                                    const seam_safetensors_entry *entries, size_t entry_count) {
    size_t header_max = sizeof METADATA + 16;
    size_t data_bytes = 0;
    for (size_t i = 0; i < entry_count; i++) {
        assert_plain(entries[i].name);
        size_t bytes = 0;
        if (!seam_mul3_bytes(&bytes, count_rows(&entries[i]), entries[i].cols, sizeof(float)) ||
            data_bytes > SIZE_MAX / 2 - bytes) {
            return SEAM_E_LIMIT;
        }
        data_bytes += bytes;
        header_max += strlen(entries[i].name) + ENTRY_BYTES_MAX;
    }
    char *header = seam_mem_alloc(header_max);
    if (header == NULL) {
        return SEAM_E_MEMORY;
    }
    size_t used = (size_t)snprintf(header, header_max, METADATA);
    size_t offset = 0;
    for (size_t i = 0; i < entry_count; i++) {
        const size_t bytes = count_rows(&entries[i]) * entries[i].cols * sizeof(float);
        char rows[16] = "";
        if (entries[i].rows > 0) {
            (void)snprintf(rows, sizeof rows, "%u,", entries[i].rows);
        }
        used += (size_t)snprintf(header + used, header_max - used,
                                 ",\"%s\":{\"dtype\":\"F32\",\"shape\":[%s%u],"
                                 "\"data_offsets\":[%zu,%zu]}",
                                 entries[i].name, rows, entries[i].cols, offset, offset + bytes);
        offset += bytes;
    }
    header[used++] = '}';
    while (used % 8 != 0) {
        header[used++] = ' ';
    }
    SEAM_ASSERT(used <= header_max);
    uint8_t *file = seam_mem_zalloc(1, 8 + used + data_bytes);
    if (file == NULL) {
        seam_mem_free(header);
        return SEAM_E_MEMORY;
    }
    seam_put_u64(file, used);
    memcpy(file + 8, header, used);
    seam_mem_free(header);
    *ret_bytes = file;
    *ret_count = 8 + used + data_bytes;
    *ret_data_begin = 8 + used;
    return SEAM_OK;
}
