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

static void judge(seam_arbiter *a, double mean_in, double mean_out) {
    const seam_arbiter_view view = {.mean_in = mean_in, .mean_out = mean_out};
    seam_arbiter_judge(a, &view);
    if (a->config.pace.steps_to_target == 0) {
        assert_true(a->budget.beta_in == a->budget.beta_out);
    }
}

static void test_arbiter_judge__above_target__loss_acts_at_full_rates(void **state) {
    (void)state;
    seam_arbiter a;
    seam_arbiter_init(&a, &soft);
    seam_arbiter_weigh(&a, 300, 300, 100);
    seam_arbiter_weigh(&a, 1, 1, 1); /* the first step's weights stay */
    judge(&a, 4.0, 8.0);
    assert_true(a.mean_bits == 5.0);
    assert_false(a.target_reached);
    assert_false(a.changed);
    assert_true(a.budget.bits_loss_active);
    assert_true(a.budget.beta_in == 0.5f && a.budget.bits_lr == 0.25f);
}

static void test_arbiter_judge__target_reached__rates_fall_for_good(void **state) {
    (void)state;
    seam_arbiter a;
    seam_arbiter_init(&a, &soft);
    seam_arbiter_weigh(&a, 1, 1, 1);
    judge(&a, 3.5, 4.5);
    assert_true(a.target_reached && a.changed);
    assert_false(a.budget.bits_loss_active);
    assert_true(a.budget.beta_in == 0.125f && a.budget.bits_lr == 0.0625f);
    judge(&a, 4.0, 4.5); /* drifts above: the loss acts again, at the low rates */
    assert_true(a.budget.bits_loss_active && a.changed);
    assert_true(a.budget.beta_in == 0.125f);
    assert_true(a.budget.width_shift == 0.0f);
    judge(&a, 4.0, 4.5);
    assert_false(a.changed);
}

static void test_arbiter_judge__no_gates_at_one_site__the_other_alone_counts(void **state) {
    (void)state;
    seam_arbiter a;
    seam_arbiter_init(&a, &soft);
    seam_arbiter_weigh(&a, 0, 0, 100);
    seam_arbiter_weigh(&a, 1, 1, 1); /* the first step's weights stay */
    judge(&a, 0.0, 4.5);
    assert_true(a.mean_bits == 4.5 && !a.target_reached);
    judge(&a, 9.0, 4.0);
    assert_true(a.mean_bits == 4.0 && a.target_reached);
}

static void test_arbiter_weigh__run_of_before__counts_repetitions(void **state) {
    (void)state;
    seam_arbiter a;
    seam_arbiter_init(&a, &soft);
    seam_arbiter_weigh(&a, 100, 300, 100);
    assert_true(a.values_in == 100 && a.values_used_in == 300 && a.values_out == 100);
    seam_arbiter_init(&a, &soft);
    a.counts_all = true;
    seam_arbiter_weigh(&a, 100, 300, 100);
    assert_true(a.values_in == 300 && a.values_used_in == 300 && a.values_out == 100);
    judge(&a, 4.0, 8.0);
    assert_true(a.mean_bits == 5.0);
}

static void test_arbiter_judge__hard_below_target__shift_is_the_gap(void **state) {
    (void)state;
    seam_arbiter_config hard = soft;
    hard.hard = true;
    seam_arbiter a;
    seam_arbiter_init(&a, &hard);
    seam_arbiter_weigh(&a, 1, 1, 1);
    judge(&a, 3.0, 4.5);
    assert_true(a.budget.bits_loss_active);
    assert_true(a.budget.width_shift == 0.25f);
    judge(&a, 4.0, 4.5);
    assert_true(a.budget.width_shift == 0.0f);
}

/* Paced: a bit costs the same at both sites; a skipped step changes nothing. */
static void test_arbiter_judge__paced__beta_by_share_of_values(void **state) {
    (void)state;
    seam_arbiter_config paced = soft;
    paced.l1 = true;
    paced.pace = (seam_pace_config){.bits_start = 8,
                                    .bits_target = 4,
                                    .steps_to_target = 100,
                                    .shape = SEAM_PACE_LINEAR,
                                    .logit_distance = 1.25,
                                    .price_default = 0.5};
    seam_arbiter a;
    seam_arbiter_init(&a, &paced);
    assert_true(a.changed && a.budget.beta_in == 0.0f); /* nothing has been measured */
    seam_arbiter_weigh(&a, 300, 300, 100);
    seam_arbiter_view view = {.mean_in = 8, .mean_out = 8, .pull_in = 2e-7, .pull_out = 6e-7};
    seam_arbiter_judge(&a, &view);
    assert_true(a.changed && a.budget.bits_loss_active);
    assert_float_equal(a.budget.beta_in, 6e-7f, 1e-12); /* 8e-7 over weights 1.5 and 0.5 */
    assert_float_equal(a.budget.beta_out, 2e-7f, 1e-12);
    assert_float_equal(a.budget.bits_lr, 0.0375f, 1e-6);
    view.step = 1;
    view.skipped = true;
    seam_arbiter_judge(&a, &view);
    assert_false(a.changed);
    view.skipped = false; /* the mean has stayed: the price rises */
    seam_arbiter_judge(&a, &view);
    assert_true(a.budget.beta_in > 6e-7f);
}

static void test_arbiter_fill__two_sites__totals_of_one_level(void **state) {
    (void)state;
    seam_arbiter_config config = soft;
    config.lag_steps = 2;
    config.pace = (seam_pace_config){
        .bits_start = 8, .bits_target = 4, .steps_to_target = 8, .shape = SEAM_PACE_LINEAR};
    seam_arbiter a;
    seam_arbiter_init(&a, &config);
    seam_arbiter_weigh(&a, 3000, 3000, 1000);
    const seam_waterfill_share in = {
        .channels = 10, .live = 10, .sum = -50, .bits_min = 1, .bits_max = 16};
    seam_waterfill_share out = in;
    out.sum = -30;
    seam_arbiter_fill(&a, 0, &in, &out); /* for step 3: 6.5 bits */
    assert_true(a.changed && !a.target_reached);
    assert_int_equal(a.budget.total_in, 60);
    assert_int_equal(a.budget.total_out, 80);
    assert_float_equal(a.mean_bits, 6.5, 1e-9);
    seam_arbiter_fill(&a, 5, &in, &out);
    assert_true(a.target_reached);
    assert_int_equal(a.budget.total_in, 35);
    assert_int_equal(a.budget.total_out, 55);
    seam_arbiter_fill(&a, 6, &in, &out);
    assert_false(a.changed);
    seam_arbiter_init(&a, &config); /* a row of site 0 stands for four: a bit more than by cost */
    seam_arbiter_weigh(&a, 3000, 12000, 1000);
    seam_arbiter_fill(&a, 5, &in, &out);
    assert_int_equal(a.budget.total_in, 38); /* 4 -+ 1 in the ratio of the values: 37.5, 47.5 */
    assert_int_equal(a.budget.total_out, 48);
    seam_arbiter_init(&a, &config); /* site 1 alone */
    seam_arbiter_weigh(&a, 0, 0, 1000);
    seam_arbiter_fill(&a, 9, NULL, &out);
    assert_int_equal(a.budget.total_out, 40);
    assert_int_equal(a.budget.total_in, 0);
    assert_float_equal(a.mean_bits, 4.0, 1e-9);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arbiter_weigh__run_of_before__counts_repetitions),
        cmocka_unit_test(test_arbiter_judge__above_target__loss_acts_at_full_rates),
        cmocka_unit_test(test_arbiter_judge__target_reached__rates_fall_for_good),
        cmocka_unit_test(test_arbiter_judge__no_gates_at_one_site__the_other_alone_counts),
        cmocka_unit_test(test_arbiter_judge__hard_below_target__shift_is_the_gap),
        cmocka_unit_test(test_arbiter_judge__paced__beta_by_share_of_values),
        cmocka_unit_test(test_arbiter_fill__two_sites__totals_of_one_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
