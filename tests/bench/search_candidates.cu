/* Candidates of search_products.cuh: the device, what cuBLASLt proposes for a product, its times
 * and bits, and the rows of the table.
 *
 * Candidates are all that cuBLASLt proposes, at many row counts, of those that sum over k in one
 * piece and need no workspace.
 *
 * Not among them: what cublasLtMatmulAlgoGetIds and every setting of each algorithm give.  Those
 * are kernels of before Hopper, 5 to 20 times slower (H200, 13.1, 870 settings a product), without
 * the preferred algorithm (id 66), whose variants nobody has searched beyond the proposed ones.
 * These are not made again by their settings, which is why the table has them whole. */
#include "search_products.cuh"

#include <algorithm>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

search_device search;

#define ROUNDS   5u
#define RUNS     2u
#define BATCH_US 2e4f /* queued at a time */

static const uint32_t finals[SEARCH_FINALS] = {SEARCH_ROWS, 2048, 512};
static const uint32_t odd[] = {4096, 1000, 77, 1};
static cudaEvent_t begin_event, end_event;
static void *y_again; /* as search.y_rows */
static uint32_t *differing;

void search_must(bool ok, const char *what) {
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

/* ---- the device ---- */
void search_random(void *bf16, size_t count, float scale) {
    random_kernel<<<1024, 256, 0, seam_cuda_queue(search.stream)>>>((__nv_bfloat16 *)bf16, count,
                                                                    scale);
    search_must(SEAM_CUDA_LAUNCHED() == SEAM_OK &&
                    search.ops->stream_sync(search.stream) == SEAM_OK,
                "random");
}

static void *rows_take(size_t bytes) {
    void *rows = NULL;
    search_must(search.ops->mem_alloc(&rows, search.backend, bytes) == SEAM_OK, "memory");
    return rows;
}

void search_open(size_t wide, bool fp8) {
    const size_t count = SEARCH_ROWS * wide;
    const seam_backend_options options = {
        .device = "cuda:0", .act = SEAM_BF16, .threads = 0, .fp8 = fp8};
    seam_error err = {};
    if (seam_backend_create(&search.backend, &options, &err) != SEAM_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        exit(77);
    }
    search.ops = seam_backend_ops(search.backend);
    search_must(search.ops->stream_create(&search.stream, search.backend) == SEAM_OK, "stream");
    search.x_rows = rows_take(count * sizeof(uint16_t));
    search.x_fp8 = rows_take(count * sizeof(uint16_t));
    search.y_rows = rows_take(count * sizeof(float));
    y_again = rows_take(count * sizeof(float));
    search.x_scale = (float *)rows_take(SEARCH_ROWS * sizeof(float));
    differing = (uint32_t *)rows_take(sizeof *differing);
    search_random(search.x_rows, count, 1.0f);
    search_must(cudaEventCreate(&begin_event) == cudaSuccess, "event");
    search_must(cudaEventCreate(&end_event) == cudaSuccess, "event");
}

void search_close(void) {
    search.ops->mem_free(search.backend, differing);
    search.ops->mem_free(search.backend, search.x_scale);
    search.ops->mem_free(search.backend, y_again);
    search.ops->mem_free(search.backend, search.y_rows);
    search.ops->mem_free(search.backend, search.x_fp8);
    search.ops->mem_free(search.backend, search.x_rows);
    search.ops->stream_destroy(search.stream);
    seam_backend_destroy(search.backend);
}

/* ---- a product ---- */
search_task search_task_of(const char *name, seam_weight *weight, search_kind kind, bool backward,
                           bool acc, float beta) {
    const bool fp8 = kind == SEARCH_FP8, joined = kind == SEARCH_JOINED;
    const uint32_t K = (backward ? weight->N : weight->C) + (joined ? weight->pad : 0);
    search_task t = {.name = "",
                     .product = {.weight = weight,
                                 .x = fp8 ? search.x_fp8 : search.x_rows,
                                 .y = search.y_rows,
                                 .T = SEARCH_ROWS,
                                 .x_ld = K,
                                 .y_ld = backward ? weight->C : weight->N,
                                 .backward = backward,
                                 .acc = acc,
                                 .joined = joined,
                                 .fp8_room = NULL,
                                 .x_scale = fp8 ? search.x_scale : NULL},
                     .beta = beta,
                     .fp8 = fp8};
    (void)snprintf(t.name, sizeof t.name, "%s", name);
    return t;
}

seam_cuda_plan *search_plan(const search_task *task, seam_weight *weight) {
    const seam_cuda_product *p = &task->product;
    return task->fp8     ? &weight->fp8[p->backward].plan[p->acc]
           : p->joined   ? &weight->joined[p->backward][p->acc]
           : p->backward ? &weight->backward[p->acc]
                         : &weight->forward[p->acc];
}

static void algo_set(const search_task *task, const cublasLtMatmulAlgo_t *algo) {
    search_plan(task, (seam_weight *)task->product.weight)->algo = *algo;
}

/* Microseconds of one run; negative: the algorithm does not run. */
static float time_us(const search_task *t, uint32_t rows, uint32_t runs) {
    float ms = 0.0f;
    seam_cuda_product p = t->product;
    p.T = rows;
    bool ok = cudaEventRecord(begin_event, seam_cuda_queue(search.stream)) == cudaSuccess;
    for (uint32_t i = 0; i < runs; i++) {
        ok = ok && seam_cuda_product_run(search.stream, &p, t->beta) == SEAM_OK;
    }
    ok = ok && cudaEventRecord(end_event, seam_cuda_queue(search.stream)) == cudaSuccess &&
         cudaEventSynchronize(end_event) == cudaSuccess &&
         cudaEventElapsedTime(&ms, begin_event, end_event) == cudaSuccess;
    (void)cudaGetLastError();
    return ok ? 1e3f * ms / (float)runs : -1.0f;
}

search_list search_candidates(const search_task *t) {
    static const uint32_t counts[] = {2048, 6144, 16,   64,   128,  256,  384,   512,  768,
                                      1024, 1536, 3072, 4096, 5120, 8192, 12288, 16384};
    static cublasLtMatmulAlgo_t algos[SEAM_CUDA_ALGORITHMS_MAX];
    seam_cuda_described plan_shape; /* as the backend looks at a row */
    search_list list;
    seam_cuda_product at_plan = t->product;
    at_plan.T = 2048;
    search_must(seam_cuda_describe(&plan_shape, &at_plan), "description");
    for (uint32_t rows : counts) {
        seam_cuda_product p = t->product;
        p.T = rows;
        const uint32_t found = seam_cuda_algorithms(algos, &p, SEAM_CUDA_ALGORITHMS_MAX);
        for (uint32_t i = 0; i < found; i++) {
            bool known = false;
            for (const search_candidate &c : list) {
                known = known || memcmp(&c.algo, &algos[i], sizeof algos[i]) == 0;
            }
            seam_cuda_algo_row row = {};
            cublasLtMatmulAlgo_t taken;
            memcpy(row.algo, &algos[i], sizeof row.algo);
            if (!known &&
                seam_cuda_algo_take(&taken, &row, seam_cuda_blas(search.backend), &plan_shape)) {
                search_candidate c = {};
                c.algo = algos[i];
                list.push_back(c);
            }
        }
    }
    return list;
}

void search_time(search_list *list, const search_task *task) {
    for (search_candidate &c : *list) {
        algo_set(task, &c.algo);
        c.us = time_us(task, SEARCH_ROWS, 1) < 0.0f ? -1.0f : time_us(task, SEARCH_ROWS, RUNS);
    }
    list->erase(std::remove_if(list->begin(), list->end(),
                               [](const search_candidate &c) { return c.us <= 0.0f; }),
                list->end());
    std::sort(list->begin(), list->end(),
              [](const search_candidate &a, const search_candidate &b) { return a.us < b.us; });
}

bool search_bits_same(const search_task *t, const search_candidate *candidate) {
    algo_set(t, &candidate->algo);
    const seam_cuda_product *p = &t->product;
    const uint32_t cols = p->y_ld;
    const size_t row_bytes = (size_t)cols * (p->acc ? sizeof(float) : sizeof(uint16_t));
    uint32_t count = 0;
    bool same = true;
    search_must(search.ops->zero(search.stream, search.y_rows, SEARCH_ROWS * row_bytes) == SEAM_OK,
                "zero");
    same = time_us(t, SEARCH_ROWS, 1) > 0.0f;
    for (uint32_t rows : {finals[1], finals[2], odd[0], odd[1], odd[2], odd[3]}) {
        search_task other = *t;
        other.product.y = y_again;
        search_must(search.ops->zero(search.stream, y_again, rows * row_bytes) == SEAM_OK, "zero");
        search_must(search.ops->zero(search.stream, differing, sizeof count) == SEAM_OK, "zero");
        same = same && time_us(&other, rows, 1) > 0.0f;
        differ_kernel<<<512, 256, 0, seam_cuda_queue(search.stream)>>>(
            differing, (const uint32_t *)search.y_rows, (const uint32_t *)y_again,
            rows * row_bytes / 4);
        search_must(search.ops->copy_out(search.stream, &count, differing, sizeof count) == SEAM_OK,
                    "copy");
        same = same && count == 0;
    }
    return same;
}

float search_steady_us(const search_task *task, const search_candidate *candidate, double settle,
                       double measure) {
    float us = 0.0f, sum = 0.0f;
    uint32_t count = 0;
    algo_set(task, &candidate->algo);
    const uint32_t runs = 1 + (uint32_t)(BATCH_US / std::max(1.0f, time_us(task, SEARCH_ROWS, 1)));
    for (double spent = 0.0; spent < settle; spent += 1e-6 * runs * std::max(1.0f, us)) {
        us = time_us(task, SEARCH_ROWS, runs);
    }
    for (double spent = 0.0; spent < measure; spent += 1e-6 * runs * std::max(1.0f, us)) {
        us = time_us(task, SEARCH_ROWS, runs);
        sum += us;
        count++;
    }
    return sum / (float)std::max(1u, count);
}

void search_finals(search_list *list, const search_task *task) {
    std::vector<std::vector<float>> us(list->size(), std::vector<float>(ROUNDS));
    for (size_t f = 0; f < SEARCH_FINALS; f++) {
        for (uint32_t round = 0; round < ROUNDS; round++) {
            for (size_t i = 0; i < list->size(); i++) {
                algo_set(task, &(*list)[i].algo);
                us[i][round] = time_us(task, finals[f], RUNS);
            }
        }
        for (size_t i = 0; i < list->size(); i++) {
            std::sort(us[i].begin(), us[i].end());
            (*list)[i].final_us[f] = us[i][ROUNDS / 2];
        }
    }
}

void search_row_print(const search_task *t, const search_candidate *best,
                      const search_candidate *own, const char *note) {
    const seam_cuda_product *p = &t->product;
    const uint32_t more = p->joined ? p->weight->pad : 0;
    (void)printf("/* %s%s %s:", t->name, p->joined ? " with LoRA" : "",
                 p->backward ? "backward" : "forward");
    for (size_t f = 0; f < SEARCH_FINALS; f++) {
        (void)printf(" %.0f (%.0f)", (double)best->final_us[f], (double)own->final_us[f]);
    }
    (void)printf(" us; %s */\n", note);
    (void)printf("{%u, %zu, %s, %u, %u, %s, %s,\n {", seam_cuda_backend_compute(search.backend),
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
