/* Target projections of LoRA, a bit each: Projection of types.proto less one.
 *
 * A model has some of them (family.h, lora_targets): QKV and GATE_UP where its files, and so PEFT's
 * modules, have q, k, v and gate, up fused. */
#ifndef SEAM_LORA_TARGETS_H
#define SEAM_LORA_TARGETS_H

enum {
    SEAM_LORA_Q = 1u << 0,
    SEAM_LORA_K = 1u << 1,
    SEAM_LORA_V = 1u << 2,
    SEAM_LORA_O = 1u << 3,
    SEAM_LORA_GATE = 1u << 4,
    SEAM_LORA_UP = 1u << 5,
    SEAM_LORA_DOWN = 1u << 6,
    SEAM_LORA_QKV = 1u << 7,
    SEAM_LORA_GATE_UP = 1u << 8,
};
#define SEAM_LORA_TARGETS 9

#endif
