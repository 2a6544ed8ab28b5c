/* attention_forward, attention_backward, attention_cached.  size: H, G, D, then the rows of up to
 * three sequences (T is their sum), whether q and k are rotated first, and the window.  cached: H,
 * G, D, positions, and in the last place the window.  With fewer rows: the one sequence that begins
 * at row0. */
#include <math.h>

#include "harness.h"

enum { QKV = 40, DO = 43, CACHE_K = 44, CACHE_V = 45, TABLE = 46, POSITIONS = 100 };

/* The gradients of a forward call, into d_qkv with the leading dimension of qkv. */
static seam_attention_backward_args backward_of(const seam_attention_forward_args *f,
                                                uint8_t *d_qkv, const void *d_o, size_t act) {
    return (seam_attention_backward_args){.dq = d_qkv,
                                          .dk = d_qkv + (size_t)f->H * f->D * act,
                                          .dv = d_qkv + (size_t)(f->H + f->G) * f->D * act,
                                          .dq_ld = f->q_ld,
                                          .dk_ld = f->k_ld,
                                          .dv_ld = f->v_ld,
                                          .d_o = d_o,
                                          .o = f->o,
                                          .q = f->q,
                                          .k = f->k,
                                          .v = f->v,
                                          .lse = f->lse,
                                          .q_ld = f->q_ld,
                                          .k_ld = f->k_ld,
                                          .v_ld = f->v_ld,
                                          .seq_begin = f->seq_begin,
                                          .scale = f->scale,
                                          .window = f->window,
                                          .S = f->S,
                                          .T = f->T,
                                          .H = f->H,
                                          .G = f->G,
                                          .D = f->D};
}

static void attention(run *r, const op_case *c, uint32_t row0, uint32_t T) {
    const uint32_t H = c->size[0], G = c->size[1], D = c->size[2];
    const uint32_t ld = (H + 2 * G) * D; /* q, k and v of one stacked product */
    uint32_t seq_begin[4] = {0}, S = 0;
    for (; S < 3 && c->size[3 + S] > 0; S++) {
        seq_begin[S + 1] = seq_begin[S] + c->size[3 + S];
    }
    if (T < c->T) {
        S = 1;
        seq_begin[1] = T;
    }
    CHECK(seq_begin[S] == T);
    const size_t act = seam_dtype_bytes(r->ops->act), heads = seam_dtype_bytes(r->ops->qkv);
    uint8_t *qkv = run_input(r, QKV, HEADS, row0, T, ld, c->scale);
    void *cos_sin = run_input(r, TABLE, ACC, 0, POSITIONS, D, 0.5);
    uint32_t positions[512];
    CHECK(T <= 512);
    for (uint32_t t = 0; t < T; t++) {
        positions[t] = (row0 + t) * 3 % POSITIONS;
    }
    const seam_rope_args rope = {.x = qkv,
                                 .ld = ld,
                                 .heads = H + G,
                                 .cos_sin = cos_sin,
                                 .positions = positions,
                                 .T = T,
                                 .D = D};
    const bool rotated = c->size[6] != 0;
    CHECK(!rotated || r->ops->rope(r->stream, &rope) == SEAM_OK);
    uint8_t *d_qkv = run_const(r, ACT, (size_t)T * ld, NAN);
    void *o = run_const(r, ACT, (size_t)T * H * D, NAN), *lse = run_const(r, ACC, T * H, NAN);
    const size_t k = (size_t)H * D, v = (size_t)(H + G) * D;
    const float scale = (float)(1.0 / sqrt((double)D));
    const seam_attention_forward_args forward = {.o = o,
                                                 .lse = lse,
                                                 .q = qkv,
                                                 .k = qkv + k * heads,
                                                 .v = qkv + v * heads,
                                                 .q_ld = ld,
                                                 .k_ld = ld,
                                                 .v_ld = ld,
                                                 .seq_begin = seq_begin,
                                                 .scale = scale,
                                                 .window = c->size[7],
                                                 .S = S,
                                                 .T = T,
                                                 .H = H,
                                                 .G = G,
                                                 .D = D};
    CHECK(r->ops->attention_forward(r->stream, &forward) == SEAM_OK);
    run_output(r, "o", ACT, o, T, (size_t)H * D, (size_t)H * D, DO, 0);
    run_output(r, "lse", ACC, lse, T, H, H, 0, 0);
    seam_attention_backward_args backward =
        backward_of(&forward, d_qkv, run_input(r, DO, ACT, row0, T, (size_t)H * D, 1.0), act);
    backward.cos_sin = rotated ? cos_sin : NULL;
    backward.positions = rotated ? positions : NULL;
    CHECK(r->ops->attention_backward(r->stream, &backward) == SEAM_OK);
    run_output(r, "d_qkv", ACT, d_qkv, T, ld, ld, 0, QKV);
}

/* Slot and position of row t are spread so that rows share slots and positions repeat. */
static void cached(run *r, const op_case *c, uint32_t row0, uint32_t T) {
    const uint32_t H = c->size[0], G = c->size[1], D = c->size[2], positions_max = c->size[3];
    const uint32_t slot_count = 3;
    uint32_t slots[512], positions[512];
    CHECK(T <= 512);
    for (uint32_t t = 0; t < T; t++) {
        slots[t] = (row0 + t) % slot_count;
        positions[t] = (row0 + t) * 7 % positions_max;
    }
    const size_t rows = (size_t)slot_count * positions_max;
    void *o = run_const(r, ACT, (size_t)T * H * D, NAN);
    const seam_attention_cached_args args = {
        .o = o,
        .q = run_input(r, QKV, HEADS, row0, T, (size_t)H * D, c->scale),
        .k_cache = run_input(r, CACHE_K, ACT, 0, rows, (size_t)G * D, c->scale),
        .v_cache = run_input(r, CACHE_V, ACT, 0, rows, (size_t)G * D, c->scale),
        .q_ld = H * D,
        .slots = slots,
        .positions = positions,
        .positions_max = positions_max,
        .scale = (float)(1.0 / sqrt((double)D)),
        .window = c->size[7],
        .T = T,
        .H = H,
        .G = G,
        .D = D};
    CHECK(r->ops->attention_cached(r->stream, &args) == SEAM_OK);
    run_output(r, "o", ACT, o, T, (size_t)H * D, (size_t)H * D, 0, 0);
}

/* size: cols, positions_max, elements between rows.  Every row has a place of its own; what is not
 * written stays. */
static void cache_store(run *r, const op_case *c, uint32_t row0, uint32_t T) {
    const uint32_t cols = c->size[0], positions_max = c->size[1], ld = 2 * cols + c->size[2];
    const uint32_t slot_count = 3;
    uint32_t slots[512], positions[512];
    CHECK(T <= 512 && slot_count * positions_max >= row0 + T);
    for (uint32_t t = 0; t < T; t++) {
        slots[t] = (row0 + t) % slot_count;
        positions[t] = positions_max - 1 - (row0 + t) / slot_count;
    }
    const size_t rows = (size_t)slot_count * positions_max;
    const uint8_t *kv = run_input(r, QKV, HEADS, row0, T, ld, c->scale);
    void *k_cache = run_input(r, CACHE_K, ACT, 0, rows, cols, c->scale);
    void *v_cache = run_input(r, CACHE_V, ACT, 0, rows, cols, c->scale);
    const seam_cache_store_args args = {.k_cache = k_cache,
                                        .v_cache = v_cache,
                                        .k = kv,
                                        .v = kv + cols * seam_dtype_bytes(r->ops->qkv),
                                        .ld = ld,
                                        .slots = slots,
                                        .positions = positions,
                                        .positions_max = positions_max,
                                        .T = T,
                                        .cols = cols};
    CHECK(r->ops->cache_store(r->stream, &args) == SEAM_OK);
    run_output(r, "k_cache", ACT, k_cache, rows, cols, cols, 0, 0);
    run_output(r, "v_cache", ACT, v_cache, rows, cols, cols, 0, 0);
}

/* f32: exp errs by 2 units, scores by sqrt(D) 2^-24 times their size.  bf16: o and the gradients
 * are rounded (1.6e-3), P and dS before their products as well, and backward starts from the
 * rounded o in delta. */
#define F32  5e-6
#define BF16 6e-3

const op_case attention_cases[] = {
    {"attention min", attention, 1, {1, 1, 2, 1}, 1, F32, BF16, false, false},
    {"attention odd", attention, 43, {3, 1, 20, 17, 1, 25, 1}, 1, F32, BF16, false, false},
    {"attention gqa", attention, 150, {6, 2, 64, 70, 64, 16}, 1, F32, BF16, false, false},
    {"attention block + 1", attention, 258, {9, 3, 64, 129, 65, 64}, 1, F32, BF16, false, false},
    {"attention wide", attention, 99, {4, 2, 128, 99}, 1, F32, BF16, false, false},
    {"attention 32", attention, 70, {3, 1, 32, 3, 67}, 1, F32, BF16, false, false},
    {"attention 80, four a key",
     attention,
     131,
     {4, 1, 80, 65, 66, 0, 1},
     1,
     F32,
     BF16,
     false,
     false},
    {"attention 96", attention, 67, {2, 2, 96, 66, 1}, 1, F32, BF16, false, false},
    {"attention 64, one a key",
     attention,
     129,
     {2, 2, 64, 64, 65, 0, 1},
     1,
     F32,
     BF16,
     false,
     false},
    {"attention 64, four a key", attention, 203, {4, 1, 64, 2, 201}, 1, F32, BF16, false, false},
    {"attention 128, one a key",
     attention,
     193,
     {1, 1, 128, 63, 130, 0, 1},
     1,
     F32,
     BF16,
     false,
     false},
    {"attention 128, three", attention, 160, {3, 1, 128, 31, 129}, 1, F32, BF16, false, false},
    {"attention 128, four", attention, 386, {8, 2, 128, 1, 320, 65, 1}, 1, F32, BF16, false, false},
    {"attention 128 sharp", attention, 200, {2, 1, 128, 200}, 6, 2e-5, 2e-2, false, false},
    {"attention sharp", attention, 90, {3, 3, 32, 90}, 6, 2e-5, 2e-2, false, false},
    {"attention zeros", attention, 66, {2, 1, 16, 66}, 0, F32, BF16, false, true},
    /* Scores up to 1e5: one key takes all, every other weight underflows. */
    {"attention huge", attention, 70, {2, 1, 16, 70}, 300, 1e-2, 5e-2, false, true},
    /* Windows: of one key; an edge inside a block, on its border, over several; wider than a
     * sequence; with and without tensor cores' alignment. */
    {"window 1", attention, 70, {2, 1, 16, 67, 3, 0, 0, 1}, 1, F32, BF16, false, true},
    {"window 5 odd", attention, 94, {3, 1, 20, 33, 61, 0, 1, 5}, 1, F32, BF16, false, false},
    {"window 64", attention, 211, {4, 2, 32, 1, 210, 0, 0, 64}, 1, F32, BF16, false, false},
    {"window 65", attention, 330, {3, 1, 64, 130, 200, 0, 1, 65}, 1, F32, BF16, false, false},
    {"window 100 of 96",
     attention,
     280,
     {2, 2, 96, 99, 181, 0, 0, 100},
     1,
     F32,
     BF16,
     false,
     false},
    {"window 128", attention, 321, {2, 1, 128, 320, 1, 0, 1, 128}, 1, F32, BF16, false, false},
    {"window wide", attention, 90, {2, 1, 16, 50, 40, 0, 0, 50}, 1, F32, BF16, false, false},
    {"window sharp", attention, 200, {2, 1, 64, 200, 0, 0, 0, 30}, 6, 2e-5, 2e-2, false, false},
    {"cache store min", cache_store, 1, {1, 1, 0}, 1, F32, BF16, false, true},
    {"cache store odd", cache_store, 23, {45, 9, 7}, 1, F32, BF16, false, true},
    {"cache store", cache_store, 64, {512, 40, 1024}, 1, F32, BF16, false, true},
    {"cached min", cached, 1, {1, 1, 2, 1}, 1, F32, BF16, true, true},
    {"cached odd", cached, 23, {3, 1, 20, 33}, 1, F32, BF16, true, true},
    {"cached long", cached, 64, {9, 3, 64, 600}, 1, F32, BF16, true, true},
    {"cached window 1", cached, 9, {2, 1, 16, 40, 0, 0, 0, 1}, 1, F32, BF16, true, true},
    {"cached window", cached, 64, {3, 1, 32, 600, 0, 0, 0, 37}, 1, F32, BF16, true, true},
};
const size_t attention_case_count = sizeof attention_cases / sizeof attention_cases[0];
