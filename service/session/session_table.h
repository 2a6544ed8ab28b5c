/* All sessions: admission against the memory budget, look-up with the secret, leases. */
#ifndef SEAM_SESSION_TABLE_H
#define SEAM_SESSION_TABLE_H

#include "session.h"
#include "state_store.h"

#define SEAM_SESSIONS_PARKED_MAX 65536 /* that have no memory, beside sessions_max that have */

typedef struct seam_sessions_options {
    seam_engine *engine;
    uint32_t sessions_max;
    uint32_t rows_max;            /* of a micro-batch */
    const char *device;           /* as the operator named it, for texts */
    uint64_t memory_budget_bytes; /* of the device */
    uint64_t host_budget_bytes;   /* 0: the device's memory is the host's, one budget for both */
    uint64_t inbox_bytes;         /* what may wait on a session's stream, in its plan */
    uint64_t cache_bytes_max;     /* of a codec's cache or table */
    const char *cache_dir;        /* NULL: caches stand in memory */
    bool allow_labels, allow_text;
    uint64_t lease_ms;
    /* The state directory, or NULL: sessions end with the process and with their lease. */
    seam_state_store *store;
    uint64_t park_ms;            /* of a parked session until it expires */
    uint64_t checkpoint_work_ms; /* at risk at most */
    uint32_t checkpoint_percent; /* of the time that checkpoints may take, 1..100 */
    seam_trace *trace;           /* sessions record their steps in it; NULL: they do not */
} seam_sessions_options;

seam_status seam_sessions_create(seam_sessions **ret_sessions, const seam_sessions_options *options,
                                 seam_error *err);
const seam_sessions_options *seam_sessions_options_of(const seam_sessions *sessions);
/* Take up what the store holds, parked; before the server serves.  A session whose model or limits
 * are not this server's stays in the store, and a line of the log says so.  SEAM_E_IO,
 * SEAM_E_MEMORY. */
seam_status seam_sessions_recover(seam_sessions *sessions, const seam_registry *registry,
                                  seam_error *err);
/* For recover: a session in the table that is not ready; then its checkpoints (rising, at most
 * SEAM_DURABLE_MAX), which make it PARKED, or FROZEN where there is none.
 * SEAM_E_FORMAT, SEAM_E_LIMIT, SEAM_E_MEMORY. */
seam_status seam_sessions_adopt(seam_session **ret_session, seam_sessions *sessions,
                                const seam_session_row *row, const seam_session_config *config,
                                Seam__V1__SessionConfig *gift_message, seam_error *err);
void seam_sessions_resume(seam_session *session, const uint64_t *step_counts, uint32_t count,
                          uint64_t now_ms);
/* At the end, after the last call: checkpoints of all sessions that no job works for, by the engine
 * before it ends. */
void seam_sessions_park_all(seam_sessions *sessions) SEAM_ON_LOOP;
/* After the engine has ended, the store is closed and no call is left. */
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
/* Take it out of the table (deleted, expired, failed to build), at once or when the engine and the
 * disk have done with it; row and files go then.  References live on. */
void seam_sessions_remove(seam_sessions *sessions, seam_session *session) SEAM_ON_LOOP;
/* A ready session by id and secret; the caller gets a reference.
 * SEAM_E_NOT_FOUND, SEAM_E_DENIED. */
seam_status seam_sessions_find(seam_session **ret_session, seam_sessions *sessions, const char *id,
                               const uint8_t *secret, size_t secret_bytes,
                               seam_error *err) SEAM_ON_LOOP;
/* Sessions in order of creation, from the one after `number`; NULL at the end. */
seam_session *seam_sessions_after(const seam_sessions *sessions, uint64_t number) SEAM_ON_LOOP;
struct seam_deletions *seam_sessions_deletions(seam_sessions *sessions);

/* Leases that are over, writes and parkings that have ended, work that was withdrawn; idle: after
 * each of the last three. */
typedef void seam_session_idle_fn(void *user, seam_session *session);
void seam_sessions_tick(seam_sessions *sessions, uint64_t now_ms, seam_session_idle_fn *idle,
                        void *user) SEAM_ON_LOOP;
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
/* session->memory as its config is now.  Of one without memory, before it is reserved. */
void seam_sessions_plan_again(seam_session *session) SEAM_ON_LOOP;
/* Its trainer has let go of memory (seam_trainer_trim): no longer reserved. */
void seam_sessions_give_back(seam_session *session) SEAM_ON_LOOP;

/* Is there a place for one more with memory?  SEAM_E_LIMIT. */
seam_status seam_sessions_place_check(const seam_sessions *sessions, seam_error *err) SEAM_ON_LOOP;
/* It has got its memory (reserved before), or has lost it (which gives the budget back). */
void seam_sessions_set_resident(seam_session *session, bool resident) SEAM_ON_LOOP;
/* For seam_session_unref: gives the budget back; the engine that frees it, or NULL. */
seam_engine *seam_sessions_release(seam_sessions *sessions, seam_session *session) SEAM_ON_LOOP;

#endif
