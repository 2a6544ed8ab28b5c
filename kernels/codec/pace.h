/* How the mean width falls to its target at a requested step: WIRE.md section 4, SPEC 3.1.
 *
 *   reference  b*(step): bits_start to bits_target over steps_to_target steps, exact from then on
 *   price      beta of the bits loss, set every step so that the gates' mean follows b*(step)
 *   bits_lr    from the distance that the gates have to go: Adam moves Q by about lr a step
 *
 * The task's pull on a gate falls by four for every bit (its error does), over many orders of
 * magnitude between models: so the price moves in its logarithm.  It begins where the own site's
 * gates would stand still, rises by four for every bit that the reference falls (feed-forward), and
 * answers the difference between mean and reference (proportional and integral, and by the speed of
 * that difference: Adam's momentum answers late, and without it the mean swings around b*).
 *
 * Pure: a function of the commits that were seen; no clock. */
#ifndef SEAM_PACE_H
#define SEAM_PACE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum seam_pace_shape { SEAM_PACE_LINEAR = 1, SEAM_PACE_COSINE = 2 } seam_pace_shape;

typedef struct seam_pace_config {
    double bits_start, bits_target;
    uint64_t steps_to_target; /* at least 1 */
    seam_pace_shape shape;
    double logit_distance; /* |Q at bits_start - Q at bits_target| */
    double price_default;  /* where no gate has a gradient */
} seam_pace_config;

typedef struct seam_pace {
    seam_pace_config config;
    bool begun, reached;
    double log_price, error_last; /* mean - reference, within +-0.25 */
    double error_speed;           /* bits a step, averaged */
    double price, bits_lr;        /* for the next gate update */
} seam_pace;

/* b*(step): what the mean width should be after `step` gate updates. */
double seam_pace_bits(const seam_pace_config *config, uint64_t step);

void seam_pace_init(seam_pace *pace, const seam_pace_config *config);
/* After the gate update of `step` (from 0): the gates' mean over all values, and the own site's
 * sum over channels of |dL/db_c| relative to its weight in the bits loss. */
void seam_pace_judge(seam_pace *pace, uint64_t step, double mean_bits, double pull);

/* Another target from now on (rate.h).  Behind steps_to_target the price jumps to where the new
 * one should be, and bits_lr rises to its first value. */
void seam_pace_retarget(seam_pace *pace, double bits_target);

/* Does the bits loss act?  Not while the mean is so far below the reference that no price can be to
 * blame: gates that the task does not hold. */
bool seam_pace_acts(const seam_pace *pace);

#endif
