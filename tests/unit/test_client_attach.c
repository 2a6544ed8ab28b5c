/* Goal: what Attach and Attached say of either end is true or refused, by the name of the field; an
 * Attach that is refused for a time is repeated after it.
 * Method: the server of client_world.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client_world.h"

static void test_attached__credit_below_two_frames__refused(void **state) {
    (void)state;
    static const struct {
        uint64_t credit_bytes;
        seam_status st;
    } cases[] = {{0, SEAM_OK},
                 {1, SEAM_E_FORMAT},
                 {SEAM_CREDIT_BYTES_MIN - 1, SEAM_E_FORMAT},
                 {SEAM_CREDIT_BYTES_MIN, SEAM_OK}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        setup(NULL);
        world.reachable = true;
        world.credit_bytes = cases[i].credit_bytes;
        seam_session *const session = create("u_shaped", NULL);
        seam_error err = {0};
        assert_int_equal(begin(session, &err), cases[i].st);
        if (cases[i].st != SEAM_OK) {
            says(&err, "attached.credit_bytes");
        }
        assert_int_equal(world.sent_count, cases[i].st == SEAM_OK ? 2 : 1); /* Attach, StepBegin */
        seam_session_close(session);
    }
}

static void test_attached__capabilities_below_ours__refused_by_name(void **state) {
    (void)state;
    static const struct {
        uint32_t capabilities[5];
        const char *text; /* "": taken */
    } cases[] = {{{0}, ""},
                 {{1, 1, 16, 1 << 20, 8}, ""},
                 {{1, 1, 16, 1 << 20, 1}, ""},
                 {{2, 1, 16, 1 << 20, 8}, "attached.capabilities.protocol_version: 2"},
                 {{1, 2, 16, 1 << 20, 8}, "attached.capabilities.bits_min: 2"},
                 {{1, 1, 8, 1 << 20, 8}, "attached.capabilities.bits_max: 8"},
                 {{1, 1, 16, 1 << 16, 8}, "attached.capabilities.chunk_bytes_max: 65536"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        setup(NULL);
        world.reachable = true;
        memcpy(world.capabilities, cases[i].capabilities, sizeof world.capabilities);
        seam_session *const session = create("u_shaped", NULL);
        seam_error err = {0};
        const seam_status st = begin(session, &err);
        assert_int_equal(st, cases[i].text[0] == '\0' ? SEAM_OK : SEAM_E_UNIMPLEMENTED);
        says(&err, cases[i].text);
        seam_session_close(session);
    }
}

/* What Attach says of this client is true: its widths, and how deep its pipeline may be. */
static void test_attach__widths_in_force__told_and_compared(void **state) {
    (void)state;
    for (uint32_t stated = 0; stated < 3; stated++) { /* version 2 is not known here */
        setup(NULL);
        world.reachable = true;
        world.alloc_version = stated;
        world.codec = SEAM__V1__CODEC__CODEC_AFFINE;
        seam_session *session = NULL;
        seam_session_options options = SEAM_SESSION_OPTIONS_INIT;
        seam_error err = {0};
        options.model = "m";
        options.codec = "affine";
        options.rows_per_micro_max = 8;
        assert_int_equal(seam_session_create(&session, &client, &options, &err), SEAM_OK);
        assert_int_equal(begin(session, &err), stated == 1 ? SEAM_E_CONFLICT : SEAM_OK);
        says(&err, stated == 1 ? "attached.allocations[0]: version 1 of site 0" : "");
        Seam__V1__TrainRequest *const request =
            seam__v1__train_request__unpack(NULL, world.attach_bytes, world.attach);
        assert_non_null(request);
        const Seam__V1__Attach *const attach = request->attach;
        assert_int_equal(attach->capabilities->pipeline_depth_max, SEAM_PIPELINE_DEPTH_MAX);
        assert_int_equal(attach->n_allocations, 2);
        for (uint32_t i = 0; i < 2; i++) {
            const seam_alloc *const ours = seam_site_alloc_now(seam_forward_site(session, i));
            assert_int_equal(attach->allocations[i]->site, i);
            assert_int_equal(attach->allocations[i]->version, 1);
            assert_true(attach->allocations[i]->hash == ours->hash);
        }
        seam__v1__train_request__free_unpacked(request, NULL);
        seam_session_close(session);
    }
}

/* A limit with RetryInfo passes: no attach before its time, and none after the user's. */
static void test_attach__refused_with_retry_info__waits_and_goes_on(void **state) {
    (void)state;
    static const struct {
        uint64_t retry_after_ms;
        uint32_t reconnect_ms;
        seam_status st;
        uint32_t streams;
        const char *text;
    } cases[] = {{300, 60000, SEAM_OK, 3, ""},
                 {0, 60000, SEAM_E_LIMIT, 1, "no room"},
                 {5000, 4000, SEAM_E_LIMIT, 1, "given up"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        setup(NULL);
        world.reachable = true;
        world.refusals = 2;
        world.retry_after_ms = cases[i].retry_after_ms;
        client.reconnect_timeout_ms = cases[i].reconnect_ms;
        seam_session *const session = create("u_shaped", NULL);
        seam_error err = {0};
        const uint64_t begin_ms = seam_now_ms();
        assert_int_equal(begin(session, &err), cases[i].st);
        const uint64_t ms = seam_now_ms() - begin_ms;
        assert_int_equal(world.stream_count, cases[i].streams);
        assert_true(cases[i].st == SEAM_OK ? ms >= 2 * cases[i].retry_after_ms : ms < 1000);
        says(&err, cases[i].text);
        seam_session_close(session);
    }
}

/* The same of what was sent does not pass. */
static void test_step__beyond_a_limit__stops_whatever_retry_info_says(void **state) {
    (void)state;
    static const float x[2 * CHANNELS];
    float y[CHANNELS];
    world.reachable = world.refuses_more = true;
    world.retry_after_ms = 50;
    client.reconnect_timeout_ms = 60000;
    seam_session *const session = create("u_shaped", NULL);
    seam_error err = {0};
    assert_int_equal(begin(session, &err), SEAM_OK);
    assert_int_equal(seam_step_forward(session, y, 0, x, &err), SEAM_E_LIMIT);
    says(&err, "micros");
    assert_int_equal(world.stream_count, 1);
    seam_session_close(session);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_attached__credit_below_two_frames__refused, setup),
        cmocka_unit_test_setup(test_attached__capabilities_below_ours__refused_by_name, setup),
        cmocka_unit_test_setup(test_attach__widths_in_force__told_and_compared, setup),
        cmocka_unit_test_setup(test_attach__refused_with_retry_info__waits_and_goes_on, setup),
        cmocka_unit_test_setup(test_step__beyond_a_limit__stops_whatever_retry_info_says, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
