/* report.json of a run: built step by step, written whole at any time.
 *
 * Fixed fields, on which scripts outside depend:
 *   steps[]        step, loss, tokens, labelled_tokens, seconds, bytes_sent, bytes_received,
 *                  bf16_bytes, grad_norm, lr, micros, head_seconds, server_seconds,
 *                  encode_seconds, decode_seconds, server_codec_seconds,
 *                  sites.<site>.{mean_bits, rows, payload_bytes, widths.*}
 *   eval.<name>    loss, perplexity, exact_match, rows, ...   (before, after, after_quantized);
 *                  accuracy, accuracy_norm (null: no row has choices), choice_rows;
 *                  groups.<group>.{rows, exact_rows, exact_match} where rows have a field "group"
 *   widths.<site>        how many channels have width 0, 1, 2, ... at the end
 *   final_widths.<site>  the width of every channel at the end
 *   options        every option in force that bears on the result, as it would be typed
 *   complete       every step was made and every evaluation
 *   data           train_rows, eval_rows
 *   prediction     what was predicted of the steps, and its grade: run_prediction.h
 *   config, model, versions, totals, peak_rss_bytes, error (of a run that was cut short)
 * bytes_* are the transport's; bf16_bytes is what the step's four tensors, all valid rows, would
 * cost in bf16: 4 * T * C * 2.  mean_bits is that of the codes on the wire, 0 for a site that sent
 * no tensor; payload_bytes of bwd_in is then the gate signal's. */
#ifndef SEAM_RUN_REPORT_H
#define SEAM_RUN_REPORT_H

#include <jansson.h>

#include "evaluate.h"
#include "seam_model.h"
#include "train_options.h"

typedef struct seam_run_report {
    json_t *root, *steps, *eval;
    double seconds, loss_sum;
    double encode_seconds, decode_seconds, server_codec_seconds;
    uint64_t tokens, labelled_tokens, bytes_sent, bytes_received, bf16_bytes;
    double bits_weighted, values; /* sum over steps of mean bits x values, forward sites */
} seam_run_report;

/* SEAM_E_MEMORY. */
seam_status seam_run_report_init(seam_run_report *report, seam_error *err);
void seam_run_report_deinit(seam_run_report *report);
/* Takes over `value` (may be NULL: out of memory, found when the report is written). */
void seam_run_report_set(seam_run_report *report, const char *name, json_t *gift_value);
/* What stands before the first step: data, config, model, versions. */
typedef struct seam_run_facts {
    const seam_train_options *options;
    const seam_model_facts *model;
    const char *server_model; /* as the server calls it */
    const seam_server_info *server;
    uint32_t train_rows, eval_rows;
} seam_run_facts;
void seam_run_report_begin(seam_run_report *report, const seam_run_facts *facts);
/* A step as an entry of steps[]; *ret_wire_bits: mean of the codes of both forward sites.  NULL:
 * out of memory. */
json_t *seam_run_report_entry(double *ret_wire_bits, const seam_train_report *step,
                              uint32_t micro_count, const seam_session *session);
/* Adds an entry, whether just made or of an earlier process of the run. */
void seam_run_report_add(seam_run_report *report, json_t *gift_entry);
/* Leaves the steps before that one: the run goes on from there. */
void seam_run_report_cut(seam_run_report *report, uint64_t step_count);
void seam_run_report_eval(seam_run_report *report, const char *name,
                          const seam_evaluation *evaluation);
/* Totals, final widths and peak memory, then the file.  SEAM_E_IO, SEAM_E_MEMORY. */
seam_status seam_run_report_write(seam_run_report *report, const char *path,
                                  const seam_session *session, seam_error *err);

#endif
