/* Attention of new rows against a cache (generation).  Grid: (H, T), four warps a block; a warp
 * takes every fourth cache position with its own running softmax, the four are joined in order at
 * the end. Bytes: the row's keys and values once a query head; bound by memory. */
#include "cuda_device.cuh"

#define WARPS     4u
#define LANE_COLS 8u /* columns of D a lane, at most: D <= 256 */

/* ---- kernels ---- */
template <typename act>
static __global__ void cached_kernel(seam_attention_cached_args a, const uint32_t *slots,
                                     const uint32_t *positions) {
    __shared__ float acc_of[WARPS][32 * LANE_COLS], max_of[WARPS], sum_of[WARPS];
    const uint32_t D = a.D, h = blockIdx.x, t = blockIdx.y;
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const size_t ld = (size_t)a.G * D;
    const size_t head = slots[t] * ld * a.positions_max + (size_t)(h / (a.H / a.G)) * D;
    const act *q = (const act *)a.q + (size_t)t * a.q_ld + (size_t)h * D;
    const act *k = (const act *)a.k_cache + head, *v = (const act *)a.v_cache + head;
    float qs[LANE_COLS], acc[LANE_COLS] = {}, max = -INFINITY, sum = 0.0f;
#pragma unroll
    for (uint32_t c = 0; c < LANE_COLS; c++) {
        qs[c] = lane + 32 * c < D ? to_f32(q[lane + 32 * c]) : 0.0f;
    }
    for (uint32_t j = window_begin(a.window, 0, positions[t]) + warp; j <= positions[t];
         j += WARPS) {
        float dot = 0.0f;
#pragma unroll
        for (uint32_t c = 0; c < LANE_COLS; c++) {
            dot += lane + 32 * c < D ? qs[c] * to_f32(k[j * ld + lane + 32 * c]) : 0.0f;
        }
        const float s = a.scale * warp_sum(dot), now = fmaxf(max, s);
        const float factor = expf(max - now), p = expf(s - now);
        max = now;
        sum = sum * factor + p;
#pragma unroll
        for (uint32_t c = 0; c < LANE_COLS; c++) {
            const float x = lane + 32 * c < D ? to_f32(v[j * ld + lane + 32 * c]) : 0.0f;
            acc[c] = acc[c] * factor + p * x;
        }
    }
#pragma unroll
    for (uint32_t c = 0; c < LANE_COLS; c++) {
        acc_of[warp][lane + 32 * c] = acc[c];
    }
    max_of[warp] = max;
    sum_of[warp] = sum;
    __syncthreads();
    float top = max_of[0], total = 0.0f; /* warp 0 has the first position */
    for (uint32_t w = 1; w < WARPS; w++) {
        top = fmaxf(top, max_of[w]);
    }
    for (uint32_t w = 0; w < WARPS; w++) {
        total += sum_of[w] * expf(max_of[w] - top);
    }
    for (uint32_t d = threadIdx.x; d < D; d += 32 * WARPS) {
        float o = 0.0f;
        for (uint32_t w = 0; w < WARPS; w++) {
            o += acc_of[w][d] * expf(max_of[w] - top);
        }
        store_f32((act *)a.o + ((size_t)t * a.H + h) * D + d, o / total);
    }
}

/* ---- launchers ---- */
seam_status seam_cuda_attention_cached(seam_stream *stream,
                                       const seam_attention_cached_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const seam_attention_cached_args a = *args;
    const uint32_t *slots = NULL, *positions = NULL;
    SEAM_ASSERT(a.G > 0 && a.H % a.G == 0);
    SEAM_ASSERT(a.D <= 32 * LANE_COLS);
    if (a.T == 0) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_cuda_array(&slots, stream, SEAM_CUDA_SLOTS, a.slots, a.T));
    SEAM_TRY(seam_cuda_array(&positions, stream, SEAM_CUDA_SLOT_POSITIONS, a.positions, a.T));
    SEAM_CUDA_BY_ACT(stream, (cached_kernel<act>
                              <<<dim3(a.H, a.T), 32 * WARPS, 0, queue>>>(a, slots, positions)));
    return SEAM_CUDA_LAUNCHED();
}
