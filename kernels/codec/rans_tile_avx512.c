/* The entropy coder's encode and decode on two vectors of 16 lanes; the formulas are rans_tile.c's.
 *
 * Gathers read the tables; the words of the lanes that take part are expanded into their lanes, or
 * compressed out of them, by the comparison's mask, without a table of shuffles.  Decoding waits
 * for one step's gather, product and words before the next: nanoseconds for a step on Emerald
 * Rapids 23, AVX2 28 to 32; two blocks in turn 13 a step.  Encoding 21, AVX2 22 to 30. */
#include "rans_tile_variants.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define LANES  SEAM_RANS_LANES
#define TARGET __attribute__((target("avx2,popcnt,avx512f,avx512bw,avx512vl")))
#define INLINE static inline __attribute__((always_inline)) TARGET
/* A step's two loads of words begin within 32 bytes and take 32 each. */
#define STEP_BYTES_MAX 64

/* ---- encode ---- */

/* Entries of 16 symbols: reciprocals and what stands above them. */
INLINE void entries_get(__m512i *ret_reciprocal, __m512i *ret_rest, const uint8_t *units,
                        const seam_rans_encode_entry *entries) {
    const __m256i low = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)units));
    const __m256i high = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(units + 8)));
    const __m512i a = _mm512_i32gather_epi64(low, (const void *)entries, 8);
    const __m512i b = _mm512_i32gather_epi64(high, (const void *)entries, 8);
    const __m512i even =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd =
        _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    *ret_reciprocal = _mm512_permutex2var_epi32(a, even, b);
    *ret_rest = _mm512_permutex2var_epi32(a, odd, b);
}

INLINE __m512i encode16(__m512i x, uint8_t **words, const uint8_t *units,
                        const seam_rans_encode_entry *entries) {
    __m512i reciprocal, rest;
    entries_get(&reciprocal, &rest, units, entries);
    const __m512i freq = _mm512_and_si512(rest, _mm512_set1_epi32((int)SEAM_RANS_PROB_SUM - 1));
    /* Renormalise: words of the lanes that overflow, in lane order, end at *words. */
    const __mmask16 out = _mm512_cmple_epu32_mask(freq, _mm512_srli_epi32(x, 19));
    const uint32_t count = (uint32_t)__builtin_popcount(out);
    *words -= 2 * (size_t)count;
    const __m256i packed = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(out, x));
    _mm256_mask_storeu_epi16(*words, (__mmask16)((1u << count) - 1), packed);
    x = _mm512_mask_srli_epi32(x, out, x, 16);
    /* x + bias + (x / freq) * (2^12 - freq) */
    const __m512i even = _mm512_srli_epi64(_mm512_mul_epu32(x, reciprocal), 32);
    const __m512i odd =
        _mm512_mul_epu32(_mm512_srli_epi64(x, 32), _mm512_srli_epi64(reciprocal, 32));
    const __m512i high = _mm512_mask_mov_epi32(even, 0xaaaa, odd);
    const __m512i quotient = _mm512_srlv_epi32(high, _mm512_srli_epi32(rest, 25));
    const __m512i bias = _mm512_and_si512(_mm512_srli_epi32(rest, 12), _mm512_set1_epi32(0x1fff));
    const __m512i scale = _mm512_sub_epi32(_mm512_set1_epi32((int)SEAM_RANS_PROB_SUM), freq);
    return _mm512_add_epi32(_mm512_add_epi32(x, bias), _mm512_mullo_epi32(quotient, scale));
}

TARGET uint8_t *seam_rans_encode_avx512(seam_rans_lanes *lanes, uint8_t *words,
                                        const uint8_t *units, uint32_t steps,
                                        const seam_rans_encode_entry *entries,
                                        const seam_rans_shuffles *shuffles) {
    (void)shuffles;
    __m512i low = _mm512_loadu_si512(lanes->x), high = _mm512_loadu_si512(lanes->x + 16);
    for (uint32_t step = steps; step-- > 0;) {
        const uint8_t *in = units + (size_t)step * LANES;
        high = encode16(high, &words, in + 16, entries);
        low = encode16(low, &words, in, entries);
    }
    _mm512_storeu_si512(lanes->x, low);
    _mm512_storeu_si512(lanes->x + 16, high);
    return words;
}

/* ---- decode ---- */

/* One symbol of 16 lanes. */
INLINE __m512i decode16(__m512i x, const uint8_t **words, uint8_t *units,
                        const seam_rans_decode_entry *entries) {
    const __m512i slot_mask = _mm512_set1_epi32((int)SEAM_RANS_PROB_SUM - 1);
    const __m512i entry =
        _mm512_i32gather_epi32(_mm512_and_si512(x, slot_mask), (const void *)entries, 4);
    const __m512i freq = _mm512_and_si512(_mm512_srli_epi32(entry, 12), slot_mask);
    x = _mm512_add_epi32(_mm512_mullo_epi32(freq, _mm512_srli_epi32(x, SEAM_RANS_PROB_BITS)),
                         _mm512_and_si512(entry, slot_mask));
    const __mmask16 below = _mm512_cmplt_epu32_mask(x, _mm512_set1_epi32((int)SEAM_RANS_STATE_MIN));
    const __m512i next = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)*words));
    const __m512i taken = _mm512_maskz_expand_epi32(below, next);
    *words += 2 * (size_t)__builtin_popcount(below);
    _mm_storeu_si128((void *)units, _mm512_cvtepi32_epi8(_mm512_srli_epi32(entry, 24)));
    return _mm512_or_si512(_mm512_mask_slli_epi32(x, below, x, 16), taken);
}

TARGET uint32_t seam_rans_decode_avx512(seam_rans_reader *reader, uint8_t *units, uint32_t steps,
                                        const seam_rans_decode_entry *entries) {
    __m512i low = _mm512_loadu_si512(reader->lanes.x);
    __m512i high = _mm512_loadu_si512(reader->lanes.x + 16);
    const uint8_t *in = reader->at;
    uint32_t step = 0;
    for (; step < steps && reader->end - in >= STEP_BYTES_MAX; step++, units += LANES) {
        low = decode16(low, &in, units, entries);
        high = decode16(high, &in, units + 16, entries);
    }
    _mm512_storeu_si512(reader->lanes.x, low);
    _mm512_storeu_si512(reader->lanes.x + 16, high);
    reader->at = in;
    return step;
}
#endif
