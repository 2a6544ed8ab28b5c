/* Cross-entropy over the vocabulary and its gradient, reference. */
#include <math.h>

#include "ref.h"

seam_status seam_ref_cross_entropy(seam_stream *stream, const seam_cross_entropy_args *args) {
    (void)stream;
    const uint32_t V = args->V;
    for (uint32_t t = 0; t < args->T; t++) {
        const double *logits = (const double *)args->logits + (size_t)t * V;
        const uint32_t target = args->targets[t];
        SEAM_ASSERT(target < V);
        uint32_t best = 0;
        for (uint32_t j = 1; j < V; j++) {
            best = logits[j] > logits[best] ? j : best;
        }
        const double max = logits[best];
        double sum = 0.0;
        for (uint32_t j = 0; j < V; j++) {
            sum += exp(logits[j] - max);
        }
        const double lse = max + log(sum);
        ((double *)args->loss)[t] = lse - logits[target];
        if (args->argmax != NULL) {
            args->argmax[t] = best;
        }
        for (uint32_t j = 0; args->d_logits != NULL && j < V; j++) {
            const double p = exp(logits[j] - lse) - (j == target ? 1.0 : 0.0);
            ((double *)args->d_logits)[(size_t)t * V + j] = (double)args->grad_scale * p;
        }
    }
    return SEAM_OK;
}
