/* Storage: a large block of bytes that is filled bit by bit, in memory or in a file without a name.
 *
 * For caches whose cap may be far above what they come to hold: pages cost nothing until they are
 * written.  In a file, space is reserved at open, so that a full disk is an error then and not a
 * signal later; the file has no name and goes with the process. */
#ifndef SEAM_STORAGE_H
#define SEAM_STORAGE_H

#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

typedef struct seam_storage {
    uint8_t *bytes; /* NULL when count is 0 */
    size_t count;
} seam_storage;

/* `count` bytes of zeros.  directory: where the file goes; NULL: in memory.
 * SEAM_E_MEMORY; SEAM_E_IO: the directory cannot be written or has no room. */
seam_status seam_storage_open(seam_storage *ret_storage, const char *directory, size_t count,
                              seam_error *err);
void seam_storage_close(seam_storage *storage); /* zeros are fine */

#endif
