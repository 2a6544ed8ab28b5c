/* What LoRA's pairs add to a wide product (bf16), rounded once:
 *
 *   y (M, N) = addend + bias + sum over pairs of scale u b^T    u (M, R), b (N, R) act
 *
 * mma.m16n8k16 with f32 sums in a fixed order.  A block takes 64 rows and 64 columns; bound by
 * reading what is added to and writing y: 6 bytes an element where that is a room of cuda_linear.cu
 * and y is act, 8 where y is acc.  cuda_gemm.cu serves what has no whole vectors. */
#include <cuda_pipeline.h>

#include "cuda_mma.cuh"
#include "cuda_philox.cuh"

#define SHARE_ROWS    64u
#define SHARE_COLS    64u
#define SHARE_K       64u
#define SHARE_THREADS 256u

typedef __nv_bfloat16 bf16;

/* ---- kernels ---- */
/* Where a block of shares is: SHARE_K of a part's k from `k` on. */
typedef struct share_place {
    uint32_t part, k;
} share_place;

/* The first part from `part` on that has columns of [n0, n0 + SHARE_COLS). */
static __device__ inline share_place share_seek(const seam_cuda_gemm_args &a, uint32_t part,
                                                uint32_t n0) {
    while (part < a.part_count &&
           (a.part[part].n_begin >= n0 + SHARE_COLS || a.part[part].n_end <= n0)) {
        part++;
    }
    return {part, 0};
}

static __device__ inline share_place share_next(const seam_cuda_gemm_args &a, share_place at,
                                                uint32_t n0) {
    at.k += SHARE_K;
    return at.k < a.part[at.part].K ? at : share_seek(a, at.part + 1, n0);
}

/* Rows of x and of w for a block, zero outside; rows of w in the order of a warp's column tiles: of
 * its 32 columns tile t has 2 t, 2 t + 1, 2 t + 8, 2 t + 9, ..., so that a thread gets eight
 * neighbours. */
typedef bf16 share_tile[SHARE_ROWS][SHARE_K + MMA_PAD];
static __device__ inline void share_load(share_tile &xs, share_tile &ws,
                                         const seam_cuda_gemm_args &a, share_place at, uint32_t m0,
                                         uint32_t n0) {
    static_assert(SHARE_ROWS == SHARE_COLS, "one loop for both");
    if (at.part < a.part_count) {
        const seam_cuda_part &part = a.part[at.part];
#pragma unroll
        for (uint32_t v = threadIdx.x; v < SHARE_ROWS * SHARE_K / VECTOR; v += SHARE_THREADS) {
            const uint32_t i = v / (SHARE_K / VECTOR), c = v % (SHARE_K / VECTOR) * VECTOR;
            const uint32_t k = at.k + c, m = m0 + i, n = n0 + i;
            const bool x_there = m < a.M && k < part.K;
            const bool w_there = n >= part.n_begin && n < part.n_end && k < part.K;
            const bf16 *x = (const bf16 *)part.x + (x_there ? (size_t)m * part.x_m + k : 0);
            const bf16 *w =
                (const bf16 *)part.w + (w_there ? (size_t)(n - part.n_begin) * part.w_n + k : 0);
            const uint32_t row = i / 32 * 32 + i % 8 / 2 * 8 + i % 32 / 8 * 2 + i % 2;
            __pipeline_memcpy_async(&xs[i][c], x, 16, x_there ? 0 : 16);
            __pipeline_memcpy_async(&ws[row][c], w, 16, w_there ? 0 : 16);
        }
    }
    __pipeline_commit();
}

/* c (16 rows, 32 columns) of a warp += x w^T over `count` k. */
static __device__ inline void share_dots(float (&c)[4][4], const share_tile &xs,
                                         const share_tile &ws, uint32_t count) {
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const bf16 *x = &xs[warp / 2 * 16 + lane % 16][lane / 16 * 8];
    const bf16 *w = &ws[warp % 2 * 32 + lane / 16 * 8 + lane % 8][lane / 8 % 2 * 8];
    for (uint32_t k = 0; k < count; k += 16) {
        uint32_t rows[4], cols[4];
        load_matrices(rows, x + k);
#pragma unroll
        for (uint32_t t = 0; t < 4; t += 2) {
            load_matrices(cols, w + t * 8 * (SHARE_K + MMA_PAD) + k);
            mma(c[t], rows, cols[0], cols[1]);
            mma(c[t + 1], rows, cols[2], cols[3]);
        }
    }
}

/* total += scale c of a part where dropout keeps it; c = 0. */
static __device__ inline void share_join(float (&total)[4][4], float (&c)[4][4],
                                         const seam_cuda_part &part, uint32_t row, uint32_t n) {
#pragma unroll
    for (uint32_t r = 0; r < 2; r++) {
        const uint32_t kept =
            part.dropout.threshold == 0 ? 0xff : dropout_kept(part.dropout, row + r * 8, n / 8);
#pragma unroll
        for (uint32_t j = 0; j < VECTOR; j++) {
            float *value = &c[j / 2][r * 2 + j % 2];
            total[j / 2][r * 2 + j % 2] += (kept >> j & 1) != 0 ? part.scale * *value : 0.0f;
            *value = 0.0f;
        }
    }
}

/* Grid (N / 64, M / 64), 256 threads: a warp takes 16 rows and 32 columns, a thread eight
 * neighbours of two rows.  All that a block reads is on its way at once: what is added to, and both
 * operands of the first SHARE_K. */
template <typename out>
static __global__ void __launch_bounds__(SHARE_THREADS, 4)
    share_kernel(const seam_cuda_gemm_args a, bool add) {
    __shared__ alignas(16) share_tile xs[2], ws[2];
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint32_t m0 = blockIdx.y * SHARE_ROWS, n0 = blockIdx.x * SHARE_COLS;
    const uint32_t row = m0 + warp / 2 * 16 + lane / 4, n = n0 + warp % 2 * 32 + lane % 4 * 8;
    float total[4][4] = {}, c[4][4] = {}, values[VECTOR];
    share_place at = share_seek(a, 0, n0);
    share_load(xs[0], ws[0], a, at, m0, n0);
#pragma unroll
    for (uint32_t r = 0; r < 2; r++) {
        const uint32_t m = row + r * 8;
        const bool there = m < a.M && n < a.N;
        if (there && (a.addend != NULL || add)) {
            if (a.addend != NULL) {
                load(values, a.addend + (size_t)m * a.N + n);
            } else {
                load(values, (const out *)a.y + (size_t)m * a.y_ld + n);
            }
#pragma unroll
            for (uint32_t j = 0; j < VECTOR; j++) {
                total[j / 2][r * 2 + j % 2] = values[j];
            }
        }
        if (there && a.bias != NULL) {
            load(values, a.bias + n);
#pragma unroll
            for (uint32_t j = 0; j < VECTOR; j++) {
                total[j / 2][r * 2 + j % 2] += values[j];
            }
        }
    }
    for (uint32_t stage = 0; at.part < a.part_count; stage ^= 1) {
        const seam_cuda_part &part = a.part[at.part];
        const share_place then = share_next(a, at, n0);
        share_load(xs[stage ^ 1], ws[stage ^ 1], a, then, m0, n0);
        __pipeline_wait_prior(1);
        __syncthreads();
        share_dots(c, xs[stage], ws[stage], min(SHARE_K, part.K - at.k));
        if (then.part != at.part) {
            share_join(total, c, part, row, n);
        }
        __syncthreads(); /* the stage has been read */
        at = then;
    }
#pragma unroll
    for (uint32_t r = 0; r < 2; r++) {
        const uint32_t m = row + r * 8;
        if (m < a.M && n < a.N) {
#pragma unroll
            for (uint32_t j = 0; j < VECTOR; j++) {
                values[j] = total[j / 2][r * 2 + j % 2];
            }
            store((out *)a.y + (size_t)m * a.y_ld + n, values);
        }
    }
}

/* ---- launchers ---- */
seam_status seam_cuda_shares(seam_stream *stream, const seam_cuda_gemm_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const dim3 grid((args->N + SHARE_COLS - 1) / SHARE_COLS,
                    (args->M + SHARE_ROWS - 1) / SHARE_ROWS);
    const bool add = args->y_out == SEAM_OUT_ACC_ADD;
    if (args->y_out == SEAM_OUT_ACT) {
        share_kernel<bf16><<<grid, SHARE_THREADS, 0, queue>>>(*args, add);
    } else {
        share_kernel<float><<<grid, SHARE_THREADS, 0, queue>>>(*args, add);
    }
    return SEAM_CUDA_LAUNCHED();
}
