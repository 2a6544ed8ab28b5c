/* What a session's server steps by, and from a step on by something else: seam.h. */
#include <string.h>

#include "core.h"
#include "try.h"

static const char *const schedules[] = {"constant", "linear", "cosine"};
#define SCHEDULE_COUNT (sizeof schedules / sizeof *schedules)

static seam_status struct_check(const seam_optimizer *optimizer, seam_error *err) {
    return optimizer->struct_bytes == sizeof *optimizer
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_ARG, "optimizer: struct_bytes is not set");
}

static seam_optimizer optimizer_of(const Seam__V1__OptimizerConfig *message) {
    const size_t schedule = (size_t)message->schedule - 1; /* of a later release: constant */
    return (seam_optimizer){.struct_bytes = sizeof(seam_optimizer),
                            .lr = message->lr,
                            .adam_beta1 = message->beta1,
                            .adam_beta2 = message->beta2,
                            .adam_eps = message->eps,
                            .weight_decay = message->weight_decay,
                            .clip_norm = message->clip_norm,
                            .schedule = schedules[schedule < SCHEDULE_COUNT ? schedule : 0],
                            .warmup_steps = message->warmup_steps,
                            .total_steps = message->total_steps};
}

/* The last update at or before the step, else the config's. */
static const Seam__V1__OptimizerConfig *optimizer_at(const Seam__V1__Session *session,
                                                     uint64_t step) {
    const Seam__V1__OptimizerConfig *found = session->config->optimizer;
    for (size_t i = 0; i < session->n_updates; i++) {
        const Seam__V1__OptimizerUpdate *const update = session->updates[i];
        if (update->effective_step <= step && update->optimizer != NULL) {
            found = update->optimizer;
        }
    }
    return found;
}

seam_status seam_session_optimizer(seam_optimizer *ret_optimizer, seam_session *session,
                                   uint64_t step, seam_error *err) {
    if (ret_optimizer == NULL || session == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "ret_optimizer or session is NULL");
    }
    SEAM_TRY(struct_check(ret_optimizer, err));
    Seam__V1__GetSessionResponse *r = NULL;
    SEAM_TRY(seam_session_fetch(&r, session, err));
    const Seam__V1__OptimizerConfig *const found = optimizer_at(r->session, step);
    seam_status st = SEAM_OK;
    if (found != NULL) {
        *ret_optimizer = optimizer_of(found);
    } else {
        st = seam_error_set(err, SEAM_E_FORMAT, "GetSession: session.config.optimizer is missing");
    }
    protobuf_c_message_free_unpacked(&r->base, NULL);
    return st;
}

seam_status seam_session_updates(seam_optimizer_update *ret_updates, uint32_t *ret_count,
                                 seam_session *session, uint32_t capacity, seam_error *err) {
    if (ret_updates == NULL || ret_count == NULL || session == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "ret_updates, ret_count or session is NULL");
    }
    Seam__V1__GetSessionResponse *r = NULL;
    SEAM_TRY(seam_session_fetch(&r, session, err));
    const Seam__V1__Session *const s = r->session;
    uint32_t count = 0;
    seam_status st = s->n_updates <= capacity
                         ? SEAM_OK
                         : seam_error_set(err, SEAM_E_LIMIT, "capacity: %u, but there are %zu",
                                          capacity, s->n_updates);
    for (size_t i = 0; st == SEAM_OK && i < s->n_updates; i++) {
        const Seam__V1__OptimizerUpdate *const update = s->updates[i];
        if (update->optimizer == NULL) {
            st = seam_error_set(err, SEAM_E_FORMAT,
                                "GetSession: session.updates[%zu].optimizer is missing", i);
            break;
        }
        ret_updates[count++] = (seam_optimizer_update){
            .step = update->effective_step, .optimizer = optimizer_of(update->optimizer)};
    }
    protobuf_c_message_free_unpacked(&r->base, NULL);
    *ret_count = st == SEAM_OK ? count : 0;
    return st;
}

/* The answer's session has the update, by what was asked for. */
static seam_status step_find(uint64_t *ret_step, const Seam__V1__Session *session, uint64_t step,
                             seam_error *err) {
    const Seam__V1__OptimizerUpdate *found = NULL;
    for (size_t i = 0; session != NULL && i < session->n_updates; i++) {
        const Seam__V1__OptimizerUpdate *const update = session->updates[i];
        found = step == 0 || update->effective_step == step ? update : found;
    }
    if (found == NULL) {
        return seam_error_set(err, SEAM_E_FORMAT, "UpdateSession: session.updates: not there");
    }
    *ret_step = found->effective_step;
    return SEAM_OK;
}

seam_status seam_session_update(uint64_t *ret_step, seam_session *session, uint64_t step,
                                const seam_optimizer *optimizer, seam_error *err) {
    if (session == NULL || optimizer == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "session or optimizer is NULL");
    }
    SEAM_TRY(struct_check(optimizer, err));
    int schedule = 0;
    SEAM_TRY(seam_config_pick(&schedule, "schedule", optimizer->schedule, schedules, SCHEDULE_COUNT,
                              0, err));
    SEAM_TRY(seam_session_check_cancel(session, err));
    Seam__V1__OptimizerConfig config = SEAM__V1__OPTIMIZER_CONFIG__INIT;
    config.lr = optimizer->lr;
    config.beta1 = optimizer->adam_beta1;
    config.beta2 = optimizer->adam_beta2;
    config.eps = optimizer->adam_eps;
    config.weight_decay = optimizer->weight_decay;
    config.clip_norm = optimizer->clip_norm;
    config.schedule = (Seam__V1__Schedule)(schedule + 1);
    config.warmup_steps = optimizer->warmup_steps;
    config.total_steps = optimizer->total_steps;
    Seam__V1__UpdateSessionRequest request = SEAM__V1__UPDATE_SESSION_REQUEST__INIT;
    char request_id[33];
    seam_request_id(request_id);
    request.request_id = request_id;
    request.session_id = session->id;
    request.session_secret.data = session->secret;
    request.session_secret.len = SEAM_SECRET_BYTES;
    request.effective_step = step;
    request.optimizer = &config;
    ProtobufCMessage *message = NULL;
    const seam_client_request asked = {.method = "UpdateSession",
                                       .message = &request.base,
                                       .answer = &seam__v1__update_session_response__descriptor,
                                       .session = session};
    SEAM_TRY(seam_client_ask(&message, session->client, &asked, err));
    const seam_status st =
        step_find(&step, ((const Seam__V1__UpdateSessionResponse *)message)->session, step, err);
    protobuf_c_message_free_unpacked(message, NULL);
    if (st == SEAM_OK && ret_step != NULL) {
        *ret_step = step;
    }
    return st;
}
