/* What a training run and an audit of one open alike, so that both have the same session and send
 * the same rows; the rows themselves are run_data.h's. */
#ifndef SEAM_RUN_OPEN_H
#define SEAM_RUN_OPEN_H

#include "run_data.h"

/* Whether what the options name is there, or can be written: before anything is loaded.  SEAM_E_IO
 * names the option. */
seam_status seam_run_paths_check(const seam_train_options *options, seam_error *err);
/* Of --model and the blocks that are this end's; path is borrowed from the options. */
seam_model_options seam_run_model_options(const seam_train_options *options);
/* The session that the options and the rows ask for, but for its depth.  SEAM_E_ARG. */
typedef struct seam_run_rows {
    const char *server_model; /* as the server calls it */
    const seam_model_facts *facts;
    const seam_data *data;
    const seam_batcher *batcher;
} seam_run_rows;
seam_status seam_run_session_options(seam_session_options *ret_options,
                                     const seam_train_options *options, const seam_run_rows *rows,
                                     seam_error *err);
/* The step's micro-batches as a trainer takes them; borrowed from the batcher. */
void seam_run_micros(seam_token_batch ret_micros[SEAM_RUN_MICROS_MAX],
                     const seam_step_batch *batch);

#endif
