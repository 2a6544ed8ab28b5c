/* Dropout's mask (ops.h) on vectors, for the CPU's products.
 *
 * The rounds of Philox run on lanes of counters that differ in word 0, each word in a 64-bit lane,
 * as in kernels/codec/affine_tile.c: 32 x 32 -> 64 is what the vector multiply does. */
#ifndef SEAM_DROPOUT_H
#define SEAM_DROPOUT_H

#include "ops.h"
#include "vec.h"

#define DROPOUT_LANES_MAX 16u

/* The draws of channels [8 * first, 8 * (first + lanes)) of a row. */
CPU_INLINE void dropout_draws(uint16_t *restrict ret, const seam_dropout *dropout, uint32_t row,
                              uint32_t first, const uint32_t lanes) {
    _Alignas(64) uint64_t x0[DROPOUT_LANES_MAX], x1[DROPOUT_LANES_MAX], x2[DROPOUT_LANES_MAX],
        x3[DROPOUT_LANES_MAX];
    uint32_t k0 = dropout->key[0], k1 = dropout->key[1];
    for (uint32_t i = 0; i < lanes; i++) {
        x0[i] = first + i;
        x1[i] = row;
        x2[i] = dropout->place;
        x3[i] = SEAM_DROPOUT_STREAM;
    }
    for (int round = 0; round < 10; round++) {
        for (uint32_t i = 0; i < lanes; i++) {
            const uint64_t p0 = (uint64_t)(uint32_t)x0[i] * 0xd2511f53u;
            const uint64_t p1 = (uint64_t)(uint32_t)x2[i] * 0xcd9e8d57u;
            x0[i] = (p1 >> 32) ^ x1[i] ^ k0;
            x2[i] = (p0 >> 32) ^ x3[i] ^ k1;
            x1[i] = p1 & 0xffffffffu;
            x3[i] = p0 & 0xffffffffu;
        }
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    for (uint32_t i = 0; i < lanes; i++) {
        const uint64_t words[4] = {x0[i], x1[i], x2[i], x3[i]};
        for (uint32_t j = 0; j < 8; j++) {
            ret[8 * i + j] = (uint16_t)(words[j / 2] >> j % 2 * 16);
        }
    }
}

#endif
