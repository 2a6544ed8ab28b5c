/* Our own product, for what cuBLASLt does not take or what is too small for it: rows that do not
 * start on 16 bytes, and LoRA's thin products, summed over parts and rounded once.
 *
 * Grid: (N / 64, M / 64), a block of 256 threads computes 64 x 64 of y, a thread 4 x 4; k in steps
 * of 16 through 8.7 KB of shared memory.  Plain f32 FMA in ascending k, so a row's bits depend on
 * nothing but the row; bound by FMA (M N K / 30 T/s). */
#include "cuda_device.cuh"

#define TILE    64u
#define STEP    16u
#define THREADS 256u
#define PITCH   (TILE + 4u)

/* ---- kernels ---- */
/* tile[k][i] = p(row0 + i, k0 + k), zero outside; threads walk the dense direction. */
template <typename act>
static __device__ inline void tile_load(float (*tile)[PITCH], const act *p, size_t stride_row,
                                        size_t stride_k, int64_t row0, uint32_t rows, uint32_t k0,
                                        uint32_t K) {
    for (uint32_t n = threadIdx.x; n < TILE * STEP; n += THREADS) {
        const uint32_t i = stride_k == 1 ? n / STEP : n % TILE;
        const uint32_t k = stride_k == 1 ? n % STEP : n / TILE;
        const int64_t row = row0 + i;
        const bool inside = row >= 0 && row < (int64_t)rows && k0 + k < K;
        tile[k][i] = inside ? to_f32(p[(size_t)row * stride_row + (k0 + k) * stride_k]) : 0.0f;
    }
}

template <typename act>
static __device__ inline void part_add(float (&acc)[4][4], const seam_cuda_part &part, uint32_t M,
                                       uint32_t m0, uint32_t n0) {
    __shared__ float xs[STEP][PITCH], ws[STEP][PITCH];
    const uint32_t tm = threadIdx.x / 16 * 4, tn = threadIdx.x % 16 * 4;
    float sum[4][4] = {};
    for (uint32_t k0 = 0; k0 < part.K; k0 += STEP) {
        tile_load(xs, (const act *)part.x, part.x_m, part.x_k, m0, M, k0, part.K);
        tile_load(ws, (const act *)part.w, part.w_n, part.w_k, (int64_t)n0 - part.n_begin,
                  part.n_end - part.n_begin, k0, part.K);
        __syncthreads();
        for (uint32_t k = 0; k < STEP; k++) {
            const float4 x = *(const float4 *)&xs[k][tm], w = *(const float4 *)&ws[k][tn];
            const float xv[4] = {x.x, x.y, x.z, x.w}, wv[4] = {w.x, w.y, w.z, w.w};
            for (int i = 0; i < 4; i++) {
                for (int j = 0; j < 4; j++) {
                    sum[i][j] += xv[i] * wv[j];
                }
            }
        }
        __syncthreads();
    }
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 4; j++) {
            acc[i][j] += part.scale * sum[i][j];
        }
    }
}

template <typename act, typename out>
static __global__ void __launch_bounds__(THREADS) gemm_kernel(seam_cuda_gemm_args a, bool add) {
    const uint32_t m0 = blockIdx.y * TILE, n0 = blockIdx.x * TILE;
    float acc[4][4] = {};
    for (uint32_t p = 0; p < a.part_count; p++) {
        if (a.part[p].n_begin < n0 + TILE && a.part[p].n_end > n0) {
            part_add<act>(acc, a.part[p], a.M, m0, n0);
        }
    }
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t m = m0 + threadIdx.x / 16 * 4 + i;
        for (uint32_t j = 0; j < 4; j++) {
            const uint32_t n = n0 + threadIdx.x % 16 * 4 + j;
            if (m < a.M && n < a.N) {
                out *y = (out *)a.y + (size_t)m * a.y_ld + n;
                const float bias = a.bias != NULL ? a.bias[n] : 0.0f;
                store_f32(y, (add ? to_f32(*y) : 0.0f) + (acc[i][j] + bias));
            }
        }
    }
}

/* ---- launchers ---- */
seam_status seam_cuda_gemm(seam_stream *stream, const seam_cuda_gemm_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const seam_cuda_gemm_args a = *args;
    const dim3 grid((a.N + TILE - 1) / TILE, (a.M + TILE - 1) / TILE);
    const bool add = a.y_out == SEAM_OUT_ACC_ADD;
    if (a.M == 0 || a.N == 0) {
        return SEAM_OK;
    }
    if (a.y_out == SEAM_OUT_ACT) {
        SEAM_CUDA_BY_ACT(stream, (gemm_kernel<act, act><<<grid, THREADS, 0, queue>>>(a, add)));
    } else {
        SEAM_CUDA_BY_ACT(stream, (gemm_kernel<act, float><<<grid, THREADS, 0, queue>>>(a, add)));
    }
    return SEAM_CUDA_LAUNCHED();
}
