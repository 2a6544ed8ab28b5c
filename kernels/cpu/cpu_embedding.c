/* Row gather. */
#include <string.h>

#include "cpu_ops.h"

#define GRAIN 64u

static void gather_rows(const void *context, size_t begin, size_t end) {
    const seam_embedding_forward_args *a = context;
    const size_t row_bytes = a->C * seam_dtype_bytes(a->type);
    for (size_t t = begin; t < end; t++) {
        memcpy((uint8_t *)a->y + t * row_bytes, (const uint8_t *)a->table + a->ids[t] * row_bytes,
               row_bytes);
    }
}

seam_status CPU_FN(embedding_forward)(seam_stream *stream,
                                      const seam_embedding_forward_args *args) {
    seam_cpu_ranges(stream, args->T, GRAIN, gather_rows, args);
    return SEAM_OK;
}
