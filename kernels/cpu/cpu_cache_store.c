/* New keys and values to their places in a cache.  A task is a range of rows; bound by copying. */
#include "cpu_ops.h"

#define GRAIN 64u

static void row_store(void *cache, size_t at, const void *rows, size_t from, uint32_t cols) {
    for (uint32_t c = 0; c < cols; c += VL) {
        const uint32_t n = min_u32(VL, cols - c);
        any_store(cache, at + c, 0, any_load(rows, from + c, 1, n), n);
    }
}

static void store_rows(const void *context, size_t begin, size_t end) {
    const seam_cache_store_args *a = context;
    for (size_t t = begin; t < end; t++) {
        SEAM_ASSERT(a->positions[t] < a->positions_max);
        const size_t at = ((size_t)a->slots[t] * a->positions_max + a->positions[t]) * a->cols;
        row_store(a->k_cache, at, a->k, t * a->ld, a->cols);
        row_store(a->v_cache, at, a->v, t * a->ld, a->cols);
    }
}

seam_status CPU_FN(cache_store)(seam_stream *stream, const seam_cache_store_args *args) {
    seam_cpu_ranges(stream, args->T, GRAIN, store_rows, args);
    return SEAM_OK;
}
