/* tile.h in f32: up to TILE_M rows by two vectors of accumulators held in registers.
 *
 * AVX-512: 12 x 2 accumulators, 2 of b, a broadcast from memory: 27 of 32 registers.  AVX2, SSE
 * and NEON: 6 x 2 of 16 (NEON has 32, and keeps the simple choice). */
#ifndef SEAM_TILE_F32_H
#define SEAM_TILE_F32_H

#include "vec.h"

#define TILE_N (2u * VL)
#if VL == 16
#define TILE_M 12u
#else
#define TILE_M 6u
#endif

CPU_INLINE uint32_t tile_k(uint32_t K) {
    return K;
}

CPU_INLINE size_t tile_place(uint32_t k, uint32_t n) {
    return (size_t)k * TILE_N + n;
}

CPU_INLINE void tile_begin(void) {}

CPU_INLINE void tile_end(void) {}

static inline void tile_pack_rows(act *dst, const act *src, size_t ld, uint32_t n_begin,
                                  uint32_t n_end, uint32_t K) {
    if (n_begin > 0 || n_end < TILE_N) {
        memset(dst, 0, (size_t)K * TILE_N * sizeof *dst);
    }
    for (uint32_t n = n_begin; n < n_end; n++) {
        const act *row = src + (n - n_begin) * ld;
        for (uint32_t k = 0; k < K; k++) {
            dst[(size_t)k * TILE_N + n] = row[k];
        }
    }
}

static inline void tile_pack_cols(act *dst, const act *src, size_t ld, uint32_t n, uint32_t K) {
    if (n < TILE_N) {
        memset(dst, 0, (size_t)K * TILE_N * sizeof *dst);
        for (uint32_t k = 0; k < K; k++) {
            memcpy(dst + (size_t)k * TILE_N, src + k * ld, n * sizeof *dst);
        }
        return;
    }
    for (uint32_t k = 0; k < K; k++) {
        vf_store(dst + (size_t)k * TILE_N, vf_load(src + k * ld));
        vf_store(dst + (size_t)k * TILE_N + VL, vf_load(src + k * ld + VL));
    }
}

CPU_INLINE void tile_emit_pair(act *dst, uint32_t k, uint32_t n, vf x0, vf x1) {
    vf_store(dst + (size_t)k * TILE_N + n, x0);
    vf_store(dst + (size_t)(k + 1) * TILE_N + n, x1);
}

/* m rows, w vectors; both constants where this is inlined, so `sum` lives in registers.
 *
 * A piece is summed from zero and then added to c, not onto c: over the 64 pieces of a vocabulary
 * (the head's input gradient) one chain of f32 additions lost 1.7e-4 of the gradient's norm where
 * the two levels lose 5e-6. */
CPU_INLINE void micro(const uint32_t m, const uint32_t w, float *c, size_t c_ld, _Bool add,
                      const float *a, size_t a_ld, uint32_t K, const float *b) {
    vf sum[TILE_M][2];
#pragma GCC unroll 12
    for (uint32_t i = 0; i < m; i++) {
        sum[i][0] = vf_set(0.0f);
        sum[i][1] = vf_set(0.0f);
    }
    for (uint32_t k = 0; k < K; k++) {
        const vf b0 = vf_load(b + (size_t)k * TILE_N);
        const vf b1 = w > 1 ? vf_load(b + (size_t)k * TILE_N + VL) : b0;
#pragma GCC unroll 12
        for (uint32_t i = 0; i < m; i++) {
            const vf x = vf_set(a[(size_t)i * a_ld + k]);
            sum[i][0] += x * b0;
            if (w > 1) {
                sum[i][1] += x * b1;
            }
        }
    }
#pragma GCC unroll 12
    for (uint32_t i = 0; i < m; i++) {
        float *to = c + (size_t)i * c_ld;
        vf_store(to, add ? vf_load(to) + sum[i][0] : sum[i][0]);
        if (w > 1) {
            vf_store(to + VL, add ? vf_load(to + VL) + sum[i][1] : sum[i][1]);
        }
    }
}

static inline void tile_product(float *c, uint32_t c_ld, _Bool add, uint32_t m, uint32_t n,
                                const act *a, size_t a_ld, uint32_t K, const act *b) {
    while (m > 0) {
        uint32_t rows = 1;
        if (n <= VL) {
            if (m >= TILE_M) {
                micro(rows = TILE_M, 1, c, c_ld, add, a, a_ld, K, b);
            } else if (m >= 4) {
                micro(rows = 4, 1, c, c_ld, add, a, a_ld, K, b);
            } else {
                micro(1, 1, c, c_ld, add, a, a_ld, K, b);
            }
        } else if (m >= TILE_M) {
            micro(rows = TILE_M, 2, c, c_ld, add, a, a_ld, K, b);
        } else if (m >= 4) {
            micro(rows = 4, 2, c, c_ld, add, a, a_ld, K, b);
        } else if (m >= 2) {
            micro(rows = 2, 2, c, c_ld, add, a, a_ld, K, b);
        } else {
            micro(1, 2, c, c_ld, add, a, a_ld, K, b);
        }
        m -= rows;
        a += rows * a_ld;
        c += (size_t)rows * c_ld;
    }
}

#endif
