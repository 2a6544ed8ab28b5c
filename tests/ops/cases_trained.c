/* weight_own, weight_set, weight_get, weight_gradient and column_sums: what a matrix, a bias and a
 * norm's gain that are trained need.  size: N, C.  The forward op beside each is linear's and
 * rmsnorm's; gradients are added to what is there, which is zero where they are differences'. */
#include <math.h>

#include "harness.h"

enum { X = 80, W = 81, DY = 82, BIAS = 83, GAIN = 84, DH = 85, OLD = 86 };

static void *gradient_start(run *r, const op_case *c, size_t count) {
    return c->no_gradient_check ? run_input(r, OLD, ACC, 0, 1, count, 1.0)
                                : run_const(r, ACC, count, 0.0);
}

/* y = x W^T + bias; dW, dbias. */
static void trained_linear(run *r, const op_case *c, uint32_t row0, uint32_t T) {
    const uint32_t N = c->size[0], C = c->size[1], gap = N % 16 == 0 && C % 16 == 0 ? 16 : 3;
    const size_t count = (size_t)N * C;
    size_t host_bytes = 0;
    seam_weight *w = NULL;
    CHECK(r->ops->weight_own(&w, r->backend, N, C) == SEAM_OK);
    CHECK(r->ops->weight_bytes(w) == r->ops->weight_own_bytes(&host_bytes, N, C, r->ops->act));
    CHECK(host_bytes > 0);
    /* Values that were there before are gone. */
    void *rows = run_input(r, OLD, ACC, 0, N, C, 1.0);
    CHECK(r->ops->weight_set(r->stream, w, rows) == SEAM_OK);
    rows = run_input(r, W, ACC, 0, N, C, 1.0 / sqrt((double)C));
    CHECK(r->ops->weight_set(r->stream, w, rows) == SEAM_OK);
    void *again = run_const(r, ACC, count, NAN);
    CHECK(r->ops->weight_get(r->stream, again, w) == SEAM_OK);
    run_output(r, "rows", ACC, again, N, C, C, 0, 0);
    void *x = run_input(r, X, ACT, row0, T, C + gap, c->scale);
    void *y = run_const(r, ACC, (size_t)T * N, NAN);
    const seam_linear_forward_args forward = {.y = y,
                                              .y_ld = N,
                                              .y_out = SEAM_OUT_ACC,
                                              .x = x,
                                              .x_ld = C + gap,
                                              .w = w,
                                              .bias = run_input(r, BIAS, ACC, 0, 1, N, 1.0),
                                              .T = T};
    CHECK(r->ops->linear_forward(r->stream, &forward) == SEAM_OK);
    run_output(r, "y", ACC, y, T, N, N, DY, 0);
    void *dy = run_input(r, DY, ACT, row0, T, N, 1.0);
    void *dw = gradient_start(r, c, count), *dbias = gradient_start(r, c, N);
    const seam_weight_gradient_args matrix = {
        .dw = dw, .w = w, .dy = dy, .x = x, .dy_ld = N, .x_ld = C + gap, .T = T};
    CHECK(r->ops->weight_gradient(r->stream, &matrix) == SEAM_OK);
    run_output(r, "dw", ACC, dw, N, C, C, 0, W);
    const seam_column_sums_args sums = {.dw = dbias, .dy = dy, .dy_ld = N, .T = T, .C = N};
    CHECK(r->ops->column_sums(r->stream, &sums) == SEAM_OK);
    run_output(r, "dbias", ACC, dbias, 1, N, N, 0, BIAS);
    CHECK(r->ops->stream_sync(r->stream) == SEAM_OK);
    r->ops->weight_destroy(w);
}

/* y = rmsnorm(x) * gain; dgain. */
static void trained_norm(run *r, const op_case *c, uint32_t row0, uint32_t T) {
    const uint32_t C = c->size[1];
    void *x = run_input(r, X, ACT, row0, T, C, c->scale);
    void *y = run_const(r, ACT, (size_t)T * C, NAN), *rstd = run_const(r, ACC, T, NAN);
    const seam_rmsnorm_forward_args forward = {.y = y,
                                               .rstd = rstd,
                                               .x = x,
                                               .w = run_input(r, GAIN, ACC, 0, 1, C, 1.0),
                                               .x_is_act = true,
                                               .eps = 1e-5f,
                                               .T = T,
                                               .C = C};
    CHECK(r->ops->rmsnorm_forward(r->stream, &forward) == SEAM_OK);
    run_output(r, "y", ACT, y, T, C, C, DH, 0);
    void *dgain = gradient_start(r, c, C);
    const seam_column_sums_args sums = {.dw = dgain,
                                        .dy = run_input(r, DH, ACT, row0, T, C, 1.0),
                                        .x = x,
                                        .rstd = rstd,
                                        .dy_ld = C,
                                        .x_ld = C,
                                        .T = T,
                                        .C = C};
    CHECK(r->ops->column_sums(r->stream, &sums) == SEAM_OK);
    run_output(r, "dgain", ACC, dgain, 1, C, C, 0, GAIN);
}

/* f32: sums over T and C; bf16: inputs are bf16 already, W and y are rounded to it. */
#define F32  2e-6
#define BF16 4e-3

const op_case trained_cases[] = {
    {"trained min", trained_linear, 1, {1, 1}, 1, F32, BF16, true, false},
    {"trained odd", trained_linear, 37, {67, 45}, 1, F32, BF16, true, false},
    {"trained even", trained_linear, 64, {96, 48}, 1, F32, BF16, true, false},
    {"trained long", trained_linear, 1600, {40, 72}, 1, F32, BF16, true, false},
    {"trained tall", trained_linear, 70, {4200, 33}, 1, F32, BF16, true, true},
    {"trained wide", trained_linear, 129, {544, 1040}, 1, F32, BF16, true, true},
    {"trained zeros", trained_linear, 5, {8, 16}, 0, F32, BF16, true, true},
    {"trained added", trained_linear, 33, {24, 40}, 1, F32, BF16, true, true},
    {"gain min", trained_norm, 1, {0, 2}, 1, F32, BF16, true, false},
    {"gain odd", trained_norm, 300, {0, 77}, 1, F32, BF16, true, false},
    {"gain long", trained_norm, 3000, {0, 136}, 1, F32, BF16, true, true},
    {"gain huge", trained_norm, 70, {0, 64}, 1e4, F32, BF16, true, true},
};
const size_t trained_case_count = sizeof trained_cases / sizeof trained_cases[0];
