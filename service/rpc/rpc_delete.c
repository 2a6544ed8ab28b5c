/* DeleteSession: the session is gone from the table at once and its streams end; the answer follows
 * when the state directory has forgotten it too (session/session_delete.h), so that no process to
 * come has it again. */
#include <string.h>

#include "log.h"
#include "rpc_methods.h"
#include "rpc_server.h"
#include "seam/v1/service.pb-c.h"
#include "session_delete.h"
#include "session_disk.h"
#include "try.h"

SEAM_ON_LOOP static void session_end(seam_server *server, seam_session *session) {
    static const char text[] = "the session was deleted";
    seam_error err = {0};
    seam_log(SEAM_LOG_INFO, "session_deleted", "session=%s steps=%llu", session->id,
             (unsigned long long)seam_server_proto_committed_count(&session->proto));
    seam_server_proto_expire(&session->proto);
    (void)seam_error_set(&err, SEAM_E_GONE, "%s", text);
    if (session->stream != NULL) {
        seam_call_fail(session->stream, SEAM_E_GONE, &err);
    }
    if (session->stream_waiting != NULL) {
        seam_call_fail(session->stream_waiting, SEAM_E_GONE, &err);
        session->stream_waiting = NULL;
    }
    seam_generates_end(server, session, SEAM_E_GONE, text);
    seam_calls_deleted(server, session);
    seam_sessions_remove(session->sessions, session);
}

/* *ret_deletion NULL: it is over. */
SEAM_ON_LOOP static seam_status delete_open(seam_deletion **ret_deletion, seam_server *server,
                                            const Seam__V1__DeleteSessionRequest *request,
                                            seam_error *err) {
    seam_session *session = NULL;
    seam_sessions *sessions = seam_server_sessions(server);
    seam_deletions *deletions = seam_sessions_deletions(sessions);
    bool is_over = false;
    if (strlen(request->request_id) >= SEAM_REQUEST_ID_BYTES) {
        return seam_error_set(err, SEAM_E_ARG, "request_id: longer than %d bytes",
                              SEAM_REQUEST_ID_BYTES - 1);
    }
    SEAM_TRY(seam_deletions_find(ret_deletion, &is_over, deletions, request->request_id,
                                 request->session_id, request->session_secret.data,
                                 request->session_secret.len, err));
    if (is_over || *ret_deletion != NULL) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_sessions_find(&session, sessions, request->session_id,
                                request->session_secret.data, request->session_secret.len, err));
    seam_status st = SEAM_OK;
    if (seam_session_is_kept(session)) {
        st = seam_deletion_create(ret_deletion, session, request->request_id, err);
    } else {
        seam_deletions_note(deletions, request->request_id, session->id);
    }
    if (st == SEAM_OK) {
        session_end(server, session);
    }
    seam_session_unref(session);
    return st;
}

SEAM_ON_LOOP static void delete_reply(seam_call *call, seam_status st, const seam_error *err) {
    const Seam__V1__DeleteSessionResponse response = SEAM__V1__DELETE_SESSION_RESPONSE__INIT;
    if (st == SEAM_OK) {
        seam_call_reply(call, &response.base);
    } else {
        seam_call_fail(call, st, err);
    }
}

void seam_on_delete_session(seam_call *call, grpc_byte_buffer *message) {
    seam_error err = {0};
    seam_deletion *deletion = NULL;
    Seam__V1__DeleteSessionRequest *request = (Seam__V1__DeleteSessionRequest *)seam_message_unpack(
        &seam__v1__delete_session_request__descriptor, message);
    seam_status st = SEAM_E_FORMAT;
    if (request == NULL) {
        (void)seam_error_set(&err, st, "DeleteSessionRequest: malformed protobuf");
    } else {
        st = delete_open(&deletion, call->server, request, &err);
        seam__v1__delete_session_request__free_unpacked(request, NULL);
    }
    if (deletion == NULL) {
        delete_reply(call, st, &err);
    } else {
        call->state = deletion;
        seam_call_await_any(call, deletion);
    }
}

void seam_on_delete_idle(seam_call *call) {
    seam_status st = SEAM_OK;
    seam_error err = {0};
    if (seam_deletion_has_ended(&st, &err, call->state)) {
        delete_reply(call, st, &err);
    } else {
        seam_call_await_any(call, call->state);
    }
}

void seam_on_delete_close(seam_call *call) {
    if (call->state != NULL) {
        seam_deletion_unref(call->state);
        call->state = NULL;
    }
}

SEAM_ON_LOOP static void call_wake(seam_call *call, void *user) {
    if (call->awaited == user) {
        seam_call_resume(call);
    }
}

void seam_delete_ended(seam_server *server, const void *deletion) {
    seam_server_each_call(server, call_wake, (void *)(uintptr_t)deletion);
}
