/* A linked list in order of creation: there are at most sessions_max of them. */
#include "session_table.h"

#include <stdio.h>
#include <string.h>

#include "auth.h"
#include "host.h"
#include "log.h"
#include "session_delete.h"
#include "session_park.h"
#include "session_update.h"
#include "try.h"

struct seam_sessions {
    seam_sessions_options options;
    seam_session *head;
    uint32_t count;
    uint32_t resident_count; /* of them, those that have their memory */
    uint64_t number_last;
    uint64_t reserved_bytes, host_reserved_bytes; /* of the two budgets */
    seam_deletions deletions;
};

seam_status seam_sessions_create(seam_sessions **ret_sessions, const seam_sessions_options *options,
                                 seam_error *err) {
    seam_sessions *sessions = seam_mem_zalloc(1, sizeof *sessions);
    if (sessions == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "sessions: out of memory");
    }
    sessions->options = *options;
    *ret_sessions = sessions;
    return SEAM_OK;
}

const seam_sessions_options *seam_sessions_options_of(const seam_sessions *sessions) {
    return &sessions->options;
}

seam_deletions *seam_sessions_deletions(seam_sessions *sessions) {
    return &sessions->deletions;
}

void seam_sessions_engine_ended(seam_sessions *sessions) {
    sessions->options.engine = NULL;
}

SEAM_WITHOUT_THREADS void seam_sessions_destroy(seam_sessions *gift_sessions) {
    if (gift_sessions == NULL) {
        return;
    }
    gift_sessions->options.store = NULL; /* what is kept stays kept */
    while (gift_sessions->head != NULL) {
        seam_session *session = gift_sessions->head;
        /* At the end: nobody took the job. */
        session->busy = session->disk.parking = session->disk.writing = false;
        seam_sessions_remove(gift_sessions, session);
    }
    seam_deletions_deinit(&gift_sessions->deletions);
    SEAM_ASSERT(gift_sessions->reserved_bytes == 0);
    SEAM_ASSERT(gift_sessions->host_reserved_bytes == 0);
    seam_mem_free(gift_sessions);
}

/* ---- admission ---- */

static seam_status known_find(seam_session **ret_session, const seam_sessions *sessions,
                              const char *request_id, const seam_session_config *config,
                              seam_error *err) {
    *ret_session = NULL;
    for (seam_session *s = sessions->head; s != NULL && request_id[0] != '\0'; s = s->next) {
        if (strcmp(s->request_id, request_id) != 0) {
            continue;
        }
        if (s->config.hash != config->hash) {
            return seam_error_set(err, SEAM_E_EXISTS, "request_id: used with another config");
        }
        if (!s->ready) {
            return seam_error_set(err, SEAM_E_UNAVAILABLE,
                                  "request_id: its session is still being created");
        }
        *ret_session = s;
        break;
    }
    return SEAM_OK;
}

static seam_status identity_draw(seam_session *session) {
    uint8_t id[(SEAM_SESSION_ID_BYTES - 1) / 2];
    SEAM_TRY(seam_auth_random(id, sizeof id));
    SEAM_TRY(seam_auth_random(session->secret, sizeof session->secret));
    for (size_t i = 0; i < sizeof id; i++) {
        (void)snprintf(session->id + 2 * i, 3, "%02x", id[i]);
    }
    return SEAM_OK;
}

static void append(seam_sessions *sessions, seam_session *session) {
    seam_session **at = &sessions->head;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = session;
    sessions->count++;
    session->number = ++sessions->number_last;
}

seam_status seam_sessions_place_check(const seam_sessions *sessions, seam_error *err) {
    return sessions->resident_count < sessions->options.sessions_max
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_LIMIT, "all %u sessions are taken (sessions-max)",
                                sessions->options.sessions_max);
}

void seam_sessions_set_resident(seam_session *session, bool resident) {
    SEAM_ASSERT(session->disk.resident != resident);
    session->disk.resident = resident;
    if (resident) {
        session->sessions->resident_count++;
    } else {
        session->sessions->resident_count--;
        seam_sessions_unreserve(session->sessions, &session->memory);
    }
}

void seam_sessions_plan_again(seam_session *session) {
    const seam_status st =
        seam_session_plan(&session->memory, &session->config, seam_session_is_kept(session),
                          session->sessions->options.inbox_bytes);
    SEAM_ASSERT(st == SEAM_OK); /* as a larger one was at its admission */
}

void seam_sessions_give_back(seam_session *session) {
    seam_memory_plan given = session->memory;
    SEAM_ASSERT(session->disk.resident);
    seam_sessions_plan_again(session);
    for (uint32_t kind = 0; kind < SEAM_MEMORY_KINDS; kind++) {
        SEAM_ASSERT(session->memory.device[kind] <= given.device[kind]);
        SEAM_ASSERT(session->memory.host[kind] <= given.host[kind]);
        given.device[kind] -= session->memory.device[kind];
        given.host[kind] -= session->memory.host[kind];
    }
    seam_sessions_unreserve(session->sessions, &given);
}

seam_status seam_sessions_admit(seam_session **ret_session, bool *ret_known,
                                seam_sessions *sessions, const char *request_id,
                                const seam_session_config *config,
                                Seam__V1__SessionConfig *gift_message, seam_error *err) {
    seam_session *known = NULL;
    if (strlen(request_id) >= SEAM_REQUEST_ID_BYTES) {
        return seam_error_set(err, SEAM_E_ARG, "request_id: longer than %d bytes",
                              SEAM_REQUEST_ID_BYTES - 1);
    }
    SEAM_TRY(known_find(&known, sessions, request_id, config, err));
    *ret_known = known != NULL;
    if (known != NULL) {
        seam_session_ref(known);
        *ret_session = known;
        return SEAM_OK;
    }
    SEAM_TRY(seam_sessions_place_check(sessions, err));
    if (sessions->count >= sessions->options.sessions_max + SEAM_SESSIONS_PARKED_MAX) {
        return seam_error_set(err, SEAM_E_LIMIT, "%u sessions are kept: delete some",
                              sessions->count);
    }
    seam_memory_plan plan;
    const bool is_kept = sessions->options.store != NULL;
    if (seam_session_plan(&plan, config, is_kept, sessions->options.inbox_bytes) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_LIMIT, "session: too large to address");
    }
    SEAM_TRY(seam_sessions_reserve(sessions, &plan, "session", err));
    seam_session *session = seam_mem_zalloc(1, sizeof *session);
    if (session == NULL || identity_draw(session) != SEAM_OK) {
        seam_mem_free(session);
        seam_sessions_unreserve(sessions, &plan);
        return seam_error_set(err, SEAM_E_MEMORY, "session: out of memory");
    }
    (void)snprintf(session->request_id, sizeof session->request_id, "%s", request_id);
    session->config = *config;
    session->config.trace = sessions->options.trace;
    session->message = gift_message;
    session->memory = plan;
    session->sessions = sessions;
    seam_sessions_set_resident(session, true);
    session->refs = 2; /* the table's and the caller's */
    append(sessions, session);
    *ret_session = session;
    return SEAM_OK;
}

/* The machine of a session that starts at these steps. */
static void proto_init(seam_session *session, uint64_t step_count, uint64_t now_ms) {
    const seam_session_config *config = &session->config;
    const seam_sessions_options *options = &session->sessions->options;
    const bool is_kept = seam_session_is_kept(session);
    const seam_server_proto_config proto = {
        .config_hash = config->hash,
        .model_identity = config->model->identity,
        .micros_max = config->limits.micros_max,
        .site_forward = SEAM_SITE_FWD_IN,
        .site_backward = SEAM_SITE_BWD_OUT,
        .one_pass = seam_session_config_is_one_pass(config),
        .backward_reply =
            !seam_session_config_is_one_pass(config) && seam_session_config_backward_reply(config),
        .has_norm = config->client_trains,
        .pipeline_depth = config->pipeline_depth,
        .keeps_codec_state =
            seam_codec_has_state(seam_session_config_codec(config, SEAM_SITE_FWD_IN)) ||
            seam_codec_has_state(seam_session_config_codec(config, SEAM_SITE_FWD_OUT)),
        .can_park = is_kept,
        .lease_ms = options->lease_ms,
        .park_ms = options->park_ms,
        .committed_step_count = step_count,
        .epoch = is_kept ? seam_state_store_epoch(options->store) : 0,
        .now_ms = now_ms,
    };
    seam_server_proto_init(&session->proto, &proto);
}

void seam_sessions_ready(seam_sessions *sessions, seam_session *session, uint64_t now_ms) {
    (void)sessions;
    proto_init(session, 0, now_ms);
    session->made_known = true;
    if (seam_session_is_kept(session)) {
        const seam_status st = seam_server_proto_durable_add(&session->proto, 0);
        SEAM_ASSERT(st == SEAM_OK);
        session->disk.taken_ms = session->disk.commit_ms = now_ms;
    }
    session->ready = true;
}

seam_status seam_sessions_adopt(seam_session **ret_session, seam_sessions *sessions,
                                const seam_session_row *row, const seam_session_config *config,
                                Seam__V1__SessionConfig *gift_message, seam_error *err) {
    seam_memory_plan plan;
    if (strlen(row->id) != SEAM_SESSION_ID_BYTES - 1 ||
        row->secret_bytes != SEAM_SESSION_SECRET_BYTES ||
        strlen(row->request_id) >= SEAM_REQUEST_ID_BYTES) {
        return seam_error_set(err, SEAM_E_FORMAT, "the stored id or secret is malformed");
    }
    if (seam_session_plan(&plan, config, true, sessions->options.inbox_bytes) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_LIMIT, "session: too large to address");
    }
    seam_session *session = seam_mem_zalloc(1, sizeof *session);
    if (session == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "sessions: out of memory");
    }
    memcpy(session->id, row->id, sizeof session->id);
    memcpy(session->secret, row->secret, sizeof session->secret);
    memcpy(session->request_id, row->request_id, strlen(row->request_id) + 1);
    session->config = *config;
    session->config.trace = sessions->options.trace;
    session->message = gift_message;
    session->memory = plan;
    session->sessions = sessions;
    session->refs = 1; /* the table's */
    append(sessions, session);
    *ret_session = session;
    return SEAM_OK;
}

void seam_sessions_resume(seam_session *session, const uint64_t *step_counts, uint32_t count,
                          uint64_t now_ms) {
    const uint64_t newest = count > 0 ? step_counts[count - 1] : 0;
    proto_init(session, newest, now_ms);
    seam_session_made(session, newest);
    for (uint32_t i = 0; i < count; i++) {
        (void)seam_server_proto_durable_add(&session->proto, step_counts[i]);
    }
    if (count == 0 || seam_server_proto_parked(&session->proto, now_ms) != SEAM_OK) {
        seam_server_proto_freeze(&session->proto, SEAM_E_DATA_LOSS);
    }
    session->ready = true;
}

void seam_sessions_park_all(seam_sessions *sessions) {
    for (seam_session *s = sessions->head; s != NULL; s = s->next) {
        if (s->ready && seam_session_is_kept(s)) {
            seam_session_park_at_end(s);
        }
    }
}

void seam_sessions_remove(seam_sessions *sessions, seam_session *session) {
    if (!session->deleted) {
        session->deleted = true;
        session->ready = false; /* nobody finds it any more */
        session->request_id[0] = '\0';
    }
    if (session->busy || session->disk.writing) {
        return; /* they have its memory, and may write in its folder: tick comes back to it */
    }
    for (seam_session **at = &sessions->head; *at != NULL; at = &(*at)->next) {
        if (*at == session) {
            *at = session->next;
            session->next = NULL;
            sessions->count--;
            seam_deletion_start(session);
            seam_session_unref(session);
            break;
        }
    }
}

seam_engine *seam_sessions_release(seam_sessions *sessions, seam_session *session) {
    if (session->disk.resident) {
        seam_sessions_set_resident(session, false);
    }
    return sessions->options.engine;
}

/* ---- look-up ---- */

seam_status seam_sessions_find(seam_session **ret_session, seam_sessions *sessions, const char *id,
                               const uint8_t *secret, size_t secret_bytes, seam_error *err) {
    for (seam_session *s = sessions->head; s != NULL; s = s->next) {
        if (!s->ready || strcmp(s->id, id) != 0) {
            continue;
        }
        if (secret_bytes != sizeof s->secret ||
            !seam_auth_equal(secret, s->secret, sizeof s->secret)) {
            return seam_error_set(err, SEAM_E_DENIED, "session_secret: wrong");
        }
        seam_session_ref(s);
        *ret_session = s;
        return SEAM_OK;
    }
    return seam_error_set(err, SEAM_E_NOT_FOUND, "session_id: \"%.40s\" is no session here", id);
}

seam_session *seam_sessions_after(const seam_sessions *sessions, uint64_t number) {
    seam_session *s = sessions->head;
    while (s != NULL && (s->number <= number || !s->ready)) {
        s = s->next;
    }
    return s;
}

/* ---- leases and the budget ---- */

SEAM_ON_LOOP static void lease_tick(seam_sessions *sessions, seam_session *s, uint64_t now_ms) {
    if (s->refs > 1) { /* some call works with it */
        seam_server_proto_touch(&s->proto, now_ms);
    }
    if (s->busy || s->disk.writing) {
        return;
    }
    if (s->disk.spoiled) {
        seam_session_unload(s);
        return;
    }
    switch (seam_server_proto_tick(&s->proto, now_ms)) {
    case SEAM_LEASE_EXPIRE:
        seam_log(SEAM_LOG_INFO, "session_expired", "session=%s steps=%llu", s->id,
                 (unsigned long long)seam_server_proto_committed_count(&s->proto));
        seam_sessions_remove(sessions, s);
        break;
    case SEAM_LEASE_PARK:
        seam_session_park(s, now_ms);
        break;
    case SEAM_LEASE_NONE:
        break;
    }
}

void seam_sessions_tick(seam_sessions *sessions, uint64_t now_ms, seam_session_idle_fn *idle,
                        void *user) {
    for (seam_session *s = sessions->head, *next = NULL; s != NULL; s = next) {
        next = s->next;
        const bool written = seam_session_disk_poll(s);
        const bool withdrawn = s->withdrawn && !s->busy; /* else its job's end tells */
        s->withdrawn = false;
        if (seam_session_park_poll(s, now_ms) || written || withdrawn) {
            idle(user, s);
        }
        if (s->deleted) {
            seam_sessions_remove(sessions, s);
        } else if (s->ready) {
            lease_tick(sessions, s, now_ms);
        }
    }
}

uint32_t seam_sessions_count(const seam_sessions *sessions) {
    return sessions->count;
}

uint64_t seam_sessions_memory_total(const seam_sessions *sessions) {
    return sessions->options.memory_budget_bytes;
}

uint64_t seam_sessions_memory_free(const seam_sessions *sessions) {
    return sessions->options.memory_budget_bytes - sessions->reserved_bytes;
}

seam_session_limits seam_sessions_limits(const seam_sessions *sessions) {
    return (seam_session_limits){.rows_max = sessions->options.rows_max,
                                 .cache_bytes_max = sessions->options.cache_bytes_max,
                                 .cache_dir = sessions->options.cache_dir,
                                 .allow_labels = sessions->options.allow_labels,
                                 .allow_text = sessions->options.allow_text};
}

/* The plan as the budgets see it: where they are one, everything is the device's. */
static seam_memory_plan budget_view(const seam_sessions *sessions, const seam_memory_plan *plan) {
    seam_memory_plan view = *plan;
    for (uint32_t kind = 0; kind < SEAM_MEMORY_KINDS && sessions->options.host_budget_bytes == 0;
         kind++) {
        view.device[kind] += view.host[kind];
        view.host[kind] = 0;
    }
    return view;
}

/* One of the budgets. */
typedef struct memory_budget {
    const char *where;
    uint64_t bytes, free_bytes;
} memory_budget;

/* Waiting helps where others have the room; else the text names what is too large for ever. */
static seam_status no_room(const memory_budget *budget, const char *what,
                           const uint64_t needed[SEAM_MEMORY_KINDS], uint64_t needed_bytes,
                           seam_error *err) {
    char needed_text[SEAM_MEMORY_TEXT_BYTES], free_text[SEAM_MEMORY_TEXT_BYTES];
    char all_text[SEAM_MEMORY_TEXT_BYTES];
    seam_memory_text(needed_text, needed);
    seam_memory_bytes_text(free_text, budget->free_bytes);
    seam_memory_bytes_text(all_text, budget->bytes);
    if (needed_bytes > budget->bytes) {
        return seam_error_set(err, SEAM_E_LIMIT, "%s: %s needs %s on %s, %s is free of %s in all",
                              what, what, needed_text, budget->where, free_text, all_text);
    }
    return seam_error_set(err, SEAM_E_LIMIT, "%s needs %s on %s, %s is free", what, needed_text,
                          budget->where, free_text);
}

seam_status seam_sessions_reserve(seam_sessions *sessions, const seam_memory_plan *plan,
                                  const char *what, seam_error *err) {
    const seam_sessions_options *options = &sessions->options;
    const seam_memory_plan view = budget_view(sessions, plan);
    const uint64_t device_bytes = seam_memory_plan_device_bytes(&view);
    const uint64_t host_bytes = seam_memory_plan_host_bytes(&view);
    const memory_budget device = {options->device, options->memory_budget_bytes,
                                  seam_sessions_memory_free(sessions)};
    const memory_budget host = {"the host", options->host_budget_bytes,
                                options->host_budget_bytes - sessions->host_reserved_bytes};
    if (device_bytes > device.free_bytes) {
        return no_room(&device, what, view.device, device_bytes, err);
    }
    if (host_bytes > host.free_bytes) {
        return no_room(&host, what, view.host, host_bytes, err);
    }
    sessions->reserved_bytes += device_bytes;
    sessions->host_reserved_bytes += host_bytes;
    return SEAM_OK;
}

void seam_sessions_unreserve(seam_sessions *sessions, const seam_memory_plan *plan) {
    const seam_memory_plan view = budget_view(sessions, plan);
    const uint64_t device_bytes = seam_memory_plan_device_bytes(&view);
    const uint64_t host_bytes = seam_memory_plan_host_bytes(&view);
    SEAM_ASSERT(device_bytes <= sessions->reserved_bytes);
    SEAM_ASSERT(host_bytes <= sessions->host_reserved_bytes);
    sessions->reserved_bytes -= device_bytes;
    sessions->host_reserved_bytes -= host_bytes;
}
