/* A prefix's parts by layers: see peft_parts.h.  Of each virtual token the one tensor of the file
 * has the key and the value of every layer side by side (blocks.h), so that a part is some of the
 * columns. */
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "arena.h"
#include "json_read.h"
#include "peft_parts_internal.h"
#include "safetensors.h"
#include "safetensors_write.h"
#include "try.h"

#define CONFIG_BYTES_MAX (1u << 20)
#define NAME             "prompt_embeddings"

/* The tensor of one part. */
typedef struct columns {
    seam_tensor_index index;
    const seam_tensor_entry *tensor;
} columns;

static seam_status columns_open(columns *c, const seam_peft_files *files, seam_error *err) {
    SEAM_TRY(seam_safetensors_parse(&c->index, files->weights, files->weights_bytes,
                                    SEAM_PEFT_WEIGHTS_NAME, err));
    SEAM_TRY(seam_tensor_index_finish(&c->index, err));
    c->tensor = seam_tensor_index_find(&c->index, NAME);
    const seam_tensor_entry *const e = c->tensor;
    const bool good =
        e != NULL && c->index.count == 1 && e->rows <= SEAM_PREFIX_MAX && e->cols <= UINT32_MAX &&
        (e->type == SEAM_TENSOR_F32 || e->type == SEAM_TENSOR_F16 || e->type == SEAM_TENSOR_BF16);
    return good ? SEAM_OK
                : seam_error_set(err, SEAM_E_FORMAT,
                                 SEAM_PEFT_WEIGHTS_NAME ": " NAME
                                                        ": must be the one tensor, in F32, F16 or "
                                                        "BF16, of at most %d tokens",
                                 SEAM_PREFIX_MAX);
}

/* A file of the tensor; *ret_values is where its values stand in it. */
static seam_status weights_make(seam_peft_files *files, float **ret_values, uint64_t rows,
                                uint64_t cols, seam_error *err) {
    size_t begin = 0;
    const seam_safetensors_entry entry = {NAME, (uint32_t)rows, (uint32_t)cols};
    const seam_status st =
        seam_safetensors_layout(&files->weights, &files->weights_bytes, &begin, &entry, 1);
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "a prefix's parts: %s", seam_status_text(st));
    }
    *ret_values = (float *)(void *)(files->weights + begin);
    return SEAM_OK;
}

/* Columns [from, from + count) of `e` to [to, to + count) of rows as wide as `width`. */
static void columns_copy(float *values, uint64_t width, uint64_t to, const seam_tensor_entry *e,
                         uint64_t from, uint64_t count) {
    const size_t type_bytes = e->type == SEAM_TENSOR_F32 ? 4 : 2;
    for (uint64_t row = 0; row < e->rows; row++) {
        seam_dequantize(values + row * width + to, e->type,
                        e->bytes + (row * e->cols + from) * type_bytes, (size_t)count);
    }
}

static seam_status layers_read(uint32_t *ret_layers, const seam_peft_files *files,
                               seam_error *err) {
    json_t *root = NULL;
    SEAM_TRY(seam_json_parse(&root, files->config, files->config_bytes, CONFIG_BYTES_MAX,
                             SEAM_PEFT_CONFIG_NAME, err));
    const json_int_t layers = json_integer_value(json_object_get(root, "num_layers"));
    json_decref(root);
    if (layers < 1 || layers > UINT16_MAX) {
        return seam_error_set(err, SEAM_E_FORMAT, SEAM_PEFT_CONFIG_NAME ": num_layers: missing");
    }
    *ret_layers = (uint32_t)layers;
    return SEAM_OK;
}

/* The config but for its count of layers. */
static seam_status config_make(seam_peft_files *files, const seam_peft_files *from, uint32_t layers,
                               seam_error *err) {
    json_t *root = NULL;
    SEAM_TRY(seam_json_parse(&root, from->config, from->config_bytes, CONFIG_BYTES_MAX,
                             SEAM_PEFT_CONFIG_NAME, err));
    const seam_status st =
        json_object_set_new(root, "num_layers", json_integer(layers)) == 0
            ? seam_peft_config_dump(files, root, err)
            : seam_error_set(err, SEAM_E_MEMORY, "no memory for an adapter's parts");
    json_decref(root);
    return st;
}

/* The parts side by side, in a file of their own. */
static seam_status parts_join(seam_peft_files *files, const seam_peft_files *config_of,
                              const columns *parts, uint32_t part_count, uint32_t model_layers,
                              seam_error *err) {
    const uint64_t rows = parts[0].tensor->rows;
    uint64_t width = 0, to = 0;
    float *values = NULL;
    for (uint32_t i = 0; i < part_count; i++) {
        if (parts[i].tensor->rows != rows) {
            return seam_error_set(err, SEAM_E_FORMAT,
                                  SEAM_PEFT_WEIGHTS_NAME ": " NAME ": parts of %llu and of %llu "
                                                         "tokens",
                                  (unsigned long long)rows,
                                  (unsigned long long)parts[i].tensor->rows);
        }
        width += parts[i].tensor->cols;
    }
    SEAM_TRY(weights_make(files, &values, rows, width, err));
    for (uint32_t i = 0; i < part_count; i++) {
        columns_copy(values, width, to, parts[i].tensor, 0, parts[i].tensor->cols);
        to += parts[i].tensor->cols;
    }
    return config_make(files, config_of, model_layers, err);
}

static seam_status layers_check(const seam_peft_files *parts, uint32_t part_count,
                                uint32_t model_layers, seam_error *err) {
    uint32_t total = 0;
    for (uint32_t i = 0; i < part_count; i++) {
        uint32_t layers = 0;
        SEAM_TRY(layers_read(&layers, &parts[i], err));
        total += layers;
    }
    return total == model_layers
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_FORMAT,
                                SEAM_PEFT_CONFIG_NAME ": num_layers: the parts have %u, the model "
                                                      "has %u",
                                total, model_layers);
}

seam_status seam_peft_prefix_join(seam_peft_files *ret_files, const seam_peft_files *config_of,
                                  const seam_peft_files *parts, uint32_t part_count,
                                  uint32_t model_layers, seam_error *err) {
    columns open[SEAM_PEFT_PARTS_MAX] = {{.tensor = NULL}};
    seam_peft_files files = {0};
    SEAM_ASSERT(part_count >= 1);
    SEAM_ASSERT(part_count <= SEAM_PEFT_PARTS_MAX);
    seam_status st = layers_check(parts, part_count, model_layers, err);
    for (uint32_t i = 0; st == SEAM_OK && i < part_count; i++) {
        st = columns_open(&open[i], &parts[i], err);
    }
    st = st == SEAM_OK ? parts_join(&files, config_of, open, part_count, model_layers, err) : st;
    for (uint32_t i = 0; i < part_count; i++) {
        seam_tensor_index_deinit(&open[i].index);
    }
    if (st != SEAM_OK) {
        seam_peft_files_deinit(&files);
        return st;
    }
    *ret_files = files;
    return SEAM_OK;
}

static seam_status part_cut(seam_peft_files *files, const columns *whole,
                            const seam_peft_files *from, const seam_peft_range *range,
                            seam_error *err) {
    const seam_tensor_entry *const e = whole->tensor;
    const uint64_t layer_cols = e->cols / range->model_layers;
    const uint64_t count = layer_cols * (range->end - range->begin);
    float *values = NULL;
    if (layer_cols == 0 || e->cols % range->model_layers != 0) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              SEAM_PEFT_WEIGHTS_NAME ": " NAME
                                                     ": %llu columns are not of %u layers",
                              (unsigned long long)e->cols, range->model_layers);
    }
    SEAM_TRY(weights_make(files, &values, e->rows, count, err));
    columns_copy(values, count, 0, e, layer_cols * range->begin, count);
    return config_make(files, from, range->end - range->begin, err);
}

seam_status seam_peft_prefix_split(seam_peft_files *ret_files, const seam_peft_files *files,
                                   const seam_peft_range *range, seam_error *err) {
    columns whole = {.tensor = NULL};
    seam_peft_files part = {0};
    seam_status st = columns_open(&whole, files, err);
    st = st == SEAM_OK ? part_cut(&part, &whole, files, range, err) : st;
    seam_tensor_index_deinit(&whole.index);
    if (st != SEAM_OK) {
        seam_peft_files_deinit(&part);
        return st;
    }
    *ret_files = part;
    return SEAM_OK;
}
