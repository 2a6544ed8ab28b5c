/* The closed-form allocator: every channel's width from what its error costs (reverse
 * water-filling), without a learning rate and without beta.  SPEC 3.1.
 *
 *   b_c = a_c + level           a_c = 1/2 log2(w_c R_c^2)
 *   w_c  moving average of the per-row mean of g^2, g the gradient of the step's mean loss
 *   R_c  moving average of hi - lo of the channel's range (a step: the mean of its micro-batches)
 *
 * One level for all forward sites minimizes sum_k rows_k sum_c w_c R_c^2 2^(-2 b_c) / 24 at a given
 * sum of bits over all values that are sent.  Where equal rows travel once, a row that is sent
 * stands for rows_k / sent_k rows, and each of them has its error: so a site's a_c are higher by
 * 1/2 log2(rows_k / sent_k).  Nobody has all sites' a_c, so the arbiter turns each site's sum of
 * a_c into that site's total of bits (seam_waterfill_totals), and the owner of the site fills this
 * total into its channels (seam_waterfill_widths): with bounds the level rises or falls until the
 * total fits again.
 *
 * A channel that has w_c = 0 or R_c = 0 (never seen, constant, or w below the smallest f32) costs
 * nothing: it gets the least width and no part in the sum.  A site with no other channels has no
 * opinion: the mean width in every channel. */
#ifndef SEAM_WATERFILL_H
#define SEAM_WATERFILL_H

#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

#define SEAM_WATERFILL_DECAY 0.9f /* of the averages, once they are 10 steps old */

typedef struct seam_waterfill {
    uint32_t channels;
    uint64_t step;  /* updates done */
    float *weights; /* (C) w_c */
    float *spans;   /* (C) R_c; weights and spans stand one after another */
    float *bits;    /* (C) scratch of this module: one thread at a time */
} seam_waterfill;

/* SEAM_E_MEMORY. */
seam_status seam_waterfill_init(seam_waterfill *waterfill, uint32_t channels);
void seam_waterfill_deinit(seam_waterfill *waterfill);

typedef struct seam_waterfill_update_args {
    const float *squares; /* (C) sum over the step's rows of g^2: seam_gates_add_squares */
    uint64_t rows;        /* that they are the sum of: those in range, of all micro-batches */
    const float *spans;   /* (C) sum over the step's micro-batches of hi - lo */
    uint32_t micros;
} seam_waterfill_update_args;
/* hi - lo (C) of one range block is added to ret_sums, as D_c * N_c with the steps of
 * seam_codec_steps: 0 for a constant channel. */
void seam_waterfill_add_spans(float *ret_sums, const float *steps, const uint8_t *widths,
                              uint32_t channels);
/* One step into the averages: the plain mean of the first steps, then with SEAM_WATERFILL_DECAY.
 * A sum that is not finite or negative counts as zero. */
void seam_waterfill_update(seam_waterfill *waterfill, const seam_waterfill_update_args *args);

/* sum of a_c over the channels that have one, in f64 and channel order; *ret_live: their count. */
double seam_waterfill_sum(uint32_t *ret_live, const seam_waterfill *waterfill);

/* Integer widths (C) within bits_min..bits_max whose total is `total`, or the nearest total that
 * the bounds and the least width of the others allow: the level is the one at which the clamped
 * b_c have this sum, then the rule of widths.h. */
void seam_waterfill_widths(uint8_t *ret_widths, const seam_waterfill *waterfill, uint32_t total,
                           uint8_t bits_min, uint8_t bits_max);

/* One forward site as the arbiter knows it. */
typedef struct seam_waterfill_share {
    uint64_t values;      /* n_k of SPEC 3.1: those that are sent */
    uint64_t values_used; /* what they become where rows repeat: at least as many */
    uint32_t channels, live;
    double sum; /* seam_waterfill_sum of its owner, which may be the peer: must be finite */
    uint8_t bits_min, bits_max;
} seam_waterfill_share;
/* The bit total of each site (count), so that the mean over all sent values is mean_bits at one
 * common level, as far as every site's bounds allow, rounded to whole bits: the mean is met within
 * 1 / (2 * channels). */
void seam_waterfill_totals(uint32_t *ret_totals, const seam_waterfill_share *shares, uint32_t count,
                           double mean_bits);

/* Exact state for journals: 8 + 8*C bytes.  Load: SEAM_E_FORMAT (count, a negative value),
 * SEAM_E_NONFINITE; unchanged after an error. */
size_t seam_waterfill_state_bytes(uint32_t channels);
void seam_waterfill_save(uint8_t *ret, const seam_waterfill *waterfill);
seam_status seam_waterfill_load(seam_waterfill *waterfill, const uint8_t *bytes, size_t count);

#endif
