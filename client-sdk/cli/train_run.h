/* One training run, from options to a run folder: what `seam train` and `seam bench` share.
 *
 * Data and model are checked first, then a session is made, then step after step.  Nothing that was
 * saved is lost: the adapter is exported every few steps (whole or not at all), and a run that ends
 * badly still writes its report and says where the last adapter is. */
#ifndef SEAM_TRAIN_RUN_H
#define SEAM_TRAIN_RUN_H

#include "train_options.h"

/* Runs, evaluates and writes options->out.  An interrupted run is cut short and SEAM_OK.
 * *ret_report: what report.json holds, the caller's to json_decref; after an error, too, unless the
 * run did not get as far as its first step: then NULL and nothing was written.
 * Errors: of data, model, session and step calls; SEAM_E_IO.  err may not be NULL. */
seam_status seam_run_train(json_t **ret_report, const seam_train_options *options, seam_error *err);

#endif
