/* FP8 of the frozen products, reference: operands rounded to e4m3 as ops.h says, then summed in
 * double.  Both scales are powers of two, so that their product with the sum is exact. */
#include <math.h>

#include "ref.h"

#define E4M3_MAX       448.0
#define E4M3_EXP_MIN   (-6) /* of the smallest normal number */
#define E4M3_MANTISSA  3
#define SCALE_EXP_MIN  (-126)
#define WIDTH_MULTIPLE 16

/* The scale of a row; NaN when a value is not finite. */
static double row_scale(const double *x, size_t step, size_t count) {
    double max = 0.0;
    int exponent = 0;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(x[i * step])) {
            return NAN;
        }
        max = fmax(max, fabs(x[i * step]));
    }
    const double fraction = frexp(max / E4M3_MAX, &exponent); /* max / 448 <= 2^exponent */
    exponent -= fraction == 0.5 ? 1 : 0;
    return ldexp(1.0, max == 0.0 || exponent < SCALE_EXP_MIN ? SCALE_EXP_MIN : exponent);
}

/* x rounded to a multiple of the last place of e4m3 at this scale. */
static double round_at(double x, double scale) {
    const double value = x / scale;
    if (value == 0.0 || isnan(value)) {
        return value;
    }
    const int exponent = ilogb(value) > E4M3_EXP_MIN ? ilogb(value) : E4M3_EXP_MIN;
    const double place = ldexp(1.0, exponent - E4M3_MANTISSA);
    return nearbyint(value / place) * place * scale;
}

static void round_row(double *ret, const double *x, size_t step, size_t count) {
    const double scale = row_scale(x, step, count);
    for (size_t i = 0; i < count; i++) {
        ret[i * step] = round_at(x[i * step], scale);
    }
}

void seam_ref_fp8_weight(seam_weight *weight) {
    const size_t N = weight->N, C = weight->C;
    for (size_t n = 0; n < N; n++) {
        round_row(weight->fp8[0] + n * C, weight->rows + n * C, 1, C);
    }
    for (size_t c = 0; c < C; c++) {
        round_row(weight->fp8[1] + c, weight->rows + c, C, N);
    }
}

bool seam_ref_fp8_fits(const seam_weight *weight) {
    SEAM_ASSERT(weight->fp8[0] != NULL);
    return weight->N % WIDTH_MULTIPLE == 0 && weight->C % WIDTH_MULTIPLE == 0;
}

void seam_ref_fp8_add(const seam_ref_fp8_sum *sum) {
    const double scale = row_scale(sum->x, 1, sum->x_count);
    for (size_t c = 0; c < sum->x_count; c++) {
        const double x = round_at(sum->x[c], scale);
        for (size_t n = 0; n < sum->y_count; n++) {
            sum->y[n] += x * sum->w[n * sum->w_n + c * sum->w_c];
        }
    }
}
