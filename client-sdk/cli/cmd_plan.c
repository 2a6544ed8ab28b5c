/* `seam plan`: what a model and a session of it take on a server, before there is one
 * (plan_server.c), and at the client (plan_client.c); what a step sends (plan_wire.c). */
#include <stdio.h>
#include <string.h>

#include "plan_client.h"
#include "plan_options.h"
#include "plan_server.h"
#include "plan_shapes.h"
#include "plan_wire.h"
#include "run_data.h"
#include "shared_options.h"
#include "try.h"

#define SEQUENCES_DEFAULT 64u

/* What is printed. */
typedef struct plan_result {
    seam_model_config model;
    bool bf16_table; /* of the embedding, as far as its file tells */
    uint32_t targets;
    seam_plan_server server;
    seam_plan_client client;
    seam_plan_wire wire;
    /* With --data. */
    seam_tokenizer *tokenizer;
    seam_data *data;
    seam_batcher *batcher;
} plan_result;

/* ---- the plan ---- */

static seam_status model_read(plan_result *r, const seam_plan_options *o, seam_error *err) {
    if (o->shape == NULL) {
        SEAM_TRY(seam_cli_path_check("model", o->run.model, err));
        return seam_plan_model_read(&r->model, &r->bf16_table, o->run.model, err);
    }
    const seam_model_config *const shape = seam_plan_shape_find(o->shape);
    if (shape == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "--shape: '%.40s' is not of %s", o->shape,
                              SEAM_PLAN_SHAPES);
    }
    r->model = *shape;
    r->bf16_table = true; /* as they were published */
    return SEAM_OK;
}

static seam_status targets_read(plan_result *r, seam_plan_options *o, seam_error *err) {
    const seam_model_facts facts = {.lora_targets = seam_lora_targets_of(&r->model)};
    if (o->run.targets_by_model && (seam_targets_default(&facts) & SEAM_TARGET_QKV) != 0) {
        o->run.targets = "qkv";
    }
    SEAM_TRY(seam_targets_parse(&r->targets, o->run.targets, err));
    return seam_lora_targets_check(r->targets, &r->model, "--targets", err);
}

/* The rows of a step say what a run would ask a session for. */
static seam_status rows_read(plan_result *r, seam_plan_options *o, seam_session_options *session,
                             seam_error *err) {
    seam_train_options *const run = &o->run;
    uint32_t longest = run->tokens_max, micros = o->micros != 0 ? o->micros : 1;
    uint32_t limit = 0;
    SEAM_TRY(seam_run_tokens_limit(&limit, &r->model, run->prefix_tokens, err));
    session->rows_per_micro_max = run->rows_max;
    session->sequences_per_micro_max = SEQUENCES_DEFAULT;
    if (run->data != NULL) {
        SEAM_TRY(seam_cli_path_check("data", run->data, err));
        SEAM_TRY(seam_tokenizer_open(&r->tokenizer, run->model, err));
        SEAM_TRY(seam_cli_data_status(
            seam_run_rows_open(&r->data, &r->batcher, run, r->tokenizer, limit, err), err));
        longest = seam_data_tokens_longest(r->data);
        micros = seam_batcher_micros_max(r->batcher);
    } else if (longest != 0) {
        longest = longest < limit ? longest : limit;
        if (longest < 2) {
            return seam_error_set(err, SEAM_E_ARG, "--tokens-max: a row has 2 tokens at least");
        }
        const uint32_t fit = run->rows_max / (longest - 1);
        if (fit == 0) {
            return seam_error_set(err, SEAM_E_ARG,
                                  "--tokens-max: a row of %u tokens is larger than a micro-batch "
                                  "of --rows-max %u",
                                  longest, run->rows_max);
        }
        if ((run->batch - 1) / fit >= SEAM_RUN_MICROS_MAX) {
            return seam_error_set(err, SEAM_E_ARG,
                                  "--batch needs more than %u micro-batches of --rows-max %u",
                                  SEAM_RUN_MICROS_MAX, run->rows_max);
        }
        micros = (run->batch - 1) / fit + 1;
    }
    if (longest != 0) {
        seam_run_rows_limit(session, run, longest, micros);
        o->depth = o->depth < micros ? o->depth : micros; /* as a run asks for it */
    }
    session->micros_per_step_max = micros;
    o->micros = micros;
    o->run.tokens_max = longest;
    o->run.rows_max = session->rows_per_micro_max;
    if (o->sequences > o->run.rows_max) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--sequences-max: %u, but --rows-max %u, of which each has one",
                              o->sequences, o->run.rows_max);
    }
    o->sequences = o->sequences != 0 ? o->sequences : session->sequences_per_micro_max;
    o->sequences = o->sequences < o->run.rows_max ? o->sequences : o->run.rows_max;
    session->sequences_per_micro_max = o->sequences;
    return SEAM_OK;
}

static seam_status wire_make(plan_result *r, const seam_plan_options *o,
                             const seam_session_options *session, seam_error *err) {
    const uint32_t tokens = o->run.tokens_max; /* 0: micro-batches of one full row each */
    const seam_plan_wire_args args = {
        .session = session,
        .model = &r->model,
        .tls = !o->plaintext,
        .steps = o->run.steps,
        .batcher = r->batcher,
        .full = {.sequence_rows = tokens != 0 ? tokens - 1 : o->run.rows_max,
                 .sequences = tokens != 0 ? o->run.batch : o->micros,
                 .rows_max = o->run.rows_max}};
    return seam_plan_wire_make(&r->wire, &args, err);
}

static seam_status plan_make(plan_result *r, seam_plan_options *o, seam_error *err) {
    seam_session_options session;
    SEAM_TRY(model_read(r, o, err));
    SEAM_TRY(seam_plan_is_lora(o) ? targets_read(r, o, err) : SEAM_OK);
    SEAM_TRY(seam_plan_split_check(o, r->model.layers, err));
    seam_train_options_scale(&o->run, r->model.hidden);
    SEAM_TRY(seam_train_session_options(&session, &o->run, err));
    SEAM_TRY(rows_read(r, o, &session, err));
    /* As a run has it that is told no depth; what it settles at no byte depends on. */
    session.pipeline_auto = o->depth == 0;
    o->depth = o->depth != 0 ? o->depth : 1;
    session.pipeline_depth = o->depth;
    SEAM_TRY(wire_make(r, o, &session, err));
    const seam_plan_server_args server = {
        .options = o, .model = &r->model, .bf16_table = r->bf16_table, .targets = r->targets};
    SEAM_TRY(seam_plan_server_make(&r->server, &server, err));
    const seam_plan_client_args client = {
        .model = &r->model, .bf16_table = r->bf16_table, .f32 = o->run.f32, .session = &session};
    return seam_plan_client_make(&r->client, &client, err);
}

static void result_deinit(plan_result *r) {
    seam_batcher_destroy(r->batcher);
    seam_data_destroy(r->data);
    seam_tokenizer_close(r->tokenizer);
}

/* ---- printing ---- */

static json_t *kinds_json(const uint64_t bytes[SEAM_MEMORY_KINDS]) {
    json_t *const value = json_object();
    for (uint32_t kind = 0; kind < SEAM_MEMORY_KINDS; kind++) {
        if (bytes[kind] > 0) {
            json_object_set_new(value, seam_memory_kind_name((seam_memory_kind)kind),
                                json_integer((json_int_t)bytes[kind]));
        }
    }
    return value;
}

static bool weights_fit(const seam_plan_options *o, const seam_plan_server *p) {
    return (double)o->memory_gib * 0x1p30 > (double)(p->weight_bytes + SEAM_MEMORY_WORKSPACE_BYTES);
}

static seam_plan_link link_of(const seam_plan_options *o) {
    return (seam_plan_link){.mbit = o->run.mbit,
                            .rtt_ms = o->run.rtt_ms,
                            .server_tokens_per_s = o->run.server_tokens_per_s};
}

static void print_json(const seam_plan_options *o, const plan_result *r) {
    const seam_train_options *const run = &o->run;
    const seam_plan_server *const p = &r->server;
    const seam_plan_link link = link_of(o);
    json_t *const value =
        json_pack("{s:s,s:s,s:s,s:b,s:i,s:s,s:b,s:b,s:I,s:o,s:o,s:I,s:I}", "model", r->model.name,
                  "device", o->device, "dtype", o->dtype, "full", (int)run->full, "rows_max",
                  (int)run->rows_max, "codec", run->codec, "recompute", (int)run->recompute, "fp8",
                  (int)run->fp8, "weight_bytes", (json_int_t)p->weight_bytes, "session_device",
                  kinds_json(p->session.device), "session_host", kinds_json(p->session.host),
                  "session_device_bytes", (json_int_t)seam_memory_plan_device_bytes(&p->session),
                  "session_host_bytes", (json_int_t)seam_memory_plan_host_bytes(&p->session));
    if (run->prefix_tokens != 0) {
        json_object_set_new(value, "prefix_tokens", json_integer(run->prefix_tokens));
        json_object_set_new(value, "prefix_bits", json_real((double)run->prefix_bits));
    }
    if (seam_plan_is_lora(o)) {
        json_object_set_new(value, "rank", json_integer(run->rank));
        json_object_set_new(value, "targets", json_string(run->targets));
    }
    json_object_set_new(value, "pipeline_depth", json_integer(o->depth));
    json_object_set_new(value, "topology", json_string(run->topology));
    json_object_set_new(value, "client", seam_plan_client_json(&r->client));
    json_object_set_new(value, "wire", seam_plan_wire_json(&r->wire));
    json_t *const time = seam_plan_time_json(&r->wire, &link);
    if (time != NULL) {
        json_object_set_new(value, "time", time);
    }
    if (o->memory_gib > 0) {
        const uint64_t tokens = p->sessions * run->rows_max;
        json_object_set_new(value, "weights_fit", json_boolean(weights_fit(o, p)));
        json_object_set_new(value, "sessions", json_integer((json_int_t)p->sessions));
        json_object_set_new(value, "tokens_in_flight", json_integer((json_int_t)tokens));
        json_object_set_new(value, "rows_max_of_one", json_integer((json_int_t)p->rows_largest));
    }
    seam_cli_print_json(value);
    json_decref(value);
}

/* --memory: how much of it is left. */
static void room_print(const seam_plan_options *o, const seam_plan_server *p) {
    if (weights_fit(o, p)) {
        const uint64_t tokens = p->sessions * o->run.rows_max;
        printf("in %.1f GiB      %llu sessions, %llu tokens in flight; one session alone: "
               "micro-batches of up to %llu\n",
               (double)o->memory_gib, (unsigned long long)p->sessions, (unsigned long long)tokens,
               (unsigned long long)p->rows_largest);
        return;
    }
    char workspace[SEAM_MEMORY_TEXT_BYTES];
    seam_memory_bytes_text(workspace, SEAM_MEMORY_WORKSPACE_BYTES);
    printf("in %.1f GiB      nothing: the weights and %s of workspace alone do not fit\n",
           (double)o->memory_gib, workspace);
}

static void print_text(const seam_plan_options *o, const plan_result *r) {
    const seam_train_options *const run = &o->run;
    const seam_plan_link link = link_of(o);
    char weights[SEAM_MEMORY_TEXT_BYTES];
    char device[SEAM_MEMORY_TEXT_BYTES], host[SEAM_MEMORY_TEXT_BYTES];
    seam_memory_bytes_text(weights, r->server.weight_bytes);
    seam_memory_text(device, r->server.session.device);
    seam_memory_text(host, r->server.session.host);
    char adapter[64] = "full fine-tuning";
    if (run->prefix_tokens != 0) {
        snprintf(adapter, sizeof adapter, "a prefix of %u tokens%s", run->prefix_tokens,
                 run->prefix_bits != 0.0f ? ", quantized" : "");
    } else if (!run->full) {
        snprintf(adapter, sizeof adapter, "LoRA rank %u on %.40s", run->rank, run->targets);
    }
    printf("%s on %s in %s%s; %s, %u tokens a micro-batch, codec %s%s\n"
           "weights          %s, shared by all sessions\n"
           "a session takes  %s on the device\n"
           "                 %s on the host\n",
           r->model.name, o->device, o->dtype, run->fp8 ? " and FP8" : "", adapter, run->rows_max,
           run->codec, run->recompute ? ", recompute" : "", weights, device, host);
    seam_plan_client_print(&r->client);
    seam_plan_wire_print(&r->wire);
    seam_plan_time_print(&r->wire, &link);
    if (o->memory_gib > 0) {
        room_print(o, &r->server);
    }
}

int seam_cmd_plan(int argc, char **argv, int first) {
    seam_plan_options o;
    plan_result result = {.tokenizer = NULL};
    seam_error err = {0};
    seam_status st = seam_plan_options_parse(&o, argc, argv, first, &err);
    if (st == SEAM_OK && o.run.common.help) {
        seam_plan_options_help();
        return SEAM_EXIT_OK;
    }
    if (st == SEAM_E_ARG) {
        return seam_cli_usage(&err, "plan");
    }
    st = st == SEAM_OK ? plan_make(&result, &o, &err) : st;
    if (st == SEAM_OK && o.run.common.json) {
        print_json(&o, &result);
    } else if (st == SEAM_OK) {
        print_text(&o, &result);
    }
    result_deinit(&result);
    return seam_cli_finish(st, &err, &o.run.common);
}
