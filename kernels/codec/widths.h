/* Integer widths from fractional ones: one rule for every allocator, SPEC 3.1.
 *
 * Not a policy: gates.h and waterfill.h decide the fractional widths. */
#ifndef SEAM_WIDTHS_H
#define SEAM_WIDTHS_H

#include <stdint.h>

/* floor(b_c), then the channels with the largest fractions (ties: lowest index) up by one until the
 * total is round(sum b_c), ties to even.  A channel at a whole number never goes up.
 * bits (C): each in 1..16. */
void seam_widths_round(uint8_t *ret_widths, const float *bits, uint32_t width_count);
/* sum_c b_c in f64, in channel order, rounded to the nearest integer, ties to even. */
uint32_t seam_widths_total(const float *bits, uint32_t width_count);

#endif
