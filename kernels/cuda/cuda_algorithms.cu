/* Which of cuBLASLt's algorithms a frozen product runs by.
 *
 * cuda_algorithms.inc has those of some shapes, found by search and committed, so that no
 * heuristic of the library decides on a row's bits: one a weight, direction and output type, for
 * every row count, by compute capability and version of cuBLASLt.  Each sums over k in one piece,
 * and the search has compared the bits of rows at several counts.  A device, version or shape that
 * is not there, and a row that the library refuses, go by the rule: the library's first proposal
 * (cuda_plan.cu).  seamd's log says at the start which it was.
 *
 * A cublasLtMatmulAlgo_t may be stored and used again by the version of cuBLASLt that made it (its
 * documentation); from their settings alone most of these are not made again
 * (cublasLtMatmulAlgoInit and its settings; 13.1, H200).  More rows, on a device, by one command:
 * tests/bench/search_products.sh. */
#include <stdio.h>
#include <string.h>

#include "cuda_ops.cuh"

#define ASKED 16u
/* What cublasLtMatmulAlgoCheck names for a product of more than about two waves of tiles, of the
 * library's own proposals under a limit of no bytes too: they run without it (13.1, H200). */
#define OPTIONAL_BYTES 4u

enum { BF16 = 0, E4M3 = 1, FORWARD = 0, BACKWARD = 1, ACT = 0, ACC = 1 };

static const seam_cuda_algo_row committed[] = {
#include "cuda_algorithms.inc"
};

const seam_cuda_algo_row *seam_cuda_algo_rows(size_t *ret_count) {
    *ret_count = sizeof committed / sizeof committed[0];
    return committed;
}

/* ---- launchers ---- */
bool seam_cuda_algo_plain(const cublasLtMatmulAlgo_t *algo) {
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

bool seam_cuda_algo_take(cublasLtMatmulAlgo_t *ret_algo, const seam_cuda_algo_row *row,
                         cublasLtHandle_t blas, seam_cuda_described *described) {
    seam_cuda_described *d = described;
    cublasLtMatmulHeuristicResult_t result = {};
    cublasLtMatmulAlgo_t algo;
    static_assert(sizeof row->algo == sizeof algo, "an algorithm");
    memcpy(&algo, row->algo, sizeof algo);
    const bool takes = seam_cuda_algo_plain(&algo) &&
                       cublasLtMatmulAlgoCheck(blas, &d->desc, &d->w, &d->x, &d->y, &d->y, &algo,
                                               &result) == CUBLAS_STATUS_SUCCESS &&
                       result.workspaceSize <= OPTIONAL_BYTES;
    if (takes) {
        *ret_algo = algo;
    }
    return takes;
}

static bool row_serves(const seam_cuda_algo_row *row, const seam_cuda_product *product, bool fp8) {
    const seam_weight *w = product->weight;
    const uint32_t more = product->joined ? w->pad : 0;
    const uint32_t N = w->N + (product->backward ? more : 0);
    const uint32_t C = w->C + (product->backward ? 0 : more);
    return w->backend->ops.act == SEAM_BF16 &&
           row->compute == seam_cuda_backend_compute(w->backend) &&
           row->version == cublasLtGetVersion() && row->N == N && row->C == C && row->fp8 == fp8 &&
           row->backward == product->backward && row->acc == product->acc;
}

void seam_cuda_plan_choose(seam_cuda_plan *ret_plan, const seam_cuda_product *product, bool fp8,
                           seam_cuda_described *described) {
    const seam_backend *backend = product->weight->backend;
    const seam_cuda_algo_use *use = seam_cuda_algo_use_of(backend);
    cublasLtHandle_t blas = seam_cuda_blas(backend);
    cublasLtMatmulAlgo_t algos[ASKED];
    ret_plan->committed = false;
    for (size_t i = 0; i < use->row_count && !ret_plan->committed; i++) {
        ret_plan->committed = row_serves(&use->rows[i], product, fp8) &&
                              seam_cuda_algo_take(&ret_plan->algo, &use->rows[i], blas, described);
    }
    ret_plan->found =
        ret_plan->committed || seam_cuda_described_algorithms(algos, blas, described, ASKED) > 0;
    if (ret_plan->found && !ret_plan->committed) {
        ret_plan->algo = algos[0];
    }
}

/* ---- What was chosen ---- */
void seam_cuda_algo_use_add(const seam_weight *weight) {
    seam_cuda_algo_use *use = seam_cuda_algo_use_of(weight->backend);
    const uint64_t shape = (uint64_t)weight->N << 32 | weight->C;
    bool committed = false, joined = weight->pad == 0;
    for (int acc = 0; acc < 2; acc++) {
        committed = committed || weight->forward[acc].committed || weight->backward[acc].committed;
        joined = joined || weight->joined[0][acc].committed || weight->joined[1][acc].committed;
    }
    if (committed && joined) {
        use->committed++;
        return;
    }
    use->asked++;
    for (uint32_t i = 0; i < SEAM_CUDA_SHAPES_NAMED; i++) {
        uint64_t none = 0;
        if (use->shapes[i].compare_exchange_strong(none, shape) || none == shape) {
            return;
        }
    }
}

void seam_cuda_algo_use_print(char *ret_text, size_t text_bytes, const seam_backend *backend) {
    const seam_cuda_algo_use *use = seam_cuda_algo_use_of(backend);
    const uint32_t compute = seam_cuda_backend_compute(backend);
    const size_t version = cublasLtGetVersion();
    bool known = false;
    for (size_t i = 0; i < use->row_count; i++) {
        known = known || (use->rows[i].compute == compute && use->rows[i].version == version);
    }
    int end = snprintf(ret_text, text_bytes,
                       "compute %u.%u, cuBLASLt %zu%s: algorithms of the committed table for %u "
                       "matrices, the library's first for %u",
                       compute / 10, compute % 10, version, known ? "" : " (not in the table)",
                       use->committed.load(), use->asked.load());
    for (uint32_t i = 0; i < SEAM_CUDA_SHAPES_NAMED && use->shapes[i] != 0; i++) {
        const uint64_t shape = use->shapes[i];
        if (end > 0 && (size_t)end < text_bytes) {
            end += snprintf(ret_text + end, text_bytes - (size_t)end, "%s%u x %u",
                            i == 0 ? ", " : "; ", (uint32_t)(shape >> 32), (uint32_t)shape);
        }
    }
}
