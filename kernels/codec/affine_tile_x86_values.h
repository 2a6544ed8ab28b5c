/* The values of affine_tile_x86.h: loads of f32 or bf16, and x^ from a panel's codes.  Part of the
 * same body.
 *
 * bf16 is half the bytes for one shuffle more in 8 values. */
#ifdef SEAM_TILE_TARGET

#include "affine_tile_x86_lanes.h"

/* What is written, constants. */
typedef struct value_form {
    bool packed;    /* codes in packed order and not yet clamped; else a word a channel */
    bool wide;      /* high bytes too */
    bool streaming; /* past the caches */
} value_form;

/* ---- in memory ---- */

/* Values idx.. of x; bf16: a constant where it matters.  A load fills both halves, and one shuffle
 * puts their words into the upper halves of f32. */
INLINE __m256 values_load8(const void *x, size_t idx, bool bf16) {
    if (bf16) {
        const __m128i words = _mm_loadu_si128((const void *)((const uint16_t *)x + idx));
        const __m256i order =
            _mm256_set_epi8(15, 14, -1, -1, 13, 12, -1, -1, 11, 10, -1, -1, 9, 8, -1, -1, 7, 6, -1,
                            -1, 5, 4, -1, -1, 3, 2, -1, -1, 1, 0, -1, -1);
        return _mm256_castsi256_ps(_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(words), order));
    }
    return _mm256_loadu_ps((const float *)x + idx);
}

/* seam_tile_order. */
INLINE __m256i bf16_order(__m256i bits) {
    const __m256i magnitude = _mm256_set1_epi16(0x7fff);
    return _mm256_xor_si256(bits, _mm256_and_si256(_mm256_srai_epi16(bits, 15), magnitude));
}

INLINE void values_store16(float *x, __m256 low, __m256 high, value_form form) {
    if (form.streaming) {
        _mm256_stream_ps(x, low);
        _mm256_stream_ps(x + 8, high);
    } else {
        _mm256_storeu_ps(x, low);
        _mm256_storeu_ps(x + 8, high);
    }
}

/* ---- from codes ---- */

/* N in every byte that belongs to the channel, packed order; N < 256. */
INLINE __m256i levels_packed(const seam_tile_grid *grid, size_t c) {
    const __m256i levels = _mm256_cvtps_epi32(_mm256_load_ps(grid->levels + c));
    const __m256i levels16 = _mm256_packus_epi32(levels, levels);
    return _mm256_packus_epi16(levels16, levels16);
}

/* Which byte of its half is row i + 8k of channel l % 4: shuffled to the bottom of the word. */
INLINE __m256i row_picker(size_t row, bool packed) {
    const int k = (int)row, first = packed ? 4 * k : k, step = packed ? 1 : 4;
    const int zero = (int)0xffffff00u;
    return _mm256_broadcastsi128_si256(_mm_set_epi32(
        zero | (first + 3 * step), zero | (first + 2 * step), zero | (first + step), zero | first));
}

/* Codes of channels c.. of rows i, i + 8, i + 16 and i + 24, and their grid. */
typedef struct value_block {
    __m256i low, high;
    __m256 lo, step;
} value_block;

INLINE value_block block_values(const panel *p, uint32_t i, const seam_tile_grid *grid, size_t c,
                                value_form form) {
    value_block ret = {
        .low = p->codes[0][i][c / BLOCK],
        .high = form.wide ? p->codes[1][i][c / BLOCK] : _mm256_setzero_si256(),
        .lo = _mm256_load_ps(grid->lo + c),
        .step = _mm256_load_ps(grid->step + c),
    };
    if (form.packed && !form.wide) {
        ret.low = _mm256_min_epu8(ret.low, levels_packed(grid, c));
    }
    return ret;
}

/* x^ of the row that the picker takes. */
INLINE __m256 row_values(const value_block *block, __m256i picker, value_form form) {
    __m256i q = _mm256_shuffle_epi8(block->low, picker);
    if (form.wide) {
        const __m256i top = _mm256_shuffle_epi8(block->high, picker);
        q = _mm256_or_si256(q, _mm256_slli_epi32(top, 8));
    }
    return _mm256_add_ps(block->lo, _mm256_mul_ps(_mm256_cvtepi32_ps(q), block->step));
}

INLINE void values_put(float *x, const panel *p, const seam_tile_group *group, value_form form) {
    const size_t ld = group->ld, count = group->channels;
    const seam_tile_grid grid = group->grid;
    __m256i picker[4];
    for (size_t k = 0; k < 4; k++) {
        picker[k] = row_picker(k, form.packed);
    }
    for (uint32_t i = 0; i < 8; i++) {
        size_t c = 0;
        for (; c + 2 * BLOCK <= count; c += 2 * BLOCK) { /* whole cache lines */
            const value_block a = block_values(p, i, &grid, c, form);
            const value_block b = block_values(p, i, &grid, c + BLOCK, form);
            for (size_t k = 0; k < 4; k++) {
                values_store16(x + c + (i + 8 * k) * ld, row_values(&a, picker[k], form),
                               row_values(&b, picker[k], form), form);
            }
        }
        if (c < count) {
            const value_block a = block_values(p, i, &grid, c, form);
            for (size_t k = 0; k < 4; k++) {
                _mm256_storeu_ps(x + c + (i + 8 * k) * ld, row_values(&a, picker[k], form));
            }
        }
    }
}

STAGE void values_packed8(float *x, const panel *p, const seam_tile_group *group) {
    values_put(x, p, group, (value_form){.packed = true});
}

STAGE void values8(float *x, const panel *p, const seam_tile_group *group) {
    values_put(x, p, group, (value_form){.packed = false});
}

STAGE void values_streaming8(float *x, const panel *p, const seam_tile_group *group) {
    values_put(x, p, group, (value_form){.streaming = true});
    _mm_sfence();
}

STAGE void values16(float *x, const panel *p, const seam_tile_group *group, bool packed) {
    values_put(x, p, group, (value_form){.packed = packed, .wide = true});
}

#endif
