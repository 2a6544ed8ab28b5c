/* Our own product, for what cuBLASLt does not take or what is too small for it: rows that do not
 * start on 16 bytes, and LoRA's thin products in f32 or of odd ranks (cuda_thin.cu takes the
 * others), summed over parts and rounded once.
 *
 * Grid: (N / 64, M / 64), a block of 256 threads computes 64 x 64 of y, a thread 4 x 4; k in steps
 * of 16 through 8.7 KB of shared memory.  Plain f32 FMA in ascending k, so a row's bits depend on
 * nothing but the row; bound by FMA (M N K / 30 T/s).
 *
 * A product over many k with few tiles is cut into pieces of SPLIT k by the grid's z; their sums go
 * to the caller's workspace and are added in ascending order by a second kernel.  On an H100, 6,144
 * rows, C = 576, rank 16: LoRA's gradients of one pair took 1.2 ms unsplit. */
#include "cuda_device.cuh"
#include "cuda_philox.cuh"

#define TILE    64u
#define STEP    16u
#define THREADS 256u
#define PITCH   (TILE + 4u)
#define SPLIT   256u

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
                                       uint32_t m0, uint32_t n0, uint32_t k_begin, uint32_t k_end) {
    __shared__ float xs[STEP][PITCH], ws[STEP][PITCH];
    const uint32_t tm = threadIdx.x / 16 * 4, tn = threadIdx.x % 16 * 4;
    float sum[4][4] = {};
    for (uint32_t k0 = k_begin; k0 < k_end; k0 += STEP) {
        tile_load(xs, (const act *)part.x, part.x_m, part.x_k, m0, M, k0, k_end);
        tile_load(ws, (const act *)part.w, part.w_n, part.w_k, (int64_t)n0 - part.n_begin,
                  part.n_end - part.n_begin, k0, k_end);
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
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t kept = part.dropout.threshold == 0
                                  ? 0xff
                                  : dropout_kept(part.dropout, m0 + tm + i, (n0 + tn) / 8);
        for (uint32_t j = 0; j < 4; j++) {
            acc[i][j] += (kept >> (tn % 8 + j) & 1) != 0 ? part.scale * sum[i][j] : 0.0f;
        }
    }
}

template <typename act, typename out>
static __global__ void __launch_bounds__(THREADS) gemm_kernel(seam_cuda_gemm_args a, bool add) {
    const uint32_t m0 = blockIdx.y * TILE, n0 = blockIdx.x * TILE;
    float acc[4][4] = {};
    for (uint32_t p = 0; p < a.part_count; p++) {
        if (a.part[p].n_begin < n0 + TILE && a.part[p].n_end > n0) {
            part_add<act>(acc, a.part[p], a.M, m0, n0, 0, a.part[p].K);
        }
    }
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t m = m0 + threadIdx.x / 16 * 4 + i;
        for (uint32_t j = 0; j < 4; j++) {
            const uint32_t n = n0 + threadIdx.x % 16 * 4 + j;
            if (m < a.M && n < a.N) {
                out *y = (out *)a.y + (size_t)m * a.y_ld + n;
                const float bias = a.bias != NULL ? a.bias[n] : 0.0f;
                const float addend = a.addend != NULL ? a.addend[(size_t)m * a.N + n] : 0.0f;
                store_f32(y, (add ? to_f32(*y) : 0.0f) + addend + (acc[i][j] + bias));
            }
        }
    }
}

/* sums[z][m][n] = the piece z of part 0. */
template <typename act>
static __global__ void __launch_bounds__(THREADS) split_kernel(seam_cuda_gemm_args a) {
    const uint32_t m0 = blockIdx.y * TILE, n0 = blockIdx.x * TILE, k0 = blockIdx.z * SPLIT;
    const uint32_t K = a.part[0].K;
    float acc[4][4] = {};
    part_add<act>(acc, a.part[0], a.M, m0, n0, k0, k0 + SPLIT < K ? k0 + SPLIT : K);
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t m = m0 + threadIdx.x / 16 * 4 + i;
        for (uint32_t j = 0; j < 4; j++) {
            const uint32_t n = n0 + threadIdx.x % 16 * 4 + j;
            if (m < a.M && n < a.N) {
                a.split[((size_t)blockIdx.z * a.M + m) * a.N + n] = acc[i][j];
            }
        }
    }
}

template <typename out>
static __global__ void join_kernel(seam_cuda_gemm_args a, uint32_t pieces, bool add) {
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x, count = (size_t)a.M * a.N;
    if (i < count) {
        float sum = 0.0f;
        for (uint32_t z = 0; z < pieces; z++) {
            sum += a.split[z * count + i];
        }
        out *y = (out *)a.y + i / a.N * a.y_ld + i % a.N;
        store_f32(y, (add ? to_f32(*y) : 0.0f) + sum);
    }
}

/* ---- launchers ---- */
size_t seam_cuda_gemm_split_bytes(uint32_t M, uint32_t N, uint32_t K) {
    return K <= SPLIT ? 0 : (size_t)((K + SPLIT - 1) / SPLIT) * M * N * sizeof(float);
}

static seam_status split_run(seam_stream *stream, const seam_cuda_gemm_args &a, dim3 grid) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const unsigned blocks = (unsigned)(((size_t)a.M * a.N + THREADS - 1) / THREADS);
    const bool add = a.y_out == SEAM_OUT_ACC_ADD;
    grid.z = (a.part[0].K + SPLIT - 1) / SPLIT;
    SEAM_CUDA_BY_ACT(stream, (split_kernel<act><<<grid, THREADS, 0, queue>>>(a)));
    if (a.y_out == SEAM_OUT_ACT) {
        SEAM_CUDA_BY_ACT(stream, (join_kernel<act><<<blocks, THREADS, 0, queue>>>(a, grid.z, add)));
    } else {
        join_kernel<float><<<blocks, THREADS, 0, queue>>>(a, grid.z, add);
    }
    return SEAM_CUDA_LAUNCHED();
}

seam_status seam_cuda_gemm(seam_stream *stream, const seam_cuda_gemm_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const seam_cuda_gemm_args a = *args;
    const dim3 grid((a.N + TILE - 1) / TILE, (a.M + TILE - 1) / TILE);
    const bool add = a.y_out == SEAM_OUT_ACC_ADD;
    if (a.M == 0 || a.N == 0) {
        return SEAM_OK;
    }
    if (a.split != NULL && a.part[0].K > SPLIT) {
        SEAM_ASSERT(a.part_count == 1 && a.bias == NULL && a.addend == NULL);
        return split_run(stream, a, grid);
    }
    if (a.y_out == SEAM_OUT_ACT) {
        SEAM_CUDA_BY_ACT(stream, (gemm_kernel<act, act><<<grid, THREADS, 0, queue>>>(a, add)));
    } else {
        SEAM_CUDA_BY_ACT(stream, (gemm_kernel<act, float><<<grid, THREADS, 0, queue>>>(a, add)));
    }
    return SEAM_CUDA_LAUNCHED();
}
