/* Philox4x32-10 on the device, as ../codec/philox.c; and dropout's mask (ops.h).  Device code only.
 */
#ifndef SEAM_CUDA_PHILOX_CUH
#define SEAM_CUDA_PHILOX_CUH

#include <stdint.h>

#include "ops.h"

static __device__ inline void philox(uint32_t (&ret)[4], const uint32_t (&counter)[4],
                                     uint64_t seed) {
    uint32_t x0 = counter[0], x1 = counter[1], x2 = counter[2], x3 = counter[3];
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xd2511f53u * x0, p1 = (uint64_t)0xcd9e8d57u * x2;
        const uint32_t y0 = (uint32_t)(p1 >> 32) ^ x1 ^ k0;
        const uint32_t y2 = (uint32_t)(p0 >> 32) ^ x3 ^ k1;
        x1 = (uint32_t)p1;
        x3 = (uint32_t)p0;
        x0 = y0;
        x2 = y2;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    ret[0] = x0, ret[1] = x1, ret[2] = x2, ret[3] = x3;
}

/* The same words where the counter is (lane, row, place, step) and whoever draws walks over rows:
 * what hangs on the row or on the lane alone is taken out of rounds 1 to 3, 15 of 20 products are
 * left.  Round i has keys words[i][0..1]. */
typedef struct philox_keys {
    uint32_t words[10][2];
} philox_keys;

static inline philox_keys philox_keys_of(uint64_t seed) {
    philox_keys ret;
    for (uint32_t i = 0; i < 10; i++) {
        ret.words[i][0] = (uint32_t)seed + i * 0x9e3779b9u;
        ret.words[i][1] = (uint32_t)(seed >> 32) + i * 0xbb67ae85u;
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
    return (uint64_t)0xd2511f53u * x;
}
static __device__ inline uint64_t philox_product1(uint32_t x) {
    return (uint64_t)0xcd9e8d57u * x;
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
    uint32_t x0 = (uint32_t)(third1 >> 32) ^ lane.third0, x1 = (uint32_t)third1;
    uint32_t x2 = row.low ^ lane.third2, x3 = lane.third3;
#pragma unroll
    for (uint32_t i = 3; i < 10; i++) {
        const uint64_t p0 = philox_product0(x0), p1 = philox_product1(x2);
        x0 = (uint32_t)(p1 >> 32) ^ x1 ^ keys.words[i][0];
        x2 = (uint32_t)(p0 >> 32) ^ x3 ^ keys.words[i][1];
        x1 = (uint32_t)p1;
        x3 = (uint32_t)p0;
    }
    ret[0] = x0, ret[1] = x1, ret[2] = x2, ret[3] = x3;
}

/* Bit j: channel 8 * eighth + j of the row counts. */
static __device__ inline uint32_t dropout_kept(const seam_dropout &dropout, uint32_t row,
                                               uint32_t eighth) {
    uint32_t words[4], kept = 0;
    philox(words, {eighth, row, dropout.place, SEAM_DROPOUT_STREAM},
           (uint64_t)dropout.key[1] << 32 | dropout.key[0]);
#pragma unroll
    for (uint32_t j = 0; j < 8; j++) {
        kept |= ((words[j / 2] >> j % 2 * 16 & 0xffff) >= dropout.threshold ? 1u : 0u) << j;
    }
    return kept;
}

#endif
