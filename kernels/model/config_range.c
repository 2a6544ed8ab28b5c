/* See config_range.h.  The optimizer's and the gates' bounds shut out what no run can want; tensors
 * stay finite or are refused step by step. */
#include "config_range.h"

#include <string.h>

#include "blocks.h"
#include "ops.h"
#include "try.h"

#define ADAM_BETA_MAX 0.999999 /* 1 has no bias correction */

static const struct {
    const char *field;
    double min, max;
} ranges[] = {
    {"lora.rank", 1, SEAM_LORA_RANK_MAX},
    {"lora.alpha", 1e-6, 1e6},
    {"lora.dropout", 0, SEAM_LORA_DROPOUT_MAX},
    {"prefix.virtual_tokens", 1, SEAM_PREFIX_MAX},
    {"optimizer.lr", 0, 100},
    {"optimizer.beta1", 0, ADAM_BETA_MAX},
    {"optimizer.beta2", 0, ADAM_BETA_MAX},
    {"optimizer.eps", 1e-30, 1},
    {"optimizer.weight_decay", 0, 100},
    {"optimizer.clip_norm", 0, 1e30},
    {"codec.amaq.beta", 0, 1e6},
    {"codec.amaq.bits_lr", 0, 100},
    {"codec.amaq.alloc_lag_steps", 2, 1000},
    {"all_layer_steps", 1, 1e9},
    {"prefix_steps", 1, 1e9},
};
#define RANGE_COUNT (sizeof ranges / sizeof *ranges)

seam_status seam_config_range_check(const char *name, const char *field, double value,
                                    seam_error *err) {
    size_t i = 0;
    while (i < RANGE_COUNT && strcmp(ranges[i].field, field) != 0) {
        i++;
    }
    SEAM_ASSERT(i < RANGE_COUNT);
    /* In the config's own type, so that a bound itself is inside; written so that a NaN fails. */
    return (float)value >= (float)ranges[i].min && (float)value <= (float)ranges[i].max
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_ARG, "%s: %g is not in %g..%g", name, value,
                                ranges[i].min, ranges[i].max);
}
