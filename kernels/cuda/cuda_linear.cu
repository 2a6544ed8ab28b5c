/* Linear layers with LoRA.  The frozen product runs in cuBLASLt when all rows start on 16 bytes,
 * else in cuda_gemm.cu; which of the two depends on widths alone, never on the row count.
 *
 * In cuBLASLt's column order a row-major matrix is its transpose: y^T (N, T) = W x^T.  One
 * algorithm a weight, direction and output type, asked for once at ROWS rows without workspace and
 * reduction scheme, which leaves no split or streamed sum over k.
 *
 * LoRA's share and the bias are added in f32 and rounded with the frozen product, once.  beta = 1
 * on a bf16 y would not do that: cuBLASLt rounds the product before it adds y, so that half of a
 * share of 1e-3 beside products near 1 is lost (measured, 13.0), and a young adapter learns slower.
 * A y in f32 is written with the shares and added to; a bf16 y with shares gets its product in f32,
 * ROOM_ROWS rows at a time, and cuda_gemm.cu adds.  Bound: the frozen product, 2 T N C operations.
 */
#include <string.h>

#include "cuda_device.cuh"

#define ROWS      2048u /* rows of the shape that the algorithm is asked for */
#define ASKED     16
#define ROOM_ROWS 1024u

/* ---- launchers ---- */
/* y (T, M) = (y when beta) + x (T, K) op(W): M, K of W's two widths. */
typedef struct product {
    cublasLtMatmulDescOpaque_t desc;
    cublasLtMatrixLayoutOpaque_t w, x, y;
} product;

typedef struct product_shape {
    const seam_weight *weight;
    seam_dtype act;
    bool backward, acc; /* direction; y is acc */
    uint32_t T, x_ld, y_ld;
} product_shape;

static cudaDataType_t blas_type(seam_dtype type) {
    return type == SEAM_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static bool product_init(product *p, const product_shape *s) {
    const uint32_t N = s->weight->N, C = s->weight->C;
    const cublasOperation_t op = s->backward ? CUBLAS_OP_N : CUBLAS_OP_T;
    const cudaDataType_t act = blas_type(s->act);
    return cublasLtMatmulDescInit(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatmulDescSetAttribute(&p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &op, sizeof op) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutInit(&p->w, act, C, N, C) == CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutInit(&p->x, act, s->backward ? N : C, s->T, s->x_ld) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutInit(&p->y, s->acc ? CUDA_R_32F : act, s->backward ? C : N, s->T,
                                    s->y_ld) == CUBLAS_STATUS_SUCCESS;
}

/* No sum over k in more than one piece. */
static bool algo_plain(const cublasLtMatmulAlgo_t *algo) {
    int32_t split = 0;
    uint32_t reduction = 0;
    size_t written = 0;
    return cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &split,
                                                sizeof split, &written) == CUBLAS_STATUS_SUCCESS &&
           cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
                                                &reduction, sizeof reduction,
                                                &written) == CUBLAS_STATUS_SUCCESS &&
           split <= 1 && reduction == CUBLASLT_REDUCTION_SCHEME_NONE;
}

static void plan_make(seam_cuda_plan *plan, const product_shape *shape) {
    cublasLtMatmulPreferenceOpaque_t preference;
    cublasLtMatmulHeuristicResult_t found[ASKED];
    const uint32_t none = CUBLASLT_REDUCTION_SCHEME_NONE, alignment = 16;
    const uint64_t workspace_bytes = 0;
    int count = 0;
    product p;
    const cublasLtMatmulPreferenceAttributes_t aligned[4] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    memset(found, 0, sizeof found);
    bool ok = product_init(&p, shape) &&
              cublasLtMatmulPreferenceInit(&preference) == CUBLAS_STATUS_SUCCESS;
    ok = ok && cublasLtMatmulPreferenceSetAttribute(
                   &preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes,
                   sizeof workspace_bytes) == CUBLAS_STATUS_SUCCESS;
    ok = ok && cublasLtMatmulPreferenceSetAttribute(&preference,
                                                    CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                    &none, sizeof none) == CUBLAS_STATUS_SUCCESS;
    for (int i = 0; i < 4; i++) {
        ok = ok && cublasLtMatmulPreferenceSetAttribute(&preference, aligned[i], &alignment,
                                                        sizeof alignment) == CUBLAS_STATUS_SUCCESS;
    }
    ok = ok && cublasLtMatmulAlgoGetHeuristic(seam_cuda_blas(shape->weight->backend), &p.desc, &p.w,
                                              &p.x, &p.y, &p.y, &preference, ASKED, found,
                                              &count) == CUBLAS_STATUS_SUCCESS;
    for (int i = 0; ok && i < count && !plan->found; i++) {
        if (found[i].state == CUBLAS_STATUS_SUCCESS && algo_plain(&found[i].algo)) {
            plan->algo = found[i].algo;
            plan->found = true;
        }
    }
}

void seam_cuda_weight_plan(seam_weight *weight, seam_dtype act) {
    if (weight->N % VECTOR != 0 || weight->C % VECTOR != 0) {
        return;
    }
    for (int acc = 0; acc < 2; acc++) {
        const product_shape forward = {weight, act, false, acc == 1, ROWS, weight->C, weight->N};
        const product_shape backward = {weight, act, true, acc == 1, ROWS, weight->N, weight->C};
        plan_make(&weight->forward[acc], &forward);
        plan_make(&weight->backward[acc], &backward);
    }
}

/* One frozen product with its shares. */
typedef struct task {
    product_shape shape;
    void *y;
    seam_out y_out;
    const void *x;
    const float *bias;
    uint32_t share_count;
    seam_cuda_part share[SEAM_LORA_PAIRS_MAX];
    float *room; /* room_bytes */
} task;

static bool has_shares(const task *t) {
    return t->share_count > 0 || t->bias != NULL;
}

static size_t room_bytes(const task *t) {
    const seam_weight *w = t->shape.weight;
    const size_t rows = t->shape.T < ROOM_ROWS ? t->shape.T : ROOM_ROWS;
    return has_shares(t) && t->y_out == SEAM_OUT_ACT
               ? rows * (t->shape.backward ? w->C : w->N) * sizeof(float)
               : 0;
}

static bool by_blas(const task *t, const seam_cuda_plan *plan) {
    return plan->found && t->shape.x_ld % VECTOR == 0 && t->shape.y_ld % VECTOR == 0 &&
           vector_aligned(t->x) && vector_aligned(t->y);
}

static seam_status blas_run(seam_stream *stream, const task *t, const seam_cuda_plan *plan,
                            float beta) {
    const float one = 1.0f;
    product p;
    if (!product_init(&p, &t->shape) ||
        cublasLtMatmul(seam_cuda_blas(stream->backend), &p.desc, &one, t->shape.weight->rows, &p.w,
                       t->x, &p.x, &beta, t->y, &p.y, t->y, &p.y, &plan->algo, NULL, 0,
                       seam_cuda_queue(stream)) != CUBLAS_STATUS_SUCCESS) {
        return SEAM_E_DEVICE_LOST;
    }
    return SEAM_OK;
}

/* The product in f32 into the room, then own adds to it and rounds. */
static seam_status rooms_run(seam_stream *stream, const task *t, seam_cuda_gemm_args own,
                             const seam_cuda_plan *plan) {
    const size_t act_bytes = seam_dtype_bytes(t->shape.act);
    const uint32_t T = t->shape.T;
    task sum = *t;
    sum.y = t->room;
    sum.shape.acc = true;
    sum.shape.y_ld = own.N;
    own.addend = t->room;
    for (uint32_t row = 0; row < T; row += ROOM_ROWS) {
        const uint32_t rows = T - row < ROOM_ROWS ? T - row : ROOM_ROWS;
        sum.shape.T = own.M = rows;
        SEAM_TRY(blas_run(stream, &sum, plan, 0.0f));
        SEAM_TRY(seam_cuda_gemm(stream, &own));
        sum.x = (const char *)sum.x + (size_t)rows * t->shape.x_ld * act_bytes;
        own.y = (char *)own.y + (size_t)rows * own.y_ld * act_bytes;
        for (uint32_t p = 0; p < own.part_count; p++) {
            own.part[p].x = (const char *)own.part[p].x + rows * own.part[p].x_m * act_bytes;
        }
    }
    return SEAM_OK;
}

static seam_status task_run(seam_stream *stream, const task *t) {
    const seam_weight *w = t->shape.weight;
    const uint32_t N = w->N, C = w->C;
    const bool backward = t->shape.backward;
    const seam_cuda_plan *plans = backward ? w->backward : w->forward;
    const seam_cuda_plan *plan = &plans[t->shape.acc], *to_f32 = &plans[1];
    seam_cuda_gemm_args own = {.y = t->y,
                               .y_ld = t->shape.y_ld,
                               .M = t->shape.T,
                               .N = backward ? C : N,
                               .y_out = t->y_out,
                               .bias = t->bias,
                               .addend = NULL,
                               .split = NULL,
                               .part_count = t->share_count};
    memcpy(own.part, t->share, sizeof t->share);
    if (!by_blas(t, plan) || (has_shares(t) && !to_f32->found)) {
        own.part[own.part_count++] = {.x = t->x,
                                      .w = w->rows,
                                      .x_m = t->shape.x_ld,
                                      .x_k = 1,
                                      .w_n = backward ? 1 : (size_t)C,
                                      .w_k = backward ? (size_t)C : 1,
                                      .K = backward ? N : C,
                                      .n_begin = 0,
                                      .n_end = own.N,
                                      .scale = 1.0f};
        return seam_cuda_gemm(stream, &own);
    }
    if (!has_shares(t)) {
        return blas_run(stream, t, plan, t->y_out == SEAM_OUT_ACC_ADD ? 1.0f : 0.0f);
    }
    if (t->y_out == SEAM_OUT_ACT) {
        return rooms_run(stream, t, own, to_f32);
    }
    SEAM_TRY(seam_cuda_gemm(stream, &own));
    return blas_run(stream, t, plan, 1.0f);
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

seam_status seam_cuda_linear_forward(seam_stream *stream, const seam_linear_forward_args *args) {
    const seam_linear_forward_args *a = args;
    const uint32_t N = a->w->N, C = a->w->C;
    SEAM_ASSERT(a->x_ld >= C && a->y_ld >= N);
    SEAM_ASSERT(a->lora_count <= SEAM_LORA_PAIRS_MAX);
    task t = {.shape = {a->w, seam_cuda_act(stream), false, a->y_out != SEAM_OUT_ACT, a->T, a->x_ld,
                        a->y_ld},
              .y = a->y,
              .y_out = a->y_out,
              .x = a->x,
              .bias = (const float *)a->bias,
              .share_count = a->lora_count};
    if (a->T == 0) {
        return SEAM_OK;
    }
    size_t bytes = 0;
    void *scratch = NULL;
    for (uint32_t i = 0; i < a->lora_count; i++) {
        bytes = max_bytes(bytes, seam_cuda_gemm_split_bytes(a->T, a->lora[i].R, C));
    }
    bytes = seam_cuda_round(bytes);
    SEAM_TRY(seam_cuda_scratch(&scratch, stream, bytes + room_bytes(&t)));
    float *split = (float *)scratch;
    t.room = (float *)((char *)scratch + bytes);
    for (uint32_t i = 0; i < a->lora_count; i++) {
        const seam_lora_pair *pair = &a->lora[i];
        SEAM_ASSERT(pair->col_begin + pair->N <= N);
        SEAM_TRY(one_product(stream, pair->u, SEAM_OUT_ACT, a->T, pair->R, split,
                             {.x = a->x,
                              .w = pair->a,
                              .x_m = a->x_ld,
                              .x_k = 1,
                              .w_n = C,
                              .w_k = 1,
                              .K = C,
                              .n_begin = 0,
                              .n_end = 0,
                              .scale = 1.0f}));
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

/* v (T, R) = dy_cols B, da += scale v^T x, db += scale dy_cols^T u. */
static seam_status pair_backward(seam_stream *stream, const seam_linear_backward_args *a,
                                 const seam_lora_pair *pair, void *v, float *split) {
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
                          .w = a->x,
                          .x_m = 1,
                          .x_k = R,
                          .w_n = 1,
                          .w_k = a->x_ld,
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
    const size_t act_bytes = seam_dtype_bytes(seam_cuda_act(stream));
    const uint32_t C = a->w->C;
    size_t v_bytes = 0, split_bytes = 0;
    void *scratch = NULL;
    SEAM_ASSERT(a->lora_count <= SEAM_LORA_PAIRS_MAX);
    task t = {.shape = {a->w, seam_cuda_act(stream), true, a->dx_out != SEAM_OUT_ACT, a->T,
                        a->dy_ld, a->dx_ld},
              .y = a->dx,
              .y_out = a->dx_out,
              .x = a->dy,
              .bias = NULL,
              .share_count = a->lora_count};
    if (a->T == 0) {
        return SEAM_OK;
    }
    for (uint32_t i = 0; i < a->lora_count; i++) {
        const uint32_t N = a->lora[i].N, R = a->lora[i].R;
        v_bytes += seam_cuda_round((size_t)a->T * R * act_bytes);
        split_bytes = max_bytes(split_bytes, seam_cuda_gemm_split_bytes(a->T, R, N));
        split_bytes = max_bytes(split_bytes, seam_cuda_gemm_split_bytes(R, C, a->T));
        split_bytes = max_bytes(split_bytes, seam_cuda_gemm_split_bytes(N, R, a->T));
    }
    split_bytes = seam_cuda_round(split_bytes);
    SEAM_TRY(seam_cuda_scratch(&scratch, stream, v_bytes + split_bytes + room_bytes(&t)));
    char *v = (char *)scratch;
    float *split = (float *)(v + v_bytes);
    t.room = (float *)(v + v_bytes + split_bytes);
    for (uint32_t i = 0; i < a->lora_count; i++) {
        const seam_lora_pair *pair = &a->lora[i];
        SEAM_TRY(pair_backward(stream, a, pair, v, split));
        t.share[i] = {.x = v,
                      .w = pair->a,
                      .x_m = pair->R,
                      .x_k = 1,
                      .w_n = 1,
                      .w_k = C,
                      .K = pair->R,
                      .n_begin = 0,
                      .n_end = C,
                      .scale = pair->scale};
        v += seam_cuda_round((size_t)a->T * pair->R * act_bytes);
    }
    return a->dx == NULL ? SEAM_OK : task_run(stream, &t);
}
