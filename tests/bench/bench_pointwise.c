/* Speed of everything in a step of a served model that is no product: bench_pointwise [device]
 * [f32|bf16].
 *
 * The single ops at Llama-3-8B's width and 16 x 384 rows: time, the bytes that must move (each
 * input read once, each output written once), and their rate over the device's own copy of 512 MB,
 * measured in the same run.  Then causal attention at served shapes, forward and backward, with the
 * rate by half a square a sequence (4 D operations a pair of rows forward, 10 D backward).
 * Each figure: the best of ROUNDS rounds of CALLS calls between two waits for the stream, so that
 * launches overlap as in a step.  Tensors larger than a cache of 50 MB come from memory; the rates
 * of smaller ones are higher than memory's.  Read next: bench_blocks.c, the whole step. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "arena.h"
#include "ops.h"
#include "try.h"

enum { T = 6144, C = 4096, F = 14336, PARAMS = 6815744 }; /* LoRA rank 16 on q and v, 32 layers */
#define ROUNDS 5
#define CALLS  20

static const seam_ops *ops;
static seam_backend *backend;
static seam_stream *stream;
static double copy_rate; /* bytes a second */

static void must(seam_status st) {
    SEAM_ASSERT(st == SEAM_OK);
}

static double now_s(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Random numbers in (-1, 1) on the device; freed with the process. */
static void *buffer(seam_dtype type, size_t count) {
    enum { PIECE = 1 << 20 };
    static uint32_t state = 1;
    static float host[PIECE];
    void *f32 = NULL, *ret = NULL;
    must(ops->mem_alloc(&f32, backend, sizeof host));
    must(ops->mem_alloc(&ret, backend, count * seam_dtype_bytes(type)));
    for (size_t i = 0; i < PIECE; i++) {
        state = state * 1664525u + 1013904223u;
        host[i] = (float)(state >> 8) * 0x1p-23f - 1.0f;
    }
    must(ops->copy_in(stream, f32, host, sizeof host));
    for (size_t i = 0; i < count; i += PIECE) {
        must(ops->cast(stream, (uint8_t *)ret + i * seam_dtype_bytes(type), type, f32, SEAM_F32,
                       count - i < PIECE ? count - i : PIECE));
    }
    must(ops->stream_sync(stream));
    ops->mem_free(backend, f32);
    return ret;
}

/* Seconds a call of `fn`. */
static double measure(void (*fn)(const void *), const void *args) {
    double best = INFINITY;
    fn(args);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        must(ops->stream_sync(stream));
        const double begin = now_s();
        for (uint32_t i = 0; i < CALLS; i++) {
            fn(args);
        }
        must(ops->stream_sync(stream));
        best = fmin(best, (now_s() - begin) / CALLS);
    }
    return best;
}

static void report(const char *name, void (*fn)(const void *), const void *args, double bytes) {
    const double seconds = measure(fn, args), rate = bytes / seconds;
    copy_rate = copy_rate == 0 ? rate : copy_rate; /* the first figure is the copy */
    (void)printf("%-28s %8.1f us  %7.1f MB  %6.2f TB/s  %5.2f of copy\n", name, 1e6 * seconds,
                 1e-6 * bytes, 1e-12 * rate, rate / copy_rate);
}

/* ---- Single ops ---- */
typedef struct cast_args {
    void *dst;
    const void *src;
    seam_dtype to, from;
    size_t count;
} cast_args;

static void run_cast(const void *args) {
    const cast_args *a = args;
    must(ops->cast(stream, a->dst, a->to, a->src, a->from, a->count));
}
static void run_norm_forward(const void *args) {
    must(ops->rmsnorm_forward(stream, args));
}
static void run_norm_backward(const void *args) {
    must(ops->rmsnorm_backward(stream, args));
}
static void run_swiglu_forward(const void *args) {
    must(ops->swiglu_forward(stream, args));
}
static void run_swiglu_backward(const void *args) {
    must(ops->swiglu_backward(stream, args));
}
static void run_rope(const void *args) {
    must(ops->rope(stream, args));
}
static void run_adamw(const void *args) {
    must(ops->adamw(stream, args));
}
static void run_squares(const void *args) {
    double sum = 0;
    must(ops->sum_squares(stream, &sum, args, PARAMS));
}

static void bench_rows(void) {
    const double act = (double)seam_dtype_bytes(ops->act), acc = (double)seam_dtype_bytes(ops->acc);
    const double TC = (double)T * C;
    void *x = buffer(ops->acc, (size_t)T * C), *dx = buffer(ops->acc, (size_t)T * C);
    void *h = buffer(ops->act, (size_t)T * C), *w = buffer(ops->acc, C);
    void *rstd = buffer(ops->acc, T);
    void *kept = buffer(ops->act, (size_t)T * C), *narrow_dx = buffer(ops->act, (size_t)T * C);
    const seam_rmsnorm_forward_args forward = {
        .y = h, .rstd = rstd, .x_act = kept, .x = x, .w = w, .eps = 1e-5f, .T = T, .C = C};
    const seam_rmsnorm_backward_args backward = {.dx = dx,
                                                 .dx_act = narrow_dx,
                                                 .dx_add = true,
                                                 .x_is_act = true,
                                                 .dy = h,
                                                 .x = kept,
                                                 .w = w,
                                                 .rstd = rstd,
                                                 .T = T,
                                                 .C = C};
    const cast_args narrow = {h, x, ops->act, ops->acc, (size_t)T * C};
    const cast_args copy = {dx, x, ops->acc, ops->acc, (size_t)T * C};
    report("rmsnorm forward", run_norm_forward, &forward, TC * (acc + 2 * act));
    report("rmsnorm backward", run_norm_backward, &backward, TC * (2 * acc + 3 * act));
    if (ops->fp8) {
        seam_rmsnorm_forward_args forward_fp8 = forward;
        seam_rmsnorm_backward_args backward_fp8 = backward;
        forward_fp8.y_scale = backward_fp8.dx_act_scale = buffer(ops->acc, T);
        report("rmsnorm forward to FP8", run_norm_forward, &forward_fp8, TC * (acc + act + 1));
        report("rmsnorm backward to FP8", run_norm_backward, &backward_fp8,
               TC * (2 * acc + 2 * act + 1));
    }
    report("cast acc to act", run_cast, &narrow, TC * (acc + act));
    report("copy acc", run_cast, &copy, TC * 2 * acc);
}

static void bench_wide(void) {
    const double act = (double)seam_dtype_bytes(ops->act), TF = (double)T * F;
    void *gate_up = buffer(ops->act, (size_t)T * 2 * F), *y = buffer(ops->act, (size_t)T * F);
    void *d = buffer(ops->act, (size_t)T * 2 * F);
    const seam_swiglu_forward_args forward = {.y = y, .gate_up = gate_up, .T = T, .F = F};
    const seam_swiglu_backward_args backward = {
        .d_gate_up = d, .dy = y, .gate_up = gate_up, .T = T, .F = F};
    report("swiglu forward", run_swiglu_forward, &forward, 3 * TF * act);
    report("swiglu backward", run_swiglu_backward, &backward, 5 * TF * act);
    if (ops->fp8) {
        seam_swiglu_forward_args forward_fp8 = forward;
        seam_swiglu_backward_args backward_fp8 = backward;
        forward_fp8.y_scale = backward_fp8.d_gate_up_scale = buffer(ops->acc, T);
        report("swiglu forward to FP8", run_swiglu_forward, &forward_fp8, TF * (2 * act + 1));
        backward_fp8.dy = buffer(ops->act, (size_t)T * F);
        report("swiglu backward to FP8", run_swiglu_backward, &backward_fp8, TF * (3 * act + 2));
    }
}

static void bench_rope(void) {
    enum { HEADS = 40, D = 128, LD = 48 * 128, CONTEXT = 384 };
    static uint32_t positions[T];
    const double act = (double)seam_dtype_bytes(ops->qkv);
    for (uint32_t t = 0; t < T; t++) {
        positions[t] = t % CONTEXT;
    }
    const seam_rope_args rope = {.x = buffer(ops->qkv, (size_t)T * LD),
                                 .ld = LD,
                                 .heads = HEADS,
                                 .cos_sin = buffer(ops->acc, (size_t)CONTEXT * D),
                                 .positions = positions,
                                 .T = T,
                                 .D = D};
    report("rope", run_rope, &rope, 2.0 * T * HEADS * D * act);
}

static void bench_parameters(void) {
    const double act = (double)seam_dtype_bytes(ops->act), acc = (double)seam_dtype_bytes(ops->acc);
    const seam_adamw_args adamw = {.param = buffer(ops->acc, PARAMS),
                                   .m = buffer(ops->acc, PARAMS),
                                   .v = buffer(ops->acc, PARAMS),
                                   .grad = buffer(ops->acc, PARAMS),
                                   .copy = buffer(ops->act, PARAMS),
                                   .count = PARAMS,
                                   .lr = 1e-4f,
                                   .beta1 = 0.9f,
                                   .beta2 = 0.999f,
                                   .eps = 1e-8f,
                                   .weight_decay = 0.01f,
                                   .grad_scale = 1.0f,
                                   .step = 1};
    report("adamw", run_adamw, &adamw, PARAMS * (8 * acc + act));
    report("sum of squares", run_squares, adamw.param, PARAMS * acc);
}

/* ---- Attention ---- */
typedef struct work {
    uint32_t seqs, length, H, G, D;
} work;
static const work works[] = {{16, 384, 32, 8, 128}, {4, 1024, 32, 8, 128}, {1, 2048, 32, 8, 128},
                             {16, 384, 9, 3, 64},   {16, 384, 8, 8, 96},   {16, 384, 16, 4, 80}};

static void run_attention_forward(const void *args) {
    must(ops->attention_forward(stream, args));
}
static void run_attention_backward(const void *args) {
    must(ops->attention_backward(stream, args));
}

static void bench_attention(const work *w) {
    enum { SEQS_MAX = 64 };
    uint32_t seq_begin[SEQS_MAX + 1] = {0};
    const uint32_t rows = w->seqs * w->length, ld = (w->H + 2 * w->G) * w->D;
    const size_t act = seam_dtype_bytes(ops->act), heads = seam_dtype_bytes(ops->qkv);
    const size_t k = (size_t)w->H * w->D, v = k + (size_t)w->G * w->D;
    uint8_t *qkv = buffer(ops->qkv, (size_t)rows * ld), *d = buffer(ops->act, (size_t)rows * ld);
    void *o = buffer(ops->act, rows * k), *lse = buffer(ops->acc, (size_t)rows * w->H);
    SEAM_ASSERT(w->seqs <= SEQS_MAX);
    for (uint32_t s = 0; s < w->seqs; s++) {
        seq_begin[s + 1] = seq_begin[s] + w->length;
    }
    const seam_attention_forward_args forward = {.o = o,
                                                 .lse = lse,
                                                 .q = qkv,
                                                 .k = qkv + k * heads,
                                                 .v = qkv + v * heads,
                                                 .q_ld = ld,
                                                 .k_ld = ld,
                                                 .v_ld = ld,
                                                 .seq_begin = seq_begin,
                                                 .scale = 1.0f / sqrtf((float)w->D),
                                                 .S = w->seqs,
                                                 .T = rows,
                                                 .H = w->H,
                                                 .G = w->G,
                                                 .D = w->D};
    const seam_attention_backward_args backward = {.dq = d,
                                                   .dk = d + k * act,
                                                   .dv = d + v * act,
                                                   .dq_ld = ld,
                                                   .dk_ld = ld,
                                                   .dv_ld = ld,
                                                   .d_o = buffer(ops->act, rows * k),
                                                   .o = o,
                                                   .q = forward.q,
                                                   .k = forward.k,
                                                   .v = forward.v,
                                                   .lse = lse,
                                                   .q_ld = ld,
                                                   .k_ld = ld,
                                                   .v_ld = ld,
                                                   .seq_begin = seq_begin,
                                                   .scale = forward.scale,
                                                   .S = w->seqs,
                                                   .T = rows,
                                                   .H = w->H,
                                                   .G = w->G,
                                                   .D = w->D};
    const double flop = 2.0 * rows * w->length * w->H * w->D;
    const double ahead = measure(run_attention_forward, &forward);
    const double back = measure(run_attention_backward, &backward);
    (void)printf("attention %2ux%-4u H %2u G %u D %3u  forward %8.1f us %6.1f TFLOP/s  "
                 "backward %8.1f us %6.1f TFLOP/s  both %8.1f us\n",
                 w->seqs, w->length, w->H, w->G, w->D, 1e6 * ahead, 1e-12 * flop / ahead,
                 1e6 * back, 2.5e-12 * flop / back, 1e6 * (ahead + back));
}

int main(int argc, char **argv) {
    const bool f32 = argc > 2 && strcmp(argv[2], "f32") == 0;
    seam_backend_options options = {
        .device = argc > 1 ? argv[1] : "cuda:0", .act = f32 ? SEAM_F32 : SEAM_BF16, .fp8 = !f32};
    seam_error err;
    seam_status st = seam_backend_create(&backend, &options, &err);
    if (st == SEAM_E_UNIMPLEMENTED && options.fp8) {
        options.fp8 = false;
        st = seam_backend_create(&backend, &options, &err);
    }
    if (st != SEAM_OK) {
        (void)fprintf(stderr, "bench_pointwise: %s\n", err.text);
        return 2;
    }
    ops = seam_backend_ops(backend);
    must(ops->stream_create(&stream, backend));
    (void)printf("%s\n", seam_backend_describe(backend));
    enum { COPY = 1 << 26 };
    const cast_args copy = {buffer(ops->acc, COPY), buffer(ops->acc, COPY), ops->acc, ops->acc,
                            COPY};
    report("device copy", run_cast, &copy, 2.0 * COPY * (double)seam_dtype_bytes(ops->acc));
    bench_rows();
    bench_wide();
    bench_rope();
    bench_parameters();
    for (size_t i = 0; i < sizeof works / sizeof works[0]; i++) {
        bench_attention(&works[i]);
    }
    return 0;
}
