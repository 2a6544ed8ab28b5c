/* What affine_tile_x86.h is built of: transposes of bits and words, and random numbers, on vectors
 * of 256 bits.  Part of the same body. */
#ifdef SEAM_TILE_TARGET

#include <immintrin.h>
#include <string.h>

#include "affine_tile_variants.h"

#define INLINE static inline __attribute__((always_inline)) SEAM_TILE_TARGET
/* Stages stay apart: inlined into each other they spill their constants. */
#define STAGE static __attribute__((noinline)) SEAM_TILE_TARGET

/* Philox's. */
#define MULTIPLIER_0 0xd2511f53
#define MULTIPLIER_1 0xcd9e8d57

enum { PANEL = 1024, BLOCK = 8, BLOCKS = PANEL / BLOCK };
/* The most that a block's words and the store or load that runs over take. */
#define BLOCK_BYTES_MAX (BLOCK * 64)

/* What the first rounds need of 32 channels: eighths_fill. */
typedef struct draw_eighths {
    __m256i of[4];
} draw_eighths;

/* Codes: [half][i][block]: rows i, i+8, i+16, i+24 of 8 channels; half 1: bits 8..15. */
typedef struct panel {
    __m256i codes[2][8][BLOCKS + 2];
    uint16_t halves[4][PANEL + 32];
    draw_eighths eighths[PANEL / 32 + 1];
} panel;

/* ---- transposes ---- */

/* Bit matrices, 8x8 in each byte column of v[0..7]; see affine_tile.c. */
INLINE void butterfly(__m256i *low, __m256i *high, int distance, __m256i mask) {
    const __m256i t =
        _mm256_and_si256(_mm256_xor_si256(_mm256_srli_epi32(*low, distance), *high), mask);
    *high = _mm256_xor_si256(*high, t);
    /* Doubling is an addition, which has more execution units than a shift. */
    *low = _mm256_xor_si256(*low, distance == 1 ? _mm256_add_epi32(t, t)
                                                : _mm256_slli_epi32(t, distance));
}

/* The steps within v[0..3]. */
INLINE void transpose_bits4(__m256i v[4]) {
    const __m256i mask2 = _mm256_set1_epi8(0x33), mask1 = _mm256_set1_epi8(0x55);
    butterfly(&v[0], &v[2], 2, mask2);
    butterfly(&v[1], &v[3], 2, mask2);
    butterfly(&v[0], &v[1], 1, mask1);
    butterfly(&v[2], &v[3], 1, mask1);
}

INLINE void transpose_bits8(__m256i v[8]) {
    const __m256i mask4 = _mm256_set1_epi8(0x0f);
    for (int i = 0; i < 4; i++) {
        butterfly(&v[i], &v[i + 4], 4, mask4);
    }
    transpose_bits4(v);
    transpose_bits4(v + 4);
}

/* Within each half of a vector: words a of 4 rows x 4 columns to columns x rows. */
INLINE void transpose_words4(__m256i v[4]) {
    const __m256i a = _mm256_unpacklo_epi32(v[0], v[1]), b = _mm256_unpackhi_epi32(v[0], v[1]);
    const __m256i c = _mm256_unpacklo_epi32(v[2], v[3]), d = _mm256_unpackhi_epi32(v[2], v[3]);
    v[0] = _mm256_unpacklo_epi64(a, c);
    v[1] = _mm256_unpackhi_epi64(a, c);
    v[2] = _mm256_unpacklo_epi64(b, d);
    v[3] = _mm256_unpackhi_epi64(b, d);
}

/* 8 x 8 words. */
INLINE void transpose_words8(__m256i v[8]) {
    transpose_words4(v);
    transpose_words4(v + 4);
    for (int i = 0; i < 4; i++) {
        const __m256i low = v[i], high = v[i + 4];
        v[i] = _mm256_permute2x128_si256(low, high, 0x20);
        v[i + 4] = _mm256_permute2x128_si256(low, high, 0x31);
    }
}

/* ---- random numbers ---- */

#ifdef SEAM_TILE_TERNARY
INLINE __m256i xor3(__m256i a, __m256i b, __m256i c) {
    return _mm256_ternarylogic_epi64(a, b, c, 0x96);
}
#else
/* b and c are known early.  The empty asm keeps compilers from another order, which lengthens the
 * chain and runs out of registers. */
INLINE __m256i xor3(__m256i a, __m256i b, __m256i c) {
    __m256i early = _mm256_xor_si256(b, c);
    __asm__ volatile("" : "+x"(early));
    return _mm256_xor_si256(a, early);
}
#endif

/* Philox of 4 counters.  The words stand in 64-bit lanes because that is what the multiply reads
 * and writes; their upper halves are never read. */
typedef struct draw {
    __m256i x0, x1, x2, x3;
} draw;

INLINE void draw_round(draw *d, const __m256i key[2]) {
    const __m256i p0 = _mm256_mul_epu32(d->x0, _mm256_set1_epi64x(MULTIPLIER_0));
    const __m256i p1 = _mm256_mul_epu32(d->x2, _mm256_set1_epi64x(MULTIPLIER_1));
    d->x0 = xor3(_mm256_srli_epi64(p1, 32), d->x1, key[0]);
    d->x2 = xor3(_mm256_srli_epi64(p0, 32), d->x3, key[1]);
    d->x1 = p1;
    d->x3 = p0;
}

/* Lanes hold eighths 0, 2, 1, 3: these shuffles then leave channels in order. */
INLINE void draw_store(uint16_t *ret, const draw *d) {
    const __m256i low = _mm256_blend_epi32(d->x0, _mm256_slli_epi64(d->x1, 32), 0xaa);
    const __m256i high = _mm256_blend_epi32(d->x2, _mm256_slli_epi64(d->x3, 32), 0xaa);
    _mm256_storeu_si256((void *)ret, _mm256_unpacklo_epi64(low, high));
    _mm256_storeu_si256((void *)(ret + 16), _mm256_unpackhi_epi64(low, high));
}

/* Of the counter only the eighth changes along a row, and only the row from row to row, so the
 * first rounds fall apart: with p = M0*eighth, s = M1*(hi(p) ^ word3 ^ k1[0]) and t = M0*(hi(s) ^
 * lo(M1*word2) ^ k0[1]) of the eighth, r = M0*(hi(M1*word2) ^ row ^ k0[0]) of the row, the third
 * round begins at x2 = lo(p) ^ k1[1] ^ hi(r) and ends with x0 = hi(M1*x2) ^ lo(s) ^ k0[2], x2 =
 * hi(t) ^ lo(r) ^ k1[2], x3 = lo(t).  One multiplication of six is left in them. */
INLINE uint32_t key_word(const seam_tile_draws *draws, uint32_t word, uint32_t round) {
    return word == 0 ? (uint32_t)draws->seed + round * 0x9e3779b9u
                     : (uint32_t)(draws->seed >> 32) + round * 0xbb67ae85u;
}

/* ret[channel / 32]: lo(p) ^ k1[1], lo(s) ^ k0[2], hi(t), lo(t) ^ k1[3]. */
STAGE void eighths_fill(draw_eighths *ret, uint32_t channels, const seam_tile_draws *draws) {
    const __m256i m0 = _mm256_set1_epi64x(MULTIPLIER_0), m1 = _mm256_set1_epi64x(MULTIPLIER_1);
    const uint32_t x1 = (uint32_t)MULTIPLIER_1 * draws->word2;
    const __m256i key_s = _mm256_set1_epi64x(draws->word3 ^ key_word(draws, 1, 0));
    const __m256i key_t = _mm256_set1_epi64x(x1 ^ key_word(draws, 0, 1));
    __m256i eighths =
        _mm256_add_epi64(_mm256_set1_epi64x(draws->eighth_begin), _mm256_set_epi64x(3, 1, 2, 0));
    for (uint32_t at = 0; 32 * at < channels; at++) {
        const __m256i p = _mm256_mul_epu32(eighths, m0);
        const __m256i s = _mm256_mul_epu32(_mm256_xor_si256(_mm256_srli_epi64(p, 32), key_s), m1);
        const __m256i t = _mm256_mul_epu32(_mm256_xor_si256(_mm256_srli_epi64(s, 32), key_t), m0);
        ret[at].of[0] = _mm256_xor_si256(p, _mm256_set1_epi64x(key_word(draws, 1, 1)));
        ret[at].of[1] = _mm256_xor_si256(s, _mm256_set1_epi64x(key_word(draws, 0, 2)));
        ret[at].of[2] = _mm256_srli_epi64(t, 32);
        ret[at].of[3] = _mm256_xor_si256(t, _mm256_set1_epi64x(key_word(draws, 1, 3)));
        eighths = _mm256_add_epi64(eighths, _mm256_set1_epi64x(4));
    }
}

/* hi(r) and lo(r) ^ k1[2]. */
typedef struct draw_row {
    __m256i high, low;
} draw_row;

INLINE draw_row draw_row_of(const seam_tile_draws *draws, uint32_t row) {
    const uint32_t x1_high = (uint32_t)((uint64_t)MULTIPLIER_1 * draws->word2 >> 32);
    const uint64_t r =
        (uint64_t)MULTIPLIER_0 * (x1_high ^ draws->row_ids[row] ^ key_word(draws, 0, 0));
    return (draw_row){_mm256_set1_epi64x((uint32_t)(r >> 32)),
                      _mm256_set1_epi64x((uint32_t)r ^ key_word(draws, 1, 2))};
}

/* Four rounds. */
INLINE draw draw_begin(const __m256i *eighths, const draw_row *row, __m256i key) {
    const __m256i m0 = _mm256_set1_epi64x(MULTIPLIER_0), m1 = _mm256_set1_epi64x(MULTIPLIER_1);
    const __m256i x1 = _mm256_mul_epu32(_mm256_xor_si256(eighths[0], row->high), m1);
    const __m256i x0 = _mm256_xor_si256(_mm256_srli_epi64(x1, 32), eighths[1]);
    const __m256i x2 = _mm256_xor_si256(eighths[2], row->low);
    const __m256i p0 = _mm256_mul_epu32(x0, m0), p1 = _mm256_mul_epu32(x2, m1);
    return (draw){
        .x0 = xor3(_mm256_srli_epi64(p1, 32), x1, key),
        .x1 = p1,
        .x2 = _mm256_xor_si256(_mm256_srli_epi64(p0, 32), eighths[3]),
        .x3 = p0,
    };
}

/* The draws of rows i, i + 8, i + 16 and i + 24.  A round waits for the one before, so the rows
 * go side by side in twos. */
STAGE void rows_draw(uint16_t ret[4][PANEL + 32], uint32_t i, uint32_t channels,
                     const draw_eighths *eighths, const seam_tile_draws *draws) {
    __m256i keys[10][2];
    for (uint32_t round = 3; round < 10; round++) {
        keys[round][0] = _mm256_set1_epi64x(key_word(draws, 0, round));
        keys[round][1] = _mm256_set1_epi64x(key_word(draws, 1, round));
    }
    for (uint32_t k = 0; k < 4; k += 2) {
        const draw_row row0 = draw_row_of(draws, i + 8 * k);
        const draw_row row1 = draw_row_of(draws, i + 8 * k + 8);
        for (uint32_t c = 0; c < channels; c += 32) {
            draw d0 = draw_begin(eighths[c / 32].of, &row0, keys[3][0]);
            draw d1 = draw_begin(eighths[c / 32].of, &row1, keys[3][0]);
            for (uint32_t round = 4; round < 10; round++) {
                draw_round(&d0, keys[round]);
                draw_round(&d1, keys[round]);
            }
            draw_store(ret[k] + c, &d0);
            draw_store(ret[k + 1] + c, &d1);
        }
    }
}

#endif
