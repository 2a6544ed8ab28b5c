/* Rows in FP8 from the op before a product (ops.h).  Method: the product of rows that the op left
 * in act, which it rounds itself (cases_linear.c holds that to the reference), and the product of
 * rows that the op rounded: the same bits, and all else that the op writes too. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "harness.h"

enum { X = 60, W = 61, WEIGHT = 62, DX = 63, DY = 64, N = 32, BIAS = 65 };

typedef struct rows_case {
    const char *name;
    uint32_t T, K; /* K: of the op's rows, the product's sum (2 F of SwiGLU's gradient) */
    double scale;
    bool ruined; /* a row with a value that is not finite */
} rows_case;

static const rows_case rows_cases[] = {
    {"least", 1, 32, 1, false},
    {"odd", 37, 96, 3, false},
    {"a block's pass + 16", 9, 4112, 1, false},
    {"8B's hidden", 5, 4096, 1, false},
    {"8B's gate and up", 3, 28672, 1, false},
    {"widest", 2, 65536, 1, false},
    {"zeros", 3, 64, 0, false},
    {"tiny", 5, 64, 1e-18, false},
    {"huge", 5, 64, 1e15, false},
    {"not finite", 7, 64, 1, true},
};

/* What is compared: the product by rows in act, by rows in FP8, and the op's other output. */
typedef struct outcome {
    void *rows, *scale; /* the rows; scale NULL: in act */
    void *other;        /* (T, K) acc or act, or NULL */
    kind other_kind;
} outcome;

typedef void (*maker)(run *r, const rows_case *c, outcome *out);

static void *ruin(run *r, const rows_case *c, void *x, size_t cols, kind type) {
    if (c->ruined) { /* the first value of the last row: infinity, as bf16's or f32's last bytes */
        const uint8_t infinity[4] = {0, 0, 0x80, 0x7f};
        const size_t bytes = seam_dtype_bytes(type == ACC ? r->ops->acc : r->ops->act);
        uint8_t *at = (uint8_t *)x + (size_t)(c->T - 1) * cols * bytes;
        CHECK(r->ops->copy_in(r->stream, at, infinity + 4 - bytes, bytes) == SEAM_OK);
        CHECK(r->ops->stream_sync(r->stream) == SEAM_OK);
    }
    return x;
}

static void norm_forward(run *r, const rows_case *c, outcome *out) {
    const size_t count = (size_t)c->T * c->K;
    const seam_rmsnorm_forward_args args = {
        .y = run_const(r, ACT, count, NAN),
        .y_scale = out->scale,
        .rstd = run_const(r, ACC, c->T, NAN),
        .x_act = run_const(r, ACT, count, NAN),
        .x = ruin(r, c, run_input(r, X, ACC, 0, c->T, c->K, c->scale), c->K, ACC),
        .w = run_input(r, WEIGHT, ACC, 0, 1, c->K, 1.0),
        .eps = 1e-5f,
        .T = c->T,
        .C = c->K};
    CHECK(r->ops->rmsnorm_forward(r->stream, &args) == SEAM_OK);
    *out = (outcome){args.y, out->scale, args.x_act, ACT};
}

static void norm_backward(run *r, const rows_case *c, outcome *out) {
    const seam_rmsnorm_backward_args args = {
        .dx = run_input(r, DX, ACC, 0, c->T, c->K, c->scale),
        .dx_act = run_const(r, ACT, (size_t)c->T * c->K, NAN),
        .dx_act_scale = out->scale,
        .dx_add = true,
        .x_is_act = true,
        .dy = ruin(r, c, run_input(r, DY, ACT, 0, c->T, c->K, c->scale), c->K, ACT),
        .x = run_input(r, X, ACT, 0, c->T, c->K, 1.0),
        .w = run_input(r, WEIGHT, ACC, 0, 1, c->K, 1.0),
        .rstd = run_const(r, ACC, c->T, 1.25),
        .T = c->T,
        .C = c->K};
    CHECK(r->ops->rmsnorm_backward(r->stream, &args) == SEAM_OK);
    *out = (outcome){args.dx_act, out->scale, args.dx, ACC};
}

static void swiglu_forward(run *r, const rows_case *c, outcome *out) {
    const seam_swiglu_forward_args args = {
        .y = run_const(r, ACT, (size_t)c->T * c->K, NAN),
        .y_scale = out->scale,
        .gate_up = ruin(r, c, run_input(r, X, ACT, 0, c->T, 2 * (size_t)c->K, c->scale),
                        2 * (size_t)c->K, ACT),
        .T = c->T,
        .F = c->K};
    CHECK(r->ops->swiglu_forward(r->stream, &args) == SEAM_OK);
    *out = (outcome){args.y, out->scale, NULL, ACT};
}

/* In place, as the blocks do. */
static void swiglu_backward(run *r, const rows_case *c, outcome *out) {
    void *gate_up = run_input(r, X, ACT, 0, c->T, c->K, c->scale);
    const seam_swiglu_backward_args args = {
        .d_gate_up = gate_up,
        .d_gate_up_scale = out->scale,
        .dy = ruin(r, c, run_input(r, DY, ACT, 0, c->T, c->K / 2, 1.0), c->K / 2, ACT),
        .gate_up = gate_up,
        .T = c->T,
        .F = c->K / 2};
    CHECK(r->ops->swiglu_backward(r->stream, &args) == SEAM_OK);
    *out = (outcome){gate_up, out->scale, NULL, ACT};
}

/* As forward's x of w (N, K) with a bias, and as backward's dy of w (K, N). */
static void products(run *r, const rows_case *c, const outcome *rows, seam_weight *const w[2],
                     const void *bias) {
    void *y = run_const(r, ACT, (size_t)c->T * N, NAN), *dx = run_const(r, ACC, c->T * N, NAN);
    const seam_linear_forward_args forward = {.y = y,
                                              .y_ld = N,
                                              .y_out = SEAM_OUT_ACT,
                                              .x = rows->rows,
                                              .x_scale = rows->scale,
                                              .x_ld = c->K,
                                              .w = w[0],
                                              .bias = bias,
                                              .T = c->T,
                                              .fp8 = true};
    const seam_linear_backward_args backward = {.dx = dx,
                                                .dx_ld = N,
                                                .dx_out = SEAM_OUT_ACC,
                                                .dy = rows->rows,
                                                .dy_scale = rows->scale,
                                                .dy_ld = c->K,
                                                .w = w[1],
                                                .T = c->T,
                                                .fp8 = true};
    CHECK(r->ops->linear_forward(r->stream, &forward) == SEAM_OK);
    CHECK(r->ops->linear_backward(r->stream, &backward) == SEAM_OK);
    run_output(r, "y", ACT, y, c->T, N, N, 0, 0);
    run_output(r, "dx", ACC, dx, c->T, N, N, 0, 0);
    if (rows->other != NULL) {
        run_output(r, "other", rows->other_kind, rows->other, c->T, c->K, c->K, 0, 0);
    }
}

static seam_weight *weight_of(run *r, uint32_t rows, uint32_t cols) {
    float *values = seam_mem_alloc((size_t)rows * cols * sizeof *values);
    seam_weight *w = NULL;
    CHECK(values != NULL);
    for (size_t i = 0; i < (size_t)rows * cols; i++) {
        values[i] = (float)input_value(W, i, 1.0 / 64);
    }
    CHECK(r->ops->weight_create(&w, r->backend, values, rows, cols, true, true, 0) == SEAM_OK);
    seam_mem_free(values);
    return w;
}

static uint32_t rows_check(seam_backend *backend, const rows_case *c, const char *op, maker make) {
    uint32_t failures = 0;
    run r;
    run_open(&r, backend);
    seam_weight *const w[2] = {weight_of(&r, N, c->K), weight_of(&r, c->K, N)};
    const void *bias = run_input(&r, BIAS, ACC, 0, 1, N, 1.0);
    outcome act = {.scale = NULL}, rounded = {.scale = run_const(&r, ACC, c->T, NAN)};
    CHECK(r.ops->linear_takes_fp8(w[0], false) && r.ops->linear_takes_fp8(w[1], true));
    make(&r, c, &act);
    make(&r, c, &rounded);
    products(&r, c, &act, w, bias);
    products(&r, c, &rounded, w, bias);
    const uint32_t half = r.out_count / 2;
    for (uint32_t i = 0; i < half; i++) {
        const output *want = &r.out[i], *got = &r.out[i + half];
        bool numbers = false;
        for (size_t k = 0; k < want->rows * want->cols; k++) {
            numbers = numbers || isfinite(want->x[k]);
        }
        CHECK(numbers);
        if (memcmp(got->x, want->x, want->rows * want->cols * sizeof(double)) != 0) {
            (void)fprintf(stderr, "FAILED fp8 rows of %s, %s: %s, error %.3g\n", op, c->name,
                          want->name, relative_error(got->x, want->x, want->rows * want->cols));
            failures++;
        }
    }
    r.ops->weight_destroy(w[0]);
    r.ops->weight_destroy(w[1]);
    run_close(&r);
    return failures;
}

uint32_t fp8_rows_check(seam_backend *backend) {
    static const struct {
        const char *name;
        maker make;
    } ops[] = {{"norm forward", norm_forward},
               {"norm backward", norm_backward},
               {"swiglu forward", swiglu_forward},
               {"swiglu backward", swiglu_backward}};
    uint32_t failures = 0;
    for (size_t i = 0; i < sizeof rows_cases / sizeof rows_cases[0]; i++) {
        for (size_t k = 0; k < sizeof ops / sizeof ops[0]; k++) {
            failures += rows_check(backend, &rows_cases[i], ops[k].name, ops[k].make);
        }
    }
    return failures;
}
