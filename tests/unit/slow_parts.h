/* Parts of the slow coders that the codecs' tests compare with: written from WIRE.md one value at a
 * time.  For test programs only. */
#ifndef SEAM_TEST_SLOW_PARTS_H
#define SEAM_TEST_SLOW_PARTS_H

#include <math.h>

#include "bytes.h"
#include "codec.h"

/* The row that the rounding of a tensor's row goes by. */
static inline uint32_t slow_row_id(const seam_rounding *rounding, uint32_t row) {
    return rounding->row_ids != NULL ? rounding->row_ids[row] : rounding->row_id_begin + row;
}

/* A code before it is clamped: to nearest, or by the draw of its row and channel. */
static inline float slow_round(float value, const seam_rounding *rounding, uint32_t row_id,
                               uint32_t c) {
    if (!rounding->stochastic) {
        return rintf(value);
    }
    uint32_t words[4];
    const uint32_t counter[4] = {c / 8, row_id,
                                 (uint32_t)rounding->site | (uint32_t)rounding->micro << 16,
                                 (uint32_t)rounding->step};
    const uint32_t key[2] = {(uint32_t)rounding->seed, (uint32_t)(rounding->seed >> 32)};
    seam_philox(words, counter, key);
    const uint32_t half = words[c % 8 / 2] >> 16 * (c % 2) & 0xffffu;
    const float v = value + 0x1p-17f;
    return (float)floor((double)v + half * 0x1p-16); /* f64: this sum does not round */
}

/* The smallest fp16 that is not below the value, at most 65504: by trying them all. */
static inline uint16_t slow_fp16_above(double value) {
    uint16_t low = 0, high = 0x7bff;
    while (low < high) {
        const uint16_t middle = (uint16_t)((low + high) / 2);
        if ((double)seam_fp16_to_f32(middle) >= value) {
            high = middle;
        } else {
            low = (uint16_t)(middle + 1);
        }
    }
    return low;
}

/* Largest magnitude of x (rows, channels) in the rows that range_rows has. */
static inline double slow_largest(const float *x, const uint8_t *range_rows, uint32_t rows,
                                  uint32_t channels) {
    double largest = 0;
    for (uint32_t t = 0; t < rows; t++) {
        for (uint32_t c = 0; seam_bitmap_has(range_rows, t) && c < channels; c++) {
            largest = fmax(largest, fabs((double)x[(size_t)t * channels + c]));
        }
    }
    return largest;
}

#endif
