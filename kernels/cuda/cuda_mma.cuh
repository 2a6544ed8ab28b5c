/* What attention and thin products on tensor cores share: mma.m16n8k16 with f32 sums, its fragments
 * from tiles in shared memory whose rows are MMA_PAD elements further apart than dense (so that
 * neither words nor matrices meet in a bank), blocks of four warps of 16 rows.  Device code only. */
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

static __device__ inline uint32_t pack(float lo, float hi) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(lo, hi);
    return *(const uint32_t *)&pair;
}

static __device__ inline uint32_t word(const __nv_bfloat16 *p) {
    return *(const uint32_t *)p;
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
