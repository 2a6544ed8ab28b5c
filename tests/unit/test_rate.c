/* Goal: rate.h keeps a step's wire time within what there is for it while the link changes, and
 * does not flap.  Method: a simulated link (rate, RTT, jitter) under steps whose bytes follow the
 * widths in force, which follow the controller by some steps, as in a session. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "codec_fixture.h"
#include "rate.h"

enum { LAG = 4 };

typedef struct world {
    double values;  /* of a step, both directions */
    double fixed;   /* bytes: ranges, frames, control */
    double compute; /* seconds */
    double rtt, jitter;
    double bits_in_force, queue[LAG];
    uint64_t seed;
} world;

/* One step over a link of so many bits a second: its wire time. */
static double step(world *w, seam_rate *rate, double link, uint32_t *changes) {
    const double bytes = w->fixed + w->values * w->bits_in_force / 8;
    const double noise = exp(w->jitter * (double)fixture_normal(&w->seed));
    const double wire = 2 * w->rtt + 8 * bytes / link * noise;
    const seam_rate_sample sample = {.bytes = (uint64_t)bytes,
                                     .fixed_bytes = (uint64_t)w->fixed,
                                     .mean_bits = w->bits_in_force,
                                     .wire_seconds = wire,
                                     .compute_seconds = w->compute,
                                     .rtt_seconds = w->rtt,
                                     .round_trips = 2};
    if (seam_rate_judge(rate, &sample)) {
        (*changes)++;
    }
    w->bits_in_force = w->queue[0];
    for (int i = 0; i + 1 < LAG; i++) {
        w->queue[i] = w->queue[i + 1];
    }
    w->queue[LAG - 1] = rate->bits;
    return wire;
}

static world world_new(double jitter) {
    world w = {.values = 4e6, .fixed = 5e4, .compute = 0.2, .rtt = 0.01, .jitter = jitter};
    w.bits_in_force = 8;
    for (int i = 0; i < LAG; i++) {
        w.queue[i] = 8;
    }
    w.seed = 3;
    return w;
}

static const seam_rate_config config = {.bits_min = 1.5, .bits_max = 8};

static void test_judge__link_drops_and_returns__widths_follow(void **state) {
    (void)state;
    const double jitters[] = {0.0, 0.1};
    for (int i = 0; i < 2; i++) {
        world w = world_new(jitters[i]);
        seam_rate rate;
        uint32_t changes = 0, settled = 0;
        double late = 0, before = 0;
        seam_rate_init(&rate, &config);
        for (int s = 0; s < 100; s++) {
            (void)step(&w, &rate, 100e6, &changes);
        }
        before = w.bits_in_force; /* 100 Mbit/s for 0.16 s: 2 MB, 3.9 bits */
        assert_true(before > 3.4 && before < 4.4);
        for (int s = 0; s < 100; s++) {
            const double wire = step(&w, &rate, 20e6, &changes);
            late = fmax(late, s >= 2 * LAG + 2 ? wire : 0);
        }
        assert_true(w.bits_in_force == config.bits_min); /* 20 Mbit/s: 0.7 bits would fit */
        assert_true(late < 8 * (w.fixed + w.values * 1.5 / 8) / 20e6 * 1.5 + 2 * w.rtt);
        settled = changes;
        for (int s = 0; s < 100; s++) {
            const double wire = step(&w, &rate, 100e6, &changes);
            late = s == 0 ? 0 : fmax(late, wire);
        }
        assert_true(fabs(w.bits_in_force - before) < 0.6);
        assert_true(late < w.compute * 1.4); /* jitter's tail; no step waits for the link */
        assert_in_range(settled, 1, 12);
    }
}

static void test_judge__noise_alone__few_changes(void **state) {
    (void)state;
    world w = world_new(0.1);
    seam_rate rate;
    uint32_t changes = 0;
    seam_rate_init(&rate, &config);
    for (int s = 0; s < 1000; s++) {
        (void)step(&w, &rate, 100e6, &changes);
    }
    assert_in_range(changes, 1, 25);
}

static void test_judge__step_time_requested__kept(void **state) {
    (void)state;
    seam_rate_config timed = config;
    timed.step_seconds = 0.5;
    static const double links[] = {20e6, 30e6, 45e6, 67e6, 101e6, 152e6};
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++) {
        world w = world_new(0.0);
        seam_rate rate;
        uint32_t changes = 0;
        double wire = 0;
        seam_rate_init(&rate, &timed);
        for (int s = 0; s < 50; s++) {
            wire = step(&w, &rate, links[i], &changes);
        }
        assert_true(w.bits_in_force == timed.bits_min || w.compute + wire <= 0.5);
        assert_true(w.bits_in_force == timed.bits_max || w.compute + wire >= 0.4);
    }
}

/* At a requested step time, less compute is more wire: one step's must not count alone. */
static void test_judge__one_slow_step__moves_nothing(void **state) {
    (void)state;
    seam_rate_config timed = config;
    timed.step_seconds = 0.5;
    world w = world_new(0.0);
    seam_rate rate;
    uint32_t changes = 0;
    seam_rate_init(&rate, &timed);
    for (int s = 0; s < 100; s++) {
        w.compute = s % 10 == 9 ? 0.45 : 0.2;
        (void)step(&w, &rate, 50e6, &changes);
        assert_true(s < 20 || changes <= 2);
    }
    const double bits = rate.bits;
    for (int s = 0; s < 20; s++) { /* but a machine that became slower does */
        w.compute = 0.4;
        (void)step(&w, &rate, 50e6, &changes);
    }
    assert_true(rate.bits < bits - 1.0);
}

/* Batches of changing size: twice the rows are twice the bytes and twice the compute. */
static void test_judge__steps_of_other_sizes__few_changes(void **state) {
    (void)state;
    world w = world_new(0.0);
    seam_rate rate;
    uint32_t changes = 0;
    uint64_t seed = 5;
    seam_rate_init(&rate, &config);
    for (int s = 0; s < 1000; s++) {
        const double size = 0.5 + fabs(0.4 * (double)fixture_normal(&seed));
        w.values = 4e6 * size;
        w.compute = 0.2 * size;
        (void)step(&w, &rate, 100e6, &changes);
        assert_true(s < 20 || (rate.bits > 2.9 && rate.bits < 4.9));
    }
    assert_in_range(changes, 1, 60);
}

static void test_judge__replayed_samples__same_decisions(void **state) {
    (void)state;
    seam_rate a, b;
    uint64_t seed = 9;
    seam_rate_init(&a, &config);
    seam_rate_init(&b, &config);
    for (int s = 0; s < 200; s++) {
        const seam_rate_sample sample = {.bytes = 2000000,
                                         .fixed_bytes = 1000,
                                         .mean_bits = 4,
                                         .wire_seconds = 0.2 * exp((double)fixture_normal(&seed)),
                                         .compute_seconds = 0.2};
        const bool changed = seam_rate_judge(&a, &sample);
        assert_int_equal(seam_rate_judge(&b, &sample), changed);
        assert_true(a.bits == b.bits && a.bytes_per_second == b.bytes_per_second);
    }
}

static void test_judge__sample_that_says_nothing__ignored(void **state) {
    (void)state;
    const seam_rate_sample good = {.bytes = 2000,
                                   .fixed_bytes = 100,
                                   .mean_bits = 4,
                                   .wire_seconds = 0.1,
                                   .compute_seconds = 0.1};
    seam_rate rate;
    seam_rate_init(&rate, &config);
    seam_rate_sample bad[6] = {good, good, good, good, good, good};
    bad[0].bytes = 100;
    bad[1].mean_bits = 0;
    bad[2].wire_seconds = 0;
    bad[3].wire_seconds = NAN;
    bad[4].compute_seconds = -1;
    bad[5].rtt_seconds = INFINITY;
    for (int i = 0; i < 6; i++) {
        assert_false(seam_rate_judge(&rate, &bad[i]));
        assert_true(rate.bits == 0 && rate.bytes_per_second == 0);
    }
    assert_true(seam_rate_judge(&rate, &good));
    assert_true(rate.bits >= config.bits_min && rate.bits <= config.bits_max);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judge__link_drops_and_returns__widths_follow),
        cmocka_unit_test(test_judge__noise_alone__few_changes),
        cmocka_unit_test(test_judge__step_time_requested__kept),
        cmocka_unit_test(test_judge__one_slow_step__moves_nothing),
        cmocka_unit_test(test_judge__steps_of_other_sizes__few_changes),
        cmocka_unit_test(test_judge__replayed_samples__same_decisions),
        cmocka_unit_test(test_judge__sample_that_says_nothing__ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
