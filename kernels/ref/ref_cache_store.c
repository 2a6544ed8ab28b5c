/* New keys and values to their places in a cache, reference. */
#include <string.h>

#include "ref.h"

seam_status seam_ref_cache_store(seam_stream *stream, const seam_cache_store_args *args) {
    (void)stream;
    const size_t bytes = args->cols * sizeof(double);
    for (uint32_t t = 0; t < args->T; t++) {
        SEAM_ASSERT(args->positions[t] < args->positions_max);
        const size_t at =
            ((size_t)args->slots[t] * args->positions_max + args->positions[t]) * args->cols;
        memcpy((double *)args->k_cache + at, (const double *)args->k + (size_t)t * args->ld, bytes);
        memcpy((double *)args->v_cache + at, (const double *)args->v + (size_t)t * args->ld, bytes);
    }
    return SEAM_OK;
}
