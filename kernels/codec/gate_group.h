/* Gate vectors that an encoder alone owns: several of as many channels each, under one pace for
 * the mean of all.  What a server quantizes for itself (between its blocks, WIRE.md 4.2; a prefix,
 * 4.3) has its gates here, while those of the wire's sites are proposed and answered (site.h).
 *
 * The owner forms dL/db (gates.h) into `db` over a step; the widths are in force from the next step
 * on.  No I/O, no allocation after init.  One thread at a time. */
#ifndef SEAM_GATE_GROUP_H
#define SEAM_GATE_GROUP_H

#include "arena.h"
#include "gates.h"
#include "pace.h"

typedef struct seam_gate_group_config {
    seam_gates_config gates;
    float bits_target;
    uint64_t steps_to_target; /* at least 1 */
    /* Of the gradient in db: the exact one, or the surrogate at the integer widths, which a step
     * brings to the gates' own (seam_gates_refine). */
    bool exact;
    uint32_t site_first; /* of the first vector, in reports */
} seam_gate_group_config;

/* A vector in a step, for Commit. */
typedef struct seam_gate_report {
    uint32_t site;
    uint32_t bits_total;        /* sum of the widths that the step used */
    uint32_t gate_bits_total;   /* of the gates, after it */
    uint8_t bits_min, bits_max; /* of those widths */
} seam_gate_report;

typedef struct seam_gate_group {
    seam_gate_group_config config;
    uint32_t count, channels;  /* K, C */
    seam_gates *gates;         /* (K) */
    seam_pace pace;            /* of the mean of all */
    seam_gate_report *reports; /* (K) */
    uint8_t *widths;           /* (K, C) in force */
    float *db;                 /* (K, C) gate gradient over the step */
} seam_gate_group;

/* Arrays, as views; count may be 0, where the other calls do nothing. */
void seam_gate_group_carve(seam_gate_group *group, seam_arena *arena, uint32_t count,
                           uint32_t channels);
/* What init takes beside them, for plans. */
size_t seam_gate_group_bytes(const seam_gate_group *group);
/* After the carving; the config is asserted.  SEAM_E_MEMORY: deinit takes what is half made. */
seam_status seam_gate_group_init(seam_gate_group *group, const seam_gate_group_config *config);
void seam_gate_group_deinit(seam_gate_group *group);

/* The end of step `step`: reports of the widths that it used, then gates, pace and widths move
 * unless the step was skipped; db is zero. */
void seam_gate_group_apply(seam_gate_group *group, uint64_t step, bool skipped);
/* db is zero: the step is given up. */
void seam_gate_group_abort(seam_gate_group *group);

/* Exact state for checkpoints.  Load: SEAM_E_FORMAT, SEAM_E_NONFINITE. */
size_t seam_gate_group_state_bytes(uint32_t count, uint32_t channels);
void seam_gate_group_save(uint8_t *ret, const seam_gate_group *group);
seam_status seam_gate_group_load(seam_gate_group *group, const uint8_t *bytes);

#endif
