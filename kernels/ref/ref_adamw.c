/* AdamW with decoupled decay, reference: m, v with bias correction;
 * param -= lr (m^ / (sqrt(v^) + eps) + decay param). */
#include <math.h>

#include "ref.h"

seam_status seam_ref_adamw(seam_stream *stream, const seam_adamw_args *args) {
    (void)stream;
    SEAM_ASSERT(args->step >= 1);
    const double beta1 = (double)args->beta1, beta2 = (double)args->beta2;
    const double fix1 = 1.0 - pow(beta1, (double)args->step);
    const double fix2 = 1.0 - pow(beta2, (double)args->step);
    double *param = args->param, *m = args->m, *v = args->v, *grad = args->grad;
    for (size_t i = 0; i < args->count; i++) {
        const double g = grad[i] * (double)args->grad_scale;
        m[i] = beta1 * m[i] + (1.0 - beta1) * g;
        v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
        const double update = m[i] / fix1 / (sqrt(v[i] / fix2) + (double)args->eps);
        param[i] -= (double)args->lr * (update + (double)args->weight_decay * param[i]);
        grad[i] = 0.0;
        if (args->copy != NULL) {
            ((double *)args->copy)[i] = param[i];
        }
    }
    return SEAM_OK;
}
