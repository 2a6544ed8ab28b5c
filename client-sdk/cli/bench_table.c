/* See bench_table.h. */
#include "bench_table.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "try.h"

#define TAIL_SHARE 4 /* the last quarter of the steps */

const char seam_bench_formula[] =
    "Projected step time, both directions at RATE:\n"
    "  in turn     client + server + sent / RATE + received / RATE + 2 * micros * RTT\n"
    "  overlapped  max(client, server, sent / RATE, received / RATE, 2 * RTT)\n"
    "client: embedding, head, encode and decode; server: blocks and codec, as measured; sent,\n"
    "received: bytes of a step on the wire; micros: micro-batches of a step, two round trips each\n"
    "(forward, backward).  Overlapped is the bound that no pipelining of micro-batches can beat.";

static const char *const sites[] = {"fwd_in", "fwd_out", "bwd_out", "bwd_in"};
#define SITE_COUNT (sizeof sites / sizeof *sites)

static double number_of(const json_t *object, const char *name) {
    return json_number_value(json_object_get(object, name));
}

void seam_bench_project(double *ret_in_turn, double *ret_overlapped, const seam_bench_cost *cost,
                        double bits_per_second, double rtt_seconds) {
    const double up = 8.0 * cost->bytes_sent / bits_per_second;
    const double down = 8.0 * cost->bytes_received / bits_per_second;
    *ret_in_turn =
        cost->client_seconds + cost->server_seconds + up + down + 2.0 * cost->micros * rtt_seconds;
    *ret_overlapped = fmax(fmax(fmax(cost->client_seconds, cost->server_seconds), fmax(up, down)),
                           2.0 * rtt_seconds);
}

static bool has_diverged(const json_t *report) {
    const char *const status =
        json_string_value(json_object_get(json_object_get(report, "error"), "status"));
    return status != NULL && strcmp(status, seam_status_name(SEAM_E_NONFINITE)) == 0;
}

bool seam_bench_report_fits(const json_t *report, const seam_train_options *options) {
    json_t *const typed = seam_train_options_typed(options);
    const char *const client =
        json_string_value(json_object_get(json_object_get(report, "versions"), "client"));
    const bool fits = json_equal(typed, json_object_get(report, "options")) && client != NULL &&
                      strcmp(client, seam_version()) == 0 &&
                      (json_is_true(json_object_get(report, "complete")) || has_diverged(report));
    json_decref(typed);
    return fits;
}

/* ---- Figures of one run ---- */

/* Sum of a field over steps [begin, end). */
static double steps_sum(const json_t *steps, const char *name, size_t begin, size_t end) {
    double sum = 0.0;
    for (size_t i = begin; i < end; i++) {
        sum += number_of(json_array_get(steps, i), name);
    }
    return sum;
}

static const json_t *site_of(const json_t *steps, size_t step, const char *site) {
    return json_object_get(json_object_get(json_array_get(steps, step), "sites"), site);
}

static double payload_sum(const json_t *steps, size_t begin, size_t end) {
    double sum = 0.0;
    for (size_t i = begin; i < end; i++) {
        for (size_t s = 0; s < SITE_COUNT; s++) {
            sum += number_of(site_of(steps, i, sites[s]), "payload_bytes");
        }
    }
    return sum;
}

/* Mean width of a site's codes: of the last step, and over all values of the run. */
static void widths_add(json_t *figures, const json_t *steps, size_t count) {
    for (size_t s = 0; s < SITE_COUNT; s++) {
        double bits = 0.0, rows = 0.0;
        for (size_t i = 0; i < count; i++) {
            const json_t *const site = site_of(steps, i, sites[s]);
            bits += number_of(site, "mean_bits") * number_of(site, "rows");
            rows += number_of(site, "rows");
        }
        char last[32], run[32];
        snprintf(last, sizeof last, "%s_bits_last", sites[s]);
        snprintf(run, sizeof run, "%s_bits_run", sites[s]);
        const json_t *const site = site_of(steps, count - 1, sites[s]);
        json_object_set_new(figures, last, json_real(number_of(site, "mean_bits")));
        json_object_set_new(figures, run, json_real(rows > 0.0 ? bits / rows : 0.0));
    }
}

static void bytes_add(json_t *figures, const json_t *steps, size_t count) {
    const size_t tail = count - (count + TAIL_SHARE - 1) / TAIL_SHARE; /* where it begins */
    const double n = (double)count;
    const double sent = steps_sum(steps, "bytes_sent", 0, count);
    const double received = steps_sum(steps, "bytes_received", 0, count);
    const double payload = payload_sum(steps, 0, count);
    const double tail_total = steps_sum(steps, "bytes_sent", tail, count) +
                              steps_sum(steps, "bytes_received", tail, count);
    const struct {
        const char *name;
        double value;
    } rows[] = {
        {"payload_bytes_step", payload / n},
        {"payload_bytes_run", payload},
        {"payload_bytes_step_tail", payload_sum(steps, tail, count) / (double)(count - tail)},
        {"sent_bytes_step", sent / n},
        {"received_bytes_step", received / n},
        {"total_bytes_step", (sent + received) / n},
        {"total_bytes_run", sent + received},
        {"total_bytes_step_tail", tail_total / (double)(count - tail)},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_object_set_new(figures, rows[i].name, json_real(rows[i].value));
    }
}

static void times_add(json_t *figures, const json_t *steps, size_t count) {
    static const struct {
        const char *name, *field;
    } rows[] = {
        {"step_seconds", "seconds"},
        {"head_seconds_step", "head_seconds"},
        {"encode_seconds_step", "encode_seconds"},
        {"decode_seconds_step", "decode_seconds"},
        {"server_codec_seconds_step", "server_codec_seconds"},
        {"server_seconds_step", "server_seconds"},
        {"micros_step", "micros"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_object_set_new(figures, rows[i].name,
                            json_real(steps_sum(steps, rows[i].field, 0, count) / (double)count));
    }
    json_object_set_new(figures, "client_seconds_step",
                        json_real(number_of(figures, "head_seconds_step") +
                                  number_of(figures, "encode_seconds_step") +
                                  number_of(figures, "decode_seconds_step")));
    json_object_set_new(
        figures, "tokens_per_second",
        json_real(steps_sum(steps, "tokens", 0, count) / steps_sum(steps, "seconds", 0, count)));
}

/* Fields of the evaluation through the codec ("after_quantized", where a codec quantizes) and
 * without it; a codec that does not quantize has one evaluation, which is both. */
static void evaluations_add(json_t *figures, const json_t *report) {
    static const char *const fields[] = {"loss", "token_accuracy", "exact_match", "accuracy",
                                         "accuracy_norm"};
    const json_t *const eval = json_object_get(report, "eval");
    json_t *const without = json_object_get(eval, "after");
    json_t *const quantized = json_object_get(eval, "after_quantized");
    json_t *const through = quantized != NULL ? quantized : without;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s_through", fields[i]);
        json_t *const a = json_object_get(through, fields[i]);
        json_t *const b = json_object_get(without, fields[i]);
        json_object_set_new(figures, name, a != NULL ? json_incref(a) : json_null());
        json_object_set_new(figures, fields[i], b != NULL ? json_incref(b) : json_null());
    }
}

/* Steps that the server skipped because the gradient was not finite. */
static json_int_t skipped_count(const json_t *steps) {
    json_int_t count = 0;
    for (size_t i = 0; i < json_array_size(steps); i++) {
        count += json_is_true(json_object_get(json_array_get(steps, i), "skipped"));
    }
    return count;
}

static json_t *figures_create(const json_t *report) {
    json_t *const figures = json_object();
    const json_t *const steps = json_object_get(report, "steps");
    const size_t count = json_array_size(steps);
    if (count == 0) {
        return figures;
    }
    evaluations_add(figures, report);
    widths_add(figures, steps, count);
    bytes_add(figures, steps, count);
    times_add(figures, steps, count);
    const double rows = number_of(json_object_get(report, "data"), "train_rows");
    const double batch = number_of(json_object_get(report, "config"), "batch");
    json_object_set_new(figures, "skipped_step_count", json_integer(skipped_count(steps)));
    json_object_set_new(figures, "epochs",
                        rows > 0.0 ? json_real((double)count * batch / rows) : json_null());
    return figures;
}

/* ---- Rows ---- */

json_t *seam_bench_row_create(const seam_bench_row *row, uint32_t bits) {
    return json_pack("{s:s,s:o,s:s,s:n,s:i,s:[]}", "label", row->label, "bits",
                     row->width_option != NULL ? json_integer(bits) : json_null(), "status",
                     "pending", "reason", "run_count", 0, "runs");
}

seam_status seam_bench_row_add(json_t *row, const seam_bench_run *run, uint64_t seed,
                               const json_t *report, bool reused, seam_error *err) {
    const bool diverged = has_diverged(report);
    json_t *const entry =
        json_pack("{s:I,s:s,s:s,s:b,s:I}", "seed", (json_int_t)seed, "folder", run->label, "status",
                  diverged ? "diverged" : "done", "reused", reused, "step_count",
                  (json_int_t)json_array_size(json_object_get(report, "steps")));
    if (diverged) {
        json_object_set(entry, "reason", json_object_get(json_object_get(report, "error"), "text"));
    } else {
        json_object_set_new(entry, "figures", figures_create(report));
    }
    if (json_array_append_new(json_object_get(row, "runs"), entry) != 0) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    return SEAM_OK;
}

void seam_bench_row_refuse(json_t *row, const char *reason) {
    json_object_set_new(row, "status", json_string("unavailable"));
    json_object_set_new(row, "reason", json_string(reason));
}

/* One figure over the runs that have it: {mean, spread}, or null. */
static json_t *figure_mean(const json_t *runs, const char *name) {
    double sum = 0.0, least = 0.0, most = 0.0;
    size_t count = 0, i = 0;
    const json_t *run = NULL;
    json_array_foreach(runs, i, run) {
        const json_t *const value = json_object_get(json_object_get(run, "figures"), name);
        if (json_is_number(value)) {
            const double x = json_number_value(value);
            least = count == 0 ? x : fmin(least, x);
            most = count == 0 ? x : fmax(most, x);
            sum += x;
            count++;
        }
    }
    return count == 0 ? json_null()
                      : json_pack("{s:f,s:f}", "mean", sum / (double)count, "spread", most - least);
}

static double mean_of(const json_t *figures, const char *name) {
    return number_of(json_object_get(figures, name), "mean");
}

static json_t *links_create(const json_t *figures, const seam_bench_options *options) {
    json_t *const links = json_array();
    const seam_bench_cost cost = {
        .client_seconds = mean_of(figures, "client_seconds_step"),
        .server_seconds = mean_of(figures, "server_seconds_step"),
        .bytes_sent = mean_of(figures, "sent_bytes_step"),
        .bytes_received = mean_of(figures, "received_bytes_step"),
        .micros = mean_of(figures, "micros_step"),
    };
    for (uint32_t i = 0; i < options->link_count; i++) {
        const seam_bench_link *const link = &options->links[i];
        double in_turn = 0.0, overlapped = 0.0;
        seam_bench_project(&in_turn, &overlapped, &cost, link->bits_per_second,
                           options->rtt_seconds);
        json_array_append_new(links, json_pack("{s:s,s:f,s:f}", "rate", link->text, "step_seconds",
                                               in_turn, "step_seconds_overlapped", overlapped));
    }
    return links;
}

void seam_bench_row_settle(json_t *row, const seam_bench_options *options) {
    const json_t *const runs = json_object_get(row, "runs");
    json_t *const figures = json_object();
    const json_t *run = NULL;
    json_t *of_one = NULL;
    size_t i = 0;
    uint32_t done = 0;
    const char *reason = NULL;
    json_array_foreach(runs, i, run) {
        const json_t *const why = json_object_get(run, "reason");
        if (why != NULL) {
            reason = json_string_value(why);
        } else {
            of_one = json_object_get(run, "figures");
            done++;
        }
    }
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(of_one, name, value) {
        json_object_set_new(figures, name, figure_mean(runs, name));
    }
    json_object_set_new(row, "run_count", json_integer(done));
    json_object_set_new(row, "figures", figures);
    json_object_set_new(row, "links", done > 0 ? links_create(figures, options) : json_array());
    const char *const status = json_string_value(json_object_get(row, "status"));
    if (status != NULL && strcmp(status, "unavailable") == 0) {
        return;
    }
    const bool whole = json_array_size(runs) == options->seed_count;
    json_object_set_new(row, "status",
                        json_string(reason != NULL ? "diverged"
                                    : whole        ? "done"
                                                   : "pending"));
    json_object_set_new(row, "reason", reason != NULL ? json_string(reason) : json_null());
}

json_t *seam_bench_document(const seam_bench_options *options, json_t *rows, json_t *versions) {
    static const char *const by_row[] = {"codec", "bits", "target", "seed"};
    json_t *const typed = seam_train_options_typed(&options->base);
    for (size_t i = 0; i < sizeof by_row / sizeof *by_row; i++) {
        json_object_del(typed, by_row[i]);
    }
    json_t *const seeds = json_array();
    for (uint32_t i = 0; i < options->seed_count; i++) {
        json_array_append_new(seeds, json_integer((json_int_t)options->seeds[i]));
    }
    return json_pack("{s:o,s:o,s:f,s:s,s:O*,s:O}", "options", typed, "seeds", seeds, "rtt_seconds",
                     options->rtt_seconds, "formula", seam_bench_formula, "versions", versions,
                     "rows", rows);
}
