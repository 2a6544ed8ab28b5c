/* Philox4x32-10 on the device, by rows and lanes (../include/philox.h has the rounds); and
 * dropout's mask (ops.h).  Device code only.
 */
#ifndef SEAM_CUDA_PHILOX_CUH
#define SEAM_CUDA_PHILOX_CUH

#include <stdint.h>

#include "ops.h"
#include "philox.h"

/* The words of seam_philox_draw where the counter is (lane, row, place, step) and whoever draws
 * walks over rows: what hangs on the row or on the lane alone is taken out of rounds 1 to 3, 15 of
 * 20 products are left.  Round i has keys words[i][0..1]. */
typedef struct philox_keys {
    uint32_t words[SEAM_PHILOX_ROUNDS][2];
} philox_keys;

static inline philox_keys philox_keys_of(uint64_t seed) {
    philox_keys ret;
    for (uint32_t i = 0; i < SEAM_PHILOX_ROUNDS; i++) {
        ret.words[i][0] = (uint32_t)seed + i * SEAM_PHILOX_WEYL_0;
        ret.words[i][1] = (uint32_t)(seed >> 32) + i * SEAM_PHILOX_WEYL_1;
    }
    return ret;
}

/* The product of round 2 that hangs on the row. */
typedef struct philox_row {
    uint32_t high, low;
} philox_row;

/* What hangs on the lane: x2 of round 2 but for row.high, x0 of round 3 but for a product, x2 of
 * round 3 but for row.low, x3 of round 3. */
typedef struct philox_lane {
    uint32_t second2, third0, third2, third3;
} philox_lane;

static __device__ inline uint64_t philox_product0(uint32_t x) {
    return (uint64_t)SEAM_PHILOX_MULTIPLIER_0 * x;
}
static __device__ inline uint64_t philox_product1(uint32_t x) {
    return (uint64_t)SEAM_PHILOX_MULTIPLIER_1 * x;
}

static __device__ inline philox_row philox_row_begin(const philox_keys &keys, uint32_t row,
                                                     uint32_t place) {
    const uint32_t x0 = (uint32_t)(philox_product1(place) >> 32) ^ row ^ keys.words[0][0];
    const uint64_t product = philox_product0(x0);
    return {(uint32_t)(product >> 32), (uint32_t)product};
}

static __device__ inline philox_lane philox_lane_begin(const philox_keys &keys, uint32_t lane,
                                                       uint32_t place, uint32_t step) {
    const uint64_t p0 = philox_product0(lane), p1 = philox_product1(place);
    const uint64_t q1 = philox_product1((uint32_t)(p0 >> 32) ^ step ^ keys.words[0][1]);
    const uint32_t x0 = (uint32_t)(q1 >> 32) ^ (uint32_t)p1 ^ keys.words[1][0];
    const uint64_t r0 = philox_product0(x0);
    return {(uint32_t)p0 ^ keys.words[1][1], (uint32_t)q1 ^ keys.words[2][0],
            (uint32_t)(r0 >> 32) ^ keys.words[2][1], (uint32_t)r0};
}

static __device__ inline void philox_end(uint32_t (&ret)[4], const philox_keys &keys,
                                         const philox_lane &lane, const philox_row &row) {
    const uint64_t third1 = philox_product1(row.high ^ lane.second2);
    uint32_t x[4] = {(uint32_t)(third1 >> 32) ^ lane.third0, (uint32_t)third1,
                     row.low ^ lane.third2, lane.third3};
#pragma unroll
    for (uint32_t i = 3; i < SEAM_PHILOX_ROUNDS; i++) {
        seam_philox_round(x, keys.words[i][0], keys.words[i][1]);
    }
    ret[0] = x[0], ret[1] = x[1], ret[2] = x[2], ret[3] = x[3];
}

/* Bit j: channel 8 * eighth + j of the row counts. */
static __device__ inline uint32_t dropout_kept(const seam_dropout &dropout, uint32_t row,
                                               uint32_t eighth) {
    uint32_t words[4] = {eighth, row, dropout.place, SEAM_DROPOUT_STREAM}, kept = 0;
    seam_philox_draw(words, dropout.key[0], dropout.key[1]);
#pragma unroll
    for (uint32_t j = 0; j < 8; j++) {
        kept |= ((words[j / 2] >> j % 2 * 16 & 0xffff) >= dropout.threshold ? 1u : 0u) << j;
    }
    return kept;
}

#endif
