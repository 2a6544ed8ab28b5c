/* Portable and AVX2 loops of the entropy coder, and the choice: see rans_tile.h.
 *
 * rANS (Duda 2013, arXiv:1311.2540), interleaved over 32 lanes that share one stream of 16-bit
 * words, as in Giesen 2014 (arXiv:1402.3392): decoding a step, lanes 0..31 in order take a word
 * each where their state fell below 2^15.
 *
 *   decode   slot = x mod 2^12,  x' = f*(x >> 12) + slot - start,  x' < 2^15: x' = x' << 16 | word
 *   encode   x >= f << 19: word = x mod 2^16, x >>= 16;  x' = ((x / f) << 12) + x mod f + start
 *
 * Division by f is a multiplication by a rounded-up reciprocal, exact for x < 2^31 (Granlund and
 * Montgomery 1994); f = 1 has reciprocal 2^32 - 1, which gives x - 1, and a bias that mends it.
 *
 * Symbols to planes and back is the transpose of an 8 x 8 bit matrix for 8 lanes at a time
 * (Warren, Hacker's Delight, 7-3).
 *
 * Tried on Zen 3 for decoding, GB/s of packed 4-bit codes: 1.12 with the 8 table entries loaded one
 * by one by indices from registers (as here), 1.02 by indices through memory, 0.71 with the gather
 * instruction (39 micro-operations); two blocks at once 1.12, so latency is not the limit.  On
 * Emerald Rapids two blocks at once bring nothing either.  On Zen 5, GB/s at 4 bits: encoding with
 * gathers (rans_tile_avx512.c) 1.02, with loads 1.70 here and as much in vectors of 512 bits, so
 * that AMD's CPUs encode here; decoding four blocks with gathers 2.5, with a broadcast load and a
 * blend an entry 2.6, though both leave half of the instruction slots free. */
#include "rans_tile.h"

#include <string.h>

#include "bit_planes.h"
#include "bytes.h"
#include "rans_tile_variants.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define LANES     SEAM_RANS_LANES
#define SLOT_MASK (SEAM_RANS_PROB_SUM - 1)
#define INLINE    static inline __attribute__((always_inline))

/* ---- portable ---- */

INLINE void read_base_body(uint8_t *units, const uint8_t *codes, const uint32_t *cells_at,
                           uint32_t steps, uint32_t planes, uint32_t cells) {
    for (uint32_t step = 0; step < steps; step++, units += LANES, cells_at += cells) {
        uint64_t rows[4] = {0};
        uint32_t bit = 0;
        for (uint32_t i = 0; i < cells; i++) {
            for (uint32_t j = 0; j < planes; j++, bit++) {
                const uint32_t word = seam_get_u32(codes + cells_at[i] + 4 * (size_t)j);
                for (uint32_t k = 0; k < 4; k++) {
                    rows[k] |= (uint64_t)(word >> (8 * k) & 255) << (8 * bit);
                }
            }
        }
        for (uint32_t k = 0; k < 4; k++) {
            const uint64_t x = seam_bits_transpose(rows[k]);
            seam_put_u32(units + 8 * (size_t)k, (uint32_t)x);
            seam_put_u32(units + 8 * (size_t)k + 4, (uint32_t)(x >> 32));
        }
    }
}

INLINE void write_base_body(uint8_t *codes, const uint8_t *units, const uint32_t *cells_at,
                            uint32_t steps, uint32_t planes, uint32_t cells) {
    for (uint32_t step = 0; step < steps; step++, units += LANES, cells_at += cells) {
        uint64_t rows[4];
        for (uint32_t k = 0; k < 4; k++) {
            const uint8_t *in = units + 8 * (size_t)k;
            rows[k] = seam_bits_transpose(seam_get_u32(in) | (uint64_t)seam_get_u32(in + 4) << 32);
        }
        uint32_t bit = 0;
        for (uint32_t i = 0; i < cells; i++) {
            for (uint32_t j = 0; j < planes; j++, bit++) {
                uint32_t word = 0;
                for (uint32_t k = 0; k < 4; k++) {
                    word |= (uint32_t)(rows[k] >> (8 * bit) & 255) << (8 * k);
                }
                seam_put_u32(codes + cells_at[i] + 4 * (size_t)j, word);
            }
        }
    }
}

static void read_base(uint8_t *units, const uint8_t *codes, const uint32_t *cells_at,
                      uint32_t steps, seam_rans_unit unit) {
    SEAM_RANS_FOR_UNIT(unit, read_base_body, units, codes, cells_at, steps);
}

static void write_base(uint8_t *codes, const uint8_t *units, const uint32_t *cells_at,
                       uint32_t steps, seam_rans_unit unit) {
    SEAM_RANS_FOR_UNIT(unit, write_base_body, codes, units, cells_at, steps);
}

static uint8_t *encode_base(seam_rans_lanes *lanes, uint8_t *words, const uint8_t *units,
                            uint32_t steps, const seam_rans_encode_entry *entries,
                            const seam_rans_shuffles *shuffles) {
    (void)shuffles;
    for (uint32_t step = steps; step-- > 0;) {
        for (uint32_t l = LANES; l-- > 0;) {
            const uint64_t entry = entries[units[step * LANES + l]];
            const uint32_t freq = (uint32_t)(entry >> 32) & SLOT_MASK;
            uint32_t x = lanes->x[l];
            if (x >> 19 >= freq) {
                words -= 2;
                words[0] = (uint8_t)x;
                words[1] = (uint8_t)(x >> 8);
                x >>= 16;
            }
            const uint32_t high = (uint32_t)((uint64_t)x * (uint32_t)entry >> 32);
            const uint32_t quotient = high >> (entry >> 57);
            lanes->x[l] =
                x + ((uint32_t)(entry >> 44) & 0x1fffu) + quotient * (SEAM_RANS_PROB_SUM - freq);
        }
    }
    return words;
}

/* One step; returns where the words of the next one begin. */
INLINE const uint8_t *decode_step_base(uint32_t *restrict lanes, uint8_t *restrict units,
                                       const uint8_t *in, const seam_rans_decode_entry *entries) {
    for (uint32_t l = 0; l < LANES; l++) {
        const uint32_t entry = entries[lanes[l] & SLOT_MASK];
        const uint32_t x = (entry >> 20) * (lanes[l] >> SEAM_RANS_PROB_BITS) + (entry & SLOT_MASK);
        const bool below = x < SEAM_RANS_STATE_MIN;
        units[l] = (uint8_t)(entry >> 12);
        lanes[l] = below ? x << 16 | in[0] | (uint32_t)in[1] << 8 : x;
        in += below ? 2 : 0;
    }
    return in;
}

static void decode_base(seam_rans_reader *const *readers, uint32_t count,
                        const seam_rans_shuffles *shuffles) {
    (void)shuffles;
    for (uint32_t i = 0; i < count; i++) {
        seam_rans_reader *reader = readers[i];
        for (; reader->steps > 0 && reader->at <= reader->end; reader->steps--) {
            reader->at =
                decode_step_base(reader->lanes.x, reader->units, reader->at, reader->entries);
            reader->units += LANES;
        }
    }
}

/* The 16 minterms of four planes. */
INLINE void count_body(uint16_t *counts, const uint64_t *planes) {
    uint64_t low[4], high[4];
    for (uint32_t i = 0; i < 4; i++) {
        low[i] = ((i & 1) != 0 ? planes[0] : ~planes[0]) & ((i & 2) != 0 ? planes[1] : ~planes[1]);
        high[i] = ((i & 1) != 0 ? planes[2] : ~planes[2]) & ((i & 2) != 0 ? planes[3] : ~planes[3]);
    }
    for (uint32_t i = 0; i < 16; i++) {
        counts[i] = (uint16_t)(counts[i] + __builtin_popcountll(low[i % 4] & high[i / 4]));
    }
}

static void count_base(uint16_t *counts, const uint64_t *planes) {
    count_body(counts, planes);
}

static const seam_rans_tile_ops ops_base = {read_base, write_base, encode_base, decode_base,
                                            count_base};

void seam_rans_shuffles_encode(seam_rans_shuffles *ret) {
    for (uint32_t mask = 0; mask < 256; mask++) {
        uint8_t *row = ret->bytes[mask];
        uint32_t at = 16;
        memset(row, 0x80, 16);
        for (uint32_t l = 8; l-- > 0;) {
            if ((mask >> l & 1) != 0) {
                at -= 2;
                row[at] = (uint8_t)(2 * l);
                row[at + 1] = (uint8_t)(2 * l + 1);
            }
        }
    }
}

void seam_rans_shuffles_decode(seam_rans_shuffles *ret) {
    for (uint32_t mask = 0; mask < 256; mask++) {
        uint8_t *row = ret->bytes[mask];
        uint8_t at = 0;
        memset(row, 0x80, 16);
        for (uint32_t l = 0; l < 8; l++) {
            if ((mask >> l & 1) != 0) {
                row[2 * l] = at;
                row[2 * l + 1] = (uint8_t)(at + 1);
                at = (uint8_t)(at + 2);
            }
        }
    }
}

/* ---- AVX2 ---- */

#if defined(__x86_64__)
#define AVX2       __attribute__((target("avx2,popcnt")))
#define GFNI       __attribute__((target("avx2,popcnt,gfni")))
#define AVX2INLINE AVX2 INLINE

AVX2INLINE __m256i avx2_transpose(__m256i x) {
    const __m256i mask7 = _mm256_set1_epi64x(0x00aa00aa00aa00aa);
    const __m256i mask14 = _mm256_set1_epi64x(0x0000cccc0000cccc);
    const __m256i mask28 = _mm256_set1_epi64x(0x00000000f0f0f0f0);
    __m256i t = _mm256_and_si256(_mm256_xor_si256(x, _mm256_srli_epi64(x, 7)), mask7);
    x = _mm256_xor_si256(x, _mm256_xor_si256(t, _mm256_slli_epi64(t, 7)));
    t = _mm256_and_si256(_mm256_xor_si256(x, _mm256_srli_epi64(x, 14)), mask14);
    x = _mm256_xor_si256(x, _mm256_xor_si256(t, _mm256_slli_epi64(t, 14)));
    t = _mm256_and_si256(_mm256_xor_si256(x, _mm256_srli_epi64(x, 28)), mask28);
    return _mm256_xor_si256(x, _mm256_xor_si256(t, _mm256_slli_epi64(t, 28)));
}

/* The words of one unit in order, zeros behind them.  Masked loads, because a cell may be the
 * last thing in the buffer; not through memory, where a wide load after narrow stores stalls. */
AVX2INLINE __m256i avx2_words(const uint8_t *codes, const uint32_t *at, uint32_t planes,
                              uint32_t cells) {
    if (cells == 2 && planes >= 3) {
        const __m128i mask = _mm_setr_epi32(-1, -1, -1, planes == 4 ? -1 : 0);
        const __m128i a = _mm_maskload_epi32((const int *)(const void *)(codes + at[0]), mask);
        const __m128i b = _mm_maskload_epi32((const int *)(const void *)(codes + at[1]), mask);
        const __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
        return planes == 4
                   ? both
                   : _mm256_permutevar8x32_epi32(both, _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7));
    }
    if (cells == 4 && planes == 2) {
        const __m128i a = _mm_unpacklo_epi64(_mm_loadl_epi64((const void *)(codes + at[0])),
                                             _mm_loadl_epi64((const void *)(codes + at[1])));
        const __m128i b = _mm_unpacklo_epi64(_mm_loadl_epi64((const void *)(codes + at[2])),
                                             _mm_loadl_epi64((const void *)(codes + at[3])));
        return _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
    }
    if (cells == 1) {
        const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)planes), lanes);
        return _mm256_maskload_epi32((const int *)(const void *)(codes + at[0]), mask);
    }
    uint32_t words[8] = {0};
    for (uint32_t i = 0; i < cells * planes; i++) {
        words[i] = seam_get_u32(codes + at[i / planes] + 4 * (size_t)(i % planes));
    }
    return _mm256_setr_epi32((int)words[0], (int)words[1], (int)words[2], (int)words[3],
                             (int)words[4], (int)words[5], (int)words[6], (int)words[7]);
}

/* Bytes 4b + k of 8 words to byte b, or from the last on, of quarter k. */
AVX2INLINE __m256i avx2_quarters(__m256i words, bool last_first) {
    const __m256i bytes = _mm256_broadcastsi128_si256(
        last_first ? _mm_setr_epi8(12, 8, 4, 0, 13, 9, 5, 1, 14, 10, 6, 2, 15, 11, 7, 3)
                   : _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const __m256i quarters = last_first ? _mm256_setr_epi32(4, 0, 5, 1, 6, 2, 7, 3)
                                        : _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    return _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(words, bytes), quarters);
}

AVX2INLINE void read_avx2_body(uint8_t *units, const uint8_t *codes, const uint32_t *cells_at,
                               uint32_t steps, uint32_t planes, uint32_t cells) {
    for (uint32_t step = 0; step < steps; step++, units += LANES, cells_at += cells) {
        const __m256i x = avx2_quarters(avx2_words(codes, cells_at, planes, cells), false);
        _mm256_storeu_si256((void *)units, avx2_transpose(x));
    }
}

/* A product with the identity takes the bytes of its matrix last first, and transposes it. */
GFNI INLINE void read_gfni_body(uint8_t *units, const uint8_t *codes, const uint32_t *cells_at,
                                uint32_t steps, uint32_t planes, uint32_t cells) {
    const __m256i identity = _mm256_set1_epi64x((long long)0x8040201008040201u);
    for (uint32_t step = 0; step < steps; step++, units += LANES, cells_at += cells) {
        const __m256i x = avx2_quarters(avx2_words(codes, cells_at, planes, cells), true);
        _mm256_storeu_si256((void *)units, _mm256_gf2p8affine_epi64_epi8(identity, x, 0));
    }
}

AVX2INLINE void write_avx2_body(uint8_t *codes, const uint8_t *units, const uint32_t *cells_at,
                                uint32_t steps, uint32_t planes, uint32_t cells) {
    for (uint32_t step = 0; step < steps; step++, units += LANES, cells_at += cells) {
        const __m256i x = _mm256_loadu_si256((const void *)units);
        uint32_t bit = 0;
        for (uint32_t i = 0; i < cells; i++) {
            uint8_t *out = codes + cells_at[i];
            for (uint32_t j = 0; j < planes; j++, bit++) {
                const __m256i top = _mm256_sll_epi16(x, _mm_cvtsi32_si128((int)(7 - bit)));
                const uint32_t word = (uint32_t)_mm256_movemask_epi8(top);
                memcpy(out + 4 * (size_t)j, &word, 4);
            }
        }
    }
}

AVX2 static void read_avx2(uint8_t *units, const uint8_t *codes, const uint32_t *cells_at,
                           uint32_t steps, seam_rans_unit unit) {
    SEAM_RANS_FOR_UNIT(unit, read_avx2_body, units, codes, cells_at, steps);
}

GFNI static void read_gfni(uint8_t *units, const uint8_t *codes, const uint32_t *cells_at,
                           uint32_t steps, seam_rans_unit unit) {
    SEAM_RANS_FOR_UNIT(unit, read_gfni_body, units, codes, cells_at, steps);
}

AVX2 static void write_avx2(uint8_t *codes, const uint8_t *units, const uint32_t *cells_at,
                            uint32_t steps, seam_rans_unit unit) {
    SEAM_RANS_FOR_UNIT(unit, write_avx2_body, codes, units, cells_at, steps);
}

/* Entries of 4 symbols, two in each half. */
AVX2INLINE __m256i avx2_entries(const seam_rans_encode_entry *entries, const uint8_t *low,
                                const uint8_t *high) {
    const __m128i a = _mm_set_epi64x((long long)entries[low[1]], (long long)entries[low[0]]);
    const __m128i b = _mm_set_epi64x((long long)entries[high[1]], (long long)entries[high[0]]);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
}

AVX2INLINE __m256i avx2_encode8(__m256i x, uint8_t **words, const uint8_t *units,
                                const seam_rans_encode_entry *entries,
                                const seam_rans_shuffles *shuffles) {
    const __m256 a = _mm256_castsi256_ps(avx2_entries(entries, units, units + 4));
    const __m256 b = _mm256_castsi256_ps(avx2_entries(entries, units + 2, units + 6));
    const __m256i reciprocal = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0x88));
    const __m256i rest = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0xdd));
    const __m256i freq = _mm256_and_si256(rest, _mm256_set1_epi32((int)SLOT_MASK));
    /* Renormalise: words of the lanes that overflow, in lane order, end at *words. */
    const __m256i keep = _mm256_cmpgt_epi32(freq, _mm256_srli_epi32(x, 19));
    const uint32_t out = ~(uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(keep)) & 255u;
    const __m256i low = _mm256_and_si256(x, _mm256_set1_epi32(0xffff));
    const __m128i packed =
        _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
    const __m128i shuffle = _mm_load_si128((const void *)shuffles->bytes[out]);
    _mm_storeu_si128((void *)(*words - 16), _mm_shuffle_epi8(packed, shuffle));
    *words -= 2 * (size_t)__builtin_popcount(out);
    x = _mm256_blendv_epi8(_mm256_srli_epi32(x, 16), x, keep);
    /* x + bias + (x / freq) * (2^12 - freq) */
    const __m256i even = _mm256_srli_epi64(_mm256_mul_epu32(x, reciprocal), 32);
    const __m256i odd =
        _mm256_mul_epu32(_mm256_srli_epi64(x, 32), _mm256_srli_epi64(reciprocal, 32));
    const __m256i high = _mm256_blend_epi32(even, odd, 0xaa);
    const __m256i quotient = _mm256_srlv_epi32(high, _mm256_srli_epi32(rest, 25));
    const __m256i bias = _mm256_and_si256(_mm256_srli_epi32(rest, 12), _mm256_set1_epi32(0x1fff));
    const __m256i scale = _mm256_sub_epi32(_mm256_set1_epi32((int)SEAM_RANS_PROB_SUM), freq);
    return _mm256_add_epi32(_mm256_add_epi32(x, bias), _mm256_mullo_epi32(quotient, scale));
}

/* Entries of the 8 slots. */
AVX2INLINE __m256i avx2_slots(const seam_rans_decode_entry *entries, __m256i slot) {
    const uint64_t s01 = (uint64_t)_mm256_extract_epi64(slot, 0);
    const uint64_t s23 = (uint64_t)_mm256_extract_epi64(slot, 1);
    const uint64_t s45 = (uint64_t)_mm256_extract_epi64(slot, 2);
    const uint64_t s67 = (uint64_t)_mm256_extract_epi64(slot, 3);
    return _mm256_setr_epi32((int)entries[(uint32_t)s01], (int)entries[s01 >> 32],
                             (int)entries[(uint32_t)s23], (int)entries[s23 >> 32],
                             (int)entries[(uint32_t)s45], (int)entries[s45 >> 32],
                             (int)entries[(uint32_t)s67], (int)entries[s67 >> 32]);
}

/* One symbol of 8 lanes; returns it in bits 0..7 of each. */
AVX2INLINE __m256i avx2_decode8(__m256i *lanes, const uint8_t **words,
                                const seam_rans_decode_entry *entries,
                                const seam_rans_shuffles *shuffles) {
    const __m256i slot_mask = _mm256_set1_epi32((int)SLOT_MASK);
    __m256i x = *lanes;
    const __m256i entry = avx2_slots(entries, _mm256_and_si256(x, slot_mask));
    const __m256i freq = _mm256_srli_epi32(entry, 20);
    x = _mm256_add_epi32(_mm256_mullo_epi32(freq, _mm256_srli_epi32(x, SEAM_RANS_PROB_BITS)),
                         _mm256_and_si256(entry, slot_mask));
    const __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)SEAM_RANS_STATE_MIN), x);
    const uint32_t in = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(below));
    const __m128i shuffle = _mm_load_si128((const void *)shuffles->bytes[in]);
    const __m128i taken = _mm_shuffle_epi8(_mm_loadu_si128((const void *)*words), shuffle);
    *words += 2 * (size_t)__builtin_popcount(in);
    const __m256i filled = _mm256_or_si256(_mm256_slli_epi32(x, 16), _mm256_cvtepu16_epi32(taken));
    *lanes = _mm256_blendv_epi8(x, filled, below);
    return _mm256_and_si256(_mm256_srli_epi32(entry, 12), _mm256_set1_epi32(255));
}

typedef struct avx2_lanes {
    __m256i x[4];
} avx2_lanes;

AVX2INLINE avx2_lanes avx2_load(const seam_rans_lanes *lanes) {
    avx2_lanes ret;
    for (uint32_t i = 0; i < 4; i++) {
        ret.x[i] = _mm256_load_si256((const void *)(lanes->x + (size_t)8 * i));
    }
    return ret;
}

AVX2INLINE void avx2_save(seam_rans_lanes *lanes, const avx2_lanes *from) {
    for (uint32_t i = 0; i < 4; i++) {
        _mm256_store_si256((void *)(lanes->x + (size_t)8 * i), from->x[i]);
    }
}

AVX2 static uint8_t *encode_avx2(seam_rans_lanes *lanes, uint8_t *words, const uint8_t *units,
                                 uint32_t steps, const seam_rans_encode_entry *entries,
                                 const seam_rans_shuffles *shuffles) {
    avx2_lanes x = avx2_load(lanes);
    for (uint32_t step = steps; step-- > 0;) {
        const uint8_t *in = units + (size_t)step * LANES;
        x.x[3] = avx2_encode8(x.x[3], &words, in + 24, entries, shuffles);
        x.x[2] = avx2_encode8(x.x[2], &words, in + 16, entries, shuffles);
        x.x[1] = avx2_encode8(x.x[1], &words, in + 8, entries, shuffles);
        x.x[0] = avx2_encode8(x.x[0], &words, in, entries, shuffles);
    }
    avx2_save(lanes, &x);
    return words;
}

/* One step. */
AVX2INLINE void avx2_decode32(avx2_lanes *lanes, const uint8_t **in, uint8_t *units,
                              const seam_rans_decode_entry *entries,
                              const seam_rans_shuffles *shuffles) {
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i s0 = avx2_decode8(&lanes->x[0], in, entries, shuffles);
    const __m256i s1 = avx2_decode8(&lanes->x[1], in, entries, shuffles);
    const __m256i s2 = avx2_decode8(&lanes->x[2], in, entries, shuffles);
    const __m256i s3 = avx2_decode8(&lanes->x[3], in, entries, shuffles);
    const __m256i bytes =
        _mm256_packus_epi16(_mm256_packus_epi32(s0, s1), _mm256_packus_epi32(s2, s3));
    _mm256_storeu_si256((void *)units, _mm256_permutevar8x32_epi32(bytes, order));
}

AVX2 static void decode_avx2(seam_rans_reader *const *readers, uint32_t count,
                             const seam_rans_shuffles *shuffles) {
    for (uint32_t i = 0; i < count; i++) {
        seam_rans_reader *reader = readers[i];
        avx2_lanes lanes = avx2_load(&reader->lanes);
        for (; reader->steps > 0 && reader->at <= reader->end; reader->steps--) {
            avx2_decode32(&lanes, &reader->at, reader->units, reader->entries, shuffles);
            reader->units += LANES;
        }
        avx2_save(&reader->lanes, &lanes);
    }
}

AVX2 static void count_avx2(uint16_t *counts, const uint64_t *planes) {
    count_body(counts, planes);
}

static const seam_rans_tile_ops ops_avx2 = {read_avx2, write_avx2, encode_avx2, decode_avx2,
                                            count_avx2};
static const seam_rans_tile_ops ops_avx512 = {read_gfni, seam_rans_write_avx512,
                                              seam_rans_encode_avx512, seam_rans_decode_avx512,
                                              count_avx2};
/* For CPUs whose gathers of 64 bits take longer than as many loads. */
static const seam_rans_tile_ops ops_avx512_loads = {read_gfni, seam_rans_write_avx512, encode_avx2,
                                                    seam_rans_decode_avx512, count_avx2};

static bool avx512_usable(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
           __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("gfni");
}
#endif

const seam_rans_tile_ops *seam_rans_tile_variant(uint32_t idx) {
    if (idx == 0) {
        return &ops_base;
    }
#if defined(__x86_64__)
    if (idx == 1 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt")) {
        return &ops_avx2;
    }
    if ((idx == 2 || idx == 3) && seam_rans_tile_variant(1) != NULL && avx512_usable()) {
        const bool loads = (idx == 3) == (__builtin_cpu_is("amd") != 0); /* the last one runs */
        return loads ? &ops_avx512_loads : &ops_avx512;
    }
#endif
    return NULL;
}

const seam_rans_tile_ops *seam_rans_tile_best(void) {
    const seam_rans_tile_ops *best = &ops_base;
    for (uint32_t idx = 1; seam_rans_tile_variant(idx) != NULL; idx++) {
        best = seam_rans_tile_variant(idx);
    }
    return best;
}
