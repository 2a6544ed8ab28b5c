/* Keeps the caches of an end of a session in a folder, so that it has those of an earlier step
 * again: after a crash, a ROLLBACK, or a step that was dropped.  SPEC 4.1.
 *
 * Every tensor that changes a cache goes to a redo log (base/redo_log.h) when it is committed, as
 * it travelled (aqsgd_tape.c).  A checkpoint or a journal's record holds a place of the log, and
 * the caches of that step are what everything before the place makes: bytes, order of use, misses.
 * When the log has become twice what the caches hold, a new file begins with all entries.
 *
 *   begin of a session, or restore(place)
 *   a step: its tensors are committed; mark() when the step is committed
 *   a checkpoint: save() says the place of the last mark; flush before it counts
 *   the step is dropped: rewind() to the last mark
 *
 * A write that fails makes nothing of no use but the file: the next save begins a new one.  Caches
 * that can not be had again are lost, which check() says.  One thread at a time. */
#ifndef SEAM_CACHE_KEEPER_H
#define SEAM_CACHE_KEEPER_H

#include "coder.h"
#include "redo_log.h"
#include "seam_status.h"

#define SEAM_KEPT_CACHES_MAX SEAM_REDO_KINDS

typedef struct seam_cache_keeper seam_cache_keeper;

/* Of the coders that have a cache; *ret_keeper stays NULL where none has.  owner: of the session,
 * the same at restore.  Nothing is written yet.  SEAM_E_MEMORY, SEAM_E_LIMIT: the path. */
seam_status seam_cache_keeper_create(seam_cache_keeper **ret_keeper, seam_coder *const *coders,
                                     uint32_t coder_count, const char *folder, uint64_t owner,
                                     seam_error *err);
/* The coders still live.  The files stay. */
void seam_cache_keeper_destroy(seam_cache_keeper *gift_keeper); /* NULL is fine */

/* SEAM_E_DATA_LOSS: the caches are lost until a restore. */
seam_status seam_cache_keeper_check(const seam_cache_keeper *keeper, seam_error *err);

/* Everything so far belongs to committed steps. */
void seam_cache_keeper_mark(seam_cache_keeper *keeper);
/* The place of the last mark, after `step` steps; a new file where one is due.  SEAM_E_IO: nothing
 * can be recorded now; SEAM_E_DATA_LOSS. */
seam_status seam_cache_keeper_save(seam_redo_place *ret_place, seam_cache_keeper *keeper,
                                   uint64_t step, seam_error *err);
/* What save said is on the disk when it returns.  SEAM_E_IO. */
seam_status seam_cache_keeper_flush(seam_cache_keeper *keeper, seam_error *err);
/* For a flush by another thread: the log's file, to be closed; -1: it cannot be had. */
int seam_cache_keeper_file(const seam_cache_keeper *keeper);
/* Such a flush has failed. */
void seam_cache_keeper_break(seam_cache_keeper *keeper);

/* Back to the last mark.  SEAM_E_DATA_LOSS: lost. */
seam_status seam_cache_keeper_rewind(seam_cache_keeper *keeper, seam_error *err);
/* The caches of that place.  SEAM_E_CHECKSUM: damaged, or gone; SEAM_E_IO, SEAM_E_MEMORY: as well
 * lost. */
seam_status seam_cache_keeper_restore(seam_cache_keeper *keeper, const seam_redo_place *place,
                                      seam_error *err);
/* Nothing before `step` will be restored: files that only it needs may go. */
void seam_cache_keeper_forget(seam_cache_keeper *keeper, uint64_t step);

#endif
