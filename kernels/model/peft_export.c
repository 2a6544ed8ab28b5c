/* Export of an adapter as PEFT's two files: see peft.h.
 *
 * target_modules, fan_in_fan_out and the other fields are written even where peft has a default,
 * because loaders differ in their defaults (vLLM refuses modules_to_save that is not null). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "arena.h"
#include "bytes.h"
#include "json_text.h"
#include "peft.h"
#include "peft_names.h"
#include "safetensors_write.h"
#include "try.h"

static seam_status config_write(seam_peft_files *files, const seam_adapter *adapter,
                                const char *base_model);

seam_status seam_peft_export(seam_peft_files *ret_files, const seam_adapter *adapter,
                             seam_stream *stream, const char *base_model, seam_error *err) {
    seam_peft_files files = {0};
    seam_status st = SEAM_OK;
    if (seam_adapter_config_of(adapter)->kind == SEAM_ADAPTER_FULL) {
        return seam_error_set(err, SEAM_E_ARG,
                              "export: PEFT has no adapter that is all of the blocks' weights");
    }
    SEAM_TRY_GOTO(seam_adapter_weights_write(&files, adapter, stream), st, fail);
    SEAM_TRY_GOTO(config_write(&files, adapter, base_model), st, fail);
    SEAM_TRY_GOTO(seam_peft_compare(adapter, &files, err), st, fail_named);
    *ret_files = files;
    return SEAM_OK;
fail:
    seam_peft_files_deinit(&files);
    return seam_error_set(err, st, "export of the adapter: %s", seam_status_text(st));
fail_named: /* what was made does not load */
    seam_peft_files_deinit(&files);
    return seam_error_prefix(err, st, "export of the adapter");
}

void seam_peft_files_deinit(seam_peft_files *files) {
    seam_mem_free(files->weights);
    seam_mem_free(files->config);
    memset(files, 0, sizeof *files);
}

seam_status seam_adapter_weights_write(seam_peft_files *files, const seam_adapter *adapter,
                                       seam_stream *stream) {
    const uint32_t count = seam_adapter_tensor_count(adapter);
    seam_adapter_tensor *tensors = seam_mem_zalloc(count, sizeof *tensors);
    seam_safetensors_entry *entries = seam_mem_zalloc(count, sizeof *entries);
    float *values = NULL;
    seam_status st = SEAM_E_MEMORY;
    if (tensors == NULL || entries == NULL) {
        goto end;
    }
    size_t largest = 0;
    for (uint32_t i = 0; i < count; i++) {
        seam_adapter_describe(&tensors[i], adapter, i);
        entries[i] = (seam_safetensors_entry){
            tensors[i].name, tensors[i].is_vector ? 0 : tensors[i].rows, tensors[i].cols};
        const size_t items = (size_t)tensors[i].rows * tensors[i].cols;
        largest = items > largest ? items : largest;
    }
    size_t begin = 0;
    SEAM_TRY_GOTO(
        seam_safetensors_layout(&files->weights, &files->weights_bytes, &begin, entries, count), st,
        end);
    values = seam_mem_zalloc(largest, sizeof *values);
    if (values == NULL) {
        st = SEAM_E_MEMORY;
        goto end;
    }
    uint8_t *cursor = files->weights + begin;
    for (uint32_t i = 0; i < count; i++) {
        SEAM_TRY_GOTO(seam_adapter_read(values, adapter, stream, i), st, end);
        const size_t items = (size_t)tensors[i].rows * tensors[i].cols;
        for (size_t j = 0; j < items; j++, cursor += sizeof(float)) {
            seam_put_f32(cursor, values[j]);
        }
    }
    SEAM_ASSERT(cursor == files->weights + files->weights_bytes);
end:
    seam_mem_free(values);
    seam_mem_free(entries);
    seam_mem_free(tensors);
    return st;
}

/* The layers that the adapter is on, from its tensors' names; null when they are all. */
static json_t *layers_to_transform(const seam_adapter *adapter) {
    const seam_layer_range range = seam_adapter_layers(adapter);
    if (range.begin == 0 && range.end == range.model_layers) {
        return json_null();
    }
    json_t *layers = json_array();
    for (uint32_t i = range.begin; layers != NULL && i < range.end; i++) {
        if (json_array_append_new(layers, json_integer(i)) != 0) {
            json_decref(layers);
            return NULL;
        }
    }
    return layers;
}

static json_t *target_modules(uint32_t targets) {
    json_t *modules = json_array();
    for (uint32_t t = 0; modules != NULL && t < SEAM_LORA_TARGETS; t++) {
        if ((targets >> t & 1) != 0 &&
            json_array_append_new(modules, json_string(seam_peft_module_names[t])) != 0) {
            json_decref(modules);
            return NULL;
        }
    }
    return modules;
}

/* 0.1f as 0.1: to the digits that a float has. */
static double dropout_shown(float dropout) {
    return round((double)dropout * 1e7) / 1e7;
}

/* token_dim and num_attention_heads are those of keys and values, as peft sets them with grouped
 * queries. */
static json_t *prefix_config(const seam_adapter *adapter, const char *base_model) {
    const seam_prefix_shape shape = seam_adapter_prefix_shape(adapter);
    return json_pack("{s:s, s:s, s:s, s:n, s:b, s:i, s:i, s:i, s:i, s:i, s:i, s:b}", "peft_type",
                     "PREFIX_TUNING", "task_type", "CAUSAL_LM", "base_model_name_or_path",
                     base_model, "revision", "inference_mode", 1, "num_virtual_tokens",
                     (int)seam_adapter_config_of(adapter)->prefix.tokens, "token_dim",
                     (int)shape.token_dim, "num_transformer_submodules", 1, "num_attention_heads",
                     (int)shape.heads, "num_layers", (int)shape.layers, "encoder_hidden_size",
                     (int)shape.token_dim, "prefix_projection", 0);
}

static json_t *lora_config(const seam_adapter *adapter, const char *base_model) {
    const seam_lora_config *config = &seam_adapter_config_of(adapter)->lora;
    /* "o" steals a reference also when packing fails, so nothing leaks. */
    return json_pack(
        "{s:s, s:s, s:s, s:n, s:i, s:f, s:f, s:s, s:o, s:o, s:b, s:b, s:b, s:b, s:n, s:{}, s:{}, "
        "s:n}",
        "peft_type", "LORA", "task_type", "CAUSAL_LM", "base_model_name_or_path", base_model,
        "revision", "r", (int)config->rank, "lora_alpha", (double)config->alpha, "lora_dropout",
        dropout_shown(config->dropout), "bias", "none", "target_modules",
        target_modules(config->targets), "layers_to_transform", layers_to_transform(adapter),
        "fan_in_fan_out", 0, "inference_mode", 1, "use_rslora", (int)config->rslora, "use_dora", 0,
        "modules_to_save", "rank_pattern", "alpha_pattern", "layers_pattern");
}

static seam_status config_write(seam_peft_files *files, const seam_adapter *adapter,
                                const char *base_model) {
    json_t *root = seam_adapter_config_of(adapter)->kind == SEAM_ADAPTER_PREFIX
                       ? prefix_config(adapter, base_model)
                       : lora_config(adapter, base_model);
    files->config =
        (uint8_t *)seam_json_text(&files->config_bytes, root, JSON_INDENT(2) | JSON_SORT_KEYS);
    json_decref(root);
    return files->config != NULL ? SEAM_OK : SEAM_E_MEMORY;
}
