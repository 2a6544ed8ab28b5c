/* Finding, mapping and indexing the files of a model; see weights_files.h.
 *
 * A directory is a Hugging Face one when it has config.json, else it must hold one .gguf. */
#include "weights_files.h"

#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "config_json.h"
#include "gguf_model.h"
#include "json_read.h"
#include "safetensors.h"
#include "try.h"

#define SHARD_INDEX_JSON_MAX (64 << 20)

static seam_status gguf_open(seam_weights_files *files, const char *path, seam_error *err);
static seam_status hf_open(seam_weights_files *files, const char *dir, seam_error *err);

static bool has_suffix(const char *text, const char *suffix) {
    const size_t count = strlen(text);
    const size_t tail = strlen(suffix);
    return count > tail && strcmp(text + count - tail, suffix) == 0;
}

/* `name` in `dir` when it is a file there (*ret_path on the heap), else NULL. */
static seam_status file_in(char **ret_path, const char *dir, const char *name, seam_error *err) {
    char *path = seam_path_join(dir, name);
    if (path == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "%s: out of memory", dir);
    }
    if (!seam_path_is_file(path)) {
        seam_mem_free(path);
        path = NULL;
    }
    *ret_path = path;
    return SEAM_OK;
}

static seam_status find_and_open(seam_weights_files *files, const char *path, seam_error *err) {
    if (seam_path_is_file(path)) {
        if (!has_suffix(path, ".gguf")) {
            return seam_error_set(err, SEAM_E_ARG, "%s: neither a directory nor a .gguf file",
                                  path);
        }
        return gguf_open(files, path, err);
    }
    if (!seam_path_is_dir(path)) {
        return seam_error_set(err, SEAM_E_NOT_FOUND, "%s: no such file or directory", path);
    }
    char *config = NULL;
    SEAM_TRY(file_in(&config, path, "config.json", err));
    if (config != NULL) {
        seam_mem_free(config);
        return hf_open(files, path, err);
    }
    char *gguf = NULL;
    seam_status st = seam_only_file(&gguf, path, ".gguf", err);
    if (st == SEAM_E_NOT_FOUND) {
        return seam_error_set(err, st, "%s: holds neither config.json nor a .gguf file", path);
    }
    SEAM_TRY(st);
    st = gguf_open(files, gguf, err);
    seam_mem_free(gguf);
    return st;
}

seam_status seam_weights_files_init(seam_weights_files *files, const char *path, seam_error *err) {
    *files = (seam_weights_files){0};
    SEAM_TRY(find_and_open(files, path, err));
    (void)snprintf(files->config.name, sizeof(files->config.name), "%s", seam_path_base(path));
    const size_t end = strlen(files->config.name);
    if (end > 1 && files->config.name[end - 1] == '/') {
        files->config.name[end - 1] = '\0';
    }
    return seam_tensor_index_finish(&files->index, err);
}

void seam_weights_files_deinit(seam_weights_files *files) {
    seam_tensor_index_deinit(&files->index);
    seam_gguf_destroy(files->gguf);
    for (size_t i = 0; i < files->map_count; i++) {
        seam_file_map_close(&files->maps[i]);
    }
    seam_mem_free(files->maps);
    *files = (seam_weights_files){0};
}

/* Room for `count` maps; they are counted as they open. */
static seam_status maps_reserve(seam_weights_files *files, size_t count, seam_error *err) {
    files->maps = seam_mem_zalloc(count, sizeof(*files->maps));
    return files->maps == NULL ? seam_error_set(err, SEAM_E_MEMORY, "out of memory") : SEAM_OK;
}

static seam_status gguf_open(seam_weights_files *files, const char *path, seam_error *err) {
    SEAM_TRY(maps_reserve(files, 1, err));
    seam_file_map *map = &files->maps[0];
    SEAM_TRY(seam_file_map_open(map, path, err));
    files->map_count = 1;
    SEAM_TRY(seam_gguf_create(&files->gguf, map->bytes, map->count, map->path, err));
    return seam_gguf_model_read(&files->config, &files->index, files->gguf, err);
}

static seam_status safetensors_open(seam_weights_files *files, const char *path, seam_error *err) {
    seam_file_map *map = &files->maps[files->map_count];
    SEAM_TRY(seam_file_map_open(map, path, err));
    files->map_count++;
    return seam_safetensors_parse(&files->index, map->bytes, map->count, map->path, err);
}

static bool is_plain_name(const char *name) {
    return name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL;
}

/* Every name of weight_map must be found in the shard that it names. */
static seam_status shard_map_check(const seam_weights_files *files, json_t *weight_map,
                                   const char *path, seam_error *err) {
    const char *name;
    json_t *shard;
    json_object_foreach(weight_map, name, shard) {
        const seam_tensor_entry *entry = seam_tensor_index_find(&files->index, name);
        if (entry == NULL || strcmp(seam_path_base(entry->file), json_string_value(shard)) != 0) {
            return seam_error_set(err, SEAM_E_FORMAT, "%s: tensor %.100s is not in %.100s", path,
                                  name, json_string_value(shard));
        }
    }
    return SEAM_OK;
}

/* Opens each distinct shard that weight_map names, in the order of first mention. */
static seam_status shards_open(seam_weights_files *files, const char *dir, json_t *weight_map,
                               const char *path, seam_error *err) {
    const char *name;
    json_t *shard;
    SEAM_TRY(maps_reserve(files, SEAM_SHARDS_MAX, err));
    json_object_foreach(weight_map, name, shard) {
        const char *file = json_string_value(shard);
        if (file == NULL || !is_plain_name(file)) {
            return seam_error_set(err, SEAM_E_FORMAT, "%s: weight_map: %.100s: bad file name", path,
                                  name);
        }
        size_t i = 0;
        while (i < files->map_count && strcmp(seam_path_base(files->maps[i].path), file) != 0) {
            i++;
        }
        if (i < files->map_count) {
            continue;
        }
        if (i == SEAM_SHARDS_MAX) {
            return seam_error_set(err, SEAM_E_LIMIT, "%s: more than %d shards", path,
                                  SEAM_SHARDS_MAX);
        }
        char *shard_path = seam_path_join(dir, file);
        if (shard_path == NULL) {
            return seam_error_set(err, SEAM_E_MEMORY, "%s: out of memory", path);
        }
        const seam_status st = safetensors_open(files, shard_path, err);
        seam_mem_free(shard_path);
        SEAM_TRY(st);
    }
    SEAM_TRY(seam_tensor_index_finish(&files->index, err));
    return shard_map_check(files, weight_map, path, err);
}

static seam_status sharded_open(seam_weights_files *files, const char *dir, const char *path,
                                seam_error *err) {
    json_t *root = NULL;
    SEAM_TRY(seam_json_read_file(&root, path, SHARD_INDEX_JSON_MAX, err));
    json_t *weight_map = json_object_get(root, "weight_map");
    const seam_status st =
        json_is_object(weight_map)
            ? shards_open(files, dir, weight_map, path, err)
            : seam_error_set(err, SEAM_E_FORMAT, "%s: weight_map is missing", path);
    json_decref(root);
    return st;
}

static seam_status config_open(seam_weights_files *files, const char *dir, seam_error *err) {
    char *path = seam_path_join(dir, "config.json");
    if (path == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "%s: out of memory", dir);
    }
    seam_file_map map = {0};
    seam_status st = seam_file_map_open(&map, path, err);
    if (st == SEAM_OK) {
        st = seam_config_json_parse(&files->config, map.bytes, map.count, path, err);
        seam_file_map_close(&map);
    }
    seam_mem_free(path);
    return st;
}

static seam_status hf_open(seam_weights_files *files, const char *dir, seam_error *err) {
    char *single = NULL;
    char *sharded = NULL;
    seam_status st = SEAM_OK;
    SEAM_TRY(config_open(files, dir, err));
    SEAM_TRY_GOTO(file_in(&single, dir, "model.safetensors", err), st, done);
    SEAM_TRY_GOTO(file_in(&sharded, dir, "model.safetensors.index.json", err), st, done);
    if (single == NULL && sharded != NULL) {
        st = sharded_open(files, dir, sharded, err);
        goto done;
    }
    if (single == NULL) {
        SEAM_TRY_GOTO(seam_only_file(&single, dir, ".safetensors", err), st, done);
    }
    SEAM_TRY_GOTO(maps_reserve(files, 1, err), st, done);
    st = safetensors_open(files, single, err);
done:
    seam_mem_free(single);
    seam_mem_free(sharded);
    return st;
}
