/* See rope_table.h.  Angles in double: at position 8192 an f32 angle is already off by 2^-11. */
#include "rope_table.h"

#include <math.h>
#include <stddef.h>

uint32_t seam_rope_table_rows(const seam_model_config *config) {
    return config->context_max + (config->rope.on ? config->rope.long_from : 0);
}

/* The rows of positions [0, count) by the factors (NULL: of 1), from ret on. */
static void rows_fill(float *ret, const seam_model_config *c, const double *factor,
                      uint32_t count) {
    const uint32_t half = c->head_dim / 2;
    const double size = c->rope.on ? c->rope.attention_factor : 1.0;
    for (uint32_t i = 0; i < half; i++) {
        const double rate =
            pow(c->rope_theta, -2.0 * i / c->head_dim) / (factor != NULL ? factor[i] : 1.0);
        for (uint32_t p = 0; p < count; p++) {
            float *row = ret + (size_t)p * c->head_dim;
            row[i] = (float)(cos(p * rate) * size);
            row[half + i] = (float)(sin(p * rate) * size);
        }
    }
}

void seam_rope_table_fill(float *ret, const seam_model_config *config) {
    const seam_rope_scaling *rope = &config->rope;
    const uint32_t shorts =
        rope->on && rope->long_from != 0 ? rope->long_from : config->context_max;
    rows_fill(ret, config, rope->on ? rope->factor : NULL, shorts);
    if (shorts < seam_rope_table_rows(config)) {
        rows_fill(ret + (size_t)shorts * config->head_dim, config, rope->long_factor,
                  config->context_max);
    }
}
