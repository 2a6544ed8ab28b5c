/* The quantizer Q of AQ-SGD: symmetric, one scale a channel.  SPEC 3.2, WIRE.md 3.6.
 *
 *   s_c = fp16 of absmax_c * 2^-k, times 2^k      k = floor(log2 max_c absmax_c) - 14
 *   q   = clip(rint(x / s_c * 2^(b-1)), -2^(b-1), 2^(b-1) - 1)     ties to even
 *   x^  = q / 2^(b-1) * s_c
 *
 * Source: DS3Lab/AC-SGD compress/fixpoint.py, with scale_method `max`; ours adds the exponent k of
 * the tensor (gradients of 1e-8 would vanish in fp16) and fixes the rounding.  All in f32 without
 * contraction, a fixed order of operations, so that every implementation gives the same bytes.
 * A scale below 2^-126 counts as 0: q = 0, x^ = 0.  +s is always clipped; b = 1 gives {-s, 0}.
 *
 * Codes travel as q + 2^(b-1), row by row, as one bit string (bit_string.h). */
#ifndef SEAM_AQSGD_QUANT_H
#define SEAM_AQSGD_QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

/* Scale block: k (i16), zero (u16), C x fp16. */
size_t seam_scale_block_bytes(uint32_t channels);
/* SEAM_E_NONFINITE: an absmax of 2^125 and more, or no number. */
seam_status seam_scale_block_put(uint8_t *ret_block, const float *absmax, uint32_t channels);

/* Grid of the channels: every array (C). */
typedef struct seam_scales {
    float *scale;        /* 1 where the channel's scale counts as 0 */
    float *lowest, *top; /* bounds of q; both 0 there */
} seam_scales;
/* SEAM_E_FORMAT: k outside -163..110, the zero field, a negative scale; SEAM_E_NONFINITE. */
seam_status seam_scale_block_get(seam_scales *ret_scales, const uint8_t *block, uint32_t channels,
                                 uint32_t bits);

/* absmax[c] = max(absmax[c], |x[c] - m[c]|); m NULL: zeros.  A NaN does not count. */
void seam_absmax_add(float *absmax, const float *x, const float *m, uint32_t channels);
/* One row: codes (C) of x - m, and in ret_values the x^ (not added to m). m NULL: zeros. */
void seam_symmetric_quantize(uint32_t *ret_codes, float *ret_values, const seam_scales *scales,
                             const float *x, const float *m, uint32_t channels, uint32_t bits);
/* The x^ of one row of codes, each below 2^bits. */
void seam_symmetric_dequantize(float *ret_values, const seam_scales *scales, const uint32_t *codes,
                               uint32_t channels, uint32_t bits);

/* fp16 rows, little-endian.  To nearest even; beyond fp16's range the largest finite value with
 * the sign.  false: a value is not finite or rounds beyond the range. */
bool seam_fp16_row_put(uint8_t *ret, const float *x, uint32_t channels);
/* false: a value is not finite. */
bool seam_fp16_row_get(float *ret, const uint8_t *bytes, uint32_t channels);

#endif
