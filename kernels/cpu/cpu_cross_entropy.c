/* Cross-entropy over the vocabulary and its gradient; a task is one row.
 * Three passes over a row of logits (max and argmax, sum, gradient), which stays in cache. */
#include "cpu_ops.h"

/* Largest logit and the lowest index that has it. */
static float row_max(uint32_t *ret_idx, const float *logits, uint32_t V) {
    vf max = vf_set(-INFINITY);
    uint32_t j = 0;
    for (; j + VL <= V; j += VL) {
        max = vf_max(max, vf_load(logits + j));
    }
    float best = -INFINITY;
    for (uint32_t i = 0; i < VL; i++) {
        best = max[i] > best ? max[i] : best;
    }
    for (; j < V; j++) {
        best = logits[j] > best ? logits[j] : best;
    }
    uint32_t idx = 0;
    while (idx + 1 < V && !(logits[idx] == best)) {
        idx++;
    }
    *ret_idx = idx;
    return best;
}

/* Two subtractions: max + log_sum in f32 would lose log_sum beside a large max. */
static void gradient_row(act *d, const float *logits, float max, float log_sum, float scale,
                         uint32_t V) {
    for (uint32_t j = 0; j < V; j += VL) {
        const uint32_t n = min_u32(VL, V - j);
        const vf g = vf_exp((any_load(logits, j, 1, n) - max) - log_sum) * scale;
        n == VL ? act_store(d + j, g) : act_store_n(d + j, g, n);
    }
}

static void loss_rows(const void *context, size_t begin, size_t end) {
    const seam_cross_entropy_args *a = context;
    const uint32_t V = a->V;
    for (size_t t = begin; t < end; t++) {
        const float *logits = (const float *)a->logits + t * V;
        const uint32_t target = a->targets[t], whole = V / VL * VL;
        SEAM_ASSERT(target < V);
        uint32_t best = 0;
        const float max = row_max(&best, logits, V);
        vf sums = vf_set(0.0f);
        for (uint32_t j = 0; j < whole; j += VL) {
            sums += vf_exp(vf_load(logits + j) - max);
        }
        float sum = vf_sum(sums);
        for (uint32_t j = whole; j < V; j++) {
            sum += expf(logits[j] - max);
        }
        const float log_sum = logf(sum), at_target = logits[target];
        ((float *)a->loss)[t] = (max - at_target) + log_sum;
        if (a->argmax != NULL) {
            a->argmax[t] = best;
        }
        if (a->d_logits != NULL) {
            act *d = (act *)a->d_logits + t * V;
            const vf p = vf_exp(vf_set((at_target - max) - log_sum));
            gradient_row(d, logits, max, log_sum, a->grad_scale, V);
            act_store_n(d + target, (p - 1.0f) * a->grad_scale, 1);
        }
    }
}

seam_status CPU_FN(cross_entropy)(seam_stream *stream, const seam_cross_entropy_args *args) {
    seam_cpu_ranges(stream, args->T, 1, loss_rows, args);
    return SEAM_OK;
}
