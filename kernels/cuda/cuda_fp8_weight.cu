/* Rows of a frozen matrix to e4m3, each at the scale of least squared error among ops.h's
 * candidates (SEAM_FP8_WEIGHT_SCALES).  Rows that a step makes take cuda_fp8_rows.cu's one scale.
 *
 * Which candidate is the best must not depend on the order of a sum, since the reference has to
 * find the same one: values and what they round to are counted in units of 2^-13 of the first
 * scale (448 of them are below 2^22, where f32 has place for halves, so that differences are
 * exact), and the sum of their squares is an integer, at most 65,536 * 2^36.
 *
 * Grid: a block a row; a thread keeps ITEMS vectors of 8 in registers, so that the row is read
 * once, and tries all scales on them; a warp's sums meet in shared memory.  Bound by operations,
 * about eight for a value and a scale: all of Llama-3-8B's copies are 3.3e12. */
#include "cuda_fp8.cuh"

#define ITEMS       4u
#define ITEMS_WIDE  8u /* of rows that 1,024 threads of ITEMS do not hold */
#define THREADS_MAX 1024u
#define SCALES      SEAM_FP8_WEIGHT_SCALES
#define UNITS       8192.0f     /* in the row's first scale */
#define MAGIC       12582912.0f /* 1.5 * 2^23: a small integer more is that more in the bits */
static_assert(SCALES == 32, "a lane a scale");
static_assert(THREADS_MAX * ITEMS_WIDE * VECTOR == SEAM_CUDA_FP8_K_MAX, "the widest row");

/* ---- kernels ---- */
/* Squared error of two bf16 in units, q = e4m3(w * inverse) standing for q * step units. */
static __device__ inline uint64_t pair_error(uint32_t pair, float to_first, float inverse,
                                             float step) {
    const float2 w = {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
    const __nv_fp8x2_storage_t q =
        __nv_cvt_float2_to_fp8x2({w.x * inverse, w.y * inverse}, __NV_SATFINITE, __NV_E4M3);
    const float2 at = __half22float2(__half2(__nv_cvt_fp8x2_to_halfraw2(q, __NV_E4M3)));
    const float2 units = {__fmaf_rn(w.x * to_first, UNITS, MAGIC) - MAGIC,
                          __fmaf_rn(w.y * to_first, UNITS, MAGIC) - MAGIC};
    const int x = __float_as_int(__fmaf_rn(-at.x, step, units.x) + MAGIC) - __float_as_int(MAGIC);
    const int y = __float_as_int(__fmaf_rn(-at.y, step, units.y) + MAGIC) - __float_as_int(MAGIC);
    return (uint64_t)((int64_t)x * x + (int64_t)y * y);
}

static __device__ inline uint64_t vector_error(const uint4 &v, float to_first, float inverse,
                                               float step) {
    return pair_error(v.x, to_first, inverse, step) + pair_error(v.y, to_first, inverse, step) +
           pair_error(v.z, to_first, inverse, step) + pair_error(v.w, to_first, inverse, step);
}

/* How many 32nds the scale is above the row's first one, in every thread; sums: what each warp has
 * for each scale. */
static __device__ uint32_t scale_choose(const uint64_t (&sums)[SCALES][32]) {
    const uint32_t lane = threadIdx.x % 32;
    uint64_t least = 0;
    uint32_t best = lane;
    for (unsigned warp = 0; warp < blockDim.x / 32; warp++) {
        least += sums[lane][warp];
    }
    for (int step = 16; step > 0; step /= 2) {
        const uint64_t other = __shfl_xor_sync(0xffffffffu, least, step);
        const uint32_t at = __shfl_xor_sync(0xffffffffu, best, step);
        const bool better = other < least || (other == least && at < best);
        least = better ? other : least;
        best = better ? at : best;
    }
    return best;
}

template <unsigned N>
static __global__ void __launch_bounds__(THREADS_MAX)
    weight_rows_kernel(uint2 *q, size_t q_ld, float *scale, const __nv_bfloat16 *x, size_t x_ld,
                       uint32_t vectors) {
    __shared__ uint64_t sums[SCALES][32];
    const uint4 *row = reinterpret_cast<const uint4 *>(x + blockIdx.x * x_ld);
    uint4 v[N];
    uint32_t largest = 0;
#pragma unroll
    for (unsigned i = 0; i < N; i++) {
        const uint32_t at = i * blockDim.x + threadIdx.x;
        v[i] = at < vectors ? row[at] : uint4{0, 0, 0, 0}; /* zeros have no error */
        largest = fp8_largest(largest, v[i]);
    }
    const float to_first = fp8_scale(scale + blockIdx.x, fp8_block_largest(largest));
    for (uint32_t k = 0; k < SCALES; k++) {
        const float inverse = to_first * (1.0f / (1.0f + (float)k / SCALES));
        const float step = UNITS + (float)k * (UNITS / SCALES);
        uint64_t error = 0;
#pragma unroll
        for (unsigned i = 0; i < N; i++) {
            error += vector_error(v[i], to_first, inverse, step);
        }
        for (int lane = 16; lane > 0; lane /= 2) {
            error += __shfl_xor_sync(0xffffffffu, error, lane);
        }
        if (threadIdx.x % 32 == 0) {
            sums[k][threadIdx.x / 32] = error;
        }
    }
    __syncthreads();
    const float factor = 1.0f + (float)scale_choose(sums) / SCALES;
    if (threadIdx.x == 0) {
        scale[blockIdx.x] *= factor; /* this thread's own, from fp8_scale */
    }
    const float inverse = to_first * (1.0f / factor);
#pragma unroll
    for (unsigned i = 0; i < N; i++) {
        const uint32_t at = i * blockDim.x + threadIdx.x;
        if (at < vectors) {
            q[blockIdx.x * q_ld + at] = fp8_vector(v[i], inverse);
        }
    }
}

/* ---- launchers ---- */
seam_status seam_cuda_fp8_weight_rows(seam_stream *stream, void *q, size_t q_ld, float *scale,
                                      const void *x, size_t x_ld, uint32_t T, uint32_t K) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const uint32_t vectors = K / VECTOR;
    const uint32_t items = vectors <= THREADS_MAX * ITEMS ? ITEMS : ITEMS_WIDE;
    const uint32_t threads = (vectors + 32 * items - 1) / (32 * items) * 32;
    SEAM_ASSERT(K % VECTOR == 0 && K <= SEAM_CUDA_FP8_K_MAX && x_ld % VECTOR == 0 &&
                q_ld % VECTOR == 0);
    SEAM_ASSERT(vector_aligned(x));
    if (T == 0) {
        return SEAM_OK;
    }
    if (items == ITEMS) {
        weight_rows_kernel<ITEMS><<<T, threads, 0, queue>>>(
            (uint2 *)q, q_ld / VECTOR, scale, (const __nv_bfloat16 *)x, x_ld, vectors);
    } else {
        weight_rows_kernel<ITEMS_WIDE><<<T, threads, 0, queue>>>(
            (uint2 *)q, q_ld / VECTOR, scale, (const __nv_bfloat16 *)x, x_ld, vectors);
    }
    return SEAM_CUDA_LAUNCHED();
}
