/* Frozen product with LoRA: y = x W^T (+ bias) + (x A^T) (scale B)^T, and its backward.
 *
 * LoRA is more steps of k of the same product: after the C steps on x and W come R steps on
 * u = x A^T and scale * B, packed onto the same grid of column panels.  So y is written once and
 * the adapter costs its own operations only.  Backward: dx gets R steps on v = dy B and scale * A,
 * and the two gradients are products over T of the transposed (R, T) factor with x or dy.
 *
 * A call is two to four parallel regions of independent tasks ("works"); between two regions lies
 * what the next one reads.  scale * B is rounded to act, which is exact for a power of two.
 *
 * With dropout a pair has its own copy of x, zero where x is dropped; of dx the pair's steps are
 * summed apart, so that only what is kept is added.
 *
 * Tried, bf16, one core, 1,920 rows, processor ms: panels outside and 256 rows inside: gate_up
 * forward 12.4 (now 8.0); a's chunk copied into whole tiles first: o_proj 1.8 -> 2.2, down 4.0 ->
 * 5.2.  Beside the libraries: tests/bench/bench_products.c, RESULTS.md. */
#include "cpu_ops.h"
#include "dropout.h"
#include "tile.h"

#define ROWS_MAX        512u                       /* rows of a task */
#define CHUNK           (TILE_M == 32 ? 32u : 48u) /* rows of a chunk: whole tiles */
#define CHUNK_MAX       256u                       /* where panels are large */
#define PANEL_BYTES_MAX ((size_t)512 << 10)        /* of the second-level cache */
#define SEGMENTS_MAX    (1 + SEAM_LORA_PAIRS_MAX)
#define WORKS_MAX       16u

/* A kind of task and how many of it. */
typedef struct work {
    void (*fn)(const void *job, uint32_t task_idx);
    const void *job;
    uint32_t task_count;
} work;

typedef struct works {
    work item[WORKS_MAX];
    uint32_t count;
} works;

static void works_add(works *list, void (*fn)(const void *, uint32_t), const void *job,
                      uint32_t task_count) {
    SEAM_ASSERT(list->count < WORKS_MAX);
    list->item[list->count++] = (work){.fn = fn, .job = job, .task_count = task_count};
}

static void works_task(void *context, uint32_t task_idx, uint32_t thread_idx) {
    (void)thread_idx;
    const works *list = context;
    for (uint32_t i = 0; i < list->count; i++) {
        if (task_idx < list->item[i].task_count) {
            list->item[i].fn(list->item[i].job, task_idx);
            return;
        }
        task_idx -= list->item[i].task_count;
    }
}

/* Runs all works in one region and empties the list. */
static void works_run(seam_stream *stream, works *list) {
    uint32_t total = 0;
    for (uint32_t i = 0; i < list->count; i++) {
        total += list->item[i].task_count;
    }
    seam_pool_run(seam_cpu_pool(stream), total, works_task, list);
    list->count = 0;
}

/* ---- Product: y (T, N) (+)= sum over segments of a (T, K) times its packed panels ---- */
typedef struct segment {
    const act *a, *packed;
    size_t a_ld;
    uint32_t K, panel_begin, panel_end; /* panels of y that it adds to */
    const seam_dropout *dropout;        /* of y; NULL: all of it counts */
} segment;

typedef struct product {
    void *y;
    uint32_t y_ld;
    seam_out y_out;
    const float *bias;
    uint32_t T, N, rows, group, chunk; /* rows and panels of a task, rows of a chunk */
    segment seg[SEGMENTS_MAX];
    uint32_t seg_count;
} product;

/* One row of a panel, `wide`: both vectors of it. */
CPU_INLINE void product_store_row(const product *job, const float *c, size_t at, const vf *bias,
                                  const bool wide, uint32_t count) {
    vf y[2] = {vf_load(c) + bias[0], vf_set(0.0f)};
    if (wide) {
        y[1] = vf_load(c + VL) + bias[1];
    }
    const uint32_t first = min_u32(VL, count), second = count - first;
    if (job->y_out == SEAM_OUT_ACT) {
        act *to = (act *)job->y + at;
        if (count == 2 * VL) {
            act_store_two(to, y[0], y[1]);
            return;
        }
        act_store_n(to, y[0], first);
        act_store_n(to + first, y[1], second);
        return;
    }
    float *to = (float *)job->y + at;
    if (job->y_out == SEAM_OUT_ACC_ADD) {
        y[0] += any_load(to, 0, 1, first);
        if (wide) {
            y[1] += any_load(to, first, 1, second);
        }
    }
    first == VL ? vf_store(to, y[0]) : vf_store_n(to, y[0], first);
    second == VL ? vf_store(to + VL, y[1]) : vf_store_n(to + first, y[1], second);
}

static void product_store(const product *job, const float *c, uint32_t t0, uint32_t m,
                          uint32_t n0) {
    const uint32_t count = min_u32(TILE_N, job->N - n0);
    vf bias[2] = {vf_set(0.0f), vf_set(0.0f)};
    if (job->bias != NULL) {
        bias[0] = any_load(job->bias, n0, 1, min_u32(VL, count));
        if (count > VL) {
            bias[1] = any_load(job->bias, n0 + VL, 1, count - VL);
        }
    }
    for (uint32_t i = 0; i < m; i++) {
        const size_t at = (size_t)(t0 + i) * job->y_ld + n0;
        count > VL ? product_store_row(job, c + (size_t)i * TILE_N, at, bias, true, count)
                   : product_store_row(job, c + (size_t)i * TILE_N, at, bias, false, count);
    }
}

/* c += what counts of the segment's share, summed apart. */
static void segment_add_kept(float *c, const segment *seg, uint32_t t0, uint32_t m, uint32_t n,
                             uint32_t p) {
    _Alignas(64) float part[(CHUNK_MAX + TILE_M) * TILE_N];
    uint16_t draws[TILE_N];
    tile_product_long(part, TILE_N, false, m, n, seg->a + t0 * seg->a_ld, seg->a_ld, seg->K,
                      seg->packed + (p - seg->panel_begin) * tile_panel(seg->K));
    for (uint32_t i = 0; i < m; i++) {
        dropout_draws(draws, seg->dropout, t0 + i, p * (TILE_N / 8), TILE_N / 8);
        for (uint32_t j = 0; j < n; j++) {
            const float share = part[(size_t)i * TILE_N + j];
            c[(size_t)i * TILE_N + j] += draws[j] >= seg->dropout->threshold ? share : 0.0f;
        }
    }
}

/* Rows [t0, t0 + m) of panel p. */
static void product_panel(const product *job, float *c, uint32_t t0, uint32_t m, uint32_t p) {
    bool add = false;
    for (uint32_t s = 0; s < job->seg_count; s++) {
        const segment *seg = &job->seg[s];
        if (p < seg->panel_begin || p >= seg->panel_end) {
            continue;
        }
        SEAM_ASSERT(seg->K > 0);
        if (seg->dropout != NULL) {
            SEAM_ASSERT(add);
            segment_add_kept(c, seg, t0, m, min_u32(TILE_N, job->N - p * TILE_N), p);
            continue;
        }
        tile_product_long(c, TILE_N, add, m, min_u32(TILE_N, job->N - p * TILE_N),
                          seg->a + t0 * seg->a_ld, seg->a_ld, seg->K,
                          seg->packed + (p - seg->panel_begin) * tile_panel(seg->K));
        add = true;
    }
    product_store(job, c, t0, m, p * TILE_N);
}

/* Chunks of rows outside, panels inside: a chunk of a stays in the first-level cache, the group's
 * panels in the second, and y is written along its rows. */
static void product_task(const void *context, uint32_t task_idx) {
    const product *job = context;
    _Alignas(64) float c[(CHUNK_MAX + TILE_M) * TILE_N];
    const uint32_t panels = tile_panels(job->N);
    const uint32_t groups = (panels + job->group - 1) / job->group;
    const uint32_t t0 = task_idx / groups * job->rows, t1 = min_u32(job->T, t0 + job->rows);
    const uint32_t p0 = task_idx % groups * job->group, p1 = min_u32(panels, p0 + job->group);
    tile_begin();
    for (uint32_t t = t0; t < t1; t += job->chunk) {
        for (uint32_t p = p0; p < p1; p++) {
            product_panel(job, c, t, min_u32(job->chunk, t1 - t), p);
        }
    }
    tile_end();
}

/* Task shape: many rows, as a group of panels is read from memory once for them, and columns
 * split so that there are about 12 tasks a thread.  Where one panel alone exceeds the second-level
 * cache (the LM head's backward), a chunk is all of the task's rows. */
static void product_add(works *list, seam_stream *stream, product *job, uint32_t rows_max) {
    const uint32_t panels = tile_panels(job->N);
    job->rows = rows_max;
    job->chunk = tile_panel(job->seg[0].K) * sizeof(act) > PANEL_BYTES_MAX ? CHUNK_MAX : CHUNK;
    const uint32_t row_blocks = (job->T + job->rows - 1) / job->rows;
    const uint32_t wanted = 12 * seam_pool_threads(seam_cpu_pool(stream));
    const uint32_t groups = min_u32(panels, (wanted + row_blocks - 1) / row_blocks);
    job->group = (panels + groups - 1) / groups;
    works_add(list, product_task, job, row_blocks * ((panels + job->group - 1) / job->group));
}

/* ---- Packing of LoRA's compute copies; a task is one panel ---- */
typedef struct lora_pack {
    act *dst;
    const act *src; /* rows: (N, R) read as (n, K = R), or cols: (K, n) */
    uint32_t n, K, col_begin;
    bool cols;
    float scale;
} lora_pack;

static void lora_pack_task(const void *context, uint32_t panel) {
    const lora_pack *job = context;
    act *dst = job->dst + panel * tile_panel(job->K);
    const uint32_t offset = job->col_begin % TILE_N; /* of column 0 in the first panel */
    if (job->cols) {
        const uint32_t n0 = panel * TILE_N;
        tile_pack_cols(dst, job->src + n0, job->n, min_u32(TILE_N, job->n - n0), job->K);
    } else {
        const uint32_t first = panel == 0 ? 0 : panel * TILE_N - offset; /* row of src */
        const uint32_t begin = panel == 0 ? offset : 0;
        const uint32_t end = min_u32(TILE_N, begin + job->n - first);
        tile_pack_rows(dst, job->src + (size_t)first * job->K, job->K, begin, end, job->K);
    }
    for (size_t i = 0; job->scale != 1.0f && i < tile_panel(job->K); i += VL) {
        act_store(dst + i, act_load(dst + i) * job->scale);
    }
}

static uint32_t lora_pack_panels(const lora_pack *job) {
    return tile_panels((job->cols ? 0 : job->col_begin % TILE_N) + job->n);
}

/* ---- Copies of x for pairs with dropout; a task is DROP_ROWS rows ---- */
#define DROP_ROWS 32u

typedef struct kept_copy {
    act *dst; /* (T, C) */
    const act *src;
    size_t src_ld;
    uint32_t T, C;
    const seam_dropout *dropout;
} kept_copy;

static void kept_copy_task(const void *context, uint32_t task_idx) {
    const kept_copy *job = context;
    const uint32_t t0 = task_idx * DROP_ROWS, t1 = min_u32(job->T, t0 + DROP_ROWS);
    uint16_t draws[8 * DROPOUT_LANES_MAX];
    for (uint32_t t = t0; t < t1; t++) {
        const act *src = job->src + t * job->src_ld;
        act *dst = job->dst + (size_t)t * job->C;
        for (uint32_t c0 = 0; c0 < job->C; c0 += 8 * DROPOUT_LANES_MAX) {
            const uint32_t n = min_u32(8 * DROPOUT_LANES_MAX, job->C - c0);
            dropout_draws(draws, job->dropout, t, c0 / 8, DROPOUT_LANES_MAX);
            for (uint32_t j = 0; j < n; j++) {
                dst[c0 + j] = draws[j] >= job->dropout->threshold ? src[c0 + j] : 0;
            }
        }
    }
}

static void kept_copy_add(works *list, const kept_copy *job) {
    works_add(list, kept_copy_task, job, (job->T + DROP_ROWS - 1) / DROP_ROWS);
}

/* ---- Memory of one call, planned and taken with the same code ---- */
typedef struct bump {
    act *base; /* NULL: planning */
    size_t used;
} bump;

static act *bump_take(bump *b, size_t count) {
    act *ptr = b->base == NULL ? NULL : b->base + b->used;
    b->used += (count + 63) & ~(size_t)63;
    return ptr;
}

static bool has_dropout(const seam_lora_pair *pair) {
    return pair->dropout.threshold != 0;
}

/* x as the pair reads it: the product's, or a copy without what is dropped. */
static const act *pair_input(kept_copy *ret_copy, size_t *ret_ld, const seam_lora_pair *pair,
                             const void *x, size_t x_ld, uint32_t T, uint32_t C, bump *memory) {
    *ret_ld = x_ld;
    *ret_copy = (kept_copy){.T = 0};
    if (!has_dropout(pair)) {
        return x;
    }
    *ret_ld = C;
    *ret_copy = (kept_copy){bump_take(memory, (size_t)T * C), x, x_ld, T, C, &pair->dropout};
    return ret_copy->dst;
}

/* ---- Forward ---- */
typedef struct forward_plan {
    kept_copy kept[SEAM_LORA_PAIRS_MAX];
    lora_pack pack_a[SEAM_LORA_PAIRS_MAX], pack_b[SEAM_LORA_PAIRS_MAX];
    product u[SEAM_LORA_PAIRS_MAX], y;
} forward_plan;

static void forward_place(forward_plan *plan, const seam_linear_forward_args *a, bump *memory) {
    const uint32_t C = a->w->C;
    plan->y = (product){.y = a->y, .y_ld = a->y_ld, .y_out = a->y_out, .bias = a->bias};
    plan->y.T = a->T;
    plan->y.N = a->w->N;
    plan->y.seg[0] = (segment){a->x, a->w->forward, a->x_ld, C, 0, tile_panels(a->w->N), NULL};
    plan->y.seg_count = 1 + a->lora_count;
    for (uint32_t i = 0; i < a->lora_count; i++) {
        const seam_lora_pair *pair = &a->lora[i];
        SEAM_ASSERT(pair->N > 0 && pair->R > 0 && pair->col_begin + pair->N <= a->w->N);
        lora_pack *pa = &plan->pack_a[i], *pb = &plan->pack_b[i];
        *pa = (lora_pack){.src = pair->a, .n = pair->R, .K = C, .scale = 1.0f};
        *pb = (lora_pack){.src = pair->b, .n = pair->N, .K = pair->R, .scale = pair->scale};
        pb->col_begin = pair->col_begin;
        pa->dst = bump_take(memory, lora_pack_panels(pa) * tile_panel(C));
        pb->dst = bump_take(memory, lora_pack_panels(pb) * tile_panel(pair->R));
        plan->u[i] = (product){.y = pair->u, .y_ld = pair->R, .y_out = SEAM_OUT_ACT, .T = a->T};
        plan->u[i].N = pair->R;
        size_t x_ld = 0;
        const act *x = pair_input(&plan->kept[i], &x_ld, pair, a->x, a->x_ld, a->T, C, memory);
        plan->u[i].seg[0] = (segment){x, pa->dst, x_ld, C, 0, lora_pack_panels(pa), NULL};
        plan->u[i].seg_count = 1;
        const uint32_t first = pair->col_begin / TILE_N;
        plan->y.seg[1 + i] = (segment){
            pair->u, pb->dst, pair->R, pair->R, first, first + lora_pack_panels(pb), NULL};
    }
}

seam_status CPU_FN(linear_forward)(seam_stream *stream, const seam_linear_forward_args *args) {
    SEAM_ASSERT(args->x_scale == NULL); /* linear_takes_fp8 says no */
    const seam_linear_forward_args *a = args;
    forward_plan plan;
    works list = {.count = 0};
    SEAM_ASSERT(a->w->forward != NULL);
    SEAM_ASSERT(a->T > 0 && a->x_ld >= a->w->C && a->y_ld >= a->w->N);
    SEAM_ASSERT(a->lora_count <= SEAM_LORA_PAIRS_MAX);
    SEAM_ASSERT(!a->fp8);
    bump memory = {.base = NULL};
    forward_place(&plan, a, &memory);
    if (a->lora_count > 0) {
        void *base = NULL;
        SEAM_TRY(seam_cpu_scratch(&base, stream, memory.used * sizeof(act)));
        memory = (bump){.base = base};
        forward_place(&plan, a, &memory);
        for (uint32_t i = 0; i < a->lora_count; i++) {
            works_add(&list, lora_pack_task, &plan.pack_a[i], lora_pack_panels(&plan.pack_a[i]));
            works_add(&list, lora_pack_task, &plan.pack_b[i], lora_pack_panels(&plan.pack_b[i]));
            if (has_dropout(&a->lora[i])) {
                kept_copy_add(&list, &plan.kept[i]);
            }
        }
        works_run(stream, &list);
        for (uint32_t i = 0; i < a->lora_count; i++) {
            product_add(&list, stream, &plan.u[i], 64);
        }
        works_run(stream, &list);
    }
    product_add(&list, stream, &plan.y, ROWS_MAX);
    works_run(stream, &list);
    return SEAM_OK;
}

/* ---- Backward ---- */

/* dst (R, dst_ld) = src (T, R) transposed; a task is 64 rows of src. */
typedef struct transpose {
    act *dst;
    const act *src;
    size_t dst_ld;
    uint32_t T, R;
} transpose;
#define TRANSPOSE_ROWS 64u

static void transpose_task(const void *context, uint32_t task_idx) {
    const transpose *job = context;
    const uint32_t t0 = task_idx * TRANSPOSE_ROWS, t1 = min_u32(job->T, t0 + TRANSPOSE_ROWS);
    for (uint32_t r = 0; r < job->R; r++) {
        for (uint32_t t = t0; t < t1; t++) {
            job->dst[r * job->dst_ld + t] = job->src[(size_t)t * job->R + r];
        }
    }
}

static void transpose_add(works *list, const transpose *job) {
    works_add(list, transpose_task, job, (job->T + TRANSPOSE_ROWS - 1) / TRANSPOSE_ROWS);
}

/* out (R, M) += scale * p^T z for each of the factors p^T (R, T) that stand one below another,
 * z (T, M).  A task is one panel of columns of z, interleaved once for all factors. */
typedef struct gradient {
    const act *p;
    size_t p_ld;
    const act *z;
    size_t z_ld;
    uint32_t T, M, factor_count;
    bool transposed; /* out is (M, R) */
    struct {
        float *out;
        uint32_t R;
        float scale;
    } factor[SEAM_LORA_PAIRS_MAX];
} gradient;

static void gradient_store(const gradient *job, const float *c, uint32_t factor, uint32_t r0,
                           uint32_t m, uint32_t m0) {
    float *out = job->factor[factor].out;
    const uint32_t R = job->factor[factor].R, n = min_u32(TILE_N, job->M - m0);
    const float scale = job->factor[factor].scale;
    for (uint32_t r = 0; r < m; r++) {
        for (uint32_t i = 0; i < n; i++) {
            const size_t at = job->transposed ? (size_t)(m0 + i) * R + r0 + r
                                              : (size_t)(r0 + r) * job->M + m0 + i;
            out[at] += scale * c[(size_t)r * TILE_N + i];
        }
    }
}

#define GRADIENT_R 64u /* rows of one accumulation: 3 * 64 are held at once */

static void gradient_task(const void *context, uint32_t panel) {
    const gradient *job = context;
    _Alignas(64) float c[SEAM_LORA_PAIRS_MAX][(GRADIENT_R + TILE_M) * TILE_N];
    _Alignas(64) act packed[TILE_K_MAX * TILE_N];
    const uint32_t m0 = panel * TILE_N, n = min_u32(TILE_N, job->M - m0);
    SEAM_ASSERT(job->T > 0);
    uint32_t r_max = 0;
    for (uint32_t f = 0; f < job->factor_count; f++) {
        r_max = job->factor[f].R > r_max ? job->factor[f].R : r_max;
    }
    tile_begin();
    for (uint32_t r0 = 0; r0 < r_max; r0 += GRADIENT_R) {
        memset(c, 0, sizeof c);
        for (uint32_t t0 = 0; t0 < job->T; t0 += TILE_K_MAX) {
            const uint32_t K = min_u32(TILE_K_MAX, job->T - t0);
            const act *p = job->p + r0 * job->p_ld + t0;
            tile_pack_cols(packed, job->z + t0 * job->z_ld + m0, job->z_ld, n, K);
            for (uint32_t f = 0; f < job->factor_count; f++) {
                const uint32_t R = job->factor[f].R;
                if (r0 < R) {
                    tile_product(c[f], TILE_N, true, min_u32(GRADIENT_R, R - r0), n, p, job->p_ld,
                                 K, packed);
                }
                p += R * job->p_ld;
            }
        }
        for (uint32_t f = 0; f < job->factor_count; f++) {
            if (r0 < job->factor[f].R) {
                gradient_store(job, c[f], f, r0, min_u32(GRADIENT_R, job->factor[f].R - r0), m0);
            }
        }
    }
    tile_end();
}

typedef struct backward_plan {
    kept_copy kept[SEAM_LORA_PAIRS_MAX];
    lora_pack pack_a[SEAM_LORA_PAIRS_MAX], pack_b[SEAM_LORA_PAIRS_MAX];
    product v[SEAM_LORA_PAIRS_MAX], dx;
    transpose ut[SEAM_LORA_PAIRS_MAX], vt[SEAM_LORA_PAIRS_MAX];
    gradient db[SEAM_LORA_PAIRS_MAX];
    gradient da[SEAM_LORA_PAIRS_MAX]; /* of one x: pairs side by side share its reading */
    uint32_t da_count;
} backward_plan;

/* Adds the pair to the gradients of A, vt being its v transposed. */
static void da_add(backward_plan *plan, const seam_linear_backward_args *a,
                   const seam_lora_pair *pair, const act *vt, size_t t_ld, bump *memory) {
    const uint32_t C = a->w->C;
    size_t x_ld = 0;
    kept_copy *kept = &plan->kept[pair - a->lora];
    const act *x = pair_input(kept, &x_ld, pair, a->x, a->x_ld, a->T, C, memory);
    if (plan->da_count == 0 || has_dropout(pair) || has_dropout(pair - 1)) {
        plan->da[plan->da_count++] =
            (gradient){.p = vt, .p_ld = t_ld, .z = x, .z_ld = x_ld, .T = a->T, .M = C};
    }
    gradient *da = &plan->da[plan->da_count - 1];
    da->factor[da->factor_count].out = pair->da;
    da->factor[da->factor_count].R = pair->R;
    da->factor[da->factor_count++].scale = pair->scale;
}

static void backward_place(backward_plan *plan, const seam_linear_backward_args *a, bump *memory) {
    const uint32_t C = a->w->C, N = a->w->N;
    const size_t t_ld = ((size_t)a->T + 95) / 64 * 64 + 32; /* not a multiple of a page */
    uint32_t r_sum = 0;
    plan->da_count = 0;
    plan->dx = (product){.y = a->dx, .y_ld = a->dx_ld, .y_out = a->dx_out, .T = a->T, .N = C};
    plan->dx.seg[0] = (segment){a->dy, a->w->backward, a->dy_ld, N, 0, tile_panels(C), NULL};
    plan->dx.seg_count = 1 + a->lora_count;
    for (uint32_t i = 0; i < a->lora_count; i++) {
        r_sum += a->lora[i].R;
    }
    act *vt = bump_take(memory, r_sum * t_ld);
    for (uint32_t i = 0; i < a->lora_count; i++) {
        const seam_lora_pair *pair = &a->lora[i];
        const uint32_t R = pair->R;
        const act *dy = (const act *)a->dy + pair->col_begin;
        SEAM_ASSERT(pair->N > 0 && R > 0 && pair->col_begin + pair->N <= N);
        lora_pack *pa = &plan->pack_a[i], *pb = &plan->pack_b[i];
        *pa = (lora_pack){.src = pair->a, .n = C, .K = R, .cols = true, .scale = pair->scale};
        *pb = (lora_pack){.src = pair->b, .n = R, .K = pair->N, .cols = true, .scale = 1.0f};
        pa->dst = bump_take(memory, lora_pack_panels(pa) * tile_panel(R));
        pb->dst = bump_take(memory, lora_pack_panels(pb) * tile_panel(pair->N));
        act *ut = bump_take(memory, R * t_ld);
        plan->ut[i] = (transpose){ut, pair->u, t_ld, a->T, R};
        plan->vt[i] = (transpose){vt, pair->u, t_ld, a->T, R};
        plan->v[i] = (product){.y = pair->u, .y_ld = R, .y_out = SEAM_OUT_ACT, .T = a->T, .N = R};
        plan->v[i].seg[0] = (segment){dy, pb->dst, a->dy_ld, pair->N, 0, tile_panels(R), NULL};
        plan->v[i].seg_count = 1;
        plan->dx.seg[1 + i] = (segment){pair->u, pa->dst, R, R, 0, tile_panels(C), NULL};
        plan->dx.seg[1 + i].dropout = has_dropout(pair) ? &pair->dropout : NULL;
        plan->db[i] = (gradient){.p = ut, .p_ld = t_ld, .z = dy, .z_ld = a->dy_ld, .T = a->T};
        plan->db[i].M = pair->N;
        plan->db[i].factor_count = 1;
        plan->db[i].transposed = true;
        plan->db[i].factor[0].out = pair->db;
        plan->db[i].factor[0].R = R;
        plan->db[i].factor[0].scale = pair->scale;
        da_add(plan, a, pair, vt, t_ld, memory);
        vt = vt == NULL ? NULL : vt + R * t_ld;
    }
}

/* With LoRA: pack and transpose u; then v (over u) and db; then dx and transpose v; then da. */
seam_status CPU_FN(linear_backward)(seam_stream *stream, const seam_linear_backward_args *args) {
    SEAM_ASSERT(args->dy_scale == NULL); /* linear_takes_fp8 says no */
    const seam_linear_backward_args *a = args;
    backward_plan plan;
    works list = {.count = 0};
    SEAM_ASSERT(a->dx == NULL || (a->w->backward != NULL && a->dx_ld >= a->w->C));
    SEAM_ASSERT(a->T > 0 && a->dy_ld >= a->w->N && a->lora_count <= SEAM_LORA_PAIRS_MAX);
    SEAM_ASSERT(!a->fp8);
    bump memory = {.base = NULL};
    backward_place(&plan, a, &memory);
    if (a->lora_count > 0) {
        void *base = NULL;
        SEAM_TRY(seam_cpu_scratch(&base, stream, memory.used * sizeof(act)));
        memory = (bump){.base = base};
        backward_place(&plan, a, &memory);
        for (uint32_t i = 0; i < a->lora_count; i++) {
            works_add(&list, lora_pack_task, &plan.pack_a[i], lora_pack_panels(&plan.pack_a[i]));
            works_add(&list, lora_pack_task, &plan.pack_b[i], lora_pack_panels(&plan.pack_b[i]));
            transpose_add(&list, &plan.ut[i]);
            if (has_dropout(&a->lora[i])) {
                kept_copy_add(&list, &plan.kept[i]);
            }
        }
        works_run(stream, &list);
        for (uint32_t i = 0; i < a->lora_count; i++) {
            product_add(&list, stream, &plan.v[i], 64);
            works_add(&list, gradient_task, &plan.db[i], tile_panels(plan.db[i].M));
        }
        works_run(stream, &list);
        for (uint32_t i = 0; i < a->lora_count; i++) {
            transpose_add(&list, &plan.vt[i]);
        }
    }
    if (a->dx != NULL) {
        product_add(&list, stream, &plan.dx, ROWS_MAX);
    }
    works_run(stream, &list);
    if (a->lora_count > 0) {
        for (uint32_t i = 0; i < plan.da_count; i++) {
            works_add(&list, gradient_task, &plan.da[i], tile_panels(plan.da[i].M));
        }
        works_run(stream, &list);
    }
    return SEAM_OK;
}
