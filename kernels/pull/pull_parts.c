/* A client's share of a repository's safetensors, by ranged reads; see pull.h.
 *
 *   GET <file> Range: 0..7, then its header    where each tensor lies
 *   GET <file> Range: ...                      each run of wanted tensors that lie side by side
 *
 * The share is written as one safetensors file: header, then the runs in the order of files and
 * offsets.  While it grows it is share.safetensors.incomplete: its length says how many runs are
 * there, so a cut costs nothing. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arena.h"
#include "pull_hub.h"
#include "try.h"

#define SHARE            "share.safetensors"
#define HEADER_BYTES_MAX (32u << 20)
#define TENSORS_MAX      65536u
#define FILE_BYTES_MAX   ((uint64_t)1 << 50) /* so that sums of offsets cannot overflow */

typedef struct run {
    size_t file_idx;
    uint64_t begin, bytes; /* of the file */
} run;

typedef struct share {
    seam_hub_pull *pull;
    const json_t *rows;
    json_t *weight_map; /* tensor -> file; NULL: all in one file */
    const char *only_file;
    uint32_t layer_count;
    json_t *header;  /* of the share */
    json_t *sources; /* file -> etag */
    run *runs;
    size_t run_count, run_capacity;
    uint64_t data_bytes;  /* of all runs */
    seam_hub_file *files; /* those that runs are of */
    size_t file_count;
} share;

static seam_status wrong(const share *s, const char *file, const char *why) {
    return seam_error_set(s->pull->err, SEAM_E_FORMAT, "%s: %s: %s", s->pull->args->repo, file,
                          why);
}

/* ---- What is wanted ---- */

/* The number of the decoder block that a tensor is of, or -1. */
static long block_of(const char *tensor) {
    static const char HEAD[] = "model.layers.";
    char *end = NULL;
    if (strncmp(tensor, HEAD, sizeof HEAD - 1) != 0) {
        return -1;
    }
    const long block = strtol(tensor + sizeof HEAD - 1, &end, 10);
    return *end == '.' && block >= 0 ? block : -1;
}

static bool is_wanted(const share *s, const char *tensor) {
    const seam_pull_hub_args *const args = s->pull->args;
    const long block = block_of(tensor);
    if (block >= 0) {
        return block < (long)args->front_count ||
               block >= (long)s->layer_count - (long)args->tail_count;
    }
    return strncmp(tensor, "model.layers.", 13) != 0;
}

/* ---- The snapshot's small files ---- */

static seam_status json_read(json_t **ret, const share *s, const char *name, bool optional) {
    char path[SEAM_PULL_PATH_MAX];
    json_error_t why;
    SEAM_TRY(seam_pull_path(path, sizeof path, s->pull->err, "%s/snapshots/%s/%s", s->pull->folder,
                            s->pull->commit, name));
    if (!seam_pull_file_exists(path)) {
        return optional ? SEAM_OK : wrong(s, name, "is not in the repository");
    }
    *ret = json_load_file(path, 0, &why);
    return *ret != NULL ? SEAM_OK : wrong(s, name, why.text);
}

static seam_status layers_read(share *s) {
    const seam_pull_hub_args *const args = s->pull->args;
    json_t *config = NULL;
    SEAM_TRY(json_read(&config, s, "config.json", false));
    const json_int_t layers = json_integer_value(json_object_get(config, "num_hidden_layers"));
    json_decref(config);
    if (layers <= 0 || layers > 4096) {
        return wrong(s, "config.json", "no usable num_hidden_layers");
    }
    s->layer_count = (uint32_t)layers;
    if ((uint64_t)args->front_count + args->tail_count > s->layer_count) {
        return seam_error_set(s->pull->err, SEAM_E_ARG,
                              "front and tail: %u and %u blocks are more than the model's %u",
                              args->front_count, args->tail_count, s->layer_count);
    }
    return SEAM_OK;
}

/* Which file a tensor is in: the index says it, or there is one file only. */
static seam_status map_read(share *s) {
    json_t *index = NULL;
    SEAM_TRY(json_read(&index, s, "model.safetensors.index.json", true));
    if (index != NULL) {
        s->weight_map = json_incref(json_object_get(index, "weight_map"));
        json_decref(index);
        return json_is_object(s->weight_map)
                   ? SEAM_OK
                   : wrong(s, "model.safetensors.index.json", "no weight_map");
    }
    for (size_t i = 0; i < json_array_size(s->rows); i++) {
        const char *name =
            json_string_value(json_object_get(json_array_get(s->rows, i), "rfilename"));
        if (name != NULL && seam_hub_is_weights(s->pull, name)) {
            s->only_file = name; /* weights_find has seen to it that there is one */
        }
    }
    return s->only_file != NULL ? SEAM_OK
                                : seam_error_set(s->pull->err, SEAM_E_NOT_FOUND,
                                                 "%s: no safetensors in it", s->pull->args->repo);
}

/* Whether a file holds a tensor that is wanted. */
static bool is_source(const share *s, const char *file) {
    const char *tensor;
    json_t *holder;
    if (s->weight_map == NULL) {
        return strcmp(file, s->only_file) == 0;
    }
    json_object_foreach(s->weight_map, tensor, holder) {
        if (json_is_string(holder) && strcmp(json_string_value(holder), file) == 0 &&
            is_wanted(s, tensor)) {
            return true;
        }
    }
    return false;
}

/* ---- Headers of the repository's files ---- */

static seam_status range_request(seam_pull_request *ret, char *url, size_t url_bytes,
                                 const share *s, const seam_hub_file *file, uint64_t begin,
                                 uint64_t bytes) {
    seam_hub_pull *const pull = s->pull;
    SEAM_TRY(seam_pull_path(url, url_bytes, pull->err, "%s/%s/resolve/%s/%s", pull->endpoint,
                            pull->args->repo, pull->commit, file->name));
    *ret = (seam_pull_request){.url = url,
                               .token = pull->token,
                               .label = file->name,
                               .watch = pull->watch,
                               .etag = file->etag,
                               .range_begin = begin,
                               .range_bytes = bytes,
                               .received_bytes = &pull->counts.fetched_bytes};
    return SEAM_OK;
}

static seam_status text_fetch(char **ret, const share *s, const seam_hub_file *file, uint64_t begin,
                              uint64_t bytes) {
    char url[SEAM_PULL_PATH_MAX];
    seam_pull_request request;
    SEAM_TRY(range_request(&request, url, sizeof url, s, file, begin, bytes));
    return seam_pull_http_text(ret, &request, s->pull->err);
}

static seam_status run_add(share *s, size_t file_idx, uint64_t begin, uint64_t bytes) {
    run *const last = s->run_count > 0 ? &s->runs[s->run_count - 1] : NULL;
    s->data_bytes += bytes;
    if (last != NULL && last->file_idx == file_idx && last->begin + last->bytes == begin) {
        last->bytes += bytes;
        return SEAM_OK;
    }
    if (s->run_count == s->run_capacity) {
        const size_t capacity = s->run_capacity == 0 ? 64 : 2 * s->run_capacity;
        run *const runs = seam_mem_realloc(s->runs, capacity * sizeof *runs);
        if (runs == NULL) {
            return seam_error_set(s->pull->err, SEAM_E_MEMORY, "no memory for a list of tensors");
        }
        s->runs = runs;
        s->run_capacity = capacity;
    }
    SEAM_ASSERT(s->runs != NULL);
    s->runs[s->run_count++] = (run){file_idx, begin, bytes};
    return SEAM_OK;
}

typedef struct tensor_place {
    const char *name;
    const json_t *entry;
    uint64_t begin, end; /* of the file's data */
} tensor_place;

static int place_order(const void *a, const void *b) {
    const tensor_place *x = a, *y = b;
    return x->begin != y->begin ? (x->begin < y->begin ? -1 : 1) : strcmp(x->name, y->name);
}

/* The wanted tensors of a header, by their offsets; room: as many as the header has. */
static seam_status places_read(tensor_place *places, size_t *ret_count, const share *s,
                               const seam_hub_file *file, json_t *header, uint64_t data_bytes) {
    const char *name;
    json_t *entry;
    size_t count = 0;
    json_object_foreach(header, name, entry) {
        const json_t *const offsets = json_object_get(entry, "data_offsets");
        const json_int_t begin = json_integer_value(json_array_get(offsets, 0));
        const json_int_t end = json_integer_value(json_array_get(offsets, 1));
        if (strcmp(name, "__metadata__") == 0 || !is_wanted(s, name)) {
            continue;
        }
        if (json_array_size(offsets) != 2 || begin < 0 || end < begin ||
            (uint64_t)end > data_bytes) {
            return wrong(s, file->name, "a tensor's data_offsets are not in the file");
        }
        places[count++] = (tensor_place){name, entry, (uint64_t)begin, (uint64_t)end};
    }
    qsort(places, count, sizeof *places, place_order);
    *ret_count = count;
    return SEAM_OK;
}

/* Adds the wanted tensors of one file to the share's header and runs. */
static seam_status tensors_add(share *s, size_t file_idx, json_t *header, uint64_t data_begin) {
    const seam_hub_file *const file = &s->files[file_idx];
    tensor_place *const places = seam_mem_zalloc(json_object_size(header) + 1, sizeof *places);
    size_t count = 0;
    if (places == NULL) {
        return seam_error_set(s->pull->err, SEAM_E_MEMORY, "no memory for a list of tensors");
    }
    seam_status st = places_read(places, &count, s, file, header, file->bytes - data_begin);
    for (size_t i = 0; st == SEAM_OK && i < count; i++) {
        const tensor_place *const p = &places[i];
        const uint64_t bytes = p->end - p->begin;
        const json_int_t begin = (json_int_t)s->data_bytes;
        const json_int_t end = begin + (json_int_t)bytes;
        json_t *const entry =
            json_pack("{s:O?, s:O?, s:[I,I]}", "dtype", json_object_get(p->entry, "dtype"), "shape",
                      json_object_get(p->entry, "shape"), "data_offsets", begin, end);
        if (json_object_get(s->header, p->name) != NULL ||
            json_object_set_new(s->header, p->name, entry) != 0) {
            st = wrong(s, file->name, "a tensor stands in two files, or is no tensor");
        } else if (bytes > 0) {
            st = run_add(s, file_idx, data_begin + p->begin, bytes);
        }
    }
    seam_mem_free(places);
    return st;
}

static seam_status file_read(share *s, size_t file_idx) {
    const seam_hub_file *const file = &s->files[file_idx];
    char *text = NULL;
    json_error_t why;
    if (file->bytes < 8 || file->bytes > FILE_BYTES_MAX) {
        return wrong(s, file->name, "its size is not told, or not one");
    }
    SEAM_TRY(text_fetch(&text, s, file, 0, 8));
    uint64_t header_bytes = 0;
    for (int i = 7; i >= 0; i--) {
        header_bytes = header_bytes << 8 | (uint8_t)text[i];
    }
    seam_mem_free(text);
    if (header_bytes > HEADER_BYTES_MAX || header_bytes > file->bytes - 8) {
        return wrong(s, file->name, "no safetensors header");
    }
    SEAM_TRY(text_fetch(&text, s, file, 8, header_bytes));
    json_t *header = json_loadb(text, (size_t)header_bytes, JSON_REJECT_DUPLICATES, &why);
    seam_mem_free(text);
    if (!json_is_object(header) || json_object_size(header) > TENSORS_MAX) {
        json_decref(header);
        return wrong(s, file->name, "no safetensors header");
    }
    const seam_status st = tensors_add(s, file_idx, header, 8 + header_bytes);
    json_decref(header);
    return st;
}

static seam_status files_read(share *s) {
    s->files = seam_mem_zalloc(json_array_size(s->rows) + 1, sizeof *s->files);
    if (s->files == NULL) {
        return seam_error_set(s->pull->err, SEAM_E_MEMORY, "no memory for a list of files");
    }
    for (size_t i = 0; i < json_array_size(s->rows); i++) {
        seam_hub_file *const file = &s->files[s->file_count];
        SEAM_TRY(seam_hub_file_read(file, s->pull, json_array_get(s->rows, i)));
        if (is_source(s, file->name)) {
            SEAM_TRY(seam_hub_file_check(file, s->pull));
            json_object_set_new(s->sources, file->name, json_string(file->etag));
            SEAM_TRY(file_read(s, s->file_count++));
        }
    }
    return s->run_count > 0 && json_object_get(s->header, "model.embed_tokens.weight") != NULL
               ? SEAM_OK
               : wrong(s, "its weights", "no model.embed_tokens.weight");
}

/* ---- Writing the share ---- */

/* Header of the share with its length, padded so that the data begins on 8 bytes. */
static seam_status header_make(char **ret, size_t *ret_bytes, const share *s) {
    const size_t count = json_dumpb(s->header, NULL, 0, JSON_COMPACT);
    const size_t padded = (count + 7) / 8 * 8;
    char *const bytes = seam_mem_alloc(8 + padded);
    if (count == 0 || bytes == NULL) {
        seam_mem_free(bytes);
        return seam_error_set(s->pull->err, SEAM_E_MEMORY, "no memory for a header");
    }
    for (int i = 0; i < 8; i++) {
        bytes[i] = (char)(uint8_t)((uint64_t)padded >> 8 * i);
    }
    (void)json_dumpb(s->header, bytes + 8, count, JSON_COMPACT);
    memset(bytes + 8 + count, ' ', padded - count);
    *ret = bytes;
    *ret_bytes = 8 + padded;
    return SEAM_OK;
}

/* Keeps what an earlier call has written of this very share; else begins it. */
static seam_status part_begin(const char *path, const char *header, size_t header_bytes,
                              const share *s) {
    char *const there = seam_mem_alloc(header_bytes);
    if (there == NULL) {
        return seam_error_set(s->pull->err, SEAM_E_MEMORY, "no memory for a header");
    }
    FILE *file = fopen(path, "rb");
    bool same = file != NULL && fread(there, 1, header_bytes, file) == header_bytes &&
                memcmp(there, header, header_bytes) == 0;
    if (file != NULL) {
        (void)fclose(file);
    }
    seam_mem_free(there);
    if (!same) {
        file = fopen(path, "wb");
        const bool written = file != NULL && fwrite(header, 1, header_bytes, file) == header_bytes;
        same = file != NULL && fclose(file) == 0 && written;
    }
    return same ? SEAM_OK
                : seam_error_set(s->pull->err, SEAM_E_IO, "%s: cannot write: %s", path,
                                 strerror(errno));
}

static seam_status runs_fetch(const char *path, size_t header_bytes, const share *s) {
    char url[SEAM_PULL_PATH_MAX];
    uint64_t base = header_bytes;
    for (size_t i = 0; i < s->run_count; i++) {
        const run *const r = &s->runs[i];
        seam_pull_request request;
        if (seam_pull_file_bytes(path) < base + r->bytes || i + 1 == s->run_count) {
            SEAM_TRY(range_request(&request, url, sizeof url, s, &s->files[r->file_idx], r->begin,
                                   r->bytes));
            request.file_base = base;
            SEAM_TRY(seam_pull_http_file(&request, path, s->pull->err));
        }
        base += r->bytes;
    }
    return SEAM_OK;
}

/* share.json: where the share is from, and the hash by which it is known again. */
static seam_status note_write(const share *s, const char *sha256) {
    char path[SEAM_PULL_PATH_MAX], part[SEAM_PULL_PATH_MAX];
    const seam_hub_pull *const pull = s->pull;
    SEAM_TRY(seam_pull_path(path, sizeof path, pull->err, "%s/share.json", pull->parts));
    SEAM_TRY(seam_pull_path(part, sizeof part, pull->err, "%s.part", path));
    json_t *const note = json_pack("{s:s, s:s, s:s, s:I, s:i, s:i, s:O}", "repository",
                                   pull->args->repo, "commit", pull->commit, "sha256", sha256,
                                   "weights_bytes", (json_int_t)pull->counts.weights_bytes,
                                   "front_count", (int)pull->args->front_count, "tail_count",
                                   (int)pull->args->tail_count, "sources", s->sources);
    const bool written = note != NULL && json_dump_file(note, part, JSON_INDENT(2)) == 0;
    json_decref(note);
    return written ? seam_pull_file_publish(part, path, pull->err)
                   : seam_error_set(pull->err, SEAM_E_IO, "%s: cannot write", part);
}

/* The small files of the snapshot, by links as the snapshot itself has. */
static seam_status small_files_link(const share *s) {
    const seam_hub_pull *const pull = s->pull;
    char path[SEAM_PULL_PATH_MAX], target[SEAM_PULL_PATH_MAX];
    for (size_t i = 0; i < json_array_size(s->rows); i++) {
        seam_hub_file file;
        SEAM_TRY(seam_hub_file_read(&file, pull, json_array_get(s->rows, i)));
        SEAM_TRY(seam_pull_path(path, sizeof path, pull->err, "%s/snapshots/%s/%s", pull->folder,
                                pull->commit, file.name));
        /* The index names files that are not here. */
        if (strchr(file.name, '/') != NULL || strstr(file.name, ".safetensors") != NULL ||
            !seam_pull_file_exists(path)) {
            continue;
        }
        SEAM_TRY(seam_pull_path(path, sizeof path, pull->err, "%s/%s", pull->parts, file.name));
        SEAM_TRY(seam_pull_path(target, sizeof target, pull->err, "../../blobs/%s", file.etag));
        if (seam_pull_file_exists(path)) {
            continue;
        }
        (void)unlink(path); /* a link to a blob that is gone */
        if (symlink(target, path) != 0) {
            return seam_error_set(pull->err, SEAM_E_IO, "%s: cannot create: %s", path,
                                  strerror(errno));
        }
    }
    return SEAM_OK;
}

static seam_status folder_name(seam_hub_pull *pull) {
    return seam_pull_path(pull->parts, sizeof pull->parts, pull->err, "%s/client/%s-%u-%u",
                          pull->folder, pull->commit, pull->args->front_count,
                          pull->args->tail_count);
}

bool seam_hub_parts_are_there(seam_hub_pull *pull) {
    char path[SEAM_PULL_PATH_MAX], note_path[SEAM_PULL_PATH_MAX], hex[SEAM_PULL_HASH_TEXT];
    if (folder_name(pull) != SEAM_OK ||
        seam_pull_path(path, sizeof path, NULL, "%s/" SHARE, pull->parts) != SEAM_OK ||
        seam_pull_path(note_path, sizeof note_path, NULL, "%s/share.json", pull->parts) !=
            SEAM_OK ||
        !seam_pull_file_exists(path) || !seam_pull_file_exists(note_path) ||
        seam_pull_hash_sha256(hex, path, NULL) != SEAM_OK) {
        return false;
    }
    json_t *const note = json_load_file(note_path, 0, NULL);
    const char *const sha256 = json_string_value(json_object_get(note, "sha256"));
    const bool same = sha256 != NULL && strcmp(hex, sha256) == 0;
    json_decref(note);
    return same;
}

static seam_status share_write(share *s, const char *path) {
    char part[SEAM_PULL_PATH_MAX], hex[SEAM_PULL_HASH_TEXT];
    char *header = NULL;
    size_t header_bytes = 0;
    SEAM_TRY(seam_pull_path(part, sizeof part, s->pull->err, "%s.incomplete", path));
    SEAM_TRY(header_make(&header, &header_bytes, s));
    seam_status st = part_begin(part, header, header_bytes, s);
    seam_mem_free(header);
    SEAM_TRY(st);
    SEAM_TRY(runs_fetch(part, header_bytes, s));
    SEAM_TRY(seam_pull_hash_sha256(hex, part, s->pull->err));
    SEAM_TRY(seam_pull_file_publish(part, path, s->pull->err));
    return note_write(s, hex);
}

static seam_status share_pull(share *s) {
    seam_hub_pull *const pull = s->pull;
    char path[SEAM_PULL_PATH_MAX];
    SEAM_TRY(layers_read(s));
    SEAM_TRY(folder_name(pull));
    SEAM_TRY(seam_pull_path(path, sizeof path, pull->err, "%s/" SHARE, pull->parts));
    SEAM_TRY(seam_pull_folder_create(pull->parts, pull->err));
    SEAM_TRY(small_files_link(s)); /* first: the note, last, says that all is there */
    if (!seam_hub_parts_are_there(pull)) {
        s->header = json_pack("{s:{s:s, s:s, s:s}}", "__metadata__", "format", "pt",
                              "seam.share_of", pull->args->repo, "seam.commit", pull->commit);
        s->sources = json_object();
        if (s->header == NULL || s->sources == NULL) {
            return seam_error_set(pull->err, SEAM_E_MEMORY, "no memory for a header");
        }
        SEAM_TRY(map_read(s));
        SEAM_TRY(files_read(s));
        SEAM_TRY(share_write(s, path));
    }
    return SEAM_OK;
}

seam_status seam_hub_parts_pull(seam_hub_pull *pull, const json_t *rows) {
    share s = {.pull = pull, .rows = rows};
    const seam_status st = share_pull(&s);
    json_decref(s.weight_map);
    json_decref(s.header);
    json_decref(s.sources);
    seam_mem_free(s.runs);
    seam_mem_free(s.files);
    return st;
}
