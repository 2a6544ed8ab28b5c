/* A run that goes on from its folder: `seam train --resume DIR`.
 *
 *   command.json   the command line of the run, the folder that it was typed in, the session's id,
 *                  and with --adapter what that was, whose folder is not needed again
 *   session.json   the session (run_files.h)       journal.bin, .notes   its steps (core/journal.h)
 *   data.json      what its steps are made of (run_data.h)
 *   before.json    the evaluation before training, where there was one */
#ifndef SEAM_RUN_RESUME_H
#define SEAM_RUN_RESUME_H

#include "train_options.h"

/* Does the command line ask for it? */
bool seam_run_is_resume(int argc, char **argv, int first);
/* What command.json is to hold; written once there is a session (run_folder.h).  SEAM_E_IO,
 * SEAM_E_ARG. */
seam_status seam_run_command_make(json_t **ret_command, int argc, char **argv, int first,
                                  seam_error *err);
/* The options of the run in --resume DIR, with what this command line may change.  Changes to the
 * folder that the run was started in, so that its paths mean the same; one that is gone is missed
 * only where a path is relative.  *ret_texts owns the
 * strings: json_decref it after the options' last use.  SEAM_E_ARG (an option that may not change),
 * SEAM_E_CONFLICT (the folder's files are not of one run), SEAM_E_NOT_FOUND, SEAM_E_FORMAT,
 * SEAM_E_IO. */
seam_status seam_run_command_read(seam_train_options *ret_options, json_t **ret_texts, int argc,
                                  char **argv, int first, seam_error *err);

/* "before.json": written after the evaluation, NULL where there is none. */
seam_status seam_run_before_write(const char *out, json_t *evaluation, seam_error *err);
json_t *seam_run_before_read(const char *out);

#endif
