/* The loop between the protocol machine (proto/wire/client_proto.h) and the network: it carries out
 * the machine's actions until a goal of the caller is reached.  What arrives is receive.c's.
 *
 * Two kinds of failure.  The stream's: the machine decides whether to try again (net_failed).  The
 * bytes': what arrived is wrong, and no repetition cures that: the machine is stopped.
 *
 * The machine's own deadline is off, because it would count the caller's thinking time too: here
 * the time since the first failure counts (lost_since_ms), until the server answers an Attach: an
 * outage is over then, whatever the next one brings.  Attaches without anything behind them are
 * counted, so that a server that dies of our step is not tried for ever.
 * Read next: transport/grpc_stream.c, what a stream is. */
#include <string.h>
#include <time.h>

#include "bytes.h"
#include "core.h"
#include "frame.h"
#include "try.h"

#define NAP_MS 50u /* a cancel is seen this soon while backing off */

static bool goal_reached(const seam_session *s, seam_goal goal);
static seam_status turn(seam_session *s, seam_error *err);
static seam_status act(seam_session *s, const seam_client_action *action, seam_error *err);
static seam_status failed(seam_session *s, seam_error *err);
static seam_status stream_connect(seam_session *s, seam_error *err);
static void stream_drop(seam_session *s);
static seam_status attach_send(seam_session *s, const seam_client_action *action, seam_error *err);
static seam_status confirm_send(seam_session *s, seam_error *err);
static seam_status begin_send(seam_session *s, seam_error *err);
static seam_status tensor_send(seam_session *s, uint32_t micro, const seam_buffer *frames,
                               seam_error *err);
static seam_status packed_send(seam_session *s, const uint8_t *bytes, size_t count,
                               seam_error *err);
static seam_status step_restart(seam_session *s, const seam_client_action *action, seam_error *err);

seam_status seam_link_drive(seam_session *session, seam_goal goal, seam_error *err) {
    session->drive_begin_seconds = seam_now_seconds();
    seam_status st = SEAM_OK;
    while (st == SEAM_OK && !goal_reached(session, goal)) {
        st = turn(session, err);
    }
    session->link_seconds += seam_now_seconds() - session->drive_begin_seconds;
    session->drive_begin_seconds = 0.0;
    return st;
}

seam_status seam_link_await_alloc(seam_session *session, uint64_t step, seam_error *err) {
    const seam_alloc *alloc = NULL;
    for (uint32_t i = 0; i < seam_owned_count(session); i++) {
        while (seam_site_alloc_at(&alloc, seam_owned_site(session, i), step) != SEAM_OK) {
            SEAM_TRY(turn(session, err));
        }
    }
    return SEAM_OK;
}

void seam_link_close(seam_session *session) {
    stream_drop(session);
}

void seam_link_lose(seam_session *session, const char *why) {
    stream_drop(session);
    session->rx_active = session->rx_signal_due = false;
    session->rx_part = 0;
    const seam_stream_lost_args args = {.status = SEAM_E_UNAVAILABLE,
                                        .text = why,
                                        .random = seam_random_u32(),
                                        .now_ms = seam_now_ms()};
    seam_client_proto_stream_lost(&session->proto, &args);
}

static bool goal_reached(const seam_session *s, seam_goal goal) {
    switch (goal) {
    case SEAM_GOAL_BEGIN:
        return s->begin_sent;
    case SEAM_GOAL_SENT:
        return s->micros[s->forward_next - 1].is_sent[0]; /* they go in order */
    case SEAM_GOAL_FORWARD:
        return s->y_received;
    case SEAM_GOAL_BACKWARD:
        return s->micros[s->micro_next].is_sent[1] &&
               (!seam_codec_plan_has_input_gradient(&s->config.codec) || s->dx_received);
    case SEAM_GOAL_ANSWER:
        return s->micros[s->micro_next].has_come;
    case SEAM_GOAL_COMMIT:
        return s->commit_done;
    case SEAM_GOAL_ATTACHED:
        return seam_client_proto_is_attached(&s->proto);
    }
    return true;
}

/* A tensor that the machine would send and the caller has not given yet. */
static bool is_unknown(const seam_session *s, const seam_client_action *action) {
    const bool forward = action->kind == SEAM_CLIENT_SEND_FORWARD;
    if (!forward && action->kind == SEAM_CLIENT_SEND_BACKWARD && action->micro == s->micro_count) {
        return s->norm.count == 0;
    }
    return (forward || action->kind == SEAM_CLIENT_SEND_BACKWARD) &&
           s->micros[action->micro].sent[forward ? 0 : 1].count == 0;
}

/* One action of the machine.  What cannot be sent yet waits for messages: for an answer that it is
 * encoded by, or because the caller waits for one. */
static seam_status turn(seam_session *s, seam_error *err) {
    SEAM_TRY(seam_session_check_cancel(s, err));
    seam_client_action action;
    seam_client_proto_next(&action, &s->proto, seam_now_ms());
    if (is_unknown(s, &action)) {
        action.kind = SEAM_CLIENT_RECEIVE;
    }
    seam_error local = {0};
    s->net_failed = false;
    const seam_status st = act(s, &action, &local);
    if (st == SEAM_OK) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_session_check_cancel(s, err));
    if (local.status == SEAM_OK) {
        (void)seam_error_set(&local, st, "%s", seam_status_text(st));
    }
    if (st == SEAM_E_ROLLED_BACK) { /* nothing is wrong: the caller begins again from there */
        return seam_error_set(err, st, "%s", local.text);
    }
    return failed(s, &local) == SEAM_OK ? SEAM_OK
                                        : seam_error_set(err, local.status, "%s", local.text);
}

/* The record of a commit, before the next step. */
static seam_status record_flush(seam_session *s, seam_error *err) {
    const uint64_t begin_ns = seam_trace_begin(s->trace);
    SEAM_TRY(seam_step_record(s, err));
    seam_session_span_end(s, "record", SEAM_TRACE_NO_MICRO, begin_ns);
    return SEAM_OK;
}

static seam_status act(seam_session *s, const seam_client_action *action, seam_error *err) {
    switch (action->kind) {
    case SEAM_CLIENT_CONNECT:
        SEAM_TRY(stream_connect(s, err));
        break;
    case SEAM_CLIENT_SEND_ATTACH:
        SEAM_TRY(attach_send(s, action, err));
        break;
    case SEAM_CLIENT_SEND_STEP_BEGIN:
        SEAM_TRY(begin_send(s, err));
        s->begin_sent = true;
        break;
    case SEAM_CLIENT_SEND_FORWARD:
        SEAM_TRY(tensor_send(s, action->micro, &s->micros[action->micro].sent[0], err));
        s->micros[action->micro].is_sent[0] = true;
        break;
    case SEAM_CLIENT_SEND_BACKWARD:
        if (action->micro == s->micro_count) {
            SEAM_TRY(tensor_send(s, action->micro, &s->norm, err));
            break;
        }
        SEAM_TRY(tensor_send(s, action->micro, &s->micros[action->micro].sent[1], err));
        s->micros[action->micro].is_sent[1] = true;
        break;
    case SEAM_CLIENT_RECEIVE:
        return seam_receive_one(s, err);
    case SEAM_CLIENT_BACK_OFF: {
        const uint64_t ms = action->wait_ms < NAP_MS ? action->wait_ms : NAP_MS;
        const struct timespec nap = {.tv_nsec = (long)(ms * 1000000u)};
        nanosleep(&nap, NULL);
        return SEAM_OK;
    }
    case SEAM_CLIENT_RESTORE:
        return step_restart(s, action, err);
    case SEAM_CLIENT_JOURNAL:
        SEAM_TRY(record_flush(s, err));
        seam_client_proto_journaled(&s->proto);
        s->commit_done = true;
        return SEAM_OK;
    case SEAM_CLIENT_STOPPED: {
        const seam_error *const why = seam_client_proto_error(&s->proto);
        return seam_error_set(err, why->status, "%s", why->text);
    }
    case SEAM_CLIENT_IDLE:
        return seam_error_set(err, SEAM_E_STATE, "no step is open");
    }
    seam_client_proto_done(&s->proto, action);
    return SEAM_OK;
}

/* SEAM_OK: the machine will try again.  Otherwise *err is why the session stops. */
static seam_status failed(seam_session *s, seam_error *err) {
    const uint64_t now_ms = seam_now_ms();
    if (!s->net_failed) {
        seam_client_proto_stop(&s->proto, err->status, err->text);
        return err->status;
    }
    /* A limit that passes is that of an Attach; on a stream that stands it is of what was sent. */
    const bool is_ours = (err->status == SEAM_E_LIMIT || err->status == SEAM_E_MEMORY) &&
                         seam_client_proto_is_attached(&s->proto);
    const uint64_t retry_after_ms =
        s->stream != NULL && !is_ours ? s->client->net->stream_retry_after_ms(s->stream) : 0;
    stream_drop(s);
    s->rx_active = s->rx_signal_due = false;
    s->first_begin_seconds = s->first_seconds = 0.0; /* it says nothing of the link any more */
    s->rx_part = 0;
    s->lost_since_ms = s->lost_since_ms == 0 ? now_ms : s->lost_since_ms;
    const uint64_t lost_ms = now_ms - s->lost_since_ms;
    if (lost_ms + retry_after_ms >= s->client->reconnect_timeout_ms) { /* it would be too late */
        (void)seam_error_prefix(err, err->status, "given up after %llu s",
                                (unsigned long long)(lost_ms / 1000));
        seam_client_proto_stop(&s->proto, err->status, err->text);
        return err->status;
    }
    const seam_stream_lost_args args = {.status = err->status,
                                        .text = err->text,
                                        .retry_after_ms = retry_after_ms,
                                        .random = seam_random_u32(),
                                        .now_ms = now_ms};
    seam_client_proto_stream_lost(&s->proto, &args);
    seam_client_action action;
    seam_client_proto_next(&action, &s->proto, now_ms);
    if (action.kind == SEAM_CLIENT_STOPPED) {
        return err->status;
    }
    seam_client_log(s->client, "stream lost, trying again: %s", err->text);
    return SEAM_OK;
}

/* ---- Actions ---- */

static seam_status stream_connect(seam_session *s, seam_error *err) {
    stream_drop(s);
    seam_stream_call *stream = NULL;
    const seam_status st = s->client->net->stream_open(&stream, s->client->transport, "Train", err);
    s->net_failed = st != SEAM_OK;
    SEAM_TRY(st);
    pthread_mutex_lock(&s->mu);
    s->stream = stream;
    pthread_mutex_unlock(&s->mu);
    return SEAM_OK;
}

static void stream_drop(seam_session *s) {
    pthread_mutex_lock(&s->mu);
    seam_stream_call *const stream = s->stream;
    s->stream = NULL;
    pthread_mutex_unlock(&s->mu);
    s->client->net->stream_close(stream);
}

/* The widths in force here: the server refuses others of the same version (CONFLICT). */
static size_t allocations_list(Seam__V1__AllocVersion *ret_list[SEAM_FORWARD_MAX],
                               Seam__V1__AllocVersion versions[SEAM_FORWARD_MAX],
                               const seam_session *s) {
    const seam_site *site = NULL;
    size_t count = 0;
    for (uint32_t i = 0; (site = seam_forward_site(s, i)) != NULL; i++) {
        const seam_alloc *const alloc = seam_site_alloc_now(site);
        if (alloc->version == 0) { /* a codec without widths */
            continue;
        }
        SEAM_ASSERT(count < SEAM_FORWARD_MAX);
        seam__v1__alloc_version__init(&versions[count]);
        versions[count].site = seam_site_config_of(site)->site_id;
        versions[count].version = alloc->version;
        versions[count].hash = alloc->hash;
        ret_list[count] = &versions[count];
        count++;
    }
    return count;
}

static seam_status attach_send(seam_session *s, const seam_client_action *action, seam_error *err) {
    s->attach_seconds = seam_now_seconds();
    Seam__V1__Codec codecs[SEAM_CODEC_LAST];
    Seam__V1__Capabilities capabilities = SEAM__V1__CAPABILITIES__INIT;
    capabilities.protocol_version = 1;
    capabilities.codecs = codecs;
    for (int id = 1; id <= SEAM_CODEC_LAST; id++) {
        if (seam_codec_is_implemented((seam_codec_id)id)) {
            codecs[capabilities.n_codecs++] = (Seam__V1__Codec)id;
        }
    }
    capabilities.bits_min = 1;
    capabilities.bits_max = SEAM_BITS_MAX;
    capabilities.chunk_bytes_max = SEAM_CHUNK_BYTES_MAX;
    capabilities.pipeline_depth_max = SEAM_PIPELINE_DEPTH_MAX;
    Seam__V1__Attach attach = SEAM__V1__ATTACH__INIT;
    attach.session_id = s->id;
    attach.session_secret.data = s->secret;
    attach.session_secret.len = SEAM_SECRET_BYTES;
    attach.epoch_seen = action->epoch_seen;
    attach.committed_step_count = action->committed_step_count;
    attach.config_hash = s->config_hash;
    attach.model_identity = s->model_identity;
    attach.step_in_flight = action->step_in_flight;
    attach.credit_bytes = s->client->credit_bytes;
    seam_credit_rx_open(&s->credit_rx, s->client->credit_bytes);
    s->credit_tx = (seam_credit_tx){0}; /* until Attached says how much */
    attach.capabilities = &capabilities;
    Seam__V1__AllocVersion versions[SEAM_FORWARD_MAX];
    Seam__V1__AllocVersion *list[SEAM_FORWARD_MAX];
    attach.n_allocations = allocations_list(list, versions, s);
    attach.allocations = list;
    Seam__V1__TrainRequest request = SEAM__V1__TRAIN_REQUEST__INIT;
    request.body_case = SEAM__V1__TRAIN_REQUEST__BODY_ATTACH;
    request.attach = &attach;
    uint8_t packed[1024];
    const size_t count = protobuf_c_message_get_packed_size(&request.base);
    SEAM_ASSERT(count <= sizeof packed);
    (void)protobuf_c_message_pack(&request.base, packed);
    return packed_send(s, packed, count, err);
}

/* The record of a later step is flushed: the server need not go back further than this one. */
static seam_status confirm_send(seam_session *s, seam_error *err) {
    Seam__V1__CheckpointConfirm confirm = SEAM__V1__CHECKPOINT_CONFIRM__INIT;
    Seam__V1__TrainRequest request = SEAM__V1__TRAIN_REQUEST__INIT;
    confirm.step = s->durable_before;
    request.body_case = SEAM__V1__TRAIN_REQUEST__BODY_CHECKPOINT_CONFIRM;
    request.checkpoint_confirm = &confirm;
    uint8_t packed[32];
    SEAM_ASSERT(protobuf_c_message_get_packed_size(&request.base) <= sizeof packed);
    SEAM_TRY(packed_send(s, packed, protobuf_c_message_pack(&request.base, packed), err));
    seam_record_confirmed(s);
    return SEAM_OK;
}

/* Everything here may be sent again: the server judges repetitions by version and digest. */
static seam_status begin_send(seam_session *s, seam_error *err) {
    if (s->confirm_due) {
        SEAM_TRY(confirm_send(s, err));
    }
    if (s->budget.count > 0) {
        SEAM_TRY(packed_send(s, s->budget.data, s->budget.count, err));
    }
    for (uint32_t i = 0; i < SEAM_OWNED_MAX; i++) {
        if (s->proposals[i].count > 0) {
            SEAM_TRY(packed_send(s, s->proposals[i].data, s->proposals[i].count, err));
        }
    }
    for (size_t at = 0; at < s->answers.count;) {
        const uint32_t count = seam_get_u32(s->answers.data + at);
        SEAM_TRY(packed_send(s, s->answers.data + at + 4, count, err));
        at += 4 + (size_t)count;
    }
    return packed_send(s, s->step_begin.data, s->step_begin.count, err);
}

static seam_status tensor_send(seam_session *s, uint32_t micro, const seam_buffer *frames,
                               seam_error *err) {
    SEAM_ASSERT(frames->count > 0);
    uint64_t begin_ns = seam_trace_begin(s->trace);
    for (size_t at = 0; at < frames->count;) {
        const size_t frame_bytes = seam_frame_bytes_at(frames, at);
        while (!seam_credit_tx_fits(&s->credit_tx, frame_bytes)) {
            seam_session_span_end(s, "send", micro, begin_ns);
            SEAM_TRY(seam_receive_one(s, err));
            begin_ns = seam_trace_begin(s->trace);
        }
        seam_credit_tx_add(&s->credit_tx, frame_bytes);
        const seam_status st = seam_frame_send(s, s->stream, frames->data + at, frame_bytes, err);
        s->net_failed = st != SEAM_OK;
        SEAM_TRY(st);
        at += frame_bytes;
    }
    seam_session_span_end(s, "send", micro, begin_ns);
    return SEAM_OK;
}

seam_status seam_link_grant(seam_session *session, seam_error *err) {
    Seam__V1__Credit credit = SEAM__V1__CREDIT__INIT;
    Seam__V1__TrainRequest request = SEAM__V1__TRAIN_REQUEST__INIT;
    uint8_t packed[32];
    if (!seam_credit_rx_grant(&credit.limit_bytes, &session->credit_rx)) {
        return SEAM_OK;
    }
    request.body_case = SEAM__V1__TRAIN_REQUEST__BODY_CREDIT;
    request.credit = &credit;
    SEAM_ASSERT(protobuf_c_message_get_packed_size(&request.base) <= sizeof packed);
    return packed_send(session, packed, protobuf_c_message_pack(&request.base, packed), err);
}

static seam_status packed_send(seam_session *s, const uint8_t *bytes, size_t count,
                               seam_error *err) {
    const seam_status st = s->client->net->stream_send(s->stream, bytes, count, NULL, 0, err);
    s->net_failed = st != SEAM_OK;
    return st;
}

/* The server has dropped the step in flight and nothing else: what was sent is sent again, and what
 * came back is taken again.  Where it went back, or the exact signal's sums cannot be made again
 * from what is kept, the caller takes the step from its start. */
static seam_status step_restart(seam_session *s, const seam_client_action *action,
                                seam_error *err) {
    const uint64_t committed = seam_session_committed_steps(s);
    const bool kept = action->step == committed && !s->went_back &&
                      !(seam_codec_plan_is_exact_in(&s->config.codec) && s->micro_next > 0);
    if (!kept) {
        SEAM_TRY(seam_record_restore(s, action->step, err));
        seam_client_proto_restored(&s->proto, action->step, seam_now_ms());
        return seam_error_set(err, SEAM_E_ROLLED_BACK, "back to step %llu from step %llu",
                              (unsigned long long)action->step, (unsigned long long)committed);
    }
    seam_client_proto_restored(&s->proto, committed, seam_now_ms());
    memset(s->gate_sums, 0, s->width_count * sizeof *s->gate_sums);
    const seam_begin_step_args begin = {.step = committed,
                                        .micro_count = s->micro_count,
                                        .ahead = s->ahead,
                                        .now_ms = seam_now_ms()};
    return seam_client_proto_begin_step(&s->proto, &begin, err);
}
