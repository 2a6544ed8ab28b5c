/* Searches cuBLASLt's algorithms for each frozen product of the served shapes, in bf16 and FP8, and
 * prints the rows of the table kernels/cuda/cuda_algorithms.inc:
 *
 *   search_products [SHAPE | NAME=HIDDEN,INTERMEDIATE,Q,KV ...]     (search_products.sh keeps them)
 *
 * Candidates are all that cuBLASLt proposes, at many row counts, of those that sum over k in one
 * piece and need no workspace.  Each is timed at ROWS rows; the FINALISTS best again in turns,
 * which keeps the device at the power of a step, at the row counts of `finals`.  An algorithm
 * serves every row count, so among those within 1 % of the fastest at ROWS the one with the least
 * sum of relative times is taken, if the bits of its rows are the same at all counts of `finals`
 * and `odd`.  Random numbers: zeros run faster than any data.
 *
 * Not among them: what cublasLtMatmulAlgoGetIds and every setting of each algorithm give.  Those
 * are kernels of before Hopper, 5 to 20 times slower (H200, 13.1, 870 settings a product), without
 * the preferred algorithm (id 66), whose variants nobody has searched beyond the proposed ones.
 * These are not made again by their settings, which is why the table has them whole. */
#include <algorithm>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

#include "cuda_device.cuh"

#define ROWS      6144u
#define FINALISTS 8u
#define ROUNDS    5u
#define RUNS      2u

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

static void must(bool ok, const char *what) {
    if (!ok) {
        (void)fprintf(stderr, "search_products: %s failed\n", what);
        exit(1);
    }
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

/* `wide`: the widest row of a product. */
static void device_open(size_t wide) {
    const size_t count = ROWS * wide;
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
    cublasLtMatmulAlgo_t algo;
    float us, final_us[FINALS];
} candidate;

static std::vector<candidate> list;

/* What cuBLASLt proposes at many row counts and its check takes without workspace, its first at the
 * plan's count first. */
static void candidates_make(const task *t) {
    static const uint32_t counts[] = {2048, 6144, 16,   64,   128,  256,  384,   512,  768,
                                      1024, 1536, 3072, 4096, 5120, 8192, 12288, 16384};
    static cublasLtMatmulAlgo_t algos[SEAM_CUDA_ALGORITHMS_MAX];
    seam_cuda_described plan_shape; /* as the backend looks at a row */
    seam_cuda_product at_plan = t->product;
    at_plan.T = 2048;
    list.clear();
    must(seam_cuda_describe(&plan_shape, &at_plan), "description");
    for (uint32_t rows : counts) {
        seam_cuda_product p = t->product;
        p.T = rows;
        const uint32_t found = seam_cuda_algorithms(algos, &p, SEAM_CUDA_ALGORITHMS_MAX);
        for (uint32_t i = 0; i < found; i++) {
            bool known = false;
            for (const candidate &c : list) {
                known = known || memcmp(&c.algo, &algos[i], sizeof algos[i]) == 0;
            }
            seam_cuda_algo_row row = {};
            cublasLtMatmulAlgo_t taken;
            memcpy(row.algo, &algos[i], sizeof row.algo);
            if (!known && seam_cuda_algo_take(&taken, &row, seam_cuda_blas(backend), &plan_shape)) {
                candidate c = {};
                c.algo = algos[i];
                list.push_back(c);
            }
        }
    }
}

/* Those that run, fastest first. */
static void candidates_time(const task *t) {
    for (candidate &c : list) {
        t->plan->algo = c.algo;
        c.us = time_us(t, ROWS, 1) < 0.0f ? -1.0f : time_us(t, ROWS, RUNS);
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

/* A row of the table, of three lines; `own`: the library's first. */
static void row_print(const task *t, const candidate *best, const candidate *own, size_t ran,
                      size_t uneven) {
    const seam_cuda_product *p = &t->product;
    const uint32_t more = p->joined ? p->weight->pad : 0;
    (void)printf("/* %s%s %s:", t->name, p->joined ? " with LoRA" : "",
                 p->backward ? "backward" : "forward");
    for (size_t f = 0; f < FINALS; f++) {
        (void)printf(" %.0f (%.0f)", (double)best->final_us[f], (double)own->final_us[f]);
    }
    (void)printf(" us; of %zu, %zu uneven */\n", ran, uneven);
    (void)printf("{%u, %zu, %s, %u, %u, %s, %s,\n {", seam_cuda_backend_compute(backend),
                 cublasLtGetVersion(), t->fp8 ? "E4M3" : "BF16",
                 p->weight->N + (p->backward ? more : 0), p->weight->C + (p->backward ? 0 : more),
                 p->backward ? "BACKWARD" : "FORWARD", p->acc ? "ACC" : "ACT");
    for (int i = 0; i < 8; i++) {
        (void)printf("%s%s%llx", i > 0 ? ", " : "", best->algo.data[i] != 0 ? "0x" : "",
                     (unsigned long long)best->algo.data[i]);
    }
    (void)printf("}},\n");
    (void)fflush(stdout);
}

/* The finalists' bits are checked before they are timed; the library's first is timed with them. */
static void task_search(task *t) {
    size_t taken = 0, uneven = 0;
    candidates_make(t);
    if (list.empty()) {
        (void)printf("/* %s: none is taken */\n", t->name);
        return;
    }
    const candidate own = list[0];
    candidates_time(t);
    const size_t ran = list.size();
    for (size_t i = 0; i < ran && taken < FINALISTS; i++) {
        t->plan->algo = list[i].algo;
        if (rows_check(t)) {
            list[taken++] = list[i];
        } else {
            uneven++;
        }
    }
    must(taken > 0, "search");
    list.resize(taken);
    list.push_back(own);
    finals_run(t, taken + 1);
    row_print(t, best_of(taken), &list[taken], ran, uneven);
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
    must(seam_cuda_weight_begin(&w, backend, N, C, true, true, true) == SEAM_OK, "weight");
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

static void shape_search(const shape *s) {
    weight_search(s, "qkv", s->q + 2 * s->kv, s->hidden);
    weight_search(s, "o", s->hidden, s->q);
    weight_search(s, "gate_up", 2 * s->intermediate, s->hidden);
    weight_search(s, "down", s->hidden, s->intermediate);
}

/* A known shape by its name, or NAME=HIDDEN,INTERMEDIATE,Q,KV. */
static shape shape_of(char *text) {
    shape s = {};
    char *widths = strchr(text, '=');
    for (const shape &known : shapes) {
        if (strcmp(text, known.name) == 0) {
            return known;
        }
    }
    s.name = text;
    if (widths == NULL ||
        sscanf(widths + 1, "%u,%u,%u,%u", &s.hidden, &s.intermediate, &s.q, &s.kv) != 4) {
        (void)fprintf(
            stderr, "search_products: %s: not a shape, nor NAME=HIDDEN,INTERMEDIATE,Q,KV\n", text);
        exit(2);
    }
    *widths = '\0';
    return s;
}

int main(int argc, char **argv) {
    cudaDeviceProp properties;
    std::vector<shape> wanted;
    size_t wide = 0;
    for (int k = 1; k < argc; k++) {
        wanted.push_back(shape_of(argv[k]));
    }
    if (argc == 1) {
        wanted.assign(shapes, shapes + sizeof shapes / sizeof shapes[0]);
    }
    for (const shape &s : wanted) {
        wide = std::max<size_t>({wide, 2 * (size_t)s.intermediate, s.hidden + SEAM_LORA_PAD,
                                 s.q + 2 * (size_t)s.kv + SEAM_LORA_PAD});
    }
    device_open(wide);
    must(cudaGetDeviceProperties(&properties, 0) == cudaSuccess, "properties");
    (void)printf("/* %s, cuBLASLt %zu; us at 6144, 2048 and 512 rows (the library's first) */\n",
                 properties.name, cublasLtGetVersion());
    for (const shape &s : wanted) {
        shape_search(&s);
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
