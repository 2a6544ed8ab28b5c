/* A short list by rising steps, in the session and in the state directory. */
#include "session_update.h"

#include <stdio.h>
#include <string.h>

#include "session_disk.h"
#include "session_table.h"
#include "try.h"

/* The last one at or before the step; the count where there is none. */
static uint32_t update_at(const seam_session_updates *updates, uint64_t step) {
    uint32_t found = updates->count;
    for (uint32_t i = 0; i < updates->count && updates->items[i].effective_step <= step; i++) {
        found = i;
    }
    return found;
}

const seam_optimizer_config *seam_session_optimizer(const seam_session *session, uint64_t step) {
    const seam_session_updates *updates = &session->updates;
    const uint32_t at = update_at(updates, step);
    return at < updates->count ? &updates->items[at].optimizer : &session->config.optimizer;
}

/* The first step that has begun neither here nor at the client. */
static uint64_t step_min(const seam_session *session) {
    uint32_t micro = 0;
    const bool begun = seam_server_proto_phase(&micro, &session->proto) != SEAM_SERVER_READY;
    const uint64_t ours = seam_server_proto_committed_count(&session->proto) + (begun ? 1 : 0);
    return ours > session->made_step_count ? ours : session->made_step_count;
}

void seam_session_made(seam_session *session, uint64_t step_count) {
    if (session->made_step_count < step_count) {
        session->made_step_count = step_count;
    }
}

uint64_t seam_session_update_floor(const seam_session *session) {
    uint64_t step_counts[SEAM_DURABLE_MAX];
    const seam_session_updates *updates = &session->updates;
    const uint32_t durable_count = seam_server_proto_durable_list(step_counts, &session->proto);
    const uint64_t oldest = !seam_session_is_kept(session)
                                ? seam_server_proto_committed_count(&session->proto)
                            : durable_count > 0 ? step_counts[0]
                                                : 0;
    const uint32_t at = update_at(updates, oldest);
    return at < updates->count ? updates->items[at].effective_step : 0;
}

/* Of one request: `again` as the first time, before its step was settled or after. */
static bool is_same(const seam_session_update *first, const seam_session_update *again) {
    const seam_optimizer_config *x = &first->optimizer, *y = &again->optimizer;
    return (again->effective_step == 0 || first->effective_step == again->effective_step) &&
           x->lr == y->lr && x->beta1 == y->beta1 && x->beta2 == y->beta2 && x->eps == y->eps &&
           x->weight_decay == y->weight_decay && x->clip_norm == y->clip_norm &&
           x->schedule == y->schedule && x->warmup_steps == y->warmup_steps &&
           x->total_steps == y->total_steps;
}

/* Is the optimizer this end's, and is it known what has gone by it? */
static seam_status session_check(const seam_session *session, seam_error *err) {
    if (session->config.codec.topology == SEAM_TOPOLOGY_ADAPTER_EXCHANGE ||
        session->config.client_trains) {
        return seam_error_set(err, SEAM_E_STATE,
                              "session_id: its client steps an optimizer of its own by the config, "
                              "which stays as it is");
    }
    if (seam_server_proto_link(&session->proto) == SEAM_LINK_FROZEN) {
        return seam_error_set(err, SEAM_E_STATE, "session_id: the session is frozen");
    }
    return session->made_known
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_STATE,
                                "session_id: its client has not attached since the server started, "
                                "so that the steps that it has made are not known");
}

/* That the request was known before, or was not; SEAM_E_EXISTS. */
static seam_status known_find(bool *ret_known, const seam_session_updates *updates,
                              const seam_session_update *update, seam_error *err) {
    *ret_known = false;
    for (uint32_t i = 0; i < updates->count && update->request_id[0] != '\0'; i++) {
        const seam_session_update *item = &updates->items[i];
        if (strcmp(item->request_id, update->request_id) == 0) {
            *ret_known = is_same(item, update);
            return *ret_known ? SEAM_OK
                              : seam_error_set(err, SEAM_E_EXISTS,
                                               "request_id: used with another step or optimizer");
        }
    }
    return SEAM_OK;
}

seam_status seam_session_update_settle(bool *ret_known, seam_session_update *update,
                                       const seam_session *session, seam_error *err) {
    const seam_session_updates *updates = &session->updates;
    const uint64_t min = step_min(session), floor = seam_session_update_floor(session);
    const uint64_t step = update->effective_step != 0 ? update->effective_step : min;
    uint32_t left = 0; /* beside it */
    if (session->deleted) {
        return seam_error_set(err, SEAM_E_GONE, "the session was deleted");
    }
    SEAM_TRY(known_find(ret_known, updates, update, err)); /* whatever has become of it since */
    if (*ret_known) {
        return SEAM_OK;
    }
    SEAM_TRY(session_check(session, err));
    if (step < min || step > INT64_MAX) {
        return seam_error_set(err, SEAM_E_ARG, "effective_step: %llu is not one of %llu to %lld",
                              (unsigned long long)step, (unsigned long long)min,
                              (long long)INT64_MAX);
    }
    for (uint32_t i = 0; i < updates->count; i++) {
        const uint64_t other = updates->items[i].effective_step;
        left += other >= floor && other < step ? 1 : 0;
    }
    if (left == SEAM_UPDATES_MAX) {
        return seam_error_set(err, SEAM_E_LIMIT,
                              "%d updates wait for their steps, or a rollback may need them",
                              SEAM_UPDATES_MAX);
    }
    update->effective_step = step;
    return SEAM_OK;
}

seam_status seam_session_update_store(const seam_session *session,
                                      const seam_session_update *update, uint64_t floor,
                                      seam_error *err) {
    uint8_t packed[128]; /* at most 9 fields of a byte and 10 */
    Seam__V1__OptimizerConfig message;
    seam_optimizer_config_write(&message, &update->optimizer);
    const seam_update_row row = {.id = session->id,
                                 .request_id = update->request_id,
                                 .effective_step = update->effective_step,
                                 .optimizer = packed,
                                 .optimizer_bytes =
                                     seam__v1__optimizer_config__pack(&message, packed)};
    return seam_state_store_update(seam_sessions_options_of(session->sessions)->store, &row, floor,
                                   err);
}

void seam_session_update_add(seam_session *session, const seam_session_update *update) {
    seam_session_updates *updates = &session->updates;
    const uint64_t floor = seam_session_update_floor(session);
    uint32_t count = 0;
    for (uint32_t i = 0; i < updates->count; i++) {
        const uint64_t step = updates->items[i].effective_step;
        if (step >= floor && step < update->effective_step) {
            updates->items[count++] = updates->items[i];
        }
    }
    SEAM_ASSERT(count < SEAM_UPDATES_MAX);
    updates->items[count++] = *update;
    updates->count = count;
}

seam_status seam_session_made_store(const seam_session *session, uint64_t step_count,
                                    seam_error *err) {
    return seam_state_store_set_made(seam_sessions_options_of(session->sessions)->store,
                                     session->id, step_count, err);
}

static seam_status row_take(void *user, const seam_update_row *row) {
    seam_session_updates *updates = user;
    if (updates->count == SEAM_UPDATES_MAX || row->effective_step > INT64_MAX ||
        strlen(row->request_id) >= sizeof updates->items[0].request_id) {
        return SEAM_E_FORMAT;
    }
    Seam__V1__OptimizerConfig *message =
        seam__v1__optimizer_config__unpack(NULL, row->optimizer_bytes, row->optimizer);
    seam_session_update *item = &updates->items[updates->count];
    const seam_status st =
        message == NULL ? SEAM_E_FORMAT
                        : seam_optimizer_config_read(&item->optimizer, message, "optimizer", NULL);
    if (message != NULL) {
        seam__v1__optimizer_config__free_unpacked(message, NULL);
    }
    if (st != SEAM_OK) {
        return SEAM_E_FORMAT;
    }
    item->effective_step = row->effective_step;
    (void)snprintf(item->request_id, sizeof item->request_id, "%s", row->request_id);
    updates->count++;
    return SEAM_OK;
}

seam_status seam_session_updates_load(seam_session_updates *ret_updates, seam_state_store *store,
                                      const char *id, seam_error *err) {
    ret_updates->count = 0;
    const seam_status st = seam_state_store_visit_updates(store, id, row_take, ret_updates, err);
    return st == SEAM_E_FORMAT
               ? seam_error_set(err, st, "a stored update of its optimizer is malformed")
               : st;
}
