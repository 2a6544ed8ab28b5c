/* The server's protocol machine of one session: which message may run, which is answered from the
 * cache, which is refused.  SPEC 4.1, WIRE.md section 8.
 *
 * It is not a network layer, not a clock and not a store: every input is a call, every output is a
 * returned verdict, time and persisted facts are arguments.  It holds no bytes of any message: the
 * service keeps the cached replies and the machine says when to send them again and when they may
 * go.  No allocation, no I/O, any thread; the caller serializes the calls of one session.
 * Its peer is client_proto.h; tests/sim drives both against each other.
 *
 * Two variables make up the state:
 *
 *   link   DETACHED -attach-> ATTACHED -stream lost-> DETACHED -lease over-> PARKED -> EXPIRED
 *          FROZEN from anywhere (CONFLICT, DATA_LOSS), left only by restore; its
 *          lease over it gives its memory back, the state as it is lost, and then it is EXPIRED
 * too. phase  READY -StepBegin-> BEGUN -forward-> FORWARD_RUNNING(m) -> FORWARD_DONE(m) -backward->
 *          BACKWARD_RUNNING(m) -> BACKWARD_DONE(m) -> (next micro-batch | APPLYING) -> READY of the
 *          next step (= COMMITTED of this one).  With pipeline depth D the forward tensors of D
 *          micro-batches may come before the first backward one; the phase then names the oldest
 *          backward tensor at work, else the oldest forward one.
 *
 * The phase goes on while no stream is attached: work that was accepted is finished and its reply
 * cached.  A step in flight survives a lost stream and dies with the process or with parking;
 * nothing of it has been applied then.
 *
 * How the service drives it
 *   Attach arrives          seam_server_proto_attach, then see seam_attach_verdict
 *   StepBegin arrives       seam_server_proto_step_begin
 *   first frame of tensor   seam_server_proto_peek: decode as frames arrive, or only digest them
 *   last frame of tensor    seam_server_proto_tensor with the digest of its frames
 *   engine finished         seam_server_proto_forward_done / backward_done / committed
 *   stream ended            seam_server_proto_stream_lost
 *   timer                   seam_server_proto_tick
 * Report a work as done before its reply is sent.  Tensors are accepted (RUN) while others are at
 * work: the engine works in the order of acceptance.
 *
 * One pass.  Where the server has head and loss, a micro-batch is its forward tensor alone: its
 * reply is that of the gradient, and the last one brings the Commit; with has_norm the norm does,
 * which is accepted when all passes are finished.
 *
 * In order.  Forward and backward tensors each come in the order of their micro-batches.  F(k) is
 * accepted when B(k-D) has been, B(k) when F(k) is finished; with backward replies, both when so
 * many of these are finished as step_key.h says.  So the reply to F(k) need be kept until F(k+D),
 * and that to B(k) until B(k+R) or F(k+D+R-1): then the client has it.  With has_norm the norm
 * comes behind them all, as B(M), and the step is applied when it has; it has no reply and takes no
 * reply's place. */
#ifndef SEAM_SERVER_PROTO_H
#define SEAM_SERVER_PROTO_H

#include <stdbool.h>
#include <stdint.h>

#include "seam_status.h"
#include "step_key.h"

#define SEAM_DURABLE_MAX 8 /* checkpoints that the machine remembers */

typedef enum seam_server_link {
    SEAM_LINK_DETACHED = 0, /* no stream; the lease runs (also right after creation) */
    SEAM_LINK_ATTACHED,
    SEAM_LINK_PARKED,  /* state is on disk only */
    SEAM_LINK_EXPIRED, /* the session has ended */
    SEAM_LINK_FROZEN,  /* stopped until somebody restores a checkpoint */
} seam_server_link;

typedef enum seam_server_phase {
    SEAM_SERVER_READY = 0,
    SEAM_SERVER_BEGUN,
    SEAM_SERVER_FORWARD_RUNNING,
    SEAM_SERVER_FORWARD_DONE,
    SEAM_SERVER_BACKWARD_RUNNING,
    SEAM_SERVER_BACKWARD_DONE,
    SEAM_SERVER_APPLYING,
} seam_server_phase;

typedef struct seam_server_proto_config {
    uint64_t config_hash;    /* WIRE.md section 6 */
    uint64_t model_identity; /* WIRE.md section 6 */
    uint32_t micros_max;     /* of one step, 1..SEAM_MICROS_MAX */
    uint32_t pipeline_depth; /* D, 1..SEAM_PIPELINE_DEPTH_MAX; 0 counts as 1 */
    uint16_t site_forward;   /* id of the tensor that the client sends forward (fwd_in) */
    uint16_t site_backward;  /* and backward (bwd_out) */
    bool one_pass;           /* there are no backward tensors, but for the norm */
    bool backward_reply;     /* a backward tensor is answered (gate signal or bwd_in) */
    bool has_norm;           /* B(M), the client's share of the norm, ends a step (step_key.h) */
    bool can_park;           /* a durable store exists: lease over -> PARKED, else -> EXPIRED */
    /* A codec keeps state from step to step: a client that has lost what it sent cannot make the
     * same bytes again. */
    bool keeps_codec_state;
    uint64_t lease_ms;             /* of a detached session */
    uint64_t park_ms;              /* of a parked one until it expires */
    uint64_t committed_step_count; /* at the start: 0, or that of the checkpoint recovered from */
    uint64_t epoch;                /* at the start: 0, or the persisted one */
    uint64_t now_ms;               /* monotonic; starts the first lease */
} seam_server_proto_config;

/* What to do with a message.  Errors come as seam_status, never as a verdict. */
typedef enum seam_verdict {
    /* New and in order: do the work, after what was accepted before.  Its reply takes the place of
     * that to F(k-D), or B(k-R). */
    SEAM_VERDICT_RUN = 1,
    /* A repetition whose reply is in the cache: send it again, byte for byte. */
    SEAM_VERDICT_REPLY_CACHED,
    /* A repetition that needs no answer, or whose answer is still being computed and goes to the
     * attached stream when it is done. */
    SEAM_VERDICT_IGNORE,
    /* A repetition from a step that is committed, whose reply is gone: send the last Commit. */
    SEAM_VERDICT_ALREADY_COMMITTED,
} seam_verdict;

typedef struct seam_server_verdict {
    seam_verdict verdict;
    bool drop_cache;    /* with RUN: drop every reply of the step before, the Commit too */
    bool resend_commit; /* send the cached Commit (after the cached reply, if there is one) */
} seam_server_verdict;

typedef enum seam_attach_action {
    SEAM_ATTACH_CONTINUE = 1, /* the client begins step committed_step_count */
    SEAM_ATTACH_RESEND = 2,   /* the client repeats what it has no answer to */
    SEAM_ATTACH_ROLLBACK = 3, /* the client goes back to rollback_step and replays */
    /* Not an answer: the engine still works on a step that must be dropped.  Finish or cancel the
     * work (report it with seam_server_proto_abort_step), then call attach again; but only if its
     * stream still stands and no later Attach has come meanwhile: that one wins. */
    SEAM_ATTACH_WAIT = 4,
} seam_attach_action;

/* Epochs rise by one an Attach, and by 2^32 a start of the server: what is above is made up, and
 * the next epoch is to be above it. */
#define SEAM_EPOCH_SEEN_MAX (UINT64_MAX / 2)

typedef struct seam_attach_args {
    uint64_t epoch_seen;           /* at most SEAM_EPOCH_SEEN_MAX */
    uint64_t committed_step_count; /* the client's */
    uint64_t config_hash;
    uint64_t model_identity;
    bool step_in_flight; /* the client still holds what it sent of step committed_step_count */
    uint64_t now_ms;
} seam_attach_args;

typedef struct seam_attach_verdict {
    seam_attach_action action;
    uint64_t epoch;         /* of this stream: persist it, then answer; every later call names it */
    uint64_t rollback_step; /* with ROLLBACK */
    bool fences_stream;     /* another stream was attached: end it with SEAM_E_FENCED */
    bool drop_step; /* drop gradients and cached replies of the step in flight (nothing applied) */
    /* Load the checkpoint of `load_step_count` committed steps before answering, then call
     * seam_server_proto_restored.  If it is damaged, the one before will do (durable_list), and
     * its count is rollback_step then; while the state is whole also seam_server_proto_durable_lost
     * and attach again.  None: seam_server_proto_freeze; not now: seam_server_proto_unloaded. */
    bool load_checkpoint;
    uint64_t load_step_count;
} seam_attach_verdict;

/* Plain data so that a session can embed it; fields are private to server_proto.c. */
typedef struct seam_server_proto {
    seam_server_proto_config config;
    seam_server_link link;
    uint64_t epoch;
    uint64_t link_deadline_ms; /* end of the lease or of parking */
    uint64_t committed;        /* steps applied */
    seam_status frozen;        /* why, with SEAM_LINK_FROZEN */
    bool frozen_timed;         /* its lease runs: since the first tick that found it frozen */
    bool frozen_parked;        /* its memory was given back */
    /* The step in flight: step number is `committed`. */
    bool begun;
    uint64_t begin_digest;
    uint32_t micro_count;
    uint32_t depth; /* micro-batches between forward and backward, at most: D or less */
    /* Tensors of a phase taken so far, and finished by the engine; [0] forward, [1] backward. */
    uint32_t accepted[2], finished[2];
    bool applying;
    uint64_t digests[2][SEAM_PIPELINE_DEPTH_MAX]; /* of the newest accepted, by micro % MAX */
    /* The step before, while its replies are cached. */
    bool last_cached;
    uint64_t last_begin_digest;
    uint32_t last_micro_count;
    /* Forward of its last micro-batch (one pass: of its last D, whose answers a client may lack),
     * by micro % MAX; backward of its last two, by micro % 2. */
    uint64_t last_forward_digests[SEAM_PIPELINE_DEPTH_MAX], last_backward_digests[2];
    uint64_t last_norm_digest;
    bool reloaded; /* from a checkpoint, and no step has begun since */
    /* Durable checkpoints, rising. */
    uint64_t durable[SEAM_DURABLE_MAX];
    uint32_t durable_count;
    uint64_t confirmed; /* newest checkpoint that the client confirmed */
} seam_server_proto;

/* Asserts the ranges of config.  The session starts DETACHED with its lease running. */
void seam_server_proto_init(seam_server_proto *sp, const seam_server_proto_config *config);

/* A client shows itself (the service has checked the secret before).  The newest attach wins:
 * an older stream is fenced.  On SEAM_OK with another action than WAIT the session is ATTACHED
 * under verdict->epoch = max(own, epoch_seen) + 1.
 *   client count = ours:      nothing begun -> CONTINUE; begun and step_in_flight -> RESEND;
 *                             begun but the client holds nothing -> drop the step, CONTINUE;
 *                             reloaded and nothing begun since -> ROLLBACK to ours: the client's
 *                             codecs begin anew, as this end's did
 *   client count = ours - 1:  the replies of that step are cached and the client holds it (or it
 *                             had one micro-batch and no codec keeps state) -> RESEND
 *   client count < ours:      newest durable checkpoint <= the client's -> ROLLBACK, load it
 *   client count > ours:      ROLLBACK to ours (drop the step in flight)
 * A parked session first loads its newest durable checkpoint (load_checkpoint).  Errors (session
 * unchanged): SEAM_E_ARG (config_hash, model_identity, epoch_seen), SEAM_E_GONE (expired, or no
 * checkpoint to go back to), the reason of freezing. */
seam_status seam_server_proto_attach(seam_attach_verdict *ret_verdict, seam_server_proto *sp,
                                     const seam_attach_args *args, seam_error *err);

/* StepBegin.  RUN: the step begins (drop_cache false: replies of the step before stay until the
 * first forward tensor).  IGNORE: repetition.  ALREADY_COMMITTED: older step.
 * SEAM_E_FENCED, SEAM_E_CONFLICT (freezes), SEAM_E_OUT_OF_SEQUENCE (names the expected step),
 * SEAM_E_LIMIT (micro_count, pipeline_depth). */
typedef struct seam_step_begin_args {
    uint64_t epoch;
    uint64_t step;
    uint64_t digest;
    uint32_t micro_count;
    uint32_t pipeline_depth; /* from this step on, never more than before; 0: as before */
} seam_step_begin_args;
seam_status seam_server_proto_step_begin(seam_server_verdict *ret_verdict, seam_server_proto *sp,
                                         const seam_step_begin_args *args, seam_error *err);

/* What a tensor with this key would meet, before its digest is known; changes nothing.
 * RUN: decode its frames as they come.  Otherwise a repetition: only digest them, then call
 * seam_server_proto_tensor.  SEAM_E_FENCED, SEAM_E_OUT_OF_SEQUENCE, the reason of freezing. */
seam_status seam_server_proto_peek(seam_verdict *ret_verdict, const seam_server_proto *sp,
                                   uint64_t epoch, seam_step_key key, seam_error *err);
/* All frames of a tensor have come; `digest` is that of its frames (seam_frame_digest_add).
 * Verdicts as above.  SEAM_E_FENCED, SEAM_E_OUT_OF_SEQUENCE (names what is expected),
 * SEAM_E_CONFLICT (same key, other digest: freezes the session). */
seam_status seam_server_proto_tensor(seam_server_verdict *ret_verdict, seam_server_proto *sp,
                                     uint64_t epoch, seam_step_key key, uint64_t digest,
                                     seam_error *err);

/* The newest accepted tensor of this phase has not been begun and will not be: its client has gone
 * and repeats it.  Newest first. */
void seam_server_proto_withdraw(seam_server_proto *sp, uint32_t micro, uint8_t phase);

/* The engine finished the oldest unfinished work of its phase, which is asserted to be this one.
 * The reply goes into the cache and to the attached stream, if there is one.
 * True (forward: with one_pass only): it was the last of the step; the machine is APPLYING and the
 * engine must now apply the step and call seam_server_proto_committed. */
bool seam_server_proto_forward_done(seam_server_proto *sp, uint64_t step, uint32_t micro);
bool seam_server_proto_backward_done(seam_server_proto *sp, uint64_t step, uint32_t micro);
/* The step is applied (or deterministically skipped): READY of step + 1. The Commit goes into the
 * cache and to the attached stream. */
void seam_server_proto_committed(seam_server_proto *sp, uint64_t step);
/* The engine could not finish the step, or its work was cancelled: back to READY of the same step,
 * nothing applied, cached replies of the step dropped (the caller drops the bytes). */
void seam_server_proto_abort_step(seam_server_proto *sp);

/* The stream of `epoch` ended (also by Detach). An older epoch changes nothing. */
void seam_server_proto_stream_lost(seam_server_proto *sp, uint64_t epoch, uint64_t now_ms);

typedef enum seam_lease_action {
    SEAM_LEASE_NONE = 0,
    /* Write a checkpoint if the newest durable one is older than committed_step_count (never of a
     * session that is FROZEN), free the memory, then call seam_server_proto_parked. */
    SEAM_LEASE_PARK,
    SEAM_LEASE_EXPIRE, /* the session is EXPIRED: free everything */
} seam_lease_action;
/* Time passed. Never parks or expires while work runs. */
seam_lease_action seam_server_proto_tick(seam_server_proto *sp, uint64_t now_ms);
/* The session was used without being attached to (another call with its secret): the lease of one
 * that is detached, or frozen and has its memory, begins anew. */
void seam_server_proto_touch(seam_server_proto *sp, uint64_t now_ms);
/* After SEAM_LEASE_PARK.  FROZEN stays FROZEN, without memory.  A client that attached meanwhile:
 * SEAM_E_STATE, keep the memory. */
seam_status seam_server_proto_parked(seam_server_proto *sp, uint64_t now_ms);
/* The verdict's checkpoint could not be loaded for a reason that may pass: PARKED at the newest
 * one, whatever became of the state, which is loaded again when it is needed. */
void seam_server_proto_unloaded(seam_server_proto *sp, uint64_t now_ms);
/* End the session now (DeleteSession).  Work of the engine is dropped: do not report it. */
void seam_server_proto_expire(seam_server_proto *sp);

/* A checkpoint of `step_count` committed steps is durable: told only after fsync of the file, the
 * rename, fsync of the directory and the manifest. With SEAM_DURABLE_MAX kept, the oldest that
 * is below the confirmed one is forgotten; SEAM_E_LIMIT when none is (do not write another).
 * SEAM_E_STATE: a rollback has undone that step meanwhile, or a later one is confirmed; delete the
 * file. */
seam_status seam_server_proto_durable_add(seam_server_proto *sp, uint64_t step_count);
/* The client confirmed the checkpoint of `step_count`: older ones may be deleted. Returns the
 * count below which files may go (0: none). SEAM_E_ARG for one that is not durable. */
seam_status seam_server_proto_durable_confirm(uint64_t *ret_keep_from, seam_server_proto *sp,
                                              uint64_t step_count, seam_error *err);
/* For the checkpoint that parking has written, which must have a place: where there is none, the
 * oldest but one is forgotten, so that a client that has confirmed nothing still finds one that it
 * can go back to.  True: *ret_gone is that one, whose files may go. */
bool seam_server_proto_durable_make_room(uint64_t *ret_gone, seam_server_proto *sp);
/* Can another checkpoint be added? */
bool seam_server_proto_durable_has_room(const seam_server_proto *sp);
/* All of them, rising; returns their count. */
uint32_t seam_server_proto_durable_list(uint64_t ret_step_counts[SEAM_DURABLE_MAX],
                                        const seam_server_proto *sp);
/* A checkpoint turned out to be damaged: forget it. */
void seam_server_proto_durable_lost(seam_server_proto *sp, uint64_t step_count);
/* The newest durable count that is at most step_count; false: none. */
bool seam_server_proto_durable_find(uint64_t *ret_step_count, const seam_server_proto *sp,
                                    uint64_t step_count);
/* Newest durable count; false: none. */
bool seam_server_proto_durable_newest(uint64_t *ret_step_count, const seam_server_proto *sp);

/* The session's state is that of `step_count` committed steps (checkpoint loaded): READY there, no
 * cached replies.  Ends FROZEN and PARKED. */
void seam_server_proto_restored(seam_server_proto *sp, uint64_t step_count, uint64_t now_ms);
/* Stop the session for `reason` (CONFLICT, DATA_LOSS). */
void seam_server_proto_freeze(seam_server_proto *sp, seam_status reason);

/* Reading. */
seam_server_link seam_server_proto_link(const seam_server_proto *sp);
/* Why it is FROZEN. */
seam_status seam_server_proto_frozen(const seam_server_proto *sp);
seam_server_phase seam_server_proto_phase(uint32_t *ret_micro, const seam_server_proto *sp);
uint64_t seam_server_proto_epoch(const seam_server_proto *sp);
uint64_t seam_server_proto_committed_count(const seam_server_proto *sp);
/* Work accepted and not finished, or a step being applied. */
bool seam_server_proto_is_busy(const seam_server_proto *sp);
/* "DETACHED": for logs. */
const char *seam_server_link_name(seam_server_link link);

#endif
