/* dw (C) += sum_t dy x rstd, or sum_t dy, reference. */
#include "ref.h"

seam_status seam_ref_column_sums(seam_stream *stream, const seam_column_sums_args *args) {
    (void)stream;
    const double *dy = args->dy, *x = args->x, *rstd = args->rstd;
    double *dw = args->dw;
    for (uint32_t c = 0; c < args->C; c++) {
        double sum = 0.0;
        for (uint32_t t = 0; t < args->T; t++) {
            const double factor = x != NULL ? x[(size_t)t * args->x_ld + c] * rstd[t] : 1.0;
            sum += dy[(size_t)t * args->dy_ld + c] * factor;
        }
        dw[c] += sum;
    }
    return SEAM_OK;
}
