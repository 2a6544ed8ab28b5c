/* Clipping and schedule of the bits: see arbiter.h. */
#include "arbiter.h"

#include "try.h"

void seam_arbiter_init(seam_arbiter *arbiter, const seam_arbiter_config *config) {
    *arbiter = (seam_arbiter){
        .config = *config,
        .budget = {.bits_loss_active = true,
                   .width_shift = 0.0f,
                   .beta = config->beta,
                   .bits_lr = config->bits_lr,
                   .bits_target = config->bits_target},
    };
}

void seam_arbiter_weigh(seam_arbiter *arbiter, uint64_t values_in, uint64_t values_out) {
    if (arbiter->values_in == 0 && arbiter->values_out == 0) {
        arbiter->values_in = values_in;
        arbiter->values_out = values_out;
    }
}

void seam_arbiter_judge(seam_arbiter *arbiter, double mean_in, double mean_out) {
    SEAM_ASSERT(arbiter->values_in > 0 || arbiter->values_out > 0);
    const seam_arbiter_config *const config = &arbiter->config;
    const double n_in = (double)arbiter->values_in;
    const double n_out = (double)arbiter->values_out;
    const double mean = (n_in * mean_in + n_out * mean_out) / (n_in + n_out);
    const double target = (double)config->bits_target;
    arbiter->mean_bits = mean;
    arbiter->target_reached = arbiter->target_reached || mean <= target;

    seam_budget next = arbiter->budget;
    next.bits_loss_active = config->hard || mean > target;
    next.width_shift = config->hard && mean < target ? (float)(target - mean) : 0.0f;
    next.beta = arbiter->target_reached ? config->beta_after : config->beta;
    next.bits_lr = arbiter->target_reached ? config->bits_lr_after : config->bits_lr;
    arbiter->changed = next.bits_loss_active != arbiter->budget.bits_loss_active ||
                       next.width_shift != arbiter->budget.width_shift ||
                       next.beta != arbiter->budget.beta || next.bits_lr != arbiter->budget.bits_lr;
    arbiter->budget = next;
}
