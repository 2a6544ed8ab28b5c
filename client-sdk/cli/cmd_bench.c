/* `seam bench codecs`: one training run a codec, width and seed, and the table of them.
 *
 * The table is written anew after every run, and a run that is complete in its folder is not
 * repeated, so that a bench that was cut loses at most the run in flight.  A codec that this build
 * or the server does not implement, and a run that diverges, are results; any other error ends the
 * bench. */
#include <stdio.h>
#include <string.h>

#include "bench_markdown.h"
#include "bench_table.h"
#include "directory.h"
#include "run_files.h"
#include "train_run.h"
#include "try.h"

/* One row of the table at one width. */
typedef struct cell {
    const seam_bench_row *row;
    uint32_t bits;
    json_t *value; /* owned by bench.rows */
    bool refused;
} cell;

#define CELLS_MAX ((size_t)SEAM_BENCH_LIST_MAX * SEAM_BENCH_LIST_MAX)

typedef struct bench {
    seam_bench_options o;
    cell cells[CELLS_MAX];
    uint32_t cell_count, run_idx;
    json_t *rows, *versions;
} bench;

static seam_status cells_create(bench *b, seam_error *err);
static seam_status runs_make(bench *b, seam_error *err);
static seam_status run_make(bench *b, cell *c, uint64_t seed, seam_error *err);
static json_t *run_kept(const bench *b, const seam_bench_run *run);
static seam_status table_write(json_t **ret_document, bench *b, seam_text *markdown,
                               seam_error *err);

int seam_cmd_bench_codecs(int argc, char **argv, int first) {
    bench b = {.rows = NULL};
    seam_error err = {0};
    seam_status st = seam_bench_options_parse(&b.o, argc, argv, first, &err);
    if (st != SEAM_OK) {
        return st == SEAM_E_ARG ? seam_cli_usage(&err, "bench codecs")
                                : seam_cli_finish(st, &err, &b.o.base.common);
    }
    if (b.o.base.common.help) {
        seam_bench_options_help();
        return SEAM_EXIT_OK;
    }
    seam_cli_catch_signals(&b.o.base.common);
    st = seam_directory_make(b.o.base.out, &err);
    if (st == SEAM_OK) {
        st = cells_create(&b, &err);
    }
    if (st == SEAM_OK) {
        st = runs_make(&b, &err);
    }
    json_t *document = NULL;
    seam_text markdown = {.count = 0};
    if (st == SEAM_OK) {
        st = table_write(&document, &b, &markdown, &err);
    }
    if (st == SEAM_OK && b.o.base.common.json) {
        seam_cli_print_json(document);
    } else if (st == SEAM_OK) {
        fputs(markdown.bytes, stdout);
    }
    seam_text_deinit(&markdown);
    json_decref(document);
    json_decref(b.rows);
    json_decref(b.versions);
    const int code = seam_cli_finish(st, &err, &b.o.base.common);
    return code == SEAM_EXIT_OK && seam_cli_is_interrupted() ? SEAM_EXIT_INTERRUPTED : code;
}

static seam_status cells_create(bench *b, seam_error *err) {
    b->rows = json_array();
    for (uint32_t r = 0; r < b->o.row_count; r++) {
        const seam_bench_row *const row = b->o.rows[r];
        const uint32_t widths = row->width_option != NULL ? b->o.bits_count : 1;
        for (uint32_t w = 0; w < widths; w++) {
            json_t *const value = seam_bench_row_create(row, b->o.bits[w]);
            if (json_array_append_new(b->rows, value) != 0) {
                return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
            }
            b->cells[b->cell_count++] = (cell){.row = row, .bits = b->o.bits[w], .value = value};
        }
    }
    return SEAM_OK;
}

/* Seed after seed, so that a bench that is cut has every row with one seed first. */
static seam_status runs_make(bench *b, seam_error *err) {
    for (uint32_t s = 0; s < b->o.seed_count; s++) {
        for (uint32_t i = 0; i < b->cell_count; i++) {
            cell *const c = &b->cells[i];
            b->run_idx++;
            if (c->refused) {
                continue;
            }
            SEAM_TRY(run_make(b, c, b->o.seeds[s], err));
            if (seam_cli_is_interrupted()) {
                return SEAM_OK;
            }
            json_t *document = NULL;
            seam_text markdown = {.count = 0};
            const seam_status st = table_write(&document, b, &markdown, err);
            seam_text_deinit(&markdown);
            json_decref(document);
            SEAM_TRY(st);
        }
    }
    return SEAM_OK;
}

static seam_status run_make(bench *b, cell *c, uint64_t seed, seam_error *err) {
    seam_bench_run run;
    seam_error why = {0};
    json_t *report = NULL;
    bool kept = false;
    seam_status st = seam_bench_run_make(&run, &b->o, c->row, c->bits, seed, &why);
    if (st == SEAM_OK) {
        report = b->o.resumes ? run_kept(b, &run) : NULL;
        kept = report != NULL;
    }
    if (!b->o.base.common.quiet) {
        fprintf(stderr, "run %u of %u: %s%s\n", b->run_idx, b->cell_count * b->o.seed_count,
                run.label, kept ? ", kept" : "");
    }
    if (st == SEAM_OK && !kept) {
        st = seam_run_train(&report, &run.options, &why);
    }
    if (st == SEAM_E_UNIMPLEMENTED) {
        seam_bench_row_refuse(c->value, why.text);
        c->refused = true;
        st = SEAM_OK;
    } else if (st == SEAM_OK || (st == SEAM_E_NONFINITE && report != NULL)) {
        st = SEAM_OK;
        if (seam_bench_report_fits(report, &run.options)) { /* else: interrupted */
            st = seam_bench_row_add(c->value, &run, seed, report, kept, err);
        }
        if (b->versions == NULL) {
            b->versions = json_incref(json_object_get(report, "versions"));
        }
    } else {
        st = seam_error_set(err, st, "%s: %s", run.label, why.text);
    }
    json_decref(report);
    return st;
}

/* The report of an earlier call, if it is of the same run and the run was complete. */
static json_t *run_kept(const bench *b, const seam_bench_run *run) {
    char path[SEAM_RUN_PATH_BYTES];
    if (seam_run_path(path, run->path, "report.json", NULL) != SEAM_OK) {
        return NULL;
    }
    json_t *const report = json_load_file(path, 0, NULL);
    if (report == NULL || seam_bench_report_fits(report, &run->options)) {
        return report;
    }
    if (!b->o.base.common.quiet) {
        fprintf(stderr, "%s: incomplete or of other options: made again\n", path);
    }
    json_decref(report);
    return NULL;
}

static seam_status table_write(json_t **ret_document, bench *b, seam_text *markdown,
                               seam_error *err) {
    char json_path[SEAM_RUN_PATH_BYTES], markdown_path[SEAM_RUN_PATH_BYTES];
    SEAM_TRY(seam_run_path(json_path, b->o.base.out, "bench.json", err));
    SEAM_TRY(seam_run_path(markdown_path, b->o.base.out, "bench.md", err));
    for (uint32_t i = 0; i < b->cell_count; i++) {
        seam_bench_row_settle(b->cells[i].value, &b->o);
    }
    json_t *const document = seam_bench_document(&b->o, b->rows, b->versions);
    seam_status st = seam_run_write_json(json_path, document, 0644, err);
    if (st == SEAM_OK) {
        st = seam_bench_markdown(markdown, document, err);
    }
    if (st == SEAM_OK) {
        st = seam_run_write(markdown_path, markdown->bytes, markdown->count, 0644, err);
    }
    if (st != SEAM_OK) {
        json_decref(document);
        return st;
    }
    *ret_document = document;
    return SEAM_OK;
}
