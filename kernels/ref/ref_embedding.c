/* Row gather, reference. */
#include "ref.h"

seam_status seam_ref_embedding_forward(seam_stream *stream,
                                       const seam_embedding_forward_args *args) {
    const size_t value = seam_dtype_bytes(args->type);
    (void)stream;
    for (uint32_t t = 0; t < args->T; t++) {
        const uint8_t *row = (const uint8_t *)args->table + (size_t)args->ids[t] * args->C * value;
        for (size_t i = 0; i < args->C * value; i++) {
            ((uint8_t *)args->y)[(size_t)t * args->C * value + i] = row[i];
        }
    }
    return SEAM_OK;
}
