/* Matrices that are trained, reference: their rows as they are. */
#include <string.h>

#include "arena.h"
#include "ref.h"

seam_status seam_ref_weight_own(seam_weight **ret_weight, seam_backend *backend, uint32_t N,
                                uint32_t C) {
    void *rows = NULL;
    seam_weight *weight = seam_mem_zalloc(1, sizeof *weight);
    if (weight == NULL) {
        return SEAM_E_MEMORY;
    }
    const seam_status st = backend->ops.mem_alloc(&rows, backend, (size_t)N * C * sizeof(double));
    if (st != SEAM_OK) {
        seam_mem_free(weight);
        return st;
    }
    *weight = (seam_weight){.N = N, .C = C, .forward = true, .backward = true, .rows = rows};
    *ret_weight = weight;
    return SEAM_OK;
}

size_t seam_ref_weight_own_bytes(size_t *ret_host_bytes, uint32_t N, uint32_t C, seam_dtype act) {
    SEAM_ASSERT(act == SEAM_F64);
    *ret_host_bytes = sizeof(seam_weight);
    return (size_t)N * C * sizeof(double);
}

seam_status seam_ref_weight_set(seam_stream *stream, seam_weight *weight, const void *rows) {
    (void)stream;
    SEAM_ASSERT(weight->fp8[0] == NULL);
    memcpy(weight->rows, rows, (size_t)weight->N * weight->C * sizeof(double));
    return SEAM_OK;
}

seam_status seam_ref_weight_get(seam_stream *stream, void *rows, const seam_weight *weight) {
    (void)stream;
    memcpy(rows, weight->rows, (size_t)weight->N * weight->C * sizeof(double));
    return SEAM_OK;
}
