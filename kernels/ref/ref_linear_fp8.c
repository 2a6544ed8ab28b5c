/* FP8 of the frozen products, reference: operands rounded to e4m3 as ops.h says, then summed in
 * double.  What ops.h takes in f32 (scales, their inverses, a value by an inverse) is float here.
 */
#include <math.h>

#include "ref.h"

#define E4M3_MAX       448.0f
#define E4M3_EXP_MIN   (-6) /* of the smallest normal number */
#define E4M3_MANTISSA  3
#define WIDTH_MULTIPLE 16
#define UNITS          8192.0 /* of a weight's error, in its row's first scale */

/* The largest magnitude of a row, from the least that has a scale of its own; NaN when a value is
 * not finite. */
static float row_largest(const double *x, size_t step, size_t count) {
    float most = SEAM_FP8_LARGEST_MIN;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(x[i * step])) {
            return NAN;
        }
        most = fmaxf(most, fabsf((float)x[i * step]));
    }
    return most;
}

/* To a place of e4m3; what is above its numbers by a rounding of f32 is the last of them. */
static double e4m3(float x) {
    if (x == 0.0f || isnan(x)) {
        return x;
    }
    const int exponent = ilogbf(x) > E4M3_EXP_MIN ? ilogbf(x) : E4M3_EXP_MIN;
    const double place = ldexp(1.0, exponent - E4M3_MANTISSA);
    return nearbyint(x / place) * place;
}

/* ops.h's r_j. */
static float weight_inverse(float most, uint32_t j) {
    return E4M3_MAX / most * (1.0f / (1.0f + (float)j / SEAM_FP8_WEIGHT_SCALES));
}

/* ops.h's E_j, or more than enough where it is above `enough`. */
static uint64_t weight_error(const double *w, size_t step, size_t count, float most, uint32_t j,
                             uint64_t enough) {
    const float inverse = weight_inverse(most, j), first = E4M3_MAX / most;
    const double factor = 1.0 + (double)j / SEAM_FP8_WEIGHT_SCALES;
    uint64_t sum = 0;
    for (size_t i = 0; i < count && sum <= enough; i++) {
        const float value = (float)w[i * step];
        const double units = nearbyint(UNITS * (double)(value * first));
        const int64_t error = (int64_t)nearbyint(units - UNITS * factor * e4m3(value * inverse));
        sum += (uint64_t)(error * error);
    }
    return sum;
}

static void weight_row(double *ret, const double *w, size_t step, size_t count) {
    const float most = row_largest(w, step, count);
    uint32_t best = 0;
    uint64_t least = UINT64_MAX;
    for (uint32_t j = 0; j < SEAM_FP8_WEIGHT_SCALES && !isnan(most); j++) {
        const uint64_t error = weight_error(w, step, count, most, j, least);
        if (error < least) {
            least = error;
            best = j;
        }
    }
    const float scale = most / E4M3_MAX * (1.0f + (float)best / SEAM_FP8_WEIGHT_SCALES);
    for (size_t i = 0; i < count; i++) {
        ret[i * step] = e4m3((float)w[i * step] * weight_inverse(most, best)) * (double)scale;
    }
}

void seam_ref_fp8_weight(seam_weight *weight) {
    const size_t N = weight->N, C = weight->C;
    for (size_t n = 0; n < N; n++) {
        weight_row(weight->fp8[0] + n * C, weight->rows + n * C, 1, C);
    }
    for (size_t c = 0; c < C; c++) {
        weight_row(weight->fp8[1] + c, weight->rows + c, C, N);
    }
}

bool seam_ref_fp8_fits(const seam_weight *weight) {
    SEAM_ASSERT(weight->fp8[0] != NULL);
    return weight->N % WIDTH_MULTIPLE == 0 && weight->C % WIDTH_MULTIPLE == 0;
}

void seam_ref_fp8_add(const seam_ref_fp8_sum *sum) {
    const float most = row_largest(sum->x, 1, sum->x_count);
    const float inverse = E4M3_MAX / most, scale = most / E4M3_MAX;
    for (size_t c = 0; c < sum->x_count; c++) {
        const double x = e4m3((float)sum->x[c] * inverse) * (double)scale;
        for (size_t n = 0; n < sum->y_count; n++) {
            sum->y[n] += x * sum->w[n * sum->w_n + c * sum->w_c];
        }
    }
}
