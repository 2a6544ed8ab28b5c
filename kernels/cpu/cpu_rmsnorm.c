/* RMSNorm.  With r = rstd and n = x r:  y = n w;  g = dy w;  dx = r (g - n mean_c(g n)).
 * A task is a range of rows; bound by reading x. */
#include "cpu_ops.h"

#define GRAIN 32u

CPU_INLINE void forward_range(const seam_rmsnorm_forward_args *a, size_t begin, size_t end,
                              const bool x_is_acc) {
    const uint32_t C = a->C;
    const size_t y_ld = a->y_ld != 0 ? a->y_ld : C;
    const float *w = a->w;
    for (size_t t = begin; t < end; t++) {
        act *y = (act *)a->y + t * y_ld;
        vf sum = vf_set(0.0f);
        for (uint32_t c = 0; c < C; c += VL) {
            const vf v = any_load(a->x, t * C + c, x_is_acc, min_u32(VL, C - c));
            sum += v * v;
        }
        const float rstd = 1.0f / sqrtf(vf_sum(sum) / (float)C + a->eps);
        for (uint32_t c = 0; c < C; c += VL) {
            const uint32_t n = min_u32(VL, C - c);
            const vf v = any_load(a->x, t * C + c, x_is_acc, n) * rstd * any_load(w, c, 1, n);
            n == VL ? act_store(y + c, v) : act_store_n(y + c, v, n);
        }
        if (a->rstd != NULL) {
            ((float *)a->rstd)[t] = rstd;
        }
        for (uint32_t c = 0; a->x_act != NULL && c < C; c += VL) {
            const uint32_t n = min_u32(VL, C - c);
            any_store(a->x_act, t * C + c, 0, any_load(a->x, t * C + c, x_is_acc, n), n);
        }
    }
}

static void forward_rows(const void *context, size_t begin, size_t end) {
    const seam_rmsnorm_forward_args *a = context;
    a->x_is_act ? forward_range(a, begin, end, false) : forward_range(a, begin, end, true);
}

seam_status CPU_FN(rmsnorm_forward)(seam_stream *stream, const seam_rmsnorm_forward_args *args) {
    SEAM_ASSERT(args->y_scale == NULL); /* linear_takes_fp8 says no */
    seam_cpu_ranges(stream, args->T, GRAIN, forward_rows, args);
    return SEAM_OK;
}

CPU_INLINE void backward_range(const seam_rmsnorm_backward_args *a, size_t begin, size_t end,
                               const bool dy_is_acc, const bool dx_add, const bool x_is_acc) {
    const uint32_t C = a->C;
    for (size_t t = begin; t < end; t++) {
        const float *w = a->w;
        float *dx = (float *)a->dx + t * C;
        const float rstd = ((const float *)a->rstd)[t];
        vf sum = vf_set(0.0f);
        for (uint32_t c = 0; c < C; c += VL) {
            const uint32_t n = min_u32(VL, C - c);
            const vf g = any_load(a->dy, t * C + c, dy_is_acc, n) * any_load(w, c, 1, n);
            sum += g * any_load(a->x, t * C + c, x_is_acc, n);
        }
        const float mean = vf_sum(sum) * rstd * rstd / (float)C;
        for (uint32_t c = 0; c < C; c += VL) {
            const uint32_t n = min_u32(VL, C - c);
            const vf g = any_load(a->dy, t * C + c, dy_is_acc, n) * any_load(w, c, 1, n);
            vf v = (g - any_load(a->x, t * C + c, x_is_acc, n) * mean) * rstd;
            v = dx_add ? any_load(dx, c, 1, n) + v : v;
            n == VL ? vf_store(dx + c, v) : vf_store_n(dx + c, v, n);
            if (a->dx_act != NULL) {
                any_store(a->dx_act, t * C + c, 0, v, n);
            }
        }
    }
}

static void backward_rows(const void *context, size_t begin, size_t end) {
    const seam_rmsnorm_backward_args *a = context;
    if (a->x_is_act && !a->dy_is_acc && a->dx_add) { /* the blocks'; the head's and the others */
        backward_range(a, begin, end, false, true, false);
    } else if (!a->x_is_act && a->dy_is_acc && !a->dx_add) {
        backward_range(a, begin, end, true, false, true);
    } else {
        backward_range(a, begin, end, a->dy_is_acc, a->dx_add, !a->x_is_act);
    }
}

seam_status CPU_FN(rmsnorm_backward)(seam_stream *stream, const seam_rmsnorm_backward_args *args) {
    SEAM_ASSERT(args->dx_act_scale == NULL); /* linear_takes_fp8 says no */
    seam_cpu_ranges(stream, args->T, GRAIN, backward_rows, args);
    return SEAM_OK;
}
