/* What affine_tile_x86.h is built of: transposes of bits and words, and random numbers, on vectors
 * of 256 bits.  Part of the same body. */
#ifdef SEAM_TILE_TARGET

#include <immintrin.h>
#include <string.h>

#include "affine_tile_variants.h"

#define INLINE static inline __attribute__((always_inline)) SEAM_TILE_TARGET
/* Stages stay apart: inlined into each other they spill their constants. */
#define STAGE static __attribute__((noinline)) SEAM_TILE_TARGET

enum { PANEL = 1024, BLOCK = 8, BLOCKS = PANEL / BLOCK };
/* The most that a block's words and the store or load that runs over take. */
#define BLOCK_BYTES_MAX (BLOCK * 64)

/* Codes: [half][i][block]: rows i, i+8, i+16, i+24 of 8 channels; half 1: bits 8..15. */
typedef struct panel {
    __m256i codes[2][8][BLOCKS + 2];
    float uniforms[4][PANEL + 16];
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

/* Philox of 4 counters.  The words stand in 64-bit lanes because that is what the multiply reads
 * and writes; their upper halves are never read. */
typedef struct draw {
    __m256i x0, x1, x2, x3;
} draw;

/* The key goes to what is known early.  The empty asm keeps compilers from another order, which
 * lengthens the chain and runs out of registers. */
INLINE void draw_round(draw *d, const __m256i key[2]) {
    __m256i x0 = _mm256_xor_si256(d->x1, key[0]), x2 = _mm256_xor_si256(d->x3, key[1]);
    d->x3 = _mm256_mul_epu32(d->x0, _mm256_set1_epi64x(0xd2511f53));
    d->x1 = _mm256_mul_epu32(d->x2, _mm256_set1_epi64x(0xcd9e8d57));
    __asm__ volatile("" : "+x"(x0), "+x"(x2), "+x"(d->x1), "+x"(d->x3));
    d->x0 = _mm256_xor_si256(x0, _mm256_srli_epi64(d->x1, 32));
    d->x2 = _mm256_xor_si256(x2, _mm256_srli_epi64(d->x3, 32));
    __asm__ volatile("" : "+x"(d->x0), "+x"(d->x2));
}

/* Lanes hold quads 0, 2, 1, 3: these shuffles then leave channels in order. */
INLINE void draw_store(float *ret, const draw *d) {
    const __m256i low = _mm256_blend_epi32(d->x0, _mm256_slli_epi64(d->x1, 32), 0xaa);
    const __m256i high = _mm256_blend_epi32(d->x2, _mm256_slli_epi64(d->x3, 32), 0xaa);
    const __m256i first = _mm256_srli_epi32(_mm256_unpacklo_epi64(low, high), 8);
    const __m256i second = _mm256_srli_epi32(_mm256_unpackhi_epi64(low, high), 8);
    const __m256 unit = _mm256_set1_ps(0x1p-24f);
    _mm256_storeu_ps(ret, _mm256_mul_ps(_mm256_cvtepi32_ps(first), unit));
    _mm256_storeu_ps(ret + 8, _mm256_mul_ps(_mm256_cvtepi32_ps(second), unit));
}

/* Where the next 16 channels of a panel's four rows begin. */
typedef struct draw_place {
    uint32_t row, channel; /* row i + 8*row; the last one again and again */
} draw_place;

INLINE draw draw_begin(const seam_tile_draws *draws, uint32_t i, const draw_place *place) {
    const __m256i quads = _mm256_set1_epi64x(draws->quad_begin + place->channel / 4);
    return (draw){
        .x0 = _mm256_add_epi64(quads, _mm256_set_epi64x(3, 1, 2, 0)),
        .x1 = _mm256_set1_epi64x(draws->row_ids[i + 8 * place->row]),
        .x2 = _mm256_set1_epi64x(draws->word2),
        .x3 = _mm256_set1_epi64x(draws->word3),
    };
}

INLINE draw_place draw_next(const draw_place *place, uint32_t channels) {
    draw_place next = {place->row, place->channel + 16};
    if (next.channel >= channels) {
        next = place->row < 3 ? (draw_place){place->row + 1, 0} : *place;
    }
    return next;
}

/* The numbers of rows i, i + 8, i + 16 and i + 24.  A round waits for the one before, so three
 * draws go side by side: as many as there are registers for. */
STAGE void rows_draw(float ret[4][PANEL + 16], uint32_t i, uint32_t channels,
                     const seam_tile_draws *draws) {
    __m256i keys[10][2];
    for (uint32_t round = 0; round < 10; round++) {
        keys[round][0] = _mm256_set1_epi64x((uint32_t)draws->seed + round * 0x9e3779b9u);
        keys[round][1] = _mm256_set1_epi64x((uint32_t)(draws->seed >> 32) + round * 0xbb67ae85u);
    }
    draw_place p0 = {0, 0};
    for (uint32_t left = 4 * ((channels + 15) / 16);; left -= 3) {
        const draw_place p1 = draw_next(&p0, channels), p2 = draw_next(&p1, channels);
        draw d0 = draw_begin(draws, i, &p0), d1 = draw_begin(draws, i, &p1);
        draw d2 = draw_begin(draws, i, &p2);
        for (uint32_t round = 0; round < 10; round++) {
            draw_round(&d0, keys[round]);
            draw_round(&d1, keys[round]);
            draw_round(&d2, keys[round]);
        }
        draw_store(ret[p0.row] + p0.channel, &d0);
        draw_store(ret[p1.row] + p1.channel, &d1);
        draw_store(ret[p2.row] + p2.channel, &d2);
        if (left <= 3) {
            break;
        }
        p0 = draw_next(&p2, channels);
    }
}

#endif
