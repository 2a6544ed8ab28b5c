/* The tensors of a model by name; files are found in weights_files.c, parsed in safetensors.c
 * and gguf.c.  Here: shapes against the config, and reading as f32. */
#include "weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "family.h"
#include "try.h"
#include "weights_files.h"

struct seam_weights {
    seam_weights_files files;
};

static seam_status shapes_check(const seam_weights_files *files, seam_error *err);

seam_status seam_weights_open(seam_weights **ret_weights, const char *path, seam_error *err) {
    seam_weights *w = seam_mem_zalloc(1, sizeof(*w));
    if (w == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "%s: out of memory", path);
    }
    seam_status st = SEAM_OK;
    SEAM_TRY_GOTO(seam_weights_files_init(&w->files, path, err), st, fail);
    SEAM_TRY_GOTO(shapes_check(&w->files, err), st, fail);
    *ret_weights = w;
    return SEAM_OK;
fail:
    seam_weights_close(w);
    return st;
}

void seam_weights_close(seam_weights *gift_weights) {
    if (gift_weights != NULL) {
        seam_weights_files_deinit(&gift_weights->files);
        seam_mem_free(gift_weights);
    }
}

const seam_model_config *seam_weights_config(const seam_weights *weights) {
    return &weights->files.config;
}

static seam_status entry_get(const seam_tensor_entry **ret_entry, const seam_weights *weights,
                             const char *name, seam_error *err) {
    *ret_entry = seam_tensor_index_find(&weights->files.index, name);
    if (*ret_entry == NULL) {
        return seam_error_set(err, SEAM_E_NOT_FOUND, "%s: tensor %s is missing",
                              weights->files.config.name, name);
    }
    return SEAM_OK;
}

seam_status seam_weights_shape(uint64_t *ret_rows, uint64_t *ret_cols, const seam_weights *weights,
                               const char *name, seam_error *err) {
    const seam_tensor_entry *entry;
    SEAM_TRY(entry_get(&entry, weights, name, err));
    *ret_rows = entry->rows;
    *ret_cols = entry->cols;
    return SEAM_OK;
}

static seam_status shape_check(const seam_tensor_entry *entry, uint64_t rows, uint64_t cols,
                               seam_error *err) {
    if (entry->rows != rows || entry->cols != cols) {
        return seam_error_set(
            err, SEAM_E_ARG, "%s: tensor %s has shape (%llu, %llu), not (%llu, %llu)", entry->file,
            entry->name, (unsigned long long)entry->rows, (unsigned long long)entry->cols,
            (unsigned long long)rows, (unsigned long long)cols);
    }
    return SEAM_OK;
}

/* Row r of a q or k matrix in Hugging Face order -> its row in a GGUF file (gguf_model.c). */
static uint64_t permuted_row(uint64_t r, uint32_t head_dim) {
    const uint64_t half = head_dim / 2;
    const uint64_t in_head = r % head_dim;
    return r - in_head + 2 * (in_head % half) + in_head / half;
}

seam_status seam_weights_read(float *ret, const seam_weights *weights, const char *name,
                              uint64_t rows, uint64_t cols, seam_error *err) {
    const seam_tensor_entry *entry;
    SEAM_TRY(entry_get(&entry, weights, name, err));
    SEAM_TRY(shape_check(entry, rows, cols, err));
    if (entry->type == SEAM_TENSOR_OTHER) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              "%s: tensor %s has %s, which is not supported", entry->file, name,
                              entry->type_name);
    }
    if (entry->unpermute_head_dim == 0) {
        seam_dequantize(ret, entry->type, entry->bytes, (size_t)(rows * cols));
        return SEAM_OK;
    }
    uint64_t row_bytes = 0;
    const bool ok = seam_tensor_bytes(&row_bytes, entry->type, 1, cols);
    SEAM_ASSERT(ok); /* the reader has sized this tensor */
    for (uint64_t r = 0; r < rows; r++) {
        const uint64_t from = permuted_row(r, entry->unpermute_head_dim);
        seam_dequantize(ret + r * cols, entry->type, entry->bytes + from * row_bytes, (size_t)cols);
    }
    return SEAM_OK;
}

/* The mapped file that holds these bytes. */
static const seam_file_map *map_of(const seam_weights *weights, const uint8_t *bytes) {
    for (size_t i = 0; i < weights->files.map_count; i++) {
        const seam_file_map *map = &weights->files.maps[i];
        if (bytes >= map->bytes && bytes < map->bytes + map->count) {
            return map;
        }
    }
    return NULL;
}

bool seam_weights_find(seam_weights_place *ret, const seam_weights *weights, const char *name,
                       uint64_t rows, uint64_t cols) {
    const seam_tensor_entry *entry = seam_tensor_index_find(&weights->files.index, name);
    const bool plain = entry != NULL && entry->rows == rows && entry->cols == cols &&
                       entry->unpermute_head_dim == 0 &&
                       (entry->type == SEAM_TENSOR_F32 || entry->type == SEAM_TENSOR_F16 ||
                        entry->type == SEAM_TENSOR_BF16);
    const seam_file_map *map = plain ? map_of(weights, entry->bytes) : NULL;
    if (map == NULL) {
        return false;
    }
    *ret = (seam_weights_place){.file = map->path,
                                .fd = map->fd,
                                .offset = (uint64_t)(entry->bytes - map->bytes),
                                .type = entry->type};
    return true;
}

/* ---- Shapes of the architecture ---- */

/* The expected shape of a tensor; NULL for a name that the architecture does not have. */
static const seam_family_tensor *shape_find(const char *name, const seam_family *family,
                                            uint32_t layers) {
    for (size_t i = 0; i < seam_family_global_count; i++) {
        if (strcmp(name, seam_family_globals[i].hf) == 0) {
            return &seam_family_globals[i];
        }
    }
    static const char PREFIX[] = "model.layers.";
    const char *digits = name + sizeof(PREFIX) - 1;
    if (strncmp(name, PREFIX, sizeof(PREFIX) - 1) != 0 || *digits < '0' || *digits > '9') {
        return NULL;
    }
    char *end;
    const unsigned long layer = strtoul(digits, &end, 10);
    if (layer >= layers || *end != '.' || (*digits == '0' && end != digits + 1)) {
        return NULL;
    }
    for (size_t i = 0; i < family->layer_count; i++) {
        if (strcmp(end + 1, family->layer[i].hf) == 0) {
            return &family->layer[i];
        }
    }
    return NULL;
}

/* Old exports carry the RoPE frequencies, which follow from the config. */
static bool is_ignored(const char *name) {
    const char *tail = strstr(name, ".rotary_emb.inv_freq");
    return tail != NULL && strcmp(tail, ".rotary_emb.inv_freq") == 0;
}

static seam_status shapes_check(const seam_weights_files *files, seam_error *err) {
    const seam_model_config *c = &files->config;
    const seam_family *family = seam_family_find(c->architecture);
    SEAM_ASSERT(family != NULL); /* the config has been checked */
    for (size_t i = 0; i < files->index.count; i++) {
        const seam_tensor_entry *entry = &files->index.entries[i];
        const seam_family_tensor *shape = shape_find(entry->name, family, c->layers);
        if (shape == NULL && is_ignored(entry->name)) {
            continue;
        }
        if (shape == NULL) {
            return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                                  "%s: tensor %s is not part of a %s model of %u layers",
                                  entry->file, entry->name, c->architecture, c->layers);
        }
        SEAM_TRY(shape_check(entry, seam_family_dim(c, shape->rows),
                             seam_family_dim(c, shape->cols), err));
    }
    return SEAM_OK;
}
