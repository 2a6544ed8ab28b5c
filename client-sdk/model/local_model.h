/* Internal to model/: the model's share on this machine, with buffers that grow to the largest
 * batch seen.
 *
 *   local_model.c    open, describe, buffers, embedding      score.c     of batches, of tokens
 *   split_trainer.c  a training step                         generate.c  tokens */
#ifndef SEAM_LOCAL_MODEL_H
#define SEAM_LOCAL_MODEL_H

#include "head.h"
#include "ops.h"
#include "seam_model.h"

#define SEAM_HEAD_ROWS_MAX (1u << 20)

struct seam_model {
    seam_backend *backend;
    const seam_ops *ops;
    seam_stream *stream;
    seam_head *head;
    uint32_t hidden, vocab;
    /* On the device, acc: rows of embeddings, of the blocks' output, of its gradient. */
    void *x, *y, *dy;
    /* On the host. */
    float *host_x, *host_y, *host_dy;
    uint16_t *host_x16; /* NULL: the embedding is no bf16 */
    uint32_t *argmax;
    size_t rows_capacity;
};

/* All buffers hold at least `rows` rows.  SEAM_E_MEMORY. */
seam_status seam_model_reserve(seam_model *model, uint32_t rows, seam_error *err);
/* model->host_x (rows, C) = embeddings of ids. */
seam_status seam_model_embed(seam_model *model, const uint32_t *ids, uint32_t rows,
                             seam_error *err);
/* model->host_x16 (rows, C) = the same in bf16, as the table has them. */
seam_status seam_model_embed_bf16(seam_model *model, const uint32_t *ids, uint32_t rows,
                                  seam_error *err);
/* Loss of model->host_y (rows, C), gradient into model->host_dy (if wanted), model->argmax. */
typedef struct seam_head_pass {
    const uint32_t *targets; /* (rows) */
    uint32_t rows;
    float grad_scale;
    bool gradient;
} seam_head_pass;
seam_status seam_model_head(double *ret_loss_sum, seam_model *model, const seam_head_pass *pass,
                            seam_error *err);
/* Rows of a batch, and how many are labelled; the arrays are checked.  SEAM_E_ARG. */
seam_status seam_batch_count(uint32_t *ret_rows, uint32_t *ret_labelled,
                             const seam_token_batch *batch, const seam_model *model,
                             seam_error *err);
/* The same of a batch whose targets nobody asks for. */
seam_status seam_batch_count_rows(uint32_t *ret_rows, uint32_t *ret_labelled,
                                  const seam_token_batch *batch, const seam_model *model,
                                  seam_error *err);

#endif
