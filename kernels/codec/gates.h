/* AMAQ's gates: one trainable scalar Q_c a channel, its bit width, its optimizer.
 *
 *   b_c = b_min + (b_max - b_min) * sigmoid(alpha*Q_c)                     arXiv 2510.05468, 3.1
 *   dL/dQ_c = (dL/db_c + beta*dL_bits/db_c) * alpha*(b_c-b_min)*(b_max-b_c)/(b_max-b_min)
 *   exact:      dL/db_c = -ln2 * kappa_c * sum_t g_tc * (xhat_tc - x_tc),  kappa = 2^w/(2^w - 1)
 *   surrogate:  dL/db_c ~ -(ln2/12) * N_lab * kappa_c * D_c^2 * sum_t g_tc^2       (Fisher)
 * w: integer width in force.  The owner (encoder of the forward site) steps the gates; SPEC 3.1. */
#ifndef SEAM_GATES_H
#define SEAM_GATES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

typedef enum seam_bits_loss { SEAM_BITS_LOSS_L2 = 1, SEAM_BITS_LOSS_L1 = 2 } seam_bits_loss;

typedef struct seam_gates_config {
    float bits_min, bits_max, bits_start; /* 1 <= min < start < max <= 16 */
    float alpha;
    seam_bits_loss loss;
    float beta1, beta2, eps; /* Adam; no decay */
} seam_gates_config;

/* Presets of the paper: target 4: 1..16 from 8; target 3: 1..8 from 6; false for another target. */
bool seam_gates_preset(seam_gates_config *ret_config, float target_bits);
/* |Q at bits_start - Q at bits_target|: how far a gate has to go. */
double seam_gates_distance(const seam_gates_config *config, float bits_target);
/* The width of a gate whose Q has gone so far down from its start. */
double seam_gates_bits_after(const seam_gates_config *config, double distance);
/* SEAM_E_ARG; *err names the field. */
seam_status seam_gates_config_check(const seam_gates_config *config, seam_error *err);

typedef struct seam_gates {
    seam_gates_config config;
    uint32_t gate_count; /* C, or the P of codec amaq_token */
    uint64_t step;       /* Adam steps done */
    float *q, *m, *v;    /* (C) each, one block; alpha*q clamped to [-12, 12] */
    float *bits;         /* (C) scratch of this module: one thread at a time */
    /* (C) of the gates in the bits loss, sum 1; NULL: 1/C each.  Borrowed; may change. */
    const float *weights;
} seam_gates;

/* SEAM_E_MEMORY.  Config is asserted. */
seam_status seam_gates_init(seam_gates *gates, const seam_gates_config *config,
                            uint32_t gate_count);
void seam_gates_deinit(seam_gates *gates);
void seam_gates_bits(float *ret_bits, const seam_gates *gates); /* b_c (C) */
/* sum_c b_c in double, rounded to the nearest integer, ties to even: the site's bit total. */
uint32_t seam_gates_bits_total(const seam_gates *gates);

/* 2^w / (2^w - 1) */
double seam_gates_kappa(uint8_t width);
/* dL/db_c (C) is added to ret_db.  Sums over rows in f64, in row order. */
void seam_gates_add_exact(float *ret_db, const float *g, const float *x, const float *decoded,
                          const uint8_t *widths, uint32_t rows, uint32_t channels);
/* sum_t g_tc^2 (C) is added to ret_sums: what GATE_SIGNAL carries is the finished surrogate,
 * which the next function adds to ret_db. */
void seam_gates_add_squares(float *ret_sums, const float *g, uint32_t rows, uint32_t channels);
/* The same from sums that a device has made, in f64 and row order (device_codec.h). */
void seam_gates_take_exact(float *ret_db, const double *sums, const uint8_t *widths,
                           uint32_t channels);
void seam_gates_take_squares(float *ret_sums, const double *sums, uint32_t channels);
void seam_gates_surrogate(float *ret_db, const float *sums, const float *steps,
                          const uint8_t *widths, uint32_t labelled_rows, uint32_t channels);

/* The surrogate at the gates' own b_c in the place of the integer widths that were in force: times
 * kappa(b) D(b)^2 / (kappa(w) D(w)^2) = (2^b / (2^b - 1)^3) / (2^w / (2^w - 1)^3).  The owner knows
 * b_c; without this a gate between two widths sees a gradient that jumps by four. */
void seam_gates_refine(float *db, const seam_gates *gates, const uint8_t *widths);

/* sum_c |db_c|, entries that are not finite as zero: how strongly the task holds the gates. */
double seam_gates_pull(const float *db, uint32_t gate_count);

typedef struct seam_gates_step_args {
    const float *db;       /* (C) dL/db of the task, whole step */
    float lr;              /* bits learning rate */
    float beta;            /* weight of the bits loss */
    bool bits_loss_active; /* soft clipping: the mean is above the target */
    /* Gradients are taken in units of beta, (db / beta + dL_bits/db), so that Adam's eps and
     * moments do not depend on the size of the task's gradients.  beta 0: the gates stay. */
    bool relative;
} seam_gates_step_args;
/* One Adam step; entries of db that are not finite count as zero. */
void seam_gates_step(seam_gates *gates, const seam_gates_step_args *args);

/* Integer widths (C) from b + shift, clamped to [ceil(min), floor(max)]: widths.h. */
void seam_gates_widths(uint8_t *ret_widths, const seam_gates *gates, float shift);

/* Exact state for journals: 8 + 12*C bytes.  Load: SEAM_E_FORMAT (count, a negative second
 * moment), SEAM_E_NONFINITE; the gates are unchanged after an error. */
size_t seam_gates_state_bytes(uint32_t gate_count);
void seam_gates_save(uint8_t *ret, const seam_gates *gates);
seam_status seam_gates_load(seam_gates *gates, const uint8_t *bytes, size_t count);

#endif
