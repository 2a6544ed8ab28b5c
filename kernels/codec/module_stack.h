/* Module sites: LoRA parameters and gradients and prefixes as tensors of a codec.  WIRE.md 1.1.
 *
 * A stack is all modules of one site in a fixed order; its rows are their rows, one module after
 * another, and a channel is a rank index (of a prefix: a feature).  A rank index so has one range,
 * and with codec amaq one gate, over all layers.  The stack is cut into tensors of at most 2^20
 * rows, wherever that falls; a tensor's number is the `micro` of its frames.
 *
 * Here is the way between the modules' own memory and the coder's chunks, for any codec without
 * state; the caller puts headers around the chunks (proto/wire/frame.h) and knows which modules
 * there are.  No I/O, no allocation, any thread. */
#ifndef SEAM_MODULE_STACK_H
#define SEAM_MODULE_STACK_H

#include <stdbool.h>
#include <stdint.h>

#include "coder.h"
#include "seam_status.h"

/* Numbers are wire values.  A gradient's forward site is its parameters' one. */
typedef enum seam_module_site {
    SEAM_SITE_LORA_A = 4,
    SEAM_SITE_LORA_B = 5,
    SEAM_SITE_PREFIX = 6,
    SEAM_SITE_LORA_A_GRADIENT = 7,
    SEAM_SITE_LORA_B_GRADIENT = 8,
    SEAM_SITE_PREFIX_GRADIENT = 9,
} seam_module_site;

#define SEAM_MODULE_TENSORS_MAX 4096u /* `micro` has no more */

typedef enum seam_module_order {
    SEAM_MODULE_ROWS = 1,    /* values (rows, rank): LoRA B is (out, rank); a prefix */
    SEAM_MODULE_COLUMNS = 2, /* values (rank, rows): LoRA A is (rank, in) */
} seam_module_order;

typedef struct seam_module {
    const char *name; /* for errors */
    uint32_t rows, rank;
    seam_module_order order;
    float *values; /* borrowed; written by decode only */
} seam_module;

typedef struct seam_module_stack {
    const seam_module *modules;
    uint32_t module_count;
    uint32_t tensor_rows_max; /* SEAM_ROWS_MAX; tests: fewer */
} seam_module_stack;

/* SEAM_E_ARG: no module, or one without rows, rank, values or with another rank than the first,
 * a bad tensor_rows_max, too many tensors; *err names it. */
seam_status seam_module_stack_check(const seam_module_stack *stack, seam_error *err);
/* SEAM_E_ARG: a codec that goes by samples (dictionary, aqsgd, amaq_token). */
seam_status seam_module_codec_check(seam_codec_id codec, seam_error *err);

/* Of a stack that was checked.  A tensor_idx that a peer sent must be below _tensor_count: the
 * caller checks it, these assert. */
uint64_t seam_module_stack_rows(const seam_module_stack *stack);
uint32_t seam_module_stack_tensor_count(const seam_module_stack *stack);
uint32_t seam_module_stack_tensor_rows(const seam_module_stack *stack, uint32_t tensor_idx);

/* Rows of one tensor (tensor rows, rank) out of the modules. */
void seam_module_stack_gather(float *ret_rows, const seam_module_stack *stack, uint32_t tensor_idx);

/* What went over a site; added to. */
typedef struct seam_module_bytes {
    uint32_t frame_count;
    uint64_t payload_bytes; /* without the frames' headers */
} seam_module_bytes;

/* One chunk is ready; payload is valid during the call.  An error ends the encoding with it. */
typedef seam_status seam_module_take(void *user, uint32_t tensor_idx, uint32_t tensor_rows,
                                     const seam_coder_chunk *chunk, const uint8_t *payload);

typedef struct seam_module_encode_args {
    seam_coder *coder; /* of the site: channels = rank, rows_max at least a tensor's */
    seam_codec_id codec;
    const seam_alloc *alloc; /* codecs with widths */
    seam_rounding rounding;  /* micro and rows are set for each tensor: row = its index in it */
    float *rows;             /* scratch (largest tensor's rows, rank) */
    uint8_t *payload;        /* scratch (SEAM_PAYLOAD_BYTES_MAX) */
    /* Modules of the same shapes that get the values as the receiver sees them, or NULL; they may
     * be those that are encoded. */
    const seam_module_stack *ret_decoded;
    seam_module_take *take;
    void *user;
} seam_module_encode_args;
/* Errors as seam_coder_encode_begin and _chunk, and take's; *bytes is added to as far as it came.
 */
seam_status seam_module_stack_encode(seam_module_bytes *bytes, const seam_module_stack *stack,
                                     const seam_module_encode_args *args);

typedef struct seam_module_decode_args {
    seam_coder *coder;
    seam_codec_id codec;
    const seam_alloc *alloc;
    float *rows; /* scratch (largest tensor's rows, rank); kept between the chunks of a tensor */
} seam_module_decode_args;
/* The next chunk of tensor `tensor_idx`, in row order, as the frame layer has checked (asserted).
 * With its last one the tensor's rows are in the modules and *ret_complete is true.  Errors as
 * seam_coder_decode_chunk; the modules are as before then. */
seam_status seam_module_stack_decode(bool *ret_complete, const seam_module_stack *stack,
                                     const seam_module_decode_args *args, uint32_t tensor_idx,
                                     const seam_coder_chunk *chunk, const uint8_t *payload,
                                     seam_error *err);

#endif
