/* A list of deletions on their way and a ring of those that are over; see session_delete.h. */
#include "session_delete.h"

#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "auth.h"
#include "log.h"
#include "session_disk.h"
#include "session_table.h"
#include "try.h"

#define RETRY_MS     10000 /* after an attempt that failed */
#define REQUESTS_MAX 8     /* that ask for one deletion, by ids of their own */

typedef enum deletion_state {
    DELETION_WAITS = 0, /* something still writes for the session */
    DELETION_RUNS,      /* the disk queue has the job */
    DELETION_FAILED,    /* is tried again at retry_ms */
    DELETION_OVER,      /* not in the list any more */
} deletion_state;

struct seam_deletion {
    char id[SEAM_SESSION_ID_BYTES];
    /* That are remembered when it is over; the job has the first request_taken_count of them. */
    char request_ids[REQUESTS_MAX][SEAM_REQUEST_ID_BYTES];
    uint32_t request_count, request_taken_count;
    uint8_t secret[SEAM_SESSION_SECRET_BYTES];
    seam_state_store *store;
    deletion_state state;
    uint64_t retry_ms;
    uint32_t refs;      /* the list's and those of calls */
    seam_disk_job job;  /* of the disk queue while it RUNS, like the next two */
    seam_status status; /* of the last attempt */
    seam_error err;
    seam_deletion *next;
};

/* ---- those that are over ---- */

void seam_deletions_note(seam_deletions *deletions, const char *request_id,
                         const char *session_id) {
    if (request_id[0] == '\0') {
        return;
    }
    const uint32_t idx = deletions->noted_next++ % SEAM_DELETIONS_KEPT;
    (void)snprintf(deletions->noted[idx].request_id, SEAM_REQUEST_ID_BYTES, "%s", request_id);
    (void)snprintf(deletions->noted[idx].id, SEAM_SESSION_ID_BYTES, "%s", session_id);
}

SEAM_WITHOUT_THREADS static seam_status noted_visit(void *user, const char *request_id,
                                                    const char *session_id) {
    seam_deletions_note(user, request_id, session_id);
    return SEAM_OK;
}

seam_status seam_deletions_load(seam_deletions *deletions, seam_state_store *store,
                                seam_error *err) {
    return seam_state_store_visit_deletions(store, noted_visit, deletions, err);
}

/* ---- on their way ---- */

/* Disk queue.  Removing again what has gone is fine: each id is remembered with it. */
static void delete_run(seam_disk_job *job) {
    seam_deletion *d = job->user;
    d->err = (seam_error){0};
    d->status = SEAM_OK;
    for (uint32_t i = 0; d->status == SEAM_OK && (i == 0 || i < d->request_taken_count); i++) {
        const char *request_id = i < d->request_taken_count ? d->request_ids[i] : "";
        d->status = seam_state_store_remove(d->store, d->id, request_id, &d->err);
    }
}

SEAM_ON_LOOP static void post(seam_deletion *d) {
    d->state = DELETION_RUNS;
    d->request_taken_count = d->request_count;
    d->job = (seam_disk_job){.run = delete_run, .user = d};
    seam_disk_queue_post(seam_state_store_queue(d->store), &d->job);
}

static bool has_request(const seam_deletion *d, const char *request_id) {
    uint32_t i = 0;
    while (i < d->request_count && strcmp(d->request_ids[i], request_id) != 0) {
        i++;
    }
    return i < d->request_count;
}

/* Also while the job runs: it looks at none that comes after it. */
SEAM_ON_LOOP static seam_status request_add(seam_deletion *d, const char *request_id,
                                            seam_error *err) {
    if (request_id[0] == '\0' || has_request(d, request_id)) {
        return SEAM_OK;
    }
    if (d->request_count == REQUESTS_MAX) {
        return seam_error_set(err, SEAM_E_LIMIT, "request_id: %d others delete the session already",
                              REQUESTS_MAX);
    }
    (void)snprintf(d->request_ids[d->request_count++], SEAM_REQUEST_ID_BYTES, "%s", request_id);
    return SEAM_OK;
}

seam_status seam_deletion_create(seam_deletion **ret_deletion, seam_session *session,
                                 const char *request_id, seam_error *err) {
    SEAM_ASSERT(session->deletion == NULL);
    SEAM_ASSERT(strlen(request_id) < SEAM_REQUEST_ID_BYTES);
    seam_deletions *deletions = seam_sessions_deletions(session->sessions);
    seam_deletion *d = seam_mem_zalloc(1, sizeof *d);
    if (d == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "session: out of memory");
    }
    memcpy(d->id, session->id, sizeof d->id);
    memcpy(d->secret, session->secret, sizeof d->secret);
    const seam_status st = request_add(d, request_id, err);
    SEAM_ASSERT(st == SEAM_OK); /* the first */
    d->store = seam_sessions_options_of(session->sessions)->store;
    d->refs = 2;
    d->next = deletions->head;
    deletions->head = d;
    session->deletion = d;
    *ret_deletion = d;
    return SEAM_OK;
}

void seam_deletion_start(seam_session *session) {
    seam_deletion *d = NULL;
    seam_error err = {0};
    if (!seam_session_is_kept(session)) {
        return;
    }
    if (session->deletion == NULL) { /* nobody asked: its time is over */
        if (seam_deletion_create(&d, session, "", &err) != SEAM_OK) {
            return; /* it is found again, parked, when the server starts */
        }
        seam_deletion_unref(d);
    }
    post(session->deletion);
    session->deletion = NULL;
}

void seam_deletion_unref(seam_deletion *deletion) {
    SEAM_ASSERT(deletion->refs > 0);
    if (--deletion->refs == 0) {
        seam_mem_free(deletion);
    }
}

bool seam_deletion_has_ended(seam_status *ret_status, seam_error *ret_err,
                             const seam_deletion *deletion) {
    if (deletion->state != DELETION_FAILED && deletion->state != DELETION_OVER) {
        return false;
    }
    *ret_status = deletion->status;
    *ret_err = deletion->err;
    return true;
}

seam_status seam_deletions_find(seam_deletion **ret_deletion, bool *ret_is_over,
                                seam_deletions *deletions, const char *request_id,
                                const char *session_id, const uint8_t *secret, size_t secret_bytes,
                                seam_error *err) {
    const bool named = request_id[0] != '\0';
    seam_deletion *found = NULL;
    bool taken = false;
    *ret_deletion = NULL;
    *ret_is_over = false;
    for (uint32_t i = 0; i < SEAM_DELETIONS_KEPT && named; i++) {
        if (strcmp(deletions->noted[i].request_id, request_id) == 0) {
            *ret_is_over = strcmp(deletions->noted[i].id, session_id) == 0;
            taken = !*ret_is_over;
        }
    }
    for (seam_deletion *d = deletions->head; d != NULL && !*ret_is_over; d = d->next) {
        if (strcmp(d->id, session_id) != 0) {
            taken = taken || has_request(d, request_id);
        } else if (secret_bytes == sizeof d->secret &&
                   seam_auth_equal(secret, d->secret, sizeof d->secret)) {
            found = d;
        }
    }
    if (taken) {
        return seam_error_set(err, SEAM_E_EXISTS, "request_id: used to delete another session");
    }
    if (found != NULL) {
        SEAM_TRY(request_add(found, request_id, err));
        found->refs++;
        if (found->state == DELETION_FAILED) {
            post(found);
        }
    }
    *ret_deletion = found;
    return SEAM_OK;
}

void seam_deletions_tick(seam_deletions *deletions, uint64_t now_ms, seam_deletion_ended_fn *ended,
                         void *user) {
    for (seam_deletion **at = &deletions->head; *at != NULL;) {
        seam_deletion *d = *at;
        if (d->state == DELETION_FAILED && now_ms >= d->retry_ms) {
            post(d);
        }
        if (d->state != DELETION_RUNS || !seam_disk_job_is_done(&d->job)) {
            at = &d->next;
            continue;
        }
        if (d->status == SEAM_OK && d->request_taken_count < d->request_count) {
            post(d); /* another request has come meanwhile */
            at = &d->next;
            continue;
        }
        if (d->status == SEAM_OK) {
            d->state = DELETION_OVER;
            *at = d->next;
            for (uint32_t i = 0; i < d->request_count; i++) {
                seam_deletions_note(deletions, d->request_ids[i], d->id);
            }
        } else {
            char text[SEAM_ERROR_TEXT_BYTES];
            d->state = DELETION_FAILED;
            d->retry_ms = now_ms + RETRY_MS;
            at = &d->next;
            seam_log(SEAM_LOG_ERROR, "session_not_removed", "session=%s text=\"%s\"", d->id,
                     seam_log_text(text, sizeof text, d->err.text));
        }
        ended(user, d);
        if (d->state == DELETION_OVER) {
            seam_deletion_unref(d);
        }
    }
}

SEAM_WITHOUT_THREADS void seam_deletions_deinit(seam_deletions *deletions) {
    while (deletions->head != NULL) {
        seam_deletion *d = deletions->head;
        deletions->head = d->next;
        seam_deletion_unref(d);
    }
}
