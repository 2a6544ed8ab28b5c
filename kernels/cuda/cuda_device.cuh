/* What all kernels use: act <-> f32, vectors of V elements, sums over a warp and a block in a fixed
 * order.  Device code only. */
#ifndef SEAM_CUDA_DEVICE_CUH
#define SEAM_CUDA_DEVICE_CUH

#include <cuda_bf16.h>
#include <math.h>

#include "cuda_ops.cuh"

#define VECTOR 8u /* elements: 16 bytes of bf16, 32 of f32 */

static __device__ inline float to_f32(float x) {
    return x;
}
static __device__ inline float to_f32(__nv_bfloat16 x) {
    return __bfloat162float(x);
}
static __device__ inline void store_f32(float *p, float x) {
    *p = x;
}
static __device__ inline void store_f32(__nv_bfloat16 *p, float x) {
    *p = __float2bfloat16_rn(x);
}

static __device__ inline uint32_t pack(float lo, float hi) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(lo, hi);
    return *(const uint32_t *)&pair;
}

/* V is 1, or VECTOR with p on 16 bytes. */
template <uint32_t V, typename T> static __device__ inline void load(float (&x)[V], const T *p) {
    if constexpr (V == 1) {
        x[0] = to_f32(*p);
    } else {
        alignas(16) T raw[V];
        for (unsigned i = 0; i < sizeof raw / 16; i++) {
            reinterpret_cast<uint4 *>(raw)[i] = reinterpret_cast<const uint4 *>(p)[i];
        }
        for (uint32_t i = 0; i < V; i++) {
            x[i] = to_f32(raw[i]);
        }
    }
}
template <uint32_t V, typename T> static __device__ inline void store(T *p, const float (&x)[V]) {
    alignas(16) T raw[V];
    for (uint32_t i = 0; i < V; i++) {
        store_f32(raw + i, x[i]);
    }
    if constexpr (V == 1) {
        *p = raw[0];
    } else {
        for (unsigned i = 0; i < sizeof raw / 16; i++) {
            reinterpret_cast<uint4 *>(p)[i] = reinterpret_cast<const uint4 *>(raw)[i];
        }
    }
}

template <typename T> static __device__ inline T warp_sum(T x) {
    for (int step = 16; step > 0; step /= 2) {
        x += __shfl_xor_sync(0xffffffffu, x, step);
    }
    return x;
}
static __device__ inline float warp_max(float x) {
    for (int step = 16; step > 0; step /= 2) {
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    }
    return x;
}

/* The sum over a block of whole warps, in every thread. */
template <typename T> static __device__ inline T block_sum(T x) {
    __shared__ T part[32];
    const unsigned warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x = warp_sum(x);
    if (threadIdx.x % 32 == 0) {
        part[warp] = x;
    }
    __syncthreads();
    T sum = 0;
    for (unsigned i = 0; i < warps; i++) {
        sum += part[i];
    }
    __syncthreads();
    return sum;
}

/* seam_window_begin of ops.h. */
static __device__ inline uint32_t window_begin(uint32_t window, uint32_t begin, uint32_t row) {
    return window != 0 && row - begin >= window ? row - window + 1 : begin;
}

static inline bool vector_aligned(const void *p) {
    return (uintptr_t)p % 16 == 0;
}

#endif
