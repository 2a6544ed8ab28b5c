/* Range blocks of the affine grids: an exponent k for a tensor, and for each channel (codec
 * amaq_token: row) its lo rounded down and its hi rounded up to fp16 of value * 2^-k.  WIRE.md 3.2.
 * The heads are those of aqsgd's scales (aqsgd_quant.c) too. Internal to codec/. */
#ifndef SEAM_RANGE_BOUNDS_H
#define SEAM_RANGE_BOUNDS_H

#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

#define SEAM_RANGE_HEAD_BYTES 4 /* exponent i16, zero u16 */
#define SEAM_RANGE_BYTES      4 /* lo, hi */

/* k of a tensor whose largest magnitude in range this is, and the head that says so.
 * SEAM_E_NONFINITE: 2^125 or more. */
seam_status seam_range_head_put(uint8_t *ret_head, int *ret_exponent, float largest);
/* 2^k of a head that may come from a peer.  SEAM_E_FORMAT: out of bounds, or a zero is not. */
seam_status seam_range_head_get(double *ret_unit, const uint8_t *head);

/* `count` times lo, hi.  Finite values; what is beyond fp16 (rows out of range) is saturated.  Zero
 * is written as +0. */
void seam_range_bounds_put(uint8_t *ret_bounds, const float *lo, const float *hi, uint32_t count,
                           int exponent);
/* The reverse, of what may come from a peer.  Of the first that is refused: SEAM_E_NONFINITE: not
 * finite; SEAM_E_FORMAT: lo > hi. */
seam_status seam_range_bounds_get(float *ret_lo, float *ret_hi, const uint8_t *bounds,
                                  uint32_t count, double unit);

/* The loops of one instruction set; every one gives the same bits (tests/unit/test_range_bounds.c).
 * scale: 2^-k.  get returns how many there are in front of a piece of which one is refused, or all.
 */
typedef struct seam_range_ops {
    void (*put)(uint8_t *ret_bounds, const float *lo, const float *hi, size_t count, double scale);
    size_t (*get)(float *ret_lo, float *ret_hi, const uint8_t *bounds, size_t count, double unit);
} seam_range_ops;

/* Variant `idx`: 0 is the base one; NULL past the last that runs here. */
const seam_range_ops *seam_range_ops_variant(uint32_t idx);

#endif
