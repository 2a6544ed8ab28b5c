/* What is predicted of a run before its first step, by the code of `seam plan`, and what became of
 * it: the report's `prediction`.
 *
 *   wire    bytes of a step each way: plan_wire.h
 *   time    of a step, as far as --mbit and --server-tokens-per-s tell
 *   client  memory of this process: plan_client.h; not where a device of its own computes
 *   grade.<what>.{predicted, measured, ratio}   measured by predicted, once a step was made:
 *           bytes_sent, bytes_received, payload_sent, payload_received (means of the steps),
 *           seconds (likewise), memory (the largest so far: code, gRPC and data too) */
#ifndef SEAM_RUN_PREDICTION_H
#define SEAM_RUN_PREDICTION_H

#include "batcher.h"
#include "run_report.h"
#include "train_options.h"

typedef struct seam_run_prediction_args {
    const seam_train_options *options;
    const seam_session_options *session; /* as it was asked for, its depth as it was granted */
    seam_batcher *batcher;
    bool tls;
} seam_run_prediction_args;

/* Into the report.  What cannot be predicted ends no run: `prediction.error` says why. */
void seam_run_prediction_make(seam_run_report *report, const seam_run_prediction_args *args);
/* The report has its totals. */
void seam_run_prediction_grade(seam_run_report *report);

#endif
