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
