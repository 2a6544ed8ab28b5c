/* What `seam bench codecs` shows: figures of a run from its report.json, means over seeds, step
 * times projected for a link, and the document of all that.
 *
 *   rows[]  label, bits (or null), status, reason (or null), run_count
 *           runs[]    seed, folder, status, reused, reason, figures.<name>
 *           figures   <name>: {mean, spread} over the runs that are done, or null
 *           links[]   rate, step_seconds, step_seconds_overlapped
 *
 * status of a run: "done", "diverged" (loss or tensors stopped being finite: no figures).  Of a
 * row: "done", "diverged" (a run of it), "unavailable" (build or server refused it), "pending"
 * (runs are missing).  spread: largest minus smallest.  Figures: the table in bench_table.c. */
#ifndef SEAM_BENCH_TABLE_H
#define SEAM_BENCH_TABLE_H

#include <jansson.h>

#include "bench_options.h"

/* The projection in words, for help and table. */
extern const char seam_bench_formula[];

typedef struct seam_bench_cost {
    double client_seconds, server_seconds; /* computing, codecs included, of a step */
    double bytes_sent, bytes_received;     /* on the wire, of a step */
    double micros;                         /* micro-batches of a step */
} seam_bench_cost;

/* See seam_bench_formula.  bits_per_second > 0. */
void seam_bench_project(double *ret_in_turn, double *ret_overlapped, const seam_bench_cost *cost,
                        double bits_per_second, double rtt_seconds);

/* Whether the report is of a whole run (or one that diverged) with these options. */
bool seam_bench_report_fits(const json_t *report, const seam_train_options *options);

/* A row of the document without runs.  NULL: out of memory, here and below. */
json_t *seam_bench_row_create(const seam_bench_row *row, uint32_t bits);
/* Adds a run's figures.  SEAM_E_MEMORY. */
seam_status seam_bench_row_add(json_t *row, const seam_bench_run *run, uint64_t seed,
                               const json_t *report, bool reused, seam_error *err);
/* The row cannot be run. */
void seam_bench_row_refuse(json_t *row, const char *reason);
/* Means, projections and status once some runs are there; may be called again after more. */
void seam_bench_row_settle(json_t *row, const seam_bench_options *options);

/* The document.  rows and versions (may be NULL) are borrowed. */
json_t *seam_bench_document(const seam_bench_options *options, json_t *rows, json_t *versions);

#endif
