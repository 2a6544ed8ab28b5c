/* Calls that wait for a session: until it is idle, or until it has its memory again if it is parked
 * (session/session_park.h).  The first one that needs a parked session wakes it with its own job
 * and holds its message; those that come meanwhile wait as for any busy session.  And unary calls
 * that have a session to themselves for a job.
 *
 * Who waits in vain must be told: the session is not its, and may go. */
#include "host.h"
#include "rpc_methods.h"
#include "rpc_server.h"
#include "session_park.h"
#include "try.h"

/* ---- going on ---- */

typedef struct next_turn {
    const seam_session *session;
    uint64_t turn_after;
    seam_call *call;
} next_turn;

SEAM_ON_LOOP static void turn_compare(seam_call *call, void *user) {
    next_turn *next = user;
    const bool waits = call->awaited == next->session && call->turn > next->turn_after;
    if (waits && (call->awaits_any || seam_session_is_idle(next->session)) &&
        (next->call == NULL || call->turn < next->call->turn)) {
        next->call = call;
    }
}

/* Each once: one that waits again has a turn that has been. */
void seam_calls_resume(seam_server *server, void *session) {
    next_turn next = {.session = session};
    do {
        next.call = NULL;
        seam_server_each_call(server, turn_compare, &next);
        if (next.call != NULL) {
            next.turn_after = next.call->turn;
            seam_call_resume(next.call);
        }
    } while (next.call != NULL);
}

typedef struct waiting_end {
    const seam_session *session;
    seam_status st;
    const char *text;
    bool any; /* also who awaits any end of a job */
} waiting_end;

SEAM_ON_LOOP static void waiting_tell(seam_call *call, void *user) {
    const waiting_end *end = user;
    seam_error err = {0};
    if (call->awaited == end->session && (end->any || !call->awaits_any)) {
        (void)seam_error_set(&err, end->st, "%s", end->text);
        seam_call_fail(call, end->st, &err);
    }
}

void seam_calls_unloaded(seam_server *server, void *session) {
    waiting_end end = {.session = session,
                       .st = SEAM_E_UNAVAILABLE,
                       .text = "the session's checkpoint could not be read: call again"};
    seam_server_each_call(server, waiting_tell, &end);
}

void seam_calls_deleted(seam_server *server, void *session) {
    waiting_end end = {
        .session = session, .st = SEAM_E_GONE, .text = "the session was deleted", .any = true};
    seam_server_each_call(server, waiting_tell, &end);
}

/* ---- working for a unary call ---- */

void seam_call_post_held(seam_call *call, void *session_ptr) {
    seam_session *session = session_ptr;
    session->busy = session->held = true;
    if (seam_call_post(call) != SEAM_OK) { /* the call has failed */
        session->busy = session->held = false;
    }
}

seam_status seam_call_held_end(seam_call *call, void *session_ptr, seam_error *err) {
    seam_session *session = session_ptr;
    session->busy = session->held = false;
    if (session->deleted) {
        return seam_error_set(err, SEAM_E_GONE, "the session was deleted");
    }
    *err = call->job.err;
    return call->job.status;
}

/* ---- waking ---- */

SEAM_ON_GPU static seam_status wake_run(seam_job *job, seam_stream *stream) {
    return seam_session_wake_run(job->user, stream, &job->err);
}

bool seam_call_wakes(seam_call *call, grpc_byte_buffer *message, void *session_ptr) {
    seam_session *session = session_ptr;
    seam_error err = {0};
    if (session->busy && !session->disk.parking && !session->disk.waking &&
        seam_session_is_resident(session)) {
        return false;
    }
    if (session->busy || session->disk.spoiled) { /* on its way out or in */
        seam_call_hold(call, message, session);
        return true;
    }
    if (seam_session_is_resident(session)) {
        return false;
    }
    const seam_status st = seam_session_wake_begin(session, &err);
    if (st != SEAM_OK) {
        seam_call_fail(call, st, &err);
        return true;
    }
    call->job.run = wake_run;
    call->job.user = session;
    if (seam_call_post(call) != SEAM_OK) { /* the call has failed */
        seam_session_wake_end(session, SEAM_E_LIMIT, seam_host_now_ms());
        return true;
    }
    session->busy = true;
    seam_session_ref(session);
    call->waking = session;
    seam_call_hold(call, message, session);
    return true;
}

void seam_call_woken(seam_call *call) {
    seam_session *session = call->waking;
    call->waking = NULL;
    session->busy = false;
    seam_session_wake_end(session, call->job.status, seam_host_now_ms());
    seam_status st = call->job.status;
    if (session->deleted) {
        st = seam_error_set(&call->job.err, SEAM_E_GONE, "the session was deleted");
    }
    if (st != SEAM_OK) {
        seam_call_fail(call, st, &call->job.err);
    }
    if (call->closed && call->method->on_close != NULL) {
        call->method->on_close(call); /* again: the first time a job was running */
    }
    seam_train_session_idle(call->server, session);
    seam_session_unref(session);
}
