/* linear_forward and linear_backward.  size: N, C, pair count, R, then col_begin and N of the
 * second pair (the first is [0, N/2) or all), y_out, and a sum of 1: bias, 2: dropout (its draws go
 * by the row in the call, so that a row alone is another), 4: room for LoRA of rank 16 between the
 * rows, 8: of rank 64. */
#include <math.h>

#include "arena.h"
#include "harness.h"

enum { X = 1, W = 2, DY = 3, BIAS = 4, BASE = 5, DBASE = 6, A = 10, B = 20, GRADS = 30 };

static seam_weight *weight_of(run *r, uint32_t N, uint32_t C, uint32_t lora_pad) {
    float *rows = seam_mem_alloc((size_t)N * C * sizeof *rows);
    seam_weight *w = NULL;
    CHECK(rows != NULL);
    for (size_t i = 0; i < (size_t)N * C; i++) {
        rows[i] = (float)input_value(W, i, 1.0 / sqrt((double)C));
    }
    CHECK(r->ops->weight_create(&w, r->backend, rows, N, C, true, true, lora_pad) == SEAM_OK);
    CHECK(r->ops->weight_bytes(w) >= (size_t)N * C * seam_dtype_bytes(r->ops->act));
    seam_mem_free(rows);
    return w;
}

/* Of the weight: room that rows without it leave unused. */
static uint32_t pad_of(const op_case *c) {
    const uint32_t rank = (c->size[7] & 8) != 0 ? 64 : SEAM_JOIN_RANK;
    return seam_lora_pad(rank, 3, false, c->size[0], c->size[1]);
}

/* A gap between rows, so that a leading dimension is really used.  Widths of whole vectors keep
 * their rows aligned: a backend may go another way then. */
static uint32_t gap_of(const op_case *c) {
    const bool vectors = c->size[0] % 16 == 0 && c->size[1] % 16 == 0;
    return (c->size[7] & 12) != 0 ? pad_of(c) : vectors ? 16 : 3;
}

static seam_dropout dropout_of(const op_case *c, uint32_t pair) {
    static const uint32_t thresholds[SEAM_LORA_PAIRS_MAX] = {20000, 0, 45000};
    return (seam_dropout){.threshold = (c->size[7] & 2) != 0 ? thresholds[pair] : 0,
                          .place = 5 + pair,
                          .key = {0x12345678, 0x9abcdef0}};
}

static void linear_of(run *r, const op_case *c, uint32_t row0, uint32_t T, bool fp8) {
    const uint32_t N = c->size[0], C = c->size[1], pairs = c->size[2], R = c->size[3];
    const uint32_t gap = gap_of(c), pad = fp8 ? 0 : pad_of(c); /* with one, none is in FP8 */
    const seam_out out = (seam_out)c->size[6];
    const kind out_kind = out == SEAM_OUT_ACT ? ACT : ACC;
    seam_weight *w = weight_of(r, N, C, pad);
    seam_lora_pair lora[SEAM_LORA_PAIRS_MAX] = {0};
    void *x = run_input(r, X, ACT, row0, T, C + gap, c->scale);
    void *bias = c->size[7] & 1 ? run_input(r, BIAS, ACC, 0, 1, N, c->scale) : NULL;
    void *y = out == SEAM_OUT_ACC_ADD ? run_input(r, BASE, ACC, row0, T, N + gap, c->scale)
                                      : run_const(r, out_kind, (size_t)T * (N + gap), NAN);
    for (uint32_t i = 0; i < pairs; i++) {
        lora[i] = (seam_lora_pair){.col_begin = i == 0 ? 0 : c->size[4],
                                   .N = i == 0 ? (pairs > 1 ? c->size[4] : N) : c->size[5],
                                   .R = R,
                                   .scale = i == 0 ? 1.0f : 2.0f,
                                   .dropout = dropout_of(c, i)};
        lora[i].a = run_input(r, A + i, ACT, 0, R, C, 1.0 / sqrt((double)C));
        lora[i].b = run_input(r, B + i, ACT, 0, lora[i].N, R, 1.0 / sqrt((double)R));
        lora[i].u = run_const(r, ACT, (size_t)T * R, NAN);
        /* Gradients are added to what is there. */
        lora[i].da = run_input(r, GRADS + i, ACC, 0, R, C, c->scale);
        lora[i].db = run_input(r, GRADS + 10 + i, ACC, 0, lora[i].N, R, c->scale);
        if (r->nudge_seed != 0 || c->no_gradient_check) {
            continue;
        }
        CHECK(r->ops->zero(r->stream, lora[i].da, (size_t)R * C * seam_dtype_bytes(r->ops->acc)) ==
              SEAM_OK);
        CHECK(r->ops->zero(r->stream, lora[i].db,
                           (size_t)R * lora[i].N * seam_dtype_bytes(r->ops->acc)) == SEAM_OK);
    }
    const seam_linear_forward_args forward = {.y = y,
                                              .y_ld = N + gap,
                                              .y_out = out,
                                              .x = x,
                                              .x_ld = C + gap,
                                              .w = w,
                                              .bias = bias,
                                              .T = T,
                                              .lora = lora,
                                              .lora_count = pairs,
                                              .fp8 = fp8};
    CHECK(r->ops->linear_forward(r->stream, &forward) == SEAM_OK);
    run_output(r, "y", out_kind, y, T, N, N + gap, DY, 0);
    for (uint32_t i = 0; i < pairs; i++) {
        run_output(r, "u", ACT, lora[i].u, T, R, R, 0, 0);
    }
    void *dx = out == SEAM_OUT_ACC_ADD ? run_input(r, DBASE, ACC, row0, T, C + gap, c->scale)
                                       : run_const(r, out_kind, (size_t)T * (C + gap), NAN);
    const seam_linear_backward_args backward = {.dx = dx,
                                                .dx_ld = C + gap,
                                                .dx_out = out,
                                                .dy = run_input(r, DY, ACT, row0, T, N + gap, 1.0),
                                                .dy_ld = N + gap,
                                                .x = x,
                                                .x_ld = C + gap,
                                                .w = w,
                                                .T = T,
                                                .lora = lora,
                                                .lora_count = pairs,
                                                .fp8 = fp8};
    CHECK(r->ops->linear_backward(r->stream, &backward) == SEAM_OK);
    run_output(r, "dx", out_kind, dx, T, C, C + gap, 0, out == SEAM_OUT_ACC_ADD ? 0 : X);
    for (uint32_t i = 0; i < pairs; i++) {
        const bool from_zero = !c->no_gradient_check;
        run_output(r, "da", ACC, lora[i].da, R, C, C, 0, from_zero ? A + i : 0);
        run_output(r, "db", ACC, lora[i].db, lora[i].N, R, R, 0, from_zero ? B + i : 0);
    }
    r->ops->weight_destroy(w);
}

static void linear(run *r, const op_case *c, uint32_t row0, uint32_t T) {
    linear_of(r, c, row0, T, false);
}

static void linear_fp8(run *r, const op_case *c, uint32_t row0, uint32_t T) {
    linear_of(r, c, row0, T, true);
}

/* u of ones through A = 1 is the mask itself, which must be the reference's to the bit. */
static void dropout_mask(run *r, const op_case *c, uint32_t row0, uint32_t T) {
    const uint32_t N = c->size[0], C = c->size[1], R = c->size[3];
    CHECK(row0 == 0 && R == C && R <= 256);
    seam_weight *w = weight_of(r, N, C, seam_lora_pad(SEAM_JOIN_RANK, 3, false, N, C));
    float *ones = seam_mem_zalloc((size_t)C * C, sizeof *ones);
    CHECK(ones != NULL);
    for (uint32_t i = 0; i < C; i++) {
        ones[(size_t)i * C + i] = 1.0f;
    }
    void *unit = run_const(r, ACT, (size_t)C * C, 0);
    void *unit_f32 = run_const(r, ACC, (size_t)C * C, 0);
    CHECK(r->ops->copy_in(r->stream, unit_f32, ones, (size_t)C * C * sizeof *ones) == SEAM_OK);
    CHECK(r->ops->cast(r->stream, unit, r->ops->act, unit_f32, SEAM_F32, (size_t)C * C) == SEAM_OK);
    CHECK(r->ops->stream_sync(r->stream) == SEAM_OK);
    seam_mem_free(ones);
    const seam_lora_pair pair = {.N = N,
                                 .R = R,
                                 .scale = 1.0f,
                                 .a = unit,
                                 .b = run_const(r, ACT, (size_t)N * R, 0),
                                 .u = run_const(r, ACT, (size_t)T * R, NAN),
                                 .dropout = dropout_of(c, 0)};
    const seam_linear_forward_args forward = {.y = run_const(r, ACT, (size_t)T * N, NAN),
                                              .y_ld = N,
                                              .y_out = SEAM_OUT_ACT,
                                              .x = run_const(r, ACT, (size_t)T * C, 1),
                                              .x_ld = C,
                                              .w = w,
                                              .T = T,
                                              .lora = &pair,
                                              .lora_count = 1};
    CHECK(r->ops->linear_forward(r->stream, &forward) == SEAM_OK);
    run_output(r, "mask", ACT, pair.u, T, R, R, 0, 0);
    r->ops->weight_destroy(w);
}

void linear_small_share(run *r) {
    enum { T = 192, N = 128, C = 64, R = 8 };
    seam_weight *w = weight_of(r, N, C, seam_lora_pad(SEAM_JOIN_RANK, 3, false, N, C));
    seam_lora_pair pair = {.N = N, .R = R, .scale = 1.0f};
    seam_linear_forward_args args = {
        .y_ld = N, .y_out = SEAM_OUT_ACT, .x_ld = C, .w = w, .T = T, .lora = &pair};
    args.x = run_input(r, X, ACT, 0, T, C, 1.0);
    pair.a = run_input(r, A, ACT, 0, R, C, 1.0 / sqrt((double)C));
    pair.b = run_input(r, B, ACT, 0, N, R, 1e-3 / sqrt((double)R));
    pair.u = run_const(r, ACT, (size_t)T * R, NAN);
    for (args.lora_count = 0; args.lora_count < 2; args.lora_count++) {
        args.y = run_const(r, ACT, (size_t)T * N, NAN);
        CHECK(r->ops->linear_forward(r->stream, &args) == SEAM_OK);
        run_output(r, "y", ACT, args.y, T, N, N, 0, 0);
    }
    r->ops->weight_destroy(w);
}

/* f32: sums of C terms in one running f32 sum err by about sqrt(C) 2^-24 (2e-6 at C = 1536).
 * bf16: the output's rounding is 2^-8 at most and about 1.6e-3 of the norm; u and v are
 * rounded once more on the way. */
#define F32  4e-6
#define BF16 3e-3

const op_case linear_cases[] = {
    {"linear min", linear, 1, {1, 1, 0, 0, 0, 0, SEAM_OUT_ACT, 0}, 1, F32, BF16, true, false},
    {"linear min lora", linear, 1, {1, 1, 1, 1, 0, 0, SEAM_OUT_ACC, 0}, 1, F32, 6e-3, true, false},
    {"linear odd", linear, 37, {61, 45, 1, 3, 0, 0, SEAM_OUT_ACT, 1}, 1, F32, BF16, true, false},
    {"linear odd 2 pairs",
     linear,
     53,
     {77, 60, 2, 5, 20, 41, SEAM_OUT_ACC, 1},
     1,
     F32,
     BF16,
     true,
     false},
    {"linear added",
     linear,
     19,
     {40, 36, 1, 16, 0, 0, SEAM_OUT_ACC_ADD, 0},
     1,
     F32,
     BF16,
     true,
     true},
    {"linear qkv",
     linear,
     70,
     {960, 576, 2, 16, 576, 192, SEAM_OUT_ACT, 0},
     1,
     F32,
     BF16,
     true,
     false},
    {"linear rank 64",
     linear,
     130,
     {96, 128, 1, 64, 0, 0, SEAM_OUT_ACC, 0},
     1,
     F32,
     BF16,
     true,
     false},
    {"linear rank 200",
     linear,
     33,
     {64, 96, 1, 200, 0, 0, SEAM_OUT_ACT, 0},
     1,
     F32,
     BF16,
     true,
     false},
    {"linear added wide",
     linear,
     35,
     {96, 160, 1, 16, 0, 0, SEAM_OUT_ACC_ADD, 1},
     1,
     F32,
     BF16,
     true,
     true},
    {"linear plain", linear, 45, {256, 64, 0, 0, 0, 0, SEAM_OUT_ACT, 0}, 1, F32, BF16, true, false},
    {"linear long",
     linear,
     800,
     {64, 1536, 1, 16, 0, 0, SEAM_OUT_ACC, 0},
     1,
     F32,
     BF16,
     true,
     true},
    {"linear many rows",
     linear,
     1921,
     {48, 32, 1, 4, 0, 0, SEAM_OUT_ACT, 0},
     1,
     F32,
     BF16,
     true,
     true},
    {"linear 3 pairs",
     linear,
     150,
     {160, 96, 3, 24, 64, 32, SEAM_OUT_ACT, 1},
     1,
     F32,
     BF16,
     true,
     false},
    {"linear rank 40 long",
     linear,
     1100,
     {80, 144, 2, 40, 32, 48, SEAM_OUT_ACT, 0},
     1,
     F32,
     BF16,
     true,
     true},
    {"linear rank 8 added",
     linear,
     600,
     {64, 80, 1, 8, 0, 0, SEAM_OUT_ACC_ADD, 1},
     1,
     F32,
     BF16,
     true,
     true},
    {"linear padded qkv",
     linear,
     70,
     {960, 576, 2, 16, 576, 192, SEAM_OUT_ACT, 4},
     1,
     F32,
     BF16,
     true,
     false},
    {"linear padded 3 pairs",
     linear,
     150,
     {160, 96, 3, 16, 64, 32, SEAM_OUT_ACT, 5},
     1,
     F32,
     BF16,
     true,
     false},
    {"linear padded added",
     linear,
     600,
     {64, 80, 1, 8, 0, 0, SEAM_OUT_ACC_ADD, 5},
     1,
     F32,
     BF16,
     true,
     true},
    {"linear padded rank 64",
     linear,
     130,
     {96, 128, 1, 64, 0, 0, SEAM_OUT_ACC, 4},
     1,
     F32,
     BF16,
     true,
     false},
    {"linear padded, ranks of 72",
     linear,
     150,
     {160, 96, 3, 24, 64, 32, SEAM_OUT_ACT, 5},
     1,
     F32,
     BF16,
     true,
     false},
    {"linear padded, 3 pairs of rank 64",
     linear,
     150,
     {160, 96, 3, 64, 64, 32, SEAM_OUT_ACT, 8},
     1,
     F32,
     BF16,
     true,
     false},
    {"linear padded, 2 pairs of rank 64",
     linear,
     70,
     {960, 576, 2, 64, 480, 480, SEAM_OUT_ACT, 9},
     1,
     F32,
     BF16,
     true,
     false},
    {"linear padded, rank 12",
     linear,
     33,
     {64, 96, 1, 12, 0, 0, SEAM_OUT_ACT, 4},
     1,
     F32,
     BF16,
     true,
     false},
    {"linear padded dropout",
     linear,
     150,
     {160, 96, 3, 16, 64, 32, SEAM_OUT_ACT, 7},
     1,
     F32,
     BF16,
     false,
     false},
    {"linear dropout",
     linear,
     53,
     {77, 60, 2, 5, 20, 41, SEAM_OUT_ACC, 3},
     1,
     F32,
     BF16,
     false,
     false},
    {"linear dropout 3 pairs",
     linear,
     150,
     {160, 96, 3, 24, 64, 32, SEAM_OUT_ACT, 3},
     1,
     F32,
     BF16,
     false,
     false},
    {"linear dropout added",
     linear,
     600,
     {64, 80, 1, 8, 0, 0, SEAM_OUT_ACC_ADD, 2},
     1,
     F32,
     BF16,
     false,
     true},
    {"dropout mask odd", dropout_mask, 37, {8, 45, 1, 45, 0, 0, 0, 2}, 1, 0, 0, false, true},
    {"dropout mask", dropout_mask, 300, {64, 256, 1, 256, 0, 0, 0, 2}, 1, 0, 0, false, true},
    {"linear zeros", linear, 5, {33, 17, 1, 2, 0, 0, SEAM_OUT_ACT, 0}, 0, F32, BF16, true, true},
    {"linear huge", linear, 9, {33, 64, 1, 2, 0, 0, SEAM_OUT_ACT, 0}, 1e15, F32, BF16, true, true},
    {"linear tiny", linear, 9, {33, 64, 1, 2, 0, 0, SEAM_OUT_ACC, 0}, 1e-8, F32, BF16, true, true},
};
const size_t linear_case_count = sizeof linear_cases / sizeof linear_cases[0];

/* The reference rounds the operands as the backend does, to the bit, so that the tolerances are
 * those of a product of bf16 operands, which e4m3 values are.  The first case is no FP8 product. */
const op_case fp8_cases[] = {
    {"fp8 odd", linear_fp8, 37, {61, 45, 1, 3, 0, 0, SEAM_OUT_ACT, 1}, 1, F32, BF16, true, true},
    {"fp8 plain", linear_fp8, 45, {256, 64, 0, 0, 0, 0, SEAM_OUT_ACT, 0}, 1, F32, BF16, true, true},
    {"fp8 min", linear_fp8, 1, {16, 16, 0, 0, 0, 0, SEAM_OUT_ACC, 0}, 1, F32, BF16, true, true},
    {"fp8 qkv",
     linear_fp8,
     70,
     {960, 576, 2, 16, 576, 192, SEAM_OUT_ACT, 0},
     1,
     F32,
     BF16,
     true,
     true},
    {"fp8 added",
     linear_fp8,
     35,
     {96, 160, 1, 16, 0, 0, SEAM_OUT_ACC_ADD, 1},
     1,
     F32,
     BF16,
     true,
     true},
    {"fp8 long",
     linear_fp8,
     300,
     {64, 1536, 1, 16, 0, 0, SEAM_OUT_ACC, 0},
     1,
     F32,
     BF16,
     true,
     true},
    {"fp8 many rows",
     linear_fp8,
     1921,
     {48, 32, 1, 8, 0, 0, SEAM_OUT_ACT, 0},
     1,
     F32,
     BF16,
     true,
     true},
    {"fp8 zeros", linear_fp8, 5, {32, 48, 1, 8, 0, 0, SEAM_OUT_ACT, 0}, 0, F32, BF16, true, true},
    {"fp8 huge", linear_fp8, 9, {32, 64, 1, 8, 0, 0, SEAM_OUT_ACT, 0}, 1e15, F32, BF16, true, true},
    {"fp8 tiny", linear_fp8, 9, {32, 64, 1, 8, 0, 0, SEAM_OUT_ACC, 0}, 1e-8, F32, BF16, true, true},
    {"fp8 no numbers",
     linear_fp8,
     9,
     {32, 64, 0, 0, 0, 0, SEAM_OUT_ACC, 0},
     NAN,
     F32,
     BF16,
     true,
     true},
};
const size_t fp8_case_count = sizeof fp8_cases / sizeof fp8_cases[0];
