/* See plan_options.h. */
#include "plan_options.h"

#include <stdio.h>
#include <string.h>

#include "blocks.h"
#include "codec.h"
#include "plan_shapes.h"
#include "run_data.h"
#include "shared_options.h"
#include "try.h"

#define MEMORY_GIB_MAX 1e9f /* counts of bytes are of 64 bits */

#define RUN(name, kind, member, value, help)                                                       \
    SEAM_OPTION(seam_train_options, name, kind, member, value, help)
#define OWN(name, kind, member, value, help)                                                       \
    SEAM_OPTION(seam_plan_options, name, kind, member, value, help)

static const seam_arg_spec model_specs[] = {
    OWN("shape", SEAM_ARG_TEXT, shape, "NAME",
        "a published model's shape instead of --model: " SEAM_PLAN_SHAPES),
    OWN("device", SEAM_ARG_TEXT, device, "NAME", "of the server: cuda, cpu [cuda]"),
    OWN("dtype", SEAM_ARG_TEXT, dtype, "NAME", "of the server: bf16, f32 [bf16]"),
    OWN("memory", SEAM_ARG_POSITIVE, memory_gib, "GIB",
        "of the device: how many sessions and tokens fit"),
    OWN("micros", SEAM_ARG_COUNT, micros, "N",
        "micro-batches of a step, all full [1; as --data or --tokens-max and --batch want]"),
    OWN("sequences-max", SEAM_ARG_COUNT, sequences, "N",
        "sequences of one micro-batch [64; with --data or --tokens-max: --batch]"),
    OWN("join-rank", SEAM_ARG_COUNT, join_rank, "R",
        "of seamd --join-rank: room for LoRA beside q, k and v [16 on cuda in bf16]"),
    OWN("join-mlp-rank", SEAM_ARG_COUNT, join_mlp_rank, "R",
        "of seamd --join-mlp-rank: the same beside gate and up [none]"),
    OWN("insecure", SEAM_ARG_FLAG, plaintext, NULL,
        "the server is reached without TLS, of which bytes are left out then"),
    {NULL, SEAM_ARG_FLAG, 0, NULL, NULL},
};

static const seam_arg_spec run_specs[] = {
    RUN("model", SEAM_ARG_TEXT, model, "PATH", "model folder or .gguf file"),
    SEAM_OPTION_PRESET(seam_train_options),
    SEAM_OPTION_ADAPTER(seam_train_options),
    SEAM_OPTION_RANK(seam_train_options),
    SEAM_OPTION_TARGETS(seam_train_options),
    RUN("full", SEAM_ARG_FLAG, full, NULL, "full fine-tuning of all blocks instead of LoRA"),
    RUN("prefix-tokens", SEAM_ARG_COUNT, prefix_tokens, "N",
        "prefix tuning instead of LoRA: virtual tokens [LoRA]"),
    RUN("front-blocks", SEAM_ARG_U32, front_blocks, "K",
        "the model's first K blocks are the client's [0]"),
    SEAM_OPTION_TAIL_BLOCKS(seam_train_options),
    RUN("lora-side", SEAM_ARG_TEXT, lora_side, "WHERE", "as `seam train`"),
    RUN("f32", SEAM_ARG_FLAG, f32, NULL,
        "of the client: products in f32 even where this processor has bf16 units"),
    SEAM_OPTION_TOPOLOGY(seam_train_options),
    SEAM_OPTION_CONSENT(seam_train_options),
    SEAM_OPTION_RESEND(seam_train_options),
    RUN("pipeline-depth", SEAM_ARG_TEXT, pipeline_depth, "N|auto",
        "micro-batches on their way at once, up to 8; auto: memory and time as of 1 [auto]"),
    RUN("recompute", SEAM_ARG_FLAG, recompute, NULL, "layers are computed again instead of kept"),
    RUN("fp8", SEAM_ARG_FLAG, fp8, NULL,
        "of seamd --fp8: weights in FP8 too, and the session's products in it"),
    RUN("data", SEAM_ARG_TEXT, data, "FILE",
        "a run's rows, by which bytes are predicted [every micro-batch is full]"),
    SEAM_OPTION_TRAIN_ROWS(seam_train_options),
    SEAM_OPTION_BATCH(seam_train_options),
    SEAM_OPTION_STEPS(seam_train_options),
    SEAM_OPTION_ROWS_MAX(seam_train_options),
    RUN("tokens-max", SEAM_ARG_COUNT, tokens_max, "N",
        "longest row in tokens [with --data the context; else micro-batches are full]"),
    SEAM_OPTION_TRUNCATE(seam_train_options),
    SEAM_OPTION_SEED(seam_train_options),
    SEAM_OPTION_MBIT(seam_train_options),
    SEAM_OPTION_RTT_MS(seam_train_options),
    SEAM_OPTION_SERVER_TOKENS(seam_train_options),
    {NULL, SEAM_ARG_FLAG, 0, NULL, NULL},
};

static seam_status codecs_check(const seam_train_options *run, seam_error *err);
static seam_status rows_check(const seam_plan_options *o, seam_error *err);

bool seam_plan_is_lora(const seam_plan_options *options) {
    return !options->run.full && options->run.prefix_tokens == 0;
}

bool seam_plan_on_cuda(const seam_plan_options *options) {
    const char *const device = options->device; /* which of them does not matter */
    const bool counted = strncmp(device, "cuda:", 5) == 0 && device[5] != '\0' &&
                         strspn(device + 5, "0123456789") == strlen(device + 5);
    return counted || strcmp(device, "cuda") == 0;
}

seam_status seam_plan_options_parse(seam_plan_options *ret_options, int argc, char **argv,
                                    int first, seam_error *err) {
    seam_plan_options *const o = ret_options;
    uint32_t count = 0;
    const char *positional[1] = {NULL};
    *o = (seam_plan_options){.device = "cuda", .dtype = "bf16"};
    seam_train_options_init(&o->run);
    const seam_arg_table tables[] = {{seam_common_specs, &o->run.common},
                                     {model_specs, o},
                                     {run_specs, &o->run},
                                     {seam_train_codec_specs, &o->run}};
    SEAM_TRY(seam_args_parse(&count, positional, 1, tables, sizeof tables / sizeof *tables, argc,
                             argv, first, err));
    if (o->run.common.help) {
        return SEAM_OK;
    }
    o->run.model = count == 1 ? positional[0] : o->run.model;
    SEAM_TRY(rows_check(o, err));
    SEAM_TRY(seam_train_given_check(&o->run, err));
    SEAM_TRY(seam_train_depth_read(&o->depth, &o->run, err));
    SEAM_TRY(seam_train_options_settle(&o->run, err));
    return codecs_check(&o->run, err);
}

static seam_status codecs_check(const seam_train_options *run, seam_error *err) {
    seam_codec_id id = SEAM_CODEC_F32;
    if (!seam_codec_from_name(&id, run->codec)) {
        return seam_error_set(err, SEAM_E_ARG, "--codec: '%.40s' is unknown", run->codec);
    }
    if (run->codec_fwd_in != NULL && !seam_codec_from_name(&id, run->codec_fwd_in)) {
        return seam_error_set(err, SEAM_E_ARG, "--codec-fwd-in: '%.40s' is unknown",
                              run->codec_fwd_in);
    }
    return SEAM_OK;
}

/* What says how many rows a step has, and how far it is away. */
static seam_status rows_check(const seam_plan_options *o, seam_error *err) {
    const seam_train_options *const run = &o->run;
    /* A preset says how long rows are. */
    const bool laid_out = run->data != NULL || run->tokens_max != 0 || run->preset != NULL;
    if ((run->model != NULL) == (o->shape != NULL)) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--model or --shape: one of them is needed, and not both");
    }
    if (run->data != NULL && run->model == NULL) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--data: its rows are read by the tokenizer of --model");
    }
    if (run->data == NULL && (run->train_rows != 0 || run->truncate)) {
        return seam_error_set(err, SEAM_E_ARG, "--%s: has no use without --data",
                              run->truncate ? "truncate" : "train-rows");
    }
    if (run->batch != 0 && !laid_out) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--batch: how long its rows are is said by --data, --tokens-max or "
                              "--preset");
    }
    if ((o->micros != 0 || o->sequences != 0) && laid_out) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--%s: with --data, --tokens-max or --preset it follows from "
                              "--batch and --rows-max",
                              o->micros != 0 ? "micros" : "sequences-max");
    }
    if (o->memory_gib > MEMORY_GIB_MAX) {
        return seam_error_set(err, SEAM_E_ARG, "--memory: %g is more than %g",
                              (double)o->memory_gib, (double)MEMORY_GIB_MAX);
    }
    if (run->rows_max > SEAM_ROWS_MAX) {
        return seam_error_set(err, SEAM_E_ARG, "--rows-max: at most %u", SEAM_ROWS_MAX);
    }
    if (o->micros > SEAM_RUN_MICROS_MAX) {
        return seam_error_set(err, SEAM_E_ARG, "--micros: at most %u", SEAM_RUN_MICROS_MAX);
    }
    return run->rtt_ms != 0.0f && run->mbit == 0.0f
               ? seam_error_set(err, SEAM_E_ARG, "--rtt-ms: has no use without --mbit")
               : SEAM_OK;
}

seam_status seam_plan_split_check(const seam_plan_options *options, uint32_t layers,
                                  seam_error *err) {
    const seam_train_options *const run = &options->run;
    if (run->front_blocks >= layers || run->tail_blocks >= layers - run->front_blocks) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--front-blocks, --tail-blocks: of the model's %u blocks the server "
                              "has at least one",
                              layers);
    }
    const bool alone = layers - run->front_blocks - run->tail_blocks == 1;
    return alone && run->all_layer_bits != 0.0f
               ? seam_error_set(err, SEAM_E_ARG,
                                "config.all_layer_bits: the server has one block, and no boundary "
                                "between blocks")
               : SEAM_OK;
}

void seam_plan_options_help(void) {
    printf("usage: seam plan --model PATH | --shape NAME [options]\n\n"
           "Memory that a model and one session of it take on a server, and at the client; bytes "
           "of a step each way; its time on a link.\n\n"
           "Server and session:\n");
    seam_args_help(model_specs);
    printf("\nRun:\n");
    seam_args_help(run_specs);
    printf("\nCompressor:\n");
    seam_args_help(seam_train_codec_specs);
    printf("\n");
    seam_args_help(seam_common_specs);
}
