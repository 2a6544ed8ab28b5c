/* The layout of a micro-batch and of a request, checked: the one place where counts, bitmap and
 * positions that a peer sent become numbers that the rest of the tree trusts.
 *
 * Arrays of the message are borrowed and must outlive the layout; the list of labelled rows stands
 * in caller's storage. Any thread, no allocation. */
#ifndef SEAM_STEP_LAYOUT_H
#define SEAM_STEP_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "seam/v1/stream.pb-c.h"
#include "seam_status.h"

typedef struct seam_layout_limits {
    uint32_t rows_max;      /* of a micro-batch */
    uint32_t sequences_max; /* of a micro-batch */
    uint32_t micros_max;    /* of a step */
    uint32_t positions_max; /* every position is below it (the model's context) */
    bool sample_ids_needed; /* a codec goes by them */
    bool row_sources_taken; /* seam_codec_plan_takes_row_sources */
    bool labels_needed;     /* a label for each labelled row; else none may come */
    uint32_t vocab_count;   /* every label is below it */
} seam_layout_limits;

typedef struct seam_micro_layout {
    uint32_t rows;
    uint32_t sequence_count;
    const uint32_t *sequence_rows; /* (sequence_count) */
    const uint64_t *sample_ids;    /* (sequence_count) or NULL */
    const uint32_t *positions;     /* (rows), or NULL: 0.. in every sequence */
    const uint32_t *row_sources;   /* (rows), or NULL: each is a row of site 0's tensor */
    uint32_t rows_in;              /* of site 0's tensor */
    uint32_t labelled_count;
    const uint32_t *labels; /* (labelled_count), or NULL: the topology has none */
} seam_micro_layout;

/* Check one micro-batch.  ret_labelled_rows (limits->rows_max) gets the indices of labelled rows,
 * rising; NULL: only counted.  SEAM_E_ARG or SEAM_E_LIMIT; err names the field, as
 * "micros[2].sequence_rows[5]". */
seam_status seam_micro_layout_read(seam_micro_layout *ret_layout, uint32_t *ret_labelled_rows,
                                   const Seam__V1__MicroBatch *micro, uint32_t micro_idx,
                                   const seam_layout_limits *limits, seam_error *err);
/* Check a whole StepBegin: every micro-batch, labelled_row_count as their sum, digest. */
seam_status seam_step_begin_check(const Seam__V1__StepBegin *begin,
                                  const seam_layout_limits *limits, seam_error *err);
/* The digest of WIRE.md section 4 over the message's fields (its digest field is not read). */
uint64_t seam_step_begin_digest(const Seam__V1__StepBegin *begin);
/* Labelled rows of each sequence, in order; every bit of rows beyond them is left out. */
void seam_sequence_labelled_counts(uint32_t *ret_counts, const uint32_t *sequence_rows,
                                   uint32_t sequence_count, const uint8_t *bitmap);

/* Rows of sites 1 and 2 where the client has tail blocks, whose attention reads earlier rows: of
 * each sequence those up to its last labelled one.  ret_bitmap ((rows + 7) / 8) may not be
 * `labelled`. Returns their count. */
uint32_t seam_rows_to_last_labelled(uint8_t *ret_bitmap, const uint32_t *sequence_rows,
                                    uint32_t sequence_count, const uint8_t *labelled);

/* A request of Forward or Generate. */
typedef struct seam_request_layout {
    uint32_t rows;
    uint32_t sequence_count;
    const uint32_t *sequence_rows;
    const uint32_t *first_positions; /* (sequence_count) or NULL: 0 */
    const uint32_t *slots;           /* (sequence_count) or NULL (Forward) */
    uint32_t rows_out_count;         /* rows of the answer */
} seam_request_layout;

/* ret_rows_out (limits->rows_max) gets the indices of the rows of the answer; NULL: only counted.
 * slot_count: 0 for Forward (slots must be absent), else every slot is below it, none twice. */
seam_status seam_request_layout_read(seam_request_layout *ret_layout, uint32_t *ret_rows_out,
                                     const Seam__V1__GenerateRows *rows, uint64_t request_expected,
                                     uint32_t slot_count, const seam_layout_limits *limits,
                                     seam_error *err);

#endif
