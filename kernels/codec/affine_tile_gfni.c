/* affine_tile.h's groups on vectors of 512 bits, with bit matrices by GFNI and orders of bytes by
 * VBMI.  Up to 8 bits a code, rounded to nearest; the rest is affine_tile_avx512.c's.
 *
 * A group is cut into panels of at most 1024 channels, whose codes stay in the nearest cache
 * between two passes, as in affine_tile_x86.h, but in blocks of 32 channels:
 *   encode   1. eight rows at a time: quantize, narrow to bytes; eight rows of a channel side by
 *               side are a bit matrix, whose transpose is a byte of each of its planes;
 *            2. 16 channels at a time: bytes of the four eights to words of a channel, a store for
 *               each, which runs over: what is too much is overwritten by the next channel;
 *   decode   the way back; planes that a code does not have are masked at the end, then four rows
 * at a time become values.
 *
 * Of bf16 the even fours of a block's channels are taken apart from the odd ones, because that is
 * how one unpack makes f32 of each half; they meet again where words are stored.
 *
 * What it costs, ns for 64 values of bf16 in second-level cache, Zen 5 at 4 GHz: quantize 1.9,
 * words 0.5 (to 4 bits) and 0.7; decode: codes 1.1.  Quantizing is bound by its 27
 * instructions on four ports.  Tried: a channel's words moved together and apart by vpcompressd and
 * vpexpandd (encode 2 % faster to 4 bits, equal above; decode 14 % slower); nibbles of two channels
 * in one matrix when decoding to 4 bits (10 % slower than eight planes of each); rows measured
 * next prefetched (80 to 88 GB/s at 2048 x 576, 78 to 60 at 2048 x 4096). */
#include "affine_tile_variants.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define TARGET SEAM_TILE_GFNI
#define INLINE static inline __attribute__((always_inline)) TARGET
/* Stages stay apart: inlined into each other they spill their constants. */
#define STAGE static __attribute__((noinline)) TARGET

enum { PANEL = 1024, BLOCK = 32, HALF = 16, HALVES = PANEL / HALF };
/* The most that a block's words and the store or load that runs over take. */
#define BLOCK_BYTES_MAX (BLOCK * 32)

typedef struct panel {
    union {
        __m512i planes[4][HALVES][2]; /* [k]: of rows 8k .. 8k + 7, eight bytes a channel */
        __m512i codes[8][HALVES];     /* [k]: of rows 4k .. 4k + 3, four bytes a channel */
    } of;
    __m512i levels[HALVES]; /* encode: N in each byte of a channel, in the order of planes */
} panel;

/* ---- orders ---- */

/* Four rows x 4 channels in each lane to channels x rows, channel 4t + l to word t of lane l. */
static const uint8_t quarter_bytes[64] = {
    0,  4,  8,  12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 1,  5,  9,  13, 17, 21,
    25, 29, 33, 37, 41, 45, 49, 53, 57, 61, 2,  6,  10, 14, 18, 22, 26, 30, 34, 38, 42, 46,
    50, 54, 58, 62, 3,  7,  11, 15, 19, 23, 27, 31, 35, 39, 43, 47, 51, 55, 59, 63};
/* Eight words of each of 2 channels to bytes of planes 7..0 of rows 8k.. of channel c in eight
 * 2k + c. */
static const uint8_t plane_bytes[64] = {
    28, 24, 20, 16, 12, 8,  4,  0,  60, 56, 52, 48, 44, 40, 36, 32, 29, 25, 21, 17, 13, 9,
    5,  1,  61, 57, 53, 49, 45, 41, 37, 33, 30, 26, 22, 18, 14, 10, 6,  2,  62, 58, 54, 50,
    46, 42, 38, 34, 31, 27, 23, 19, 15, 11, 7,  3,  63, 59, 55, 51, 47, 43, 39, 35};

/* Whether a width of a block is above `bound`. */
INLINE bool widths_above(const uint8_t *widths, char bound) {
    const __m256i w = _mm256_loadu_si256((const void *)widths);
    return _mm256_movemask_epi8(_mm256_cmpgt_epi8(w, _mm256_set1_epi8(bound))) != 0;
}

/* N of 16 channels in each of its four bytes; N < 256. */
INLINE __m512i levels_bytes(__m512 levels) {
    return _mm512_shuffle_epi8(
        _mm512_cvtps_epi32(levels),
        _mm512_broadcast_i32x4(_mm_set_epi8(12, 12, 12, 12, 8, 8, 8, 8, 4, 4, 4, 4, 0, 0, 0, 0)));
}

/* ---- values in memory ---- */

/* Channels c .. c + 31 of a row, 16 at a time; bf16, a constant: the even fours, then the odd. */
INLINE void block_load(__m512 ret[2], const void *row, size_t c, bool bf16) {
    if (bf16) {
        const __m512i words = _mm512_loadu_si512((const uint16_t *)row + c);
        ret[0] = _mm512_castsi512_ps(_mm512_unpacklo_epi16(_mm512_setzero_si512(), words));
        ret[1] = _mm512_castsi512_ps(_mm512_unpackhi_epi16(_mm512_setzero_si512(), words));
    } else {
        ret[0] = _mm512_loadu_ps((const float *)row + c);
        ret[1] = _mm512_loadu_ps((const float *)row + c + HALF);
    }
}

/* A grid's numbers in the same order. */
INLINE void grid_load(__m512 ret[2], const float *grid, size_t c, bool bf16) {
    const __m512 a = _mm512_loadu_ps(grid + c), b = _mm512_loadu_ps(grid + c + HALF);
    ret[0] = bf16 ? _mm512_shuffle_f32x4(a, b, 0x88) : a;
    ret[1] = bf16 ? _mm512_shuffle_f32x4(a, b, 0xdd) : b;
}

/* streaming: a constant. */
INLINE void line_store(float *at, __m512 line, bool streaming) {
    if (streaming) {
        _mm512_stream_ps(at, line);
    } else {
        _mm512_storeu_ps(at, line);
    }
}

/* ---- encode ---- */

INLINE __m512i identity(void) {
    return _mm512_set1_epi64((long long)0x8040201008040201u);
}

/* Planes of 8 rows of 16 channels, of which q has the codes, last row first; returns their least
 * of 16 bits. */
INLINE __m512i half_planes(__m512i ret[2], const __m512i q[8], __m512i levels) {
    const __m512i order = _mm512_loadu_si512(quarter_bytes);
    const __m512i a = _mm512_packs_epi32(q[0], q[1]), b = _mm512_packs_epi32(q[2], q[3]);
    const __m512i c = _mm512_packs_epi32(q[4], q[5]), d = _mm512_packs_epi32(q[6], q[7]);
    __m512i upper = _mm512_permutexvar_epi8(order, _mm512_packus_epi16(a, b));
    __m512i lower = _mm512_permutexvar_epi8(order, _mm512_packus_epi16(c, d));
    upper = _mm512_min_epu8(upper, levels);
    lower = _mm512_min_epu8(lower, levels);
    /* A transpose of 8 x 8 bits takes the bytes of its matrix last first. */
    ret[0] = _mm512_gf2p8affine_epi64_epi8(identity(), _mm512_unpacklo_epi32(upper, lower), 0);
    ret[1] = _mm512_gf2p8affine_epi64_epi8(identity(), _mm512_unpackhi_epi32(upper, lower), 0);
    return _mm512_min_epi16(_mm512_min_epi16(a, b), _mm512_min_epi16(c, d));
}

/* Rows x .. x + 7*ld; false where the base variant has to do it: conversion gives 0x80000000 for
 * all that is not in int32's range, NaN and infinity among them, and the pack makes it -32768. */
INLINE bool rows_quantize(__m512i planes[][2], const panel *p, const void *x,
                          const seam_tile_group *group, bool bf16) {
    const seam_value_type type = bf16 ? SEAM_VALUE_BF16 : SEAM_VALUE_F32;
    const size_t count = group->channels, ld = group->ld;
    const seam_tile_grid grid = group->grid;
    __m512i least = _mm512_setzero_si512();
    for (size_t c = 0; c < count; c += BLOCK) {
        __m512 lo[2], inverse[2];
        __m512i q[2][8];
        grid_load(lo, grid.lo, c, bf16);
        grid_load(inverse, grid.inverse, c, bf16);
        for (size_t i = 0; i < 8; i++) {
            __m512 values[2];
            block_load(values, seam_tile_at(x, type, (7 - i) * ld), c, bf16);
            for (size_t e = 0; e < 2; e++) {
                const __m512 t = _mm512_mul_ps(_mm512_sub_ps(values[e], lo[e]), inverse[e]);
                q[e][i] = _mm512_cvtps_epi32(t);
            }
        }
        for (size_t e = 0; e < 2; e++) {
            const size_t half = c / HALF + e;
            least = _mm512_min_epi16(least, half_planes(planes[half], q[e], p->levels[half]));
        }
    }
    return _mm512_cmpeq_epi16_mask(least, _mm512_set1_epi16(INT16_MIN)) == 0;
}

INLINE void levels_fill(panel *p, const seam_tile_group *group, bool bf16) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (size_t c = 0; c < group->channels; c += BLOCK) {
        __m512 levels[2];
        grid_load(levels, group->grid.levels, c, bf16);
        for (size_t e = 0; e < 2; e++) {
            p->levels[c / HALF + e] = _mm512_permutexvar_epi32(order, levels_bytes(levels[e]));
        }
    }
}

INLINE bool panel_quantize_body(panel *p, const void *x, const seam_tile_group *group, bool bf16) {
    const seam_value_type type = bf16 ? SEAM_VALUE_BF16 : SEAM_VALUE_F32;
    bool known = true;
    levels_fill(p, group, bf16);
    for (size_t k = 0; k < 4; k++) {
        known &= rows_quantize(p->of.planes[k], p, seam_tile_at(x, type, 8 * k * group->ld), group,
                               bf16);
    }
    return known;
}

STAGE bool panel_quantize(panel *p, const void *x, const seam_tile_group *group) {
    return group->type == SEAM_VALUE_BF16 ? panel_quantize_body(p, x, group, true)
                                          : panel_quantize_body(p, x, group, false);
}

/* Words of fours of 16 channels: ret[t][0]: planes 0..3 of channels 4t .., a lane each, [1]: planes
 * 4..7. */
INLINE void half_words(__m512i ret[4][2], const panel *p, size_t half, bool deep) {
    for (size_t i = 0; i < 2; i++) {
        const __m512i k0 = p->of.planes[0][half][i], k1 = p->of.planes[1][half][i];
        const __m512i k2 = p->of.planes[2][half][i], k3 = p->of.planes[3][half][i];
        const __m512i a = _mm512_unpacklo_epi8(k0, k1), b = _mm512_unpacklo_epi8(k2, k3);
        const __m512i c = _mm512_unpackhi_epi8(k0, k1), d = _mm512_unpackhi_epi8(k2, k3);
        ret[2 * i][0] = _mm512_unpacklo_epi16(a, b);
        ret[2 * i + 1][0] = _mm512_unpacklo_epi16(c, d);
        if (deep) {
            ret[2 * i][1] = _mm512_unpackhi_epi16(a, b);
            ret[2 * i + 1][1] = _mm512_unpackhi_epi16(c, d);
        }
    }
}

/* The words of 4 channels: four of each are stored, or eight, of which those that are too many are
 * overwritten by the next one's. */
INLINE uint8_t *four_put(uint8_t *out, const __m512i words[2], const uint8_t *widths, bool deep) {
    uint8_t *at[4] = {out};
    for (size_t i = 1; i < 4; i++) {
        at[i] = at[i - 1] + 4 * (size_t)widths[i - 1];
    }
    if (deep) {
        const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
        const __m512i last = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
        const __m512i a = _mm512_permutex2var_epi64(words[0], first, words[1]);
        const __m512i b = _mm512_permutex2var_epi64(words[0], last, words[1]);
        _mm256_storeu_si256((void *)at[0], _mm512_castsi512_si256(a));
        _mm256_storeu_si256((void *)at[1], _mm512_extracti64x4_epi64(a, 1));
        _mm256_storeu_si256((void *)at[2], _mm512_castsi512_si256(b));
        _mm256_storeu_si256((void *)at[3], _mm512_extracti64x4_epi64(b, 1));
    } else {
        _mm_storeu_si128((void *)at[0], _mm512_castsi512_si128(words[0]));
        _mm_storeu_si128((void *)at[1], _mm512_extracti32x4_epi32(words[0], 1));
        _mm_storeu_si128((void *)at[2], _mm512_extracti32x4_epi32(words[0], 2));
        _mm_storeu_si128((void *)at[3], _mm512_extracti32x4_epi32(words[0], 3));
    }
    return at[3] + 4 * (size_t)widths[3];
}

/* deep, bf16: constants. */
INLINE uint8_t *block_put(uint8_t *out, const panel *p, const uint8_t *widths, size_t c, bool deep,
                          bool bf16) {
    __m512i words[2][4][2];
    half_words(words[0], p, c / HALF, deep);
    half_words(words[1], p, c / HALF + 1, deep);
    for (size_t s = 0; s < 8; s++) {
        const __m512i *w = bf16 ? words[s % 2][s / 2] : words[s / 4][s % 4];
        out = four_put(out, w, widths + c + 4 * s, deep);
    }
    return out;
}

INLINE uint8_t *block_encode(uint8_t *out, const panel *p, const uint8_t *widths, size_t c,
                             bool bf16) {
    return widths_above(widths + c, 4) ? block_put(out, p, widths, c, true, bf16)
                                       : block_put(out, p, widths, c, false, bf16);
}

INLINE uint8_t *panel_put_body(uint8_t *codes, const uint8_t *codes_end, const panel *p,
                               const seam_tile_group *group, bool bf16) {
    const uint8_t *widths = group->widths;
    const size_t count = group->channels;
    for (size_t c = 0; c < count; c += BLOCK) {
        if (codes_end - codes >= BLOCK_BYTES_MAX) {
            codes = block_encode(codes, p, widths, c, bf16);
            continue;
        }
        uint8_t last[BLOCK_BYTES_MAX]; /* the stores that run over must not leave the buffer */
        const size_t bytes = (size_t)(block_encode(last, p, widths, c, bf16) - last);
        memcpy(codes, last, bytes);
        codes += bytes;
    }
    return codes;
}

STAGE uint8_t *panel_put(uint8_t *codes, const uint8_t *codes_end, const panel *p,
                         const seam_tile_group *group) {
    return group->type == SEAM_VALUE_BF16 ? panel_put_body(codes, codes_end, p, group, true)
                                          : panel_put_body(codes, codes_end, p, group, false);
}

/* ---- decode ---- */

/* Planes of 2 channels, eight words of each, to codes: rows 8k .. 8k + 7 of channel c in eight
 * 2k + c.  What a channel does not have are planes of what follows. */
INLINE __m512i two_get(const uint8_t **in, const uint8_t *widths) {
    const uint8_t *second = *in + 4 * (size_t)widths[0];
    const __m512i low = _mm512_castsi256_si512(_mm256_loadu_si256((const void *)*in));
    const __m512i words = _mm512_inserti64x4(low, _mm256_loadu_si256((const void *)second), 1);
    const __m512i planes = _mm512_permutexvar_epi8(_mm512_loadu_si512(plane_bytes), words);
    *in = second + 4 * (size_t)widths[1];
    return _mm512_gf2p8affine_epi64_epi8(identity(), planes, 0);
}

/* Of two vectors, words 0 and 2 of each lane; or words 1 and 3. */
INLINE __m512i even_words(__m512i a, __m512i b) {
    return _mm512_castps_si512(
        _mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0x88));
}
INLINE __m512i odd_words(__m512i a, __m512i b) {
    return _mm512_castps_si512(
        _mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0xdd));
}

/* Lane k of each of four vectors, together. */
INLINE void transpose_lanes(__m512i v[4]) {
    const __m512i a = _mm512_shuffle_i32x4(v[0], v[1], 0x44);
    const __m512i b = _mm512_shuffle_i32x4(v[0], v[1], 0xee);
    const __m512i c = _mm512_shuffle_i32x4(v[2], v[3], 0x44);
    const __m512i d = _mm512_shuffle_i32x4(v[2], v[3], 0xee);
    v[0] = _mm512_shuffle_i32x4(a, c, 0x88);
    v[1] = _mm512_shuffle_i32x4(a, c, 0xdd);
    v[2] = _mm512_shuffle_i32x4(b, d, 0x88);
    v[3] = _mm512_shuffle_i32x4(b, d, 0xdd);
}

/* 16 channels: a word of four rows of each. */
INLINE const uint8_t *half_get(panel *p, const uint8_t *in, size_t half,
                               const seam_tile_group *group) {
    const size_t c = HALF * half;
    const __m512i own = levels_bytes(_mm512_loadu_ps(group->grid.levels + c));
    __m512i even[4], odd[4];
    for (size_t t = 0; t < 4; t++) {
        const __m512i a = two_get(&in, group->widths + c + 4 * t);
        const __m512i b = two_get(&in, group->widths + c + 4 * t + 2);
        even[t] = even_words(a, b);
        odd[t] = odd_words(a, b);
    }
    transpose_lanes(even);
    transpose_lanes(odd);
    for (size_t k = 0; k < 4; k++) {
        p->of.codes[2 * k][half] = _mm512_and_si512(even[k], own);
        p->of.codes[2 * k + 1][half] = _mm512_and_si512(odd[k], own);
    }
    return in;
}

INLINE const uint8_t *block_get(panel *p, const uint8_t *in, size_t c,
                                const seam_tile_group *group) {
    in = half_get(p, in, c / HALF, group);
    return half_get(p, in, c / HALF + 1, group);
}

STAGE const uint8_t *panel_get(panel *p, const uint8_t *codes, const uint8_t *codes_end,
                               const seam_tile_group *group) {
    const size_t count = group->channels;
    for (size_t c = 0; c < count; c += BLOCK) {
        const size_t left = (size_t)(codes_end - codes);
        if (left >= BLOCK_BYTES_MAX) {
            codes = block_get(p, codes, c, group);
            continue;
        }
        uint8_t last[BLOCK_BYTES_MAX] = {0}; /* the loads must not leave the buffer */
        memcpy(last, codes, left);
        codes += block_get(p, last, c, group) - last;
    }
    return codes;
}

/* Byte `row`, a constant, of each word. */
INLINE __m512i row_codes(__m512i codes, size_t row) {
    const int first = (int)row, zero = (int)0xffffff00u;
    if (row == 0) {
        return _mm512_and_si512(codes, _mm512_set1_epi32(255));
    }
    if (row == 3) {
        return _mm512_srli_epi32(codes, 24);
    }
    return _mm512_shuffle_epi8(
        codes, _mm512_broadcast_i32x4(_mm_set_epi32(zero | (first + 12), zero | (first + 8),
                                                    zero | (first + 4), zero | first)));
}

INLINE void values_put(float *x, const panel *p, const seam_tile_group *group, bool streaming) {
    const size_t count = group->channels, ld = group->ld;
    const seam_tile_grid grid = group->grid;
    for (size_t k = 0; k < 8; k++) {
        float *const rows = x + 4 * k * ld;
        for (size_t c = 0; c < count; c += BLOCK) {
            __m512 lo[2], step[2];
            grid_load(lo, grid.lo, c, false);
            grid_load(step, grid.step, c, false);
            for (size_t row = 0; row < 4; row++) {
                for (size_t e = 0; e < 2; e++) {
                    const __m512i q = row_codes(p->of.codes[k][c / HALF + e], row);
                    const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(q), step[e]);
                    line_store(rows + row * ld + c + HALF * e, _mm512_add_ps(lo[e], scaled),
                               streaming);
                }
            }
        }
    }
}

STAGE void values_write(float *x, const panel *p, const seam_tile_group *group, bool streaming) {
    if (streaming) {
        values_put(x, p, group, true);
        _mm_sfence();
    } else {
        values_put(x, p, group, false);
    }
}

INLINE const uint8_t *panel_decode(float *x, panel *p, const uint8_t *codes,
                                   const uint8_t *codes_end, const seam_tile_group *group,
                                   bool streaming) {
    codes = panel_get(p, codes, codes_end, group);
    const bool lines = streaming && (uintptr_t)x % 64 == 0 && (uintptr_t)(x + group->ld) % 64 == 0;
    values_write(x, p, group, lines);
    return codes;
}

/* x^ of what was encoded is what decodes from it. */
INLINE uint8_t *panel_encode(uint8_t *codes, uint8_t *codes_end, float *decoded, const void *x,
                             const seam_tile_group *group) {
    panel p;
    if (!panel_quantize(&p, x, group)) {
        return seam_tile_encode_group_base(codes, codes_end, decoded, x, group, NULL);
    }
    uint8_t *const next = panel_put(codes, codes_end, &p, group);
    if (decoded != NULL) {
        (void)panel_decode(decoded, &p, codes, codes_end, group, false);
    }
    return next;
}

/* ---- groups ---- */

/* The longest panel at the beginning of the group that is this file's, or that is not. */
INLINE seam_tile_group panel_next(bool *ret_own, const seam_tile_group *group) {
    const uint32_t count = group->channels;
    seam_tile_group first = *group;
    *ret_own = count >= BLOCK && !widths_above(group->widths, 8);
    first.channels = count < BLOCK ? count : BLOCK;
    const uint32_t end = *ret_own && count > PANEL ? PANEL : count;
    while (first.channels + BLOCK <= end &&
           widths_above(group->widths + first.channels, 8) != *ret_own) {
        first.channels += BLOCK;
    }
    return first;
}

TARGET uint8_t *seam_tile_encode_group_gfni(uint8_t *codes, uint8_t *codes_end, float *decoded,
                                            const void *x, const seam_tile_group *group,
                                            const seam_tile_draws *draws) {
    if (draws != NULL) {
        return seam_tile_encode_group_avx512(codes, codes_end, decoded, x, group, draws);
    }
    seam_tile_group rest = *group;
    for (uint32_t c = 0; codes != NULL && rest.channels > 0;) {
        const void *values = seam_tile_at(x, group->type, c);
        float *out = decoded != NULL ? decoded + c : NULL;
        bool own;
        const seam_tile_group first = panel_next(&own, &rest);
        codes = own ? panel_encode(codes, codes_end, out, values, &first)
                    : seam_tile_encode_group_avx512(codes, codes_end, out, values, &first, NULL);
        c += first.channels;
        rest = seam_tile_group_after(&rest, first.channels);
    }
    return codes;
}

TARGET const uint8_t *seam_tile_decode_group_gfni(float *x, const uint8_t *codes,
                                                  const uint8_t *codes_end,
                                                  const seam_tile_group *group, bool streaming) {
    seam_tile_group rest = *group;
    while (rest.channels > 0) {
        panel p;
        bool own;
        const seam_tile_group first = panel_next(&own, &rest);
        codes = own ? panel_decode(x, &p, codes, codes_end, &first, streaming)
                    : seam_tile_decode_group_avx512(x, codes, codes_end, &first, streaming);
        x += first.channels;
        rest = seam_tile_group_after(&rest, first.channels);
    }
    return codes;
}

/* ---- ranges ---- */

/* 16 channels from c on of `row_count` rows, a constant where it matters. */
INLINE void widen16(float *lo, float *hi, float *sum, const void *const *rows, size_t row_count,
                    size_t c) {
    __m512 least = _mm512_loadu_ps(lo + c), most = _mm512_loadu_ps(hi + c);
    __m512 total = _mm512_loadu_ps(sum + c);
    for (size_t i = 0; i < row_count; i++) {
        const __m512 x = _mm512_loadu_ps((const float *)rows[i] + c);
        least = _mm512_min_ps(x, least);
        most = _mm512_max_ps(x, most);
        total = _mm512_add_ps(total, x);
    }
    _mm512_storeu_ps(lo + c, least);
    _mm512_storeu_ps(hi + c, most);
    _mm512_storeu_ps(sum + c, total);
}

/* 32 channels of bf16. */
INLINE void widen32(int16_t *lo, int16_t *hi, const void *const *rows, size_t row_count, size_t c) {
    const __m512i magnitude = _mm512_set1_epi16(0x7fff);
    __m512i least = _mm512_loadu_si512(lo + c), most = _mm512_loadu_si512(hi + c);
    for (size_t i = 0; i < row_count; i++) {
        const __m512i x = _mm512_loadu_si512((const uint16_t *)rows[i] + c);
        const __m512i sign = _mm512_srai_epi16(x, 15);
        /* seam_tile_order: x ^ (sign & magnitude) */
        const __m512i place = _mm512_ternarylogic_epi32(x, sign, magnitude, 0x78);
        least = _mm512_min_epi16(place, least);
        most = _mm512_max_epi16(place, most);
    }
    _mm512_storeu_si512(lo + c, least);
    _mm512_storeu_si512(hi + c, most);
}

TARGET void seam_tile_widen_gfni(float *lo, float *hi, float *sum, const seam_tile_sources *from,
                                 uint32_t count) {
    const uint32_t whole = count / HALF * HALF;
    if (from->count == SEAM_TILE_WIDEN_ROWS) {
        const void *const rows[SEAM_TILE_WIDEN_ROWS] = {from->rows[0], from->rows[1], from->rows[2],
                                                        from->rows[3]};
        for (size_t c = 0; c < whole; c += HALF) {
            widen16(lo, hi, sum, rows, SEAM_TILE_WIDEN_ROWS, c);
        }
    } else {
        for (size_t c = 0; c < whole; c += HALF) {
            widen16(lo, hi, sum, from->rows, from->count, c);
        }
    }
    if (whole < count) {
        const seam_tile_sources rest = seam_tile_sources_after(from, whole, sizeof(float));
        seam_tile_widen_base(lo + whole, hi + whole, sum + whole, &rest, count - whole);
    }
}

TARGET void seam_tile_widen_bf16_gfni(int16_t *lo, int16_t *hi, const seam_tile_sources *from,
                                      uint32_t count) {
    const uint32_t whole = count / BLOCK * BLOCK;
    if (from->count == SEAM_TILE_WIDEN_ROWS) {
        const void *const rows[SEAM_TILE_WIDEN_ROWS] = {from->rows[0], from->rows[1], from->rows[2],
                                                        from->rows[3]};
        for (size_t c = 0; c < whole; c += BLOCK) {
            widen32(lo, hi, rows, SEAM_TILE_WIDEN_ROWS, c);
        }
    } else {
        for (size_t c = 0; c < whole; c += BLOCK) {
            widen32(lo, hi, from->rows, from->count, c);
        }
    }
    if (whole < count) {
        const seam_tile_sources rest = seam_tile_sources_after(from, whole, sizeof(uint16_t));
        seam_tile_widen_bf16_base(lo + whole, hi + whole, &rest, count - whole);
    }
}
#endif
