/* UpdateSession: another optimizer from a step on (session/session_update.h).  Of a session that is
 * kept a job writes it down first, between two others of the session, and what comes on the stream
 * waits until it has: no step can begin in between that would have gone by it. */
#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "log.h"
#include "rpc_methods.h"
#include "rpc_server.h"
#include "session_disk.h"
#include "session_update.h"
#include "try.h"

typedef struct update_call {
    seam_session *session; /* a reference */
    seam_session_update update;
    uint64_t floor; /* of the job */
} update_call;

SEAM_ON_LOOP static void update_free(seam_call *call) {
    update_call *u = call->state;
    call->state = NULL;
    seam_session_unref(u->session);
    seam_mem_free(u);
}

void seam_on_update_close(seam_call *call) {
    if (call->state != NULL && !call->job_running) {
        update_free(call);
    }
}

SEAM_ON_GPU static seam_status update_run(seam_job *job, seam_stream *stream) {
    const update_call *u = job->user;
    (void)stream;
    return seam_session_update_store(u->session, &u->update, u->floor, &job->err);
}

SEAM_ON_LOOP static void update_reply(seam_call *call, seam_session *session) {
    seam_session_storage storage;
    Seam__V1__UpdateSessionResponse response = SEAM__V1__UPDATE_SESSION_RESPONSE__INIT;
    seam_session_describe(&storage, session);
    response.session = &storage.session;
    seam_call_reply(call, &response.base);
}

SEAM_ON_LOOP static void update_apply(const update_call *u) {
    seam_session_update_add(u->session, &u->update);
    seam_log(SEAM_LOG_INFO, "session_updated", "session=%s effective_step=%llu lr=%g",
             u->session->id, (unsigned long long)u->update.effective_step,
             (double)u->update.optimizer.lr);
}

void seam_on_update_idle(seam_call *call) {
    update_call *u = call->state;
    seam_session *session = u->session;
    seam_error err = {0};
    bool known = false;
    seam_session_update update = u->update; /* its step is settled when it goes on */
    const seam_status st = seam_session_update_settle(&known, &update, session, &err);
    if (st != SEAM_OK) {
        seam_call_fail(call, st, &err);
        return;
    }
    /* A job of a session that the next tick unloads would let an Attach in before. */
    if (!known && seam_session_is_kept(session) &&
        (!seam_session_is_idle(session) || session->disk.spoiled)) {
        seam_call_await_any(call, session);
        return;
    }
    u->update = update;
    if (known || !seam_session_is_kept(session)) {
        if (!known) {
            update_apply(u);
        }
        update_reply(call, session);
        return;
    }
    u->floor = seam_session_update_floor(session);
    call->job.run = update_run;
    call->job.user = u;
    seam_call_post_held(call, session);
}

void seam_on_update_job(seam_call *call) {
    update_call *u = call->state;
    seam_session *session = u->session;
    seam_error err = {0};
    seam_session_ref(session);
    const seam_status st = seam_call_held_end(call, session, &err);
    if (st != SEAM_OK) {
        seam_call_fail(call, st, &err);
    } else {
        update_apply(u); /* it is written, also where nobody waits for the answer any more */
        update_reply(call, session);
    }
    if (call->closed) {
        update_free(call);
    }
    seam_train_session_idle(call->server, session);
    seam_session_unref(session);
}

SEAM_ON_LOOP static seam_status
update_open(seam_call *call, const Seam__V1__UpdateSessionRequest *request, seam_error *err) {
    seam_session_update update = {.effective_step = request->effective_step};
    seam_session *session = NULL;
    if (strlen(request->request_id) >= SEAM_REQUEST_ID_BYTES) {
        return seam_error_set(err, SEAM_E_ARG, "request_id: longer than %d bytes",
                              SEAM_REQUEST_ID_BYTES - 1);
    }
    (void)snprintf(update.request_id, sizeof update.request_id, "%s", request->request_id);
    SEAM_TRY(seam_sessions_find(&session, seam_server_sessions(call->server), request->session_id,
                                request->session_secret.data, request->session_secret.len, err));
    const seam_status st =
        seam_optimizer_config_read(&update.optimizer, request->optimizer, "optimizer", err);
    update_call *u = st == SEAM_OK ? seam_mem_zalloc(1, sizeof *u) : NULL;
    if (u == NULL) {
        seam_session_unref(session);
        return st == SEAM_OK ? SEAM_E_MEMORY : st;
    }
    *u = (update_call){.session = session, .update = update};
    call->state = u;
    return SEAM_OK;
}

void seam_on_update_session(seam_call *call, grpc_byte_buffer *message) {
    seam_error err = {0};
    Seam__V1__UpdateSessionRequest *request = (Seam__V1__UpdateSessionRequest *)seam_message_unpack(
        &seam__v1__update_session_request__descriptor, message);
    seam_status st = SEAM_E_FORMAT;
    if (request == NULL) {
        (void)seam_error_set(&err, st, "UpdateSessionRequest: malformed protobuf");
    } else {
        st = update_open(call, request, &err);
        seam__v1__update_session_request__free_unpacked(request, NULL);
    }
    if (st == SEAM_OK) {
        seam_on_update_idle(call);
    } else {
        seam_call_fail(call, st, &err);
    }
}
