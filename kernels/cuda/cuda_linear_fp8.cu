/* Frozen products in FP8 (ops.h): copies of a weight in e4m3, and the product of rounded rows with
 * them in cuBLASLt, which scales by the vectors of both operands' rows (its "outer vector" mode,
 * 12.9 and later, compute capability 9.0).
 *
 * cuBLASLt's FP8 takes both operands with the sum's direction dense, so that forward has W and
 * backward W^T, each with scales of its own rows.  The sum is promoted to f32 on the way
 * (no fast accumulation), by one algorithm a weight, direction and output type, as cuda_plan.cu:
 * a row's bits depend on that row alone.  Read next: cuda_fp8_weight.cu and cuda_fp8_rows.cu, the
 * rounding.
 *
 * On one H100, cuBLASLt 13.1, 6,144 rows of Llama-3-8B's products, without the rounding: 1,300 to
 * 1,440 TFLOP/s into bf16, 1,100 to 1,300 into f32.  Fast accumulation: 1,410 to 1,560, and a sum
 * of squares (nothing cancels) loses 5 % over 4,096 terms, 30 % over 28,672; with promotion the
 * error is 6e-4.  One scale a matrix in place of vectors: within 5 % of the same rate. */
#include "cuda_device.cuh"

#define MULTIPLE  16u   /* of widths, in FP8 */
#define ROWS      2048u /* rows of the shape that the algorithm is asked for */
#define SLAB_COLS 1024u /* of W, turned at a time */

/* ---- launchers ---- */
static bool attribute_set(seam_cuda_described *d, cublasLtMatmulDescAttributes_t attribute,
                          const void *value, size_t bytes) {
    return cublasLtMatmulDescSetAttribute(&d->desc, attribute, value, bytes) ==
           CUBLAS_STATUS_SUCCESS;
}

/* In cuBLASLt's column order: y^T (columns of y, T) = W' x^T with W' the copy's rows; rows of x are
 * x_bytes apart. */
bool seam_cuda_fp8_describe(seam_cuda_described *ret, const seam_cuda_product *product,
                            const float *x_scale, size_t x_bytes) {
    seam_cuda_described *d = ret;
    const seam_cuda_product *p = product;
    const uint32_t N = p->weight->N, C = p->weight->C;
    const uint32_t K = p->backward ? N : C, cols = p->backward ? C : N;
    const float *w_scale = p->weight->fp8[p->backward].scale;
    const cublasOperation_t turned = CUBLAS_OP_T;
    const int32_t by_row = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    return cublasLtMatmulDescInit(&d->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F) ==
               CUBLAS_STATUS_SUCCESS &&
           attribute_set(d, CUBLASLT_MATMUL_DESC_TRANSA, &turned, sizeof turned) &&
           attribute_set(d, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &by_row, sizeof by_row) &&
           attribute_set(d, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &by_row, sizeof by_row) &&
           attribute_set(d, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &w_scale, sizeof w_scale) &&
           attribute_set(d, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &x_scale, sizeof x_scale) &&
           cublasLtMatrixLayoutInit(&d->w, CUDA_R_8F_E4M3, K, cols, K) == CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutInit(&d->x, CUDA_R_8F_E4M3, K, p->T, (int64_t)x_bytes) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutInit(&d->y, p->acc ? CUDA_R_32F : CUDA_R_16BF, cols, p->T,
                                    p->y_ld) == CUBLAS_STATUS_SUCCESS;
}

static const seam_cuda_plan *plan_of(const seam_cuda_product *p) {
    return &p->weight->fp8[p->backward].plan[p->acc];
}

/* Plans for both output types; false when one has no algorithm.  The scales are not read. */
static bool plans_make(seam_weight *weight, bool backward) {
    seam_cuda_fp8 *copy = &weight->fp8[backward];
    for (int acc = 0; acc < 2; acc++) {
        seam_cuda_described d;
        const seam_cuda_product product = {.weight = weight,
                                           .x = NULL,
                                           .y = NULL,
                                           .T = ROWS,
                                           .x_ld = backward ? weight->N : weight->C,
                                           .y_ld = backward ? weight->C : weight->N,
                                           .backward = backward,
                                           .acc = acc == 1,
                                           .joined = false,
                                           .fp8_room = NULL,
                                           .x_scale = NULL};
        copy->plan[acc].found = false;
        if (seam_cuda_fp8_describe(&d, &product, copy->scale, product.x_ld)) {
            seam_cuda_plan_choose(&copy->plan[acc], &product, true, &d);
        }
        if (!copy->plan[acc].found) {
            return false;
        }
    }
    return true;
}

bool seam_cuda_fp8_serves(seam_backend *backend) {
    alignas(16) float scale = 1.0f;
    seam_weight weight = {};
    weight.backend = backend;
    weight.N = weight.C = 1024;
    weight.fp8[0].scale = weight.fp8[1].scale = &scale;
    return backend->ops.act == SEAM_BF16 && plans_make(&weight, false) && plans_make(&weight, true);
}

/* Rows [c, c + cols) of W^T through the stream's scratch. */
static seam_status slab_round(seam_weight *weight, seam_stream *stream, uint32_t c, uint32_t cols) {
    const uint32_t N = weight->N, C = weight->C;
    const seam_cuda_fp8 *copy = &weight->fp8[1];
    void *slab = NULL;
    SEAM_TRY(seam_cuda_scratch(&slab, stream, (size_t)cols * N * sizeof(__nv_bfloat16)));
    const seam_cuda_thin turn = {.x = (const __nv_bfloat16 *)weight->rows + c,
                                 .w = NULL,
                                 .y = slab,
                                 .x_ld = (size_t)C + weight->pad,
                                 .y_k = 0,
                                 .y_r = 0,
                                 .K = cols,
                                 .R = N,
                                 .scale = 1.0f,
                                 .z = NULL,
                                 .z_ld = 0};
    SEAM_TRY(seam_cuda_thin_turns(stream, &turn, 1));
    return seam_cuda_fp8_weight_rows(stream, (char *)copy->rows + (size_t)c * N, N, copy->scale + c,
                                     slab, N, cols, N);
}

static seam_status copy_create(seam_weight *weight, seam_stream *stream, bool backward) {
    const uint32_t N = weight->N, C = weight->C, rows = backward ? C : N;
    seam_backend *backend = weight->backend;
    seam_cuda_fp8 *copy = &weight->fp8[backward];
    SEAM_TRY(backend->ops.mem_alloc(&copy->rows, backend, (size_t)N * C));
    SEAM_TRY(backend->ops.mem_alloc((void **)&copy->scale, backend, rows * sizeof(float)));
    (void)plans_make(weight, backward); /* none found: the product stays in act */
    if (!backward) {
        return seam_cuda_fp8_weight_rows(stream, copy->rows, C, copy->scale, weight->rows,
                                         (size_t)C + weight->pad, N, C);
    }
    for (uint32_t c = 0; c < C; c += SLAB_COLS) {
        SEAM_TRY(slab_round(weight, stream, c, C - c < SLAB_COLS ? C - c : SLAB_COLS));
    }
    return SEAM_OK;
}

seam_status seam_cuda_fp8_create(seam_weight *weight) {
    const seam_ops *ops = &weight->backend->ops;
    const uint32_t N = weight->N, C = weight->C;
    seam_stream *stream = NULL;
    seam_status st = SEAM_OK;
    if (N % MULTIPLE != 0 || C % MULTIPLE != 0 || N > SEAM_CUDA_FP8_K_MAX ||
        C > SEAM_CUDA_FP8_K_MAX) {
        return SEAM_OK;
    }
    SEAM_TRY(ops->stream_create(&stream, weight->backend));
    for (int i = 0; i < 2 && st == SEAM_OK; i++) {
        st = weight->fp8[i].wanted ? copy_create(weight, stream, i == 1) : SEAM_OK;
    }
    st = st == SEAM_OK ? ops->stream_sync(stream) : st;
    ops->stream_destroy(stream);
    return st;
}

void seam_cuda_fp8_destroy(seam_weight *weight) {
    for (int i = 0; i < 2; i++) {
        weight->backend->ops.mem_free(weight->backend, weight->fp8[i].scale);
        weight->backend->ops.mem_free(weight->backend, weight->fp8[i].rows);
    }
}

size_t seam_cuda_fp8_bytes(const seam_weight *weight) {
    const size_t rows_bytes = (size_t)weight->N * weight->C;
    return (weight->fp8[0].rows != NULL ? rows_bytes + weight->N * sizeof(float) : 0) +
           (weight->fp8[1].rows != NULL ? rows_bytes + weight->C * sizeof(float) : 0);
}

bool seam_cuda_linear_takes_fp8(const seam_weight *w, bool backward) {
    const seam_cuda_plan *plan = w->fp8[backward].plan;
    const seam_cuda_plan *act = backward ? w->backward : w->forward;
    return plan[0].found && plan[1].found && act[0].found && act[1].found;
}

/* The scales come first in a room, then the rows. */
static size_t scales_bytes(const seam_cuda_product *p) {
    return seam_cuda_round(p->T * sizeof(float));
}

size_t seam_cuda_fp8_room_bytes(const seam_cuda_product *product) {
    const seam_cuda_product *p = product;
    const bool fits = plan_of(p)->found && seam_cuda_product_fits(p);
    return fits ? scales_bytes(p) + (size_t)p->T * (p->backward ? p->weight->N : p->weight->C) : 0;
}

seam_status seam_cuda_fp8_run(seam_stream *stream, const seam_cuda_product *product, float beta) {
    const seam_cuda_product *p = product;
    const uint32_t K = p->backward ? p->weight->N : p->weight->C;
    const float one = 1.0f;
    const float *scale = p->x_scale;
    const void *q = p->x;
    size_t q_ld = 2 * (size_t)p->x_ld;
    seam_cuda_described d;
    SEAM_ASSERT(plan_of(p)->found);
    if (scale == NULL) {
        float *room = (float *)p->fp8_room;
        void *rows = (char *)room + scales_bytes(p);
        SEAM_TRY(seam_cuda_fp8_rows(stream, rows, K, room, p->x, p->x_ld, p->T, K));
        scale = room;
        q = rows;
        q_ld = K;
    }
    if (!seam_cuda_fp8_describe(&d, p, scale, q_ld)) {
        return SEAM_E_DEVICE_LOST;
    }
    return seam_cublas_status(cublasLtMatmul(
        seam_cuda_blas(stream->backend), &d.desc, &one, p->weight->fp8[p->backward].rows, &d.w, q,
        &d.x, &beta, p->y, &d.y, p->y, &d.y, &plan_of(p)->algo, NULL, 0, seam_cuda_queue(stream)));
}
