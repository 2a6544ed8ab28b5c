/* RMSNorm, reference.  With r = rstd and n = x r:  y = n w;  g = dy w;
 * dx = r (g - n mean_c(g n)). */
#include <math.h>
#include <string.h>

#include "ref.h"

seam_status seam_ref_rmsnorm_forward(seam_stream *stream, const seam_rmsnorm_forward_args *args) {
    SEAM_ASSERT(args->y_scale == NULL); /* linear_takes_fp8 says no */
    (void)stream;
    const uint32_t C = args->C;
    const size_t y_ld = args->y_ld != 0 ? args->y_ld : C;
    const double *w = args->w;
    for (uint32_t t = 0; t < args->T; t++) {
        const double *x = (const double *)args->x + (size_t)t * C;
        double *y = (double *)args->y + t * y_ld;
        double sum = 0.0;
        for (uint32_t c = 0; c < C; c++) {
            sum += x[c] * x[c];
        }
        const double rstd = 1.0 / sqrt(sum / C + (double)args->eps);
        for (uint32_t c = 0; c < C; c++) {
            y[c] = x[c] * rstd * w[c];
        }
        if (args->x_act != NULL) {
            memcpy((double *)args->x_act + (size_t)t * C, x, C * sizeof *x);
        }
        if (args->rstd != NULL) {
            ((double *)args->rstd)[t] = rstd;
        }
    }
    return SEAM_OK;
}

seam_status seam_ref_rmsnorm_backward(seam_stream *stream, const seam_rmsnorm_backward_args *args) {
    SEAM_ASSERT(args->dx_act_scale == NULL); /* linear_takes_fp8 says no */
    (void)stream;
    const uint32_t C = args->C;
    const double *w = args->w;
    for (uint32_t t = 0; t < args->T; t++) {
        const double *x = (const double *)args->x + (size_t)t * C;
        const double *dy = (const double *)args->dy + (size_t)t * C;
        double *dx = (double *)args->dx + (size_t)t * C;
        const double rstd = ((const double *)args->rstd)[t];
        double sum = 0.0;
        for (uint32_t c = 0; c < C; c++) {
            sum += dy[c] * w[c] * x[c] * rstd;
        }
        for (uint32_t c = 0; c < C; c++) {
            const double value = rstd * (dy[c] * w[c] - x[c] * rstd * sum / C);
            dx[c] = args->dx_add ? dx[c] + value : value;
        }
        if (args->dx_act != NULL) {
            memcpy((double *)args->dx_act + (size_t)t * C, dx, C * sizeof *dx);
        }
    }
    return SEAM_OK;
}
