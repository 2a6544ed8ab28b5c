/* What the steps of a run are made of, in its folder: whether a run that goes on still has it.
 *
 *   data.json   a digest of the rows' tokens and labels, one of the file, and what decides the
 * order
 *
 * The server cannot tell: it never sees the rows, and a replay that it can compare with may not
 * come. */
#ifndef SEAM_RUN_DATA_H
#define SEAM_RUN_DATA_H

#include "data.h"
#include "train_options.h"

/* Of a new run.  SEAM_E_IO, SEAM_E_MEMORY. */
seam_status seam_run_data_write(const seam_train_options *options, const seam_data *data,
                                seam_error *err);
/* Of a run that goes on.  Where the folder has none, of an earlier release or taken away by who
 * wants other rows, it is written.  SEAM_E_ARG names the option; SEAM_E_FORMAT, SEAM_E_IO,
 * SEAM_E_MEMORY. */
seam_status seam_run_data_check(const seam_train_options *options, const seam_data *data,
                                seam_error *err);

#endif
