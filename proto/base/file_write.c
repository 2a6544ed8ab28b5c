/* Atomic file replacement: see file_write.h. */
#include "file_write.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MODE 0644

static seam_status failed(seam_error *err, const char *what, const char *path) {
    char reason[128] = "";
    const char *text = strerror_r(errno, reason, sizeof reason);
    return seam_error_set(err, SEAM_E_IO, "%s %s: %s", what, path, text);
}

bool seam_file_write_all(int fd, const void *bytes, size_t count) {
    const char *at = bytes;
    while (count > 0) {
        const ssize_t n = write(fd, at, count);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        at += n;
        count -= (size_t)n;
    }
    return true;
}

bool seam_file_sync_folder(const char *folder) {
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    const bool ok = fsync(fd) == 0 || errno == EINVAL; /* some file systems have none */
    (void)close(fd);
    return ok;
}

/* The rename itself is durable only when the folder is. */
static bool sync_folder_of(const char *path) {
    char folder[PATH_MAX];
    (void)snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash == NULL) {
        (void)snprintf(folder, sizeof folder, ".");
    } else {
        slash[slash == folder ? 1 : 0] = 0;
    }
    return seam_file_sync_folder(folder);
}

seam_status seam_file_write_atomic(const char *path, const void *bytes, size_t count,
                                   seam_error *err) {
    char temporary[PATH_MAX];
    const int chars = snprintf(temporary, sizeof temporary, "%s.tmp", path);
    if (chars < 0 || (size_t)chars >= sizeof temporary) {
        return seam_error_set(err, SEAM_E_LIMIT, "the path %.100s... is too long", path);
    }
    const int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE);
    if (fd < 0) {
        return failed(err, "cannot create", temporary);
    }
    if (!seam_file_write_all(fd, bytes, count) || fsync(fd) != 0) {
        const seam_status st = failed(err, "cannot write", temporary);
        (void)close(fd);
        (void)unlink(temporary);
        return st;
    }
    if (close(fd) != 0 || rename(temporary, path) != 0) {
        const seam_status st = failed(err, "cannot finish", path);
        (void)unlink(temporary);
        return st;
    }
    return sync_folder_of(path) ? SEAM_OK : failed(err, "cannot sync the folder of", path);
}

/* What is there already is not opened: it may be a pipe, whose reader would see its end. */
seam_status seam_file_write_check(const char *path, seam_error *err) {
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, FILE_MODE);
    if (fd >= 0) {
        (void)close(fd);
        (void)unlink(path);
        return SEAM_OK;
    }
    struct stat info;
    /* ENOENT: a link to what is to be made. */
    if (errno != EEXIST || (access(path, W_OK) != 0 && errno != ENOENT)) {
        return failed(err, "cannot write", path);
    }
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
        errno = EISDIR;
        return failed(err, "cannot write", path);
    }
    return SEAM_OK;
}
