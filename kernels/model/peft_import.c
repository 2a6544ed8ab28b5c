/* Import of an adapter from PEFT's two files: see peft.h.
 *
 * The bytes come from a peer or a disk: every offset and count is checked, every key must be one
 * of the adapter's, and nothing of the adapter changes before the whole file has passed. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "arena.h"
#include "bytes.h"
#include "peft.h"
#include "peft_names.h"
#include "try.h"

#define HEADER_BYTES_MAX (25u << 20) /* safetensors' own cap */

static seam_status config_fields_check(const json_t *root, seam_error *err);
static seam_status targets_read(uint32_t *ret_targets, const json_t *root, seam_error *err);
static seam_status file_check(const json_t *header, const seam_adapter *adapter,
                              const uint8_t *data, size_t data_bytes, seam_error *err);
static seam_status entry_read(float *ret, const json_t *entry, const seam_adapter_tensor *tensor,
                              const uint8_t *data, size_t data_bytes, seam_error *err);

static json_t *json_read(const uint8_t *bytes, size_t count, const char *what, seam_error *err) {
    json_error_t why;
    json_t *root = json_loadb((const char *)bytes, count, JSON_REJECT_DUPLICATES, &why);
    if (root == NULL) {
        (void)seam_error_set(err, SEAM_E_FORMAT, "%s: line %d: %s", what, why.line, why.text);
    } else if (!json_is_object(root)) {
        (void)seam_error_set(err, SEAM_E_FORMAT, "%s: must be an object", what);
        json_decref(root);
        root = NULL;
    }
    return root;
}

seam_status seam_peft_read_config(seam_lora_config *ret_config, const uint8_t *config,
                                  size_t config_bytes, seam_error *err) {
    json_t *root = json_read(config, config_bytes, SEAM_PEFT_CONFIG_NAME, err);
    if (root == NULL) {
        return SEAM_E_FORMAT;
    }
    seam_status st = SEAM_OK;
    seam_lora_config read = {0};
    SEAM_TRY_GOTO(config_fields_check(root, err), st, end);
    SEAM_TRY_GOTO(targets_read(&read.targets, root, err), st, end);
    const json_t *rank = json_object_get(root, "r");
    const json_t *alpha = json_object_get(root, "lora_alpha");
    if (!json_is_integer(rank) || json_integer_value(rank) < 1 ||
        json_integer_value(rank) > SEAM_LORA_RANK_MAX) {
        st = seam_error_set(err, SEAM_E_FORMAT, SEAM_PEFT_CONFIG_NAME ": r: must be 1..%d",
                            SEAM_LORA_RANK_MAX);
        goto end;
    }
    if (!json_is_number(alpha) || !(json_number_value(alpha) > 0)) {
        st = seam_error_set(err, SEAM_E_FORMAT,
                            SEAM_PEFT_CONFIG_NAME ": lora_alpha: must be a number above 0");
        goto end;
    }
    read.rank = (uint32_t)json_integer_value(rank);
    read.alpha = (float)json_number_value(alpha);
    *ret_config = read;
end:
    json_decref(root);
    return st;
}

/* Is the field absent, null, false, 0, empty, or one of the harmless words? */
static bool is_off(const json_t *value, const char *harmless) {
    return value == NULL || json_is_null(value) || json_is_false(value) ||
           (json_is_number(value) && json_number_value(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0) ||
           (json_is_string(value) && harmless != NULL &&
            strcmp(json_string_value(value), harmless) == 0);
}

/* Everything in peft's LoraConfig that changes which numbers the adapter adds. */
static seam_status config_fields_check(const json_t *root, seam_error *err) {
    static const struct {
        const char *name, *harmless;
    } fields[] = {
        {"use_dora", NULL},
        {"use_rslora", NULL},
        {"rank_pattern", NULL},
        {"alpha_pattern", NULL},
        {"bias", "none"},
        {"lora_bias", NULL},
        {"lora_dropout", NULL},
        {"modules_to_save", NULL},
        {"fan_in_fan_out", NULL},
        {"megatron_config", NULL},
        {"trainable_token_indices", NULL},
        {"target_parameters", NULL},
        {"exclude_modules", NULL},
        {"layer_replication", NULL},
        {"use_qalora", NULL},
        {"alora_invocation_tokens", NULL},
        {"arrow_config", NULL},
        {"use_bdlora", NULL},
        {"eva_config", NULL},
        {"corda_config", NULL},
        {"lora_ga_config", NULL},
    };
    const json_t *type = json_object_get(root, "peft_type");
    if (!json_is_string(type) || strcmp(json_string_value(type), "LORA") != 0) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              SEAM_PEFT_CONFIG_NAME ": peft_type: only \"LORA\" is implemented");
    }
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (!is_off(json_object_get(root, fields[i].name), fields[i].harmless)) {
            return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                                  SEAM_PEFT_CONFIG_NAME ": %s: not implemented", fields[i].name);
        }
    }
    return SEAM_OK;
}

static seam_status targets_read(uint32_t *ret_targets, const json_t *root, seam_error *err) {
    const json_t *modules = json_object_get(root, "target_modules");
    if (!json_is_array(modules) || json_array_size(modules) == 0) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              SEAM_PEFT_CONFIG_NAME ": target_modules: must be a list of names");
    }
    uint32_t targets = 0;
    for (size_t i = 0; i < json_array_size(modules); i++) {
        const char *name = json_string_value(json_array_get(modules, i));
        uint32_t t = 0;
        while (name != NULL && t < SEAM_LORA_TARGETS &&
               strcmp(name, seam_peft_module_names[t]) != 0) {
            t++;
        }
        if (name == NULL || t == SEAM_LORA_TARGETS) {
            return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                                  SEAM_PEFT_CONFIG_NAME ": target_modules[%zu]: \"%.60s\" is not "
                                                        "a projection of the decoder block",
                                  i, name != NULL ? name : "(not a string)");
        }
        targets |= 1u << t;
    }
    *ret_targets = targets;
    return SEAM_OK;
}

static seam_status config_compare(const seam_adapter *adapter, const seam_peft_files *files,
                                  seam_error *err) {
    seam_lora_config read = {0};
    SEAM_TRY(seam_peft_read_config(&read, files->config, files->config_bytes, err));
    const seam_lora_config *own = seam_adapter_config(adapter);
    if (read.rank != own->rank) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              SEAM_PEFT_CONFIG_NAME ": r: is %u, the session has %u", read.rank,
                              own->rank);
    }
    if (read.alpha != own->alpha) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              SEAM_PEFT_CONFIG_NAME ": lora_alpha: is %g, the session has %g",
                              (double)read.alpha, (double)own->alpha);
    }
    if (read.targets != own->targets) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              SEAM_PEFT_CONFIG_NAME
                              ": target_modules: not the projections of the session");
    }
    return SEAM_OK;
}

seam_status seam_peft_import(seam_adapter *adapter, seam_stream *stream,
                             const seam_peft_files *files, seam_error *err) {
    SEAM_TRY(config_compare(adapter, files, err));
    const uint64_t header_bytes = files->weights_bytes >= 8 ? seam_get_u64(files->weights) : 0;
    if (header_bytes == 0 || header_bytes > HEADER_BYTES_MAX ||
        header_bytes > files->weights_bytes - 8) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              SEAM_PEFT_WEIGHTS_NAME ": header length does not fit the file");
    }
    const uint8_t *data = files->weights + 8 + header_bytes;
    const size_t data_bytes = files->weights_bytes - 8 - (size_t)header_bytes;
    json_t *header =
        json_read(files->weights + 8, (size_t)header_bytes, SEAM_PEFT_WEIGHTS_NAME ": header", err);
    if (header == NULL) {
        return SEAM_E_FORMAT;
    }
    seam_status st = SEAM_OK;
    float *values = NULL;
    SEAM_TRY_GOTO(file_check(header, adapter, data, data_bytes, err), st, end);
    for (uint32_t i = 0; i < seam_adapter_tensor_count(adapter); i++) {
        seam_adapter_tensor tensor;
        seam_adapter_describe(&tensor, adapter, i);
        float *larger =
            seam_mem_realloc(values, (size_t)tensor.rows * tensor.cols * sizeof *values);
        if (larger == NULL) {
            st = seam_error_set(err, SEAM_E_MEMORY, "no memory to import %s", tensor.name);
            goto end;
        }
        values = larger;
        SEAM_TRY_GOTO(entry_read(values, json_object_get(header, tensor.name), &tensor, data,
                                 data_bytes, err),
                      st, end);
        SEAM_TRY_GOTO(seam_adapter_write(adapter, stream, i, values), st, end);
    }
end:
    seam_mem_free(values);
    json_decref(header);
    return st;
}

/* Every key is a tensor of the adapter, every tensor is there, and all of them can be read. */
static seam_status file_check(const json_t *header, const seam_adapter *adapter,
                              const uint8_t *data, size_t data_bytes, seam_error *err) {
    const uint32_t count = seam_adapter_tensor_count(adapter);
    float *values = NULL;
    seam_status st = SEAM_OK;
    for (uint32_t i = 0; i < count; i++) {
        seam_adapter_tensor tensor;
        seam_adapter_describe(&tensor, adapter, i);
        const json_t *entry = json_object_get(header, tensor.name);
        if (!json_is_object(entry)) {
            st = seam_error_set(err, SEAM_E_FORMAT, SEAM_PEFT_WEIGHTS_NAME ": %s: missing",
                                tensor.name);
            goto end;
        }
        float *larger =
            seam_mem_realloc(values, (size_t)tensor.rows * tensor.cols * sizeof *values);
        if (larger == NULL) {
            st = seam_error_set(err, SEAM_E_MEMORY, "no memory to check %s", tensor.name);
            goto end;
        }
        values = larger;
        SEAM_TRY_GOTO(entry_read(values, entry, &tensor, data, data_bytes, err), st, end);
    }
    const size_t others = json_object_get(header, "__metadata__") != NULL ? 1 : 0;
    if (json_object_size(header) != count + others) {
        st = seam_error_set(err, SEAM_E_FORMAT,
                            SEAM_PEFT_WEIGHTS_NAME ": %zu tensors, the adapter has %u",
                            json_object_size(header) - others, count);
    }
end:
    seam_mem_free(values);
    return st;
}

static uint32_t type_bytes(const char *dtype) {
    if (dtype == NULL) {
        return 0;
    }
    return strcmp(dtype, "F32") == 0                                 ? 4
           : strcmp(dtype, "F16") == 0 || strcmp(dtype, "BF16") == 0 ? 2
                                                                     : 0;
}

static float value_at(const uint8_t *bytes, const char *dtype, size_t i) {
    if (dtype[0] == 'B') {
        return seam_bf16_to_f32(seam_get_u16(bytes + 2 * i));
    }
    return dtype[1] == '1' ? seam_fp16_to_f32(seam_get_u16(bytes + 2 * i))
                           : seam_get_f32(bytes + 4 * i);
}

static seam_status entry_read(float *ret, const json_t *entry, const seam_adapter_tensor *tensor,
                              const uint8_t *data, size_t data_bytes, seam_error *err) {
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    const uint32_t item = type_bytes(dtype);
    if (item == 0) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              SEAM_PEFT_WEIGHTS_NAME ": %s: dtype must be F32, F16 or BF16",
                              tensor->name);
    }
    json_int_t rows = -1;
    json_int_t cols = -1;
    json_int_t begin = -1;
    json_int_t end = -1;
    const size_t count = (size_t)tensor->rows * tensor->cols;
    if (json_unpack((json_t *)(uintptr_t)entry, "{s:[I,I!]}", "shape", &rows, &cols) != 0 ||
        rows != tensor->rows || cols != tensor->cols) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              SEAM_PEFT_WEIGHTS_NAME ": %s: shape must be [%u, %u]", tensor->name,
                              tensor->rows, tensor->cols);
    }
    if (json_unpack((json_t *)(uintptr_t)entry, "{s:[I,I!]}", "data_offsets", &begin, &end) != 0 ||
        begin < 0 || end < begin || (uint64_t)end > data_bytes ||
        (uint64_t)(end - begin) != count * item) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              SEAM_PEFT_WEIGHTS_NAME ": %s: data_offsets do not fit the file",
                              tensor->name);
    }
    for (size_t i = 0; i < count; i++) {
        ret[i] = value_at(data + begin, dtype, i);
        if (!isfinite(ret[i])) {
            return seam_error_set(err, SEAM_E_NONFINITE,
                                  SEAM_PEFT_WEIGHTS_NAME ": %s: value %zu is not finite",
                                  tensor->name, i);
        }
    }
    return SEAM_OK;
}
