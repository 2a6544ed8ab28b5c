/* Quantize, transpose bits, draw numbers: see affine_tile.h.
 *
 * Bit planes by 8x8 transposes: the codes of rows i, i+8, i+16, i+24 of a channel are put into
 * one 32-bit word A[i] (a byte each).  Plane j wants bit 8b+i to be bit 8b+j of A[i]: for each
 * byte b that is the transpose of an 8x8 bit matrix whose rows are A[0..7], done for 4 bytes and
 * all lanes at once in three butterfly steps (Warren, Hacker's Delight, 7-3).  The transpose is
 * its own inverse, so decoding runs the same steps.  Codes above 8 bits are two such matrices. */
#include "affine_tile.h"

#include <string.h>

#include "affine_tile_variants.h"
#include "bytes.h"
#include "philox_lanes.h"

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
                         const seam_tile_grid *grid, const uint16_t *restrict halves) {
    const float *restrict lo = grid->lo, *restrict inverse = grid->inverse;
    const float *restrict levels = grid->levels;
    if (halves != NULL) { /* N stays N, so that the clamp comes first */
        for (uint32_t l = 0; l < L; l++) {
            const float t = clamp_levels((x[l] - lo[l]) * inverse[l], levels[l]);
            q[l] = seam_tile_round_drawn(t, halves[l]);
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
                        const uint16_t *halves, bool wide) {
    _Alignas(64) uint32_t q[L];
    memset(planes, 0, (wide ? 16 : 8) * L * sizeof *planes);
    for (uint32_t i = 0; i < rows->count; i++) {
        const uint16_t *drawn = halves != NULL ? halves + (size_t)i * L : NULL;
        quantize_row(q, poison, x + i * rows->ld, grid, drawn);
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

/* seam_philox for 8 counters that differ in word 0. */
INLINE void draw_body(uint16_t *restrict ret, uint32_t eighth_begin, uint32_t row_id,
                      uint32_t word2, uint32_t word3, uint64_t seed) {
    enum { EIGHTHS = L / 8 };
    _Static_assert(EIGHTHS <= SEAM_PHILOX_LANES_MAX, "a lane an eighth");
    seam_philox_words w;
    for (uint32_t i = 0; i < EIGHTHS; i++) {
        w.x0[i] = eighth_begin + i;
        w.x1[i] = row_id;
        w.x2[i] = word2;
        w.x3[i] = word3;
    }
    seam_philox_rounds(&w, (uint32_t)seed, (uint32_t)(seed >> 32), EIGHTHS);
    for (uint32_t i = 0; i < EIGHTHS; i++) {
        const uint64_t words[4] = {w.x0[i], w.x1[i], w.x2[i], w.x3[i]};
        for (uint32_t k = 0; k < 4; k++) {
            ret[8 * i + 2 * k] = (uint16_t)words[k];
            ret[8 * i + 2 * k + 1] = (uint16_t)(words[k] >> 16);
        }
    }
}

/* Codec bf16, in blocks: none of the loops reads what it writes, so that all of them are vectors,
 * also where decoded is x. */
typedef uint16_t code16 __attribute__((aligned(1), may_alias));

INLINE uint16_t code16_of(uint16_t value) { /* little-endian */
    return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? value : __builtin_bswap16(value);
}

INLINE void bf16_block(uint32_t *restrict special, uint8_t *codes, float *decoded, const float *x,
                       uint32_t count) {
    _Alignas(64) uint32_t half[L];
    code16 *const out = (code16 *)codes;
    for (uint32_t l = 0; l < count; l++) {
        uint32_t bits;
        memcpy(&bits, &x[l], sizeof bits);
        /* To nearest even.  A NaN may carry over to a finite value here, so x is looked at too. */
        half[l] = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
        special[l] |= (bits & 0x7f800000u) == 0x7f800000u || (half[l] & 0x7f80u) == 0x7f80u;
    }
    for (uint32_t l = 0; l < count; l++) {
        out[l] = code16_of((uint16_t)half[l]);
    }
    for (uint32_t l = 0; decoded != NULL && l < count; l++) {
        const uint32_t bits = half[l] << 16;
        memcpy(&decoded[l], &bits, sizeof bits);
    }
}

INLINE void bf16_unblock(uint32_t *restrict special, float *restrict x,
                         const uint8_t *restrict codes, uint32_t count) {
    const code16 *const in = (const code16 *)codes;
    for (uint32_t l = 0; l < count; l++) {
        const uint32_t bits = (uint32_t)code16_of(in[l]) << 16;
        special[l] |= (bits & 0x7f800000u) == 0x7f800000u;
        memcpy(&x[l], &bits, sizeof bits);
    }
}

INLINE bool all_zero(const uint32_t *words) {
    uint32_t any = 0;
    for (uint32_t l = 0; l < L; l++) {
        any |= words[l];
    }
    return any == 0;
}

INLINE bool bf16_encode_body(uint8_t *codes, float *decoded, const float *x, size_t count) {
    _Alignas(64) uint32_t special[L] = {0};
    size_t i = 0;
    for (; i + L <= count; i += L) {
        bf16_block(special, codes + 2 * i, decoded != NULL ? decoded + i : NULL, x + i, L);
    }
    bf16_block(special, codes + 2 * i, decoded != NULL ? decoded + i : NULL, x + i,
               (uint32_t)(count - i));
    return all_zero(special);
}

INLINE bool bf16_decode_body(float *x, const uint8_t *codes, size_t count) {
    _Alignas(64) uint32_t special[L] = {0};
    size_t i = 0;
    for (; i + L <= count; i += L) {
        bf16_unblock(special, x + i, codes + 2 * i, L);
    }
    bf16_unblock(special, x + i, codes + 2 * i, (uint32_t)(count - i));
    return all_zero(special);
}

void seam_tile_widen_base(float *restrict lo, float *restrict hi, float *restrict sum,
                          const seam_tile_sources *rows, uint32_t count) {
    for (uint32_t i = 0; i < rows->count; i++) {
        const float *restrict x = rows->rows[i];
        for (uint32_t c = 0; c < count; c++) {
            lo[c] = x[c] < lo[c] ? x[c] : lo[c];
            hi[c] = x[c] > hi[c] ? x[c] : hi[c];
            sum[c] += x[c];
        }
    }
}

void seam_tile_widen_bf16_base(int16_t *restrict lo, int16_t *restrict hi,
                               const seam_tile_sources *rows, uint32_t count) {
    for (uint32_t i = 0; i < rows->count; i++) {
        const uint16_t *restrict x = rows->rows[i];
        for (uint32_t c = 0; c < count; c++) {
            const int16_t place = seam_tile_order(x[c]);
            lo[c] = place < lo[c] ? place : lo[c];
            hi[c] = place > hi[c] ? place : hi[c];
        }
    }
}

seam_tile_sources seam_tile_sources_after(const seam_tile_sources *rows, uint32_t count,
                                          size_t value_bytes) {
    seam_tile_sources after = {.count = rows->count};
    for (uint32_t i = 0; i < rows->count; i++) {
        after.rows[i] = (const uint8_t *)rows->rows[i] + count * value_bytes;
    }
    return after;
}

void seam_tile_load(float *tile, const void *x, size_t ld, seam_value_type type, uint32_t rows,
                    uint32_t lanes) {
    for (uint32_t i = 0; i < rows; i++, tile += L) {
        const void *row = seam_tile_at(x, type, i * ld);
        if (type == SEAM_VALUE_F32) {
            memcpy(tile, row, lanes * sizeof *tile);
            continue;
        }
        for (uint32_t l = 0; l < lanes; l++) {
            const uint32_t bits = (uint32_t)((const uint16_t *)row)[l] << 16;
            memcpy(&tile[l], &bits, sizeof bits);
        }
    }
}

void seam_tile_store(float *x, size_t ld, const float *tile, uint32_t rows, uint32_t lanes) {
    for (uint32_t i = 0; i < rows; i++, tile += L) {
        memcpy(x + i * ld, tile, lanes * sizeof *tile);
    }
}

/* One variant: the bodies above inlined into functions of one instruction set. */
#define DEFINE_TILE(suffix, attributes)                                                            \
    attributes static void encode_##suffix(uint32_t *planes, float *poison, float *decoded,        \
                                           const float *x, const seam_tile_rows *rows,             \
                                           const seam_tile_grid *grid, const uint16_t *halves,     \
                                           bool wide) {                                            \
        encode_body(planes, poison, decoded, x, rows, grid, halves, wide);                         \
    }                                                                                              \
    attributes static void decode_##suffix(float *x, const seam_tile_rows *rows, uint32_t *planes, \
                                           const seam_tile_grid *grid, bool wide) {                \
        decode_body(x, rows, planes, grid, wide);                                                  \
    }                                                                                              \
    attributes static void draw_##suffix(uint16_t *ret, uint32_t eighth_begin, uint32_t row_id,    \
                                         uint32_t word2, uint32_t word3, uint64_t seed) {          \
        draw_body(ret, eighth_begin, row_id, word2, word3, seed);                                  \
    }                                                                                              \
    attributes static bool bf16_encode_##suffix(uint8_t *codes, float *decoded, const float *x,    \
                                                size_t count) {                                    \
        return bf16_encode_body(codes, decoded, x, count);                                         \
    }                                                                                              \
    attributes static bool bf16_decode_##suffix(float *x, const uint8_t *codes, size_t count) {    \
        return bf16_decode_body(x, codes, count);                                                  \
    }

#define NO_ATTRIBUTES
DEFINE_TILE(base, NO_ATTRIBUTES)
#if defined(__x86_64__)
DEFINE_TILE(avx2, SEAM_TILE_AVX2)
DEFINE_TILE(avx512, SEAM_TILE_AVX512)
#endif

/* ---- groups of the base variant ---- */

seam_tile_group seam_tile_group_after(const seam_tile_group *group, uint32_t channels) {
    seam_tile_group after = *group;
    after.channels -= channels;
    after.widths += channels;
    after.grid.lo += channels;
    after.grid.inverse += channels;
    after.grid.step += channels;
    after.grid.levels += channels;
    return after;
}

/* The grid of a tile of fewer than 64 lanes, copied to arrays that have 64. */
typedef struct padded_grid {
    float lo[L], inverse[L], step[L], levels[L];
} padded_grid;

static seam_tile_grid grid_pad(padded_grid *ret, const seam_tile_grid *grid, uint32_t lanes) {
    memset(ret, 0, sizeof *ret);
    memcpy(ret->lo, grid->lo, lanes * sizeof *grid->lo);
    memcpy(ret->inverse, grid->inverse, lanes * sizeof *grid->inverse);
    memcpy(ret->step, grid->step, lanes * sizeof *grid->step);
    memcpy(ret->levels, grid->levels, lanes * sizeof *grid->levels);
    return (seam_tile_grid){ret->lo, ret->inverse, ret->step, ret->levels};
}

static bool is_wide(const uint8_t *widths, uint32_t count) {
    bool wide = false;
    for (uint32_t l = 0; l < count; l++) {
        wide |= widths[l] > 8;
    }
    return wide;
}

uint8_t *seam_tile_encode_group_base(uint8_t *codes, uint8_t *codes_end, float *decoded,
                                     const void *x, const seam_tile_group *group,
                                     const seam_tile_draws *draws) {
    (void)codes_end; /* nothing is written past the group's words */
    _Alignas(64) uint32_t planes[16 * L];
    _Alignas(64) uint16_t halves[SEAM_GROUP_ROWS * L];
    _Alignas(64) float padded[SEAM_GROUP_ROWS * L] = {0};
    _Alignas(64) float poison[L] = {0};
    for (uint32_t c = 0; c < group->channels; c += L) {
        seam_tile_group rest = seam_tile_group_after(group, c);
        const uint32_t lanes = rest.channels < L ? rest.channels : L;
        const void *values = seam_tile_at(x, group->type, c);
        float *out = decoded != NULL ? decoded + c : NULL;
        for (uint32_t i = 0; draws != NULL && i < SEAM_GROUP_ROWS; i++) {
            draw_base(halves + (size_t)i * L, draws->eighth_begin + c / 8, draws->row_ids[i],
                      draws->word2, draws->word3, draws->seed);
        }
        /* Worked on where it stands. */
        const bool in_place = lanes == L && group->type == SEAM_VALUE_F32;
        padded_grid own_grid;
        if (!in_place) {
            seam_tile_load(padded, values, group->ld, group->type, SEAM_GROUP_ROWS, lanes);
            rest.grid = grid_pad(&own_grid, &rest.grid, lanes);
        }
        const seam_tile_rows rows = {SEAM_GROUP_ROWS, in_place ? group->ld : L};
        float *tile_out = in_place ? out : padded;
        encode_base(planes, poison, decoded != NULL ? tile_out : NULL, in_place ? values : padded,
                    &rows, &rest.grid, draws != NULL ? halves : NULL, is_wide(rest.widths, lanes));
        if (!in_place && decoded != NULL) {
            seam_tile_store(out, group->ld, padded, SEAM_GROUP_ROWS, lanes);
        }
        for (uint32_t l = 0; l < lanes; l++) {
            for (uint32_t j = 0; j < rest.widths[l]; j++, codes += 4) {
                seam_put_u32(codes, planes[j * L + l]);
            }
        }
    }
    float sum = 0.0f;
    for (uint32_t l = 0; l < L; l++) {
        sum += poison[l];
    }
    return sum == 0.0f ? codes : NULL; /* a NaN is not */
}

const uint8_t *seam_tile_decode_group_base(float *x, const uint8_t *codes, const uint8_t *codes_end,
                                           const seam_tile_group *group, bool streaming) {
    (void)codes_end;
    (void)streaming;
    _Alignas(64) uint32_t planes[16 * L];
    _Alignas(64) float padded[SEAM_GROUP_ROWS * L];
    for (uint32_t c = 0; c < group->channels; c += L) {
        seam_tile_group rest = seam_tile_group_after(group, c);
        const uint32_t lanes = rest.channels < L ? rest.channels : L;
        const bool wide = is_wide(rest.widths, lanes), in_place = lanes == L;
        memset(planes, 0, (wide ? 16 : 8) * L * sizeof *planes);
        for (uint32_t l = 0; l < lanes; l++) {
            for (uint32_t j = 0; j < rest.widths[l]; j++, codes += 4) {
                planes[j * L + l] = seam_get_u32(codes);
            }
        }
        const seam_tile_rows rows = {SEAM_GROUP_ROWS, in_place ? group->ld : L};
        padded_grid own_grid;
        if (!in_place) {
            rest.grid = grid_pad(&own_grid, &rest.grid, lanes);
        }
        decode_base(in_place ? x + c : padded, &rows, planes, &rest.grid, wide);
        if (!in_place) {
            seam_tile_store(x + c, group->ld, padded, SEAM_GROUP_ROWS, lanes);
        }
    }
    return codes;
}

/* ---- the variants ---- */

static const seam_tile_ops ops_base = {
    .name = "base",
    .encode_group = seam_tile_encode_group_base,
    .decode_group = seam_tile_decode_group_base,
    .encode = encode_base,
    .decode = decode_base,
    .draw = draw_base,
    .bf16_encode = bf16_encode_base,
    .bf16_decode = bf16_decode_base,
    .widen = seam_tile_widen_base,
    .widen_bf16 = seam_tile_widen_bf16_base,
};
#if defined(__x86_64__)
static const seam_tile_ops ops_avx2 = {
    .name = "AVX2",
    .encode_group = seam_tile_encode_group_avx2,
    .decode_group = seam_tile_decode_group_avx2,
    .encode = encode_avx2,
    .decode = decode_avx2,
    .draw = draw_avx2,
    .bf16_encode = bf16_encode_avx2,
    .bf16_decode = bf16_decode_avx2,
    .widen = seam_tile_widen_avx2,
    .widen_bf16 = seam_tile_widen_bf16_avx2,
};
static const seam_tile_ops ops_avx512 = {
    .name = "AVX-512",
    .encode_group = seam_tile_encode_group_avx512,
    .decode_group = seam_tile_decode_group_avx512,
    .encode = encode_avx512,
    .decode = decode_avx512,
    .draw = draw_avx512,
    .bf16_encode = bf16_encode_avx512,
    .bf16_decode = bf16_decode_avx512,
    .widen = seam_tile_widen_avx512,
    .widen_bf16 = seam_tile_widen_bf16_avx512,
};
static const seam_tile_ops ops_gfni = {
    .name = "AVX-512 GFNI",
    .encode_group = seam_tile_encode_group_gfni,
    .decode_group = seam_tile_decode_group_gfni,
    .encode = encode_avx512,
    .decode = decode_avx512,
    .draw = draw_avx512,
    .bf16_encode = bf16_encode_avx512,
    .bf16_decode = bf16_decode_avx512,
    .widen = seam_tile_widen_gfni,
    .widen_bf16 = seam_tile_widen_bf16_gfni,
};
#elif defined(__aarch64__)
static const seam_tile_ops ops_neon = {
    .name = "NEON",
    .encode_group = seam_tile_encode_group_neon,
    .decode_group = seam_tile_decode_group_neon,
    .encode = encode_base,
    .decode = decode_base,
    .draw = draw_base,
    .bf16_encode = bf16_encode_base,
    .bf16_decode = bf16_decode_base,
    .widen = seam_tile_widen_neon,
    .widen_bf16 = seam_tile_widen_bf16_neon,
};
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
    if (idx == 3 && seam_tile_ops_variant(2) != NULL && __builtin_cpu_supports("avx512vbmi") &&
        __builtin_cpu_supports("gfni")) {
        return &ops_gfni;
    }
#elif defined(__aarch64__)
    if (idx == 1) {
        return &ops_neon;
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
