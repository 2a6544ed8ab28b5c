/* The folder that a new run is to have, and what is there before.
 *
 * Nothing in it changes before the new run's session exists, so that a command that is refused
 * leaves the run that is there as it was.  The journal's lock (core/journal.h) says whose the
 * folder is; what is written here is written by who holds it.  Read next: run_resume.h,
 * run_files.h. */
#ifndef SEAM_RUN_FOLDER_H
#define SEAM_RUN_FOLDER_H

#include "cli.h"

/* Before anything is loaded.  replaces: a run that is not finished may go, too.  SEAM_E_STATE:
 * another process has the run, or it is not finished; SEAM_E_IO. */
seam_status seam_run_folder_check(const char *out, bool replaces, seam_error *err);
/* The new run's files in place of an earlier one's; its journal is there (and the folder so ours).
 * command: what --resume goes by (run_resume.h), NULL: it cannot go on.  session.json is written
 * last: without it the folder has no run.  SEAM_E_IO, SEAM_E_MEMORY. */
seam_status seam_run_folder_begin(const char *out, const char *server, const seam_session *session,
                                  const json_t *command, seam_error *err);
/* Has the server's session, which is attached, every step that this run has made?  Without a word
 * an evaluation or an export would be of another adapter.  run: as of seam_session_file_read.
 * SEAM_E_ROLLED_BACK says how to have them made again; SEAM_E_IO. */
seam_status seam_run_folder_steps_check(const char *run, seam_session *session, seam_error *err);
/* Deletes the session of the run at its server, where one that is not there counts as deleted, and
 * then its session.json: the folder has no run that could go on.  run: the folder, or its
 * session.json; NULL: no file goes.  After an error the file is as it was.  SEAM_E_IO, and
 * those of seam_client_delete_session. */
seam_status seam_run_folder_delete(const char *run, seam_client *client, const char *session_id,
                                   const uint8_t *secret, seam_error *err);

#endif
