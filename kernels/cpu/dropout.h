/* Dropout's mask (ops.h) on vectors, for the CPU's products: lanes of counters that differ in
 * word 0. */
#ifndef SEAM_DROPOUT_H
#define SEAM_DROPOUT_H

#include "ops.h"
#include "philox_lanes.h"
#include "vec.h"

#define DROPOUT_LANES_MAX SEAM_PHILOX_LANES_MAX

/* The draws of channels [8 * first, 8 * (first + lanes)) of a row. */
CPU_INLINE void dropout_draws(uint16_t *restrict ret, const seam_dropout *dropout, uint32_t row,
                              uint32_t first, const uint32_t lanes) {
    seam_philox_words w;
    for (uint32_t i = 0; i < lanes; i++) {
        w.x0[i] = first + i;
        w.x1[i] = row;
        w.x2[i] = dropout->place;
        w.x3[i] = SEAM_DROPOUT_STREAM;
    }
    seam_philox_rounds(&w, dropout->key[0], dropout->key[1], lanes);
    for (uint32_t i = 0; i < lanes; i++) {
        const uint64_t words[4] = {w.x0[i], w.x1[i], w.x2[i], w.x3[i]};
        for (uint32_t j = 0; j < 8; j++) {
            ret[8 * i + j] = (uint16_t)(words[j / 2] >> j % 2 * 16);
        }
    }
}

#endif
