/* AMAQ's gates: see gates.h for the formulas.
 *
 * State is f32 (it is journaled exactly); every formula is evaluated in f64 and rounded once, so
 * that another implementation follows the trajectory closely.  Only the owner of a site evaluates
 * them: the peer gets integer widths. */
#include "gates.h"

#include <math.h>
#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "codec.h"
#include "try.h"
#include "widths.h"

#define LN2       0.69314718055994530942
#define LOGIT_MAX 12.0 /* |alpha*q|: beyond it the sigmoid's slope is below 1e-5 */
#define SUM_LANES 64u  /* channels whose f64 sums stand on the stack */

bool seam_gates_preset(seam_gates_config *ret_config, float target_bits) {
    seam_gates_config config = {
        .alpha = 1.0f,
        .loss = SEAM_BITS_LOSS_L2,
        .beta1 = 0.9f,
        .beta2 = 0.999f,
        .eps = 1e-8f,
    };
    if (target_bits == 4.0f) {
        config.bits_min = 1.0f;
        config.bits_max = 16.0f;
        config.bits_start = 8.0f;
    } else if (target_bits == 3.0f) {
        config.bits_min = 1.0f;
        config.bits_max = 8.0f;
        config.bits_start = 6.0f;
    } else {
        return false;
    }
    *ret_config = config;
    return true;
}

double seam_gates_distance(const seam_gates_config *config, float bits_target) {
    const double min = (double)config->bits_min, max = (double)config->bits_max;
    const double start = (double)config->bits_start, target = (double)bits_target;
    const double distance =
        log((start - min) / (max - start)) - log((target - min) / (max - target));
    return fabs(distance) / (double)config->alpha;
}

double seam_gates_bits_after(const seam_gates_config *config, double distance) {
    const double min = (double)config->bits_min, max = (double)config->bits_max;
    const double start = (double)config->bits_start;
    const double logit = log((start - min) / (max - start)) - (double)config->alpha * distance;
    return min + (max - min) / (1.0 + exp(-logit));
}

seam_status seam_gates_config_check(const seam_gates_config *config, seam_error *err) {
    const float min = config->bits_min, max = config->bits_max, start = config->bits_start;
    /* Written so that a NaN fails each of them. */
    if (!(min >= 1.0f && max <= SEAM_BITS_MAX)) {
        return seam_error_set(err, SEAM_E_ARG, "bits_min %g, bits_max %g: outside 1..%d",
                              (double)min, (double)max, SEAM_BITS_MAX);
    }
    if (!(min < start && start < max)) {
        return seam_error_set(err, SEAM_E_ARG,
                              "bits_start %g: not between bits_min %g and "
                              "bits_max %g",
                              (double)start, (double)min, (double)max);
    }
    if (ceilf(min) > floorf(max)) {
        return seam_error_set(err, SEAM_E_ARG, "bits_min %g, bits_max %g: no whole number between",
                              (double)min, (double)max);
    }
    if (!(config->alpha > 0.0f && config->alpha <= 1e3f)) {
        return seam_error_set(err, SEAM_E_ARG, "alpha %g: not in (0, 1000]", (double)config->alpha);
    }
    if (config->loss != SEAM_BITS_LOSS_L2 && config->loss != SEAM_BITS_LOSS_L1) {
        return seam_error_set(err, SEAM_E_ARG, "bits_loss %d: neither L2 nor L1",
                              (int)config->loss);
    }
    if (!(config->beta1 >= 0.0f && config->beta1 < 1.0f && config->beta2 >= 0.0f &&
          config->beta2 < 1.0f && config->eps > 0.0f && config->eps <= 1.0f)) {
        return seam_error_set(err, SEAM_E_ARG,
                              "gate optimizer: beta1 %g, beta2 %g, eps %g: out of range",
                              (double)config->beta1, (double)config->beta2, (double)config->eps);
    }
    return SEAM_OK;
}

seam_status seam_gates_init(seam_gates *gates, const seam_gates_config *config,
                            uint32_t gate_count) {
    SEAM_ASSERT(seam_gates_config_check(config, NULL) == SEAM_OK);
    SEAM_ASSERT(gate_count >= 1);
    SEAM_ASSERT(gate_count <= SEAM_CHANNELS_MAX);
    float *block = seam_mem_zalloc(4 * (size_t)gate_count, sizeof *block);
    if (block == NULL) {
        return SEAM_E_MEMORY;
    }
    *gates = (seam_gates){
        .config = *config,
        .gate_count = gate_count,
        .q = block,
        .m = block + gate_count,
        .v = block + 2 * (size_t)gate_count,
        .bits = block + 3 * (size_t)gate_count,
    };
    const double min = config->bits_min, max = config->bits_max, start = config->bits_start;
    const double logit = fmin(fmax(log((start - min) / (max - start)), -LOGIT_MAX), LOGIT_MAX);
    for (uint32_t c = 0; c < gate_count; c++) {
        gates->q[c] = (float)(logit / (double)config->alpha);
    }
    return SEAM_OK;
}

void seam_gates_deinit(seam_gates *gates) {
    seam_mem_free(gates->q); /* m, v, bits are parts of the same block */
    memset(gates, 0, sizeof *gates);
}

static double gate_bits(const seam_gates_config *config, float q) {
    const double z = fmin(fmax((double)config->alpha * (double)q, -LOGIT_MAX), LOGIT_MAX);
    const double min = config->bits_min, max = config->bits_max;
    return min + (max - min) / (1.0 + exp(-z));
}

void seam_gates_bits(float *ret_bits, const seam_gates *gates) {
    for (uint32_t c = 0; c < gates->gate_count; c++) {
        ret_bits[c] = (float)gate_bits(&gates->config, gates->q[c]);
    }
}

uint32_t seam_gates_bits_total(const seam_gates *gates) {
    seam_gates_bits(gates->bits, gates);
    return seam_widths_total(gates->bits, gates->gate_count);
}

/* ---- gradients ---- */

double seam_gates_kappa(uint8_t width) {
    const double levels = (double)(1u << width);
    return levels / (levels - 1.0);
}

void seam_gates_take_exact(float *ret_db, const double *sums, const uint8_t *widths,
                           uint32_t channels) {
    for (uint32_t c = 0; c < channels; c++) {
        ret_db[c] += (float)(-LN2 * seam_gates_kappa(widths[c]) * sums[c]);
    }
}

void seam_gates_take_squares(float *ret_sums, const double *sums, uint32_t channels) {
    for (uint32_t c = 0; c < channels; c++) {
        ret_sums[c] += (float)sums[c];
    }
}

void seam_gates_add_exact(float *ret_db, const float *g, const float *x, const float *decoded,
                          const uint8_t *widths, uint32_t rows, uint32_t channels) {
    for (uint32_t c = 0; c < channels; c += SUM_LANES) {
        const uint32_t lanes = channels - c < SUM_LANES ? channels - c : SUM_LANES;
        double sums[SUM_LANES] = {0};
        for (uint32_t t = 0; t < rows; t++) {
            const size_t at = (size_t)t * channels + c;
            for (uint32_t l = 0; l < lanes; l++) {
                const double error = (double)decoded[at + l] - (double)x[at + l];
                sums[l] += (double)g[at + l] * error;
            }
        }
        seam_gates_take_exact(ret_db + c, sums, widths + c, lanes);
    }
}

void seam_gates_add_squares(float *ret_sums, const float *g, uint32_t rows, uint32_t channels) {
    for (uint32_t c = 0; c < channels; c += SUM_LANES) {
        const uint32_t lanes = channels - c < SUM_LANES ? channels - c : SUM_LANES;
        double sums[SUM_LANES] = {0};
        for (uint32_t t = 0; t < rows; t++) {
            const float *row = g + (size_t)t * channels + c;
            for (uint32_t l = 0; l < lanes; l++) {
                sums[l] += (double)row[l] * (double)row[l];
            }
        }
        seam_gates_take_squares(ret_sums + c, sums, lanes);
    }
}

void seam_gates_surrogate(float *ret_db, const float *sums, const float *steps,
                          const uint8_t *widths, uint32_t labelled_rows, uint32_t channels) {
    for (uint32_t c = 0; c < channels; c++) {
        const double step = steps[c];
        const double scale = -(LN2 / 12.0) * (double)labelled_rows * seam_gates_kappa(widths[c]);
        ret_db[c] += (float)(scale * step * step * (double)sums[c]);
    }
}

static double surrogate_at(double bits) {
    const double levels = exp2(bits);
    return levels / ((levels - 1.0) * (levels - 1.0) * (levels - 1.0));
}

void seam_gates_refine(float *db, const seam_gates *gates, const uint8_t *widths) {
    for (uint32_t c = 0; c < gates->gate_count; c++) {
        const double bits = gate_bits(&gates->config, gates->q[c]);
        db[c] = (float)((double)db[c] * surrogate_at(bits) / surrogate_at((double)widths[c]));
    }
}

double seam_gates_pull(const float *db, uint32_t gate_count) {
    double sum = 0.0;
    for (uint32_t c = 0; c < gate_count; c++) {
        sum += isfinite(db[c]) ? fabs((double)db[c]) : 0.0;
    }
    return sum;
}

/* ---- optimizer ---- */

void seam_gates_step(seam_gates *gates, const seam_gates_step_args *args) {
    const seam_gates_config *config = &gates->config;
    const double min = config->bits_min, max = config->bits_max, alpha = config->alpha;
    const double beta1 = config->beta1, beta2 = config->beta2;
    const double beta = (double)args->beta;
    if (args->relative && beta == 0.0) {
        return;
    }
    const double unit = args->relative ? beta : 1.0;
    gates->step++;
    const double correction1 = 1.0 - pow(beta1, (double)gates->step);
    const double correction2 = 1.0 - pow(beta2, (double)gates->step);
    for (uint32_t c = 0; c < gates->gate_count; c++) {
        const double bits = gate_bits(config, gates->q[c]);
        double db = isfinite(args->db[c]) ? (double)args->db[c] / unit : 0.0;
        if (args->bits_loss_active) {
            const double dloss = config->loss == SEAM_BITS_LOSS_L2 ? 2.0 * bits : 1.0;
            const double price = beta / unit * dloss;
            db += gates->weights != NULL ? price * (double)gates->weights[c]
                                         : price / (double)gates->gate_count;
        }
        const double dq = db * alpha * (bits - min) * (max - bits) / (max - min);
        const double m = beta1 * (double)gates->m[c] + (1.0 - beta1) * dq;
        const double v = beta2 * (double)gates->v[c] + (1.0 - beta2) * dq * dq;
        const double update = m / correction1 / (sqrt(v / correction2) + (double)config->eps);
        const double q = (double)gates->q[c] - (double)args->lr * update;
        const double bound = LOGIT_MAX / alpha;
        /* Bounded, so that a huge gradient cannot leave an infinity in the state. */
        gates->m[c] = (float)fmin(fmax(m, -0x1p127), 0x1p127);
        gates->v[c] = (float)fmin(v, 0x1p127);
        gates->q[c] = (float)fmin(fmax(q, -bound), bound);
    }
}

/* ---- integer widths ---- */

void seam_gates_widths(uint8_t *ret_widths, const seam_gates *gates, float shift) {
    float *bits = gates->bits;
    const float low = ceilf(gates->config.bits_min), high = floorf(gates->config.bits_max);
    seam_gates_bits(bits, gates);
    for (uint32_t c = 0; c < gates->gate_count; c++) {
        bits[c] = fminf(fmaxf(bits[c] + shift, low), high);
    }
    seam_widths_round(ret_widths, bits, gates->gate_count);
}

/* ---- state ---- */

size_t seam_gates_state_bytes(uint32_t gate_count) {
    return 8 + 12 * (size_t)gate_count;
}

void seam_gates_save(uint8_t *ret, const seam_gates *gates) {
    seam_put_u64(ret, gates->step);
    const size_t count = 3 * (size_t)gates->gate_count; /* q, m, v stand one after another */
    for (size_t i = 0; i < count; i++) {
        seam_put_f32(ret + 8 + 4 * i, gates->q[i]);
    }
}

seam_status seam_gates_load(seam_gates *gates, const uint8_t *bytes, size_t count) {
    const size_t C = gates->gate_count;
    if (count != seam_gates_state_bytes(gates->gate_count)) {
        return SEAM_E_FORMAT;
    }
    for (size_t i = 0; i < 3 * C; i++) { /* all or nothing */
        const float value = seam_get_f32(bytes + 8 + 4 * i);
        if (!isfinite(value)) {
            return SEAM_E_NONFINITE;
        }
        if (i >= 2 * C && value < 0.0f) {
            return SEAM_E_FORMAT; /* v is a mean of squares */
        }
    }
    gates->step = seam_get_u64(bytes);
    for (size_t i = 0; i < 3 * C; i++) {
        gates->q[i] = seam_get_f32(bytes + 8 + 4 * i);
    }
    return SEAM_OK;
}
