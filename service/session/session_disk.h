/* A session in the state directory: when a checkpoint of it is due, how it gets to the disk, and
 * how the session comes back from there.  RELIABILITY in three sentences: nothing is told durable
 * before the disk has it (seam_session_disk_poll); a session whose lease is over is PARKED, which
 * is a checkpoint and no memory; a server that starts finds every session PARKED.
 *
 * A checkpoint is taken by the engine at a step boundary, as an image in memory of the session
 * (a copy, no wait for the disk), and written by the store's thread while steps go on.  One at a
 * time: a next one is due when this one is on the disk and
 *   the time since the last one is cost_percent of what it cost, or work_seconds are at risk.
 *
 * Parking and coming back: session_park.h.  Files: store/checkpoint.h, store/state_store.h.  What
 * is in the image: engine/trainer_state.h. */
#ifndef SEAM_SESSION_DISK_H
#define SEAM_SESSION_DISK_H

#include "session.h"
#include "state_store.h"

/* Is there a state directory that keeps the session? */
bool seam_session_is_kept(const seam_session *session);
/* Why not: SEAM_E_STATE. */
seam_status seam_session_kept_check(const seam_session *session, seam_error *err);

/* ---- engine ---- */

/* A session that was built: its caches are kept where its checkpoints are.  SEAM_E_MEMORY,
 * SEAM_E_IO. */
seam_status seam_session_keep_caches(seam_session *session, seam_error *err) SEAM_ON_GPU;
/* The state after mark->step_count steps into the image.  SEAM_E_LIMIT, SEAM_E_DEVICE_LOST; of
 * caches SEAM_E_IO, SEAM_E_DATA_LOSS. */
seam_status seam_session_image_take(seam_session *session, const seam_trainer_mark *mark,
                                    seam_stream *stream, seam_error *err) SEAM_ON_GPU;
/* An image that nobody writes any more.  Any thread, while no job or write runs. */
void seam_session_image_drop(seam_session *session);
/* The same and straight to the disk, waiting for it: creation, import, parking.  SEAM_E_IO. */
seam_status seam_session_image_write(seam_session *session, const seam_trainer_mark *mark,
                                     seam_stream *stream, seam_error *err) SEAM_ON_GPU;
/* The state of the newest checkpoint of the list below that is intact and can be read.
 * SEAM_E_DATA_LOSS: all are damaged; SEAM_E_IO: those that are not cannot be read; another error,
 * for instance SEAM_E_LIMIT, SEAM_E_MEMORY: what is missing may come, no older one was tried. After
 * an error the trainer may hold a part of one. */
seam_status seam_session_restore(seam_session *session, seam_stream *stream,
                                 seam_error *err) SEAM_ON_GPU;
/* Row and checkpoint of a session that has just been built. */
seam_status seam_session_store(seam_session *session, seam_stream *stream,
                               seam_error *err) SEAM_ON_GPU;

/* ---- loop ---- */

/* Before seam_session_restore: those of at most that many steps. */
void seam_session_restore_list(seam_session *session, uint64_t step_count_max) SEAM_ON_LOOP;
/* After its SEAM_OK: the steps of the one that was loaded.  Both sides. */
uint64_t seam_session_restored_step(const seam_session *session);

/* Should the step that ends next leave an image? */
bool seam_session_image_is_due(const seam_session *session, uint64_t now_ms) SEAM_ON_LOOP;
/* A step was committed; with_image: it left one, which goes to the disk now. */
void seam_session_image_post(seam_session *session, bool with_image, uint64_t now_ms) SEAM_ON_LOOP;
/* An image was taken, at a commit or between two jobs: it goes to the disk. */
void seam_session_image_send(seam_session *session, uint64_t now_ms) SEAM_ON_LOOP;
/* Look whether a write has ended; true: just now. */
bool seam_session_disk_poll(seam_session *session) SEAM_ON_LOOP;
/* Newest checkpoint that the client may be told of; 0: none. */
uint64_t seam_session_durable(const seam_session *session) SEAM_ON_LOOP;
/* The client has confirmed a later one: the disk queue deletes those below. */
void seam_session_forget_below(seam_session *session, uint64_t step_count) SEAM_ON_LOOP;
/* That one has made room for a later one: it alone goes. */
void seam_session_forget_one(seam_session *session, uint64_t step_count) SEAM_ON_LOOP;
/* A checkpoint was loaded, whose caches may stand in an older log than those of the newest that was
 * written: no log goes until one is written again. */
void seam_session_caches_went_back(seam_session *session) SEAM_ON_LOOP;

#endif
