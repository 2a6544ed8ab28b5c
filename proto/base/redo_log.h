/* Redo log: a file of records that make a state again when they are read from its begin, for what
 * is too large to be in every checkpoint (caches of stateful codecs: kernels/codec/cache_keeper.h).
 *
 *   <step>.<number>.caches   a head with the owner's mark, then records, little-endian: "SRL1",
 *                            bytes u32, kind u32, CRC-32C u32 of kind and body, body
 *
 * A place names a file, a length and a chain: the hash of everything up to there.  Records of a
 * kind are chained, kinds are added up: a replay may have records of two kinds in another order and
 * comes to the same places.  A place stands in a checkpoint or a journal's record, which counts
 * only when the log was flushed before it.  What is behind a place may be torn or of a step that
 * never was: it is written over.  A flush that fails is never repeated: the file takes nothing any
 * more, and a new one begins.  One thread at a time; seam_redo_log_flush: any. */
#ifndef SEAM_REDO_LOG_H
#define SEAM_REDO_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

#define SEAM_REDO_RECORD_BYTES_MAX (1u << 30)
#define SEAM_REDO_PLACE_BYTES      32
#define SEAM_REDO_KINDS            4

typedef struct seam_redo_place {
    uint64_t step;       /* of the file: when it began */
    uint64_t number;     /* of several that began then */
    uint64_t end, chain; /* 0, 0: no place */
} seam_redo_place;
void seam_redo_place_put(uint8_t ret[SEAM_REDO_PLACE_BYTES], const seam_redo_place *place);
seam_redo_place seam_redo_place_get(const uint8_t bytes[SEAM_REDO_PLACE_BYTES]);

typedef struct seam_redo_log {
    int fd;                           /* -1: none is open */
    seam_redo_place place;            /* where the next record goes */
    uint64_t chains[SEAM_REDO_KINDS]; /* of each kind up to there */
} seam_redo_log;

/* A new file with a head.  The folder is made where it is missing.  SEAM_E_IO, SEAM_E_LIMIT. */
seam_status seam_redo_log_create(seam_redo_log *ret_log, const char *folder, uint64_t step,
                                 uint64_t mark, seam_error *err);
/* The file of a place, at its begin.  SEAM_E_CHECKSUM: there is none, or it is of another owner;
 * SEAM_E_IO. */
seam_status seam_redo_log_open(seam_redo_log *ret_log, const char *folder,
                               const seam_redo_place *place, uint64_t mark, seam_error *err);
void seam_redo_log_close(seam_redo_log *log); /* none open is fine */
/* The same, and a file that nothing names goes. */
void seam_redo_log_discard(seam_redo_log *log, const char *folder);

/* SEAM_E_IO: the log is of no use any more. */
typedef struct seam_redo_record {
    uint32_t kind; /* below SEAM_REDO_KINDS */
    const uint8_t *body;
    size_t body_bytes;
} seam_redo_record;
seam_status seam_redo_log_add(seam_redo_log *log, const seam_redo_record *record, seam_error *err);

/* Every record up to the place, which is where the next one goes then.  SEAM_E_CHECKSUM: cut, torn
 * or other than what the place was made of; SEAM_E_IO, SEAM_E_MEMORY; what visit returns. */
typedef seam_status seam_redo_visit_fn(void *user, const seam_redo_record *record, seam_error *err);
seam_status seam_redo_log_replay(seam_redo_log *log, const seam_redo_place *to,
                                 seam_redo_visit_fn *visit, void *user, seam_error *err);

/* What was written is on the disk.  folder: flushed too, NULL: not.  SEAM_E_IO. */
seam_status seam_redo_log_flush(int fd, const char *folder, seam_error *err);

/* Files that began before that of `place`, or with NULL every one.  What cannot go stays. */
void seam_redo_logs_remove(const char *folder, const seam_redo_place *place);

#endif
