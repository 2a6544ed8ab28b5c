/* Rows of bf16 to e4m3 with a scale a row (ops.h, FP8) that their maker did not round
 * itself (attention's, and those that LoRA reads in bf16).
 *
 * Grid: a block a row; a thread keeps ITEMS vectors of 8 in registers, so that the row is read
 * once, and q may stand where x does.  Bytes a value: 2 read, 1 written; bound by memory. */
#include "cuda_fp8.cuh"

#define ITEMS       4u
#define ITEMS_WIDE  8u /* of rows that 1,024 threads of ITEMS do not hold */
#define THREADS_MAX 1024u
static_assert(THREADS_MAX * ITEMS_WIDE * VECTOR == SEAM_CUDA_FP8_K_MAX, "the widest row");

/* ---- kernels ---- */
template <unsigned N>
static __global__ void __launch_bounds__(THREADS_MAX)
    rows_kernel(uint2 *q, size_t q_ld, float *scale, const __nv_bfloat16 *x, size_t x_ld,
                uint32_t vectors) {
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
        largest = fp8_largest(largest, v[i]);
    }
    const float inverse = fp8_scale(scale + blockIdx.x, fp8_block_largest(largest));
#pragma unroll
    for (unsigned i = 0; i < N; i++) {
        const uint32_t at = i * blockDim.x + threadIdx.x;
        if (at < vectors) {
            q[blockIdx.x * q_ld + at] = fp8_vector(v[i], inverse);
        }
    }
}

/* ---- launchers ---- */
seam_status seam_cuda_fp8_rows(seam_stream *stream, void *q, size_t q_ld, float *scale,
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
        rows_kernel<ITEMS><<<T, threads, 0, queue>>>((uint2 *)q, q_ld / VECTOR, scale,
                                                     (const __nv_bfloat16 *)x, x_ld, vectors);
    } else {
        rows_kernel<ITEMS_WIDE><<<T, threads, 0, queue>>>((uint2 *)q, q_ld / VECTOR, scale,
                                                          (const __nv_bfloat16 *)x, x_ld, vectors);
    }
    return SEAM_CUDA_LAUNCHED();
}
