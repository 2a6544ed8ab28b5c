/* See train_options.h. */
#include "train_options.h"

#include <stdio.h>
#include <string.h>

#include "codec.h"
#include "data.h"
#include "shared_options.h"
#include "try.h"

#define OPTION(name, kind, member, value, help)                                                    \
    SEAM_OPTION(seam_train_options, name, kind, member, value, help)

static const seam_arg_spec run_specs[] = {
    OPTION("model", SEAM_ARG_TEXT, model, "PATH",
           "model folder or .gguf file; only its embedding, "
           "norm and head are loaded, and the blocks of --front-blocks, --tail-blocks"),
    OPTION("data", SEAM_ARG_TEXT, data, "FILE", "training rows: JSONL, may be gzipped"),
    OPTION("eval-data", SEAM_ARG_TEXT, eval_data, "FILE",
           "rows to evaluate on before and after; accuracy where they have choices and label"),
    OPTION("out", SEAM_ARG_TEXT, out, "DIR", "run folder: adapter/, report.json, report.html"),
    OPTION("resume", SEAM_ARG_TEXT, resume, "DIR",
           "go on with the run of this folder, from where it ended; other options are those of "
           "the run, and of them only these may change: server, threads, quiet, json"),
    SEAM_OPTION_PRESET(seam_train_options),
    SEAM_OPTION_STEPS(seam_train_options),
    SEAM_OPTION_BATCH(seam_train_options),
    SEAM_OPTION_TRAIN_ROWS(seam_train_options),
    SEAM_OPTION_ROWS_MAX(seam_train_options),
    OPTION(
        "pipeline-depth", SEAM_ARG_TEXT, pipeline_depth, "N|auto",
        "micro-batches of a step on their way at once, up to 8: same result, the server keeps "
        "activations of each; auto follows what steps measure, up to 2, or 8 where the server is "
        "5 ms away or more, and as far as it has room [auto; 1 where each gradient is waited for]"),
    SEAM_OPTION_TOKENS_MAX(seam_train_options),
    SEAM_OPTION_TRUNCATE(seam_train_options),
    SEAM_OPTION_SEED(seam_train_options),
    OPTION("save-every", SEAM_ARG_COUNT, save_every, "N",
           "steps between saved adapters [50; with --full at the end]"),
    SEAM_OPTION_ADAPTER(seam_train_options),
    SEAM_OPTION_SERVER_MODEL(seam_train_options),
    SEAM_OPTION_TOPOLOGY(seam_train_options),
    SEAM_OPTION_CONSENT(seam_train_options),
    SEAM_OPTION_RESEND(seam_train_options),
    OPTION("recompute", SEAM_ARG_FLAG, recompute, NULL,
           "the server computes layers again instead of keeping them: same result, less memory"),
    OPTION("fp8", SEAM_ARG_FLAG, fp8, NULL,
           "the server's frozen products run in FP8 (seamd --fp8)"),
    OPTION("front-blocks", SEAM_ARG_U32, front_blocks, "K",
           "the model's first K blocks are computed here, the server has the rest [0]"),
    SEAM_OPTION_TAIL_BLOCKS(seam_train_options),
    OPTION("name", SEAM_ARG_TEXT, name, "TEXT", "the session's name, for people"),
    OPTION("delete-session", SEAM_ARG_FLAG, delete_session, NULL,
           "delete the session when the run is done; one that was cut keeps it"),
    OPTION("threads", SEAM_ARG_U32, threads, "N",
           "threads of what is computed here; 0: all cores [0]"),
    OPTION("f32", SEAM_ARG_FLAG, f32, NULL, "compute in f32 here even with bf16 units"),
    OPTION("device", SEAM_ARG_TEXT, device, "NAME",
           "what computes here: cpu, or cuda:N where built with CUDA [cpu]"),
    OPTION("trace", SEAM_ARG_TEXT, trace, "FILE",
           "a timeline of the last steps as Chrome trace JSON, for Perfetto"),
    SEAM_OPTION_MBIT(seam_train_options),
    SEAM_OPTION_RTT_MS(seam_train_options),
    SEAM_OPTION_SERVER_TOKENS(seam_train_options),
    {NULL, SEAM_ARG_FLAG, 0, NULL, NULL},
};

static const seam_arg_spec adapter_specs[] = {
    SEAM_OPTION_RANK(seam_train_options),
    OPTION("alpha", SEAM_ARG_POSITIVE, alpha, "X", "LoRA alpha [16]"),
    OPTION("rslora", SEAM_ARG_FLAG, rslora, NULL, "scale by alpha / sqrt(rank), not alpha / rank"),
    OPTION("dropout", SEAM_ARG_WEIGHT, dropout, "X",
           "share of LoRA's inputs that a step drops, 0 to 0.95 [0]"),
    SEAM_OPTION_TARGETS(seam_train_options),
    OPTION("lora-side", SEAM_ARG_TEXT, lora_side, "WHERE",
           "with blocks here: whose have LoRA, server, client or both [both]"),
    OPTION("prefix-tokens", SEAM_ARG_COUNT, prefix_tokens, "N",
           "prefix tuning instead of LoRA: virtual tokens before every row (the paper: 30) [LoRA]"),
    OPTION("full", SEAM_ARG_FLAG, full, NULL,
           "full fine-tuning instead of LoRA: every matrix, norm and bias of the server's blocks"),
    OPTION("lr", SEAM_ARG_POSITIVE, lr, "X", "learning rate [1e-4]"),
    OPTION("schedule", SEAM_ARG_TEXT, schedule, "NAME", "constant, linear, cosine [constant]"),
    OPTION("warmup", SEAM_ARG_U64, warmup, "N", "steps of warm-up [0]"),
    OPTION("weight-decay", SEAM_ARG_WEIGHT, weight_decay, "X", "decoupled weight decay [0]"),
    OPTION("clip-norm", SEAM_ARG_WEIGHT, clip_norm, "X", "global gradient norm; 0: no limit [1]"),
    OPTION("adam-beta1", SEAM_ARG_POSITIVE, adam_beta1, "X", "[0.9]"),
    OPTION("adam-beta2", SEAM_ARG_POSITIVE, adam_beta2, "X", "[0.999]"),
    OPTION("adam-eps", SEAM_ARG_POSITIVE, adam_eps, "X", "[1e-8]"),
    {NULL, SEAM_ARG_FLAG, 0, NULL, NULL},
};

const seam_arg_spec seam_train_codec_specs[] = {
    OPTION(
        "codec", SEAM_ARG_TEXT, codec, "NAME",
        "amaq, affine, tensor, channel, group, aqsgd, bf16, f32 [amaq; adapter_exchange: affine]"),
    OPTION("bits", SEAM_ARG_COUNT, bits, "N",
           "affine, tensor, channel, group, aqsgd: width of every value [4]"),
    OPTION("group", SEAM_ARG_COUNT, group, "N",
           "group: channels that share a scale [largest divisor of the hidden size up to 128]"),
    OPTION("codec-fwd-in", SEAM_ARG_TEXT, codec_fwd_in, "NAME",
           "of the client's activations, where it differs: f32, bf16 [codec]"),
    OPTION("dictionary", SEAM_ARG_ONOFF, dictionary, "on|off",
           "the client's activations travel once a token, then as an index: exact, in place of "
           "codec-fwd-in [off]"),
    OPTION("entropy", SEAM_ARG_TEXT, entropy, "NAME", "coder of the codes: none, rans [none]"),
    OPTION("dictionary-rows", SEAM_ARG_COUNT, dictionary_rows, "N",
           "dictionary: rows that it keeps [65536]"),
    SEAM_OPTION_CACHE_BYTES(seam_train_options),
    OPTION("cache-format", SEAM_ARG_TEXT, cache_format, "NAME", "aqsgd: fp16, quantized [fp16]"),
    OPTION("cache-dir", SEAM_ARG_TEXT, cache_dir, "DIR",
           "aqsgd: this end's caches go into files there [memory]"),
    OPTION("cache-bits", SEAM_ARG_COUNT, cache_bits, "N", "aqsgd, quantized: width [8]"),
    OPTION("target", SEAM_ARG_POSITIVE, target, "N", "amaq: mean bits; 4 and 3 are preset [4]"),
    OPTION("bits-min", SEAM_ARG_POSITIVE, bits_min, "X", "amaq: smallest width [by target]"),
    OPTION("bits-max", SEAM_ARG_POSITIVE, bits_max, "X", "amaq: largest width [by target]"),
    OPTION("bits-start", SEAM_ARG_POSITIVE, bits_start, "X",
           "amaq: width at the start [by target]"),
    OPTION("beta", SEAM_ARG_POSITIVE, beta, "X",
           "amaq: weight of the bits loss [0.02 * channels/4096]"),
    OPTION("bits-lr", SEAM_ARG_POSITIVE, bits_lr, "X", "amaq: learning rate of the gates [0.01]"),
    OPTION("beta-after", SEAM_ARG_POSITIVE, beta_after, "X",
           "beta once the target was reached [beta]"),
    OPTION("bits-lr-after", SEAM_ARG_POSITIVE, bits_lr_after, "X",
           "bits-lr once the target was reached [0.3 * bits-lr]"),
    OPTION("gate-alpha", SEAM_ARG_POSITIVE, gate_alpha, "X", "amaq: slope of the gates [1]"),
    OPTION("bits-loss", SEAM_ARG_TEXT, bits_loss, "NAME", "l2, l1 [l2]"),
    OPTION("clip", SEAM_ARG_TEXT, clip, "NAME", "of the mean width: soft, hard [soft]"),
    OPTION("gate-signal", SEAM_ARG_TEXT, gate_signal, "NAME", "surrogate, exact [surrogate]"),
    OPTION(
        "allocator", SEAM_ARG_TEXT, allocator, "NAME",
        "amaq: who sets the widths: gates, waterfill [waterfill; gates with --preset or an option "
        "that is theirs: beta, bits-lr, either -after, gate-alpha, bits-loss, clip, gate-signal "
        "exact, granularity "
        "token]"),
    OPTION("granularity", SEAM_ARG_TEXT, granularity, "NAME",
           "amaq: what has a width of its own: feature, token (a place in the row) [feature]"),
    OPTION("steps-to-target", SEAM_ARG_COUNT64, steps_to_target, "N",
           "amaq: step at which the mean is to be the target; gates: instead of beta and bits-lr, "
           "which are then set every step [40 % of the steps; waterfill with rate auto: at once; "
           "gates with --preset, beta, bits-lr or either -after: none]"),
    OPTION("all-layer-bits", SEAM_ARG_POSITIVE, all_layer_bits, "N",
           "the server quantizes between its own blocks too, in training: mean bits that its gates "
           "fall to, above 1 and below 8 [off]"),
    OPTION("all-layer-steps", SEAM_ARG_COUNT, all_layer_steps, "N",
           "step at which they are to be there [steps-to-target, else 40 % of the steps]"),
    OPTION(
        "prefix-bits", SEAM_ARG_POSITIVE, prefix_bits, "N",
        "with --prefix-tokens: the server quantizes the prefix's keys and values in training: mean "
        "bits that their gates fall to, above 1 and below 8 [off]"),
    OPTION("prefix-steps", SEAM_ARG_COUNT, prefix_steps, "N",
           "step at which they are to be there [steps-to-target, else 40 % of the steps]"),
    OPTION("rate", SEAM_ARG_TEXT, rate, "NAME",
           "amaq: who sets the target: off (--target), auto: the link's bandwidth [off]"),
    OPTION("rate-bits-min", SEAM_ARG_POSITIVE, rate_bits_min, "X", "rate auto: least target [3]"),
    OPTION("rate-bits-max", SEAM_ARG_POSITIVE, rate_bits_max, "X",
           "rate auto: largest [bits-start]"),
    OPTION("step-seconds", SEAM_ARG_POSITIVE, step_seconds, "X",
           "rate auto: what a step may take [twice its compute time]"),
    OPTION("alloc-lag", SEAM_ARG_COUNT, alloc_lag, "N", "steps from a proposal to its use [2]"),
    OPTION("labelled-rows-only", SEAM_ARG_ONOFF, labelled_rows_only, "on|off",
           "only labelled rows return and go back: same result, fewer bytes [on]"),
    OPTION(
        "distinct-rows-only", SEAM_ARG_ONOFF, distinct_rows_only, "on|off",
        "the client's activations travel once a token of a micro-batch: same result, fewer bytes "
        "[on]"),
    OPTION("elide-input-gradient", SEAM_ARG_ONOFF, elide_input_gradient, "on|off",
           "the gradient of the client's activations travels only with gate-signal exact: same "
           "result, fewer bytes [on]"),
    {NULL, SEAM_ARG_FLAG, 0, NULL, NULL},
};

static const seam_arg_spec eval_specs[] = {
    OPTION("eval-rows", SEAM_ARG_COUNT, eval_rows, "N", "rows of --eval-data to use [all]"),
    OPTION("eval-quantized", SEAM_ARG_TEXT, eval_quantized, "WHICH",
           "after training: without the quantizers (off), with (on), both [both]"),
    OPTION("eval-before", SEAM_ARG_ONOFF, eval_before, "on|off", "evaluate the base model [on]"),
    SEAM_OPTION_EXACT_MATCH(seam_train_options),
    OPTION("eval-new-tokens", SEAM_ARG_COUNT, eval_new_tokens, "N",
           "longest generated text [longest completion + 16, at most 512]"),
    OPTION("eval-slots", SEAM_ARG_COUNT, eval_slots, "N", "texts generated at once [16]"),
    {NULL, SEAM_ARG_FLAG, 0, NULL, NULL},
};

#define BITS_LR_AFTER 0.3f
#define FALL_PERCENT  40u /* of the steps: where waterfill reaches the target */

static uint64_t fall_steps(const seam_train_options *o);
static void codec_default(seam_train_options *o);
static void allocator_choose(seam_train_options *o);
static seam_status codec_settle(seam_train_options *o, seam_error *err);
static seam_status consent_check(const seam_train_options *o, seam_error *err);
static seam_status needed_check(const seam_train_options *o, seam_error *err);

static uint32_t or_u32(uint32_t value, uint32_t fallback) {
    return value != 0 ? value : fallback;
}

static float or_f32(float value, float fallback) {
    return value != 0.0f ? value : fallback;
}

seam_status seam_train_options_parse(seam_train_options *ret_options, int argc, char **argv,
                                     int first, seam_error *err) {
    seam_train_options_init(ret_options);
    SEAM_TRY(seam_train_options_read(ret_options, NULL, argc, argv, first, err));
    if (ret_options->common.help) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_train_given_check(ret_options, err));
    return seam_train_options_finish(ret_options, err);
}

void seam_train_options_init(seam_train_options *ret_options) {
    *ret_options = (seam_train_options){.labelled_rows_only = true,
                                        .elide_input_gradient = true,
                                        .distinct_rows_only = true,
                                        .eval_before = true,
                                        .exact_match = true,
                                        .clip_norm = 1.0f,
                                        .eval_quantized = "both"};
}

seam_status seam_train_options_read(seam_train_options *options, const seam_arg_table *extra,
                                    int argc, char **argv, int first, seam_error *err) {
    static const seam_arg_spec none[] = {{NULL, SEAM_ARG_FLAG, 0, NULL, NULL}};
    seam_train_options *const o = options;
    const seam_arg_table tables[] = {
        {extra != NULL ? extra->specs : none, extra != NULL ? extra->target : NULL},
        {seam_common_specs, &o->common},
        {seam_server_specs, &o->server},
        {run_specs, o},
        {adapter_specs, o},
        {seam_train_codec_specs, o},
        {eval_specs, o}};
    uint32_t count = 0;
    const char *positional[1];
    return seam_args_parse(&count, positional, 0, tables, sizeof tables / sizeof *tables, argc,
                           argv, first, err);
}

seam_status seam_train_options_finish(seam_train_options *options, seam_error *err) {
    SEAM_TRY(seam_train_options_settle(options, err));
    return needed_check(options, err);
}

seam_status seam_train_options_settle(seam_train_options *options, seam_error *err) {
    seam_train_options *const o = options;
    const seam_status taken = seam_train_adapter_take(o, err);
    /* A run that goes on has long taken it; one of an earlier release does not say what it was. */
    if (taken != SEAM_OK && (o->resume == NULL || o->adapter_stated != NULL)) {
        return taken;
    }
    SEAM_TRY(seam_train_adapter_check(o, err));
    SEAM_TRY(seam_train_preset_apply(o, err));
    o->steps = or_u32(o->steps, SEAM_STEPS_DEFAULT);
    o->batch = or_u32(o->batch, SEAM_BATCH_DEFAULT);
    o->rows_max = or_u32(o->rows_max, SEAM_ROWS_PER_MICRO_DEFAULT);
    o->save_every = or_u32(o->save_every, o->full ? o->steps : 50);
    o->topology = o->topology != NULL ? o->topology : "u_shaped";
    if (o->prefix_tokens == 0 && !o->full) {
        o->rank = or_u32(o->rank, SEAM_LORA_RANK_DEFAULT);
        o->alpha = or_f32(o->alpha, 16.0f);
    }
    o->lr = or_f32(o->lr, 1e-4f);
    o->adam_beta1 = or_f32(o->adam_beta1, 0.9f);
    o->adam_beta2 = or_f32(o->adam_beta2, 0.999f);
    o->adam_eps = or_f32(o->adam_eps, 1e-8f);
    SEAM_TRY(codec_settle(o, err));
    o->targets_by_model = o->targets == NULL && o->prefix_tokens == 0 && !o->full;
    o->targets = o->targets != NULL ? o->targets : "q,v";
    SEAM_TRY(consent_check(o, err));
    SEAM_TRY(seam_train_ranges_check(o, err));
    uint32_t targets = 0;
    return seam_targets_parse(&targets, o->targets, err);
}

static seam_status codec_settle(seam_train_options *o, seam_error *err) {
    o->codec = seam_train_codec(o);
    codec_default(o);
    if (o->all_layer_bits != 0.0f && o->all_layer_steps == 0 && o->steps_to_target == 0) {
        o->all_layer_steps = (uint32_t)fall_steps(o);
    }
    if (o->prefix_bits != 0.0f && o->prefix_steps == 0 && o->steps_to_target == 0) {
        o->prefix_steps = (uint32_t)fall_steps(o);
    }
    if (o->rate != NULL && strcmp(o->rate, "auto") != 0 && strcmp(o->rate, "off") != 0) {
        return seam_error_set(err, SEAM_E_ARG, "--rate: '%s' is not off or auto", o->rate);
    }
    if (o->dictionary && o->codec_fwd_in != NULL) {
        return seam_error_set(err, SEAM_E_ARG, "--dictionary on and --codec-fwd-in: one of them");
    }
    o->codec_fwd_in = o->dictionary ? "dictionary" : o->codec_fwd_in;
    return SEAM_OK;
}

bool seam_train_exchanges(const seam_train_options *options) {
    const char *const topology = options->topology;
    return topology != NULL && strcmp(topology, "adapter_exchange") == 0;
}

const char *seam_train_codec(const seam_train_options *options) {
    const bool modules = seam_train_exchanges(options);
    return options->codec != NULL ? options->codec : modules ? "affine" : "amaq";
}

static void codec_default(seam_train_options *o) {
    seam_codec_id id = SEAM_CODEC_F32;
    const bool known = seam_codec_from_name(&id, o->codec);
    if (known && seam_codec_has_gates(id)) {
        o->target = or_f32(o->target, 4.0f);
        allocator_choose(o);
        o->bits_lr = or_f32(o->bits_lr, 0.01f);
        o->alloc_lag = or_u32(o->alloc_lag, 2);
    } else if (known && seam_codec_has_widths(id)) {
        o->bits = or_u32(o->bits, 4);
    }
}

static uint64_t fall_steps(const seam_train_options *o) {
    return ((uint64_t)o->steps * FALL_PERCENT + 99) / 100;
}

/* Waterfill is the better allocator at equal bits (tests/bench/RESULTS.md).  The gates are for who
 * asks for the paper's method, by name or by an option that only gates have.  Either is at its
 * target after a part of the steps, but for gates whose pressure is given: by hand, or as the
 * paper's. */
static void allocator_choose(seam_train_options *o) {
    const bool pressed = o->preset != NULL || o->beta != 0.0f || o->bits_lr != 0.0f ||
                         o->beta_after != 0.0f || o->bits_lr_after != 0.0f;
    const bool token = o->granularity != NULL && strcmp(o->granularity, "token") == 0;
    const bool exact = o->gate_signal != NULL && strcmp(o->gate_signal, "exact") == 0;
    const bool gates = pressed || o->gate_alpha != 0.0f || o->bits_loss != NULL ||
                       o->clip != NULL || token || exact;
    if (o->allocator == NULL) {
        o->allocator = gates ? "gates" : "waterfill";
    }
    const bool rate_auto = o->rate != NULL && strcmp(o->rate, "auto") == 0;
    const bool paced = strcmp(o->allocator, "waterfill") == 0 || !pressed;
    if (o->steps_to_target == 0 && paced && !rate_auto) {
        o->steps_to_target = fall_steps(o);
    }
}

/* The bits loss is a mean over channels, so one channel feels beta/C: the paper's beta, found at
 * C = 4096 and 3584, presses all channels of a small model down alike and flattens their widths
 * (tests/bench/RESULTS.md).  The same pressure a channel keeps it in balance with the task's
 * gradient.  For the same reason only the rate falls once the target is reached, not beta. */
void seam_train_options_scale(seam_train_options *options, uint32_t hidden) {
    seam_train_options *const o = options;
    const uint32_t channels = seam_train_exchanges(o) && o->prefix_tokens == 0 ? o->rank : hidden;
    o->beta = or_f32(o->beta, o->beta_paper * (float)channels / o->channels_paper);
    o->beta_after = or_f32(o->beta_after, o->beta);
    o->bits_lr_after = or_f32(o->bits_lr_after, BITS_LR_AFTER * o->bits_lr);
}

/* Before anything is loaded. */
static seam_status consent_check(const seam_train_options *o, seam_error *err) {
    const bool vanilla = strcmp(o->topology, "vanilla") == 0;
    const bool exchange = strcmp(o->topology, "adapter_exchange") == 0;
    const bool text = o->consent != NULL && strcmp(o->consent, "text") == 0;
    const bool labels = text || (o->consent != NULL && strcmp(o->consent, "labels") == 0);
    if (o->consent != NULL && !labels) {
        return seam_error_set(err, SEAM_E_ARG, "--consent: '%s' is not labels or text", o->consent);
    }
    if ((vanilla && !labels) || (exchange && !text)) {
        return seam_error_set(
            err, SEAM_E_ARG,
            "--consent: --topology %s shows %s to the server; say --consent %s if "
            "it may",
            o->topology, vanilla ? "labels" : "text and labels", vanilla ? "labels" : "text");
    }
    if (!vanilla && !exchange && strcmp(o->topology, "u_shaped") != 0) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--topology: '%s' is not u_shaped, vanilla or adapter_exchange",
                              o->topology);
    }
    return SEAM_OK;
}

/* What a run needs. */
static seam_status needed_check(const seam_train_options *o, seam_error *err) {
    if (o->model == NULL || o->data == NULL || o->out == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "--%s is needed",
                              o->model == NULL  ? "model"
                              : o->data == NULL ? "data"
                                                : "out");
    }
    if (strcmp(o->eval_quantized, "both") != 0 && strcmp(o->eval_quantized, "on") != 0 &&
        strcmp(o->eval_quantized, "off") != 0) {
        return seam_error_set(err, SEAM_E_ARG, "--eval-quantized: '%s' is not on, off or both",
                              o->eval_quantized);
    }
    return SEAM_OK;
}

/* What the server quantizes for itself. */
static void own_gates_fill(seam_session_options *s, const seam_train_options *o) {
    s->all_layer_bits = o->all_layer_bits;
    s->all_layer_steps = o->all_layer_steps;
    s->prefix_bits = o->prefix_bits;
    s->prefix_steps = o->prefix_steps;
}

seam_status seam_train_session_options(seam_session_options *ret_session,
                                       const seam_train_options *o, seam_error *err) {
    seam_session_options s = SEAM_SESSION_OPTIONS_INIT;
    s.model = o->server_model;
    s.recompute = o->recompute;
    s.fp8 = o->fp8;
    s.topology = o->topology;
    s.consent = o->consent;
    s.resend_parameters = o->resend_parameters;
    s.name = o->name;
    s.front_blocks = o->front_blocks;
    s.tail_blocks = o->tail_blocks;
    s.lora_side = o->lora_side;
    s.codec = o->codec;
    s.codec_fwd_in = o->codec_fwd_in;
    s.bits = o->bits;
    s.group = o->group;
    s.entropy = o->entropy;
    s.dictionary_rows_max = o->dictionary_rows;
    s.cache_bytes_max = o->cache_bytes;
    s.cache_format = o->cache_format;
    s.cache_bits = o->cache_bits;
    s.cache_dir = o->cache_dir;
    s.allocator = o->allocator;
    s.granularity = o->granularity;
    s.steps_to_target = o->steps_to_target;
    s.rate_auto = o->rate != NULL && strcmp(o->rate, "auto") == 0;
    s.rate_bits_min = o->rate_bits_min;
    s.rate_bits_max = o->rate_bits_max;
    s.step_seconds = o->step_seconds;
    s.all_rows = !o->labelled_rows_only;
    s.send_input_gradient = !o->elide_input_gradient;
    s.repeat_rows = !o->distinct_rows_only;
    s.seed = o->seed;
    s.bits_target = o->target;
    s.bits_min = o->bits_min;
    s.bits_max = o->bits_max;
    s.bits_start = o->bits_start;
    s.alpha = o->gate_alpha;
    s.beta = o->beta;
    s.bits_lr = o->bits_lr;
    s.beta_after = o->beta_after;
    s.bits_lr_after = o->bits_lr_after;
    s.bits_loss = o->bits_loss;
    s.clip = o->clip;
    s.gate_signal = o->gate_signal;
    s.alloc_lag_steps = o->alloc_lag;
    s.lr = o->lr;
    s.adam_beta1 = o->adam_beta1;
    s.adam_beta2 = o->adam_beta2;
    s.adam_eps = o->adam_eps;
    s.weight_decay = o->weight_decay;
    s.clip_norm = o->clip_norm;
    s.schedule = o->schedule;
    s.warmup_steps = o->warmup;
    s.total_steps = o->steps;
    s.prefix_tokens = o->prefix_tokens;
    s.full = o->full;
    own_gates_fill(&s, o);
    if (o->prefix_tokens == 0 && !o->full) {
        s.lora_rank = o->rank;
        s.lora_alpha = o->alpha;
        s.lora_rslora = o->rslora;
        s.lora_dropout = o->dropout;
        SEAM_TRY(seam_targets_parse(&s.lora_targets, o->targets, err));
    }
    *ret_session = s;
    return SEAM_OK;
}

json_t *seam_train_options_typed(const seam_train_options *options) {
    /* What names a run or says how it is carried out, but does not change what comes of it. */
    static const char *const idle[] = {"out",     "save-every", "name",   "delete-session",
                                       "threads", "mbit",       "rtt-ms", "server-tokens-per-s"};
    const seam_arg_spec *const tables[] = {run_specs, adapter_specs, seam_train_codec_specs,
                                           eval_specs};
    json_t *const typed = json_object();
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) {
        for (const seam_arg_spec *s = tables[t]; s->name != NULL; s++) {
            bool skipped = false;
            for (size_t i = 0; i < sizeof idle / sizeof *idle; i++) {
                skipped = skipped || strcmp(idle[i], s->name) == 0;
            }
            char number[SEAM_ARG_TEXT_BYTES];
            const char *const text = skipped ? NULL : seam_arg_show(number, s, options);
            if (text != NULL) {
                json_object_set_new(typed, s->name, json_string(text));
            }
        }
    }
    return typed;
}

json_t *seam_train_options_json(const seam_train_options *o) {
    json_t *const value = json_pack(
        "{s:s,s:s?,s:s?,s:s,s:i,s:i,s:i,s:I,s:i,s:f,s:s,s:f,s:s,s:I,s:f,s:f}", "data", o->data,
        "eval_data", o->eval_data, "preset", o->preset, "codec", o->codec, "steps", (int)o->steps,
        "batch", (int)o->batch, "rows_max", (int)o->rows_max, "seed", (json_int_t)o->seed, "rank",
        (int)o->rank, "alpha", (double)o->alpha, "targets", o->targets, "lr", (double)o->lr,
        "schedule", o->schedule != NULL ? o->schedule : "constant", "warmup", (json_int_t)o->warmup,
        "weight_decay", (double)o->weight_decay, "clip_norm", (double)o->clip_norm);
    if (o->full || o->prefix_tokens != 0) {
        json_object_set_new(value, o->full ? "full" : "prefix_tokens",
                            o->full ? json_true() : json_integer(o->prefix_tokens));
        json_object_del(value, "rank");
        json_object_del(value, "alpha");
        json_object_del(value, "targets");
    }
    json_object_set_new(value, "front_blocks", json_integer(o->front_blocks));
    json_object_set_new(value, "tail_blocks", json_integer(o->tail_blocks));
    if (o->front_blocks != 0 || o->tail_blocks != 0) {
        const char *const side = o->full ? "server" : "both";
        json_object_set_new(value, "lora_side",
                            json_string(o->lora_side != NULL ? o->lora_side : side));
    }
    if (o->all_layer_bits != 0.0f) {
        json_object_set_new(value, "all_layer_bits", json_real((double)o->all_layer_bits));
    }
    if (o->prefix_bits != 0.0f) {
        json_object_set_new(value, "prefix_bits", json_real((double)o->prefix_bits));
    }
    json_object_set_new(value, "topology", json_string(o->topology));
    json_object_set_new(value, "rslora", json_boolean(o->rslora));
    json_object_set_new(value, "dropout", json_real((double)o->dropout));
    json_object_set_new(value, "labelled_rows_only", json_boolean(o->labelled_rows_only));
    json_object_set_new(value, "elide_input_gradient", json_boolean(o->elide_input_gradient));
    json_object_set_new(value, "distinct_rows_only", json_boolean(o->distinct_rows_only));
    json_object_set_new(value, "codec_fwd_in",
                        json_string(o->codec_fwd_in != NULL ? o->codec_fwd_in : o->codec));
    json_object_set_new(value, "entropy", json_string(o->entropy != NULL ? o->entropy : "none"));
    seam_codec_id id = SEAM_CODEC_F32;
    const bool known = seam_codec_from_name(&id, o->codec);
    if (known && seam_codec_has_widths(id) && !seam_codec_has_gates(id)) {
        json_object_set_new(value, "bits", json_integer(o->bits));
    }
    if (strcmp(o->codec, "amaq") == 0) {
        json_t *const amaq = json_pack(
            "{s:f,s:f,s:f,s:f,s:f,s:s,s:s,s:s}", "target", (double)o->target, "beta",
            (double)o->beta, "bits_lr", (double)o->bits_lr, "beta_after", (double)o->beta_after,
            "bits_lr_after", (double)o->bits_lr_after, "bits_loss",
            o->bits_loss != NULL ? o->bits_loss : "l2", "clip", o->clip != NULL ? o->clip : "soft",
            "gate_signal", o->gate_signal != NULL ? o->gate_signal : "surrogate");
        json_object_set_new(amaq, "allocator", json_string(o->allocator));
        json_object_set_new(amaq, "granularity",
                            json_string(o->granularity != NULL ? o->granularity : "feature"));
        json_object_set_new(amaq, "rate", json_string(o->rate != NULL ? o->rate : "off"));
        json_object_set_new(amaq, "steps_to_target", json_integer((json_int_t)o->steps_to_target));
        json_object_update(value, amaq);
        json_decref(amaq);
    }
    return value;
}

void seam_train_options_help(void) {
    printf(
        "usage: seam train --server HOST:PORT --model PATH --data FILE --out DIR [options]\n\n"
        "Fine-tunes an adapter (LoRA or a prefix) or the blocks themselves on a Seam server; text, "
        "labels, embedding and head stay "
        "here.\nOUT gets adapter/ (PEFT; with --full the trained layers), report.json, report.html "
        "and session.json.\n\n"
        "Run:\n");
    seam_args_help(run_specs);
    printf("\nAdapter and optimizer:\n");
    seam_args_help(adapter_specs);
    printf("\nCompressor:\n");
    seam_args_help(seam_train_codec_specs);
    printf("\nEvaluation:\n");
    seam_args_help(eval_specs);
    printf("\nServer and output:\n");
    seam_args_help(seam_server_specs);
    seam_args_help(seam_common_specs);
}
