/* affine_tile.h's groups for NEON (aarch64, where every CPU has it).
 *
 * As in affine_tile_x86.h a group is cut into panels whose codes stay in the nearest cache between
 * two passes, here of 256 channels:
 *   1. four rows i, i+8, i+16, i+24 at a time: quantize, and put the four codes of a channel into
 *      the bytes of one word by shifts that insert (a second word for bits 8..15 where a width of
 *      the panel is above 8);
 *   2. four channels at a time: transpose bits (affine_tile.c), transpose words, store each
 *      channel's words 16 bytes at a time; what runs over is overwritten by the next channel.
 * Decoding is the way back.
 *
 * Conversions to integers saturate and make NaN 0, so that the clamp is one minimum; values that
 * are not finite are found by the largest of their bits without the sign. */
#include "affine_tile_variants.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum { PANEL = 256, EIGHTH = 8, BLOCK = 4, BLOCKS = PANEL / BLOCK };
/* The most that a block's words and the store or load that runs over take. */
#define BLOCK_BYTES_MAX (BLOCK * 64)
/* Philox's. */
#define MULTIPLIER_0 0xd2511f53u
#define MULTIPLIER_1 0xcd9e8d57u

/* Codes: [half][i][block]: a word a channel, a byte for each of rows i, i+8, i+16, i+24. */
typedef struct panel {
    uint32x4_t codes[2][8][BLOCKS];
    uint16_t halves[4][PANEL + 32];
} panel;

/* ---- values in memory ---- */

/* Values idx.. of x; bf16: a constant where it matters. */
INLINE float32x4_t values_load4(const void *x, size_t idx, bool bf16) {
    if (bf16) {
        return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16((const uint16_t *)x + idx), 16));
    }
    return vld1q_f32((const float *)x + idx);
}

/* ---- transposes ---- */

/* Bit matrices, 8x8 in each byte column of v[0..7]; see affine_tile.c. */
#define BUTTERFLY(low, high, distance, mask)                                                       \
    do {                                                                                           \
        const uint32x4_t t_ =                                                                      \
            vandq_u32(veorq_u32(vshrq_n_u32(low, distance), high), vdupq_n_u32(mask));             \
        (high) = veorq_u32(high, t_);                                                              \
        (low) = veorq_u32(low, vshlq_n_u32(t_, distance));                                         \
    } while (0)

INLINE void transpose_bits(uint32x4_t v[8]) {
    for (int i = 0; i < 4; i++) {
        BUTTERFLY(v[i], v[i + 4], 4, 0x0f0f0f0fu);
    }
    for (int i = 0; i < 8; i += 4) {
        BUTTERFLY(v[i], v[i + 2], 2, 0x33333333u);
        BUTTERFLY(v[i + 1], v[i + 3], 2, 0x33333333u);
        BUTTERFLY(v[i], v[i + 1], 1, 0x55555555u);
        BUTTERFLY(v[i + 2], v[i + 3], 1, 0x55555555u);
    }
}

INLINE uint32x4_t low_pairs(uint32x4_t a, uint32x4_t b) {
    return vreinterpretq_u32_u64(vtrn1q_u64(vreinterpretq_u64_u32(a), vreinterpretq_u64_u32(b)));
}

INLINE uint32x4_t high_pairs(uint32x4_t a, uint32x4_t b) {
    return vreinterpretq_u32_u64(vtrn2q_u64(vreinterpretq_u64_u32(a), vreinterpretq_u64_u32(b)));
}

/* 4 x 4 words. */
INLINE void transpose_words(uint32x4_t v[4]) {
    const uint32x4_t a = vtrn1q_u32(v[0], v[1]), b = vtrn2q_u32(v[0], v[1]);
    const uint32x4_t c = vtrn1q_u32(v[2], v[3]), d = vtrn2q_u32(v[2], v[3]);
    v[0] = low_pairs(a, c);
    v[1] = low_pairs(b, d);
    v[2] = high_pairs(a, c);
    v[3] = high_pairs(b, d);
}

/* ---- random numbers ---- */

/* Philox of four counters: what multiplies by `multiplier` gives its halves. */
INLINE uint32x4_t multiply(uint32x4_t *ret_high, uint32x4_t x, uint32_t multiplier) {
    const uint32x4_t m = vdupq_n_u32(multiplier);
    const uint32x4_t a = vreinterpretq_u32_u64(vmull_u32(vget_low_u32(x), vget_low_u32(m)));
    const uint32x4_t b = vreinterpretq_u32_u64(vmull_high_u32(x, m));
    *ret_high = vuzp2q_u32(a, b);
    return vuzp1q_u32(a, b);
}

/* Of 32 channels: a store that interleaves puts the words of a counter side by side, least half
 * first (aarch64 is little-endian here). */
INLINE void draw32(uint16_t *ret, uint32_t eighth, uint32_t row_id, const seam_tile_draws *draws) {
    static const uint32_t steps[4] = {0, 1, 2, 3};
    uint32x4_t x0 = vaddq_u32(vdupq_n_u32(eighth), vld1q_u32(steps)), x1 = vdupq_n_u32(row_id);
    uint32x4_t x2 = vdupq_n_u32(draws->word2), x3 = vdupq_n_u32(draws->word3);
    uint32_t k0 = (uint32_t)draws->seed, k1 = (uint32_t)(draws->seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint32x4_t high0, high1;
        const uint32x4_t low0 = multiply(&high0, x0, MULTIPLIER_0);
        const uint32x4_t low1 = multiply(&high1, x2, MULTIPLIER_1);
        x0 = veorq_u32(high1, veorq_u32(x1, vdupq_n_u32(k0)));
        x2 = veorq_u32(high0, veorq_u32(x3, vdupq_n_u32(k1)));
        x1 = low1;
        x3 = low0;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    vst4q_u32((uint32_t *)(void *)ret, ((uint32x4x4_t){{x0, x1, x2, x3}}));
}

static void rows_draw(panel *p, uint32_t i, uint32_t channels, const seam_tile_draws *draws) {
    for (uint32_t k = 0; k < 4; k++) {
        for (uint32_t c = 0; c < channels; c += 32) {
            draw32(p->halves[k] + c, draws->eighth_begin + c / 8, draws->row_ids[i + 8 * k], draws);
        }
    }
}

/* ---- encode ---- */

typedef struct quantizer {
    float32x4_t lo, inverse, levels;
} quantizer;

/* Codes of four channels; *largest takes in the bits of the values without the sign.  Drawn ones in
 * units of 2^-16: the largest, N with the largest draw, is below 2^32. */
INLINE uint32x4_t quantize(uint32x4_t *largest, float32x4_t value, const quantizer *grid,
                           const uint16_t *halves) {
    const float32x4_t t = vmulq_f32(vsubq_f32(value, grid->lo), grid->inverse);
    *largest = vmaxq_u32(*largest, vshlq_n_u32(vreinterpretq_u32_f32(value), 1));
    if (halves == NULL) {
        return vminq_u32(vcvtnq_u32_f32(t), vcvtq_u32_f32(grid->levels));
    }
    const float32x4_t v = vaddq_f32(vminq_f32(t, grid->levels), vdupq_n_f32(SEAM_TILE_DRAW_CENTRE));
    return vshrq_n_u32(vaddw_u16(vcvtq_n_u32_f32(v, 16), vld1_u16(halves)), 16);
}

/* What a pass over values is made for. */
typedef struct source_form {
    bool bf16, drawn, wide;
} source_form;

/* Codes of rows i, i + 8, i + 16 and i + 24 of a panel. */
INLINE uint32x4_t rows_quantize(panel *p, uint32_t i, const void *x, const seam_tile_group *group,
                                source_form form) {
    const size_t ld8 = 8 * group->ld;
    uint32x4_t largest = vdupq_n_u32(0);
    for (uint32_t c = 0; c < group->channels; c += BLOCK) {
        const quantizer grid = {vld1q_f32(group->grid.lo + c), vld1q_f32(group->grid.inverse + c),
                                vld1q_f32(group->grid.levels + c)};
        uint32x4_t q[4];
        for (uint32_t k = 0; k < 4; k++) {
            const float32x4_t values = values_load4(x, c + i * group->ld + k * ld8, form.bf16);
            q[k] = quantize(&largest, values, &grid, form.drawn ? p->halves[k] + c : NULL);
        }
        const uint32x4_t low = vsliq_n_u32(vsliq_n_u32(q[0], q[1], 8), q[2], 16);
        p->codes[0][i][c / BLOCK] = vsliq_n_u32(low, q[3], 24);
        if (form.wide) {
            const uint32x4_t a = vsliq_n_u32(vshrq_n_u32(q[0], 8), vshrq_n_u32(q[1], 8), 8);
            const uint32x4_t b = vsliq_n_u32(vshrq_n_u32(q[2], 8), vshrq_n_u32(q[3], 8), 8);
            p->codes[1][i][c / BLOCK] = vsliq_n_u32(a, b, 16);
        }
    }
    return largest;
}

/* The words of 4 channels. */
INLINE uint8_t *block_put(uint8_t *out, const panel *p, uint32_t block, const uint8_t *widths,
                          uint32_t halves) {
    uint32x4_t v[2][8];
    for (uint32_t half = 0; half < halves; half++) {
        for (uint32_t i = 0; i < 8; i++) {
            v[half][i] = p->codes[half][i][block];
        }
        transpose_bits(v[half]);
        transpose_words(v[half]);
        transpose_words(v[half] + 4);
    }
    for (uint32_t l = 0; l < BLOCK; l++) {
        for (uint32_t half = 0; half < halves; half++) {
            vst1q_u8(out + 32 * (size_t)half, vreinterpretq_u8_u32(v[half][l]));
            vst1q_u8(out + 32 * (size_t)half + 16, vreinterpretq_u8_u32(v[half][4 + l]));
        }
        out += 4 * (size_t)widths[l];
    }
    return out;
}

INLINE uint32_t width_halves(const uint8_t *widths) {
    return widths[0] > 8 || widths[1] > 8 || widths[2] > 8 || widths[3] > 8 ? 2 : 1;
}

INLINE uint8_t *block_encode(uint8_t *out, const panel *p, uint32_t block, const uint8_t *widths) {
    return width_halves(widths) == 1 ? block_put(out, p, block, widths, 1)
                                     : block_put(out, p, block, widths, 2);
}

static uint8_t *panel_put(uint8_t *codes, const uint8_t *codes_end, const panel *p,
                          const seam_tile_group *group) {
    for (uint32_t c = 0; c < group->channels; c += BLOCK) {
        if (codes_end - codes >= BLOCK_BYTES_MAX) {
            codes = block_encode(codes, p, c / BLOCK, group->widths + c);
            continue;
        }
        uint8_t last[BLOCK_BYTES_MAX]; /* the stores that run over must not leave the buffer */
        const size_t bytes = (size_t)(block_encode(last, p, c / BLOCK, group->widths + c) - last);
        memcpy(codes, last, bytes);
        codes += bytes;
    }
    return codes;
}

/* ---- values ---- */

/* x^ of row i + 8k, whose codes are byte k of the words. */
INLINE void row_values(float *x, const panel *p, uint32_t i, uint32_t k,
                       const seam_tile_group *group, bool wide) {
    const int32x4_t down = vdupq_n_s32(-8 * (int)k);
    const uint32x4_t byte = vdupq_n_u32(255);
    for (uint32_t c = 0; c < group->channels; c += BLOCK) {
        uint32x4_t q = vandq_u32(vshlq_u32(p->codes[0][i][c / BLOCK], down), byte);
        if (wide) {
            const uint32x4_t top = vandq_u32(vshlq_u32(p->codes[1][i][c / BLOCK], down), byte);
            q = vsliq_n_u32(q, top, 8);
        }
        const float32x4_t lo = vld1q_f32(group->grid.lo + c),
                          step = vld1q_f32(group->grid.step + c);
        const float32x4_t value = vaddq_f32(lo, vmulq_f32(vcvtq_f32_u32(q), step));
        vst1q_f32(x + c + (i + 8 * (size_t)k) * group->ld, value);
    }
}

INLINE void values_put_as(float *x, const panel *p, const seam_tile_group *group, bool wide) {
    for (uint32_t row = 0; row < SEAM_GROUP_ROWS; row++) {
        row_values(x, p, row % 8, row / 8, group, wide);
    }
}

static void values_put(float *x, const panel *p, const seam_tile_group *group, bool wide) {
    if (wide) {
        values_put_as(x, p, group, true);
    } else {
        values_put_as(x, p, group, false);
    }
}

/* The next panel of a group: whole blocks, and whole eighths, which share a draw. */
static seam_tile_group panel_next(bool *ret_wide, const seam_tile_group *rest) {
    seam_tile_group first = *rest;
    first.channels = rest->channels < PANEL ? rest->channels / EIGHTH * EIGHTH : PANEL;
    *ret_wide = false;
    for (uint32_t c = 0; c < first.channels; c++) {
        *ret_wide |= rest->widths[c] > 8;
    }
    return first;
}

/* Whether all values are finite. */
INLINE bool panel_quantize_as(panel *p, const void *x, const seam_tile_group *group,
                              const seam_tile_draws *draws, source_form form) {
    uint32x4_t largest = vdupq_n_u32(0);
    for (uint32_t i = 0; i < 8; i++) {
        if (form.drawn) {
            rows_draw(p, i, group->channels, draws);
        }
        largest = vmaxq_u32(largest, rows_quantize(p, i, x, group, form));
    }
    return vmaxvq_u32(largest) < 0xff000000u; /* infinity, twice its bits */
}

INLINE bool panel_quantize_of(panel *p, const void *x, const seam_tile_group *group,
                              const seam_tile_draws *draws, bool bf16, bool wide) {
    if (draws != NULL) {
        return wide ? panel_quantize_as(p, x, group, draws, (source_form){bf16, true, true})
                    : panel_quantize_as(p, x, group, draws, (source_form){bf16, true, false});
    }
    return wide ? panel_quantize_as(p, x, group, NULL, (source_form){bf16, false, true})
                : panel_quantize_as(p, x, group, NULL, (source_form){bf16, false, false});
}

static bool panel_quantize(panel *p, const void *x, const seam_tile_group *group,
                           const seam_tile_draws *draws, bool wide) {
    return group->type == SEAM_VALUE_BF16 ? panel_quantize_of(p, x, group, draws, true, wide)
                                          : panel_quantize_of(p, x, group, draws, false, wide);
}

uint8_t *seam_tile_encode_group_neon(uint8_t *codes, uint8_t *codes_end, float *decoded,
                                     const void *x, const seam_tile_group *group,
                                     const seam_tile_draws *draws) {
    seam_tile_group rest = *group;
    seam_tile_draws rest_draws;
    panel p;
    if (draws != NULL) {
        rest_draws = *draws;
    }
    for (uint32_t c = 0; rest.channels > 0;) {
        const seam_tile_draws *drawn = draws != NULL ? &rest_draws : NULL;
        const void *values = seam_tile_at(x, group->type, c);
        float *out = decoded != NULL ? decoded + c : NULL;
        if (rest.channels < EIGHTH) {
            return seam_tile_encode_group_base(codes, codes_end, out, values, &rest, drawn);
        }
        bool wide;
        const seam_tile_group first = panel_next(&wide, &rest);
        if (!panel_quantize(&p, values, &first, drawn, wide)) {
            return NULL;
        }
        codes = panel_put(codes, codes_end, &p, &first);
        if (out != NULL) {
            values_put(out, &p, &first, wide);
        }
        c += first.channels;
        if (draws != NULL) {
            rest_draws.eighth_begin += first.channels / 8;
        }
        rest = seam_tile_group_after(&rest, first.channels);
    }
    return codes;
}

/* ---- decode ---- */

/* One block's codes; bits at and above a width belong to what follows. */
INLINE const uint8_t *block_get(panel *p, const uint8_t *in, uint32_t block, const uint8_t *widths,
                                uint32x4_t levels, uint32_t halves) {
    uint32x4_t v[2][8];
    for (uint32_t l = 0; l < BLOCK; l++) {
        for (uint32_t half = 0; half < halves; half++) {
            v[half][l] = vreinterpretq_u32_u8(vld1q_u8(in + 32 * (size_t)half));
            v[half][4 + l] = vreinterpretq_u32_u8(vld1q_u8(in + 32 * (size_t)half + 16));
        }
        in += 4 * (size_t)widths[l];
    }
    for (uint32_t half = 0; half < halves; half++) {
        const uint32x4_t byte =
            half == 0 ? vandq_u32(levels, vdupq_n_u32(255)) : vshrq_n_u32(levels, 8);
        const uint32x4_t mask = vmulq_n_u32(byte, 0x01010101u);
        transpose_words(v[half]);
        transpose_words(v[half] + 4);
        transpose_bits(v[half]);
        for (uint32_t i = 0; i < 8; i++) {
            p->codes[half][i][block] = vandq_u32(v[half][i], mask);
        }
    }
    return in;
}

INLINE const uint8_t *block_decode(panel *p, const uint8_t *in, const seam_tile_group *group,
                                   uint32_t c, bool wide) {
    const uint32x4_t levels = vcvtq_u32_f32(vld1q_f32(group->grid.levels + c));
    return wide ? block_get(p, in, c / BLOCK, group->widths + c, levels, 2)
                : block_get(p, in, c / BLOCK, group->widths + c, levels, 1);
}

static const uint8_t *panel_get(panel *p, const uint8_t *codes, const uint8_t *codes_end,
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

const uint8_t *seam_tile_decode_group_neon(float *x, const uint8_t *codes, const uint8_t *codes_end,
                                           const seam_tile_group *group, bool streaming) {
    seam_tile_group rest = *group;
    panel p;
    while (rest.channels > 0) {
        if (rest.channels < EIGHTH) {
            return seam_tile_decode_group_base(x, codes, codes_end, &rest, streaming);
        }
        bool wide;
        const seam_tile_group first = panel_next(&wide, &rest);
        codes = panel_get(&p, codes, codes_end, &first, wide);
        values_put(x, &p, &first, wide);
        x += first.channels;
        rest = seam_tile_group_after(&rest, first.channels);
    }
    return codes;
}

/* ---- ranges ---- */

/* Selected by comparison, not minimum and maximum: those order zeros by their sign. */
void seam_tile_widen_neon(float *lo, float *hi, float *sum, const seam_tile_sources *rows,
                          uint32_t count) {
    const uint32_t whole = count / BLOCK * BLOCK;
    for (size_t c = 0; c < whole; c += BLOCK) {
        float32x4_t least = vld1q_f32(lo + c), most = vld1q_f32(hi + c), total = vld1q_f32(sum + c);
        for (uint32_t i = 0; i < rows->count; i++) {
            const float32x4_t x = vld1q_f32((const float *)rows->rows[i] + c);
            least = vbslq_f32(vcltq_f32(x, least), x, least);
            most = vbslq_f32(vcgtq_f32(x, most), x, most);
            total = vaddq_f32(total, x);
        }
        vst1q_f32(lo + c, least);
        vst1q_f32(hi + c, most);
        vst1q_f32(sum + c, total);
    }
    const seam_tile_sources rest = seam_tile_sources_after(rows, whole, sizeof(float));
    seam_tile_widen_base(lo + whole, hi + whole, sum + whole, &rest, count - whole);
}

void seam_tile_widen_bf16_neon(int16_t *lo, int16_t *hi, const seam_tile_sources *rows,
                               uint32_t count) {
    const uint32_t whole = count / (2 * BLOCK) * (2 * BLOCK);
    for (size_t c = 0; c < whole; c += 2 * BLOCK) {
        int16x8_t least = vld1q_s16(lo + c), most = vld1q_s16(hi + c);
        for (uint32_t i = 0; i < rows->count; i++) {
            const int16x8_t bits = vld1q_s16((const int16_t *)rows->rows[i] + c);
            const int16x8_t flips = vandq_s16(vshrq_n_s16(bits, 15), vdupq_n_s16(0x7fff));
            const int16x8_t place = veorq_s16(bits, flips);
            least = vminq_s16(least, place);
            most = vmaxq_s16(most, place);
        }
        vst1q_s16(lo + c, least);
        vst1q_s16(hi + c, most);
    }
    const seam_tile_sources rest = seam_tile_sources_after(rows, whole, sizeof(uint16_t));
    seam_tile_widen_bf16_base(lo + whole, hi + whole, &rest, count - whole);
}
#endif
