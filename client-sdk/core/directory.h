/* Making folders: the one thing that both the core's export and the CLI's run folder need. */
#ifndef SEAM_DIRECTORY_H
#define SEAM_DIRECTORY_H

#include "seam_status.h"

/* Creates the directory and its parents; one that exists is fine.  SEAM_E_IO (err names the part
 * that failed), SEAM_E_ARG (empty or too long). */
seam_status seam_directory_make(const char *directory, seam_error *err);

#endif
