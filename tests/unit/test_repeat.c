/* Goal: passes that a device keeps and queues again in one piece have the bits of passes queued op
 * by op, whatever row counts and layouts come between, and are in fact queued again; dropout's
 * draws differ every time all the same; a pass whose recording fails is queued op by op; what is
 * kept takes no more of the device than is planned, and passes after that take nothing.  Method:
 * the same model by formula, adapters and micro-batches of changing layouts on a CUDA device, with
 * the op table's `repeat` and without; the bits of every step's gradients, input gradient and
 * adapter are compared, and calls of an op are counted; an op that waits for the device, which no
 * recording allows; what the device has free before passes are recorded and after. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "blocks_internal.h"
#include "memory_plan.h"
#include "synthetic_model.h"

enum { ROWS_MAX = 90, SEQS_MAX = 4, STEPS = 40 };

static const seam_model_config config = SEAM_TEST_SMALL(64, 96, 3);

typedef struct layout {
    uint32_t seq_count, seq_begin[SEQS_MAX + 1], position;
} layout;
/* Two of equal counts and tiles, one with other positions; then enough for the oldest to go. */
static const layout layouts[] = {
    {3, {0, 9, 10, 23}, 0},  {3, {0, 5, 14, 23}, 0}, {3, {0, 5, 14, 23}, 7}, {1, {0, 64}, 0},
    {2, {0, 40, 90}, 3},     {1, {0, 1}, 11},        {2, {0, 2, 31}, 0},     {1, {0, 33}, 0},
    {4, {0, 1, 2, 3, 4}, 5}, {1, {0, 17}, 0},        {1, {0, 18}, 0},        {1, {0, 19}, 0}};
enum { LAYOUTS = sizeof layouts / sizeof *layouts };
/* First a few again and again, then all in turn. */
static const layout *layout_of(uint32_t step) {
    static const uint8_t first[] = {0, 0, 0, 1, 2, 3, 0, 3, 3, 4, 1, 3, 4, 4, 2, 0};
    return &layouts[step < sizeof first ? first[step] : step % LAYOUTS];
}

typedef struct outcome {
    uint64_t hash[STEPS];
    uint32_t calls[STEPS];
    size_t gradient_count;
    float *gradients; /* (STEPS, gradient_count) */
    float *dx;        /* (STEPS, ROWS_MAX, C) */
} outcome;

static uint32_t call_count;
static seam_status (*swiglu_forward)(seam_stream *stream, const seam_swiglu_forward_args *args);
static seam_status counted(seam_stream *stream, const seam_swiglu_forward_args *args) {
    call_count++;
    return swiglu_forward(stream, args);
}

/* Waits in the middle of a pass: nothing but time where it is queued, the end of a recording. */
static uint32_t waits_failed;
static seam_status (*stream_sync)(seam_stream *stream);
static seam_status waiting(seam_stream *stream, const seam_swiglu_forward_args *args) {
    const seam_status st = stream_sync(stream);
    waits_failed += st != SEAM_OK;
    return st == SEAM_OK ? counted(stream, args) : st;
}
/* The same by an op that does not look: the ops after it see the broken recording. */
static seam_status waiting_blindly(seam_stream *stream, const seam_swiglu_forward_args *args) {
    waits_failed += stream_sync(stream) != SEAM_OK;
    return counted(stream, args);
}

static const seam_optimizer_config optimizer = SEAM_TEST_OPTIMIZER;

static void step_run(outcome *ret, seam_test_engine *e, seam_adapter *adapter, uint32_t step) {
    const layout *l = layout_of(step);
    const uint32_t rows = l->seq_begin[l->seq_count];
    uint32_t ids[ROWS_MAX], targets[ROWS_MAX], positions[ROWS_MAX];
    for (uint32_t s = 0, t = 0; s < l->seq_count; s++) {
        for (; t < l->seq_begin[s + 1]; t++) {
            ids[t] = seam_synthetic_word("ids", t + step) % config.vocab_count;
            targets[t] = seam_synthetic_word("ids", t + step + 1) % config.vocab_count;
            positions[t] = l->position + t - l->seq_begin[s];
        }
    }
    const seam_draw draw = {.step = step, .micro = 0};
    const seam_test_text text = {.batch = {.rows = rows,
                                           .seq_count = l->seq_count,
                                           .seq_begin = l->seq_begin,
                                           .positions = positions,
                                           .draw = &draw},
                                 .ids = ids,
                                 .targets = targets};
    const size_t dx_values = (size_t)rows * config.hidden;
    double norm = 0;
    call_count = 0;
    (void)seam_test_forward_backward(e, adapter, &text, 0.1f);
    ret->calls[step] = call_count;
    (void)seam_test_gradients(ret->gradients + step * ret->gradient_count, adapter, e->stream);
    seam_test_check(e->ops->copy_out(e->stream, ret->dx + step * ROWS_MAX * config.hidden, e->x,
                                     dx_values * sizeof(float)),
                    "copy", NULL);
    seam_test_check(
        seam_adapter_step(&norm, &ret->hash[step], adapter, e->stream, &optimizer, step), "step",
        NULL);
    assert_true(norm > 0);
}

static void steps_run(outcome *ret, seam_test_engine *e, const seam_adapter_config *lora,
                      bool recompute) {
    const seam_activations_options options = {
        .adapter = lora, .rows_max = ROWS_MAX, .seqs_max = SEQS_MAX, .recompute = recompute};
    seam_test_engine_activations(e, &options);
    seam_adapter *const adapter = seam_test_adapter_synthetic(e, lora);
    *ret = (outcome){.gradient_count = seam_test_gradients(NULL, adapter, e->stream)};
    ret->gradients = test_calloc(STEPS * ret->gradient_count, sizeof(float));
    ret->dx = test_calloc((size_t)STEPS * ROWS_MAX * config.hidden, sizeof(float));
    for (uint32_t step = 0; step < STEPS; step++) {
        step_run(ret, e, adapter, step);
    }
    seam_adapter_destroy(adapter);
}

static void outcome_deinit(outcome *o) {
    test_free(o->gradients);
    test_free(o->dx);
}

static void same_bits_check(const outcome *expected, const outcome *found) {
    assert_memory_equal(expected->hash, found->hash, sizeof found->hash);
    assert_memory_equal(expected->gradients, found->gradients,
                        STEPS * expected->gradient_count * sizeof(float));
    assert_memory_equal(expected->dx, found->dx,
                        (size_t)STEPS * ROWS_MAX * config.hidden * sizeof(float));
}

static void bits_check(seam_test_engine *e, const seam_adapter_config *lora, bool recompute) {
    seam_ops kept = *e->ops, plain = *e->ops;
    outcome expected, found;
    assert_non_null(kept.repeat);
    swiglu_forward = kept.swiglu_forward;
    kept.swiglu_forward = plain.swiglu_forward = counted;
    plain.repeat = NULL;
    e->blocks->ops = &plain;
    steps_run(&expected, e, lora, recompute);
    e->blocks->ops = &kept;
    steps_run(&found, e, lora, recompute);
    e->blocks->ops = e->ops;
    uint32_t replayed = 0;
    for (uint32_t step = 0; step < STEPS; step++) {
        assert_true(expected.calls[step] >= config.layers);
        replayed += found.calls[step] == 0;
    }
    same_bits_check(&expected, &found);
    /* With dropout every pass has draws of its own.  Else the third pass of a layout is the first
     * that calls no op, and the layouts 0 to 2 are one; nothing that comes in turn of twelve is. */
    if (lora->lora.dropout > 0) {
        assert_int_equal(replayed, 0);
    } else {
        assert_int_equal(found.calls[0], expected.calls[0]);
        assert_int_equal(found.calls[1], expected.calls[1]);
        assert_int_equal(found.calls[2], 0);
        assert_int_equal(found.calls[4], 0);
        assert_true(replayed >= 8);
    }
    (void)printf("%u of %d passes queued again\n", replayed, (int)STEPS);
    outcome_deinit(&expected);
    outcome_deinit(&found);
}

/* ---- recordings that fail ---- */
static void failure_check(seam_test_engine *e, const seam_adapter_config *lora,
                          seam_status (*op)(seam_stream *stream,
                                            const seam_swiglu_forward_args *args)) {
    seam_ops kept = *e->ops, plain = *e->ops;
    outcome expected, found;
    stream_sync = kept.stream_sync;
    swiglu_forward = kept.swiglu_forward;
    plain.swiglu_forward = counted;
    plain.repeat = NULL;
    kept.swiglu_forward = op;
    e->blocks->ops = &plain;
    steps_run(&expected, e, lora, false);
    waits_failed = 0;
    e->blocks->ops = &kept;
    steps_run(&found, e, lora, false);
    e->blocks->ops = e->ops;
    uint32_t tried = 0;
    for (uint32_t step = 0; step < STEPS; step++) {
        assert_true(found.calls[step] >= expected.calls[step]); /* nothing is queued again */
        tried += found.calls[step] > expected.calls[step];
    }
    same_bits_check(&expected, &found);
    (void)printf("%u recordings broken, %u steps with calls of one\n", waits_failed, tried);
    assert_true(waits_failed >= 4); /* of each of the layouts that come again */
    assert_int_equal(tried > 0, op == waiting_blindly);
    assert_string_equal(seam_backend_fault(e->backend), ""); /* none of the device's */
    outcome_deinit(&expected);
    outcome_deinit(&found);
}

/* ---- memory ---- */
static const seam_model_config deep = SEAM_TEST_SMALL(64, 96, 30);
enum { SHAPES = SEAM_REPEAT_KEPT_MAX / 2 }; /* a forward and a backward each */

/* A step of each shape; what the device has free after them. */
static uint64_t shapes_run(seam_test_engine *e, seam_adapter *adapter) {
    uint32_t ids[ROWS_MAX], targets[ROWS_MAX], positions[ROWS_MAX];
    for (uint32_t t = 0; t < ROWS_MAX; t++) {
        ids[t] = seam_synthetic_word("ids", t) % deep.vocab_count;
        targets[t] = seam_synthetic_word("ids", t + 1) % deep.vocab_count;
        positions[t] = t;
    }
    for (uint32_t i = 0; i < SHAPES; i++) {
        const uint32_t seq_begin[] = {0, 10 + 10 * i};
        const seam_test_text text = {.batch = {.rows = seq_begin[1],
                                               .seq_count = 1,
                                               .seq_begin = seq_begin,
                                               .positions = positions},
                                     .ids = ids,
                                     .targets = targets};
        (void)seam_test_forward_backward(e, adapter, &text, 0.1f);
    }
    seam_test_check(e->ops->stream_sync(e->stream), "sync", NULL);
    return e->ops->mem_room(e->backend);
}

static void memory_check(seam_test_engine *e, const seam_adapter_config *lora, bool recompute) {
    const seam_activations_options options = {
        .adapter = lora, .rows_max = ROWS_MAX, .seqs_max = SEQS_MAX, .recompute = recompute};
    const seam_memory_blocks blocks = {.model = &deep, .ops = e->ops, .layer_end = deep.layers};
    seam_memory_plan plan = {0};
    seam_test_engine_activations(e, &options);
    seam_adapter *const adapter = seam_test_adapter_synthetic(e, lora);
    seam_memory_plan_repeats(&plan, &blocks, lora);
    const uint64_t planned = seam_memory_plan_device_bytes(&plan);
    const uint64_t before = shapes_run(e, adapter); /* scratch, and what else a first call takes */
    const uint64_t recorded = shapes_run(e, adapter), launched = shapes_run(e, adapter);
    const uint64_t least = recorded < launched ? recorded : launched;
    const uint64_t taken = before > least ? before - least : 0;
    (void)printf("targets %x%s: %d passes of %u layers take %.1f MiB of the device, %.1f planned\n",
                 lora->lora.targets, recompute ? ", recompute" : "", (int)SEAM_REPEAT_KEPT_MAX,
                 deep.layers, (double)taken / 0x1p20, (double)planned / 0x1p20);
    assert_true(taken <= planned);
    assert_true(shapes_run(e, adapter) >= launched); /* a pass that has come before takes nothing */
    seam_adapter_destroy(adapter);
}

static void test_repeat__all_kept__takes_no_more_than_planned(void **state) {
    (void)state;
    const seam_tensor_source source = seam_synthetic_source(&deep);
    const seam_backend_options options = {.device = "cuda:0", .act = SEAM_BF16, .threads = 1};
    const seam_adapter_config all = {.lora = {.rank = 8, .alpha = 16, .targets = 0x7f, .seed = 3}};
    const seam_adapter_config prefix = {.kind = SEAM_ADAPTER_PREFIX,
                                        .prefix = {.tokens = 5, .seed = 3}};
    seam_adapter_config two = all;
    seam_test_engine engine;
    two.lora.targets = SEAM_LORA_Q | SEAM_LORA_V;
    assert_true(seam_test_engine_open(&engine, &options, &source, &all, ROWS_MAX));
    memory_check(&engine, &two, false);
    memory_check(&engine, &all, false);
    memory_check(&engine, &all, true);
    memory_check(&engine, &prefix, false);
    seam_test_engine_close(&engine);
}

/* ---- generation ---- */
enum { PROMPT = 7, SLOTS = 2, TOKENS = 12, POSITIONS = PROMPT + TOKENS };

typedef struct generated {
    float rows[TOKENS + 1][PROMPT * SLOTS * 64];
    uint32_t calls[TOKENS + 1];
} generated;

/* A prompt into both slots, then a row of each at a time; the last ones of one slot alone. */
static void generate(generated *ret, seam_test_engine *e, seam_adapter *adapter) {
    seam_kv_cache *cache = NULL;
    seam_error err = {0};
    seam_test_check(
        seam_kv_cache_create(&cache, e->blocks, SLOTS, POSITIONS + 8, PROMPT * SLOTS, &err),
        "cache", &err);
    for (uint32_t token = 0; token <= TOKENS; token++) {
        const uint32_t each = token == 0 ? PROMPT : 1, slots = token + 2 < TOKENS ? SLOTS : 1;
        uint32_t slot_of[PROMPT * SLOTS], positions[PROMPT * SLOTS];
        for (uint32_t t = 0; t < each * slots; t++) {
            slot_of[t] = t / each;
            positions[t] = t % each + (token == 0 ? 0 : PROMPT + token - 1);
        }
        const size_t count = (size_t)each * slots * config.hidden;
        seam_synthetic_fill(ret->rows[token], "rows", count, 1.0f + 0.1f * (float)token);
        seam_test_check(e->ops->copy_in(e->stream, e->x, ret->rows[token], count * sizeof(float)),
                        "in", NULL);
        call_count = 0;
        seam_test_check(seam_blocks_forward_cached(e->blocks, adapter, cache, e->stream, e->x,
                                                   each * slots, slot_of, positions),
                        "forward", NULL);
        ret->calls[token] = call_count;
        seam_test_check(e->ops->copy_out(e->stream, ret->rows[token], e->x, count * sizeof(float)),
                        "out", NULL);
    }
    seam_kv_cache_destroy(cache);
}

static void generation_check(seam_test_engine *e, const seam_adapter_config *lora) {
    static generated expected, found;
    seam_ops kept = *e->ops, plain = *e->ops;
    swiglu_forward = kept.swiglu_forward;
    kept.swiglu_forward = plain.swiglu_forward = counted;
    plain.repeat = NULL;
    memset(&expected, 0, sizeof expected);
    memset(&found, 0, sizeof found);
    seam_adapter *const adapter = seam_test_adapter_synthetic(e, lora);
    e->blocks->ops = &plain;
    generate(&expected, e, adapter);
    e->blocks->ops = &kept;
    generate(&found, e, adapter);
    e->blocks->ops = e->ops;
    seam_adapter_destroy(adapter);
    assert_memory_equal(expected.rows, found.rows, sizeof found.rows);
    for (uint32_t token = 0; token <= TOKENS; token++) {
        /* The second of a shape is recorded, op by op; a prefix is put where slots begin. */
        const bool again =
            lora->kind == SEAM_ADAPTER_LORA && token >= 3 && token != 10 && token != 11;
        assert_int_equal(expected.calls[token], config.layers);
        assert_int_equal(found.calls[token], again ? 0 : config.layers);
    }
}

static void test_repeat__changing_layouts__bits_of_ops_one_by_one(void **state) {
    (void)state;
    static const seam_dtype acts[] = {SEAM_BF16, SEAM_F32};
    const seam_tensor_source source = seam_synthetic_source(&config);
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        const seam_adapter_config all = {
            .lora = {.rank = 8, .alpha = 16, .targets = 0x7f, .seed = 3}};
        const seam_adapter_config prefix = {.kind = SEAM_ADAPTER_PREFIX,
                                            .prefix = {.tokens = 5, .seed = 3}};
        const seam_backend_options options = {.device = "cuda:0", .act = acts[i], .threads = 1};
        seam_adapter_config two = all, drops = all;
        seam_test_engine engine;
        two.lora.targets = SEAM_LORA_Q | SEAM_LORA_V;
        two.lora.rank = 5;
        drops.lora.dropout = 0.25f;
        assert_true(seam_test_engine_open(&engine, &options, &source, &all, ROWS_MAX));
        failure_check(&engine, &all, waiting);
        failure_check(&engine, &two, waiting_blindly);
        bits_check(&engine, &all, false); /* recordings of the same stream succeed again */
        bits_check(&engine, &all, true);
        bits_check(&engine, &two, false);
        bits_check(&engine, &drops, false);
        bits_check(&engine, &prefix, false);
        generation_check(&engine, &two);
        generation_check(&engine, &prefix);
        seam_test_engine_close(&engine);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_repeat__changing_layouts__bits_of_ops_one_by_one),
        cmocka_unit_test(test_repeat__all_kept__takes_no_more_than_planned),
    };
    const seam_backend_options options = {.device = "cuda:0", .act = SEAM_BF16};
    seam_backend *backend = NULL;
    seam_error err = {0};
    const seam_status st = seam_backend_create(&backend, &options, &err);
    if (st == SEAM_E_UNIMPLEMENTED) {
        (void)printf("SKIPPED: %s\n", err.text);
        return 77;
    }
    seam_test_check(st, "backend", &err);
    seam_backend_destroy(backend);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
