/* The entropy coder's loops for AVX-512 as from Ice Lake on (VBMI, VBMI2, GFNI); the formulas are
 * rans_tile.c's.
 *
 * Gathers read the tables; the words of the lanes that take part are expanded into their lanes, or
 * compressed out of them, by the comparison's mask, without a table of shuffles.
 *
 * Decoding waits for one step's gather, product and words before the next, so that up to four
 * blocks go side by side.  Then the two vector ports set the pace, to which a gather of 16 is ten
 * micro-operations beside its loads: the 32 states are kept as a vector of low and one of high
 * halves, whose renormalisation is half of what two vectors of 16 states need.  Nanoseconds for a
 * step on Emerald Rapids, tables of their own: 24 alone, 13.3, 10.6 and 9.6 with two, three and
 * four blocks; two vectors of 16 states 18.5, 10.9, 11 and 10.9. */
#include "rans_tile_variants.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define LANES SEAM_RANS_LANES
#define TARGET                                                                                     \
    __attribute__((target("avx2,popcnt,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,gfni")))
#define INLINE static inline __attribute__((always_inline)) TARGET

/* Orders of a vector's elements: words and bytes at even places before those at odd ones, and
 * bytes 8k + j of each half as byte k of word j. */
static const uint16_t even_words[32] = {0,  2,  4,  6,  8,  10, 12, 14, 16, 18, 20,
                                        22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42,
                                        44, 46, 48, 50, 52, 54, 56, 58, 60, 62};
static const uint8_t even_bytes[64] = {
    0,  2,  4,  6,  8,  10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42,
    44, 46, 48, 50, 52, 54, 56, 58, 60, 62, 1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23,
    25, 27, 29, 31, 33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
static const uint8_t word_bytes[64] = {
    0,  8,  16, 24, 1,  9,  17, 25, 2,  10, 18, 26, 3,  11, 19, 27, 4,  12, 20, 28, 5,  13,
    21, 29, 6,  14, 22, 30, 7,  15, 23, 31, 32, 40, 48, 56, 33, 41, 49, 57, 34, 42, 50, 58,
    35, 43, 51, 59, 36, 44, 52, 60, 37, 45, 53, 61, 38, 46, 54, 62, 39, 47, 55, 63};

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

/* Low and high halves of the 32 states. */
typedef struct halves {
    __m512i low, high;
} halves;

INLINE halves halves_load(const seam_rans_lanes *lanes) {
    const __m512i a = _mm512_loadu_si512(lanes->x), b = _mm512_loadu_si512(lanes->x + 16);
    const __m512i even = _mm512_loadu_si512(even_words);
    return (halves){
        .low = _mm512_permutex2var_epi16(a, even, b),
        .high = _mm512_permutex2var_epi16(_mm512_srli_epi32(a, 16), even, _mm512_srli_epi32(b, 16)),
    };
}

INLINE void halves_save(seam_rans_lanes *lanes, const halves *from) {
    for (size_t i = 0; i < 2; i++) {
        const __m256i low =
            i == 0 ? _mm512_castsi512_si256(from->low) : _mm512_extracti64x4_epi64(from->low, 1);
        const __m256i high =
            i == 0 ? _mm512_castsi512_si256(from->high) : _mm512_extracti64x4_epi64(from->high, 1);
        const __m512i top = _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16);
        _mm512_storeu_si512(lanes->x + 16 * i, _mm512_or_si512(_mm512_cvtepu16_epi32(low), top));
    }
}

/* Low words of a, high words of b. */
INLINE __m512i words_mix(__m512i a, __m512i b) {
    return _mm512_ternarylogic_epi32(a, b, _mm512_set1_epi32(0xffff), 0xe4);
}

/* One symbol of 32 lanes; returns it in bits 0..7 of each word. */
INLINE __m512i decode32(halves *x, const uint8_t **words, const seam_rans_decode_entry *entries) {
    const __m512i slots = _mm512_set1_epi32((int)SEAM_RANS_PROB_SUM - 1);
    const __m512i even = _mm512_and_si512(x->low, slots);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(x->low, 16), slots);
    const __m512i a = _mm512_i32gather_epi32(even, (const void *)entries, 4);
    const __m512i b = _mm512_i32gather_epi32(odd, (const void *)entries, 4);
    /* Upper and lower halves of the entries: 16 * frequency + upper bits of the symbol, and its
     * lower bits and the offset. */
    const __m512i upper = words_mix(_mm512_srli_epi32(a, 16), b);
    const __m512i lower = words_mix(a, _mm512_slli_epi32(b, 16));
    const __m512i freq16 = _mm512_and_si512(upper, _mm512_set1_epi16((short)0xfff0));
    const __m512i offset = _mm512_and_si512(lower, _mm512_set1_epi16(SEAM_RANS_PROB_SUM - 1));
    /* f * (x >> 12) + offset = 16f * high + (f * (low >> 12) + offset), which is below 2^16. */
    const __m512i least = _mm512_add_epi16(
        _mm512_mullo_epi16(_mm512_srli_epi16(upper, 4), _mm512_srli_epi16(x->low, 12)), offset);
    const __m512i low = _mm512_add_epi16(_mm512_mullo_epi16(freq16, x->high), least);
    __m512i high = _mm512_mulhi_epu16(freq16, x->high);
    const __mmask32 carry = _mm512_cmplt_epu16_mask(low, least);
    high = _mm512_mask_sub_epi16(high, carry, high, _mm512_set1_epi16(-1));
    /* Below 2^15: neither a bit of the high half nor the top one of the low half. */
    const __m512i top = _mm512_shldi_epi16(high, low, 1);
    const __mmask32 below = _mm512_testn_epi16_mask(top, top);
    x->high = _mm512_mask_mov_epi16(high, below, low);
    x->low = _mm512_mask_expand_epi16(low, below, _mm512_loadu_si512((const void *)*words));
    *words += 2 * (size_t)__builtin_popcount(below);
    return _mm512_shldi_epi16(upper, lower, 4);
}

/* Bytes of two steps' symbols. */
INLINE void symbols_store(uint8_t *units0, uint8_t *units1, __m512i a, __m512i b) {
    const __m512i order = _mm512_loadu_si512(even_bytes);
    const __m512i low = _mm512_set1_epi16(255);
    const __m512i both = _mm512_ternarylogic_epi32(a, _mm512_slli_epi16(b, 8), low, 0xe4);
    const __m512i bytes = _mm512_permutexvar_epi8(order, both);
    _mm256_storeu_si256((void *)units0, _mm512_castsi512_si256(bytes));
    _mm256_storeu_si256((void *)units1, _mm512_extracti64x4_epi64(bytes, 1));
}

/* Of `count` readers, a constant. */
INLINE void decode_readers(seam_rans_reader *const *readers, uint32_t count) {
    halves x[SEAM_RANS_READERS_MAX];
    __m512i symbols[SEAM_RANS_READERS_MAX];
    const uint8_t *in[SEAM_RANS_READERS_MAX];
    uint32_t steps = readers[0]->steps, step = 0;
    for (uint32_t i = 0; i < count; i++) {
        x[i] = halves_load(&readers[i]->lanes);
        in[i] = readers[i]->at;
        steps = readers[i]->steps < steps ? readers[i]->steps : steps;
    }
    for (; step < steps; step++) {
        bool behind = false;
        for (uint32_t i = 0; i < count; i++) {
            behind |= in[i] > readers[i]->end;
        }
        if (behind) {
            break;
        }
        const size_t at = (size_t)step * LANES;
        for (uint32_t i = 0; i < count; i++) {
            symbols[i] = decode32(&x[i], &in[i], readers[i]->entries);
        }
        for (uint32_t i = 0; i + 1 < count; i += 2) {
            symbols_store(readers[i]->units + at, readers[i + 1]->units + at, symbols[i],
                          symbols[i + 1]);
        }
        if (count % 2 != 0) {
            _mm256_storeu_si256((void *)(readers[count - 1]->units + at),
                                _mm512_cvtepi16_epi8(symbols[count - 1]));
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        halves_save(&readers[i]->lanes, &x[i]);
        readers[i]->at = in[i];
        readers[i]->units += (size_t)step * LANES;
        readers[i]->steps -= step;
    }
}

TARGET void seam_rans_decode_avx512(seam_rans_reader *const *readers, uint32_t count,
                                    const seam_rans_shuffles *shuffles) {
    (void)shuffles;
    switch (count) {
    case 1:
        decode_readers(readers, 1);
        break;
    case 2:
        decode_readers(readers, 2);
        break;
    case 3:
        decode_readers(readers, 3);
        break;
    default:
        decode_readers(readers, SEAM_RANS_READERS_MAX);
    }
}

/* ---- planes ---- */

/* The words of one unit to its cells; those of two cells of 3 or 4 begin in a half each. */
INLINE void words_store(uint8_t *codes, __m256i words, const uint32_t *cells_at, uint32_t planes,
                        uint32_t cells) {
    if (cells == 2 && planes == 4) {
        _mm_storeu_si128((void *)(codes + cells_at[0]), _mm256_castsi256_si128(words));
        _mm_storeu_si128((void *)(codes + cells_at[1]), _mm256_extracti128_si256(words, 1));
        return;
    }
    if (cells == 2 && planes == 3) {
        _mm_mask_storeu_epi32(codes + cells_at[0], 7, _mm256_castsi256_si128(words));
        _mm_mask_storeu_epi32(codes + cells_at[1], 7, _mm256_extracti128_si256(words, 1));
        return;
    }
    if (cells == 1) {
        _mm256_mask_storeu_epi32(codes + cells_at[0], (__mmask8)((1u << planes) - 1), words);
        return;
    }
    uint32_t bytes[8];
    _mm256_storeu_si256((void *)bytes, words);
    for (uint32_t i = 0; i < cells; i++) {
        memcpy(codes + cells_at[i], bytes + (size_t)i * planes, 4 * (size_t)planes);
    }
}

INLINE void write_body(uint8_t *codes, const uint8_t *units, const uint32_t *cells_at,
                       uint32_t steps, uint32_t planes, uint32_t cells) {
    /* A transpose of 8 x 8 bits takes the bytes of its matrix last first. */
    const __m512i reverse =
        _mm512_broadcast_i32x4(_mm_set_epi8(8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
    const __m512i identity = _mm512_set1_epi64((long long)0x8040201008040201u);
    const __m512i apart = _mm512_setr_epi32(0, 1, 2, 3, 3, 4, 5, 6, 8, 9, 10, 11, 11, 12, 13, 14);
    __m512i order = _mm512_loadu_si512(word_bytes);
    order = cells == 2 && planes == 3 ? _mm512_permutexvar_epi32(apart, order) : order;
    for (uint32_t step = 0; step < steps; step += 2, units += 2 * LANES) {
        const bool both = step + 1 < steps;
        const __mmask64 taken = both ? ~(__mmask64)0 : 0xffffffffu;
        __m512i x = _mm512_maskz_loadu_epi8(taken, (const void *)units);
        x = _mm512_gf2p8affine_epi64_epi8(identity, _mm512_shuffle_epi8(x, reverse), 0);
        x = _mm512_permutexvar_epi8(order, x);
        words_store(codes, _mm512_castsi512_si256(x), cells_at, planes, cells);
        if (both) {
            words_store(codes, _mm512_extracti64x4_epi64(x, 1), cells_at + cells, planes, cells);
        }
        cells_at += 2 * (size_t)cells;
    }
}

TARGET void seam_rans_write_avx512(uint8_t *codes, const uint8_t *units, const uint32_t *cells_at,
                                   uint32_t steps, seam_rans_unit unit) {
    SEAM_RANS_FOR_UNIT(unit, write_body, codes, units, cells_at, steps);
}
#endif
