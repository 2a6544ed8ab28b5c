/* The frozen products in cuBLASLt: one algorithm a weight, direction and output type, fixed when
 * the weight is made, so that a row's bits depend neither on the row count nor on a restart: the
 * committed one (cuda_algorithms.cu), else the library's first.
 *
 * In cuBLASLt's column order a row-major matrix is its transpose: y^T (N, T) = W x^T.  The library
 * is asked at ROWS rows for algorithms without workspace and reduction scheme, which leaves no
 * split or streamed sum over k.  Bound: 2 T N C operations. */
#include <string.h>

#include "cuda_device.cuh"

#define ROWS 2048u /* rows of the shape that the algorithm is asked for */

/* ---- launchers ---- */
static cudaDataType_t blas_type(seam_dtype type) {
    return type == SEAM_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static bool act_describe(seam_cuda_described *d, const seam_cuda_product *p) {
    const seam_weight *w = p->weight;
    const uint32_t more = p->joined ? w->pad : 0;
    const uint32_t N = w->N + (p->backward ? more : 0), C = w->C + (p->backward ? 0 : more);
    const cublasOperation_t op = p->backward ? CUBLAS_OP_N : CUBLAS_OP_T;
    const cudaDataType_t act = blas_type(w->backend->ops.act);
    return cublasLtMatmulDescInit(&d->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatmulDescSetAttribute(&d->desc, CUBLASLT_MATMUL_DESC_TRANSA, &op, sizeof op) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutInit(&d->w, act, C, N, w->C + w->pad) == CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutInit(&d->x, act, p->backward ? N : C, p->T, p->x_ld) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutInit(&d->y, p->acc ? CUDA_R_32F : act, p->backward ? C : N, p->T,
                                    p->y_ld) == CUBLAS_STATUS_SUCCESS;
}

bool seam_cuda_describe(seam_cuda_described *ret, const seam_cuda_product *product) {
    const seam_cuda_product *p = product;
    return p->x_scale != NULL ? seam_cuda_fp8_describe(ret, p, p->x_scale, 2 * (size_t)p->x_ld)
                              : act_describe(ret, p);
}

uint32_t seam_cuda_described_algorithms(cublasLtMatmulAlgo_t *ret_algos, cublasLtHandle_t blas,
                                        seam_cuda_described *described, uint32_t algos_max) {
    cublasLtMatmulPreferenceOpaque_t preference;
    cublasLtMatmulHeuristicResult_t found[SEAM_CUDA_ALGORITHMS_MAX];
    const uint32_t none = CUBLASLT_REDUCTION_SCHEME_NONE, alignment = 16;
    const uint64_t workspace_bytes = 0;
    uint32_t taken = 0;
    int count = 0;
    const cublasLtMatmulPreferenceAttributes_t aligned[4] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    SEAM_ASSERT(algos_max <= SEAM_CUDA_ALGORITHMS_MAX);
    memset(found, 0, sizeof found);
    bool ok = cublasLtMatmulPreferenceInit(&preference) == CUBLAS_STATUS_SUCCESS;
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
    ok = ok &&
         cublasLtMatmulAlgoGetHeuristic(blas, &described->desc, &described->w, &described->x,
                                        &described->y, &described->y, &preference, (int)algos_max,
                                        found, &count) == CUBLAS_STATUS_SUCCESS;
    for (int i = 0; ok && i < count; i++) {
        if (found[i].state == CUBLAS_STATUS_SUCCESS && seam_cuda_algo_plain(&found[i].algo)) {
            ret_algos[taken++] = found[i].algo;
        }
    }
    return taken;
}

uint32_t seam_cuda_algorithms(cublasLtMatmulAlgo_t *ret_algos, const seam_cuda_product *product,
                              uint32_t algos_max) {
    seam_cuda_described d;
    return seam_cuda_describe(&d, product)
               ? seam_cuda_described_algorithms(ret_algos, seam_cuda_blas(product->weight->backend),
                                                &d, algos_max)
               : 0;
}

static seam_cuda_plan *plan_at(seam_weight *w, const seam_cuda_product *p) {
    return p->joined     ? &w->joined[p->backward][p->acc]
           : p->backward ? &w->backward[p->acc]
                         : &w->forward[p->acc];
}

static void plan_make(seam_cuda_plan *plan, const seam_cuda_product *product) {
    seam_cuda_described d;
    if (act_describe(&d, product)) {
        seam_cuda_plan_choose(plan, product, false, &d);
    }
}

void seam_cuda_weight_plan(seam_weight *weight) {
    const uint32_t N = weight->N, C = weight->C;
    if (N % VECTOR != 0 || C % VECTOR != 0) {
        seam_cuda_algo_use_add(weight);
        return;
    }
    for (int i = 0; i < 8; i++) {
        const bool backward = i % 2 != 0, acc = i / 2 % 2 != 0, joined = i / 4 != 0;
        const uint32_t pad = joined ? weight->pad : 0;
        const seam_cuda_product product = {.weight = weight,
                                           .x = NULL,
                                           .y = NULL,
                                           .T = ROWS,
                                           .x_ld = (backward ? N : C) + pad,
                                           .y_ld = backward ? C : N,
                                           .backward = backward,
                                           .acc = acc,
                                           .joined = joined,
                                           .fp8_room = NULL,
                                           .x_scale = NULL};
        if (!joined || weight->pad > 0) {
            plan_make(plan_at(weight, &product), &product);
        }
    }
    seam_cuda_algo_use_add(weight);
}

static const seam_cuda_plan *plan_of(const seam_cuda_product *p) {
    return plan_at((seam_weight *)p->weight, p);
}

bool seam_cuda_product_fits(const seam_cuda_product *product) {
    return plan_of(product)->found && product->x_ld % VECTOR == 0 && product->y_ld % VECTOR == 0 &&
           vector_aligned(product->x) && vector_aligned(product->y);
}

seam_status seam_cuda_product_run(seam_stream *stream, const seam_cuda_product *product,
                                  float beta) {
    const seam_cuda_product *p = product;
    const float one = 1.0f;
    seam_cuda_described d;
    if (p->fp8_room != NULL || p->x_scale != NULL) {
        return seam_cuda_fp8_run(stream, p, beta);
    }
    if (!act_describe(&d, p)) {
        return SEAM_E_DEVICE_LOST;
    }
    return seam_cublas_status(cublasLtMatmul(
        seam_cuda_blas(stream->backend), &d.desc, &one, p->weight->rows, &d.w, p->x, &d.x, &beta,
        p->y, &d.y, p->y, &d.y, &plan_of(p)->algo, NULL, 0, seam_cuda_queue(stream)));
}
