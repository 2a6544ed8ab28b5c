/* See plan_wire.h. */
#include "plan_wire.h"

#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "client_plan.h"
#include "run_data.h"
#include "try.h"

#define BOUNDARY_SITES 4u

/* As seam_session_site has them. */
const char *const seam_plan_site_names[SEAM_STEP_SITES] = {
    "fwd_in", "fwd_out", "bwd_out",         "bwd_in",          "lora_a",
    "lora_b", "prefix",  "lora_a_gradient", "lora_b_gradient", "prefix_gradient"};

bool seam_plan_site_is_sent(uint32_t site) {
    return site < BOUNDARY_SITES ? site % 2 == 0 : site < SEAM_SITE_LORA_A_GRADIENT;
}

/* A step as the planner takes it; the arrays are of full rows, else borrowed from the batcher. */
typedef struct layout {
    seam_step_micro micros[SEAM_RUN_MICROS_MAX];
    uint32_t micro_count;
    uint64_t tokens, labelled;
    uint32_t *sequence_rows, *tokens_full;
    uint64_t *sample_ids;
    uint8_t *bitmap;
} layout;

static seam_status planner_create(seam_step_planner **ret_planner, const seam_plan_wire_args *args,
                                  seam_error *err);
static seam_status full_make(layout *l, const seam_plan_wire_args *args, seam_error *err);
static void batch_take(layout *l, const seam_plan_wire_args *args, uint64_t step);
static seam_status step_plan(seam_plan_wire *sum, layout *l, seam_step_planner *planner,
                             const seam_plan_wire_args *args, uint64_t step, seam_error *err);
static void step_add(seam_plan_wire *sum, const seam_step_bytes *step, const layout *l);
static void sum_scale(seam_plan_wire *sum, double count, double by);

seam_status seam_plan_wire_make(seam_plan_wire *ret_wire, const seam_plan_wire_args *args,
                                seam_error *err) {
    const uint64_t steps = args->steps;
    const uint32_t count = (uint32_t)(steps < SEAM_PLAN_STEPS_MAX ? steps : SEAM_PLAN_STEPS_MAX);
    seam_plan_wire wire = {.steps = steps,
                           .step_count = count,
                           .by_data = args->batcher != NULL,
                           .is_exact = count == steps || args->batcher == NULL,
                           .is_most = count == steps || args->batcher == NULL};
    seam_step_planner *planner = NULL;
    layout l = {.micro_count = 0};
    SEAM_ASSERT(steps > 0);
    seam_status st = planner_create(&planner, args, err);
    if (st == SEAM_OK && args->batcher == NULL) {
        st = full_make(&l, args, err);
    }
    for (uint32_t i = 1; st == SEAM_OK && i < count; i++) {
        st = step_plan(&wire, &l, planner, args, 1 + (uint64_t)(i - 1) * (steps - 1) / (count - 1),
                       err);
    }
    if (count < steps) { /* they stand for all but the first, which may bring what no other does */
        sum_scale(&wire, count - 1, (double)(steps - 1));
    }
    st = st == SEAM_OK ? step_plan(&wire, &l, planner, args, 0, err) : st;
    seam_step_planner_destroy(planner);
    seam_mem_free(l.bitmap);
    seam_mem_free(l.sample_ids);
    seam_mem_free(l.tokens_full);
    seam_mem_free(l.sequence_rows);
    SEAM_TRY(st);
    sum_scale(&wire, (double)steps, 1.0);
    *ret_wire = wire;
    return SEAM_OK;
}

static seam_status planner_create(seam_step_planner **ret_planner, const seam_plan_wire_args *args,
                                  seam_error *err) {
    seam_module_pair pairs[SEAM_MODULE_LINK_SITES_MAX];
    seam_step_planner_args planner = {
        .session = args->session, .channels = args->model->hidden, .tls = args->tls};
    if (args->session->topology != NULL &&
        strcmp(args->session->topology, "adapter_exchange") == 0) {
        planner.modules = pairs;
        planner.module_count = seam_client_modules(pairs, args->model, args->session);
    }
    return seam_step_planner_create(ret_planner, &planner, err);
}

/* ---- Steps ---- */

/* One step of the run, added to the sum. */
static seam_status step_plan(seam_plan_wire *sum, layout *l, seam_step_planner *planner,
                             const seam_plan_wire_args *args, uint64_t step, seam_error *err) {
    seam_step_bytes bytes;
    if (args->batcher != NULL) {
        batch_take(l, args, step);
    }
    SEAM_TRY(seam_step_planner_step(&bytes, planner, step, l->micros, l->micro_count, err));
    step_add(sum, &bytes, l);
    return SEAM_OK;
}

static void batch_take(layout *l, const seam_plan_wire_args *args, uint64_t step) {
    seam_step_batch batch;
    seam_batcher_step(&batch, args->batcher, step);
    SEAM_ASSERT(batch.micro_count <= SEAM_RUN_MICROS_MAX);
    for (uint32_t m = 0; m < batch.micro_count; m++) { /* as seam_trainer_step has them */
        const seam_micro *const micro = &batch.micros[m];
        l->micros[m] =
            (seam_step_micro){.sequence_count = micro->seq_count,
                              .sequence_rows = micro->seq_rows,
                              .labelled_rows = micro->labelled,
                              .sample_ids = micro->sample_ids,
                              .row_keys = args->session->front_blocks == 0 ? micro->ids : NULL,
                              .ids = micro->ids,
                              .labels = micro->targets};
    }
    l->micro_count = batch.micro_count;
    l->tokens = batch.rows_total;
    l->labelled = batch.labelled_total;
}

/* All micro-batches share the arrays of the fullest. */
static seam_status full_make(layout *l, const seam_plan_wire_args *args, seam_error *err) {
    const seam_plan_full *const full = &args->full;
    const uint32_t fit = full->rows_max / full->sequence_rows;
    const uint32_t each = fit < full->sequences ? fit : full->sequences;
    const size_t rows = (size_t)each * full->sequence_rows;
    SEAM_ASSERT(each > 0);
    const uint32_t count = (full->sequences + each - 1) / each;
    if (count > SEAM_RUN_MICROS_MAX) {
        return seam_error_set(err, SEAM_E_LIMIT,
                              "--batch needs %u micro-batches of --rows-max %u, at most %u", count,
                              full->rows_max, SEAM_RUN_MICROS_MAX);
    }
    l->sequence_rows = seam_mem_zalloc(each, sizeof *l->sequence_rows);
    l->sample_ids = seam_mem_zalloc(each, sizeof *l->sample_ids);
    l->tokens_full = seam_mem_zalloc(rows, sizeof *l->tokens_full);
    l->bitmap = seam_mem_zalloc((rows + 7) / 8, 1);
    if (l->sequence_rows == NULL || l->sample_ids == NULL || l->tokens_full == NULL ||
        l->bitmap == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    memset(l->bitmap, 0xff, (rows + 7) / 8);
    for (uint32_t i = 0; i < each; i++) {
        l->sequence_rows[i] = full->sequence_rows;
        l->sample_ids[i] = i;
    }
    for (size_t i = 0; i < rows; i++) {
        l->tokens_full[i] = (uint32_t)(i % args->model->vocab_count);
    }
    for (uint32_t m = 0; m < count; m++) {
        const uint32_t left = full->sequences - m * each;
        l->micros[m] =
            (seam_step_micro){.sequence_count = left < each ? left : each,
                              .sequence_rows = l->sequence_rows,
                              .labelled_rows = l->bitmap,
                              .sample_ids = l->sample_ids,
                              .row_keys = args->session->front_blocks == 0 ? l->tokens_full : NULL,
                              .ids = l->tokens_full,
                              .labels = l->tokens_full};
    }
    l->micro_count = count;
    l->tokens = l->labelled = (uint64_t)full->sequences * full->sequence_rows;
    return SEAM_OK;
}

/* ---- Means ---- */

static void way_add(seam_plan_way *sum, const seam_way_bytes *way) {
    sum->bytes += (double)way->bytes;
    sum->tensors += (double)way->tensors;
    sum->headers += (double)way->headers;
    sum->allocation += (double)way->allocation;
    sum->control += (double)way->control;
    sum->framing += (double)way->framing;
}

static void step_add(seam_plan_wire *sum, const seam_step_bytes *step, const layout *l) {
    way_add(&sum->sent, &step->sent);
    way_add(&sum->received, &step->received);
    for (uint32_t i = 0; i < SEAM_STEP_SITES; i++) {
        sum->sites[i].rows += (double)step->sites[i].rows;
        sum->sites[i].payload_bytes += (double)step->sites[i].payload_bytes;
    }
    sum->micros += l->micro_count;
    sum->tokens += (double)l->tokens;
    sum->labelled_tokens += (double)l->labelled;
    sum->mean_bits += step->mean_bits;
    sum->round_trips += step->round_trips;
    sum->is_exact = sum->is_exact && step->is_exact;
    sum->is_most = sum->is_most && step->is_most;
}

static void way_scale(seam_plan_way *way, double count, double by) {
    way->bytes = way->bytes / count * by;
    way->tensors = way->tensors / count * by;
    way->headers = way->headers / count * by;
    way->allocation = way->allocation / count * by;
    way->control = way->control / count * by;
    way->framing = way->framing / count * by;
}

/* From so many steps to so many.  In this order a mean of whole numbers that are the same is one.
 */
static void sum_scale(seam_plan_wire *sum, double count, double by) {
    way_scale(&sum->sent, count, by);
    way_scale(&sum->received, count, by);
    for (uint32_t i = 0; i < SEAM_STEP_SITES; i++) {
        sum->sites[i].rows = sum->sites[i].rows / count * by;
        sum->sites[i].payload_bytes = sum->sites[i].payload_bytes / count * by;
    }
    sum->micros = sum->micros / count * by;
    sum->tokens = sum->tokens / count * by;
    sum->labelled_tokens = sum->labelled_tokens / count * by;
    sum->mean_bits = sum->mean_bits / count * by;
    sum->round_trips = sum->round_trips / count * by;
}

/* ---- Output ---- */

static json_t *way_json(const seam_plan_way *way) {
    return json_pack("{s:f,s:f,s:f,s:f,s:f,s:f}", "bytes", way->bytes, "tensors", way->tensors,
                     "headers", way->headers, "allocation", way->allocation, "control",
                     way->control, "framing", way->framing);
}

/* Modules' sites in an exchange, boundaries' in the other topologies. */
static json_t *sites_json(const seam_plan_wire *wire) {
    json_t *const sites = json_object();
    bool exchanges = false;
    for (uint32_t i = BOUNDARY_SITES; i < SEAM_STEP_SITES; i++) {
        exchanges = exchanges || wire->sites[i].rows > 0.0;
    }
    for (uint32_t i = 0; i < SEAM_STEP_SITES; i++) {
        if (exchanges ? wire->sites[i].rows > 0.0 : i < BOUNDARY_SITES) {
            json_object_set_new(sites, seam_plan_site_names[i],
                                json_pack("{s:f,s:f}", "rows", wire->sites[i].rows, "payload_bytes",
                                          wire->sites[i].payload_bytes));
        }
    }
    return sites;
}

json_t *seam_plan_wire_json(const seam_plan_wire *wire) {
    json_t *const value = json_pack(
        "{s:s,s:I,s:b,s:b,s:f,s:f,s:f,s:f,s:o,s:o,s:o}", "rows", wire->by_data ? "data" : "full",
        "steps", (json_int_t)wire->steps, "exact", (int)wire->is_exact, "at_most",
        (int)wire->is_most, "micros", wire->micros, "tokens", wire->tokens, "labelled_tokens",
        wire->labelled_tokens, "round_trips", wire->round_trips, "sent", way_json(&wire->sent),
        "received", way_json(&wire->received), "sites", sites_json(wire));
    if (wire->mean_bits > 0.0) {
        json_object_set_new(value, "mean_bits", json_real(wire->mean_bits));
    }
    return value;
}

static void way_print(const char *name, const seam_plan_way *way) {
    printf("%s %.1f KB (tensors %.1f, headers %.1f, bits' allocation %.1f, layout and commit %.1f, "
           "framing %.1f)\n",
           name, way->bytes / 1e3, way->tensors / 1e3, way->headers / 1e3, way->allocation / 1e3,
           way->control / 1e3, way->framing / 1e3);
}

void seam_plan_wire_print(const seam_plan_wire *wire) {
    way_print("a step sends    ", &wire->sent);
    way_print("it receives     ", &wire->received);
    printf("for              ");
    if (wire->by_data) {
        printf("%.0f tokens, %.0f labelled, in %.1f micro-batches: mean of ", wire->tokens,
               wire->labelled_tokens, wire->micros);
        if (wire->step_count < wire->steps) {
            printf("%u of ", wire->step_count);
        }
        printf("%llu steps", (unsigned long long)wire->steps);
    } else {
        printf("%.0f tokens, all distinct and labelled, in %.0f micro-batches: mean of %llu steps",
               wire->tokens, wire->micros, (unsigned long long)wire->steps);
    }
    if (wire->mean_bits > 0.0) {
        printf(", at a mean of %.2f bits", wire->mean_bits);
    }
    printf("; tensors %s\n", wire->is_exact  ? "to the byte"
                             : wire->is_most ? "at most"
                                             : "estimated");
}

/* ---- Time ---- */

seam_plan_time seam_plan_time_make(const seam_plan_wire *wire, const seam_plan_link *link) {
    seam_plan_time time = {0};
    if (link->mbit > 0.0f) {
        const double bytes_per_second = (double)link->mbit * 1e6 / 8.0;
        time.sent_seconds = wire->sent.bytes / bytes_per_second;
        time.received_seconds = wire->received.bytes / bytes_per_second;
        time.rtt_seconds = wire->round_trips * (double)link->rtt_ms / 1e3;
    }
    if (link->server_tokens_per_s > 0.0f) {
        time.server_seconds = wire->tokens / (double)link->server_tokens_per_s;
    }
    time.seconds =
        time.sent_seconds + time.received_seconds + time.rtt_seconds + time.server_seconds;
    return time;
}

/* What the sum is of. */
static const char *covered(const seam_plan_link *link) {
    return link->mbit <= 0.0f                  ? "server"
           : link->server_tokens_per_s <= 0.0f ? "link"
                                               : "link, server";
}

json_t *seam_plan_time_json(const seam_plan_wire *wire, const seam_plan_link *link) {
    const seam_plan_time time = seam_plan_time_make(wire, link);
    if (time.seconds <= 0.0) {
        return NULL;
    }
    json_t *const value = json_pack("{s:f,s:s}", "seconds", time.seconds, "covers", covered(link));
    if (link->mbit > 0.0f) {
        json_t *const wait =
            json_pack("{s:f,s:f,s:f,s:f,s:f}", "mbit", (double)link->mbit, "rtt_ms",
                      (double)link->rtt_ms, "sent_seconds", time.sent_seconds, "received_seconds",
                      time.received_seconds, "rtt_seconds", time.rtt_seconds);
        json_object_update(value, wait);
        json_decref(wait);
    }
    if (link->server_tokens_per_s > 0.0f) {
        json_object_set_new(value, "server_tokens_per_s",
                            json_real((double)link->server_tokens_per_s));
        json_object_set_new(value, "server_seconds", json_real(time.server_seconds));
    }
    return value;
}

void seam_plan_time_print(const seam_plan_wire *wire, const seam_plan_link *link) {
    const seam_plan_time time = seam_plan_time_make(wire, link);
    if (time.seconds <= 0.0) {
        return;
    }
    printf("its time         %.3f s, one after another:", time.seconds);
    if (link->mbit > 0.0f) {
        printf(" sending %.3f, receiving %.3f, %.1f round trips %.3f", time.sent_seconds,
               time.received_seconds, wire->round_trips, time.rtt_seconds);
    }
    if (link->server_tokens_per_s > 0.0f) {
        printf("%s the server %.3f", link->mbit > 0.0f ? "," : "", time.server_seconds);
    }
    printf("; without what is computed here%s\n",
           link->server_tokens_per_s > 0.0f ? "" : " and at the server");
}
