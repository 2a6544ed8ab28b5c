/* Cosines and sines of a model's RoPE, and which row of them a position takes. */
#ifndef SEAM_ROPE_TABLE_H
#define SEAM_ROPE_TABLE_H

#include "model_config.h"

/* Positions in order, by `factor`; with LongRoPE those below long_from so, and then all positions
 * by `long_factor`. */
uint32_t seam_rope_table_rows(const seam_model_config *config);
/* ret (rows, D): cos of D/2 angles, then sin of them. */
void seam_rope_table_fill(float *ret, const seam_model_config *config);
/* The row of a position in a sequence that reaches long_from, or that does not. */
static inline uint32_t seam_rope_table_row(const seam_model_config *config, uint32_t position,
                                           bool is_long) {
    return is_long ? config->rope.long_from + position : position;
}

#endif
