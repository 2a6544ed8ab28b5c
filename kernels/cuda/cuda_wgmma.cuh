/* What the attention kernels on Hopper's warpgroup products share (compute 9.0a alone): tiles of 64
 * rows in shared memory, copies into them that the threads do not wait for, and products of them
 * by the four warps of a warpgroup.
 *
 * A tile (64, D) stands in panels of 64 columns, a row of a panel in 128 bytes, its 16-byte chunk c
 * at c ^ (row % 8): the products' 128-byte swizzle, free of bank conflicts both ways.  A product's
 * result is spread as mma.m16n8k16's: thread `lane` of warp w has rows 16 w + lane / 4 (+ 8),
 * values 4 n + {0, 1} (+ 2 for the second row) being columns 8 n + lane % 4 * 2 + {0, 1}.  PTX ISA,
 * "Asynchronous Warpgroup Level Matrix Instructions".  Device code only. */
#ifndef SEAM_CUDA_WGMMA_CUH
#define SEAM_CUDA_WGMMA_CUH

#include "cuda_attention.cuh"

#define WG_THREADS 128u
#define WG_ROWS    64u
#define WG_PANEL   (WG_ROWS * 128u) /* bytes */

static __device__ inline uint32_t shared_address(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* `bytes` (4 or 16) from device memory, or zeros. */
template <int bytes>
static __device__ inline void copy_async(uint32_t to, const void *from, bool there) {
    if constexpr (bytes == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                     "r"(there ? 16 : 0)
                     : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from),
                     "r"(there ? 4 : 0)
                     : "memory");
    }
}
static __device__ inline void copy_commit(void) {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* All groups but the last `left` have arrived, for this thread and for products of others after the
 * next barrier. */
template <int left> static __device__ inline void copy_wait(void) {
    asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* The a operand of a product of 16 columns, from 16 x 16 of a tile. */
static __device__ inline void load_rows(uint32_t (&a)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
                 : "r"(address));
}

static __device__ inline void products_begin(void) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
static __device__ inline void products_commit(void) {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/* All groups but the last `left` are done, c among them: no use of it moves ahead of this. */
template <int left, int count> static __device__ inline void products_wait(float (&c)[count]) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(left) : "memory");
#pragma unroll
    for (int i = 0; i < count; i++) {
        asm volatile("" : "+f"(c[i])::"memory");
    }
}

/* A matrix in shared memory with the 128-byte swizzle: `across` bytes to the next panel, 1024 to
 * the next 8 rows. */
static __device__ inline uint64_t descriptor(uint32_t address, uint32_t across) {
    return (uint64_t)1 << 62 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)(across >> 4) << 16 |
           (uint64_t)(address >> 4 & 0x3fff);
}

/* Rows of 16 columns from `step` * 16 on, and 16 rows from `step` * 16 on. */
static __device__ inline uint64_t columns_of(uint32_t tile, int step) {
    return descriptor(tile + (uint32_t)(step / 4) * WG_PANEL + (uint32_t)(step % 4) * 32, 16);
}
static __device__ inline uint64_t rows_of(uint32_t tile, int step) {
    return descriptor(tile + (uint32_t)step * 2048, WG_PANEL);
}

#define WG_C4(c, i)  "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3])
#define WG_C16(c, i) WG_C4(c, i), WG_C4(c, i + 4), WG_C4(c, i + 8), WG_C4(c, i + 12)
#define WG_C32_TEXT                                                                                \
    "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,"   \
    "%25,%26,%27,%28,%29,%30,%31"
#define WG_C64_TEXT                                                                                \
    WG_C32_TEXT ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,"    \
                "%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"

/* c (64, 64) = (c when add) + a b: a (64, 16) of a tile's columns, b (16, 64) the transpose of
 * another's. */
static __device__ inline void product(float (&c)[32], uint64_t a, uint64_t b, bool add) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" WG_C32_TEXT
                 "}, %32, %33, p, 1, 1, 0, 0;\n}"
                 : WG_C16(c, 0), WG_C16(c, 16)
                 : "l"(a), "l"(b), "r"((int)add));
}

/* The same with a in registers; b's rows as they stand when `rows`, else their transpose. */
template <bool rows>
static __device__ inline void product(float (&c)[32], const uint32_t (&a)[4], uint64_t b,
                                      bool add) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" WG_C32_TEXT
                 "}, {%32,%33,%34,%35}, %36, p, 1, 1, %38;\n}"
                 : WG_C16(c, 0), WG_C16(c, 16)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)add),
                   "n"((int)rows));
}
template <bool rows>
static __device__ inline void product(float (&c)[64], const uint32_t (&a)[4], uint64_t b,
                                      bool add) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" WG_C64_TEXT
                 "}, {%64,%65,%66,%67}, %68, p, 1, 1, %70;\n}"
                 : WG_C16(c, 0), WG_C16(c, 16), WG_C16(c, 32), WG_C16(c, 48)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)add),
                   "n"((int)rows));
}

#endif
