/* The page from top to bottom: title, tiles (the figures that matter), plots, tables.  Numbers come
 * from the report as they are; nothing is computed here but sums and ratios.
 * Read next: svg_plot.c for the figures. */
#include "report_html.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "svg_plot.h"
#include "try.h"

#define SITES_MAX     SEAM_PLOT_SERIES_MAX
#define STEP_ROWS_MAX 25u /* of the table of steps */
#define WIDTHS_MAX    33u /* bars of the histogram */

/* The report's steps as columns, each (count). */
typedef struct columns {
    double *x, *loss, *bytes, *bf16_bytes, *token_rate;
    double *bits[SITES_MAX];
    const char *site_names[SITES_MAX]; /* borrowed from the report */
    uint32_t site_count;
    uint32_t count;
    double *memory; /* the one block behind all columns */
} columns;

static seam_status columns_init(columns *cols, const json_t *report, seam_error *err);
static void write_page(FILE *out, const json_t *report, const columns *cols);

seam_status seam_report_html_write(const char *html_path, const char *report_json_path,
                                   seam_error *err) {
    json_error_t reason;
    char temporary[4096];
    json_t *report = json_load_file(report_json_path, 0, &reason);
    if (report == NULL) {
        const bool unread = json_error_code(&reason) == json_error_cannot_open_file;
        return seam_error_set(err, unread ? SEAM_E_IO : SEAM_E_FORMAT, "%s:%d: %s",
                              report_json_path, reason.line, reason.text);
    }
    columns cols = {0};
    FILE *out = NULL;
    seam_status st = SEAM_OK;
    SEAM_TRY_GOTO(columns_init(&cols, report, err), st, done);
    const int length = snprintf(temporary, sizeof temporary, "%s.part", html_path);
    if (length < 0 || (size_t)length >= sizeof temporary) {
        st = seam_error_set(err, SEAM_E_ARG, "path too long: %.200s...", html_path);
        goto done;
    }
    out = fopen(temporary, "we");
    if (out == NULL) {
        st = seam_error_set(err, SEAM_E_IO, "cannot write %s: %s", temporary, strerror(errno));
        goto done;
    }
    write_page(out, report, &cols);
    const bool broken = ferror(out) != 0;
    if (fclose(out) != 0 || broken || rename(temporary, html_path) != 0) {
        st = seam_error_set(err, SEAM_E_IO, "cannot write %s: %s", html_path, strerror(errno));
        unlink(temporary);
    }
done:
    seam_mem_free(cols.memory);
    json_decref(report);
    return st;
}

/* NaN when the field is missing or no number. */
static double number_of(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static double sum_or_nan(double a, double b) {
    return isnan(a) ? b : isnan(b) ? a : a + b;
}

static void read_step(const columns *cols, const json_t *step, uint32_t i) {
    const double seconds = number_of(step, "seconds");
    cols->x[i] = number_of(step, "step");
    if (isnan(cols->x[i])) {
        cols->x[i] = i;
    }
    cols->loss[i] = number_of(step, "loss");
    cols->bytes[i] = sum_or_nan(number_of(step, "bytes_sent"), number_of(step, "bytes_received"));
    cols->bf16_bytes[i] = number_of(step, "bf16_bytes");
    cols->token_rate[i] = seconds > 0 ? number_of(step, "tokens") / seconds : NAN;
    const json_t *sites = json_object_get(step, "sites");
    for (uint32_t s = 0; s < cols->site_count; s++) {
        const double bits = number_of(json_object_get(sites, cols->site_names[s]), "mean_bits");
        cols->bits[s][i] = bits > 0 ? bits : NAN; /* 0: nothing was sent */
    }
}

static seam_status columns_init(columns *cols, const json_t *report, seam_error *err) {
    if (!json_is_object(report)) {
        return seam_error_set(err, SEAM_E_FORMAT, "the report is not a JSON object");
    }
    const json_t *steps = json_object_get(report, "steps");
    if (steps != NULL && !json_is_array(steps)) {
        return seam_error_set(err, SEAM_E_FORMAT, "field steps of the report is not an array");
    }
    const size_t count = json_array_size(steps);
    size_t bytes = 0;
    if (count > UINT32_MAX || !seam_mul3_bytes(&bytes, count + 1, 5 + SITES_MAX, sizeof(double))) {
        return seam_error_set(err, SEAM_E_LIMIT, "too many steps in the report");
    }
    cols->memory = seam_mem_alloc(bytes);
    if (cols->memory == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "no memory for %zu steps", count);
    }
    cols->count = (uint32_t)count;
    double **const parts[] = {&cols->x, &cols->loss, &cols->bytes, &cols->bf16_bytes,
                              &cols->token_rate};
    double *next = cols->memory;
    for (size_t p = 0; p < sizeof parts / sizeof *parts; p++, next += count) {
        *parts[p] = next;
    }
    const char *name;
    json_t *value;
    json_t *last = count > 0 ? json_array_get(steps, count - 1) : NULL;
    json_object_foreach(json_object_get(last, "sites"), name, value) {
        if (cols->site_count < SITES_MAX) {
            cols->site_names[cols->site_count] = name;
            cols->bits[cols->site_count++] = next;
            next += count;
        }
    }
    for (uint32_t i = 0; i < cols->count; i++) {
        const json_t *step = json_array_get(steps, i);
        if (!json_is_object(step)) {
            return seam_error_set(err, SEAM_E_FORMAT, "steps[%u] of the report is not an object",
                                  i);
        }
        read_step(cols, step, i);
    }
    return SEAM_OK;
}

static const char page_head[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
    "<title>Seam run</title><style>\n"
    ":root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--soft:#5b6570;--line:#dde2e8;"
    "--card:#f6f8fa;--c0:#2368c4;--c1:#c65a11;--c2:#1a7f4b;--c3:#9a3fa0;--c4:#7a6a00;--c5:#555}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#14171b;--fg:#e6e9ed;--soft:#9aa4b0;"
    "--line:#2c333b;--card:#1c2127;--c0:#6aa8ff;--c1:#ff9d5c;--c2:#54c98a;--c3:#dc8be2;"
    "--c4:#d6c14a;--c5:#aaa}}\n"
    "body{margin:0 auto;padding:24px 16px;max-width:1340px;background:var(--bg);color:var(--fg);"
    "font:15px/1.45 system-ui,sans-serif}h1{font-size:22px;margin:0 0 4px}"
    "h2{font-size:17px;margin:28px 0 8px}p.sub{color:var(--soft);margin:0 0 18px}\n"
    ".tiles{display:flex;flex-wrap:wrap;gap:12px}.tile{background:var(--card);border:1px solid "
    "var(--line);border-radius:8px;padding:10px 16px;min-width:130px}.tile b{display:block;"
    "font-size:20px;font-variant-numeric:tabular-nums}.tile span{color:var(--soft);"
    "font-size:13px}\n"
    ".plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));"
    "gap:16px}figure{margin:0;background:var(--card);border:1px solid var(--line);"
    "border-radius:8px;padding:10px 12px}figcaption{font-weight:600}svg{width:100%;"
    "height:auto;display:block}svg text{font-size:12px;fill:var(--soft)}\n"
    ".ty{text-anchor:end}.tx{text-anchor:middle}.grid{stroke:var(--line);fill:none}"
    ".line{fill:none;stroke-width:1.8;stroke-linejoin:round}.legend{margin:4px 0 0;"
    "font-size:13px;color:var(--soft)}.legend span{margin-right:14px}.legend i{display:"
    "inline-block;width:11px;height:11px;border-radius:3px;margin-right:5px}\n"
    ".line.s0{stroke:var(--c0)}.line.s1{stroke:var(--c1)}.line.s2{stroke:var(--c2)}"
    ".line.s3{stroke:var(--c3)}.line.s2,.line.s3{stroke-dasharray:6 "
    "5}.line.s4{stroke:var(--c4)}.line.s5{stroke:var(--c5)}"
    ".bar.s0{fill:var(--c0)}.bar.s1{fill:var(--c1)}.bar.s2{fill:var(--c2)}.bar.s3{fill:var(--c3)}"
    ".bar.s4{fill:var(--c4)}.bar.s5{fill:var(--c5)}i.s0{background:var(--c0)}"
    "i.s1{background:var(--c1)}i.s2{background:var(--c2)}i.s3{background:var(--c3)}"
    "i.s4{background:var(--c4)}i.s5{background:var(--c5)}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "th,td{text-align:right;padding:4px 12px;border-bottom:1px solid var(--line)}"
    "th:first-child,td:first-child{text-align:left;padding-left:0}th{color:var(--soft);"
    "font-weight:500}td.t{text-align:left;overflow-wrap:anywhere}\n"
    "</style></head><body>\n";

static void write_tiles(FILE *out, const json_t *report, const columns *cols);
static void write_plots(FILE *out, const json_t *report, const columns *cols);
static void write_evaluation(FILE *out, const json_t *evaluation);
static void write_sites(FILE *out, const json_t *report);
static void write_prediction(FILE *out, const json_t *grade);
static void write_steps(FILE *out, const columns *cols);
static void write_settings(FILE *out, const json_t *object, const char *prefix);

static void write_page(FILE *out, const json_t *report, const columns *cols) {
    const char *model = json_string_value(json_object_get(report, "model"));
    fputs(page_head, out);
    fputs("<h1>Seam: split fine-tuning", out);
    if (model != NULL) {
        fputs(" of ", out);
        seam_html_write_text(out, model);
    }
    fprintf(out, "</h1><p class=\"sub\">%u steps</p>\n", cols->count);
    write_tiles(out, report, cols);
    write_plots(out, report, cols);
    write_evaluation(out, json_object_get(report, "eval"));
    write_sites(out, report);
    write_prediction(out, json_object_get(json_object_get(report, "prediction"), "grade"));
    write_steps(out, cols);
    fputs("<h2>Settings and totals</h2><div class=\"wide\"><table>\n", out);
    write_settings(out, report, "");
    fputs("</table></div>\n</body></html>\n", out);
}

/* "<a><joint><b><end>" over its label; nothing when a value is missing. */
static void write_tile(FILE *out, const char *label, double a, const char *joint, double b,
                       const char *end) {
    char first[32], second[32];
    if (isnan(a) || isnan(b)) {
        return;
    }
    seam_number_format(first, sizeof first, a);
    seam_number_format(second, sizeof second, b);
    fprintf(out, "<div class=\"tile\"><b>%s%s%s%s</b><span>", first, joint, second, end);
    seam_html_write_text(out, label);
    fputs("</span></div>\n", out);
}

static double column_sum(const double *column, uint32_t count) {
    double sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += isnan(column[i]) ? 0 : column[i];
    }
    return sum;
}

static void write_tiles(FILE *out, const json_t *report, const columns *cols) {
    const json_t *evaluation = json_object_get(report, "eval");
    const json_t *before = json_object_get(evaluation, "before");
    const json_t *after = json_object_get(evaluation, "after");
    const double bytes = column_sum(cols->bytes, cols->count);
    const double bf16_bytes = column_sum(cols->bf16_bytes, cols->count);
    double seconds = 0;
    double tokens = 0;
    const json_t *step;
    size_t i;
    json_array_foreach(json_object_get(report, "steps"), i, step) {
        seconds += fmax(number_of(step, "seconds"), 0); /* fmax drops NaN */
        tokens += fmax(number_of(step, "tokens"), 0);
    }
    fputs("<div class=\"tiles\">\n", out);
    write_tile(out, "exact match, before and after", 100 * number_of(before, "exact_match"),
               " % &rarr; ", 100 * number_of(after, "exact_match"), " %");
    write_tile(out, "accuracy, before and after", 100 * number_of(before, "accuracy"), " % &rarr; ",
               100 * number_of(after, "accuracy"), " %");
    write_tile(out, "evaluation loss, before and after", number_of(before, "loss"), " &rarr; ",
               number_of(after, "loss"), "");
    if (bf16_bytes > 0) {
        write_tile(out, "bytes sent and received; of what bf16 would cost", bytes, " (",
                   round(1000 * bytes / bf16_bytes) / 10, " %)");
    }
    for (uint32_t s = 0; s < cols->site_count && cols->count > 0; s++) {
        char label[128];
        if (strncmp(cols->site_names[s], "fwd", 3) == 0 ||
            strstr(cols->site_names[s], "_gradient") != NULL) {
            snprintf(label, sizeof label, "mean bits at %.60s, first and last step",
                     cols->site_names[s]);
            write_tile(out, label, cols->bits[s][0], " &rarr; ", cols->bits[s][cols->count - 1],
                       "");
        }
    }
    write_tile(out, "training tokens per second; seconds", seconds > 0 ? tokens / seconds : NAN,
               "/s, ", seconds, " s");
    fputs("</div>\n", out);
}

/* The last allocation's widths at each site: bars over the width. */
static void write_widths(FILE *out, const json_t *widths) {
    double x[WIDTHS_MAX];
    double counts[SITES_MAX][WIDTHS_MAX];
    seam_plot plot = {.title = "Widths of the channels, last allocation",
                      .x_label = "bits",
                      .y_label = "channels",
                      .x = x};
    const char *name;
    const json_t *histogram;
    json_object_foreach((json_t *)widths, name, histogram) {
        const uint32_t length = (uint32_t)json_array_size(histogram);
        if (!json_is_array(histogram) || plot.series_count >= SITES_MAX) {
            continue;
        }
        double *const row = counts[plot.series_count];
        for (uint32_t w = 0; w < WIDTHS_MAX; w++) {
            x[w] = w;
            row[w] = w < length ? json_number_value(json_array_get(histogram, w)) : 0;
            plot.point_count = row[w] > 0 && w + 2 > plot.point_count ? w + 2 : plot.point_count;
        }
        plot.series[plot.series_count++] = (seam_plot_series){name, row};
    }
    if (plot.point_count > WIDTHS_MAX) {
        plot.point_count = WIDTHS_MAX;
    }
    if (plot.point_count > 0) {
        seam_plot_write_bars(out, &plot);
    }
}

static void write_plots(FILE *out, const json_t *report, const columns *cols) {
    fputs("<h2>Training</h2><div class=\"plots\">\n", out);
    const seam_plot base = {.x_label = "step", .x = cols->x, .point_count = cols->count};
    seam_plot plot = base;
    plot.title = "Training loss";
    plot.y_label = "nats per labelled token";
    plot.series[plot.series_count++] = (seam_plot_series){"loss", cols->loss};
    seam_plot_write_lines(out, &plot);

    plot = base;
    plot.title = "Mean bits a value at each site";
    plot.y_label = "bits";
    for (uint32_t s = 0; s < cols->site_count; s++) {
        plot.series[plot.series_count++] = (seam_plot_series){cols->site_names[s], cols->bits[s]};
    }
    seam_plot_write_lines(out, &plot);

    plot = base;
    plot.title = "Bytes a step, sent and received";
    plot.y_label = "bytes";
    plot.y_from_zero = true;
    plot.series[plot.series_count++] = (seam_plot_series){"this run", cols->bytes};
    plot.series[plot.series_count++] = (seam_plot_series){"bf16, all rows", cols->bf16_bytes};
    seam_plot_write_lines(out, &plot);

    plot = base;
    plot.title = "Speed";
    plot.y_label = "tokens per second";
    plot.y_from_zero = true;
    plot.series[plot.series_count++] = (seam_plot_series){"tokens/s", cols->token_rate};
    seam_plot_write_lines(out, &plot);
    write_widths(out, json_object_get(report, "widths"));
    fputs("</div>\n", out);
}

static void write_cell(FILE *out, double value) {
    char text[32];
    seam_number_format(text, sizeof text, value);
    fprintf(out, "<td>%s</td>", text);
}

static void write_evaluation_row(FILE *out, const json_t *shape, const char *name,
                                 const char *group, const json_t *row) {
    const char *key;
    const json_t *value;
    fputs("<tr><td>", out);
    seam_html_write_text(out, name);
    if (group != NULL) {
        fputs(", ", out);
        seam_html_write_text(out, group);
    }
    fputs("</td>", out);
    json_object_foreach((json_t *)shape, key, value) {
        if (json_is_number(value)) {
            write_cell(out, number_of(row, key));
        }
    }
    fputs("</tr>\n", out);
}

/* One row an evaluation, then one each of its groups; the columns are the fields of the last
 * evaluation. */
static void write_evaluation(FILE *out, const json_t *evaluation) {
    const json_t *shape = NULL;
    const char *name;
    const char *key;
    const json_t *row;
    const json_t *value;
    json_object_foreach((json_t *)evaluation, name, row) {
        shape = json_is_object(row) ? row : shape;
    }
    if (shape == NULL) {
        return;
    }
    fputs("<h2>Evaluation</h2><div class=\"wide\"><table>\n<tr><th></th>", out);
    json_object_foreach((json_t *)shape, key, value) {
        if (json_is_number(value)) {
            fputs("<th>", out);
            seam_html_write_text(out, key);
            fputs("</th>", out);
        }
    }
    fputs("</tr>\n", out);
    json_object_foreach((json_t *)evaluation, name, row) {
        if (!json_is_object(row)) {
            continue;
        }
        write_evaluation_row(out, shape, name, NULL, row);
        const json_t *const groups = json_object_get(row, "groups");
        if (json_object_size(groups) <= SEAM_REPORT_GROUPS_MAX) {
            json_object_foreach((json_t *)groups, key, value) {
                write_evaluation_row(out, shape, name, key, value);
            }
        }
    }
    fputs("</table></div>\n", out);
}

static void write_sites(FILE *out, const json_t *report) {
    const json_t *steps = json_object_get(report, "steps");
    const size_t count = json_array_size(steps);
    const char *name;
    const json_t *site;
    if (count == 0) {
        return;
    }
    fputs("<h2>Sites, last step</h2><div class=\"wide\"><table>\n"
          "<tr><th>site</th><th>mean bits</th><th>payload bytes</th></tr>\n",
          out);
    json_object_foreach(json_object_get(json_array_get(steps, count - 1), "sites"), name, site) {
        fputs("<tr><td>", out);
        seam_html_write_text(out, name);
        fputs("</td>", out);
        write_cell(out, number_of(site, "mean_bits"));
        write_cell(out, number_of(site, "payload_bytes"));
        fputs("</tr>\n", out);
    }
    fputs("</table></div>\n", out);
}

/* What was predicted before the first step, and what was measured. */
static void write_prediction(FILE *out, const json_t *grade) {
    static const char *const labels[][2] = {{"bytes_sent", "bytes sent a step"},
                                            {"bytes_received", "bytes received a step"},
                                            {"payload_sent", "of them tensors' payloads, sent"},
                                            {"payload_received", "of them payloads, received"},
                                            {"seconds", "seconds a step"},
                                            {"memory", "memory of the client, bytes"}};
    if (json_object_size(grade) == 0) {
        return;
    }
    fputs("<h2>Predicted and measured</h2><div class=\"wide\"><table>\n<tr><th></th>"
          "<th>predicted</th><th>measured</th><th>measured / predicted</th></tr>\n",
          out);
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++) {
        const json_t *const row = json_object_get(grade, labels[i][0]);
        if (json_is_object(row)) {
            fprintf(out, "<tr><td>%s</td>", labels[i][1]);
            write_cell(out, number_of(row, "predicted"));
            write_cell(out, number_of(row, "measured"));
            write_cell(out, number_of(row, "ratio"));
            fputs("</tr>\n", out);
        }
    }
    fputs("</table></div>\n", out);
}

static void write_steps(FILE *out, const columns *cols) {
    const uint32_t stride = (cols->count + STEP_ROWS_MAX - 1) / STEP_ROWS_MAX;
    if (cols->count == 0) {
        return;
    }
    fputs("<h2>Steps</h2><div class=\"wide\"><table>\n<tr><th>step</th><th>loss</th>"
          "<th>bytes</th><th>of bf16, %</th><th>tokens/s</th>",
          out);
    for (uint32_t s = 0; s < cols->site_count; s++) {
        fputs("<th>bits ", out);
        seam_html_write_text(out, cols->site_names[s]);
        fputs("</th>", out);
    }
    fputs("</tr>\n", out);
    for (uint32_t i = 0; i < cols->count; i++) {
        if (i % stride != 0 && i + 1 != cols->count) {
            continue;
        }
        fprintf(out, "<tr><td>%.0f</td>", cols->x[i]);
        write_cell(out, cols->loss[i]);
        write_cell(out, cols->bytes[i]);
        write_cell(out, 100 * cols->bytes[i] / cols->bf16_bytes[i]);
        write_cell(out, cols->token_rate[i]);
        for (uint32_t s = 0; s < cols->site_count; s++) {
            write_cell(out, cols->bits[s][i]);
        }
        fputs("</tr>\n", out);
    }
    fputs("</table></div>\n", out);
}

/* The scalar fields, and those of `config` and other objects one level down with their prefix. */
static void write_settings(FILE *out, const json_t *object, const char *prefix) {
    const char *key;
    const json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        if (json_is_object(value) && *prefix == '\0' && strcmp(key, "eval") != 0 &&
            strcmp(key, "widths") != 0) {
            write_settings(out, value, key);
        }
        if (json_is_object(value) || json_is_array(value)) {
            continue;
        }
        fputs("<tr><td>", out);
        seam_html_write_text(out, prefix);
        fputs(*prefix != '\0' ? "." : "", out);
        seam_html_write_text(out, key);
        fputs("</td><td class=\"t\">", out);
        if (json_is_string(value)) {
            seam_html_write_text(out, json_string_value(value));
        } else if (json_is_number(value)) {
            fprintf(out, "%.10g", json_number_value(value));
        } else {
            fputs(json_is_true(value) ? "yes" : json_is_false(value) ? "no" : "-", out);
        }
        fputs("</td></tr>\n", out);
    }
}
