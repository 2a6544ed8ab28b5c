/* Files of a run folder: whole or not at all (written beside, flushed, renamed), and the session
 * file by which later commands find a run's session. */
#ifndef SEAM_RUN_FILES_H
#define SEAM_RUN_FILES_H

#include <jansson.h>

#include "seam.h"

#define SEAM_RUN_PATH_BYTES 4096

/* "<directory>/<name>".  SEAM_E_ARG: too long. */
seam_status seam_run_path(char ret_path[SEAM_RUN_PATH_BYTES], const char *directory,
                          const char *name, seam_error *err);
/* mode: of the file, for example 0644.  SEAM_E_IO (err names the file and the reason). */
seam_status seam_run_write(const char *path, const void *bytes, size_t count, unsigned mode,
                           seam_error *err);
seam_status seam_run_write_json(const char *path, const json_t *value, unsigned mode,
                                seam_error *err);

/* session.json: server, session id, secret; readable by its owner only. */
typedef struct seam_session_file {
    char server[256];
    char id[65];
    uint8_t secret[SEAM_SECRET_BYTES];
} seam_session_file;
seam_status seam_session_file_write(const char *directory, const char *server,
                                    const seam_session *session, seam_error *err);
/* path: the run folder, or the file.  SEAM_E_IO, SEAM_E_FORMAT. */
seam_status seam_session_file_read(seam_session_file *ret_file, const char *path, seam_error *err);

#endif
