/* Causal attention forward: softmax over tiles of 32 keys with a running maximum.  For types and
 * shapes that cuda_attention_forward_mma.cu does not take.
 *
 * Grid: (tiles of 32 query rows, H), 256 threads; shared: three (32, D + 1) tiles in f32 and the
 * scores, 54 KB at D = 128.  Bytes: q, o once, k and v once a query tile (from L2).  Plain f32 FMA,
 * which bounds it: 4 D operations a pair of rows. */
#include "cuda_attention.cuh"

/* ---- kernels ---- */
/* The row's softmax over one tile of scores: p in place of s, the factor for what was summed. */
static __device__ inline void tile_softmax(att_square s, float *max, float *sum, float *factor) {
    const uint32_t lane = threadIdx.x % 32;
    for (uint32_t i = threadIdx.x / 32; i < ATT_ROWS; i += ATT_THREADS / 32) {
        const float x = s[i][lane], before = max[i];
        const float now = fmaxf(before, warp_max(x));
        const float p = expf(x - now), total = warp_sum(p);
        s[i][lane] = p;
        __syncwarp();
        if (lane == 0) {
            factor[i] = expf(before - now);
            sum[i] = sum[i] * factor[i] + total;
            max[i] = now;
        }
    }
}

template <typename act>
static __global__ void __launch_bounds__(ATT_THREADS)
    forward_kernel(seam_attention_forward_args a, const seam_cuda_span *spans) {
    extern __shared__ float shared[];
    __shared__ att_square s;
    __shared__ float max[ATT_ROWS], sum[ATT_ROWS], factor[ATT_ROWS];
    const uint32_t D = a.D, h = blockIdx.x, g = h / (a.H / a.G);
    const uint32_t ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    float *q = shared, *k = q + ATT_ROWS * (D + 1), *v = k + ATT_ROWS * (D + 1);
    float acc[2][ATT_COLS] = {}, dots[2][2];
    const seam_cuda_span span = spans[blockIdx.y];
    if (threadIdx.x < ATT_ROWS) {
        max[threadIdx.x] = ATT_MAX_START;
        sum[threadIdx.x] = 0.0f;
    }
    att_load(q, (const act *)a.q + (size_t)h * D, a.q_ld, span.row0, span.end, D);
    for (uint32_t k0 = att_first_tile(span, a.window, ATT_ROWS);
         k0 < span.row0 + ATT_ROWS && k0 < span.end; k0 += ATT_ROWS) {
        __syncthreads(); /* the tile before is used up */
        att_load(k, (const act *)a.k + (size_t)g * D, a.k_ld, k0, span.end, D);
        att_load(v, (const act *)a.v + (size_t)g * D, a.v_ld, k0, span.end, D);
        __syncthreads();
        att_dot(dots, q, k, D);
        for (uint32_t i = 0; i < 2; i++) {
            for (uint32_t j = 0; j < 2; j++) {
                const bool seen = att_seen(k0 + tx + 16 * j, span.row0 + 2 * ty + i, a.window);
                s[2 * ty + i][tx + 16 * j] = seen ? a.scale * dots[i][j] : -INFINITY;
            }
        }
        __syncthreads();
        tile_softmax(s, max, sum, factor);
        __syncthreads();
        for (uint32_t c = 0; c < ATT_COLS; c++) {
            acc[0][c] *= factor[2 * ty];
            acc[1][c] *= factor[2 * ty + 1];
        }
        att_mul(acc, s, v, D);
    }
    const float inverse[2] = {1.0f / sum[2 * ty], 1.0f / sum[2 * ty + 1]};
    att_store((act *)a.o + (size_t)h * D, (size_t)a.H * D, span.row0, span.end, D, acc, inverse);
    if (threadIdx.x < ATT_ROWS && span.row0 + threadIdx.x < span.end) {
        ((float *)a.lse)[(size_t)(span.row0 + threadIdx.x) * a.H + h] =
            max[threadIdx.x] + logf(sum[threadIdx.x]);
    }
}

/* ---- launchers ---- */
template <typename act>
static seam_status launch(cudaStream_t queue, const seam_attention_forward_args &a,
                          const seam_cuda_spans &spans) {
    const int bytes = (int)(3 * ATT_ROWS * (a.D + 1) * sizeof(float));
    SEAM_CUDA_TRY(cudaFuncSetAttribute(forward_kernel<act>,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    forward_kernel<act><<<dim3(a.H, spans.count), ATT_THREADS, bytes, queue>>>(a, spans.at);
    return SEAM_CUDA_LAUNCHED();
}

seam_status seam_cuda_attention_forward(seam_stream *stream,
                                        const seam_attention_forward_args *args) {
    seam_cuda_spans spans;
    SEAM_ASSERT(args->G > 0 && args->H % args->G == 0);
    SEAM_ASSERT(args->D <= ATT_D_MAX);
    SEAM_ASSERT(args->seq_begin[0] == 0 && args->seq_begin[args->S] == args->T);
    if (args->T == 0) {
        return SEAM_OK;
    }
    if (seam_cuda_attention_wgmma_fits(stream, args)) {
        return seam_cuda_attention_forward_wgmma(stream, args);
    }
    if (seam_cuda_attention_mma_fits(stream, args)) {
        return seam_cuda_attention_forward_mma(stream, args);
    }
    cudaStream_t queue = seam_cuda_queue(stream);
    SEAM_TRY(seam_cuda_spans_of(&spans, stream, args->seq_begin, args->S, ATT_ROWS));
    SEAM_CUDA_BY_ACT(stream, return launch<act>(queue, *args, spans));
}
