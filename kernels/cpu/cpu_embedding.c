/* Row gather from the act table to acc. */
#include "cpu_ops.h"

#define GRAIN 64u

static void gather_rows(const void *context, size_t begin, size_t end) {
    const seam_embedding_forward_args *a = context;
    for (size_t t = begin; t < end; t++) {
        const act *row = (const act *)a->table + (size_t)a->ids[t] * a->C;
        float *y = (float *)a->y + t * a->C;
        for (uint32_t c = 0; c < a->C; c += VL) {
            const uint32_t n = min_u32(VL, a->C - c);
            const vf v = any_load(row, c, 0, n);
            n == VL ? vf_store(y + c, v) : vf_store_n(y + c, v, n);
        }
    }
}

seam_status CPU_FN(embedding_forward)(seam_stream *stream,
                                      const seam_embedding_forward_args *args) {
    seam_cpu_ranges(stream, args->T, GRAIN, gather_rows, args);
    return SEAM_OK;
}
