/* Rounding a row of bf16 to e4m3 by a block, with the row's own scale (ops.h, FP8): for the kernels
 * that make such rows, and for cuda_fp8_rows.cu, which only rounds them.  Device code only.
 *
 * The largest magnitude is found among integers: bf16 without its sign orders like one, NaN and
 * infinity last. */
#ifndef SEAM_CUDA_FP8_CUH
#define SEAM_CUDA_FP8_CUH

#include <cuda_fp8.h>

#include "cuda_device.cuh"

#define E4M3_MAX 448.0f

/* Largest magnitudes of pairs so far, with those of a vector. */
static __device__ inline uint32_t fp8_largest(uint32_t pairs, const uint4 &v) {
    const uint32_t low = __vmaxu2(v.x & 0x7fff7fffu, v.y & 0x7fff7fffu);
    const uint32_t high = __vmaxu2(v.z & 0x7fff7fffu, v.w & 0x7fff7fffu);
    return __vmaxu2(pairs, __vmaxu2(low, high));
}

/* The largest over the block, in every thread; once a kernel. */
static __device__ inline uint32_t fp8_block_largest(uint32_t pairs) {
    __shared__ uint32_t part[32];
    for (int step = 16; step > 0; step /= 2) {
        pairs = __vmaxu2(pairs, __shfl_xor_sync(0xffffffffu, pairs, step));
    }
    if (threadIdx.x % 32 == 0) {
        part[threadIdx.x / 32] = pairs;
    }
    __syncthreads();
    for (unsigned i = 0; i < blockDim.x / 32; i++) {
        pairs = __vmaxu2(pairs, part[i]);
    }
    return max(pairs >> 16, pairs & 0xffffu);
}

/* Writes the scale of a row whose largest magnitude is this bf16; returns its inverse. */
static __device__ inline float fp8_scale(float *ret_scale, uint32_t largest) {
    const float most = fmaxf(__uint_as_float(largest << 16), SEAM_FP8_LARGEST_MIN);
    if (threadIdx.x == 0) {
        *ret_scale = largest >= 0x7f80u ? NAN : most / E4M3_MAX;
    }
    return E4M3_MAX / most;
}

/* Two bf16 as two e4m3, and eight. */
static __device__ inline uint32_t fp8_pair(uint32_t pair, float inverse) {
    const float2 value = {__uint_as_float(pair << 16) * inverse,
                          __uint_as_float(pair & 0xffff0000u) * inverse};
    return __nv_cvt_float2_to_fp8x2(value, __NV_SATFINITE, __NV_E4M3);
}
static __device__ inline uint2 fp8_vector(const uint4 &v, float inverse) {
    return {fp8_pair(v.x, inverse) | fp8_pair(v.y, inverse) << 16,
            fp8_pair(v.z, inverse) | fp8_pair(v.w, inverse) << 16};
}

/* A row of K (a multiple of 16) that the block's threads have put into shared memory as bf16, its
 * magnitudes among `pairs`: e4m3 and scale.  What q's place held before may have been read by any
 * thread. */
static __device__ inline void fp8_row(void *q, float *scale, const uint4 *row, uint32_t pairs,
                                      uint32_t K) {
    const float inverse = fp8_scale(scale, fp8_block_largest(pairs));
    for (uint32_t i = threadIdx.x; i < K / 16; i += blockDim.x) {
        const uint2 low = fp8_vector(row[2 * i], inverse);
        const uint2 high = fp8_vector(row[2 * i + 1], inverse);
        ((uint4 *)q)[i] = {low.x, low.y, high.x, high.y};
    }
}

#endif
