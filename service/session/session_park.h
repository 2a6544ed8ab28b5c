/* Sessions without memory: PARKED is a checkpoint on the disk and a row in the table, no trainer.
 *
 * A session is parked when its lease is over, and every session of the state directory is when the
 * server starts.  Whoever needs it wakes it: begin on the loop, run on the engine, end on the loop;
 * rpc/rpc_wake.c does that for calls. */
#ifndef SEAM_SESSION_PARK_H
#define SEAM_SESSION_PARK_H

#include "session_disk.h"

/* Has the session its memory (or is it being built)? */
bool seam_session_is_resident(const seam_session *session) SEAM_ON_LOOP;

/* Reserve the memory.  SEAM_E_LIMIT; the reason of freezing. */
seam_status seam_session_wake_begin(seam_session *session, seam_error *err) SEAM_ON_LOOP;
/* Build it and load the newest checkpoint that is intact and can be read: the errors of
 * seam_session_restore. */
seam_status seam_session_wake_run(seam_session *session, seam_stream *stream,
                                  seam_error *err) SEAM_ON_GPU;
/* st: of run.  SEAM_OK: DETACHED at the checkpoint; SEAM_E_DATA_LOSS: FROZEN; another error may
 * pass, the session is still PARKED.  One that was deleted meanwhile stays so. */
void seam_session_wake_end(seam_session *session, seam_status st, uint64_t now_ms) SEAM_ON_LOOP;

/* The lease is over and nobody uses the session: an engine job writes what is not on the disk yet
 * (of a frozen one nothing) and frees the memory. */
void seam_session_park(seam_session *session, uint64_t now_ms) SEAM_ON_LOOP;
/* The same of one that is spoiled: a load of an earlier state has failed for a reason that may
 * pass.  It is PARKED, nothing is written, and nobody else may use the trainer: its streams have
 * ended, and whoever comes waits. */
void seam_session_unload(seam_session *session) SEAM_ON_LOOP;
/* True: such a job has just ended and the session is idle again, PARKED or, if the disk refused,
 * DETACHED with a new lease. */
bool seam_session_park_poll(seam_session *session, uint64_t now_ms) SEAM_ON_LOOP;

/* At the end of the process: park it whatever its lease says. */
void seam_session_park_at_end(seam_session *session) SEAM_ON_LOOP;

#endif
