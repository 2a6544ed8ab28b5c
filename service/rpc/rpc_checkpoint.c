/* SaveCheckpoint: the last committed step goes to the disk now, and the answer follows when it is
 * durable.  Nothing of a step in flight is applied before its end, so an image may be taken between
 * any two jobs of the session.  Whichever comes first serves the call: a job of its own while the
 * session is idle, or the image that the next commit leaves (seam_session_image_is_due).  Who waits
 * looks again at every end of a job or a write. */
#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "host.h"
#include "log.h"
#include "rpc_methods.h"
#include "rpc_server.h"
#include "session_disk.h"
#include "session_park.h"
#include "try.h"

typedef struct save_call {
    seam_session *session; /* a reference */
    char request_id[SEAM_REQUEST_ID_BYTES];
    uint64_t step_count;        /* committed when the call came */
    uint32_t write_error_count; /* of the session, then */
    seam_trainer_mark mark;     /* of the job */
} save_call;

SEAM_ON_LOOP static void save_free(seam_call *call) {
    save_call *s = call->state;
    call->state = NULL;
    s->session->disk.save_call_count--;
    seam_session_unref(s->session);
    seam_mem_free(s);
}

void seam_on_save_close(seam_call *call) {
    if (call->state != NULL && !call->job_running) {
        save_free(call);
    }
}

SEAM_ON_GPU static seam_status save_run(seam_job *job, seam_stream *stream) {
    const save_call *s = job->user;
    return seam_session_image_take(s->session, &s->mark, stream, &job->err);
}

SEAM_ON_LOOP static void save_reply(seam_call *call, const char *session_id, uint64_t step_count) {
    Seam__V1__SaveCheckpointResponse response = SEAM__V1__SAVE_CHECKPOINT_RESPONSE__INIT;
    response.durable_step_count = step_count;
    seam_log(SEAM_LOG_INFO, "checkpoint_saved", "session=%s step=%llu", session_id,
             (unsigned long long)step_count);
    seam_call_reply(call, &response.base);
}

/* Is it durable?  A session that a rollback took back meanwhile: what it is now. */
SEAM_ON_LOOP static bool save_is_done(uint64_t *ret_step_count, const save_call *s) {
    const seam_server_proto *proto = &s->session->proto;
    return seam_server_proto_durable_newest(ret_step_count, proto) &&
           (*ret_step_count >= s->step_count ||
            *ret_step_count == seam_server_proto_committed_count(proto));
}

/* Why it never will be.  SEAM_OK: it can. */
SEAM_ON_LOOP static seam_status save_check(const save_call *s, seam_error *err) {
    const seam_session *session = s->session;
    const seam_session_disk *d = &session->disk;
    if (session->deleted) {
        return seam_error_set(err, SEAM_E_GONE, "the session was deleted");
    }
    if (d->write_error_count != s->write_error_count) {
        *err = d->write_err;
        return d->write_status;
    }
    if (seam_server_proto_link(&session->proto) == SEAM_LINK_FROZEN) {
        return seam_error_set(err, SEAM_E_STATE, "session_id: the session is frozen");
    }
    if (!session->busy && !seam_session_is_resident(session)) {
        return seam_error_set(err, SEAM_E_DATA_LOSS,
                              "session_id: the newest checkpoint of the parked session is damaged; "
                              "an Attach goes back to the one before");
    }
    if (!d->writing && !seam_server_proto_durable_has_room(&session->proto)) {
        return seam_error_set(err, SEAM_E_LIMIT,
                              "session_id: %d checkpoints wait for the client's "
                              "checkpoint_confirm",
                              SEAM_DURABLE_MAX);
    }
    return SEAM_OK;
}

void seam_on_save_idle(seam_call *call) {
    save_call *s = call->state;
    seam_session *session = s->session;
    seam_error err = {0};
    uint64_t step_count = 0;
    if (!session->deleted && save_is_done(&step_count, s)) {
        seam_session_disk *d = &session->disk;
        memcpy(d->save_request_id, s->request_id, sizeof d->save_request_id);
        d->save_step_count = step_count;
        save_reply(call, session->id, step_count);
        return;
    }
    const seam_status st = save_check(s, &err);
    if (st != SEAM_OK) {
        seam_call_fail(call, st, &err);
        return;
    }
    if (!seam_session_is_idle(session) || session->disk.writing) {
        seam_call_await_any(call, session);
        return;
    }
    s->mark = (seam_trainer_mark){.step_count = seam_server_proto_committed_count(&session->proto),
                                  .row_count = session->row_count};
    call->job.run = save_run;
    call->job.user = s;
    seam_call_post_held(call, session);
}

void seam_on_save_job(seam_call *call) {
    save_call *s = call->state;
    seam_session *session = s->session;
    seam_error err = {0};
    seam_session_ref(session);
    const seam_status st = seam_call_held_end(call, session, &err);
    if (st != SEAM_OK) {
        seam_call_fail(call, st, &err);
    } else {
        seam_session_image_send(session, seam_host_now_ms());
        if (!call->closed) {
            seam_call_await_any(call, session);
        }
    }
    if (call->closed) {
        save_free(call);
    }
    seam_train_session_idle(call->server, session);
    seam_session_unref(session);
}

/* Find and judge; the call has a state then, or the answer of the same request before. */
SEAM_ON_LOOP static seam_status save_open(bool *ret_known, seam_call *call,
                                          const Seam__V1__SaveCheckpointRequest *request,
                                          seam_error *err) {
    seam_session *session = NULL;
    uint64_t newest = 0;
    if (strlen(request->request_id) >= SEAM_REQUEST_ID_BYTES) {
        return seam_error_set(err, SEAM_E_ARG, "request_id: longer than %d bytes",
                              SEAM_REQUEST_ID_BYTES - 1);
    }
    SEAM_TRY(seam_sessions_find(&session, seam_server_sessions(call->server), request->session_id,
                                request->session_secret.data, request->session_secret.len, err));
    const seam_session_disk *d = &session->disk;
    seam_status st = seam_session_kept_check(session, err);
    *ret_known = st == SEAM_OK && request->request_id[0] != '\0' &&
                 strcmp(request->request_id, d->save_request_id) == 0 &&
                 seam_server_proto_durable_newest(&newest, &session->proto) &&
                 newest >= d->save_step_count;
    save_call *s = st == SEAM_OK && !*ret_known ? seam_mem_zalloc(1, sizeof *s) : NULL;
    if (*ret_known) {
        save_reply(call, session->id, d->save_step_count);
    } else if (st == SEAM_OK && s == NULL) {
        st = SEAM_E_MEMORY;
    }
    if (s == NULL) {
        seam_session_unref(session);
        return st;
    }
    (void)snprintf(s->request_id, sizeof s->request_id, "%s", request->request_id);
    s->session = session;
    s->step_count = seam_server_proto_committed_count(&session->proto);
    s->write_error_count = d->write_error_count;
    session->disk.save_call_count++;
    call->state = s;
    return SEAM_OK;
}

void seam_on_save_checkpoint(seam_call *call, grpc_byte_buffer *message) {
    seam_error err = {0};
    bool known = false;
    Seam__V1__SaveCheckpointRequest *request =
        (Seam__V1__SaveCheckpointRequest *)seam_message_unpack(
            &seam__v1__save_checkpoint_request__descriptor, message);
    seam_status st = SEAM_E_FORMAT;
    if (request == NULL) {
        (void)seam_error_set(&err, st, "SaveCheckpointRequest: malformed protobuf");
    } else {
        st = save_open(&known, call, request, &err);
        seam__v1__save_checkpoint_request__free_unpacked(request, NULL);
    }
    if (st != SEAM_OK) {
        seam_call_fail(call, st, &err);
    } else if (!known) {
        seam_on_save_idle(call);
    }
}
