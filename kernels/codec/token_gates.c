/* Sums over the rows of a position: see token_gates.h. */
#include "token_gates.h"

#include "bytes.h"
#include "try.h"

#define LN2       0.69314718055994530942
#define SUM_LANES 8u

void seam_token_gates_fill(uint32_t *ret_gates, const uint32_t *sequence_rows,
                           uint32_t sequence_count, const uint8_t *bitmap, uint32_t gate_count) {
    SEAM_ASSERT(gate_count >= 1);
    uint32_t row = 0;
    for (uint32_t s = 0; s < sequence_count; s++) {
        for (uint32_t i = 0; i < sequence_rows[s]; i++, row++) {
            if (seam_bitmap_has(bitmap, row)) {
                *ret_gates++ = i < gate_count ? i : gate_count - 1;
            }
        }
    }
}

static double lanes_sum(const double *lanes) {
    double sum = 0.0;
    for (uint32_t l = 0; l < SUM_LANES; l++) {
        sum += lanes[l];
    }
    return sum;
}

/* sum_c g*(decoded - x).  Lane l has the channels c with c % 8 = l; the lanes are added in order.
 */
static double row_errors(const float *g, const float *x, const float *decoded, uint32_t channels) {
    double lanes[SUM_LANES] = {0};
    uint32_t c = 0;
    for (; c + SUM_LANES <= channels; c += SUM_LANES) {
        for (uint32_t l = 0; l < SUM_LANES; l++) {
            lanes[l] += (double)g[c + l] * ((double)decoded[c + l] - (double)x[c + l]);
        }
    }
    for (uint32_t l = 0; c + l < channels; l++) {
        lanes[l] += (double)g[c + l] * ((double)decoded[c + l] - (double)x[c + l]);
    }
    return lanes_sum(lanes);
}

static double row_squares(const float *g, uint32_t channels) {
    double lanes[SUM_LANES] = {0};
    uint32_t c = 0;
    for (; c + SUM_LANES <= channels; c += SUM_LANES) {
        for (uint32_t l = 0; l < SUM_LANES; l++) {
            lanes[l] += (double)g[c + l] * (double)g[c + l];
        }
    }
    for (uint32_t l = 0; c + l < channels; l++) {
        lanes[l] += (double)g[c + l] * (double)g[c + l];
    }
    return lanes_sum(lanes);
}

void seam_token_gates_add_exact(float *ret_db, const seam_token_rows *rows, const float *g,
                                const float *x, const float *decoded, const uint8_t *widths) {
    for (uint32_t t = 0; t < rows->rows; t++) {
        const size_t at = (size_t)t * rows->channels;
        const uint32_t p = rows->gates[t];
        const double sum = row_errors(g + at, x + at, decoded + at, rows->channels);
        ret_db[p] += (float)(-LN2 * seam_gates_kappa(widths[p]) * sum);
    }
}

void seam_token_gates_add_surrogate(float *ret_db, const seam_token_rows *rows, const float *g,
                                    const float *steps, const uint8_t *widths,
                                    uint32_t labelled_rows) {
    for (uint32_t t = 0; t < rows->rows; t++) {
        const uint32_t p = rows->gates[t];
        const double sum = row_squares(g + (size_t)t * rows->channels, rows->channels);
        const double scale = -(LN2 / 12.0) * (double)labelled_rows * seam_gates_kappa(widths[p]);
        ret_db[p] += (float)(scale * (double)steps[t] * (double)steps[t] * sum);
    }
}

/* At most 4,096 micro-batches of 2^20 rows: a count fits. */
void seam_token_gates_add_counts(uint32_t *ret_counts, const seam_token_rows *rows,
                                 const uint8_t *bitmap) {
    for (uint32_t t = 0; t < rows->rows; t++) {
        if (seam_bitmap_has(bitmap, t)) {
            ret_counts[rows->gates[t]]++;
        }
    }
}

void seam_token_gates_weigh(float *ret_weights, const uint32_t *counts, uint32_t gate_count) {
    uint64_t total = 0;
    for (uint32_t p = 0; p < gate_count; p++) {
        total += counts[p];
    }
    SEAM_ASSERT(total > 0);
    for (uint32_t p = 0; p < gate_count; p++) {
        ret_weights[p] = (float)((double)counts[p] / (double)total);
    }
}

double seam_token_gates_mean(const seam_gates *gates) {
    double mean = 0.0;
    SEAM_ASSERT(gates->weights != NULL);
    seam_gates_bits(gates->bits, gates);
    for (uint32_t p = 0; p < gates->gate_count; p++) {
        mean += (double)gates->weights[p] * (double)gates->bits[p];
    }
    return mean;
}
