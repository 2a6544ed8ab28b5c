/* Linear layers with LoRA.  The frozen product runs in cuBLASLt (cuda_plan.cu) when all rows start
 * on 16 bytes, else in cuda_gemm.cu; which of the two depends on widths alone, never on the row
 * count.
 *
 * LoRA's share and the bias are added in f32 and rounded with the frozen product, once.  beta = 1
 * on a bf16 y would not do that: cuBLASLt rounds the product before it adds y, so that half of a
 * share of 1e-3 beside products near 1 is lost (measured, 13.0), and a young adapter learns slower.
 * A y in f32 is written with the shares and added to; a bf16 y with shares gets its product in f32,
 * into a room of the scratch, and the shares' kernel adds and rounds.  Bound: the frozen product,
 * 2 T N C operations; the room costs 6 bytes an element of y.  Where x's rows and the weight have a
 * pad (ops.h, seam_lora_pad) and the pairs fit into it, shares and bias are a part of the product's
 * sum instead (cuda_join.cu).
 *
 * A pair with dropout reads a copy of x of its own (cuda_dropout.cu), which backward makes again.
 *
 * Llama-3-8B's q|k|v, 6,144 rows, rank 16 on q and v, us forward and backward a block: rooms of
 * 1,024 rows and thin products in plain FMA 1,188 and 1,666 (H200); now 583 and 642 (H100), of the
 * frozen product 386 and 395.  Tried: all in one kernel of wgmma.m64n256k16, tiles of 128 x 256,
 * clusters of two and the tensor copy engine: 682 and 860; rooms that stay in the L2 cache, of one,
 * two and three waves of tiles (17, 35 and 52 MB): a step of 4 layers 37.5, 35.6 and 36.2 ms, with
 * whole rooms 35.9. */
#include <string.h>

#include "cuda_device.cuh"

/* Rows of a room: with plain FMA beside it a small one does; else as many whole tiles as stand in
 * ROOM_BYTES, since a product of few rows leaves multiprocessors idle at its end. */
#define ROOM_ROWS  1024u
#define ROOM_STEP  256u
#define ROOM_BYTES ((size_t)160 << 20)

/* ---- launchers ---- */
/* One frozen product with its shares. */
typedef struct task {
    seam_cuda_product product;
    seam_out y_out;
    const float *bias;
    uint32_t share_count;
    seam_cuda_part share[SEAM_LORA_PAIRS_MAX];
    bool thin;   /* shares on tensor cores */
    float *room; /* room_bytes */
} task;

static bool has_shares(const task *t) {
    return t->share_count > 0 || t->bias != NULL;
}

static uint32_t y_cols(const task *t) {
    const seam_weight *w = t->product.weight;
    return t->product.backward ? w->C : w->N;
}

static uint32_t room_rows(const task *t) {
    const size_t fit = ROOM_BYTES / (y_cols(t) * sizeof(float)) / ROOM_STEP * ROOM_STEP;
    const uint32_t rows = t->thin && fit > ROOM_ROWS ? (uint32_t)fit : ROOM_ROWS;
    return t->product.T < rows ? t->product.T : rows;
}

static size_t room_bytes(const task *t) {
    return has_shares(t) && !t->product.joined && t->y_out == SEAM_OUT_ACT
               ? (size_t)room_rows(t) * y_cols(t) * sizeof(float)
               : 0;
}

static seam_status shares_run(seam_stream *stream, const task *t, const seam_cuda_gemm_args *own) {
    return t->thin ? seam_cuda_shares(stream, own) : seam_cuda_gemm(stream, own);
}

/* The product in f32 into the room, then own adds to it and rounds. */
static seam_status rooms_run(seam_stream *stream, const task *t, seam_cuda_gemm_args own) {
    const size_t act_bytes = seam_dtype_bytes(seam_cuda_act(stream));
    const uint32_t T = t->product.T, step = room_rows(t);
    seam_cuda_product sum = t->product;
    sum.y = t->room;
    sum.acc = true;
    sum.y_ld = own.N;
    own.addend = t->room;
    for (uint32_t row = 0; row < T; row += step) {
        const uint32_t rows = T - row < step ? T - row : step;
        sum.T = own.M = rows;
        SEAM_TRY(seam_cuda_product_run(stream, &sum, 0.0f));
        SEAM_TRY(shares_run(stream, t, &own));
        sum.x = (const char *)sum.x + (size_t)rows * sum.x_ld * act_bytes;
        sum.x_scale = sum.x_scale != NULL ? sum.x_scale + rows : NULL;
        own.y = (char *)own.y + (size_t)rows * own.y_ld * act_bytes;
        for (uint32_t p = 0; p < own.part_count; p++) {
            own.part[p].x = (const char *)own.part[p].x + rows * own.part[p].x_m * act_bytes;
        }
    }
    return SEAM_OK;
}

/* The frozen product as a part of seam_cuda_gemm. */
static seam_cuda_part product_part(const seam_cuda_product *p) {
    const uint32_t N = p->weight->N, C = p->weight->C;
    return {.x = p->x,
            .w = p->weight->rows,
            .x_m = p->x_ld,
            .x_k = 1,
            .w_n = p->backward ? 1 : (size_t)C + p->weight->pad,
            .w_k = p->backward ? (size_t)C + p->weight->pad : 1,
            .K = p->backward ? N : C,
            .n_begin = 0,
            .n_end = p->backward ? C : N,
            .scale = 1.0f};
}

/* Whether cuBLASLt takes the product, into y and where that is needed into the room. */
static bool by_blas(const task *t) {
    seam_cuda_product into_f32 = t->product;
    into_f32.acc = true;
    return seam_cuda_product_fits(&t->product) &&
           (!has_shares(t) || seam_cuda_product_fits(&into_f32));
}

static seam_status task_run(seam_stream *stream, const task *t) {
    seam_cuda_gemm_args own = {.y = t->product.y,
                               .y_ld = t->product.y_ld,
                               .M = t->product.T,
                               .N = y_cols(t),
                               .y_out = t->y_out,
                               .bias = t->bias,
                               .addend = NULL,
                               .split = NULL,
                               .part_count = t->share_count};
    memcpy(own.part, t->share, sizeof t->share);
    if (t->product.joined) {
        return seam_cuda_product_run(stream, &t->product,
                                     t->y_out == SEAM_OUT_ACC_ADD ? 1.0f : 0.0f);
    }
    if (!by_blas(t)) {
        SEAM_ASSERT(t->product.x_scale == NULL);
        own.part[own.part_count++] = product_part(&t->product);
        return seam_cuda_gemm(stream, &own);
    }
    if (!has_shares(t)) {
        return seam_cuda_product_run(stream, &t->product,
                                     t->y_out == SEAM_OUT_ACC_ADD ? 1.0f : 0.0f);
    }
    if (t->y_out == SEAM_OUT_ACT) {
        return rooms_run(stream, t, own);
    }
    SEAM_TRY(shares_run(stream, t, &own));
    return seam_cuda_product_run(stream, &t->product, 1.0f);
}

/* y (M, N) of one part, its sum over k in pieces. */
static seam_status one_product(seam_stream *stream, void *y, seam_out y_out, uint32_t M, uint32_t N,
                               float *split, seam_cuda_part part) {
    part.n_begin = 0;
    part.n_end = N;
    const seam_cuda_gemm_args args = {.y = y,
                                      .y_ld = N,
                                      .M = M,
                                      .N = N,
                                      .y_out = y_out,
                                      .bias = NULL,
                                      .addend = NULL,
                                      .split = split,
                                      .part_count = 1,
                                      .part = {part}};
    return seam_cuda_gemm(stream, &args);
}

static size_t max_bytes(size_t x, size_t y) {
    return x > y ? x : y;
}

/* Whether cuda_thin.cu takes all of a linear's pairs: x and dy may be NULL. */
static bool pairs_fit(const seam_stream *stream, const seam_lora_pair *lora, uint32_t lora_count,
                      const seam_weight *w, const void *x, uint32_t x_ld, const void *dy,
                      uint32_t dy_ld) {
    bool fit = seam_cuda_act(stream) == SEAM_BF16 && w->N % VECTOR == 0 && w->C % VECTOR == 0 &&
               x_ld % VECTOR == 0 && dy_ld % VECTOR == 0 && vector_aligned(x) && vector_aligned(dy);
    for (uint32_t i = 0; i < lora_count; i++) {
        const seam_lora_pair *p = &lora[i];
        fit = fit && p->R % VECTOR == 0 && p->N % VECTOR == 0 && p->col_begin % VECTOR == 0 &&
              p->R <= SEAM_CUDA_THIN_R_MAX && vector_aligned(p->a) && vector_aligned(p->b) &&
              vector_aligned(p->u);
    }
    return fit;
}

/* The product's input as a pair reads it. */
typedef struct pair_input {
    const void *x;
    uint32_t x_ld;
} pair_input;

/* Bytes of the copies of x that pairs with dropout read. */
static size_t kept_bytes(const seam_stream *stream, const seam_lora_pair *lora, uint32_t lora_count,
                         uint32_t T, uint32_t C) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < lora_count; i++) {
        bytes += lora[i].dropout.threshold != 0
                     ? seam_cuda_round((size_t)T * C * seam_dtype_bytes(seam_cuda_act(stream)))
                     : 0;
    }
    return bytes;
}

/* Where each pair's input stands, copies from `place` on, which may be 0 while planning: whether
 * two are one x is known then too. */
static void inputs_place(pair_input *ret_inputs, const seam_stream *stream,
                         const seam_lora_pair *lora, uint32_t lora_count, pair_input x, uint32_t T,
                         uint32_t C, uintptr_t place) {
    for (uint32_t i = 0; i < lora_count; i++) {
        const bool own = lora[i].dropout.threshold != 0;
        ret_inputs[i] = own ? pair_input{(const void *)place, C} : x;
        place += kept_bytes(stream, &lora[i], 1, T, C);
    }
}

static seam_status inputs_make(const pair_input *inputs, seam_stream *stream,
                               const seam_lora_pair *lora, uint32_t lora_count, pair_input x,
                               uint32_t T, uint32_t C) {
    for (uint32_t i = 0; i < lora_count; i++) {
        if (lora[i].dropout.threshold != 0) {
            SEAM_TRY(seam_cuda_kept_copy(stream, (void *)inputs[i].x, x.x, x.x_ld, T, C,
                                         &lora[i].dropout));
        }
    }
    return SEAM_OK;
}

/* Whether the shares of a task that could be thin become a part of its product's sum; by its
 * widths, pairs and pads alone. */
static bool joins(const task *t, const seam_cuda_join *join, bool fp8) {
    const seam_cuda_product *p = &t->product;
    const uint32_t K = p->backward ? p->weight->N : p->weight->C;
    seam_cuda_product joined = *p;
    bool fits = t->thin && !fp8 && join->lora_count > 0 && p->weight->pad > 0 &&
                p->x_ld >= K + p->weight->pad && seam_cuda_join_cols(join) <= p->weight->pad;
    for (uint32_t i = 0; i < join->lora_count; i++) {
        fits = fits && join->lora[i].dropout.threshold == 0;
    }
    joined.joined = true;
    return fits && seam_cuda_product_fits(&joined);
}

/* Gives every pair's product its columns of the pads at z, z_ld apart; returns what is left. */
static seam_cuda_thin_rest pads_take(seam_cuda_thin *dots, const seam_cuda_join *join, void *z,
                                     size_t z_ld) {
    __nv_bfloat16 *at = (__nv_bfloat16 *)z;
    uint32_t cols = 0;
    for (uint32_t i = 0; i < join->lora_count; i++) {
        dots[i].z = at + cols;
        dots[i].z_ld = z_ld;
        dots[i].scale = join->lora[i].scale;
        cols += join->lora[i].R;
    }
    return {at + cols, z_ld, join->weight->pad - cols,
            join->bias != NULL ? SEAM_JOIN_BIAS_COLS : 0};
}

/* ---- forward ---- */
/* u = x A^T of every pair, and with `join` into the pads of x's rows. */
static seam_status inputs_project(seam_stream *stream, const seam_linear_forward_args *a,
                                  const pair_input *inputs, bool thin, float *split,
                                  const seam_cuda_join *join) {
    seam_cuda_thin dots[SEAM_LORA_PAIRS_MAX] = {};
    seam_cuda_thin_rest rest = {};
    for (uint32_t i = 0; i < a->lora_count; i++) {
        const seam_lora_pair *pair = &a->lora[i];
        const pair_input own = inputs[i];
        dots[i] = {
            .x = own.x, .w = pair->a, .y = pair->u, .x_ld = own.x_ld, .K = a->w->C, .R = pair->R};
        if (!thin) {
            SEAM_TRY(one_product(stream, pair->u, SEAM_OUT_ACT, a->T, pair->R, split,
                                 {.x = own.x,
                                  .w = pair->a,
                                  .x_m = own.x_ld,
                                  .x_k = 1,
                                  .w_n = a->w->C,
                                  .w_k = 1,
                                  .K = a->w->C,
                                  .n_begin = 0,
                                  .n_end = 0,
                                  .scale = 1.0f}));
        }
    }
    if (join != NULL) {
        rest = pads_take(dots, join, (__nv_bfloat16 *)a->x + a->w->C, a->x_ld);
    }
    return thin && a->lora_count > 0 ? seam_cuda_thin_dots(stream, dots, a->lora_count, a->T, &rest)
                                     : SEAM_OK;
}

seam_status seam_cuda_linear_forward(seam_stream *stream, const seam_linear_forward_args *args) {
    const seam_linear_forward_args *a = args;
    const uint32_t N = a->w->N, C = a->w->C;
    SEAM_ASSERT(a->x_ld >= C && a->y_ld >= N);
    SEAM_ASSERT(!a->fp8 || stream->backend->ops.fp8);
    SEAM_ASSERT(a->lora_count <= SEAM_LORA_PAIRS_MAX);
    SEAM_ASSERT(a->x_scale == NULL || (a->fp8 && a->lora_count == 0));
    task t = {.product = {.weight = a->w,
                          .x = a->x,
                          .y = a->y,
                          .T = a->T,
                          .x_ld = a->x_ld,
                          .y_ld = a->y_ld,
                          .backward = false,
                          .acc = a->y_out != SEAM_OUT_ACT,
                          .joined = false,
                          .fp8_room = NULL,
                          .x_scale = (const float *)a->x_scale},
              .y_out = a->y_out,
              .bias = (const float *)a->bias,
              .share_count = a->lora_count};
    if (a->T == 0) {
        return SEAM_OK;
    }
    t.thin = pairs_fit(stream, a->lora, a->lora_count, a->w, a->x, a->x_ld, a->y, a->y_ld);
    const seam_cuda_join join = {.weight = a->w,
                                 .lora = a->lora,
                                 .lora_count = a->lora_count,
                                 .bias = t.bias,
                                 .backward = false};
    t.product.joined = joins(&t, &join, a->fp8);
    size_t bytes = 0;
    void *scratch = NULL;
    const size_t fp8_bytes =
        a->fp8 && a->x_scale == NULL ? seam_cuda_fp8_room_bytes(&t.product) : 0;
    for (uint32_t i = 0; !t.thin && i < a->lora_count; i++) {
        bytes = max_bytes(bytes, seam_cuda_gemm_split_bytes(a->T, a->lora[i].R, C));
    }
    bytes = seam_cuda_round(bytes);
    const size_t fp8_begin = bytes + seam_cuda_round(room_bytes(&t));
    const size_t kept_begin = fp8_begin + seam_cuda_round(fp8_bytes);
    SEAM_TRY(seam_cuda_scratch(&scratch, stream,
                               kept_begin + kept_bytes(stream, a->lora, a->lora_count, a->T, C)));
    t.room = (float *)((char *)scratch + bytes);
    t.product.fp8_room = fp8_bytes > 0 ? (char *)scratch + fp8_begin : NULL;
    pair_input inputs[SEAM_LORA_PAIRS_MAX];
    inputs_place(inputs, stream, a->lora, a->lora_count, {a->x, a->x_ld}, a->T, C,
                 (uintptr_t)scratch + kept_begin);
    SEAM_TRY(inputs_make(inputs, stream, a->lora, a->lora_count, {a->x, a->x_ld}, a->T, C));
    SEAM_TRY(inputs_project(stream, a, inputs, t.thin, (float *)scratch,
                            t.product.joined ? &join : NULL));
    if (t.product.joined) {
        SEAM_TRY(seam_cuda_join_fill(stream, &join));
    }
    for (uint32_t i = 0; i < a->lora_count; i++) {
        const seam_lora_pair *pair = &a->lora[i];
        SEAM_ASSERT(pair->col_begin + pair->N <= N);
        t.share[i] = {.x = pair->u,
                      .w = pair->b,
                      .x_m = pair->R,
                      .x_k = 1,
                      .w_n = pair->R,
                      .w_k = 1,
                      .K = pair->R,
                      .n_begin = pair->col_begin,
                      .n_end = pair->col_begin + pair->N,
                      .scale = pair->scale};
    }
    return task_run(stream, &t);
}

/* ---- backward ---- */
/* The scratch of a backward call: a pair's v (T, R); turned A (C, R) and B (R, N) where thin; the
 * pieces of the sums; the room; the rounded dy; the copies of x. */
typedef struct backward_scratch {
    void *v[SEAM_LORA_PAIRS_MAX], *a[SEAM_LORA_PAIRS_MAX], *b[SEAM_LORA_PAIRS_MAX];
    float *split, *room;
    void *fp8_room;
    pair_input input[SEAM_LORA_PAIRS_MAX]; /* copies of x, where a pair has dropout */
    size_t bytes;
} backward_scratch;

/* Gradients of A and B of every pair: x^T v and dy^T u. */
static uint32_t sums_of(seam_cuda_thin *ret_sums, const seam_linear_backward_args *a,
                        const backward_scratch *s) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < a->lora_count; i++) {
        const seam_lora_pair *p = &a->lora[i];
        ret_sums[count++] = {.x = s->input[i].x,
                             .w = s->v[i],
                             .y = p->da,
                             .x_ld = s->input[i].x_ld,
                             .y_k = 1,
                             .y_r = a->w->C,
                             .K = a->w->C,
                             .R = p->R,
                             .scale = p->scale};
    }
    for (uint32_t i = 0; i < a->lora_count; i++) {
        const seam_lora_pair *p = &a->lora[i];
        ret_sums[count++] = {.x = (const __nv_bfloat16 *)a->dy + p->col_begin,
                             .w = p->u,
                             .y = p->db,
                             .x_ld = a->dy_ld,
                             .y_k = p->R,
                             .y_r = 1,
                             .K = p->N,
                             .R = p->R,
                             .scale = p->scale};
    }
    return count;
}

static void *scratch_take(backward_scratch *s, char *base, size_t bytes) {
    void *ret = base == NULL ? NULL : base + s->bytes;
    s->bytes += seam_cuda_round(bytes);
    return ret;
}

/* Lays the scratch out; base NULL: counts its bytes only. */
static backward_scratch scratch_plan(const seam_stream *stream, const seam_linear_backward_args *a,
                                     const task *t, char *base) {
    const size_t act_bytes = seam_dtype_bytes(seam_cuda_act(stream));
    const uint32_t T = a->T, C = a->w->C;
    backward_scratch s = {};
    size_t split = 0;
    inputs_place(s.input, stream, a->lora, a->lora_count, {a->x, a->x_ld}, T, C, (uintptr_t)base);
    s.bytes = kept_bytes(stream, a->lora, a->lora_count, T, C);
    for (uint32_t i = 0; i < a->lora_count; i++) {
        const uint32_t N = a->lora[i].N, R = a->lora[i].R;
        s.v[i] = scratch_take(&s, base, (size_t)T * R * act_bytes);
        if (t->thin) {
            s.a[i] = scratch_take(&s, base, t->product.joined ? 0 : (size_t)C * R * act_bytes);
            s.b[i] = scratch_take(&s, base, (size_t)N * R * act_bytes);
        } else {
            split = max_bytes(split, seam_cuda_gemm_split_bytes(T, R, N));
            split = max_bytes(split, seam_cuda_gemm_split_bytes(R, C, T));
            split = max_bytes(split, seam_cuda_gemm_split_bytes(N, R, T));
        }
    }
    if (t->thin && a->lora_count > 0) {
        seam_cuda_thin sums[SEAM_CUDA_THIN_MAX];
        split = seam_cuda_thin_sum_bytes(sums, sums_of(sums, a, &s), T);
    }
    /* One place for both: the sums are done when the product begins. */
    s.split = s.room = (float *)scratch_take(&s, base, max_bytes(split, room_bytes(t)));
    const bool rounds = a->fp8 && a->dx != NULL && a->dy_scale == NULL;
    const size_t fp8_bytes = rounds ? seam_cuda_fp8_room_bytes(&t->product) : 0;
    s.fp8_room = fp8_bytes > 0 ? scratch_take(&s, base, fp8_bytes) : NULL;
    return s;
}

static seam_status pairs_backward_thin(seam_stream *stream, const seam_linear_backward_args *a,
                                       const backward_scratch *s, const seam_cuda_join *join) {
    seam_cuda_thin turns[SEAM_CUDA_THIN_MAX], dots[SEAM_LORA_PAIRS_MAX], sums[SEAM_CUDA_THIN_MAX];
    seam_cuda_thin_rest rest = {};
    const uint32_t C = a->w->C;
    uint32_t turn_count = 0;
    for (uint32_t i = 0; i < a->lora_count; i++) {
        const seam_lora_pair *p = &a->lora[i];
        if (join == NULL) {
            turns[turn_count++] = {.x = p->a, .y = s->a[i], .x_ld = C, .K = C, .R = p->R};
        }
        turns[turn_count++] = {.x = p->b, .y = s->b[i], .x_ld = p->R, .K = p->R, .R = p->N};
        dots[i] = {.x = (const __nv_bfloat16 *)a->dy + p->col_begin,
                   .w = s->b[i],
                   .y = s->v[i],
                   .x_ld = a->dy_ld,
                   .K = p->N,
                   .R = p->R};
    }
    if (join != NULL) {
        rest = pads_take(dots, join, (__nv_bfloat16 *)a->dy + a->w->N, a->dy_ld);
    }
    SEAM_TRY(seam_cuda_thin_turns(stream, turns, turn_count));
    SEAM_TRY(seam_cuda_thin_dots(stream, dots, a->lora_count, a->T, &rest));
    return seam_cuda_thin_sums(stream, sums, sums_of(sums, a, s), a->T, s->split);
}

/* v (T, R) = dy_cols B, da += scale v^T x, db += scale dy_cols^T u. */
static seam_status pair_backward(seam_stream *stream, const seam_linear_backward_args *a,
                                 const seam_lora_pair *pair, pair_input x, void *v, float *split) {
    const uint32_t C = a->w->C, R = pair->R;
    const size_t act_bytes = seam_dtype_bytes(seam_cuda_act(stream));
    const void *dy = (const char *)a->dy + pair->col_begin * act_bytes;
    SEAM_TRY(one_product(stream, v, SEAM_OUT_ACT, a->T, R, split,
                         {.x = dy,
                          .w = pair->b,
                          .x_m = a->dy_ld,
                          .x_k = 1,
                          .w_n = 1,
                          .w_k = R,
                          .K = pair->N,
                          .n_begin = 0,
                          .n_end = 0,
                          .scale = 1.0f}));
    SEAM_TRY(one_product(stream, pair->da, SEAM_OUT_ACC_ADD, R, C, split,
                         {.x = v,
                          .w = x.x,
                          .x_m = 1,
                          .x_k = R,
                          .w_n = 1,
                          .w_k = x.x_ld,
                          .K = a->T,
                          .n_begin = 0,
                          .n_end = 0,
                          .scale = pair->scale}));
    return one_product(stream, pair->db, SEAM_OUT_ACC_ADD, pair->N, R, split,
                       {.x = dy,
                        .w = pair->u,
                        .x_m = 1,
                        .x_k = a->dy_ld,
                        .w_n = 1,
                        .w_k = R,
                        .K = a->T,
                        .n_begin = 0,
                        .n_end = 0,
                        .scale = pair->scale});
}

seam_status seam_cuda_linear_backward(seam_stream *stream, const seam_linear_backward_args *args) {
    const seam_linear_backward_args *a = args;
    const uint32_t C = a->w->C;
    void *scratch = NULL;
    SEAM_ASSERT(!a->fp8 || stream->backend->ops.fp8);
    SEAM_ASSERT(a->lora_count <= SEAM_LORA_PAIRS_MAX);
    SEAM_ASSERT(a->dy_scale == NULL || (a->fp8 && a->lora_count == 0));
    task t = {.product = {.weight = a->w,
                          .x = a->dy,
                          .y = a->dx,
                          .T = a->T,
                          .x_ld = a->dy_ld,
                          .y_ld = a->dx_ld,
                          .backward = true,
                          .acc = a->dx_out != SEAM_OUT_ACT,
                          .joined = false,
                          .fp8_room = NULL,
                          .x_scale = (const float *)a->dy_scale},
              .y_out = a->dx_out,
              .bias = NULL,
              .share_count = a->lora_count};
    if (a->T == 0) {
        return SEAM_OK;
    }
    t.thin = pairs_fit(stream, a->lora, a->lora_count, a->w, a->x, a->x_ld, a->dy, a->dy_ld) &&
             a->dx_ld % VECTOR == 0 && vector_aligned(a->dx);
    const seam_cuda_join join = {.weight = a->w,
                                 .lora = a->lora,
                                 .lora_count = a->lora_count,
                                 .bias = NULL,
                                 .backward = true};
    t.product.joined = a->dx != NULL && joins(&t, &join, a->fp8);
    SEAM_TRY(seam_cuda_scratch(&scratch, stream, scratch_plan(stream, a, &t, NULL).bytes));
    const backward_scratch s = scratch_plan(stream, a, &t, (char *)scratch);
    SEAM_TRY(inputs_make(s.input, stream, a->lora, a->lora_count, {a->x, a->x_ld}, a->T, C));
    t.room = s.room;
    t.product.fp8_room = s.fp8_room;
    if (t.thin && a->lora_count > 0) {
        SEAM_TRY(pairs_backward_thin(stream, a, &s, t.product.joined ? &join : NULL));
    }
    if (t.product.joined) {
        SEAM_TRY(seam_cuda_join_fill(stream, &join));
        return task_run(stream, &t);
    }
    for (uint32_t i = 0; i < a->lora_count; i++) {
        const seam_lora_pair *pair = &a->lora[i];
        if (!t.thin) {
            SEAM_TRY(pair_backward(stream, a, pair, s.input[i], s.v[i], s.split));
        }
        t.share[i] = {.x = s.v[i],
                      .w = t.thin ? s.a[i] : pair->a,
                      .x_m = pair->R,
                      .x_k = 1,
                      .w_n = t.thin ? (size_t)pair->R : 1,
                      .w_k = t.thin ? 1 : (size_t)C,
                      .K = pair->R,
                      .n_begin = 0,
                      .n_end = C,
                      .scale = pair->scale,
                      .dropout = pair->dropout};
    }
    return a->dx == NULL ? SEAM_OK : task_run(stream, &t);
}
