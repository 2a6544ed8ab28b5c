/* The state directory of a server: who has a session (SQLite, WAL) and where its checkpoints are.
 *
 *   DIR/lock               held while a server runs: two on one directory would ruin it
 *   DIR/sessions.db        one row a session; updates of its optimizer; how many steps it had made
 *                          before a rollback; the newest deletions; the number of times that a
 *                          server has started
 *   DIR/sessions/<id>/     its checkpoints (checkpoint.h)
 *
 * The number of starts makes epochs: a session taken up again begins at start << 32, above every
 * epoch that an earlier process can have given out, so an attach waits for no disk.  A row holds
 * the session's secret: the directory is made 0700, the database 0600.
 *
 * Any thread; calls that write wait for the disk. */
#ifndef SEAM_STATE_STORE_H
#define SEAM_STATE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "disk_queue.h"
#include "seam_status.h"

#define SEAM_DELETIONS_KEPT 64 /* that are remembered, the newest */

typedef struct seam_state_store seam_state_store;

/* Makes what is missing.  SEAM_E_IO (err names the file), SEAM_E_STATE: another server has it,
 * SEAM_E_UNIMPLEMENTED: written by a later release, SEAM_E_MEMORY. */
seam_status seam_state_store_open(seam_state_store **ret_store, const char *directory,
                                  seam_error *err);
void seam_state_store_close(seam_state_store *gift_store); /* NULL is fine */

uint64_t seam_state_store_epoch(const seam_state_store *store); /* first of this process */
seam_disk_queue *seam_state_store_queue(const seam_state_store *store);
/* Folder of a session's checkpoints; SEAM_E_LIMIT: too long for capacity. */
seam_status seam_state_store_folder(char *ret, size_t capacity, const seam_state_store *store,
                                    const char *id);

typedef struct seam_session_row {
    const char *id, *request_id;
    const uint8_t *secret, *config; /* config: a packed SessionConfig */
    size_t secret_bytes, config_bytes;
    uint64_t config_hash;
} seam_session_row;
/* Durable when it returns.  SEAM_E_IO, SEAM_E_EXISTS. */
seam_status seam_state_store_add(seam_state_store *store, const seam_session_row *row,
                                 seam_error *err);
/* Row and checkpoints; no row is fine.  request_id: what asked for it, remembered with the row's
 * end; "": nothing did. */
seam_status seam_state_store_remove(seam_state_store *store, const char *id, const char *request_id,
                                    seam_error *err);
/* Folders of sessions that have no row: a removal that the process did not end.  *ret_count went.
 */
seam_status seam_state_store_sweep(uint32_t *ret_count, seam_state_store *store, seam_error *err);
/* All rows in order of creation; pointers are valid during the visit.  What visit returns other
 * than SEAM_OK ends it. */
typedef seam_status seam_session_row_fn(void *user, const seam_session_row *row);
seam_status seam_state_store_visit(seam_state_store *store, seam_session_row_fn *visit, void *user,
                                   seam_error *err);
/* Another optimizer of a session from a step on. */
typedef struct seam_update_row {
    const char *id, *request_id;
    uint64_t effective_step;  /* at most INT64_MAX */
    const uint8_t *optimizer; /* a packed OptimizerConfig */
    size_t optimizer_bytes;
} seam_update_row;
/* In the place of the session's updates from that step on; those below `floor` go.  Durable when it
 * returns.  SEAM_E_IO. */
seam_status seam_state_store_update(seam_state_store *store, const seam_update_row *row,
                                    uint64_t floor, seam_error *err);
/* Those of a session, by rising steps; also while its row is visited. */
typedef seam_status seam_update_row_fn(void *user, const seam_update_row *row);
seam_status seam_state_store_visit_updates(seam_state_store *store, const char *id,
                                           seam_update_row_fn *visit, void *user, seam_error *err);
/* How many steps of a session have been made, whatever it goes back to; 0: not said.  Durable when
 * it returns.  SEAM_E_IO. */
seam_status seam_state_store_set_made(seam_state_store *store, const char *id, uint64_t step_count,
                                      seam_error *err);
seam_status seam_state_store_made(uint64_t *ret_step_count, const seam_state_store *store,
                                  const char *id, seam_error *err);
/* The deletions that had a request_id, oldest first. */
typedef seam_status seam_deletion_row_fn(void *user, const char *request_id, const char *id);
seam_status seam_state_store_visit_deletions(seam_state_store *store, seam_deletion_row_fn *visit,
                                             void *user, seam_error *err);

#endif
