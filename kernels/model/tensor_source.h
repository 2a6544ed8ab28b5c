/* Where the model code takes its frozen tensors from: a weight file, or a test's formula.
 *
 * seam_blocks_create and seam_head_create read a weight file (weights.h) through this; tests and
 * benches give tensors by formula, without a file. */
#ifndef SEAM_TENSOR_SOURCE_H
#define SEAM_TENSOR_SOURCE_H

#include <stdint.h>

#include "blocks.h"
#include "head.h"
#include "model_config.h"

/* Where a tensor lies in an open file, as plain values. */
typedef struct seam_tensor_place {
    const char *file; /* borrowed from the source, as is the descriptor */
    int fd;
    uint64_t offset;
    seam_raw_type type;
} seam_tensor_place;

typedef struct seam_tensor_source {
    const seam_model_config *config; /* borrowed until create returns */
    const void *context;
    /* The tensor `name`, (rows, cols) f32 row-major, into ret; the errors of seam_weights_read. */
    seam_status (*read)(float *ret, const void *context, const char *name, uint64_t rows,
                        uint64_t cols, seam_error *err);
    /* False: it must be read (a formula, blocks of a quantizer, permuted rows, another shape).
     * NULL: every tensor must. */
    bool (*find)(seam_tensor_place *ret, const void *context, const char *name, uint64_t rows,
                 uint64_t cols);
} seam_tensor_source;

/* The source that reads a weight file; borrows `weights`. */
seam_tensor_source seam_tensor_source_weights(const seam_weights *weights);

/* As seam_blocks_create and seam_head_create. */
seam_status seam_blocks_create_from(seam_blocks **ret_blocks, seam_backend *backend,
                                    const seam_tensor_source *source, uint32_t layer_begin,
                                    uint32_t layer_end, seam_error *err);
seam_status seam_head_create_from(seam_head **ret_head, seam_backend *backend,
                                  const seam_tensor_source *source, seam_error *err);

#endif
