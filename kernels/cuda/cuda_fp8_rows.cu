/* Rows of bf16 to e4m3 with a scale a row (ops.h, FP8).
 *
 * Grid: a block a row; a thread keeps ITEMS vectors of 8 in registers, so that the row is read
 * once: its largest magnitude as an integer (bf16 without its sign orders like one, NaN and
 * infinity last), then the scale by a power of two, then the rounding by the hardware's conversion.
 * Bytes a value: 2 read, 1 written; bound by memory. */
#include <cuda_fp8.h>

#include "cuda_device.cuh"

#define ITEMS       4u
#define ITEMS_WIDE  8u /* of rows that 1,024 threads of ITEMS do not hold */
#define THREADS_MAX 1024u
static_assert(THREADS_MAX * ITEMS_WIDE * VECTOR == SEAM_CUDA_FP8_K_MAX, "the widest row");

#define F32_BIAS      127u
#define E4M3_MAX_EXP  8u  /* 448 = 1.75 * 2^8 */
#define E4M3_MAX_FRAC 96u /* 0.75, in bf16's seven bits */

/* ---- kernels ---- */
/* The largest of pairs of unsigned 16-bit numbers over the block, in every thread. */
static __device__ inline uint32_t block_max(uint32_t pairs) {
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

/* The biased exponent of the scale of a row whose largest magnitude is this bf16. */
static __device__ inline uint32_t scale_exponent(uint32_t largest) {
    const uint32_t exponent = largest >> 7, fraction = largest & 127u;
    const uint32_t down = fraction <= E4M3_MAX_FRAC ? E4M3_MAX_EXP : E4M3_MAX_EXP - 1u;
    return exponent > down ? exponent - down : 1u;
}

/* Two bf16 as two e4m3. */
static __device__ inline uint32_t pair_round(uint32_t pair, float inverse) {
    const float2 value = {__uint_as_float(pair << 16) * inverse,
                          __uint_as_float(pair & 0xffff0000u) * inverse};
    return __nv_cvt_float2_to_fp8x2(value, __NV_SATFINITE, __NV_E4M3);
}

template <unsigned N>
static __global__ void __launch_bounds__(THREADS_MAX)
    rows_kernel(uint2 *q, float *scale, const __nv_bfloat16 *x, size_t x_ld, uint32_t vectors) {
    const uint4 *row = reinterpret_cast<const uint4 *>(x + blockIdx.x * x_ld);
    uint4 v[N];
    uint32_t largest = 0;
#pragma unroll
    for (unsigned i = 0; i < N; i++) {
        const uint32_t at = i * blockDim.x + threadIdx.x;
        v[i] = at < vectors ? row[at] : uint4{0, 0, 0, 0};
    }
#pragma unroll
    for (unsigned i = 0; i < N; i++) {
        const uint32_t low = __vmaxu2(v[i].x & 0x7fff7fffu, v[i].y & 0x7fff7fffu);
        const uint32_t high = __vmaxu2(v[i].z & 0x7fff7fffu, v[i].w & 0x7fff7fffu);
        largest = __vmaxu2(largest, __vmaxu2(low, high));
    }
    largest = block_max(largest);
    const uint32_t exponent = scale_exponent(largest);
    const float inverse = __uint_as_float((2 * F32_BIAS - exponent) << 23);
    if (threadIdx.x == 0) {
        scale[blockIdx.x] = largest >= 0x7f80u ? NAN : __uint_as_float(exponent << 23);
    }
#pragma unroll
    for (unsigned i = 0; i < N; i++) {
        const uint32_t at = i * blockDim.x + threadIdx.x;
        if (at < vectors) {
            q[(size_t)blockIdx.x * vectors + at] = {
                pair_round(v[i].x, inverse) | pair_round(v[i].y, inverse) << 16,
                pair_round(v[i].z, inverse) | pair_round(v[i].w, inverse) << 16};
        }
    }
}

/* ---- launchers ---- */
seam_status seam_cuda_fp8_rows(seam_stream *stream, void *q, float *scale, const void *x,
                               size_t x_ld, uint32_t T, uint32_t K) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const uint32_t vectors = K / VECTOR;
    const uint32_t items = vectors <= THREADS_MAX * ITEMS ? ITEMS : ITEMS_WIDE;
    const uint32_t threads = (vectors + 32 * items - 1) / (32 * items) * 32;
    SEAM_ASSERT(K % VECTOR == 0 && K <= SEAM_CUDA_FP8_K_MAX && x_ld % VECTOR == 0);
    SEAM_ASSERT(vector_aligned(x));
    if (T == 0) {
        return SEAM_OK;
    }
    if (items == ITEMS) {
        rows_kernel<ITEMS>
            <<<T, threads, 0, queue>>>((uint2 *)q, scale, (const __nv_bfloat16 *)x, x_ld, vectors);
    } else {
        rows_kernel<ITEMS_WIDE>
            <<<T, threads, 0, queue>>>((uint2 *)q, scale, (const __nv_bfloat16 *)x, x_ld, vectors);
    }
    return SEAM_CUDA_LAUNCHED();
}
