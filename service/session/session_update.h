/* UpdateSession: another optimizer of a session from a step on.  WIRE.md section 8.1.
 *
 * Which optimizer a step goes by is a function of its number alone, so that a step that is made
 * again after a ROLLBACK goes by the one that it went by before: an update is refused for a step
 * that was ever begun, here or at the client, and is durable before it is in force.  How many steps
 * that are is known while the process lives (session.h made_step_count); an Attach that undoes some
 * has the number written down (train_attach.c), for then neither end may have them any more.
 * Read next: rpc/rpc_update.c (the call), rpc/rpc_train.c work_next (its effect). */
#ifndef SEAM_SESSION_UPDATE_H
#define SEAM_SESSION_UPDATE_H

#include "session.h"
#include "state_store.h"

/* What a step goes by; valid until the next update. */
const seam_optimizer_config *seam_session_optimizer(const seam_session *session,
                                                    uint64_t step) SEAM_ON_LOOP;
/* May it be in force now, and from which step?  0 becomes the first that has not begun.
 * *ret_known: it is, by the same request before, and is to be answered alike.
 * SEAM_E_EXISTS (the request_id of another update), SEAM_E_GONE, SEAM_E_STATE (the server's is not
 * the only optimizer, the session is frozen, or its client's steps are not known), SEAM_E_ARG (the
 * step has begun), SEAM_E_LIMIT (SEAM_UPDATES_MAX are kept). */
seam_status seam_session_update_settle(bool *ret_known, seam_session_update *update,
                                       const seam_session *session, seam_error *err) SEAM_ON_LOOP;
/* The step of the oldest update that a step may still go by: no ROLLBACK goes back further. */
uint64_t seam_session_update_floor(const seam_session *session) SEAM_ON_LOOP;
/* Of a session that is kept, while no step can begin: to the state directory.  SEAM_E_IO. */
seam_status seam_session_update_store(const seam_session *session,
                                      const seam_session_update *update, uint64_t floor,
                                      seam_error *err);
/* In force, in the place of those from its step on; what no step can need any more goes. */
void seam_session_update_add(seam_session *session, const seam_session_update *update) SEAM_ON_LOOP;
/* So many steps were made, here or at the client.  On the loop, and before it runs. */
void seam_session_made(seam_session *session, uint64_t step_count);
/* So many steps have been made: to the state directory, before some are made again, that the next
 * process knows of them too.  Of a session that is kept.  SEAM_E_IO. */
seam_status seam_session_made_store(const seam_session *session, uint64_t step_count,
                                    seam_error *err);
/* Those of an earlier process.  SEAM_E_FORMAT, SEAM_E_IO. */
seam_status seam_session_updates_load(seam_session_updates *ret_updates, seam_state_store *store,
                                      const char *id, seam_error *err);

#endif
