/* Attention to a shared prefix, forward and backward, reference; the formulas stand in ops.h. */
#include <math.h>

#include "ref.h"

static void forward_row(const seam_prefix_forward_args *a, uint32_t t, uint32_t h) {
    const uint32_t D = a->D, g = h / (a->H / a->G);
    const double *q = (const double *)a->q + (size_t)t * a->q_ld + (size_t)h * D;
    const double *k = (const double *)a->k + (size_t)g * D;
    const double *v = (const double *)a->v + (size_t)g * D;
    double *o = (double *)a->o + ((size_t)t * a->H + h) * D;
    double *lse = (double *)a->lse + (size_t)t * a->H + h;
    double score[SEAM_PREFIX_MAX], max = *lse;
    for (uint32_t j = 0; j < a->P; j++) {
        score[j] = (double)a->scale * seam_ref_dot(q, k + (size_t)j * a->kv_ld, D);
        max = fmax(max, score[j]);
    }
    double sum = exp(*lse - max);
    for (uint32_t j = 0; j < a->P; j++) {
        sum += exp(score[j] - max);
    }
    const double total = max + log(sum);
    for (uint32_t d = 0; d < D; d++) {
        o[d] *= exp(*lse - total);
    }
    for (uint32_t j = 0; j < a->P; j++) {
        for (uint32_t d = 0; d < D; d++) {
            o[d] += exp(score[j] - total) * v[(size_t)j * a->kv_ld + d];
        }
    }
    *lse = total;
}

seam_status seam_ref_prefix_forward(seam_stream *stream, const seam_prefix_forward_args *args) {
    (void)stream;
    SEAM_ASSERT(args->G > 0 && args->H % args->G == 0);
    SEAM_ASSERT(args->P > 0 && args->P <= SEAM_PREFIX_MAX);
    for (uint32_t t = 0; t < args->T; t++) {
        for (uint32_t h = 0; h < args->H; h++) {
            forward_row(args, t, h);
        }
    }
    return SEAM_OK;
}

/* sum (D) = gradient of q by the prefix; adds to dk and dv. */
static void backward_row(double *sum, const seam_prefix_backward_args *a, uint32_t t, uint32_t h) {
    const uint32_t D = a->D, g = h / (a->H / a->G);
    const size_t row = (size_t)t * a->H + h;
    const double *q = (const double *)a->q + (size_t)t * a->q_ld + (size_t)h * D;
    const double *d_o = (const double *)a->d_o + row * D;
    const double delta = seam_ref_dot((const double *)a->o + row * D, d_o, D);
    for (uint32_t d = 0; d < D; d++) {
        sum[d] = 0.0;
    }
    for (uint32_t j = 0; j < a->P; j++) {
        const size_t at = (size_t)j * a->kv_ld + (size_t)g * D;
        const double *k = (const double *)a->k + at, *v = (const double *)a->v + at;
        double *dk = (double *)a->dk + at, *dv = (double *)a->dv + at;
        const double p =
            exp((double)a->scale * seam_ref_dot(q, k, D) - ((const double *)a->lse)[row]);
        const double ds = (double)a->scale * p * (seam_ref_dot(d_o, v, D) - delta);
        for (uint32_t d = 0; d < D; d++) {
            sum[d] += ds * k[d];
            dk[d] += ds * q[d];
            dv[d] += p * d_o[d];
        }
    }
}

seam_status seam_ref_prefix_backward(seam_stream *stream, const seam_prefix_backward_args *args) {
    const seam_prefix_backward_args *a = args;
    double sum[256];
    SEAM_ASSERT(a->G > 0 && a->H % a->G == 0 && a->D <= sizeof sum / sizeof *sum);
    SEAM_ASSERT(a->P > 0 && a->P <= SEAM_PREFIX_MAX);
    for (uint32_t t = 0; t < a->T; t++) {
        for (uint32_t h = 0; h < a->H; h++) {
            backward_row(sum, a, t, h);
            const seam_rope_args rope = {.x = sum,
                                         .ld = a->D,
                                         .heads = 1,
                                         .cos_sin = a->cos_sin,
                                         .positions = a->positions + t,
                                         .backward = true,
                                         .T = 1,
                                         .D = a->D};
            if (a->cos_sin != NULL) {
                SEAM_TRY(seam_ref_rope(stream, &rope));
            }
            for (uint32_t d = 0; d < a->D; d++) {
                ((double *)a->dq)[(size_t)t * a->dq_ld + (size_t)h * a->D + d] += sum[d];
            }
        }
    }
    return SEAM_OK;
}
