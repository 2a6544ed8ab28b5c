/* Internal to model/: the blocks that are on this machine, in front of the server's and behind
 * them, and rows through them.  The math is kernels/model's; rows come and go as f32 on the host,
 * where the wire's end is. */
#ifndef SEAM_CLIENT_BLOCKS_H
#define SEAM_CLIENT_BLOCKS_H

#include "local_model.h"

/* Rows of a batch through one stretch of blocks. */
typedef struct seam_client_pass {
    const seam_blocks *blocks;
    seam_adapter *adapter; /* NULL: the base model */
    seam_activations *acts;
    const seam_token_batch *batch;
    uint32_t rows;         /* T */
    const seam_draw *draw; /* training; else NULL */
} seam_client_pass;
/* rows (T, C), in place; the model's buffers have been reserved for T. */
seam_status seam_client_forward(seam_model *model, float *rows, const seam_client_pass *pass,
                                seam_error *err);
/* Gradient of the output in, of the input out; skip: what stands there is unspecified. */
seam_status seam_client_backward(seam_model *model, float *d_rows, const seam_client_pass *pass,
                                 bool skip_input_gradient, seam_error *err);

/* The same without a gradient to come, through the front or the tail, with the trainer's adapter if
 * there is one.  Nothing where the model has no such blocks. */
typedef struct seam_client_look {
    bool is_tail, base_model;
    const seam_token_batch *batch;
    uint32_t rows;
} seam_client_look;
seam_status seam_client_infer(seam_model *model, float *rows, const seam_client_look *look,
                              seam_error *err);

/* With tail blocks the rows that come back are those of each sequence up to its last labelled one:
 * their count, a bit for each, and from all T rows to those and back, the others zero.  May not
 * overlap. */
uint32_t seam_tail_rows(const seam_token_batch *batch);
void seam_tail_rows_mark(uint8_t *ret_bitmap, const seam_token_batch *batch);
void seam_tail_rows_pick(float *ret_rows, const float *all, const seam_token_batch *batch,
                         uint32_t channels);
void seam_tail_rows_spread(float *ret_all, const float *rows, const seam_token_batch *batch,
                           uint32_t channels);

#endif
