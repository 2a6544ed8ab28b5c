/* Goal: how a step ends that cannot be made: what is found before anything is sent leaves the
 * session as it was, what stops it is said again. Method: a transport that answers as a server
 * does, or is not reached. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client_world.h"
#include "frame.h"

static void test_step__stopped_by_the_link__later_calls_say_why(void **state) {
    (void)state;
    seam_session *session = create("u_shaped", NULL);
    seam_error err = {0};
    float values[2 * CHANNELS] = {0};
    assert_int_equal(begin(session, &err), SEAM_E_UNAVAILABLE);
    const uint32_t streams = world.stream_count;
    world.reachable = true; /* too late for this handle */
    const seam_status later[] = {
        begin(session, &err),
        seam_step_forward(session, values, 0, values, &err),
        seam_step_backward(session, NULL, 0, values, &err),
        seam_step_commit(session, NULL, &err),
        seam_session_reattach(session, &err),
    };
    for (size_t i = 0; i < sizeof later / sizeof *later; i++) {
        assert_int_equal(later[i], SEAM_E_UNAVAILABLE);
    }
    says(&err, "nobody there");
    assert_int_equal(world.stream_count, streams);
    seam_session_close(session);
}

/* Positions of five bytes each, of more rows than a message to a server holds. */
static void test_step_begin__layout_above_a_message__refused_before_a_stream(void **state) {
    (void)state;
    enum { MICROS = 64, ROWS = 4096 };
    static uint32_t positions[ROWS];
    static uint8_t labelled[ROWS / 8];
    const uint32_t sequence_rows[] = {ROWS};
    seam_step_micro micros[MICROS];
    seam_session *session = NULL;
    seam_session_options options = SEAM_SESSION_OPTIONS_INIT;
    seam_error err = {0};
    memset(positions, 0xff, sizeof positions);
    memset(labelled, 0xff, sizeof labelled);
    for (uint32_t i = 0; i < MICROS; i++) {
        micros[i] = (seam_step_micro){.sequence_count = 1,
                                      .sequence_rows = sequence_rows,
                                      .labelled_rows = labelled,
                                      .positions = positions};
    }
    options.model = "m";
    options.codec = "f32";
    options.rows_per_micro_max = ROWS;
    options.micros_per_step_max = MICROS;
    assert_int_equal(seam_session_create(&session, &client, &options, &err), SEAM_OK);
    assert_true(5u * ROWS * MICROS > SEAM_REQUEST_BYTES_MAX);
    assert_int_equal(seam_step_begin(session, micros, MICROS, &err), SEAM_E_LIMIT);
    says(&err, "micros");
    assert_int_equal(world.stream_count, 0);
    assert_int_equal(seam_step_begin(session, micros, 1, &err), SEAM_E_UNAVAILABLE); /* sent */
    assert_int_equal(world.stream_count, 1);
    seam_session_close(session);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_step__stopped_by_the_link__later_calls_say_why, setup),
        cmocka_unit_test_setup(test_step_begin__layout_above_a_message__refused_before_a_stream,
                               setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
