/* A repository of a Hub-compatible endpoint into the Hub's standard cache; see pull.h.
 *
 *   GET <endpoint>/api/models/<repo>/revision/<revision>?blobs=true   commit and file list
 *   GET <endpoint>/<repo>/resolve/<commit>/<file>                     a file (redirects to a store)
 *
 * A blob's name is its etag: the sha256 of a large file, else git's SHA-1 of the blob.  Both are in
 * the list, so every file is verified against it. */
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "pull_hub.h"
#include "try.h"

#define HUB_URL   "https://huggingface.co"
#define FILES_MAX 10000u

static seam_status row_pull(seam_hub_pull *pull, const json_t *row, uint32_t *count);

/* ---- names ---- */

static bool is_hex(const char *text, size_t count) {
    return strlen(text) == count && strspn(text, "0123456789abcdef") == count;
}

bool seam_hub_is_plain_path(const char *text) {
    if (text[0] == '\0' || text[0] == '/' || strstr(text, "//") != NULL) {
        return false;
    }
    for (const char *at = text; *at != '\0'; at++) {
        if (isalnum((unsigned char)*at) == 0 && strchr("._-+/", *at) == NULL) {
            return false;
        }
    }
    for (const char *part = text; part != NULL; part = strchr(part, '/')) {
        part += *part == '/' ? 1 : 0;
        if (*part == '.' && (part[1] == '/' || part[1] == '\0' || part[1] == '.')) {
            return false;
        }
    }
    return true;
}

static bool is_repo(const char *text) {
    const char *slash = strchr(text, '/');
    return seam_hub_is_plain_path(text) && slash != NULL && slash[1] != '\0' &&
           strchr(slash + 1, '/') == NULL;
}

static bool ends_with(const char *text, const char *end) {
    const size_t count = strlen(text), end_count = strlen(end);
    return count >= end_count && strcmp(text + count - end_count, end) == 0;
}

static bool is_shard(const char *name) {
    static const char BEGIN[] = "model-";
    return strchr(name, '/') == NULL && strncmp(name, BEGIN, sizeof BEGIN - 1) == 0 &&
           strstr(name, "-of-") != NULL && ends_with(name, ".safetensors");
}

bool seam_hub_is_weights(const seam_hub_pull *pull, const char *name) {
    switch (pull->weights) {
    case SEAM_HUB_WEIGHTS_SHARDS:
        return json_object_get(pull->shards, name) != NULL;
    case SEAM_HUB_WEIGHTS_SINGLE:
        return strcmp(name, "model.safetensors") == 0;
    case SEAM_HUB_WEIGHTS_ANY:
        break;
    }
    return strchr(name, '/') == NULL && ends_with(name, ".safetensors");
}

/* What a model needs: the files at the top that are JSON, safetensors or a tokenizer's. */
static bool is_wanted(const seam_hub_pull *pull, const char *name) {
    if (pull->args->file != NULL) {
        return strcmp(name, pull->args->file) == 0;
    }
    if (ends_with(name, ".safetensors")) { /* of a client's, parts: pull_parts.c */
        return !pull->args->client && seam_hub_is_weights(pull, name);
    }
    return strchr(name, '/') == NULL &&
           (ends_with(name, ".json") || ends_with(name, ".model") || ends_with(name, ".jinja"));
}

/* An index counts where it has shards: some tools write one beside a single file.  Then it is
 * fetched first, and says which files are the shards. */
static seam_status weights_find(seam_hub_pull *pull, const json_t *rows, uint32_t *count) {
    const json_t *index = NULL;
    bool has_shards = false, has_single = false;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const char *const name =
            json_string_value(json_object_get(json_array_get(rows, i), "rfilename"));
        if (name != NULL) {
            index =
                strcmp(name, "model.safetensors.index.json") == 0 ? json_array_get(rows, i) : index;
            has_single = has_single || strcmp(name, "model.safetensors") == 0;
            has_shards = has_shards || is_shard(name);
        }
    }
    pull->weights = has_single ? SEAM_HUB_WEIGHTS_SINGLE : SEAM_HUB_WEIGHTS_ANY;
    if (pull->args->file != NULL || index == NULL || (has_single && !has_shards)) {
        return SEAM_OK;
    }
    SEAM_TRY(row_pull(pull, index, count));
    SEAM_TRY(seam_hub_index_read(pull, rows));
    pull->weights = SEAM_HUB_WEIGHTS_SHARDS;
    return SEAM_OK;
}

/* Before anything but an index is fetched: every row is one, and a whole model has weights that a
 * loader takes. SEAM_E_FORMAT, SEAM_E_NOT_FOUND. */
static seam_status rows_check(const seam_hub_pull *pull, const json_t *rows) {
    const char *const repo = pull->args->repo, *other = NULL;
    uint32_t count = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        seam_hub_file file;
        SEAM_TRY(seam_hub_file_read(&file, pull, json_array_get(rows, i)));
        if (is_wanted(pull, file.name)) {
            SEAM_TRY(seam_hub_file_check(&file, pull));
        }
        if (seam_hub_is_weights(pull, file.name)) {
            count++;
        } else if (ends_with(file.name, ".bin") || ends_with(file.name, ".gguf") ||
                   ends_with(file.name, ".safetensors")) {
            other = file.name;
        }
    }
    if (pull->args->file != NULL || count == 1 ||
        (count > 1 && pull->weights == SEAM_HUB_WEIGHTS_SHARDS)) {
        return SEAM_OK;
    }
    if (count > 1) {
        return seam_error_set(pull->err, SEAM_E_NOT_FOUND,
                              "%s: %u safetensors and neither model.safetensors nor an index that "
                              "says which are the model",
                              repo, count);
    }
    const bool is_gguf = other != NULL && ends_with(other, ".gguf");
    return seam_error_set(pull->err, SEAM_E_NOT_FOUND, "%s: no safetensors at its top%s%s%s", repo,
                          other != NULL ? "; it has " : "", other != NULL ? other : "",
                          is_gguf ? ", which ORG/NAME:FILE fetches" : "");
}

static seam_status folder_name(seam_hub_pull *pull) {
    const char *hub = getenv("HF_HUB_CACHE"), *root = getenv("HF_HOME");
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char base[SEAM_PULL_PATH_MAX];
    if (hub != NULL && hub[0] != '\0') {
        SEAM_TRY(seam_pull_path(base, sizeof base, pull->err, "%s", hub));
    } else if (root != NULL && root[0] != '\0') {
        SEAM_TRY(seam_pull_path(base, sizeof base, pull->err, "%s/hub", root));
    } else if (cache != NULL && cache[0] == '/') {
        SEAM_TRY(seam_pull_path(base, sizeof base, pull->err, "%s/huggingface/hub", cache));
    } else if (home != NULL && home[0] == '/') {
        SEAM_TRY(seam_pull_path(base, sizeof base, pull->err, "%s/.cache/huggingface/hub", home));
    } else {
        return seam_error_set(pull->err, SEAM_E_ARG, "neither HF_HOME nor HOME names a folder");
    }
    const char *repo = pull->args->repo, *slash = strchr(repo, '/');
    return seam_pull_path(pull->folder, sizeof pull->folder, pull->err, "%s/models--%.*s--%s", base,
                          (int)(slash - repo), repo, slash + 1);
}

/* ---- files ---- */

/* Download and verify one blob unless it is there. */
static seam_status blob_pull(seam_hub_pull *pull, const seam_hub_file *file, const char *blob) {
    char part[SEAM_PULL_PATH_MAX], url[SEAM_PULL_PATH_MAX], hex[SEAM_PULL_HASH_TEXT];
    if (seam_pull_file_exists(blob)) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_pull_path(part, sizeof part, pull->err, "%s.incomplete", blob));
    SEAM_TRY(seam_pull_path(url, sizeof url, pull->err, "%s/%s/resolve/%s/%s", pull->endpoint,
                            pull->args->repo, pull->commit, file->name));
    const seam_pull_request request = {.url = url,
                                       .token = pull->token,
                                       .label = file->name,
                                       .bytes = file->bytes,
                                       .watch = pull->watch,
                                       .etag = file->etag,
                                       .received_bytes = &pull->counts.fetched_bytes};
    SEAM_TRY(seam_pull_http_file(&request, part, pull->err));
    SEAM_TRY(file->is_sha256 ? seam_pull_hash_sha256(hex, part, pull->err)
                             : seam_pull_hash_git(hex, part, pull->err));
    if (strcmp(hex, file->etag) != 0) {
        (void)unlink(part);
        return seam_error_set(pull->err, SEAM_E_CHECKSUM, "%s: its hash is %s, not %s", url, hex,
                              file->etag);
    }
    return seam_pull_file_publish(part, blob, pull->err);
}

/* snapshots/<commit>/<name> -> the blob, relative, as the Hub's own client makes it. */
static seam_status snapshot_link(seam_hub_pull *pull, const seam_hub_file *file) {
    char path[SEAM_PULL_PATH_MAX], target[SEAM_PULL_PATH_MAX] = "../../";
    SEAM_TRY(seam_pull_path(path, sizeof path, pull->err, "%s/snapshots/%s/%s", pull->folder,
                            pull->commit, file->name));
    size_t used = strlen(target);
    for (const char *at = file->name; (at = strchr(at, '/')) != NULL; at++) {
        SEAM_TRY(seam_pull_path(target + used, sizeof target - used, pull->err, "../"));
        used += 3;
    }
    SEAM_TRY(
        seam_pull_path(target + used, sizeof target - used, pull->err, "blobs/%s", file->etag));
    if (seam_pull_file_exists(path)) {
        return SEAM_OK;
    }
    char folder[SEAM_PULL_PATH_MAX];
    SEAM_TRY(seam_pull_path(folder, sizeof folder, pull->err, "%s", path));
    *strrchr(folder, '/') = '\0';
    SEAM_TRY(seam_pull_folder_create(folder, pull->err));
    (void)unlink(path); /* a link to a blob that is gone */
    if (symlink(target, path) != 0) {
        return seam_error_set(pull->err, SEAM_E_IO, "%s: cannot create: %s", path, strerror(errno));
    }
    return SEAM_OK;
}

seam_status seam_hub_file_read(seam_hub_file *ret_file, const seam_hub_pull *pull,
                               const json_t *row) {
    const json_t *lfs = json_object_get(row, "lfs");
    seam_hub_file file = {.name = json_string_value(json_object_get(row, "rfilename"))};
    if (file.name == NULL) {
        return seam_error_set(pull->err, SEAM_E_FORMAT, "%s: a file without a name",
                              pull->args->repo);
    }
    file.is_sha256 = json_is_object(lfs);
    file.etag = file.is_sha256 ? json_string_value(json_object_get(lfs, "sha256"))
                               : json_string_value(json_object_get(row, "blobId"));
    const json_int_t size = json_integer_value(json_object_get(row, "size"));
    file.bytes = size > 0 ? (uint64_t)size : 0;
    *ret_file = file;
    return SEAM_OK;
}

seam_status seam_hub_file_check(const seam_hub_file *file, const seam_hub_pull *pull) {
    return seam_hub_is_plain_path(file->name) && file->etag != NULL &&
                   is_hex(file->etag, file->is_sha256 ? 64 : 40)
               ? SEAM_OK
               : seam_error_set(pull->err, SEAM_E_FORMAT, "%s: file %s: no usable name or hash",
                                pull->args->repo, file->name);
}

/* One row of the list; rows of files that are not wanted pass. */
static seam_status row_pull(seam_hub_pull *pull, const json_t *row, uint32_t *count) {
    char blob[SEAM_PULL_PATH_MAX];
    seam_hub_file file;
    SEAM_TRY(seam_hub_file_read(&file, pull, row));
    pull->counts.weights_bytes +=
        seam_hub_is_weights(pull, file.name) ||
                (pull->args->file != NULL && strcmp(file.name, pull->args->file) == 0)
            ? file.bytes
            : 0;
    if (!is_wanted(pull, file.name)) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_hub_file_check(&file, pull));
    SEAM_TRY(seam_pull_path(blob, sizeof blob, pull->err, "%s/blobs/%s", pull->folder, file.etag));
    SEAM_TRY(blob_pull(pull, &file, blob));
    (*count)++;
    return snapshot_link(pull, &file);
}

/* `text` as the file folder/<name>, through a file beside it. */
static seam_status text_write(const seam_hub_pull *pull, const char *folder, const char *name,
                              const char *text) {
    char path[SEAM_PULL_PATH_MAX], part[SEAM_PULL_PATH_MAX];
    SEAM_TRY(seam_pull_path(path, sizeof path, pull->err, "%s/%s/%s", pull->folder, folder, name));
    SEAM_TRY(seam_pull_path(part, sizeof part, pull->err, "%s.part", path));
    char *slash = strrchr(path, '/');
    *slash = '\0';
    SEAM_TRY(seam_pull_folder_create(path, pull->err));
    *slash = '/';
    FILE *file = fopen(part, "wb");
    const bool written = file != NULL && fputs(text, file) >= 0;
    if (file == NULL || fclose(file) != 0 || !written) {
        return seam_error_set(pull->err, SEAM_E_IO, "%s: cannot write: %s", part, strerror(errno));
    }
    return seam_pull_file_publish(part, path, pull->err);
}

/* The snapshot is whole: its files by name, for pull_cached.c. */
static seam_status list_write(const seam_hub_pull *pull, const json_t *rows) {
    size_t bytes = 1, used = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        bytes += json_string_length(json_object_get(json_array_get(rows, i), "rfilename")) + 1;
    }
    char *const names = seam_mem_zalloc(bytes, 1);
    if (names == NULL) {
        return seam_error_set(pull->err, SEAM_E_MEMORY, "no memory for a list of files");
    }
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const char *const name =
            json_string_value(json_object_get(json_array_get(rows, i), "rfilename"));
        if (is_wanted(pull, name)) { /* row_pull has refused rows without one */
            used += (size_t)snprintf(names + used, bytes - used, "%s\n", name);
        }
    }
    const seam_status st = text_write(pull, ".seam.whole", pull->commit, names);
    seam_mem_free(names);
    return st;
}

static seam_status rows_pull(seam_hub_pull *pull, const json_t *rows) {
    uint32_t count = 0;
    SEAM_TRY(weights_find(pull, rows, &count));
    SEAM_TRY(rows_check(pull, rows));
    for (size_t i = 0; i < json_array_size(rows); i++) {
        SEAM_TRY(row_pull(pull, json_array_get(rows, i), &count));
    }
    if (count == 0) {
        return seam_error_set(pull->err, SEAM_E_NOT_FOUND, "%s: no %s in it", pull->args->repo,
                              pull->args->file != NULL ? pull->args->file : "model files");
    }
    if (pull->args->client) {
        SEAM_TRY(seam_hub_parts_pull(pull, rows));
    } else if (pull->args->file == NULL) {
        SEAM_TRY(list_write(pull, rows));
    }
    return text_write(pull, "refs", pull->revision, pull->commit);
}

static seam_status files_pull(seam_hub_pull *pull, const json_t *list) {
    const json_t *rows = json_object_get(list, "siblings");
    const char *commit = json_string_value(json_object_get(list, "sha"));
    if (!json_is_array(rows) || json_array_size(rows) > FILES_MAX || commit == NULL ||
        !is_hex(commit, 40)) {
        return seam_error_set(pull->err, SEAM_E_FORMAT, "%s: the file list has no commit or files",
                              pull->args->repo);
    }
    SEAM_TRY(seam_pull_path(pull->commit, sizeof pull->commit, pull->err, "%s", commit));
    pull->is_listed = true;
    char blobs[SEAM_PULL_PATH_MAX];
    SEAM_TRY(seam_pull_path(blobs, sizeof blobs, pull->err, "%s/blobs", pull->folder));
    SEAM_TRY(seam_pull_folder_create(blobs, pull->err));
    int lock = -1;
    SEAM_TRY(seam_pull_lock(&lock, pull->folder, pull->args->repo, pull->watch, pull->err));
    const seam_status st = rows_pull(pull, rows);
    seam_pull_unlock(lock);
    return st;
}

static seam_status list_pull(seam_hub_pull *pull) {
    char url[SEAM_PULL_PATH_MAX];
    SEAM_TRY(seam_pull_path(url, sizeof url, pull->err, "%s/api/models/%s/revision/%s?blobs=true",
                            pull->endpoint, pull->args->repo, pull->revision));
    const seam_pull_request request = {
        .url = url, .token = pull->token, .label = pull->args->repo, .watch = pull->watch};
    char *text = NULL;
    SEAM_TRY(seam_pull_http_text(&text, &request, pull->err));
    json_error_t why;
    json_t *list = json_loads(text, 0, &why);
    seam_mem_free(text);
    if (list == NULL) {
        return seam_error_set(pull->err, SEAM_E_FORMAT, "%s: not JSON: %s", url, why.text);
    }
    const seam_status st = files_pull(pull, list);
    json_decref(list);
    return st;
}

/* From the Hub; or, where it does not answer, what the cache has of the revision. */
static seam_status model_pull(seam_hub_pull *pull) {
    if (seam_hub_is_offline()) {
        pull->counts.is_cached = seam_hub_cached(pull);
        return pull->counts.is_cached
                   ? SEAM_OK
                   : seam_error_set(pull->err, SEAM_E_NOT_FOUND,
                                    "%s: not whole in the cache, and HF_HUB_OFFLINE is set",
                                    pull->args->repo);
    }
    const seam_status st = list_pull(pull);
    pull->counts.is_cached = st == SEAM_E_UNAVAILABLE && !pull->is_listed && seam_hub_cached(pull);
    return pull->counts.is_cached ? SEAM_OK : st;
}

seam_status seam_pull_hub(char *ret_path, size_t path_bytes, const seam_pull_hub_args *args,
                          const seam_pull_watch *watch, seam_error *err) {
    const char *endpoint = getenv("HF_ENDPOINT"), *token = getenv("HF_TOKEN");
    seam_hub_pull pull = {
        .args = args,
        .watch = watch,
        .endpoint = endpoint != NULL && endpoint[0] != '\0' ? endpoint : HUB_URL,
        .token = token != NULL && token[0] != '\0' ? token : NULL,
        .revision = args->revision != NULL ? args->revision : "main",
        .err = err,
    };
    if (!is_repo(args->repo)) {
        return seam_error_set(err, SEAM_E_ARG, "%s: not a repository: org/name", args->repo);
    }
    if (!seam_hub_is_plain_path(pull.revision)) {
        return seam_error_set(err, SEAM_E_ARG, "revision %s: not one", pull.revision);
    }
    if (args->file != NULL && !seam_hub_is_plain_path(args->file)) {
        return seam_error_set(err, SEAM_E_ARG, "file %s: not a plain path", args->file);
    }
    if (args->client && args->file != NULL) {
        return seam_error_set(err, SEAM_E_ARG, "file %s: a client's share is of safetensors only",
                              args->file);
    }
    SEAM_TRY(folder_name(&pull));
    const seam_status st = model_pull(&pull);
    json_decref(pull.shards);
    SEAM_TRY(st);
    if (args->ret_counts != NULL) {
        *args->ret_counts = pull.counts;
    }
    return args->client ? seam_pull_path(ret_path, path_bytes, err, "%s", pull.parts)
                        : seam_pull_path(ret_path, path_bytes, err, "%s/snapshots/%s%s%s",
                                         pull.folder, pull.commit, args->file != NULL ? "/" : "",
                                         args->file != NULL ? args->file : "");
}

bool seam_pull_reference_read(seam_pull_reference *ret, const char *text) {
    const char *const at = strchr(text, '@'), *const colon = strchr(text, ':');
    const size_t count = strlen(text);
    const size_t repo_bytes = at != NULL      ? (size_t)(at - text)
                              : colon != NULL ? (size_t)(colon - text)
                                              : count;
    if (count >= sizeof ret->text || (at != NULL && colon != NULL && colon < at)) {
        return false;
    }
    memcpy(ret->text, text, count + 1);
    ret->text[repo_bytes] = '\0';
    ret->hub = (seam_pull_hub_args){.repo = ret->text};
    if (colon != NULL) {
        ret->text[colon - text] = '\0';
        ret->hub.file = ret->text + (colon - text) + 1;
    }
    if (at != NULL) {
        ret->hub.revision = ret->text + repo_bytes + 1;
    }
    return is_repo(ret->hub.repo) &&
           (ret->hub.revision == NULL || seam_hub_is_plain_path(ret->hub.revision)) &&
           (ret->hub.file == NULL || seam_hub_is_plain_path(ret->hub.file));
}
