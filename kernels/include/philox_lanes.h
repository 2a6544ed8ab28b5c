/* The rounds of Philox4x32-10 (philox.h) on lanes of counters, for the
 * vector code of codec/ and cpu/: the caller's instruction set, by inlining.
 *
 * Each word stands in a 64-bit lane, upper half zero, because that is what the vector multiply
 * 32 x 32 -> 64 reads and writes. */
#ifndef SEAM_PHILOX_LANES_H
#define SEAM_PHILOX_LANES_H

#include <stdint.h>

#include "philox.h"

#define SEAM_PHILOX_LANES_MAX 16u

/* Counter i is x0[i], x1[i], x2[i], x3[i]; the first `lanes` of each become its four draws. */
typedef struct seam_philox_words {
    _Alignas(64) uint64_t x0[SEAM_PHILOX_LANES_MAX];
    _Alignas(64) uint64_t x1[SEAM_PHILOX_LANES_MAX];
    _Alignas(64) uint64_t x2[SEAM_PHILOX_LANES_MAX];
    _Alignas(64) uint64_t x3[SEAM_PHILOX_LANES_MAX];
} seam_philox_words;

/* lanes: a constant of the caller's, or no compiler makes vectors of it. */
static inline __attribute__((always_inline)) void
seam_philox_rounds(seam_philox_words *w, uint32_t k0, uint32_t k1, const uint32_t lanes) {
    for (int round = 0; round < SEAM_PHILOX_ROUNDS; round++) {
        for (uint32_t i = 0; i < lanes; i++) {
            const uint64_t p0 = (uint64_t)(uint32_t)w->x0[i] * SEAM_PHILOX_MULTIPLIER_0;
            const uint64_t p1 = (uint64_t)(uint32_t)w->x2[i] * SEAM_PHILOX_MULTIPLIER_1;
            w->x0[i] = (p1 >> 32) ^ w->x1[i] ^ k0;
            w->x2[i] = (p0 >> 32) ^ w->x3[i] ^ k1;
            w->x1[i] = p1 & 0xffffffffu;
            w->x3[i] = p0 & 0xffffffffu;
        }
        k0 += SEAM_PHILOX_WEYL_0;
        k1 += SEAM_PHILOX_WEYL_1;
    }
}

#endif
