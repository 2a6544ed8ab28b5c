/* What a session takes, by kind, on the device and beside it, before any of it is taken.
 *
 * The server reserves a plan when it admits a session (service/session/session_table.c) and `seam
 * plan` prints one.  Here is the share of the blocks: activations, adapter, moments.  Who owns
 * other buffers adds their bytes to the same plan.  Where the device is the host (the CPU backend)
 * both halves come out of one memory. */
#ifndef SEAM_MEMORY_PLAN_H
#define SEAM_MEMORY_PLAN_H

#include "blocks.h"

typedef enum seam_memory_kind {
    SEAM_MEMORY_ACTIVATIONS, /* what backward needs, and the rows at the boundary */
    SEAM_MEMORY_ADAPTER,     /* master, gradient, compute copy */
    SEAM_MEMORY_MOMENTS,     /* of AdamW */
    SEAM_MEMORY_CODEC,       /* tensors on their way in and out, coders */
    SEAM_MEMORY_CACHE,       /* of a codec that keeps samples */
    SEAM_MEMORY_KEYS,        /* keys and values of a stream that generates */
    SEAM_MEMORY_KINDS,
} seam_memory_kind;
const char *seam_memory_kind_name(seam_memory_kind kind);

typedef struct seam_memory_plan {
    uint64_t device[SEAM_MEMORY_KINDS], host[SEAM_MEMORY_KINDS];
} seam_memory_plan;

/* Of a device's memory, what is not sessions': workspaces of streams, which grow with the shapes
 * that they see. */
#define SEAM_MEMORY_WORKSPACE_BYTES (UINT64_C(2) << 30)

uint64_t seam_memory_plan_device_bytes(const seam_memory_plan *plan);
uint64_t seam_memory_plan_host_bytes(const seam_memory_plan *plan);

#define SEAM_MEMORY_TEXT_BYTES 192
/* "3.2 GiB (activations 2.9, adapter 0.2, moments 0.1)"; kinds that come to nothing are left out.
 * One half of a plan, or the sum of both. */
void seam_memory_text(char ret[SEAM_MEMORY_TEXT_BYTES], const uint64_t bytes[SEAM_MEMORY_KINDS]);
/* "1.1 GiB", "85.0 MiB". */
void seam_memory_bytes_text(char ret[SEAM_MEMORY_TEXT_BYTES], uint64_t bytes);

/* Blocks that need not exist: of ops the element types and fp8 are read, and weight_own_bytes is
 * asked, nothing else. */
typedef struct seam_memory_blocks {
    const seam_model_config *model;
    const seam_ops *ops;
    uint32_t layer_begin, layer_end;
} seam_memory_blocks;

/* Adds an adapter and its moments; activations.  SEAM_E_LIMIT: not addressable. */
void seam_memory_plan_adapter(seam_memory_plan *plan, const seam_memory_blocks *blocks,
                              const seam_adapter_config *adapter);
seam_status seam_memory_plan_activations(seam_memory_plan *plan, const seam_memory_blocks *blocks,
                                         const seam_activations_options *options);
/* Adds all of a trainer's: both, and boundary rows.  SEAM_E_LIMIT: not addressable. */
seam_status seam_memory_plan_training(seam_memory_plan *plan, const seam_memory_blocks *blocks,
                                      const seam_activations_options *options);
/* Adds what a device may keep of the passes of a session or stream (ops.h, repeat; asked only of
 * one that has it): a bound of what is taken while it works, on the device measured
 * (test_repeat). */
void seam_memory_plan_repeats(seam_memory_plan *plan, const seam_memory_blocks *blocks,
                              const seam_adapter_config *adapter);
/* Frozen matrices in act, `copies` of each (the CPU keeps one a direction, and pads them to its
 * panels), with ops->fp8 both orientations in FP8 too, norms and the rotary table. */
uint64_t seam_memory_plan_weights(const seam_memory_blocks *blocks, uint32_t copies);
/* The same of a backend that is there, the CPU's to the byte: weight_own_bytes is asked. */
uint64_t seam_memory_plan_packed(const seam_memory_blocks *blocks);

#endif
