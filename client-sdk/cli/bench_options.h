/* Options of `seam bench codecs`: which rows the table has, at which widths, with which seeds and
 * link rates; and the options of each training run.  bench_rows.c holds the rows. */
#ifndef SEAM_BENCH_OPTIONS_H
#define SEAM_BENCH_OPTIONS_H

#include "train_options.h"

#define SEAM_BENCH_LIST_MAX       32
#define SEAM_BENCH_LABEL_BYTES    64
#define SEAM_BENCH_ROW_TEXT_BYTES 256
#define SEAM_BENCH_ROW_ARGS_MAX   32

/* One row of the table at every width. */
typedef struct seam_bench_row {
    const char *label;        /* also the first part of the run folders' names */
    const char *width_option; /* "bits", "target": takes the width; NULL: the row has none */
    const char *options;      /* of `seam train`, apart by single blanks */
} seam_bench_row;

extern const seam_bench_row seam_bench_rows[];
extern const uint32_t seam_bench_row_count;

typedef struct seam_bench_link {
    char text[32]; /* as typed: "50mbit" */
    double bits_per_second;
} seam_bench_link;

typedef struct seam_bench_options {
    seam_train_options base; /* what all runs share; its codec, width and seed mean nothing */
    const char *codecs_text, *bits_text, *seeds_text, *link_text, *rtt_text; /* as typed */
    bool resumes;
    const seam_bench_row *rows[SEAM_BENCH_LIST_MAX];
    uint32_t bits[SEAM_BENCH_LIST_MAX];
    uint64_t seeds[SEAM_BENCH_LIST_MAX];
    seam_bench_link links[SEAM_BENCH_LIST_MAX];
    uint32_t row_count, bits_count, seed_count, link_count;
    double rtt_seconds;
    int argc, first; /* the command line, borrowed: each run reads it again */
    char **argv;
} seam_bench_options;

/* SEAM_E_ARG names the option.  Help asked for: the other fields are not checked. */
seam_status seam_bench_options_parse(seam_bench_options *ret_options, int argc, char **argv,
                                     int first, seam_error *err);
void seam_bench_options_help(void);

/* One run of the bench.  Not to be copied: the options point into it. */
typedef struct seam_bench_run {
    char label[SEAM_BENCH_LABEL_BYTES]; /* "affine-4bit-s1": its folder in --out */
    char path[4096];
    char text[SEAM_BENCH_ROW_TEXT_BYTES]; /* the row's options, cut into arguments */
    char width_name[24], width_value[16];
    seam_train_options options;
} seam_bench_run;

/* bits: ignored for a row without width_option.  SEAM_E_UNIMPLEMENTED: this build knows no such
 * option as the row wants.  SEAM_E_ARG. */
seam_status seam_bench_run_make(seam_bench_run *ret_run, const seam_bench_options *options,
                                const seam_bench_row *row, uint32_t bits, uint64_t seed,
                                seam_error *err);

#endif
