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

/* Eight values as bf16. */
static __device__ inline uint4 pack_vector(const float (&x)[VECTOR]) {
    return {pack(x[0], x[1]), pack(x[2], x[3]), pack(x[4], x[5]), pack(x[6], x[7])};
}

#define LOG2_E 1.44269504f

/* 2^x, below 2^-126 zero. */
static __device__ inline float exp2_flushed(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* 1 / x to an ulp, above 2^126 zero. */
static __device__ inline float reciprocal_flushed(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* V is 1, or VECTOR with p on 16 bytes. */
template <uint32_t V, typename T> static __device__ inline void load(float (&x)[V], const T *p) {
    if constexpr (V == 1) {
        x[0] = to_f32(*p);
    } else if constexpr (sizeof(T) == 2) {
        const uint4 raw = *reinterpret_cast<const uint4 *>(p);
        const uint32_t pair[4] = {raw.x, raw.y, raw.z, raw.w};
        for (uint32_t i = 0; i < V; i++) { /* a bf16 is the upper half of its f32 */
            x[i] = __uint_as_float(i % 2 == 0 ? pair[i / 2] << 16 : pair[i / 2] & 0xffff0000u);
        }
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
    if constexpr (V == 1) {
        store_f32(p, x[0]);
    } else if constexpr (sizeof(T) == 2) {
        *reinterpret_cast<uint4 *>(p) = pack_vector(x);
    } else {
        for (uint32_t i = 0; i < V; i += 4) {
            reinterpret_cast<float4 *>(p)[i / 4] = {x[i], x[i + 1], x[i + 2], x[i + 3]};
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
