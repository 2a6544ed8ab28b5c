/* What a Train stream sends: Attached, grants, replies out of the session's cache, the Commit, the
 * proposal, in this order; and the timeline's spans about tensors.
 * Read next: rpc_train.c, seam_train_pump, which drives it. */
#include <string.h>

#include "train_stream.h"
#include "try.h"

#define OUTBOX_MESSAGES 2 /* chunks handed to gRPC ahead of time */

/* A span of the timeline about a tensor. */
void seam_train_span_end(const seam_session *session, const char *name, uint32_t lane,
                         uint64_t begin_ns, const seam_step_key *key) {
    const seam_span span = {
        .name = name, .begin_ns = begin_ns, .step = key->step, .micro = key->micro, .lane = lane};
    seam_trace_end(session->config.trace, &span);
}

const char *seam_train_phase_name(const seam_step_key *key) {
    return key->phase == SEAM_PHASE_FORWARD ? "forward" : "backward";
}

const seam_reply *seam_train_reply_of(const seam_session *session, const seam_step_key *key) {
    return key->phase == SEAM_PHASE_FORWARD
               ? seam_trainer_forward_reply(session->trainer, key->micro)
               : seam_trainer_backward_reply(session->trainer, key->micro);
}

bool seam_train_is_going_out(const seam_train *train, const seam_reply *reply) {
    for (uint32_t i = 0; i < train->out_count; i++) {
        if (train->out_replies[i].reply == reply) {
            return true;
        }
    }
    return false;
}

/* A reply that is on its way already is not sent twice. */
void seam_train_reply_queue(seam_train *train, const seam_step_key *key) {
    const seam_reply *reply = seam_train_reply_of(train->session, key);
    if (seam_train_is_going_out(train, reply)) {
        return;
    }
    SEAM_ASSERT(train->out_count < SEAM_TRAIN_REPLIES_MAX);
    train->out_replies[train->out_count++] = (seam_train_reply){
        .reply = reply, .key = *key, .begin_ns = seam_trace_begin(train->session->config.trace)};
}

/* The next thing of the queue; false when the outbox is full or nothing is left. */
bool seam_train_send_next(seam_train *train) {
    seam_call *call = train->call;
    seam_session *session = train->session;
    if (call->outbox_count >= OUTBOX_MESSAGES) {
        return false;
    }
    if (train->out_attached && !session->busy) {
        train->out_attached = false;
        return seam_train_send_attached(train);
    }
    uint64_t limit_bytes = 0;
    if (!train->out_attached && seam_credit_rx_grant(&limit_bytes, &train->credit_rx)) {
        return seam_train_send_credit(train, limit_bytes);
    }
    while (train->out_count > 0) {
        const seam_train_reply out = train->out_replies[0];
        if (train->out_next < out.reply->message_count) {
            const struct seam_reply_message *message = &out.reply->messages[train->out_next];
            if (!seam_train_may_send(train, message->message_bytes)) {
                return false;
            }
            train->out_next++;
            return seam_call_send(call, out.reply->bytes + message->offset, message->message_bytes);
        }
        train->out_next = 0;
        train->out_count--;
        memmove(train->out_replies, train->out_replies + 1,
                train->out_count * sizeof *train->out_replies);
        seam_train_span_end(session, seam_train_phase_name(&out.key), SEAM_LANE_SEND, out.begin_ns,
                            &out.key);
    }
    if (train->out_commit) {
        train->out_commit = false;
        return seam_call_send(call, session->commit, session->commit_bytes);
    }
    if (train->out_proposal && !session->busy) { /* the last job of a step moves it */
        train->out_proposal = false;
        const seam_alloc *alloc =
            seam_site_unanswered(seam_trainer_site(session->trainer, SEAM_SITE_FWD_OUT));
        return alloc == NULL || seam_train_send_proposal(train, alloc);
    }
    return false;
}

bool seam_train_has_output(const seam_train *train) {
    return train->out_attached || train->out_count > 0 || train->out_commit || train->out_proposal;
}
