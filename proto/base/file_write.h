/* Files that are there whole or not at all, and the two plain steps to it. */
#ifndef SEAM_FILE_WRITE_H
#define SEAM_FILE_WRITE_H

#include <stdbool.h>
#include <stddef.h>

#include "seam_status.h"

/* Writes `path` through a temporary file beside it: write, fsync, rename, fsync of the folder.
 * On failure (disk full, no permission) the old file stays as it was and the temporary one is
 * removed.  SEAM_E_IO with the path and the system's reason; SEAM_E_LIMIT for a path that is too
 * long.  Any thread; one writer a path. */
seam_status seam_file_write_atomic(const char *path, const void *bytes, size_t count,
                                   seam_error *err);

/* Whether `path` could be written now, for what is written at a long run's end; leaves nothing
 * there. SEAM_E_IO with the path and the system's reason. */
seam_status seam_file_write_check(const char *path, seam_error *err);

/* Every byte, whatever signals come; fsync of a folder, which is what makes a rename in it last.
 * False: errno says why. */
bool seam_file_write_all(int fd, const void *bytes, size_t count);
bool seam_file_sync_folder(const char *folder);

#endif
