/* See directory.h. */
#include "directory.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define PATH_BYTES 4096

seam_status seam_directory_make(const char *directory, seam_error *err) {
    char path[PATH_BYTES];
    const size_t count = strlen(directory);
    if (count == 0 || count >= sizeof path) {
        return seam_error_set(err, SEAM_E_ARG, "directory: empty or too long");
    }
    memcpy(path, directory, count + 1);
    for (size_t i = 1; i <= count; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        path[i] = '\0';
        struct stat info;
        if (mkdir(path, 0777) != 0 && errno != EEXIST) {
            return seam_error_set(err, SEAM_E_IO, "%.400s: %s", path, strerror(errno));
        }
        if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) {
            return seam_error_set(err, SEAM_E_IO, "%.400s: is not a directory", path);
        }
        path[i] = directory[i];
    }
    return SEAM_OK;
}
