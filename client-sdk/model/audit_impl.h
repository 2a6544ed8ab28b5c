/* Internal to audit*.c: what an audit is. */
#ifndef SEAM_AUDIT_IMPL_H
#define SEAM_AUDIT_IMPL_H

#include "audit.h"
#include "audit_attack.h"
#include "local_model.h"

struct seam_audit {
    seam_model *model;
    seam_backend *backend; /* of the searches: f32 */
    seam_weights *weights; /* the public model's files */
    bool (*is_stopped)(void);
    const seam_token_batch *micros;
    uint32_t micro_count;
    /* Of all micro-batches, one after another. */
    uint32_t row_begin[SEAM_AUDIT_MICROS_MAX + 1], label_begin[SEAM_AUDIT_MICROS_MAX + 1];
    bool has_inputs, has_gradients; /* they were shown */
    float *x;                       /* (T, C) fwd_in */
    float *y;                /* (T, C) fwd_out: of labelled rows (L, C), with tail blocks of all */
    float *dy;               /* (L, C) bwd_out */
    uint32_t *guesses, *ids; /* (T, GUESSES); (T or a piece) */
    uint32_t *pairs, *lengths; /* (2 ids), (ids): sequences of one token or two */
    bool has_lead;
    uint32_t lead;       /* the first of two */
    float *kept;         /* (V, C) of front_read; NULL: it is too large */
    uint32_t kept_count; /* of its rows, from 0 */
    float *norm;         /* (C) of the final norm */
    float *head;         /* (V, C), while labels are searched for; NULL: tied */
    uint32_t *counts;    /* (V) scratch */
};

bool seam_audit_is_labelled(const seam_token_batch *batch, uint32_t row);
/* Of the step's labelled rows, in order. */
uint32_t seam_audit_target(const seam_audit *audit, uint32_t label);
/* guesses (SEAM_AUDIT_GUESSES) of one token. */
void seam_audit_share_add(seam_audit_share *share, const uint32_t *guesses, uint32_t truth);

/* audit_inputs.c: the guesses stay in audit->guesses. */
seam_status seam_audit_inputs(seam_audit_report *report, seam_audit *audit, seam_error *err);
/* A table of the whole vocabulary; rows of the embedding as one. */
typedef seam_status seam_audit_read_fn(float *ret_rows, void *user, uint32_t begin, uint32_t count,
                                       seam_error *err);
seam_audit_table seam_audit_table_of(seam_audit *audit, seam_audit_read_fn *read);
seam_audit_read_fn seam_audit_embedding_read;

/* audit_labels.c: what the guesses of inputs say of labels; then, in their place, the gradients. */
void seam_audit_labels_by_inputs(seam_audit_report *report, const seam_audit *audit);
seam_status seam_audit_labels(seam_audit_report *report, seam_audit *audit, seam_error *err);

#endif
