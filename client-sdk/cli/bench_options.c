/* See bench_options.h. */
#include "bench_options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_table.h"
#include "codec.h"
#include "shared_options.h"
#include "try.h"

#define OPTION(name, kind, member, value, help)                                                    \
    SEAM_OPTION(seam_bench_options, name, kind, member, value, help)

static const seam_arg_spec bench_specs[] = {
    OPTION("codecs", SEAM_ARG_TEXT, codecs_text, "LIST",
           "rows of the table, or first parts of their names [all]"),
    OPTION("bits", SEAM_ARG_TEXT, bits_text, "LIST", "widths, or targets of the mean [4,3]"),
    OPTION("seeds", SEAM_ARG_TEXT, seeds_text, "LIST", "one run each [1,2]"),
    OPTION("link", SEAM_ARG_TEXT, link_text, "RATES",
           "adds the step time projected for each rate: 50mbit,1gbit"),
    OPTION("rtt", SEAM_ARG_TEXT, rtt_text, "TIME", "round trip of the projected link: 20ms [0ms]"),
    OPTION("resume", SEAM_ARG_ONOFF, resumes, "on|off",
           "keep runs that are complete in --out and had the same options [on]"),
    {NULL, SEAM_ARG_FLAG, 0, NULL, NULL},
};

/* A unit that a number may end with. */
typedef struct unit {
    const char *name;
    double factor;
} unit;

static seam_status base_check(const seam_train_options *read, seam_error *err);
static seam_status rows_parse(seam_bench_options *o, seam_error *err);
static seam_status bits_parse(seam_bench_options *o, seam_error *err);
static seam_status seeds_parse(seam_bench_options *o, seam_error *err);
static seam_status links_parse(seam_bench_options *o, seam_error *err);
static seam_status rtt_parse(seam_bench_options *o, seam_error *err);

/* What runs of a bench start from, where `seam train` starts from something else. */
static void base_init(seam_train_options *ret_base) {
    seam_train_options_init(ret_base);
    ret_base->eval_before = false; /* the same for every run */
    ret_base->exact_match = false; /* generation costs more than the training of a short run */
    ret_base->delete_session = true;
}

seam_status seam_bench_options_parse(seam_bench_options *ret_options, int argc, char **argv,
                                     int first, seam_error *err) {
    seam_bench_options *const o = ret_options;
    *o = (seam_bench_options){.codecs_text = "",
                              .bits_text = "4,3",
                              .seeds_text = "1,2",
                              .rtt_text = "0ms",
                              .resumes = true,
                              .argc = argc,
                              .first = first,
                              .argv = argv};
    const seam_arg_table extra = {bench_specs, o};
    base_init(&o->base);
    SEAM_TRY(seam_train_options_read(&o->base, &extra, argc, argv, first, err));
    if (o->base.common.help) {
        return SEAM_OK;
    }
    SEAM_TRY(base_check(&o->base, err));
    SEAM_TRY(seam_train_options_finish(&o->base, err));
    SEAM_TRY(rows_parse(o, err));
    SEAM_TRY(bits_parse(o, err));
    SEAM_TRY(seeds_parse(o, err));
    SEAM_TRY(links_parse(o, err));
    return rtt_parse(o, err);
}

/* Options that the table sets itself, run by run. */
static seam_status base_check(const seam_train_options *read, seam_error *err) {
    if (read->codec != NULL) {
        return seam_error_set(err, SEAM_E_ARG, "--codec: a bench takes --codecs LIST");
    }
    if (read->target != 0.0f) {
        return seam_error_set(err, SEAM_E_ARG, "--target: a bench takes --bits LIST");
    }
    if (read->seed != 0) {
        return seam_error_set(err, SEAM_E_ARG, "--seed: a bench takes --seeds LIST");
    }
    if (strcmp(read->eval_quantized, "both") != 0) {
        return seam_error_set(err, SEAM_E_ARG, "--eval-quantized: a bench always shows both");
    }
    return read->eval_data != NULL ? SEAM_OK
                                   : seam_error_set(err, SEAM_E_ARG, "--eval-data is needed");
}

/* ---- Lists ---- */

/* The next element of a list; *at moves on.  False at the end.  An empty element is one, too. */
static bool list_next(const char **ret_element, size_t *ret_count, const char **at) {
    if (*at == NULL) {
        return false;
    }
    *ret_element = *at;
    *ret_count = strcspn(*at, ",");
    *at = (*at)[*ret_count] == ',' ? *at + *ret_count + 1 : NULL;
    return true;
}

static seam_status list_full(const char *option, seam_error *err) {
    return seam_error_set(err, SEAM_E_ARG, "--%s: more than %d elements", option,
                          SEAM_BENCH_LIST_MAX);
}

/* "amaq" stands for all rows "amaq-...". */
static bool row_is_named(const seam_bench_row *row, const char *name, size_t count) {
    return strncmp(row->label, name, count) == 0 && count > 0 &&
           (row->label[count] == '\0' || row->label[count] == '-');
}

static seam_status row_add(seam_bench_options *o, const seam_bench_row *row, seam_error *err) {
    for (uint32_t i = 0; i < o->row_count; i++) {
        if (o->rows[i] == row) {
            return SEAM_OK;
        }
    }
    if (o->row_count == SEAM_BENCH_LIST_MAX) {
        return list_full("codecs", err);
    }
    o->rows[o->row_count++] = row;
    return SEAM_OK;
}

static seam_status rows_parse(seam_bench_options *o, seam_error *err) {
    const bool all = o->codecs_text[0] == '\0';
    for (uint32_t r = 0; all && r < seam_bench_row_count; r++) {
        SEAM_TRY(row_add(o, &seam_bench_rows[r], err));
    }
    const char *name = NULL, *at = all ? NULL : o->codecs_text;
    size_t count = 0;
    while (list_next(&name, &count, &at)) {
        bool found = false;
        for (uint32_t r = 0; r < seam_bench_row_count; r++) {
            if (row_is_named(&seam_bench_rows[r], name, count)) {
                found = true;
                SEAM_TRY(row_add(o, &seam_bench_rows[r], err));
            }
        }
        if (!found) {
            return seam_error_set(err, SEAM_E_ARG,
                                  "--codecs: '%.*s' is no row; `seam bench codecs --help` lists "
                                  "them",
                                  (int)count, name);
        }
    }
    return SEAM_OK;
}

/* Whole numbers from least to most, none twice. */
static seam_status numbers_parse(uint64_t ret_numbers[SEAM_BENCH_LIST_MAX], uint32_t *ret_count,
                                 const char *option, const char *text, uint64_t least,
                                 uint64_t most, seam_error *err) {
    const char *element = NULL, *at = text;
    size_t bytes = 0;
    uint32_t count = 0;
    while (list_next(&element, &bytes, &at)) {
        char *end = NULL;
        errno = 0;
        const unsigned long long number = strtoull(element, &end, 10);
        if (element[0] < '0' || element[0] > '9' || end != element + bytes || errno != 0 ||
            number < least || number > most) {
            return seam_error_set(
                err, SEAM_E_ARG, "--%s: '%.*s' is not a whole number in %llu..%llu", option,
                (int)bytes, element, (unsigned long long)least, (unsigned long long)most);
        }
        for (uint32_t i = 0; i < count; i++) {
            if (ret_numbers[i] == number) {
                return seam_error_set(err, SEAM_E_ARG, "--%s: %llu is there twice", option, number);
            }
        }
        if (count == SEAM_BENCH_LIST_MAX) {
            return list_full(option, err);
        }
        ret_numbers[count++] = number;
    }
    *ret_count = count;
    return SEAM_OK;
}

static seam_status bits_parse(seam_bench_options *o, seam_error *err) {
    uint64_t numbers[SEAM_BENCH_LIST_MAX];
    SEAM_TRY(numbers_parse(numbers, &o->bits_count, "bits", o->bits_text, 1, SEAM_BITS_MAX, err));
    for (uint32_t i = 0; i < o->bits_count; i++) {
        o->bits[i] = (uint32_t)numbers[i];
    }
    return SEAM_OK;
}

static seam_status seeds_parse(seam_bench_options *o, seam_error *err) {
    return numbers_parse(o->seeds, &o->seed_count, "seeds", o->seeds_text, 0, INT64_MAX, err);
}

/* A number of at least 0 and one of the units; false: is none. */
static bool quantity_parse(double *ret_value, const char *text, size_t count, const unit *units) {
    char *end = NULL;
    errno = 0;
    const double number = strtod(text, &end);
    const size_t digits = (size_t)(end - text);
    if (digits == 0 || digits > count || errno != 0 || !isfinite(number) || number < 0.0 ||
        !(text[0] >= '0' && text[0] <= '9')) {
        return false;
    }
    for (const unit *u = units; u->name != NULL; u++) {
        if (strlen(u->name) == count - digits && memcmp(u->name, end, count - digits) == 0) {
            *ret_value = number * u->factor;
            return true;
        }
    }
    return false;
}

static seam_status links_parse(seam_bench_options *o, seam_error *err) {
    static const unit rates[] = {{"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}, {NULL, 0.0}};
    const char *element = NULL, *at = o->link_text;
    size_t count = 0;
    while (list_next(&element, &count, &at)) {
        if (o->link_count == SEAM_BENCH_LIST_MAX) {
            return list_full("link", err);
        }
        seam_bench_link *const link = &o->links[o->link_count++];
        if (count >= sizeof link->text ||
            !quantity_parse(&link->bits_per_second, element, count, rates) ||
            link->bits_per_second <= 0.0) {
            return seam_error_set(err, SEAM_E_ARG,
                                  "--link: '%.*s' is no rate above 0 in kbit, mbit or gbit",
                                  (int)count, element);
        }
        snprintf(link->text, sizeof link->text, "%.*s", (int)count, element);
    }
    return SEAM_OK;
}

static seam_status rtt_parse(seam_bench_options *o, seam_error *err) {
    static const unit times[] = {{"us", 1e-6}, {"ms", 1e-3}, {"s", 1.0}, {NULL, 0.0}};
    if (!quantity_parse(&o->rtt_seconds, o->rtt_text, strlen(o->rtt_text), times)) {
        return seam_error_set(err, SEAM_E_ARG, "--rtt: '%s' is no time in us, ms or s",
                              o->rtt_text);
    }
    return SEAM_OK;
}

/* ---- One run ---- */

/* The row's options on top of the command line's. */
static seam_status row_apply(seam_bench_run *run, const seam_bench_row *row, seam_error *err) {
    char *argv[SEAM_BENCH_ROW_ARGS_MAX + 2];
    int argc = 0;
    const int count = snprintf(run->text, sizeof run->text, "%s", row->options);
    SEAM_ASSERT(count > 0 && (size_t)count < sizeof run->text);
    for (char *at = run->text; at != NULL && argc < SEAM_BENCH_ROW_ARGS_MAX;) {
        argv[argc++] = at;
        at = strchr(at, ' ');
        if (at != NULL) {
            *at++ = '\0';
        }
    }
    if (row->width_option != NULL) {
        argv[argc++] = run->width_name;
        argv[argc++] = run->width_value;
    }
    seam_error why = {0};
    if (seam_train_options_read(&run->options, NULL, argc, argv, 0, &why) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED, "not in this build: %s", why.text);
    }
    return SEAM_OK;
}

seam_status seam_bench_run_make(seam_bench_run *ret_run, const seam_bench_options *options,
                                const seam_bench_row *row, uint32_t bits, uint64_t seed,
                                seam_error *err) {
    seam_bench_run *const run = ret_run;
    seam_bench_options again = {.codecs_text = NULL}; /* takes the bench's own options, unused */
    const seam_arg_table extra = {bench_specs, &again};
    char width[24] = "";
    if (row->width_option != NULL) {
        snprintf(width, sizeof width, "-%ubit", bits);
        snprintf(run->width_name, sizeof run->width_name, "--%s", row->width_option);
        snprintf(run->width_value, sizeof run->width_value, "%u", bits);
    }
    snprintf(run->label, sizeof run->label, "%s%s-s%llu", row->label, width,
             (unsigned long long)seed);
    const int count = snprintf(run->path, sizeof run->path, "%s/%s", options->base.out, run->label);
    if (count < 0 || (size_t)count >= sizeof run->path) {
        return seam_error_set(err, SEAM_E_ARG, "--out: the path is too long");
    }
    base_init(&run->options);
    SEAM_TRY(seam_train_options_read(&run->options, &extra, options->argc, options->argv,
                                     options->first, err));
    SEAM_TRY(row_apply(run, row, err));
    run->options.seed = seed;
    run->options.out = run->path;
    /* A bench would fill the server with sessions, and makes a run that was cut again. */
    run->options.delete_session = run->options.delete_cut = true;
    return seam_train_options_finish(&run->options, err);
}

void seam_bench_options_help(void) {
    printf("usage: seam bench codecs --server HOST:PORT --model PATH --data FILE --eval-data FILE\n"
           "                         --out DIR [options]\n\n"
           "Trains once a codec, width and seed, on the same rows in the same order, and compares\n"
           "loss, widths, bytes and time.  OUT gets bench.json, bench.md and a run folder each;\n"
           "called again after it was cut, it goes on where it stopped.\n\nRows:\n ");
    for (uint32_t r = 0; r < seam_bench_row_count; r++) {
        printf(" %s", seam_bench_rows[r].label);
    }
    printf("\n\nBench:\n");
    seam_args_help(bench_specs);
    printf("\nEvery option of `seam train --help` holds for all runs (--steps, --batch,\n"
           "--train-rows, --eval-rows, --lr, ...), but for those that the table sets: --codec,\n"
           "--target, --seed, --eval-quantized.  --exact-match and --eval-before are off unless\n"
           "asked for; the runs' sessions are deleted.\n\n%s\n\nServer and output:\n",
           seam_bench_formula);
    seam_args_help(seam_server_specs);
    seam_args_help(seam_common_specs);
}
