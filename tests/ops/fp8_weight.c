/* The scale of a frozen matrix's rows in FP8 (ops.h), for a device and the reference.  Method: the
 * products of unit vectors are the rounded matrix itself, forward by its rows and backward by its
 * columns; what they hold is compared with a search by this file, which finds the nearest number of
 * e4m3 in a list of all of them: the same largest values, no scale of the 32 with less error, and
 * of random rows less error than the first scale has. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "harness.h"

enum { N = 48, C = 112, E4M3_COUNT = 127, SEED = 70 };

static double e4m3[E4M3_COUNT]; /* ascending */

static void e4m3_list(void) {
    for (int code = 0; code < E4M3_COUNT; code++) {
        const int exponent = code >> 3, fraction = code & 7;
        e4m3[code] = exponent == 0 ? ldexp(fraction, -9) : ldexp(8 + fraction, exponent - 10);
    }
}

static double nearest(double x) {
    const double size = fabs(x);
    int below = 0;
    while (below + 1 < E4M3_COUNT && e4m3[below + 1] <= size) {
        below++;
    }
    const bool up = below + 1 < E4M3_COUNT && size - e4m3[below] > e4m3[below + 1] - size;
    return copysign(e4m3[below + (up ? 1 : 0)], x);
}

/* Squared error of a row at 1 + j / 32 of its first scale, relative to that scale. */
static double error_at(const double *w, uint32_t step, uint32_t count, double first, int j) {
    const double scale = first * (1 + j / 32.0);
    double sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        const double e = (w[i * step] - scale * nearest(w[i * step] / scale)) / first;
        sum += e * e;
    }
    return sum;
}

/* Rows of every kind: zeros, one value, a value far above the others, tiny, even, odd. */
static double value_of(uint32_t n, uint32_t c) {
    const double x = input_value(SEED, (size_t)n * C + c, 1.0);
    switch (n % 8) {
    case 0:
        return n == 0 ? 0.0 : x;
    case 1:
        return c == 5 ? 0.75 : 0.0;
    case 2:
        return c == 7 ? 64.0 * x : x / 64;
    case 3:
        return ldexp(x, -60);
    case 4:
        return ldexp((double)(c % 16), -4);
    default:
        return x;
    }
}

/* T unit vectors of T values, act. */
static void *units_make(run *r, uint32_t T) {
    void *unit = run_const(r, ACT, (size_t)T * T, 0.0), *one = run_const(r, ACT, 1, 1.0);
    const size_t bytes = seam_dtype_bytes(r->ops->act);
    uint8_t value[8];
    CHECK(r->ops->copy_out(r->stream, value, one, bytes) == SEAM_OK);
    for (uint32_t t = 0; t < T; t++) {
        uint8_t *at = (uint8_t *)unit + ((size_t)t * T + t) * bytes;
        CHECK(r->ops->copy_in(r->stream, at, value, bytes) == SEAM_OK);
    }
    CHECK(r->ops->stream_sync(r->stream) == SEAM_OK);
    return unit;
}

/* The matrix as products see it, output 0 of the run: W^T (C, N) as rounded by rows; output 1, W
 * (N, C), by columns. */
static void matrix_read(run *r, const seam_weight *w) {
    void *turned = run_const(r, ACC, (size_t)C * N, NAN), *same = run_const(r, ACC, N * C, NAN);
    const seam_linear_forward_args forward = {.y = turned,
                                              .y_ld = N,
                                              .y_out = SEAM_OUT_ACC,
                                              .x = units_make(r, C),
                                              .x_ld = C,
                                              .w = w,
                                              .T = C,
                                              .fp8 = true};
    const seam_linear_backward_args backward = {.dx = same,
                                                .dx_ld = C,
                                                .dx_out = SEAM_OUT_ACC,
                                                .dy = units_make(r, N),
                                                .dy_ld = N,
                                                .w = w,
                                                .T = N,
                                                .fp8 = true};
    CHECK(r->ops->linear_forward(r->stream, &forward) == SEAM_OK);
    CHECK(r->ops->linear_backward(r->stream, &backward) == SEAM_OK);
    run_output(r, "by rows", ACC, turned, C, N, N, 0, 0);
    run_output(r, "by columns", ACC, same, N, C, C, 0, 0);
}

/* How far `got` is from being the best of 32 roundings of w; both by `step`.  Adds the errors of
 * its scale and of the first to `sums`. */
static bool row_best(const double *got, uint32_t got_step, const double *w, uint32_t step,
                     uint32_t count, double sums[2]) {
    double most = 0x1p-100, error = 0, least = INFINITY;
    for (uint32_t i = 0; i < count; i++) {
        most = fmax(most, fabs(w[i * step]));
    }
    const double first = most / 448;
    for (uint32_t i = 0; i < count; i++) {
        const double e = (got[i * got_step] - w[i * step]) / first;
        error += e * e;
    }
    for (int j = 0; j < 32; j++) {
        least = fmin(least, error_at(w, step, count, first, j));
    }
    sums[0] += error;
    sums[1] += error_at(w, step, count, first, 0);
    /* f32 in the scales, and units of 2^-13 of the first one: half of one a value, each way */
    const double unit = ldexp(sqrt(count), -13);
    return fabs(sqrt(error) - sqrt(least)) <= unit + 448 * sqrt(count) * 0x1p-22;
}

static uint32_t weight_check(run *r, const double *w, const char *name) {
    const output *rows = &r->out[0], *columns = &r->out[1];
    double sums[2] = {0, 0};
    uint32_t failures = 0;
    for (uint32_t n = 0; n < N; n++) {
        failures += row_best(rows->x + n, N, w + (size_t)n * C, 1, C, sums) ? 0 : 1;
    }
    for (uint32_t c = 0; c < C; c++) {
        failures += row_best(columns->x + c, C, w + c, C, N, sums) ? 0 : 1;
    }
    CHECK(sums[0] < 0.9 * sums[1]); /* it was worth looking for */
    if (failures > 0) {
        (void)fprintf(stderr, "FAILED fp8 weight of %s: %u rows are not at the best scale\n", name,
                      failures);
    }
    return failures;
}

uint32_t fp8_weight_check(seam_backend *backend, seam_backend *ref) {
    static float rows[N * C];
    static double w[N * C];
    seam_backend *const backends[2] = {backend, ref};
    uint32_t failures = 0;
    run r[2];
    e4m3_list();
    for (uint32_t i = 0; i < N * C; i++) {
        w[i] = value_of(i / C, i % C);
        rows[i] = (float)w[i];
    }
    for (int i = 0; i < 2; i++) {
        seam_weight *weight = NULL;
        run_open(&r[i], backends[i]);
        CHECK(r[i].ops->weight_create(&weight, backends[i], rows, N, C, true, true, 0) == SEAM_OK);
        matrix_read(&r[i], weight);
        failures += weight_check(&r[i], w, r[i].ops->name);
        r[i].ops->weight_destroy(weight);
    }
    for (uint32_t k = 0; k < 2; k++) {
        uint32_t apart = 0; /* of another scale: a 32nd of it at least */
        for (size_t i = 0; i < (size_t)N * C; i++) {
            const double got = r[0].out[k].x[i], want = r[1].out[k].x[i];
            apart += fabs(got - want) <= 1e-6 * fabs(want) ? 0 : 1;
        }
        if (apart > 0) {
            (void)fprintf(stderr, "FAILED fp8 weight: %u values %s are not the reference's\n",
                          apart, r[0].out[k].name);
            failures++;
        }
    }
    run_close(&r[1]);
    run_close(&r[0]);
    return failures;
}
