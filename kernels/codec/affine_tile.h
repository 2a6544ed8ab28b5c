/* The inner loops of the affine codec, on tiles of 32 rows x 64 channels.  Internal to codec/.
 *
 * Plain C that compilers turn into vector code; the same source is compiled for the base
 * instruction set, AVX2 and AVX-512, chosen at run time.  No fused multiply-add anywhere
 * (-ffp-contract=off), so every variant gives the same bits. */
#ifndef SEAM_AFFINE_TILE_H
#define SEAM_AFFINE_TILE_H

#include "codec.h"

#define SEAM_TILE_LANES 64u

/* A channel's quantizer; arrays of SEAM_TILE_LANES.  A constant channel has inverse = step =
 * levels = 0, which makes q = 0 and x^ = lo without a branch. */
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

typedef struct seam_tile_ops {
    /* planes[j][l]: bit i is bit j of row i's code; j < 8, or < 16 when wide.  uniform
     * [32][64] numbers in [0, 1), or NULL: round to nearest even.  decoded (same ld) or NULL.
     * poison (64): 0 is added for finite x, NaN for others. */
    void (*encode)(uint32_t *planes, float *poison, float *decoded, const float *x,
                   const seam_tile_rows *rows, const seam_tile_grid *grid, const float *uniform,
                   bool wide);
    /* planes is destroyed. */
    void (*decode)(float *x, const seam_tile_rows *rows, uint32_t *planes,
                   const seam_tile_grid *grid, bool wide);
    /* 64 uniform numbers of one row: channels 4*quad_begin and on. */
    void (*uniform)(float *ret, uint32_t quad_begin, uint32_t row_id, uint32_t word2,
                    uint32_t word3, uint64_t seed);
    /* lo, hi (count) take in one row x; poison as above, one a channel. */
    void (*widen)(float *lo, float *hi, float *poison, const float *x, uint32_t count);
} seam_tile_ops;

/* The fastest variant that this CPU runs. */
const seam_tile_ops *seam_tile_ops_best(void);
/* Variant `idx` for tests and benches: 0 is the base one; NULL past the last that runs here. */
const seam_tile_ops *seam_tile_ops_variant(uint32_t idx);

#endif
