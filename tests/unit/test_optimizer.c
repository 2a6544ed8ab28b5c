/* Goal: the learning rate of every step; an update's bits whatever computes it.
 * Method: the values of transformers' schedules (get_linear_..., get_cosine_..., constant), with
 * warm-up counted from 1; a few updates on every CPU variant and device that is there.  AdamW's
 * values, clipping and the whole step: tests/ops, tests/golden, tests/unit/test_blocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "blocks.h"
#include "ops.h"

static void assert_lr(seam_schedule schedule, uint64_t warmup, uint64_t step, double expected) {
    const seam_optimizer_config config = {
        .lr = 0.5f, .schedule = schedule, .warmup_steps = warmup, .total_steps = 12};
    assert_float_equal(seam_schedule_lr(&config, step), expected, 1e-15);
}

static void test_schedule_lr__warm_up__rises_from_above_zero(void **state) {
    (void)state;
    static const seam_schedule all[] = {SEAM_SCHEDULE_CONSTANT, SEAM_SCHEDULE_LINEAR,
                                        SEAM_SCHEDULE_COSINE};
    for (size_t i = 0; i < 3; i++) {
        assert_lr(all[i], 4, 0, 0.125);
        assert_lr(all[i], 4, 1, 0.25);
        assert_lr(all[i], 4, 3, 0.5);
        assert_lr(all[i], 4, 4, 0.5);
        assert_lr(all[i], 0, 0, 0.5);
    }
}

static void test_schedule_lr__after_warm_up__follows_its_curve(void **state) {
    (void)state;
    assert_lr(SEAM_SCHEDULE_CONSTANT, 4, 11, 0.5);
    assert_lr(SEAM_SCHEDULE_CONSTANT, 4, 1000, 0.5);
    assert_lr(SEAM_SCHEDULE_LINEAR, 4, 6, 0.375);
    assert_lr(SEAM_SCHEDULE_LINEAR, 4, 10, 0.125);
    assert_lr(SEAM_SCHEDULE_COSINE, 4, 8, 0.25);
    assert_lr(SEAM_SCHEDULE_COSINE, 4, 6, 0.25 * (1 + sqrt(0.5)));
}

static void test_schedule_lr__at_and_after_the_end__is_zero(void **state) {
    (void)state;
    assert_lr(SEAM_SCHEDULE_LINEAR, 4, 12, 0);
    assert_lr(SEAM_SCHEDULE_COSINE, 4, 12, 0);
    assert_lr(SEAM_SCHEDULE_LINEAR, 4, UINT64_MAX, 0);
    assert_lr(SEAM_SCHEDULE_LINEAR, 12, 12, 0);
}

enum { COUNT = 1003, UPDATES = 5 };

/* Parameters after some updates on one device; false: this machine or build lacks it. */
static bool updated(float ret_param[COUNT], const char *device) {
    const seam_backend_options options = {.device = device, .act = SEAM_F32, .threads = 2};
    seam_backend *backend = NULL;
    seam_stream *stream = NULL;
    seam_error err = {0};
    const seam_status st = seam_backend_create(&backend, &options, &err);
    if (st != SEAM_OK) {
        assert_true(strncmp(device, "cuda", 4) != 0 || st == SEAM_E_UNIMPLEMENTED);
        (void)printf("SKIPPED %s: %s\n", device, err.text);
        return false;
    }
    const seam_ops *const ops = seam_backend_ops(backend);
    void *buffers[4]; /* param, m, v, grad */
    float host[COUNT];
    assert_int_equal(ops->stream_create(&stream, backend), SEAM_OK);
    for (uint32_t b = 0; b < 4; b++) {
        for (uint32_t i = 0; i < COUNT; i++) {
            host[i] = b == 0 ? sinf((float)i) : 0.0f;
        }
        assert_int_equal(ops->mem_alloc(&buffers[b], backend, sizeof host), SEAM_OK);
        assert_int_equal(ops->copy_in(stream, buffers[b], host, sizeof host), SEAM_OK);
    }
    for (uint64_t step = 1; step <= UPDATES; step++) {
        for (uint32_t i = 0; i < COUNT; i++) {
            host[i] = 1e-3f * cosf((float)(i * step));
        }
        const seam_adamw_args args = {.param = buffers[0],
                                      .m = buffers[1],
                                      .v = buffers[2],
                                      .grad = buffers[3],
                                      .count = COUNT,
                                      .lr = 1e-3f,
                                      .beta1 = 0.9f,
                                      .beta2 = 0.999f,
                                      .eps = 1e-8f,
                                      .weight_decay = 0.01f,
                                      .grad_scale = 0.7f,
                                      .step = step};
        assert_int_equal(ops->copy_in(stream, buffers[3], host, sizeof host), SEAM_OK);
        assert_int_equal(ops->adamw(stream, &args), SEAM_OK);
        assert_int_equal(ops->stream_sync(stream), SEAM_OK);
    }
    assert_int_equal(ops->copy_out(stream, ret_param, buffers[0], sizeof host), SEAM_OK);
    assert_int_equal(ops->stream_sync(stream), SEAM_OK);
    for (uint32_t b = 0; b < 4; b++) {
        ops->mem_free(backend, buffers[b]);
    }
    ops->stream_destroy(stream);
    seam_backend_destroy(backend);
    return true;
}

static void test_adamw__any_device__has_the_same_bits(void **state) {
    (void)state;
    static const char *const devices[] = {"cpu:avx2", "cpu:avx512", "cpu:amx", "cpu", "cuda:0"};
    float want[COUNT] = {0}, got[COUNT] = {0};
    assert_true(updated(want, "cpu:base"));
    assert_true(want[1] != sinf(1.0f));
    for (size_t d = 0; d < sizeof devices / sizeof *devices; d++) {
        if (updated(got, devices[d])) {
            assert_memory_equal(got, want, sizeof want);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adamw__any_device__has_the_same_bits),
        cmocka_unit_test(test_schedule_lr__warm_up__rises_from_above_zero),
        cmocka_unit_test(test_schedule_lr__after_warm_up__follows_its_curve),
        cmocka_unit_test(test_schedule_lr__at_and_after_the_end__is_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
