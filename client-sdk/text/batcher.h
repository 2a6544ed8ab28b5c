/* Steps of micro-batches from a data set, in an order that seed and step alone decide.
 *
 * The samples of epoch e are a permutation keyed by (seed, e); steps take `samples_per_step` of
 * them in turn and go on into the next epoch without a break.  So any step can be asked for at any
 * time (resume, replay) and gives the same bytes.
 *
 * A sample of n tokens gives n - 1 rows: row t holds token t and is labelled when token t + 1 is in
 * the loss; its target is that token.  (The last token predicts nothing.)
 *
 * Micro-batches take the step's samples in order, as many as rows_max and seqs_max allow. */
#ifndef SEAM_BATCHER_H
#define SEAM_BATCHER_H

#include "data.h"

typedef struct seam_batcher_options {
    uint32_t samples_per_step;
    uint32_t rows_max; /* a micro-batch; at least the longest sample's rows */
    uint32_t seqs_max; /* a micro-batch; 0: no limit */
    bool in_order;     /* file order, one pass: evaluation; else shuffled for ever */
    uint64_t seed;
} seam_batcher_options;

typedef struct seam_micro {
    uint32_t rows;                 /* T */
    uint32_t seq_count;            /* S */
    uint32_t labelled_count;       /* at least 1 */
    const uint32_t *ids;           /* (T) */
    const uint32_t *positions;     /* (T), from 0 in each sequence */
    const uint32_t *seq_begin;     /* (S + 1), 0 first, T last */
    const uint32_t *seq_rows;      /* (S) */
    const uint64_t *sample_ids;    /* (S): index in the data set */
    const uint8_t *labelled;       /* (ceil(T / 8)): bit t % 8 of byte t / 8 */
    const uint32_t *labelled_rows; /* (labelled_count), rising */
    const uint32_t *targets;       /* (labelled_count) */
} seam_micro;

typedef struct seam_step_batch {
    uint64_t step, epoch; /* of the step's first sample */
    uint32_t micro_count, sample_count;
    const seam_micro *micros;
    uint64_t rows_total, labelled_total;
} seam_step_batch;

typedef struct seam_batcher seam_batcher;

/* The data is borrowed.  SEAM_E_ARG (a zero size), SEAM_E_LIMIT (a sample has more rows than
 * rows_max: its line is named), SEAM_E_MEMORY. */
seam_status seam_batcher_create(seam_batcher **ret_batcher, const seam_data *data,
                                const seam_batcher_options *options, seam_error *err);
void seam_batcher_destroy(seam_batcher *gift_batcher);
/* Most micro-batches that a step can have. */
uint32_t seam_batcher_micros_max(const seam_batcher *batcher);
/* The batch of a step; valid until the next call.  In order: one that begins before the
 * data ends, and the last is perhaps smaller.  Never fails. */
void seam_batcher_step(seam_step_batch *ret_batch, seam_batcher *batcher, uint64_t step);

#endif
