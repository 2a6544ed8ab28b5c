/* Element types of weight files, and their exact values as f32.
 *
 * Source: the GGUF specification and the block layouts of ggml; F16 and BF16 are IEEE / bfloat16.
 * dequantize_blocks.h has the quantized types' layouts. */
#ifndef SEAM_DEQUANTIZE_H
#define SEAM_DEQUANTIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

typedef enum seam_tensor_type {
    SEAM_TENSOR_OTHER = 0, /* a known type that Seam cannot read; its bytes are only counted */
    SEAM_TENSOR_F32,
    SEAM_TENSOR_F16,
    SEAM_TENSOR_BF16,
    SEAM_TENSOR_Q8_0,
    SEAM_TENSOR_Q4_0,
    SEAM_TENSOR_Q4_1,
    SEAM_TENSOR_Q5_0,
    SEAM_TENSOR_Q5_1,
    SEAM_TENSOR_Q2_K,
    SEAM_TENSOR_Q3_K,
    SEAM_TENSOR_Q4_K,
    SEAM_TENSOR_Q5_K,
    SEAM_TENSOR_Q6_K,
    SEAM_TENSOR_IQ4_NL,
    SEAM_TENSOR_IQ4_XS,
} seam_tensor_type;

/* Bytes of a block, which is one value of plain types. */
uint32_t seam_tensor_block_bytes(seam_tensor_type type);
/* Bytes of rows x cols values whose rows are whole blocks; false if they are not, or on
 * overflow.  type is not OTHER. */
bool seam_tensor_bytes(uint64_t *ret_bytes, seam_tensor_type type, uint64_t rows, uint64_t cols);
/* `count` values, a multiple of the block; bytes need no alignment. */
void seam_dequantize(float *ret, seam_tensor_type type, const uint8_t *bytes, size_t count);

#endif
