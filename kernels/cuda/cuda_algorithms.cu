/* cuBLASLt's algorithms of the served shapes' frozen products, found by search
 * (tests/bench/search_products.cu) and committed, so that neither a restart nor a heuristic of the
 * library's decides on a row's bits.  One a weight, direction and output type serves every row
 * count; each sums over k in one piece, and the search has compared the bits of rows at several
 * counts.  What is not here, or runs on another device or cuBLASLt, asks the library
 * (cuda_plan.cu). */
#include "cuda_ops.cuh"

#define TABLE_MAJOR   9u    /* compute capability: H100, H200 */
#define TABLE_VERSION 1301u /* of cuBLASLt: 13.1 */

typedef struct row {
    bool fp8;
    uint32_t N, C; /* of the weight; with its pad in the direction of a joined product's sum */
    bool backward, acc;
    seam_cuda_algo algo;
} row;

/* H100 80GB HBM3, cuBLASLt 13.1. */
static const row table[] = {
    {false, 0, 0, false, false, {0, 0, 0, 0, 0, 0, 0}},
};

/* ---- launchers ---- */
template <typename T>
static bool config_read(uint32_t *ret, const cublasLtMatmulAlgo_t *algo,
                        cublasLtMatmulAlgoConfigAttributes_t attribute) {
    T value = 0;
    size_t written = 0;
    const bool ok = cublasLtMatmulAlgoConfigGetAttribute(algo, attribute, &value, sizeof value,
                                                         &written) == CUBLAS_STATUS_SUCCESS;
    *ret = (uint32_t)value;
    return ok;
}

bool seam_cuda_algo_read(seam_cuda_algo *ret, const cublasLtMatmulAlgo_t *algo) {
    uint32_t id = 0;
    const bool ok =
        config_read<int32_t>(&id, algo, CUBLASLT_ALGO_CONFIG_ID) &&
        config_read<uint32_t>(&ret->tile, algo, CUBLASLT_ALGO_CONFIG_TILE_ID) &&
        config_read<uint32_t>(&ret->stages, algo, CUBLASLT_ALGO_CONFIG_STAGES_ID) &&
        config_read<uint32_t>(&ret->swizzle, algo, CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING) &&
        config_read<uint32_t>(&ret->custom, algo, CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION) &&
        config_read<uint16_t>(&ret->inner, algo, CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID) &&
        config_read<uint16_t>(&ret->cluster, algo, CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID);
    ret->id = (int32_t)id;
    return ok;
}

/* A value of 0 is what algorithms begin with. */
template <typename T>
static bool config_write(cublasLtMatmulAlgo_t *algo, cublasLtMatmulAlgoConfigAttributes_t attribute,
                         uint32_t value) {
    const T own = (T)value;
    return value == 0 || cublasLtMatmulAlgoConfigSetAttribute(algo, attribute, &own, sizeof own) ==
                             CUBLAS_STATUS_SUCCESS;
}

static cudaDataType_t type_of(cublasLtMatrixLayoutOpaque_t *layout) {
    uint32_t type = 0;
    size_t written = 0;
    (void)cublasLtMatrixLayoutGetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_TYPE, &type, sizeof type,
                                           &written);
    return (cudaDataType_t)type;
}

bool seam_cuda_algo_make(cublasLtMatmulAlgo_t *ret_algo, cublasLtHandle_t blas,
                         seam_cuda_described *described, const seam_cuda_algo *from) {
    seam_cuda_described *d = described;
    const cudaDataType_t y = type_of(&d->y);
    cublasLtMatmulHeuristicResult_t result;
    cublasLtMatmulAlgo_t algo;
    const bool ok =
        cublasLtMatmulAlgoInit(blas, CUBLAS_COMPUTE_32F, CUDA_R_32F, type_of(&d->w), type_of(&d->x),
                               y, y, from->id, &algo) == CUBLAS_STATUS_SUCCESS &&
        config_write<uint32_t>(&algo, CUBLASLT_ALGO_CONFIG_TILE_ID, from->tile) &&
        config_write<uint32_t>(&algo, CUBLASLT_ALGO_CONFIG_STAGES_ID, from->stages) &&
        config_write<uint32_t>(&algo, CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING, from->swizzle) &&
        config_write<uint32_t>(&algo, CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, from->custom) &&
        config_write<uint16_t>(&algo, CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID, from->inner) &&
        config_write<uint16_t>(&algo, CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, from->cluster) &&
        cublasLtMatmulAlgoCheck(blas, &d->desc, &d->w, &d->x, &d->y, &d->y, &algo, &result) ==
            CUBLAS_STATUS_SUCCESS &&
        result.workspaceSize == 0 && seam_cuda_algo_plain(&algo);
    if (ok) {
        *ret_algo = algo;
    }
    return ok;
}

bool seam_cuda_algo_find(cublasLtMatmulAlgo_t *ret_algo, const seam_cuda_product *product, bool fp8,
                         seam_cuda_described *described) {
    const seam_weight *w = product->weight;
    const uint32_t more = product->joined ? w->pad : 0;
    const uint32_t N = w->N + (product->backward ? more : 0);
    const uint32_t C = w->C + (product->backward ? 0 : more);
    if (seam_cuda_backend_major(w->backend) != TABLE_MAJOR ||
        cublasLtGetVersion() / 100 != TABLE_VERSION) {
        return false;
    }
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const row *r = &table[i];
        if (r->N == N && r->C == C && r->fp8 == fp8 && r->backward == product->backward &&
            r->acc == product->acc) {
            return seam_cuda_algo_make(ret_algo, seam_cuda_blas(w->backend), described, &r->algo);
        }
    }
    return false;
}
