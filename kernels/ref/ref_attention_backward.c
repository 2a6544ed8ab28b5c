/* Causal grouped-query attention backward, reference.  With p = exp(scale q k - lse), dp = d_o v:
 *   delta = sum_d o d_o    ds = scale p (dp - delta)    dq += ds k    dk += ds q    dv += p d_o */
#include <math.h>

#include "ref.h"

static void backward_row(const seam_attention_backward_args *a, uint32_t begin, uint32_t t,
                         uint32_t h) {
    const uint32_t D = a->D, g = h / (a->H / a->G);
    const size_t row = (size_t)t * a->H + h;
    const double *q = (const double *)a->q + (size_t)t * a->q_ld + (size_t)h * D;
    const double *d_o = (const double *)a->d_o + row * D;
    double *dq = (double *)a->dq + (size_t)t * a->dq_ld + (size_t)h * D;
    const double delta = seam_ref_dot((const double *)a->o + row * D, d_o, D);
    const double lse = ((const double *)a->lse)[row];
    for (uint32_t j = seam_window_begin(a->window, begin, t); j <= t; j++) {
        const double *k = (const double *)a->k + (size_t)j * a->k_ld + (size_t)g * D;
        const double *v = (const double *)a->v + (size_t)j * a->v_ld + (size_t)g * D;
        double *dk = (double *)a->dk + (size_t)j * a->dk_ld + (size_t)g * D;
        double *dv = (double *)a->dv + (size_t)j * a->dv_ld + (size_t)g * D;
        const double p = exp((double)a->scale * seam_ref_dot(q, k, D) - lse);
        const double ds = (double)a->scale * p * (seam_ref_dot(d_o, v, D) - delta);
        for (uint32_t d = 0; d < D; d++) {
            dq[d] += ds * k[d];
            dk[d] += ds * q[d];
            dv[d] += p * d_o[d];
        }
    }
}

static void zero_rows(void *x, uint32_t ld, uint32_t T, uint32_t count) {
    for (uint32_t t = 0; t < T; t++) {
        for (uint32_t i = 0; i < count; i++) {
            ((double *)x)[(size_t)t * ld + i] = 0.0;
        }
    }
}

seam_status seam_ref_attention_backward(seam_stream *stream,
                                        const seam_attention_backward_args *args) {
    SEAM_ASSERT(args->G > 0 && args->H % args->G == 0);
    SEAM_ASSERT(args->seq_begin[0] == 0 && args->seq_begin[args->S] == args->T);
    zero_rows(args->dq, args->dq_ld, args->T, args->H * args->D);
    zero_rows(args->dk, args->dk_ld, args->T, args->G * args->D);
    zero_rows(args->dv, args->dv_ld, args->T, args->G * args->D);
    for (uint32_t s = 0; s < args->S; s++) {
        for (uint32_t t = args->seq_begin[s]; t < args->seq_begin[s + 1]; t++) {
            for (uint32_t h = 0; h < args->H; h++) {
                backward_row(args, args->seq_begin[s], t, h);
            }
        }
    }
    if (args->cos_sin != NULL) {
        seam_rope_args rope = {.x = args->dq,
                               .ld = args->dq_ld,
                               .heads = args->H,
                               .cos_sin = args->cos_sin,
                               .positions = args->positions,
                               .backward = true,
                               .T = args->T,
                               .D = args->D};
        SEAM_TRY(seam_ref_rope(stream, &rope));
        rope.x = args->dk;
        rope.ld = args->dk_ld;
        rope.heads = args->G;
        SEAM_TRY(seam_ref_rope(stream, &rope));
    }
    return SEAM_OK;
}
