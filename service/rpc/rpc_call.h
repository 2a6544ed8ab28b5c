/* One RPC as a state machine over the completion queue, and the table that names our methods.
 *
 * Everything here is loop role.  gRPC's rules that this file keeps for its users (all measured):
 * one operation of a type in flight, receive-close and receive-message posted apart, slices of a
 * sent message are gRPC's, a received message may be NULL (the client is done sending).
 * A method sees: on_message for each message (it must ask for the next one: that is the
 * back-pressure), on_half_close, on_sent when a message has left, on_close exactly once
 * at the end.  After seam_call_finish or on_close nothing is sent any more. */
#ifndef SEAM_RPC_CALL_H
#define SEAM_RPC_CALL_H

#include <grpc/grpc.h>
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine.h"
#include "message_limits.h"
#include "roles.h"
#include "seam_status.h"

#define SEAM_CALL_OUTBOX_MAX 16

typedef struct seam_server seam_server;
typedef struct seam_call seam_call;

typedef struct seam_method {
    const char *path;
    bool open; /* needs no bearer key: health */
    void (*on_message)(seam_call *call, grpc_byte_buffer *message); /* borrowed */
    void (*on_half_close)(seam_call *call);
    void (*on_sent)(seam_call *call);  /* a message has left: there is room again; NULL */
    void (*on_job)(seam_call *call);   /* the call's job has run; call->job.status; may be closed */
    void (*on_idle)(seam_call *call);  /* what seam_call_await waited for */
    void (*on_close)(seam_call *call); /* release state; NULL: none */
    void (*on_drain)(seam_call *call); /* the server stops: end at the next good place; NULL */
} seam_method;

typedef enum seam_tag_kind {
    SEAM_TAG_ACCEPT,
    SEAM_TAG_CLOSE,
    SEAM_TAG_RECEIVE,
    SEAM_TAG_SEND,
    SEAM_TAG_JOB,
    SEAM_TAG_KINDS
} seam_tag_kind;

typedef struct seam_tag {
    seam_call *call;
    seam_tag_kind kind;
} seam_tag;

struct seam_call {
    seam_server *server;
    const seam_method *method;
    void *state;  /* of the method */
    seam_job job; /* at most one at a time */
    bool job_running;
    bool closed;    /* on_close was called */
    bool finishing; /* a status is decided */
    bool started;   /* a message has come */
    uint64_t begun_ms;
    /* Below: of rpc_call.c and rpc_server.c. */
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
    seam_tag tags[SEAM_TAG_KINDS];
    uint32_t refs; /* batches and jobs in flight, and the server's list */
    bool receiving, sending, initial_sent, status_sent;
    int cancelled; /* written by gRPC */
    grpc_byte_buffer *received;
    const void *awaited;          /* a busy session, or NULL */
    bool awaits_any;              /* not only its being idle: any end of a job or a write */
    uint64_t turn;                /* who awaits it with a smaller one goes on before */
    void *waking;                 /* the parked session that the job wakes (a reference), or NULL */
    grpc_byte_buffer *held;       /* a message that came meanwhile, or NULL */
    const grpc_byte_buffer *kept; /* the message of on_message, where it is the method's now */
    grpc_byte_buffer *outbox[SEAM_CALL_OUTBOX_MAX];
    uint32_t outbox_begin, outbox_count;
    grpc_byte_buffer *sent; /* of the batch in flight */
    grpc_status_code code;
    grpc_slice status_text, status_details;
    seam_call *prev, *next; /* the server's list */
};

/* ---- for methods ---- */

/* Ask for the next message.  One request at a time. */
void seam_call_receive(seam_call *call) SEAM_ON_LOOP;
/* The message of on_message becomes the method's, which destroys it. */
void seam_call_keep(seam_call *call, const grpc_byte_buffer *message) SEAM_ON_LOOP;
/* Copy a whole message into ret (capacity_bytes).  SEAM_E_LIMIT when it is longer. */
seam_status seam_message_copy(size_t *ret_count, uint8_t *ret, size_t capacity_bytes,
                              grpc_byte_buffer *message);
/* Unpack a control message; NULL for malformed bytes.  Free with protobuf_c_message_free_unpacked.
 */
ProtobufCMessage *seam_message_unpack(const ProtobufCMessageDescriptor *descriptor,
                                      grpc_byte_buffer *message);
/* Queue one message (copied); false when the outbox is full: the caller waits for on_sent. */
bool seam_call_send(seam_call *call, const uint8_t *bytes, size_t count) SEAM_ON_LOOP;
/* The same in two parts: a few bytes of head, then the frame. */
bool seam_call_send_parts(seam_call *call, const uint8_t *head, size_t head_bytes,
                          const uint8_t *body, size_t body_bytes) SEAM_ON_LOOP;
bool seam_call_send_message(seam_call *call, const ProtobufCMessage *message) SEAM_ON_LOOP;
/* Outbox empty and nothing in flight? */
bool seam_call_is_sent(const seam_call *call) SEAM_ON_LOOP;
/* End with OK after what is queued. */
void seam_call_finish(seam_call *call) SEAM_ON_LOOP;
/* End with an error after what is queued: google.rpc.Status details by rpc_details.h.  err may be
 * NULL.  A second end is ignored. */
void seam_call_fail(seam_call *call, seam_status st, const seam_error *err) SEAM_ON_LOOP;
/* Hand call->job (run, user set) to the engine; on_job follows.  On SEAM_E_LIMIT the call has been
 * failed with RESOURCE_EXHAUSTED. */
seam_status seam_call_post(seam_call *call) SEAM_ON_LOOP;
/* The session works for another call.  Keep the message of on_message until it is idle, when
 * on_message gets it again; or be called by on_idle then. */
void seam_call_hold(seam_call *call, grpc_byte_buffer *message, const void *session) SEAM_ON_LOOP;
void seam_call_await(seam_call *call, const void *session) SEAM_ON_LOOP;
/* The same, but at every end of a job or a write to the disk, idle or not. */
void seam_call_await_any(seam_call *call, const void *session) SEAM_ON_LOOP;
/* The session is idle: one call that waits for it goes on; if it waits again it keeps its turn. */
void seam_call_resume(seam_call *call) SEAM_ON_LOOP;
/* rpc_wake.c.  False: the session has its memory.  True: it is parked; the message is kept and
 * comes again when it is awake, or the call has failed.  session: a seam_session.  Before the
 * method has any state that a job's end would have to free. */
bool seam_call_wakes(seam_call *call, grpc_byte_buffer *message, void *session) SEAM_ON_LOOP;
/* rpc_wake.c.  A job of a unary call for an idle session (a seam_session), whose stream waits until
 * it has ended; then the job's status, or that the session was deleted meanwhile. */
void seam_call_post_held(seam_call *call, void *session) SEAM_ON_LOOP;
seam_status seam_call_held_end(seam_call *call, void *session, seam_error *err) SEAM_ON_LOOP;
/* A job of the session has ended, or a write: who waits for that goes on, in turn, for as long as
 * it is idle.  session: a seam_session. */
void seam_calls_resume(seam_server *server, void *session) SEAM_ON_LOOP;
/* A load has failed, and what the session's trainer holds is no state: the calls that wait for it
 * end with UNAVAILABLE.  session: a seam_session. */
void seam_calls_unloaded(seam_server *server, void *session) SEAM_ON_LOOP;
/* It was deleted: all that wait for it end with GONE, for it may go before they are resumed. */
void seam_calls_deleted(seam_server *server, void *session) SEAM_ON_LOOP;
/* The job of a waking call has run. */
void seam_call_woken(seam_call *call) SEAM_ON_LOOP;
/* Answer a unary call: message and OK. */
void seam_call_reply(seam_call *call, const ProtobufCMessage *message) SEAM_ON_LOOP;

/* ---- for rpc_server.c ---- */

seam_call *seam_call_create(seam_server *server) SEAM_ON_LOOP;
/* Accepted: method is looked up and checked; begins to receive. */
void seam_call_begin(seam_call *call, const seam_method *method) SEAM_ON_LOOP;
/* A batch of this call has ended.  May free the call. */
void seam_call_event(seam_call *call, seam_tag_kind kind, bool ok) SEAM_ON_LOOP;
void seam_call_unref(seam_call *call) SEAM_ON_LOOP;

#endif
