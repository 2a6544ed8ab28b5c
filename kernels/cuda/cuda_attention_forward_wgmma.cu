/* Causal attention forward by warpgroup products: bf16, D 64, 80, 96 or 128, rows on 16 bytes,
 * compute 9.0.  cuda_attention_forward.cu asks here first.
 *
 * Grid: (H, tiles of 64 query rows, the longest first), a warpgroup a block; key tiles of 64 twice
 * in shared memory (64 KB at D = 128), q in registers.  S = q k^T and O += P v with f32 sums, P
 * rounded to bf16 between them (Dao et al. 2022, arXiv:2205.14135), the row's sum taken before
 * rounding.  The scores of the next keys are formed during the softmax of these (Shah et al. 2024,
 * arXiv:2407.08608, section 3.2), so k comes a tile before v.  Bound: 4 D operations a pair of
 * rows, and at a few hundred rows a sequence the bytes of q, k, v and o.  Two warpgroups a block on
 * query heads that share their keys: no faster. */
#include "cuda_attention_wgmma.cuh"

/* ---- kernels ---- */
/* exp2 of s in place for the thread's two rows, and the factors for what was summed before.  max
 * and sum are in units of c = scale * log2 e; `diagonal`: a row sees keys up to its own place. */
static __device__ inline void softmax(float (&s)[32], float (&max)[2], float (&sum)[2],
                                      float (&factor)[2], float c, bool diagonal) {
    const uint32_t lane = threadIdx.x % 32, row0 = threadIdx.x / 32 * 16 + lane / 4;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float top = -INFINITY, total = 0.0f;
#pragma unroll
        for (int i = 0; i < 16; i++) {
            float &x = s[i / 2 * 4 + 2 * half + i % 2];
            const uint32_t key = (uint32_t)i / 2 * 8 + lane % 4 * 2 + (uint32_t)i % 2;
            x = diagonal && key > row0 + 8 * half ? -INFINITY : x;
            top = fmaxf(top, x);
        }
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        top = fmaxf(max[half], top * c);
#pragma unroll
        for (int i = 0; i < 16; i++) {
            float &x = s[i / 2 * 4 + 2 * half + i % 2];
            x = exp2_flushed(fmaf(x, c, -top));
            total += x;
        }
        factor[half] = exp2_flushed(max[half] - top);
        sum[half] = sum[half] * factor[half] + total; /* the thread's share of the row */
        max[half] = top;
    }
}

template <int D>
static __global__ void __launch_bounds__(WG_THREADS, 2)
    forward_kernel(seam_attention_forward_args a, const seam_cuda_span *spans) {
    extern __shared__ __align__(1024) uint8_t shared[];
    constexpr uint32_t tile = wg_tile_bytes(D);
    const uint32_t ks = shared_address(shared), vs = ks + 2 * tile, lane = threadIdx.x % 32;
    const uint32_t h = blockIdx.x, g = h / (a.H / a.G);
    const seam_cuda_span span = spans[blockIdx.y];
    const uint32_t count = (span.row0 - span.begin) / WG_ROWS + 1; /* key tiles */
    const __nv_bfloat16 *k = (const __nv_bfloat16 *)a.k + (size_t)g * D;
    const __nv_bfloat16 *v = (const __nv_bfloat16 *)a.v + (size_t)g * D;
    uint32_t q[D / 16][4], p[4][4];
    float o[wg_width(D) / 2] = {}, s[32], next[32], max[2] = {-INFINITY, -INFINITY}, sum[2] = {},
                          factor[2];
    /* q passes through the second tile of v into registers. */
    tile_load<D>(vs + tile, (const __nv_bfloat16 *)a.q + (size_t)h * D, a.q_ld, span.row0,
                 span.end);
    tile_load<D>(ks, k, a.k_ld, span.begin, span.end);
    copy_commit();
    tile_load<D>(vs, v, a.v_ld, span.begin, span.end);
    tile_load<D>(ks + tile, k, a.k_ld, span.begin + WG_ROWS, span.end);
    copy_commit();
    copy_wait<1>();
    __syncthreads();
    tile_to_registers<D>(q, vs + tile);
    products_begin();
    dots_begin<D>(s, q, ks);
    products_commit();
    copy_wait<0>();
    products_wait<0>(s);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t here = i % 2 * tile, there = tile - here, k0 = span.begin + i * WG_ROWS;
        __syncthreads(); /* v here and the next k have arrived, v there and k here are done with */
        if (i + 1 < count) {
            products_begin();
            dots_begin<D>(next, q, ks + there);
        }
        products_commit();
        tile_load<D>(vs + there, v, a.v_ld, k0 + WG_ROWS, i + 1 < count ? span.end : 0);
        tile_load<D>(ks + here, k, a.k_ld, k0 + 2 * WG_ROWS, i + 2 < count ? span.end : 0);
        copy_commit();
        softmax(s, max, sum, factor, a.scale * LOG2_E, i + 1 == count);
        to_operands(p, s);
#pragma unroll
        for (int j = 0; j < wg_width(D) / 2; j++) {
            o[j] *= factor[j / 2 % 2];
        }
        products_begin();
        sums_begin<D>(o, p, vs + here);
        products_commit();
        products_wait<1>(next);
#pragma unroll
        for (int j = 0; j < 32; j++) {
            s[j] = next[j];
        }
        copy_wait<0>();
        products_wait<0>(o);
    }
    __syncthreads();
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const uint32_t t = span.row0 + threadIdx.x / 32 * 16 + lane / 4 + 8 * half;
        sum[half] += __shfl_xor_sync(0xffffffffu, sum[half], 1);
        sum[half] += __shfl_xor_sync(0xffffffffu, sum[half], 2);
        if (t < span.end && lane % 4 == 0) {
            ((float *)a.lse)[(size_t)t * a.H + h] = (max[half] + log2f(sum[half])) * LN_2;
        }
        factor[half] = 1.0f / sum[half];
    }
    tile_store<D>((__nv_bfloat16 *)a.o + (size_t)h * D, (size_t)a.H * D, span.row0, span.end, o,
                  factor, shared);
}

/* ---- launchers ---- */
bool seam_cuda_attention_wgmma_fits(const seam_stream *stream,
                                    const seam_attention_forward_args *args) {
    const seam_attention_forward_args *a = args;
    return seam_cuda_major(stream) == 9 && seam_cuda_act(stream) == SEAM_BF16 &&
           (a->D == 64 || a->D == 80 || a->D == 96 || a->D == 128) && a->scale > 0.0f &&
           a->window == 0 && a->q_ld % 8 == 0 && a->k_ld % 8 == 0 && a->v_ld % 8 == 0 &&
           vector_aligned(a->q) && vector_aligned(a->k) && vector_aligned(a->v) &&
           vector_aligned(a->o);
}

template <int D>
static seam_status launch(seam_stream *stream, const seam_attention_forward_args &a) {
    const int bytes = 4 * (int)wg_tile_bytes(D);
    cudaStream_t queue = seam_cuda_queue(stream);
    seam_cuda_spans spans;
    SEAM_TRY(seam_cuda_spans_of(&spans, stream, a.seq_begin, a.S, WG_ROWS));
    SEAM_CUDA_TRY(cudaFuncSetAttribute(forward_kernel<D>,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    forward_kernel<D><<<dim3(a.H, spans.count), WG_THREADS, bytes, queue>>>(a, spans.at);
    return SEAM_CUDA_LAUNCHED();
}

seam_status seam_cuda_attention_forward_wgmma(seam_stream *stream,
                                              const seam_attention_forward_args *args) {
    switch (args->D) {
    case 64:
        return launch<64>(stream, *args);
    case 80:
        return launch<80>(stream, *args);
    case 96:
        return launch<96>(stream, *args);
    default:
        return launch<128>(stream, *args);
    }
}
