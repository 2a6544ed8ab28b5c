/* The arbiter of bits.  The client sees the mean width of both forward sites and tells both
 * owners how their gates go on: WIRE.md section 4 (Budget), SPEC 3.1 (clipping, schedule).
 *
 *   mean = sum_k n_k mean_c(b_c of site k) / sum_k n_k,   n_k: values of site k, fixed by the
 *   session's first step; over the sites that have gates
 *   soft:  the bits loss acts only while mean > target
 *   hard:  the bits loss acts always; below the target every b_c is shifted by target - mean
 *   schedule: beta and bits_lr until the mean first reaches the target, then the smaller ones
 *
 * Pure: no I/O, no clock; what it decides is a function of the commits it saw. */
#ifndef SEAM_ARBITER_H
#define SEAM_ARBITER_H

#include <stdbool.h>
#include <stdint.h>

typedef struct seam_arbiter_config {
    bool hard;
    float bits_target;
    float beta, bits_lr;             /* until the target is reached */
    float beta_after, bits_lr_after; /* from then on */
} seam_arbiter_config;

/* What both owners use in the next gate update. */
typedef struct seam_budget {
    bool bits_loss_active;
    float width_shift, beta, bits_lr, bits_target;
} seam_budget;

typedef struct seam_arbiter {
    seam_arbiter_config config;
    uint64_t values_in, values_out; /* n_k; both 0 until the first step */
    double mean_bits;               /* of the gates, after the last step */
    bool target_reached;
    seam_budget budget;
    bool changed; /* the budget differs from what the peer was told */
} seam_arbiter;

void seam_arbiter_init(seam_arbiter *arbiter, const seam_arbiter_config *config);
/* The values of the first step, 0 for a site without gates; later calls change nothing. */
void seam_arbiter_weigh(seam_arbiter *arbiter, uint64_t values_in, uint64_t values_out);
/* After a step: the mean gate width of each forward site; of a site without gates anything. */
void seam_arbiter_judge(seam_arbiter *arbiter, double mean_in, double mean_out);

#endif
