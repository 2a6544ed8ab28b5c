/* Causal attention backward by warpgroup products: what cuda_attention_forward_wgmma.cu takes;
 * cuda_attention_backward.cu asks here first.  Two passes, without atomics: by query
 * tiles delta and dq, then by key tiles dk and dv over the query heads that share them.  With p =
 * exp(scale q k - lse) and ds = p (d_o v - delta): dq = scale ds k, dk = scale ds^T q, dv = p^T
 * d_o. By key tiles the scores are formed transposed, so that p and ds, rounded to bf16, are the
 * products' a operands from registers in both passes.
 *
 * Grid: (H, tiles of 64 queries) and (G, tiles of 64 keys), the longest first, a warpgroup a block.
 * Tiles of 64 rows of the other side twice in shared memory, the next one on its way during the
 * products.  Bound by operations: 14 D a pair of rows.
 *
 * The first pass holds q and d_o in registers at D 128 alone.  At D 64 ptxas 13.0 gives ds the
 * registers of d_o, which the next key tile needs again (seen in its SASS: F2FP into the a operand
 * of the scores' products, no load behind it), so that dq was wrong from the second tile on; there
 * both are read from shared memory, where they stand anyway. */
#include "cuda_attention_wgmma.cuh"

/* ---- kernels ---- */
/* Half of the sum of o d_o over row thread / 2 of a tile: two threads a row. */
template <int D>
static __device__ inline float half_delta(const __nv_bfloat16 *o_row, const __nv_bfloat16 *d_o_row,
                                          bool there) {
    const uint32_t begin = threadIdx.x % 2 * (D / 2);
    float sum = 0.0f;
#pragma unroll
    for (uint32_t i = 0; i < D / 2; i += 8) {
        float x[8] = {}, y[8] = {};
        if (there) {
            load(x, o_row + begin + i);
            load(y, d_o_row + begin + i);
        }
#pragma unroll
        for (int j = 0; j < 8; j++) {
            sum += x[j] * y[j];
        }
    }
    return sum;
}

/* delta of a tile's queries in head h: by row for this block, and for the second pass. */
template <int D>
static __device__ inline void delta_make(float *delta_of, float *delta,
                                         const seam_attention_backward_args &a,
                                         const seam_cuda_span &span, uint32_t h) {
    const uint32_t own = threadIdx.x / 2, t = span.row0 + own;
    const size_t at = ((size_t)t * a.H + h) * D;
    float sum = half_delta<D>((const __nv_bfloat16 *)a.o + at, (const __nv_bfloat16 *)a.d_o + at,
                              t < span.end);
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    delta_of[own] = sum;
    if (threadIdx.x % 2 == 0 && t < span.end) {
        delta[(size_t)t * a.H + h] = sum;
    }
}

/* Queues s = q k^T and dp = d_o v^T; q and d_o from registers or their tiles. */
template <int D, typename operand>
static __device__ inline void scores_begin(float (&s)[32], float (&dp)[32], const operand &q,
                                           const operand &d_o, uint32_t keys) {
    products_begin();
    dots_begin<D>(s, q, keys);
    products_commit();
    dots_begin<D>(dp, d_o, keys + wg_tile_bytes(D));
    products_commit();
}

/* p in place of the scores of two rows, whose lse is in units of log 2; `diagonal`: a row sees keys
 * up to its own place. */
static __device__ inline void probabilities(float (&s)[32], const float (&lse)[2], float c,
                                            bool diagonal) {
    const uint32_t lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
#pragma unroll
    for (int j = 0; j < 32; j++) {
        const uint32_t key = (uint32_t)j / 4 * 8 + lane % 4 * 2 + (uint32_t)j % 2;
        const bool seen = !diagonal || key <= row + (uint32_t)j / 2 % 2 * 8;
        s[j] = seen ? exp2_flushed(fmaf(s[j], c, -lse[j / 2 % 2])) : 0.0f;
    }
}

/* q and d_o stand in tiles behind the pairs. */
template <int D>
static __global__ void __launch_bounds__(WG_THREADS, 2)
    dq_kernel(seam_attention_backward_args a, float *delta, const seam_cuda_span *spans,
              const uint32_t *positions) {
    extern __shared__ __align__(1024) uint8_t shared[];
    constexpr uint32_t tile = wg_tile_bytes(D);
    const uint32_t base = shared_address(shared), lane = threadIdx.x % 32;
    const uint32_t row = threadIdx.x / 32 * 16 + lane / 4, h = blockIdx.x, g = h / (a.H / a.G);
    const seam_cuda_span span = spans[blockIdx.y];
    const uint32_t count = (span.row0 - span.begin) / WG_ROWS + 1; /* key tiles */
    const __nv_bfloat16 *k = (const __nv_bfloat16 *)a.k + (size_t)g * D;
    const __nv_bfloat16 *v = (const __nv_bfloat16 *)a.v + (size_t)g * D;
    const __nv_bfloat16 *d_os = (const __nv_bfloat16 *)a.d_o + (size_t)h * D;
    float *delta_of = (float *)(shared + 6 * tile); /* by row */
    constexpr bool held = D == 128;                 /* see above */
    const uint32_t q_tile = base + 4 * tile, d_o_tile = base + 5 * tile;
    uint32_t q[D / 16][4], d_o[D / 16][4], ds[4][4];
    float dq[wg_width(D) / 2] = {}, s[32], dp[32], lse[2], dlt[2];
    tile_load<D>(q_tile, (const __nv_bfloat16 *)a.q + (size_t)h * D, a.q_ld, span.row0, span.end);
    tile_load<D>(d_o_tile, d_os, (size_t)a.H * D, span.row0, span.end);
    tile_load<D>(base, k, a.k_ld, span.begin, span.end);
    tile_load<D>(base + tile, v, a.v_ld, span.begin, span.end);
    copy_commit();
    delta_make<D>(delta_of, delta, a, span, h);
    copy_wait<0>();
    __syncthreads();
    if constexpr (held) {
        tile_to_registers<D>(q, q_tile);
        tile_to_registers<D>(d_o, d_o_tile);
    }
#pragma unroll
    for (uint32_t half = 0; half < 2; half++) {
        const uint32_t t = span.row0 + row + 8 * half;
        lse[half] = t < span.end ? ((const float *)a.lse)[(size_t)t * a.H + h] * LOG2_E : INFINITY;
        dlt[half] = delta_of[row + 8 * half];
    }
    const float c = a.scale * LOG2_E;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t here = base + i % 2 * 2 * tile, there = base + (i + 1) % 2 * 2 * tile;
        const uint32_t k1 = span.begin + (i + 1) * WG_ROWS, end = i + 1 < count ? span.end : 0;
        __syncthreads(); /* all have left the next pair */
        if constexpr (held) {
            scores_begin<D>(s, dp, q, d_o, here);
        } else {
            scores_begin<D>(s, dp, q_tile, d_o_tile, here);
        }
        tile_load<D>(there, k, a.k_ld, k1, end);
        tile_load<D>(there + tile, v, a.v_ld, k1, end);
        copy_commit();
        products_wait<1>(s);
        probabilities(s, lse, c, i + 1 == count);
        products_wait<0>(dp);
#pragma unroll
        for (int j = 0; j < 32; j++) {
            s[j] *= dp[j] - dlt[j / 2 % 2];
        }
        to_operands(ds, s);
        products_begin();
        sums_begin<D>(dq, ds, here);
        products_commit();
        copy_wait<0>();
        products_wait<0>(dq);
    }
    __syncthreads();
    const float scale[2] = {a.scale, a.scale};
    if (positions != NULL) {
        rotate_back<D>(dq, (const float *)a.cos_sin, positions, span.row0, span.end);
    }
    tile_store<D>((__nv_bfloat16 *)a.dq + (size_t)h * D, a.dq_ld, span.row0, span.end, dq, scale,
                  shared);
}

/* A pair of tiles, q and d_o of 64 queries, and their lse and delta into rows[2][64]. */
template <int D>
static __device__ inline void
queries_load(uint32_t pair, uint32_t rows, const seam_attention_backward_args &a,
             const float *delta, uint32_t h, uint32_t q0, uint32_t end) {
    const size_t ld = (size_t)a.H * D, head = (size_t)h * D;
    const uint32_t i = threadIdx.x % WG_ROWS;
    const float *values = threadIdx.x < WG_ROWS ? (const float *)a.lse : delta;
    tile_load<D>(pair, (const __nv_bfloat16 *)a.q + head, a.q_ld, q0, end);
    tile_load<D>(pair + wg_tile_bytes(D), (const __nv_bfloat16 *)a.d_o + head, ld, q0, end);
    copy_async<4>(rows + threadIdx.x * 4, values + (size_t)(q0 + i) * a.H + h, q0 + i < end);
}

/* Zero in place of p^T (64 keys, 64 queries) on the diagonal where the query stands before the key.
 */
static __device__ inline void hide_earlier(float (&p)[32]) {
    const uint32_t lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
#pragma unroll
    for (int j = 0; j < 32; j++) {
        const uint32_t query = (uint32_t)j / 4 * 8 + lane % 4 * 2 + (uint32_t)j % 2;
        p[j] = query >= row + (uint32_t)j / 2 % 2 * 8 ? p[j] : 0.0f;
    }
}

/* Zeros behind the last query leave dk and dv alone: their d_o and delta are zero. */
template <int D>
static __global__ void __launch_bounds__(WG_THREADS, 2)
    dkv_kernel(seam_attention_backward_args a, const float *delta, seam_cuda_spans spans,
               const uint32_t *positions) {
    extern __shared__ __align__(1024) uint8_t shared[];
    constexpr uint32_t tile = wg_tile_bytes(D), rows_bytes = 2 * WG_ROWS * 4;
    const uint32_t k = shared_address(shared), v = k + tile, pairs = k + 2 * tile;
    const uint32_t lane = threadIdx.x % 32, g = blockIdx.x, heads = a.H / a.G;
    const seam_cuda_span span =
        spans.at[spans.count - 1 - blockIdx.y]; /* first keys: most queries */
    const uint32_t tiles = (span.end - span.row0 + WG_ROWS - 1) / WG_ROWS, count = heads * tiles;
    const float c = a.scale * LOG2_E;
    const float *rows = (const float *)(shared + 6 * tile);
    float dk[wg_width(D) / 2] = {}, dv[wg_width(D) / 2] = {}, s[32], dp[32];
    uint32_t p[4][4], ds[4][4];
    tile_load<D>(k, (const __nv_bfloat16 *)a.k + (size_t)g * D, a.k_ld, span.row0, span.end);
    tile_load<D>(v, (const __nv_bfloat16 *)a.v + (size_t)g * D, a.v_ld, span.row0, span.end);
    queries_load<D>(pairs, shared_address(rows), a, delta, g * heads, span.row0, span.end);
    copy_commit();
    copy_wait<0>();
    for (uint32_t i = 0, n = 0, h = g * heads; i < count; i++) { /* tile n of head h */
        const uint32_t q = pairs + i % 2 * 2 * tile, d_o = q + tile, next = (i + 1) % 2;
        const float *lse = rows + i % 2 * 2 * WG_ROWS, *dlt = lse + WG_ROWS;
        const bool diagonal = n == 0;
        __syncthreads(); /* all have left the next pair */
        products_begin();
        dots_begin<D>(s, k, q);
        products_commit();
        dots_begin<D>(dp, v, d_o);
        products_commit();
        n = n + 1 < tiles ? n + 1 : 0;
        h += n == 0 ? 1 : 0;
        queries_load<D>(pairs + next * 2 * tile, shared_address(rows) + next * rows_bytes, a, delta,
                        h, span.row0 + n * WG_ROWS, i + 1 < count ? span.end : 0);
        copy_commit();
        products_wait<1>(s);
#pragma unroll
        for (int j = 0; j < 32; j++) {
            const uint32_t query = (uint32_t)j / 4 * 8 + lane % 4 * 2 + (uint32_t)j % 2;
            s[j] = exp2_flushed(fmaf(s[j], c, -lse[query] * LOG2_E));
        }
        if (diagonal) {
            hide_earlier(s);
        }
        to_operands(p, s);
        products_wait<0>(dp);
#pragma unroll
        for (int j = 0; j < 32; j++) {
            s[j] *= dp[j] - dlt[(uint32_t)j / 4 * 8 + lane % 4 * 2 + (uint32_t)j % 2];
        }
        products_begin();
        sums_begin<D>(dv, p, d_o);
        to_operands(ds, s);
        products_begin();
        sums_begin<D>(dk, ds, q);
        products_commit();
        copy_wait<0>();
        products_wait<0>(dv);
        products_wait<0>(dk);
    }
    __syncthreads();
    const float one[2] = {1.0f, 1.0f}, scale[2] = {a.scale, a.scale};
    if (positions != NULL) {
        rotate_back<D>(dk, (const float *)a.cos_sin, positions, span.row0, span.end);
    }
    tile_store<D>((__nv_bfloat16 *)a.dk + (size_t)g * D, a.dk_ld, span.row0, span.end, dk, scale,
                  shared);
    tile_store<D>((__nv_bfloat16 *)a.dv + (size_t)g * D, a.dv_ld, span.row0, span.end, dv, one,
                  shared + tile);
}

/* ---- launchers ---- */
bool seam_cuda_attention_backward_wgmma_fits(const seam_stream *stream,
                                             const seam_attention_backward_args *args) {
    const seam_attention_backward_args *a = args;
    const uint32_t ld = a->q_ld | a->k_ld | a->v_ld | a->dq_ld | a->dk_ld | a->dv_ld;
    return seam_cuda_major(stream) == 9 && seam_cuda_act(stream) == SEAM_BF16 &&
           (a->D == 64 || a->D == 80 || a->D == 96 || a->D == 128) && a->scale > 0.0f &&
           a->window == 0 && ld % 8 == 0 && vector_aligned(a->q) && vector_aligned(a->k) &&
           vector_aligned(a->v) && vector_aligned(a->o) && vector_aligned(a->d_o) &&
           vector_aligned(a->dq) && vector_aligned(a->dk) && vector_aligned(a->dv);
}

template <int D>
static seam_status launch(seam_stream *stream, const seam_attention_backward_args &a,
                          float *delta) {
    const int tiles_bytes = 6 * (int)wg_tile_bytes(D), row_bytes = (int)(WG_ROWS * sizeof(float));
    const int dq_bytes = tiles_bytes + row_bytes, dkv_bytes = tiles_bytes + 4 * row_bytes;
    cudaStream_t queue = seam_cuda_queue(stream);
    const uint32_t *positions = NULL;
    seam_cuda_spans spans;
    if (a.cos_sin != NULL) {
        SEAM_TRY(seam_cuda_array(&positions, stream, SEAM_CUDA_POSITIONS, a.positions, a.T));
    }
    SEAM_TRY(seam_cuda_spans_of(&spans, stream, a.seq_begin, a.S, WG_ROWS));
    SEAM_CUDA_TRY(
        cudaFuncSetAttribute(dq_kernel<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, dq_bytes));
    SEAM_CUDA_TRY(cudaFuncSetAttribute(dkv_kernel<D>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       dkv_bytes));
    dq_kernel<D>
        <<<dim3(a.H, spans.count), WG_THREADS, dq_bytes, queue>>>(a, delta, spans.at, positions);
    dkv_kernel<D>
        <<<dim3(a.G, spans.count), WG_THREADS, dkv_bytes, queue>>>(a, delta, spans, positions);
    return SEAM_CUDA_LAUNCHED();
}

seam_status seam_cuda_attention_backward_wgmma(seam_stream *stream,
                                               const seam_attention_backward_args *args,
                                               float *delta) {
    switch (args->D) {
    case 64:
        return launch<64>(stream, *args, delta);
    case 80:
        return launch<80>(stream, *args, delta);
    case 96:
        return launch<96>(stream, *args, delta);
    default:
        return launch<128>(stream, *args, delta);
    }
}
