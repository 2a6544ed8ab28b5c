/* Goal: pace.h brings the gates' mean to the target within 5 % of the requested step, without a
 * hand-tuned beta, whatever the size of the task's gradients.
 * Method: gates of kernels/codec under a synthetic task: dL/db_c = -w_c 4^-b_c, as quantization
 * error has it, with w_c spread over four decades between channels and over twenty between cases,
 * with and without noise that changes the sign; the arbiter's loop as the client runs it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "arbiter.h"
#include "codec_fixture.h"
#include "gates.h"

enum { C = 64 };

#define OFF_MAX      0.0501 /* of the requested step */
#define MEAN_OFF_MAX 0.1    /* bits: the paper's +-0.1 */

typedef struct task {
    float target;
    uint64_t steps;
    double scale; /* of w */
    double noise; /* relative to the signal */
    seam_bits_loss loss;
} task;

typedef struct outcome {
    uint64_t reached;
    double mean_after; /* worst distance from the target from 1.5 times the steps on */
} outcome;

static void gradients(float *ret_db, const seam_gates *gates, const float *weights, double noise,
                      uint64_t *seed) {
    float bits[C];
    seam_gates_bits(bits, gates);
    for (uint32_t c = 0; c < C; c++) {
        const double pull = (double)weights[c] * exp2(-2.0 * (double)bits[c]);
        ret_db[c] = (float)(-pull * (1.0 + noise * (double)fixture_normal(seed)));
    }
}

static outcome follow(const task *t) {
    seam_gates_config config;
    seam_gates gates[2];
    float weights[2][C], db[2][C];
    uint64_t seed = 17;
    assert_true(seam_gates_preset(&config, t->target));
    config.loss = t->loss;
    const double min = config.bits_min, max = config.bits_max, start = config.bits_start;
    const double target = t->target;
    const seam_arbiter_config arbiter_config = {
        .bits_target = t->target,
        .l1 = t->loss == SEAM_BITS_LOSS_L1,
        .beta = 0.02f,
        .bits_lr = 0.01f,
        .lag_steps = 2,
        .pace = {.bits_start = start,
                 .bits_target = target,
                 .steps_to_target = t->steps,
                 .shape = SEAM_PACE_LINEAR,
                 .price_default = 0.02,
                 .logit_distance = fabs(log((start - min) / (max - start)) -
                                        log((target - min) / (max - target)))}};
    seam_arbiter arbiter;
    seam_arbiter_init(&arbiter, &arbiter_config);
    seam_arbiter_weigh(&arbiter, 3000, 3000, 1000);
    for (uint32_t k = 0; k < 2; k++) {
        assert_int_equal(seam_gates_init(&gates[k], &config, C), SEAM_OK);
        for (uint32_t c = 0; c < C; c++) {
            weights[k][c] = (float)(t->scale * pow(10.0, (double)fixture_normal(&seed)));
        }
    }
    outcome result = {0};
    for (uint64_t step = 0; step < 2 * t->steps; step++) {
        seam_arbiter_view view = {.step = step};
        for (uint32_t k = 0; k < 2; k++) {
            gradients(db[k], &gates[k], weights[k], t->noise, &seed);
            const seam_gates_step_args args = {.db = db[k],
                                               .lr = arbiter.budget.bits_lr,
                                               .beta = k == 0 ? arbiter.budget.beta_in
                                                              : arbiter.budget.beta_out,
                                               .bits_loss_active = arbiter.budget.bits_loss_active,
                                               .relative = true};
            seam_gates_step(&gates[k], &args);
        }
        view.mean_in = (double)seam_gates_bits_total(&gates[0]) / C;
        view.mean_out = (double)seam_gates_bits_total(&gates[1]) / C;
        view.pull_in = seam_gates_pull(db[0], C);
        view.pull_out = seam_gates_pull(db[1], C);
        seam_arbiter_judge(&arbiter, &view);
        if (result.reached == 0 && arbiter.target_reached) {
            result.reached = step + 1;
        }
        if (step >= t->steps + t->steps / 2) {
            result.mean_after = fmax(result.mean_after, fabs(arbiter.mean_bits - target));
        }
    }
    seam_gates_deinit(&gates[0]);
    seam_gates_deinit(&gates[1]);
    return result;
}

static void test_judge__gradients_of_any_size__target_at_the_step(void **state) {
    (void)state;
    const double scales[] = {1e-14, 1e-9, 1e-6, 1e-3, 1.0, 1e6};
    const uint64_t steps[] = {100, 200, 500, 1200};
    int failures = 0;
    for (size_t i = 0; i < 6; i++) {
        for (size_t j = 0; j < 4; j++) {
            for (int k = 0; k < 8; k++) {
                const task t = {.target = k & 1 ? 3.0f : 4.0f,
                                .steps = steps[j],
                                .scale = scales[i],
                                .noise = k & 2 ? 2.0 : 0.0,
                                .loss = k & 4 ? SEAM_BITS_LOSS_L1 : SEAM_BITS_LOSS_L2};
                const outcome r = follow(&t);
                const double off = (double)r.reached / (double)t.steps - 1.0;
                if (fabs(off) > OFF_MAX || r.mean_after > MEAN_OFF_MAX) {
                    print_error("scale %g steps %llu target %g noise %g loss %d: reached at %llu, "
                                "afterwards off by %.3f\n",
                                t.scale, (unsigned long long)t.steps, (double)t.target, t.noise,
                                (int)t.loss, (unsigned long long)r.reached, r.mean_after);
                }
                failures += fabs(off) > OFF_MAX || r.mean_after > MEAN_OFF_MAX;
            }
        }
    }
    assert_int_equal(failures, 0);
}

/* Nothing holds such gates, so they fall as fast as bits_lr lets them and then wait. */
static void test_judge__no_gradient_at_all__target_not_late(void **state) {
    (void)state;
    const task t = {.target = 3.0f, .steps = 200, .loss = SEAM_BITS_LOSS_L2};
    const outcome r = follow(&t);
    assert_in_range(r.reached, 100, 210);
}

static void test_bits__shapes__exact_ends(void **state) {
    (void)state;
    seam_pace_config config = {
        .bits_start = 8, .bits_target = 3.1, .steps_to_target = 10, .shape = SEAM_PACE_LINEAR};
    assert_true(seam_pace_bits(&config, 0) == 8.0);
    assert_true(fabs(seam_pace_bits(&config, 5) - 5.55) < 1e-12);
    assert_true(seam_pace_bits(&config, 10) == 3.1);
    assert_true(seam_pace_bits(&config, UINT64_MAX) == 3.1);
    config.shape = SEAM_PACE_COSINE;
    assert_true(seam_pace_bits(&config, 0) == 8.0);
    assert_true(seam_pace_bits(&config, 2) > 7.0);
    assert_true(fabs(seam_pace_bits(&config, 5) - 5.55) < 1e-12);
    assert_true(seam_pace_bits(&config, 10) == 3.1);
    config.steps_to_target = 0; /* at once */
    assert_true(seam_pace_bits(&config, 0) == 3.1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits__shapes__exact_ends),
        cmocka_unit_test(test_judge__gradients_of_any_size__target_at_the_step),
        cmocka_unit_test(test_judge__no_gradient_at_all__target_not_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
