/* The client's protocol machine of one session: what to send, what to wait for, when to try again.
 * SPEC 4.1, WIRE.md section 8.
 *
 * It is pulled: the caller asks seam_client_proto_next for the next action, does it and reports
 * that it is done; what arrives from the network is reported by an event call, which judges it.  No
 * I/O, no allocation, no clock, no random source: time and a random number are arguments.  Any
 * thread; the caller serializes.  Its peer is server_proto.h.
 *
 *   CONNECT -> ATTACH -> READY -> step in flight -> (commit) JOURNAL -> READY of the next step
 *   stream lost at any place: CONNECT again, after a back-off; STOPPED at an error that no
 *   repetition cures or when the deadline without progress is over.
 *
 * The loop of a client
 *   seam_client_proto_begin_step(cp, args)  the batch is prepared
 *   for (;;) switch (seam_client_proto_next(&action, cp, now)):
 *     CONNECT         open the stream; connected() or stream_lost()
 *     SEND_ATTACH     send Attach with the fields of `action`; done()
 *     SEND_STEP_BEGIN send unanswered AllocPropose and the step's Budget (again), AllocAck, then
 *                     StepBegin; done().  All of them are idempotent.
 *     SEND_FORWARD    encode (or repeat) the forward tensor of action.micro; done()
 *     SEND_BACKWARD   head and loss on the reply of action.micro, encode, send; done()
 *     RECEIVE         read one message and report it: attached, reply, commit (or stream_lost)
 *     BACK_OFF        wait action.wait_ms (or less: ask again)
 *     RESTORE         go back to the state after action.step committed steps; restored(), or stop()
 *     JOURNAL         step its own gates, write and flush the record of action.step; journaled()
 *     IDLE            nothing is in flight: begin the next step, or leave
 *     STOPPED         seam_client_proto_error says why
 * A message that is sent again must have the same bytes: encoders are deterministic, so it may be
 * encoded again or kept. */
#ifndef SEAM_CLIENT_PROTO_H
#define SEAM_CLIENT_PROTO_H

#include <stdbool.h>
#include <stdint.h>

#include "seam_status.h"
#include "server_proto.h"
#include "step_key.h"

#define SEAM_BACK_OFF_FIRST_MS 200u
#define SEAM_BACK_OFF_MAX_MS   30000u

typedef struct seam_client_proto_config {
    uint64_t committed_step_count; /* from the journal; 0 at first */
    uint64_t epoch_seen;           /* from the journal; 0 at first */
    uint16_t site_forward_reply;   /* id of the server's forward tensor (fwd_out) */
    uint16_t site_backward_reply;  /* id of bwd_in, or of the forward site of a gate signal */
    bool backward_reply;           /* a backward tensor is answered */
    bool has_norm;                 /* a step ends with the client's share of the norm */
    bool one_pass;                 /* there are no backward tensors: step_key.h */
    uint32_t pipeline_depth;       /* D of the session, 1..SEAM_PIPELINE_DEPTH_MAX; 0: 1 */
    uint64_t give_up_ms;           /* without progress; 0: never */
    uint64_t now_ms;               /* monotonic */
} seam_client_proto_config;

typedef enum seam_client_action_kind {
    SEAM_CLIENT_CONNECT = 1,
    SEAM_CLIENT_SEND_ATTACH,
    SEAM_CLIENT_SEND_STEP_BEGIN,
    SEAM_CLIENT_SEND_FORWARD,
    SEAM_CLIENT_SEND_BACKWARD,
    SEAM_CLIENT_RECEIVE,
    SEAM_CLIENT_BACK_OFF,
    SEAM_CLIENT_RESTORE,
    SEAM_CLIENT_JOURNAL,
    SEAM_CLIENT_IDLE,
    SEAM_CLIENT_STOPPED,
} seam_client_action_kind;

typedef struct seam_client_action {
    seam_client_action_kind kind;
    uint64_t step;       /* the step; RESTORE: committed steps to go back to */
    uint32_t micro;      /* SEND_FORWARD, SEND_BACKWARD (the step's micro count: the norm) */
    bool is_repetition;  /* the message was sent before, on an earlier stream or this one */
    uint64_t wait_ms;    /* BACK_OFF */
    uint64_t epoch_seen; /* SEND_ATTACH: fields of the message */
    uint64_t committed_step_count;
    bool step_in_flight;
} seam_client_action;

/* Plain data; fields are private to client_proto.c. */
typedef struct seam_client_proto {
    seam_client_proto_config config;
    seam_client_action_kind mode; /* CONNECT, SEND_ATTACH, RECEIVE (Attached), RESTORE, STOPPED or
                                   * IDLE: the link is up and step fields below decide */
    uint64_t epoch;
    uint64_t committed;
    uint64_t retry_at_ms;   /* 0: now */
    uint32_t failure_count; /* since the last progress */
    uint64_t progress_ms;   /* time of the last progress */
    uint64_t rollback_step;
    /* The step in flight, step number `committed`. */
    bool stream_open;
    bool in_flight;
    bool begin_sent;      /* on this stream */
    bool commit_received; /* JOURNAL is due */
    seam_step_order order;
    uint32_t sent;     /* messages of the step sent on this stream or known to have arrived */
    uint32_t sent_max; /* messages ever sent: below it a send is a repetition */
    uint32_t answered; /* messages known to have been processed */
    uint32_t replies;  /* replies received, in the order of the messages that they answer */
    uint64_t reply_digests[2]; /* of the newest forward and backward reply */
    uint64_t state_hash;
    seam_error error;
} seam_client_proto;

void seam_client_proto_init(seam_client_proto *cp, const seam_client_proto_config *config);

/* The next batch is ready as step `step`. SEAM_E_OUT_OF_SEQUENCE unless step is the committed
 * count, SEAM_E_STATE while another is in flight, SEAM_E_LIMIT (micro_count; ahead: not in 1..D).
 */
typedef struct seam_begin_step_args {
    uint64_t step;
    uint32_t micro_count;
    uint32_t ahead; /* micro-batches whose forward tensors are on their way at once; no more than
                     * micro_count are */
    uint64_t now_ms;
} seam_begin_step_args;
seam_status seam_client_proto_begin_step(seam_client_proto *cp, const seam_begin_step_args *args,
                                         seam_error *err);
/* What to do now. Changes nothing but STOPPED when the deadline has passed. */
void seam_client_proto_next(seam_client_action *ret_action, seam_client_proto *cp, uint64_t now_ms);
/* The CONNECT, SEND_* action that next() named has been carried out. */
void seam_client_proto_done(seam_client_proto *cp, const seam_client_action *action);

/* The stream could not be opened or ended with `status` (SEAM_OK counts as SEAM_E_UNAVAILABLE).
 * Cured by repetition: UNAVAILABLE, DEADLINE, CANCELLED, CHECKSUM, IO, DEVICE_LOST, INTERNAL, and
 * LIMIT and MEMORY when retry_after_ms (from RetryInfo, 0: none) is given; others stop.
 * random: 32 fresh random bits (jitter). */
typedef struct seam_stream_lost_args {
    seam_status status;
    const char *text; /* may be NULL */
    uint64_t retry_after_ms;
    uint32_t random;
    uint64_t now_ms;
} seam_stream_lost_args;
void seam_client_proto_stream_lost(seam_client_proto *cp, const seam_stream_lost_args *args);

/* Attached came.  An answer that contradicts what both sides know stops the machine:
 * SEAM_E_OUT_OF_SEQUENCE. */
typedef struct seam_attached_args {
    seam_attach_action action;
    uint64_t epoch;
    uint64_t committed_step_count;
    uint64_t rollback_step;
    uint64_t now_ms;
} seam_attached_args;
seam_status seam_client_proto_attached(seam_client_proto *cp, const seam_attached_args *args,
                                       seam_error *err);

/* A complete reply came (fwd_out; bwd_in or gate signal) with the digest of its frames.
 * *ret_is_new false: a repetition, drop it, as one that comes before an earlier one on a new
 * stream: its message goes out again, and so does the reply.  SEAM_E_OUT_OF_SEQUENCE (not awaited),
 * SEAM_E_CONFLICT (repetition with other bytes); both stop the machine. */
seam_status seam_client_proto_reply(bool *ret_is_new, seam_client_proto *cp, seam_step_key key,
                                    uint64_t digest, uint64_t now_ms, seam_error *err);
/* Whether a first frame with this key begins a reply that is awaited now. */
bool seam_client_proto_awaits(const seam_client_proto *cp, seam_step_key key);
/* Commit came.  expected_hash: the journal's state hash of that step when it is a replay, else
 * NULL; a difference stops with SEAM_E_NONDETERMINISM.  SEAM_E_OUT_OF_SEQUENCE. */
seam_status seam_client_proto_commit(bool *ret_is_new, seam_client_proto *cp, uint64_t step,
                                     uint64_t state_hash, const uint64_t *expected_hash,
                                     uint64_t now_ms, seam_error *err);
/* The record of the committed step is flushed. */
void seam_client_proto_journaled(seam_client_proto *cp);
/* The caller's state is that of `step_count` committed steps; begin_step is called for it next. */
void seam_client_proto_restored(seam_client_proto *cp, uint64_t step_count, uint64_t now_ms);
/* Give up for `status` (the caller cannot go on). */
void seam_client_proto_stop(seam_client_proto *cp, seam_status status, const char *text);

/* Reading. */
bool seam_client_proto_is_attached(const seam_client_proto *cp); /* the stream stands, answered */
uint64_t seam_client_proto_committed_count(const seam_client_proto *cp);
uint64_t seam_client_proto_epoch(const seam_client_proto *cp);
bool seam_client_proto_is_stopped(const seam_client_proto *cp); /* for good; why: _error */
const seam_error *seam_client_proto_error(const seam_client_proto *cp);
/* Does it pass by itself (seam_client_proto_stream_lost)? */
bool seam_is_cured_by_repetition(seam_status st, uint64_t retry_after_ms);
/* Wait before attempt `failure_count` (from 1): 200 ms x 1.6^(n-1), at most 30 s, times a factor
 * in [0.5, 1] taken from `random`. */
uint64_t seam_back_off_ms(uint32_t failure_count, uint32_t random);

#endif
