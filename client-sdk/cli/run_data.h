/* What the steps of a run are made of: its rows and their order, and in its folder whether a run
 * that goes on still has them.
 *
 *   data.json   a digest of the rows' tokens and labels, one of the file, and what decides the
 *               order; the digests of the evaluation's rows
 *
 * The server cannot tell: it never sees the rows, and a replay that it can compare with may not
 * come.  Evaluations of before and after the cut would be of different rows. */
#ifndef SEAM_RUN_DATA_H
#define SEAM_RUN_DATA_H

#include "batcher.h"
#include "data.h"
#include "model_config.h"
#include "train_options.h"

#define SEAM_RUN_MICROS_MAX 64u /* of a step */

/* Tokens of the longest row that a session with such a prefix takes.  SEAM_E_ARG: it leaves no
 * room. */
seam_status seam_run_tokens_limit(uint32_t *ret_limit, const seam_model_config *model,
                                  uint32_t prefix_tokens, seam_error *err);
/* How the rows of a file are read by these options; rows_max 0: all. */
seam_data_options seam_run_data_options(const seam_train_options *options, uint32_t tokens_limit,
                                        uint32_t rows_max);
/* --data and its steps; the batcher borrows the data.  SEAM_E_LIMIT: a step has more micro-batches
 * than a client takes; and what seam_data_load and seam_batcher_create return. */
seam_status seam_run_rows_open(seam_data **ret_data, seam_batcher **ret_batcher,
                               const seam_train_options *options, const seam_tokenizer *tokenizer,
                               uint32_t tokens_limit, seam_error *err);
/* The session's limits for steps of rows of at most tokens_longest tokens. */
void seam_run_rows_limit(seam_session_options *session, const seam_train_options *options,
                         uint32_t tokens_longest, uint32_t micros_max);

typedef struct seam_run_data_rows {
    const seam_data *train, *eval; /* eval: NULL without --eval-data */
} seam_run_data_rows;
/* Of a new run.  SEAM_E_IO, SEAM_E_MEMORY. */
seam_status seam_run_data_write(const seam_train_options *options, const seam_run_data_rows *data,
                                seam_error *err);
/* Of a run that goes on.  Where the folder has none, of an earlier release or taken away by who
 * wants other rows, it is written.  SEAM_E_ARG names the option; SEAM_E_FORMAT, SEAM_E_IO,
 * SEAM_E_MEMORY. */
seam_status seam_run_data_check(const seam_train_options *options, const seam_run_data_rows *data,
                                seam_error *err);

#endif
