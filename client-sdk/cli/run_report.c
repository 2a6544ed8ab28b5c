/* See run_report.h. */
#include "run_report.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "run_files.h"
#include "run_prediction.h"

#define CHANNELS_MAX (1u << 16)
#define WIDTHS       17

static json_t *widths_summary(const uint8_t *widths, uint32_t channels);
static void widths_final(seam_run_report *report, const seam_session *session);

seam_status seam_run_report_init(seam_run_report *report, seam_error *err) {
    *report =
        (seam_run_report){.root = json_object(), .steps = json_array(), .eval = json_object()};
    if (report->root == NULL || report->steps == NULL || report->eval == NULL) {
        seam_run_report_deinit(report);
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    return SEAM_OK;
}

void seam_run_report_deinit(seam_run_report *report) {
    json_decref(report->eval);
    json_decref(report->steps);
    json_decref(report->root);
    *report = (seam_run_report){.root = NULL};
}

void seam_run_report_set(seam_run_report *report, const char *name, json_t *gift_value) {
    json_object_set_new(report->root, name, gift_value);
}

void seam_run_report_begin(seam_run_report *report, const seam_run_facts *facts) {
    const seam_model_facts *const model = facts->model;
    char identity[17];
    snprintf(identity, sizeof identity, "%016llx", (unsigned long long)model->identity);
    seam_run_report_set(report, "data",
                        json_pack("{s:i,s:i}", "train_rows", (int)facts->train_rows, "eval_rows",
                                  (int)facts->eval_rows));
    seam_run_report_set(report, "config", seam_train_options_json(facts->options));
    seam_run_report_set(report, "model",
                        json_pack("{s:s,s:s,s:s,s:s,s:i,s:i,s:i,s:I,s:s}", "path",
                                  facts->options->model, "name", model->name, "server_model",
                                  facts->server_model, "identity", identity, "hidden",
                                  (int)model->hidden, "layers", (int)model->layers, "vocab",
                                  (int)model->vocab, "client_weight_bytes",
                                  (json_int_t)model->bytes, "client_backend", model->backend));
    seam_run_report_set(report, "versions",
                        json_pack("{s:s,s:s,s:s}", "client", seam_version(), "server",
                                  facts->server->version, "server_device", facts->server->device));
}

/* What counts as the wire's mean bits: activations of boundaries, gradients of modules. */
static bool is_counted(const char *site_name) {
    const size_t count = strlen(site_name);
    return strncmp(site_name, "fwd", 3) == 0 ||
           (count > 9 && strcmp(site_name + count - 9, "_gradient") == 0);
}

/* The step without a compressor: every row over each boundary, or parameters and gradients. */
static uint64_t bf16_bytes_of(const seam_session *session, uint64_t tokens) {
    uint64_t modules = 0;
    for (uint32_t i = 0; i < seam_session_site_count(session); i++) {
        seam_site_state site;
        if (seam_session_site(&site, session, i) == SEAM_OK && site.site > 3 &&
            is_counted(site.name)) {
            modules += (uint64_t)site.rows * site.channels;
        }
    }
    const bool vanilla = strcmp(seam_session_topology(session), "vanilla") == 0;
    const uint64_t boundary = tokens * seam_session_channels(session) * (vanilla ? 2 : 4);
    return 2 * (modules > 0 ? 2 * modules : boundary);
}

/* Of the server's own gates of a kind, which all have as many values. */
typedef struct gates_mean {
    double bits;
    uint32_t count;
} gates_mean;

static void mean_put(json_t *entry, const char *name, const gates_mean *mean) {
    if (mean->count > 0) {
        json_object_set_new(entry, name, json_real(mean->bits / mean->count));
    }
}

json_t *seam_run_report_entry(double *ret_wire_bits, const seam_train_report *step,
                              uint32_t micro_count, const seam_session *session) {
    const uint64_t bf16_bytes = bf16_bytes_of(session, step->tokens);
    json_t *const sites = json_object();
    double bits = 0.0, values = 0.0;
    gates_mean layers = {0}, prefix = {0};
    static uint8_t widths[CHANNELS_MAX];
    for (uint32_t i = 0; i < seam_session_site_count(session); i++) {
        seam_site_state site;
        if (seam_session_site(&site, session, i) != SEAM_OK) {
            continue;
        }
        json_t *const entry =
            json_pack("{s:f,s:I,s:I}", "mean_bits", site.mean_bits, "rows", (json_int_t)site.rows,
                      "payload_bytes", (json_int_t)site.payload_bytes);
        if (site.rows > 0 && seam_session_site_widths(widths, session, i) == SEAM_OK) {
            json_object_set_new(entry, "widths", widths_summary(widths, site.width_count));
        }
        if (site.bits_max > 0) {
            json_object_set_new(entry, "widths",
                                json_pack("{s:i,s:i}", "min", site.bits_min, "max", site.bits_max));
            gates_mean *const of = strncmp(site.name, "layer_", 6) == 0 ? &layers : &prefix;
            of->bits += site.mean_bits;
            of->count++;
        }
        json_object_set_new(sites, site.name, entry);
        if (is_counted(site.name)) {
            const double n = (double)site.rows * site.channels;
            bits += site.mean_bits * n;
            values += n;
        }
    }
    const seam_step_report *const s = &step->step;
    char hash[17];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)s->state_hash);
    json_t *const entry =
        json_pack("{s:I,s:f,s:I,s:I,s:I,s:f,s:f,s:f,s:I,s:I,s:I,s:f,s:f,s:f,s:b,s:b,s:s}", "step",
                  (json_int_t)s->step, "loss", step->loss, "tokens", (json_int_t)step->tokens,
                  "labelled_tokens", (json_int_t)step->labelled_tokens, "correct_tokens",
                  (json_int_t)step->correct_tokens, "seconds", step->seconds, "head_seconds",
                  step->head_seconds, "server_seconds", s->server_seconds, "bytes_sent",
                  (json_int_t)s->bytes_sent, "bytes_received", (json_int_t)s->bytes_received,
                  "bf16_bytes", (json_int_t)bf16_bytes, "grad_norm", s->grad_norm, "lr", s->lr,
                  "gate_mean_bits", s->gate_mean_bits, "skipped", s->skipped, "target_reached",
                  s->target_reached, "state_hash", hash);
    json_t *const costs = json_pack(
        "{s:i,s:f,s:f,s:f}", "micros", (int)micro_count, "encode_seconds", s->encode_seconds,
        "decode_seconds", s->decode_seconds, "server_codec_seconds", s->server_codec_seconds);
    json_object_update(entry, costs);
    json_decref(costs);
    json_object_set_new(entry, "bits_target", json_real(s->bits_target));
    json_object_set_new(entry, "link_bits_per_second", json_real(s->link_bits_per_second));
    json_object_set_new(entry, "ahead", json_integer((json_int_t)s->ahead));
    mean_put(entry, "layer_mean_bits", &layers);
    mean_put(entry, "prefix_mean_bits", &prefix);
    json_object_set_new(entry, "sites", sites);
    *ret_wire_bits = values > 0.0 ? bits / values : 0.0;
    return entry;
}

static double real_of(const json_t *entry, const char *name) {
    return json_number_value(json_object_get(entry, name));
}

static uint64_t count_of(const json_t *entry, const char *name) {
    return (uint64_t)json_integer_value(json_object_get(entry, name));
}

static void sums_add(seam_run_report *report, const json_t *entry) {
    const char *name = NULL;
    json_t *site = NULL;
    const uint64_t labelled = count_of(entry, "labelled_tokens");
    report->seconds += real_of(entry, "seconds");
    report->encode_seconds += real_of(entry, "encode_seconds");
    report->decode_seconds += real_of(entry, "decode_seconds");
    report->server_codec_seconds += real_of(entry, "server_codec_seconds");
    report->loss_sum += real_of(entry, "loss") * (double)labelled;
    report->tokens += count_of(entry, "tokens");
    report->labelled_tokens += labelled;
    report->bytes_sent += count_of(entry, "bytes_sent");
    report->bytes_received += count_of(entry, "bytes_received");
    report->bf16_bytes += count_of(entry, "bf16_bytes");
    json_object_foreach(json_object_get(entry, "sites"), name, site) {
        if (is_counted(name)) { /* all that a topology uses have as many channels */
            const double rows = real_of(site, "rows");
            report->bits_weighted += real_of(site, "mean_bits") * rows;
            report->values += rows;
        }
    }
}

void seam_run_report_add(seam_run_report *report, json_t *gift_entry) {
    if (gift_entry != NULL) {
        sums_add(report, gift_entry);
        json_array_append_new(report->steps, gift_entry);
    }
}

void seam_run_report_cut(seam_run_report *report, uint64_t step_count) {
    const seam_run_report kept = *report;
    size_t idx = 0;
    json_t *entry = NULL;
    while (json_array_size(report->steps) > 0 &&
           count_of(json_array_get(report->steps, json_array_size(report->steps) - 1), "step") >=
               step_count) {
        json_array_remove(report->steps, json_array_size(report->steps) - 1);
    }
    *report = (seam_run_report){.root = kept.root, .steps = kept.steps, .eval = kept.eval};
    json_array_foreach(report->steps, idx, entry) {
        sums_add(report, entry);
    }
}

/* min, tenth percentile, median, ninetieth percentile, max. */
static json_t *widths_summary(const uint8_t *widths, uint32_t channels) {
    uint32_t counts[WIDTHS] = {0};
    for (uint32_t c = 0; c < channels; c++) {
        counts[widths[c] < WIDTHS ? widths[c] : 0]++;
    }
    const uint32_t ranks[5] = {0, channels / 10, channels / 2, channels - 1 - channels / 10,
                               channels - 1};
    int at[5] = {0};
    for (int r = 0; r < 5; r++) {
        uint32_t below = 0;
        for (int w = 0; w < WIDTHS; w++) {
            below += counts[w];
            if (ranks[r] < below) {
                at[r] = w;
                break;
            }
        }
    }
    return json_pack("{s:i,s:i,s:i,s:i,s:i}", "min", at[0], "p10", at[1], "median", at[2], "p90",
                     at[3], "max", at[4]);
}

void seam_run_report_eval(seam_run_report *report, const char *name,
                          const seam_evaluation *evaluation) {
    json_object_set_new(report->eval, name, seam_evaluation_json(evaluation));
}

seam_status seam_run_report_write(seam_run_report *report, const char *path,
                                  const seam_session *session, seam_error *err) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    const double n = report->labelled_tokens > 0 ? (double)report->labelled_tokens : 1.0;
    json_t *const root = report->root;
    json_object_set_new(root, "peak_rss_bytes", json_integer((json_int_t)usage.ru_maxrss * 1024));
    json_object_set_new(
        root, "totals",
        json_pack("{s:I,s:f,s:I,s:I,s:I,s:I,s:I,s:f,s:f,s:f,s:f,s:f,s:f}", "steps",
                  (json_int_t)json_array_size(report->steps), "seconds", report->seconds, "tokens",
                  (json_int_t)report->tokens, "labelled_tokens",
                  (json_int_t)report->labelled_tokens, "bytes_sent", (json_int_t)report->bytes_sent,
                  "bytes_received", (json_int_t)report->bytes_received, "bf16_bytes",
                  (json_int_t)report->bf16_bytes, "tokens_per_second",
                  report->seconds > 0.0 ? (double)report->tokens / report->seconds : 0.0,
                  "loss_mean", report->loss_sum / n, "wire_mean_bits",
                  report->values > 0.0 ? report->bits_weighted / report->values : 0.0,
                  "encode_seconds", report->encode_seconds, "decode_seconds",
                  report->decode_seconds, "server_codec_seconds", report->server_codec_seconds));
    seam_run_prediction_grade(report);
    json_object_set(root, "steps", report->steps);
    json_object_set(root, "eval", report->eval);
    if (session != NULL) {
        widths_final(report, session);
    }
    return seam_run_write_json(path, root, 0644, err);
}

static void widths_final(seam_run_report *report, const seam_session *session) {
    static uint8_t widths[CHANNELS_MAX];
    json_t *const histograms = json_object();
    json_t *const finals = json_object();
    for (uint32_t i = 0; i < seam_session_site_count(session); i++) {
        seam_site_state site;
        if (seam_session_site(&site, session, i) != SEAM_OK || !is_counted(site.name) ||
            seam_session_site_widths(widths, session, i) != SEAM_OK) {
            continue;
        }
        json_int_t counts[WIDTHS] = {0};
        json_t *const every = json_array();
        for (uint32_t c = 0; c < site.width_count; c++) {
            counts[widths[c] < WIDTHS ? widths[c] : 0]++;
            json_array_append_new(every, json_integer(widths[c]));
        }
        json_t *const histogram = json_array();
        for (int w = 0; w < WIDTHS; w++) {
            json_array_append_new(histogram, json_integer(counts[w]));
        }
        json_object_set_new(histograms, site.name, histogram);
        json_object_set_new(finals, site.name, every);
    }
    json_object_set_new(report->root, "widths", histograms);
    json_object_set_new(report->root, "final_widths", finals);
}
