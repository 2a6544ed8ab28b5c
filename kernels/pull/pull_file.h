/* Parts of pull: HTTP, hashes, folders, one member of a zip.  Internal to kernels/pull. */
#ifndef SEAM_PULL_FILE_H
#define SEAM_PULL_FILE_H

#include "pull.h"

#define SEAM_PULL_PATH_MAX  4096
#define SEAM_PULL_HASH_TEXT 65 /* sha256 in hex, and the zero */

/* ---- pull_http.c ---- */

typedef struct seam_pull_request {
    const char *url;
    const char *token; /* sent as a bearer token, to the URL's own host only; NULL: none */
    const char *label; /* for the watch */
    uint64_t bytes;    /* of the whole file; 0: unknown */
    const seam_pull_watch *watch;
    /* What the server's own answer must name as X-Linked-Etag or ETag, where it names one that is a
     * hash; NULL: anything. */
    const char *etag;
    uint64_t range_begin, range_bytes; /* this part of the file alone; range_bytes 0: all of it */
    uint64_t file_base;                /* of a part: where in `path` it begins */
    uint64_t *received_bytes;          /* grows by the bytes of answers; may be NULL */
} seam_pull_request;

/* Into `path`, after the bytes that are there; tries again what may pass, as often as bytes come,
 * and when a server says when (Retry-After, up to a minute). */
seam_status seam_pull_http_file(const seam_pull_request *request, const char *path,
                                seam_error *err);
/* The whole answer (at most 64 MiB) as a text, to be freed by seam_mem_free; a part is as long as
 * it was asked for. */
seam_status seam_pull_http_text(char **ret_text, const seam_pull_request *request, seam_error *err);

/* ---- pull_file.c ---- */

/* Lower-case hex. git: SHA-1 of "blob <bytes>\0" and the content, as git names blobs. */
seam_status seam_pull_hash_sha256(char ret_hex[SEAM_PULL_HASH_TEXT], const char *path,
                                  seam_error *err);
seam_status seam_pull_hash_git(char ret_hex[SEAM_PULL_HASH_TEXT], const char *path,
                               seam_error *err);
/* SEAM_E_LIMIT when the text does not fit. */
seam_status seam_pull_path(char *ret, size_t bytes, seam_error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The folder and those above it. */
seam_status seam_pull_folder_create(const char *path, seam_error *err);
bool seam_pull_file_exists(const char *path);
/* Its size; 0 if it is not there. */
uint64_t seam_pull_file_bytes(const char *path);
/* One pull at a time in a folder (which must be there), by a lock on `folder`/.seam.lock: waits as
 * long as the watch says so, telling it the label and no bytes.  The lock goes with the process.
 * SEAM_E_CANCELLED, SEAM_E_IO, SEAM_E_LIMIT. */
seam_status seam_pull_lock(int *ret_lock, const char *folder, const char *label,
                           const seam_pull_watch *watch, seam_error *err);
void seam_pull_unlock(int lock);
/* fsync(from), rename, fsync of the folder. */
seam_status seam_pull_file_publish(const char *from, const char *to, seam_error *err);

/* ---- pull_zip.c ---- */

/* Unpack `member` of the archive into `path` (stored or deflated; no zip64). Checks size and CRC.
 */
seam_status seam_pull_unzip(const char *path, const char *archive, const char *member,
                            seam_error *err);

#endif
