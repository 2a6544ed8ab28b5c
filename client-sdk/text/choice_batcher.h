/* Batches for evaluation of rows with choices (data.h): the loss of each row and the score of each
 * of its choices, the sum of the log probabilities of the choice's tokens after the prompt.
 *
 * A row's first sequence is its prompt and completion, as in batcher.h.  A choice gets a sequence
 * of its own only when no other sequence of the row begins with the prompt and all of the choice
 * but its last token (which predicts nothing): choices of one token, letters say, cost none.  Since
 * attention looks back only, a shared sequence gives what a sequence of its own would.
 *
 * Rows keep the file's order.  All sequences of a row stand in one batch where rows_max allows. */
#ifndef SEAM_CHOICE_BATCHER_H
#define SEAM_CHOICE_BATCHER_H

#include "data.h"

#define SEAM_NO_CHOICE UINT32_MAX

/* The probability of `token` after `row` belongs to the row's loss, to a choice's score, or both.
 */
typedef struct seam_choice_term {
    uint32_t row, token;
    uint32_t choice_idx; /* as in seam_data_choice, or SEAM_NO_CHOICE */
    bool in_loss;
} seam_choice_term;

typedef struct seam_choice_batch {
    uint32_t rows;            /* T; 0: no batch is left */
    uint32_t seq_count;       /* S */
    uint32_t term_count;      /* at least 1 */
    const uint32_t *ids;      /* (T) */
    const uint32_t *seq_rows; /* (S) */
    const uint8_t *wanted;    /* (ceil(T / 8)): rows that a term names */
    const seam_choice_term *terms;
} seam_choice_batch;

typedef struct seam_choice_batcher seam_choice_batcher;

/* The data is borrowed.  SEAM_E_ARG (rows_max 0), SEAM_E_LIMIT (a sequence has more rows than
 * rows_max: its line is named), SEAM_E_MEMORY. */
seam_status seam_choice_batcher_create(seam_choice_batcher **ret_batcher, const seam_data *data,
                                       uint32_t rows_max, seam_error *err);
void seam_choice_batcher_destroy(seam_choice_batcher *gift_batcher);
/* The next batch of one pass; valid until the next call. */
void seam_choice_batcher_next(seam_choice_batch *ret_batch, seam_choice_batcher *batcher);

#endif
