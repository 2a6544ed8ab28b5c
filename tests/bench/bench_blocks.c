/* The blocks alone at the shape of a served model: forward and backward of one micro-batch through
 * frozen random weights and LoRA, without network, codec, head and optimizer; what
 * a PyTorch step of the same blocks is compared with.
 *
 *   bench_blocks [--device D] [--act f32|bf16] [--shape NAME] [--work SEQSxLENGTH[,...]] [--rank R]
 *                [--targets qv|all] [--layers N] [--iters N] [--recompute] [--full] [--fp8]
 *                [--plain] [--tokens S] [--profile]
 *
 * A step is timed by the wall clock between two waits for the stream; the median of the iterations
 * is printed (--full: of full fine-tuning, six operations a weight and token), after three steps
 * that warm up, and that of the time until all of a step is queued (about the step's own where
 * launches take as long as the work); with --fp8 in act first and then with the frozen products in
 * FP8.  4N-MFU: four operations a weight and token over the rate of an 8192^3 product through the
 * same op table in the same run.  Device memory (CUDA): what the run has taken since the backend
 * was there, weights and workspaces included.
 *
 * --plain queues every op of a small micro-batch by itself (ops.h, repeat).  --tokens S, in place
 * of
 * --work: the generation of a token in each of S slots, after TOKENS_BEFORE of them, the median of
 * TOKENS, each waited for.
 *
 * --profile puts wrappers in front of the backend's ops which wait for the stream before and after
 * each: a table of ops, their time (with the wait's own, about 10 us an op), and for products the
 * rate of the frozen part (blocks_profile.h).  Read next: bench_step.c, the same on the CPU with
 * head and optimizer.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef SEAM_CUDA
#include <cuda_runtime_api.h>
#endif

#include "arena.h"
#include "blocks_internal.h"
#include "blocks_profile.h"
#include "try.h"

#define PATTERN_COUNT 1048583u /* a prime, so that rows of a matrix differ */
#define ITERS_MAX     100u
#define WARM_STEPS    3u
#define SEQS_MAX      4096u
#define TOKENS        200u
#define TOKENS_BEFORE 56u

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

typedef struct bench {
    const char *device, *work;
    seam_dtype act;
    seam_model_config config;
    seam_adapter_config lora;
    uint32_t iters, tokens;                /* tokens: slots */
    bool profile, recompute, fp8, fp8_now; /* fp8: asked for; of the work that runs */
    bool plain;
    seam_ops plain_ops;
    seam_backend *backend;
    const seam_ops *ops;
    seam_stream *stream;
    seam_blocks *blocks;
    seam_adapter *adapter;
    double peak_flops; /* operations a second of the large product */
    size_t taken_base_bytes;
} bench;

static float *pattern; /* PATTERN_COUNT numbers in (-1, 1) */

static double now_seconds(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void must(seam_status st, const char *what, const seam_error *err) {
    if (st != SEAM_OK) {
        (void)fprintf(stderr, "%s: %s %s\n", what, seam_status_name(st),
                      err != NULL ? err->text : "");
        exit(1);
    }
}

static size_t device_taken_bytes(void) {
#ifdef SEAM_CUDA
    size_t available = 0, total = 0;
    if (cudaMemGetInfo(&available, &total) == cudaSuccess) {
        return total - available;
    }
#endif
    return 0;
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
static void pattern_fill(float *ret, size_t count, float scale, uint32_t seed) {
    size_t at = (size_t)seed * 7919 % PATTERN_COUNT;
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
    pattern_fill(ret, rows * cols, norm ? 0.2f : (float)sqrt(3.0 / (double)cols), seed);
    for (uint64_t i = 0; norm && i < cols; i++) {
        ret[i] += 1.0f;
    }
    return SEAM_OK;
}

static void adapter_fill(bench *b) {
    for (uint32_t i = 0; i < seam_adapter_tensor_count(b->adapter); i++) {
        seam_adapter_tensor tensor;
        seam_adapter_describe(&tensor, b->adapter, i);
        const size_t count = (size_t)tensor.rows * tensor.cols;
        float *values = seam_mem_alloc(count * sizeof *values);
        SEAM_ASSERT(values != NULL);
        pattern_fill(values, count, 0.02f, i);
        must(seam_adapter_write(b->adapter, b->stream, i, values), "adapter", NULL);
        seam_mem_free(values);
    }
}

static void *rows_take(const bench *b, uint32_t rows, seam_dtype type) {
    const size_t bytes = (size_t)rows * b->config.hidden * seam_dtype_bytes(type);
    void *device = NULL;
    must(b->ops->mem_alloc(&device, b->backend, bytes), "rows", NULL);
    return device;
}

/* (rows, hidden) act on the device, by way of x. */
static void *rows_random(const bench *b, void *x, uint32_t rows, float scale, uint32_t seed) {
    const size_t count = (size_t)rows * b->config.hidden;
    float *host = seam_mem_alloc(count * sizeof *host);
    void *device = rows_take(b, rows, b->ops->act);
    SEAM_ASSERT(host != NULL && b->ops->acc == SEAM_F32);
    pattern_fill(host, count, scale, seed);
    must(b->ops->copy_in(b->stream, x, host, count * sizeof *host), "rows", NULL);
    must(b->ops->cast(b->stream, device, b->ops->act, x, SEAM_F32, count), "rows", NULL);
    must(b->ops->stream_sync(b->stream), "sync", NULL);
    seam_mem_free(host);
    return device;
}

/* ---- The ceiling ---- */
static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *x, uint32_t count) {
    qsort(x, count, sizeof *x, by_value);
    return x[count / 2];
}

/* Operations a second of an n^3 product through the op table; ten a time. */
static double product_rate(const bench *b, uint32_t n) {
    enum { ROUNDS = 5, RUNS = 10 };
    const size_t count = (size_t)n * n;
    float *host = seam_mem_alloc(count * sizeof *host);
    seam_linear_forward_args args = {.y_ld = n, .x_ld = n, .T = n, .y_out = SEAM_OUT_ACT};
    seam_weight *w = NULL;
    void *f32 = NULL, *x = NULL;
    double seconds[ROUNDS];
    SEAM_ASSERT(host != NULL);
    pattern_fill(host, count, 1.0f, 1);
    must(b->ops->weight_create(&w, b->backend, host, n, n, true, false, true), "weight", NULL);
    must(b->ops->mem_alloc(&f32, b->backend, count * sizeof *host), "memory", NULL);
    must(b->ops->mem_alloc(&x, b->backend, count * sizeof *host), "memory", NULL);
    must(b->ops->mem_alloc(&args.y, b->backend, count * sizeof *host), "memory", NULL);
    pattern_fill(host, count, 1.0f, 2);
    must(b->ops->copy_in(b->stream, f32, host, count * sizeof *host), "copy", NULL);
    must(b->ops->cast(b->stream, x, b->ops->act, f32, SEAM_F32, count), "cast", NULL);
    must(b->ops->stream_sync(b->stream), "sync", NULL);
    args.x = x;
    args.w = w;
    for (int round = 0; round < ROUNDS; round++) {
        const double begin = now_seconds();
        for (int i = 0; i < RUNS; i++) {
            must(b->ops->linear_forward(b->stream, &args), "product", NULL);
        }
        must(b->ops->stream_sync(b->stream), "sync", NULL);
        seconds[round] = now_seconds() - begin;
    }
    b->ops->mem_free(b->backend, args.y);
    b->ops->mem_free(b->backend, x);
    b->ops->mem_free(b->backend, f32);
    b->ops->weight_destroy(w);
    seam_mem_free(host);
    return 2.0 * RUNS * pow(n, 3) / median(seconds, ROUNDS);
}

/* ---- A step ---- */
typedef struct work {
    uint32_t seqs, length;
    uint32_t seq_begin[SEQS_MAX + 1], *positions;
    seam_activations *acts;
    void *x_given, *dx_given; /* (T, C) act */
    void *x;                  /* (T, C) acc */
    seam_batch batch;
} work;

static seam_activations_options acts_options(const bench *b, uint32_t seqs, uint32_t length) {
    return (seam_activations_options){.adapter = &b->lora,
                                      .rows_max = seqs * length,
                                      .seqs_max = seqs,
                                      .recompute = b->recompute,
                                      .fp8 = b->fp8_now};
}

static void work_open(work *w, const bench *b, uint32_t seqs, uint32_t length) {
    const uint32_t rows = seqs * length;
    const seam_activations_options acts = acts_options(b, seqs, length);
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
    must(seam_activations_create(&w->acts, b->blocks, &acts, &err), "activations", &err);
    w->x = rows_take(b, rows, b->ops->acc);
    w->x_given = rows_random(b, w->x, rows, 1.0f, 3);
    w->dx_given = rows_random(b, w->x, rows, 1e-3f, 4);
    w->batch = (seam_batch){
        .rows = rows, .seq_count = seqs, .seq_begin = w->seq_begin, .positions = w->positions};
}

static void work_close(work *w, const bench *b) {
    b->ops->mem_free(b->backend, w->x);
    b->ops->mem_free(b->backend, w->dx_given);
    b->ops->mem_free(b->backend, w->x_given);
    seam_activations_destroy(w->acts);
    seam_mem_free(w->positions);
}

/* Input and gradient come from elsewhere: from the codec's buffers in the service.  ret_queued:
 * until all of it is queued. */
static double step_seconds(double *ret_queued, const bench *b, work *w) {
    const size_t count = (size_t)w->batch.rows * b->config.hidden;
    must(b->ops->stream_sync(b->stream), "sync", NULL);
    const double begin = now_seconds();
    must(b->ops->cast(b->stream, w->x, SEAM_F32, w->x_given, b->ops->act, count), "input", NULL);
    must(seam_blocks_forward(b->blocks, b->adapter, w->acts, b->stream, w->x, &w->batch), "forward",
         NULL);
    must(b->ops->cast(b->stream, w->x, SEAM_F32, w->dx_given, b->ops->act, count), "gradient",
         NULL);
    must(seam_blocks_backward(b->blocks, b->adapter, w->acts, b->stream, w->x, &w->batch, false),
         "backward", NULL);
    *ret_queued = now_seconds() - begin;
    must(b->ops->stream_sync(b->stream), "sync", NULL);
    return now_seconds() - begin;
}

/* Weights of the products of all blocks. */
static double weight_count(const bench *b) {
    const seam_blocks *s = b->blocks;
    const double C = b->config.hidden, F = b->config.intermediate;
    return s->layer_count * (C * s->qkv_cols + C * s->q_cols + 3 * C * F);
}

/* A finite gradient shows that the step has computed something. */
static void gradient_check(const bench *b, const work *w) {
    double sum = 0;
    must(b->ops->sum_squares(b->stream, &sum, w->x, (size_t)w->batch.rows * b->config.hidden),
         "gradient", NULL);
    if (!(sum > 0) || isinf(sum)) {
        (void)fprintf(stderr, "the input's gradient is %g in square\n", sum);
        exit(1);
    }
}

static void work_run(bench *b, uint32_t seqs, uint32_t length) {
    double seconds[ITERS_MAX], queued[ITERS_MAX];
    const seam_activations_options acts = acts_options(b, seqs, length);
    work *w = seam_mem_zalloc(1, sizeof *w);
    SEAM_ASSERT(w != NULL);
    work_open(w, b, seqs, length);
    for (uint32_t i = 0; i < WARM_STEPS; i++) {
        (void)step_seconds(queued, b, w);
    }
    for (uint32_t i = 0; i < b->iters; i++) {
        seconds[i] = step_seconds(&queued[i], b, w);
    }
    gradient_check(b, w);
    const double step = median(seconds, b->iters), tokens = w->batch.rows / step;
    (void)printf("%ux%u%s: %.2f ms (fastest %.2f, queued in %.2f), %.0f tokens/s, 4N-MFU %.1f %%, "
                 "activations %.2f GiB, device memory %.2f GiB\n",
                 seqs, length, b->fp8_now ? " in fp8" : "", 1e3 * step, 1e3 * seconds[0],
                 1e3 * median(queued, b->iters), tokens,
                 100 * 4 * weight_count(b) * tokens / b->peak_flops,
                 (double)seam_activations_bytes(b->blocks, &acts) * 0x1p-30,
                 (double)(device_taken_bytes() - b->taken_base_bytes) * 0x1p-30);
    if (b->profile) {
        blocks_profile_begin(b->blocks);
        for (uint32_t i = 0; i < 3; i++) {
            (void)step_seconds(queued, b, w);
        }
        blocks_profile_end(b->blocks, 3);
    }
    (void)fflush(stdout);
    work_close(w, b);
    seam_mem_free(w);
}

/* ---- Generation ---- */
static void tokens_run(const bench *b) {
    uint32_t *slots = seam_mem_zalloc(b->tokens, sizeof *slots);
    uint32_t *positions = seam_mem_zalloc(b->tokens, sizeof *positions);
    void *x = rows_take(b, b->tokens, SEAM_F32);
    void *given = rows_random(b, x, b->tokens, 1.0f, 1);
    double seconds[TOKENS];
    seam_kv_cache *cache = NULL;
    seam_error err = {.status = SEAM_OK};
    SEAM_ASSERT(slots != NULL && positions != NULL);
    must(
        seam_kv_cache_create(&cache, b->blocks, b->tokens, TOKENS_BEFORE + TOKENS, b->tokens, &err),
        "cache", &err);
    for (uint32_t token = 0; token < TOKENS_BEFORE + TOKENS; token++) {
        for (uint32_t t = 0; t < b->tokens; t++) {
            slots[t] = t;
            positions[t] = token;
        }
        const double begin = now_seconds();
        must(b->ops->cast(b->stream, x, SEAM_F32, given, b->ops->act,
                          (size_t)b->tokens * b->config.hidden),
             "input", NULL);
        must(seam_blocks_forward_cached(b->blocks, b->adapter, cache, b->stream, x, b->tokens,
                                        slots, positions),
             "forward", NULL);
        must(b->ops->stream_sync(b->stream), "sync", NULL);
        if (token >= TOKENS_BEFORE) {
            seconds[token - TOKENS_BEFORE] = now_seconds() - begin;
        }
    }
    const double token = median(seconds, TOKENS);
    (void)printf("a token in %u slots: %.3f ms (fastest %.3f), %.0f tokens/s\n", b->tokens,
                 1e3 * token, 1e3 * seconds[0], b->tokens / token);
    seam_kv_cache_destroy(cache);
    b->ops->mem_free(b->backend, given);
    b->ops->mem_free(b->backend, x);
    seam_mem_free(positions);
    seam_mem_free(slots);
}

/* ---- Command line ---- */
static bool shape_find(bench *b, const char *name) {
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const shape *s = &shapes[i];
        if (strcmp(s->name, name) == 0) {
            b->config = (seam_model_config){.architecture = "llama",
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
            (void)snprintf(b->config.name, sizeof b->config.name, "%s", name);
            return true;
        }
    }
    return false;
}

static bool option_set(bench *b, const char *option, const char *value) {
    if (strcmp(option, "--device") == 0) {
        b->device = value;
    } else if (strcmp(option, "--act") == 0) {
        b->act = strcmp(value, "f32") == 0 ? SEAM_F32 : SEAM_BF16;
    } else if (strcmp(option, "--shape") == 0) {
        return shape_find(b, value);
    } else if (strcmp(option, "--work") == 0) {
        b->work = value;
    } else if (strcmp(option, "--rank") == 0) {
        b->lora.lora.rank = (uint32_t)strtoul(value, NULL, 10);
    } else if (strcmp(option, "--targets") == 0) {
        b->lora.lora.targets = strcmp(value, "all") == 0 ? 0x7f : SEAM_LORA_Q | SEAM_LORA_V;
    } else if (strcmp(option, "--layers") == 0) {
        b->config.layers = (uint32_t)strtoul(value, NULL, 10);
    } else if (strcmp(option, "--tokens") == 0) {
        b->tokens = (uint32_t)strtoul(value, NULL, 10);
        return b->tokens >= 1 && b->tokens <= SEQS_MAX;
    } else if (strcmp(option, "--iters") == 0) {
        b->iters = (uint32_t)strtoul(value, NULL, 10);
    } else {
        return false;
    }
    return b->iters >= 1 && b->iters <= ITERS_MAX;
}

static bool options_read(bench *b, int argc, char **argv) {
    (void)shape_find(b, "llama3-8b");
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--profile") == 0) {
            b->profile = true;
        } else if (strcmp(argv[i], "--fp8") == 0) {
            b->fp8 = true;
        } else if (strcmp(argv[i], "--full") == 0) {
            b->lora = (seam_adapter_config){.kind = SEAM_ADAPTER_FULL};
        } else if (strcmp(argv[i], "--plain") == 0) {
            b->plain = true;
        } else if (strcmp(argv[i], "--recompute") == 0) {
            b->recompute = true;
        } else if (i + 1 >= argc || !option_set(b, argv[i], argv[i + 1])) {
            return false;
        } else {
            i++;
        }
    }
    return true;
}

static bool works_run(bench *b) {
    for (const char *p = b->work; *p != 0;) {
        char *end = NULL;
        const unsigned long seqs = strtoul(p, &end, 10);
        if (*end != 'x') {
            return false;
        }
        const unsigned long length = strtoul(end + 1, &end, 10);
        if (seqs < 1 || seqs > SEQS_MAX || length < 1 || length > b->config.context_max ||
            (*end != ',' && *end != 0)) {
            return false;
        }
        for (int pass = 0; pass <= (int)b->fp8; pass++) {
            b->fp8_now = pass == 1;
            work_run(b, (uint32_t)seqs, (uint32_t)length);
        }
        p = *end == ',' ? end + 1 : end;
    }
    return true;
}

static void bench_open(bench *b) {
    const seam_backend_options options = {.device = b->device, .act = b->act, .fp8 = b->fp8};
    const seam_tensor_source source = {.config = &b->config, .read = tensor_read};
    seam_error err = {.status = SEAM_OK};
    must(seam_backend_create(&b->backend, &options, &err), "backend", &err);
    b->ops = seam_backend_ops(b->backend);
    must(b->ops->stream_create(&b->stream, b->backend), "stream", NULL);
    b->taken_base_bytes = device_taken_bytes();
    const bool large = strcmp(b->ops->name, "cuda") == 0;
    b->peak_flops = product_rate(b, large ? 8192 : 1024);
    const double begin = now_seconds();
    must(seam_blocks_create_from(&b->blocks, b->backend, &source, 0, b->config.layers, &err),
         "blocks", &err);
    if (b->plain) {
        b->plain_ops = *b->ops;
        b->plain_ops.repeat = NULL;
        b->blocks->ops = &b->plain_ops;
    }
    must(seam_adapter_create(&b->adapter, b->blocks, &b->lora, &err), "adapter", &err);
    if (b->lora.kind == SEAM_ADAPTER_LORA) {
        adapter_fill(b);
    }
    (void)printf("%s\n%s: %.3f B weights in %u layers, ready in %.1f s; LoRA rank %u on %s; "
                 "product of %u^3 at %.1f TFLOP/s\n",
                 seam_backend_describe(b->backend), b->config.name, 1e-9 * weight_count(b),
                 b->config.layers, now_seconds() - begin, b->lora.lora.rank,
                 b->lora.lora.targets == 0x7f ? "all" : "q, v", large ? 8192 : 1024,
                 1e-12 * b->peak_flops);
    (void)fflush(stdout);
}

int main(int argc, char **argv) {
    bench b = {.device = "cuda:0",
               .work = "16x384",
               .act = SEAM_BF16,
               .lora = {.lora = {.rank = 16,
                                 .alpha = 16,
                                 .targets = SEAM_LORA_Q | SEAM_LORA_V,
                                 .seed = 1}},
               .iters = 8};
    if (!options_read(&b, argc, argv)) {
        (void)fprintf(stderr, "usage: bench_blocks [--device D] [--act f32|bf16] [--shape NAME] "
                              "[--work SEQSxLENGTH[,...]] [--rank R] [--targets qv|all] "
                              "[--layers N] [--iters N] [--recompute] [--full] [--fp8] "
                              "[--plain] [--tokens S] [--profile]\n");
        return 2;
    }
    pattern_make();
    bench_open(&b);
    bool fine = true;
    if (b.tokens > 0) {
        tokens_run(&b);
    } else {
        fine = works_run(&b);
    }
    seam_adapter_destroy(b.adapter);
    seam_blocks_destroy(b.blocks);
    b.ops->stream_destroy(b.stream);
    seam_backend_destroy(b.backend);
    seam_mem_free(pattern);
    return fine ? 0 : 2;
}
