/* Row gather, reference. */
#include "ref.h"

seam_status seam_ref_embedding_forward(seam_stream *stream,
                                       const seam_embedding_forward_args *args) {
    (void)stream;
    for (uint32_t t = 0; t < args->T; t++) {
        const double *row = (const double *)args->table + (size_t)args->ids[t] * args->C;
        for (uint32_t c = 0; c < args->C; c++) {
            ((double *)args->y)[(size_t)t * args->C + c] = row[c];
        }
    }
    return SEAM_OK;
}
