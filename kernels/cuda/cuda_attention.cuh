/* What the attention kernels in plain FMA share: tiles of 32 rows in shared memory, and products of
 * them by a block of 16 x 16 threads.
 *
 * A thread (ty, tx) owns rows 2 ty, 2 ty + 1 of a tile and, of a product with a (32, D) tile,
 * columns tx, tx + 16, ...  All in f32, sums in ascending order.  Device code only. */
#ifndef SEAM_CUDA_ATTENTION_CUH
#define SEAM_CUDA_ATTENTION_CUH

#include <float.h>

#include "cuda_device.cuh"

#define ATT_ROWS    32u
#define ATT_THREADS 256u
#define ATT_COLS    16u /* columns of D a thread, at most: D <= 256 */
#define ATT_D_MAX   (16u * ATT_COLS)
/* A running maximum starts at the least finite number: a tile that a row sees nothing of, before
 * its window, leaves sums as they were (of infinities the difference would be NaN). */
#define ATT_MAX_START (-FLT_MAX)

static __device__ inline bool att_seen(uint32_t key, uint32_t row, uint32_t window) {
    return key <= row && (window == 0 || row - key < window);
}
/* Where the tiles of keys begin that a tile of query rows sees, in whole tiles from the sequence's
 * first row; and the end of the query rows that see a tile of `rows` keys. */
static __device__ inline uint32_t att_first_tile(const seam_cuda_span &span, uint32_t window,
                                                 uint32_t tile) {
    return span.begin + (window_begin(window, span.begin, span.row0) - span.begin) / tile * tile;
}
static __device__ inline uint32_t att_last_row(const seam_cuda_span &span, uint32_t window,
                                               uint32_t rows) {
    const uint32_t last = span.end - span.row0; /* no overflow: counted from row0 */
    return window != 0 && window < last && rows - 1 + window < last ? span.row0 + rows - 1 + window
                                                                    : span.end;
}

/* tile[i][d] = p[(row0 + i) * ld + d], zero from row `end` on.  A row is D + 1 floats apart. */
template <typename act>
static __device__ inline void att_load(float *tile, const act *p, size_t ld, uint32_t row0,
                                       uint32_t end, uint32_t D) {
    for (uint32_t n = threadIdx.x; n < ATT_ROWS * D; n += ATT_THREADS) {
        const uint32_t i = n / D, d = n % D;
        tile[i * (D + 1) + d] = row0 + i < end ? to_f32(p[(size_t)(row0 + i) * ld + d]) : 0.0f;
    }
}

/* s[i][j] = sum_d x[2 ty + i][d] y[tx + 16 j][d] */
static __device__ inline void att_dot(float (&s)[2][2], const float *x, const float *y,
                                      uint32_t D) {
    const uint32_t ty = threadIdx.x / 16, tx = threadIdx.x % 16, pitch = D + 1;
    const float *x0 = x + 2 * ty * pitch, *x1 = x0 + pitch;
    const float *y0 = y + tx * pitch, *y1 = y0 + 16 * pitch;
    s[0][0] = s[0][1] = s[1][0] = s[1][1] = 0.0f;
    for (uint32_t d = 0; d < D; d++) {
        s[0][0] += x0[d] * y0[d];
        s[0][1] += x0[d] * y1[d];
        s[1][0] += x1[d] * y0[d];
        s[1][1] += x1[d] * y1[d];
    }
}

typedef float att_square[ATT_ROWS][ATT_ROWS + 1];

/* acc[i][c] += sum_j p[2 ty + i][j] x[j][tx + 16 c] */
static __device__ inline void att_mul(float (&acc)[2][ATT_COLS], const att_square p, const float *x,
                                      uint32_t D) {
    const uint32_t ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    for (uint32_t j = 0; j < ATT_ROWS; j++) {
        const float p0 = p[2 * ty][j], p1 = p[2 * ty + 1][j];
        const float *row = x + j * (D + 1) + tx;
#pragma unroll
        for (uint32_t c = 0; c < ATT_COLS; c++) {
            if (tx + 16 * c < D) {
                acc[0][c] += p0 * row[16 * c];
                acc[1][c] += p1 * row[16 * c];
            }
        }
    }
}

/* p[(row0 + 2 ty + i) * ld + tx + 16 c] = acc[i][c] * scale[i] for rows before `end` */
template <typename act>
static __device__ inline void att_store(act *p, size_t ld, uint32_t row0, uint32_t end, uint32_t D,
                                        const float (&acc)[2][ATT_COLS], const float (&scale)[2]) {
    const uint32_t ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    for (uint32_t i = 0; i < 2; i++) {
        const uint32_t row = row0 + 2 * ty + i;
#pragma unroll
        for (uint32_t c = 0; c < ATT_COLS; c++) {
            if (row < end && tx + 16 * c < D) {
                store_f32(p + (size_t)row * ld + tx + 16 * c, acc[i][c] * scale[i]);
            }
        }
    }
}

#endif
