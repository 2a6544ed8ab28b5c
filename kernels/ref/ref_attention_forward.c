/* Causal grouped-query attention forward, reference: scores are computed twice rather than kept,
 * so no memory beyond the outputs. */
#include <math.h>

#include "ref.h"

static void forward_row(const seam_attention_forward_args *a, uint32_t begin, uint32_t t,
                        uint32_t h) {
    const uint32_t D = a->D, g = h / (a->H / a->G);
    const double *q = (const double *)a->q + (size_t)t * a->q_ld + (size_t)h * D;
    const double *k = (const double *)a->k + (size_t)g * D;
    const double *v = (const double *)a->v + (size_t)g * D;
    double *o = (double *)a->o + ((size_t)t * a->H + h) * D;
    const uint32_t first = seam_window_begin(a->window, begin, t);
    double max = -INFINITY, sum = 0.0;
    for (uint32_t j = first; j <= t; j++) {
        max = fmax(max, (double)a->scale * seam_ref_dot(q, k + (size_t)j * a->k_ld, D));
    }
    for (uint32_t d = 0; d < D; d++) {
        o[d] = 0.0;
    }
    for (uint32_t j = first; j <= t; j++) {
        const double p = exp((double)a->scale * seam_ref_dot(q, k + (size_t)j * a->k_ld, D) - max);
        sum += p;
        for (uint32_t d = 0; d < D; d++) {
            o[d] += p * v[(size_t)j * a->v_ld + d];
        }
    }
    for (uint32_t d = 0; d < D; d++) {
        o[d] /= sum;
    }
    ((double *)a->lse)[(size_t)t * a->H + h] = max + log(sum);
}

seam_status seam_ref_attention_forward(seam_stream *stream,
                                       const seam_attention_forward_args *args) {
    (void)stream;
    SEAM_ASSERT(args->G > 0 && args->H % args->G == 0);
    SEAM_ASSERT(args->seq_begin[0] == 0 && args->seq_begin[args->S] == args->T);
    for (uint32_t s = 0; s < args->S; s++) {
        for (uint32_t t = args->seq_begin[s]; t < args->seq_begin[s + 1]; t++) {
            for (uint32_t h = 0; h < args->H; h++) {
                forward_row(args, args->seq_begin[s], t, h);
            }
        }
    }
    return SEAM_OK;
}
