/* Weight files: safetensors (one file or sharded, with config.json) and GGUF, read by one API.
 *
 * Tensors are asked for by their Hugging Face names ("model.layers.3.self_attn.q_proj.weight");
 * the GGUF reader maps names and undoes the row permutation of q and k.  Files are mapped
 * read-only and stay open; every length, offset, type and count in them is checked before use, so a
 * truncated or lying file gives an error that names the file and the field.
 *
 * `path`: a directory with config.json and model.safetensors (or model.safetensors.index.json,
 * or exactly one *.safetensors), a directory with exactly one .gguf, or a .gguf file. */
#ifndef SEAM_WEIGHTS_H
#define SEAM_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dequantize.h"
#include "model_config.h"
#include "seam_status.h"

typedef struct seam_weights seam_weights;

/* Tensors that the architecture does not have (biases, for instance) are refused by name, and
 * those present must have the config's shapes; one that is absent is noticed when it is read.
 * SEAM_E_NOT_FOUND, SEAM_E_FORMAT, SEAM_E_ARG (sizes), SEAM_E_UNIMPLEMENTED (architecture, tensor
 * type, fields that change the math), SEAM_E_LIMIT, SEAM_E_IO, SEAM_E_MEMORY; all with text. */
seam_status seam_weights_open(seam_weights **ret_weights, const char *path, seam_error *err);
void seam_weights_close(seam_weights *gift_weights);
const seam_model_config *seam_weights_config(const seam_weights *weights);

/* After open everything is read-only: any thread. */

/* Rows and columns of a tensor; a vector has rows = 1.  SEAM_E_NOT_FOUND. */
seam_status seam_weights_shape(uint64_t *ret_rows, uint64_t *ret_cols, const seam_weights *weights,
                               const char *name, seam_error *err);
/* The tensor as f32 into ret (rows*cols floats; the shape must be exactly this).
 * SEAM_E_NOT_FOUND, SEAM_E_ARG (another shape), SEAM_E_UNIMPLEMENTED (tensor type). */
seam_status seam_weights_read(float *ret, const seam_weights *weights, const char *name,
                              uint64_t rows, uint64_t cols, seam_error *err);
/* Where the tensor lies as plain little-endian values; false when it must be read: it has another
 * shape, is quantized, or its rows are permuted. */
typedef struct seam_weights_place {
    const char *file;
    int fd; /* open while the weights are */
    uint64_t offset;
    seam_tensor_type type; /* F32, F16, BF16 */
} seam_weights_place;
bool seam_weights_find(seam_weights_place *ret, const seam_weights *weights, const char *name,
                       uint64_t rows, uint64_t cols);

#endif
