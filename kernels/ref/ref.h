/* The reference backend: act = acc = f64, one thread, the formulas written out.
 *
 * It is what every other backend and the model code are tested against, so nothing here is
 * clever. Slow by design: use it for tests only. */
#ifndef SEAM_REF_H
#define SEAM_REF_H

#include "backend.h"
#include "try.h"

struct seam_weight {
    uint32_t N, C;
    bool forward, backward; /* which products were asked for; asserted at use */
    double *rows;           /* (N, C) */
    double *fp8[2];         /* (N, C) through FP8 by rows, by columns; NULL: not created with it */
};

/* sum_d x[d] y[d], from the first on. */
double seam_ref_dot(const double *x, const double *y, uint32_t D);

/* FP8 of frozen products, ref_linear_fp8.c. */
typedef struct seam_ref_fp8_sum {
    double *y;       /* (y_count), added to */
    const double *x; /* (x_count), in act */
    const double *w; /* through FP8; w[n * w_n + c * w_c] */
    size_t y_count, x_count, w_n, w_c;
} seam_ref_fp8_sum;
/* y[n] += sum_c fp8(x)[c] w[n, c]. */
void seam_ref_fp8_add(const seam_ref_fp8_sum *sum);
/* Fills weight->fp8 from its rows. */
void seam_ref_fp8_weight(seam_weight *weight);
/* Whether a product that asks for FP8 is one. */
bool seam_ref_fp8_fits(const seam_weight *weight);

/* Whether x[row, channel] counts. */
bool seam_ref_dropout_keeps(const seam_dropout *dropout, uint32_t row, uint32_t channel);

seam_status seam_ref_linear_forward(seam_stream *stream, const seam_linear_forward_args *args);
seam_status seam_ref_linear_backward(seam_stream *stream, const seam_linear_backward_args *args);
seam_status seam_ref_weight_own(seam_weight **ret_weight, seam_backend *backend, uint32_t N,
                                uint32_t C);
size_t seam_ref_weight_own_bytes(size_t *ret_host_bytes, uint32_t N, uint32_t C, seam_dtype act);
seam_status seam_ref_weight_set(seam_stream *stream, seam_weight *weight, const void *rows);
seam_status seam_ref_weight_get(seam_stream *stream, void *rows, const seam_weight *weight);
seam_status seam_ref_weight_gradient(seam_stream *stream, const seam_weight_gradient_args *args);
seam_status seam_ref_column_sums(seam_stream *stream, const seam_column_sums_args *args);
seam_status seam_ref_rmsnorm_forward(seam_stream *stream, const seam_rmsnorm_forward_args *args);
seam_status seam_ref_rmsnorm_backward(seam_stream *stream, const seam_rmsnorm_backward_args *args);
seam_status seam_ref_rope(seam_stream *stream, const seam_rope_args *args);
seam_status seam_ref_attention_forward(seam_stream *stream,
                                       const seam_attention_forward_args *args);
seam_status seam_ref_attention_backward(seam_stream *stream,
                                        const seam_attention_backward_args *args);
seam_status seam_ref_cache_store(seam_stream *stream, const seam_cache_store_args *args);
seam_status seam_ref_attention_cached(seam_stream *stream, const seam_attention_cached_args *args);
seam_status seam_ref_prefix_forward(seam_stream *stream, const seam_prefix_forward_args *args);
seam_status seam_ref_prefix_backward(seam_stream *stream, const seam_prefix_backward_args *args);
seam_status seam_ref_swiglu_forward(seam_stream *stream, const seam_swiglu_forward_args *args);
seam_status seam_ref_swiglu_backward(seam_stream *stream, const seam_swiglu_backward_args *args);
seam_status seam_ref_embedding_forward(seam_stream *stream,
                                       const seam_embedding_forward_args *args);
seam_status seam_ref_cross_entropy(seam_stream *stream, const seam_cross_entropy_args *args);
seam_status seam_ref_adamw(seam_stream *stream, const seam_adamw_args *args);
seam_status seam_ref_sum_squares(seam_stream *stream, double *ret_sum, const void *x, size_t count);
seam_status seam_ref_hash(seam_stream *stream, uint64_t *ret_hash, const void *x, size_t count);

#endif
