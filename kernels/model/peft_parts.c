/* See peft_parts.h; LoRA, whose tensors have their layer in their key,
 * base_model.model.model.layers.N....  Of a prefix: peft_prefix_parts.c. */
#include "peft_parts_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "json_read.h"
#include "safetensors.h"
#include "safetensors_write.h"
#include "try.h"

#define CONFIG_BYTES_MAX (1u << 20)
#define LAYERS_MAX       4096u
#define NO_LAYER         UINT32_MAX

/* Tensors on their way from one file to another, and the layers that they are of. */
typedef struct gathering {
    seam_tensor_entry *tensors;
    size_t count;
    bool layers[LAYERS_MAX];
} gathering;

static uint32_t layer_of(const char *name) {
    static const char prefix[] = "base_model.model.model.layers.";
    char *end = NULL;
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) {
        return NO_LAYER;
    }
    const unsigned long layer = strtoul(name + sizeof prefix - 1, &end, 10);
    return *end == '.' && layer < LAYERS_MAX ? (uint32_t)layer : NO_LAYER;
}

static seam_status weights_open(seam_tensor_index *index, const seam_peft_files *files,
                                seam_error *err) {
    SEAM_TRY(seam_safetensors_parse(index, files->weights, files->weights_bytes,
                                    SEAM_PEFT_WEIGHTS_NAME, err));
    return seam_tensor_index_finish(index, err);
}

/* Those of [begin, end); their bytes stay the files'. */
static seam_status gather(gathering *g, const seam_peft_files *files, uint32_t begin, uint32_t end,
                          seam_error *err) {
    seam_tensor_index index = {.count = 0};
    seam_status st = weights_open(&index, files, err);
    for (size_t i = 0; st == SEAM_OK && i < index.count; i++) {
        const seam_tensor_entry *const e = &index.entries[i];
        const uint32_t layer = layer_of(e->name);
        const bool plain =
            e->type == SEAM_TENSOR_F32 || e->type == SEAM_TENSOR_F16 || e->type == SEAM_TENSOR_BF16;
        if (layer == NO_LAYER || !plain || e->rows > UINT32_MAX || e->cols > UINT32_MAX) {
            st = seam_error_set(
                err, SEAM_E_FORMAT,
                SEAM_PEFT_WEIGHTS_NAME ": %s: no LoRA of a layer in F32, F16 or BF16", e->name);
        } else if (layer >= begin && layer < end) {
            SEAM_ASSERT(g->count < SEAM_TENSORS_MAX);
            g->tensors[g->count++] = *e;
            g->layers[layer] = true;
        }
    }
    seam_tensor_index_deinit(&index);
    return st;
}

static int by_name(const void *a, const void *b) {
    const seam_tensor_entry *const x = a;
    const seam_tensor_entry *const y = b;
    return strcmp(x->name, y->name);
}

static seam_status weights_write(seam_peft_files *ret, gathering *g, seam_error *err) {
    size_t begin = 0;
    qsort(g->tensors, g->count, sizeof *g->tensors, by_name);
    seam_safetensors_entry *const entries = seam_mem_zalloc(g->count, sizeof *entries);
    if (entries == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "no memory for an adapter's parts");
    }
    seam_status st = SEAM_OK;
    for (size_t i = 0; i < g->count; i++) {
        const seam_tensor_entry *const e = &g->tensors[i];
        entries[i] = (seam_safetensors_entry){e->name, (uint32_t)e->rows, (uint32_t)e->cols};
        if (i > 0 && strcmp(e->name, g->tensors[i - 1].name) == 0) {
            st = seam_error_set(err, SEAM_E_FORMAT, SEAM_PEFT_WEIGHTS_NAME ": %s: is there twice",
                                e->name);
        }
    }
    if (st == SEAM_OK) {
        st = seam_safetensors_layout(&ret->weights, &ret->weights_bytes, &begin, entries, g->count);
    }
    for (size_t i = 0; st == SEAM_OK && i < g->count; i++) {
        const seam_tensor_entry *const e = &g->tensors[i];
        const size_t values = (size_t)e->rows * e->cols;
        seam_dequantize((float *)(void *)(ret->weights + begin), e->type, e->bytes, values);
        begin += values * sizeof(float);
    }
    SEAM_ASSERT(st != SEAM_OK || begin == ret->weights_bytes);
    seam_mem_free(entries);
    return st;
}

static seam_status out_of_memory(seam_error *err) {
    return seam_error_set(err, SEAM_E_MEMORY, "no memory for an adapter's parts");
}

seam_status seam_peft_config_dump(seam_peft_files *files, const json_t *root, seam_error *err) {
    const size_t flags = JSON_INDENT(2) | JSON_SORT_KEYS;
    files->config_bytes = json_dumpb(root, NULL, 0, flags);
    files->config = files->config_bytes > 0 ? seam_mem_alloc(files->config_bytes) : NULL;
    const bool written =
        files->config != NULL &&
        json_dumpb(root, (char *)files->config, files->config_bytes, flags) == files->config_bytes;
    return written ? SEAM_OK : out_of_memory(err);
}

static json_t *layers_json(const gathering *g, uint32_t model_layers) {
    uint32_t count = 0;
    json_t *const layers = json_array();
    for (uint32_t i = 0; i < LAYERS_MAX; i++) {
        if (g->layers[i]) {
            json_array_append_new(layers, json_integer(i));
            count++;
        }
    }
    if (layers != NULL && json_array_size(layers) == count && count != model_layers) {
        return layers;
    }
    json_decref(layers);
    return count == model_layers ? json_null() : NULL;
}

static seam_status config_write(seam_peft_files *ret, const seam_peft_files *from,
                                const gathering *g, uint32_t model_layers, seam_error *err) {
    json_t *root = NULL;
    SEAM_TRY(seam_json_parse(&root, from->config, from->config_bytes, CONFIG_BYTES_MAX,
                             SEAM_PEFT_CONFIG_NAME, err));
    json_t *const layers = layers_json(g, model_layers);
    const bool set =
        layers != NULL && json_object_set_new(root, "layers_to_transform", layers) == 0;
    const seam_status st = set ? seam_peft_config_dump(ret, root, err) : out_of_memory(err);
    json_decref(root);
    return st;
}

static seam_status files_make(seam_peft_files *ret_files, gathering *g, const seam_peft_files *from,
                              uint32_t model_layers, seam_error *err) {
    seam_peft_files files = {0};
    seam_status st = weights_write(&files, g, err);
    st = st == SEAM_OK ? config_write(&files, from, g, model_layers, err) : st;
    if (st != SEAM_OK) {
        seam_peft_files_deinit(&files);
        return st;
    }
    *ret_files = files;
    return SEAM_OK;
}

static seam_status gathering_create(gathering **ret, size_t tensors_max, seam_error *err) {
    gathering *const g = seam_mem_zalloc(1, sizeof *g);
    if (g != NULL) {
        g->tensors = seam_mem_zalloc(tensors_max + 1, sizeof *g->tensors);
    }
    if (g == NULL || g->tensors == NULL) {
        seam_mem_free(g);
        return seam_error_set(err, SEAM_E_MEMORY, "no memory for an adapter's parts");
    }
    *ret = g;
    return SEAM_OK;
}

static void gathering_destroy(gathering *g) {
    seam_mem_free(g->tensors);
    seam_mem_free(g);
}

seam_status seam_peft_tensor_count(uint32_t *ret_count, const seam_peft_files *files,
                                   seam_error *err) {
    seam_tensor_index index = {.count = 0};
    const seam_status st = weights_open(&index, files, err);
    *ret_count = (uint32_t)index.count;
    seam_tensor_index_deinit(&index);
    return st;
}

static seam_status is_prefix(bool *ret_is_prefix, const seam_peft_files *files, seam_error *err) {
    seam_adapter_config config = {0};
    SEAM_TRY(seam_peft_read_config(&config, files->config, files->config_bytes, err));
    *ret_is_prefix = config.kind == SEAM_ADAPTER_PREFIX;
    return SEAM_OK;
}

seam_status seam_peft_join(seam_peft_files *ret_files, const seam_peft_files *config_of,
                           const seam_peft_files *parts, uint32_t part_count, uint32_t model_layers,
                           seam_error *err) {
    gathering *g = NULL;
    size_t total = 0;
    bool prefix = false;
    SEAM_ASSERT(part_count >= 1 && part_count <= SEAM_PEFT_PARTS_MAX);
    SEAM_TRY(is_prefix(&prefix, config_of, err));
    if (prefix) {
        return seam_peft_prefix_join(ret_files, config_of, parts, part_count, model_layers, err);
    }
    for (uint32_t i = 0; i < part_count; i++) {
        uint32_t count = 0;
        SEAM_TRY(seam_peft_tensor_count(&count, &parts[i], err));
        total += count;
    }
    SEAM_TRY(gathering_create(&g, total, err));
    seam_status st = SEAM_OK;
    for (uint32_t i = 0; st == SEAM_OK && i < part_count; i++) {
        st = gather(g, &parts[i], 0, LAYERS_MAX, err);
    }
    st = st == SEAM_OK ? files_make(ret_files, g, config_of, model_layers, err) : st;
    gathering_destroy(g);
    return st;
}

seam_status seam_peft_split(seam_peft_files *ret_files, uint32_t *ret_tensor_count,
                            const seam_peft_files *files, const seam_peft_range *range,
                            seam_error *err) {
    gathering *g = NULL;
    uint32_t total = 0;
    bool prefix = false;
    SEAM_TRY(is_prefix(&prefix, files, err));
    if (prefix) {
        *ret_tensor_count = range->end == range->model_layers ? 1 : 0;
        return seam_peft_prefix_split(ret_files, files, range, err);
    }
    SEAM_TRY(seam_peft_tensor_count(&total, files, err));
    SEAM_TRY(gathering_create(&g, total, err));
    seam_status st = gather(g, files, range->begin, range->end, err);
    if (st == SEAM_OK && g->count == 0) {
        st = seam_error_set(err, SEAM_E_FORMAT,
                            SEAM_PEFT_WEIGHTS_NAME ": nothing of layers %u to %u, which the "
                                                   "session trains",
                            range->begin, range->end - 1);
    }
    st = st == SEAM_OK ? files_make(ret_files, g, files, LAYERS_MAX + 1, err) : st;
    *ret_tensor_count = (uint32_t)g->count;
    gathering_destroy(g);
    return st;
}
