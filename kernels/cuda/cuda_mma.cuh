/* What attention and thin products on tensor cores share: mma.m16n8k16 with f32 sums, its fragments
 * from tiles in shared memory whose rows are MMA_PAD elements further apart than dense (so that
 * neither words nor matrices meet in a bank), blocks of four warps of 16 rows.  Device code only.
 */
#ifndef SEAM_CUDA_MMA_CUH
#define SEAM_CUDA_MMA_CUH

#include "cuda_attention.cuh"

#define MMA_THREADS 128u
#define MMA_PAD     8u
#define MMA_D_MAX   128u

static __device__ inline void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Four 8 x 8 matrices, transposed: b fragments of two neighbouring column tiles. */
static __device__ inline void load_transposed(uint32_t (&b)[4], const __nv_bfloat16 *p) {
    const unsigned address = (unsigned)__cvta_generic_to_shared(p);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3])
                 : "r"(address));
}

/* The same as they are: the a operand of 16 rows and columns, or b fragments whose columns are
 * rows of memory. */
static __device__ inline void load_matrices(uint32_t (&ret)[4], const __nv_bfloat16 *p) {
    const unsigned address = (unsigned)__cvta_generic_to_shared(p);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(ret[0]), "=r"(ret[1]), "=r"(ret[2]), "=r"(ret[3])
                 : "r"(address));
}

static __device__ inline uint32_t word(const __nv_bfloat16 *p) {
    return *(const uint32_t *)p;
}

/* The a operand of 16 columns from `x` on: rows of the warp. */
static __device__ inline void operand(uint32_t (&a)[4], const __nv_bfloat16 *x, uint32_t pitch) {
    const uint32_t lane = threadIdx.x % 32;
    const __nv_bfloat16 *at = x + (threadIdx.x / 32 * 16 + lane / 4) * pitch + lane % 4 * 2;
    a[0] = word(at), a[1] = word(at + 8 * pitch);
    a[2] = word(at + 8), a[3] = word(at + 8 * pitch + 8);
}

/* s (16, 8 TILES) += a times 16 columns of the rows of y, from `y` on. */
template <int TILES>
static __device__ inline void add_dots(float (&s)[TILES][4], const uint32_t (&a)[4],
                                       const __nv_bfloat16 *y, uint32_t pitch) {
    const uint32_t lane = threadIdx.x % 32;
    const __nv_bfloat16 *row = y + lane / 4 * pitch + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < TILES; n++) {
        mma(s[n], a, word(row + n * 8 * pitch), word(row + n * 8 * pitch + 8));
    }
}

/* acc (16, D) += p (16, 8 TILES) y (8 TILES, D), p rounded. */
template <int STEPS, int TILES>
static __device__ inline void add_product(float (&acc)[2 * STEPS][4], const float (&p)[TILES][4],
                                          const __nv_bfloat16 *y, uint32_t D) {
    const uint32_t lane = threadIdx.x % 32, pitch = D + MMA_PAD;
#pragma unroll
    for (int j = 0; j < TILES / 2; j++) {
        const uint32_t a[4] = {pack(p[2 * j][0], p[2 * j][1]), pack(p[2 * j][2], p[2 * j][3]),
                               pack(p[2 * j + 1][0], p[2 * j + 1][1]),
                               pack(p[2 * j + 1][2], p[2 * j + 1][3])};
#pragma unroll
        for (int n = 0; n < STEPS; n++) {
            if (n * 16 < D) {
                uint32_t b[4];
                load_transposed(b, y + (j * 16 + lane % 16) * pitch + n * 16 + lane / 16 * 8);
                mma(acc[2 * n], a, b[0], b[1]);
                mma(acc[2 * n + 1], a, b[2], b[3]);
            }
        }
    }
}

/* tile[i][d], rows D + MMA_PAD apart; zero from row `end` on. */
static __device__ inline void rows_load(__nv_bfloat16 *tile, const __nv_bfloat16 *p, size_t ld,
                                        uint32_t row0, uint32_t rows, uint32_t end, uint32_t D) {
    const uint32_t vectors = D / 8;
    for (uint32_t n = threadIdx.x; n < rows * vectors; n += MMA_THREADS) {
        const uint32_t i = n / vectors, d = n % vectors * 8;
        const uint4 zero = {0, 0, 0, 0};
        *(uint4 *)(tile + i * (D + MMA_PAD) + d) =
            row0 + i < end ? *(const uint4 *)(p + (size_t)(row0 + i) * ld + d) : zero;
    }
}

#endif
