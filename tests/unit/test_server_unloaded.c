/* Goal: a checkpoint that cannot be loaded for a reason that may pass costs nothing: the machine is
 * PARKED at its newest one, whatever became of the state, and the next attach loads again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "server_proto.h"

/* Five steps are committed, three checkpoints are durable, nobody is attached. */
static seam_server_proto five_steps(void) {
    static const uint64_t durable[] = {0, 2, 4};
    const seam_server_proto_config config = {.config_hash = 70,
                                             .model_identity = 80,
                                             .micros_max = 4,
                                             .site_backward = 2,
                                             .lease_ms = 1000,
                                             .park_ms = 5000,
                                             .committed_step_count = 5};
    seam_server_proto sp;
    seam_server_proto_init(&sp, &config);
    for (size_t i = 0; i < sizeof durable / sizeof *durable; i++) {
        assert_int_equal(seam_server_proto_durable_add(&sp, durable[i]), SEAM_OK);
    }
    return sp;
}

/* The steps of the checkpoint that an attach loads. */
static uint64_t load_of(seam_server_proto *sp, uint64_t committed) {
    seam_attach_verdict v = {0};
    const seam_attach_args args = {
        .committed_step_count = committed, .config_hash = 70, .model_identity = 80};
    assert_int_equal(seam_server_proto_attach(&v, sp, &args, NULL), SEAM_OK);
    assert_int_equal(v.action, SEAM_ATTACH_ROLLBACK);
    assert_true(v.load_checkpoint);
    assert_true(v.rollback_step == v.load_step_count);
    return v.load_step_count;
}

static void test_unloaded__parked_at_the_newest__next_attach_loads_again(void **state) {
    (void)state;
    seam_server_proto sp = five_steps();
    assert_int_equal(load_of(&sp, 3), 2);
    for (int again = 0; again < 2; again++) {
        seam_server_proto_unloaded(&sp, 100);
        assert_int_equal(seam_server_proto_link(&sp), SEAM_LINK_PARKED);
        assert_int_equal(seam_server_proto_committed_count(&sp), 4);
        assert_int_equal(seam_server_proto_tick(&sp, 5099), SEAM_LEASE_NONE);
        seam_server_proto other = sp;
        assert_int_equal(seam_server_proto_tick(&other, 5100), SEAM_LEASE_EXPIRE);
        other = sp;
        assert_int_equal(load_of(&other, 5), 4);
        assert_int_equal(load_of(&sp, 3), 2);
    }
    seam_server_proto_restored(&sp, 2, 200);
    assert_int_equal(seam_server_proto_link(&sp), SEAM_LINK_ATTACHED);
    assert_int_equal(seam_server_proto_committed_count(&sp), 2);
}

static void test_unloaded__frozen_or_gone__stays_so(void **state) {
    (void)state;
    seam_server_proto sp = five_steps();
    seam_server_proto_freeze(&sp, SEAM_E_CONFLICT);
    seam_server_proto_unloaded(&sp, 100);
    assert_int_equal(seam_server_proto_link(&sp), SEAM_LINK_FROZEN);
    seam_server_proto_expire(&sp);
    seam_server_proto_unloaded(&sp, 100);
    assert_int_equal(seam_server_proto_link(&sp), SEAM_LINK_EXPIRED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unloaded__parked_at_the_newest__next_attach_loads_again),
        cmocka_unit_test(test_unloaded__frozen_or_gone__stays_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
