/* Keys of the messages of a training step, and their order.
 *
 * A keyed message is named by (step, micro-batch, phase, site); with its digest it decides whether
 * bytes are new, a repetition, or a conflict.  A client may have forward tensors of several
 * micro-batches on their way before it has the gradient of the first: the session's pipeline depth
 * D bounds how many.  What a server accepts is in WIRE.md section 4 and server_proto.c.  Our client
 * counts its messages of a step of M micro-batches in one line, so that "what comes next" is one
 * number; with d of them ahead (1 <= d <= D, d <= M) it is
 *
 *   index 0   StepBegin
 *   then      F(0) .. F(d-1), then B(0) F(d) B(1) F(d+1) .. B(M-d-1) F(M-1), then B(M-d) .. B(M-1)
 *
 * F, B: forward and backward tensor.  d = 1: F(0) B(0) F(1) B(1) ..  Where the client has
 * trainables of its own (`has_norm`), its share of the gradient's norm comes last, as B(M): a
 * message of its own kind, which has no reply but the Commit.  Where the server has head and loss
 * (`one_pass`) there are no backward tensors: F(0) .. F(M-1), each answered when its gradient is
 * done, and the norm behind them.  The conversions are in step_key.c and nowhere else. */
#ifndef SEAM_STEP_KEY_H
#define SEAM_STEP_KEY_H

#include <stdbool.h>
#include <stdint.h>

#include "frame.h"

#define SEAM_PIPELINE_DEPTH_MAX 8u

typedef struct seam_step_key {
    uint64_t step;
    uint32_t micro;
    uint16_t site;
    uint8_t phase; /* SEAM_PHASE_FORWARD or SEAM_PHASE_BACKWARD */
} seam_step_key;

/* The key that a frame's header names. */
seam_step_key seam_step_key_of(const seam_frame_header *header);

typedef struct seam_step_order {
    uint32_t micro_count; /* M */
    uint32_t ahead;       /* d */
    bool has_norm;        /* B(M) follows */
    bool one_pass;        /* F only, and the norm */
} seam_step_order;

/* Client messages of a step: 1 + 2 * M, or 1 + M; one more with has_norm. */
uint32_t seam_step_message_count(seam_step_order order);
/* Place of the tensor (micro, phase) in the order; micro (M: the norm's) and phase are asserted. */
uint32_t seam_step_message_idx(seam_step_order order, uint32_t micro, uint8_t phase);
/* The reverse, for idx >= 1. */
void seam_step_message_at(uint32_t *ret_micro, uint8_t *ret_phase, seam_step_order order,
                          uint32_t idx);

/* Replies to backward tensors that a server keeps: those to the newest R of them. */
uint32_t seam_step_backward_kept(uint32_t depth);
/* Backward tensors whose replies a client has before it sends (micro, phase), at pipeline depth
 * `depth` of the session: so many that the server need not keep more than D forward and R backward
 * replies. */
uint32_t seam_step_replies_needed(uint32_t depth, uint32_t micro, uint8_t phase);

#endif
