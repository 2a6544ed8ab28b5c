/* Linear layer with LoRA, reference: y = x W^T (+ bias) + scale (x A^T) B^T.  FP8 products are
 * ref_linear_fp8.c's. */
#include "ref.h"

static void store(void *y, seam_out out, size_t i, double value) {
    double *p = (double *)y + i;
    *p = out == SEAM_OUT_ACC_ADD ? *p + value : value;
}

/* u (T, R) = x A^T, and y's columns += scale * u B^T. */
static void lora_forward(const seam_linear_forward_args *a, const seam_lora_pair *pair) {
    const double *lora_a = pair->a, *lora_b = pair->b;
    double *u = pair->u, *y = a->y;
    const uint32_t C = a->w->C, R = pair->R;
    SEAM_ASSERT(pair->col_begin + pair->N <= a->w->N);
    for (uint32_t t = 0; t < a->T; t++) {
        const double *x = (const double *)a->x + (size_t)t * a->x_ld;
        for (uint32_t r = 0; r < R; r++) {
            double sum = 0.0;
            for (uint32_t c = 0; c < C; c++) {
                if (seam_ref_dropout_keeps(&pair->dropout, t, c)) {
                    sum += x[c] * lora_a[(size_t)r * C + c];
                }
            }
            u[(size_t)t * R + r] = sum;
        }
        for (uint32_t n = 0; n < pair->N; n++) {
            double sum = 0.0;
            for (uint32_t r = 0; r < R; r++) {
                sum += u[(size_t)t * R + r] * lora_b[(size_t)n * R + r];
            }
            y[(size_t)t * a->y_ld + pair->col_begin + n] += (double)pair->scale * sum;
        }
    }
}

/* The frozen product and the bias of row t. */
static void forward_row(const seam_linear_forward_args *a, uint32_t t) {
    const double *x = (const double *)a->x + (size_t)t * a->x_ld, *bias = a->bias;
    const uint32_t N = a->w->N, C = a->w->C;
    const bool fp8 = a->fp8 && seam_ref_fp8_fits(a->w);
    for (uint32_t n = 0; n < N; n++) {
        const double *w = a->w->rows + (size_t)n * C;
        double sum = bias != NULL ? bias[n] : 0.0;
        for (uint32_t c = 0; !fp8 && c < C; c++) {
            sum += x[c] * w[c];
        }
        store(a->y, a->y_out, (size_t)t * a->y_ld + n, sum);
    }
    if (fp8) {
        const seam_ref_fp8_sum sum = {.y = (double *)a->y + (size_t)t * a->y_ld,
                                      .x = x,
                                      .w = a->w->fp8[0],
                                      .y_count = N,
                                      .x_count = C,
                                      .w_n = C,
                                      .w_c = 1};
        seam_ref_fp8_add(&sum);
    }
}

seam_status seam_ref_linear_forward(seam_stream *stream, const seam_linear_forward_args *args) {
    SEAM_ASSERT(args->x_scale == NULL); /* linear_takes_fp8 says no */
    (void)stream;
    const seam_linear_forward_args *a = args;
    SEAM_ASSERT(a->w->forward);
    SEAM_ASSERT(a->x_ld >= a->w->C && a->y_ld >= a->w->N);
    for (uint32_t t = 0; t < a->T; t++) {
        forward_row(a, t);
    }
    for (uint32_t i = 0; i < a->lora_count; i++) {
        lora_forward(a, &a->lora[i]);
    }
    return SEAM_OK;
}

/* One row t of a pair: db += scale dy^T u, v = dy B, da += scale v^T x, dx_row += scale v A. */
static void lora_backward_row(const seam_linear_backward_args *a, const seam_lora_pair *pair,
                              uint32_t t) {
    const double *dy = (const double *)a->dy + (size_t)t * a->dy_ld + pair->col_begin;
    const double *x = (const double *)a->x + (size_t)t * a->x_ld;
    const double *u = (const double *)pair->u + (size_t)t * pair->R;
    const double *lora_a = pair->a, *lora_b = pair->b;
    double *da = pair->da, *db = pair->db;
    double *dx = a->dx == NULL ? NULL : (double *)a->dx + (size_t)t * a->dx_ld;
    const uint32_t C = a->w->C, R = pair->R;
    const double scale = (double)pair->scale;
    for (uint32_t n = 0; n < pair->N; n++) {
        for (uint32_t r = 0; r < R; r++) {
            db[(size_t)n * R + r] += scale * dy[n] * u[r];
        }
    }
    for (uint32_t r = 0; r < R; r++) {
        double v = 0.0;
        for (uint32_t n = 0; n < pair->N; n++) {
            v += dy[n] * lora_b[(size_t)n * R + r];
        }
        for (uint32_t c = 0; c < C; c++) {
            if (!seam_ref_dropout_keeps(&pair->dropout, t, c)) {
                continue;
            }
            da[(size_t)r * C + c] += scale * v * x[c];
            if (dx != NULL) {
                dx[c] += scale * v * lora_a[(size_t)r * C + c];
            }
        }
    }
}

/* The frozen product's share of dx, row t. */
static void backward_row(const seam_linear_backward_args *a, uint32_t t) {
    const double *dy = (const double *)a->dy + (size_t)t * a->dy_ld;
    const uint32_t N = a->w->N, C = a->w->C;
    const bool fp8 = a->fp8 && seam_ref_fp8_fits(a->w);
    for (uint32_t c = 0; c < C; c++) {
        double sum = 0.0;
        for (uint32_t n = 0; !fp8 && n < N; n++) {
            sum += dy[n] * a->w->rows[(size_t)n * C + c];
        }
        store(a->dx, a->dx_out, (size_t)t * a->dx_ld + c, sum);
    }
    if (fp8) {
        const seam_ref_fp8_sum sum = {.y = (double *)a->dx + (size_t)t * a->dx_ld,
                                      .x = dy,
                                      .w = a->w->fp8[1],
                                      .y_count = C,
                                      .x_count = N,
                                      .w_n = 1,
                                      .w_c = C};
        seam_ref_fp8_add(&sum);
    }
}

seam_status seam_ref_linear_backward(seam_stream *stream, const seam_linear_backward_args *args) {
    SEAM_ASSERT(args->dy_scale == NULL); /* linear_takes_fp8 says no */
    (void)stream;
    const seam_linear_backward_args *a = args;
    SEAM_ASSERT(a->w->backward || a->dx == NULL);
    for (uint32_t t = 0; t < a->T; t++) {
        if (a->dx != NULL) {
            backward_row(a, t);
        }
        for (uint32_t i = 0; i < a->lora_count; i++) {
            lora_backward_row(a, &a->lora[i], t);
        }
    }
    return SEAM_OK;
}
