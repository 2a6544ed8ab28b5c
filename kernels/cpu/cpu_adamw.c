/* AdamW with decoupled decay: param -= lr (m^ / (sqrt(v^) + eps) + decay param).
 * Plain loops that the compiler vectorises; bound by memory. */
#include "cpu_ops.h"

#define GRAIN 16384u

typedef struct adamw_job {
    const seam_adamw_args *args;
    float fix1, fix2; /* 1 / (1 - beta^step) */
} adamw_job;

static void adamw_range(const void *context, size_t begin, size_t end) {
    const adamw_job *job = context;
    const seam_adamw_args *a = job->args;
    float *restrict param = a->param, *restrict m = a->m, *restrict v = a->v;
    float *restrict grad = a->grad;
    const float beta1 = a->beta1, beta2 = a->beta2, fix1 = job->fix1, fix2 = job->fix2;
    const float lr = a->lr, eps = a->eps, decay = a->weight_decay, scale = a->grad_scale;
    for (size_t i = begin; i < end; i++) {
        const float g = grad[i] * scale;
        m[i] = beta1 * m[i] + (1.0f - beta1) * g;
        v[i] = beta2 * v[i] + (1.0f - beta2) * g * g;
        const float update = m[i] * fix1 / (sqrtf(v[i] * fix2) + eps);
        param[i] -= lr * (update + decay * param[i]);
        grad[i] = 0.0f;
    }
    act *copy = a->copy;
    for (size_t i = begin; copy != NULL && i < end; i += VL) {
        const uint32_t n = end - i < VL ? (uint32_t)(end - i) : VL;
        act_store_n(copy + i, any_load(param, i, 1, n), n);
    }
}

seam_status CPU_FN(adamw)(seam_stream *stream, const seam_adamw_args *args) {
    SEAM_ASSERT(args->step >= 1);
    const double step = (double)args->step;
    const adamw_job job = {
        .args = args,
        .fix1 = (float)(1.0 / (1.0 - pow((double)args->beta1, step))),
        .fix2 = (float)(1.0 / (1.0 - pow((double)args->beta2, step))),
    };
    seam_cpu_ranges(stream, args->count, GRAIN, adamw_range, &job);
    return SEAM_OK;
}
