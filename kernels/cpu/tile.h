/* The matrix product that linear and attention are built from: c (m, n) = a (m, K) b (K, n).
 *
 * b is packed in panels of TILE_N columns; a panel holds tile_k(K) rows, zero beyond K and n.
 * a is row-major act in place.  c is f32 in the caller's buffer, whose rows are allocated up to a
 * multiple of TILE_M (rows beyond m are scribbled on).
 *
 * A c element is one running f32 sum over k, in order, whatever m, n and the other rows are: this
 * is what makes a row's bits independent of its batch and of the thread count.  Two versions:
 * tile_f32.h (vector multiply-add) and tile_amx.h (bf16 tiles).  Each provides
 *
 *   TILE_M, TILE_N, tile_k(K)
 *   tile_place(k, n)                  where row k, column n of a panel stands
 *   tile_begin(), tile_end()          around all uses in a task
 *   tile_pack_rows(dst, src, ld, n_begin, n_end, K)
 *       one panel from src (n, K): column n_begin + i of the panel is row i of src
 *   tile_pack_cols(dst, src, ld, n, K)   one panel from src (K, n)
 *   tile_emit_pair(dst, k, n, x0, x1)    VL columns from n of rows k (even) and k + 1, from f32
 *   tile_product(c, c_ld, add, m, n, a, a_ld, K, b)   one panel; n <= TILE_N, K <= TILE_K_MAX */
#ifndef SEAM_TILE_H
#define SEAM_TILE_H

#include "vec.h"

/* Longest K of one call: a panel piece then stays in a first-level cache (768 * 64 bytes). */
#define TILE_K_MAX 768u

#ifdef SEAM_VARIANT_BF16
#include "tile_amx.h"
#else
#include "tile_f32.h"
#endif

/* Elements of one packed panel. */
CPU_INLINE size_t tile_panel(uint32_t K) {
    return (size_t)tile_k(K) * TILE_N;
}

CPU_INLINE uint32_t tile_panels(uint32_t n) {
    return (n + TILE_N - 1) / TILE_N;
}

/* tile_product for any K: pieces of TILE_K_MAX, in order. */
CPU_INLINE void tile_product_long(float *c, uint32_t c_ld, _Bool add, uint32_t m, uint32_t n,
                                  const act *a, size_t a_ld, uint32_t K, const act *b) {
    for (uint32_t k = 0; k < K; k += TILE_K_MAX) {
        tile_product(c, c_ld, add || k > 0, m, n, a + k, a_ld, min_u32(TILE_K_MAX, K - k),
                     b + (size_t)k * TILE_N);
    }
}

#endif
