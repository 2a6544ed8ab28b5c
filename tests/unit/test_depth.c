/* Goal: the depth is what fills the loop, rises at once, falls slowly, and is moved by no noise.
 * Method: samples of a modelled pipeline whose right answer is known; a step of a discrete pipeline
 * at that depth against one deeper. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "depth.h"

#define MAX 8u

/* A link of so many bytes a second each way; 1 MB up forward and backward, 1 MB down. */
static seam_depth_sample sample(double rtt, double rate, double server, double own) {
    const double wire = 1e6 / rate;
    return (seam_depth_sample){.rtt_seconds = rtt,
                               .first_seconds = rtt + 2 * wire + 0.34 * server,
                               .server_seconds = server,
                               .own_seconds = own,
                               .forward_bytes = 1e6,
                               .backward_bytes = 1e6,
                               .reply_bytes = 1e6};
}

static uint32_t settled_by(const seam_depth_sample *s) {
    seam_depth depth;
    seam_depth_init(&depth, MAX, s->rtt_seconds);
    for (int i = 0; i < 60; i++) {
        seam_depth_judge(&depth, s);
    }
    return depth.ahead;
}

static uint32_t settled(double rtt, double rate, double server, double own) {
    const seam_depth_sample s = sample(rtt, rate, server, own);
    return settled_by(&s);
}

/* The client's side of the same: it sends seven others, each after `own` of preparing, and looks
 * for the first reply then.  Seconds until it has it, of which it waits some. */
static seam_depth_sample looked_for_late(double rtt, double rate, double server, double own,
                                         double prepare) {
    seam_depth_sample s = sample(rtt, rate, server, own);
    const double busy = (MAX - 1) * (prepare + 1e6 / rate);
    s.waited_seconds = fmax(s.first_seconds - busy, 0.0);
    s.first_seconds = fmax(s.first_seconds, busy);
    s.others_seconds = (MAX - 1) * 1e6 / rate;
    s.others_bytes = (MAX - 1) * 1e6;
    return s;
}

static void test_judge__reply_looked_for_late__as_if_at_once(void **state) {
    (void)state;
    static const struct {
        double rtt, rate, server, own, prepare;
    } cases[] = {
        {0.3, 12.5e6, 0.001, 0.001, 0.0},   /* the others' bytes take longer than the reply */
        {0.3, 125e6, 0.001, 0.001, 0.0},    /* they do not: it is waited for */
        {0.02, 125e6, 0.001, 0.050, 0.020}, /* what is late is the client's own work, no wire */
        {0.02, 1.25e6, 0.001, 0.001, 0.0},  {0.3, 125e6, 0.3, 0.001, 0.1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const seam_depth_sample s = looked_for_late(cases[i].rtt, cases[i].rate, cases[i].server,
                                                    cases[i].own, cases[i].prepare);
        assert_int_equal(settled_by(&s),
                         settled(cases[i].rtt, cases[i].rate, cases[i].server, cases[i].own));
    }
}

static void test_judge__known_pipelines__depth(void **state) {
    (void)state;
    assert_int_equal(settled(0.0001, 1e9, 0.100, 0.050), 3);  /* near: both ends work at once */
    assert_int_equal(settled(0.0001, 1e9, 0.010, 0.300), 3);  /* the client is the limit */
    assert_int_equal(settled(0.3, 12.5e6, 0.001, 0.001), 5);  /* 460 + 80 ms a loop, 160 a micro */
    assert_int_equal(settled(0.3, 125e6, 0.001, 0.001), MAX); /* 20 times the bottleneck */
    assert_int_equal(settled(0.02, 1.25e6, 0.001, 0.001), 3); /* the wire is the limit */
    assert_int_equal(settled(0.3, 125e6, 0.3, 0.001), 4);     /* the server is, and it is far */
}

/* The loop is the first reply: what the server does behind a forward tensor is before it too. */
static void test_judge__one_pass__reply_has_all_of_the_servers_work(void **state) {
    (void)state;
    static const struct {
        double rtt, rate, server;
        uint32_t depth;
    } cases[] = {
        {0.3, 12.5e6, 0.001, 7},  /* 461 ms a loop, 80 a micro-batch each way; and one more */
        {0.3, 125e6, 0.300, 4},   /* 616 ms, 300 at the server */
        {0.3, 125e6, 0.001, MAX}, /* 317 ms, 8 on the wire */
        {0.0001, 1e9, 0.100, 3},  /* near: one at work, one on its way */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        seam_depth_sample s = sample(cases[i].rtt, cases[i].rate, cases[i].server, 0.0);
        s.one_pass = true;
        s.backward_bytes = 0.0;
        s.first_seconds = cases[i].rtt + 2 * 1e6 / cases[i].rate + cases[i].server;
        seam_depth depth;
        seam_depth_init(&depth, MAX, 0.0);
        for (int k = 0; k < 60; k++) {
            seam_depth_judge(&depth, &s);
        }
        assert_int_equal(depth.ahead, cases[i].depth);
    }
}

static void test_init__far_or_near__first_step(void **state) {
    (void)state;
    seam_depth depth;
    seam_depth_init(&depth, MAX, 0.0);
    assert_int_equal(depth.ahead, SEAM_DEPTH_FIRST);
    seam_depth_init(&depth, MAX, 0.08);
    assert_int_equal(depth.ahead, MAX);
    seam_depth_init(&depth, 1, 0.0);
    assert_int_equal(depth.ahead, 1);
}

static void test_judge__one_odd_step_or_nonsense__stays(void **state) {
    (void)state;
    const seam_depth_sample usual = sample(0.3, 12.5e6, 0.001, 0.001);
    const seam_depth_sample odd = sample(3.0, 12.5e6, 0.001, 0.001);
    seam_depth depth;
    seam_depth_init(&depth, MAX, 0.3);
    for (int i = 0; i < 60; i++) {
        seam_depth_judge(&depth, &usual);
    }
    for (int i = 0; i < 20; i++) {
        seam_depth_judge(&depth, i % 5 == 0 ? &odd : &usual);
        assert_int_equal(depth.ahead, 5);
    }
    seam_depth_sample bad = usual;
    bad.first_seconds = NAN;
    seam_depth_judge(&depth, &bad);
    bad = usual;
    bad.forward_bytes = bad.reply_bytes = 0.0;
    seam_depth_judge(&depth, &bad);
    bad = usual;
    bad.own_seconds = -1.0;
    seam_depth_judge(&depth, &bad);
    assert_int_equal(depth.ahead, 5);
    assert_int_equal(depth.step_count, 80);
}

static void test_judge__link_changes__rises_at_once_falls_slowly(void **state) {
    (void)state;
    const seam_depth_sample slow = sample(0.02, 1.25e6, 0.001, 0.001);
    const seam_depth_sample fast = sample(0.3, 125e6, 0.001, 0.001);
    seam_depth depth;
    seam_depth_init(&depth, MAX, 0.0);
    for (int i = 0; i < 5; i++) {
        seam_depth_judge(&depth, &slow);
    }
    assert_int_equal(depth.ahead, 3);
    for (int i = 0; i < 3; i++) { /* the median turns */
        seam_depth_judge(&depth, &fast);
    }
    assert_int_equal(depth.ahead, MAX);
    int steps = 0;
    for (; depth.ahead > 3 && steps < 100; steps++) {
        seam_depth_judge(&depth, &slow);
    }
    assert_in_range(steps, (MAX - 3) * SEAM_DEPTH_PATIENCE, (MAX - 3) * SEAM_DEPTH_PATIENCE + 5);
}

/* The server's memory for the others goes back: to no less than what any of the last steps had. */
static void test_judge__stays_below_the_most__most_falls_to_it(void **state) {
    (void)state;
    const seam_depth_sample slow = sample(0.02, 1.25e6, 0.001, 0.001); /* 3 */
    const seam_depth_sample five = sample(0.3, 12.5e6, 0.001, 0.001);
    const seam_depth_sample fast = sample(0.3, 125e6, 0.001, 0.001); /* all there is */
    seam_depth depth;
    seam_depth_init(&depth, MAX, 0.0);
    for (uint32_t i = 4; i < SEAM_DEPTH_SETTLED; i++) { /* the median turns in three */
        seam_depth_judge(&depth, &slow);
        assert_int_equal(depth.max, MAX);
    }
    for (int i = 0; i < 3; i++) { /* a step at the most: counted anew */
        seam_depth_judge(&depth, &fast);
    }
    assert_int_equal(depth.ahead, MAX);
    for (int i = 0; i < 200 && depth.ahead != 3; i++) {
        seam_depth_judge(&depth, &slow);
    }
    assert_int_equal(depth.max, MAX);
    for (uint32_t i = 0; i < SEAM_DEPTH_SETTLED; i++) {
        seam_depth_judge(&depth, i % 8 < 4 ? &five : &slow);
    }
    assert_in_range(depth.max, depth.ahead, MAX - 1);
    const uint32_t most = depth.max;
    for (int i = 0; i < 20; i++) {
        seam_depth_judge(&depth, &fast);
        assert_true(depth.ahead <= most && depth.max == most);
    }
    assert_int_equal(depth.ahead, most);
    for (uint32_t i = 0; i < 8 * SEAM_DEPTH_SETTLED; i++) {
        seam_depth_judge(&depth, &slow);
    }
    assert_int_equal(depth.max, 3);
    assert_int_equal(depth.ahead, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judge__known_pipelines__depth),
        cmocka_unit_test(test_judge__reply_looked_for_late__as_if_at_once),
        cmocka_unit_test(test_judge__one_pass__reply_has_all_of_the_servers_work),
        cmocka_unit_test(test_init__far_or_near__first_step),
        cmocka_unit_test(test_judge__one_odd_step_or_nonsense__stays),
        cmocka_unit_test(test_judge__link_changes__rises_at_once_falls_slowly),
        cmocka_unit_test(test_judge__stays_below_the_most__most_falls_to_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
