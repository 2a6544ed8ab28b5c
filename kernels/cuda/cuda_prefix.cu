/* Attention to a shared prefix, forward and backward; the formulas stand in ops.h.
 *
 * Rows: eight warps a block, a warp a row and head, its lanes columns d, d + 32, ...; grid (T H /
 * 8). Bytes: q, o (d_o) once; the prefix from L2.  Backward leaves p and ds (T, H, P) in the
 * scratch for a second kernel, a block a key and kv head, whose warps take every eighth row and are
 * added in order: no atomics.  That one reads q and d_o once a key, from L2, which bounds it. */
#include "cuda_device.cuh"

#define WARPS     8u
#define LANE_COLS 8u /* columns of D a lane, at most: D <= 256 */
#define D_MAX     (32u * LANE_COLS)

/* ---- kernels ---- */
template <typename T>
static __device__ inline void row_load(float (&x)[LANE_COLS], const T *p, uint32_t D) {
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (uint32_t c = 0; c < LANE_COLS; c++) {
        x[c] = lane + 32 * c < D ? to_f32(p[lane + 32 * c]) : 0.0f;
    }
}

static __device__ inline float row_dot(const float (&x)[LANE_COLS], const float *y, uint32_t D) {
    const uint32_t lane = threadIdx.x % 32;
    float sum = 0.0f;
#pragma unroll
    for (uint32_t c = 0; c < LANE_COLS; c++) {
        sum += lane + 32 * c < D ? x[c] * y[lane + 32 * c] : 0.0f;
    }
    return warp_sum(sum);
}

template <typename act>
static __global__ void __launch_bounds__(32 * WARPS) forward_kernel(seam_prefix_forward_args a) {
    __shared__ float scores[WARPS][SEAM_PREFIX_MAX];
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, D = a.D;
    const size_t row = (size_t)blockIdx.x * WARPS + warp;
    if (row >= (size_t)a.T * a.H) {
        return;
    }
    const uint32_t h = row % a.H, g = h / (a.H / a.G);
    const float *k = (const float *)a.k + (size_t)g * D, *v = (const float *)a.v + (size_t)g * D;
    float *score = scores[warp], q[LANE_COLS], o[LANE_COLS];
    const float lse = ((const float *)a.lse)[row];
    float max = lse;
    row_load(q, (const act *)a.q + row / a.H * a.q_ld + (size_t)h * D, D);
    for (uint32_t j = 0; j < a.P; j++) {
        const float s = a.scale * row_dot(q, k + (size_t)j * a.kv_ld, D);
        max = fmaxf(max, s);
        if (lane == 0) {
            score[j] = s;
        }
    }
    __syncwarp();
    const float own = expf(lse - max);
    float sum = own, share[LANE_COLS] = {};
    for (uint32_t j = 0; j < a.P; j++) {
        const float p = expf(score[j] - max);
        sum += p;
#pragma unroll
        for (uint32_t c = 0; c < LANE_COLS; c++) {
            share[c] += lane + 32 * c < D ? p * v[(size_t)j * a.kv_ld + lane + 32 * c] : 0.0f;
        }
    }
    act *to = (act *)a.o + row * D;
    row_load(o, to, D);
#pragma unroll
    for (uint32_t c = 0; c < LANE_COLS; c++) {
        if (lane + 32 * c < D) {
            store_f32(to + lane + 32 * c, (o[c] * own + share[c]) / sum);
        }
    }
    if (lane == 0) {
        ((float *)a.lse)[row] = max + logf(sum);
    }
}

/* p and ds of a row and head, and its dq. */
template <typename act>
static __global__ void __launch_bounds__(32 * WARPS)
    rows_kernel(seam_prefix_backward_args a, const uint32_t *positions, float *ps, float *dss) {
    __shared__ float turned[WARPS][D_MAX];
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, D = a.D, half = D / 2;
    const size_t row = (size_t)blockIdx.x * WARPS + warp;
    if (row >= (size_t)a.T * a.H) {
        return;
    }
    const size_t t = row / a.H;
    const uint32_t h = row % a.H, g = h / (a.H / a.G);
    const float *k = (const float *)a.k + (size_t)g * D, *v = (const float *)a.v + (size_t)g * D;
    const float lse = ((const float *)a.lse)[row];
    float q[LANE_COLS], d_o[LANE_COLS], o[LANE_COLS], dq[LANE_COLS] = {}, delta = 0.0f;
    row_load(q, (const act *)a.q + t * a.q_ld + (size_t)h * D, D);
    row_load(d_o, (const act *)a.d_o + row * D, D);
    row_load(o, (const act *)a.o + row * D, D);
#pragma unroll
    for (uint32_t c = 0; c < LANE_COLS; c++) {
        delta += o[c] * d_o[c];
    }
    delta = warp_sum(delta);
    for (uint32_t j = 0; j < a.P; j++) {
        const float *key = k + (size_t)j * a.kv_ld;
        const float p = expf(a.scale * row_dot(q, key, D) - lse);
        const float ds = a.scale * p * (row_dot(d_o, v + (size_t)j * a.kv_ld, D) - delta);
#pragma unroll
        for (uint32_t c = 0; c < LANE_COLS; c++) {
            dq[c] += lane + 32 * c < D ? ds * key[lane + 32 * c] : 0.0f;
        }
        if (lane == 0) {
            ps[row * a.P + j] = p;
            dss[row * a.P + j] = ds;
        }
    }
#pragma unroll
    for (uint32_t c = 0; c < LANE_COLS; c++) {
        turned[warp][lane + 32 * c] = dq[c];
    }
    __syncwarp();
    act *to = (act *)a.dq + t * a.dq_ld + (size_t)h * D;
    for (uint32_t d = lane; d < D; d += 32) {
        float x = turned[warp][d];
        if (a.cos_sin != NULL) { /* by the negative angle, as cuda_rope.cu */
            const float *cos_row = (const float *)a.cos_sin + (size_t)positions[t] * D;
            const uint32_t i = d < half ? d : d - half;
            const float other = turned[warp][d < half ? d + half : i];
            const float sine = d < half ? cos_row[half + i] : -cos_row[half + i];
            x = x * cos_row[i] + other * sine;
        }
        store_f32(to + d, to_f32(to[d]) + x);
    }
}

/* Grid (P, G). */
template <typename act>
static __global__ void __launch_bounds__(32 * WARPS)
    keys_kernel(seam_prefix_backward_args a, const float *ps, const float *dss) {
    __shared__ float sums[2][WARPS][D_MAX];
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, D = a.D, heads = a.H / a.G;
    const uint32_t j = blockIdx.x, g = blockIdx.y;
    float dk[LANE_COLS] = {}, dv[LANE_COLS] = {}, q[LANE_COLS], d_o[LANE_COLS];
    for (size_t t = warp; t < a.T; t += WARPS) {
        for (uint32_t h = g * heads; h < (g + 1) * heads; h++) {
            const size_t row = t * a.H + h;
            const float p = ps[row * a.P + j], ds = dss[row * a.P + j];
            row_load(q, (const act *)a.q + t * a.q_ld + (size_t)h * D, D);
            row_load(d_o, (const act *)a.d_o + row * D, D);
#pragma unroll
            for (uint32_t c = 0; c < LANE_COLS; c++) {
                dk[c] += ds * q[c];
                dv[c] += p * d_o[c];
            }
        }
    }
#pragma unroll
    for (uint32_t c = 0; c < LANE_COLS; c++) {
        sums[0][warp][lane + 32 * c] = dk[c];
        sums[1][warp][lane + 32 * c] = dv[c];
    }
    __syncthreads();
    for (uint32_t d = threadIdx.x; d < D; d += 32 * WARPS) {
        const size_t at = (size_t)j * a.kv_ld + (size_t)g * D + d;
        float of_k = 0.0f, of_v = 0.0f;
        for (uint32_t w = 0; w < WARPS; w++) {
            of_k += sums[0][w][d];
            of_v += sums[1][w][d];
        }
        ((float *)a.dk)[at] += of_k;
        ((float *)a.dv)[at] += of_v;
    }
}

/* ---- launchers ---- */
static unsigned row_blocks(uint32_t T, uint32_t H) {
    return (unsigned)(((size_t)T * H + WARPS - 1) / WARPS);
}

seam_status seam_cuda_prefix_forward(seam_stream *stream, const seam_prefix_forward_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const seam_prefix_forward_args a = *args;
    SEAM_ASSERT(a.G > 0 && a.H % a.G == 0 && a.D <= D_MAX);
    SEAM_ASSERT(a.P > 0 && a.P <= SEAM_PREFIX_MAX);
    if (a.T == 0) {
        return SEAM_OK;
    }
    SEAM_CUDA_BY_ACT(stream,
                     (forward_kernel<act><<<row_blocks(a.T, a.H), 32 * WARPS, 0, queue>>>(a)));
    return SEAM_CUDA_LAUNCHED();
}

seam_status seam_cuda_prefix_backward(seam_stream *stream, const seam_prefix_backward_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const seam_prefix_backward_args a = *args;
    const size_t count = (size_t)a.T * a.H * a.P;
    const uint32_t *positions = NULL;
    void *scratch = NULL;
    SEAM_ASSERT(a.G > 0 && a.H % a.G == 0 && a.D <= D_MAX && a.D % 2 == 0);
    SEAM_ASSERT(a.P > 0 && a.P <= SEAM_PREFIX_MAX);
    if (a.T == 0) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_cuda_scratch(&scratch, stream, 2 * count * sizeof(float)));
    float *ps = (float *)scratch, *dss = ps + count;
    if (a.cos_sin != NULL) {
        SEAM_TRY(seam_cuda_array(&positions, stream, SEAM_CUDA_POSITIONS, a.positions, a.T));
    }
    SEAM_CUDA_BY_ACT(stream, (rows_kernel<act><<<row_blocks(a.T, a.H), 32 * WARPS, 0, queue>>>(
                                 a, positions, ps, dss)));
    SEAM_TRY(SEAM_CUDA_LAUNCHED());
    SEAM_CUDA_BY_ACT(stream,
                     (keys_kernel<act><<<dim3(a.P, a.G), 32 * WARPS, 0, queue>>>(a, ps, dss)));
    return SEAM_CUDA_LAUNCHED();
}
