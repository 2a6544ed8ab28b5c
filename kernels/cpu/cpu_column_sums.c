/* dw (C) += sum_t dy x rstd, or sum_t dy: gradients of norms' gains and of biases.  A task is a
 * range of columns and goes down all rows, ROWS of them summed apart, as one long chain of f32
 * additions would lose digits; bound by reading dy and x. */
#include "cpu_ops.h"

#define GRAIN 64u
#define ROWS  64u

/* Of n columns from c on, rows [t0, t1). */
CPU_INLINE vf rows_sum(const seam_column_sums_args *a, size_t c, uint32_t n, uint32_t t0,
                       uint32_t t1, const bool with_x) {
    vf sum = vf_set(0.0f);
    for (uint32_t t = t0; t < t1; t++) {
        const vf dy = any_load(a->dy, (size_t)t * a->dy_ld + c, 0, n);
        const float *rstd = a->rstd;
        sum += with_x ? dy * (any_load(a->x, (size_t)t * a->x_ld + c, 0, n) * rstd[t]) : dy;
    }
    return sum;
}

static void columns_range(const void *context, size_t begin, size_t end) {
    const seam_column_sums_args *a = context;
    for (size_t c = begin; c < end; c += VL) {
        const uint32_t n = min_u32(VL, (uint32_t)(end - c));
        float *dw = (float *)a->dw + c;
        vf total = any_load(dw, 0, 1, n);
        for (uint32_t t0 = 0; t0 < a->T; t0 += ROWS) {
            const uint32_t t1 = min_u32(a->T, t0 + ROWS);
            total +=
                a->x != NULL ? rows_sum(a, c, n, t0, t1, true) : rows_sum(a, c, n, t0, t1, false);
        }
        any_store(dw, 0, 1, total, n);
    }
}

seam_status CPU_FN(column_sums)(seam_stream *stream, const seam_column_sums_args *args) {
    seam_cpu_ranges(stream, args->C, GRAIN, columns_range, args);
    return SEAM_OK;
}
