/* The steps of attention by warpgroups, shared by forward and backward: tiles in and out, scores,
 * and sums over a tile's rows.  Device code only; see cuda_wgmma.cuh for tiles and products.
 *
 * A head of D columns (a multiple of 16) stands in whole panels of 64, wg_width(D) columns.  What
 * is behind its D columns is never loaded: scores sum over D alone, and of sums over rows only the
 * columns behind D have a share of it, which nobody stores. */
#ifndef SEAM_CUDA_ATTENTION_WGMMA_CUH
#define SEAM_CUDA_ATTENTION_WGMMA_CUH

#include "cuda_wgmma.cuh"

#define LN_2 0.69314718f

/* Columns of a tile of heads of D, and its bytes. */
static __host__ __device__ constexpr int wg_width(int D) {
    return (D + 63) / 64 * 64;
}
static __host__ __device__ constexpr uint32_t wg_tile_bytes(int D) {
    return WG_ROWS * (uint32_t)wg_width(D) * 2;
}

/* Bytes of chunk `chunk` of a row in a tile. */
static __device__ inline uint32_t chunk_at(uint32_t row, uint32_t chunk) {
    return chunk / 8 * WG_PANEL + row * 128 + (chunk % 8 ^ row % 8) * 16;
}

/* tile = rows row0.. of p (D of them each), zeros from row `end` on.  Arrives with the next commit.
 */
template <int D>
static __device__ inline void tile_load(uint32_t tile, const __nv_bfloat16 *p, size_t ld,
                                        uint32_t row0, uint32_t end) {
    constexpr uint32_t chunks = wg_width(D) / 8, step = WG_THREADS / chunks; /* of 8 rows each */
    const uint32_t chunk = threadIdx.x % chunks, first = threadIdx.x / chunks;
    const __nv_bfloat16 *row = p + (size_t)(row0 + first) * ld + chunk * 8;
    const uint32_t to = tile + chunk_at(first, chunk);
    if (chunk >= D / 8) {
        return;
    }
#pragma unroll
    for (uint32_t i = 0; i < WG_ROWS / step; i++, row += step * ld) {
        copy_async<16>(to + i * step * 128, row, row0 + first + i * step < end);
    }
}

/* The warpgroup's rows of a tile as the a operands of D / 16 products. */
template <int D>
static __device__ inline void tile_to_registers(uint32_t (&a)[D / 16][4], uint32_t tile) {
    const uint32_t lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane % 16;
#pragma unroll
    for (int step = 0; step < D / 16; step++) {
        load_rows(a[step], tile + chunk_at(row, (uint32_t)step * 2 + lane / 16));
    }
}

/* Queues s (64, 64) = x y^T of two tiles (64, D), the first in registers or shared memory. */
template <int D>
static __device__ inline void dots_begin(float (&s)[32], const uint32_t (&x)[D / 16][4],
                                         uint32_t y) {
#pragma unroll
    for (int step = 0; step < D / 16; step++) {
        product<false>(s, x[step], columns_of(y, step), step > 0);
    }
}
template <int D> static __device__ inline void dots_begin(float (&s)[32], uint32_t x, uint32_t y) {
#pragma unroll
    for (int step = 0; step < D / 16; step++) {
        product(s, columns_of(x, step), columns_of(y, step), step > 0);
    }
}

/* Queues acc (64, D) += p (64, 64) y of a tile (64, D). */
template <int D>
static __device__ inline void sums_begin(float (&acc)[wg_width(D) / 2], const uint32_t (&p)[4][4],
                                         uint32_t y) {
#pragma unroll
    for (int step = 0; step < 4; step++) {
        product<true>(acc, p[step], rows_of(y, step), true);
    }
}

/* A result (64, 64), rounded, as the a operands of four products. */
static __device__ inline void to_operands(uint32_t (&p)[4][4], const float (&s)[32]) {
#pragma unroll
    for (int i = 0; i < 16; i++) {
        p[i / 4][i % 4] = pack(s[2 * i], s[2 * i + 1]);
    }
}

/* acc's rows row0.. rotated by the negative angles of their positions, as rope does. */
template <int D>
static __device__ inline void rotate_back(float (&acc)[wg_width(D) / 2], const float *cos_sin,
                                          const uint32_t *positions, uint32_t row0, uint32_t end) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (uint32_t half = 0; half < 2; half++) {
        const uint32_t row = row0 + warp * 16 + lane / 4 + 8 * half;
        const float *angles = cos_sin + (size_t)(row < end ? positions[row] : 0) * D + lane % 4 * 2;
#pragma unroll
        for (uint32_t n = 0; n < D / 16; n++) {
            const float2 c = *(const float2 *)(angles + n * 8);
            const float2 s = *(const float2 *)(angles + D / 2 + n * 8);
            float *lo = acc + 4 * n + 2 * half, *hi = lo + D / 4;
            const float lo0 = lo[0], lo1 = lo[1];
            lo[0] = lo0 * c.x + hi[0] * s.x, lo[1] = lo1 * c.y + hi[1] * s.y;
            hi[0] = hi[0] * c.x - lo0 * s.x, hi[1] = hi[1] * c.y - lo1 * s.y;
        }
    }
}

/* Rows row0.. of p = acc (64, D) * scale, through a tile of shared memory that nobody reads any
 * more; rows from `end` on are left out. */
template <int D>
static __device__ inline void tile_store(__nv_bfloat16 *p, size_t ld, uint32_t row0, uint32_t end,
                                         const float (&acc)[wg_width(D) / 2],
                                         const float (&scale)[2], uint8_t *tile) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (uint32_t half = 0; half < 2; half++) {
        const uint32_t row = warp * 16 + lane / 4 + 8 * half;
#pragma unroll
        for (uint32_t n = 0; n < D / 8; n++) {
            const float *at = acc + 4 * n + 2 * half;
            *(uint32_t *)(tile + chunk_at(row, n) + lane % 4 * 4) =
                pack(at[0] * scale[half], at[1] * scale[half]);
        }
    }
    __syncwarp(); /* a warp reads back its own 16 rows */
    constexpr uint32_t chunks = wg_width(D) / 8;
#pragma unroll
    for (uint32_t i = lane / chunks; i < 16; i += 32 / chunks) {
        const uint32_t row = warp * 16 + i;
        if (row0 + row < end && lane % chunks < D / 8) {
            *(uint4 *)(p + (size_t)(row0 + row) * ld + lane % chunks * 8) =
                *(const uint4 *)(tile + chunk_at(row, lane % chunks));
        }
    }
}

#endif
