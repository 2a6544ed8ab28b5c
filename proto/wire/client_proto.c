/* The client's machine; see client_proto.h.
 *
 * The step in flight is a handful of counters over the message order of step_key.h:
 *   answered  messages known to have been processed (a reply, a later reply or the Commit says so)
 *   sent      messages that this stream has carried, or that need not be carried again
 *   sent_max  messages ever sent
 *   replies   tensors answered
 * After a reconnection with RESEND `sent` falls back to `answered`, and StepBegin goes out again in
 * front: what follows is the ordinary way of sending. */
#include "client_proto.h"

#include <string.h>

#include "try.h"

static void stop_with(seam_client_proto *cp, const seam_error *error);
static void progress(seam_client_proto *cp, uint64_t now_ms);
static void sent_raise(seam_client_proto *cp, uint32_t count);
static bool can_send(const seam_client_proto *cp, uint32_t idx);
static void step_clear(seam_client_proto *cp);
static void step_rewind(seam_client_proto *cp);

void seam_client_proto_init(seam_client_proto *cp, const seam_client_proto_config *config) {
    *cp = (seam_client_proto){.config = *config,
                              .mode = SEAM_CLIENT_CONNECT,
                              .epoch = config->epoch_seen,
                              .committed = config->committed_step_count,
                              .progress_ms = config->now_ms};
    cp->config.pipeline_depth = config->pipeline_depth > 0 ? config->pipeline_depth : 1;
}

seam_status seam_client_proto_begin_step(seam_client_proto *cp, const seam_begin_step_args *args,
                                         seam_error *err) {
    const uint64_t step = args->step;
    const uint32_t micro_count = args->micro_count;
    if (cp->mode == SEAM_CLIENT_STOPPED || cp->mode == SEAM_CLIENT_RESTORE || cp->in_flight) {
        return seam_error_set(err, SEAM_E_STATE, "step %llu cannot begin: %s",
                              (unsigned long long)step,
                              cp->in_flight ? "another is in flight" : "the session is not ready");
    }
    if (step != cp->committed) {
        return seam_error_set(err, SEAM_E_OUT_OF_SEQUENCE, "step %llu cannot begin: expected %llu",
                              (unsigned long long)step, (unsigned long long)cp->committed);
    }
    const uint32_t micros_max = SEAM_MICROS_MAX - (cp->config.has_norm ? 1u : 0u);
    if (micro_count < 1 || micro_count > micros_max) {
        return seam_error_set(err, SEAM_E_LIMIT, "micros: %u, at most %u", micro_count, micros_max);
    }
    if (args->ahead < 1 || args->ahead > cp->config.pipeline_depth) {
        return seam_error_set(err, SEAM_E_LIMIT, "ahead: %u micro-batches, the session allows %u",
                              args->ahead, cp->config.pipeline_depth);
    }
    step_clear(cp);
    cp->in_flight = true;
    cp->order = (seam_step_order){.micro_count = micro_count,
                                  .ahead = args->ahead < micro_count ? args->ahead : micro_count,
                                  .has_norm = cp->config.has_norm,
                                  .one_pass = cp->config.one_pass};
    if (cp->failure_count == 0) {
        cp->progress_ms = args->now_ms; /* the time between steps does not count */
    }
    return SEAM_OK;
}

/* ---- actions ---- */

/* The link is up: what the step in flight needs. */
static void next_of_step(seam_client_action *ret, const seam_client_proto *cp) {
    ret->kind = SEAM_CLIENT_RECEIVE;
    if (!cp->in_flight) {
        ret->kind = SEAM_CLIENT_IDLE;
    } else if (!cp->begin_sent) {
        ret->kind = SEAM_CLIENT_SEND_STEP_BEGIN;
        ret->is_repetition = cp->sent_max > 0;
    } else if (cp->sent < seam_step_message_count(cp->order) && can_send(cp, cp->sent)) {
        uint8_t phase = 0;
        seam_step_message_at(&ret->micro, &phase, cp->order, cp->sent);
        ret->kind =
            phase == SEAM_PHASE_FORWARD ? SEAM_CLIENT_SEND_FORWARD : SEAM_CLIENT_SEND_BACKWARD;
        ret->is_repetition = cp->sent < cp->sent_max;
    }
}

static void deadline_check(seam_client_proto *cp, uint64_t now_ms) {
    const bool waits = cp->mode != SEAM_CLIENT_STOPPED && cp->mode != SEAM_CLIENT_RESTORE &&
                       (cp->mode != SEAM_CLIENT_IDLE || cp->in_flight) && !cp->commit_received;
    if (waits && cp->config.give_up_ms > 0 && now_ms >= cp->progress_ms &&
        now_ms - cp->progress_ms >= cp->config.give_up_ms) {
        seam_error error = {0};
        (void)seam_error_set(&error, SEAM_E_DEADLINE, "no progress for %llu s",
                             (unsigned long long)((now_ms - cp->progress_ms) / 1000));
        if (cp->error.status != SEAM_OK) { /* the last failed attempt says why */
            const seam_error last = cp->error;
            (void)seam_error_set(&error, SEAM_E_DEADLINE, "no progress for %llu s: %.400s",
                                 (unsigned long long)((now_ms - cp->progress_ms) / 1000),
                                 last.text);
        }
        stop_with(cp, &error);
    }
}

void seam_client_proto_next(seam_client_action *ret_action, seam_client_proto *cp,
                            uint64_t now_ms) {
    deadline_check(cp, now_ms);
    seam_client_action action = {.kind = cp->mode, .step = cp->committed};
    if (cp->mode == SEAM_CLIENT_STOPPED) {
        *ret_action = action;
        return;
    }
    if (cp->commit_received) {
        action.kind = SEAM_CLIENT_JOURNAL; /* also without a stream: nothing is lost then */
        *ret_action = action;
        return;
    }
    switch (cp->mode) {
    case SEAM_CLIENT_CONNECT:
        if (now_ms < cp->retry_at_ms) {
            action.kind = SEAM_CLIENT_BACK_OFF;
            action.wait_ms = cp->retry_at_ms - now_ms;
        }
        break;
    case SEAM_CLIENT_SEND_ATTACH:
        action.epoch_seen = cp->epoch;
        action.committed_step_count = cp->committed;
        action.step_in_flight = cp->in_flight && cp->sent_max > 0;
        break;
    case SEAM_CLIENT_RESTORE:
        action.step = cp->rollback_step;
        break;
    case SEAM_CLIENT_IDLE:
        next_of_step(&action, cp);
        break;
    default:
        SEAM_ASSERT(cp->mode == SEAM_CLIENT_RECEIVE); /* Attached is awaited */
        break;
    }
    *ret_action = action;
}

void seam_client_proto_done(seam_client_proto *cp, const seam_client_action *action) {
    switch (action->kind) {
    case SEAM_CLIENT_CONNECT:
        SEAM_ASSERT(cp->mode == SEAM_CLIENT_CONNECT);
        cp->mode = SEAM_CLIENT_SEND_ATTACH;
        cp->stream_open = true;
        break;
    case SEAM_CLIENT_SEND_ATTACH:
        SEAM_ASSERT(cp->mode == SEAM_CLIENT_SEND_ATTACH);
        cp->mode = SEAM_CLIENT_RECEIVE;
        break;
    case SEAM_CLIENT_SEND_STEP_BEGIN:
        SEAM_ASSERT(cp->mode == SEAM_CLIENT_IDLE);
        cp->begin_sent = true;
        sent_raise(cp, 1);
        break;
    default:
        SEAM_ASSERT(action->kind == SEAM_CLIENT_SEND_FORWARD ||
                    action->kind == SEAM_CLIENT_SEND_BACKWARD);
        SEAM_ASSERT(cp->mode == SEAM_CLIENT_IDLE);
        SEAM_ASSERT(cp->begin_sent);
        /* The reply to an earlier sending may have come meanwhile: never count twice. */
        sent_raise(cp, 1 + seam_step_message_idx(cp->order, action->micro,
                                                 action->kind == SEAM_CLIENT_SEND_FORWARD
                                                     ? SEAM_PHASE_FORWARD
                                                     : SEAM_PHASE_BACKWARD));
        break;
    }
}

static void sent_raise(seam_client_proto *cp, uint32_t count) {
    cp->sent = cp->sent > count ? cp->sent : count;
    cp->sent_max = cp->sent_max > cp->sent ? cp->sent_max : cp->sent;
}

/* Number of the reply to (micro, phase) in the order in which replies come, which is that of the
 * messages. */
static uint32_t number_of(const seam_client_proto *cp, uint32_t micro, uint8_t phase) {
    return cp->config.backward_reply ? seam_step_message_idx(cp->order, micro, phase) - 1 : micro;
}

/* The order of step_key.h, and the replies that a message is computed from or must not overtake. */
static bool can_send(const seam_client_proto *cp, uint32_t idx) {
    uint32_t micro = 0;
    uint8_t phase = 0;
    seam_step_message_at(&micro, &phase, cp->order, idx);
    if (cp->order.one_pass) { /* the server keeps the answers to the last D; the norm is of all */
        return micro < cp->order.micro_count ? micro < cp->replies + cp->order.ahead
                                             : cp->replies == micro;
    }
    if (micro == cp->order.micro_count) {
        return true; /* the norm: who made it has had what it is made of */
    }
    if (phase == SEAM_PHASE_BACKWARD && cp->replies <= number_of(cp, micro, SEAM_PHASE_FORWARD)) {
        return false;
    }
    const uint32_t needed = seam_step_replies_needed(cp->config.pipeline_depth, micro, phase);
    return !cp->config.backward_reply || needed == 0 ||
           cp->replies > number_of(cp, needed - 1, SEAM_PHASE_BACKWARD);
}

/* ---- events ---- */

void seam_client_proto_stream_lost(seam_client_proto *cp, const seam_stream_lost_args *args) {
    if (cp->mode == SEAM_CLIENT_STOPPED) {
        return;
    }
    const seam_status st = args->status == SEAM_OK ? SEAM_E_UNAVAILABLE : args->status;
    const char *const text = args->text != NULL ? args->text : seam_status_text(st);
    (void)seam_error_set(&cp->error, st, "%.480s", text);
    cp->begin_sent = false;
    cp->stream_open = false;
    if (!seam_is_cured_by_repetition(st, args->retry_after_ms)) {
        cp->mode = SEAM_CLIENT_STOPPED;
        return;
    }
    if (cp->failure_count == 0) {
        cp->progress_ms = args->now_ms; /* the outage begins */
    }
    cp->failure_count++;
    const uint64_t back_off_ms = seam_back_off_ms(cp->failure_count, args->random);
    cp->retry_at_ms =
        args->now_ms + (back_off_ms > args->retry_after_ms ? back_off_ms : args->retry_after_ms);
    if (cp->mode != SEAM_CLIENT_RESTORE) { /* which goes on to CONNECT when it is done */
        cp->mode = SEAM_CLIENT_CONNECT;
    }
}

bool seam_is_cured_by_repetition(seam_status st, uint64_t retry_after_ms) {
    switch (st) {
    case SEAM_E_UNAVAILABLE:
    case SEAM_E_DEADLINE:
    case SEAM_E_CANCELLED:
    case SEAM_E_CHECKSUM:
    case SEAM_E_IO:
    case SEAM_E_DEVICE_LOST:
    case SEAM_E_INTERNAL:
        return true;
    case SEAM_E_LIMIT:
    case SEAM_E_MEMORY:
        return retry_after_ms > 0; /* else it is the request that is too large */
    default:
        return false;
    }
}

static seam_status contradiction(seam_client_proto *cp, seam_error *err, const char *what,
                                 uint64_t server_count) {
    seam_error error = {0};
    (void)seam_error_set(&error, SEAM_E_OUT_OF_SEQUENCE,
                         "attached: %s (server at step %llu, client at %llu)", what,
                         (unsigned long long)server_count, (unsigned long long)cp->committed);
    stop_with(cp, &error);
    return seam_error_set(err, error.status, "%s", error.text);
}

seam_status seam_client_proto_attached(seam_client_proto *cp, const seam_attached_args *args,
                                       seam_error *err) {
    const uint64_t theirs = args->committed_step_count;
    if (cp->mode != SEAM_CLIENT_RECEIVE) {
        return contradiction(cp, err, "not awaited", theirs);
    }
    if (args->epoch <= cp->epoch) {
        return contradiction(cp, err, "epoch does not rise", theirs);
    }
    switch (args->action) {
    case SEAM_ATTACH_CONTINUE:
        if (theirs != cp->committed) {
            return contradiction(cp, err, "CONTINUE from another step", theirs);
        }
        /* The server holds nothing of the step.  What was not answered is repeated from the start;
         * answers that came before are of work that the server has lost. */
        cp->mode = SEAM_CLIENT_IDLE;
        if (cp->in_flight && cp->replies > 0) {
            cp->mode = SEAM_CLIENT_RESTORE;
            cp->rollback_step = cp->committed;
        }
        cp->answered = 0;
        break;
    case SEAM_ATTACH_RESEND:
        if (theirs != cp->committed && theirs != cp->committed + 1) {
            return contradiction(cp, err, "RESEND from another step", theirs);
        }
        cp->mode = SEAM_CLIENT_IDLE;
        break;
    case SEAM_ATTACH_ROLLBACK:
        if (args->rollback_step > cp->committed || theirs < args->rollback_step) {
            return contradiction(cp, err, "ROLLBACK to a later step", theirs);
        }
        cp->mode = SEAM_CLIENT_RESTORE;
        cp->rollback_step = args->rollback_step;
        break;
    default:
        return contradiction(cp, err, "unknown action", theirs);
    }
    cp->epoch = args->epoch;
    step_rewind(cp);
    cp->retry_at_ms = 0;
    return SEAM_OK;
}

static seam_status refuse(seam_client_proto *cp, seam_error *err, seam_status st, const char *what,
                          seam_step_key key) {
    seam_error error = {0};
    (void)seam_error_set(&error, st, "%s of step %llu, micro %u, phase %u, site %u", what,
                         (unsigned long long)key.step, key.micro, key.phase, key.site);
    stop_with(cp, &error);
    return seam_error_set(err, st, "%s", error.text);
}

/* Number of a reply in the order in which replies come: all of a step count on. */
static bool reply_number(uint32_t *ret_number, const seam_client_proto *cp, seam_step_key key) {
    const bool forward = key.phase == SEAM_PHASE_FORWARD;
    if ((!forward && (key.phase != SEAM_PHASE_BACKWARD || !cp->config.backward_reply)) ||
        key.site != (forward ? cp->config.site_forward_reply : cp->config.site_backward_reply) ||
        key.micro >= SEAM_MICROS_MAX) {
        return false;
    }
    *ret_number = key.micro < cp->order.micro_count ? number_of(cp, key.micro, key.phase)
                                                    : 2 * SEAM_MICROS_MAX; /* none of this step */
    return true;
}

/* Messages that the reply with this number answers: a reply to message i says that all up to i have
 * been processed. */
static uint32_t answered_by(const seam_client_proto *cp, uint32_t number) {
    return cp->config.backward_reply
               ? number + 2
               : seam_step_message_idx(cp->order, number, SEAM_PHASE_FORWARD) + 1;
}

/* With several tensors at work when a stream broke, the next one may bring the reply to a later one
 * before the server has seen any of them again: it then sees that one again too, and its reply
 * comes once more, in order. */
static bool is_early(const seam_client_proto *cp, uint32_t number) {
    return cp->config.pipeline_depth > 1 && number < 2 * cp->order.micro_count &&
           answered_by(cp, number) <= cp->sent_max;
}

bool seam_client_proto_awaits(const seam_client_proto *cp, seam_step_key key) {
    uint32_t number = 0;
    return cp->mode == SEAM_CLIENT_IDLE && cp->in_flight && !cp->commit_received &&
           key.step == cp->committed && reply_number(&number, cp, key) && number == cp->replies &&
           answered_by(cp, number) <= cp->sent_max;
}

seam_status seam_client_proto_reply(bool *ret_is_new, seam_client_proto *cp, seam_step_key key,
                                    uint64_t digest, uint64_t now_ms, seam_error *err) {
    uint32_t number = 0;
    if (cp->mode == SEAM_CLIENT_STOPPED) {
        return seam_error_set(err, SEAM_E_STATE, "the session has stopped");
    }
    if (cp->mode != SEAM_CLIENT_IDLE || !reply_number(&number, cp, key) ||
        key.step > cp->committed) {
        return refuse(cp, err, SEAM_E_OUT_OF_SEQUENCE, "unexpected reply", key);
    }
    if (seam_client_proto_awaits(cp, key)) {
        cp->reply_digests[number % 2] = digest;
        cp->replies = number + 1;
        const uint32_t answered = answered_by(cp, number);
        /* The last message counts as answered by the Commit only: a repetition of it is what brings
         * a lost Commit back. */
        if (answered < seam_step_message_count(cp->order)) {
            cp->answered = answered;
        }
        /* Work that was running while the stream broke is answered on the new one, perhaps before
         * its message is sent again: then it need not be. */
        sent_raise(cp, cp->answered);
        progress(cp, now_ms);
        *ret_is_new = true;
        return SEAM_OK;
    }
    if (key.step == cp->committed && cp->in_flight) {
        if (number >= cp->replies && is_early(cp, number)) {
            *ret_is_new = false;
            return SEAM_OK;
        }
        if (number >= cp->replies) {
            return refuse(cp, err, SEAM_E_OUT_OF_SEQUENCE, "reply too early", key);
        }
        if (number + 2 >= cp->replies && cp->reply_digests[number % 2] != digest) {
            return refuse(cp, err, SEAM_E_CONFLICT, "repeated reply with other bytes", key);
        }
    } else if (key.step == cp->committed) {
        return refuse(cp, err, SEAM_E_OUT_OF_SEQUENCE, "reply before the step", key);
    }
    *ret_is_new = false;
    return SEAM_OK;
}

seam_status seam_client_proto_commit(bool *ret_is_new, seam_client_proto *cp, uint64_t step,
                                     uint64_t state_hash, const uint64_t *expected_hash,
                                     uint64_t now_ms, seam_error *err) {
    const seam_step_key key = {.step = step};
    if (cp->mode == SEAM_CLIENT_STOPPED) {
        return seam_error_set(err, SEAM_E_STATE, "the session has stopped");
    }
    if (step < cp->committed || (step == cp->committed && cp->commit_received)) {
        *ret_is_new = false;
        return SEAM_OK;
    }
    const uint32_t count = cp->in_flight ? seam_step_message_count(cp->order) : 0;
    const uint32_t replies =
        cp->config.backward_reply ? 2 * cp->order.micro_count : cp->order.micro_count;
    if (cp->mode == SEAM_CLIENT_IDLE && cp->in_flight && step == cp->committed &&
        cp->config.pipeline_depth > 1 && cp->sent_max == count && cp->replies < replies) {
        *ret_is_new = false; /* early, as is_early says */
        return SEAM_OK;
    }
    if (cp->mode != SEAM_CLIENT_IDLE || step > cp->committed || !cp->in_flight ||
        cp->sent_max < count || cp->replies < replies) {
        return refuse(cp, err, SEAM_E_OUT_OF_SEQUENCE, "unexpected commit", key);
    }
    if (expected_hash != NULL && *expected_hash != state_hash) {
        seam_error error = {0};
        (void)seam_error_set(&error, SEAM_E_NONDETERMINISM,
                             "replay of step %llu: state hash %016llx, it was %016llx",
                             (unsigned long long)step, (unsigned long long)state_hash,
                             (unsigned long long)*expected_hash);
        stop_with(cp, &error);
        return seam_error_set(err, error.status, "%s", error.text);
    }
    cp->answered = count;
    cp->commit_received = true;
    cp->state_hash = state_hash;
    progress(cp, now_ms);
    *ret_is_new = true;
    return SEAM_OK;
}

void seam_client_proto_journaled(seam_client_proto *cp) {
    SEAM_ASSERT(cp->commit_received);
    cp->committed++;
    step_clear(cp);
}

void seam_client_proto_restored(seam_client_proto *cp, uint64_t step_count, uint64_t now_ms) {
    SEAM_ASSERT(cp->mode == SEAM_CLIENT_RESTORE);
    SEAM_ASSERT(step_count == cp->rollback_step);
    cp->committed = step_count;
    step_clear(cp);
    cp->progress_ms = now_ms;
    cp->mode = cp->stream_open ? SEAM_CLIENT_IDLE : SEAM_CLIENT_CONNECT;
}

void seam_client_proto_stop(seam_client_proto *cp, seam_status status, const char *text) {
    SEAM_ASSERT(status != SEAM_OK);
    seam_error error = {0};
    (void)seam_error_set(&error, status, "%.480s", text != NULL ? text : seam_status_text(status));
    stop_with(cp, &error);
}

/* ---- parts ---- */

static void stop_with(seam_client_proto *cp, const seam_error *error) {
    if (cp->mode != SEAM_CLIENT_STOPPED) {
        cp->mode = SEAM_CLIENT_STOPPED;
        cp->error = *error;
    }
}

static void progress(seam_client_proto *cp, uint64_t now_ms) {
    cp->failure_count = 0;
    cp->progress_ms = now_ms;
    cp->error = (seam_error){0};
}

static void step_clear(seam_client_proto *cp) {
    cp->in_flight = false;
    cp->begin_sent = false;
    cp->commit_received = false;
    cp->order = (seam_step_order){0};
    cp->sent = 0;
    cp->sent_max = 0;
    cp->answered = 0;
    cp->replies = 0;
    memset(cp->reply_digests, 0, sizeof cp->reply_digests);
}

/* A new stream: everything that is not known to have been processed goes out again, behind a
 * StepBegin. */
static void step_rewind(seam_client_proto *cp) {
    cp->begin_sent = false;
    cp->sent = cp->answered;
}

uint64_t seam_back_off_ms(uint32_t failure_count, uint32_t random) {
    double wait_ms = SEAM_BACK_OFF_FIRST_MS;
    for (uint32_t i = 1; i < failure_count && wait_ms < SEAM_BACK_OFF_MAX_MS; i++) {
        wait_ms *= 1.6;
    }
    wait_ms = wait_ms < SEAM_BACK_OFF_MAX_MS ? wait_ms : SEAM_BACK_OFF_MAX_MS;
    const double factor = 0.5 + 0.5 * (double)random / 4294967295.0;
    return (uint64_t)(wait_ms * factor);
}

/* ---- reading ---- */

bool seam_client_proto_is_attached(const seam_client_proto *cp) {
    return cp->stream_open && cp->mode == SEAM_CLIENT_IDLE;
}

uint64_t seam_client_proto_committed_count(const seam_client_proto *cp) {
    return cp->committed;
}

uint64_t seam_client_proto_epoch(const seam_client_proto *cp) {
    return cp->epoch;
}

bool seam_client_proto_is_stopped(const seam_client_proto *cp) {
    return cp->mode == SEAM_CLIENT_STOPPED;
}

const seam_error *seam_client_proto_error(const seam_client_proto *cp) {
    return &cp->error;
}
