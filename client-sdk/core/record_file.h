/* Records of a journal (journal.h) in their files: packed, read back, found behind damage.  Which
 * records there are, and when one may go, is journal.c's.  One thread at a time. */
#ifndef SEAM_RECORD_FILE_H
#define SEAM_RECORD_FILE_H

#include "journal.h"

#define SEAM_RECORD_HEAD_BYTES 32 /* then body, note and checksum */

typedef struct seam_record_place {
    uint64_t step_count, state_hash, begin;
    uint32_t body_bytes, note_bytes;
} seam_record_place;

uint64_t seam_record_file_bytes(const seam_record_place *p);
/* Replaces what is in ret.  SEAM_E_LIMIT, SEAM_E_MEMORY. */
seam_status seam_record_file_pack(seam_buffer *ret, const seam_journal_record *record);
/* SEAM_E_IO: errno says why; SEAM_E_DATA_LOSS: the file ends before. */
seam_status seam_record_file_read(int fd, uint8_t *ret, size_t count, uint64_t at);
/* The intact record at `at` of a file that ends at `end`; its bytes into scratch. SEAM_E_DATA_LOSS:
 * there is none.  SEAM_E_IO and SEAM_E_MEMORY say nothing of what is there. */
seam_status seam_record_file_load(seam_record_place *ret, seam_buffer *scratch, int fd, uint64_t at,
                                  uint64_t end);
/* The next intact record from *at on, which goes behind it: damage costs the records that it hit
 * and none behind them.  SEAM_E_NOT_FOUND: there is none; SEAM_E_IO, SEAM_E_MEMORY. */
seam_status seam_record_file_next(seam_record_place *ret, seam_buffer *scratch, int fd,
                                  uint64_t *at, uint64_t end);

#endif
