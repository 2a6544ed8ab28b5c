/* The client's journal in a folder: one record a committed step, flushed before the next step.
 *
 *   journal.bin    a header, then records in rising order of steps, without gaps
 *   journal.notes  what the caller noted with records that have been dropped since, as records
 *                  without a body; a torn tail is cut off, damage costs the notes that it hit
 *   journal.lock   held while a process has the journal open
 *
 * Record, little-endian: "SJR1", body bytes u32, note bytes u32, zero u32, step count u64, state
 * hash u64, body, note, CRC-32C u32 of all that.  A record is appended and flushed; a torn or
 * damaged one ends the journal when it is opened, so that the step before is the newest.  Dropping
 * old records writes a new file beside and renames it.  A flush that fails is never repeated: the
 * journal takes nothing any more, and what was in it stays.
 *
 * Bytes only; what a record says of a session is session_record.c's.  One thread at a time. */
#ifndef SEAM_JOURNAL_H
#define SEAM_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "seam_status.h"
#include "transport.h"

#define SEAM_JOURNAL_RECORD_BYTES_MAX (1u << 30) /* the caller's own adapter is in it */

typedef struct seam_journal seam_journal;

/* A new one in place of any that is there; mark: of the session, must be the same at open.
 * SEAM_E_IO, SEAM_E_STATE (another process has it), SEAM_E_MEMORY. */
seam_status seam_journal_create(seam_journal **ret_journal, const char *folder, uint64_t mark,
                                seam_error *err);
/* The one that is there, with at least one record.  *ret_cut: bytes behind the last intact record
 * that were cut off.  SEAM_E_NOT_FOUND, SEAM_E_ARG (of another session), SEAM_E_DATA_LOSS (header
 * or first record is damaged), SEAM_E_IO, SEAM_E_STATE, SEAM_E_MEMORY. */
seam_status seam_journal_open(seam_journal **ret_journal, uint64_t *ret_cut, const char *folder,
                              uint64_t mark, seam_error *err);
void seam_journal_close(seam_journal *gift_journal); /* NULL is fine */
/* The newest step of the one that is there, which is not taken: another process may have it.  The
 * errors of seam_journal_open, without SEAM_E_STATE. */
seam_status seam_journal_peek(uint64_t *ret_step_count, const char *folder, uint64_t mark,
                              seam_error *err);

/* Append and flush; step_count is one above the newest (any, in an empty journal).  SEAM_E_IO,
 * SEAM_E_LIMIT, SEAM_E_MEMORY: the record is not there. */
typedef struct seam_journal_record {
    uint64_t step_count, state_hash;
    const void *body, *note;
    size_t body_bytes, note_bytes;
} seam_journal_record;
seam_status seam_journal_add(seam_journal *journal, const seam_journal_record *record,
                             seam_error *err);

uint64_t seam_journal_oldest(const seam_journal *journal);
uint64_t seam_journal_newest(const seam_journal *journal);
/* The state hash that the record holds; false: no such record. */
bool seam_journal_hash(uint64_t *ret_hash, const seam_journal *journal, uint64_t step_count);
/* The body of a record, replacing what is in ret_body.  SEAM_E_DATA_LOSS: no such record, or it was
 * damaged since; SEAM_E_IO, SEAM_E_MEMORY. */
seam_status seam_journal_read(seam_buffer *ret_body, const seam_journal *journal,
                              uint64_t step_count, seam_error *err);
/* Records below are not needed any more: they are dropped when that is worth a new file.  An error
 * leaves the journal as it was. */
seam_status seam_journal_forget(seam_journal *journal, uint64_t step_count, seam_error *err);
/* Every note that is intact, dropped records' first, in order of steps.  What visit returns other
 * than SEAM_OK ends it.  SEAM_E_IO, SEAM_E_MEMORY, SEAM_E_DATA_LOSS (journal.bin, since it was
 * opened). */
typedef seam_status seam_journal_visit_fn(void *user, uint64_t step_count, const void *note,
                                          size_t note_bytes);
seam_status seam_journal_visit(const seam_journal *journal, seam_journal_visit_fn *visit,
                               void *user, seam_error *err);

#endif
