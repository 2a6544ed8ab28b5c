/* The Train stream: frames in, jobs, replies out.  proto/wire/server_proto.c decides what each
 * message means; here its verdicts become receives, jobs and sends.  A job is forward_run or
 * backward_run and runs on the engine's thread.  Control messages: train_control.c.
 * Read next: engine/engine.c (its queue), engine/train_step.c (what a job does). */
#include <string.h>

#include "arena.h"
#include "host.h"
#include "log.h"
#include "rpc_methods.h"
#include "session_disk.h"
#include "train_stream.h"
#include "try.h"

#define OUTBOX_MESSAGES 2 /* chunks handed to gRPC ahead of time */

static void leave(seam_train *train);

static seam_train *train_of(const seam_call *call) {
    return call->state;
}

void seam_train_fail(seam_train *train, seam_status st, const seam_error *err) {
    if (train->session != NULL && !train->call->finishing) {
        seam_log(SEAM_LOG_INFO, "train_ended", "session=%s step=%llu status=%s", train->session->id,
                 (unsigned long long)seam_server_proto_committed_count(&train->session->proto),
                 seam_status_name(st));
    }
    seam_call_fail(train->call, st, err);
    leave(train);
}

/* A span of the timeline about a tensor. */
static void span_end(const seam_session *session, const char *name, uint32_t lane,
                     uint64_t begin_ns, const seam_step_key *key) {
    const seam_span span = {
        .name = name, .begin_ns = begin_ns, .step = key->step, .micro = key->micro, .lane = lane};
    seam_trace_end(session->config.trace, &span);
}

static const char *phase_name(const seam_step_key *key) {
    return key->phase == SEAM_PHASE_FORWARD ? "forward" : "backward";
}

/* The stream no longer speaks for its session; what runs goes on. */
static void leave(seam_train *train) {
    seam_session *session = train->session;
    if (session == NULL) {
        return;
    }
    if (session->stream == train->call) {
        session->stream = NULL;
        seam_server_proto_stream_lost(&session->proto, train->epoch, seam_host_now_ms());
    }
    if (session->stream_waiting == train->call) {
        session->stream_waiting = NULL;
    }
    train->out_attached = train->out_commit = train->out_proposal = false;
    train->out_reply = NULL;
}

/* ---- receiving ---- */

void seam_on_train(seam_call *call, grpc_byte_buffer *message) {
    seam_error err = {0};
    seam_train *train = train_of(call);
    if (train == NULL) {
        train = seam_mem_zalloc(1, sizeof *train);
        if (train == NULL) {
            seam_call_fail(call, SEAM_E_MEMORY, NULL);
            return;
        }
        train->call = call;
        call->state = train;
    }
    if (train->session == NULL) {
        seam_train_attach(train, message);
        return;
    }
    if (train->session->busy) {
        seam_call_hold(call, message, train->session);
        return;
    }
    seam_staging *in = seam_trainer_staging(train->session->trainer);
    if (!train->rx_open) {
        in->used_bytes = 0;
        in->chunk_count = 0;
    }
    uint8_t *bytes = in->bytes + in->used_bytes;
    size_t count = 0;
    seam_walk walk;
    seam_status st = seam_message_copy(&count, bytes, in->capacity_bytes - in->used_bytes, message);
    if (st == SEAM_OK) {
        st = seam_walk_message(&walk, bytes, count, &err);
    }
    if (st == SEAM_OK) {
        st = walk.field == SEAM_MESSAGE_FRAME_FIELD
                 ? seam_train_frame(train, &walk, count, &err)
                 : seam_train_control(train, &walk, bytes, count, &err);
    }
    if (st != SEAM_OK) {
        seam_train_fail(train, st, &err);
        return;
    }
    seam_train_pump(train);
}

void seam_on_train_half_close(seam_call *call) {
    seam_train *train = train_of(call);
    if (train != NULL) {
        leave(train);
    }
    seam_call_finish(call);
}

SEAM_ON_GPU static seam_status forward_run(seam_job *job, seam_stream *stream) {
    const seam_train *train = job->user;
    seam_trainer *trainer = train->session->trainer;
    span_end(train->session, "forward", SEAM_LANE_QUEUE, train->job_ns, &train->rx_key);
    const seam_status st = seam_trainer_forward(trainer, stream, &job->err);
    if (st != SEAM_OK) {
        (void)seam_trainer_abort_step(trainer, stream);
    }
    return st;
}

SEAM_ON_GPU static seam_status backward_run(seam_job *job, seam_stream *stream) {
    seam_train *train = job->user;
    seam_trainer *trainer = train->session->trainer;
    span_end(train->session, "backward", SEAM_LANE_QUEUE, train->job_ns, &train->rx_key);
    const seam_micro *micro = seam_trainer_micro(trainer);
    seam_status st = seam_trainer_backward(&train->result, trainer, stream, &job->err);
    if (st != SEAM_OK) {
        (void)seam_trainer_abort_step(trainer, stream);
    } else if (train->image_due && micro->micro + 1 == micro->micro_count) {
        const seam_trainer_mark mark = {.step_count = micro->step + 1,
                                        .row_count = train->session->row_count};
        train->has_image = seam_session_image_take(train->session, &mark, stream) == SEAM_OK;
    }
    return st;
}

void seam_train_post(seam_train *train, seam_train_job_kind job_kind,
                     seam_status (*run)(seam_job *job, seam_stream *stream)) {
    train->job_kind = job_kind;
    train->call->job.run = run;
    train->call->job.user = train;
    train->session->busy = true;
    train->job_ns = seam_trace_begin(train->session->config.trace);
    if (seam_call_post(train->call) != SEAM_OK) { /* the call has failed with RESOURCE_EXHAUSTED */
        train->session->busy = false;
        seam_server_proto_abort_step(&train->session->proto);
        leave(train);
    }
}

void seam_train_drop_cache(seam_session *session) {
    seam_reply_clear(seam_trainer_forward_reply(session->trainer));
    seam_reply_clear(seam_trainer_backward_reply(session->trainer));
    session->commit_bytes = 0;
}

/* A whole tensor has come and is judged: run it, or answer from the cache. */
SEAM_ON_LOOP static seam_status tensor_end(seam_train *train, seam_error *err) {
    seam_session *session = train->session;
    seam_server_verdict verdict = {0};
    train->rx_open = false;
    train->out_credit += train->rx_bytes;
    train->rx_bytes = 0;
    span_end(session, phase_name(&train->rx_key), SEAM_LANE_RECEIVE, train->rx_ns, &train->rx_key);
    SEAM_TRY(seam_server_proto_tensor(&verdict, &session->proto, train->epoch, train->rx_key,
                                      train->rx.digest, err));
    const bool forward = train->rx_key.phase == SEAM_PHASE_FORWARD;
    switch (verdict.verdict) {
    case SEAM_VERDICT_RUN:
        if (verdict.drop_cache) {
            seam_train_drop_cache(session);
        }
        train->has_image = false;
        train->image_due = !forward && seam_session_image_is_due(session, seam_host_now_ms());
        seam_train_post(train, forward ? SEAM_TRAIN_JOB_FORWARD : SEAM_TRAIN_JOB_BACKWARD,
                        forward ? forward_run : backward_run);
        break;
    case SEAM_VERDICT_REPLY_CACHED:
        train->out_reply = forward ? seam_trainer_forward_reply(session->trainer)
                                   : seam_trainer_backward_reply(session->trainer);
        train->out_next = 0;
        train->out_ns = seam_trace_begin(session->config.trace);
        train->out_key = train->rx_key;
        break;
    case SEAM_VERDICT_IGNORE:
    case SEAM_VERDICT_ALREADY_COMMITTED:
        break;
    }
    train->out_commit = verdict.resend_commit && session->commit_bytes > 0;
    return SEAM_OK;
}

/* The frame's allocation must be the one in force at its step. */
static seam_status alloc_check(const seam_train *train, const seam_frame_header *header,
                               seam_error *err) {
    const bool forward = header->phase == SEAM_PHASE_FORWARD;
    seam_site *site =
        seam_trainer_site(train->session->trainer, forward ? SEAM_SITE_FWD_IN : SEAM_SITE_FWD_OUT);
    const seam_alloc *now = NULL, *named = NULL;
    if (seam_site_alloc_at(&now, site, header->step) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_STATE,
                              "alloc_ack: the proposal for site %u that step %llu waits for has "
                              "no answer",
                              seam_site_config_of(site)->site_id, (unsigned long long)header->step);
    }
    const seam_status st =
        seam_site_alloc_find(&named, site, header->alloc_version, header->alloc_hash);
    if (st == SEAM_E_CONFLICT) {
        return seam_error_set(err, SEAM_E_ARG, "frame.alloc_hash: not that of version %u",
                              header->alloc_version);
    }
    if (st != SEAM_OK || named->version != now->version) {
        return seam_error_set(
            err, SEAM_E_STATE, "frame.alloc_version: %u, in force at step %llu is %u",
            header->alloc_version, (unsigned long long)header->step, now->version);
    }
    if (header->alloc_bits_total != now->bits_total) {
        return seam_error_set(err, SEAM_E_ARG, "frame.alloc_bits_total: %u, version %u has %u",
                              header->alloc_bits_total, now->version, now->bits_total);
    }
    return SEAM_OK;
}

/* First frame of a tensor: what is expected of it. */
static seam_status tensor_begin(seam_train *train, const seam_frame_header *header,
                                seam_error *err) {
    seam_session *session = train->session;
    const seam_session_config *config = &session->config;
    train->rx_key = seam_step_key_of(header);
    train->rx_ns = seam_trace_begin(session->config.trace);
    SEAM_TRY(seam_server_proto_peek(&train->rx_verdict, &session->proto, train->epoch,
                                    train->rx_key, err));
    uint32_t rows = header->rows;
    if (train->rx_verdict == SEAM_VERDICT_RUN) {
        seam_micro *micro = seam_trainer_micro(session->trainer);
        const Seam__V1__StepBegin *begin = seam_session_step(session);
        SEAM_ASSERT(header->micro < begin->n_micros);
        const Seam__V1__MicroBatch *layout = begin->micros[header->micro];
        micro->step = begin->step;
        micro->labelled_total = begin->labelled_row_count;
        micro->micro = header->micro;
        micro->micro_count = (uint32_t)begin->n_micros;
        micro->bitmap = layout->labelled_rows.data;
        SEAM_TRY(seam_micro_layout_read(&micro->layout, micro->labelled_rows, layout, header->micro,
                                        &config->limits, err));
        seam_sequence_labelled_counts(micro->sequence_labelled, micro->layout.sequence_rows,
                                      micro->layout.sequence_count, micro->bitmap);
        SEAM_TRY(alloc_check(train, header, err));
        rows = header->phase == SEAM_PHASE_FORWARD ? micro->layout.rows_in
                                                   : seam_trainer_rows_out(session->trainer);
    }
    const seam_tensor_expect expect = {
        .kind = SEAM_FRAME_TENSOR,
        .phase = header->phase,
        .site = train->rx_key.site,
        .step = train->rx_key.step,
        .micro = train->rx_key.micro,
        .rows = rows,
        .channels = config->model->config->hidden,
        .codec_mask = 1u << seam_session_config_codec(config, train->rx_key.site),
        .coding_max = seam_codec_plan_coding_max(&config->codec),
    };
    seam_tensor_rx_init(&train->rx, &expect);
    train->rx_open = true;
    return SEAM_OK;
}

seam_status seam_train_frame(seam_train *train, const seam_walk *walk, size_t message_bytes,
                             seam_error *err) {
    seam_frame_header header;
    const uint8_t *payload = NULL;
    bool complete = false;
    SEAM_TRY(seam_frame_open(&header, &payload, walk->body, walk->body_bytes, err));
    if (header.kind != SEAM_FRAME_TENSOR) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              "frame.kind: %u is not what a client of this release sends",
                              header.kind);
    }
    if (!train->rx_open) {
        SEAM_TRY(tensor_begin(train, &header, err));
    }
    SEAM_TRY(seam_tensor_rx_add(&complete, &train->rx, &header, seam_frame_crc(walk->body), err));
    train->rx_bytes += walk->body_bytes;
    if (train->rx_verdict == SEAM_VERDICT_RUN) {
        seam_staging *in = seam_trainer_staging(train->session->trainer);
        SEAM_ASSERT(in->chunk_count < in->chunks_max);
        in->chunks[in->chunk_count++] = seam_chunk_of(&header, payload);
        in->used_bytes += message_bytes;
    }
    return complete ? tensor_end(train, err) : SEAM_OK;
}

/* ---- jobs ---- */

/* A step is applied: Commit into the cache, and to whoever is attached. */
SEAM_ON_LOOP static void committed(const seam_train *train) {
    seam_session *session = train->session;
    const uint64_t step = seam_trainer_micro(session->trainer)->step;
    seam_server_proto_committed(&session->proto, step, train->result.state_hash);
    seam_session_disk_poll(session);
    seam_session_image_post(session, train->has_image, seam_host_now_ms());
    seam_train_store_commit(session, step, &train->result);
}

/* Success of a tensor's job: the machine moves, replies go to the attached stream. */
SEAM_ON_LOOP static void tensor_done(const seam_train *train) {
    seam_session *session = train->session;
    const seam_micro *micro = seam_trainer_micro(session->trainer);
    seam_train *to = session->stream != NULL ? train_of(session->stream) : NULL;
    const bool forward = train->job_kind == SEAM_TRAIN_JOB_FORWARD;
    bool is_committed = false;
    if (forward) {
        seam_server_proto_forward_done(&session->proto, micro->step, micro->micro);
        session->row_count += micro->layout.rows;
    } else if (seam_server_proto_backward_done(&session->proto, micro->step, micro->micro)) {
        committed(train);
        is_committed = true;
    }
    if (to != NULL) {
        to->out_reply = forward ? seam_trainer_forward_reply(session->trainer)
                                : seam_trainer_backward_reply(session->trainer);
        to->out_next = 0;
        to->out_ns = seam_trace_begin(session->config.trace);
        to->out_key = train->rx_key;
        to->out_commit = is_committed;
        to->out_proposal = is_committed && train->result.proposal != NULL;
    }
}

SEAM_ON_LOOP static void job_failed(seam_train *train) {
    seam_session *session = train->session;
    seam_call *call = train->call;
    seam_server_proto_abort_step(&session->proto);
    seam_train_drop_cache(session);
    if (seam_status_is_process_dead(call->job.status)) {
        seam_server_proto_freeze(&session->proto, call->job.status);
    }
    if (session->stream != NULL) { /* perhaps a newer stream than the one that sent the tensor */
        seam_train_fail(train_of(session->stream), call->job.status, &call->job.err);
    }
}

SEAM_ON_LOOP static void train_free(seam_train *train) {
    train->call->state = NULL;
    if (train->session != NULL) {
        seam_session_unref(train->session);
    }
    seam_mem_free(train);
}

void seam_on_train_job(seam_call *call) {
    seam_train *train = train_of(call);
    seam_session *session = train->session;
    session->busy = false;
    if (session->deleted) {
        leave(train);
    } else if (train->job_kind == SEAM_TRAIN_JOB_LOAD) {
        seam_train_loaded(train);
    } else if (call->job.status != SEAM_OK) {
        job_failed(train);
    } else if (train->job_kind == SEAM_TRAIN_JOB_DROP) {
        seam_train_attach_finish(train);
    } else {
        tensor_done(train);
    }
    seam_session_ref(session);
    if (call->closed) {
        train_free(train);
    }
    seam_train_session_idle(call->server, session);
    seam_session_unref(session);
}

SEAM_ON_LOOP static void call_wake(seam_call *call, void *user) {
    const seam_session *session = user;
    if (call->awaited == session && !session->busy) {
        seam_call_resume(call);
    }
}

void seam_train_session_idle(seam_server *server, seam_session *session) {
    if (!session->busy && session->stream_waiting != NULL) {
        seam_train_attach_now(train_of(session->stream_waiting));
    }
    seam_server_each_call(server, call_wake, session);
    if (session->stream != NULL) {
        seam_train_pump(train_of(session->stream));
    }
}

void seam_on_train_close(seam_call *call) {
    seam_train *train = train_of(call);
    if (train == NULL) {
        return;
    }
    leave(train);
    if (!call->job_running) {
        train_free(train);
    }
}

/* ---- sending ---- */

/* At SIGTERM: between two steps a stream ends; a step in flight is finished first. */
SEAM_ON_LOOP static bool drained(seam_train *train) {
    uint32_t micro = 0;
    if (!train->draining ||
        seam_server_proto_phase(&micro, &train->session->proto) != SEAM_SERVER_READY) {
        return false;
    }
    seam_error err = {0};
    (void)seam_error_set(&err, SEAM_E_UNAVAILABLE, "the server is stopping");
    seam_train_fail(train, SEAM_E_UNAVAILABLE, &err);
    return true;
}

void seam_on_train_drain(seam_call *call) {
    seam_train *train = train_of(call);
    seam_error err = {0};
    if (train == NULL || train->epoch == 0) {
        (void)seam_error_set(&err, SEAM_E_UNAVAILABLE, "the server is stopping");
        seam_call_fail(call, SEAM_E_UNAVAILABLE, &err);
        return;
    }
    train->draining = true;
    seam_train_pump(train);
}

/* The next thing of the queue; false when the outbox is full or nothing is left. */
SEAM_ON_LOOP static bool send_next(seam_train *train) {
    seam_call *call = train->call;
    seam_session *session = train->session;
    if (call->outbox_count >= OUTBOX_MESSAGES) {
        return false;
    }
    if (train->out_attached) {
        train->out_attached = false;
        return seam_train_send_attached(train);
    }
    if (train->out_credit > 0) {
        const uint64_t bytes = train->out_credit;
        train->out_credit = 0;
        return seam_train_send_credit(train, bytes);
    }
    if (train->out_reply != NULL) {
        const seam_reply *reply = train->out_reply;
        if (train->out_next < reply->message_count) {
            const struct seam_reply_message *message = &reply->messages[train->out_next++];
            return seam_call_send(call, reply->bytes + message->offset, message->message_bytes);
        }
        train->out_reply = NULL;
        span_end(session, phase_name(&train->out_key), SEAM_LANE_SEND, train->out_ns,
                 &train->out_key);
    }
    if (train->out_commit) {
        train->out_commit = false;
        return seam_call_send(call, session->commit, session->commit_bytes);
    }
    if (train->out_proposal) {
        train->out_proposal = false;
        const seam_alloc *alloc =
            seam_site_unanswered(seam_trainer_site(session->trainer, SEAM_SITE_FWD_OUT));
        return alloc == NULL || seam_train_send_proposal(train, alloc);
    }
    return false;
}

static bool has_output(const seam_train *train) {
    return train->out_attached || train->out_credit > 0 || train->out_reply != NULL ||
           train->out_commit || train->out_proposal;
}

void seam_train_pump(seam_train *train) {
    seam_call *call = train->call;
    if (train->session == NULL || train->epoch == 0 || call->finishing || call->closed) {
        return;
    }
    if (!train->session->busy) {
        while (send_next(train)) {
        }
    }
    const bool quiet = !train->session->busy && !has_output(train) && seam_call_is_sent(call);
    if (quiet && !drained(train) && !call->receiving && call->held == NULL) {
        seam_call_receive(call);
    }
}

void seam_on_train_sent(seam_call *call) {
    if (call->state != NULL) {
        seam_train_pump(train_of(call));
    }
}
