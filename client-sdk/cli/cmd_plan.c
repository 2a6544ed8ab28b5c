/* `seam plan`: what a model and a session of it take on a server, before there is one, and at the
 * client (plan_client.c).
 *
 * The device's share is the sum that the server makes at CreateSession, from the same function
 * (kernels/model/memory_plan.h).  The host's share is formed here from the coders' sizes: the
 * server adds small arrays of its own.  Nothing is computed or allocated on a device. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "coder.h"
#include "credit.h"
#include "memory_plan.h"
#include "plan_client.h"
#include "plan_shapes.h"
#include "prefix_quantizer.h"
#include "shared_options.h"
#include "train_options.h"
#include "try.h"
#include "weights.h"

#define SEQUENCES_DEFAULT   64u
#define DEPTH_DEFAULT       1u
#define DEPTH_MAX           8u
#define RANK_UNSET          UINT32_MAX
#define CACHE_BYTES_DEFAULT (UINT64_C(1) << 30)
#define BITS_DEFAULT        4u
#define AMAQ_BITS_MAX       16u
#define SITES               4u

typedef struct plan_options {
    seam_common_options common;
    const char *model, *shape, *device, *dtype, *targets, *codec, *lora_side;
    uint32_t rank, prefix_tokens, rows_max, sequences, front_blocks, tail_blocks, depth, micros;
    uint64_t cache_bytes;
    float memory_gib, prefix_bits;
    bool recompute, fp8, full, f32;
} plan_options;

static const seam_arg_spec plan_specs[] = {
    {"model", SEAM_ARG_TEXT, offsetof(plan_options, model), "PATH", "model folder or .gguf file"},
    {"shape", SEAM_ARG_TEXT, offsetof(plan_options, shape), "NAME",
     "a published model's shape instead: " SEAM_PLAN_SHAPES},
    {"device", SEAM_ARG_TEXT, offsetof(plan_options, device), "NAME", "cuda, cpu [cuda]"},
    {"dtype", SEAM_ARG_TEXT, offsetof(plan_options, dtype), "NAME",
     "of the server: bf16, f32 [bf16]"},
    SEAM_OPTION_RANK(plan_options),
    SEAM_OPTION_TARGETS(plan_options),
    {"full", SEAM_ARG_FLAG, offsetof(plan_options, full), NULL,
     "full fine-tuning of all blocks instead of LoRA"},
    {"prefix-tokens", SEAM_ARG_COUNT, offsetof(plan_options, prefix_tokens), "N",
     "prefix tuning instead of LoRA: virtual tokens [LoRA]"},
    {"prefix-bits", SEAM_ARG_POSITIVE, offsetof(plan_options, prefix_bits), "N",
     "the prefix is quantized in training, as `seam train` [off]"},
    {"front-blocks", SEAM_ARG_U32, offsetof(plan_options, front_blocks), "K",
     "the model's first K blocks are the client's [0]"},
    SEAM_OPTION_TAIL_BLOCKS(plan_options),
    {"lora-side", SEAM_ARG_TEXT, offsetof(plan_options, lora_side), "WHERE", "as `seam train`"},
    {"pipeline-depth", SEAM_ARG_COUNT, offsetof(plan_options, depth), "N",
     "micro-batches on their way at once, up to 8 [1]"},
    {"micros", SEAM_ARG_COUNT, offsetof(plan_options, micros), "N", "micro-batches of a step [1]"},
    {"f32", SEAM_ARG_FLAG, offsetof(plan_options, f32), NULL,
     "of the client: products in f32 even where this processor has bf16 units"},
    SEAM_OPTION_ROWS_MAX(plan_options),
    {"sequences-max", SEAM_ARG_COUNT, offsetof(plan_options, sequences), "N",
     "sequences of one micro-batch [64]"},
    {"codec", SEAM_ARG_TEXT, offsetof(plan_options, codec), "NAME", "as `seam train` [amaq]"},
    SEAM_OPTION_CACHE_BYTES(plan_options),
    {"recompute", SEAM_ARG_FLAG, offsetof(plan_options, recompute), NULL,
     "layers are computed again instead of kept"},
    {"fp8", SEAM_ARG_FLAG, offsetof(plan_options, fp8), NULL,
     "of seamd --fp8: weights in FP8 too, and the session's products in it"},
    {"memory", SEAM_ARG_POSITIVE, offsetof(plan_options, memory_gib), "GIB",
     "of the device: how many sessions and tokens fit"},
    {NULL, SEAM_ARG_FLAG, 0, NULL, NULL},
};

/* What is printed. */
typedef struct plan_result {
    const char *targets;
    seam_model_config model;
    uint64_t weight_bytes;
    seam_memory_plan session;
    uint64_t sessions, rows_largest; /* with --memory */
    bool bf16_table;                 /* of the embedding, as far as its file tells */
    seam_plan_client client;
} plan_result;

/* ---- the plan ---- */

static seam_status model_read(plan_result *ret, const plan_options *o, seam_error *err) {
    if ((o->model != NULL) == (o->shape != NULL)) {
        return seam_error_set(err, SEAM_E_ARG, "--model or --shape: one of them is needed");
    }
    if (o->shape != NULL) {
        const seam_model_config *shape = seam_plan_shape_find(o->shape);
        if (shape == NULL) {
            return seam_error_set(err, SEAM_E_ARG, "--shape: '%.40s' is not of %s", o->shape,
                                  SEAM_PLAN_SHAPES);
        }
        ret->model = *shape;
        ret->bf16_table = true; /* as they were published */
        return SEAM_OK;
    }
    seam_weights *weights = NULL;
    seam_weights_place place;
    SEAM_TRY(seam_weights_open(&weights, o->model, err));
    ret->model = *seam_weights_config(weights);
    ret->bf16_table = seam_weights_find(&place, weights, "model.embed_tokens.weight",
                                        ret->model.vocab_count, ret->model.hidden) &&
                      place.type == SEAM_TENSOR_BF16;
    seam_weights_close(weights);
    return SEAM_OK;
}

static bool on_cuda(const plan_options *o) {
    return strncmp(o->device, "cuda", 4) == 0;
}

/* Matrices that a session trains: the CPU keeps one a direction, and pads them to its panels. */
static size_t own_once(size_t *ret_host_bytes, uint32_t N, uint32_t C, seam_dtype act) {
    *ret_host_bytes = 0;
    return (size_t)N * C * seam_dtype_bytes(act);
}

static size_t own_twice(size_t *ret_host_bytes, uint32_t N, uint32_t C, seam_dtype act) {
    return 2 * own_once(ret_host_bytes, N, C, act);
}

/* The element types of a backend, without the backend. */
static seam_status types_read(seam_ops *ret_types, uint32_t *ret_copies, const plan_options *o,
                              seam_error *err) {
    const bool cuda = on_cuda(o);
    if (!cuda && strncmp(o->device, "cpu", 3) != 0) {
        return seam_error_set(err, SEAM_E_ARG, "--device: '%.40s' is not cuda or cpu", o->device);
    }
    if (strcmp(o->dtype, "bf16") != 0 && strcmp(o->dtype, "f32") != 0) {
        return seam_error_set(err, SEAM_E_ARG, "--dtype: '%.40s' is not bf16 or f32", o->dtype);
    }
    if (o->fp8 && (!cuda || strcmp(o->dtype, "bf16") != 0)) {
        return seam_error_set(err, SEAM_E_ARG, "--fp8: stands beside --device cuda, --dtype bf16");
    }
    ret_types->fp8 = o->fp8;
    ret_types->act = strcmp(o->dtype, "bf16") == 0 ? SEAM_BF16 : SEAM_F32;
    ret_types->acc = SEAM_F32;
    ret_types->qkv = cuda ? ret_types->act : SEAM_F32;
    ret_types->remake = cuda;
    ret_types->weight_own_bytes = cuda ? own_once : own_twice;
    ret_types->join_rank = cuda && ret_types->act == SEAM_BF16 ? SEAM_JOIN_RANK : 0;
    *ret_copies = cuda ? 1 : 2;
    return SEAM_OK;
}

/* A reply, what arrives and one more message, rows as floats twice, and the coders. */
static seam_status codec_add(seam_memory_plan *plan, const plan_options *o, uint32_t channels,
                             seam_error *err) {
    seam_codec_id id = SEAM_CODEC_F32;
    if (!seam_codec_from_name(&id, o->codec)) {
        return seam_error_set(err, SEAM_E_ARG, "--codec: '%.40s' is unknown", o->codec);
    }
    const bool cached = id == SEAM_CODEC_AQSGD;
    const seam_codec_plan codec = {.codec_in = id,
                                   .codec_out = id,
                                   .bits = BITS_DEFAULT,
                                   .cache_bytes_max = cached ? o->cache_bytes : 0,
                                   .cache_format = SEAM_CACHE_FP16};
    size_t tensor_bytes = 0;
    for (uint32_t site = 0; site < SITES; site++) {
        const bool gradient = site >= SITES / 2;
        const seam_coder_config coder = {
            .codec = id,
            .encoder = site % 2 == 1,
            .gradient = gradient,
            .channels = channels,
            .rows_max = o->rows_max,
            .state_rows_max = o->rows_max,
            .sequences_max = o->sequences,
            .storage_bytes = cached && !gradient ? (size_t)o->cache_bytes : 0,
            .bits_max = seam_codec_has_gates(id) ? AMAQ_BITS_MAX : BITS_DEFAULT,
            .plan = &codec};
        const size_t bytes = seam_coder_bytes_max(&coder, o->rows_max);
        tensor_bytes = bytes > tensor_bytes ? bytes : tensor_bytes;
        plan->host[SEAM_MEMORY_CODEC] += seam_coder_memory_bytes(&coder);
        plan->host[SEAM_MEMORY_CACHE] += coder.storage_bytes;
    }
    if (on_cuda(o)) { /* it codes there: the codes of a tensor */
        plan->device[SEAM_MEMORY_CODEC] += tensor_bytes;
    }
    plan->host[SEAM_MEMORY_CODEC] += 2 * tensor_bytes + SEAM_PAYLOAD_BYTES_MAX +
                                     2 * (uint64_t)o->rows_max * channels * sizeof(float) +
                                     seam_inbox_bytes_max(SEAM_CREDIT_BYTES_DEFAULT);
    return SEAM_OK;
}

/* Activations of the micro-batches that are on their way beside the first, and of one session. */
static seam_status training_add(seam_memory_plan *plan, const seam_memory_blocks *blocks,
                                const seam_activations_options *options, uint32_t depth) {
    SEAM_TRY(seam_memory_plan_training(plan, blocks, options));
    for (uint32_t i = 1; i < depth; i++) {
        SEAM_TRY(seam_memory_plan_activations(plan, blocks, options));
    }
    return SEAM_OK;
}

/* The largest micro-batch of a single session that fits into `bytes`; 0: none does. */
static uint32_t rows_fit(const seam_memory_blocks *blocks, const seam_activations_options *options,
                         uint32_t depth, uint64_t bytes) {
    uint32_t low = 0, high = SEAM_ROWS_MAX + 1; /* low fits, high does not */
    while (high - low > 1) {
        const uint32_t rows = low + (high - low) / 2;
        seam_activations_options with = *options;
        seam_memory_plan plan = {0};
        with.rows_max = rows;
        const bool fits = training_add(&plan, blocks, &with, depth) == SEAM_OK &&
                          seam_memory_plan_device_bytes(&plan) <= bytes;
        low = fits ? rows : low;
        high = fits ? high : rows;
    }
    return low;
}

static bool is_lora(const plan_options *o) {
    return !o->full && o->prefix_tokens == 0;
}

static seam_status targets_read(uint32_t *ret_targets, plan_result *result, const plan_options *o,
                                seam_error *err) {
    const seam_model_facts facts = {.lora_targets = seam_lora_targets_of(&result->model)};
    const bool fused = (seam_targets_default(&facts) & SEAM_TARGET_QKV) != 0;
    result->targets = o->targets != NULL ? o->targets : fused ? "qkv" : "q,v";
    SEAM_TRY(seam_targets_parse(ret_targets, result->targets, err));
    return seam_lora_targets_check(*ret_targets, &result->model, "--targets", err);
}

/* What is not LoRA. */
static seam_status adapter_check(const plan_options *o, seam_error *err) {
    if (o->prefix_bits != 0.0f && o->prefix_tokens == 0) {
        return seam_error_set(err, SEAM_E_ARG, "--prefix-bits: only with --prefix-tokens");
    }
    if (o->full && o->prefix_tokens != 0) {
        return seam_error_set(err, SEAM_E_ARG, "--full and --prefix-tokens: one of the two");
    }
    if (!is_lora(o) && (o->targets != NULL || o->rank != RANK_UNSET)) {
        return seam_error_set(err, SEAM_E_ARG, "%s: --rank and --targets are LoRA's",
                              o->full ? "--full" : "--prefix-tokens");
    }
    return o->full && o->fp8
               ? seam_error_set(err, SEAM_E_ARG,
                                "--fp8: of frozen products; with --full no product is frozen")
               : SEAM_OK;
}

/* The session as the client would ask for it. */
static seam_status client_make(plan_result *r, const plan_options *o, uint32_t targets,
                               seam_error *err) {
    seam_session_options session = SEAM_SESSION_OPTIONS_INIT;
    session.codec = o->codec;
    session.full = o->full;
    session.prefix_tokens = o->prefix_tokens;
    session.prefix_bits = o->prefix_bits;
    session.lora_rank = is_lora(o) ? o->rank : 0;
    session.lora_targets = targets;
    session.front_blocks = o->front_blocks;
    session.tail_blocks = o->tail_blocks;
    session.lora_side = o->lora_side;
    session.cache_bytes_max = o->cache_bytes;
    session.rows_per_micro_max = o->rows_max;
    session.sequences_per_micro_max = o->sequences;
    session.micros_per_step_max = o->micros;
    session.pipeline_depth = o->depth;
    const seam_plan_client_args args = {
        .model = &r->model, .bf16_table = r->bf16_table, .f32 = o->f32, .session = &session};
    return seam_plan_client_make(&r->client, &args, err);
}

static seam_status split_check(const plan_options *o, uint32_t layers, seam_error *err) {
    if (o->front_blocks >= layers || o->tail_blocks >= layers - o->front_blocks) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--front-blocks, --tail-blocks: of the model's %u blocks the server "
                              "has at least one",
                              layers);
    }
    return o->lora_side != NULL && o->front_blocks == 0 && o->tail_blocks == 0
               ? seam_error_set(err, SEAM_E_ARG,
                                "--lora-side: without --front-blocks or --tail-blocks all of LoRA "
                                "is the server's")
               : SEAM_OK;
}

static seam_status sizes_check(const plan_options *o, seam_error *err) {
    if ((is_lora(o) && o->rank > SEAM_LORA_RANK_MAX) || o->rows_max > SEAM_ROWS_MAX ||
        o->prefix_tokens > SEAM_PREFIX_MAX) {
        return seam_error_set(
            err, SEAM_E_ARG,
            "--rank is at most %u, --rows-max at most %u, --prefix-tokens at most "
            "%u",
            SEAM_LORA_RANK_MAX, SEAM_ROWS_MAX, (uint32_t)SEAM_PREFIX_MAX);
    }
    return SEAM_OK;
}

static seam_status plan_make(plan_result *ret, const plan_options *o, seam_error *err) {
    plan_result r = {0};
    seam_ops types = {0};
    uint32_t copies = 0;
    seam_adapter_config adapter = {.kind = o->full                 ? SEAM_ADAPTER_FULL
                                           : o->prefix_tokens != 0 ? SEAM_ADAPTER_PREFIX
                                                                   : SEAM_ADAPTER_LORA,
                                   .lora = {.rank = is_lora(o) ? o->rank : 0, .alpha = 1},
                                   .prefix = {.tokens = o->prefix_tokens}};
    SEAM_TRY(model_read(&r, o, err));
    SEAM_TRY(types_read(&types, &copies, o, err));
    if (is_lora(o)) {
        SEAM_TRY(targets_read(&adapter.lora.targets, &r, o, err));
    }
    SEAM_TRY(sizes_check(o, err));
    SEAM_TRY(split_check(o, r.model.layers, err));
    const seam_memory_blocks all = {.model = &r.model, .ops = &types, .layer_end = r.model.layers};
    const seam_memory_blocks blocks = {.model = &r.model,
                                       .ops = &types,
                                       .layer_begin = o->front_blocks,
                                       .layer_end = r.model.layers - o->tail_blocks};
    const seam_activations_options options = {.adapter = &adapter,
                                              .rows_max = o->rows_max,
                                              .seqs_max = o->sequences,
                                              .recompute = o->recompute,
                                              .fp8 = o->fp8};
    r.weight_bytes = seam_memory_plan_weights(&all, copies);
    if (training_add(&r.session, &blocks, &options, o->depth) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_LIMIT, "the session is too large to address");
    }
    if (o->prefix_bits != 0.0f) {
        seam_prefix_quantizer_plan(&r.session, &blocks, &adapter.prefix, false, on_cuda(o));
    }
    seam_memory_plan kept = {0};
    if (on_cuda(o)) {
        seam_memory_plan_repeats(&kept, &blocks, &adapter);
        seam_memory_plan_repeats(&r.session, &blocks, &adapter);
    }
    SEAM_TRY(codec_add(&r.session, o, r.model.hidden, err));
    SEAM_TRY(client_make(&r, o, adapter.lora.targets, err));
    const uint64_t memory = (uint64_t)((double)o->memory_gib * 0x1p30);
    const uint64_t taken = r.weight_bytes + SEAM_MEMORY_WORKSPACE_BYTES;
    const uint64_t taken_by_one = taken + seam_memory_plan_device_bytes(&kept);
    if (memory > taken) {
        r.sessions = (memory - taken) / seam_memory_plan_device_bytes(&r.session);
    }
    if (memory > taken_by_one) {
        r.rows_largest = rows_fit(&blocks, &options, o->depth, memory - taken_by_one);
    }
    *ret = r;
    return SEAM_OK;
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

static bool weights_fit(const plan_options *o, const plan_result *r);

static void print_json(const plan_options *o, const plan_result *r) {
    json_t *const value =
        json_pack("{s:s,s:s,s:s,s:b,s:i,s:s,s:b,s:b,s:I,s:o,s:o,s:I,s:I}", "model", r->model.name,
                  "device", o->device, "dtype", o->dtype, "full", (int)o->full, "rows_max",
                  (int)o->rows_max, "codec", o->codec, "recompute", (int)o->recompute, "fp8",
                  (int)o->fp8, "weight_bytes", (json_int_t)r->weight_bytes, "session_device",
                  kinds_json(r->session.device), "session_host", kinds_json(r->session.host),
                  "session_device_bytes", (json_int_t)seam_memory_plan_device_bytes(&r->session),
                  "session_host_bytes", (json_int_t)seam_memory_plan_host_bytes(&r->session));
    if (o->prefix_tokens != 0) {
        json_object_set_new(value, "prefix_tokens", json_integer(o->prefix_tokens));
        json_object_set_new(value, "prefix_bits", json_real((double)o->prefix_bits));
    }
    if (is_lora(o)) {
        json_object_set_new(value, "rank", json_integer(o->rank));
        json_object_set_new(value, "targets", json_string(r->targets));
    }
    json_object_set_new(value, "pipeline_depth", json_integer(o->depth));
    json_object_set_new(value, "client", seam_plan_client_json(&r->client));
    if (o->memory_gib > 0) {
        const uint64_t tokens = r->sessions * o->rows_max;
        json_object_set_new(value, "weights_fit", json_boolean(weights_fit(o, r)));
        json_object_set_new(value, "sessions", json_integer((json_int_t)r->sessions));
        json_object_set_new(value, "tokens_in_flight", json_integer((json_int_t)tokens));
        json_object_set_new(value, "rows_max_of_one", json_integer((json_int_t)r->rows_largest));
    }
    seam_cli_print_json(value);
    json_decref(value);
}

static bool weights_fit(const plan_options *o, const plan_result *r) {
    return (double)o->memory_gib * 0x1p30 > (double)(r->weight_bytes + SEAM_MEMORY_WORKSPACE_BYTES);
}

static void print_text(const plan_options *o, const plan_result *r) {
    char weights[SEAM_MEMORY_TEXT_BYTES], workspace[SEAM_MEMORY_TEXT_BYTES];
    char device[SEAM_MEMORY_TEXT_BYTES], host[SEAM_MEMORY_TEXT_BYTES];
    seam_memory_bytes_text(weights, r->weight_bytes);
    seam_memory_bytes_text(workspace, SEAM_MEMORY_WORKSPACE_BYTES);
    seam_memory_text(device, r->session.device);
    seam_memory_text(host, r->session.host);
    char adapter[64] = "full fine-tuning";
    if (o->prefix_tokens != 0) {
        snprintf(adapter, sizeof adapter, "a prefix of %u tokens%s", o->prefix_tokens,
                 o->prefix_bits != 0.0f ? ", quantized" : "");
    } else if (!o->full) {
        snprintf(adapter, sizeof adapter, "LoRA rank %u on %.40s", o->rank, r->targets);
    }
    printf("%s on %s in %s%s; %s, %u tokens a micro-batch, codec %s%s\n"
           "weights          %s, shared by all sessions\n"
           "a session takes  %s on the device\n"
           "                 %s on the host\n",
           r->model.name, o->device, o->dtype, o->fp8 ? " and FP8" : "", adapter, o->rows_max,
           o->codec, o->recompute ? ", recompute" : "", weights, device, host);
    seam_plan_client_print(&r->client);
    if (o->memory_gib > 0 && !weights_fit(o, r)) {
        printf("in %.1f GiB      nothing: the weights and %s of workspace alone do not fit\n",
               (double)o->memory_gib, workspace);
    } else if (o->memory_gib > 0) {
        const uint64_t tokens = r->sessions * o->rows_max;
        printf("in %.1f GiB      %llu sessions, %llu tokens in flight; one session alone: "
               "micro-batches of up to %llu\n",
               (double)o->memory_gib, (unsigned long long)r->sessions, (unsigned long long)tokens,
               (unsigned long long)r->rows_largest);
    }
}

int seam_cmd_plan(int argc, char **argv, int first) {
    plan_options o = {.device = "cuda",
                      .dtype = "bf16",
                      .codec = "amaq",
                      .rank = RANK_UNSET,
                      .rows_max = SEAM_ROWS_PER_MICRO_DEFAULT,
                      .sequences = SEQUENCES_DEFAULT,
                      .depth = DEPTH_DEFAULT,
                      .micros = 1,
                      .cache_bytes = CACHE_BYTES_DEFAULT};
    plan_result result = {0};
    seam_error err = {0};
    const seam_arg_table tables[] = {{seam_common_specs, &o.common}, {plan_specs, &o}};
    uint32_t count = 0;
    const char *positional[1] = {NULL};
    seam_status st = seam_args_parse(&count, positional, 1, tables, 2, argc, argv, first, &err);
    if (st == SEAM_OK && o.common.help) {
        printf(
            "usage: seam plan --model PATH | --shape NAME [options]\n\n"
            "Memory that a model and one session of it take on a server, and at the client.\n\n");
        seam_args_help(plan_specs);
        seam_args_help(seam_common_specs);
        return SEAM_EXIT_OK;
    }
    o.model = count == 1 ? positional[0] : o.model;
    if (st == SEAM_OK && o.depth > DEPTH_MAX) {
        st = seam_error_set(&err, SEAM_E_ARG, "--pipeline-depth: 1 to %u", DEPTH_MAX);
    }
    if (st == SEAM_OK) {
        st = adapter_check(&o, &err);
    }
    if (st != SEAM_OK) {
        return seam_cli_usage(&err, "plan");
    }
    o.rank = o.rank == RANK_UNSET ? SEAM_LORA_RANK_DEFAULT : o.rank;
    st = plan_make(&result, &o, &err);
    if (st == SEAM_OK && o.common.json) {
        print_json(&o, &result);
    } else if (st == SEAM_OK) {
        print_text(&o, &result);
    }
    return seam_cli_finish(st, &err, &o.common);
}
