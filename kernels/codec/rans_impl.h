/* Inside of the entropy coder.  rans.c writes and reads streams, rans_walk.c knows where cells
 * stand, rans_model.c chooses the classes, rans_table.c makes frequencies and tables, rans_tile.c
 * and rans_tile_avx512.c have the loops.  Callers use rans.h.
 *
 * Terms.  Group: 32 rows.  Cell: the codes of one channel in one full group, w words of bit
 * planes.  Class: channels that share a kind and frequencies.  Kind: how many top planes of a
 * cell are modelled (0: all stored; 1..8; SEAM_RANS_KIND_ZERO: every code is 0, nothing is
 * sent).  Unit: the cells, one after another, whose modelled bits together make a byte a row;
 * one step of the 32 lanes.  Block: up to SEAM_RANS_BLOCK_STEPS steps, which decode alone. */
#ifndef SEAM_RANS_IMPL_H
#define SEAM_RANS_IMPL_H

#include "rans.h"
#include "rans_tile.h"

#define SEAM_RANS_CLASSES_MAX     32u
#define SEAM_RANS_KIND_ZERO       9u
#define SEAM_RANS_BLOCK_STEPS     2048u
#define SEAM_RANS_PLANES_FAST     4u /* modelled planes where deeper ones bring little */
#define SEAM_RANS_SYMBOLS_MAX     256u
#define SEAM_RANS_TABLE_SLOP      8u
#define SEAM_RANS_CLASS_BYTES_MAX (1 + 2 * SEAM_RANS_SYMBOLS_MAX)

typedef struct seam_rans_class {
    uint32_t kind;
    uint16_t freqs[SEAM_RANS_SYMBOLS_MAX]; /* 2^kind of them, sum 4096, two or more above zero */
} seam_rans_class;

/* Bytes of a group that are not modelled: they travel as they are, or, where all codes are 0, not
 * at all. */
typedef struct seam_rans_span {
    uint32_t at, bytes;
    bool zero;
} seam_rans_span;

/* A chunk's geometry and, once known, its classes. */
typedef struct seam_rans_plan {
    const uint8_t *widths;
    uint32_t channels, groups, tail_rows;
    uint32_t group_bytes; /* of one full group: 4 * sum of widths */
    uint32_t *channel_at; /* (C) byte of a channel in a group */
    uint8_t *class_of;    /* (C) */
    /* (C) encoder, at first: channels by width (rans_model.c).  Then, by class: where the modelled
     * planes of each of its channels begin in a group. */
    uint32_t *members;
    uint32_t class_begin[SEAM_RANS_CLASSES_MAX + 1];
    uint32_t class_count;
    seam_rans_class *classes;
    uint16_t *counts;      /* (C, 16) encoder: sampled codes by their top bits */
    seam_rans_span *spans; /* (C) in order */
    uint32_t span_count;
    size_t stored_bytes; /* of all full groups */
    const seam_rans_tile_ops *tile;
} seam_rans_plan;

/* ---- rans.c: rans.h's functions with a given variant of the loops, for tests and benches ---- */

void seam_rans_encode_by(uint8_t *ret_stream, size_t *ret_bytes, const seam_rans_tile_ops *tile,
                         const seam_rans_args *args, const uint8_t *codes, void *scratch);
seam_status seam_rans_decode_by(uint8_t *ret_codes, const seam_rans_tile_ops *tile,
                                const seam_rans_args *args, const uint8_t *stream,
                                size_t stream_bytes, void *scratch);

/* ---- rans_walk.c ---- */

/* arrays: seam_rans_arrays_bytes(channels), which the plan's arrays over channels take. */
void seam_rans_plan_init(seam_rans_plan *plan, const seam_rans_tile_ops *tile,
                         const seam_rans_args *args, seam_rans_class *classes, void *arrays);
size_t seam_rans_arrays_bytes(uint32_t channels);
/* Members by class, from classes and class_of. */
void seam_rans_members_sort(seam_rans_plan *plan);

bool seam_rans_kind_is_coded(uint32_t kind);
/* Spans and stored_bytes, from classes and class_of. */
void seam_rans_spans_find(seam_rans_plan *plan);
size_t seam_rans_tail_bytes(const seam_rans_plan *plan);

/* The cells of one coded class. */
typedef struct seam_rans_walk {
    const seam_rans_plan *plan;
    const seam_rans_class *cls;
    const uint32_t *members;
    uint32_t member_count;
    seam_rans_unit unit;
    uint32_t cells, steps;
} seam_rans_walk;

seam_rans_walk seam_rans_walk_of(const seam_rans_plan *plan, uint32_t class_idx);
/* Of the block that begins at this step. */
uint32_t seam_rans_block_steps(const seam_rans_walk *walk, uint32_t begin);
uint32_t seam_rans_block_count(const seam_rans_plan *plan);
/* Where the modelled planes of the cells of units step .. step + steps lie; returns how many
 * cells there are: the last unit of a class may have fewer than others. */
uint32_t seam_rans_cells_find(uint32_t *ret_at, const seam_rans_walk *walk, uint32_t step,
                              uint32_t steps);
/* The part of a unit's byte that `cells` cells leave free, filled with the class's pad symbol. */
uint8_t seam_rans_pad_bits(const seam_rans_walk *walk, uint32_t cells);

/* ---- rans_model.c: the encoder's choice of class_count, classes and class_of ---- */

void seam_rans_model(seam_rans_plan *plan, const uint8_t *codes);

/* ---- rans_table.c ---- */

/* Cells of a unit: 8, 4, 2, 2, 1, 1, 1, 1 for kinds 1..8. */
seam_rans_unit seam_rans_unit_of(uint32_t kind);
/* Frequencies with sum 4096 of weights that sum to about 2^24: at least 1 where the weight is
 * not 0, else 0.  Two weights or more are not 0. */
void seam_rans_scale(uint16_t *ret_freqs, const uint32_t *weights, uint32_t count);
/* Frequencies of a unit's byte from those of its codes: their products. */
void seam_rans_unit_freqs(uint16_t *ret_freqs, const seam_rans_class *cls);
void seam_rans_encode_table(seam_rans_encode_entry *ret, const uint16_t *freqs, uint32_t count);
/* ret (4096 + SEAM_RANS_TABLE_SLOP): what lies behind the 4096 may be overwritten. */
void seam_rans_decode_table(seam_rans_decode_entry *ret, const uint16_t *freqs, uint32_t count);
/* What fills up the last unit of a class: its most frequent symbol, the lowest among equals. */
uint32_t seam_rans_pad_symbol(const seam_rans_class *cls);
/* 256 * log2(value), rounded down; value >= 1. */
uint32_t seam_rans_log2(uint32_t value);

/* Bytes of a class in the stream; returns how many. */
size_t seam_rans_class_write(uint8_t *ret, const seam_rans_class *cls);
/* SEAM_E_FORMAT.  *at moves behind the class. */
seam_status seam_rans_class_read(seam_rans_class *ret, const uint8_t **at, const uint8_t *end);

#endif
