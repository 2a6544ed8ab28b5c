/* Attention of new rows against a cache, reference. */
#include <math.h>

#include "ref.h"

seam_status seam_ref_attention_cached(seam_stream *stream, const seam_attention_cached_args *args) {
    (void)stream;
    const uint32_t D = args->D, G = args->G;
    for (uint32_t t = 0; t < args->T; t++) {
        SEAM_ASSERT(args->positions[t] < args->positions_max);
        const size_t slot = (size_t)args->slots[t] * args->positions_max * G * D;
        const uint32_t first = seam_window_begin(args->window, 0, args->positions[t]);
        for (uint32_t h = 0; h < args->H; h++) {
            const size_t head = slot + (size_t)(h / (args->H / G)) * D;
            const double *q = (const double *)args->q + (size_t)t * args->q_ld + (size_t)h * D;
            const double *k = (const double *)args->k_cache + head;
            const double *v = (const double *)args->v_cache + head;
            double *o = (double *)args->o + ((size_t)t * args->H + h) * D;
            double max = -INFINITY, sum = 0.0;
            for (uint32_t j = first; j <= args->positions[t]; j++) {
                max = fmax(max, (double)args->scale * seam_ref_dot(q, k + (size_t)j * G * D, D));
            }
            for (uint32_t d = 0; d < D; d++) {
                o[d] = 0.0;
            }
            for (uint32_t j = first; j <= args->positions[t]; j++) {
                const double p =
                    exp((double)args->scale * seam_ref_dot(q, k + (size_t)j * G * D, D) - max);
                sum += p;
                for (uint32_t d = 0; d < D; d++) {
                    o[d] += p * v[(size_t)j * G * D + d];
                }
            }
            for (uint32_t d = 0; d < D; d++) {
                o[d] /= sum;
            }
        }
    }
    return SEAM_OK;
}
