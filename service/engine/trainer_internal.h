/* What trainer.c and train_step.c share. */
#ifndef SEAM_TRAINER_INTERNAL_H
#define SEAM_TRAINER_INTERNAL_H

#include "storage.h"
#include "trainer.h"

struct seam_trainer {
    const seam_session_config *config;
    const seam_ops *ops;
    seam_backend *backend;
    seam_arena arena; /* everything below that points to host memory of its own */
    seam_adapter *adapter;
    seam_activations *acts;
    seam_site *site_in, *site_out; /* forward sites 0 and 1 */
    seam_coder *coders[SEAM_SITE_COUNT];
    seam_storage caches[SEAM_SITE_COUNT]; /* of codecs that have one */
    uint32_t channels;
    uint32_t width_count; /* P: widths of an allocation; C, but of codec amaq_token */
    bool by_token;        /* site 1 has codec amaq_token, site 0 too if it has gates */
    void *x;              /* (T, C) acc, device: the residual stream, then its gradient */

    seam_staging in;
    seam_micro micro;
    seam_reply forward_reply, backward_reply;

    uint32_t *seq_begin, *positions; /* (S + 1), (T) of the micro-batch */
    float *rows;                     /* (T, C): what was decoded or comes from the device */
    float *packed;                   /* (T, C): rows of sites 1 and 2 */
    float *out_x, *out_decoded;      /* (T, C), exact signal only: site 1 before, after its codec */
    float *steps_in, *steps_out;     /* (C) or by token (T), gates only: D of sites 0 and 1 */
    float *db_out;                   /* (P), site 1 over the step: gate gradient, or sum of g^2 */
    float *spans_out;                /* (C), waterfill: site 1's sum of hi - lo over the step */
    float *sums, *signal;            /* (P) each, gates only */
    uint8_t *widths;                 /* (P), gates only */
    uint32_t *gates_in, *gates_out;  /* (T) each, by token: the gate of a row of sites 0 and 1 */
    uint32_t *counts_out;            /* (P), by token: site 1's rows of each gate over the step */
    float *weights_out;              /* (P), by token: shares of the last step's counts */

    seam_budget budget, budget_next; /* in force; next one when next.effective_step is set */
    bool has_budget_next;
    uint64_t state_hash;
    double compute_seconds, codec_seconds; /* of the step so far; codec is part of compute */
};

#endif
