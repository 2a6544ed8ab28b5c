/* Goal: a session's cancel ends what its calls wait for, and no later one asks the server.
 * Method: a transport that answers as a server does (client_world.h); of the real one a listener
 * that takes connections and never says a word. */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "client_world.h"

static seam_status save(seam_session *session, seam_error *err) {
    uint64_t steps = 0;
    return seam_session_save_checkpoint(&steps, session, err);
}

static seam_status info_get(seam_session *session, seam_error *err) {
    seam_session_info info;
    return seam_session_info_get(&info, session, err);
}

static seam_status optimizer_get(seam_session *session, seam_error *err) {
    seam_optimizer optimizer = {.struct_bytes = sizeof optimizer};
    return seam_session_optimizer(&optimizer, session, 0, err);
}

static seam_status updates_get(seam_session *session, seam_error *err) {
    seam_optimizer_update updates[SEAM_OPTIMIZER_UPDATES_MAX];
    uint32_t count = 0;
    return seam_session_updates(updates, &count, session, SEAM_OPTIMIZER_UPDATES_MAX, err);
}

static seam_status update(seam_session *session, seam_error *err) {
    const seam_optimizer optimizer = {.struct_bytes = sizeof optimizer};
    return seam_session_update(NULL, session, 0, &optimizer, err);
}

static seam_status (*const unary_calls[])(seam_session *, seam_error *) = {
    save, info_get, optimizer_get, updates_get, update};
#define UNARY_COUNT (sizeof unary_calls / sizeof *unary_calls)

static void test_cancel__before_a_call__no_server_is_asked(void **state) {
    (void)state;
    seam_session *session = create("u_shaped", NULL);
    const seam_adapter_bytes bytes = {"w", "{}", 1, 2};
    seam_error err = {0};
    world.reachable = true;
    seam_session_cancel(session);
    world.unary_losses = 1; /* a call would fail otherwise */
    world.unary_loss = SEAM_E_DENIED;
    assert_int_equal(seam_session_export(session, "/tmp", NULL, &err), SEAM_E_CANCELLED);
    assert_int_equal(seam_session_import(session, "/tmp", NULL, &err), SEAM_E_CANCELLED);
    assert_int_equal(seam_session_import_bytes(session, &bytes, NULL, &err), SEAM_E_CANCELLED);
    for (size_t i = 0; i < UNARY_COUNT; i++) {
        assert_int_equal(unary_calls[i](session, &err), SEAM_E_CANCELLED);
    }
    assert_int_equal(seam_session_reattach(session, &err), SEAM_E_CANCELLED);
    assert_int_equal(begin(session, &err), SEAM_E_CANCELLED);
    assert_int_equal(world.stream_count, 0);
    seam_session_close(session);
}

static void test_cancel__files_under_way__their_stream_ends(void **state) {
    (void)state;
    const seam_adapter_bytes bytes = {"w", "{}", 1, 2};
    char folder[] = "/tmp/seam-session-XXXXXX";
    assert_non_null(mkdtemp(folder));
    for (int import = 0; import <= 1; import++) {
        seam_session *session = create("u_shaped", NULL);
        seam_error err = {0};
        world.reachable = true;
        world.cancels = session;
        const seam_status st = import != 0 ? seam_session_import_bytes(session, &bytes, NULL, &err)
                                           : seam_session_export(session, folder, NULL, &err);
        assert_int_equal(st, SEAM_E_CANCELLED);
        assert_true(world.is_cancelled);
        says(&err, "the session was cancelled");
        world.cancels = NULL;
        seam_session_close(session);
    }
    assert_int_equal(rmdir(folder), 0);
}

static void test_cancel__while_the_server_is_asked__the_call_ends(void **state) {
    (void)state;
    for (size_t i = 0; i < UNARY_COUNT; i++) {
        seam_session *session = create("u_shaped", NULL);
        seam_error err = {0};
        world.cancels = session;
        assert_int_equal(unary_calls[i](session, &err), SEAM_E_CANCELLED);
        says(&err, "the session was cancelled");
        world.cancels = NULL;
        seam_session_close(session);
    }
}

static bool third_time(void *user) {
    return ++*(uint32_t *)user == 3;
}

static void test_unary__stopped_while_the_server_is_silent__ends_then(void **state) {
    (void)state;
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t place_bytes = sizeof place;
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(listener >= 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&place, sizeof place), 0);
    assert_int_equal(listen(listener, 4), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&place, &place_bytes), 0);
    char address[32];
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", ntohs(place.sin_port));
    const seam_transport_options options = {
        .address = address, .plaintext = true, .unary_timeout_ms = 600000};
    seam_transport *transport = NULL;
    seam_buffer answered = {0};
    seam_error err = {0};
    uint32_t asked_count = 0;
    seam_unary_call call = {
        .method = "GetServerInfo", .stop = third_time, .stop_user = &asked_count};
    assert_int_equal(seam_transport_grpc.open(&transport, &options, &err), SEAM_OK);
    assert_int_equal(seam_transport_grpc.unary(transport, &call, &answered, &err),
                     SEAM_E_CANCELLED);
    assert_int_equal(asked_count, 3);
    seam_buffer_deinit(&answered);
    seam_transport_grpc.close(transport);
    close(listener);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_cancel__before_a_call__no_server_is_asked, setup),
        cmocka_unit_test_setup(test_cancel__while_the_server_is_asked__the_call_ends, setup),
        cmocka_unit_test_setup(test_cancel__files_under_way__their_stream_ends, setup),
        cmocka_unit_test(test_unary__stopped_while_the_server_is_silent__ends_then),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
