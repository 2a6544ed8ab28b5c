/* A trainer's state as the bytes of a safetensors file, and back: everything that the next step's
 * bits depend on, taken between two steps (STATE_TENSORS below; gradients are zero there).
 *
 *   adapter.header U8       kernels/model/adapter_state.c; the tensors behind it are its body:
 *   param.<name>, m.<name>, v.<name>     master weights and AdamW's moments, PEFT's names
 *   site.0, site.1 U8       allocations, versions, bounds; site 1's gates with their moments, or
 *                           waterfill averages (kernels/codec/site.h)
 *   session U8              steps, rows served, budgets, shares of gates by token: trainer_state.c
 *   layers U8               in all-layer mode: pace and gates between the blocks
 *   prefix.gates U8         of a quantized prefix, likewise: kernels/codec/gate_group.h
 *   site.4 and on U8        ADAPTER_EXCHANGE: likewise of its modules' sites
 *   caches U8               with codec aqsgd: where their log stands (base/redo_log.h), which was
 *                           flushed before a checkpoint counts
 *
 * Rounding needs nothing: its counters are functions of seed, step and row.  Nor do the tables of
 * codec dictionary: a client that goes back begins an empty one, and the values are the same. */
#ifndef SEAM_TRAINER_STATE_H
#define SEAM_TRAINER_STATE_H

#include <stddef.h>

#include "trainer.h"

/* Beside what the trainer itself knows. */
typedef struct seam_trainer_mark {
    uint64_t step_count, row_count;
} seam_trainer_mark;

/* Bound of the file's size, before there is a trainer. */
seam_status seam_trainer_state_bytes_max(size_t *ret_bytes, const seam_session_config *config);

/* The whole file into ret (capacity as above); *ret_count of it are used.  SEAM_E_LIMIT,
 * SEAM_E_DEVICE_LOST; of caches SEAM_E_IO, SEAM_E_DATA_LOSS. */
seam_status seam_trainer_state_save(uint8_t *ret, size_t *ret_count, size_t capacity,
                                    seam_trainer *trainer, const seam_trainer_mark *mark,
                                    seam_stream *stream, seam_error *err) SEAM_ON_GPU;
/* SEAM_E_CHECKSUM: the log of its caches is damaged; nothing else was loaded.  SEAM_E_FORMAT,
 * SEAM_E_NONFINITE: not a state of this session's config; what comes after the first check may have
 * been loaded then, so the trainer is of no use any more. */
seam_status seam_trainer_state_load(seam_trainer *trainer, seam_trainer_mark *ret_mark,
                                    const uint8_t *bytes, size_t count, seam_stream *stream,
                                    seam_error *err) SEAM_ON_GPU;

#endif
