/* The inner loops of the affine codec, on groups of 32 rows, and those of codec bf16.  Internal to
 * codec/.
 *
 * affine_tile.c is the reference: plain C that compilers turn into vector code (SSE2, NEON).  It
 * also chooses at run time among the variants; affine_tile_x86.h, affine_tile_gfni.c and
 * affine_tile_neon.c have those that are written by hand.  Every variant gives the same bits: no
 * fused multiply-add anywhere (-ffp-contract=off), and tests/unit/test_affine_tile.c compares. */
#ifndef SEAM_AFFINE_TILE_H
#define SEAM_AFFINE_TILE_H

#include "codec_impl.h"

#define SEAM_TILE_LANES      64u
#define SEAM_TILE_WIDEN_ROWS 4u

/* A channel's quantizer; arrays of as many as there are channels (64 for a tile), the first of a
 * group at a multiple of 32 bytes.  A constant channel has inverse = step = levels = 0, which makes
 * q = 0 and x^ = lo without a branch. */
typedef struct seam_tile_grid {
    const float *lo;
    const float *inverse; /* r = 1/D */
    const float *step;    /* D */
    const float *levels;  /* N = 2^w - 1 */
} seam_tile_grid;

/* Where a tile's rows lie: row i at data + i*ld; 64 lanes are read or written in each. */
typedef struct seam_tile_rows {
    uint32_t count; /* 1..32 */
    size_t ld;
} seam_tile_rows;

/* Value idx of x. */
static inline const void *seam_tile_at(const void *x, seam_value_type type, size_t idx) {
    return (const uint8_t *)x + (type == SEAM_VALUE_BF16 ? 2 : 4) * idx;
}

/* Neighbouring channels of a full group: 32 rows of values, row i at data + i*ld. */
typedef struct seam_tile_group {
    uint32_t channels;
    size_t ld;
    seam_value_type type;  /* of what is encoded */
    seam_tile_grid grid;   /* of the first channel */
    const uint8_t *widths; /* of the first channel */
} seam_tile_group;

/* What the random numbers of a group's rows hang on. */
typedef struct seam_tile_draws {
    uint32_t row_ids[SEAM_GROUP_ROWS];
    uint32_t eighth_begin; /* the first channel / 8 */
    uint32_t word2, word3;
    uint64_t seed;
} seam_tile_draws;

/* Rows whose bounds are taken. */
typedef struct seam_tile_sources {
    const void *rows[SEAM_TILE_WIDEN_ROWS];
    uint32_t count;
} seam_tile_sources;

/* Half a unit of the draws: with it in front of the draw a fraction f rounds up with probability
 * round(2^16 f) / 2^16, and what lies on the grid stays. */
#define SEAM_TILE_DRAW_CENTRE 0x1p-17f

/* floor(t + 2^-17 + half / 2^16), t in 0..65535.  The first sum rounds, as WIRE.md 3.2 has it; the
 * second must not, so it is made of integers. */
static inline __attribute__((always_inline)) uint32_t seam_tile_round_drawn(float t,
                                                                            uint16_t half) {
    const float v = t + SEAM_TILE_DRAW_CENTRE;
    const int32_t whole = (int32_t)v;
    const int32_t fraction = (int32_t)((v - (float)whole) * 0x1p16f);
    return (uint32_t)(whole + ((fraction + half) >> 16));
}

/* bf16 to integers in the same order and back: -NaN, -infinity, .., -0, +0, .., infinity, NaN. */
static inline int16_t seam_tile_order(uint16_t bits) {
    return (int16_t)(bits ^ ((bits & 0x8000u) != 0 ? 0x7fffu : 0));
}

typedef struct seam_tile_ops {
    const char *name;
    /* Words of a full group to codes; returns where the next group's begin, or NULL where a value
     * is not finite.  Bytes in front of codes_end and behind the group's own may be overwritten.
     * decoded (same ld; may be x of f32) or NULL; draws or NULL: round to nearest even. */
    uint8_t *(*encode_group)(uint8_t *codes, uint8_t *codes_end, float *decoded, const void *x,
                             const seam_tile_group *group, const seam_tile_draws *draws);
    /* The reverse; returns where the next group begins.  streaming: the caller will not read x
     * soon, so it need not pass through the caches. */
    const uint8_t *(*decode_group)(float *x, const uint8_t *codes, const uint8_t *codes_end,
                                   const seam_tile_group *group, bool streaming);
    /* planes[j][l]: bit i is bit j of row i's code; j < 8, or < 16 when wide.  halves [32][64], the
     * draws, or NULL: round to nearest even.  decoded (same ld) or NULL.  poison (64): 0 is added
     * for finite x, NaN for others. */
    void (*encode)(uint32_t *planes, float *poison, float *decoded, const float *x,
                   const seam_tile_rows *rows, const seam_tile_grid *grid, const uint16_t *halves,
                   bool wide);
    /* planes is destroyed. */
    void (*decode)(float *x, const seam_tile_rows *rows, uint32_t *planes,
                   const seam_tile_grid *grid, bool wide);
    /* What 64 channels of one row draw, 8*eighth_begin and on: 16 bits each. */
    void (*draw)(uint16_t *ret, uint32_t eighth_begin, uint32_t row_id, uint32_t word2,
                 uint32_t word3, uint64_t seed);
    /* Codec bf16: values to codes (2 bytes each, no alignment) and back, in their order; decoded
     * (may be x) or NULL.  False where a value, or what it rounds to, is not finite. */
    bool (*bf16_encode)(uint8_t *codes, float *decoded, const float *x, size_t count);
    bool (*bf16_decode)(float *x, const uint8_t *codes, size_t count);
    /* lo, hi (count) take in the rows of f32; each value is added to sum (count), which is not
     * finite from the first value on that is not. */
    void (*widen)(float *lo, float *hi, float *sum, const seam_tile_sources *rows, uint32_t count);
    /* The same for rows of bf16, in their order (seam_tile_order), which has what is not finite at
     * its ends. */
    void (*widen_bf16)(int16_t *lo, int16_t *hi, const seam_tile_sources *rows, uint32_t count);
} seam_tile_ops;

/* The fastest variant that this CPU runs. */
const seam_tile_ops *seam_tile_ops_best(void);
/* Variant `idx` for tests and benches: 0 is the base one; NULL past the last that runs here. */
const seam_tile_ops *seam_tile_ops_variant(uint32_t idx);

/* The base variant's functions, which take any values and any number of channels: the others fall
 * back on them for what they leave out. */
uint8_t *seam_tile_encode_group_base(uint8_t *codes, uint8_t *codes_end, float *decoded,
                                     const void *x, const seam_tile_group *group,
                                     const seam_tile_draws *draws);
const uint8_t *seam_tile_decode_group_base(float *x, const uint8_t *codes, const uint8_t *codes_end,
                                           const seam_tile_group *group, bool streaming);
void seam_tile_widen_base(float *lo, float *hi, float *sum, const seam_tile_sources *rows,
                          uint32_t count);
void seam_tile_widen_bf16_base(int16_t *lo, int16_t *hi, const seam_tile_sources *rows,
                               uint32_t count);
/* `rows` without their first `count` values of `value_bytes`. */
seam_tile_sources seam_tile_sources_after(const seam_tile_sources *rows, uint32_t count,
                                          size_t value_bytes);
/* `rows` x `lanes` values between memory, row i at data + i*ld, and a padded tile. */
void seam_tile_load(float *tile, const void *x, size_t ld, seam_value_type type, uint32_t rows,
                    uint32_t lanes);
void seam_tile_store(float *x, size_t ld, const float *tile, uint32_t rows, uint32_t lanes);

/* `group` without its first `channels`. */
seam_tile_group seam_tile_group_after(const seam_tile_group *group, uint32_t channels);

#endif
