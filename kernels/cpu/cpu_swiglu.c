/* SwiGLU.  s = 1/(1 + e^-g):  y = g s u;  du = dy g s;  dg = dy u s (1 + g (1 - s)). */
#include "cpu_ops.h"

#define GRAIN 32u

static void forward_rows(const void *context, size_t begin, size_t end) {
    const seam_swiglu_forward_args *a = context;
    for (size_t t = begin; t < end; t++) {
        const act *gate = (const act *)a->gate_up + t * 2 * a->F, *up = gate + a->F;
        act *y = (act *)a->y + t * a->F;
        for (uint32_t f = 0; f < a->F; f += VL) {
            const uint32_t n = min_u32(VL, a->F - f);
            const vf g = any_load(gate, f, 0, n);
            const vf v = g / (vf_exp(-g) + 1.0f) * any_load(up, f, 0, n);
            n == VL ? act_store(y + f, v) : act_store_n(y + f, v, n);
        }
    }
}

seam_status CPU_FN(swiglu_forward)(seam_stream *stream, const seam_swiglu_forward_args *args) {
    SEAM_ASSERT(args->y_scale == NULL); /* linear_takes_fp8 says no */
    seam_cpu_ranges(stream, args->T, GRAIN, forward_rows, args);
    return SEAM_OK;
}

static void backward_rows(const void *context, size_t begin, size_t end) {
    const seam_swiglu_backward_args *a = context;
    for (size_t t = begin; t < end; t++) {
        const act *gate = (const act *)a->gate_up + t * 2 * a->F, *up = gate + a->F;
        const act *dy = (const act *)a->dy + t * a->F;
        act *d_gate = (act *)a->d_gate_up + t * 2 * a->F, *d_up = d_gate + a->F;
        for (uint32_t f = 0; f < a->F; f += VL) {
            const uint32_t n = min_u32(VL, a->F - f);
            const vf g = any_load(gate, f, 0, n), u = any_load(up, f, 0, n);
            const vf d = any_load(dy, f, 0, n);
            const vf s = 1.0f / (vf_exp(-g) + 1.0f);
            const vf dg = d * u * s * (g * (1.0f - s) + 1.0f), du = d * g * s;
            if (n == VL) {
                act_store(d_gate + f, dg);
                act_store(d_up + f, du);
            } else {
                act_store_n(d_gate + f, dg, n);
                act_store_n(d_up + f, du, n);
            }
        }
    }
}

seam_status CPU_FN(swiglu_backward)(seam_stream *stream, const seam_swiglu_backward_args *args) {
    SEAM_ASSERT(args->d_gate_up_scale == NULL); /* linear_takes_fp8 says no */
    seam_cpu_ranges(stream, args->T, GRAIN, backward_rows, args);
    return SEAM_OK;
}
