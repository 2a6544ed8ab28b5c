/* Causal attention backward (types and shapes that cuda_attention_backward_mma.cu does not take
 * beside what both need) without atomics, so that its bits do not move: delta a row first, then
 * one pass for dq by query tiles and one for dk, dv by key tiles (over the query heads that share
 * them).  p = exp(scale q k - lse), ds = scale p (d_o v - delta); dq += ds k, dk += ds q, dv += p
 * d_o.
 *
 * Grid: (tiles of 32 rows, H) and (tiles of 32 rows, G), 256 threads; shared: four (32, D + 1)
 * tiles in f32 and the squares, 74 KB at D = 128.  Plain f32 FMA, which bounds it: 14 D operations
 * a pair of rows (scores twice). */
#include "cuda_attention.cuh"

/* ---- kernels ---- */
/* delta[t, h] = sum_d o d_o; a warp a (t, h), eight a block. */
template <typename act>
static __global__ void delta_kernel(float *delta, const act *o, const act *d_o, size_t rows,
                                    uint32_t D) {
    const size_t row = (size_t)blockIdx.x * (ATT_THREADS / 32) + threadIdx.x / 32;
    float sum = 0.0f;
    for (uint32_t d = threadIdx.x % 32; row < rows && d < D; d += 32) {
        sum += to_f32(o[row * D + d]) * to_f32(d_o[row * D + d]);
    }
    sum = warp_sum(sum);
    if (row < rows && threadIdx.x % 32 == 0) {
        delta[row] = sum;
    }
}

/* p and ds of query rows q0 + 2 ty + i and keys k0 + tx + 16 j; zero where not seen. */
static __device__ inline void pair_grads(float (&p)[2][2], float (&ds)[2][2], const float *q,
                                         const float *d_o, const float *k, const float *v,
                                         const seam_attention_backward_args &a, const float *delta,
                                         uint32_t q0, uint32_t k0, uint32_t end, uint32_t h) {
    float s[2][2], dp[2][2];
    const uint32_t ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    att_dot(s, q, k, a.D);
    att_dot(dp, d_o, v, a.D);
    for (uint32_t i = 0; i < 2; i++) {
        const uint32_t row = q0 + 2 * ty + i;
        const size_t at = (size_t)row * a.H + h;
        const float lse = row < end ? ((const float *)a.lse)[at] : 0.0f;
        const float dlt = row < end ? delta[at] : 0.0f;
        for (uint32_t j = 0; j < 2; j++) {
            const bool seen = row < end && att_seen(k0 + tx + 16 * j, row, a.window);
            p[i][j] = seen ? expf(a.scale * s[i][j] - lse) : 0.0f;
            ds[i][j] = a.scale * p[i][j] * (dp[i][j] - dlt);
        }
    }
}

template <typename act>
static __global__ void __launch_bounds__(ATT_THREADS)
    dq_kernel(seam_attention_backward_args a, const float *delta, const seam_cuda_span *spans) {
    extern __shared__ float shared[];
    __shared__ att_square square;
    const uint32_t D = a.D, h = blockIdx.x, g = h / (a.H / a.G), tile = ATT_ROWS * (D + 1);
    const uint32_t ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    float *q = shared, *d_o = q + tile, *k = d_o + tile, *v = k + tile;
    float acc[2][ATT_COLS] = {}, p[2][2], ds[2][2];
    const seam_cuda_span span = spans[blockIdx.y];
    att_load(q, (const act *)a.q + (size_t)h * D, a.q_ld, span.row0, span.end, D);
    att_load(d_o, (const act *)a.d_o + (size_t)h * D, (size_t)a.H * D, span.row0, span.end, D);
    for (uint32_t k0 = att_first_tile(span, a.window, ATT_ROWS);
         k0 < span.row0 + ATT_ROWS && k0 < span.end; k0 += ATT_ROWS) {
        __syncthreads();
        att_load(k, (const act *)a.k + (size_t)g * D, a.k_ld, k0, span.end, D);
        att_load(v, (const act *)a.v + (size_t)g * D, a.v_ld, k0, span.end, D);
        __syncthreads();
        pair_grads(p, ds, q, d_o, k, v, a, delta, span.row0, k0, span.end, h);
        for (uint32_t i = 0; i < 2; i++) {
            square[2 * ty + i][tx] = ds[i][0];
            square[2 * ty + i][tx + 16] = ds[i][1];
        }
        __syncthreads();
        att_mul(acc, square, k, D);
    }
    const float one[2] = {1.0f, 1.0f};
    att_store((act *)a.dq + (size_t)h * D, a.dq_ld, span.row0, span.end, D, acc, one);
}

template <typename act>
static __global__ void __launch_bounds__(ATT_THREADS)
    dkv_kernel(seam_attention_backward_args a, const float *delta, const seam_cuda_span *spans) {
    extern __shared__ float shared[];
    __shared__ att_square p_t, ds_t; /* by key, then query */
    const uint32_t D = a.D, g = blockIdx.x, group = a.H / a.G, tile = ATT_ROWS * (D + 1);
    const uint32_t ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    float *q = shared, *d_o = q + tile, *k = d_o + tile, *v = k + tile;
    float dk[2][ATT_COLS] = {}, dv[2][ATT_COLS] = {}, p[2][2], ds[2][2];
    const seam_cuda_span span = spans[blockIdx.y];
    att_load(k, (const act *)a.k + (size_t)g * D, a.k_ld, span.row0, span.end, D);
    att_load(v, (const act *)a.v + (size_t)g * D, a.v_ld, span.row0, span.end, D);
    for (uint32_t h = g * group; h < (g + 1) * group; h++) {
        for (uint32_t q0 = span.row0; q0 < att_last_row(span, a.window, ATT_ROWS); q0 += ATT_ROWS) {
            __syncthreads();
            att_load(q, (const act *)a.q + (size_t)h * D, a.q_ld, q0, span.end, D);
            att_load(d_o, (const act *)a.d_o + (size_t)h * D, (size_t)a.H * D, q0, span.end, D);
            __syncthreads();
            pair_grads(p, ds, q, d_o, k, v, a, delta, q0, span.row0, span.end, h);
            for (uint32_t i = 0; i < 2; i++) {
                for (uint32_t j = 0; j < 2; j++) {
                    p_t[tx + 16 * j][2 * ty + i] = p[i][j];
                    ds_t[tx + 16 * j][2 * ty + i] = ds[i][j];
                }
            }
            __syncthreads();
            att_mul(dv, p_t, d_o, D);
            att_mul(dk, ds_t, q, D);
        }
    }
    const float one[2] = {1.0f, 1.0f};
    att_store((act *)a.dk + (size_t)g * D, a.dk_ld, span.row0, span.end, D, dk, one);
    att_store((act *)a.dv + (size_t)g * D, a.dv_ld, span.row0, span.end, D, dv, one);
}

/* ---- launchers ---- */
template <typename act>
static void delta_launch(cudaStream_t queue, const seam_attention_backward_args &a, float *delta) {
    const size_t rows = (size_t)a.T * a.H, warps = ATT_THREADS / 32;
    delta_kernel<<<(unsigned)((rows + warps - 1) / warps), ATT_THREADS, 0, queue>>>(
        delta, (const act *)a.o, (const act *)a.d_o, rows, a.D);
}

template <typename act>
static seam_status launch(cudaStream_t queue, const seam_attention_backward_args &a,
                          const float *delta, const seam_cuda_spans &spans) {
    const int bytes = (int)(4 * ATT_ROWS * (a.D + 1) * sizeof(float));
    SEAM_CUDA_TRY(
        cudaFuncSetAttribute(dq_kernel<act>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    SEAM_CUDA_TRY(
        cudaFuncSetAttribute(dkv_kernel<act>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    dq_kernel<act><<<dim3(a.H, spans.count), ATT_THREADS, bytes, queue>>>(a, delta, spans.at);
    dkv_kernel<act><<<dim3(a.G, spans.count), ATT_THREADS, bytes, queue>>>(a, delta, spans.at);
    return SEAM_CUDA_LAUNCHED();
}

static seam_status rotate_back(seam_stream *stream, const seam_attention_backward_args *a) {
    seam_rope_args rope = {.x = a->dq,
                           .ld = a->dq_ld,
                           .heads = a->H,
                           .cos_sin = a->cos_sin,
                           .positions = a->positions,
                           .backward = true,
                           .T = a->T,
                           .D = a->D};
    SEAM_TRY(seam_cuda_rope(stream, &rope));
    rope.x = a->dk;
    rope.ld = a->dk_ld;
    rope.heads = a->G;
    return seam_cuda_rope(stream, &rope);
}

seam_status seam_cuda_attention_backward(seam_stream *stream,
                                         const seam_attention_backward_args *args) {
    void *delta = NULL;
    seam_cuda_spans spans;
    SEAM_ASSERT(args->G > 0 && args->H % args->G == 0);
    SEAM_ASSERT(args->D <= ATT_D_MAX);
    SEAM_ASSERT(args->seq_begin[0] == 0 && args->seq_begin[args->S] == args->T);
    if (args->T == 0) {
        return SEAM_OK;
    }
    cudaStream_t queue = seam_cuda_queue(stream);
    SEAM_TRY(seam_cuda_scratch(&delta, stream, (size_t)args->T * args->H * sizeof(float)));
    if (seam_cuda_attention_backward_wgmma_fits(stream, args)) {
        return seam_cuda_attention_backward_wgmma(stream, args, (float *)delta);
    }
    SEAM_CUDA_BY_ACT(stream, delta_launch<act>(queue, *args, (float *)delta));
    if (seam_cuda_attention_backward_mma_fits(stream, args)) {
        SEAM_TRY(seam_cuda_attention_backward_mma(stream, args, (const float *)delta));
    } else {
        SEAM_TRY(seam_cuda_spans_of(&spans, stream, args->seq_begin, args->S, ATT_ROWS));
        SEAM_CUDA_BY_ACT(stream, SEAM_TRY(launch<act>(queue, *args, (const float *)delta, spans)));
    }
    return args->cos_sin == NULL ? SEAM_OK : rotate_back(stream, args);
}
