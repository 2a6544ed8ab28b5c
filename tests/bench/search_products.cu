/* Times cuBLASLt's algorithms of each frozen product of the served shapes:
 *
 *   search_products [SHAPE ...]
 *
 * Candidates are all that cuBLASLt proposes of those that sum over k in one piece and need no
 * workspace.  Each is timed at ROWS rows; the FINALISTS best again in turns, which keeps the device
 * at the power of a step, at the row counts of `finals`.  An algorithm serves every row count, so
 * among those within 1 % of the fastest at ROWS the one with the least sum of relative times is
 * named: its place in cuBLASLt's own order, its times, and that of cuBLASLt's first.  cuda_plan.cu
 * says why there is no table of them.  Random numbers: zeros run faster than any data. */
#include <algorithm>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_ops.cuh"

#define ROWS      6144u
#define FINALISTS 10u
#define ROUNDS    7u
#define RUNS      3u

typedef struct shape {
    const char *name;
    uint32_t hidden, intermediate, q, kv;
} shape;
static const shape shapes[] = {{"llama3-8b", 4096, 14336, 4096, 1024},
                               {"qwen2.5-7b", 3584, 18944, 3584, 512},
                               {"qwen2.5-14b", 5120, 13824, 5120, 1024},
                               {"smollm2-135m", 576, 1536, 576, 192}};
static const uint32_t finals[] = {ROWS, 4096, 2048, 512};
#define FINALS (sizeof finals / sizeof finals[0])

static seam_backend *backend;
static const seam_ops *ops;
static seam_stream *stream;
static cudaEvent_t begin_event, end_event;
static void *x_rows, *y_rows; /* ROWS rows of the widest product; x bf16, y f32 */

static void must(bool ok, const char *what) {
    if (!ok) {
        (void)fprintf(stderr, "search_products: %s failed\n", what);
        exit(1);
    }
}

static float *random_rows(size_t count, float scale) {
    float *ret = (float *)seam_mem_alloc(count * sizeof *ret);
    uint32_t state = 1;
    must(ret != NULL, "memory");
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        ret[i] = scale * ((float)(state >> 8) * 0x1p-23f - 1.0f);
    }
    return ret;
}

static void device_open(void) {
    const size_t wide = 2 * (size_t)18944, count = ROWS * wide;
    const seam_backend_options options = {.device = "cuda:0", .act = SEAM_BF16, .threads = 0};
    seam_error err = {};
    if (seam_backend_create(&backend, &options, &err) != SEAM_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        exit(77);
    }
    ops = seam_backend_ops(backend);
    must(ops->stream_create(&stream, backend) == SEAM_OK, "stream");
    must(ops->mem_alloc(&x_rows, backend, count * sizeof(float)) == SEAM_OK, "memory");
    must(ops->mem_alloc(&y_rows, backend, count * sizeof(float)) == SEAM_OK, "memory");
    float *host = random_rows(count, 1.0f);
    must(ops->copy_in(stream, y_rows, host, count * sizeof(float)) == SEAM_OK, "copy");
    must(ops->cast(stream, x_rows, SEAM_BF16, y_rows, SEAM_F32, count) == SEAM_OK, "cast");
    must(ops->stream_sync(stream) == SEAM_OK, "sync");
    seam_mem_free(host);
    must(cudaEventCreate(&begin_event) == cudaSuccess, "event");
    must(cudaEventCreate(&end_event) == cudaSuccess, "event");
}

/* Microseconds of one run; negative: the algorithm does not run. */
static float time_us(const seam_cuda_product *product, float beta, uint32_t runs) {
    float ms = 0.0f;
    bool ok = cudaEventRecord(begin_event, seam_cuda_queue(stream)) == cudaSuccess;
    for (uint32_t i = 0; i < runs; i++) {
        ok = ok && seam_cuda_product_run(stream, product, beta) == SEAM_OK;
    }
    ok = ok && cudaEventRecord(end_event, seam_cuda_queue(stream)) == cudaSuccess &&
         cudaEventSynchronize(end_event) == cudaSuccess &&
         cudaEventElapsedTime(&ms, begin_event, end_event) == cudaSuccess;
    (void)cudaGetLastError();
    return ok ? 1e3f * ms / (float)runs : -1.0f;
}

typedef struct candidate {
    cublasLtMatmulAlgo_t algo;
    uint32_t place; /* in cuBLASLt's own order */
    float us, final_us[FINALS];
} candidate;

/* Candidates that run, fastest first. */
static uint32_t candidates_find(candidate *ret, seam_cuda_plan *plan,
                                const seam_cuda_product *product, float beta) {
    static cublasLtMatmulAlgo_t algos[SEAM_CUDA_ALGORITHMS_MAX];
    const uint32_t found = seam_cuda_algorithms(algos, product, SEAM_CUDA_ALGORITHMS_MAX);
    uint32_t count = 0;
    for (uint32_t i = 0; i < found; i++) {
        plan->algo = algos[i];
        plan->found = true;
        const float warm = time_us(product, beta, 1);
        const float us = warm < 0.0f ? warm : time_us(product, beta, RUNS);
        if (us > 0.0f) {
            ret[count++] = {algos[i], i, us, {}};
        }
    }
    std::sort(ret, ret + count, [](const candidate &a, const candidate &b) { return a.us < b.us; });
    return count;
}

/* Fills in final_us: medians of rounds in which the finalists take turns. */
static void finals_run(candidate *list, uint32_t count, seam_cuda_plan *plan,
                       seam_cuda_product product, float beta) {
    static float us[FINALISTS][ROUNDS];
    for (size_t f = 0; f < FINALS; f++) {
        product.T = finals[f];
        for (uint32_t round = 0; round < ROUNDS; round++) {
            for (uint32_t i = 0; i < count; i++) {
                plan->algo = list[i].algo;
                us[i][round] = time_us(&product, beta, RUNS);
            }
        }
        for (uint32_t i = 0; i < count; i++) {
            std::sort(us[i], us[i] + ROUNDS);
            list[i].final_us[f] = us[i][ROUNDS / 2];
        }
    }
}

static const candidate *best_of(const candidate *list, uint32_t count) {
    float least[FINALS];
    const candidate *best = NULL;
    float best_sum = 0.0f;
    for (size_t f = 0; f < FINALS; f++) {
        least[f] = list[0].final_us[f];
        for (uint32_t i = 0; i < count; i++) {
            least[f] = std::min(least[f], list[i].final_us[f]);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        float sum = 0.0f;
        for (size_t f = 0; f < FINALS; f++) {
            sum += list[i].final_us[f] / least[f];
        }
        if (list[i].final_us[0] <= 1.01f * least[0] && (best == NULL || sum < best_sum)) {
            best = &list[i];
            best_sum = sum;
        }
    }
    return best;
}

static void product_search(const char *name, seam_weight *w, bool backward, bool acc, float beta) {
    static candidate list[SEAM_CUDA_ALGORITHMS_MAX];
    const uint32_t N = w->N, C = w->C;
    const seam_cuda_product product = {.weight = w,
                                       .x = x_rows,
                                       .y = y_rows,
                                       .T = ROWS,
                                       .x_ld = backward ? N : C,
                                       .y_ld = backward ? C : N,
                                       .backward = backward,
                                       .acc = acc};
    seam_cuda_plan *plan = backward ? &w->backward[acc] : &w->forward[acc];
    const uint32_t found = candidates_find(list, plan, &product, beta);
    const uint32_t count = std::min(found, FINALISTS);
    must(count > 0, "search");
    float first_us = 0.0f;
    for (uint32_t i = 0; i < found; i++) {
        first_us = list[i].place == 0 ? list[i].us : first_us;
    }
    finals_run(list, count, plan, product, beta);
    const candidate *best = best_of(list, count);
    (void)printf("%-24s %s %s: %3u ran, own first %7.1f us, found %3u", name,
                 backward ? "backward" : "forward ", acc ? "f32 " : "bf16", found, (double)first_us,
                 best->place);
    for (size_t f = 0; f < FINALS; f++) {
        const double us = (double)best->final_us[f];
        (void)printf("  %u rows %.1f us %.0f TFLOP/s", finals[f], us,
                     2e-6 * finals[f] * N * C / us);
    }
    (void)printf("\n");
    (void)fflush(stdout);
}

static void weight_search(const shape *s, const char *part, uint32_t N, uint32_t C) {
    char name[64];
    seam_weight *w = NULL;
    float *rows = random_rows((size_t)N * C, 0.03f);
    must(ops->weight_create(&w, backend, rows, N, C, true, true) == SEAM_OK, "weight");
    seam_mem_free(rows);
    (void)snprintf(name, sizeof name, "%s %s", s->name, part);
    for (int acc = 0; acc < 2; acc++) {
        product_search(name, w, false, acc == 1, acc == 1 && N == s->hidden ? 1.0f : 0.0f);
        product_search(name, w, true, acc == 1, 0.0f);
    }
    ops->weight_destroy(w);
}

int main(int argc, char **argv) {
    cudaDeviceProp properties;
    device_open();
    must(cudaGetDeviceProperties(&properties, 0) == cudaSuccess, "properties");
    (void)printf("%s, cuBLASLt %zu\n", properties.name, cublasLtGetVersion());
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const shape *s = &shapes[i];
        bool wanted = argc == 1;
        for (int k = 1; k < argc; k++) {
            wanted = wanted || strcmp(argv[k], s->name) == 0;
        }
        if (wanted) {
            weight_search(s, "qkv", s->q + 2 * s->kv, s->hidden);
            weight_search(s, "o", s->hidden, s->q);
            weight_search(s, "gate_up", 2 * s->intermediate, s->hidden);
            weight_search(s, "down", s->hidden, s->intermediate);
        }
    }
    ops->mem_free(backend, y_rows);
    ops->mem_free(backend, x_rows);
    ops->stream_destroy(stream);
    seam_backend_destroy(backend);
    return 0;
}
