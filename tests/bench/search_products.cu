/* Searches cuBLASLt's algorithms for each frozen product of the served shapes, in bf16 and FP8, and
 * prints the rows of the table in kernels/cuda/cuda_algorithms.cu:
 *
 *   search_products [--seconds S] [SHAPE ...]
 *
 * Candidates are those that cuBLASLt proposes and every setting of every algorithm it names (tile,
 * stages, cluster, swizzle, custom option) that it takes for the product without workspace and
 * split sum, each made from its settings as the table's are.  They are timed once or twice at ROWS
 * rows for S seconds a product at most, proposals and their algorithms first; the FINALISTS best
 * again in turns, which keeps the device at the power of a step, at the row counts of `finals`.  An
 * algorithm serves every row count, so among those within 1 % of the fastest at ROWS the one with
 * the least sum of relative times is taken, if the bits of its rows are the same at all counts of
 * `finals` and `odd`.  Random numbers: zeros run faster than any data. */
#include <algorithm>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <vector>

#include "cuda_device.cuh"

#define ROWS       6144u
#define FINALISTS  8u
#define ROUNDS     5u
#define RUNS       2u
#define IDS_MAX    256
#define VALUES_MAX 128

typedef struct shape {
    const char *name;
    uint32_t hidden, intermediate, q, kv;
} shape;
static const shape shapes[] = {{"llama3-8b", 4096, 14336, 4096, 1024},
                               {"qwen2.5-7b", 3584, 18944, 3584, 512},
                               {"qwen2.5-14b", 5120, 13824, 5120, 1024},
                               {"smollm2-135m", 576, 1536, 576, 192}};
static const uint32_t finals[] = {ROWS, 2048, 512};
static const uint32_t odd[] = {4096, 1000, 77, 1};
#define FINALS (sizeof finals / sizeof finals[0])

static seam_backend *backend;
static const seam_ops *ops;
static seam_stream *stream;
static cudaEvent_t begin_event, end_event;
/* ROWS rows of the widest product: x in bf16, room for it in FP8, y in f32, twice */
static void *x_rows, *x_fp8, *y_rows, *y_again;
static float *x_scale;
static uint32_t *differing;
static double seconds_max = 0.6;

static void must(bool ok, const char *what) {
    if (!ok) {
        (void)fprintf(stderr, "search_products: %s failed\n", what);
        exit(1);
    }
}

static double now_seconds(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- kernels ---- */
static __global__ void random_kernel(__nv_bfloat16 *ret, size_t count, float scale) {
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x) {
        uint64_t z = (i + 1) * 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        ret[i] = __float2bfloat16(scale * ((float)(uint32_t)(z >> 40) * 0x1p-23f - 1.0f));
    }
}

static __global__ void differ_kernel(uint32_t *ret, const uint32_t *a, const uint32_t *b,
                                     size_t count) {
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x) {
        if (a[i] != b[i]) {
            atomicAdd(ret, 1u);
        }
    }
}

/* ---- the search ---- */
static void random_fill(void *bf16, size_t count, float scale) {
    random_kernel<<<1024, 256, 0, seam_cuda_queue(stream)>>>((__nv_bfloat16 *)bf16, count, scale);
    must(SEAM_CUDA_LAUNCHED() == SEAM_OK && ops->stream_sync(stream) == SEAM_OK, "random");
}

static void device_open(void) {
    const size_t wide = 2 * (size_t)18944, count = ROWS * wide;
    const seam_backend_options options = {
        .device = "cuda:0", .act = SEAM_BF16, .threads = 0, .fp8 = true};
    seam_error err = {};
    if (seam_backend_create(&backend, &options, &err) != SEAM_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        exit(77);
    }
    ops = seam_backend_ops(backend);
    must(ops->stream_create(&stream, backend) == SEAM_OK, "stream");
    must(ops->mem_alloc(&x_rows, backend, count * sizeof(uint16_t)) == SEAM_OK, "memory");
    must(ops->mem_alloc(&x_fp8, backend, count * sizeof(uint16_t)) == SEAM_OK, "memory");
    must(ops->mem_alloc(&y_rows, backend, count * sizeof(float)) == SEAM_OK, "memory");
    must(ops->mem_alloc(&y_again, backend, count * sizeof(float)) == SEAM_OK, "memory");
    must(ops->mem_alloc((void **)&x_scale, backend, ROWS * sizeof(float)) == SEAM_OK, "memory");
    must(ops->mem_alloc((void **)&differing, backend, sizeof *differing) == SEAM_OK, "memory");
    random_fill(x_rows, count, 1.0f);
    must(cudaEventCreate(&begin_event) == cudaSuccess, "event");
    must(cudaEventCreate(&end_event) == cudaSuccess, "event");
}

/* A product under search. */
typedef struct task {
    const char *name;
    seam_cuda_product product;
    seam_cuda_plan *plan;
    float beta;
    bool fp8;
} task;

/* Microseconds of one run; negative: the algorithm does not run. */
static float time_us(const task *t, uint32_t rows, uint32_t runs) {
    float ms = 0.0f;
    seam_cuda_product p = t->product;
    p.T = rows;
    bool ok = cudaEventRecord(begin_event, seam_cuda_queue(stream)) == cudaSuccess;
    for (uint32_t i = 0; i < runs; i++) {
        ok = ok && seam_cuda_product_run(stream, &p, t->beta) == SEAM_OK;
    }
    ok = ok && cudaEventRecord(end_event, seam_cuda_queue(stream)) == cudaSuccess &&
         cudaEventSynchronize(end_event) == cudaSuccess &&
         cudaEventElapsedTime(&ms, begin_event, end_event) == cudaSuccess;
    (void)cudaGetLastError();
    return ok ? 1e3f * ms / (float)runs : -1.0f;
}

typedef struct candidate {
    seam_cuda_algo config;
    cublasLtMatmulAlgo_t algo;
    bool proposed;
    float us, final_us[FINALS];
} candidate;

static std::vector<candidate> list;
static uint32_t refused; /* proposals that their settings do not make again */

static void candidate_add(seam_cuda_described *d, const seam_cuda_algo *config, bool proposed) {
    candidate c = {};
    c.config = *config;
    c.proposed = proposed;
    for (const candidate &other : list) {
        if (memcmp(&other.config, config, sizeof *config) == 0) {
            return;
        }
    }
    if (seam_cuda_algo_make(&c.algo, seam_cuda_blas(backend), d, config)) {
        list.push_back(c);
    } else {
        refused += proposed;
    }
}

/* The values of a capability that is a list; one 0 where there is none. */
static std::vector<uint32_t> values_of(const cublasLtMatmulAlgo_t *algo,
                                       cublasLtMatmulAlgoCapAttributes_t cap) {
    uint32_t values[VALUES_MAX] = {0};
    size_t written = 0;
    if (cublasLtMatmulAlgoCapGetAttribute(algo, cap, values, sizeof values, &written) !=
            CUBLAS_STATUS_SUCCESS ||
        written < sizeof *values) {
        return {0};
    }
    return std::vector<uint32_t>(values, values + written / sizeof *values);
}

static int32_t number_of(const cublasLtMatmulAlgo_t *algo, cublasLtMatmulAlgoCapAttributes_t cap) {
    int32_t value = 0;
    size_t written = 0;
    return cublasLtMatmulAlgoCapGetAttribute(algo, cap, &value, sizeof value, &written) ==
                   CUBLAS_STATUS_SUCCESS
               ? value
               : 0;
}

/* Every setting of an algorithm; the table's clusters are those of up to eight blocks. */
static void settings_add(seam_cuda_described *d, int id, cudaDataType_t x, cudaDataType_t y,
                         double end) {
    static const uint32_t clusters[] = {0, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12};
    cublasLtMatmulAlgo_t algo;
    if (cublasLtMatmulAlgoInit(seam_cuda_blas(backend), CUBLAS_COMPUTE_32F, CUDA_R_32F, x, x, y, y,
                               id, &algo) != CUBLAS_STATUS_SUCCESS) {
        return;
    }
    const int32_t custom_max = std::min(number_of(&algo, CUBLASLT_ALGO_CAP_CUSTOM_OPTION_MAX), 255);
    const int32_t swizzles = number_of(&algo, CUBLASLT_ALGO_CAP_CTA_SWIZZLING_SUPPORT);
    for (uint32_t tile : values_of(&algo, CUBLASLT_ALGO_CAP_TILE_IDS)) {
        for (uint32_t stages : values_of(&algo, CUBLASLT_ALGO_CAP_STAGES_IDS)) {
            for (uint32_t cluster : clusters) {
                for (int32_t custom = 0; custom <= custom_max && now_seconds() < end; custom++) {
                    for (int32_t swizzle = 0; swizzle <= swizzles; swizzle++) {
                        const seam_cuda_algo config = {
                            id, tile, stages, (uint32_t)swizzle, (uint32_t)custom, 0, cluster};
                        candidate_add(d, &config, false);
                    }
                }
            }
        }
    }
}

/* All candidates: what cuBLASLt proposes at several row counts, then the settings of its
 * algorithms, those of the proposed ones first; how many algorithms there are. */
static int candidates_make(const task *t) {
    static cublasLtMatmulAlgo_t algos[SEAM_CUDA_ALGORITHMS_MAX];
    const cudaDataType_t x = t->fp8 ? CUDA_R_8F_E4M3 : CUDA_R_16BF;
    const cudaDataType_t y = t->product.acc ? CUDA_R_32F : CUDA_R_16BF;
    int ids[IDS_MAX], id_count = 0;
    seam_cuda_described d;
    list.clear();
    refused = 0;
    must(seam_cuda_describe(&d, &t->product), "description");
    for (uint32_t rows : {2048u, ROWS, 512u, 128u}) {
        seam_cuda_product p = t->product;
        p.T = rows;
        const uint32_t found = seam_cuda_algorithms(algos, &p, SEAM_CUDA_ALGORITHMS_MAX);
        for (uint32_t i = 0; i < found; i++) {
            seam_cuda_algo config = {};
            if (seam_cuda_algo_read(&config, &algos[i])) {
                candidate_add(&d, &config, true);
            }
        }
    }
    must(cublasLtMatmulAlgoGetIds(seam_cuda_blas(backend), CUBLAS_COMPUTE_32F, CUDA_R_32F, x, x, y,
                                  y, IDS_MAX, ids, &id_count) == CUBLAS_STATUS_SUCCESS,
         "algorithms");
    const size_t proposals = list.size();
    const double end = now_seconds() + seconds_max;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < id_count; i++) {
            bool own = false;
            for (size_t k = 0; k < proposals; k++) {
                own = own || list[k].config.id == ids[i];
            }
            if (own == (pass == 0)) {
                settings_add(&d, ids[i], x, y, end);
            }
        }
    }
    return id_count;
}

/* Times what there is until the time is up; fastest first. */
static void candidates_time(const task *t) {
    const double end = now_seconds() + seconds_max;
    float best = 1e9f;
    for (candidate &c : list) {
        c.us = -1.0f;
        if (!c.proposed && now_seconds() > end) {
            continue;
        }
        t->plan->algo = c.algo;
        const float warm = time_us(t, ROWS, 1);
        c.us = warm < 0.0f || warm > 3.0f * best + 2000.0f ? -1.0f : time_us(t, ROWS, 1);
        best = c.us > 0.0f ? std::min(best, c.us) : best;
    }
    list.erase(
        std::remove_if(list.begin(), list.end(), [](const candidate &c) { return c.us <= 0.0f; }),
        list.end());
    std::sort(list.begin(), list.end(),
              [](const candidate &a, const candidate &b) { return a.us < b.us; });
}

/* Whether rows have the same bits at all counts. */
static bool rows_check(const task *t) {
    const seam_cuda_product *p = &t->product;
    const uint32_t cols = p->y_ld;
    const size_t row_bytes = (size_t)cols * (p->acc ? sizeof(float) : sizeof(uint16_t));
    uint32_t count = 0;
    bool same = true;
    must(ops->zero(stream, y_rows, ROWS * row_bytes) == SEAM_OK, "zero");
    same = time_us(t, ROWS, 1) > 0.0f;
    for (uint32_t rows : {finals[1], finals[2], odd[0], odd[1], odd[2], odd[3]}) {
        task other = *t;
        other.product.y = y_again;
        must(ops->zero(stream, y_again, rows * row_bytes) == SEAM_OK, "zero");
        must(ops->zero(stream, differing, sizeof count) == SEAM_OK, "zero");
        same = same && time_us(&other, rows, 1) > 0.0f;
        differ_kernel<<<512, 256, 0, seam_cuda_queue(stream)>>>(
            differing, (const uint32_t *)y_rows, (const uint32_t *)y_again, rows * row_bytes / 4);
        must(ops->copy_out(stream, &count, differing, sizeof count) == SEAM_OK, "copy");
        same = same && count == 0;
    }
    return same;
}

/* Fills in final_us: medians of rounds in which the finalists take turns. */
static void finals_run(const task *t, size_t count) {
    static float us[FINALISTS + 1][ROUNDS];
    for (size_t f = 0; f < FINALS; f++) {
        for (uint32_t round = 0; round < ROUNDS; round++) {
            for (size_t i = 0; i < count; i++) {
                t->plan->algo = list[i].algo;
                us[i][round] = time_us(t, finals[f], RUNS);
            }
        }
        for (size_t i = 0; i < count; i++) {
            std::sort(us[i], us[i] + ROUNDS);
            list[i].final_us[f] = us[i][ROUNDS / 2];
        }
    }
}

static const candidate *best_of(size_t count) {
    float least[FINALS], best_sum = 0.0f;
    const candidate *best = NULL;
    for (size_t f = 0; f < FINALS; f++) {
        least[f] = list[0].final_us[f];
        for (size_t i = 0; i < count; i++) {
            least[f] = std::min(least[f], list[i].final_us[f]);
        }
    }
    for (size_t i = 0; i < count; i++) {
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

/* The finalists' bits are checked before they are timed; the library's first is timed with them. */
static void task_search(task *t) {
    const seam_cuda_product *p = &t->product;
    candidate own = {};
    own.algo = t->plan->algo;
    const int ids = candidates_make(t);
    const size_t made = list.size();
    candidates_time(t);
    const size_t ran = list.size();
    size_t taken = 0, uneven = 0;
    for (size_t i = 0; i < ran && taken < FINALISTS; i++) {
        t->plan->algo = list[i].algo;
        if (rows_check(t)) {
            list[taken++] = list[i];
        } else {
            uneven++;
        }
    }
    if (taken == 0) {
        (void)printf("/* %s: none */\n", t->name);
        return;
    }
    list.resize(taken);
    list.push_back(own);
    finals_run(t, taken + 1);
    const candidate *best = best_of(taken);
    const seam_cuda_algo *c = &best->config;
    const uint32_t more = p->joined ? p->weight->pad : 0;
    (void)printf("    {%s, %u, %u, %s, %s, {%d, %u, %u, %u, %u, %u, %u}}, /* %s: ",
                 t->fp8 ? "true" : "false", p->weight->N + (p->backward ? more : 0),
                 p->weight->C + (p->backward ? 0 : more), p->backward ? "true" : "false",
                 p->acc ? "true" : "false", c->id, c->tile, c->stages, c->swizzle, c->custom,
                 c->inner, c->cluster, t->name);
    for (size_t f = 0; f < FINALS; f++) {
        (void)printf("%.0f (%.0f) ", (double)best->final_us[f], (double)list[taken].final_us[f]);
    }
    (void)printf("us; %d ids, %zu made, %zu ran, %u refused, %zu uneven%s */\n", ids, made, ran,
                 refused, uneven, best->proposed ? "" : ", not proposed");
    (void)fflush(stdout);
}

typedef enum product_kind { IN_BF16, IN_FP8, JOINED } product_kind;

static void product_search(const char *name, seam_weight *w, product_kind kind, bool backward,
                           bool acc, float beta) {
    const bool fp8 = kind == IN_FP8, joined = kind == JOINED;
    const uint32_t K = (backward ? w->N : w->C) + (joined ? w->pad : 0);
    task t = {.name = name,
              .product = {.weight = w,
                          .x = fp8 ? x_fp8 : x_rows,
                          .y = y_rows,
                          .T = ROWS,
                          .x_ld = K,
                          .y_ld = backward ? w->C : w->N,
                          .backward = backward,
                          .acc = acc,
                          .joined = joined,
                          .fp8_room = NULL,
                          .x_scale = fp8 ? x_scale : NULL},
              .plan = fp8        ? &w->fp8[backward].plan[acc]
                      : joined   ? &w->joined[backward][acc]
                      : backward ? &w->backward[acc]
                                 : &w->forward[acc],
              .beta = beta,
              .fp8 = fp8};
    if (fp8) {
        must(seam_cuda_fp8_rows(stream, x_fp8, 2 * (size_t)K, x_scale, x_rows, K, ROWS, K) ==
                 SEAM_OK,
             "rounding");
    }
    if (t.plan->found) {
        task_search(&t);
    }
}

/* The products of a step: o and down add to the residual stream forward; those with LoRA have it in
 * their sum, but in FP8, where they go through a room in f32. */
static void weight_search(const shape *s, const char *part, uint32_t N, uint32_t C) {
    const bool adds = strcmp(part, "o") == 0 || strcmp(part, "down") == 0;
    const bool adapted = strcmp(part, "qkv") == 0;
    char name[64];
    seam_weight *w = NULL;
    must(seam_cuda_weight_begin(&w, backend, N, C, true, true) == SEAM_OK, "weight");
    random_fill(w->rows, ((size_t)N + w->pad) * (C + w->pad), 0.03f);
    must(seam_cuda_weight_end(w, backend) == SEAM_OK, "weight");
    (void)snprintf(name, sizeof name, "%s %s", s->name, part);
    for (int backward = 0; backward < 2; backward++) {
        const bool acc = adds && backward == 0;
        product_search(name, w, IN_BF16, backward == 1, acc, acc ? 1.0f : 0.0f);
        product_search(name, w, IN_FP8, backward == 1, acc, acc ? 1.0f : 0.0f);
        if (adapted) {
            product_search(name, w, JOINED, backward == 1, false, 0.0f);
            product_search(name, w, IN_FP8, backward == 1, true, 0.0f);
        }
    }
    ops->weight_destroy(w);
}

int main(int argc, char **argv) {
    cudaDeviceProp properties;
    int first = 1;
    if (argc > 2 && strcmp(argv[1], "--seconds") == 0) {
        seconds_max = strtod(argv[2], NULL);
        first = 3;
    }
    device_open();
    must(cudaGetDeviceProperties(&properties, 0) == cudaSuccess, "properties");
    (void)printf("/* %s, cuBLASLt %zu; us at 6144, 2048 and 512 rows (the library's first) */\n",
                 properties.name, cublasLtGetVersion());
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const shape *s = &shapes[i];
        bool wanted = argc == first;
        for (int k = first; k < argc; k++) {
            wanted = wanted || strcmp(argv[k], s->name) == 0;
        }
        if (wanted) {
            weight_search(s, "qkv", s->q + 2 * s->kv, s->hidden);
            weight_search(s, "o", s->hidden, s->q);
            weight_search(s, "gate_up", 2 * s->intermediate, s->hidden);
            weight_search(s, "down", s->hidden, s->intermediate);
        }
    }
    ops->mem_free(backend, differing);
    ops->mem_free(backend, x_scale);
    ops->mem_free(backend, y_again);
    ops->mem_free(backend, y_rows);
    ops->mem_free(backend, x_fp8);
    ops->mem_free(backend, x_rows);
    ops->stream_destroy(stream);
    seam_backend_destroy(backend);
    return 0;
}
