/* See bench_markdown.h. */
#include "bench_markdown.h"

#include <stdio.h>
#include <string.h>

#include "try.h"

#define CELL_BYTES 2048

/* Text being written; the first failure stays. */
typedef struct writer {
    seam_text *text;
    seam_status st;
} writer;

/* One column: a figure, divided by `unit`. */
typedef struct column {
    const char *head, *figure;
    double unit;
    int digits;
    bool has_spread;
    bool may_be_absent; /* not shown when no row has the figure */
} column;

static void quality_write(writer *w, const json_t *rows);
static void costs_write(writer *w, const json_t *rows);
static void links_write(writer *w, const json_t *document, const json_t *rows);
static void settings_write(writer *w, const json_t *document);

static void cell_append(writer *w, const char *cell);

/* A macro, not a variadic function: the analyzer takes the va_list of one for uninitialized. */
#define PUT(w, ...)                                                                                \
    do {                                                                                           \
        char cell[CELL_BYTES];                                                                     \
        snprintf(cell, sizeof cell, __VA_ARGS__);                                                  \
        cell_append(w, cell);                                                                      \
    } while (0)

static void cell_append(writer *w, const char *cell) {
    if (w->st == SEAM_OK) {
        w->st = seam_text_append_string(w->text, cell);
    }
}

seam_status seam_bench_markdown(seam_text *ret_text, const json_t *document, seam_error *err) {
    writer w = {.text = ret_text, .st = SEAM_OK};
    const json_t *const rows = json_object_get(document, "rows");
    settings_write(&w, document);
    quality_write(&w, rows);
    costs_write(&w, rows);
    links_write(&w, document, rows);
    return w.st == SEAM_OK ? SEAM_OK : seam_error_set(err, w.st, "out of memory");
}

/* ---- Cells ---- */

static const char *string_of(const json_t *object, const char *name) {
    const char *const text = json_string_value(json_object_get(object, name));
    return text != NULL ? text : "";
}

static const json_t *figure_of(const json_t *row, const char *name) {
    return json_object_get(json_object_get(row, "figures"), name);
}

static void row_head(writer *w, const json_t *row) {
    const json_t *const bits = json_object_get(row, "bits");
    PUT(w, "| `%s` | ", string_of(row, "label"));
    if (json_is_integer(bits)) {
        PUT(w, "%d", (int)json_integer_value(bits));
    }
}

/* "| mean" or, with several runs, "| mean ± spread". */
static void cell(writer *w, const json_t *row, const column *c) {
    const json_t *const figure = figure_of(row, c->figure);
    const json_t *const mean = json_object_get(figure, "mean");
    if (!json_is_number(mean)) {
        PUT(w, " | -");
        return;
    }
    PUT(w, " | %.*f", c->digits, json_number_value(mean) / c->unit);
    if (c->has_spread && json_integer_value(json_object_get(row, "run_count")) > 1) {
        PUT(w, " (%.*f)", c->digits,
            json_number_value(json_object_get(figure, "spread")) / c->unit);
    }
}

/* A peer's text must not break the table. */
static void reason_put(writer *w, const char *text) {
    char clean[512];
    size_t count = 0;
    for (; text[count] != '\0' && count + 1 < sizeof clean; count++) {
        const char c = text[count];
        clean[count] = c;
        if (c == '|' || c == '\n' || c == '\r') {
            clean[count] = c == '|' ? '/' : ' ';
        }
    }
    clean[count] = '\0';
    PUT(w, "%s", clean);
}

static bool is_shown(const column *c, const json_t *rows) {
    size_t i = 0;
    const json_t *row = NULL;
    json_array_foreach(rows, i, row) {
        if (json_is_number(json_object_get(figure_of(row, c->figure), "mean"))) {
            return true;
        }
    }
    return !c->may_be_absent;
}

static void rule_put(writer *w, size_t columns) {
    PUT(w, "|");
    for (size_t i = 0; i < columns; i++) {
        PUT(w, "---|");
    }
    PUT(w, "\n");
}

/* ---- Tables ---- */

static void quality_write(writer *w, const json_t *rows) {
    static const column columns[] = {
        {"test loss, through the codec", "loss_through", 1.0, 4, true, false},
        {"without it", "loss", 1.0, 4, true, false},
        {"accuracy %, through", "accuracy_through", 0.01, 1, true, true},
        {"without", "accuracy", 0.01, 1, true, true},
        {"exact match %, through", "exact_match_through", 0.01, 1, true, false},
        {"without", "exact_match", 0.01, 1, true, false},
        {"steps skipped", "skipped_step_count", 1.0, 1, true, false},
    };
    enum { COLUMNS = sizeof columns / sizeof *columns };
    bool shown[COLUMNS];
    size_t shown_count = 0;
    for (size_t c = 0; c < COLUMNS; c++) {
        shown[c] = is_shown(&columns[c], rows);
        shown_count += shown[c];
    }
    static const char *const sites[] = {"fwd_in", "fwd_out", "bwd_out", "bwd_in"};
    PUT(w, "## Loss and widths\n\nIn brackets after a mean: the seeds' spread (largest minus "
           "smallest).  Widths of a site: integer\nmean of the last step / over the run.  Skipped: "
           "the gradient was not finite.\n\n"
           "| codec | bits");
    for (size_t c = 0; c < COLUMNS; c++) {
        if (shown[c]) {
            PUT(w, " | %s", columns[c].head);
        }
    }
    for (size_t s = 0; s < sizeof sites / sizeof *sites; s++) {
        PUT(w, " | %s", sites[s]);
    }
    PUT(w, " | runs |\n");
    rule_put(w, 2 + shown_count + sizeof sites / sizeof *sites + 1);
    size_t i = 0;
    const json_t *row = NULL;
    json_array_foreach(rows, i, row) {
        row_head(w, row);
        for (size_t c = 0; c < COLUMNS; c++) {
            if (shown[c]) {
                cell(w, row, &columns[c]);
            }
        }
        for (size_t s = 0; s < sizeof sites / sizeof *sites; s++) {
            char last[32], run[32];
            snprintf(last, sizeof last, "%s_bits_last", sites[s]);
            snprintf(run, sizeof run, "%s_bits_run", sites[s]);
            const json_t *const a = json_object_get(figure_of(row, last), "mean");
            const json_t *const b = json_object_get(figure_of(row, run), "mean");
            if (json_is_number(a)) {
                PUT(w, " | %.3f / %.3f", json_number_value(a), json_number_value(b));
            } else {
                PUT(w, " | -");
            }
        }
        PUT(w, " | %d %s", (int)json_integer_value(json_object_get(row, "run_count")),
            string_of(row, "status"));
        if (string_of(row, "reason")[0] != '\0') {
            PUT(w, ": ");
            reason_put(w, string_of(row, "reason"));
        }
        PUT(w, " |\n");
    }
}

static void costs_write(writer *w, const json_t *rows) {
    static const column columns[] = {
        {"payload KB/step", "payload_bytes_step", 1e3, 2, false, false},
        {"last quarter", "payload_bytes_step_tail", 1e3, 2, false, false},
        {"total KB/step", "total_bytes_step", 1e3, 2, false, false},
        {"last quarter", "total_bytes_step_tail", 1e3, 2, false, false},
        {"payload MB/run", "payload_bytes_run", 1e6, 3, false, false},
        {"total MB/run", "total_bytes_run", 1e6, 3, false, false},
        {"encode ms/step", "encode_seconds_step", 1e-3, 3, false, false},
        {"decode ms/step", "decode_seconds_step", 1e-3, 3, false, false},
        {"server codec ms/step", "server_codec_seconds_step", 1e-3, 3, false, false},
        {"tokens/s", "tokens_per_second", 1.0, 0, false, false},
        {"epochs", "epochs", 1.0, 1, false, false},
    };
    PUT(w, "\n## Bytes and time\n\nWhole runs, warm-up included.  Payload: ranges, codes and gate "
           "signals; total: everything on the\nwire, both directions.  Encode and decode: the "
           "client's tensors.\n\n| codec | bits");
    for (size_t c = 0; c < sizeof columns / sizeof *columns; c++) {
        PUT(w, " | %s", columns[c].head);
    }
    PUT(w, " |\n");
    rule_put(w, 2 + sizeof columns / sizeof *columns);
    size_t i = 0;
    const json_t *row = NULL;
    json_array_foreach(rows, i, row) {
        row_head(w, row);
        for (size_t c = 0; c < sizeof columns / sizeof *columns; c++) {
            cell(w, row, &columns[c]);
        }
        PUT(w, " |\n");
    }
}

static void links_write(writer *w, const json_t *document, const json_t *rows) {
    const json_t *widest = NULL, *row = NULL, *link = NULL;
    size_t i = 0, k = 0;
    json_array_foreach(rows, i, row) {
        const json_t *const links = json_object_get(row, "links");
        widest = json_array_size(links) > json_array_size(widest) ? links : widest;
    }
    if (widest == NULL) {
        return;
    }
    PUT(w, "\n## Projected step time, seconds: in turn / overlapped\n\nRTT %g ms.\n\n    ",
        1e3 * json_number_value(json_object_get(document, "rtt_seconds")));
    for (const char *at = string_of(document, "formula"); *at != '\0'; at++) {
        if (*at == '\n') {
            PUT(w, "\n    ");
        } else {
            PUT(w, "%c", *at);
        }
    }
    PUT(w, "\n\n| codec | bits");
    json_array_foreach(widest, k, link) {
        PUT(w, " | %s", string_of(link, "rate"));
    }
    PUT(w, " |\n");
    rule_put(w, 2 + json_array_size(widest));
    json_array_foreach(rows, i, row) {
        row_head(w, row);
        for (k = 0; k < json_array_size(widest); k++) {
            link = json_array_get(json_object_get(row, "links"), k);
            if (link == NULL) {
                PUT(w, " | -");
                continue;
            }
            PUT(w, " | %.4f / %.4f", json_number_value(json_object_get(link, "step_seconds")),
                json_number_value(json_object_get(link, "step_seconds_overlapped")));
        }
        PUT(w, " |\n");
    }
}

static void settings_write(writer *w, const json_t *document) {
    const json_t *const versions = json_object_get(document, "versions");
    PUT(w, "# seam bench codecs\n\n");
    if (versions != NULL) {
        PUT(w, "Client %s, server %s on %s.\n\n", string_of(versions, "client"),
            string_of(versions, "server"), string_of(versions, "server_device"));
    }
    PUT(w, "Seeds");
    size_t i = 0;
    const json_t *seed = NULL;
    json_array_foreach(json_object_get(document, "seeds"), i, seed) {
        PUT(w, "%s %lld", i == 0 ? "" : ",", (long long)json_integer_value(seed));
    }
    PUT(w, "; options of every run:\n\n   ");
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(json_object_get(document, "options"), name, value) {
        PUT(w, " --%s %s", name, json_string_value(value));
    }
    PUT(w, "\n\n");
}
