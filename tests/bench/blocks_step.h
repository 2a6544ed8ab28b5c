/* Forward and backward of one micro-batch through frozen random weights and LoRA at the shape of a
 * served model: what bench_blocks times and search_products judges algorithms by.  Whatever fails
 * ends the program.  Any thread, but always the same. */
#ifndef SEAM_BLOCKS_STEP_H
#define SEAM_BLOCKS_STEP_H

#include "blocks.h"

#define BLOCKS_SEQS_MAX 4096u

typedef struct blocks_step {
    seam_backend *backend; /* these three by the caller, open and close leave them alone */
    const seam_ops *ops;
    seam_stream *stream;
    seam_model_config config; /* blocks_step_shape's; layers may be changed before open */
    seam_adapter_config lora;
    bool recompute, fp8; /* of the works that are opened */
    seam_blocks *blocks;
    seam_adapter *adapter;
} blocks_step;

/* false: no such shape. */
bool blocks_step_shape(blocks_step *s, const char *name);
/* Makes blocks and adapter. */
void blocks_step_open(blocks_step *s);
void blocks_step_close(blocks_step *s);
/* Weights of the products of all blocks. */
double blocks_step_weights(const blocks_step *s);
/* A layer's matrix: 0 q|k|v, 1 o, 2 gate|up, 3 down. */
seam_weight *blocks_step_matrix(const blocks_step *s, uint32_t layer, uint32_t which);

typedef struct blocks_work {
    uint32_t seqs, length;
    uint32_t seq_begin[BLOCKS_SEQS_MAX + 1], *positions;
    seam_activations *acts;
    void *x_given, *dx_given; /* (T, C) act */
    void *x;                  /* (T, C) acc */
    seam_batch batch;
} blocks_work;

seam_activations_options blocks_work_options(const blocks_step *s, uint32_t seqs, uint32_t length);
void blocks_work_open(blocks_work *w, const blocks_step *s, uint32_t seqs, uint32_t length);
void blocks_work_close(blocks_work *w, const blocks_step *s);
/* A step between two waits for the stream.  ret_queued: until all of it is queued. */
double blocks_work_seconds(double *ret_queued, const blocks_step *s, blocks_work *w);
/* A finite gradient shows that the step has computed something. */
void blocks_work_check(const blocks_step *s, const blocks_work *w);

void *blocks_rows_take(const blocks_step *s, uint32_t rows, seam_dtype type);
/* (rows, hidden) act on the device, by way of x. */
void *blocks_rows_random(const blocks_step *s, void *x, uint32_t rows, float scale, uint32_t seed);
/* `count` numbers in (-scale, scale) that differ with `seed`. */
void blocks_random(float *ret, size_t count, float scale, uint32_t seed);
double blocks_now_seconds(void);
void blocks_must(seam_status st, const char *what, const seam_error *err);

#endif
