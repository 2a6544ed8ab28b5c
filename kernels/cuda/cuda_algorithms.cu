/* cuBLASLt's algorithms for the frozen products of the served shapes, found by search
 * (tests/bench/search_products.cu) and committed, so that no heuristic of the library decides on
 * a row's bits.  One a weight, direction and output type serves every row count; each sums over k
 * in one piece, and the search has compared the bits of rows at several counts.  What is not here,
 * or runs on another device or version, asks the library (cuda_plan.cu). */
#include "cuda_ops.cuh"

#define TABLE_MAJOR   9u      /* compute capability: H100, H200 */
#define TABLE_VERSION 130100u /* of cuBLASLt */

typedef struct row {
    bool fp8;
    uint32_t N, C; /* of the weight; with its pad in the direction of a joined product's sum */
    bool backward, acc;
    seam_cuda_algo algo;
} row;

/* NVIDIA H200, cuBLASLt 13.1; in FP8 the library proposes one algorithm.  Times: RESULTS.md. */
static const row table[] = {
    /* llama3-8b */
    {false, 6144, 4096, false, false, {66, 201, 35, 2, 5}},
    {true, 6144, 4096, false, false, {66, 20, 36, 7, 2}},
    {false, 6144, 4160, false, false, {66, 184, 35, 2, 5}},
    {true, 6144, 4096, false, true, {66, 20, 36, 7, 2}},
    {false, 6144, 4096, true, false, {66, 23, 35, 4, 3}},
    {true, 6144, 4096, true, false, {66, 20, 36, 7, 2}},
    {false, 6208, 4096, true, false, {66, 20, 35, 1, 3}},
    {true, 6144, 4096, true, true, {66, 20, 36, 7, 2}},
    {false, 4096, 4096, false, true, {66, 33, 35, 3, 5}},
    {true, 4096, 4096, false, true, {66, 20, 36, 7, 2}},
    {false, 4096, 4096, true, false, {66, 20, 35, 1, 3}},
    {true, 4096, 4096, true, false, {66, 20, 36, 7, 2}},
    {false, 28672, 4096, false, false, {66, 184, 35, 0, 3}},
    {true, 28672, 4096, false, false, {66, 20, 36, 7, 2}},
    {false, 28672, 4096, true, false, {66, 20, 35, 1, 3}},
    {true, 28672, 4096, true, false, {66, 20, 36, 7, 2}},
    {false, 4096, 14336, false, true, {66, 20, 35, 1, 3}},
    {true, 4096, 14336, false, true, {66, 20, 36, 7, 2}},
    {false, 4096, 14336, true, false, {66, 29, 35, 1, 3}},
    {true, 4096, 14336, true, false, {66, 20, 36, 7, 2}},
    /* qwen2.5-7b */
    {false, 4608, 3584, false, false, {66, 201, 35, 2, 5}},
    {true, 4608, 3584, false, false, {66, 20, 36, 7, 2}},
    {false, 4608, 3648, false, false, {66, 201, 35, 2, 5}},
    {true, 4608, 3584, false, true, {66, 20, 36, 7, 2}},
    {false, 4608, 3584, true, false, {66, 31, 35, 7, 5}},
    {true, 4608, 3584, true, false, {66, 20, 36, 7, 2}},
    {false, 4672, 3584, true, false, {66, 31, 35, 7, 5}},
    {true, 4608, 3584, true, true, {66, 20, 36, 7, 2}},
    {false, 3584, 3584, false, true, {66, 28, 35, 0, 3}},
    {true, 3584, 3584, false, true, {66, 20, 36, 7, 2}},
    {false, 3584, 3584, true, false, {66, 31, 35, 7, 5}},
    {true, 3584, 3584, true, false, {66, 20, 36, 7, 2}},
    {false, 37888, 3584, false, false, {66, 184, 35, 0, 3}},
    {true, 37888, 3584, false, false, {66, 20, 36, 7, 2}},
    {false, 37888, 3584, true, false, {66, 31, 35, 7, 5}},
    {true, 37888, 3584, true, false, {66, 20, 36, 7, 2}},
    {false, 3584, 18944, false, true, {66, 165, 35, 0, 3}},
    {true, 3584, 18944, false, true, {66, 20, 36, 7, 2}},
    {false, 3584, 18944, true, false, {66, 20, 35, 1, 3}},
    {true, 3584, 18944, true, false, {66, 20, 36, 7, 2}},
    /* qwen2.5-14b */
    {false, 7168, 5120, false, false, {66, 20, 35, 1, 3}},
    {true, 7168, 5120, false, false, {66, 20, 36, 7, 2}},
    {true, 7168, 5120, false, true, {66, 20, 36, 7, 2}},
    {false, 7168, 5120, true, false, {66, 23, 35, 4, 4}},
    {true, 7168, 5120, true, false, {66, 20, 36, 7, 2}},
    {true, 7168, 5120, true, true, {66, 20, 36, 7, 2}},
    {false, 5120, 5120, false, true, {66, 201, 35, 2, 9}},
    {true, 5120, 5120, false, true, {66, 20, 36, 7, 2}},
    {false, 5120, 5120, true, false, {66, 29, 35, 1, 3}},
    {true, 5120, 5120, true, false, {66, 20, 36, 7, 2}},
    {false, 27648, 5120, false, false, {66, 197, 35, 2, 5}},
    {true, 27648, 5120, false, false, {66, 20, 36, 7, 2}},
    {false, 27648, 5120, true, false, {66, 495, 35, 5, 3}},
    {true, 27648, 5120, true, false, {66, 20, 36, 7, 2}},
    {false, 5120, 13824, false, true, {66, 165, 35, 0, 3}},
    {true, 5120, 13824, false, true, {66, 20, 36, 7, 2}},
    {false, 5120, 13824, true, false, {66, 20, 35, 1, 3}},
    {true, 5120, 13824, true, false, {66, 20, 36, 7, 2}},
    /* smollm2-135m */
    {false, 960, 576, false, false, {66, 193, 35, 2, 9}},
    {true, 960, 576, false, false, {66, 20, 36, 7, 2}},
    {false, 960, 640, false, false, {66, 28, 35, 2, 9}},
    {true, 960, 576, false, true, {66, 20, 36, 7, 2}},
    {false, 960, 576, true, false, {66, 28, 35, 2, 9}},
    {true, 960, 576, true, false, {66, 20, 36, 7, 2}},
    {false, 1024, 576, true, false, {66, 27, 35, 2, 9}},
    {true, 960, 576, true, true, {66, 20, 36, 7, 2}},
    {false, 576, 576, false, true, {66, 193, 35, 2, 9}},
    {true, 576, 576, false, true, {66, 20, 36, 7, 2}},
    {false, 576, 576, true, false, {66, 17, 35, 2, 9}},
    {true, 576, 576, true, false, {66, 20, 36, 7, 2}},
    {false, 3072, 576, false, false, {66, 20, 35, 1, 3}},
    {true, 3072, 576, false, false, {66, 20, 36, 7, 2}},
    {false, 3072, 576, true, false, {66, 20, 35, 3, 5}},
    {true, 3072, 576, true, false, {66, 20, 36, 7, 2}},
    {false, 576, 1536, false, true, {66, 183, 35, 2, 5}},
    {true, 576, 1536, false, true, {66, 20, 36, 7, 2}},
    {false, 576, 1536, true, false, {66, 458, 35, 3, 5}},
    {true, 576, 1536, true, false, {66, 20, 36, 7, 2}},
};

/* ---- launchers ---- */
template <typename T>
static bool setting_get(uint32_t *ret, const cublasLtMatmulAlgo_t *algo,
                        cublasLtMatmulAlgoConfigAttributes_t setting) {
    T value = 0;
    size_t written = 0;
    const bool ok = cublasLtMatmulAlgoConfigGetAttribute(algo, setting, &value, sizeof value,
                                                         &written) == CUBLAS_STATUS_SUCCESS;
    *ret = (uint32_t)value;
    return ok;
}

bool seam_cuda_algo_read(seam_cuda_algo *ret, const cublasLtMatmulAlgo_t *algo) {
    return setting_get<int32_t>(&ret->id, algo, CUBLASLT_ALGO_CONFIG_ID) &&
           setting_get<uint32_t>(&ret->tile, algo, CUBLASLT_ALGO_CONFIG_TILE_ID) &&
           setting_get<uint32_t>(&ret->stages, algo, CUBLASLT_ALGO_CONFIG_STAGES_ID) &&
           setting_get<uint32_t>(&ret->custom, algo, CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION) &&
           setting_get<uint16_t>(&ret->cluster, algo, CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID);
}

template <typename T>
static bool setting_put(cublasLtMatmulAlgo_t *algo, cublasLtMatmulAlgoConfigAttributes_t setting,
                        uint32_t value) {
    const T own = (T)value;
    return cublasLtMatmulAlgoConfigSetAttribute(algo, setting, &own, sizeof own) ==
           CUBLAS_STATUS_SUCCESS;
}

static cudaDataType_t type_of(cublasLtMatrixLayoutOpaque_t *layout) {
    uint32_t type = 0;
    size_t written = 0;
    (void)cublasLtMatrixLayoutGetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_TYPE, &type, sizeof type,
                                           &written);
    return (cudaDataType_t)type;
}

/* Where nothing is said of pieces of k, cuBLASLt decides, and asks for workspace. */
bool seam_cuda_algo_make(cublasLtMatmulAlgo_t *ret_algo, cublasLtHandle_t blas,
                         seam_cuda_described *described, const seam_cuda_algo *from) {
    seam_cuda_described *d = described;
    const cudaDataType_t y = type_of(&d->y);
    cublasLtMatmulHeuristicResult_t result;
    cublasLtMatmulAlgo_t algo;
    const bool ok =
        cublasLtMatmulAlgoInit(blas, CUBLAS_COMPUTE_32F, CUDA_R_32F, type_of(&d->w), type_of(&d->x),
                               y, y, (int)from->id, &algo) == CUBLAS_STATUS_SUCCESS &&
        setting_put<uint32_t>(&algo, CUBLASLT_ALGO_CONFIG_TILE_ID, from->tile) &&
        setting_put<uint32_t>(&algo, CUBLASLT_ALGO_CONFIG_STAGES_ID, from->stages) &&
        setting_put<int32_t>(&algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, 1) &&
        setting_put<uint32_t>(&algo, CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, from->custom) &&
        setting_put<uint16_t>(&algo, CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, from->cluster) &&
        cublasLtMatmulAlgoCheck(blas, &d->desc, &d->w, &d->x, &d->y, &d->y, &algo, &result) ==
            CUBLAS_STATUS_SUCCESS &&
        result.workspaceSize == 0;
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
        cublasLtGetVersion() != TABLE_VERSION) {
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
