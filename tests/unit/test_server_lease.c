/* Goal: a session that no client uses loses its memory and then ends, whatever its checkpoints and
 * whether it is frozen; what the other tests of the machine have no room for (test_server_proto.c).
 * Method: steps of one tensor, a clock of the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "server_proto.h"

static const seam_server_proto_config base_config = {.config_hash = 70,
                                                     .model_identity = 80,
                                                     .micros_max = 1,
                                                     .one_pass = true,
                                                     .lease_ms = 1000,
                                                     .park_ms = 5000};

static seam_attach_verdict attach_as(seam_server_proto *sp, uint64_t committed,
                                     seam_status expected) {
    seam_attach_verdict v = {0};
    const seam_attach_args args = {
        .committed_step_count = committed, .config_hash = 70, .model_identity = 80};
    assert_int_equal(seam_server_proto_attach(&v, sp, &args, NULL), expected);
    return v;
}

static void setup_with(seam_server_proto *sp, const seam_server_proto_config *config) {
    seam_server_proto_init(sp, config);
    assert_int_equal(attach_as(sp, 0, SEAM_OK).action, SEAM_ATTACH_CONTINUE);
}

static void commit_step(seam_server_proto *sp) {
    const uint64_t epoch = seam_server_proto_epoch(sp);
    const uint64_t step = seam_server_proto_committed_count(sp);
    const seam_step_begin_args args = {
        .epoch = epoch, .step = step, .digest = step, .micro_count = 1};
    const seam_step_key key = {.step = step, .phase = SEAM_PHASE_FORWARD};
    seam_server_verdict v = {0};
    assert_int_equal(seam_server_proto_step_begin(&v, sp, &args, NULL), SEAM_OK);
    assert_int_equal(seam_server_proto_tensor(&v, sp, epoch, key, step, NULL), SEAM_OK);
    assert_true(seam_server_proto_forward_done(sp, step, 0));
    seam_server_proto_committed(sp, step);
}

/* As many as are kept, and none confirmed: parking makes room behind the oldest. */
static void test_durable__full_at_parking__oldest_but_one_goes(void **state) {
    (void)state;
    seam_server_proto_config config = base_config;
    config.can_park = true;
    seam_server_proto sp;
    uint64_t gone = 99, newest = 0, list[SEAM_DURABLE_MAX];
    setup_with(&sp, &config);
    for (uint64_t i = 0; i < SEAM_DURABLE_MAX; i++) {
        assert_false(seam_server_proto_durable_make_room(&gone, &sp));
        assert_int_equal(seam_server_proto_durable_add(&sp, i), SEAM_OK);
        commit_step(&sp);
    }
    seam_server_proto_stream_lost(&sp, 1, 0);
    for (uint64_t i = 1; i < 20; i++) { /* however often */
        assert_int_equal(seam_server_proto_tick(&sp, 1000000 * i), SEAM_LEASE_PARK);
        assert_true(seam_server_proto_durable_make_room(&gone, &sp));
        const uint64_t oldest_but_one = i < SEAM_DURABLE_MAX ? i : gone;
        assert_true(gone == oldest_but_one);
        assert_int_equal(seam_server_proto_durable_add(&sp, sp.committed), SEAM_OK);
        assert_int_equal(seam_server_proto_parked(&sp, 1000000 * i), SEAM_OK);
        assert_int_equal(seam_server_proto_durable_list(list, &sp), SEAM_DURABLE_MAX);
        assert_int_equal(list[0], 0);
        assert_true(list[SEAM_DURABLE_MAX - 1] == sp.committed);
        assert_true(seam_server_proto_durable_newest(&newest, &sp));
        seam_server_proto_restored(&sp, newest, 1000000 * i);
        (void)attach_as(&sp, newest, SEAM_OK);
        commit_step(&sp);
        seam_server_proto_stream_lost(&sp, seam_server_proto_epoch(&sp), 1000000 * i);
    }
    seam_server_proto other = sp;
    assert_int_equal(attach_as(&other, 1, SEAM_OK).rollback_step, 0); /* still there */
}

/* It loses its memory when a lease is over and ends as a parked one does. */
static void test_freeze__lease_over__loses_memory_then_expires(void **state) {
    (void)state;
    for (int can_park = 0; can_park < 2; can_park++) {
        seam_server_proto_config config = base_config;
        config.can_park = can_park != 0;
        seam_server_proto sp;
        setup_with(&sp, &config);
        commit_step(&sp);
        seam_server_proto_freeze(&sp, SEAM_E_CONFLICT);
        seam_server_proto_stream_lost(&sp, 1, 100);
        assert_int_equal(seam_server_proto_tick(&sp, 50000), SEAM_LEASE_NONE); /* begins here */
        assert_int_equal(seam_server_proto_tick(&sp, 50999), SEAM_LEASE_NONE);
        seam_server_proto_touch(&sp, 50999);
        assert_int_equal(seam_server_proto_tick(&sp, 51000), SEAM_LEASE_NONE);
        if (can_park) {
            assert_int_equal(seam_server_proto_tick(&sp, 51999), SEAM_LEASE_PARK);
            assert_int_equal(seam_server_proto_parked(&sp, 52000), SEAM_OK);
            assert_int_equal(seam_server_proto_parked(&sp, 52000), SEAM_E_STATE);
            assert_int_equal(seam_server_proto_link(&sp), SEAM_LINK_FROZEN);
            (void)attach_as(&sp, 1, SEAM_E_CONFLICT);
            seam_server_proto_touch(&sp, 56000); /* of a parked session neither */
        }
        const uint64_t end_ms = can_park ? 57000 : 51999;
        assert_int_equal(seam_server_proto_tick(&sp, end_ms - 1), SEAM_LEASE_NONE);
        assert_int_equal(seam_server_proto_tick(&sp, end_ms), SEAM_LEASE_EXPIRE);
        (void)attach_as(&sp, 1, SEAM_E_GONE);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_durable__full_at_parking__oldest_but_one_goes),
        cmocka_unit_test(test_freeze__lease_over__loses_memory_then_expires),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
