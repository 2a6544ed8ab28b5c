/* affine_tile.h's groups in AVX2 intrinsics; no header but the body of affine_tile_avx2.c and, once
 * more, of affine_tile_avx512.c, whose VL brings three-operand logic and more registers to the same
 * 256-bit vectors.  They define SEAM_TILE_TARGET (attributes), SEAM_TILE_NAME(verb) and, where
 * there is three-operand logic, SEAM_TILE_TERNARY.
 *
 * A group is cut into panels of at most 1024 channels whose codes (a byte a value, 32 KB) stay in
 * the nearest caches between two passes:
 *   1. four rows i, i+8, i+16, i+24 at a time: quantize, narrow to bytes with saturation; a vector
 *      holds 4 rows x 8 channels, in the order that the packs leave (below: packed order);
 *   2. eight channels at a time: transpose bits (as affine_tile.c; half the work where no width is
 *      above 4), transpose words, and store each channel's words with one store, which may run
 *      over: what is too much is overwritten by the next channel.  Decoding is the way back.
 * Rows are read along the panel and the next one prefetched, because 32 rows side by side would
 * share cache sets when the row stride is a power of two.
 *
 * What it costs, cycles for 8 values on Zen 3 in first-level cache, at 2..4 and 5..8 bits: quantize
 * 1.6, transposes and stores 0.8 and 1.4; decode 0.7 and 1.3, values 1.5.  Draws are most of a
 * drawn encode: seven and a half of Philox's ten rounds are left of a panel's rows
 * (affine_tile_x86_lanes.h), 60 instructions for 32 values; 8 values of bf16 at 4 bits take 3.4 ns,
 * 1.0 to nearest, and took 5.2 with a draw for 4 channels.  Tried: four rows' draws side by side
 * instead of two (AVX2 spills, a third slower), panels of 256 channels (encode 13 % slower at 576
 * channels, 20 % at 4096 out of memory), all stages inlined into one function (7 % slower at 4
 * bits, equal at 8).
 *
 * Bytes moved, a value: measure reads 4, encode reads 4 and writes w/8, decode reads w/8 and writes
 * 4; a memcpy of the bf16 source reads 2 and writes 2.  Where loads set the pace of both, measure
 * and encode together stay below half of memcpy: tests/bench/bench_codec prints that limit.
 *
 * Finite values: conversion to integers gives 0x80000000 for all that is not in int32's range,
 * NaN and infinity among them, and the first pack makes it -32768.  A panel in which that comes
 * up is left to the base variant, which knows what it means. */
#ifdef SEAM_TILE_TARGET

#include "affine_tile_x86_values.h"

/* ---- encode ---- */

/* x + (-lo) is x - lo; an addition takes f32 from memory. */
INLINE __m256 steps_of(__m256 x, __m256 minus_lo, __m256 inverse) {
    return _mm256_mul_ps(_mm256_add_ps(minus_lo, x), inverse);
}

INLINE __m256i halves_load(const uint16_t *halves) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)halves));
}

/* floor(t + 2^-17 + half / 2^16), of codes below 2^8: in units of 2^-16, where what lies in int32's
 * range adds exactly.  Anything beyond it has -32768. */
INLINE __m256i round_drawn8(__m256 t, const uint16_t *halves) {
    const __m256 v = _mm256_add_ps(t, _mm256_set1_ps(SEAM_TILE_DRAW_CENTRE));
    const __m256i units = _mm256_cvttps_epi32(_mm256_mul_ps(v, _mm256_set1_ps(0x1p16f)));
    return _mm256_srai_epi32(_mm256_add_epi32(units, halves_load(halves)), 16);
}

/* The same of codes below 2^16, whole numbers and fractions apart; INT32_MIN for what is not in
 * int32's range.  What is negative stays so, or becomes 0. */
INLINE __m256i round_drawn16(__m256 t, const uint16_t *halves) {
    const __m256 v = _mm256_add_ps(t, _mm256_set1_ps(SEAM_TILE_DRAW_CENTRE));
    const __m256i whole = _mm256_cvttps_epi32(v);
    const __m256 fraction = _mm256_sub_ps(v, _mm256_cvtepi32_ps(whole));
    const __m256i units = _mm256_cvttps_epi32(_mm256_mul_ps(fraction, _mm256_set1_ps(0x1p16f)));
    const __m256i up = _mm256_srai_epi32(_mm256_add_epi32(units, halves_load(halves)), 16);
    const __m256i strange = _mm256_cmpeq_epi32(whole, _mm256_set1_epi32(INT32_MIN));
    return _mm256_add_epi32(whole, _mm256_andnot_si256(strange, up));
}

INLINE __m256 negate(__m256 v) {
    return _mm256_xor_ps(v, _mm256_set1_ps(-0.0f));
}

/* What a pass over values is made for. */
typedef struct source_form {
    bool bf16, drawn;
} source_form;

/* Codes of channel c.. of rows x[0..3] into *out; their least of 16 bits. */
INLINE __m256i block_quantize8(__m256i *out, const void *const x[4], const seam_tile_grid *grid,
                               size_t c, uint16_t halves[4][PANEL + 32], source_form form) {
    const __m256 inverse = _mm256_load_ps(grid->inverse + c);
    const __m256 minus_lo = negate(_mm256_load_ps(grid->lo + c));
    __m256i q[4];
    for (int k = 0; k < 4; k++) {
        const __m256 t = steps_of(values_load8(x[k], c, form.bf16), minus_lo, inverse);
        q[k] = form.drawn ? round_drawn8(t, halves[k] + c) : _mm256_cvtps_epi32(t);
    }
    const __m256i a = _mm256_packs_epi32(q[0], q[1]), b = _mm256_packs_epi32(q[2], q[3]);
    out[c / BLOCK] = _mm256_packus_epi16(a, b);
    return _mm256_min_epi16(a, b);
}

/* Codes of rows x, x + 8*ld, .. below 2^8 into out[channel/8]; false where the base variant has
 * to do it.  ahead: from a row to the one that comes next, which is prefetched. */
INLINE bool rows_quantize8(__m256i *restrict out, const void *x, const seam_tile_group *group,
                           uint16_t halves[4][PANEL + 32], source_form form, size_t ahead) {
    const size_t ld8 = 8 * group->ld, count = group->channels;
    const seam_value_type type = form.bf16 ? SEAM_VALUE_BF16 : SEAM_VALUE_F32;
    const void *const rows[4] = {x, seam_tile_at(x, type, ld8), seam_tile_at(x, type, 2 * ld8),
                                 seam_tile_at(x, type, 3 * ld8)};
    const seam_tile_grid grid = group->grid;
    __m256i least = _mm256_setzero_si256();
    size_t c = 0;
    for (; c + 2 * BLOCK <= count; c += 2 * BLOCK) {
        for (size_t k = 0; k < 4; k++) { /* the cache line that the next row takes */
            _mm_prefetch((const char *)seam_tile_at(rows[k], type, c + ahead), _MM_HINT_T0);
        }
        const __m256i a = block_quantize8(out, rows, &grid, c, halves, form);
        const __m256i b = block_quantize8(out, rows, &grid, c + BLOCK, halves, form);
        least = _mm256_min_epi16(least, _mm256_min_epi16(a, b));
    }
    if (c < count) {
        least = _mm256_min_epi16(least, block_quantize8(out, rows, &grid, c, halves, form));
    }
    const __m256i strange = _mm256_cmpeq_epi16(least, _mm256_set1_epi16(INT16_MIN));
    return _mm256_testz_si256(strange, strange) != 0;
}

/* The same for codes below 2^16, clamped already: low bytes and high bytes. */
INLINE bool rows_quantize16(panel *p, uint32_t i, const void *x, const seam_tile_group *group,
                            source_form form) {
    __m256i *low = p->codes[0][i], *high = p->codes[1][i];
    const size_t ld8 = 8 * group->ld, count = group->channels;
    const __m256i byte = _mm256_set1_epi16(255), least = _mm256_set1_epi32(INT32_MIN);
    __m256i strange = _mm256_setzero_si256();
    for (size_t c = 0; c < count; c += BLOCK) {
        const __m256 minus_lo = negate(_mm256_load_ps(group->grid.lo + c));
        const __m256 inverse = _mm256_load_ps(group->grid.inverse + c);
        const __m256i levels32 = _mm256_cvtps_epi32(_mm256_load_ps(group->grid.levels + c));
        const __m256i levels = _mm256_packus_epi32(levels32, levels32);
        __m256i q[4];
        for (size_t k = 0; k < 4; k++) {
            const __m256 t = steps_of(values_load8(x, c + k * ld8, form.bf16), minus_lo, inverse);
            q[k] = form.drawn ? round_drawn16(t, p->halves[k] + c) : _mm256_cvtps_epi32(t);
            strange = _mm256_or_si256(strange, _mm256_cmpeq_epi32(q[k], least));
        }
        const __m256i a = _mm256_min_epu16(_mm256_packus_epi32(q[0], q[1]), levels);
        const __m256i b = _mm256_min_epu16(_mm256_packus_epi32(q[2], q[3]), levels);
        *low++ = _mm256_packus_epi16(_mm256_and_si256(a, byte), _mm256_and_si256(b, byte));
        *high++ = _mm256_packus_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
    }
    return _mm256_testz_si256(strange, strange) != 0;
}

/* Bytes (row, channel) of each half to (channel, row): a word a channel. */
INLINE __m256i order_words(__m256i v) {
    return _mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(_mm_set_epi8(
                                      15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0)));
}

/* The words of 8 channels, none above 4 bits. */
INLINE uint8_t *block_put4(uint8_t *out, __m256i v[8], const uint8_t *widths) {
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_or_si256(v[i], _mm256_slli_epi32(v[i + 4], 4));
    }
    transpose_bits4(v);
    for (int i = 0; i < 4; i++) {
        v[i] = order_words(v[i]);
    }
    transpose_words4(v);
    for (int i = 0; i < BLOCK; i++) {
        const __m256i words = v[i % 4];
        _mm_storeu_si128((__m128i *)out, i < 4 ? _mm256_castsi256_si128(words)
                                               : _mm256_extracti128_si256(words, 1));
        out += 4 * (size_t)widths[i];
    }
    return out;
}

INLINE void words_of_bytes(__m256i v[8]) {
    transpose_bits8(v);
    for (int i = 0; i < 8; i++) {
        v[i] = order_words(v[i]);
    }
    transpose_words8(v);
}

INLINE uint8_t *block_put8(uint8_t *out, __m256i v[8], const uint8_t *widths) {
    words_of_bytes(v);
    for (int i = 0; i < BLOCK; i++) {
        _mm256_storeu_si256((__m256i *)out, v[i]);
        out += 4 * (size_t)widths[i];
    }
    return out;
}

INLINE uint8_t *block_put16(uint8_t *out, __m256i v[8], __m256i high[8], const uint8_t *widths) {
    words_of_bytes(v);
    words_of_bytes(high);
    for (int i = 0; i < BLOCK; i++) {
        _mm256_storeu_si256((__m256i *)out, v[i]);
        _mm256_storeu_si256((__m256i *)(out + 32), high[i]);
        out += 4 * (size_t)widths[i];
    }
    return out;
}

/* Whether one of 8 widths is above `bound` (at most 16 all). */
INLINE bool widths_above(const uint8_t *widths, uint32_t bound) {
    uint64_t word;
    memcpy(&word, widths, sizeof word);
    return ((word + UINT64_C(0x0101010101010101) * (127 - bound)) & UINT64_C(0x8080808080808080)) !=
           0;
}

INLINE uint8_t *block_encode(uint8_t *out, panel *p, const seam_tile_group *group, size_t c,
                             bool wide) {
    __m256i v[8], high[8];
    const uint8_t *widths = group->widths + c;
    if (wide) {
        for (int i = 0; i < 8; i++) {
            v[i] = p->codes[0][i][c / BLOCK];
            high[i] = p->codes[1][i][c / BLOCK];
        }
        return block_put16(out, v, high, widths);
    }
    const __m256i levels = levels_packed(&group->grid, c);
    for (int i = 0; i < 8; i++) {
        v[i] = _mm256_min_epu8(p->codes[0][i][c / BLOCK], levels);
    }
    return widths_above(widths, 4) ? block_put8(out, v, widths) : block_put4(out, v, widths);
}

INLINE uint8_t *panel_put(uint8_t *codes, const uint8_t *codes_end, panel *p,
                          const seam_tile_group *group, bool wide) {
    for (uint32_t c = 0; c < group->channels; c += BLOCK) {
        if (codes_end - codes >= BLOCK_BYTES_MAX) {
            codes = block_encode(codes, p, group, c, wide);
            continue;
        }
        uint8_t last[BLOCK_BYTES_MAX]; /* the stores that run over must not leave the buffer */
        const size_t bytes = (size_t)(block_encode(last, p, group, c, wide) - last);
        memcpy(codes, last, bytes);
        codes += bytes;
    }
    return codes;
}

STAGE uint8_t *panel_put8(uint8_t *codes, const uint8_t *codes_end, panel *p,
                          const seam_tile_group *group) {
    return panel_put(codes, codes_end, p, group, false);
}

STAGE uint8_t *panel_put16(uint8_t *codes, const uint8_t *codes_end, panel *p,
                           const seam_tile_group *group) {
    return panel_put(codes, codes_end, p, group, true);
}

/* ---- panels ---- */

/* From row i to the row that is quantized next in its place: i + 1, or in the next group row 0 in
 * the place of row 7. */
INLINE size_t rows_ahead(const seam_tile_group *group, uint32_t i) {
    return i < 7 ? group->ld : (SEAM_GROUP_ROWS - 7) * group->ld;
}

/* draws: of a drawn form. */
INLINE bool rows_quantize(panel *p, const void *x, const seam_tile_group *group,
                          const seam_tile_draws *draws, bool wide, source_form form) {
    const seam_value_type type = form.bf16 ? SEAM_VALUE_BF16 : SEAM_VALUE_F32;
    bool known = true;
    if (form.drawn) {
        eighths_fill(p->eighths, group->channels, draws);
    }
    for (uint32_t i = 0; i < 8; i++) {
        const void *rows = seam_tile_at(x, type, i * group->ld);
        if (form.drawn) {
            rows_draw(p->halves, i, group->channels, p->eighths, draws);
        }
        known &= wide ? rows_quantize16(p, i, rows, group, form)
                      : rows_quantize8(p->codes[0][i], rows, group, p->halves, form,
                                       rows_ahead(group, i));
    }
    return known;
}

STAGE bool panel_quantize(panel *p, const void *x, const seam_tile_group *group, bool wide) {
    return group->type == SEAM_VALUE_BF16
               ? rows_quantize(p, x, group, NULL, wide, (source_form){.bf16 = true})
               : rows_quantize(p, x, group, NULL, wide, (source_form){.bf16 = false});
}

STAGE bool panel_quantize_drawn(panel *p, const void *x, const seam_tile_group *group,
                                const seam_tile_draws *draws, bool wide) {
    return group->type == SEAM_VALUE_BF16
               ? rows_quantize(p, x, group, draws, wide, (source_form){true, true})
               : rows_quantize(p, x, group, draws, wide, (source_form){false, true});
}

INLINE uint8_t *panel_encode(uint8_t *codes, uint8_t *codes_end, float *decoded, const void *x,
                             const seam_tile_group *group, const seam_tile_draws *draws,
                             bool wide) {
    panel p;
    const bool known = draws != NULL ? panel_quantize_drawn(&p, x, group, draws, wide)
                                     : panel_quantize(&p, x, group, wide);
    if (!known) {
        return seam_tile_encode_group_base(codes, codes_end, decoded, x, group, draws);
    }
    codes =
        wide ? panel_put16(codes, codes_end, &p, group) : panel_put8(codes, codes_end, &p, group);
    if (decoded != NULL) {
        if (wide) {
            values16(decoded, &p, group, true);
        } else {
            values_packed8(decoded, &p, group);
        }
    }
    return codes;
}

/* ---- decode ---- */

INLINE const uint8_t *block_get4(__m256i v[8], const uint8_t *in, const uint8_t *widths) {
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)in));
        in += 4 * (size_t)widths[i];
    }
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_inserti128_si256(v[i], _mm_loadu_si128((const __m128i *)in), 1);
        in += 4 * (size_t)widths[i + 4];
    }
    transpose_words4(v);
    transpose_bits4(v);
    for (int i = 0; i < 4; i++) { /* bits above a nibble are masked by the caller */
        v[i + 4] = _mm256_srli_epi32(v[i], 4);
    }
    return in;
}

/* Byte `half` of each code's two. */
INLINE const uint8_t *block_get8(__m256i v[8], const uint8_t *in, const uint8_t *widths,
                                 uint32_t half) {
    for (int i = 0; i < BLOCK; i++) {
        v[i] = _mm256_loadu_si256((const __m256i *)(in + 32 * half));
        in += 4 * (size_t)widths[i];
    }
    transpose_words8(v);
    transpose_bits8(v);
    return in;
}

/* One block's codes, a word a channel; bits at and above a width belong to what follows. */
INLINE const uint8_t *block_decode(panel *p, const uint8_t *in, const seam_tile_group *group,
                                   size_t c, bool wide) {
    __m256i v[8];
    const uint8_t *widths = group->widths + c;
    const __m256i levels = _mm256_cvtps_epi32(_mm256_load_ps(group->grid.levels + c));
    const __m256i every_byte = _mm256_set1_epi32(0x01010101), byte = _mm256_set1_epi32(255);
    const __m256i mask = _mm256_mullo_epi32(_mm256_and_si256(levels, byte), every_byte);
    const uint8_t *next = !wide && !widths_above(widths, 4) ? block_get4(v, in, widths)
                                                            : block_get8(v, in, widths, 0);
    for (int i = 0; i < 8; i++) {
        p->codes[0][i][c / BLOCK] = _mm256_and_si256(v[i], mask);
    }
    if (wide) {
        const __m256i high = _mm256_mullo_epi32(_mm256_srli_epi32(levels, 8), every_byte);
        (void)block_get8(v, in, widths, 1);
        for (int i = 0; i < 8; i++) {
            p->codes[1][i][c / BLOCK] = _mm256_and_si256(v[i], high);
        }
    }
    return next;
}

INLINE const uint8_t *panel_get(panel *p, const uint8_t *codes, const uint8_t *codes_end,
                                const seam_tile_group *group, bool wide) {
    for (uint32_t c = 0; c < group->channels; c += BLOCK) {
        const size_t left = (size_t)(codes_end - codes);
        if (left >= BLOCK_BYTES_MAX) {
            codes = block_decode(p, codes, group, c, wide);
            continue;
        }
        uint8_t last[BLOCK_BYTES_MAX] = {0}; /* the loads must not leave the buffer */
        memcpy(last, codes, left);
        codes += block_decode(p, last, group, c, wide) - last;
    }
    return codes;
}

STAGE const uint8_t *panel_get8(panel *p, const uint8_t *codes, const uint8_t *codes_end,
                                const seam_tile_group *group) {
    return panel_get(p, codes, codes_end, group, false);
}

STAGE const uint8_t *panel_get16(panel *p, const uint8_t *codes, const uint8_t *codes_end,
                                 const seam_tile_group *group) {
    return panel_get(p, codes, codes_end, group, true);
}

INLINE const uint8_t *panel_decode(float *x, const uint8_t *codes, const uint8_t *codes_end,
                                   const seam_tile_group *group, bool wide, bool streaming) {
    panel p;
    codes =
        wide ? panel_get16(&p, codes, codes_end, group) : panel_get8(&p, codes, codes_end, group);
    if (wide) {
        values16(x, &p, group, false);
    } else if (streaming && (uintptr_t)x % 32 == 0 && (uintptr_t)(x + group->ld) % 32 == 0) {
        values_streaming8(x, &p, group);
    } else {
        values8(x, &p, group);
    }
    return codes;
}

/* ---- groups ---- */

/* The longest panel at the beginning of the group whose blocks are all wide, or all not. */
INLINE seam_tile_group panel_next(bool *ret_wide, const seam_tile_group *group) {
    const uint32_t count = group->channels < PANEL ? group->channels : PANEL;
    const bool wide = widths_above(group->widths, 8);
    seam_tile_group first = *group;
    first.channels = BLOCK;
    while (first.channels + BLOCK <= count &&
           widths_above(group->widths + first.channels, 8) == wide) {
        first.channels += BLOCK;
    }
    *ret_wide = wide;
    return first;
}

SEAM_TILE_TARGET uint8_t *SEAM_TILE_NAME(encode_group)(uint8_t *codes, uint8_t *codes_end,
                                                       float *decoded, const void *x,
                                                       const seam_tile_group *group,
                                                       const seam_tile_draws *draws) {
    seam_tile_group rest = *group;
    seam_tile_draws rest_draws;
    if (draws != NULL) {
        rest_draws = *draws;
    }
    for (uint32_t c = 0; codes != NULL && rest.channels > 0;) {
        const seam_tile_draws *drawn = draws != NULL ? &rest_draws : NULL;
        const void *values = seam_tile_at(x, group->type, c);
        float *out = decoded != NULL ? decoded + c : NULL;
        if (rest.channels < BLOCK) {
            return seam_tile_encode_group_base(codes, codes_end, out, values, &rest, drawn);
        }
        bool wide;
        const seam_tile_group first = panel_next(&wide, &rest);
        codes = wide ? panel_encode(codes, codes_end, out, values, &first, drawn, true)
                     : panel_encode(codes, codes_end, out, values, &first, drawn, false);
        c += first.channels;
        rest_draws.eighth_begin += first.channels / 8;
        rest = seam_tile_group_after(&rest, first.channels);
    }
    return codes;
}

SEAM_TILE_TARGET const uint8_t *SEAM_TILE_NAME(decode_group)(float *x, const uint8_t *codes,
                                                             const uint8_t *codes_end,
                                                             const seam_tile_group *group,
                                                             bool streaming) {
    seam_tile_group rest = *group;
    while (rest.channels > 0) {
        if (rest.channels < BLOCK) {
            return seam_tile_decode_group_base(x, codes, codes_end, &rest, streaming);
        }
        bool wide;
        const seam_tile_group first = panel_next(&wide, &rest);
        codes = wide ? panel_decode(x, codes, codes_end, &first, true, streaming)
                     : panel_decode(x, codes, codes_end, &first, false, streaming);
        x += first.channels;
        rest = seam_tile_group_after(&rest, first.channels);
    }
    return codes;
}

/* ---- ranges ---- */

/* 8 channels from c on of `row_count` rows, a constant where it matters. */
INLINE void widen8(float *lo, float *hi, float *sum, const void *const *rows, size_t row_count,
                   size_t c) {
    __m256 least = _mm256_loadu_ps(lo + c), most = _mm256_loadu_ps(hi + c);
    __m256 total = _mm256_loadu_ps(sum + c);
    for (size_t i = 0; i < row_count; i++) {
        const __m256 x = _mm256_loadu_ps((const float *)rows[i] + c);
        least = _mm256_min_ps(x, least);
        most = _mm256_max_ps(x, most);
        total = _mm256_add_ps(total, x);
    }
    _mm256_storeu_ps(lo + c, least);
    _mm256_storeu_ps(hi + c, most);
    _mm256_storeu_ps(sum + c, total);
}

/* 16 channels of bf16. */
INLINE void widen16(int16_t *lo, int16_t *hi, const void *const *rows, size_t row_count, size_t c) {
    __m256i *at_lo = (__m256i *)(void *)(lo + c), *at_hi = (__m256i *)(void *)(hi + c);
    __m256i least = _mm256_loadu_si256(at_lo), most = _mm256_loadu_si256(at_hi);
    for (size_t i = 0; i < row_count; i++) {
        const __m256i x = _mm256_loadu_si256((const void *)((const uint16_t *)rows[i] + c));
        const __m256i place = bf16_order(x);
        least = _mm256_min_epi16(place, least);
        most = _mm256_max_epi16(place, most);
    }
    _mm256_storeu_si256(at_lo, least);
    _mm256_storeu_si256(at_hi, most);
}

/* Four rows side by side: fewer leave the channel's bounds in registers for too short a time, more
 * are slower where the row stride is a power of two.  Their addresses stay in registers, because
 * nothing else knows where this array is. */
SEAM_TILE_TARGET void SEAM_TILE_NAME(widen)(float *lo, float *hi, float *sum,
                                            const seam_tile_sources *from, uint32_t count) {
    const uint32_t whole = count / BLOCK * BLOCK;
    if (from->count == SEAM_TILE_WIDEN_ROWS) {
        const void *const rows[SEAM_TILE_WIDEN_ROWS] = {from->rows[0], from->rows[1], from->rows[2],
                                                        from->rows[3]};
        for (size_t c = 0; c < whole; c += BLOCK) {
            widen8(lo, hi, sum, rows, SEAM_TILE_WIDEN_ROWS, c);
        }
    } else {
        for (size_t c = 0; c < whole; c += BLOCK) {
            widen8(lo, hi, sum, from->rows, from->count, c);
        }
    }
    const seam_tile_sources rest = seam_tile_sources_after(from, whole, sizeof(float));
    seam_tile_widen_base(lo + whole, hi + whole, sum + whole, &rest, count - whole);
}

SEAM_TILE_TARGET void SEAM_TILE_NAME(widen_bf16)(int16_t *lo, int16_t *hi,
                                                 const seam_tile_sources *from, uint32_t count) {
    const uint32_t whole = count / (2 * BLOCK) * (2 * BLOCK);
    if (from->count == SEAM_TILE_WIDEN_ROWS) {
        const void *const rows[SEAM_TILE_WIDEN_ROWS] = {from->rows[0], from->rows[1], from->rows[2],
                                                        from->rows[3]};
        for (size_t c = 0; c < whole; c += 2 * BLOCK) {
            widen16(lo, hi, rows, SEAM_TILE_WIDEN_ROWS, c);
        }
    } else {
        for (size_t c = 0; c < whole; c += 2 * BLOCK) {
            widen16(lo, hi, from->rows, from->count, c);
        }
    }
    const seam_tile_sources rest = seam_tile_sources_after(from, whole, sizeof(uint16_t));
    seam_tile_widen_bf16_base(lo + whole, hi + whole, &rest, count - whole);
}

#endif
