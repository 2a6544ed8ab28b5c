/* Goal: what a server states of a session is believed as far as it is that of its hash, and labels
 * leave only where the caller of this process has said so.
 * Method: a transport that answers as a server does, and lies where it is told to. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "client_world.h"

static void test_create__stated_hash_of_another_config__refused(void **state) {
    (void)state;
    seam_session *session = NULL;
    seam_session_options options = SEAM_SESSION_OPTIONS_INIT;
    seam_error err = {0};
    options.model = "m";
    options.codec = "f32";
    world.config_hash = 7;
    assert_int_equal(seam_session_create(&session, &client, &options, &err), SEAM_E_FORMAT);
    says(&err, "session.config_hash");
    world.config_hash = 0;
    world.topology = SEAM__V1__TOPOLOGY__TOPOLOGY_VANILLA; /* with its own hash */
    assert_int_equal(seam_session_create(&session, &client, &options, &err), SEAM_E_FORMAT);
    says(&err, "session.config_hash");
    assert_null(session);
}

static void test_attach__config_is_not_of_its_hash__refused(void **state) {
    (void)state;
    seam_session *session = create("u_shaped", NULL);
    seam_error err = {0};
    world.config_hash = session->config_hash;
    seam_session_close(session);
    session = NULL;
    world.topology = SEAM__V1__TOPOLOGY__TOPOLOGY_VANILLA;
    assert_int_equal(seam_session_attach(&session, &client, "s1", secret, &err), SEAM_E_FORMAT);
    says(&err, "session.config_hash");
    assert_null(session);
    world.topology = SEAM__V1__TOPOLOGY__TOPOLOGY_U_SHAPED;
    assert_int_equal(seam_session_attach(&session, &client, "s1", secret, &err), SEAM_OK);
    seam_session_close(session);
}

static void test_attach__bits_of_a_codec_that_has_none__any_number(void **state) {
    (void)state;
    seam_session *session = create("u_shaped", NULL); /* f32 */
    seam_error err = {0};
    seam_session_close(session);
    world.bits = UINT32_MAX;
    assert_int_equal(seam_session_attach(&session, &client, "s1", secret, &err), SEAM_OK);
    assert_int_equal(session->config.codec.bits, 0);
    seam_session_close(session);
}

static void test_step_begin__taken_up_without_consent__denied_before_a_stream(void **state) {
    (void)state;
    seam_session *session = create("vanilla", "labels");
    seam_error err = {0};
    assert_int_equal(begin(session, &err), SEAM_E_UNAVAILABLE); /* its options said it */
    assert_int_equal(world.stream_count, 1);
    seam_session_close(session);
    assert_int_equal(seam_session_attach(&session, &client, "s1", secret, &err), SEAM_OK);
    assert_string_equal(seam_session_topology(session), "vanilla");
    assert_int_equal(begin(session, &err), SEAM_E_DENIED);
    says(&err, "labels");
    assert_int_equal(seam_session_consent(session, "none", &err), SEAM_OK);
    assert_int_equal(begin(session, &err), SEAM_E_DENIED);
    assert_int_equal(seam_session_consent(session, "all", &err), SEAM_E_ARG);
    says(&err, "consent");
    assert_int_equal(begin(session, &err), SEAM_E_DENIED);
    assert_int_equal(world.stream_count, 1);
    assert_int_equal(seam_session_consent(session, "labels", &err), SEAM_OK);
    assert_int_equal(begin(session, &err), SEAM_E_UNAVAILABLE);
    assert_int_equal(world.stream_count, 2);
    seam_session_close(session);
}

/* With a session's journal in it. */
static void folder_remove(const char *folder) {
    static const char *const names[] = {"journal.bin", "journal.notes", "journal.lock"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(folder), 0);
}

static void test_resume__other_topology__journal_is_not_its(void **state) {
    (void)state;
    char folder[] = "/tmp/seam-session-XXXXXX";
    assert_non_null(mkdtemp(folder));
    seam_session *session = create("u_shaped", "labels"); /* allowed, and still not asked for */
    seam_error err = {0};
    assert_int_equal(seam_session_journal(session, folder, &err), SEAM_OK);
    const uint64_t hash = session->config_hash;
    seam_session_close(session);
    session = NULL;
    world.topology = SEAM__V1__TOPOLOGY__TOPOLOGY_VANILLA;
    assert_true(seam_session_resume(&session, &client, "s1", secret, folder, &err) != SEAM_OK);
    says(&err, "another session");
    world.config_hash = hash;
    assert_int_equal(seam_session_resume(&session, &client, "s1", secret, folder, &err),
                     SEAM_E_FORMAT);
    says(&err, "session.config_hash");
    assert_null(session);
    world.topology = 0;
    assert_int_equal(seam_session_resume(&session, &client, "s1", secret, folder, &err), SEAM_OK);
    seam_session_close(session);
    folder_remove(folder);
}

static seam_session *create_auto(void) {
    seam_session *session = NULL;
    seam_session_options options = SEAM_SESSION_OPTIONS_INIT;
    seam_error err = {0};
    options.model = "m";
    options.codec = "f32";
    options.rows_per_micro_max = 8;
    options.pipeline_depth = 4;
    options.pipeline_auto = true;
    assert_int_equal(seam_session_create(&session, &client, &options, &err), SEAM_OK);
    return session;
}

static uint32_t announced_depth(const seam_session *session) {
    Seam__V1__TrainRequest *const request =
        seam__v1__train_request__unpack(NULL, session->step_begin.count, session->step_begin.data);
    assert_non_null(request);
    const uint32_t depth = request->step_begin->pipeline_depth;
    seam__v1__train_request__free_unpacked(request, NULL);
    return depth;
}

/* The third format lacks what a depth settles by, which comes last in it, and the caches' place at
 * the end. */
static void test_state_load__third_format__depth_has_not_settled(void **state) {
    (void)state;
    enum { SETTLED_AT = 184 + 8 + 192 + 8 * (4 * SEAM_RATE_STEPS + 5 + 5 + SEAM_DEPTH_STEPS) };
    seam_session *const session = create_auto();
    seam_buffer old = {0};
    session->depth.max = 3;
    session->depth.ahead = 2;
    session->depth.below = session->depth.below_most = 2;
    assert_int_equal(seam_state_save(&old, session), SEAM_OK);
    session->depth = (seam_depth){.max = 4, .ahead = 4};
    assert_int_equal(seam_state_load(session, &old), SEAM_OK);
    assert_int_equal(session->depth.below + session->depth.below_most, 4);
    old.data[0] = 3;
    memmove(old.data + SETTLED_AT, old.data + SETTLED_AT + 16, old.count - SETTLED_AT - 16);
    old.count -= 16 + SEAM_REDO_PLACE_BYTES;
    session->depth = (seam_depth){.max = 4, .ahead = 4};
    assert_int_equal(seam_state_load(session, &old), SEAM_OK);
    assert_true(session->depth.max == 3 && session->depth.ahead == 2);
    assert_int_equal(session->depth.below + session->depth.below_most, 0);
    seam_buffer_deinit(&old);
    seam_session_close(session);
}

/* What the server was told it could give back is not asked for again, whatever an older record
 * says; by another process neither, which has read the newest record first. */
static void test_step_begin__settled_then_an_older_record__stays_settled(void **state) {
    (void)state;
    world.reachable = true;
    seam_error err = {0};
    seam_buffer older = {0}, newer = {0};
    seam_session *session = create_auto();
    session->depth.ahead = 4;
    assert_int_equal(seam_state_save(&older, session), SEAM_OK);
    assert_int_equal(begin(session, &err), SEAM_OK);
    assert_int_equal(announced_depth(session), 4);
    seam_session_close(session);
    session = create_auto();
    session->depth.max = session->depth.ahead = 2;
    assert_int_equal(seam_state_save(&newer, session), SEAM_OK);
    assert_int_equal(begin(session, &err), SEAM_OK);
    assert_int_equal(announced_depth(session), 2);
    seam_session_close(session);
    session = create_auto();
    assert_int_equal(seam_state_load(session, &newer), SEAM_OK);
    assert_int_equal(seam_state_load(session, &older), SEAM_OK);
    assert_int_equal(session->depth.max, 4);
    assert_int_equal(seam_session_ahead(session), 2);
    static const uint32_t sequence_rows[] = {2};
    static const uint8_t labelled[] = {1};
    const seam_step_micro micro = {
        .sequence_count = 1, .sequence_rows = sequence_rows, .labelled_rows = labelled};
    assert_int_equal(seam_step_begin_ahead(session, &micro, 1, 3, &err), SEAM_E_LIMIT);
    says(&err, "ahead: 3 is not in 1..2");
    assert_int_equal(begin(session, &err), SEAM_OK);
    assert_int_equal(announced_depth(session), 2);
    seam_session_close(session);
    seam_buffer_deinit(&older);
    seam_buffer_deinit(&newer);
}

/* The first format has the same words but for three pieces, the last of them at the end. */
static void to_first_format(seam_buffer *state) {
    enum {
        USED_AT = 184, /* format, options, values of both sites: then values_used_in */
        ARBITER = 192, /* bytes of the arbiter behind it */
        RATE = 8 * (4 * SEAM_RATE_STEPS + 5),
        DEPTH = 8 * (7 + SEAM_DEPTH_STEPS),
    };
    const size_t depth_at = USED_AT + 8 + ARBITER + RATE;
    assert_true(state->count > depth_at + DEPTH);
    state->data[0] = 1;
    memmove(state->data + depth_at, state->data + depth_at + DEPTH,
            state->count - depth_at - DEPTH);
    state->count -= DEPTH + SEAM_REDO_PLACE_BYTES;
    memmove(state->data + USED_AT, state->data + USED_AT + 8, state->count - USED_AT - 8);
    state->count -= 8;
}

static void test_state_load__first_format_before_a_step__weights_count_every_row(void **state) {
    (void)state;
    seam_session *const session = create("u_shaped", NULL);
    seam_buffer now = {0}, old = {0};
    assert_int_equal(seam_state_save(&now, session), SEAM_OK);
    assert_int_equal(seam_buffer_add(&old, now.data, now.count), SEAM_OK);
    to_first_format(&old);
    for (int i = 0; i < 2; i++) { /* again: back to step 0 once more */
        assert_int_equal(seam_state_load(session, &old), SEAM_OK);
        seam_arbiter_weigh(&session->arbiter, 3, 5, 2);
        assert_int_equal(session->arbiter.values_in, 5);
        assert_int_equal(session->arbiter.values_used_in, 5);
    }
    assert_int_equal(seam_state_load(session, &now), SEAM_OK);
    seam_arbiter_weigh(&session->arbiter, 3, 5, 2);
    assert_int_equal(session->arbiter.values_in, 3);
    assert_int_equal(session->arbiter.values_used_in, 5);
    seam_buffer_deinit(&old);
    seam_buffer_deinit(&now);
    seam_session_close(session);
}

static void lose(uint32_t count, seam_status as, uint32_t reconnect_timeout_ms) {
    world.unary_losses = count;
    world.unary_loss = as;
    client.reconnect_timeout_ms = reconnect_timeout_ms;
}

static void test_create__server_away_for_two_calls__same_request_again(void **state) {
    (void)state;
    lose(2, SEAM_E_UNAVAILABLE, 5000);
    seam_session *const session = create("u_shaped", NULL);
    assert_int_equal(world.lost_count, 2);
    seam_session_close(session);
}

static void create_fails(seam_status expected) {
    seam_session *session = NULL;
    seam_session_options options = SEAM_SESSION_OPTIONS_INIT;
    seam_error err = {0};
    options.model = "m";
    options.codec = "f32";
    assert_int_equal(seam_session_create(&session, &client, &options, &err), expected);
    says(&err, "the call was lost");
}

static void test_create__server_stays_away__told_within_the_reconnect_time(void **state) {
    (void)state;
    lose(UINT32_MAX, SEAM_E_UNAVAILABLE, 400);
    const uint64_t begin_ms = seam_now_ms();
    create_fails(SEAM_E_UNAVAILABLE);
    const uint64_t lost_ms = seam_now_ms() - begin_ms;
    assert_true(world.lost_count >= 2);
    assert_true(lost_ms >= 400 && lost_ms < 4000);
}

static void test_create__refused__not_again(void **state) {
    (void)state;
    lose(UINT32_MAX, SEAM_E_DENIED, 5000);
    create_fails(SEAM_E_DENIED);
    assert_int_equal(world.lost_count, 1);
}

/* ---- RetryInfo of a unary call ---- */

static char log_text[512];

static void log_keep(void *user, const char *text) {
    (void)user;
    snprintf(log_text, sizeof log_text, "%s", text);
}

static void ask_to_wait(uint32_t count, seam_status as, uint64_t retry_after_ms,
                        uint32_t reconnect_timeout_ms) {
    lose(count, as, reconnect_timeout_ms);
    world.unary_retry_after_ms = retry_after_ms;
    client.log = log_keep;
    log_text[0] = '\0';
}

static void test_create__server_asks_to_wait__same_request_no_sooner(void **state) {
    (void)state;
    static const seam_status codes[] = {SEAM_E_LIMIT, SEAM_E_MEMORY, SEAM_E_UNAVAILABLE,
                                        SEAM_E_DEVICE_LOST};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        setup(NULL);
        ask_to_wait(2, codes[i], 250, 5000);
        const uint64_t begin_ms = seam_now_ms();
        seam_session *const session = create("u_shaped", NULL);
        assert_true(seam_now_ms() - begin_ms >= 500);
        assert_int_equal(world.lost_count, 2);
        assert_non_null(strstr(log_text, "CreateSession: the server asks to wait"));
        assert_non_null(strstr(log_text, "the call was lost"));
        seam_session_close(session);
    }
}

static void test_create__no_room_for_long__reason_and_no_later_than_the_limit(void **state) {
    (void)state;
    ask_to_wait(UINT32_MAX, SEAM_E_LIMIT, 5000, 1000); /* it would be too late */
    const uint64_t begin_ms = seam_now_ms();
    create_fails(SEAM_E_LIMIT);
    assert_int_equal(world.lost_count, 1);
    setup(NULL);
    ask_to_wait(UINT32_MAX, SEAM_E_LIMIT, 300, 1000);
    create_fails(SEAM_E_LIMIT);
    assert_in_range(world.lost_count, 2, 4);
    assert_true(seam_now_ms() - begin_ms < 4000);
}

static void test_create__refused_without_retry_info__not_again(void **state) {
    (void)state;
    ask_to_wait(UINT32_MAX, SEAM_E_LIMIT, 0, 5000);
    create_fails(SEAM_E_LIMIT);
    assert_int_equal(world.lost_count, 1);
    setup(NULL);
    ask_to_wait(UINT32_MAX, SEAM_E_ARG, 100, 5000); /* no repetition cures it */
    create_fails(SEAM_E_ARG);
    assert_int_equal(world.lost_count, 1);
}

static void test_create__less_may_do__told_at_once(void **state) {
    (void)state;
    ask_to_wait(UINT32_MAX, SEAM_E_LIMIT, 100, 5000);
    seam_session *session = NULL;
    seam_session_options options = SEAM_SESSION_OPTIONS_INIT;
    seam_error err = {0};
    options.model = "m";
    options.codec = "f32";
    options.micros_per_step_max = 4;
    options.pipeline_depth = 2;
    options.pipeline_auto = true;
    assert_int_equal(seam_session_create(&session, &client, &options, &err), SEAM_E_LIMIT);
    assert_int_equal(world.lost_count, 1);
}

static bool stop_now(void *user) {
    (void)user;
    return true;
}

static void test_create__stopped_while_it_waits__cancelled(void **state) {
    (void)state;
    ask_to_wait(UINT32_MAX, SEAM_E_LIMIT, 20000, 60000);
    client.stop = stop_now;
    seam_session *session = NULL;
    seam_session_options options = SEAM_SESSION_OPTIONS_INIT;
    seam_error err = {0};
    options.model = "m";
    options.codec = "f32";
    const uint64_t begin_ms = seam_now_ms();
    assert_int_equal(seam_session_create(&session, &client, &options, &err), SEAM_E_CANCELLED);
    says(&err, "CreateSession: stopped while waiting");
    assert_true(seam_now_ms() - begin_ms < 2000);
}

static void cancel_when_told(void *session, const char *text) {
    (void)text;
    seam_session_cancel(session);
}

static void test_import__no_room_for_two_calls__same_files_again(void **state) {
    (void)state;
    static const seam_adapter_bytes files = {
        .weights = "w", .config = "c", .weights_bytes = 1, .config_bytes = 1};
    seam_session *const session = create("u_shaped", NULL);
    seam_error err = {0};
    uint64_t hash = 0;
    world.reachable = true;
    world.refusals = 2;
    world.retry_after_ms = 200;
    client.reconnect_timeout_ms = 5000;
    const uint64_t begin_ms = seam_now_ms();
    assert_int_equal(seam_session_import_bytes(session, &files, &hash, &err), SEAM_OK);
    assert_true(seam_now_ms() - begin_ms >= 400);
    assert_int_equal(world.stream_count, 3);
    assert_int_equal(hash, 7);
    world.refusals = UINT32_MAX;
    client.log = cancel_when_told; /* a wait ends */
    client.log_user = session;
    assert_int_equal(seam_session_import_bytes(session, &files, &hash, &err), SEAM_E_CANCELLED);
    seam_session_close(session);
}

/* ---- Inference on a server that comes back ---- */

/* What is wrong on this side does not end the inference. */
static void test_inference_run__bad_request__the_next_one_goes_out(void **state) {
    (void)state;
    static const uint32_t sequence_rows[] = {1};
    static const uint8_t beyond[] = {3}, row[] = {1};
    float x[CHANNELS] = {NAN}, y[CHANNELS];
    seam_rows_request request = {
        .sequence_count = 1, .sequence_rows = sequence_rows, .labelled_rows = row};
    seam_inference_options options = SEAM_INFERENCE_OPTIONS_INIT;
    seam_inference *inference = NULL;
    seam_error err = {0};
    world.reachable = true;
    seam_session *const session = create("u_shaped", NULL);
    assert_int_equal(seam_inference_open(&inference, session, &options, &err), SEAM_OK);
    const uint32_t sent = world.sent_count;
    assert_int_equal(seam_inference_run(inference, y, x, &request, &err), SEAM_E_NONFINITE);
    x[0] = 1.0f;
    request.labelled_rows = beyond;
    assert_int_equal(seam_inference_run(inference, y, x, &request, &err), SEAM_E_ARG);
    says(&err, "labelled_rows");
    assert_int_equal(world.sent_count, sent);
    request.labelled_rows = row;
    assert_int_equal(seam_inference_run(inference, y, x, &request, &err), SEAM_E_DENIED);
    assert_true(world.sent_count > sent);
    assert_int_equal(seam_inference_run(inference, y, x, &request, &err), SEAM_E_STATE);
    seam_inference_close(inference);
    seam_session_close(session);
}

static seam_status infer(seam_session *session, seam_error *err) {
    static const uint32_t sequence_rows[] = {1};
    const float x[CHANNELS] = {1.0f};
    float y[CHANNELS];
    const seam_rows_request request = {.sequence_count = 1, .sequence_rows = sequence_rows};
    seam_inference_options options = SEAM_INFERENCE_OPTIONS_INIT;
    seam_inference *inference = NULL;
    seam_status st = seam_inference_open(&inference, session, &options, err);
    st = st == SEAM_OK ? seam_inference_run(inference, y, x, &request, err) : st;
    seam_inference_close(inference);
    return st;
}

static void test_inference__room_taken_when_it_comes_back__waits_as_asked(void **state) {
    (void)state;
    seam_session *const session = create("u_shaped", NULL);
    seam_error err = {0};
    world.reachable = true;
    world.refusals = 2;
    world.retry_after_ms = 200;
    client.reconnect_timeout_ms = 5000;
    const uint64_t begin_ms = seam_now_ms();
    assert_int_equal(infer(session, &err), SEAM_E_DENIED);
    says(&err, "no answer on stream 4");
    assert_true(seam_now_ms() - begin_ms >= 400);
    seam_session_close(session);
}

/* The process that trains knows the step before a stream says one. */
static void test_inference__server_behind_the_trained_step__refused(void **state) {
    (void)state;
    for (int trains = 0; trains < 2; trains++) {
        setup(NULL);
        world.reachable = true;
        client.reconnect_timeout_ms = 100;
        world.refusals = UINT32_MAX - 1;
        seam_session *const session = create("u_shaped", NULL);
        seam_error err = {0};
        char folder[] = "/tmp/seam-infer-XXXXXX";
        assert_non_null(mkdtemp(folder));
        if (trains > 0) {
            assert_int_equal(seam_session_journal(session, folder, &err), SEAM_OK);
        }
        world.steps = 3;
        assert_int_equal(infer(session, &err), trains > 0 ? SEAM_E_STATE : SEAM_E_LIMIT);
        says(&err, trains > 0 ? "at step 3 now, and was at step 0" : "no room");
        seam_session_close(session);
        folder_remove(folder);
    }
}

static void test_create__few_rows__no_more_sequences_than_rows(void **state) {
    (void)state;
    seam_session *session = create("u_shaped", NULL); /* 8 rows, sequences left to the default */
    assert_int_equal(session->config.sequences_max, 8);
    seam_session_close(session);
}

static void test_optimizer__as_created__and_what_is_no_update(void **state) {
    (void)state;
    seam_session *session = create("u_shaped", NULL);
    seam_optimizer optimizer = {.lr = 1};
    seam_error err = {0};
    assert_int_equal(seam_session_optimizer(NULL, session, 0, &err), SEAM_E_ARG);
    assert_int_equal(seam_session_optimizer(&optimizer, NULL, 0, &err), SEAM_E_ARG);
    assert_int_equal(seam_session_optimizer(&optimizer, session, 0, &err), SEAM_E_ARG);
    says(&err, "struct_bytes");
    optimizer.struct_bytes = sizeof optimizer;
    assert_int_equal(seam_session_optimizer(&optimizer, session, 9, &err), SEAM_OK);
    assert_true(optimizer.lr == 1e-4f && optimizer.adam_beta2 == 0.999f);
    assert_string_equal(optimizer.schedule, "constant");
    assert_int_equal(seam_session_update(NULL, NULL, 0, &optimizer, &err), SEAM_E_ARG);
    assert_int_equal(seam_session_update(NULL, session, 0, NULL, &err), SEAM_E_ARG);
    optimizer.schedule = "up";
    assert_int_equal(seam_session_update(NULL, session, 0, &optimizer, &err), SEAM_E_ARG);
    says(&err, "schedule");
    optimizer.schedule = NULL;
    optimizer.struct_bytes--;
    assert_int_equal(seam_session_update(NULL, session, 0, &optimizer, &err), SEAM_E_ARG);
    says(&err, "struct_bytes");
    seam_session_close(session);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_create__few_rows__no_more_sequences_than_rows, setup),
        cmocka_unit_test_setup(test_optimizer__as_created__and_what_is_no_update, setup),
        cmocka_unit_test_setup(test_create__stated_hash_of_another_config__refused, setup),
        cmocka_unit_test_setup(test_attach__config_is_not_of_its_hash__refused, setup),
        cmocka_unit_test_setup(test_attach__bits_of_a_codec_that_has_none__any_number, setup),
        cmocka_unit_test_setup(test_step_begin__taken_up_without_consent__denied_before_a_stream,
                               setup),
        cmocka_unit_test_setup(test_resume__other_topology__journal_is_not_its, setup),
        cmocka_unit_test_setup(test_state_load__first_format_before_a_step__weights_count_every_row,
                               setup),
        cmocka_unit_test_setup(test_state_load__third_format__depth_has_not_settled, setup),
        cmocka_unit_test_setup(test_step_begin__settled_then_an_older_record__stays_settled, setup),
        cmocka_unit_test_setup(test_create__server_away_for_two_calls__same_request_again, setup),
        cmocka_unit_test_setup(test_create__server_stays_away__told_within_the_reconnect_time,
                               setup),
        cmocka_unit_test_setup(test_create__refused__not_again, setup),
        cmocka_unit_test_setup(test_create__server_asks_to_wait__same_request_no_sooner, setup),
        cmocka_unit_test_setup(test_create__no_room_for_long__reason_and_no_later_than_the_limit,
                               setup),
        cmocka_unit_test_setup(test_create__refused_without_retry_info__not_again, setup),
        cmocka_unit_test_setup(test_create__less_may_do__told_at_once, setup),
        cmocka_unit_test_setup(test_create__stopped_while_it_waits__cancelled, setup),
        cmocka_unit_test_setup(test_inference_run__bad_request__the_next_one_goes_out, setup),
        cmocka_unit_test_setup(test_inference__room_taken_when_it_comes_back__waits_as_asked,
                               setup),
        cmocka_unit_test_setup(test_inference__server_behind_the_trained_step__refused, setup),
        cmocka_unit_test_setup(test_import__no_room_for_two_calls__same_files_again, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
