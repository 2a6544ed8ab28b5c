/* The order of a step's messages; see step_key.h. */
#include "step_key.h"

#include "try.h"

seam_step_key seam_step_key_of(const seam_frame_header *header) {
    return (seam_step_key){
        .step = header->step, .micro = header->micro, .site = header->site, .phase = header->phase};
}

uint32_t seam_step_message_count(seam_step_order order) {
    SEAM_ASSERT(order.micro_count <= SEAM_MICROS_MAX);
    return 1 + (order.one_pass ? 1 : 2) * order.micro_count + (order.has_norm ? 1 : 0);
}

uint32_t seam_step_message_idx(seam_step_order order, uint32_t micro, uint8_t phase) {
    const uint32_t M = order.micro_count, d = order.ahead;
    SEAM_ASSERT(d >= 1);
    SEAM_ASSERT(d <= M);
    SEAM_ASSERT(phase == SEAM_PHASE_FORWARD || phase == SEAM_PHASE_BACKWARD);
    SEAM_ASSERT(phase == SEAM_PHASE_FORWARD || !order.one_pass || micro == M);
    SEAM_ASSERT(micro < M || (micro == M && order.has_norm && phase == SEAM_PHASE_BACKWARD));
    if (order.one_pass) {
        return 1 + micro;
    }
    if (phase == SEAM_PHASE_FORWARD) {
        return micro < d ? 1 + micro : 2 * micro - d + 2;
    }
    return micro <= M - d ? 1 + d + 2 * micro : 1 + M + micro;
}

void seam_step_message_at(uint32_t *ret_micro, uint8_t *ret_phase, seam_step_order order,
                          uint32_t idx) {
    const uint32_t M = order.micro_count, d = order.ahead;
    SEAM_ASSERT(idx >= 1);
    SEAM_ASSERT(idx < seam_step_message_count(order));
    if (idx <= d || order.one_pass) {
        *ret_micro = idx - 1;
        *ret_phase = idx <= M ? SEAM_PHASE_FORWARD : SEAM_PHASE_BACKWARD;
        return;
    }
    const uint32_t at = idx - 1 - d;
    const uint32_t paired = 2 * (M - d); /* B and F in turn */
    const bool forward = at < paired && at % 2 == 1;
    *ret_micro = at >= paired ? M - d + (at - paired) : forward ? d + at / 2 : at / 2;
    *ret_phase = forward ? SEAM_PHASE_FORWARD : SEAM_PHASE_BACKWARD;
}

/* With one kept, the client would have to wait for each before it sends the next. */
uint32_t seam_step_backward_kept(uint32_t depth) {
    return depth == 1 ? 1 : 2;
}

uint32_t seam_step_replies_needed(uint32_t depth, uint32_t micro, uint8_t phase) {
    const uint32_t kept = seam_step_backward_kept(depth);
    const uint32_t back = phase == SEAM_PHASE_FORWARD ? depth + kept - 2 : kept - 1;
    return micro > back ? micro - back : 0;
}
