/* Checkpoints of one session on disk: generations in a folder, each there whole or not at all.
 *
 * A generation is two files named by its count of committed steps:
 *   <steps>.safetensors   the state (engine/trainer_state.h says which tensors)
 *   <steps>.manifest      lines of text: steps, state hash, bytes and SHA-256 of the other file,
 * the device that computed it; the last line is the CRC-32C of those before it Each is written
 * beside, flushed, renamed, and the folder flushed (base/file_write.h); the manifest last.  So a
 * generation counts when its manifest is intact and its file is what the manifest says: a torn, cut
 * or flipped one is found by reading it, never loaded.
 *
 * Files only: when one is due and who confirms it is session/session_disk.h.  Any thread, one at a
 * time for a folder. */
#ifndef SEAM_CHECKPOINT_H
#define SEAM_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

#define SEAM_CHECKPOINT_DEVICE_BYTES 160
#define SEAM_CHECKPOINTS_MAX         64 /* generations that a listing takes */

typedef struct seam_checkpoint_facts {
    uint64_t step_count, state_hash;
    char device[SEAM_CHECKPOINT_DEVICE_BYTES]; /* printable, one line */
} seam_checkpoint_facts;

/* SEAM_OK: it is on the disk, whatever happens from now on.  SEAM_E_IO (err says which file and
 * why; what stood there before is as it was), SEAM_E_LIMIT: a path that is too long. */
seam_status seam_checkpoint_write(const char *folder, const seam_checkpoint_facts *facts,
                                  const uint8_t *bytes, size_t count, seam_error *err);
/* Step counts of the generations that have a manifest, rising; at most SEAM_CHECKPOINTS_MAX, the
 * newest ones.  SEAM_E_IO. */
seam_status seam_checkpoint_list(uint64_t ret_step_counts[SEAM_CHECKPOINTS_MAX],
                                 uint32_t *ret_count, const char *folder, seam_error *err);
/* A whole generation, verified; the caller frees the bytes with seam_mem_free.
 * SEAM_E_CHECKSUM: damaged or not all there; SEAM_E_IO: it cannot be read.  SEAM_E_MEMORY,
 * SEAM_E_LIMIT (too many files are open): nothing is said of the generation. */
seam_status seam_checkpoint_read(uint8_t **ret_bytes, size_t *ret_count,
                                 seam_checkpoint_facts *ret_facts, const char *folder,
                                 uint64_t step_count, seam_error *err);
/* What cannot be removed stays; it is found again by the next one. */
void seam_checkpoint_remove(const char *folder, uint64_t step_count);
/* What a write that did not end has left: temporary files, and states without a manifest.  Nothing
 * may write in the folder meanwhile. */
void seam_checkpoint_sweep(const char *folder);
/* The folder with everything that this module put there. */
void seam_checkpoint_remove_all(const char *folder);

#endif
