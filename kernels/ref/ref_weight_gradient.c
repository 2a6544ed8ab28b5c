/* dw (N, C) += dy^T x, reference. */
#include "ref.h"

seam_status seam_ref_weight_gradient(seam_stream *stream, const seam_weight_gradient_args *args) {
    (void)stream;
    const uint32_t N = args->w->N, C = args->w->C;
    double *dw = args->dw;
    SEAM_ASSERT(args->dy_ld >= N && args->x_ld >= C);
    for (uint32_t n = 0; n < N; n++) {
        for (uint32_t c = 0; c < C; c++) {
            double sum = 0.0;
            for (uint32_t t = 0; t < args->T; t++) {
                sum += ((const double *)args->dy)[(size_t)t * args->dy_ld + n] *
                       ((const double *)args->x)[(size_t)t * args->x_ld + c];
            }
            dw[(size_t)n * C + c] += sum;
        }
    }
    return SEAM_OK;
}
