/* The inner loops of the entropy coder: 32 interleaved rANS lanes, and the bit transpose between
 * bit planes and symbols.  Internal to codec/; rans.h says what they serve, WIRE.md 3.4 the bytes.
 *
 * Every variant gives the same bytes.  The vector ones are written with intrinsics (rans_tile.c for
 * AVX2, rans_tile_avx512.c): compilers do not vectorise the renormalisation, where the lanes take a
 * varying count of words from one stream.  NEON runs the portable loops. */
#ifndef SEAM_RANS_TILE_H
#define SEAM_RANS_TILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SEAM_RANS_LANES       32u
#define SEAM_RANS_PROB_BITS   12u
#define SEAM_RANS_PROB_SUM    (1u << SEAM_RANS_PROB_BITS)
#define SEAM_RANS_STATE_MIN   (1u << 15) /* states are in [2^15, 2^31) between symbols */
#define SEAM_RANS_SLICE_STEPS 128u       /* of units at a time, so that they stay in the L1 cache */
#define SEAM_RANS_STEP_WORDS  SEAM_RANS_LANES /* at most one 16-bit word a lane and step */
#define SEAM_RANS_WORDS_SLOP  16u /* bytes in front of the words that encode may overwrite */
#define SEAM_RANS_WORDS_AHEAD 64u /* bytes behind a reader's end that decode may read */
#define SEAM_RANS_READERS_MAX 4u  /* blocks that are decoded side by side */

/* Which words of the bit planes make a unit's byte: `planes` words of each of `cells` cells, in
 * order, are bits 0, 1, ... of the 32 bytes of a step.  planes * cells <= 8. */
typedef struct seam_rans_unit {
    uint32_t planes, cells;
} seam_rans_unit;

/* What encode needs of a symbol: bits 0..31 reciprocal, 32..43 frequency, 44..56 bias, 57..60
 * shift. */
typedef uint64_t seam_rans_encode_entry;
/* What decode finds in a slot: bits 0..11 offset in the symbol's slots, 12..19 symbol, 20..31
 * frequency. */
typedef uint32_t seam_rans_decode_entry;

/* Shuffles for the renormalisation, by the bits of the lanes that take part; filled once a call. */
typedef struct seam_rans_shuffles {
    _Alignas(16) uint8_t bytes[256][16];
} seam_rans_shuffles;

typedef struct seam_rans_lanes {
    _Alignas(32) uint32_t x[SEAM_RANS_LANES];
} seam_rans_lanes;

/* One block being decoded. */
typedef struct seam_rans_reader {
    seam_rans_lanes lanes;
    const seam_rans_decode_entry *entries;
    const uint8_t *at, *end; /* its words */
    uint8_t *units;          /* where the next step's go */
    uint32_t steps;          /* that are still to be decoded */
} seam_rans_reader;

typedef struct seam_rans_tile_ops {
    /* Symbols units[steps][32] of the cells whose first word is at codes + cells_at[]. */
    void (*read)(uint8_t *units, const uint8_t *codes, const uint32_t *cells_at, uint32_t steps,
                 seam_rans_unit unit);
    /* The reverse. */
    void (*write)(uint8_t *codes, const uint8_t *units, const uint32_t *cells_at, uint32_t steps,
                  seam_rans_unit unit);
    /* Codes units from the last step to the first; words are put in front of `words`.  Returns
     * where they begin; SEAM_RANS_WORDS_SLOP bytes before that may be overwritten. */
    uint8_t *(*encode)(seam_rans_lanes *lanes, uint8_t *words, const uint8_t *units, uint32_t steps,
                       const seam_rans_encode_entry *entries, const seam_rans_shuffles *shuffles);
    /* Steps of each reader, 32 symbols each, until one has none left or its words begin behind its
     * end.  Readers move on by as many steps as they did. */
    void (*decode)(seam_rans_reader *const *readers, uint32_t count,
                   const seam_rans_shuffles *shuffles);
    /* Adds to counts[16] how often the 64 codes have each value; planes[j]: their bits j. */
    void (*count)(uint16_t *counts, const uint64_t *planes);
} seam_rans_tile_ops;

/* encode: the word of lane l goes to the end of 16 bytes; decode: from their beginning to lane l.
 */
void seam_rans_shuffles_encode(seam_rans_shuffles *ret);
void seam_rans_shuffles_decode(seam_rans_shuffles *ret);

/* The fastest variant that this CPU runs. */
const seam_rans_tile_ops *seam_rans_tile_best(void);
/* Variant `idx` for tests and benches: 0 is the portable one; NULL past the last that runs here. */
const seam_rans_tile_ops *seam_rans_tile_variant(uint32_t idx);

#endif
