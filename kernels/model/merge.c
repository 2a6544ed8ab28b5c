/* What goes where when an adapter is merged: see merge.h.  merge_write.c does the writing. */
#include "merge.h"

#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "file_write.h"
#include "json_read.h"
#include "layers_files.h"
#include "merge_internal.h"
#include "peft.h"
#include "safetensors.h"
#include "try.h"
#include "weights.h"

static seam_status base_open(seam_merge_job *job, seam_error *err);
static seam_status adapter_open(seam_merge_job *job, seam_error *err);
static seam_status items_plan(seam_merge_job *job, seam_error *err);
static seam_status others_copy(const seam_merge_job *job, seam_error *err);
static seam_status result_check(const char *out, seam_error *err);

static void job_deinit(seam_merge_job *job) {
    for (size_t i = 0; i < SEAM_SHARDS_MAX; i++) {
        json_decref(job->headers[i]);
    }
    seam_mem_free(job->items);
    seam_tensor_index_deinit(&job->adapter);
    seam_file_map_close(&job->adapter_map);
    seam_weights_files_deinit(&job->base);
    seam_mem_free(job);
}

static seam_status out_check(const char *out, seam_error *err) {
    char *path = NULL;
    const seam_status st = seam_only_file(&path, out, ".safetensors", err);
    seam_mem_free(path);
    if (st == SEAM_OK || st == SEAM_E_ARG) {
        return seam_error_set(err, SEAM_E_ARG, "%s: holds .safetensors files already", out);
    }
    return st == SEAM_E_NOT_FOUND ? SEAM_OK : st;
}

seam_status seam_merge(seam_merge_report *ret_report, const seam_merge_args *args,
                       seam_error *err) {
    if (!seam_path_is_dir(args->out)) {
        return seam_error_set(err, SEAM_E_ARG, "%s: no such folder", args->out);
    }
    SEAM_TRY(out_check(args->out, err));
    seam_merge_job *job = seam_mem_zalloc(1, sizeof *job);
    if (job == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "merge: out of memory");
    }
    job->args = args;
    seam_status st = SEAM_OK;
    SEAM_TRY_GOTO(base_open(job, err), st, end);
    SEAM_TRY_GOTO(adapter_open(job, err), st, end);
    SEAM_TRY_GOTO(items_plan(job, err), st, end);
    SEAM_TRY_GOTO(seam_merge_write(job, err), st, end);
    SEAM_TRY_GOTO(others_copy(job, err), st, end);
    SEAM_TRY_GOTO(result_check(args->out, err), st, end);
    seam_merge_report report = {
        .tensors = (uint32_t)job->item_count, .files = job->shard_count, .bytes = job->bytes};
    for (size_t i = 0; i < job->item_count; i++) {
        const seam_merge_item *item = &job->items[i];
        report.merged += item->a != NULL || item->whole != NULL ? 1 : 0;
    }
    *ret_report = report;
end:
    job_deinit(job);
    return st;
}

static seam_status base_open(seam_merge_job *job, seam_error *err) {
    SEAM_TRY(seam_weights_files_init(&job->base, job->args->base, err));
    if (job->base.gguf != NULL) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              "%s: a GGUF file cannot be merged into; give the folder with "
                              "config.json and safetensors",
                              job->args->base);
    }
    for (size_t i = 0; i < job->base.map_count; i++) {
        const seam_file_map *map = &job->base.maps[i];
        const uint64_t header_bytes = seam_get_u64(map->bytes); /* checked when it was indexed */
        SEAM_TRY(seam_json_parse(&job->headers[i], map->bytes + 8, (size_t)header_bytes,
                                 SEAM_SAFETENSORS_HEADER_MAX, map->path, err));
    }
    return SEAM_OK;
}

static seam_status adapter_config_read(seam_merge_job *job, const char *path, seam_error *err) {
    seam_file_map map = {0};
    SEAM_TRY(seam_file_map_open(&map, path, err));
    seam_adapter_config read = {0};
    seam_status st = job->layers
                         ? seam_layers_check_config(map.bytes, map.count, &job->base.config, err)
                         : seam_peft_read_config(&read, map.bytes, map.count, err);
    seam_file_map_close(&map);
    if (st == SEAM_OK && read.kind == SEAM_ADAPTER_PREFIX) {
        st = seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                            SEAM_PEFT_CONFIG_NAME ": peft_type: a prefix cannot be merged into "
                                                  "weights");
    }
    job->lora = read.lora;
    return st;
}

static seam_status adapter_open(seam_merge_job *job, seam_error *err) {
    char *layers = seam_path_join(job->args->adapter, SEAM_LAYERS_CONFIG_NAME);
    job->layers = layers != NULL && seam_path_is_file(layers);
    seam_mem_free(layers);
    job->weights_name = job->layers ? SEAM_LAYERS_WEIGHTS_NAME : SEAM_PEFT_WEIGHTS_NAME;
    char *config = seam_path_join(job->args->adapter,
                                  job->layers ? SEAM_LAYERS_CONFIG_NAME : SEAM_PEFT_CONFIG_NAME);
    char *weights = seam_path_join(job->args->adapter, job->weights_name);
    seam_status st = SEAM_OK;
    if (config == NULL || weights == NULL) {
        st = seam_error_set(err, SEAM_E_MEMORY, "merge: out of memory");
        goto end;
    }
    SEAM_TRY_GOTO(adapter_config_read(job, config, err), st, end);
    SEAM_TRY_GOTO(seam_file_map_open(&job->adapter_map, weights, err), st, end);
    SEAM_TRY_GOTO(seam_safetensors_parse(&job->adapter, job->adapter_map.bytes,
                                         job->adapter_map.count, job->weights_name, err),
                  st, end);
    st = seam_tensor_index_finish(&job->adapter, err);
end:
    seam_mem_free(weights);
    seam_mem_free(config);
    return st;
}

/* Half `letter` of the adapter's pair for a matrix, or NULL. */
static const seam_tensor_entry *half_find(char ret_name[SEAM_NAME_BYTES], const seam_merge_job *job,
                                          const char *base_name, char letter) {
    static const char tail[] = ".weight";
    const size_t count = strlen(base_name);
    if (count <= sizeof tail - 1 || strcmp(base_name + count - (sizeof tail - 1), tail) != 0) {
        return NULL;
    }
    const int chars = snprintf(ret_name, SEAM_NAME_BYTES, "base_model.model.%.*s.lora_%c.weight",
                               (int)(count - (sizeof tail - 1)), base_name, letter);
    return chars > 0 && chars < SEAM_NAME_BYTES ? seam_tensor_index_find(&job->adapter, ret_name)
                                                : NULL;
}

static bool is_plain(seam_tensor_type type) {
    return type == SEAM_TENSOR_F32 || type == SEAM_TENSOR_F16 || type == SEAM_TENSOR_BF16;
}

static seam_status half_check(const seam_merge_job *job, const seam_tensor_entry *half,
                              uint64_t rows, uint64_t cols, seam_error *err) {
    if (half->rows != rows || half->cols != cols) {
        return seam_error_set(
            err, SEAM_E_FORMAT, "%s: %s: shape is [%llu, %llu], must be [%llu, %llu]",
            job->weights_name, half->name, (unsigned long long)half->rows,
            (unsigned long long)half->cols, (unsigned long long)rows, (unsigned long long)cols);
    }
    return is_plain(half->type)
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_FORMAT, "%s: %s: dtype must be F32, F16 or BF16",
                                job->weights_name, half->name);
}

static seam_status base_check(const seam_merge_item *item, seam_error *err) {
    return is_plain(item->base->type)
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                                "%s: %s: %s cannot be merged into, only F32, F16 and BF16",
                                item->base->file, item->base->name, item->base->type_name);
}

/* The adapter's share in a tensor of the base. */
static seam_status pair_take(seam_merge_item *item, const seam_merge_job *job, seam_error *err) {
    char a_name[SEAM_NAME_BYTES] = "", b_name[SEAM_NAME_BYTES] = "";
    if (job->layers) {
        item->whole = seam_tensor_index_find(&job->adapter, item->base->name);
        if (item->whole == NULL) {
            return SEAM_OK;
        }
        SEAM_TRY(half_check(job, item->whole, item->base->rows, item->base->cols, err));
        return base_check(item, err);
    }
    item->a = half_find(a_name, job, item->base->name, 'A');
    item->b = half_find(b_name, job, item->base->name, 'B');
    if (item->a == NULL && item->b == NULL) {
        return SEAM_OK;
    }
    if (item->a == NULL || item->b == NULL) {
        return seam_error_set(err, SEAM_E_FORMAT, SEAM_PEFT_WEIGHTS_NAME ": %s: missing",
                              item->a == NULL ? a_name : b_name);
    }
    SEAM_TRY(half_check(job, item->a, job->lora.rank, item->base->cols, err));
    SEAM_TRY(half_check(job, item->b, item->base->rows, job->lora.rank, err));
    return base_check(item, err);
}

/* Which tensor of the adapter no matrix of the base has taken. */
static seam_status all_used(const seam_merge_job *job, size_t used, seam_error *err) {
    for (size_t i = 0; used < job->adapter.count && i < job->adapter.count; i++) {
        const seam_tensor_entry *entry = &job->adapter.entries[i];
        bool taken = false;
        for (size_t k = 0; k < job->item_count && !taken; k++) {
            taken = job->items[k].a == entry || job->items[k].b == entry ||
                    job->items[k].whole == entry;
        }
        if (!taken) {
            return seam_error_set(err, SEAM_E_FORMAT, "%s: %s: the base has no such matrix",
                                  job->weights_name, entry->name);
        }
    }
    return used > 0 ? SEAM_OK
                    : seam_error_set(err, SEAM_E_FORMAT, "%s: no tensors", job->weights_name);
}

/* Of a tensor that was indexed, so that its offsets are checked. */
static uint64_t value_bytes(const json_t *info) {
    const json_t *offsets = json_object_get(info, "data_offsets");
    return (uint64_t)(json_integer_value(json_array_get(offsets, 1)) -
                      json_integer_value(json_array_get(offsets, 0)));
}

static seam_status items_plan(seam_merge_job *job, seam_error *err) {
    const uint64_t limit =
        job->args->shard_bytes != 0 ? job->args->shard_bytes : SEAM_MERGE_SHARD_BYTES;
    uint64_t in_shard = 0;
    size_t used = 0;
    job->items = seam_mem_zalloc(job->base.index.count, sizeof *job->items);
    if (job->items == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "merge: out of memory");
    }
    for (size_t m = 0; m < job->base.map_count; m++) {
        const char *name;
        json_t *info;
        json_object_foreach(job->headers[m], name, info) {
            if (strcmp(name, "__metadata__") == 0) {
                continue;
            }
            seam_merge_item *item = &job->items[job->item_count++];
            item->base = seam_tensor_index_find(&job->base.index, name);
            SEAM_ASSERT(item->base != NULL && job->item_count <= job->base.index.count);
            item->shape = json_object_get(info, "shape");
            item->bytes = value_bytes(info);
            SEAM_TRY(pair_take(item, job, err));
            used += item->a != NULL ? 2 : item->whole != NULL ? 1 : 0;
            if (job->shard_count == 0 || (in_shard > 0 && item->bytes > limit - in_shard)) {
                job->shard_count++;
                in_shard = 0;
            }
            item->shard = job->shard_count - 1;
            in_shard = item->bytes > limit - in_shard ? limit : in_shard + item->bytes;
            job->bytes += item->bytes;
        }
    }
    return all_used(job, used, err);
}

/* Config, tokenizer and what else describes the model, where the base has them. */
static seam_status others_copy(const seam_merge_job *job, seam_error *err) {
    static const char *const names[] = {
        "generation_config.json",  "tokenizer.json",    "tokenizer_config.json",
        "tokenizer.model",         "vocab.json",        "merges.txt",
        "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
        "chat_template.json",      "config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *from = seam_path_join(job->args->base, names[i]);
        char *to = seam_path_join(job->args->out, names[i]);
        seam_status st = SEAM_OK;
        if (from == NULL || to == NULL) {
            st = seam_error_set(err, SEAM_E_MEMORY, "merge: out of memory");
        } else if (seam_path_is_file(from)) {
            seam_file_map map = {0};
            st = seam_file_map_open(&map, from, err);
            if (st == SEAM_OK) {
                st = seam_file_write_atomic(to, map.bytes, map.count, err);
            }
            seam_file_map_close(&map);
        }
        seam_mem_free(to);
        seam_mem_free(from);
        SEAM_TRY(st);
    }
    return SEAM_OK;
}

/* The folder opens as a model. */
static seam_status result_check(const char *out, seam_error *err) {
    seam_weights *weights = NULL;
    const seam_status st = seam_weights_open(&weights, out, err);
    seam_weights_close(weights);
    return st == SEAM_OK ? st : seam_error_prefix(err, st, "what was written does not load");
}
