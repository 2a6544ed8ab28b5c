/* Clipping, schedule and totals of the bits: see arbiter.h. */
#include "arbiter.h"

#include "try.h"

void seam_arbiter_init(seam_arbiter *arbiter, const seam_arbiter_config *config) {
    *arbiter = (seam_arbiter){
        .config = *config,
        .budget = {.bits_loss_active = true,
                   .beta_in = config->beta,
                   .beta_out = config->beta,
                   .bits_lr = config->bits_lr,
                   .bits_target = config->bits_target},
    };
    if (config->pace.steps_to_target > 0) {
        seam_pace_init(&arbiter->pace, &config->pace);
        /* Told with the first step: by the config the owners would begin with its beta. */
        arbiter->budget.beta_in = arbiter->budget.beta_out = (float)arbiter->pace.price;
        arbiter->budget.bits_lr = (float)arbiter->pace.bits_lr;
        arbiter->changed = true;
    }
}

void seam_arbiter_weigh(seam_arbiter *arbiter, uint64_t values_in, uint64_t values_used_in,
                        uint64_t values_out) {
    SEAM_ASSERT(values_used_in >= values_in);
    if (arbiter->values_in == 0 && arbiter->values_out == 0) {
        arbiter->values_in = arbiter->counts_all ? values_used_in : values_in;
        arbiter->values_used_in = values_used_in;
        arbiter->values_out = values_out;
    }
}

static double mean_of(const seam_arbiter *arbiter, double mean_in, double mean_out) {
    const double n_in = (double)arbiter->values_in;
    const double n_out = (double)arbiter->values_out;
    return (n_in * mean_in + n_out * mean_out) / (n_in + n_out);
}

/* A site's weight in the bits loss: its values in terms of the mean over the sites with gates. */
static double weight_of(const seam_arbiter *arbiter, uint64_t values) {
    const double n_in = (double)arbiter->values_in;
    const double n_out = (double)arbiter->values_out;
    const double sites = (n_in > 0.0 ? 1.0 : 0.0) + (n_out > 0.0 ? 1.0 : 0.0);
    return (double)values * sites / (n_in + n_out);
}

static void budget_set(seam_arbiter *arbiter, const seam_budget *next) {
    const seam_budget *const old = &arbiter->budget;
    arbiter->changed = next->bits_loss_active != old->bits_loss_active ||
                       next->width_shift != old->width_shift || next->bits_lr != old->bits_lr ||
                       next->beta_in != old->beta_in || next->beta_out != old->beta_out ||
                       next->total_out != old->total_out || next->bits_target != old->bits_target;
    arbiter->budget = *next;
}

/* The price of a bit, and what it makes each site's beta. */
static void pace_apply(seam_budget *next, seam_arbiter *arbiter, const seam_arbiter_view *view) {
    const double weight_in = weight_of(arbiter, arbiter->values_in);
    const double weight_out = weight_of(arbiter, arbiter->values_out);
    if (!view->skipped) {
        double pull = 0.0;
        pull += weight_in > 0.0 ? view->pull_in : 0.0;
        pull += weight_out > 0.0 ? view->pull_out : 0.0;
        const double slope = arbiter->config.l1 ? 1.0 : 2.0 * arbiter->mean_bits;
        seam_pace_judge(&arbiter->pace, view->step, arbiter->mean_bits,
                        pull / (slope * (weight_in + weight_out)));
    }
    next->bits_loss_active = seam_pace_acts(&arbiter->pace);
    next->beta_in = (float)(arbiter->pace.price * weight_in);
    next->beta_out = (float)(arbiter->pace.price * weight_out);
    next->bits_lr = (float)arbiter->pace.bits_lr;
}

void seam_arbiter_judge(seam_arbiter *arbiter, const seam_arbiter_view *view) {
    SEAM_ASSERT(arbiter->values_in > 0 || arbiter->values_out > 0);
    const seam_arbiter_config *const config = &arbiter->config;
    const double mean = mean_of(arbiter, view->mean_in, view->mean_out);
    const double target = (double)config->bits_target;
    arbiter->mean_bits = mean;
    arbiter->target_reached = arbiter->target_reached || mean <= target;

    seam_budget next = arbiter->budget;
    next.width_shift = config->hard && mean < target ? (float)(target - mean) : 0.0f;
    if (config->pace.steps_to_target > 0) {
        pace_apply(&next, arbiter, view);
    } else {
        const float beta = arbiter->target_reached ? config->beta_after : config->beta;
        next.bits_loss_active = config->hard || mean > target;
        next.beta_in = next.beta_out = beta;
        next.bits_lr = arbiter->target_reached ? config->bits_lr_after : config->bits_lr;
    }
    budget_set(arbiter, &next);
}

void seam_arbiter_fill(seam_arbiter *arbiter, uint64_t step, const seam_waterfill_share *in,
                       const seam_waterfill_share *out) {
    SEAM_ASSERT(in != NULL || out != NULL);
    const seam_arbiter_config *const config = &arbiter->config;
    seam_waterfill_share shares[2];
    uint32_t totals[2] = {0, 0}, count = 0;
    if (out != NULL) {
        shares[count] = *out;
        shares[count].values = shares[count].values_used = arbiter->values_out;
        count++;
    }
    if (in != NULL) {
        shares[count] = *in;
        shares[count].values = arbiter->values_in;
        shares[count].values_used = arbiter->values_used_in;
        count++;
    }
    /* What is decided after this step is in force from the next proposal's effective step on. */
    const uint64_t step_used = step + 1 + config->lag_steps;
    const double bits = seam_pace_bits(&config->pace, step_used);
    seam_waterfill_totals(totals, shares, count, bits);
    const uint32_t total_out = out != NULL ? totals[0] : 0;
    const uint32_t total_in = in != NULL ? totals[count - 1] : 0;
    const double mean_out = out != NULL ? (double)total_out / (double)out->channels : 0.0;
    const double mean_in = in != NULL ? (double)total_in / (double)in->channels : 0.0;
    arbiter->mean_bits = mean_of(arbiter, mean_in, mean_out);
    arbiter->target_reached = arbiter->target_reached || step_used >= config->pace.steps_to_target;
    seam_budget next = arbiter->budget;
    next.total_out = total_out;
    next.total_in = total_in;
    budget_set(arbiter, &next);
}

void seam_arbiter_retarget(seam_arbiter *arbiter, double bits_target) {
    seam_budget next = arbiter->budget;
    next.bits_target = (float)bits_target;
    arbiter->config.bits_target = (float)bits_target;
    arbiter->config.pace.bits_target = bits_target;
    seam_pace_retarget(&arbiter->pace, bits_target);
    const bool changed = arbiter->changed; /* what the commit brought is still to be told */
    budget_set(arbiter, &next);
    arbiter->changed = arbiter->changed || changed;
}
