/* Which of a repository's safetensors are the model, where an index says it; called by pull_hub.c
 * when the index is in the snapshot.  Read next: pull_parts.c. */
#include <string.h>

#include "pull_hub.h"
#include "try.h"

#define INDEX           "model.safetensors.index.json"
#define INDEX_BYTES_MAX (64u << 20)

static bool is_listed(const json_t *rows, const char *name) {
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const char *const other =
            json_string_value(json_object_get(json_array_get(rows, i), "rfilename"));
        if (other != NULL && strcmp(other, name) == 0) {
            return true;
        }
    }
    return false;
}

/* A file beside the index, as the loader takes it, whose name cannot lead elsewhere. */
static seam_status shard_take(json_t *shards, const seam_hub_pull *pull, const json_t *rows,
                              const char *tensor, const char *name) {
    static const char END[] = ".safetensors";
    const size_t count = name != NULL ? strlen(name) : 0;
    const size_t end_count = sizeof END - 1;
    if (name == NULL || !seam_hub_is_plain_path(name) || strchr(name, '/') != NULL ||
        strstr(name, "..") != NULL || count <= end_count ||
        strcmp(name + count - end_count, END) != 0) {
        return seam_error_set(pull->err, SEAM_E_FORMAT,
                              "%s: " INDEX ": weight_map: %.100s: '%.100s' is no safetensors file "
                              "beside it",
                              pull->args->repo, tensor, name != NULL ? name : "");
    }
    if (json_object_get(shards, name) != NULL) {
        return SEAM_OK;
    }
    if (!is_listed(rows, name)) {
        return seam_error_set(pull->err, SEAM_E_NOT_FOUND,
                              "%s: " INDEX " names %.100s, which is not in the repository",
                              pull->args->repo, name);
    }
    return json_object_set_new(shards, name, json_true()) == 0
               ? SEAM_OK
               : seam_error_set(pull->err, SEAM_E_MEMORY, "no memory for a list of files");
}

seam_status seam_hub_index_read(seam_hub_pull *pull, const json_t *rows) {
    char path[SEAM_PULL_PATH_MAX];
    json_error_t why = {.text = "larger than an index is"};
    SEAM_TRY(seam_pull_path(path, sizeof path, pull->err, "%s/snapshots/%s/" INDEX, pull->folder,
                            pull->commit));
    json_t *const index =
        seam_pull_file_bytes(path) <= INDEX_BYTES_MAX ? json_load_file(path, 0, &why) : NULL;
    json_t *const map = json_object_get(index, "weight_map");
    if (json_object_size(map) == 0) {
        (void)seam_error_set(pull->err, SEAM_E_FORMAT, "%s: " INDEX ": %s", pull->args->repo,
                             index != NULL ? "no weight_map" : why.text);
        json_decref(index);
        return SEAM_E_FORMAT;
    }
    json_t *const shards = json_object();
    const char *tensor;
    json_t *name;
    seam_status st = SEAM_OK;
    json_object_foreach(map, tensor, name) {
        st = shard_take(shards, pull, rows, tensor, json_string_value(name));
        if (st != SEAM_OK) {
            break;
        }
    }
    json_decref(index);
    if (st != SEAM_OK) {
        json_decref(shards);
        return st;
    }
    pull->shards = shards;
    return SEAM_OK;
}
