/* A quantized prefix (SPEC 3.5, WIRE.md 4.3): training passes attend to what a receiver of the
 * prefix's amaq tensor would see, with one gate a feature of a key and one a feature of a value,
 * shared by all layers of the blocks.  Nothing of it travels, and backward goes straight through.
 *
 * The master parameters stay as they are: they are what the optimizer steps, what is exported and
 * what generation reads.  They change at a step's end only, so that one round trip a step serves
 * all its micro-batches, and the gates' gradient is formed once, from the step's own gradient of
 * the prefix: linear in it (exact), or its Fisher information (surrogate), as that of an adapter
 * exchange (kernels/codec/module_signal.h).
 *
 * A step: passes with seam_batch.prefix = seam_prefix_quantizer_values, then _signal, the
 * optimizer, _apply.  No allocation after create.  Read next: kernels/codec/gate_group.h. */
#ifndef SEAM_PREFIX_QUANTIZER_H
#define SEAM_PREFIX_QUANTIZER_H

#include "blocks.h"
#include "gate_group.h"
#include "memory_plan.h"

/* Vectors of gates: of keys, then of values; the sites of their reports (WIRE.md 1). */
#define SEAM_PREFIX_GATES 2u
enum { SEAM_SITE_PREFIX_KEYS = 10, SEAM_SITE_PREFIX_VALUES = 11 };

typedef struct seam_prefix_quantizer_config {
    seam_gates_config gates;
    float bits_target;
    uint64_t steps_to_target;
    bool exact; /* the gates' gradient; else the surrogate */
} seam_prefix_quantizer_config;

typedef struct seam_prefix_quantizer seam_prefix_quantizer;

/* Adds what create takes.  on_device: the backend has a codec of its own, as blocks->ops tells, or
 * would have one. */
void seam_prefix_quantizer_plan(seam_memory_plan *plan, const seam_memory_blocks *blocks,
                                const seam_prefix_config *prefix, bool exact, bool on_device);
/* Of an adapter that is a prefix (asserted, and that acc is f32), borrowed; its values are those of
 * the first _refresh.  SEAM_E_MEMORY, SEAM_E_LIMIT. */
seam_status seam_prefix_quantizer_create(seam_prefix_quantizer **ret_quantizer,
                                         const seam_adapter *adapter,
                                         const seam_prefix_quantizer_config *config);
void seam_prefix_quantizer_destroy(seam_prefix_quantizer *gift_quantizer);

/* On the device, laid out as the adapter's parameters; the pointer stays. */
const void *seam_prefix_quantizer_values(const seam_prefix_quantizer *quantizer);
/* The adapter or the widths have changed.  SEAM_E_NONFINITE: a parameter that no codec takes. */
seam_status seam_prefix_quantizer_refresh(seam_prefix_quantizer *quantizer, seam_stream *stream);
/* dL/db of the step, from the gradient that its passes have accumulated; before the optimizer. */
seam_status seam_prefix_quantizer_signal(seam_prefix_quantizer *quantizer, seam_stream *stream,
                                         uint32_t labelled_rows);
/* Gates move (but of a skipped step) and the values are those of what the optimizer has left.
 * Errors as _refresh. */
seam_status seam_prefix_quantizer_apply(seam_prefix_quantizer *quantizer, seam_stream *stream,
                                        uint64_t step, bool skipped);

/* Gates, widths and reports: read; a test may set gates and load what it saved. */
seam_gate_group *seam_prefix_quantizer_group(seam_prefix_quantizer *quantizer);
/* Bytes of the group's state, before there is one. */
size_t seam_prefix_quantizer_state_bytes(const seam_model_config *model);

#endif
