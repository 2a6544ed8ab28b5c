/* SwiGLU, reference.  s = 1/(1 + e^-g):  y = g s u;  du = dy g s;  dg = dy u s (1 + g (1 - s)). */
#include <math.h>

#include "ref.h"

seam_status seam_ref_swiglu_forward(seam_stream *stream, const seam_swiglu_forward_args *args) {
    SEAM_ASSERT(args->y_scale == NULL); /* linear_takes_fp8 says no */
    (void)stream;
    for (uint32_t t = 0; t < args->T; t++) {
        const double *gate = (const double *)args->gate_up + (size_t)t * 2 * args->F;
        const double *up = gate + args->F;
        double *y = (double *)args->y + (size_t)t * args->F;
        for (uint32_t f = 0; f < args->F; f++) {
            y[f] = gate[f] / (1.0 + exp(-gate[f])) * up[f];
        }
    }
    return SEAM_OK;
}

seam_status seam_ref_swiglu_backward(seam_stream *stream, const seam_swiglu_backward_args *args) {
    SEAM_ASSERT(args->d_gate_up_scale == NULL); /* linear_takes_fp8 says no */
    (void)stream;
    for (uint32_t t = 0; t < args->T; t++) {
        const double *gate = (const double *)args->gate_up + (size_t)t * 2 * args->F;
        const double *up = gate + args->F;
        const double *dy = (const double *)args->dy + (size_t)t * args->F;
        double *d_gate = (double *)args->d_gate_up + (size_t)t * 2 * args->F;
        double *d_up = d_gate + args->F;
        for (uint32_t f = 0; f < args->F; f++) {
            const double s = 1.0 / (1.0 + exp(-gate[f]));
            const double g = gate[f], u = up[f]; /* d_gate_up may be gate_up itself */
            d_up[f] = dy[f] * g * s;
            d_gate[f] = dy[f] * u * s * (1.0 + g * (1.0 - s));
        }
    }
    return SEAM_OK;
}
