/* Internal to model/: the model's share on this machine, with buffers that grow to the largest
 * batch seen.
 *
 *   local_model.c    open, describe, buffers, embedding      score.c     of batches, of tokens
 *   split_trainer.c  a training step                         generate.c  tokens
 *   client_blocks.c  blocks that are on this machine         own_adapters.c  adapters in those
 *   split_adapter.c  the adapter of both ends as files
 *   client_plan.c    what all of it takes, before it is taken
 *   audit.c          what the operator sees of it            audit_attack.c  how it is read */
#ifndef SEAM_LOCAL_MODEL_H
#define SEAM_LOCAL_MODEL_H

#include "arena.h"
#include "blocks.h"
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
    seam_blocks *front, *tail; /* the model's first blocks and its last; NULL: none are here */
    seam_adapter *front_adapter, *tail_adapter; /* of the trainer (own_adapters.c), or NULL */
    /* Without a gradient to come; of front and tail, for so many rows. */
    seam_activations *look_acts[2];
    uint32_t look_rows[2];
    seam_arena host; /* what all of the host stand in */
    /* For the blocks: (rows_capacity + 1), (rows_capacity), and a bit a row. */
    uint32_t *seq_begin, *positions;
    uint8_t *bitmap;
    /* On the device, acc: rows of embeddings, of the blocks' output, of its gradient. */
    void *x, *y, *dy;
    /* On the host; host_all: all rows of a batch, where others travel. */
    float *host_x, *host_y, *host_dy, *host_all;
    uint16_t *host_x16; /* of a model that sends_bf16, else NULL */
    uint32_t *argmax;
    size_t rows_capacity;
};

/* All buffers hold at least `rows` rows.  SEAM_E_MEMORY. */
seam_status seam_model_reserve(seam_model *model, uint32_t rows, seam_error *err);
/* What they take then, on the device and on the host; bf16: of a model that sends_bf16. */
uint64_t seam_model_rows_bytes(uint32_t hidden, uint32_t rows, bool bf16);
/* model->host_x (rows, C) = embeddings of ids. */
seam_status seam_model_embed(seam_model *model, const uint32_t *ids, uint32_t rows,
                             seam_error *err);
/* The embedding stands in bf16, and no front block is between it and the wire. */
bool seam_model_sends_bf16(const seam_model *model);
/* model->host_x16 (rows, C) = the same in bf16, as the table has them; of a model that sends_bf16.
 */
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
/* Labelled rows of `rows` (T, C) to its front, in order. */
void seam_rows_labelled_pack(float *rows, const seam_token_batch *batch, uint32_t row_count,
                             uint32_t channels);
/* Rows of a batch, and how many are labelled; the arrays are checked.  SEAM_E_ARG. */
seam_status seam_batch_count(uint32_t *ret_rows, uint32_t *ret_labelled,
                             const seam_token_batch *batch, const seam_model *model,
                             seam_error *err);
/* The same of a batch whose targets nobody asks for. */
seam_status seam_batch_count_rows(uint32_t *ret_rows, uint32_t *ret_labelled,
                                  const seam_token_batch *batch, const seam_model *model,
                                  seam_error *err);

/* Are the inference's rows as wide as this model's?  SEAM_E_ARG: no. */
seam_status seam_model_fits(const seam_model *model, const seam_inference *inference,
                            seam_error *err);

/* The whole model's shape; borrowed. */
const seam_model_config *seam_model_config_of(const seam_model *model);

#endif
