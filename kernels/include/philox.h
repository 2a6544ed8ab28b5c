/* Philox4x32-10 of one counter: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1,
 * 2, 3", SC 2011, section 4.  Counter-based: a value depends on key and counter alone, so a replay
 * or another thread order draws the same numbers.  Compiles as C and for devices; philox_lanes.h
 * has the rounds on lanes of counters. */
#ifndef SEAM_PHILOX_H
#define SEAM_PHILOX_H

#include <stdint.h>

#define SEAM_PHILOX_ROUNDS       10
#define SEAM_PHILOX_MULTIPLIER_0 0xd2511f53u
#define SEAM_PHILOX_MULTIPLIER_1 0xcd9e8d57u
#define SEAM_PHILOX_WEYL_0       0x9e3779b9u /* golden ratio */
#define SEAM_PHILOX_WEYL_1       0xbb67ae85u /* sqrt(3) - 1 */

#ifdef __CUDACC__
#define SEAM_PHILOX_INLINE static __host__ __device__ inline
#define SEAM_PHILOX_UNROLL _Pragma("unroll")
#else
#define SEAM_PHILOX_INLINE static inline
#define SEAM_PHILOX_UNROLL
#endif

SEAM_PHILOX_INLINE void seam_philox_round(uint32_t x[4], uint32_t k0, uint32_t k1) {
    const uint64_t p0 = (uint64_t)SEAM_PHILOX_MULTIPLIER_0 * x[0];
    const uint64_t p1 = (uint64_t)SEAM_PHILOX_MULTIPLIER_1 * x[2];
    x[0] = (uint32_t)(p1 >> 32) ^ x[1] ^ k0;
    x[2] = (uint32_t)(p0 >> 32) ^ x[3] ^ k1;
    x[1] = (uint32_t)p1;
    x[3] = (uint32_t)p0;
}

/* x: the counter's words, which become its four draws. */
SEAM_PHILOX_INLINE void seam_philox_draw(uint32_t x[4], uint32_t k0, uint32_t k1) {
    SEAM_PHILOX_UNROLL
    for (int round = 0; round < SEAM_PHILOX_ROUNDS; round++) {
        seam_philox_round(x, k0, k1);
        k0 += SEAM_PHILOX_WEYL_0;
        k1 += SEAM_PHILOX_WEYL_1;
    }
}

#endif
