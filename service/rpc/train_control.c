/* Control messages of a Train stream: Attach, StepBegin, allocations, budgets. */
#include <math.h>
#include <string.h>

#include "exchange.h"
#include "host.h"
#include "log.h"
#include "rpc_methods.h"
#include "session_disk.h"
#include "train_stream.h"
#include "try.h"

typedef Seam__V1__TrainResponse train_response;

/* Put "message." before an error that names a field of it. */
static seam_status in_message(const char *message, seam_status st, seam_error *err) {
    char text[SEAM_ERROR_TEXT_BYTES];
    memcpy(text, err->text, sizeof text);
    return seam_error_set(err, st, "%s.%.400s", message,
                          text[0] != '\0' ? text : seam_status_text(st));
}

/* ---- Attach ---- */

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

/* The allocation of a forward site; NULL: there is no such site. */
static seam_site *site_of(const seam_session *session, uint32_t site) {
    return site <= SEAM_SITE_FWD_OUT
               ? seam_trainer_site(session->trainer, (uint16_t)site)
               : seam_exchange_site(seam_trainer_exchange(session->trainer), site);
}

/* A version that both sides hold must have the same widths. */
static seam_status allocations_check(const Seam__V1__Attach *attach, seam_session *session,
                                     seam_error *err) {
    for (size_t i = 0; i < attach->n_allocations; i++) {
        const Seam__V1__AllocVersion *theirs = attach->allocations[i];
        const seam_alloc *ours = NULL;
        const seam_site *site = site_of(session, theirs->site);
        if (site == NULL) {
            return seam_error_set(err, SEAM_E_ARG, "allocations[%zu].site: %u is no forward site",
                                  i, theirs->site);
        }
        if (seam_site_alloc_find(&ours, site, theirs->version, theirs->hash) == SEAM_E_CONFLICT) {
            return seam_error_set(err, SEAM_E_CONFLICT,
                                  "allocations[%zu]: version %u of site %u has other widths here",
                                  i, theirs->version, theirs->site);
        }
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
    if (!session->busy && session->trainer != NULL && !session->disk.spoiled) {
        SEAM_TRY(allocations_check(attach, session, err));
    }
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
    if (seam_call_wakes(train->call, message, session)) { /* this message comes again */
        train->session = NULL;
        seam_session_unref(session);
        return;
    }
    if (session->stream_waiting != NULL) { /* the newest attach wins */
        seam_call *older = session->stream_waiting;
        (void)seam_error_set(&err, SEAM_E_FENCED, "a newer attach owns the session");
        seam_train_fail(older->state, SEAM_E_FENCED, &err);
    }
    session->stream_waiting = train->call;
    if (!session->busy) {
        seam_train_attach_now(train);
    }
}

SEAM_ON_GPU static seam_status drop_run(seam_job *job, seam_stream *stream) {
    const seam_train *train = job->user;
    return seam_trainer_abort_step(train->session->trainer, stream);
}

SEAM_ON_GPU static seam_status load_run(seam_job *job, seam_stream *stream) {
    const seam_train *train = job->user;
    return seam_session_restore(train->session, stream, &job->err);
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
    const bool withdrawn = session->queue_count > 0;
    seam_train_withdraw(session); /* the older stream's client is who attaches now */
    const seam_status st =
        seam_server_proto_attach(&train->attached, &session->proto, &train->attach, &err);
    if (st != SEAM_OK) {
        seam_train_fail(train, st, &err);
        if (withdrawn && session->stream != NULL) { /* it would wait for them */
            (void)seam_error_set(&err, SEAM_E_UNAVAILABLE, "an attach was refused: attach again");
            seam_train_fail(((seam_call *)session->stream)->state, SEAM_E_UNAVAILABLE, &err);
        }
        return;
    }
    SEAM_ASSERT(train->attached.action != SEAM_ATTACH_WAIT); /* the session is idle */
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

SEAM_ON_LOOP static bool response_send(seam_train *train, train_response *response) {
    return seam_call_send_message(train->call, &response->base);
}

#define FORWARD_SITES_MAX (2 + SEAM_MODULE_LINK_SITES_MAX)

bool seam_train_send_attached(seam_train *train) {
    seam_session *session = train->session;
    Seam__V1__Codec codecs[SEAM_CODEC_LAST];
    Seam__V1__Capabilities capabilities;
    Seam__V1__AllocVersion versions[FORWARD_SITES_MAX];
    Seam__V1__AllocVersion *list[FORWARD_SITES_MAX];
    uint32_t count = 0;
    Seam__V1__Attached attached = SEAM__V1__ATTACHED__INIT;
    train_response response = SEAM__V1__TRAIN_RESPONSE__INIT;
    seam_capabilities_init(&capabilities, codecs);
    for (uint32_t id = 0; id <= SEAM_SITE_PREFIX && count < FORWARD_SITES_MAX; id++) {
        const seam_site *const site = site_of(session, id);
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
    return response_send(train, &response);
}

bool seam_train_send_credit(seam_train *train, uint64_t limit_bytes) {
    Seam__V1__Credit credit = SEAM__V1__CREDIT__INIT;
    train_response response = SEAM__V1__TRAIN_RESPONSE__INIT;
    credit.limit_bytes = limit_bytes;
    response.body_case = SEAM__V1__TRAIN_RESPONSE__BODY_CREDIT;
    response.credit = &credit;
    return response_send(train, &response);
}

/* ---- steps ---- */

/* The server's own proposal for this step must have its answer: it encodes with it. */
static seam_status answered_check(const seam_session *session, uint64_t step, seam_error *err) {
    const seam_alloc *alloc = NULL;
    seam_site *site = seam_trainer_site(session->trainer, SEAM_SITE_FWD_OUT);
    if (step == seam_server_proto_committed_count(&session->proto) &&
        seam_site_alloc_at(&alloc, site, step) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_STATE,
                              "alloc_ack: the proposal for site %u that step %llu waits for has no "
                              "answer",
                              SEAM_SITE_FWD_OUT, (unsigned long long)step);
    }
    return SEAM_OK;
}

SEAM_ON_LOOP static seam_status on_step_begin(seam_train *train, const seam_walk *walk,
                                              seam_error *err) {
    seam_session *session = train->session;
    const Seam__V1__StepBegin *begin = NULL;
    seam_server_verdict verdict = {0};
    SEAM_TRY(seam_session_step_unpack(&begin, session, walk->body, walk->body_bytes, err));
    const seam_status st = seam_step_begin_check(begin, &session->config.limits, err);
    if (st != SEAM_OK) {
        return in_message("step_begin", st, err);
    }
    const seam_step_begin_args args = {.epoch = train->epoch,
                                       .step = begin->step,
                                       .digest = begin->digest,
                                       .micro_count = (uint32_t)begin->n_micros,
                                       .pipeline_depth = begin->pipeline_depth};
    SEAM_TRY(answered_check(session, begin->step, err));
    SEAM_TRY(seam_server_proto_step_begin(&verdict, &session->proto, &args, err));
    if (verdict.verdict == SEAM_VERDICT_RUN) {
        seam_session_step_adopt(session);
        if (begin->pipeline_depth > 0) { /* what it no longer needs goes with the first tensor */
            session->config.slots_kept = begin->pipeline_depth;
        }
    }
    train->out_commit = (train->out_commit || verdict.resend_commit) && session->commit_bytes > 0;
    return SEAM_OK;
}

static void gate_report(Seam__V1__SiteReport *ret, const seam_gate_report *gates) {
    seam__v1__site_report__init(ret);
    ret->site = gates->site;
    ret->gate_bits_total = gates->gate_bits_total;
    ret->bits_total = gates->bits_total;
    ret->bits_min = gates->bits_min;
    ret->bits_max = gates->bits_max;
}

/* Of site 1, if it has an allocator, then of each boundary between blocks, then of a prefix. */
static size_t site_reports(Seam__V1__SiteReport *ret_reports, const seam_step_result *result) {
    size_t count = 0;
    if (result->gate_bits_total > 0) {
        Seam__V1__SiteReport *report = &ret_reports[count++];
        seam__v1__site_report__init(report);
        report->site = SEAM_SITE_FWD_OUT;
        report->gate_bits_total = result->gate_bits_total;
        report->gate_pull = result->gate_pull;
        report->cost_sum = result->cost_sum;
        report->cost_channels = result->cost_channels;
    }
    for (uint32_t i = 0; i < result->layer_count; i++) {
        gate_report(&ret_reports[count++], &result->layers[i]);
    }
    for (uint32_t i = 0; i < result->prefix_count; i++) {
        gate_report(&ret_reports[count++], &result->prefix[i]);
    }
    return count;
}

void seam_train_store_commit(seam_session *session, uint64_t step, const seam_step_result *result) {
    Seam__V1__SiteReport report[1 + SEAM_LAYERS_MAX + SEAM_PREFIX_GATES];
    Seam__V1__SiteReport *reports[1 + SEAM_LAYERS_MAX + SEAM_PREFIX_GATES];
    Seam__V1__Commit commit = SEAM__V1__COMMIT__INIT;
    train_response response = SEAM__V1__TRAIN_RESPONSE__INIT;
    commit.step = step;
    commit.state_hash = result->state_hash;
    commit.grad_norm = result->grad_norm;
    commit.lr = result->lr;
    commit.clip_factor = session->config.client_trains ? result->clip_factor : 0;
    commit.durable_step_count = seam_session_durable(session);
    commit.skipped = result->skipped;
    commit.compute_seconds = result->compute_seconds;
    commit.codec_seconds = result->codec_seconds;
    commit.sites = reports;
    commit.n_sites = site_reports(report, result);
    for (size_t i = 0; i < commit.n_sites; i++) {
        reports[i] = &report[i];
    }
    response.body_case = SEAM__V1__TRAIN_RESPONSE__BODY_COMMIT;
    response.commit = &commit;
    SEAM_ASSERT(seam__v1__train_response__get_packed_size(&response) <= sizeof session->commit);
    session->commit_bytes = seam__v1__train_response__pack(&response, session->commit);
}

/* ---- allocations ---- */

bool seam_train_send_proposal(seam_train *train, const seam_alloc *alloc) {
    Seam__V1__AllocPropose propose = SEAM__V1__ALLOC_PROPOSE__INIT;
    train_response response = SEAM__V1__TRAIN_RESPONSE__INIT;
    propose.site = SEAM_SITE_FWD_OUT;
    propose.version = alloc->version;
    propose.effective_step = alloc->effective_step;
    propose.widths.data = alloc->widths;
    propose.widths.len = seam_session_config_width_count(&train->session->config);
    propose.hash = alloc->hash;
    response.body_case = SEAM__V1__TRAIN_RESPONSE__BODY_ALLOC_PROPOSE;
    response.alloc_propose = &propose;
    return response_send(train, &response);
}

SEAM_ON_LOOP static seam_status
on_alloc_propose(seam_train *train, const Seam__V1__AllocPropose *propose, seam_error *err) {
    seam_session *session = train->session;
    train_response response = SEAM__V1__TRAIN_RESPONSE__INIT;
    Seam__V1__AllocAck ack = SEAM__V1__ALLOC_ACK__INIT;
    Seam__V1__AllocNack nack = SEAM__V1__ALLOC_NACK__INIT;
    seam_site *const site =
        propose->site != SEAM_SITE_FWD_OUT ? site_of(session, propose->site) : NULL;
    if (site == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "alloc_propose.site: %u is not the client's",
                              propose->site);
    }
    if (propose->widths.len > SEAM_CHANNELS_MAX) {
        return seam_error_set(err, SEAM_E_ARG, "alloc_propose.widths: %zu channels",
                              propose->widths.len);
    }
    const seam_status st =
        seam_site_judge(site, propose->version, propose->effective_step, propose->widths.data,
                        (uint32_t)propose->widths.len, propose->hash,
                        seam_server_proto_committed_count(&session->proto), err);
    if (st == SEAM_OK) {
        ack.site = propose->site;
        ack.version = propose->version;
        response.body_case = SEAM__V1__TRAIN_RESPONSE__BODY_ALLOC_ACK;
        response.alloc_ack = &ack;
    } else if (st == SEAM_E_ARG) {
        nack.site = propose->site;
        nack.version = propose->version;
        nack.reason = err->text;
        nack.bits_min = (uint32_t)ceilf(session->config.gates.bits_min);
        nack.bits_max = (uint32_t)floorf(session->config.gates.bits_max);
        response.body_case = SEAM__V1__TRAIN_RESPONSE__BODY_ALLOC_NACK;
        response.alloc_nack = &nack;
    } else {
        return in_message("alloc_propose", st, err);
    }
    return response_send(train, &response) ? SEAM_OK : SEAM_E_LIMIT;
}

/* ACK (nack NULL) or NACK of site 1's proposal. */
static seam_status on_alloc_answer(const seam_train *train, uint32_t site_id, uint32_t version,
                                   const Seam__V1__AllocNack *nack, seam_error *err) {
    const char *what = nack != NULL ? "alloc_nack" : "alloc_ack";
    if (site_id != SEAM_SITE_FWD_OUT) {
        return seam_error_set(err, SEAM_E_ARG, "%s.site: %u is not the server's", what, site_id);
    }
    seam_site *site = seam_trainer_site(train->session->trainer, SEAM_SITE_FWD_OUT);
    seam_status st = SEAM_OK;
    if (nack == NULL) {
        st = seam_site_acked(site, version);
    } else if (nack->bits_min > SEAM_BITS_MAX || nack->bits_max > SEAM_BITS_MAX) {
        st = SEAM_E_ARG;
    } else {
        st = seam_site_nacked(site, version, (uint8_t)nack->bits_min, (uint8_t)nack->bits_max);
    }
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "%s.%s", what,
                              st == SEAM_E_ARG ? "bits_min: the bounds leave no width"
                                               : "version: not the one proposed");
    }
    return SEAM_OK;
}

/* For people: nothing is computed from either. */
SEAM_ON_LOOP static void budget_log(seam_train *train, const Seam__V1__Budget *budget) {
    const double link = budget->link_bits_per_second, target = budget->bits_target;
    if (isfinite(link) && isfinite(target) &&
        (link != train->link_told || target != train->target_told)) {
        train->link_told = link;
        train->target_told = target;
        seam_log(SEAM_LOG_INFO, "train_budget",
                 "session=%s step=%llu bits_target=%.6g link_bits_per_second=%.6g",
                 train->session->id, (unsigned long long)budget->effective_step, target, link);
    }
}

SEAM_ON_LOOP static seam_status on_budget(seam_train *train, const Seam__V1__Budget *budget,
                                          seam_error *err) {
    if (!seam_codec_plan_has_gates_out(&train->session->config.codec)) {
        return seam_error_set(err, SEAM_E_STATE, "budget: site 1 has no gates");
    }
    if (!isfinite(budget->width_shift) || !isfinite(budget->beta) || budget->beta < 0 ||
        !isfinite(budget->bits_lr) || budget->bits_lr < 0) {
        return seam_error_set(err, SEAM_E_ARG,
                              "budget.beta: beta, bits_lr and width_shift must be finite, the "
                              "first two not negative");
    }
    const uint32_t widths = seam_session_config_width_count(&train->session->config);
    if (budget->bits_total != 0 &&
        (budget->bits_total < widths || budget->bits_total > SEAM_BITS_MAX * widths)) {
        return seam_error_set(err, SEAM_E_ARG,
                              "budget.bits_total: %u is not in 1..%d bits for each of %u widths",
                              budget->bits_total, SEAM_BITS_MAX, widths);
    }
    const seam_budget next = {.effective_step = budget->effective_step,
                              .bits_loss_active = budget->bits_loss_active,
                              .width_shift = budget->width_shift,
                              .beta = budget->beta,
                              .bits_lr = budget->bits_lr,
                              .bits_total = budget->bits_total};
    SEAM_TRY(seam_trainer_set_budget(train->session->trainer, &next,
                                     seam_server_proto_committed_count(&train->session->proto),
                                     err));
    budget_log(train, budget);
    return SEAM_OK;
}

/* A checkpoint that is no longer there (damaged, or older than one confirmed before) is no error of
 * a client that was told of it. */
SEAM_ON_LOOP static seam_status on_confirm(seam_session *session, uint64_t step_count,
                                           seam_error *err) {
    uint64_t keep_from = 0;
    const seam_status st =
        seam_server_proto_durable_confirm(&keep_from, &session->proto, step_count, err);
    if (st == SEAM_OK) {
        seam_session_forget_below(session, keep_from);
    }
    return st == SEAM_E_ARG && step_count < seam_session_durable(session) ? SEAM_OK : st;
}

/* ---- dispatch ---- */

SEAM_ON_LOOP static seam_status
body_dispatch(seam_train *train, const Seam__V1__TrainRequest *request, seam_error *err) {
    switch (request->body_case) {
    case SEAM__V1__TRAIN_REQUEST__BODY_ALLOC_PROPOSE:
        return on_alloc_propose(train, request->alloc_propose, err);
    case SEAM__V1__TRAIN_REQUEST__BODY_ALLOC_ACK:
        return on_alloc_answer(train, request->alloc_ack->site, request->alloc_ack->version, NULL,
                               err);
    case SEAM__V1__TRAIN_REQUEST__BODY_ALLOC_NACK:
        return on_alloc_answer(train, request->alloc_nack->site, request->alloc_nack->version,
                               request->alloc_nack, err);
    case SEAM__V1__TRAIN_REQUEST__BODY_BUDGET:
        return on_budget(train, request->budget, err);
    case SEAM__V1__TRAIN_REQUEST__BODY_CHECKPOINT_CONFIRM:
        return on_confirm(train->session, request->checkpoint_confirm->step, err);
    case SEAM__V1__TRAIN_REQUEST__BODY_DETACH:
        seam_train_end(train);
        return SEAM_OK;
    default:
        return seam_error_set(err, SEAM_E_OUT_OF_SEQUENCE,
                              "attach: the stream is attached already");
    }
}

seam_status seam_train_control(seam_train *train, const seam_walk *walk, const uint8_t *bytes,
                               size_t count, seam_error *err) {
    if (walk->field == SEAM__V1__TRAIN_REQUEST__BODY_STEP_BEGIN) {
        return on_step_begin(train, walk, err);
    }
    Seam__V1__TrainRequest *request = seam__v1__train_request__unpack(NULL, count, bytes);
    if (request == NULL || request->body_case == SEAM__V1__TRAIN_REQUEST__BODY__NOT_SET) {
        if (request != NULL) {
            seam__v1__train_request__free_unpacked(request, NULL);
        }
        return seam_error_set(err, SEAM_E_FORMAT, "TrainRequest: malformed protobuf (field %u)",
                              walk->field);
    }
    const seam_status st = body_dispatch(train, request, err);
    seam__v1__train_request__free_unpacked(request, NULL);
    return st;
}
