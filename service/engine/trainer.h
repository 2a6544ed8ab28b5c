/* The training half of a session: adapter, activations, both sites, and one micro-batch through
 * them.  Its functions are what the engine runs; service/session decides when.
 *
 *   forward:  decode site 0 -> blocks forward -> gather labelled rows -> encode site 1
 *   backward: decode site 2 -> scatter -> gate gradient of site 1 -> blocks backward
 *             -> site 3 or gate signal of site 0 -> after the last micro-batch: apply
 *   apply:    optimizer step, gates of site 1 step, proposal of new widths
 *   between the blocks, in all-layer mode: layer_gates.h
 *
 * Topologies whose loss is here have no backward tensor: one_pass.c.
 *
 * With a pipeline of depth D a micro-batch m has the slot m % D from its forward tensor to its
 * gradient: layout, activations, the reply; a tensor waits for its turn in one of a few stagings.
 *
 * All memory is planned and taken at creation; nothing below allocates afterwards.  While a job
 * runs, the loop may fill stagings that the job has not, look at allocations (the last job of a
 * step moves them, when no tensor of it is left to come) and read replies to other micro-batches.
 */
#ifndef SEAM_TRAINER_H
#define SEAM_TRAINER_H

#include "cache_keeper.h"
#include "engine.h"
#include "gate_group.h"
#include "memory_plan.h"
#include "session_config.h"
#include "step_key.h"
#include "tensor_code.h"

#define SEAM_STAGING_MAX 3 /* with a pipeline: at work, waiting, arriving; else one */

/* A tensor as it arrives, in staging memory. */
typedef struct seam_staging {
    uint8_t *bytes;
    size_t capacity_bytes; /* one tensor and one more message */
    size_t used_bytes;
    seam_chunk *chunks;
    uint32_t chunks_max, chunk_count;
} seam_staging;

/* What StepBegin says about the micro-batch at work. */
typedef struct seam_micro {
    uint64_t step, labelled_total; /* N_lab of the step */
    uint32_t micro, micro_count;
    seam_micro_layout layout;
    /* Rows of sites 1 and 2 that ranges are taken over and gradients come from: the labelled ones;
     * with tail blocks at the client those up to each sequence's last labelled one. */
    const uint8_t *bitmap;  /* LSB first */
    uint8_t *bitmap_memory; /* with tail blocks: where it stands */
    uint32_t *out_rows;     /* (rows_max), out_count used */
    uint32_t out_count;
    uint32_t *sequence_out; /* (sequences_max): of each sequence */
} seam_micro;

/* The arbiter's wishes for the gates: stream.proto's Budget. */
typedef struct seam_budget {
    uint64_t effective_step;
    bool bits_loss_active;
    float width_shift, beta, bits_lr;
    uint32_t bits_total; /* waterfill; 0: none yet */
} seam_budget;

/* What a step did, for Commit. */
typedef struct seam_step_result {
    uint64_t state_hash;
    double grad_norm, lr, compute_seconds, codec_seconds;
    float clip_factor;
    bool skipped;
    uint32_t gate_bits_total; /* 0: no gates; waterfill: of the newest widths */
    double gate_pull;         /* gates: sum_c |dL/db_c| of site 1 */
    double cost_sum;          /* waterfill: seam_waterfill_sum of site 1 */
    uint32_t cost_channels;
    const seam_alloc *proposal;     /* of site 1, or NULL */
    const seam_gate_report *layers; /* (layer_count), valid as the proposal */
    uint32_t layer_count;
    const seam_gate_report *prefix; /* (prefix_count), likewise: of keys and values */
    uint32_t prefix_count;
} seam_step_result;

typedef struct seam_trainer seam_trainer;

/* Adds what a session of this configuration takes.  SEAM_E_LIMIT: not addressable. */
seam_status seam_trainer_plan(seam_memory_plan *plan, const seam_session_config *config);
/* config is borrowed and must outlive the trainer. */
seam_status seam_trainer_create(seam_trainer **ret_trainer, const seam_session_config *config,
                                seam_stream *stream, seam_error *err) SEAM_ON_GPU;
/* Lets go of the activations that config->slots_kept is below; false: of none. */
bool seam_trainer_trim(seam_trainer *trainer) SEAM_ON_GPU;
/* Frees memory only: any thread, when no job of the session runs. */
void seam_trainer_destroy(seam_trainer *gift_trainer);

/* ---- shared with the loop ---- */
uint32_t seam_trainer_staging_count(const seam_trainer *trainer);
seam_staging *seam_trainer_staging(seam_trainer *trainer, uint32_t idx);
/* Layout of the tensor that is being received. */
seam_micro *seam_trainer_coming(seam_trainer *trainer);
/* While no job runs: the next one is about this micro-batch, its tensor in this staging. */
void seam_trainer_select(seam_trainer *trainer, uint32_t micro, uint32_t staging_idx);
/* Likewise: its step goes by this optimizer; the config's, where nobody says. */
void seam_trainer_set_optimizer(seam_trainer *trainer, const seam_optimizer_config *optimizer);
/* Of the selected micro-batch: filled before its forward job. */
seam_micro *seam_trainer_micro(seam_trainer *trainer);
seam_reply *seam_trainer_forward_reply(seam_trainer *trainer, uint32_t micro);
seam_reply *seam_trainer_backward_reply(seam_trainer *trainer, uint32_t micro);
/* While no job runs: nothing of any reply is left. */
void seam_trainer_drop_replies(seam_trainer *trainer);
seam_site *seam_trainer_site(seam_trainer *trainer, uint16_t forward_site);
seam_adapter *seam_trainer_adapter(seam_trainer *trainer);
/* What a message of ADAPTER_EXCHANGE is received by; off in other topologies. */
const struct trainer_exchange *seam_trainer_exchange(const seam_trainer *trainer);
/* What runs with it: NULL where only the client trains. */
seam_adapter *seam_trainer_adapter_used(const seam_trainer *trainer);
const seam_blocks *seam_trainer_layers(const seam_trainer *trainer);
uint64_t seam_trainer_state_hash(const seam_trainer *trainer);
/* Rows of the tensors of sites 1 and 2 in this micro-batch. */
uint32_t seam_trainer_rows_out(const seam_trainer *trainer, const seam_micro *micro);
/* A Budget arrived.  One for a step that is over is a repetition and changes nothing.
 * SEAM_E_STATE: an earlier one is not in force yet. */
seam_status seam_trainer_set_budget(seam_trainer *trainer, const seam_budget *budget,
                                    uint64_t step_now, seam_error *err);

/* ---- jobs ---- */
seam_status seam_trainer_forward(seam_trainer *trainer, seam_stream *stream,
                                 seam_error *err) SEAM_ON_GPU;
/* *ret_result is written after the last micro-batch only, where the client does not train. */
seam_status seam_trainer_backward(seam_step_result *ret_result, seam_trainer *trainer,
                                  seam_stream *stream, seam_error *err) SEAM_ON_GPU;
/* Where it does: the client's share of the norm is in the selected staging, and the step ends.  The
 * last micro-batch is the selected one. */
seam_status seam_trainer_norm(seam_step_result *ret_result, seam_trainer *trainer,
                              seam_stream *stream) SEAM_ON_GPU;
/* One pass: forward and backward in one, the answer is the forward reply. */
seam_status seam_trainer_pass(seam_step_result *ret_result, seam_trainer *trainer,
                              seam_stream *stream, seam_error *err) SEAM_ON_GPU;
/* Drop gradients of the step in flight; nothing of it has been applied.  Caches that are kept go
 * back to the step before, else that of site 1 is forgotten: its samples travel whole again.
 * SEAM_E_DATA_LOSS: they cannot, and every later forward tensor says so until a checkpoint is
 * loaded. */
seam_status seam_trainer_abort_step(seam_trainer *trainer, seam_stream *stream) SEAM_ON_GPU;
/* Caches of its codecs are kept in a folder from now on (kernels/codec/cache_keeper.h), as those of
 * `owner`; nothing where it has none.  Their place is in its state: trainer_state.h.
 * SEAM_E_MEMORY, SEAM_E_LIMIT. */
seam_status seam_trainer_keep_caches(seam_trainer *trainer, const char *folder, uint64_t owner,
                                     seam_error *err) SEAM_ON_GPU;
/* Who keeps them, or NULL. */
seam_cache_keeper *seam_trainer_keeper(const seam_trainer *trainer);
/* The adapter was changed from outside (import): new state hash, and what goes by its values. */
seam_status seam_trainer_refresh(seam_trainer *trainer, seam_stream *stream) SEAM_ON_GPU;

#endif
