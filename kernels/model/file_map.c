/* Files as read-only mappings; see file_map.h. */
#include "file_map.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arena.h"
#include "try.h"

static seam_status map_descriptor(seam_file_map *map, int fd, seam_error *err) {
    struct stat info;
    if (fstat(fd, &info) != 0) {
        return seam_error_set(err, SEAM_E_IO, "%s: %s", map->path, strerror(errno));
    }
    if (!S_ISREG(info.st_mode)) {
        return seam_error_set(err, SEAM_E_ARG, "%s: not a regular file", map->path);
    }
    map->count = (size_t)info.st_size;
    if (map->count == 0) {
        return SEAM_OK;
    }
    void *bytes = mmap(NULL, map->count, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED) {
        map->count = 0;
        return seam_error_set(err, SEAM_E_IO, "%s: cannot map: %s", map->path, strerror(errno));
    }
    map->bytes = bytes;
    return SEAM_OK;
}

seam_status seam_file_map_open(seam_file_map *ret_map, const char *path, seam_error *err) {
    seam_file_map map = {.path = seam_mem_strdup(path)};
    if (map.path == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "%s: out of memory", path);
    }
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        const bool absent = errno == ENOENT || errno == ENOTDIR;
        const seam_status st = seam_error_set(err, absent ? SEAM_E_NOT_FOUND : SEAM_E_IO, "%s: %s",
                                              path, strerror(errno));
        seam_mem_free(map.path);
        return st;
    }
    const seam_status st = map_descriptor(&map, fd, err);
    if (map.bytes == NULL) {
        (void)close(fd);
    } else {
        map.fd = fd;
    }
    if (st != SEAM_OK) {
        seam_mem_free(map.path);
        return st;
    }
    *ret_map = map;
    return SEAM_OK;
}

void seam_file_map_close(seam_file_map *map) {
    if (map->bytes != NULL) {
        (void)munmap((void *)(uintptr_t)map->bytes, map->count);
        (void)close(map->fd);
    }
    seam_mem_free(map->path);
    *map = (seam_file_map){0};
}

bool seam_path_is_file(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

bool seam_path_is_dir(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

char *seam_path_join(const char *dir, const char *name) {
    const size_t dir_count = strlen(dir);
    const size_t bytes = dir_count + strlen(name) + 2;
    char *path = seam_mem_alloc(bytes);
    if (path != NULL) {
        const char *slash = dir_count > 0 && dir[dir_count - 1] == '/' ? "" : "/";
        (void)snprintf(path, bytes, "%s%s%s", dir, slash, name);
    }
    return path;
}

const char *seam_path_base(const char *path) {
    const char *base = path;
    for (const char *p = path; *p != '\0'; p++) {
        if (p[0] == '/' && p[1] != '/' && p[1] != '\0') {
            base = p + 1;
        }
    }
    return base;
}

static bool has_suffix(const char *text, const char *suffix) {
    const size_t count = strlen(text);
    const size_t tail = strlen(suffix);
    return count > tail && strcmp(text + count - tail, suffix) == 0;
}

seam_status seam_only_file(char **ret_path, const char *dir, const char *suffix, seam_error *err) {
    DIR *stream = opendir(dir);
    if (stream == NULL) {
        return seam_error_set(err, SEAM_E_IO, "%s: %s", dir, strerror(errno));
    }
    char name[256] = "";
    size_t found = 0;
    for (const struct dirent *e = readdir(stream); e != NULL; e = readdir(stream)) {
        if (has_suffix(e->d_name, suffix)) {
            found++;
            (void)snprintf(name, sizeof(name), "%s", e->d_name);
        }
    }
    (void)closedir(stream);
    if (found != 1) {
        return seam_error_set(err, found == 0 ? SEAM_E_NOT_FOUND : SEAM_E_ARG,
                              "%s: %zu files end in %s; exactly one is needed", dir, found, suffix);
    }
    *ret_path = seam_path_join(dir, name);
    return *ret_path == NULL ? seam_error_set(err, SEAM_E_MEMORY, "%s: out of memory", dir)
                             : SEAM_OK;
}
