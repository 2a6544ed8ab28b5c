/* A file mapped read-only, and small text files read whole.
 *
 * Readers take (bytes, count, name) and know nothing of files, so that tests and fuzzers feed
 * them from memory.  A file that another process shortens while it is mapped kills the reader
 * (SIGBUS): model files are taken as immutable once opened, as every mapping loader does. */
#ifndef SEAM_FILE_MAP_H
#define SEAM_FILE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

typedef struct seam_file_map {
    const uint8_t *bytes; /* NULL for an empty file */
    size_t count;
    int fd;     /* open while bytes is not NULL: for those who read instead of touching pages */
    char *path; /* as given, for error texts */
} seam_file_map;

/* Maps a regular file.  SEAM_E_NOT_FOUND, SEAM_E_ARG (not a regular file), SEAM_E_IO,
 * SEAM_E_MEMORY. */
seam_status seam_file_map_open(seam_file_map *ret_map, const char *path, seam_error *err);
/* A zeroed map is fine. */
void seam_file_map_close(seam_file_map *map);

/* Kind of the thing at `path`; both false when there is none. */
bool seam_path_is_file(const char *path);
bool seam_path_is_dir(const char *path);
/* "dir/name" on the heap (seam_mem_free), NULL without memory. */
char *seam_path_join(const char *dir, const char *name);
/* The part after the last slash (trailing slashes count as no part); points into path. */
const char *seam_path_base(const char *path);
/* The only file of `dir` whose name ends so; the path is on the heap.  SEAM_E_NOT_FOUND, SEAM_E_ARG
 * (more than one), SEAM_E_IO, SEAM_E_MEMORY. */
seam_status seam_only_file(char **ret_path, const char *dir, const char *suffix, seam_error *err);

#endif
