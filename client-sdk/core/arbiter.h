/* The arbiter of bits.  The client sees both forward sites after every step and tells both owners
 * how their widths go on: WIRE.md section 4 (Budget), SPEC 3.1 (clipping, schedule, allocators).
 *
 *   mean = sum_k n_k mean_c(b_c of site k) / sum_k n_k,   n_k: values that site k sends when equal
 *   rows travel once and rows without a label do not, whether they do or not; fixed by the
 *   session's first step; over the sites that have gates
 *
 * Gates, the paper's schedule (steps_to_target 0):
 *   soft:  the bits loss acts only while mean > target
 *   hard:  the bits loss acts always; below the target every b_c is shifted by target - mean
 *   beta and bits_lr until the mean first reaches the target, then the smaller ones
 * Gates, paced: beta follows pace.h, and each site's is weighted by its share of the values, so
 *   that a bit costs the same everywhere; the bits loss acts always, hard shifts as above
 * Waterfill: b*(step) of pace.h, and every site's total of it: waterfill.h
 *
 * Pure: no I/O, no clock; what it decides is a function of the commits it saw. */
#ifndef SEAM_ARBITER_H
#define SEAM_ARBITER_H

#include <stdbool.h>
#include <stdint.h>

#include "pace.h"
#include "waterfill.h"

typedef struct seam_arbiter_config {
    bool hard;
    bool l1; /* the bits loss; else L2 */
    float bits_target;
    float beta, bits_lr;             /* until the target is reached */
    float beta_after, bits_lr_after; /* from then on */
    seam_pace_config pace;           /* steps_to_target 0: the four above rule, not the pace */
    uint32_t lag_steps;              /* from a proposal to its use */
} seam_arbiter_config;

/* What both owners use in the next update. */
typedef struct seam_budget {
    bool bits_loss_active;
    float width_shift, bits_lr, bits_target;
    float beta_in, beta_out;      /* of site 0, which is our own, and of site 1 */
    uint32_t total_in, total_out; /* waterfill: sums of the widths; 0: nothing is known yet */
} seam_budget;

typedef struct seam_arbiter {
    seam_arbiter_config config;
    uint64_t values_in, values_out; /* n_k; both 0 until the first step */
    uint64_t values_used_in;        /* of site 0, each repetition too */
    bool counts_all;  /* n_0 has the repetitions: a run of before they were left out */
    double mean_bits; /* of the allocators, after the last step */
    bool target_reached;
    seam_pace pace;
    seam_budget budget;
    bool changed; /* the budget differs from what the peer was told */
} seam_arbiter;

void seam_arbiter_init(seam_arbiter *arbiter, const seam_arbiter_config *config);
/* The first step's n_k, 0 for a site without gates, and how many values site 0's become where its
 * rows repeat (at least n_0): each of them has the error that the bits are for.  Later calls change
 * nothing. */
void seam_arbiter_weigh(seam_arbiter *arbiter, uint64_t values_in, uint64_t values_used_in,
                        uint64_t values_out);

/* What a step's commit says of the gates; of a site without gates anything. */
typedef struct seam_arbiter_view {
    uint64_t step;
    bool skipped;             /* the gates did not move */
    double mean_in, mean_out; /* gate widths of each forward site */
    double pull_in, pull_out; /* sum over channels of |dL/db_c| */
} seam_arbiter_view;
void seam_arbiter_judge(seam_arbiter *arbiter, const seam_arbiter_view *view);

/* The same for waterfill.  Shares without their values; NULL: a site that is not there or has no
 * widths to give (not both). */
void seam_arbiter_fill(seam_arbiter *arbiter, uint64_t step, const seam_waterfill_share *in,
                       const seam_waterfill_share *out);

/* Another mean from the next step's budget on, of waterfill or paced gates: rate.h decides. */
void seam_arbiter_retarget(seam_arbiter *arbiter, double bits_target);

#endif
