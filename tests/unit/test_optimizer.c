/* Goal: the learning rate of every step.
 * Method: the values of transformers' schedules (get_linear_..., get_cosine_..., constant), with
 * warm-up counted from 1.  AdamW, clipping and the whole step: tests/golden,
 * tests/unit/test_blocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "blocks.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedule_lr__warm_up__rises_from_above_zero),
        cmocka_unit_test(test_schedule_lr__after_warm_up__follows_its_curve),
        cmocka_unit_test(test_schedule_lr__at_and_after_the_end__is_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
