/* One optimizer step of an adapter: norm, clip, AdamW, hash of the result.
 *
 * The math of AdamW is the op's; here are the schedule and the order.  Both ends of an adapter
 * exchange must run this with the same bits, so nothing depends on time, threads or address. */
#include <math.h>

#include "blocks_internal.h"
#include "bytes.h"
#include "try.h"

/* torch.nn.utils.clip_grad_norm_ divides by norm + this; kept, so that clipped steps agree. */
#define CLIP_EPSILON 1e-6

double seam_schedule_lr(const seam_optimizer_config *config, uint64_t step) {
    const double lr = config->lr;
    if (step < config->warmup_steps) {
        return lr * ((double)step + 1.0) / (double)config->warmup_steps;
    }
    if (config->schedule == SEAM_SCHEDULE_CONSTANT) {
        return lr;
    }
    if (step >= config->total_steps) {
        return 0;
    }
    const double progress = (double)(step - config->warmup_steps) /
                            (double)(config->total_steps - config->warmup_steps);
    if (config->schedule == SEAM_SCHEDULE_LINEAR) {
        return lr * (1.0 - progress);
    }
    SEAM_ASSERT(config->schedule == SEAM_SCHEDULE_COSINE);
    return lr * 0.5 * (1.0 + cos(3.14159265358979323846 * progress));
}

seam_status seam_adapter_state_hash(uint64_t *ret_hash, const seam_adapter *adapter,
                                    seam_stream *stream) {
    return adapter->blocks->ops->hash(stream, ret_hash, adapter->param, adapter->count);
}

/* The rest of the flat buffers, which has no compute copy. */
static void undecayed_take(seam_adamw_args *args, const seam_adapter *adapter) {
    const size_t begin = adapter->decay_count * seam_dtype_bytes(adapter->blocks->ops->acc);
    SEAM_ASSERT(adapter->copy == NULL);
    args->param = (uint8_t *)adapter->param + begin;
    args->m = (uint8_t *)adapter->m + begin;
    args->v = (uint8_t *)adapter->v + begin;
    args->grad = (uint8_t *)adapter->grad + begin;
    args->count = adapter->count - adapter->decay_count;
    args->weight_decay = 0;
}

seam_status seam_adapter_gradient_squares(double *ret_sum, const seam_adapter *adapter,
                                          seam_stream *stream) {
    return adapter->blocks->ops->sum_squares(stream, ret_sum, adapter->grad, adapter->count);
}

float seam_clip_factor(const seam_optimizer_config *config, double norm) {
    const double scale = config->clip_norm > 0 ? config->clip_norm / (norm + CLIP_EPSILON) : 1.0;
    return scale < 1.0 ? (float)scale : 1.0f;
}

seam_status seam_adapter_update(uint64_t *ret_state_hash, seam_adapter *adapter,
                                seam_stream *stream, const seam_optimizer_config *config,
                                uint64_t step, float clip_factor) {
    seam_adamw_args args = {
        .param = adapter->param,
        .m = adapter->m,
        .v = adapter->v,
        .grad = adapter->grad,
        .copy = adapter->copy,
        .count = adapter->decay_count,
        .lr = (float)seam_schedule_lr(config, step),
        .beta1 = config->beta1,
        .beta2 = config->beta2,
        .eps = config->eps,
        .weight_decay = config->weight_decay,
        .grad_scale = clip_factor,
        .step = adapter->applied_step_count + 1,
    };
    SEAM_TRY(adapter->blocks->ops->adamw(stream, &args));
    if (adapter->decay_count < adapter->count) {
        undecayed_take(&args, adapter);
        SEAM_TRY(adapter->blocks->ops->adamw(stream, &args));
    }
    if (adapter->own != NULL) {
        SEAM_TRY(seam_full_refresh(adapter, stream, 0, adapter->blocks->layer_count));
    }
    adapter->applied_step_count++;
    return seam_adapter_state_hash(ret_state_hash, adapter, stream);
}

seam_status seam_adapter_step(double *ret_norm, uint64_t *ret_state_hash, seam_adapter *adapter,
                              seam_stream *stream, const seam_optimizer_config *config,
                              uint64_t step) {
    double squares = 0;
    SEAM_TRY(seam_adapter_gradient_squares(&squares, adapter, stream));
    const double norm = sqrt(squares);
    if (!isfinite(norm)) {
        SEAM_TRY(seam_adapter_clear_gradient(adapter, stream));
        return SEAM_E_NONFINITE;
    }
    uint64_t hash = 0;
    SEAM_TRY(
        seam_adapter_update(&hash, adapter, stream, config, step, seam_clip_factor(config, norm)));
    *ret_norm = norm;
    *ret_state_hash = hash;
    return SEAM_OK;
}
