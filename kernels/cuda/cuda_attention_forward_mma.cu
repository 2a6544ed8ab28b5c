/* Causal attention forward on tensor cores: bf16, D a multiple of 16 up to 128, rows on 16 bytes.
 * cuda_attention_forward.cu asks here first and serves everything else.
 *
 * Grid: (tiles of 64 query rows, H), four warps of 16 rows; key tiles of 64 in shared memory, k and
 * v with rows 16 bytes further apart than dense (34 KB at D = 128; no bank conflicts).  S = q k^T
 * and O += P v by mma.m16n8k16 with f32 sums, P rounded to bf16 between them (Dao et al. 2022,
 * arXiv:2205.14135), the row's sum taken before rounding.  Bound by operations: 4 D a pair of rows.
 */
#include "cuda_mma.cuh"

#define ROWS 64u
#define KEYS 64u

/* ---- kernels ---- */
/* p in place of s for the thread's two rows (row0, row0 + 8), which see keys up to themselves, of a
 * window where there is one;
 * the factors for what was summed before. */
static __device__ inline void softmax(float (&s)[8][4], float (&max)[2], float (&sum)[2],
                                      float (&factor)[2], float scale, uint32_t window, uint32_t k0,
                                      uint32_t row0) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const uint32_t row = row0 + 8 * half;
        float top = max[half], total = 0.0f;
#pragma unroll
        for (int n = 0; n < 8; n++) {
#pragma unroll
            for (int j = 2 * half; j < 2 * half + 2; j++) {
                const uint32_t key = k0 + n * 8 + threadIdx.x % 4 * 2 + j % 2;
                s[n][j] = att_seen(key, row, window) ? scale * s[n][j] : -INFINITY;
                top = fmaxf(top, s[n][j]);
            }
        }
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
#pragma unroll
        for (int n = 0; n < 8; n++) {
#pragma unroll
            for (int j = 2 * half; j < 2 * half + 2; j++) {
                s[n][j] = exp2f((s[n][j] - top) * 1.44269504f);
                total += s[n][j];
            }
        }
        total += __shfl_xor_sync(0xffffffffu, total, 1);
        total += __shfl_xor_sync(0xffffffffu, total, 2);
        factor[half] = exp2f((max[half] - top) * 1.44269504f);
        sum[half] = sum[half] * factor[half] + total;
        max[half] = top;
    }
}

template <int STEPS>
static __global__ void __launch_bounds__(MMA_THREADS)
    mma_kernel(seam_attention_forward_args a, const seam_cuda_span *spans) {
    extern __shared__ uint4 shared[];
    const uint32_t D = a.D, h = blockIdx.x, g = h / (a.H / a.G), pitch = D + MMA_PAD;
    const uint32_t lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16;
    __nv_bfloat16 *k = (__nv_bfloat16 *)shared, *v = k + KEYS * pitch;
    uint32_t q[STEPS][4] = {};
    float o[2 * STEPS][4] = {}, s[8][4];
    float max[2] = {ATT_MAX_START, ATT_MAX_START}, sum[2] = {0.0f, 0.0f}, factor[2];
    const seam_cuda_span span = spans[blockIdx.y];
    rows_load(k, (const __nv_bfloat16 *)a.q + (size_t)h * D, a.q_ld, span.row0, ROWS, span.end, D);
    __syncthreads(); /* q passes through k's tile into registers */
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        if (step * 16 < D) {
            operand(q[step], k + step * 16, pitch);
        }
    }
    const uint32_t row = span.row0 + warp_row + lane / 4;
    for (uint32_t k0 = att_first_tile(span, a.window, KEYS); k0 < span.row0 + ROWS && k0 < span.end;
         k0 += KEYS) {
        __syncthreads();
        rows_load(k, (const __nv_bfloat16 *)a.k + (size_t)g * D, a.k_ld, k0, KEYS, span.end, D);
        rows_load(v, (const __nv_bfloat16 *)a.v + (size_t)g * D, a.v_ld, k0, KEYS, span.end, D);
        __syncthreads();
#pragma unroll
        for (int n = 0; n < 8; n++) {
            s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.0f;
        }
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            if (step * 16 < D) {
                add_dots(s, q[step], k + step * 16, pitch);
            }
        }
        softmax(s, max, sum, factor, a.scale, a.window, k0, row);
#pragma unroll
        for (int n = 0; n < 2 * STEPS; n++) {
            o[n][0] *= factor[0], o[n][1] *= factor[0];
            o[n][2] *= factor[1], o[n][3] *= factor[1];
        }
        add_product<STEPS>(o, s, v, D);
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const uint32_t t = row + 8 * half;
        const float inverse = 1.0f / sum[half];
        uint32_t *out = (uint32_t *)((__nv_bfloat16 *)a.o + ((size_t)t * a.H + h) * D);
#pragma unroll
        for (int n = 0; n < 2 * STEPS; n++) {
            if (t < span.end && n * 8 < D) {
                out[n * 4 + lane % 4] =
                    pack(o[n][2 * half] * inverse, o[n][2 * half + 1] * inverse);
            }
        }
        if (t < span.end && lane % 4 == 0) {
            ((float *)a.lse)[(size_t)t * a.H + h] = max[half] + logf(sum[half]);
        }
    }
}

/* ---- launchers ---- */
bool seam_cuda_attention_mma_fits(const seam_stream *stream,
                                  const seam_attention_forward_args *args) {
    const seam_attention_forward_args *a = args;
    return seam_cuda_act(stream) == SEAM_BF16 && a->D % 16 == 0 && a->D <= MMA_D_MAX &&
           a->q_ld % 8 == 0 && a->k_ld % 8 == 0 && a->v_ld % 8 == 0 && vector_aligned(a->q) &&
           vector_aligned(a->k) && vector_aligned(a->v) && vector_aligned(a->o);
}

seam_status seam_cuda_attention_forward_mma(seam_stream *stream,
                                            const seam_attention_forward_args *args) {
    const seam_attention_forward_args a = *args;
    const size_t bytes = 2 * KEYS * (a.D + MMA_PAD) * sizeof(__nv_bfloat16);
    cudaStream_t queue = seam_cuda_queue(stream);
    seam_cuda_spans spans;
    SEAM_TRY(seam_cuda_spans_of(&spans, stream, a.seq_begin, a.S, ROWS));
    const dim3 grid(a.H, spans.count);
    if (a.D <= 64) {
        mma_kernel<4><<<grid, MMA_THREADS, bytes, queue>>>(a, spans.at);
    } else {
        mma_kernel<8><<<grid, MMA_THREADS, bytes, queue>>>(a, spans.at);
    }
    return SEAM_CUDA_LAUNCHED();
}
