/* dw (N, C) f32 += dy^T x: the gradient of a matrix that is trained, by cuBLASLt with one algorithm
 * a weight, fixed when the weight is made; where rows are not on 16 bytes by cuda_gemm.cu.
 *
 * In cuBLASLt's column order dw^T (C, N) = x^T dy: both operands stand with the sum's index last.
 * The algorithm is asked for at ROWS rows without workspace and reduction scheme, which leaves no
 * split of the sum.  Bound: 2 T N C operations. */
#include "cuda_device.cuh"

#define ROWS 2048u

/* ---- launchers ---- */
static cudaDataType_t blas_type(const seam_weight *w) {
    return w->backend->ops.act == SEAM_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* w of the description is x^T, x is dy, y is dw^T. */
static bool describe(seam_cuda_described *d, const seam_weight *w, uint32_t T, uint32_t dy_ld,
                     uint32_t x_ld) {
    const cublasOperation_t turned = CUBLAS_OP_T;
    return cublasLtMatmulDescInit(&d->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatmulDescSetAttribute(&d->desc, CUBLASLT_MATMUL_DESC_TRANSB, &turned,
                                          sizeof turned) == CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutInit(&d->w, blas_type(w), w->C, T, x_ld) == CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutInit(&d->x, blas_type(w), w->N, T, dy_ld) == CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutInit(&d->y, CUDA_R_32F, w->C, w->N, w->C) == CUBLAS_STATUS_SUCCESS;
}

void seam_cuda_gradient_plan(seam_weight *weight) {
    seam_cuda_described d;
    cublasLtMatmulAlgo_t algo;
    if (weight->N % VECTOR == 0 && weight->C % VECTOR == 0 &&
        describe(&d, weight, ROWS, weight->N, weight->C) &&
        seam_cuda_described_algorithms(&algo, seam_cuda_blas(weight->backend), &d, 1) == 1) {
        weight->gradient = {.found = true, .algo = algo};
    }
}

static bool fits(const seam_weight_gradient_args *a) {
    return a->w->gradient.found && a->dy_ld % VECTOR == 0 && a->x_ld % VECTOR == 0 &&
           vector_aligned(a->dy) && vector_aligned(a->x) && vector_aligned(a->dw);
}

static seam_status by_blas(seam_stream *stream, const seam_weight_gradient_args *a) {
    const float one = 1.0f;
    seam_cuda_described d;
    if (!describe(&d, a->w, a->T, a->dy_ld, a->x_ld)) {
        return SEAM_E_DEVICE_LOST;
    }
    return seam_cublas_status(cublasLtMatmul(
        seam_cuda_blas(stream->backend), &d.desc, &one, a->x, &d.w, a->dy, &d.x, &one, a->dw, &d.y,
        a->dw, &d.y, &a->w->gradient.algo, NULL, 0, seam_cuda_queue(stream)));
}

seam_status seam_cuda_weight_gradient(seam_stream *stream, const seam_weight_gradient_args *args) {
    const seam_weight_gradient_args *a = args;
    const uint32_t N = a->w->N, C = a->w->C;
    SEAM_ASSERT(a->dy_ld >= N && a->x_ld >= C);
    if (a->T == 0) {
        return SEAM_OK;
    }
    if (fits(a)) {
        return by_blas(stream, a);
    }
    const seam_cuda_gemm_args own = {.y = a->dw,
                                     .y_ld = C,
                                     .M = N,
                                     .N = C,
                                     .y_out = SEAM_OUT_ACC_ADD,
                                     .bias = NULL,
                                     .addend = NULL,
                                     .split = NULL,
                                     .part_count = 1,
                                     .part = {{.x = a->dy,
                                               .w = a->x,
                                               .x_m = 1,
                                               .x_k = a->dy_ld,
                                               .w_n = 1,
                                               .w_k = a->x_ld,
                                               .K = a->T,
                                               .n_begin = 0,
                                               .n_end = C,
                                               .scale = 1.0f}}};
    return seam_cuda_gemm(stream, &own);
}
