/* One Train stream: what rpc_train.c (frames, jobs, sending), train_attach.c and train_control.c
 * (the other control messages) share.
 *
 * Messages are asked for without end, so that a grant of credit is always read: what cannot be
 * taken yet waits in the inbox (train_inbox.c), in order.  The client's credit bounds the frames
 * there, and its own the replies on their way.  A frame is taken when there is a staging for it,
 * which with a pipeline may be while a tensor is at work and another waits; its credit goes back
 * then.  A reply in the cache is never overwritten while it is being sent: work whose reply would
 * take its place waits.  Control messages wait until the session is idle. */
#ifndef SEAM_TRAIN_STREAM_H
#define SEAM_TRAIN_STREAM_H

#include "credit.h"
#include "module_link.h"
#include "rpc_server.h"
#include "tensor_rx.h"
#include "walk.h"

/* Forward sites of a session. */
#define SEAM_TRAIN_SITES_MAX (2 + SEAM_MODULE_LINK_SITES_MAX)

/* Replies on their way out: each stands there once. */
#define SEAM_TRAIN_REPLIES_MAX (SEAM_PIPELINE_DEPTH_MAX + 2)

typedef struct seam_train_reply {
    const seam_reply *reply;
    seam_step_key key;
    uint64_t begin_ns; /* timeline */
} seam_train_reply;

/* What the client has as the widths in force at a forward site. */
typedef struct seam_train_widths {
    uint32_t site, version;
    uint64_t hash;
} seam_train_widths;

/* A message that waits. */
typedef struct seam_train_message {
    grpc_byte_buffer *bytes;
    bool is_frame;
    struct seam_train_message *next;
} seam_train_message;

typedef enum seam_train_job_kind {
    SEAM_TRAIN_JOB_TENSOR,
    SEAM_TRAIN_JOB_DROP,
    SEAM_TRAIN_JOB_LOAD
} seam_train_job_kind;

typedef struct seam_train {
    seam_call *call;
    seam_session *session;   /* a reference, from the first Attach on; NULL before */
    uint64_t epoch;          /* of this stream; 0: not attached yet */
    seam_attach_args attach; /* of the Attach that waits for the session's job */
    bool draining;           /* end at the next commit */
    bool half_closed;        /* the client sends nothing more */
    seam_credit_tx credit_tx;
    seam_credit_rx credit_rx;
    double link_told, target_told;                  /* of the Budget that was logged last */
    uint64_t peer_window_bytes;                     /* of the Attach that waits */
    seam_train_widths widths[SEAM_TRAIN_SITES_MAX]; /* likewise */
    uint32_t width_count;
    seam_train_message *inbox, *inbox_last;
    uint32_t inbox_frames, inbox_control; /* of them */
    size_t inbox_control_bytes;
    /* Reception of a tensor. */
    bool rx_open;                    /* a message of one tensor or more is coming */
    bool rx_part_due;                /* its next part has not begun */
    uint32_t rx_part, rx_part_count; /* exchange: parts that have come, in front of the last */
    uint32_t rx_staging_idx;
    seam_verdict rx_verdict;
    seam_step_key rx_key;
    seam_tensor_rx rx;
    uint64_t rx_ns; /* timeline: since when a tensor comes */
    /* What is still to be sent, in this order. */
    bool out_attached;
    seam_attach_verdict attached;
    seam_train_reply out_replies[SEAM_TRAIN_REPLIES_MAX];
    uint32_t out_count, out_next; /* out_next: message of the first */
    bool out_commit, out_proposal;
    /* The engine's job. */
    seam_train_job_kind job_kind;
    uint64_t made_due; /* an attach's: so many steps were made; 0: need not be written down */
    seam_step_result result;
    bool image_due; /* the step that this job ends leaves an image of the session */
    bool has_image; /* and has done so */
    bool trimmed;   /* activations that the session no longer needs are gone */
} seam_train;

/* Send what is queued as far as the outbox takes it; then ask for the next message. */
void seam_train_pump(seam_train *train) SEAM_ON_LOOP;
/* End the stream with an error. */
void seam_train_fail(seam_train *train, seam_status st, const seam_error *err) SEAM_ON_LOOP;
/* Other Attaches that wait for the session of this one end: the newest wins. */
void seam_train_fence_waiting(seam_train *train) SEAM_ON_LOOP;
/* End the stream with OK: the client has left. */
void seam_train_end(seam_train *train) SEAM_ON_LOOP;
/* What waits for the engine goes with its stream: the client sends it again. */
void seam_train_withdraw(seam_session *session) SEAM_ON_LOOP;
/* Drop every reply of the cache. */
void seam_train_drop_cache(seam_session *session) SEAM_ON_LOOP;
/* Post the stream's job; `run` gets the train as job->user. */
void seam_train_post(seam_train *train, seam_train_job_kind job_kind,
                     seam_status (*run)(seam_job *job, seam_stream *stream)) SEAM_ON_LOOP;

/* ---- train_out.c ---- */
/* The next thing that waits; false when the outbox or the credit is used up, or nothing is left. */
bool seam_train_send_next(seam_train *train) SEAM_ON_LOOP;
bool seam_train_has_output(const seam_train *train) SEAM_ON_LOOP;
/* Of the session's cache: where a tensor's reply stands; on its way out; to be sent. */
const seam_reply *seam_train_reply_of(const seam_session *session,
                                      const seam_step_key *key) SEAM_ON_LOOP;
bool seam_train_is_going_out(const seam_train *train, const seam_reply *reply) SEAM_ON_LOOP;
/* A reply that is on its way already is not sent twice. */
void seam_train_reply_queue(seam_train *train, const seam_step_key *key) SEAM_ON_LOOP;
/* A span of the timeline about a tensor.  Any thread, as seam_trace_end. */
void seam_train_span_end(const seam_session *session, const char *name, uint32_t lane,
                         uint64_t begin_ns, const seam_step_key *key);
const char *seam_train_phase_name(const seam_step_key *key);

/* ---- train_inbox.c ---- */
/* A message has come, which is the inbox's now, or a grant.  SEAM_E_OUT_OF_SEQUENCE: a frame
 * without credit; SEAM_E_LIMIT: control messages or small frames without end; SEAM_E_FORMAT: a
 * frame of no more than a header, a malformed grant; SEAM_E_MEMORY. */
seam_status seam_train_arrives(seam_train *train, grpc_byte_buffer *gift_message,
                               seam_error *err) SEAM_ON_LOOP;
/* Take the oldest message off; false: none, or its time has not come. */
bool seam_train_inbox_next(grpc_byte_buffer **ret_message, seam_train *train) SEAM_ON_LOOP;
void seam_train_inbox_drop(seam_train *train) SEAM_ON_LOOP;
/* Does the credit allow the frame in this message of ours?  Then it counts as sent. */
bool seam_train_may_send(seam_train *train, size_t message_bytes) SEAM_ON_LOOP;

/* A message that carries a frame; the message stands in staging. */
seam_status seam_train_frame(seam_train *train, const seam_walk *walk, size_t message_bytes,
                             seam_error *err) SEAM_ON_LOOP;

/* ---- train_micro.c ---- */
/* Of a key of the step in flight: is it the client's share of the norm, behind its tensors? */
bool seam_train_is_norm(const seam_session *session, const seam_step_key *key);
/* The layout of a micro-batch of the step in flight.  SEAM_E_ARG, SEAM_E_LIMIT. */
seam_status seam_train_micro_read(seam_micro *micro, const seam_session *session,
                                  uint32_t micro_idx, seam_error *err);
/* ADAPTER_EXCHANGE: the first frame of a part of a message. */
seam_status seam_train_exchange_begin(seam_train *train, const seam_frame_header *header,
                                      seam_error *err) SEAM_ON_LOOP;

/* ---- train_attach.c ---- */
/* The first message; the answer may wait for the session's job. */
void seam_train_attach(seam_train *train, grpc_byte_buffer *message) SEAM_ON_LOOP;
/* The session is idle: answer the Attach that waits. */
void seam_train_attach_now(seam_train *train) SEAM_ON_LOOP;
/* A dropped step's gradients are gone: go on with the answer. */
void seam_train_attach_finish(seam_train *train) SEAM_ON_LOOP;
/* The checkpoint that an attach goes back to has been loaded, or was damaged. */
void seam_train_loaded(seam_train *train) SEAM_ON_LOOP;
bool seam_train_send_attached(seam_train *train) SEAM_ON_LOOP;

/* ---- train_control.c ---- */
/* A control message of an attached stream; walk is that of the whole message. */
seam_status seam_train_control(seam_train *train, const seam_walk *walk, const uint8_t *bytes,
                               size_t count, seam_error *err) SEAM_ON_LOOP;
/* The allocation of a forward site; NULL: there is no such site. */
seam_site *seam_train_site(const seam_session *session, uint32_t site);
bool seam_train_send_credit(seam_train *train, uint64_t limit_bytes) SEAM_ON_LOOP;
/* The proposal of site 1. */
bool seam_train_send_proposal(seam_train *train, const seam_alloc *alloc) SEAM_ON_LOOP;
/* Put the Commit of a step into the session's cache. */
void seam_train_store_commit(seam_session *session, uint64_t step,
                             const seam_step_result *result) SEAM_ON_LOOP;

#endif
