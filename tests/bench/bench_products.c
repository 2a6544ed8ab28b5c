/* Our products beside oneDNN's and OpenBLAS's: bench_products [threads] [rows].
 *
 * The reason why kernels/cpu has its own kernels: it must equal the libraries here.  Built only
 * where both libraries are installed; nothing else links them.  oneDNN gets its best case
 * (prepacked weights in its own layout, primitive created once for exactly this row count).
 * Variants are interleaved; median and best of the rounds, and processor time of all threads. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cblas.h>
#include <dnnl.h>
#include <omp.h>

#include "ops.h"
#include "try.h"

#define ROUNDS 11

static void must(seam_status st) {
    SEAM_ASSERT(st == SEAM_OK);
}

static void must_dnnl(dnnl_status_t st) {
    SEAM_ASSERT(st == dnnl_success);
}

static double now_s(clockid_t clock) {
    struct timespec t;
    (void)clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct shape {
    const char *name;
    uint32_t N, K;
} shape;

/* y (T, N) = x (T, K) w^T, w (N, K). */
typedef struct own_product {
    const seam_ops *ops;
    seam_backend *backend;
    seam_stream *stream;
    seam_weight *w;
    void *x, *y;
    uint32_t T, N, K;
} own_product;

static void own_run(const void *arg) {
    const own_product *p = arg;
    must(p->ops->linear_forward(p->stream, &(seam_linear_forward_args){.y = p->y,
                                                                       .y_ld = p->N,
                                                                       .y_out = SEAM_OUT_ACT,
                                                                       .x = p->x,
                                                                       .x_ld = p->K,
                                                                       .w = p->w,
                                                                       .T = p->T}));
}

static own_product own_create(seam_dtype act, uint32_t threads, uint32_t T, const shape *s,
                              const float *x, const float *w) {
    own_product p = {.T = T, .N = s->N, .K = s->K};
    const seam_backend_options options = {.device = "cpu", .act = act, .threads = threads};
    must(seam_backend_create(&p.backend, &options, NULL));
    p.ops = seam_backend_ops(p.backend);
    must(p.ops->stream_create(&p.stream, p.backend));
    must(p.ops->weight_create(&p.w, p.backend, w, s->N, s->K, true, false, 0));
    must(p.ops->mem_alloc(&p.x, p.backend, (size_t)T * s->K * 4));
    must(p.ops->mem_alloc(&p.y, p.backend, (size_t)T * s->N * 4));
    must(p.ops->cast(p.stream, p.x, act, x, SEAM_F32, (size_t)T * s->K));
    return p;
}

static void own_destroy(own_product *p) {
    p->ops->mem_free(p->backend, p->x);
    p->ops->mem_free(p->backend, p->y);
    p->ops->weight_destroy(p->w);
    p->ops->stream_destroy(p->stream);
    seam_backend_destroy(p->backend);
}

typedef struct dnnl_product {
    dnnl_primitive_t primitive;
    dnnl_stream_t stream;
    dnnl_memory_t x, w, y;
} dnnl_product;

static void dnnl_run(const void *arg) {
    const dnnl_product *p = arg;
    const dnnl_exec_arg_t args[3] = {
        {DNNL_ARG_SRC, p->x}, {DNNL_ARG_WEIGHTS, p->w}, {DNNL_ARG_DST, p->y}};
    must_dnnl(dnnl_primitive_execute(p->primitive, p->stream, 3, args));
    must_dnnl(dnnl_stream_wait(p->stream));
}

static dnnl_product dnnl_create(dnnl_engine_t engine, dnnl_data_type_t type, uint32_t T,
                                const shape *s, const own_product *like, float *w) {
    dnnl_product p;
    dnnl_memory_desc_t x_desc, any_desc, y_desc, plain_desc;
    const dnnl_dims_t x_dims = {T, s->K}, w_dims = {s->K, s->N}, y_dims = {T, s->N};
    must_dnnl(dnnl_memory_desc_init_by_tag(&x_desc, 2, x_dims, type, dnnl_ab));
    must_dnnl(dnnl_memory_desc_init_by_tag(&any_desc, 2, w_dims, type, dnnl_format_tag_any));
    must_dnnl(dnnl_memory_desc_init_by_tag(&plain_desc, 2, w_dims, dnnl_f32, dnnl_ba));
    must_dnnl(dnnl_memory_desc_init_by_tag(&y_desc, 2, y_dims, type, dnnl_ab));
    dnnl_matmul_desc_t desc;
    must_dnnl(dnnl_matmul_desc_init(&desc, &x_desc, &any_desc, NULL, &y_desc));
    dnnl_primitive_desc_t pd = NULL;
    must_dnnl(dnnl_primitive_desc_create(&pd, &desc, NULL, engine, NULL));
    must_dnnl(dnnl_primitive_create(&p.primitive, pd));
    must_dnnl(dnnl_stream_create(&p.stream, engine, dnnl_stream_default_flags));
    const dnnl_memory_desc_t *packed_desc =
        dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    must_dnnl(dnnl_memory_create(&p.x, &x_desc, engine, like->x));
    must_dnnl(dnnl_memory_create(&p.y, &y_desc, engine, like->y));
    must_dnnl(dnnl_memory_create(&p.w, packed_desc, engine, DNNL_MEMORY_ALLOCATE));
    dnnl_memory_t plain = NULL;
    must_dnnl(dnnl_memory_create(&plain, &plain_desc, engine, w));
    dnnl_primitive_desc_t reorder_desc = NULL;
    dnnl_primitive_t reorder = NULL;
    must_dnnl(dnnl_reorder_primitive_desc_create(&reorder_desc, &plain_desc, engine, packed_desc,
                                                 engine, NULL));
    must_dnnl(dnnl_primitive_create(&reorder, reorder_desc));
    const dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, plain}, {DNNL_ARG_TO, p.w}};
    must_dnnl(dnnl_primitive_execute(reorder, p.stream, 2, args));
    must_dnnl(dnnl_stream_wait(p.stream));
    must_dnnl(dnnl_primitive_destroy(reorder));
    must_dnnl(dnnl_primitive_desc_destroy(reorder_desc));
    must_dnnl(dnnl_memory_destroy(plain));
    must_dnnl(dnnl_primitive_desc_destroy(pd));
    return p;
}

static void dnnl_destroy(dnnl_product *p) {
    must_dnnl(dnnl_primitive_destroy(p->primitive));
    must_dnnl(dnnl_memory_destroy(p->x));
    must_dnnl(dnnl_memory_destroy(p->w));
    must_dnnl(dnnl_memory_destroy(p->y));
    must_dnnl(dnnl_stream_destroy(p->stream));
}

typedef struct blas_product {
    const float *x, *w;
    float *y;
    int T, N, K;
} blas_product;

static void blas_run(const void *arg) {
    const blas_product *p = arg;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, p->T, p->N, p->K, 1.0f, p->x, p->K, p->w,
                p->K, 0.0f, p->y, p->N);
}

typedef struct figure {
    const char *name;
    void (*fn)(const void *);
    const void *arg;
    double wall[ROUNDS], cpu[ROUNDS];
} figure;

static int by_value(const void *x, const void *y) {
    const double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

static void measure(const shape *s, uint32_t T, figure *figures, uint32_t count) {
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < count; i++) {
            const double wall = now_s(CLOCK_MONOTONIC), cpu = now_s(CLOCK_PROCESS_CPUTIME_ID);
            figures[i].fn(figures[i].arg);
            figures[i].wall[round] = now_s(CLOCK_MONOTONIC) - wall;
            figures[i].cpu[round] = now_s(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        }
    }
    const double flop = 2.0 * T * s->N * s->K;
    for (uint32_t i = 0; i < count; i++) {
        qsort(figures[i].wall, ROUNDS, sizeof(double), by_value);
        qsort(figures[i].cpu, ROUNDS, sizeof(double), by_value);
        const double median = figures[i].wall[ROUNDS / 2], best = figures[i].wall[0];
        (void)printf("%-8s %-14s %8.3f ms %7.1f GFLOP/s (best %7.1f)  cpu %8.3f ms\n", s->name,
                     figures[i].name, 1e3 * median, flop / median * 1e-9, flop / best * 1e-9,
                     1e3 * figures[i].cpu[ROUNDS / 2]);
    }
}

static float *random_rows(size_t count, float scale) {
    float *x = NULL;
    static uint32_t state = 7;
    SEAM_ASSERT(posix_memalign((void **)&x, 64, count * sizeof *x) == 0);
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = scale * ((float)(state >> 8) * 0x1p-23f - 1.0f);
    }
    return x;
}

int main(int argc, char **argv) {
    const uint32_t threads = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 2;
    const uint32_t T = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1920;
    const shape shapes[] = {{"qkv", 960, 576},   {"o", 576, 576},       {"gate_up", 3072, 576},
                            {"down", 576, 1536}, {"d_gate", 576, 3072}, {"square", 1024, 1024}};
    dnnl_engine_t engine = NULL;
    must_dnnl(dnnl_engine_create(&engine, dnnl_cpu, 0));
    omp_set_num_threads((int)threads);
    openblas_set_num_threads((int)threads);
    (void)printf("%u threads, %u rows\n", threads, T);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const shape *s = &shapes[i];
        float *x = random_rows((size_t)T * s->K, 1.0f);
        float *w = random_rows((size_t)s->N * s->K, 1.0f / sqrtf((float)s->K));
        float *y = random_rows((size_t)T * s->N, 0.0f);
        own_product own16 = own_create(SEAM_BF16, threads, T, s, x, w);
        own_product own32 = own_create(SEAM_F32, threads, T, s, x, w);
        dnnl_product dnnl16 = dnnl_create(engine, dnnl_bf16, T, s, &own16, w);
        dnnl_product dnnl32 = dnnl_create(engine, dnnl_f32, T, s, &own32, w);
        const blas_product blas = {x, w, y, (int)T, (int)s->N, (int)s->K};
        figure figures[] = {{"own bf16", own_run, &own16, {0}, {0}},
                            {"oneDNN bf16", dnnl_run, &dnnl16, {0}, {0}},
                            {"own f32", own_run, &own32, {0}, {0}},
                            {"oneDNN f32", dnnl_run, &dnnl32, {0}, {0}},
                            {"OpenBLAS f32", blas_run, &blas, {0}, {0}}};
        measure(s, T, figures, 5);
        dnnl_destroy(&dnnl16);
        dnnl_destroy(&dnnl32);
        own_destroy(&own16);
        own_destroy(&own32);
        free(x);
        free(w);
        free(y);
    }
    must_dnnl(dnnl_engine_destroy(engine));
    return 0;
}
