/* Speed of the op table on this machine: bench_ops [device] [f32|bf16] [threads] [rows].
 *
 * Shapes of SmolLM2-135M (hidden 576, F 1536, 9 heads, 3 kv heads, D 64), sequences of 384.
 * Prints the rate of a large square product (the peak that a step can be measured against), of
 * each product and attention, and the time of one whole block forward and backward without LoRA,
 * with rank 16 on q and v, and on all linears.  Each figure: median and fastest of the rounds, in
 * one process, variants interleaved, as the host's clock moves; cpu is the processor time of all
 * threads, which other processes disturb less. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "arena.h"
#include "ops.h"
#include "try.h"

enum { C = 576, F = 1536, H = 9, G = 3, D = 64, QKV = (H + 2 * G) * D, SEQ = 384, R = 16 };
#define ROUNDS 9

static const seam_ops *ops;
static seam_backend *backend;
static seam_stream *stream;
static uint32_t T;

static double now_s(clockid_t clock) {
    struct timespec t;
    (void)clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void must(seam_status st) {
    SEAM_ASSERT(st == SEAM_OK);
}

/* Random numbers of about `scale`, on the host. */
static float *host_buffer(size_t count, float scale) {
    static uint32_t state = 1;
    float *ret = seam_mem_alloc(count * sizeof *ret);
    SEAM_ASSERT(ret != NULL);
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        ret[i] = scale * ((float)(state >> 8) * 0x1p-23f - 1.0f);
    }
    return ret;
}

/* The same as act or acc, on the device. */
static void *buffer(seam_dtype type, size_t count, float scale) {
    void *f32 = NULL, *ret = NULL;
    float *host = host_buffer(count, scale);
    must(ops->mem_alloc(&f32, backend, count * 4));
    must(ops->mem_alloc(&ret, backend, count * seam_dtype_bytes(type)));
    must(ops->copy_in(stream, f32, host, count * 4));
    must(ops->cast(stream, ret, type, f32, SEAM_F32, count));
    must(ops->stream_sync(stream));
    ops->mem_free(backend, f32);
    seam_mem_free(host);
    return ret;
}

static seam_weight *weight(uint32_t N, uint32_t K) {
    seam_weight *w = NULL;
    float *rows = host_buffer((size_t)N * K, 1.0f / sqrtf((float)K));
    must(ops->weight_create(&w, backend, rows, N, K, true, true, 0));
    seam_mem_free(rows);
    return w;
}

/* A linear layer with everything that its two calls need. */
typedef struct layer {
    seam_weight *w;
    uint32_t N, K;
    seam_lora_pair lora[SEAM_LORA_PAIRS_MAX];
    uint32_t lora_count;
} layer;

static layer layer_of(uint32_t N, uint32_t K) {
    return (layer){.w = weight(N, K), .N = N, .K = K};
}

static void layer_lora(layer *l, uint32_t col_begin, uint32_t N) {
    seam_lora_pair *p = &l->lora[l->lora_count++];
    *p = (seam_lora_pair){.col_begin = col_begin, .N = N, .R = R, .scale = 1.0f};
    p->a = buffer(ops->act, (size_t)R * l->K, 0.05f);
    p->b = buffer(ops->act, (size_t)N * R, 0.05f);
    p->u = buffer(ops->act, (size_t)T * R, 0.0f);
    p->da = buffer(ops->acc, (size_t)R * l->K, 0.0f);
    p->db = buffer(ops->acc, (size_t)N * R, 0.0f);
}

static void layer_forward(const layer *l, void *y, seam_out out, const void *x) {
    must(ops->linear_forward(stream, &(seam_linear_forward_args){.y = y,
                                                                 .y_ld = l->N,
                                                                 .y_out = out,
                                                                 .x = x,
                                                                 .x_ld = l->K,
                                                                 .w = l->w,
                                                                 .T = T,
                                                                 .lora = l->lora,
                                                                 .lora_count = l->lora_count}));
}

static void layer_backward(const layer *l, void *dx, const void *dy, const void *x) {
    must(ops->linear_backward(stream, &(seam_linear_backward_args){.dx = dx,
                                                                   .dx_ld = l->K,
                                                                   .dx_out = SEAM_OUT_ACT,
                                                                   .dy = dy,
                                                                   .dy_ld = l->N,
                                                                   .x = x,
                                                                   .x_ld = l->K,
                                                                   .w = l->w,
                                                                   .T = T,
                                                                   .lora = l->lora,
                                                                   .lora_count = l->lora_count}));
}

typedef struct block {
    layer qkv, o, gate_up, down;
    void *norm, *x, *dx, *cos_sin;
    void *n1, *rstd1, *qkv_y, *att, *lse, *x_mid, *n2, *rstd2, *gate_up_y, *swiglu;
    void *d_f, *d_gate_up, *d_n, *d_att, *d_qkv, *dx_act;
    uint32_t *positions, seq_begin[64], seq_count;
} block;

enum { LORA_NONE, LORA_QV, LORA_ALL };

static block block_of(int lora) {
    block b = {.qkv = layer_of(QKV, C), .o = layer_of(C, C), .gate_up = layer_of(2 * F, C)};
    const seam_dtype act = ops->act, acc = ops->acc;
    b.down = layer_of(C, F);
    if (lora != LORA_NONE) {
        layer_lora(&b.qkv, 0, H * D);
        if (lora == LORA_ALL) {
            layer_lora(&b.qkv, H * D, G * D);
            layer_lora(&b.o, 0, C);
            layer_lora(&b.gate_up, 0, F);
            layer_lora(&b.gate_up, F, F);
            layer_lora(&b.down, 0, C);
        }
        layer_lora(&b.qkv, (H + G) * D, G * D);
    }
    b.norm = buffer(acc, C, 1.0f);
    b.x = buffer(acc, (size_t)T * C, 1.0f);
    b.dx = buffer(acc, (size_t)T * C, 1.0f);
    b.cos_sin = buffer(acc, (size_t)SEQ * D, 1.0f);
    b.n1 = buffer(act, (size_t)T * C, 1.0f);
    b.n2 = buffer(act, (size_t)T * C, 1.0f);
    b.rstd1 = buffer(acc, T, 1.0f);
    b.rstd2 = buffer(acc, T, 1.0f);
    b.qkv_y = buffer(ops->qkv, (size_t)T * QKV, 1.0f);
    b.att = buffer(act, (size_t)T * C, 1.0f);
    b.lse = buffer(acc, (size_t)T * H, 1.0f);
    b.x_mid = buffer(acc, (size_t)T * C, 1.0f);
    b.gate_up_y = buffer(act, (size_t)T * 2 * F, 1.0f);
    b.swiglu = buffer(act, (size_t)T * F, 1.0f);
    b.d_f = buffer(act, (size_t)T * F, 1.0f);
    b.d_gate_up = buffer(act, (size_t)T * 2 * F, 1.0f);
    b.d_n = buffer(act, (size_t)T * C, 1.0f);
    b.d_att = buffer(act, (size_t)T * C, 1.0f);
    b.d_qkv = buffer(act, (size_t)T * QKV, 1.0f);
    b.dx_act = buffer(act, (size_t)T * C, 1.0f);
    b.positions = seam_mem_alloc(T * sizeof *b.positions);
    SEAM_ASSERT(b.positions != NULL);
    for (uint32_t t = 0; t < T; t++) {
        b.positions[t] = t % SEQ;
    }
    for (uint32_t t = 0; t < T; t += SEQ) {
        b.seq_begin[b.seq_count++] = t;
    }
    b.seq_begin[b.seq_count] = T;
    return b;
}

static void rope(const block *b, void *qkv, bool backward) {
    must(ops->rope(stream, &(seam_rope_args){.x = qkv,
                                             .ld = QKV,
                                             .heads = H + G,
                                             .D = D,
                                             .T = T,
                                             .cos_sin = b->cos_sin,
                                             .positions = b->positions,
                                             .backward = backward}));
}

static void norm_forward(const block *b, void *y, void *rstd, const void *x) {
    must(ops->rmsnorm_forward(
        stream, &(seam_rmsnorm_forward_args){
                    .y = y, .rstd = rstd, .x = x, .w = b->norm, .eps = 1e-5f, .T = T, .C = C}));
}

static void norm_backward(const block *b, const void *dy, const void *rstd, const void *x) {
    must(ops->rmsnorm_backward(stream, &(seam_rmsnorm_backward_args){.dx = b->dx,
                                                                     .dx_add = true,
                                                                     .dy = dy,
                                                                     .x = x,
                                                                     .w = b->norm,
                                                                     .rstd = rstd,
                                                                     .T = T,
                                                                     .C = C}));
}

static void cast(void *dst, seam_dtype to, const void *src, seam_dtype from) {
    must(ops->cast(stream, dst, to, src, from, (size_t)T * C));
}

static const uint8_t *at(const void *qkv, uint32_t col) {
    return (const uint8_t *)qkv + col * seam_dtype_bytes(ops->qkv);
}

static void attention_forward(const block *b) {
    must(ops->attention_forward(stream,
                                &(seam_attention_forward_args){.o = b->att,
                                                               .lse = b->lse,
                                                               .q = b->qkv_y,
                                                               .k = at(b->qkv_y, H * D),
                                                               .v = at(b->qkv_y, (H + G) * D),
                                                               .q_ld = QKV,
                                                               .k_ld = QKV,
                                                               .v_ld = QKV,
                                                               .seq_begin = b->seq_begin,
                                                               .scale = 0.125f,
                                                               .S = b->seq_count,
                                                               .T = T,
                                                               .H = H,
                                                               .G = G,
                                                               .D = D}));
}

static void attention_backward(const block *b) {
    uint8_t *d = b->d_qkv;
    const size_t act = seam_dtype_bytes(ops->act);
    must(ops->attention_backward(stream,
                                 &(seam_attention_backward_args){.dq = d,
                                                                 .dk = d + H * D * act,
                                                                 .dv = d + (H + G) * D * act,
                                                                 .dq_ld = QKV,
                                                                 .dk_ld = QKV,
                                                                 .dv_ld = QKV,
                                                                 .d_o = b->d_att,
                                                                 .o = b->att,
                                                                 .q = b->qkv_y,
                                                                 .k = at(b->qkv_y, H * D),
                                                                 .v = at(b->qkv_y, (H + G) * D),
                                                                 .lse = b->lse,
                                                                 .q_ld = QKV,
                                                                 .k_ld = QKV,
                                                                 .v_ld = QKV,
                                                                 .seq_begin = b->seq_begin,
                                                                 .scale = 0.125f,
                                                                 .S = b->seq_count,
                                                                 .T = T,
                                                                 .H = H,
                                                                 .G = G,
                                                                 .D = D}));
}

static void block_forward(const block *b) {
    norm_forward(b, b->n1, b->rstd1, b->x);
    layer_forward(&b->qkv, b->qkv_y, ops->qkv == ops->act ? SEAM_OUT_ACT : SEAM_OUT_ACC, b->n1);
    rope(b, b->qkv_y, false);
    attention_forward(b);
    cast(b->x_mid, ops->acc, b->x, ops->acc);
    layer_forward(&b->o, b->x_mid, SEAM_OUT_ACC_ADD, b->att);
    norm_forward(b, b->n2, b->rstd2, b->x_mid);
    layer_forward(&b->gate_up, b->gate_up_y, SEAM_OUT_ACT, b->n2);
    must(ops->swiglu_forward(stream, &(seam_swiglu_forward_args){
                                         .y = b->swiglu, .T = T, .F = F, .gate_up = b->gate_up_y}));
    layer_forward(&b->down, b->x_mid, SEAM_OUT_ACC_ADD, b->swiglu);
}

static void block_backward(const block *b) {
    cast(b->dx_act, ops->act, b->dx, ops->acc);
    layer_backward(&b->down, b->d_f, b->dx_act, b->swiglu);
    must(ops->swiglu_backward(
        stream,
        &(seam_swiglu_backward_args){
            .d_gate_up = b->d_gate_up, .dy = b->d_f, .gate_up = b->gate_up_y, .T = T, .F = F}));
    layer_backward(&b->gate_up, b->d_n, b->d_gate_up, b->n2);
    norm_backward(b, b->d_n, b->rstd2, b->x_mid);
    cast(b->dx_act, ops->act, b->dx, ops->acc);
    layer_backward(&b->o, b->d_att, b->dx_act, b->att);
    attention_backward(b);
    rope(b, b->d_qkv, true);
    layer_backward(&b->qkv, b->d_n, b->d_qkv, b->n1);
    norm_backward(b, b->d_n, b->rstd1, b->x);
}

/* ---- Timing ---- */
typedef struct figure {
    const char *name;
    void (*fn)(const void *);
    const void *arg;
    double flop; /* of one call; 0: print time only */
    double seconds[ROUNDS], cpu[ROUNDS];
} figure;

static int by_value(const void *x, const void *y) {
    const double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

static void measure(figure *figures, uint32_t count) {
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < count; i++) {
            const double begin = now_s(CLOCK_MONOTONIC), cpu = now_s(CLOCK_PROCESS_CPUTIME_ID);
            figures[i].fn(figures[i].arg);
            must(ops->stream_sync(stream));
            figures[i].seconds[round] = now_s(CLOCK_MONOTONIC) - begin;
            figures[i].cpu[round] = now_s(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        figure *f = &figures[i];
        qsort(f->seconds, ROUNDS, sizeof(double), by_value);
        qsort(f->cpu, ROUNDS, sizeof(double), by_value);
        const double median = f->seconds[ROUNDS / 2], best = f->seconds[0];
        (void)printf("%-34s %8.3f ms (best %8.3f, cpu %8.3f)", f->name, 1e3 * median, 1e3 * best,
                     1e3 * f->cpu[ROUNDS / 2]);
        if (f->flop > 0) {
            (void)printf("  %7.1f GFLOP/s (best %7.1f)", f->flop / median * 1e-9,
                         f->flop / best * 1e-9);
        }
        (void)printf("\n");
    }
}

static void *scratch_x, *scratch_y;

static void run_forward(const void *arg) {
    layer_forward(arg, scratch_y, SEAM_OUT_ACT, scratch_x);
}

static void run_backward(const void *arg) {
    layer_backward(arg, scratch_y, scratch_x, scratch_x);
}

static void run_attention_forward(const void *arg) {
    attention_forward(arg);
}

static void run_attention_backward(const void *arg) {
    attention_backward(arg);
}

/* The LM head on a chunk of rows, as kernels/model/head.c runs it. */
enum { V = 49152, HEAD_ROWS = 128 };
typedef struct head_bench {
    layer l;
    void *logits, *d_logits, *loss, *x, *dx;
    uint32_t targets[HEAD_ROWS];
} head_bench;

static void run_head(const void *arg) {
    const head_bench *h = arg;
    must(ops->linear_forward(stream, &(seam_linear_forward_args){.y = h->logits,
                                                                 .y_ld = V,
                                                                 .y_out = SEAM_OUT_ACC,
                                                                 .x = h->x,
                                                                 .x_ld = C,
                                                                 .w = h->l.w,
                                                                 .T = HEAD_ROWS}));
    must(ops->cross_entropy(stream, &(seam_cross_entropy_args){.loss = h->loss,
                                                               .d_logits = h->d_logits,
                                                               .logits = h->logits,
                                                               .targets = h->targets,
                                                               .grad_scale = 1.0f,
                                                               .T = HEAD_ROWS,
                                                               .V = V}));
    must(ops->linear_backward(stream, &(seam_linear_backward_args){.dx = h->dx,
                                                                   .dx_ld = C,
                                                                   .dx_out = SEAM_OUT_ACC,
                                                                   .dy = h->d_logits,
                                                                   .dy_ld = V,
                                                                   .w = h->l.w,
                                                                   .T = HEAD_ROWS}));
}

static void run_block(const void *arg) {
    block_forward(arg);
    block_backward(arg);
}

static void run_block_forward(const void *arg) {
    block_forward(arg);
}

static void run_elementwise(const void *arg) {
    const block *b = arg;
    norm_forward(b, b->n1, b->rstd1, b->x);
    norm_backward(b, b->d_n, b->rstd1, b->x);
    rope(b, b->qkv_y, false);
    must(ops->swiglu_forward(stream, &(seam_swiglu_forward_args){
                                         .y = b->swiglu, .T = T, .F = F, .gate_up = b->gate_up_y}));
    must(ops->swiglu_backward(
        stream,
        &(seam_swiglu_backward_args){
            .d_gate_up = b->d_gate_up, .dy = b->d_f, .gate_up = b->gate_up_y, .T = T, .F = F}));
}

int main(int argc, char **argv) {
    const seam_backend_options options = {
        .device = argc > 1 ? argv[1] : "cpu",
        .act = argc > 2 ? (strcmp(argv[2], "f32") == 0 ? SEAM_F32 : SEAM_BF16) : (seam_dtype)0,
        .threads = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 0};
    seam_error err;
    T = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 5 * SEQ;
    if (T == 0 || T > 60 * SEQ || seam_backend_create(&backend, &options, &err) != SEAM_OK) {
        (void)fprintf(stderr, "bench_ops: bad arguments or no such device\n");
        return 2;
    }
    ops = seam_backend_ops(backend);
    must(ops->stream_create(&stream, backend));
    (void)printf("%s, %u rows in sequences of %d\n", seam_backend_describe(backend), T, SEQ);
    block plain = block_of(LORA_NONE), qv = block_of(LORA_QV), all = block_of(LORA_ALL);
    layer square = layer_of(1024, 1024);
    scratch_x = buffer(ops->act, (size_t)T * 3072, 1.0f);
    scratch_y = buffer(ops->act, (size_t)T * 3072, 1.0f);
    head_bench head = {.l = layer_of(V, C), .targets = {0}};
    head.logits = buffer(ops->acc, (size_t)HEAD_ROWS * V, 0.0f);
    head.d_logits = buffer(ops->act, (size_t)HEAD_ROWS * V, 0.0f);
    head.loss = buffer(ops->acc, HEAD_ROWS, 0.0f);
    head.x = buffer(ops->act, (size_t)HEAD_ROWS * C, 1.0f);
    head.dx = buffer(ops->acc, (size_t)HEAD_ROWS * C, 0.0f);
    const double rows = (double)T, product = 2.0 * rows * C;
    const double att = (double)T * (SEQ + 1) / 2 * H * D * 4;
    figure figures[] = {
        {"peak: square 1024", run_forward, &square, 2.0 * rows * 1024 * 1024, {0}, {0}},
        {"qkv forward", run_forward, &plain.qkv, product * QKV, {0}, {0}},
        {"qkv backward", run_backward, &plain.qkv, product * QKV, {0}, {0}},
        {"qkv forward, rank 16 on q k v", run_forward, &all.qkv, product * QKV, {0}, {0}},
        {"qkv backward, rank 16 on q k v", run_backward, &all.qkv, product * QKV, {0}, {0}},
        {"gate_up forward", run_forward, &plain.gate_up, product * 2 * F, {0}, {0}},
        {"gate_up backward", run_backward, &plain.gate_up, product * 2 * F, {0}, {0}},
        {"gate_up backward, rank 16", run_backward, &all.gate_up, product * 2 * F, {0}, {0}},
        {"down forward", run_forward, &plain.down, product * F, {0}, {0}},
        {"down backward", run_backward, &plain.down, product * F, {0}, {0}},
        {"attention forward", run_attention_forward, &plain, att, {0}, {0}},
        {"attention backward", run_attention_backward, &plain, att * 2.5, {0}, {0}},
        {"norm, rope, swiglu, both ways", run_elementwise, &plain, 0, {0}, {0}},
        {"LM head and loss, 128 rows, f + b", run_head, &head, 4.0 * HEAD_ROWS * V * C, {0}, {0}},
        {"block forward, no LoRA", run_block_forward, &plain, 0, {0}, {0}},
        {"block forward + backward, no LoRA", run_block, &plain, 0, {0}, {0}},
        {"block f + b, rank 16 on q v", run_block, &qv, 0, {0}, {0}},
        {"block f + b, rank 16 on all", run_block, &all, 0, {0}, {0}},
    };
    measure(figures, sizeof figures / sizeof figures[0]);
    return 0;
}
