/* See run_files.h. */
#include "run_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arena.h"
#include "json_text.h"
#include "try.h"

seam_status seam_run_path(char ret_path[SEAM_RUN_PATH_BYTES], const char *directory,
                          const char *name, seam_error *err) {
    const int count = snprintf(ret_path, SEAM_RUN_PATH_BYTES, "%s/%s", directory, name);
    return count > 0 && count < SEAM_RUN_PATH_BYTES - 32
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_ARG, "a path is too long");
}

seam_status seam_run_write(const char *path, const void *bytes, size_t count, unsigned mode,
                           seam_error *err) {
    char temporary[SEAM_RUN_PATH_BYTES + 32];
    snprintf(temporary, sizeof temporary, "%s.%ld.part", path, (long)getpid());
    const int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, (mode_t)mode);
    if (fd < 0) {
        return seam_error_set(err, SEAM_E_IO, "%.400s: %s", path, strerror(errno));
    }
    size_t at = 0;
    bool written = true;
    while (written && at < count) {
        const ssize_t n = write(fd, (const char *)bytes + at, count - at);
        written = n > 0 || errno == EINTR;
        at += n > 0 ? (size_t)n : 0;
    }
    written = written && fsync(fd) == 0;
    const int reason = errno;
    const bool closed = close(fd) == 0;
    if (!written || !closed || rename(temporary, path) != 0) {
        const int why = written ? errno : reason;
        unlink(temporary);
        return seam_error_set(err, SEAM_E_IO, "%.400s: %s", path, strerror(why));
    }
    return SEAM_OK;
}

seam_status seam_run_write_json(const char *path, const json_t *value, unsigned mode,
                                seam_error *err) {
    size_t count = 0;
    char *const text = seam_json_text(&count, value, JSON_INDENT(1) | JSON_REAL_PRECISION(10));
    if (text == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "%.400s: out of memory", path);
    }
    const seam_status st = seam_run_write(path, text, count, mode, err);
    seam_mem_free(text);
    return st;
}

seam_status seam_session_file_write(const char *directory, const char *server,
                                    const seam_session *session, seam_error *err) {
    char path[SEAM_RUN_PATH_BYTES];
    char secret[2 * SEAM_SECRET_BYTES + 1];
    SEAM_TRY(seam_run_path(path, directory, "session.json", err));
    for (int i = 0; i < SEAM_SECRET_BYTES; i++) {
        snprintf(secret + (ptrdiff_t)2 * i, 3, "%02x", seam_session_secret(session)[i]);
    }
    json_t *const value = json_pack("{s:s,s:s,s:s}", "server", server, "session",
                                    seam_session_id(session), "secret", secret);
    const seam_status st = seam_run_write_json(path, value, 0600, err);
    json_decref(value);
    return st;
}

seam_status seam_session_file_read(seam_session_file *ret_file, const char *path, seam_error *err) {
    char file[SEAM_RUN_PATH_BYTES];
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
        SEAM_TRY(seam_run_path(file, path, "session.json", err));
    } else {
        snprintf(file, sizeof file, "%s", path);
    }
    if (access(file, R_OK) != 0) {
        return seam_error_set(err, SEAM_E_IO, "%.400s: %s", file, strerror(errno));
    }
    json_error_t why;
    json_t *const value = json_load_file(file, 0, &why);
    const char *server = NULL, *id = NULL, *secret = NULL;
    bool good = value != NULL && json_unpack(value, "{s:s,s:s,s:s}", "server", &server, "session",
                                             &id, "secret", &secret) == 0;
    good = good && strlen(server) < sizeof ret_file->server && strlen(id) < sizeof ret_file->id &&
           strlen(secret) == (size_t)2 * SEAM_SECRET_BYTES;
    for (int i = 0; good && i < SEAM_SECRET_BYTES; i++) {
        unsigned byte = 0;
        good = sscanf(secret + (ptrdiff_t)2 * i, "%2x", &byte) == 1;
        ret_file->secret[i] = (uint8_t)byte;
    }
    if (good) {
        memcpy(ret_file->server, server, strlen(server) + 1);
        memcpy(ret_file->id, id, strlen(id) + 1);
    }
    json_decref(value);
    return good ? SEAM_OK
                : seam_error_set(err, SEAM_E_FORMAT, "%.400s: is no session file of seam", file);
}
