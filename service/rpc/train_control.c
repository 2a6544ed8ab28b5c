/* Control messages of a stream that is attached: StepBegin and what becomes a Commit, allocations
 * and their answers, budgets, confirmations of checkpoints, grants.  The Attach: train_attach.c.
 * Read next: proto/wire/server_proto.c, seam_server_proto_step_begin. */
#include <math.h>
#include <string.h>

#include "exchange.h"
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

seam_site *seam_train_site(const seam_session *session, uint32_t site) {
    return site <= SEAM_SITE_FWD_OUT
               ? seam_trainer_site(session->trainer, (uint16_t)site)
               : seam_exchange_site(seam_trainer_exchange(session->trainer), site);
}

SEAM_ON_LOOP static bool response_send(seam_train *train, train_response *response) {
    return seam_call_send_message(train->call, &response->base);
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
        propose->site != SEAM_SITE_FWD_OUT ? seam_train_site(session, propose->site) : NULL;
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
