/* LoRA's thin products on tensor cores (bf16): mma.m16n8k16 with f32 sums in a fixed order, for
 * widths and ranks of whole vectors; cuda_gemm.cu serves the rest.  All pairs of a stacked linear
 * share a launch, and pairs of one input share its reading.  At 6,144 rows of 4,096 features and
 * rank 16 each is bound by reading the wide operand once: 50 MB, 17 us of an H100.
 *
 *   dots: y (T, R) = x (T, K) w (R, K)^T, for u = x A^T and v = dy B.  A block takes 32 rows,
 *     its 8 warps k in turns, 32 at a time; their sums are added in the warps' order.  Above 32
 *     columns w's reading counts as well: 64 rows a block, both operands through shared memory.
 *   sums: y (K, R) += scale x (T, K)^T w (T, R), for da and db.  A block takes 64 features (128
 *     above 32 columns) and PIECE rows through shared memory; a second kernel adds the pieces.
 *   turns: y (C, R) = x (R, C), what the others read along k.
 *
 * A sum's terms may stand in any order, so that a thread of the narrow dots takes eight neighbours
 * of k at a time for two instructions of 16 k: both operands have the same order.
 * What their results add to a wide product: cuda_shares.cu. */
#include <cuda_pipeline.h>

#include "cuda_mma.cuh"

#define DOT_WARPS   8u
#define DOT_ROWS    32u
#define DOT_K       32u
#define WIDE_ROWS   64u /* and columns */
#define WIDE_K      64u
#define WIDE_WARPS  4u
#define WIDE_STAGES 5u /* 90 KB: 8.6 and 8.9 give a block 99 */
#define TILES_MAX   8u /* column tiles of 8 that a block computes */
#define GROUPS_MAX  (SEAM_CUDA_THIN_MAX * 5u)
#define SUM_K       32u
#define JOIN_M      8u
#define PIECE       1024u

typedef __nv_bfloat16 bf16;

/* Eight columns of an output, r of [r, R) of product `of`. */
typedef struct tile {
    uint16_t of, r;
} tile;

/* Tiles of products with the same x that a block computes together. */
typedef struct group {
    uint32_t of, tile_begin, tile_count; /* of: the first product, for x */
    uint32_t block_begin;                /* sums: of its blocks of features */
} group;

typedef struct thin_args {
    seam_cuda_thin product[SEAM_CUDA_THIN_MAX];
    tile tiles[SEAM_CUDA_THIN_MAX * SEAM_CUDA_THIN_R_MAX / 8];
    group groups[GROUPS_MAX];
    uint32_t group_count, tile_count, T, blocks, pieces;
    float *partial; /* sums: (pieces, blocks, sum_m, tiles * 8) */
    seam_cuda_thin_rest rest;
} thin_args;

/* ---- kernels ---- */
static __device__ inline uint4 vector_or_zero(const bf16 *p, bool inside) {
    const uint4 zero = {0, 0, 0, 0};
    return inside ? *(const uint4 *)p : zero;
}

/* c += 16 rows of a (rows g and g + 8) times 8 columns of b over the 32 k of their vectors. */
static __device__ inline void mma32(float (&c)[4], const uint4 (&a)[2], const uint4 &b) {
    const uint32_t low[4] = {a[0].x, a[1].x, a[0].y, a[1].y};
    const uint32_t high[4] = {a[0].z, a[1].z, a[0].w, a[1].w};
    mma(c, low, b.x, b.y);
    mma(c, high, b.z, b.w);
}

/* The sums of the warps over 16 rows from row0 on, in the warps' order; none of rows from T on. */
template <int TILES>
static __device__ inline void dots_join(const float (&sums)[DOT_WARPS][16][TILES * 8 + 4],
                                        const thin_args &a, const group &own, uint32_t row0) {
    for (uint32_t n = threadIdx.x; n < 16 * own.tile_count * 8; n += DOT_WARPS * 32) {
        const uint32_t i = n / (own.tile_count * 8), j = n % (own.tile_count * 8);
        const uint32_t row = row0 + i;
        const tile at = a.tiles[own.tile_begin + j / 8];
        const seam_cuda_thin &p = a.product[at.of];
        float sum = 0.0f;
        for (uint32_t v = 0; v < DOT_WARPS; v++) {
            sum += sums[v][i][j];
        }
        if (row < a.T) {
            store_f32((bf16 *)p.y + (size_t)row * p.R + at.r + j % 8, sum);
            if (p.z != NULL) {
                store_f32((bf16 *)p.z + row * p.z_ld + at.r + j % 8, p.scale * sum);
            }
        }
    }
}

/* What no product writes of the pads of rows [row0, row0 + rows), by the first group's blocks. */
static __device__ inline void rest_fill(const thin_args &a, uint32_t row0, uint32_t rows) {
    const uint32_t cols = blockIdx.y == 0 ? a.rest.cols : 0;
    for (uint32_t n = threadIdx.x; n < rows * cols; n += blockDim.x) {
        const uint32_t row = row0 + n / cols, col = n % cols;
        if (row < a.T) {
            store_f32((bf16 *)a.rest.z + row * a.rest.z_ld + col, col < a.rest.ones ? 1.0f : 0.0f);
        }
    }
}

/* Grid (T / 32, groups), 256 threads, tiles * 4 KB shared; registers for the rows of two steps and
 * for pointers to them. */
template <int TILES>
static __global__ void __launch_bounds__(DOT_WARPS * 32, 2) dot_kernel(const thin_args a) {
    __shared__ float sums[DOT_WARPS][16][TILES * 8 + 4];
    const group own = a.groups[blockIdx.y];
    const seam_cuda_thin &first = a.product[own.of];
    const uint32_t warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, k8 = threadIdx.x % 4 * 8;
    const uint32_t K = first.K, row0 = blockIdx.x * DOT_ROWS;
    static_assert(TILES <= 4, "more spill");
    constexpr uint32_t steps = 2; /* whose rows are on their way at once */
    const bf16 *x[4], *w[TILES];
    float c[2][TILES][4] = {};
    for (uint32_t t = 0; t < TILES; t++) {
        const tile at = a.tiles[own.tile_begin + (t < own.tile_count ? t : 0)];
        w[t] = (const bf16 *)a.product[at.of].w + (size_t)(at.r + g) * K;
    }
    for (uint32_t i = 0; i < 4; i++) { /* what is made of rows from T on is not stored */
        x[i] = (const bf16 *)first.x + (size_t)min(row0 + i * 8 + g, a.T - 1) * first.x_ld;
    }
    for (uint32_t begin = warp * DOT_K; begin < K; begin += steps * DOT_WARPS * DOT_K) {
        uint4 rows[steps][2][2];
#pragma unroll
        for (uint32_t s = 0; s < steps; s++) {
            const uint32_t k = begin + s * DOT_WARPS * DOT_K + k8;
#pragma unroll
            for (uint32_t i = 0; i < 4; i++) {
                rows[s][i / 2][i % 2] = vector_or_zero(x[i] + k, k < K);
            }
        }
#pragma unroll
        for (uint32_t s = 0; s < steps; s++) {
            const uint32_t k = begin + s * DOT_WARPS * DOT_K + k8;
#pragma unroll
            for (uint32_t t = 0; t < TILES; t++) {
                const uint4 col = vector_or_zero(w[t] + k, t < own.tile_count && k < K);
                mma32(c[0][t], rows[s][0], col);
                mma32(c[1][t], rows[s][1], col);
            }
        }
    }
    for (uint32_t half = 0; half < 2; half++) {
        for (uint32_t t = 0; t < TILES; t++) {
            for (uint32_t i = 0; i < 4; i++) {
                sums[warp][g + i / 2 * 8][t * 8 + k8 / 4 + i % 2] = c[half][t][i];
            }
        }
        __syncthreads();
        dots_join<TILES>(sums, a, own, row0 + half * 16);
        __syncthreads();
    }
    rest_fill(a, row0, DOT_ROWS);
}

/* Where a thread's vectors of a stage of dot_wide_kernel come from: 4 rows of each operand, the
 * same eight columns of WIDE_K. */
#define WIDE_OWN 4u
typedef struct wide_source {
    const bf16 *x[WIDE_OWN], *w[WIDE_OWN];
    bool w_there[WIDE_OWN];
} wide_source;
static __device__ inline wide_source wide_source_of(const thin_args &a, const group &own,
                                                    uint32_t row0) {
    const seam_cuda_thin &first = a.product[own.of];
    wide_source from;
#pragma unroll
    for (uint32_t i = 0; i < WIDE_OWN; i++) {
        const uint32_t r = threadIdx.x / (WIDE_K / VECTOR) + i * (WIDE_ROWS / WIDE_OWN);
        const uint32_t c = threadIdx.x % (WIDE_K / VECTOR) * VECTOR, t = r / 8;
        const tile at = a.tiles[own.tile_begin + (t < own.tile_count ? t : 0)];
        /* what is made of rows from T on is not stored */
        from.x[i] = (const bf16 *)first.x + (size_t)min(row0 + r, a.T - 1) * first.x_ld + c;
        from.w[i] = (const bf16 *)a.product[at.of].w + (size_t)(at.r + r % 8) * first.K + c;
        from.w_there[i] = t < own.tile_count;
    }
    return from;
}

typedef bf16 wide_tile[WIDE_ROWS][WIDE_K + MMA_PAD];
typedef struct wide_stage {
    wide_tile x, w;
} wide_stage;
static __device__ inline void wide_load(wide_stage &stage, const wide_source &from, uint32_t k,
                                        uint32_t K) {
    const uint32_t c = threadIdx.x % (WIDE_K / VECTOR) * VECTOR;
    const bool inside = k + c < K;
#pragma unroll
    for (uint32_t i = 0; i < WIDE_OWN; i++) {
        const uint32_t r = threadIdx.x / (WIDE_K / VECTOR) + i * (WIDE_ROWS / WIDE_OWN);
        const bool w_inside = inside && from.w_there[i];
        __pipeline_memcpy_async(&stage.x[r][c], from.x[i] + (inside ? k : 0), 16, inside ? 0 : 16);
        __pipeline_memcpy_async(&stage.w[r][c], from.w[i] + (w_inside ? k : 0), 16,
                                w_inside ? 0 : 16);
    }
    __pipeline_commit();
}

/* c (32 rows, 32 columns of a warp) += x w^T over a stage. */
static __device__ inline void wide_dots(float (&c)[2][4][4], const wide_stage &stage) {
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const bf16 *x = &stage.x[warp / 2 * 32 + lane % 16][lane / 16 * 8];
    const bf16 *w = &stage.w[warp % 2 * 32 + lane / 16 * 8 + lane % 8][lane / 8 % 2 * 8];
#pragma unroll
    for (uint32_t k = 0; k < WIDE_K; k += 16) {
        uint32_t rows[2][4], cols[2][4];
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            load_matrices(rows[i], x + i * 16 * (WIDE_K + MMA_PAD) + k);
            load_matrices(cols[i], w + i * 16 * (WIDE_K + MMA_PAD) + k);
        }
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            mma(c[i / 2][i % 2 * 2], rows[i / 2], cols[i % 2][0], cols[i % 2][1]);
            mma(c[i / 2][i % 2 * 2 + 1], rows[i / 2], cols[i % 2][2], cols[i % 2][3]);
        }
    }
}

/* Grid (T / 64, groups), 128 threads, 90 KB shared: a warp takes 32 rows and 4 tiles, and four
 * stages of WIDE_K are on their way: bound by how many bytes are, with as many warps again that
 * share k no faster (H200). */
static __global__ void __launch_bounds__(WIDE_WARPS * 32, 2) dot_wide_kernel(const thin_args a) {
    extern __shared__ __align__(16) wide_stage stages[];
    const group own = a.groups[blockIdx.y];
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint32_t K = a.product[own.of].K, row0 = blockIdx.x * WIDE_ROWS;
    const wide_source from = wide_source_of(a, own, row0);
    float c[2][4][4] = {};
    for (uint32_t s = 0; s + 1 < WIDE_STAGES; s++) {
        wide_load(stages[s], from, s * WIDE_K, K);
    }
    for (uint32_t s = 0; s * WIDE_K < K; s++) {
        __pipeline_wait_prior(WIDE_STAGES - 2);
        __syncthreads(); /* and the stage of step s - 1 has been read */
        const uint32_t next = s + WIDE_STAGES - 1;
        wide_load(stages[next % WIDE_STAGES], from, next * WIDE_K, K);
        wide_dots(c, stages[s % WIDE_STAGES]);
    }
#pragma unroll
    for (uint32_t t = 0; t < 4; t++) {
        const bool there = warp % 2 * 4 + t < own.tile_count;
        const tile at = a.tiles[own.tile_begin + (there ? warp % 2 * 4 + t : 0)];
        const seam_cuda_thin &p = a.product[at.of];
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t row = row0 + warp / 2 * 32 + i * 8 + lane / 4;
            const uint32_t col = at.r + lane % 4 * 2;
            const float *sums = &c[i / 2][t][i % 2 * 2];
            if (there && row < a.T) {
                *(uint32_t *)((bf16 *)p.y + (size_t)row * p.R + col) = pack(sums[0], sums[1]);
            }
            if (there && row < a.T && p.z != NULL) {
                *(uint32_t *)((bf16 *)p.z + row * p.z_ld + col) =
                    pack(p.scale * sums[0], p.scale * sums[1]);
            }
        }
    }
    rest_fill(a, row0, WIDE_ROWS);
}

/* Features of a block of sums, and the stages that it goes through. */
static constexpr __host__ __device__ uint32_t sum_m(uint32_t tiles) {
    return tiles > 4 ? 128 : 64;
}
static constexpr __host__ __device__ uint32_t sum_stages(uint32_t tiles) {
    return tiles > 4 ? 3 : 4;
}

/* The group of a block of features. */
static __device__ inline uint32_t group_of(const thin_args &a, uint32_t block) {
    uint32_t i = 0;
    while (i + 1 < a.group_count && a.groups[i + 1].block_begin <= block) {
        i++;
    }
    return i;
}

/* What a thread brings into every stage: the same eight columns of x and of w, rows of each. */
typedef struct source {
    const bf16 *x, *w;     /* row 0 */
    uint32_t x_ld, R;      /* between rows */
    uint32_t x_end, w_end; /* rows from there on are zero */
} source;
template <int TILES>
static __device__ inline source source_of(const thin_args &a, const group &own, uint32_t m0,
                                          uint32_t end) {
    const seam_cuda_thin &first = a.product[own.of];
    const uint32_t m = m0 + threadIdx.x % (sum_m(TILES) / 8) * 8, t = threadIdx.x % TILES;
    const bool there = m < first.K, tile_there = t < own.tile_count;
    const tile at = a.tiles[own.tile_begin + (tile_there ? t : 0)];
    const seam_cuda_thin &p = a.product[at.of];
    return {(const bf16 *)first.x + (there ? m : 0),
            (const bf16 *)p.w + at.r,
            (uint32_t)first.x_ld,
            p.R,
            there ? end : 0,
            tile_there ? end : 0};
}

/* x (SUM_K, sum_m) and w (SUM_K, tiles * 8) of rows from row0 on. */
template <int TILES>
static __device__ inline void stage_load(bf16 (*xs)[sum_m(TILES) + MMA_PAD],
                                         bf16 (*ws)[TILES * 8 + MMA_PAD], const source &from,
                                         uint32_t row0) {
    constexpr uint32_t x_vectors = sum_m(TILES) / 8;
    constexpr uint32_t x_step = MMA_THREADS / x_vectors, w_step = MMA_THREADS / TILES;
#pragma unroll
    for (uint32_t n = 0; n < SUM_K / x_step; n++) {
        const uint32_t i = threadIdx.x / x_vectors + n * x_step, row = row0 + i;
        const bool inside = row < from.x_end;
        __pipeline_memcpy_async(&xs[i][threadIdx.x % x_vectors * 8],
                                from.x + (size_t)(inside ? row : 0) * from.x_ld, 16,
                                inside ? 0 : 16);
    }
#pragma unroll
    for (uint32_t n = 0; n < (SUM_K + w_step - 1) / w_step; n++) {
        const uint32_t i = threadIdx.x / TILES + n * w_step, row = row0 + i;
        const bool inside = row < from.w_end;
        if (i < SUM_K) {
            __pipeline_memcpy_async(&ws[i][threadIdx.x % TILES * 8],
                                    from.w + (size_t)(inside ? row : 0) * from.R, 16,
                                    inside ? 0 : 16);
        }
    }
    __pipeline_commit();
}

/* Grid (blocks, pieces), 128 threads; a warp takes 16 or 32 of the features. */
template <int TILES>
static __global__ void __launch_bounds__(MMA_THREADS) sum_kernel(const thin_args a) {
    constexpr uint32_t M = sum_m(TILES), STAGES = sum_stages(TILES), OWN = M / 64;
    __shared__ alignas(16) bf16 xs[STAGES][SUM_K][M + MMA_PAD];
    __shared__ alignas(16) bf16 ws[STAGES][SUM_K][TILES * 8 + MMA_PAD];
    const group own = a.groups[group_of(a, blockIdx.x)];
    const uint32_t m0 = (blockIdx.x - own.block_begin) * M, begin = blockIdx.y * PIECE;
    const uint32_t end = begin + PIECE < a.T ? begin + PIECE : a.T;
    const uint32_t steps = (end - begin + SUM_K - 1) / SUM_K;
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, eighth = lane % 8;
    const source from = source_of<TILES>(a, own, m0, end);
    float c[OWN][TILES][4] = {};
    for (uint32_t s = 0; s + 1 < STAGES; s++) {
        stage_load<TILES>(xs[s], ws[s], from, begin + s * SUM_K);
    }
    for (uint32_t s = 0; s < steps; s++) {
        __pipeline_wait_prior(STAGES - 2);
        __syncthreads(); /* and the stage of step s - 1 has been read */
        const uint32_t next = s + STAGES - 1;
        stage_load<TILES>(xs[next % STAGES], ws[next % STAGES], from, begin + next * SUM_K);
        for (uint32_t k = 0; k < SUM_K; k += 16) {
            uint32_t x[OWN][4], w[4];
            for (uint32_t i = 0; i < OWN; i++) {
                load_transposed(x[i], &xs[s % STAGES][k + lane / 16 * 8 + eighth]
                                         [(warp * OWN + i) * 16 + lane / 8 % 2 * 8]);
            }
            for (int t = 0; t < TILES; t += 2) {
                load_transposed(
                    w, &ws[s % STAGES][k + lane / 8 % 2 * 8 + eighth][t * 8 + lane / 16 * 8]);
                for (uint32_t i = 0; i < OWN; i++) {
                    mma(c[i][t], x[i], w[0], w[1]);
                    mma(c[i][t + 1], x[i], w[2], w[3]);
                }
            }
        }
    }
    float *to = a.partial + ((size_t)blockIdx.y * a.blocks + blockIdx.x) * M * TILES * 8;
    for (int t = 0; t < TILES; t++) {
        for (uint32_t i = 0; i < 2 * OWN; i++) {
            const uint32_t m = warp * OWN * 16 + lane / 4 + i * 8;
            const float *sums = &c[i / 2][t][i % 2 * 2];
            *(float2 *)(to + m * TILES * 8 + t * 8 + lane % 4 * 2) = {sums[0], sums[1]};
        }
    }
}

/* Adds the pieces of a block of M features, in order, to y.  Grid (blocks, M / JOIN_M), 256
 * threads: each JOIN_M features, neighbours in a warp where y is dense along them. */
static __global__ void sum_join_kernel(const thin_args a, uint32_t M, uint32_t cols) {
    const group own = a.groups[group_of(a, blockIdx.x)];
    const uint32_t m0 = (blockIdx.x - own.block_begin) * M;
    const size_t block = (size_t)M * cols;
    const bool along = a.product[own.of].y_k == 1;
    const uint32_t inner = along ? JOIN_M : own.tile_count * 8;
    for (uint32_t n = threadIdx.x; n < JOIN_M * own.tile_count * 8; n += blockDim.x) {
        const uint32_t outer = n / inner, rest = n - outer * inner;
        const uint32_t m = blockIdx.y * JOIN_M + (along ? rest : outer);
        const uint32_t j = along ? outer : rest;
        const tile at = a.tiles[own.tile_begin + j / 8];
        const seam_cuda_thin &p = a.product[at.of];
        float sum = 0.0f;
        for (uint32_t z = 0; z < a.pieces; z++) {
            sum += a.partial[(z * (size_t)a.blocks + blockIdx.x) * block + m * cols + j];
        }
        if (m0 + m < p.K) {
            float *y = (float *)p.y + (m0 + m) * p.y_k + (at.r + j % 8) * p.y_r;
            *y += p.scale * sum;
        }
    }
}

/* Squares of 32 x 32 of all products one after another; 32 x 8 threads. */
static __global__ void turn_kernel(const thin_args a) {
    __shared__ bf16 square[32][33];
    uint32_t at = blockIdx.x, i = 0, across = 0;
    for (;; i++) { /* the product of this square */
        across = (a.product[i].K + 31) / 32;
        const uint32_t squares = across * ((a.product[i].R + 31) / 32);
        if (at < squares) {
            break;
        }
        at -= squares;
    }
    const seam_cuda_thin &p = a.product[i];
    const uint32_t c0 = at % across * 32, r0 = at / across * 32;
    for (uint32_t y = threadIdx.y; y < 32; y += 8) {
        if (r0 + y < p.R && c0 + threadIdx.x < p.K) {
            square[y][threadIdx.x] = ((const bf16 *)p.x)[(r0 + y) * p.x_ld + c0 + threadIdx.x];
        }
    }
    __syncthreads();
    for (uint32_t y = threadIdx.y; y < 32; y += 8) {
        if (c0 + y < p.K && r0 + threadIdx.x < p.R) {
            ((bf16 *)p.y)[(size_t)(c0 + y) * p.R + r0 + threadIdx.x] = square[threadIdx.x][y];
        }
    }
}

/* ---- launchers ---- */
/* Cuts the products into groups of up to TILES_MAX tiles; returns the tiles of the widest. */
static uint32_t groups_make(thin_args *a, const seam_cuda_thin *products, uint32_t count,
                            uint32_t T) {
    uint32_t widest = 0;
    a->group_count = a->tile_count = a->blocks = 0;
    a->T = T;
    a->pieces = (T + PIECE - 1) / PIECE;
    SEAM_ASSERT(count <= SEAM_CUDA_THIN_MAX);
    for (uint32_t i = 0; i < count; i++) {
        const seam_cuda_thin *p = &a->product[i];
        a->product[i] = products[i];
        SEAM_ASSERT(p->R % 8 == 0 && p->R <= SEAM_CUDA_THIN_R_MAX);
        for (uint32_t r = 0; r < p->R; r += 8) {
            group *last = &a->groups[a->group_count - (a->group_count > 0)];
            const seam_cuda_thin *first = &a->product[last->of];
            if (a->group_count == 0 || last->tile_count == TILES_MAX || first->x != p->x ||
                first->K != p->K) {
                SEAM_ASSERT(a->group_count < GROUPS_MAX);
                last = &a->groups[a->group_count++];
                *last = {i, a->tile_count, 0, 0};
            }
            last->tile_count++;
            widest = last->tile_count > widest ? last->tile_count : widest;
            a->tiles[a->tile_count++] = {(uint16_t)i, (uint16_t)r};
        }
    }
    for (uint32_t i = 0; i < a->group_count; i++) {
        const uint32_t M = sum_m(widest);
        a->groups[i].block_begin = a->blocks;
        a->blocks += (a->product[a->groups[i].of].K + M - 1) / M;
    }
    return widest;
}

seam_status seam_cuda_thin_dots(seam_stream *stream, const seam_cuda_thin *products, uint32_t count,
                                uint32_t T, const seam_cuda_thin_rest *rest) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const seam_cuda_thin_rest none = {};
    thin_args a;
    a.rest = rest != NULL ? *rest : none;
    const uint32_t tiles = groups_make(&a, products, count, T);
    const dim3 grid((T + DOT_ROWS - 1) / DOT_ROWS, a.group_count);
    const int wide_bytes = WIDE_STAGES * sizeof(wide_stage);
    if (tiles <= 2) {
        dot_kernel<2><<<grid, DOT_WARPS * 32, 0, queue>>>(a);
    } else if (tiles <= 4) {
        dot_kernel<4><<<grid, DOT_WARPS * 32, 0, queue>>>(a);
    } else {
        SEAM_CUDA_TRY(cudaFuncSetAttribute(
            dot_wide_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, wide_bytes));
        const dim3 wide((T + WIDE_ROWS - 1) / WIDE_ROWS, a.group_count);
        dot_wide_kernel<<<wide, WIDE_WARPS * 32, wide_bytes, queue>>>(a);
    }
    return SEAM_CUDA_LAUNCHED();
}

static uint32_t sum_cols(uint32_t tiles) {
    return tiles <= 2 ? 16 : tiles <= 4 ? 32 : 64;
}

size_t seam_cuda_thin_sum_bytes(const seam_cuda_thin *products, uint32_t count, uint32_t T) {
    thin_args a;
    const uint32_t cols = sum_cols(groups_make(&a, products, count, T));
    return (size_t)a.pieces * a.blocks * sum_m(cols / 8) * cols * sizeof(float);
}

seam_status seam_cuda_thin_sums(seam_stream *stream, const seam_cuda_thin *products, uint32_t count,
                                uint32_t T, float *partial) {
    cudaStream_t queue = seam_cuda_queue(stream);
    thin_args a;
    const uint32_t cols = sum_cols(groups_make(&a, products, count, T));
    const dim3 grid(a.blocks, a.pieces);
    a.partial = partial;
    if (cols == 16) {
        sum_kernel<2><<<grid, MMA_THREADS, 0, queue>>>(a);
    } else if (cols == 32) {
        sum_kernel<4><<<grid, MMA_THREADS, 0, queue>>>(a);
    } else {
        sum_kernel<8><<<grid, MMA_THREADS, 0, queue>>>(a);
    }
    SEAM_TRY(SEAM_CUDA_LAUNCHED());
    const uint32_t M = sum_m(cols / 8);
    sum_join_kernel<<<dim3(a.blocks, M / JOIN_M), 256, 0, queue>>>(a, M, cols);
    return SEAM_CUDA_LAUNCHED();
}

seam_status seam_cuda_thin_turns(seam_stream *stream, const seam_cuda_thin *products,
                                 uint32_t count) {
    thin_args a;
    uint32_t squares = 0;
    SEAM_ASSERT(count <= SEAM_CUDA_THIN_MAX);
    for (uint32_t i = 0; i < count; i++) {
        a.product[i] = products[i];
        squares += (products[i].K + 31) / 32 * ((products[i].R + 31) / 32);
    }
    turn_kernel<<<squares, dim3(32, 8), 0, seam_cuda_queue(stream)>>>(a);
    return SEAM_CUDA_LAUNCHED();
}
