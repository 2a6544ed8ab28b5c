/* The ops that treat rows or elements one by one.  size: first the width. */
#include <math.h>
#include <stdlib.h>

#include "harness.h"

enum { X = 50, Y = 51, WEIGHT = 52, TABLE = 53, MOMENT1 = 54, MOMENT2 = 55, DACT = 56 };

/* size: C, dx_add, dy_is_acc, as the blocks do (x and dx in both types), elements between the rows
 * of y */
static void rmsnorm(run *r, const op_case *c, uint32_t row0, uint32_t T) {
    const uint32_t C = c->size[0], y_ld = C + c->size[4];
    void *x = run_input(r, X, ACC, row0, T, C, c->scale);
    void *w = run_input(r, WEIGHT, ACC, 0, 1, C, 1.0);
    void *y = run_const(r, ACT, (size_t)T * y_ld, NAN), *rstd = run_const(r, ACC, T, NAN);
    const bool both = c->size[3] != 0;
    void *x_act = both ? run_const(r, ACT, (size_t)T * C, NAN) : NULL;
    void *dx_act = both ? run_const(r, ACT, (size_t)T * C, NAN) : NULL;
    const seam_rmsnorm_forward_args forward = {.y = y,
                                               .rstd = rstd,
                                               .x_act = x_act,
                                               .x = x,
                                               .w = w,
                                               .eps = 1e-5f,
                                               .y_ld = c->size[4] != 0 ? y_ld : 0,
                                               .T = T,
                                               .C = C};
    CHECK(r->ops->rmsnorm_forward(r->stream, &forward) == SEAM_OK);
    run_output(r, "y", ACT, y, T, C, y_ld, Y, 0);
    run_output(r, "rstd", ACC, rstd, T, 1, 1, 0, 0);
    const bool add = c->size[1] != 0, is_acc = c->size[2] != 0;
    void *dx =
        add ? run_input(r, DACT, ACC, row0, T, C, 1.0) : run_const(r, ACC, (size_t)T * C, NAN);
    const seam_rmsnorm_backward_args backward = {
        .dx = dx,
        .dx_act = dx_act,
        .dx_add = add,
        .dy_is_acc = is_acc,
        .x_is_act = both,
        .x = both ? x_act : x,
        .w = w,
        .rstd = rstd,
        .T = T,
        .C = C,
        .dy = run_input(r, Y, is_acc ? ACC : ACT, row0, T, C, 1.0)};
    CHECK(r->ops->rmsnorm_backward(r->stream, &backward) == SEAM_OK);
    run_output(r, "dx", ACC, dx, T, C, C, 0, add ? 0 : X);
    if (both) {
        run_output(r, "x_act", ACT, x_act, T, C, C, 0, 0);
        void *again = run_const(r, ACT, (size_t)T * C, NAN);
        const seam_rmsnorm_forward_args of_act = {
            .y = again, .x = x_act, .x_is_act = true, .w = w, .eps = 1e-5f, .T = T, .C = C};
        CHECK(r->ops->rmsnorm_forward(r->stream, &of_act) == SEAM_OK);
        run_output(r, "y of x_act", ACT, again, T, C, C, 0, 0);
        run_output(r, "dx_act", ACT, dx_act, T, C, C, 0, 0);
    }
}

/* size: heads, D */
static void rope(run *r, const op_case *c, uint32_t row0, uint32_t T) {
    const uint32_t heads = c->size[0], D = c->size[1], ld = heads * D + 5;
    uint32_t positions[64];
    CHECK(T <= 64);
    for (uint32_t t = 0; t < T; t++) {
        positions[t] = (row0 + t) * 3 % 100;
    }
    void *cos_sin = run_input(r, TABLE, ACC, 0, 100, D, 0.5);
    void *x = run_input(r, X, HEADS, row0, T, ld, c->scale);
    void *dx = run_input(r, Y, ACT, row0, T, ld, 1.0);
    seam_rope_args args = {.x = x,
                           .ld = ld,
                           .heads = heads,
                           .cos_sin = cos_sin,
                           .positions = positions,
                           .T = T,
                           .D = D};
    CHECK(r->ops->rope(r->stream, &args) == SEAM_OK);
    run_output(r, "y", HEADS, x, T, ld - 5, ld, Y, 0);
    args.x = dx;
    args.backward = true;
    CHECK(r->ops->rope(r->stream, &args) == SEAM_OK);
    run_output(r, "dx", ACT, dx, T, ld - 5, ld, 0, X);
}

/* size: F */
static void swiglu(run *r, const op_case *c, uint32_t row0, uint32_t T) {
    const uint32_t F = c->size[0];
    void *gate_up = run_input(r, X, ACT, row0, T, 2 * (size_t)F, c->scale);
    void *y = run_const(r, ACT, (size_t)T * F, NAN);
    void *d = run_const(r, ACT, (size_t)T * 2 * F, NAN);
    const seam_swiglu_forward_args forward = {.y = y, .gate_up = gate_up, .T = T, .F = F};
    CHECK(r->ops->swiglu_forward(r->stream, &forward) == SEAM_OK);
    run_output(r, "y", ACT, y, T, F, F, Y, 0);
    seam_swiglu_backward_args backward = {.d_gate_up = d,
                                          .gate_up = gate_up,
                                          .T = T,
                                          .F = F,
                                          .dy = run_input(r, Y, ACT, row0, T, F, 1.0)};
    CHECK(r->ops->swiglu_backward(r->stream, &backward) == SEAM_OK);
    run_output(r, "d_gate_up", ACT, d, T, 2 * (size_t)F, 2 * (size_t)F, 0, X);
    backward.d_gate_up = gate_up;
    CHECK(r->ops->swiglu_backward(r->stream, &backward) == SEAM_OK);
    run_output(r, "in place", ACT, gate_up, T, 2 * (size_t)F, 2 * (size_t)F, 0, X);
}

/* size: C, V */
static void embedding(run *r, const op_case *c, uint32_t row0, uint32_t T) {
    const uint32_t C = c->size[0], V = c->size[1];
    uint32_t ids[64];
    CHECK(T <= 64);
    for (uint32_t t = 0; t < T; t++) {
        ids[t] = (row0 + t) * 11 % V;
    }
    seam_embedding_forward_args args = {.y = run_const(r, ACT, (size_t)T * C, NAN),
                                        .table = run_input(r, TABLE, ACT, 0, V, C, c->scale),
                                        .ids = ids,
                                        .T = T,
                                        .C = C,
                                        .type = r->ops->act};
    CHECK(r->ops->embedding_forward(r->stream, &args) == SEAM_OK);
    run_output(r, "y", ACT, args.y, T, C, C, 0, 0);
    args.y = run_const(r, ACC, (size_t)T * C, NAN);
    args.table = run_input(r, TABLE, ACC, 0, V, C, c->scale);
    args.type = r->ops->acc;
    CHECK(r->ops->embedding_forward(r->stream, &args) == SEAM_OK);
    run_output(r, "y in acc", ACC, args.y, T, C, C, 0, 0);
}

/* size: V, evaluation only */
static void cross_entropy(run *r, const op_case *c, uint32_t row0, uint32_t T) {
    const uint32_t V = c->size[0];
    uint32_t targets[64], argmax[64];
    CHECK(T <= 64);
    for (uint32_t t = 0; t < T; t++) {
        targets[t] = (row0 + t) * 17 % V;
        argmax[t] = UINT32_MAX;
    }
    void *logits = run_input(r, X, ACC, row0, T, V, c->scale);
    void *loss = run_const(r, ACC, T, NAN);
    void *d = c->size[1] ? NULL : run_const(r, ACT, (size_t)T * V, NAN);
    const seam_cross_entropy_args args = {.loss = loss,
                                          .d_logits = d,
                                          .argmax = argmax,
                                          .logits = logits,
                                          .targets = targets,
                                          .grad_scale = 0.25f,
                                          .T = T,
                                          .V = V};
    CHECK(r->ops->cross_entropy(r->stream, &args) == SEAM_OK);
    run_output(r, "loss", ACC, loss, T, 1, 1, 0, 0);
    for (uint32_t t = 0; t < T; t++) {
        uint32_t want = 0;
        for (uint32_t j = 1; j < V; j++) {
            const size_t row = (size_t)(row0 + t) * V;
            if (input_value(X, row + j, c->scale) > input_value(X, row + want, c->scale)) {
                want = j;
            }
        }
        CHECK(r->nudge_seed != 0 || argmax[t] == want);
    }
    if (d != NULL) {
        run_output(r, "d_logits", ACT, d, T, V, V, 0, X);
    }
}

/* Two steps, so that moments and bias correction are seen.  T is the count. */
static void adamw(run *r, const op_case *c, uint32_t row0, uint32_t T) {
    void *param = run_input(r, X, ACC, row0, T, 1, c->scale);
    void *m = run_const(r, ACC, T, 0.0), *v = run_const(r, ACC, T, 0.0);
    void *copy = run_const(r, ACT, T, NAN);
    for (uint32_t step = 1; step <= 2; step++) {
        void *grad = run_input(r, Y + step, ACC, row0, T, 1, 0.01);
        const seam_adamw_args args = {.param = param,
                                      .m = m,
                                      .v = v,
                                      .grad = grad,
                                      .copy = copy,
                                      .count = T,
                                      .lr = 0.1f,
                                      .beta1 = 0.9f,
                                      .beta2 = 0.999f,
                                      .eps = 1e-8f,
                                      .weight_decay = 0.01f,
                                      .grad_scale = 0.5f,
                                      .step = step};
        CHECK(r->ops->adamw(r->stream, &args) == SEAM_OK);
        run_output(r, "grad", ACC, grad, T, 1, 1, 0, 0);
    }
    run_output(r, "param", ACC, param, T, 1, 1, 0, 0);
    run_output(r, "m", ACC, m, T, 1, 1, 0, 0);
    run_output(r, "v", ACC, v, T, 1, 1, 0, 0);
    run_output(r, "copy", ACT, copy, T, 1, 1, 0, 0);
}

static void sum_squares(run *r, const op_case *c, uint32_t row0, uint32_t T) {
    double sum = NAN;
    CHECK(r->ops->sum_squares(r->stream, &sum, run_input(r, X, ACC, row0, T, 1, c->scale), T) ==
          SEAM_OK);
    run_output(r, "sum", ACC, run_const(r, ACC, 1, sum), 1, 1, 1, 0, 0);
}

/* The definition of ops.h on a copy; a changed bit and two values that change places show. */
static void hash(run *r, const op_case *c, uint32_t row0, uint32_t T) {
    const size_t bytes = T * seam_dtype_bytes(r->ops->acc);
    void *const x = run_input(r, X, ACC, row0, T, 1, c->scale);
    uint32_t *const words = malloc(bytes);
    CHECK(words != NULL);
    CHECK(r->ops->copy_out(r->stream, words, x, bytes) == SEAM_OK);
    CHECK(r->ops->stream_sync(r->stream) == SEAM_OK);
    uint64_t expected = 0;
    for (uint64_t i = 0; i < bytes / sizeof *words; i++) {
        uint64_t z = words[i] + (i << 32);
        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        expected += z ^ z >> 31;
    }
    uint64_t got = 0;
    CHECK(r->ops->hash(r->stream, &got, x, T) == SEAM_OK);
    run_output(r, "as defined", ACC, run_const(r, ACC, 1, got == expected), 1, 1, 1, 0, 0);
    words[bytes / sizeof *words - 1] ^= 1u;
    CHECK(r->ops->copy_in(r->stream, x, words, bytes) == SEAM_OK);
    CHECK(r->ops->hash(r->stream, &got, x, T) == SEAM_OK);
    CHECK(got != expected);
    free(words);
}

/* f32: a handful of roundings of 2^-24, and sums over the width.  bf16: one rounding of the output,
 * 2^-8 at most (reached where there are one or two outputs). */
#define F32  2e-6
#define BF16 4e-3

const op_case row_cases[] = {
    {"rmsnorm min", rmsnorm, 1, {2, 0, 1}, 1, F32, BF16, true, false},
    {"rmsnorm odd", rmsnorm, 37, {45, 0, 1}, 3, F32, BF16, true, false},
    {"rmsnorm added", rmsnorm, 5, {576, 1, 0}, 1, F32, BF16, true, true},
    {"rmsnorm of a block", rmsnorm, 5, {576, 1, 0, 1}, 1, F32, BF16, true, true},
    {"rmsnorm of a block, odd", rmsnorm, 7, {45, 0, 0, 1}, 1, F32, BF16, true, false},
    {"rmsnorm gaps", rmsnorm, 9, {576, 1, 0, 1, 64}, 1, F32, BF16, true, true},
    /* dy has no gaps, so its rows are no cotangents of these y. */
    {"rmsnorm gaps, odd", rmsnorm, 9, {45, 0, 0, 0, 3}, 1, F32, BF16, true, true},
    {"rmsnorm wide", rmsnorm, 9, {4096, 1, 0, 1}, 1, F32, BF16, true, true},
    {"rmsnorm wide, part of a pass", rmsnorm, 9, {2056, 1, 0, 1}, 1, F32, BF16, true, true},
    {"rmsnorm wider", rmsnorm, 9, {4104, 1, 0, 1}, 1, F32, BF16, true, true},
    {"rmsnorm zeros", rmsnorm, 3, {20, 0, 0}, 0, F32, BF16, true, true},
    {"rmsnorm huge", rmsnorm, 3, {20, 0, 0}, 1e15, F32, BF16, true, true},
    {"rope min", rope, 1, {1, 2}, 1, F32, BF16, true, false},
    {"rope odd", rope, 33, {3, 20}, 1, F32, BF16, true, false},
    {"rope 64", rope, 64, {12, 64}, 1, F32, BF16, true, false},
    {"rope 96", rope, 9, {47, 96}, 1, F32, BF16, true, false},
    {"rope 128", rope, 9, {40, 128}, 1, F32, BF16, true, false},
    {"swiglu min", swiglu, 1, {1}, 1, F32, BF16, true, false},
    {"swiglu odd", swiglu, 35, {77}, 2, F32, BF16, true, false},
    {"swiglu of several blocks", swiglu, 5, {4104}, 2, F32, BF16, true, false},
    {"swiglu zeros", swiglu, 2, {19}, 0, F32, BF16, true, true},
    /* e^-g underflows or overflows on one side: y = g u or 0. */
    {"swiglu huge", swiglu, 4, {64}, 1e4, F32, BF16, true, true},
    {"embedding", embedding, 35, {45, 91}, 1, F32, F32, true, true},
    {"cross entropy min", cross_entropy, 1, {2, 0}, 1, F32, BF16, true, false},
    {"cross entropy odd", cross_entropy, 21, {1003, 0}, 2, F32, BF16, true, false},
    {"cross entropy evaluation", cross_entropy, 5, {333, 1}, 2, F32, BF16, true, true},
    {"cross entropy huge", cross_entropy, 5, {333, 0}, 1e6, F32, BF16, true, true},
    {"adamw", adamw, 1, {0}, 1, F32, BF16, true, true},
    {"adamw odd", adamw, 40001, {0}, 1, F32, BF16, true, true},
    {"sum squares", sum_squares, 1, {0}, 1, F32, F32, false, true},
    {"sum squares odd", sum_squares, 70003, {0}, 1, F32, F32, false, true},
    {"hash", hash, 1, {0}, 1, F32, F32, false, true},
    {"hash odd", hash, 270003, {0}, 1, F32, F32, false, true},
};
const size_t row_case_count = sizeof row_cases / sizeof row_cases[0];
