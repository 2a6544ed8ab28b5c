/* See run_folder.h. */
#include "run_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lost_steps.h"
#include "run_files.h"
#include "try.h"

static seam_status is_there(bool *ret_there, const char *out, const char *name, seam_error *err) {
    char path[SEAM_RUN_PATH_BYTES];
    SEAM_TRY(seam_run_path(path, out, name, err));
    *ret_there = access(path, F_OK) == 0;
    return SEAM_OK;
}

/* A look at the journal's lock; who takes the journal afterwards takes the lock itself. */
static seam_status lock_check(const char *out, seam_error *err) {
    char path[SEAM_RUN_PATH_BYTES];
    SEAM_TRY(seam_run_path(path, out, "journal.lock", err));
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT
                   ? SEAM_OK
                   : seam_error_set(err, SEAM_E_IO, "%.400s: %s", path, strerror(errno));
    }
    const bool is_free = flock(fd, LOCK_EX | LOCK_NB) == 0;
    (void)close(fd);
    return is_free ? SEAM_OK
                   : seam_error_set(err, SEAM_E_STATE,
                                    "--out: %.300s: another process has this run", out);
}

static seam_status finished_check(const char *out, seam_error *err) {
    bool has_session = false, has_journal = false;
    char path[SEAM_RUN_PATH_BYTES];
    SEAM_TRY(is_there(&has_session, out, "session.json", err));
    SEAM_TRY(is_there(&has_journal, out, "journal.bin", err)); /* else nothing could go on */
    SEAM_TRY(seam_run_path(path, out, "report.json", err));
    json_t *const report = json_load_file(path, 0, NULL);
    const bool complete = json_is_true(json_object_get(report, "complete"));
    json_decref(report);
    if (!has_session || !has_journal || complete) {
        return SEAM_OK;
    }
    return seam_error_set(err, SEAM_E_STATE,
                          "--out: %.300s holds a run that is not finished: `seam train --resume "
                          "%.300s` goes on with it; or give another --out, or discard it by `seam "
                          "session delete %.300s` (where its server is gone: remove its "
                          "session.json)",
                          out, out, out);
}

seam_status seam_run_folder_check(const char *out, bool replaces, seam_error *err) {
    SEAM_TRY(lock_check(out, err));
    return replaces ? SEAM_OK : finished_check(out, err);
}

seam_status seam_run_folder_begin(const char *out, const char *server, const seam_session *session,
                                  const json_t *command, seam_error *err) {
    /* The session's first: what is left after a cut must not look like a run to go on with. */
    static const char *const earlier[] = {"session.json", "report.json", "report.html",
                                          "before.json", "command.json"};
    char path[SEAM_RUN_PATH_BYTES];
    for (size_t i = 0; i < sizeof earlier / sizeof *earlier; i++) {
        SEAM_TRY(seam_run_path(path, out, earlier[i], err));
        if (unlink(path) != 0 && errno != ENOENT) {
            return seam_error_set(err, SEAM_E_IO, "%.400s: %s", path, strerror(errno));
        }
    }
    if (command != NULL) { /* path: command.json */
        json_t *const value = json_copy((json_t *)(uintptr_t)command);
        json_object_set_new(value, "session", json_string(seam_session_id(session)));
        const seam_status st = seam_run_write_json(path, value, 0644, err);
        json_decref(value);
        SEAM_TRY(st);
    }
    return seam_session_file_write(out, server, session, err);
}

seam_status seam_run_folder_steps_check(const char *run, seam_session *session, seam_error *err) {
    char folder[SEAM_RUN_PATH_BYTES];
    const char *const end = strrchr(run, '/');
    struct stat info;
    if (stat(run, &info) == 0 && S_ISDIR(info.st_mode)) {
        snprintf(folder, sizeof folder, "%s", run);
    } else if (end == NULL) { /* its session.json, in the working folder */
        snprintf(folder, sizeof folder, ".");
    } else {
        snprintf(folder, sizeof folder, "%.*s", (int)(end - run + 1), run);
    }
    const seam_status st = seam_session_lost_steps_check(session, folder, err);
    if (st != SEAM_E_ROLLED_BACK) {
        return st;
    }
    const seam_error found = *err;
    return seam_error_set(err, st, "%.300s; `seam train --resume %.150s` makes them again",
                          found.text, folder);
}

seam_status seam_run_folder_delete(const char *run, seam_client *client, const char *session_id,
                                   const uint8_t *secret, seam_error *err) {
    const seam_status st = seam_client_delete_session(client, session_id, secret, err);
    if (st != SEAM_OK && st != SEAM_E_NOT_FOUND) {
        return st;
    }
    if (run == NULL) {
        return SEAM_OK;
    }
    char path[SEAM_RUN_PATH_BYTES];
    struct stat info;
    if (stat(run, &info) == 0 && S_ISDIR(info.st_mode)) {
        SEAM_TRY(seam_run_path(path, run, "session.json", err));
    } else {
        snprintf(path, sizeof path, "%s", run);
    }
    return unlink(path) == 0 || errno == ENOENT
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_IO, "%.400s: %s", path, strerror(errno));
}
