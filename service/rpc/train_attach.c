/* Attach, the first message of a Train stream: what its client can do and which widths it has are
 * judged, an older stream of the session is fenced off, a step is dropped or a checkpoint gone back
 * to where the protocol says so, and Attached answers.
 * Read next: proto/wire/server_proto.c, seam_server_proto_attach; train_control.c. */
#include <math.h>

#include "exchange.h"
#include "host.h"
#include "log.h"
#include "rpc_methods.h"
#include "session_disk.h"
#include "session_update.h"
#include "train_stream.h"
#include "try.h"

static seam_status codecs_check(const Seam__V1__Capabilities *theirs, seam_codec_id codec,
                                seam_error *err) {
    bool has_codec = theirs->n_codecs == 0;
    for (size_t i = 0; i < theirs->n_codecs; i++) {
        has_codec = has_codec || (int)theirs->codecs[i] == (int)codec;
    }
    return has_codec ? SEAM_OK
                     : seam_error_set(err, SEAM_E_ARG,
                                      "capabilities.codecs: without %s, a codec of the session",
                                      seam_codec_name(codec));
}

/* The widths that frames of the session may have; 0 and 0: its codecs have none. */
static void widths_of(uint32_t *ret_min, uint32_t *ret_max, const seam_session_config *config) {
    *ret_min = *ret_max = config->codec.bits;
    if (seam_codec_plan_has_gates(&config->codec)) {
        const uint32_t low = (uint32_t)ceilf(config->gates.bits_min);
        const uint32_t high = (uint32_t)floorf(config->gates.bits_max);
        *ret_min = *ret_min != 0 && *ret_min < low ? *ret_min : low;
        *ret_max = *ret_max > high ? *ret_max : high;
    }
}

/* What the client says that it can do, against what the session does. 0 says nothing. */
static seam_status capabilities_check(const Seam__V1__Capabilities *theirs,
                                      const seam_session_config *config, seam_error *err) {
    if (theirs == NULL) {
        return SEAM_OK;
    }
    if (theirs->protocol_version != 1) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              "capabilities.protocol_version: %u, this server speaks 1",
                              theirs->protocol_version);
    }
    SEAM_TRY(codecs_check(theirs, seam_codec_plan_codec(&config->codec, true), err));
    SEAM_TRY(codecs_check(theirs, seam_codec_plan_codec(&config->codec, false), err));
    uint32_t bits_min = 0, bits_max = 0;
    widths_of(&bits_min, &bits_max, config);
    if (bits_min != 0 && theirs->bits_min > bits_min) {
        return seam_error_set(err, SEAM_E_ARG,
                              "capabilities.bits_min: %u, the session has widths of %u",
                              theirs->bits_min, bits_min);
    }
    const struct {
        const char *field;
        uint32_t stated, needed;
    } least[] = {{"bits_max", theirs->bits_max, bits_max},
                 {"chunk_bytes_max", theirs->chunk_bytes_max, SEAM_CHUNK_BYTES_MAX},
                 {"pipeline_depth_max", theirs->pipeline_depth_max, config->pipeline_depth}};
    for (size_t i = 0; i < sizeof least / sizeof *least; i++) {
        if (least[i].stated != 0 && least[i].stated < least[i].needed) {
            return seam_error_set(err, SEAM_E_ARG, "capabilities.%s: %u, the session needs %u",
                                  least[i].field, least[i].stated, least[i].needed);
        }
    }
    return SEAM_OK;
}

/* A version that both sides hold must have the same widths.  When nothing works for the session. */
SEAM_ON_LOOP static seam_status widths_check(const seam_train *train, seam_error *err) {
    for (uint32_t i = 0; i < train->width_count; i++) {
        const seam_train_widths *theirs = &train->widths[i];
        const seam_alloc *ours = NULL;
        const seam_site *site = seam_train_site(train->session, theirs->site);
        if (site == NULL) {
            return seam_error_set(err, SEAM_E_ARG, "allocations[%u].site: %u is no forward site", i,
                                  theirs->site);
        }
        if (seam_site_alloc_find(&ours, site, theirs->version, theirs->hash) == SEAM_E_CONFLICT) {
            return seam_error_set(err, SEAM_E_CONFLICT,
                                  "allocations[%u]: version %u of site %u has other widths here", i,
                                  theirs->version, theirs->site);
        }
    }
    return SEAM_OK;
}

static seam_status widths_read(seam_train *train, const Seam__V1__Attach *attach, seam_error *err) {
    if (attach->n_allocations > SEAM_TRAIN_SITES_MAX) {
        return seam_error_set(err, SEAM_E_ARG, "allocations: %zu, there are %u forward sites",
                              attach->n_allocations, SEAM_TRAIN_SITES_MAX);
    }
    train->width_count = (uint32_t)attach->n_allocations;
    for (uint32_t i = 0; i < train->width_count; i++) {
        const Seam__V1__AllocVersion *theirs = attach->allocations[i];
        train->widths[i] = (seam_train_widths){
            .site = theirs->site, .version = theirs->version, .hash = theirs->hash};
    }
    return SEAM_OK;
}

/* *ret_session: a reference, also after an error of the later checks. */
SEAM_ON_LOOP static seam_status attach_read(seam_session **ret_session, seam_attach_args *ret_args,
                                            seam_train *train, const Seam__V1__Attach *attach,
                                            seam_error *err) {
    if (seam_server_is_draining(train->call->server)) {
        return seam_error_set(err, SEAM_E_UNAVAILABLE, "the server is stopping");
    }
    SEAM_TRY(seam_sessions_find(ret_session, seam_server_sessions(train->call->server),
                                attach->session_id, attach->session_secret.data,
                                attach->session_secret.len, err));
    seam_session *session = *ret_session;
    const seam_session_limits allowed =
        seam_sessions_limits(seam_server_sessions(train->call->server));
    SEAM_TRY(seam_session_config_check_allowed(&session->config, &allowed, err));
    SEAM_TRY(capabilities_check(attach->capabilities, &session->config, err));
    SEAM_TRY(widths_read(train, attach, err));
    if (attach->credit_bytes != 0 && attach->credit_bytes < SEAM_CREDIT_BYTES_MIN) {
        return seam_error_set(err, SEAM_E_ARG, "attach.credit_bytes: %llu, at least %u",
                              (unsigned long long)attach->credit_bytes, SEAM_CREDIT_BYTES_MIN);
    }
    train->peer_window_bytes = attach->credit_bytes;
    *ret_args = (seam_attach_args){.epoch_seen = attach->epoch_seen,
                                   .committed_step_count = attach->committed_step_count,
                                   .config_hash = attach->config_hash,
                                   .model_identity = attach->model_identity,
                                   .step_in_flight = attach->step_in_flight,
                                   .now_ms = seam_host_now_ms()};
    return SEAM_OK;
}

void seam_train_attach(seam_train *train, grpc_byte_buffer *message) {
    seam_error err = {0};
    Seam__V1__TrainRequest *request = (Seam__V1__TrainRequest *)seam_message_unpack(
        &seam__v1__train_request__descriptor, message);
    seam_status st = SEAM_OK;
    if (request == NULL) {
        st = seam_error_set(&err, SEAM_E_FORMAT, "TrainRequest: malformed protobuf");
    } else if (request->body_case != SEAM__V1__TRAIN_REQUEST__BODY_ATTACH) {
        st = seam_error_set(&err, SEAM_E_OUT_OF_SEQUENCE, "attach: must be the first message");
    } else {
        st = attach_read(&train->session, &train->attach, train, request->attach, &err);
    }
    if (request != NULL) {
        seam__v1__train_request__free_unpacked(request, NULL);
    }
    if (st != SEAM_OK) {
        seam_train_fail(train, st, &err);
        return;
    }
    seam_session *session = train->session;
    seam_train_fence_waiting(train);
    if (seam_call_wakes(train->call, message, session)) { /* this message comes again */
        train->session = NULL;
        seam_session_unref(session);
        return;
    }
    session->stream_waiting = train->call;
    if (!session->busy) {
        seam_train_attach_now(train);
    }
}

/* Without it the client goes on all the same: what is at risk is whose optimizer a step is made
 * again by, should the server be killed meanwhile and the session be updated then. */
SEAM_ON_GPU static void made_write(const seam_train *train) {
    seam_error err = {0};
    if (train->made_due > 0 &&
        seam_session_made_store(train->session, train->made_due, &err) != SEAM_OK) {
        char text[SEAM_ERROR_TEXT_BYTES];
        seam_log(SEAM_LOG_WARN, "made_not_stored", "session=%s step=%llu text=\"%s\"",
                 train->session->id, (unsigned long long)train->made_due,
                 seam_log_text(text, sizeof text, err.text));
    }
}

SEAM_ON_GPU static seam_status drop_run(seam_job *job, seam_stream *stream) {
    const seam_train *train = job->user;
    made_write(train);
    return train->attached.drop_step ? seam_trainer_abort_step(train->session->trainer, stream)
                                     : SEAM_OK;
}

SEAM_ON_GPU static seam_status load_run(seam_job *job, seam_stream *stream) {
    const seam_train *train = job->user;
    made_write(train);
    return seam_session_restore(train->session, stream, &job->err);
}

/* What the client and the session know of steps that were made.  Those that this attach undoes are
 * due to be written down before they are made again, for then nobody has them any more. */
SEAM_ON_LOOP static void made_take(seam_train *train) {
    seam_session *session = train->session;
    seam_session_made(session, train->attach.committed_step_count);
    session->made_known = true;
    const bool undoes = train->attached.action == SEAM_ATTACH_ROLLBACK &&
                        train->attached.rollback_step < session->made_step_count;
    train->made_due = undoes && seam_session_is_kept(session) ? session->made_step_count : 0;
}

void seam_train_loaded(seam_train *train) {
    seam_session *session = train->session;
    const seam_call *call = train->call;
    if (call->job.status == SEAM_OK) {
        const uint64_t step_count = seam_session_restored_step(session);
        train->attached.rollback_step = step_count;
        seam_server_proto_restored(&session->proto, step_count, seam_host_now_ms());
        session->row_count = session->disk.restored_rows;
        seam_session_caches_went_back(session);
        if (session->stream == call) {
            seam_train_attach_finish(train);
        }
        return;
    }
    seam_train_fail(train, call->job.status, &call->job.err);
    if (call->job.status == SEAM_E_DATA_LOSS) {
        seam_server_proto_freeze(&session->proto, SEAM_E_DATA_LOSS);
        seam_log(SEAM_LOG_ERROR, "session_lost", "session=%s", session->id);
        return;
    }
    const seam_call *waiting = session->stream_waiting;
    if (waiting != NULL) { /* for the same trainer */
        seam_train_fail(waiting->state, call->job.status, &call->job.err);
    }
    seam_calls_unloaded(call->server, session);
    seam_server_proto_unloaded(&session->proto, seam_host_now_ms());
    session->disk.spoiled = true; /* the next tick unloads it, unless the server has drained */
}

void seam_train_attach_now(seam_train *train) {
    seam_session *session = train->session;
    seam_error err = {0};
    SEAM_ASSERT(!session->busy);
    session->stream_waiting = NULL;
    seam_status st = widths_check(train, &err);
    if (st != SEAM_OK) {
        seam_train_fail(train, st, &err);
        return;
    }
    const bool withdrawn = session->queue_count > 0;
    seam_train_withdraw(session); /* the older stream's client is who attaches now */
    st = seam_server_proto_attach(&train->attached, &session->proto, &train->attach, &err);
    if (st != SEAM_OK) {
        seam_train_fail(train, st, &err);
        if (withdrawn && session->stream != NULL) { /* it would wait for them */
            (void)seam_error_set(&err, SEAM_E_UNAVAILABLE, "an attach was refused: attach again");
            seam_train_fail(((seam_call *)session->stream)->state, SEAM_E_UNAVAILABLE, &err);
        }
        return;
    }
    SEAM_ASSERT(train->attached.action != SEAM_ATTACH_WAIT); /* the session is idle */
    made_take(train);
    seam_call *older = session->stream;
    session->stream = train->call;
    train->epoch = train->attached.epoch;
    if (older != NULL) {
        (void)seam_error_set(&err, SEAM_E_FENCED, "a newer attach owns the session");
        seam_train_fail(older->state, SEAM_E_FENCED, &err);
    }
    if (train->attached.load_checkpoint) {
        seam_train_drop_cache(session);
        seam_session_restore_list(session, train->attached.load_step_count);
        seam_generates_end(train->call->server, session, SEAM_E_UNAVAILABLE,
                           "the session goes back to an earlier step for an Attach: open again");
        seam_train_post(train, SEAM_TRAIN_JOB_LOAD, load_run);
        return;
    }
    if (train->attached.drop_step) {
        seam_train_drop_cache(session);
    }
    if (train->attached.drop_step || train->made_due > 0) {
        seam_train_post(train, SEAM_TRAIN_JOB_DROP, drop_run);
        return;
    }
    seam_train_attach_finish(train);
    seam_train_pump(train);
}

void seam_train_attach_finish(seam_train *train) {
    seam_session *session = train->session;
    seam_log(SEAM_LOG_INFO, "train_attached", "session=%s epoch=%llu step=%llu action=%d",
             session->id, (unsigned long long)train->epoch,
             (unsigned long long)seam_server_proto_committed_count(&session->proto),
             (int)train->attached.action);
    seam_credit_tx_open(&train->credit_tx, train->peer_window_bytes);
    seam_credit_rx_open(&train->credit_rx,
                        seam_server_config_of(train->call->server)->credit_bytes);
    train->out_attached = true;
    train->out_proposal =
        seam_site_unanswered(seam_trainer_site(session->trainer, SEAM_SITE_FWD_OUT)) != NULL;
}

bool seam_train_send_attached(seam_train *train) {
    seam_session *session = train->session;
    Seam__V1__Codec codecs[SEAM_CODEC_LAST];
    Seam__V1__Capabilities capabilities;
    Seam__V1__AllocVersion versions[SEAM_TRAIN_SITES_MAX];
    Seam__V1__AllocVersion *list[SEAM_TRAIN_SITES_MAX];
    uint32_t count = 0;
    Seam__V1__Attached attached = SEAM__V1__ATTACHED__INIT;
    Seam__V1__TrainResponse response = SEAM__V1__TRAIN_RESPONSE__INIT;
    seam_capabilities_init(&capabilities, codecs);
    for (uint32_t id = 0; id <= SEAM_SITE_PREFIX && count < SEAM_TRAIN_SITES_MAX; id++) {
        const seam_site *const site = seam_train_site(session, id);
        if (site != NULL) {
            const seam_alloc *alloc = seam_site_alloc_now(site);
            seam__v1__alloc_version__init(&versions[count]);
            versions[count].site = id;
            versions[count].version = alloc->version;
            versions[count].hash = alloc->hash;
            list[count] = &versions[count];
            count++;
        }
    }
    attached.epoch = train->epoch;
    attached.committed_step_count = seam_server_proto_committed_count(&session->proto);
    attached.durable_step_count = seam_session_durable(session);
    attached.action = (Seam__V1__AttachAction)train->attached.action;
    attached.rollback_step = train->attached.rollback_step;
    attached.capabilities = &capabilities;
    attached.n_allocations = count;
    attached.allocations = list;
    attached.credit_bytes = train->credit_rx.window;
    response.body_case = SEAM__V1__TRAIN_RESPONSE__BODY_ATTACHED;
    response.attached = &attached;
    return seam_call_send_message(train->call, &response.base);
}
