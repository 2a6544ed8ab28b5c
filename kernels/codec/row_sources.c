/* See row_sources.h.  Keys are found in an open hash table of at least twice their number, probed
 * one entry after another: linear time whatever the keys are spread like, as long as they differ in
 * bits that the product mixes. */
#include "row_sources.h"

#include <string.h>

#include "try.h"

#define ROWS_MAX   (1u << 20)
#define GOLDEN     2654435769u /* 2^32 over the golden ratio: Knuth, TAOCP 3, 6.4 */
#define BITS_LEAST 5u

static uint32_t table_bits(uint32_t rows) {
    uint32_t bits = BITS_LEAST;
    while (1u << bits < 2 * rows) {
        bits++;
    }
    return bits;
}

uint32_t seam_row_sources_table_count(uint32_t rows) {
    SEAM_ASSERT(rows <= ROWS_MAX);
    return 1u << table_bits(rows);
}

uint32_t seam_row_sources_find(uint32_t *ret_sources, uint32_t *table, const uint32_t *keys,
                               uint32_t rows) {
    const uint32_t count = seam_row_sources_table_count(rows);
    const uint32_t shift = 32 - table_bits(rows);
    uint32_t distinct = 0;
    memset(table, 0, count * sizeof *table); /* 0: free, else 1 + the first row of the key */
    for (uint32_t t = 0; t < rows; t++) {
        uint32_t at = keys[t] * GOLDEN >> shift;
        while (table[at] != 0 && keys[table[at] - 1] != keys[t]) {
            at = (at + 1) % count;
        }
        if (table[at] == 0) {
            table[at] = t + 1;
            ret_sources[t] = distinct++;
        } else {
            ret_sources[t] = ret_sources[table[at] - 1];
        }
    }
    return distinct;
}

void seam_row_sources_gather(void *ret_distinct, const void *x, const uint32_t *sources,
                             uint32_t rows, size_t row_bytes) {
    uint32_t distinct = 0;
    for (uint32_t t = 0; t < rows; t++) {
        if (sources[t] == distinct) {
            memcpy((uint8_t *)ret_distinct + distinct * row_bytes,
                   (const uint8_t *)x + t * row_bytes, row_bytes);
            distinct++;
        }
    }
}

void seam_row_sources_places(uint32_t *ret_firsts, uint32_t *ret_origins, const uint32_t *sources,
                             uint32_t rows) {
    uint32_t distinct = 0;
    for (uint32_t t = 0; t < rows; t++) {
        SEAM_ASSERT(sources[t] <= distinct);
        if (sources[t] == distinct) {
            ret_firsts[distinct++] = t;
        }
        ret_origins[t] = ret_firsts[sources[t]];
    }
}

/* From the last row on: a source is never above its row, so it still stands where it was. */
void seam_row_sources_spread(float *x, const uint32_t *sources, uint32_t rows, uint32_t channels) {
    for (uint32_t t = rows; t-- > 0;) {
        SEAM_ASSERT(sources[t] <= t);
        if (sources[t] < t) {
            memcpy(x + (size_t)t * channels, x + (size_t)sources[t] * channels,
                   channels * sizeof *x);
        }
    }
}
