/* Sessions that end for good: their rows and files go by the disk queue, and a DeleteSession is
 * answered when they have.  What could not be removed is tried again, as long as the process lives;
 * the next one finds the session as if nobody had asked.
 *
 * The newest deletions that had a request_id are remembered, with a state directory also by the
 * next process (store/state_store.h), so that their repetition succeeds. */
#ifndef SEAM_SESSION_DELETE_H
#define SEAM_SESSION_DELETE_H

#include "session.h"
#include "state_store.h"

typedef struct seam_deletion seam_deletion;

/* Of one table of sessions.  Fields are private to session_delete.c. */
typedef struct seam_deletions {
    seam_deletion *head; /* not over yet */
    struct {
        char request_id[SEAM_REQUEST_ID_BYTES], id[SEAM_SESSION_ID_BYTES];
    } noted[SEAM_DELETIONS_KEPT];
    uint32_t noted_next;
} seam_deletions;

/* Those that the store remembers.  SEAM_E_IO. */
seam_status seam_deletions_load(seam_deletions *deletions, seam_state_store *store,
                                seam_error *err);
/* Without threads; no job of one runs any more. */
void seam_deletions_deinit(seam_deletions *deletions);

/* What is known of a request: *ret_is_over, or *ret_deletion that is on its way (a reference; it is
 * tried again now if it has failed, and over when its state has this request's id too), or neither.
 * SEAM_E_EXISTS: its id was another session's; SEAM_E_LIMIT: too many ask for one deletion. */
seam_status seam_deletions_find(seam_deletion **ret_deletion, bool *ret_is_over,
                                seam_deletions *deletions, const char *request_id,
                                const char *session_id, const uint8_t *secret, size_t secret_bytes,
                                seam_error *err) SEAM_ON_LOOP;
/* One of a session that leaves nothing on the disk is over at once. */
void seam_deletions_note(seam_deletions *deletions, const char *request_id,
                         const char *session_id) SEAM_ON_LOOP;

/* Before a session that is kept is removed from the table: its deletion, of which the caller gets a
 * reference.  SEAM_E_MEMORY. */
seam_status seam_deletion_create(seam_deletion **ret_deletion, seam_session *session,
                                 const char *request_id, seam_error *err) SEAM_ON_LOOP;
/* The session is out of the table, and nothing writes for it any more: row and files go. */
void seam_deletion_start(seam_session *session) SEAM_ON_LOOP;
void seam_deletion_unref(seam_deletion *deletion) SEAM_ON_LOOP;
/* Has an attempt ended since its state was asked for?  *ret_status: how the last one did. */
bool seam_deletion_has_ended(seam_status *ret_status, seam_error *ret_err,
                             const seam_deletion *deletion) SEAM_ON_LOOP;

/* ended: one has, well or not; who waits for it looks. */
typedef void seam_deletion_ended_fn(void *user, const seam_deletion *deletion);
void seam_deletions_tick(seam_deletions *deletions, uint64_t now_ms, seam_deletion_ended_fn *ended,
                         void *user) SEAM_ON_LOOP;

#endif
