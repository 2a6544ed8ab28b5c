/* Prototypes of one variant's ops (see vec.h). */
#ifndef SEAM_CPU_OPS_H
#define SEAM_CPU_OPS_H

#include "cpu.h"
#include "vec.h"

seam_status CPU_FN(cast)(seam_stream *stream, void *dst, seam_dtype dst_type, const void *src,
                         seam_dtype src_type, size_t count);
seam_status CPU_FN(weight_create)(seam_weight **ret_weight, seam_backend *backend,
                                  const float *host_rows, uint32_t N, uint32_t C, bool forward,
                                  bool backward, uint32_t lora_pad);
seam_status CPU_FN(weight_begin)(seam_weight **ret_weight, seam_backend *backend, uint32_t N,
                                 uint32_t C, bool forward, bool backward, uint32_t lora_pad);
seam_status CPU_FN(weight_write)(seam_stream *stream, seam_weight *weight,
                                 const seam_weight_piece *piece);
seam_status CPU_FN(weight_end)(seam_weight *weight, seam_backend *backend);
seam_status CPU_FN(linear_forward)(seam_stream *stream, const seam_linear_forward_args *args);
seam_status CPU_FN(linear_backward)(seam_stream *stream, const seam_linear_backward_args *args);
seam_status CPU_FN(weight_own)(seam_weight **ret_weight, seam_backend *backend, uint32_t N,
                               uint32_t C);
size_t CPU_FN(weight_own_bytes)(size_t *ret_host_bytes, uint32_t N, uint32_t C, seam_dtype dtype);
seam_status CPU_FN(weight_set)(seam_stream *stream, seam_weight *weight, const void *rows);
seam_status CPU_FN(weight_get)(seam_stream *stream, void *rows, const seam_weight *weight);
seam_status CPU_FN(weight_gradient)(seam_stream *stream, const seam_weight_gradient_args *args);
seam_status CPU_FN(column_sums)(seam_stream *stream, const seam_column_sums_args *args);
seam_status CPU_FN(rmsnorm_forward)(seam_stream *stream, const seam_rmsnorm_forward_args *args);
seam_status CPU_FN(rmsnorm_backward)(seam_stream *stream, const seam_rmsnorm_backward_args *args);
seam_status CPU_FN(rope)(seam_stream *stream, const seam_rope_args *args);
seam_status CPU_FN(attention_forward)(seam_stream *stream, const seam_attention_forward_args *args);
seam_status CPU_FN(attention_backward)(seam_stream *stream,
                                       const seam_attention_backward_args *args);
seam_status CPU_FN(cache_store)(seam_stream *stream, const seam_cache_store_args *args);
seam_status CPU_FN(attention_cached)(seam_stream *stream, const seam_attention_cached_args *args);
seam_status CPU_FN(prefix_forward)(seam_stream *stream, const seam_prefix_forward_args *args);
seam_status CPU_FN(prefix_backward)(seam_stream *stream, const seam_prefix_backward_args *args);
seam_status CPU_FN(swiglu_forward)(seam_stream *stream, const seam_swiglu_forward_args *args);
seam_status CPU_FN(swiglu_backward)(seam_stream *stream, const seam_swiglu_backward_args *args);
seam_status CPU_FN(embedding_forward)(seam_stream *stream, const seam_embedding_forward_args *args);
seam_status CPU_FN(cross_entropy)(seam_stream *stream, const seam_cross_entropy_args *args);
seam_status CPU_FN(adamw)(seam_stream *stream, const seam_adamw_args *args);
seam_status CPU_FN(sum_squares)(seam_stream *stream, double *ret_sum, const void *x, size_t count);
seam_status CPU_FN(hash)(seam_stream *stream, uint64_t *ret_hash, const void *x, size_t count);

#endif
