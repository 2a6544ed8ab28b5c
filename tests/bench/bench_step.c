/* A whole training step at SmolLM2-135M's shape, without network and codec, with its parts:
 *
 *   bench_step [TYPE [THREADS [STEPS [LENGTH:PROMPT,...]]]]      TYPE: f32, bf16
 *
 * 30 blocks forward and backward, head on the labelled rows, LoRA of rank 16 on all projections,
 * AdamW; random weights.  Default text: 5 sequences of 384 tokens, the last 51 labelled.
 * peer_torch_cpu.py takes the same text; run.sh runs both in turn.  Not in ctest.
 *
 * Parts are timed by a table of wrappers put in front of the backend's ops; "products" includes
 * LoRA's.  GFLOP/s counts the frozen products and LoRA's, both directions, and nothing else. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "arena.h"
#include "blocks_internal.h"
#include "synthetic_model.h"
#include "try.h"

#define SEQS_MAX 64
#define RANK     16

static const seam_model_config smollm2 = {.architecture = "llama",
                                          .vocab_count = 49152,
                                          .hidden = 576,
                                          .intermediate = 1536,
                                          .layers = 30,
                                          .heads = 9,
                                          .kv_heads = 3,
                                          .head_dim = 64,
                                          .context_max = 8192,
                                          .rms_eps = 1e-5f,
                                          .rope_theta = 100000.0,
                                          .tied = true,
                                          .bos_id = -1,
                                          .eos_id = -1};

typedef enum part { PRODUCTS, ATTENTION, NORMS, SWIGLU, ROPE, CASTS, OPTIMIZER, HEAD, PARTS } part;
static const char *const part_names[PARTS] = {"products", "attention", "norms",     "swiglu",
                                              "rope",     "casts",     "optimizer", "head"};
static double part_seconds[PARTS];
static seam_ops real; /* what the wrappers call */

static double now_seconds(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#define TIMED(op, args_type, which)                                                                \
    static seam_status timed_##op(seam_stream *stream, const args_type *args) {                    \
        const double begin = now_seconds();                                                        \
        const seam_status st = real.op(stream, args);                                              \
        part_seconds[which] += now_seconds() - begin;                                              \
        return st;                                                                                 \
    }
TIMED(linear_forward, seam_linear_forward_args, PRODUCTS)
TIMED(linear_backward, seam_linear_backward_args, PRODUCTS)
TIMED(attention_forward, seam_attention_forward_args, ATTENTION)
TIMED(attention_backward, seam_attention_backward_args, ATTENTION)
TIMED(rmsnorm_forward, seam_rmsnorm_forward_args, NORMS)
TIMED(rmsnorm_backward, seam_rmsnorm_backward_args, NORMS)
TIMED(swiglu_forward, seam_swiglu_forward_args, SWIGLU)
TIMED(swiglu_backward, seam_swiglu_backward_args, SWIGLU)
TIMED(rope, seam_rope_args, ROPE)

static seam_status timed_cast(seam_stream *stream, void *dst, seam_dtype dst_type, const void *src,
                              seam_dtype src_type, size_t count) {
    const double begin = now_seconds();
    const seam_status st = real.cast(stream, dst, dst_type, src, src_type, count);
    part_seconds[CASTS] += now_seconds() - begin;
    return st;
}

static void ops_wrap(seam_ops *ret_timed, const seam_ops *ops) {
    real = *ops;
    *ret_timed = *ops;
    ret_timed->linear_forward = timed_linear_forward;
    ret_timed->linear_backward = timed_linear_backward;
    ret_timed->attention_forward = timed_attention_forward;
    ret_timed->attention_backward = timed_attention_backward;
    ret_timed->rmsnorm_forward = timed_rmsnorm_forward;
    ret_timed->rmsnorm_backward = timed_rmsnorm_backward;
    ret_timed->swiglu_forward = timed_swiglu_forward;
    ret_timed->swiglu_backward = timed_swiglu_backward;
    ret_timed->rope = timed_rope;
    ret_timed->cast = timed_cast;
}

typedef struct bench_text {
    uint32_t begin[SEQS_MAX + 1], prompts[SEQS_MAX], seqs, labelled;
    uint32_t *ids, *positions, *rows, *targets; /* rows: of the labels */
} bench_text;

/* "384:333,120:70": false for anything else. */
static bool text_parse(bench_text *t, const char *spec) {
    memset(t, 0, sizeof *t);
    while (*spec != 0 && t->seqs < SEQS_MAX) {
        char *end = NULL;
        const unsigned long count = strtoul(spec, &end, 10);
        if (*end != ':') {
            return false;
        }
        const unsigned long prompt = strtoul(end + 1, &end, 10);
        if (prompt < 1 || prompt >= count || count > smollm2.context_max ||
            (*end != ',' && *end != 0)) {
            return false;
        }
        t->prompts[t->seqs] = (uint32_t)prompt;
        t->begin[t->seqs + 1] = t->begin[t->seqs] + (uint32_t)count;
        t->labelled += (uint32_t)(count - prompt);
        t->seqs++;
        spec = *end == ',' ? end + 1 : end;
    }
    return t->seqs > 0 && *spec == 0;
}

static void text_fill(bench_text *t) {
    const uint32_t count = t->begin[t->seqs];
    uint32_t *const memory = seam_mem_zalloc(4 * (size_t)count, sizeof *memory);
    SEAM_ASSERT(memory != NULL);
    t->ids = memory;
    t->positions = memory + count;
    t->rows = memory + 2 * (size_t)count;
    t->targets = memory + 3 * (size_t)count;
    uint32_t label = 0;
    for (uint32_t s = 0; s < t->seqs; s++) {
        for (uint32_t row = t->begin[s]; row < t->begin[s + 1]; row++) {
            t->ids[row] = seam_synthetic_word("ids", row) % smollm2.vocab_count;
            t->positions[row] = row - t->begin[s];
            if (t->positions[row] + 1 >= t->prompts[s] && row + 1 < t->begin[s + 1]) {
                t->rows[label] = row;
                t->targets[label++] = seam_synthetic_word("ids", row + 1) % smollm2.vocab_count;
            }
        }
    }
    SEAM_ASSERT(label == t->labelled);
}

/* One step.  On the CPU device memory is host memory, so rows are picked directly. */
static void step(seam_test_engine *e, seam_adapter *adapter, const bench_text *t, uint64_t idx) {
    const size_t row = smollm2.hidden * sizeof(float);
    const uint32_t rows = t->begin[t->seqs];
    const seam_batch batch = {
        .rows = rows, .seq_count = t->seqs, .seq_begin = t->begin, .positions = t->positions};
    const seam_optimizer_config optimizer = {.lr = 1e-4f,
                                             .beta1 = 0.9f,
                                             .beta2 = 0.999f,
                                             .eps = 1e-8f,
                                             .clip_norm = 1.0f,
                                             .schedule = SEAM_SCHEDULE_CONSTANT};
    double loss = 0;
    double norm = 0;
    uint64_t hash = 0;
    seam_test_check(seam_head_embed(e->head, e->stream, e->x, t->ids, rows), "embed", NULL);
    seam_test_check(seam_blocks_forward(e->blocks, adapter, e->acts, e->stream, e->x, &batch),
                    "forward", NULL);
    const double head_begin = now_seconds();
    for (uint32_t i = 0; i < t->labelled; i++) {
        memcpy((uint8_t *)e->picked + i * row, (uint8_t *)e->x + t->rows[i] * row, row);
    }
    seam_test_check(seam_head_loss(&loss, e->d_picked, NULL, e->head, e->stream, e->picked,
                                   t->targets, t->labelled, 1.0f / (float)t->labelled),
                    "head", NULL);
    memset(e->x, 0, rows * row);
    for (uint32_t i = 0; i < t->labelled; i++) {
        memcpy((uint8_t *)e->x + t->rows[i] * row, (uint8_t *)e->d_picked + i * row, row);
    }
    part_seconds[HEAD] += now_seconds() - head_begin;
    seam_test_check(
        seam_blocks_backward(e->blocks, adapter, e->acts, e->stream, e->x, &batch, false),
        "backward", NULL);
    const double optimizer_begin = now_seconds();
    seam_test_check(seam_adapter_step(&norm, &hash, adapter, e->stream, &optimizer, idx), "step",
                    NULL);
    part_seconds[OPTIMIZER] += now_seconds() - optimizer_begin;
}

/* Products of a step: forward and input gradient of the frozen ones; LoRA's two, and four back. */
static double step_flops(const bench_text *t) {
    const double C = smollm2.hidden;
    const double F = smollm2.intermediate;
    const double D = smollm2.head_dim;
    const double q = smollm2.heads * D;
    const double kv = smollm2.kv_heads * D;
    const double frozen = C * (q + 2 * kv) + q * C + 2 * C * F + F * C;
    const double lora = RANK * ((C + q) + 2 * (C + kv) + (q + C) + 2 * (C + F) + (F + C));
    return 2.0 * t->begin[t->seqs] * smollm2.layers * (2 * frozen + 3 * lora);
}

static void report(const char *type, const bench_text *t, const double *seconds, uint32_t steps) {
    double total = 0;
    double best = seconds[0];
    for (uint32_t i = 0; i < steps; i++) {
        total += seconds[i];
        best = seconds[i] < best ? seconds[i] : best;
    }
    const double tokens = t->begin[t->seqs];
    (void)printf("seam %s: %.0f tokens, %u labelled; %.0f tokens/s mean, %.0f best; products at "
                 "%.0f GFLOP/s\n ",
                 type, tokens, t->labelled, tokens * steps / total, tokens / best,
                 1e-9 * step_flops(t) * steps / part_seconds[PRODUCTS]);
    double known = 0;
    for (int p = 0; p < PARTS; p++) {
        known += part_seconds[p];
        (void)printf(" %s %.1f%%", part_names[p], 100 * part_seconds[p] / total);
    }
    (void)printf(" rest %.1f%%\n", 100 * (total - known) / total);
}

int main(int argc, char **argv) {
    const char *type = argc > 1 ? argv[1] : "bf16";
    const char *spec = argc > 4 ? argv[4] : "384:333,384:333,384:333,384:333,384:333";
    const uint32_t steps = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 3;
    bench_text text;
    if (!text_parse(&text, spec) || steps < 1 || steps > 1000) {
        (void)fprintf(stderr, "usage: bench_step [TYPE [THREADS [STEPS [LENGTH:PROMPT,...]]]]\n");
        return 2;
    }
    text_fill(&text);
    const seam_adapter_config lora = {
        .lora = {.rank = RANK, .alpha = 16, .targets = 0x7f, .seed = 1}};
    const seam_backend_options options = {.device = "cpu",
                                          .act = strcmp(type, "f32") == 0 ? SEAM_F32 : SEAM_BF16,
                                          .threads =
                                              argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 0};
    const seam_tensor_source source = seam_synthetic_source(&smollm2);
    seam_test_engine engine;
    if (!seam_test_engine_open(&engine, &options, &source, &lora, text.begin[text.seqs])) {
        return 77;
    }
    seam_adapter *const adapter = seam_test_adapter(&engine, &lora);
    seam_ops timed;
    ops_wrap(&timed, engine.blocks->ops);
    engine.blocks->ops = &timed;
    double seconds[1000];
    step(&engine, adapter, &text, 0); /* warms caches and page tables */
    memset(part_seconds, 0, sizeof part_seconds);
    for (uint32_t i = 0; i < steps; i++) {
        const double begin = now_seconds();
        step(&engine, adapter, &text, i + 1);
        seconds[i] = now_seconds() - begin;
    }
    (void)printf("%s\n", seam_backend_describe(engine.backend));
    report(type, &text, seconds, steps);
    seam_adapter_destroy(adapter);
    seam_test_engine_close(&engine);
    seam_mem_free(text.ids);
    return 0;
}
