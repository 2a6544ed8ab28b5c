/* What trainer.c, trainer_device.c, train_step.c, step_apply.c and layer_gates.c share. */
#ifndef SEAM_TRAINER_INTERNAL_H
#define SEAM_TRAINER_INTERNAL_H

#include "cache_keeper.h"
#include "exchange.h"
#include "layer_gates.h"
#include "prefix_quantizer.h"
#include "storage.h"
#include "trainer.h"

/* Of a backend with a codec of its own (else all NULL), rows of sites whose codec it has stay on
 * the device.  Arrays are the device's, but where "host" is said. */
typedef struct trainer_device {
    seam_coder_space *space;              /* of all sites' coders */
    uint32_t *firsts, *origins;           /* (T): seam_row_sources_places of the micro-batch */
    double *sums;                         /* (C) */
    uint32_t *wanted_host;                /* (T), host */
    uint32_t *firsts_host, *origins_host; /* (T), host */
    double *sums_host;                    /* (C), host */
} trainer_device;

/* A micro-batch between its forward tensor and its gradient: with a pipeline there are several. */
typedef struct trainer_slot {
    seam_micro micro;
    seam_reply forward_reply;
    float *out_x, *out_decoded;     /* (T, C), exact signal only: site 1 before, after its codec */
    float *steps_in, *steps_out;    /* (C) or by token (T), gates only: D of sites 0 and 1 */
    uint32_t *gates_in, *gates_out; /* (T) each, by token: the gate of a row of sites 0 and 1 */
    float *layer_steps; /* (K, C), all-layer mode with the surrogate: D of every boundary */
    /* Of the device, where rows stay there: the labelled rows; each row, or none where it has no
     * label; and the first two above. */
    uint32_t *labelled, *wanted;      /* (T) */
    uint32_t *inner;                  /* (T), all-layer mode: rows that boundaries quantize */
    float *device_x, *device_decoded; /* (T, C), exact signal only */
} trainer_slot;

struct seam_trainer {
    const seam_session_config *config;
    seam_optimizer_config optimizer; /* of the job's step */
    const seam_ops *ops;
    seam_backend *backend;
    seam_arena arena;    /* everything below that points to host memory of its own */
    seam_blocks *blocks; /* the session's, of the model's */
    /* Where only the client trains it stays at its start, and nothing runs with it. */
    seam_adapter *adapter;
    seam_site *site_in, *site_out; /* forward sites 0 and 1 */
    seam_coder *coders[SEAM_SITE_COUNT];
    seam_storage caches[SEAM_SITE_COUNT]; /* of codecs that have one */
    seam_cache_keeper *keeper;            /* of them; NULL: nothing is kept */
    uint32_t channels;
    uint32_t width_count; /* P: widths of an allocation; C, but of codec amaq_token */
    bool by_token;        /* site 1 has codec amaq_token, site 0 too if it has gates */
    void *x;              /* (T, C) acc, device: the residual stream, then its gradient */
    trainer_device device;

    /* What is on its way; `at`, `in` and `answer` are of the job. */
    uint32_t depth, staging_count, answer_count;
    trainer_slot slots[SEAM_PIPELINE_DEPTH_MAX], *at;
    /* Of the first slots, as many as the config's slots_kept says: micro-batch m has those of
     * m modulo that, while its replies stay in slot m % depth. */
    seam_activations *slot_acts[SEAM_PIPELINE_DEPTH_MAX], *acts;
    uint32_t slot_acts_count;
    seam_staging stagings[SEAM_STAGING_MAX], *in;
    seam_reply answers[2], *answer; /* to backward tensors */
    seam_micro coming;              /* of the tensor that is being received */

    uint32_t *seq_begin, *positions; /* (S + 1), (T) of the micro-batch */
    seam_draw draw;                  /* of the micro-batch */
    float *rows;                     /* (T, C): what was decoded or comes from the device */
    float *packed;                   /* (T, C): rows of sites 1 and 2 */
    float *db_out;                   /* (P), site 1 over the step: gate gradient, or sum of g^2 */
    float *spans_out;                /* (C), waterfill: site 1's sum of hi - lo over the step */
    float *sums, *signal;            /* (P) each, gates only */
    uint8_t *widths;                 /* (P), gates only */
    uint64_t rows_out;               /* waterfill: rows behind db_out */
    uint32_t *counts_out;            /* (P), by token: site 1's rows of each gate over the step */
    float *weights_out;              /* (P), by token: shares of the last step's counts */

    seam_budget budget, budget_next; /* in force; next one when next.effective_step is set */
    bool has_budget_next;
    uint64_t state_hash;
    double compute_seconds, codec_seconds; /* of the step so far; codec is part of compute */

    /* One pass: (T, C) each, device, the labelled rows and their gradient; what the loss was. */
    void *y, *dy;
    uint32_t *likeliest; /* (T) */
    double loss_sum;
    uint64_t correct;
    trainer_exchange exchange;
    trainer_layers layers;
    seam_prefix_quantizer *prefix; /* of the adapter; NULL: passes read it as it is */
};

/* ---- trainer.c ---- */

/* Gradients of the step in flight go; caches stay as they are. */
seam_status seam_trainer_drop_step(seam_trainer *t, seam_stream *stream) SEAM_ON_GPU;

/* ---- train_step.c, for one_pass.c ---- */

/* Site 0's rows are in t->x; through the blocks; gradient rows in t->x back through them, and the
 * answer if there is one into t->answer. */
seam_status seam_trainer_input(seam_trainer *t, seam_stream *stream, seam_error *err) SEAM_ON_GPU;
seam_status seam_trainer_blocks(seam_trainer *t, seam_stream *stream) SEAM_ON_GPU;
seam_status seam_trainer_gradient(seam_trainer *t, seam_stream *stream,
                                  seam_error *err) SEAM_ON_GPU;
/* t->rows to t->x, and back. */
seam_status seam_trainer_to_device(seam_trainer *t, seam_stream *stream) SEAM_ON_GPU;
seam_status seam_trainer_from_device(seam_trainer *t, seam_stream *stream) SEAM_ON_GPU;
/* A phase of the timeline is over. */
seam_status seam_trainer_phase_end(const seam_trainer *t, const char *name, uint64_t begin_ns,
                                   seam_stream *stream) SEAM_ON_GPU;

/* ---- one_pass.c ---- */

/* What the loss adds to a reply. */
size_t seam_one_pass_reply_bytes(void);
/* Nothing of other topologies. */
void seam_one_pass_plan(seam_memory_plan *plan, const seam_trainer *t);
seam_status seam_one_pass_create(seam_trainer *t);
void seam_one_pass_destroy(seam_trainer *t);
/* All of a micro-batch but the step's end. */
seam_status seam_one_pass_run(seam_trainer *t, seam_stream *stream, seam_error *err) SEAM_ON_GPU;

/* ---- exchange.c ---- */

/* The message's parameters into the adapter, the embeddings of its tokens to t->x.  SEAM_E_ARG: a
 * token. */
seam_status seam_exchange_input(seam_trainer *t, seam_stream *stream, seam_error *err) SEAM_ON_GPU;
seam_status seam_exchange_gradients(seam_trainer *t, seam_stream *stream,
                                    seam_error *err) SEAM_ON_GPU;
/* As seam_adapter_step, of the gradients that were sent. */
seam_status seam_exchange_step(double *ret_norm, uint64_t *state_hash, seam_trainer *t,
                               seam_stream *stream) SEAM_ON_GPU;

/* ---- step_apply.c ---- */

/* Has site 1 an allocator? */
bool seam_trainer_has_gates_out(const seam_trainer *t);
/* The allocation of a forward site in this step; NULL for f32 and bf16.  SEAM_E_STATE. */
seam_status seam_trainer_alloc(const seam_alloc **ret_alloc, seam_site *site, uint64_t step,
                               seam_error *err);
/* The step's end.  A gradient that is not finite is skipped by rule: nothing moves, the gates
 * neither.  client_squares: the client's share of the squared norm. */
seam_status seam_trainer_apply(seam_step_result *ret, seam_trainer *t, double client_squares,
                               seam_stream *stream) SEAM_ON_GPU;

/* ---- trainer_device.c ---- */

/* Host arrays, as views; nothing where the backend has no codec. */
void seam_trainer_device_carve(seam_trainer *t, seam_arena *arena);
void seam_trainer_device_plan(seam_memory_plan *plan, const seam_trainer *t);
/* The space first: coders are made with it. */
seam_status seam_trainer_device_create(seam_trainer *t);
void seam_trainer_device_destroy(seam_trainer *t); /* after the coders */

/* Do rows of this site stay on the device? */
bool seam_trainer_on_device(const seam_trainer *t, uint16_t site);
/* Where they are; valid for the micro-batch after device_begin. */
seam_coder_place seam_trainer_place(const seam_trainer *t, uint16_t site, seam_stream *stream);
/* The micro-batch's row lists to the device. */
seam_status seam_trainer_device_begin(seam_trainer *t, seam_stream *stream) SEAM_ON_GPU;
/* After the distinct rows of site 0 have been decoded to where they first appear: the others. */
seam_status seam_trainer_device_spread(seam_trainer *t, seam_stream *stream) SEAM_ON_GPU;
/* Exact signal: site 1's rows are kept. */
seam_status seam_trainer_device_keep(seam_trainer *t, seam_stream *stream) SEAM_ON_GPU;
/* As seam_gates_add_squares, over site 2's rows in t->x, or over all rows of it; and _add_exact. */
seam_status seam_trainer_device_squares(float *ret_sums, seam_trainer *t, bool labelled_only,
                                        seam_stream *stream) SEAM_ON_GPU;
seam_status seam_trainer_device_exact(float *ret_db, seam_trainer *t, const uint8_t *widths,
                                      seam_stream *stream) SEAM_ON_GPU;

#endif
