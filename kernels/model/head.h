/* Token embedding, final norm and LM head: what a U-shaped client computes.
 *
 * The head runs in chunks of ops->head_rows rows, so that at most that many x V logits exist.  It
 * owns that scratch: one thread at a time may use a head. */
#ifndef SEAM_HEAD_H
#define SEAM_HEAD_H

#include "model_config.h"
#include "ops.h"
#include "weights.h"

#define SEAM_HEAD_CHUNK_ROWS 128 /* at most, where the logits themselves go to the host */

typedef struct seam_head seam_head;

/* Reads only embedding, final norm and (if not tied) lm_head from the file. */
seam_status seam_head_create(seam_head **ret_head, seam_backend *backend,
                             const seam_weights *weights, seam_error *err);
void seam_head_destroy(seam_head *gift_head);
const seam_model_config *seam_head_config(const seam_head *head);
size_t seam_head_bytes(const seam_head *head);

/* What a head takes of the device, before there is one. */
typedef struct seam_head_plan {
    uint64_t table, matrix; /* embedding; norm and LM head, a copy each direction's */
    uint64_t scratch;       /* of a chunk: logits, mostly */
} seam_head_plan;
/* Of ops acc, act and head_rows are read, and weight_own_bytes is asked, as for a matrix in both
 * directions.  bf16_table: every value of the embedding is one of bf16. */
void seam_head_plan_make(seam_head_plan *ret_plan, const seam_model_config *config,
                         const seam_ops *ops, bool bf16_table);

/* x (T, C) acc = embedding rows.  SEAM_E_ARG for an id outside the vocabulary. */
seam_status seam_head_embed(const seam_head *head, seam_stream *stream, void *x,
                            const uint32_t *ids, uint32_t rows);
/* The table stands in bf16: products read that (ops->act), or every value of the file is one. */
bool seam_head_embeds_bf16(const seam_head *head);
/* The same rows as they stand; x (T, C) bf16. */
seam_status seam_head_embed_bf16(const seam_head *head, seam_stream *stream, void *x,
                                 const uint32_t *ids, uint32_t rows);

/* Cross-entropy of labelled rows.  x (rows, C) acc: blocks' output at the labelled rows;
 * targets (rows).  *ret_loss_sum: sum of the rows' losses in nats, double, fixed order.
 * dx (rows, C) acc: grad_scale * d(loss sum)/dx (grad_scale = 1/N_lab); NULL: evaluation.
 * SEAM_E_ARG for a target outside the vocabulary.
 * argmax (rows): most likely token (lowest id on ties); may be NULL. */
seam_status seam_head_loss(double *ret_loss_sum, void *dx, uint32_t *argmax, const seam_head *head,
                           seam_stream *stream, const void *x, const uint32_t *targets,
                           uint32_t rows, float grad_scale);

/* Of each row apart, without gradient: ret_losses (rows) in nats, argmax (rows).  The same errors.
 */
seam_status seam_head_row_losses(double *ret_losses, uint32_t *ret_argmax, const seam_head *head,
                                 seam_stream *stream, const void *x, const uint32_t *targets,
                                 uint32_t rows);

/* logits (rows, V) f32 on the host; rows <= SEAM_HEAD_CHUNK_ROWS. */
seam_status seam_head_logits(float *ret_logits, const seam_head *head, seam_stream *stream,
                             const void *x, uint32_t rows);

#endif
