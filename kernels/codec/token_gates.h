/* Gates of codec amaq_token: one a position in the sample, where gates.h has one a channel.
 *
 *   exact:      dL/db_p = -ln2 * kappa_p * sum over rows t at p of sum_c g_tc * (xhat_tc - x_tc)
 *   surrogate:  dL/db_p ~ -(ln2/12) * N_lab * kappa_p * sum over rows t at p of D_t^2 sum_c g_tc^2
 *
 * A channel has as many values as any other; a position has as many rows as there are samples that
 * reach it.  So the mean of the gates and their bits loss are weighted: gate p by the share of the
 * step's rows that it has.  A gate without rows in a step feels no price in it. */
#ifndef SEAM_TOKEN_GATES_H
#define SEAM_TOKEN_GATES_H

#include <stdint.h>

#include "gates.h"

/* Rows of a tensor. */
typedef struct seam_token_rows {
    const uint32_t *gates; /* (rows): the gate of each */
    uint32_t rows, channels;
} seam_token_rows;

/* The gate of each row: its place in its own sequence, at most gate_count - 1.  Of a bitmap only
 * the rows that it has, in order; NULL: all. */
void seam_token_gates_fill(uint32_t *ret_gates, const uint32_t *sequence_rows,
                           uint32_t sequence_count, const uint8_t *bitmap, uint32_t gate_count);

/* dL/db_p (P) is added to ret_db.  Sums over channels in f64, rows in order. */
void seam_token_gates_add_exact(float *ret_db, const seam_token_rows *rows, const float *g,
                                const float *x, const float *decoded, const uint8_t *widths);
/* steps (rows): D_t. */
void seam_token_gates_add_surrogate(float *ret_db, const seam_token_rows *rows, const float *g,
                                    const float *steps, const uint8_t *widths,
                                    uint32_t labelled_rows);

/* Rows of each gate (P) are added to ret_counts: of a bitmap those that it has, NULL: all. */
void seam_token_gates_add_counts(uint32_t *ret_counts, const seam_token_rows *rows,
                                 const uint8_t *bitmap);
/* Weights of a step's counts (P each, the counts not all 0): shares of their sum. */
void seam_token_gates_weigh(float *ret_weights, const uint32_t *counts, uint32_t gate_count);
/* sum_p weights_p b_p: what a value of the step takes on the mean.  The gates have weights. */
double seam_token_gates_mean(const seam_gates *gates);

#endif
