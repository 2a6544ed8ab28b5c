/* Quantize, transpose bits, draw numbers: see affine_tile.h.
 *
 * Bit planes by 8x8 transposes: the codes of rows i, i+8, i+16, i+24 of a channel are put into
 * one 32-bit word A[i] (a byte each).  Plane j wants bit 8b+i to be bit 8b+j of A[i]: for each
 * byte b that is the transpose of an 8x8 bit matrix whose rows are A[0..7], done for 4 bytes and
 * all lanes at once in three butterfly steps (Warren, Hacker's Delight, 7-3).  The transpose is
 * its own inverse, so decoding runs the same steps.  Codes above 8 bits are two such matrices. */
#include "affine_tile.h"

#include <string.h>

#define L      SEAM_TILE_LANES
#define INLINE static inline __attribute__((always_inline))
/* t in [0, 65535] plus 2^23 rounds to an integer, ties to even, and leaves it in the low bits. */
#define ROUND_MAGIC      8388608.0f
#define ROUND_MAGIC_BITS 0x4b000000u

INLINE void transpose8(uint32_t *restrict a) {
    static const uint32_t masks[3] = {0x0f0f0f0fu, 0x33333333u, 0x55555555u};
    for (uint32_t s = 0; s < 3; s++) {
        const uint32_t distance = 4u >> s;
        const uint32_t mask = masks[s];
        for (uint32_t i = 0; i < 8; i++) {
            if ((i & distance) != 0) {
                continue;
            }
            uint32_t *low = a + i * L;
            uint32_t *high = a + (i + distance) * L;
            for (uint32_t l = 0; l < L; l++) {
                const uint32_t t = ((low[l] >> distance) ^ high[l]) & mask;
                high[l] ^= t;
                low[l] ^= t << distance;
            }
        }
    }
}

/* max and min in the form that is one instruction; a NaN (0 * infinity) becomes 0. */
INLINE float clamp_levels(float t, float levels) {
    t = t > 0.0f ? t : 0.0f;
    return t < levels ? t : levels;
}

INLINE void quantize_row(uint32_t *restrict q, float *restrict poison, const float *restrict x,
                         const seam_tile_grid *grid, const float *restrict uniform) {
    const float *restrict lo = grid->lo, *restrict inverse = grid->inverse;
    const float *restrict levels = grid->levels;
    if (uniform != NULL) {
        for (uint32_t l = 0; l < L; l++) {
            const float t = (x[l] - lo[l]) * inverse[l] + uniform[l];
            q[l] = (uint32_t)(int32_t)clamp_levels(t, levels[l]); /* truncates: floor, t >= 0 */
            poison[l] += x[l] * 0.0f;
        }
        return;
    }
    for (uint32_t l = 0; l < L; l++) {
        const float t = clamp_levels((x[l] - lo[l]) * inverse[l], levels[l]) + ROUND_MAGIC;
        uint32_t bits;
        memcpy(&bits, &t, sizeof bits);
        q[l] = bits - ROUND_MAGIC_BITS;
        poison[l] += x[l] * 0.0f;
    }
}

INLINE void dequantize_row(float *restrict x, const uint32_t *restrict q,
                           const seam_tile_grid *grid) {
    const float *restrict lo = grid->lo, *restrict step = grid->step;
    for (uint32_t l = 0; l < L; l++) {
        x[l] = lo[l] + (float)(int32_t)q[l] * step[l];
    }
}

INLINE void encode_body(uint32_t *restrict planes, float *restrict poison, float *decoded,
                        const float *x, const seam_tile_rows *rows, const seam_tile_grid *grid,
                        const float *uniform, bool wide) {
    _Alignas(64) uint32_t q[L];
    memset(planes, 0, (wide ? 16 : 8) * L * sizeof *planes);
    for (uint32_t i = 0; i < rows->count; i++) {
        const float *u = uniform != NULL ? uniform + (size_t)i * L : NULL;
        quantize_row(q, poison, x + i * rows->ld, grid, u);
        uint32_t *restrict low = planes + (i & 7) * L;
        uint32_t *restrict high = low + 8 * L;
        const uint32_t shift = i & 24;
        if (wide) {
            for (uint32_t l = 0; l < L; l++) {
                low[l] |= (q[l] & 255) << shift;
                high[l] |= q[l] >> 8 << shift;
            }
        } else {
            for (uint32_t l = 0; l < L; l++) {
                low[l] |= q[l] << shift;
            }
        }
        if (decoded != NULL) {
            dequantize_row(decoded + i * rows->ld, q, grid);
        }
    }
    transpose8(planes);
    if (wide) {
        transpose8(planes + 8 * L);
    }
}

INLINE void decode_body(float *x, const seam_tile_rows *rows, uint32_t *restrict planes,
                        const seam_tile_grid *grid, bool wide) {
    _Alignas(64) uint32_t q[L];
    transpose8(planes);
    if (wide) {
        transpose8(planes + 8 * L);
    }
    for (uint32_t i = 0; i < rows->count; i++) {
        const uint32_t *restrict low = planes + (i & 7) * L;
        const uint32_t *restrict high = low + 8 * L;
        const uint32_t shift = i & 24;
        for (uint32_t l = 0; l < L; l++) {
            q[l] = low[l] >> shift & 255;
        }
        if (wide) {
            for (uint32_t l = 0; l < L; l++) {
                q[l] |= (high[l] >> shift & 255) << 8;
            }
        }
        dequantize_row(x + i * rows->ld, q, grid);
    }
}

/* seam_philox for 16 counters that differ in word 0.  The words stand in 64-bit lanes, upper half
 * zero, because that is what the vector multiply 32 x 32 -> 64 reads and writes.  (AVX-512 DQ is
 * left out of the variants below: its 64-bit multiply, which compilers then pick, is slower.) */
INLINE void uniform_body(float *restrict ret, uint32_t quad_begin, uint32_t row_id, uint32_t word2,
                         uint32_t word3, uint64_t seed) {
    enum { QUADS = L / 4 };
    _Alignas(64) uint64_t x0[QUADS], x1[QUADS], x2[QUADS], x3[QUADS];
    for (uint32_t i = 0; i < QUADS; i++) {
        x0[i] = quad_begin + i;
        x1[i] = row_id;
        x2[i] = word2;
        x3[i] = word3;
    }
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        for (uint32_t i = 0; i < QUADS; i++) {
            const uint64_t p0 = (uint64_t)(uint32_t)x0[i] * 0xd2511f53u;
            const uint64_t p1 = (uint64_t)(uint32_t)x2[i] * 0xcd9e8d57u;
            x0[i] = (p1 >> 32) ^ x1[i] ^ k0;
            x2[i] = (p0 >> 32) ^ x3[i] ^ k1;
            x1[i] = p1 & 0xffffffffu;
            x3[i] = p0 & 0xffffffffu;
        }
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    for (uint32_t i = 0; i < QUADS; i++) {
        ret[4 * i] = (float)(int32_t)(x0[i] >> 8) * 0x1p-24f;
        ret[4 * i + 1] = (float)(int32_t)(x1[i] >> 8) * 0x1p-24f;
        ret[4 * i + 2] = (float)(int32_t)(x2[i] >> 8) * 0x1p-24f;
        ret[4 * i + 3] = (float)(int32_t)(x3[i] >> 8) * 0x1p-24f;
    }
}

INLINE void widen_body(float *restrict lo, float *restrict hi, float *restrict poison,
                       const float *restrict x, uint32_t count) {
    for (uint32_t c = 0; c < count; c++) {
        lo[c] = x[c] < lo[c] ? x[c] : lo[c];
        hi[c] = x[c] > hi[c] ? x[c] : hi[c];
        poison[c] += x[c] * 0.0f;
    }
}

/* One variant: the bodies above inlined into functions of one instruction set. */
#define DEFINE_VARIANT(suffix, attributes)                                                         \
    attributes static void encode_##suffix(                                                        \
        uint32_t *planes, float *poison, float *decoded, const float *x,                           \
        const seam_tile_rows *rows, const seam_tile_grid *grid, const float *uniform, bool wide) { \
        encode_body(planes, poison, decoded, x, rows, grid, uniform, wide);                        \
    }                                                                                              \
    attributes static void decode_##suffix(float *x, const seam_tile_rows *rows, uint32_t *planes, \
                                           const seam_tile_grid *grid, bool wide) {                \
        decode_body(x, rows, planes, grid, wide);                                                  \
    }                                                                                              \
    attributes static void uniform_##suffix(float *ret, uint32_t quad_begin, uint32_t row_id,      \
                                            uint32_t word2, uint32_t word3, uint64_t seed) {       \
        uniform_body(ret, quad_begin, row_id, word2, word3, seed);                                 \
    }                                                                                              \
    attributes static void widen_##suffix(float *lo, float *hi, float *poison, const float *x,     \
                                          uint32_t count) {                                        \
        widen_body(lo, hi, poison, x, count);                                                      \
    }                                                                                              \
    static const seam_tile_ops ops_##suffix = {encode_##suffix, decode_##suffix, uniform_##suffix, \
                                               widen_##suffix};

#define NO_ATTRIBUTES
DEFINE_VARIANT(base, NO_ATTRIBUTES)
#if defined(__x86_64__)
DEFINE_VARIANT(avx2, __attribute__((target("avx2"))))
DEFINE_VARIANT(avx512, __attribute__((target("avx512f,avx512bw,avx512vl"))))
#endif

const seam_tile_ops *seam_tile_ops_variant(uint32_t idx) {
    if (idx == 0) {
        return &ops_base;
    }
#if defined(__x86_64__)
    if (idx == 1 && __builtin_cpu_supports("avx2")) {
        return &ops_avx2;
    }
    if (idx == 2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
        return &ops_avx512;
    }
#endif
    return NULL;
}

const seam_tile_ops *seam_tile_ops_best(void) {
    const seam_tile_ops *best = &ops_base;
    for (uint32_t idx = 1; seam_tile_ops_variant(idx) != NULL; idx++) {
        best = seam_tile_ops_variant(idx);
    }
    return best;
}
