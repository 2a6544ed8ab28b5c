/* mmap of nothing or of an unlinked file; see storage.h. */
#include "storage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "try.h"

#define PATH_BYTES 4096

static seam_status failed(seam_error *err, seam_status st, int code, const char *what) {
    char reason[128] = "";
    return seam_error_set(err, st, "%s: %s", what, strerror_r(code, reason, sizeof reason));
}

/* A file of `count` bytes in the directory, already without a name. */
static seam_status file_make(int *ret_fd, const char *directory, size_t count, seam_error *err) {
    char path[PATH_BYTES];
    const int length = snprintf(path, sizeof path, "%s/seam-cache-XXXXXX", directory);
    if (length < 0 || (size_t)length >= sizeof path) {
        return seam_error_set(err, SEAM_E_IO, "%s: the path is too long", directory);
    }
    const int fd = mkstemp(path); /* mode 0600 */
    if (fd < 0) {
        return failed(err, SEAM_E_IO, errno, directory);
    }
    (void)unlink(path);
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    const int code = posix_fallocate(fd, 0, (off_t)count);
    if (code != 0) {
        (void)close(fd);
        (void)failed(err, SEAM_E_IO, code, "no room");
        return seam_error_prefix(err, SEAM_E_IO, "%s: %zu bytes", directory, count);
    }
    *ret_fd = fd;
    return SEAM_OK;
}

seam_status seam_storage_open(seam_storage *ret_storage, const char *directory, size_t count,
                              seam_error *err) {
    if (count == 0) {
        *ret_storage = (seam_storage){0};
        return SEAM_OK;
    }
    int fd = -1;
    if (directory != NULL) {
        SEAM_TRY(file_make(&fd, directory, count, err));
    }
    const int flags = directory != NULL ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    void *const bytes = mmap(NULL, count, PROT_READ | PROT_WRITE, flags, fd, 0);
    const int code = errno;
    if (fd >= 0) {
        (void)close(fd); /* the mapping keeps the file */
    }
    if (bytes == MAP_FAILED) {
        (void)failed(err, SEAM_E_MEMORY, code, "cannot be mapped");
        return seam_error_prefix(err, SEAM_E_MEMORY, "%zu bytes", count);
    }
    *ret_storage = (seam_storage){bytes, count};
    return SEAM_OK;
}

void seam_storage_close(seam_storage *storage) {
    if (storage->bytes != NULL) {
        (void)munmap(storage->bytes, storage->count);
    }
    *storage = (seam_storage){0};
}
