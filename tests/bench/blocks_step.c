/* The random blocks and their step of blocks_step.h. */
#include "blocks_step.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "arena.h"
#include "blocks_internal.h"
#include "try.h"

#define PATTERN_COUNT 1048583u /* a prime, so that rows of a matrix differ */

typedef struct shape {
    const char *name;
    uint32_t hidden, intermediate, layers, heads, kv_heads, head_dim;
} shape;
static const shape shapes[] = {
    {"llama3-8b", 4096, 14336, 32, 32, 8, 128},
    {"qwen2.5-7b", 3584, 18944, 28, 28, 4, 128}, /* without its biases */
    {"qwen2.5-14b", 5120, 13824, 48, 40, 8, 128},
    {"smollm2-135m", 576, 1536, 30, 9, 3, 64},
};

static float *pattern; /* PATTERN_COUNT numbers in (-1, 1); made when first asked for */

double blocks_now_seconds(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void blocks_must(seam_status st, const char *what, const seam_error *err) {
    if (st != SEAM_OK) {
        (void)fprintf(stderr, "%s: %s %s\n", what, seam_status_name(st),
                      err != NULL ? err->text : "");
        exit(1);
    }
}

/* ---- Random numbers ---- */
static void pattern_make(void) {
    uint32_t state = 1;
    pattern = seam_mem_alloc(PATTERN_COUNT * sizeof *pattern);
    SEAM_ASSERT(pattern != NULL);
    for (uint32_t i = 0; i < PATTERN_COUNT; i++) {
        state = state * 1664525u + 1013904223u;
        pattern[i] = (float)(state >> 8) * 0x1p-23f - 1.0f;
    }
}

/* The pattern from a place that differs with `seed`, again and again. */
void blocks_random(float *ret, size_t count, float scale, uint32_t seed) {
    size_t at = (size_t)seed * 7919 % PATTERN_COUNT;
    if (pattern == NULL) {
        pattern_make();
    }
    while (count > 0) {
        const size_t n = count < PATTERN_COUNT - at ? count : PATTERN_COUNT - at;
        for (size_t i = 0; i < n; i++) {
            ret[i] = scale * pattern[at + i];
        }
        ret += n;
        count -= n;
        at = 0;
    }
}

static seam_status tensor_read(float *ret, const void *context, const char *name, uint64_t rows,
                               uint64_t cols, seam_error *err) {
    const bool norm = strstr(name, "norm") != NULL;
    uint32_t seed = 0;
    (void)context, (void)err;
    for (const char *c = name; *c != 0; c++) {
        seed = seed * 31 + (uint8_t)*c;
    }
    blocks_random(ret, rows * cols, norm ? 0.2f : (float)sqrt(3.0 / (double)cols), seed);
    for (uint64_t i = 0; norm && i < cols; i++) {
        ret[i] += 1.0f;
    }
    return SEAM_OK;
}

static void adapter_fill(blocks_step *s) {
    for (uint32_t i = 0; i < seam_adapter_tensor_count(s->adapter); i++) {
        seam_adapter_tensor tensor;
        seam_adapter_describe(&tensor, s->adapter, i);
        const size_t count = (size_t)tensor.rows * tensor.cols;
        float *values = seam_mem_alloc(count * sizeof *values);
        SEAM_ASSERT(values != NULL);
        blocks_random(values, count, 0.02f, i);
        blocks_must(seam_adapter_write(s->adapter, s->stream, i, values), "adapter", NULL);
        seam_mem_free(values);
    }
}

void *blocks_rows_take(const blocks_step *s, uint32_t rows, seam_dtype type) {
    const size_t bytes = (size_t)rows * s->config.hidden * seam_dtype_bytes(type);
    void *device = NULL;
    blocks_must(s->ops->mem_alloc(&device, s->backend, bytes), "rows", NULL);
    return device;
}

void *blocks_rows_random(const blocks_step *s, void *x, uint32_t rows, float scale, uint32_t seed) {
    const size_t count = (size_t)rows * s->config.hidden;
    float *host = seam_mem_alloc(count * sizeof *host);
    void *device = blocks_rows_take(s, rows, s->ops->act);
    SEAM_ASSERT(host != NULL && s->ops->acc == SEAM_F32);
    blocks_random(host, count, scale, seed);
    blocks_must(s->ops->copy_in(s->stream, x, host, count * sizeof *host), "rows", NULL);
    blocks_must(s->ops->cast(s->stream, device, s->ops->act, x, SEAM_F32, count), "rows", NULL);
    blocks_must(s->ops->stream_sync(s->stream), "sync", NULL);
    seam_mem_free(host);
    return device;
}

/* ---- Blocks ---- */
bool blocks_step_shape(blocks_step *step, const char *name) {
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const shape *s = &shapes[i];
        if (strcmp(s->name, name) == 0) {
            step->config = (seam_model_config){.architecture = "llama",
                                               .vocab_count = 128,
                                               .hidden = s->hidden,
                                               .intermediate = s->intermediate,
                                               .layers = s->layers,
                                               .heads = s->heads,
                                               .kv_heads = s->kv_heads,
                                               .head_dim = s->head_dim,
                                               .context_max = 8192,
                                               .rms_eps = 1e-5f,
                                               .rope_theta = 500000.0,
                                               .tied = true,
                                               .bos_id = -1,
                                               .eos_id = -1};
            (void)snprintf(step->config.name, sizeof step->config.name, "%s", name);
            return true;
        }
    }
    return false;
}

void blocks_step_open(blocks_step *s) {
    const seam_tensor_source source = {.config = &s->config, .read = tensor_read};
    seam_error err = {.status = SEAM_OK};
    blocks_must(seam_blocks_create_from(&s->blocks, s->backend, &source, 0, s->config.layers, &err),
                "blocks", &err);
    blocks_must(seam_adapter_create(&s->adapter, s->blocks, &s->lora, &err), "adapter", &err);
    if (s->lora.kind == SEAM_ADAPTER_LORA) {
        adapter_fill(s);
    }
}

void blocks_step_close(blocks_step *s) {
    seam_adapter_destroy(s->adapter);
    seam_blocks_destroy(s->blocks);
    seam_mem_free(pattern);
    s->adapter = NULL;
    s->blocks = NULL;
    pattern = NULL;
}

seam_weight *blocks_step_matrix(const blocks_step *s, uint32_t layer, uint32_t which) {
    const seam_block *block = &s->blocks->layers[layer];
    seam_weight *const matrices[] = {block->qkv, block->o, block->gate_up, block->down};
    SEAM_ASSERT(which < 4 && layer < s->blocks->layer_count);
    return matrices[which];
}

/* ---- A step ---- */
seam_activations_options blocks_work_options(const blocks_step *s, uint32_t seqs, uint32_t length) {
    return (seam_activations_options){.adapter = &s->lora,
                                      .rows_max = seqs * length,
                                      .seqs_max = seqs,
                                      .recompute = s->recompute,
                                      .fp8 = s->fp8};
}

void blocks_work_open(blocks_work *w, const blocks_step *s, uint32_t seqs, uint32_t length) {
    const uint32_t rows = seqs * length;
    const seam_activations_options acts = blocks_work_options(s, seqs, length);
    seam_error err = {.status = SEAM_OK};
    memset(w, 0, sizeof *w);
    w->seqs = seqs;
    w->length = length;
    w->positions = seam_mem_alloc(rows * sizeof *w->positions);
    SEAM_ASSERT(w->positions != NULL);
    for (uint32_t i = 0; i < rows; i++) {
        w->positions[i] = i % length;
        w->seq_begin[i / length + 1] = i + 1;
    }
    blocks_must(seam_activations_create(&w->acts, s->blocks, &acts, &err), "activations", &err);
    w->x = blocks_rows_take(s, rows, s->ops->acc);
    w->x_given = blocks_rows_random(s, w->x, rows, 1.0f, 3);
    w->dx_given = blocks_rows_random(s, w->x, rows, 1e-3f, 4);
    w->batch = (seam_batch){
        .rows = rows, .seq_count = seqs, .seq_begin = w->seq_begin, .positions = w->positions};
}

void blocks_work_close(blocks_work *w, const blocks_step *s) {
    s->ops->mem_free(s->backend, w->x);
    s->ops->mem_free(s->backend, w->dx_given);
    s->ops->mem_free(s->backend, w->x_given);
    seam_activations_destroy(w->acts);
    seam_mem_free(w->positions);
}

/* Input and gradient come from elsewhere: from the codec's buffers in the service.  ret_queued:
 * until all of it is queued. */
double blocks_work_seconds(double *ret_queued, const blocks_step *s, blocks_work *w) {
    const size_t count = (size_t)w->batch.rows * s->config.hidden;
    blocks_must(s->ops->stream_sync(s->stream), "sync", NULL);
    const double begin = blocks_now_seconds();
    blocks_must(s->ops->cast(s->stream, w->x, SEAM_F32, w->x_given, s->ops->act, count), "input",
                NULL);
    blocks_must(seam_blocks_forward(s->blocks, s->adapter, w->acts, s->stream, w->x, &w->batch),
                "forward", NULL);
    blocks_must(s->ops->cast(s->stream, w->x, SEAM_F32, w->dx_given, s->ops->act, count),
                "gradient", NULL);
    blocks_must(
        seam_blocks_backward(s->blocks, s->adapter, w->acts, s->stream, w->x, &w->batch, false),
        "backward", NULL);
    *ret_queued = blocks_now_seconds() - begin;
    blocks_must(s->ops->stream_sync(s->stream), "sync", NULL);
    return blocks_now_seconds() - begin;
}

double blocks_step_weights(const blocks_step *s) {
    const seam_blocks *b = s->blocks;
    const double C = s->config.hidden, F = s->config.intermediate;
    return b->layer_count * (C * b->qkv_cols + C * b->q_cols + 3 * C * F);
}

void blocks_work_check(const blocks_step *s, const blocks_work *w) {
    double sum = 0;
    blocks_must(
        s->ops->sum_squares(s->stream, &sum, w->x, (size_t)w->batch.rows * s->config.hidden),
        "gradient", NULL);
    if (!(sum > 0) || isinf(sum)) {
        (void)fprintf(stderr, "the input's gradient is %g in square\n", sum);
        exit(1);
    }
}
