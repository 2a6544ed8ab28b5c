/* Causal attention backward on tensor cores, for what cuda_attention_forward_mma.cu takes.  The two
 * passes and formulas of cuda_attention_backward.cu, which asks here first; p and ds are rounded to
 * bf16 before their products, as p is in forward.
 *
 * Grid: (tiles of 64 rows, H) for dq, (tiles of 64 rows, G) for dk, dv; four warps of 16 rows;
 * tiles of 32 rows of the other side.  Shared: two tiles of each, 52 KB at D = 128.  Bound by
 * operations: 14 D a pair of rows. */
#include "cuda_mma.cuh"

#define ROWS  64u
#define OTHER 32u
#define TILES 4 /* of 8 columns: OTHER */

/* ---- kernels ---- */
/* s (16, OTHER) = the warp's rows of x times the rows of y. */
template <int STEPS>
static __device__ inline void dots(float (&s)[TILES][4], const __nv_bfloat16 *x,
                                   const __nv_bfloat16 *y, uint32_t D) {
    const uint32_t pitch = D + MMA_PAD;
#pragma unroll
    for (int n = 0; n < TILES; n++) {
        s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.0f;
    }
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        if (step * 16 < D) {
            uint32_t a[4];
            operand(a, x + step * 16, pitch);
            add_dots(s, a, y + step * 16, pitch);
        }
    }
}

/* The warp's 16 rows of acc as bf16, rows of `end` and behind left out. */
template <int STEPS>
static __device__ inline void rows_store(__nv_bfloat16 *p, size_t ld, uint32_t row0, uint32_t end,
                                         const float (&acc)[2 * STEPS][4], uint32_t D) {
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const uint32_t t = row0 + threadIdx.x / 32 * 16 + lane / 4 + 8 * half;
        uint32_t *out = (uint32_t *)(p + (size_t)t * ld);
#pragma unroll
        for (int n = 0; n < 2 * STEPS; n++) {
            if (t < end && n * 8 < D) {
                out[n * 4 + lane % 4] = pack(acc[n][2 * half], acc[n][2 * half + 1]);
            }
        }
    }
}

static __device__ inline float weight_of(float s, float scale, float lse, bool seen) {
    return seen ? exp2f((scale * s - lse) * 1.44269504f) : 0.0f;
}

template <int STEPS>
static __global__ void __launch_bounds__(MMA_THREADS)
    dq_mma_kernel(seam_attention_backward_args a, const float *delta, const seam_cuda_span *spans) {
    extern __shared__ uint4 shared[];
    const uint32_t D = a.D, h = blockIdx.x, g = h / (a.H / a.G), pitch = D + MMA_PAD;
    const uint32_t lane = threadIdx.x % 32;
    __nv_bfloat16 *q = (__nv_bfloat16 *)shared, *d_o = q + ROWS * pitch, *k = d_o + ROWS * pitch;
    __nv_bfloat16 *v = k + OTHER * pitch;
    float dq[2 * STEPS][4] = {}, s[TILES][4], dp[TILES][4], lse[2], dlt[2];
    const seam_cuda_span span = spans[blockIdx.y];
    const uint32_t end = span.end, row = span.row0 + threadIdx.x / 32 * 16 + lane / 4;
    rows_load(q, (const __nv_bfloat16 *)a.q + (size_t)h * D, a.q_ld, span.row0, ROWS, end, D);
    rows_load(d_o, (const __nv_bfloat16 *)a.d_o + (size_t)h * D, (size_t)a.H * D, span.row0, ROWS,
              end, D);
    for (uint32_t half = 0; half < 2; half++) {
        const size_t at = (size_t)(row + 8 * half) * a.H + h;
        lse[half] = row + 8 * half < end ? ((const float *)a.lse)[at] : 0.0f;
        dlt[half] = row + 8 * half < end ? delta[at] : 0.0f;
    }
    for (uint32_t k0 = att_first_tile(span, a.window, OTHER); k0 < span.row0 + ROWS && k0 < end;
         k0 += OTHER) {
        __syncthreads();
        rows_load(k, (const __nv_bfloat16 *)a.k + (size_t)g * D, a.k_ld, k0, OTHER, end, D);
        rows_load(v, (const __nv_bfloat16 *)a.v + (size_t)g * D, a.v_ld, k0, OTHER, end, D);
        __syncthreads();
        dots<STEPS>(s, q, k, D);
        dots<STEPS>(dp, d_o, v, D);
#pragma unroll
        for (int n = 0; n < TILES; n++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const uint32_t t = row + j / 2 * 8, key = k0 + n * 8 + lane % 4 * 2 + j % 2;
                const bool seen = t < end && att_seen(key, t, a.window);
                const float p = weight_of(s[n][j], a.scale, lse[j / 2], seen);
                s[n][j] = a.scale * p * (dp[n][j] - dlt[j / 2]);
            }
        }
        add_product<STEPS>(dq, s, k, D);
    }
    rows_store<STEPS>((__nv_bfloat16 *)a.dq + (size_t)h * D, a.dq_ld, span.row0, end, dq, D);
}

template <int STEPS>
static __global__ void __launch_bounds__(MMA_THREADS)
    dkv_mma_kernel(seam_attention_backward_args a, const float *delta,
                   const seam_cuda_span *spans) {
    extern __shared__ uint4 shared[];
    __shared__ float lse[OTHER], dlt[OTHER];
    const uint32_t D = a.D, g = blockIdx.x, group = a.H / a.G, pitch = D + MMA_PAD;
    const uint32_t lane = threadIdx.x % 32;
    __nv_bfloat16 *k = (__nv_bfloat16 *)shared, *v = k + ROWS * pitch, *q = v + ROWS * pitch;
    __nv_bfloat16 *d_o = q + OTHER * pitch;
    float dk[2 * STEPS][4] = {}, dv[2 * STEPS][4] = {}, s[TILES][4], dp[TILES][4];
    const seam_cuda_span span = spans[blockIdx.y];
    const uint32_t end = span.end, row = span.row0 + threadIdx.x / 32 * 16 + lane / 4;
    rows_load(k, (const __nv_bfloat16 *)a.k + (size_t)g * D, a.k_ld, span.row0, ROWS, end, D);
    rows_load(v, (const __nv_bfloat16 *)a.v + (size_t)g * D, a.v_ld, span.row0, ROWS, end, D);
    for (uint32_t h = g * group; h < (g + 1) * group; h++) {
        for (uint32_t q0 = span.row0; q0 < att_last_row(span, a.window, ROWS); q0 += OTHER) {
            __syncthreads();
            rows_load(q, (const __nv_bfloat16 *)a.q + (size_t)h * D, a.q_ld, q0, OTHER, end, D);
            rows_load(d_o, (const __nv_bfloat16 *)a.d_o + (size_t)h * D, (size_t)a.H * D, q0, OTHER,
                      end, D);
            if (threadIdx.x < OTHER && q0 + threadIdx.x < end) {
                const size_t at = (size_t)(q0 + threadIdx.x) * a.H + h;
                lse[threadIdx.x] = ((const float *)a.lse)[at];
                dlt[threadIdx.x] = delta[at];
            }
            __syncthreads();
            dots<STEPS>(s, k, q, D);
            dots<STEPS>(dp, v, d_o, D);
#pragma unroll
            for (int n = 0; n < TILES; n++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const uint32_t key = row + j / 2 * 8, i = n * 8 + lane % 4 * 2 + j % 2;
                    const bool seen = q0 + i < end && att_seen(key, q0 + i, a.window);
                    s[n][j] = weight_of(s[n][j], a.scale, lse[i], seen);
                    dp[n][j] = seen ? a.scale * s[n][j] * (dp[n][j] - dlt[i]) : 0.0f;
                }
            }
            add_product<STEPS>(dv, s, d_o, D);
            add_product<STEPS>(dk, dp, q, D);
        }
    }
    rows_store<STEPS>((__nv_bfloat16 *)a.dk + (size_t)g * D, a.dk_ld, span.row0, end, dk, D);
    rows_store<STEPS>((__nv_bfloat16 *)a.dv + (size_t)g * D, a.dv_ld, span.row0, end, dv, D);
}

/* ---- launchers ---- */
bool seam_cuda_attention_backward_mma_fits(const seam_stream *stream,
                                           const seam_attention_backward_args *args) {
    const seam_attention_backward_args *a = args;
    const uint32_t ld = a->q_ld | a->k_ld | a->v_ld | a->dq_ld | a->dk_ld | a->dv_ld;
    return seam_cuda_act(stream) == SEAM_BF16 && a->D % 16 == 0 && a->D <= MMA_D_MAX &&
           ld % 8 == 0 && vector_aligned(a->q) && vector_aligned(a->k) && vector_aligned(a->v) &&
           vector_aligned(a->d_o) && vector_aligned(a->dq) && vector_aligned(a->dk) &&
           vector_aligned(a->dv);
}

template <int STEPS>
static seam_status launch(cudaStream_t queue, const seam_attention_backward_args &a,
                          const float *delta, const seam_cuda_spans &spans) {
    const int bytes = (int)(2 * (ROWS + OTHER) * (a.D + MMA_PAD) * sizeof(__nv_bfloat16));
    SEAM_CUDA_TRY(cudaFuncSetAttribute(dq_mma_kernel<STEPS>,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    SEAM_CUDA_TRY(cudaFuncSetAttribute(dkv_mma_kernel<STEPS>,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    dq_mma_kernel<STEPS><<<dim3(a.H, spans.count), MMA_THREADS, bytes, queue>>>(a, delta, spans.at);
    dkv_mma_kernel<STEPS>
        <<<dim3(a.G, spans.count), MMA_THREADS, bytes, queue>>>(a, delta, spans.at);
    return SEAM_CUDA_LAUNCHED();
}

seam_status seam_cuda_attention_backward_mma(seam_stream *stream,
                                             const seam_attention_backward_args *args,
                                             const float *delta) {
    cudaStream_t queue = seam_cuda_queue(stream);
    seam_cuda_spans spans;
    SEAM_TRY(seam_cuda_spans_of(&spans, stream, args->seq_begin, args->S, ROWS));
    return args->D <= 64 ? launch<4>(queue, *args, delta, spans)
                         : launch<8>(queue, *args, delta, spans);
}
