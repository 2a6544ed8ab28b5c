/* Rotary embedding, reference: (x_i, x_j) -> (x_i c - x_j s, x_j c + x_i s), j = i + D/2. */
#include "ref.h"

seam_status seam_ref_rope(seam_stream *stream, const seam_rope_args *args) {
    (void)stream;
    const uint32_t D = args->D, half = D / 2;
    SEAM_ASSERT(D % 2 == 0);
    for (uint32_t t = 0; t < args->T; t++) {
        const double *cos_row = (const double *)args->cos_sin + (size_t)args->positions[t] * D;
        const double *sin_row = cos_row + half;
        for (uint32_t h = 0; h < args->heads; h++) {
            double *x = (double *)args->x + (size_t)t * args->ld + (size_t)h * D;
            for (uint32_t i = 0; i < half; i++) {
                const double s = args->backward ? -sin_row[i] : sin_row[i];
                const double lo = x[i], hi = x[i + half];
                x[i] = lo * cos_row[i] - hi * s;
                x[i + half] = hi * cos_row[i] + lo * s;
            }
        }
    }
    return SEAM_OK;
}
