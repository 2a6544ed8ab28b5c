/* All-layer mode (SPEC 3.4, WIRE.md 4.2): a quantizer with gates at every boundary between two
 * blocks of this server.  Nothing of it travels: x becomes what a receiver of its amaq tensor would
 * see, in place, and backward goes straight through.
 *
 * The first row of each sequence stays as it is, out of ranges and gate gradients: there models
 * have a few activations thousands of times larger than all others (Sun, Chen, Kolter, Liu,
 * "Massive activations in large language models", 2024; SmolLM2-135M: 23,750 beside 100), which
 * would leave the other rows of their channels no level.
 *
 * The server owns these gates and is their arbiter (kernels/codec/gate_group.h): one pace for their
 * mean, beside that of the wire's sites, and widths that are in force from the next step on.
 * Read next: kernels/model/blocks_forward.c, which calls the hook. */
#ifndef SEAM_LAYER_GATES_H
#define SEAM_LAYER_GATES_H

#include "gate_group.h"
#include "trainer.h"

/* Arrays are the host's, but where "device" is said; which of both sorts there are goes by where
 * the backend has its codec. */
typedef struct trainer_layers {
    uint32_t count; /* boundaries, K; 0: the mode is off, and there is nothing else here */
    seam_layer_hook hook;
    seam_gate_group group;
    float *sums; /* (C) */
    /* The host's codec. */
    uint8_t *ranges, *codes;
    void *scratch;
    float *kept; /* (K, T, C), exact signal: the rows before their codec */
    /* The device's. */
    uint32_t *begin;            /* (K, begin_stride) */
    uint8_t *head;              /* status and ranges of a boundary */
    uint32_t *inner;            /* (T), on its way to a slot's */
    double *device_sums;        /* (K, C), where they arrive */
    size_t begin_stride;        /* elements */
    size_t work_stride;         /* bytes */
    uint8_t *works;             /* device, K of them */
    uint32_t *plane_begin;      /* device, as begin */
    uint8_t *device_codes;      /* device */
    double *sums_made;          /* device (K, C) */
    float *rows_kept, *decoded; /* device (K, T, C), (T, C), exact signal */
} trainer_layers;

/* Host arrays, as views; nothing where the mode is off, as in all that follows. */
void seam_layers_carve(seam_trainer *t, seam_arena *arena);
void seam_layers_plan(seam_memory_plan *plan, const seam_trainer *t);
/* After the arena.  SEAM_E_MEMORY. */
seam_status seam_layers_create(seam_trainer *t, seam_stream *stream) SEAM_ON_GPU;
void seam_layers_destroy(seam_trainer *t); /* before the arena */

/* After the blocks' forward of the micro-batch.  SEAM_E_NONFINITE: a boundary had a value that no
 * codec takes. */
seam_status seam_layers_forward_end(seam_trainer *t, seam_stream *stream) SEAM_ON_GPU;
/* After their backward: what the micro-batch adds to the gate gradients. */
seam_status seam_layers_backward_end(seam_trainer *t, seam_stream *stream) SEAM_ON_GPU;
/* The step's end: gates and pace move, unless the step is skipped. */
seam_status seam_layers_apply(seam_step_result *result, seam_trainer *t,
                              seam_stream *stream) SEAM_ON_GPU;
/* From the state that seam_gate_group_save made of the group.  SEAM_E_FORMAT, SEAM_E_NONFINITE. */
seam_status seam_layers_load(seam_trainer *t, const uint8_t *bytes,
                             seam_stream *stream) SEAM_ON_GPU;

#endif
