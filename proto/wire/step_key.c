/* The order of a step's messages; see step_key.h.  One forward and one backward tensor a
 * micro-batch, in turn: a deeper pipeline would only change the two conversions here. */
#include "step_key.h"

#include "try.h"

seam_step_key seam_step_key_of(const seam_frame_header *header) {
    return (seam_step_key){
        .step = header->step, .micro = header->micro, .site = header->site, .phase = header->phase};
}

uint32_t seam_step_message_count(uint32_t micro_count) {
    SEAM_ASSERT(micro_count <= SEAM_MICROS_MAX);
    return 1 + 2 * micro_count;
}

uint32_t seam_step_message_idx(uint32_t micro, uint8_t phase) {
    SEAM_ASSERT(micro < SEAM_MICROS_MAX);
    SEAM_ASSERT(phase == SEAM_PHASE_FORWARD || phase == SEAM_PHASE_BACKWARD);
    return (phase == SEAM_PHASE_FORWARD ? 1u : 2u) + 2 * micro;
}

void seam_step_message_at(uint32_t *ret_micro, uint8_t *ret_phase, uint32_t idx) {
    SEAM_ASSERT(idx >= 1);
    *ret_micro = (idx - 1) / 2;
    *ret_phase = idx % 2 == 1 ? SEAM_PHASE_FORWARD : SEAM_PHASE_BACKWARD;
}
