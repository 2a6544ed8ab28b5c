/* The op table of one variant. */
#include "cpu_ops.h"

void CPU_FN(fill)(seam_ops *ops) {
    ops->act = ACT_DTYPE;
    ops->cast = CPU_FN(cast);
    ops->weight_create = CPU_FN(weight_create);
    ops->weight_begin = CPU_FN(weight_begin);
    ops->weight_write = CPU_FN(weight_write);
    ops->weight_end = CPU_FN(weight_end);
    ops->linear_forward = CPU_FN(linear_forward);
    ops->linear_backward = CPU_FN(linear_backward);
    ops->weight_own = CPU_FN(weight_own);
    ops->weight_own_bytes = CPU_FN(weight_own_bytes);
    ops->weight_set = CPU_FN(weight_set);
    ops->weight_get = CPU_FN(weight_get);
    ops->weight_gradient = CPU_FN(weight_gradient);
    ops->column_sums = CPU_FN(column_sums);
    ops->rmsnorm_forward = CPU_FN(rmsnorm_forward);
    ops->rmsnorm_backward = CPU_FN(rmsnorm_backward);
    ops->rope = CPU_FN(rope);
    ops->attention_forward = CPU_FN(attention_forward);
    ops->attention_backward = CPU_FN(attention_backward);
    ops->cache_store = CPU_FN(cache_store);
    ops->attention_cached = CPU_FN(attention_cached);
    ops->prefix_forward = CPU_FN(prefix_forward);
    ops->prefix_backward = CPU_FN(prefix_backward);
    ops->swiglu_forward = CPU_FN(swiglu_forward);
    ops->swiglu_backward = CPU_FN(swiglu_backward);
    ops->embedding_forward = CPU_FN(embedding_forward);
    ops->cross_entropy = CPU_FN(cross_entropy);
    ops->adamw = CPU_FN(adamw);
    ops->sum_squares = CPU_FN(sum_squares);
    ops->hash = CPU_FN(hash);
}
