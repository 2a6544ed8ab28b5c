/* The blocks alone at the shape of a served model: forward and backward of one micro-batch through
 * frozen random weights and LoRA, without network, codec, head and optimizer; what
 * a PyTorch step of the same blocks is compared with.
 *
 *   bench_blocks [--device D] [--act f32|bf16] [--shape NAME] [--work SEQSxLENGTH[,...]] [--rank R]
 *                [--targets qv|all] [--layers N] [--iters N] [--recompute] [--full] [--fp8]
 *                [--plain] [--own-join] [--tokens S] [--profile]
 *
 * A step is timed by the wall clock between two waits for the stream; the median of the iterations
 * is printed (--full: of full fine-tuning, six operations a weight and token), after three steps
 * that warm up, and that of the time until all of a step is queued (about the step's own where
 * launches take as long as the work); with --fp8 in act first and then with the frozen products in
 * FP8.  4N-MFU: four operations a weight and token over the rate of an 8192^3 product through the
 * same op table in the same run.  Device memory (CUDA): what the run has taken since the backend
 * was there, weights and workspaces included.
 *
 * --own-join gives the weights room for LoRA of this rank (seamd --join-rank, with --targets all
 * --join-mlp-rank); without it they have what seamd gives them by default.
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

#ifdef SEAM_CUDA
#include <cuda_runtime_api.h>
#endif

#include "arena.h"
#include "blocks_internal.h"
#include "blocks_profile.h"
#include "blocks_step.h"
#include "try.h"

#define ITERS_MAX     100u
#define WARM_STEPS    3u
#define TOKENS        200u
#define TOKENS_BEFORE 56u
#define LORA_ALL      0x7fu /* every linear of a Llama block */

typedef struct bench {
    const char *device, *work;
    seam_dtype act;
    uint32_t iters, tokens; /* tokens: slots */
    bool profile, plain, own_join, fp8;
    seam_ops plain_ops;
    blocks_step at;
    double peak_flops; /* operations a second of the large product */
    size_t taken_base_bytes;
} bench;

static size_t device_taken_bytes(void) {
#ifdef SEAM_CUDA
    size_t available = 0, total = 0;
    if (cudaMemGetInfo(&available, &total) == cudaSuccess) {
        return total - available;
    }
#endif
    return 0;
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
    blocks_random(host, count, 1.0f, 1);
    blocks_must(b->at.ops->weight_create(&w, b->at.backend, host, n, n, true, false, 0), "weight",
                NULL);
    blocks_must(b->at.ops->mem_alloc(&f32, b->at.backend, count * sizeof *host), "memory", NULL);
    blocks_must(b->at.ops->mem_alloc(&x, b->at.backend, count * sizeof *host), "memory", NULL);
    blocks_must(b->at.ops->mem_alloc(&args.y, b->at.backend, count * sizeof *host), "memory", NULL);
    blocks_random(host, count, 1.0f, 2);
    blocks_must(b->at.ops->copy_in(b->at.stream, f32, host, count * sizeof *host), "copy", NULL);
    blocks_must(b->at.ops->cast(b->at.stream, x, b->at.ops->act, f32, SEAM_F32, count), "cast",
                NULL);
    blocks_must(b->at.ops->stream_sync(b->at.stream), "sync", NULL);
    args.x = x;
    args.w = w;
    for (int round = 0; round < ROUNDS; round++) {
        const double begin = blocks_now_seconds();
        for (int i = 0; i < RUNS; i++) {
            blocks_must(b->at.ops->linear_forward(b->at.stream, &args), "product", NULL);
        }
        blocks_must(b->at.ops->stream_sync(b->at.stream), "sync", NULL);
        seconds[round] = blocks_now_seconds() - begin;
    }
    b->at.ops->mem_free(b->at.backend, args.y);
    b->at.ops->mem_free(b->at.backend, x);
    b->at.ops->mem_free(b->at.backend, f32);
    b->at.ops->weight_destroy(w);
    seam_mem_free(host);
    return 2.0 * RUNS * pow(n, 3) / median(seconds, ROUNDS);
}

static void work_run(bench *b, uint32_t seqs, uint32_t length) {
    double seconds[ITERS_MAX], queued[ITERS_MAX];
    const seam_activations_options acts = blocks_work_options(&b->at, seqs, length);
    blocks_work *w = seam_mem_zalloc(1, sizeof *w);
    SEAM_ASSERT(w != NULL);
    blocks_work_open(w, &b->at, seqs, length);
    for (uint32_t i = 0; i < WARM_STEPS; i++) {
        (void)blocks_work_seconds(queued, &b->at, w);
    }
    for (uint32_t i = 0; i < b->iters; i++) {
        seconds[i] = blocks_work_seconds(&queued[i], &b->at, w);
    }
    blocks_work_check(&b->at, w);
    const double step = median(seconds, b->iters), tokens = w->batch.rows / step;
    (void)printf("%ux%u%s: %.2f ms (fastest %.2f, queued in %.2f), %.0f tokens/s, 4N-MFU %.1f %%, "
                 "activations %.2f GiB, device memory %.2f GiB\n",
                 seqs, length, b->at.fp8 ? " in fp8" : "", 1e3 * step, 1e3 * seconds[0],
                 1e3 * median(queued, b->iters), tokens,
                 100 * 4 * blocks_step_weights(&b->at) * tokens / b->peak_flops,
                 (double)seam_activations_bytes(b->at.blocks, &acts) * 0x1p-30,
                 (double)(device_taken_bytes() - b->taken_base_bytes) * 0x1p-30);
    if (b->profile) {
        blocks_profile_begin(b->at.blocks);
        for (uint32_t i = 0; i < 3; i++) {
            (void)blocks_work_seconds(queued, &b->at, w);
        }
        blocks_profile_end(b->at.blocks, 3);
    }
    (void)fflush(stdout);
    blocks_work_close(w, &b->at);
    seam_mem_free(w);
}

/* ---- Generation ---- */
static void tokens_run(const bench *b) {
    uint32_t *slots = seam_mem_zalloc(b->tokens, sizeof *slots);
    uint32_t *positions = seam_mem_zalloc(b->tokens, sizeof *positions);
    void *x = blocks_rows_take(&b->at, b->tokens, SEAM_F32);
    void *given = blocks_rows_random(&b->at, x, b->tokens, 1.0f, 1);
    double seconds[TOKENS];
    seam_kv_cache *cache = NULL;
    seam_error err = {.status = SEAM_OK};
    SEAM_ASSERT(slots != NULL && positions != NULL);
    blocks_must(seam_kv_cache_create(&cache, b->at.blocks, b->tokens, TOKENS_BEFORE + TOKENS,
                                     b->tokens, &err),
                "cache", &err);
    for (uint32_t token = 0; token < TOKENS_BEFORE + TOKENS; token++) {
        for (uint32_t t = 0; t < b->tokens; t++) {
            slots[t] = t;
            positions[t] = token;
        }
        const double begin = blocks_now_seconds();
        blocks_must(b->at.ops->cast(b->at.stream, x, SEAM_F32, given, b->at.ops->act,
                                    (size_t)b->tokens * b->at.config.hidden),
                    "input", NULL);
        blocks_must(seam_blocks_forward_cached(b->at.blocks, b->at.adapter, cache, b->at.stream, x,
                                               b->tokens, slots, positions),
                    "forward", NULL);
        blocks_must(b->at.ops->stream_sync(b->at.stream), "sync", NULL);
        if (token >= TOKENS_BEFORE) {
            seconds[token - TOKENS_BEFORE] = blocks_now_seconds() - begin;
        }
    }
    const double token = median(seconds, TOKENS);
    (void)printf("a token in %u slots: %.3f ms (fastest %.3f), %.0f tokens/s\n", b->tokens,
                 1e3 * token, 1e3 * seconds[0], b->tokens / token);
    seam_kv_cache_destroy(cache);
    b->at.ops->mem_free(b->at.backend, given);
    b->at.ops->mem_free(b->at.backend, x);
    seam_mem_free(positions);
    seam_mem_free(slots);
}

/* ---- Command line ---- */
static bool option_set(bench *b, const char *option, const char *value) {
    if (strcmp(option, "--device") == 0) {
        b->device = value;
    } else if (strcmp(option, "--act") == 0) {
        b->act = strcmp(value, "f32") == 0 ? SEAM_F32 : SEAM_BF16;
    } else if (strcmp(option, "--shape") == 0) {
        return blocks_step_shape(&b->at, value);
    } else if (strcmp(option, "--work") == 0) {
        b->work = value;
    } else if (strcmp(option, "--rank") == 0) {
        b->at.lora.lora.rank = (uint32_t)strtoul(value, NULL, 10);
    } else if (strcmp(option, "--targets") == 0) {
        b->at.lora.lora.targets = strcmp(value, "all") == 0 ? LORA_ALL : SEAM_LORA_Q | SEAM_LORA_V;
    } else if (strcmp(option, "--layers") == 0) {
        b->at.config.layers = (uint32_t)strtoul(value, NULL, 10);
    } else if (strcmp(option, "--tokens") == 0) {
        b->tokens = (uint32_t)strtoul(value, NULL, 10);
        return b->tokens >= 1 && b->tokens <= BLOCKS_SEQS_MAX;
    } else if (strcmp(option, "--iters") == 0) {
        b->iters = (uint32_t)strtoul(value, NULL, 10);
    } else {
        return false;
    }
    return b->iters >= 1 && b->iters <= ITERS_MAX;
}

static bool options_read(bench *b, int argc, char **argv) {
    (void)blocks_step_shape(&b->at, "llama3-8b");
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--profile") == 0) {
            b->profile = true;
        } else if (strcmp(argv[i], "--fp8") == 0) {
            b->fp8 = true;
        } else if (strcmp(argv[i], "--full") == 0) {
            b->at.lora = (seam_adapter_config){.kind = SEAM_ADAPTER_FULL};
        } else if (strcmp(argv[i], "--plain") == 0) {
            b->plain = true;
        } else if (strcmp(argv[i], "--own-join") == 0) {
            b->own_join = true;
        } else if (strcmp(argv[i], "--recompute") == 0) {
            b->at.recompute = true;
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
        if (seqs < 1 || seqs > BLOCKS_SEQS_MAX || length < 1 || length > b->at.config.context_max ||
            (*end != ',' && *end != 0)) {
            return false;
        }
        for (int pass = 0; pass <= (int)b->fp8; pass++) {
            b->at.fp8 = pass == 1;
            work_run(b, (uint32_t)seqs, (uint32_t)length);
        }
        p = *end == ',' ? end + 1 : end;
    }
    return true;
}

static void bench_open(bench *b) {
    const bool all = b->at.lora.lora.targets == LORA_ALL;
    const uint32_t own_rank = b->own_join ? b->at.lora.lora.rank : 0;
    const seam_backend_options options = {.device = b->device,
                                          .act = b->act,
                                          .fp8 = b->fp8,
                                          .join_rank = own_rank,
                                          .join_mlp_rank = all ? own_rank : 0};
    seam_error err = {.status = SEAM_OK};
    blocks_must(seam_backend_create(&b->at.backend, &options, &err), "backend", &err);
    b->at.ops = seam_backend_ops(b->at.backend);
    blocks_must(b->at.ops->stream_create(&b->at.stream, b->at.backend), "stream", NULL);
    b->taken_base_bytes = device_taken_bytes();
    const bool large = strcmp(b->at.ops->name, "cuda") == 0;
    b->peak_flops = product_rate(b, large ? 8192 : 1024);
    const double begin = blocks_now_seconds();
    blocks_step_open(&b->at);
    if (b->plain) {
        b->plain_ops = *b->at.ops;
        b->plain_ops.repeat = NULL;
        b->at.blocks->ops = &b->plain_ops;
    }
    (void)printf("%s\n%s: %.3f B weights in %u layers, ready in %.1f s; LoRA rank %u on %s%s; "
                 "product of %u^3 at %.1f TFLOP/s\n",
                 seam_backend_describe(b->at.backend), b->at.config.name,
                 1e-9 * blocks_step_weights(&b->at), b->at.config.layers,
                 blocks_now_seconds() - begin, b->at.lora.lora.rank, all ? "all" : "q, v",
                 b->own_join ? ", own join" : "", large ? 8192 : 1024, 1e-12 * b->peak_flops);
    (void)fflush(stdout);
}

int main(int argc, char **argv) {
    bench b = {.device = "cuda:0",
               .work = "16x384",
               .act = SEAM_BF16,
               .at = {.lora = {.lora = {.rank = 16,
                                        .alpha = 16,
                                        .targets = SEAM_LORA_Q | SEAM_LORA_V,
                                        .seed = 1}}},
               .iters = 8};
    if (!options_read(&b, argc, argv)) {
        (void)fprintf(stderr, "usage: bench_blocks [--device D] [--act f32|bf16] [--shape NAME] "
                              "[--work SEQSxLENGTH[,...]] [--rank R] [--targets qv|all] "
                              "[--layers N] [--iters N] [--recompute] [--full] [--fp8] "
                              "[--plain] [--own-join] [--tokens S] [--profile]\n");
        return 2;
    }
    bench_open(&b);
    bool fine = true;
    if (b.tokens > 0) {
        tokens_run(&b);
    } else {
        fine = works_run(&b);
    }
    blocks_step_close(&b.at);
    b.at.ops->stream_destroy(b.at.stream);
    seam_backend_destroy(b.at.backend);
    return fine ? 0 : 2;
}
