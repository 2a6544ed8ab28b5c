/* The wrappers and slots of blocks_profile.h. */
#include "blocks_profile.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "blocks_internal.h"
#include "try.h"

static double now_seconds(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- Profile: a slot an op ---- */
typedef enum slot {
    QKV_FORWARD,
    O_FORWARD,
    GATE_UP_FORWARD,
    DOWN_FORWARD,
    QKV_BACKWARD,
    O_BACKWARD,
    GATE_UP_BACKWARD,
    DOWN_BACKWARD,
    ATTENTION_FORWARD,
    ATTENTION_BACKWARD,
    NORM_FORWARD,
    NORM_BACKWARD,
    SWIGLU_FORWARD,
    SWIGLU_BACKWARD,
    ROPE,
    CAST,
    SLOTS
} slot;
static const char *const slot_names[SLOTS] = {"qkv forward",
                                              "o forward",
                                              "gate_up forward",
                                              "down forward",
                                              "qkv backward",
                                              "o backward",
                                              "gate_up backward",
                                              "down backward",
                                              "attention forward",
                                              "attention backward",
                                              "norm forward",
                                              "norm backward",
                                              "swiglu forward",
                                              "swiglu backward",
                                              "rope",
                                              "cast"};
static double slot_seconds[SLOTS];
static uint32_t slot_calls[SLOTS];
static double slot_flops[SLOTS]; /* of the frozen products */
static const seam_ops *given;
static seam_ops real, timed; /* what the wrappers call; the wrappers */
static const seam_blocks *profiled;

static double profile_begin(seam_stream *stream) {
    SEAM_ASSERT(real.stream_sync(stream) == SEAM_OK);
    return now_seconds();
}

static void profile_end(seam_stream *stream, slot which, double begin) {
    SEAM_ASSERT(real.stream_sync(stream) == SEAM_OK);
    slot_seconds[which] += now_seconds() - begin;
    slot_calls[which]++;
}

static slot product_slot(const seam_weight *w) {
    const seam_block *layer = profiled->layers;
    for (uint32_t i = 0; i < profiled->layer_count; i++, layer++) {
        const seam_weight *const weights[] = {layer->qkv, layer->o, layer->gate_up, layer->down};
        for (int k = 0; k < 4; k++) {
            if (weights[k] == w) {
                return (slot)k;
            }
        }
    }
    return QKV_FORWARD;
}

static double product_flops(slot which, uint32_t T) {
    const seam_model_config *c = &profiled->config;
    const double count[4] = {
        (double)c->hidden * profiled->qkv_cols, (double)c->hidden * profiled->q_cols,
        2.0 * c->hidden * c->intermediate, (double)c->hidden * c->intermediate};
    return 2.0 * T * count[which % 4];
}

static seam_status timed_linear_forward(seam_stream *stream, const seam_linear_forward_args *args) {
    const slot which = product_slot(args->w);
    const double begin = profile_begin(stream);
    const seam_status st = real.linear_forward(stream, args);
    profile_end(stream, which, begin);
    slot_flops[which] += product_flops(which, args->T);
    return st;
}

static seam_status timed_linear_backward(seam_stream *stream,
                                         const seam_linear_backward_args *args) {
    const slot which = (slot)(product_slot(args->w) + QKV_BACKWARD);
    const double begin = profile_begin(stream);
    const seam_status st = real.linear_backward(stream, args);
    profile_end(stream, which, begin);
    slot_flops[which] += product_flops(which, args->T);
    return st;
}

static seam_status timed_cast(seam_stream *stream, void *dst, seam_dtype dst_type, const void *src,
                              seam_dtype src_type, size_t count) {
    const double begin = profile_begin(stream);
    const seam_status st = real.cast(stream, dst, dst_type, src, src_type, count);
    profile_end(stream, CAST, begin);
    return st;
}

#define TIMED(op, which)                                                                           \
    static seam_status timed_##op(seam_stream *stream, const seam_##op##_args *args) {             \
        const double begin = profile_begin(stream);                                                \
        const seam_status st = real.op(stream, args);                                              \
        profile_end(stream, which, begin);                                                         \
        return st;                                                                                 \
    }
TIMED(attention_forward, ATTENTION_FORWARD)
TIMED(attention_backward, ATTENTION_BACKWARD)
TIMED(rmsnorm_forward, NORM_FORWARD)
TIMED(rmsnorm_backward, NORM_BACKWARD)
TIMED(swiglu_forward, SWIGLU_FORWARD)
TIMED(swiglu_backward, SWIGLU_BACKWARD)
TIMED(rope, ROPE)

void blocks_profile_begin(seam_blocks *blocks) {
    profiled = blocks;
    given = blocks->ops;
    real = timed = *given;
    timed.linear_forward = timed_linear_forward;
    timed.linear_backward = timed_linear_backward;
    timed.attention_forward = timed_attention_forward;
    timed.attention_backward = timed_attention_backward;
    timed.rmsnorm_forward = timed_rmsnorm_forward;
    timed.rmsnorm_backward = timed_rmsnorm_backward;
    timed.swiglu_forward = timed_swiglu_forward;
    timed.swiglu_backward = timed_swiglu_backward;
    timed.rope = timed_rope;
    timed.cast = timed_cast;
    timed.repeat = NULL; /* no waits inside a graph */
    memset(slot_seconds, 0, sizeof slot_seconds);
    memset(slot_calls, 0, sizeof slot_calls);
    memset(slot_flops, 0, sizeof slot_flops);
    blocks->ops = &timed;
}

void blocks_profile_end(seam_blocks *blocks, uint32_t steps) {
    blocks->ops = given;
    double total = 0;
    for (int i = 0; i < SLOTS; i++) {
        total += slot_seconds[i];
    }
    (void)printf("  %-20s %9s %6s %7s %9s %9s\n", "op", "ms/step", "%", "calls", "us/call",
                 "TFLOP/s");
    for (int i = 0; i < SLOTS; i++) {
        if (slot_calls[i] == 0) {
            continue;
        }
        (void)printf("  %-20s %9.2f %6.1f %7u %9.1f", slot_names[i], 1e3 * slot_seconds[i] / steps,
                     100 * slot_seconds[i] / total, slot_calls[i] / steps,
                     1e6 * slot_seconds[i] / slot_calls[i]);
        if (slot_flops[i] > 0) {
            (void)printf(" %9.1f", 1e-12 * slot_flops[i] / slot_seconds[i]);
        }
        (void)printf("\n");
    }
    (void)printf("  sum of the ops %.1f ms/step\n", 1e3 * total / steps);
}
