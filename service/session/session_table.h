/* All sessions: admission against the memory budget, look-up with the secret, leases. */
#ifndef SEAM_SESSION_TABLE_H
#define SEAM_SESSION_TABLE_H

#include "session.h"

typedef struct seam_sessions_options {
    seam_engine *engine;
    uint32_t sessions_max;
    uint32_t rows_max;            /* of a micro-batch */
    const char *device;           /* as the operator named it, for texts */
    uint64_t memory_budget_bytes; /* of the device */
    uint64_t host_budget_bytes;   /* 0: the device's memory is the host's, one budget for both */
    uint64_t cache_bytes_max;     /* of a codec's cache or table */
    const char *cache_dir;        /* NULL: caches stand in memory */
    uint64_t lease_ms;
    seam_trace *trace; /* sessions record their steps in it; NULL: they do not */
} seam_sessions_options;

seam_status seam_sessions_create(seam_sessions **ret_sessions, const seam_sessions_options *options,
                                 seam_error *err);
/* After the engine has ended and no call is left. */
void seam_sessions_destroy(seam_sessions *gift_sessions);
/* The engine has ended: memory is freed at once from now on. */
void seam_sessions_engine_ended(seam_sessions *sessions);

/* Admit a session: reserve memory, draw id and secret.  It is not ready yet: build it by an engine
 * job, then seam_sessions_ready or seam_sessions_remove.  The caller gets a reference.
 * request_id may be empty; else a session that was made with it is returned again, with
 * *ret_known true, if its config is the same.  message: taken over on success of a new one.
 * SEAM_E_LIMIT (count, memory), SEAM_E_MEMORY, SEAM_E_ARG, SEAM_E_EXISTS (other config). */
seam_status seam_sessions_admit(seam_session **ret_session, bool *ret_known,
                                seam_sessions *sessions, const char *request_id,
                                const seam_session_config *config,
                                Seam__V1__SessionConfig *gift_message,
                                seam_error *err) SEAM_ON_LOOP;
void seam_sessions_ready(seam_sessions *sessions, seam_session *session,
                         uint64_t now_ms) SEAM_ON_LOOP;
/* Take it out of the table (deleted, expired, failed to build); references live on. */
void seam_sessions_remove(seam_sessions *sessions, seam_session *session) SEAM_ON_LOOP;
/* A ready session by id and secret; the caller gets a reference.
 * SEAM_E_NOT_FOUND, SEAM_E_DENIED. */
seam_status seam_sessions_find(seam_session **ret_session, seam_sessions *sessions, const char *id,
                               const uint8_t *secret, size_t secret_bytes,
                               seam_error *err) SEAM_ON_LOOP;
/* Sessions in order of creation, from the one after `number`; NULL at the end. */
seam_session *seam_sessions_after(const seam_sessions *sessions, uint64_t number) SEAM_ON_LOOP;
/* Remember a deletion, so that its repetition succeeds; was it remembered? */
void seam_sessions_note_deletion(seam_sessions *sessions, const char *request_id) SEAM_ON_LOOP;
bool seam_sessions_was_deleted(const seam_sessions *sessions, const char *request_id) SEAM_ON_LOOP;

/* Leases that are over. */
void seam_sessions_tick(seam_sessions *sessions, uint64_t now_ms) SEAM_ON_LOOP;
uint32_t seam_sessions_count(const seam_sessions *sessions) SEAM_ON_LOOP;
uint64_t seam_sessions_memory_total(const seam_sessions *sessions) SEAM_ON_LOOP;
uint64_t seam_sessions_memory_free(const seam_sessions *sessions) SEAM_ON_LOOP;
/* What a session may ask for. */
seam_session_limits seam_sessions_limits(const seam_sessions *sessions);
/* More memory for a stream of its own (Forward, Generate, an export); give it back when it ends.
 * SEAM_E_LIMIT: `what` needs so much, so much is free. */
seam_status seam_sessions_reserve(seam_sessions *sessions, const seam_memory_plan *plan,
                                  const char *what, seam_error *err) SEAM_ON_LOOP;
void seam_sessions_unreserve(seam_sessions *sessions, const seam_memory_plan *plan) SEAM_ON_LOOP;

/* For seam_session_unref: gives the budget back; the engine that frees it, or NULL. */
seam_engine *seam_sessions_release(seam_sessions *sessions, seam_session *session) SEAM_ON_LOOP;

#endif
