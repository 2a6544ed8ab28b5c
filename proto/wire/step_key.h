/* Keys of the messages of a training step, and their fixed order.
 *
 * A keyed message is named by (step, micro-batch, phase, site); with its digest it decides whether
 * bytes are new, a repetition, or a conflict.  Both protocol machines count the client's messages
 * of a step in one line, so that "what comes next" is one number:
 *
 *   index 0        StepBegin
 *   index 1 + 2m   forward tensor of micro-batch m
 *   index 2 + 2m   backward tensor of micro-batch m
 *
 * This order is WIRE.md section 4; it is written down in step_key.c and nowhere else. */
#ifndef SEAM_STEP_KEY_H
#define SEAM_STEP_KEY_H

#include <stdbool.h>
#include <stdint.h>

#include "frame.h"

typedef struct seam_step_key {
    uint64_t step;
    uint32_t micro;
    uint16_t site;
    uint8_t phase; /* SEAM_PHASE_FORWARD or SEAM_PHASE_BACKWARD */
} seam_step_key;

/* The key that a frame's header names. */
seam_step_key seam_step_key_of(const seam_frame_header *header);

/* Client messages of a step of `micro_count` micro-batches: 1 + 2 * micro_count. */
uint32_t seam_step_message_count(uint32_t micro_count);
/* Place of the tensor (micro, phase) in the order; micro < SEAM_MICROS_MAX and phase are
 * asserted. */
uint32_t seam_step_message_idx(uint32_t micro, uint8_t phase);
/* The reverse, for idx >= 1. */
void seam_step_message_at(uint32_t *ret_micro, uint8_t *ret_phase, uint32_t idx);

#endif
