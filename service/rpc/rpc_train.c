/* The Train stream: frames in, jobs, replies out.  proto/wire/server_proto.c decides what each
 * message means; here its verdicts become receives, jobs and sends.  A job is tensor_run, on
 * the engine's thread.  Control messages: train_attach.c, train_control.c.
 * Read next: engine/engine.c (its queue), engine/train_step.c (what a job does). */
#include <string.h>

#include "arena.h"
#include "exchange.h"
#include "host.h"
#include "log.h"
#include "rpc_methods.h"
#include "session_disk.h"
#include "session_update.h"
#include "train_stream.h"
#include "try.h"

static void leave(seam_train *train) SEAM_ON_LOOP;
static void work_next(seam_train *train) SEAM_ON_LOOP;

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

/* The newest attach wins: whether the older one waits for the session's job or for its being woken.
 */
SEAM_ON_LOOP static void older_fence(seam_call *call, void *user) {
    const seam_train *newer = user;
    const seam_session *session = newer->session;
    const bool held = call->method->on_message == seam_on_train && call->awaited == session;
    if (call != newer->call && (held || call == session->stream_waiting)) {
        seam_error err = {0};
        (void)seam_error_set(&err, SEAM_E_FENCED, "a newer attach owns the session");
        seam_train_fail(call->state, SEAM_E_FENCED, &err);
    }
}

void seam_train_fence_waiting(seam_train *train) {
    seam_server_each_call(train->call->server, older_fence, train);
}

/* The stream no longer speaks for its session; what runs goes on. */
static void leave(seam_train *train) {
    seam_session *session = train->session;
    if (session == NULL) {
        return;
    }
    if (session->stream == train->call) {
        seam_train_withdraw(session);
        session->stream = NULL;
        seam_server_proto_stream_lost(&session->proto, train->epoch, seam_host_now_ms());
    }
    if (session->stream_waiting == train->call) {
        session->stream_waiting = NULL;
    }
    train->out_attached = train->out_commit = train->out_proposal = false;
    train->out_count = 0;
}

void seam_train_withdraw(seam_session *session) {
    session->withdrawn = session->withdrawn || session->queue_count > 0;
    while (session->queue_count > 0) {
        const seam_step_key *key = &session->queue[--session->queue_count].key;
        if (seam_server_proto_is_busy(&session->proto)) { /* else the step is gone already */
            seam_server_proto_withdraw(&session->proto, key->micro, key->phase);
        }
    }
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
    seam_call_keep(call, message);
    const seam_status st = seam_train_arrives(train, message, &err);
    if (st != SEAM_OK) {
        seam_train_fail(train, st, &err);
        return;
    }
    seam_train_pump(train);
}

/* A message of the inbox whose time has come. */
SEAM_ON_LOOP static void message_take(seam_train *train, grpc_byte_buffer *gift_message) {
    seam_error err = {0};
    seam_session *session = train->session;
    seam_staging *in = seam_trainer_staging(session->trainer, train->rx_staging_idx);
    if (!train->rx_open) {
        in->used_bytes = 0;
        in->chunk_count = 0;
    }
    uint8_t *bytes = in->bytes + in->used_bytes;
    size_t count = 0;
    seam_walk walk = {0};
    seam_status st =
        seam_message_copy(&count, bytes, in->capacity_bytes - in->used_bytes, gift_message);
    grpc_byte_buffer_destroy(gift_message);
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
    }
}

void seam_train_end(seam_train *train) {
    leave(train);
    seam_call_finish(train->call);
}

/* What has come before is done first, and answered without credit: no grant can come any more. */
void seam_on_train_half_close(seam_call *call) {
    seam_train *train = train_of(call);
    if (train == NULL) {
        seam_call_finish(call);
        return;
    }
    train->half_closed = true;
    train->credit_tx.unlimited = true;
    if (train->epoch == 0) {
        seam_train_end(train);
    } else {
        seam_train_pump(train);
    }
}

SEAM_ON_GPU static seam_status tensor_run(seam_job *job, seam_stream *stream) {
    seam_train *train = job->user;
    seam_trainer *trainer = train->session->trainer;
    const seam_work *work = &train->session->work;
    const seam_micro *micro = seam_trainer_micro(trainer);
    const bool forward = work->key.phase == SEAM_PHASE_FORWARD;
    const bool norm = seam_train_is_norm(train->session, &work->key);
    const bool last =
        train->session->config.client_trains ? norm : micro->micro + 1 == micro->micro_count;
    seam_train_span_end(train->session, seam_train_phase_name(&work->key), SEAM_LANE_QUEUE,
                        work->begin_ns, &work->key);
    const bool one_pass = seam_session_config_is_one_pass(&train->session->config);
    train->trimmed = seam_trainer_trim(trainer);
    const seam_status st =
        norm       ? seam_trainer_norm(&train->result, trainer, stream)
        : one_pass ? seam_trainer_pass(&train->result, trainer, stream, &job->err)
        : forward  ? seam_trainer_forward(trainer, stream, &job->err)
                   : seam_trainer_backward(&train->result, trainer, stream, &job->err);
    if (st != SEAM_OK) {
        (void)seam_trainer_abort_step(trainer, stream);
    } else if ((!forward || one_pass) && train->image_due && last) {
        /* The rows of one pass are counted when its job is done. */
        const seam_trainer_mark mark = {.step_count = micro->step + 1,
                                        .row_count = train->session->row_count +
                                                     (one_pass && !norm ? micro->layout.rows : 0)};
        seam_error err = {0}; /* the step goes on without */
        train->has_image = seam_session_image_take(train->session, &mark, stream, &err) == SEAM_OK;
    }
    return st;
}

void seam_train_post(seam_train *train, seam_train_job_kind job_kind,
                     seam_status (*run)(seam_job *job, seam_stream *stream)) {
    train->job_kind = job_kind;
    train->call->job.run = run;
    train->call->job.user = train;
    train->session->busy = true;
    if (seam_call_post(train->call) != SEAM_OK) { /* the call has failed with RESOURCE_EXHAUSTED */
        train->session->busy = false;
        seam_server_proto_abort_step(&train->session->proto);
        leave(train);
    }
}

void seam_train_drop_cache(seam_session *session) {
    seam_trainer_drop_replies(session->trainer);
    session->commit_bytes = 0;
}

/* ---- work ---- */

/* The oldest tensor that waits goes to the engine, unless its reply would take the place of one
 * that is being sent. */
SEAM_ON_LOOP static void work_next(seam_train *train) {
    seam_session *session = train->session;
    if (session->busy || session->deleted || session->queue_count == 0 ||
        session->stream != train->call ||
        seam_train_is_going_out(train, seam_train_reply_of(session, &session->queue[0].key))) {
        return;
    }
    session->work = session->queue[0];
    session->queue_count--;
    memmove(session->queue, session->queue + 1, session->queue_count * sizeof *session->queue);
    const seam_work *work = &session->work;
    /* The norm is no micro-batch: what ends the step is the last one's. */
    seam_trainer_select(session->trainer,
                        work->key.micro - (seam_train_is_norm(session, &work->key) ? 1u : 0u),
                        work->staging_idx);
    seam_trainer_set_optimizer(session->trainer, seam_session_optimizer(session, work->key.step));
    if (work->key.phase == SEAM_PHASE_FORWARD) {
        const seam_status st = seam_train_micro_read(seam_trainer_micro(session->trainer), session,
                                                     work->key.micro, NULL);
        SEAM_ASSERT(st == SEAM_OK); /* as when its tensor came */
    }
    train->has_image = false;
    train->image_due = (work->key.phase == SEAM_PHASE_BACKWARD ||
                        seam_session_config_is_one_pass(&session->config)) &&
                       seam_session_image_is_due(session, seam_host_now_ms());
    seam_train_post(train, SEAM_TRAIN_JOB_TENSOR, tensor_run);
}

/* A whole tensor has come and is judged: run it, or answer from the cache. */
SEAM_ON_LOOP static seam_status tensor_end(seam_train *train, seam_error *err) {
    seam_session *session = train->session;
    const seam_step_key *key = &train->rx_key;
    seam_server_verdict verdict = {0};
    train->rx_open = train->rx_part_due = false;
    seam_train_span_end(session, seam_train_phase_name(key), SEAM_LANE_RECEIVE, train->rx_ns, key);
    SEAM_TRY(seam_server_proto_tensor(&verdict, &session->proto, train->epoch, *key,
                                      train->rx.digest, err));
    switch (verdict.verdict) {
    case SEAM_VERDICT_RUN:
        if (verdict.drop_cache) {
            seam_train_drop_cache(session);
        }
        SEAM_ASSERT(session->queue_count < SEAM_STAGING_MAX);
        session->queue[session->queue_count++] =
            (seam_work){.key = *key,
                        .staging_idx = train->rx_staging_idx,
                        .begin_ns = seam_trace_begin(session->config.trace)};
        work_next(train);
        break;
    case SEAM_VERDICT_REPLY_CACHED:
        seam_train_reply_queue(train, key);
        break;
    case SEAM_VERDICT_IGNORE:
    case SEAM_VERDICT_ALREADY_COMMITTED:
        break;
    }
    train->out_commit = (train->out_commit || verdict.resend_commit) && session->commit_bytes > 0;
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
SEAM_ON_LOOP static seam_status tensor_begin(seam_train *train, const seam_frame_header *header,
                                             seam_error *err) {
    seam_session *session = train->session;
    const seam_session_config *config = &session->config;
    if (seam_trainer_exchange(session->trainer)->is_on) {
        return seam_train_exchange_begin(train, header, err);
    }
    if (header->kind != SEAM_FRAME_TENSOR &&
        !(header->kind == SEAM_FRAME_GRAD_NORM && config->client_trains)) {
        return seam_error_set(err, SEAM_E_OUT_OF_SEQUENCE,
                              "frame.kind: %u, a client of this session sends none", header->kind);
    }
    train->rx_key = seam_step_key_of(header);
    train->rx_ns = seam_trace_begin(session->config.trace);
    SEAM_TRY(seam_server_proto_peek(&train->rx_verdict, &session->proto, train->epoch,
                                    train->rx_key, err));
    uint32_t rows = header->rows;
    const bool norm = header->kind == SEAM_FRAME_GRAD_NORM;
    if (train->rx_verdict == SEAM_VERDICT_RUN &&
        norm != seam_train_is_norm(session, &train->rx_key)) {
        return seam_error_set(err, SEAM_E_OUT_OF_SEQUENCE,
                              "frame.kind: %u in micro %u, phase %u of this step", header->kind,
                              header->micro, header->phase);
    }
    if (train->rx_verdict == SEAM_VERDICT_RUN && !norm) {
        seam_micro *micro = seam_trainer_coming(session->trainer);
        SEAM_TRY(seam_train_micro_read(micro, session, header->micro, err));
        SEAM_TRY(alloc_check(train, header, err));
        rows = header->phase == SEAM_PHASE_FORWARD ? micro->layout.rows_in
                                                   : seam_trainer_rows_out(session->trainer, micro);
    }
    const seam_tensor_expect expect = {
        .kind = header->kind,
        .phase = header->phase,
        .site = train->rx_key.site,
        .step = train->rx_key.step,
        .micro = train->rx_key.micro,
        .rows = rows,
        .channels = norm ? 1 : config->model->config->hidden,
        .codec_mask =
            1u << (norm ? SEAM_CODEC_F32 : seam_session_config_codec(config, train->rx_key.site)),
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
    if (!train->rx_open || train->rx_part_due) {
        SEAM_TRY(tensor_begin(train, &header, err));
    }
    SEAM_TRY(seam_tensor_rx_add(&complete, &train->rx, &header, seam_frame_crc(walk->body), err));
    if (train->rx_verdict == SEAM_VERDICT_RUN) {
        seam_staging *in = seam_trainer_staging(train->session->trainer, train->rx_staging_idx);
        SEAM_ASSERT(in->chunk_count < in->chunks_max);
        in->chunks[in->chunk_count++] = seam_chunk_of(&header, payload);
        in->used_bytes += message_bytes;
    }
    if (complete && train->rx_part < train->rx_part_count) {
        train->rx_part++;
        train->rx_part_due = true;
        return SEAM_OK;
    }
    return complete ? tensor_end(train, err) : SEAM_OK;
}

/* ---- jobs ---- */

/* A step is applied: Commit into the cache, and to whoever is attached. */
SEAM_ON_LOOP static void committed(const seam_train *train) {
    seam_session *session = train->session;
    const uint64_t step = seam_trainer_micro(session->trainer)->step;
    seam_server_proto_committed(&session->proto, step);
    seam_session_made(session, step + 1);
    (void)seam_session_disk_poll(session); /* who waits for it looks when this job is over */
    seam_session_image_post(session, train->has_image, seam_host_now_ms());
    seam_train_store_commit(session, step, &train->result);
}

/* Success of a tensor's job: the machine moves, replies go to the attached stream. */
SEAM_ON_LOOP static void tensor_done(const seam_train *train) {
    seam_session *session = train->session;
    const seam_micro *micro = seam_trainer_micro(session->trainer);
    seam_train *to = session->stream != NULL ? train_of(session->stream) : NULL;
    bool is_committed = false;
    if (session->work.key.phase == SEAM_PHASE_FORWARD) {
        session->row_count += micro->layout.rows;
        is_committed = seam_server_proto_forward_done(&session->proto, micro->step, micro->micro);
    } else {
        is_committed =
            seam_server_proto_backward_done(&session->proto, micro->step, session->work.key.micro);
    }
    if (is_committed) {
        committed(train);
    }
    if (to != NULL) {
        if (!seam_train_is_norm(session, &session->work.key)) {
            seam_train_reply_queue(to, &session->work.key);
        }
        to->out_commit = is_committed;
        to->out_proposal = is_committed && train->result.proposal != NULL;
    }
}

SEAM_ON_LOOP static void job_failed(seam_train *train) {
    seam_session *session = train->session;
    seam_call *call = train->call;
    session->queue_count = 0;
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
    seam_train_inbox_drop(train);
    if (train->session != NULL) {
        seam_session_unref(train->session);
    }
    seam_mem_free(train);
}

void seam_on_train_job(seam_call *call) {
    seam_train *train = train_of(call);
    seam_session *session = train->session;
    session->busy = false;
    session->work.staging_idx = SEAM_STAGING_MAX;
    if (train->trimmed) {
        train->trimmed = false;
        seam_sessions_give_back(session);
    }
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

void seam_train_session_idle(seam_server *server, seam_session *session) {
    if (!session->busy && session->stream_waiting != NULL) {
        seam_train_attach_now(train_of(session->stream_waiting));
    }
    if (session->stream != NULL) {
        work_next(train_of(session->stream));
    }
    seam_calls_resume(server, session);
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

void seam_train_pump(seam_train *train) {
    seam_call *call = train->call;
    if (train->session == NULL || train->epoch == 0 || call->finishing || call->closed) {
        return;
    }
    for (;;) {
        while (seam_train_send_next(train)) {
        }
        work_next(train);
        grpc_byte_buffer *message = NULL;
        /* A frame may switch an allocation, which is a part of what is being copied. */
        if (call->finishing || train->out_attached || train->session->held ||
            !seam_train_inbox_next(&message, train)) {
            break;
        }
        message_take(train, message);
    }
    const bool quiet = !call->finishing && train->inbox == NULL && !seam_train_has_output(train) &&
                       seam_session_is_idle(train->session) && seam_call_is_sent(call);
    if (quiet && drained(train)) {
        return;
    }
    if (quiet && train->half_closed) {
        seam_train_end(train);
        return;
    }
    if (!call->receiving && !train->half_closed) {
        seam_call_receive(call); /* nothing once the call is finishing */
    }
}

void seam_on_train_sent(seam_call *call) {
    if (call->state != NULL) {
        seam_train_pump(train_of(call));
    }
}
