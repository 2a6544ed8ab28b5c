/* A linked list in order of creation: there are at most sessions_max of them. */
#include "session_table.h"

#include <stdio.h>
#include <string.h>

#include "auth.h"
#include "host.h"
#include "log.h"
#include "try.h"

#define DELETIONS_REMEMBERED 64

struct seam_sessions {
    seam_sessions_options options;
    seam_session *head;
    uint32_t count;
    uint64_t number_last;
    uint64_t reserved_bytes, host_reserved_bytes; /* of the two budgets */
    char deletions[DELETIONS_REMEMBERED][SEAM_REQUEST_ID_BYTES];
    uint32_t deletion_next;
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

void seam_sessions_engine_ended(seam_sessions *sessions) {
    sessions->options.engine = NULL;
}

SEAM_WITHOUT_THREADS void seam_sessions_destroy(seam_sessions *gift_sessions) {
    if (gift_sessions == NULL) {
        return;
    }
    while (gift_sessions->head != NULL) {
        seam_sessions_remove(gift_sessions, gift_sessions->head);
    }
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
    if (sessions->count >= sessions->options.sessions_max) {
        return seam_error_set(err, SEAM_E_LIMIT, "all %u sessions are taken (sessions-max)",
                              sessions->options.sessions_max);
    }
    seam_memory_plan plan;
    if (seam_session_plan(&plan, config) != SEAM_OK) {
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
    session->refs = 2; /* the table's and the caller's */
    append(sessions, session);
    *ret_session = session;
    return SEAM_OK;
}

void seam_sessions_ready(seam_sessions *sessions, seam_session *session, uint64_t now_ms) {
    const seam_session_config *config = &session->config;
    const seam_server_proto_config proto = {
        .config_hash = config->hash,
        .model_identity = config->model->identity,
        .micros_max = config->limits.micros_max,
        .site_forward = SEAM_SITE_FWD_IN,
        .site_backward = SEAM_SITE_BWD_OUT,
        .backward_reply = seam_session_config_backward_reply(config),
        .can_park = false, /* no durable store yet */
        .lease_ms = sessions->options.lease_ms,
        .now_ms = now_ms,
    };
    seam_server_proto_init(&session->proto, &proto);
    session->ready = true;
}

void seam_sessions_remove(seam_sessions *sessions, seam_session *session) {
    if (session->deleted) {
        return;
    }
    for (seam_session **at = &sessions->head; *at != NULL; at = &(*at)->next) {
        if (*at == session) {
            *at = session->next;
            break;
        }
    }
    session->next = NULL;
    session->deleted = true;
    sessions->count--;
    seam_session_unref(session);
}

seam_engine *seam_sessions_release(seam_sessions *sessions, seam_session *session) {
    seam_sessions_unreserve(sessions, &session->memory);
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

void seam_sessions_note_deletion(seam_sessions *sessions, const char *request_id) {
    if (request_id[0] == '\0') {
        return;
    }
    char *place = sessions->deletions[sessions->deletion_next++ % DELETIONS_REMEMBERED];
    (void)snprintf(place, SEAM_REQUEST_ID_BYTES, "%s", request_id);
}

bool seam_sessions_was_deleted(const seam_sessions *sessions, const char *request_id) {
    for (uint32_t i = 0; i < DELETIONS_REMEMBERED && request_id[0] != '\0'; i++) {
        if (strcmp(sessions->deletions[i], request_id) == 0) {
            return true;
        }
    }
    return false;
}

/* ---- leases and the budget ---- */

void seam_sessions_tick(seam_sessions *sessions, uint64_t now_ms) {
    for (seam_session *s = sessions->head, *next = NULL; s != NULL; s = next) {
        next = s->next;
        if (s->ready && s->refs > 1) { /* some call works with it */
            seam_server_proto_touch(&s->proto, now_ms);
        }
        if (s->ready && !s->busy &&
            seam_server_proto_tick(&s->proto, now_ms) == SEAM_LEASE_EXPIRE) {
            seam_log(SEAM_LOG_INFO, "session_expired", "session=%s steps=%llu", s->id,
                     (unsigned long long)seam_server_proto_committed_count(&s->proto));
            seam_sessions_remove(sessions, s);
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
                                 .cache_dir = sessions->options.cache_dir};
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

static seam_status no_room(const char *what, const char *where,
                           const uint64_t needed[SEAM_MEMORY_KINDS], uint64_t free_bytes,
                           seam_error *err) {
    char needed_text[SEAM_MEMORY_TEXT_BYTES], free_text[SEAM_MEMORY_TEXT_BYTES];
    seam_memory_text(needed_text, needed);
    seam_memory_bytes_text(free_text, free_bytes);
    return seam_error_set(err, SEAM_E_LIMIT, "%s needs %s on %s, %s is free", what, needed_text,
                          where, free_text);
}

seam_status seam_sessions_reserve(seam_sessions *sessions, const seam_memory_plan *plan,
                                  const char *what, seam_error *err) {
    const seam_sessions_options *options = &sessions->options;
    const seam_memory_plan view = budget_view(sessions, plan);
    const uint64_t device_bytes = seam_memory_plan_device_bytes(&view);
    const uint64_t host_bytes = seam_memory_plan_host_bytes(&view);
    const uint64_t host_free = options->host_budget_bytes - sessions->host_reserved_bytes;
    if (device_bytes > seam_sessions_memory_free(sessions)) {
        return no_room(what, options->device, view.device, seam_sessions_memory_free(sessions),
                       err);
    }
    if (host_bytes > host_free) {
        return no_room(what, "the host", view.host, host_free, err);
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
