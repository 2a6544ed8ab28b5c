/* What attention forward and backward share: blocks, transposes, padded copies.
 *
 * Both work on transposed scores, S^T = K Q^T (keys, queries): softmax then runs down the rows,
 * sixteen queries a vector, without sums across a vector, and the probabilities come out in the
 * two forms that the next products read (rows of a, panels of b) without a transpose.
 *
 * Blocks of ATT_BLOCK keys by as many queries, aligned to the sequence's start: only blocks on the
 * diagonal and on the edge of a window need the mask, blocks before every window are left out, and
 * a row's bits depend on its own sequence only.
 *
 * q, k and v come as f32.  Where act is bf16 the scores' product takes q and k in two parts each,
 * x = hi + lo with hi = bf16(x), lo = bf16(x - hi): three products one after another along k,
 * k_hi q_hi + k_lo q_hi + k_hi q_lo, which leave out 2^-18 of a score instead of 2^-9.  On
 * SmolLM2-135M this takes the gradient of a step from 2.8e-2 to 2.0e-2 off that in f32
 * (tests/oracle/check_model.py); attention is 21 % of a step then, not 15 (RESULTS.md). */
#ifndef SEAM_ATTENTION_H
#define SEAM_ATTENTION_H

#include "cpu_ops.h"
#include "tile.h"

#define ATT_BLOCK  64u
#define ATT_D_MAX  256u
#define ATT_PANELS (ATT_BLOCK / TILE_N)

/* Rows of an a operand, so that the AMX product needs no padding of its own. */
CPU_INLINE uint32_t att_rows(uint32_t n) {
#ifdef SEAM_VARIANT_BF16
    return (n + 15u) & ~15u;
#else
    return n;
#endif
}

/* Keys of a block as a k dimension: even for tile_emit_pair, whole tile steps. */
CPU_INLINE uint32_t att_keys(uint32_t n) {
    return tile_k((n + 1u) & ~1u);
}

typedef struct att_bump {
    uint8_t *base; /* NULL: planning */
    size_t used;
} att_bump;

CPU_INLINE void *att_take(att_bump *b, size_t count, size_t item_bytes) {
    void *ptr = b->base == NULL ? NULL : b->base + b->used;
    b->used += (count * item_bytes + 127) / 64 * 64; /* and a line apart */
    return ptr;
}

/* dst (32-bit words, (n, m)) = src ((m, n)) transposed, through one type. */
static inline void att_transpose_words(float *dst, size_t dst_ld, const float *src, size_t src_ld,
                                       uint32_t m, uint32_t n) {
    uint32_t whole_m = 0, whole_n = 0;
#if VL == 16
    whole_m = m & ~15u;
    whole_n = n & ~15u;
    for (uint32_t i = 0; i < whole_m; i += 16) {
        for (uint32_t j = 0; j < whole_n; j += 16) {
            __m512 r[16], s[16];
            for (int k = 0; k < 16; k++) {
                r[k] = _mm512_loadu_ps(src + (i + (uint32_t)k) * src_ld + j);
            }
            for (int k = 0; k < 16; k += 2) {
                s[k] = _mm512_unpacklo_ps(r[k], r[k + 1]);
                s[k + 1] = _mm512_unpackhi_ps(r[k], r[k + 1]);
            }
            for (int k = 0; k < 16; k += 4) {
                r[k] = _mm512_shuffle_ps(s[k], s[k + 2], 0x44);
                r[k + 1] = _mm512_shuffle_ps(s[k], s[k + 2], 0xee);
                r[k + 2] = _mm512_shuffle_ps(s[k + 1], s[k + 3], 0x44);
                r[k + 3] = _mm512_shuffle_ps(s[k + 1], s[k + 3], 0xee);
            }
            for (int k = 0; k < 4; k++) {
                s[k] = _mm512_shuffle_f32x4(r[k], r[k + 4], 0x88);
                s[k + 4] = _mm512_shuffle_f32x4(r[k], r[k + 4], 0xdd);
                s[k + 8] = _mm512_shuffle_f32x4(r[k + 8], r[k + 12], 0x88);
                s[k + 12] = _mm512_shuffle_f32x4(r[k + 8], r[k + 12], 0xdd);
            }
            for (int k = 0; k < 4; k++) {
                r[k] = _mm512_shuffle_f32x4(s[k], s[k + 8], 0x88);
                r[k + 8] = _mm512_shuffle_f32x4(s[k], s[k + 8], 0xdd);
                r[k + 4] = _mm512_shuffle_f32x4(s[k + 4], s[k + 12], 0x88);
                r[k + 12] = _mm512_shuffle_f32x4(s[k + 4], s[k + 12], 0xdd);
            }
            for (int k = 0; k < 16; k++) {
                _mm512_storeu_ps(dst + (j + (uint32_t)k) * dst_ld + i, r[k]);
            }
        }
    }
#endif
    for (uint32_t i = 0; i < m; i++) {
        for (uint32_t j = i < whole_m ? whole_n : 0; j < n; j++) {
            dst[j * dst_ld + i] = src[i * src_ld + j];
        }
    }
}

/* dst (att_rows(D), ATT_BLOCK) act = src (n, D) transposed, zero elsewhere.
 * work: ATT_BLOCK * tile_panels(D) * TILE_N of act. */
/* NOLINTNEXTLINE(readability-non-const-parameter): the bf16 variant writes to work. */
static inline void att_transpose_block(act *dst, act *work, const act *src, size_t ld, uint32_t n,
                                       uint32_t D) {
    memset(dst, 0, (size_t)att_rows(D) * ATT_BLOCK * sizeof *dst);
#ifdef SEAM_VARIANT_BF16
    for (uint32_t d = 0; d < D; d += TILE_N) { /* pairs of keys become 32-bit words */
        const uint32_t cols = min_u32(TILE_N, D - d);
        tile_pack_cols(work, src + d, ld, cols, n);
        att_transpose_words((float *)(void *)(dst + (size_t)d * ATT_BLOCK), ATT_BLOCK / 2,
                            (const float *)(const void *)work, TILE_N, (n + 1) / 2, cols);
    }
#else
    (void)work;
    att_transpose_words(dst, ATT_BLOCK, src, ld, n, D);
#endif
}

/* The k dimension of the scores' product. */
CPU_INLINE uint32_t att_score_depth(uint32_t D) {
#ifdef SEAM_VARIANT_BF16
    return 3 * tile_k(D);
#else
    return D;
#endif
}

/* src (n, D) as act: in place where it is a whole block of act, else a copy padded with zeros,
 * work (ATT_BLOCK, tile_k(D)). */
static inline const act *att_rows_of(size_t *ret_ld, act *work, const float *src, size_t ld,
                                     uint32_t n, uint32_t D) {
    const uint32_t wide = tile_k(D);
#ifndef SEAM_VARIANT_BF16
    if (n == ATT_BLOCK && D == wide) {
        *ret_ld = ld;
        return src;
    }
#endif
    if (n < ATT_BLOCK || D != wide) {
        memset(work, 0, (size_t)ATT_BLOCK * wide * sizeof *work);
    }
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t d = 0; d < D; d += VL) {
            const uint32_t count = min_u32(VL, D - d);
            any_store(work, (size_t)i * wide + d, 0, any_load(src, i * ld + d, 1, count), count);
        }
    }
    *ret_ld = wide;
    return work;
}

/* src (n, D) as rows of the scores' product, (ATT_BLOCK, att_score_depth(D)): hi | lo | hi, each
 * tile_k(D) wide, or as att_rows_of.  work: as many act. */
static inline const act *att_score_rows(size_t *ret_ld, act *work, const float *src, size_t ld,
                                        uint32_t n, uint32_t D) {
#ifdef SEAM_VARIANT_BF16
    const uint32_t wide = tile_k(D), depth = att_score_depth(D);
    if (n < ATT_BLOCK || D != wide) {
        memset(work, 0, (size_t)ATT_BLOCK * depth * sizeof *work);
    }
    for (uint32_t i = 0; i < n; i++) {
        act *row = work + (size_t)i * depth;
        for (uint32_t d = 0; d < D; d += VL) {
            const uint32_t count = min_u32(VL, D - d);
            const vf x = any_load(src, i * ld + d, 1, count);
            any_store(row, d, 0, x, count);
            any_store(row, 2 * wide + d, 0, x, count);
            any_store(row, wide + d, 0, x - any_load(row, d, 0, count), count);
        }
    }
    *ret_ld = depth;
    return work;
#else
    return att_rows_of(ret_ld, work, src, ld, n, D);
#endif
}

/* dst (n, D) act = src (D, ATT_BLOCK) f32 transposed.  work (ATT_BLOCK, D) f32. */
static inline void att_store_transposed(act *dst, size_t ld, float *work, const float *src,
                                        uint32_t n, uint32_t D) {
    att_transpose_words(work, D, src, ATT_BLOCK, D, ATT_BLOCK);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t d = 0; d < D; d += VL) {
            const uint32_t count = min_u32(VL, D - d);
            any_store(dst, i * ld + d, 0, any_load(work, (size_t)i * D + d, 1, count), count);
        }
    }
}

/* b operand (k = D, n = queries) of a block of rows: ATT_PANELS panels, zero beyond n rows. */
static inline void att_pack_queries(act *dst, const act *src, size_t ld, uint32_t n, uint32_t D) {
    for (uint32_t p = 0; p < ATT_PANELS; p++) {
        const uint32_t first = p * TILE_N, count = n > first ? min_u32(TILE_N, n - first) : 0;
        tile_pack_rows(dst + p * tile_panel(D), src + first * ld, ld, 0, count, D);
    }
}

/* The same of the scores' product, from a block of q: hi over hi over lo, to meet the rows above.
 * work (ATT_BLOCK, att_score_depth(D)). */
static inline void att_pack_score_queries(act *dst, act *work, const float *src, size_t ld,
                                          uint32_t n, uint32_t D) {
    size_t rows_ld = 0;
    const act *rows = att_score_rows(&rows_ld, work, src, ld, n, D);
#ifdef SEAM_VARIANT_BF16
    const uint32_t wide = tile_k(D);
    for (uint32_t p = 0; p < ATT_PANELS; p++) {
        const uint32_t first = p * TILE_N, count = n > first ? min_u32(TILE_N, n - first) : 0;
        const act *hi = rows + first * rows_ld;
        act *panel = dst + p * tile_panel(att_score_depth(D));
        tile_pack_rows(panel, hi, rows_ld, 0, count, D);
        memcpy(panel + tile_panel(D), panel, tile_panel(D) * sizeof *panel);
        tile_pack_rows(panel + 2 * tile_panel(D), hi + wide, rows_ld, 0, count, D);
    }
#else
    att_pack_queries(dst, rows, rows_ld, n, D);
#endif
}

/* Which keys of a block the queries of a block see: query - key, counted in their blocks, is at
 * least `least` and at most `most`. */
typedef struct att_mask {
    bool any; /* false: all of them */
    int32_t least, most;
} att_mask;

CPU_INLINE att_mask att_mask_of(uint32_t q0, uint32_t k0, uint32_t window) {
    const int32_t back = (int32_t)(q0 - k0), far = ATT_BLOCK - 1;
    const bool edge = window != 0 && q0 - k0 + ATT_BLOCK - 1 >= window;
    return (att_mask){
        .any = back == 0 || edge, .least = -back, .most = edge ? (int32_t)window - 1 - back : far};
}

/* The first block of keys that some query of the block at q0 sees. */
CPU_INLINE uint32_t att_first_block(uint32_t q0, uint32_t window) {
    return seam_window_begin(window, 0, q0) / ATT_BLOCK * ATT_BLOCK;
}

CPU_INLINE vi att_seen(vi query, uint32_t key, att_mask mask) {
    const vi back = query - (int32_t)key;
    return (back >= mask.least) & (back <= mask.most);
}

/* Index of each lane, from `first`. */
CPU_INLINE vi att_lanes(uint32_t first) {
    vi x;
    for (int i = 0; i < VL; i++) {
        x[i] = (int32_t)first + i;
    }
    return x;
}

#endif
