/* prefix_forward, prefix_backward.  size: H, G, D, P, and whether dq is rotated back (its gradient
 * is then not that of q as it is here) and added to what is there. */
#include <math.h>

#include "harness.h"

enum { Q = 60, K = 61, V = 62, O = 63, DO = 64, LSE = 65, TABLE = 66, DQ = 67, GRADS = 68 };
#define POSITIONS 50

static void prefix(run *r, const op_case *c, uint32_t row0, uint32_t T) {
    const uint32_t H = c->size[0], G = c->size[1], D = c->size[2], P = c->size[3];
    const uint32_t q_ld = H * D + 6, kv_ld = 2 * G * D + 4;
    const size_t acc = seam_dtype_bytes(r->ops->acc);
    const bool rotated = c->size[4] != 0;
    uint32_t positions[512];
    CHECK(T <= 512);
    for (uint32_t t = 0; t < T; t++) {
        positions[t] = (row0 + t) * 3 % POSITIONS;
    }
    void *q = run_input(r, Q, HEADS, row0, T, q_ld, c->scale);
    void *k = run_input(r, K, ACC, 0, P, kv_ld, c->scale);
    void *v = run_input(r, V, ACC, 0, P, kv_ld, c->scale);
    void *o = run_input(r, O, ACT, row0, T, (size_t)H * D, c->scale);
    void *lse = run_input(r, LSE, ACC, row0, T, H, 1.0);
    const seam_prefix_forward_args forward = {.o = o,
                                              .lse = lse,
                                              .q = q,
                                              .k = k,
                                              .v = v,
                                              .q_ld = q_ld,
                                              .kv_ld = kv_ld,
                                              .scale = (float)(1.0 / sqrt((double)D)),
                                              .T = T,
                                              .P = P,
                                              .H = H,
                                              .G = G,
                                              .D = D};
    CHECK(r->ops->prefix_forward(r->stream, &forward) == SEAM_OK);
    run_output(r, "o", ACT, o, T, (size_t)H * D, (size_t)H * D, DO, 0);
    run_output(r, "lse", ACC, lse, T, H, H, 0, 0);
    /* Gradients are added to what is there. */
    void *dq = run_input(r, DQ, ACT, row0, T, q_ld, c->scale);
    void *dk = run_input(r, GRADS, ACC, 0, P, kv_ld, c->scale);
    void *dv = run_input(r, GRADS + 1, ACC, 0, P, kv_ld, c->scale);
    if (!rotated) {
        CHECK(r->ops->zero(r->stream, dq, (size_t)T * q_ld * seam_dtype_bytes(r->ops->act)) ==
              SEAM_OK);
        CHECK(r->ops->zero(r->stream, dk, (size_t)P * kv_ld * acc) == SEAM_OK);
        CHECK(r->ops->zero(r->stream, dv, (size_t)P * kv_ld * acc) == SEAM_OK);
    }
    const seam_prefix_backward_args backward = {
        .dq = dq,
        .dk = dk,
        .dv = dv,
        .dq_ld = q_ld,
        .d_o = run_input(r, DO, ACT, row0, T, (size_t)H * D, 1.0),
        .o = o,
        .q = q,
        .k = k,
        .v = v,
        .lse = lse,
        .q_ld = q_ld,
        .kv_ld = kv_ld,
        .cos_sin = rotated ? run_input(r, TABLE, ACC, 0, POSITIONS, D, 0.5) : NULL,
        .positions = rotated ? positions : NULL,
        .scale = forward.scale,
        .T = T,
        .P = P,
        .H = H,
        .G = G,
        .D = D};
    CHECK(r->ops->prefix_backward(r->stream, &backward) == SEAM_OK);
    run_output(r, "dq", ACT, dq, T, (size_t)H * D, q_ld, 0, rotated ? 0 : Q);
    run_output(r, "dk", ACC, dk, P, (size_t)G * D, kv_ld, 0, rotated ? 0 : K);
    run_output(r, "dv", ACC, dv, P, (size_t)G * D, kv_ld, 0, rotated ? 0 : V);
}

/* As attention's: exp in f32 and sums over D and T; bf16 rounds o before backward reads it. */
#define F32  1e-5
#define BF16 6e-3

const op_case prefix_cases[] = {
    {"prefix min", prefix, 1, {1, 1, 2, 1, 0, 0, 0, 0}, 1, F32, BF16, true, false},
    {"prefix odd", prefix, 37, {6, 2, 20, 7, 0, 0, 0, 0}, 1, F32, BF16, true, false},
    {"prefix 30", prefix, 70, {9, 3, 64, 30, 0, 0, 0, 0}, 1, F32, BF16, true, false},
    {"prefix wide", prefix, 9, {2, 1, 256, 33, 0, 0, 0, 0}, 1, F32, BF16, true, false},
    {"prefix long", prefix, 5, {2, 2, 12, 256, 0, 0, 0, 0}, 1, F32, BF16, true, false},
    {"prefix rotated", prefix, 65, {4, 2, 128, 30, 1, 0, 0, 0}, 1, F32, BF16, true, true},
    {"prefix odd rotated", prefix, 23, {3, 1, 20, 5, 1, 0, 0, 0}, 1, F32, BF16, true, true},
    {"prefix zeros", prefix, 5, {2, 1, 8, 3, 1, 0, 0, 0}, 0, F32, BF16, true, true},
    {"prefix sharp", prefix, 19, {4, 2, 32, 30, 0, 0, 0, 0}, 8, F32, 2e-2, true, true},
};
const size_t prefix_case_count = sizeof prefix_cases / sizeof prefix_cases[0];
