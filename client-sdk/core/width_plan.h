/* The widths that a step of a session goes by, before there is one.  Part of step_bytes.c.
 *
 * Of codecs with gates the mean is known ahead, by the schedule, and what each channel is worth is
 * not: all count as worth the same. */
#ifndef SEAM_WIDTH_PLAN_H
#define SEAM_WIDTH_PLAN_H

#include "core.h"

#define SEAM_WIDTH_PLAN_ALLOCS 2

typedef struct seam_width_plan {
    /* Of sites 0 and 3, of 1 and 2; in an exchange of each pair of module sites. */
    seam_alloc allocs[SEAM_WIDTH_PLAN_ALLOCS];
    uint32_t counts[SEAM_WIDTH_PLAN_ALLOCS]; /* widths of each */
    uint8_t *widths;                         /* theirs, one allocation after another */
    double mean_bits;                        /* codecs with gates: of every width; else 0 */
} seam_width_plan;

/* Of a sketch.  SEAM_E_MEMORY. */
seam_status seam_width_plan_init(seam_width_plan *ret_plan, const seam_session *session);
void seam_width_plan_deinit(seam_width_plan *plan); /* of zeros too */
/* Those in force at `step`, which has been laid out (seam_step_layout). */
void seam_width_plan_make(seam_width_plan *plan, const seam_session *session, uint64_t step);

#endif
