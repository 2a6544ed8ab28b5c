/* One pull from a Hub in progress.  Internal to kernels/pull: pull_hub.c lists the files and
 * fetches whole ones, pull_index.c reads which are the weights, pull_parts.c a client's share of
 * the weights; pull_cached.c does without it.
 */
#ifndef SEAM_PULL_HUB_H
#define SEAM_PULL_HUB_H

#include <jansson.h>

#include "pull_file.h"

/* Which of a repository's safetensors are the model: variants (fp16, consolidated) may lie beside.
 */
typedef enum seam_hub_weights {
    SEAM_HUB_WEIGHTS_ANY = 0, /* a single one of any name */
    SEAM_HUB_WEIGHTS_SINGLE,  /* model.safetensors */
    SEAM_HUB_WEIGHTS_SHARDS,  /* those that the index names */
} seam_hub_weights;

typedef struct seam_hub_pull {
    const seam_pull_hub_args *args;
    const seam_pull_watch *watch;
    const char *endpoint, *token, *revision;
    char commit[SEAM_PULL_HASH_TEXT];
    char folder[SEAM_PULL_PATH_MAX]; /* models--org--name */
    char parts[SEAM_PULL_PATH_MAX];  /* the client's folder, once it is there */
    seam_pull_counts counts;
    seam_hub_weights weights; /* by the list */
    json_t *shards;           /* an object whose names are the index's files; or NULL */
    bool is_listed;           /* the Hub has told the files */
    seam_error *err;
} seam_hub_pull;

typedef struct seam_hub_file {
    const char *name, *etag; /* of the list */
    bool is_sha256;
    uint64_t bytes;
} seam_hub_file;

/* A row of the list of files.  SEAM_E_FORMAT. */
seam_status seam_hub_file_read(seam_hub_file *ret_file, const seam_hub_pull *pull,
                               const json_t *row);
/* A relative path of plain parts: nothing that could leave the cache or change a URL. */
bool seam_hub_is_plain_path(const char *text);
/* The index that is in the snapshot: pull->shards.  SEAM_E_FORMAT, SEAM_E_NOT_FOUND: it names a
 * file that is none, or that is not in rows, the list; SEAM_E_MEMORY. */
seam_status seam_hub_index_read(seam_hub_pull *pull, const json_t *rows);
/* Its name is plain and its hash one.  SEAM_E_FORMAT. */
seam_status seam_hub_file_check(const seam_hub_file *file, const seam_hub_pull *pull);
/* Of the list's names, those that are the model's weights. */
bool seam_hub_is_weights(const seam_hub_pull *pull, const char *name);
/* After the small files are in the snapshot: pull->parts.  Errors as in pull.h. */
seam_status seam_hub_parts_pull(seam_hub_pull *pull, const json_t *rows);
/* Whether the client's folder is there and still as it was written: sets pull->parts. */
bool seam_hub_parts_are_there(seam_hub_pull *pull);
/* HF_HUB_OFFLINE says that the Hub is not to be asked. */
bool seam_hub_is_offline(void);
/* Whether the cache holds all that is asked for: sets pull->commit (and pull->parts). */
bool seam_hub_cached(seam_hub_pull *pull);

#endif
