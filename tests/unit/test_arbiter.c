/* Goal: the arbiter's clipping and schedule are those of WIRE.md section 4 and SPEC 3.1.
 * Method: commits with chosen means, weights where the sites differ. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "arbiter.h"

static const seam_arbiter_config soft = {.bits_target = 4.0f,
                                         .beta = 0.5f,
                                         .bits_lr = 0.25f,
                                         .beta_after = 0.125f,
                                         .bits_lr_after = 0.0625f};

static void test_arbiter_judge__above_target__loss_acts_at_full_rates(void **state) {
    (void)state;
    seam_arbiter a;
    seam_arbiter_init(&a, &soft);
    seam_arbiter_weigh(&a, 300, 100);
    seam_arbiter_weigh(&a, 1, 1); /* the first step's weights stay */
    seam_arbiter_judge(&a, 4.0, 8.0);
    assert_true(a.mean_bits == 5.0);
    assert_false(a.target_reached);
    assert_false(a.changed);
    assert_true(a.budget.bits_loss_active);
    assert_true(a.budget.beta == 0.5f && a.budget.bits_lr == 0.25f);
}

static void test_arbiter_judge__target_reached__rates_fall_for_good(void **state) {
    (void)state;
    seam_arbiter a;
    seam_arbiter_init(&a, &soft);
    seam_arbiter_weigh(&a, 1, 1);
    seam_arbiter_judge(&a, 3.5, 4.5);
    assert_true(a.target_reached && a.changed);
    assert_false(a.budget.bits_loss_active);
    assert_true(a.budget.beta == 0.125f && a.budget.bits_lr == 0.0625f);
    seam_arbiter_judge(&a, 4.0, 4.5); /* drifts above: the loss acts again, at the low rates */
    assert_true(a.budget.bits_loss_active && a.changed);
    assert_true(a.budget.beta == 0.125f);
    assert_true(a.budget.width_shift == 0.0f);
    seam_arbiter_judge(&a, 4.0, 4.5);
    assert_false(a.changed);
}

static void test_arbiter_judge__no_gates_at_one_site__the_other_alone_counts(void **state) {
    (void)state;
    seam_arbiter a;
    seam_arbiter_init(&a, &soft);
    seam_arbiter_weigh(&a, 0, 100);
    seam_arbiter_weigh(&a, 1, 1); /* the first step's weights stay */
    seam_arbiter_judge(&a, 0.0, 4.5);
    assert_true(a.mean_bits == 4.5 && !a.target_reached);
    seam_arbiter_judge(&a, 9.0, 4.0);
    assert_true(a.mean_bits == 4.0 && a.target_reached);
}

static void test_arbiter_judge__hard_below_target__shift_is_the_gap(void **state) {
    (void)state;
    seam_arbiter_config hard = soft;
    hard.hard = true;
    seam_arbiter a;
    seam_arbiter_init(&a, &hard);
    seam_arbiter_weigh(&a, 1, 1);
    seam_arbiter_judge(&a, 3.0, 4.5);
    assert_true(a.budget.bits_loss_active);
    assert_true(a.budget.width_shift == 0.25f);
    seam_arbiter_judge(&a, 4.0, 4.5);
    assert_true(a.budget.width_shift == 0.0f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arbiter_judge__above_target__loss_acts_at_full_rates),
        cmocka_unit_test(test_arbiter_judge__target_reached__rates_fall_for_good),
        cmocka_unit_test(test_arbiter_judge__no_gates_at_one_site__the_other_alone_counts),
        cmocka_unit_test(test_arbiter_judge__hard_below_target__shift_is_the_gap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
