/* Import of an adapter from PEFT's two files: see peft.h.
 *
 * The bytes come from a peer or a disk: every offset and count is checked, every key must be one
 * of the adapter's, and nothing of the adapter changes before the whole file has passed. */
#include <math.h>
#include <string.h>

#include "arena.h"
#include "json_read.h"
#include "peft.h"
#include "peft_names.h"
#include "safetensors.h"
#include "try.h"

#define CONFIG_BYTES_MAX (1u << 20)

static seam_status config_type(bool *ret_prefix, const json_t *root, seam_error *err);
static seam_status prefix_read(seam_adapter_config *ret, const json_t *root, seam_error *err);
static seam_status config_fields_check(const json_t *root, seam_error *err);
static seam_status targets_read(uint32_t *ret_targets, const json_t *root, seam_error *err);

seam_status seam_peft_read_config(seam_adapter_config *ret_config, const uint8_t *config,
                                  size_t config_bytes, seam_error *err) {
    json_t *root = NULL;
    SEAM_TRY(
        seam_json_parse(&root, config, config_bytes, CONFIG_BYTES_MAX, SEAM_PEFT_CONFIG_NAME, err));
    seam_status st = SEAM_OK;
    seam_lora_config read = {0};
    bool is_prefix = false;
    SEAM_TRY_GOTO(config_type(&is_prefix, root, err), st, end);
    if (is_prefix) {
        st = prefix_read(ret_config, root, err);
        goto end;
    }
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
    read.rslora = json_is_true(json_object_get(root, "use_rslora"));
    *ret_config = (seam_adapter_config){.kind = SEAM_ADAPTER_LORA, .lora = read};
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

static seam_status config_type(bool *ret_prefix, const json_t *root, seam_error *err) {
    if (!json_is_object(root)) {
        return seam_error_set(err, SEAM_E_FORMAT, SEAM_PEFT_CONFIG_NAME ": must be an object");
    }
    const char *type = json_string_value(json_object_get(root, "peft_type"));
    *ret_prefix = type != NULL && strcmp(type, "PREFIX_TUNING") == 0;
    if (!*ret_prefix && (type == NULL || strcmp(type, "LORA") != 0)) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              SEAM_PEFT_CONFIG_NAME
                              ": peft_type: only \"LORA\" and \"PREFIX_TUNING\" are implemented");
    }
    return SEAM_OK;
}

static seam_status prefix_read(seam_adapter_config *ret, const json_t *root, seam_error *err) {
    const json_int_t tokens = json_integer_value(json_object_get(root, "num_virtual_tokens"));
    const json_t *submodules = json_object_get(root, "num_transformer_submodules");
    if (!is_off(json_object_get(root, "prefix_projection"), NULL)) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              SEAM_PEFT_CONFIG_NAME ": prefix_projection: not implemented");
    }
    if (!is_off(submodules, NULL) && json_integer_value(submodules) != 1) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              SEAM_PEFT_CONFIG_NAME
                              ": num_transformer_submodules: only 1 is implemented");
    }
    if (tokens < 1 || tokens > SEAM_PREFIX_MAX) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              SEAM_PEFT_CONFIG_NAME ": num_virtual_tokens: must be 1..%d",
                              SEAM_PREFIX_MAX);
    }
    *ret =
        (seam_adapter_config){.kind = SEAM_ADAPTER_PREFIX, .prefix = {.tokens = (uint32_t)tokens}};
    return SEAM_OK;
}

/* Everything in peft's LoraConfig that changes which numbers the adapter adds. */
static seam_status config_fields_check(const json_t *root, seam_error *err) {
    static const struct {
        const char *name, *harmless;
    } fields[] = {
        {"use_dora", NULL},
        {"rank_pattern", NULL},
        {"alpha_pattern", NULL},
        {"bias", "none"},
        {"lora_bias", NULL},
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

/* A field of the config that must be absent, or the model's. */
static seam_status shape_compare(const json_t *root, const char *name, uint32_t own,
                                 seam_error *err) {
    const json_t *value = json_object_get(root, name);
    if (value == NULL || json_is_null(value) || json_integer_value(value) == own) {
        return SEAM_OK;
    }
    return seam_error_set(err, SEAM_E_FORMAT,
                          SEAM_PEFT_CONFIG_NAME ": %s: is %lld, the model has %u", name,
                          (long long)json_integer_value(value), own);
}

static seam_status prefix_compare(const seam_adapter *adapter, const seam_adapter_config *read,
                                  const seam_peft_files *files, seam_error *err) {
    const uint32_t tokens = seam_adapter_config_of(adapter)->prefix.tokens;
    const seam_prefix_shape shape = seam_adapter_prefix_shape(adapter);
    if (read->prefix.tokens != tokens) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              SEAM_PEFT_CONFIG_NAME
                              ": num_virtual_tokens: is %u, the session has %u",
                              read->prefix.tokens, tokens);
    }
    json_t *root = NULL;
    SEAM_TRY(seam_json_parse(&root, files->config, files->config_bytes, CONFIG_BYTES_MAX,
                             SEAM_PEFT_CONFIG_NAME, err));
    seam_status st = shape_compare(root, "num_layers", shape.layers, err);
    st = st != SEAM_OK ? st : shape_compare(root, "num_attention_heads", shape.heads, err);
    st = st != SEAM_OK ? st : shape_compare(root, "token_dim", shape.token_dim, err);
    json_decref(root);
    return st;
}

static seam_status config_compare(const seam_adapter *adapter, const seam_peft_files *files,
                                  seam_error *err) {
    seam_adapter_config found = {0};
    SEAM_TRY(seam_peft_read_config(&found, files->config, files->config_bytes, err));
    const seam_adapter_kind kind = seam_adapter_config_of(adapter)->kind;
    if (kind == SEAM_ADAPTER_FULL) {
        return seam_error_set(err, SEAM_E_ARG, "import: the session trains its blocks in full");
    }
    if (found.kind != kind) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              SEAM_PEFT_CONFIG_NAME ": peft_type: is %s, the session has %s",
                              found.kind == SEAM_ADAPTER_PREFIX ? "PREFIX_TUNING" : "LORA",
                              kind == SEAM_ADAPTER_PREFIX ? "a prefix" : "LoRA");
    }
    if (kind == SEAM_ADAPTER_PREFIX) {
        return prefix_compare(adapter, &found, files, err);
    }
    const seam_lora_config *own = &seam_adapter_config_of(adapter)->lora;
    const seam_lora_config read = found.lora;
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
    if (read.rslora != own->rslora) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              SEAM_PEFT_CONFIG_NAME ": use_rslora: is %s, the session has %s",
                              read.rslora ? "true" : "false", own->rslora ? "true" : "false");
    }
    if (read.targets != own->targets) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              SEAM_PEFT_CONFIG_NAME
                              ": target_modules: not the projections of the session");
    }
    return SEAM_OK;
}

/* Reads one tensor; values must have room for it. */
static seam_status tensor_read(float *ret, const seam_tensor_index *index,
                               const seam_adapter_tensor *tensor, const char *file,
                               seam_error *err) {
    const seam_tensor_entry *entry = seam_tensor_index_find(index, tensor->name);
    if (entry == NULL) {
        return seam_error_set(err, SEAM_E_FORMAT, "%s: %s: missing", file, tensor->name);
    }
    if (entry->rows != tensor->rows || entry->cols != tensor->cols) {
        return seam_error_set(err, SEAM_E_FORMAT, "%s: %s: shape must be [%u, %u]", file,
                              tensor->name, tensor->rows, tensor->cols);
    }
    if (entry->type != SEAM_TENSOR_F32 && entry->type != SEAM_TENSOR_F16 &&
        entry->type != SEAM_TENSOR_BF16) {
        return seam_error_set(err, SEAM_E_FORMAT, "%s: %s: dtype must be F32, F16 or BF16", file,
                              tensor->name);
    }
    const size_t count = (size_t)tensor->rows * tensor->cols;
    seam_dequantize(ret, entry->type, entry->bytes, count);
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(ret[i])) {
            return seam_error_set(err, SEAM_E_NONFINITE, "%s: %s: value %zu is not finite", file,
                                  tensor->name, i);
        }
    }
    return SEAM_OK;
}

static size_t largest_tensor(const seam_adapter *adapter) {
    size_t largest = 0;
    for (uint32_t i = 0; i < seam_adapter_tensor_count(adapter); i++) {
        seam_adapter_tensor tensor;
        seam_adapter_describe(&tensor, adapter, i);
        const size_t count = (size_t)tensor.rows * tensor.cols;
        largest = count > largest ? count : largest;
    }
    return largest;
}

/* The weights of an adapter, open. */
typedef struct reading {
    seam_tensor_index index;
    float *values; /* room for the largest tensor */
} reading;

static void reading_deinit(reading *r) {
    seam_mem_free(r->values);
    seam_tensor_index_deinit(&r->index);
}

/* Opens the file and reads every tensor once: what it returns SEAM_OK for can be taken over. */
static seam_status reading_init(reading *r, const seam_adapter *adapter,
                                const seam_peft_files *files, const char *file, seam_error *err) {
    const uint32_t count = seam_adapter_tensor_count(adapter);
    SEAM_TRY(seam_safetensors_parse(&r->index, files->weights, files->weights_bytes, file, err));
    SEAM_TRY(seam_tensor_index_finish(&r->index, err));
    if (r->index.count > count) {
        return seam_error_set(err, SEAM_E_FORMAT, "%s: %zu tensors, the adapter has %u", file,
                              r->index.count, count);
    }
    r->values = seam_mem_zalloc(largest_tensor(adapter), sizeof *r->values);
    if (r->values == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "no memory to read an adapter");
    }
    for (uint32_t i = 0; i < count; i++) {
        seam_adapter_tensor tensor;
        seam_adapter_describe(&tensor, adapter, i);
        SEAM_TRY(tensor_read(r->values, &r->index, &tensor, file, err));
    }
    return SEAM_OK;
}

seam_status seam_adapter_weights_compare(const seam_adapter *adapter, const seam_peft_files *files,
                                         const char *file, seam_error *err) {
    reading r = {.values = NULL};
    const seam_status st = reading_init(&r, adapter, files, file, err);
    reading_deinit(&r);
    return st;
}

seam_status seam_adapter_weights_take(seam_adapter *adapter, seam_stream *stream,
                                      const seam_peft_files *files, const char *file,
                                      seam_error *err) {
    reading r = {.values = NULL};
    seam_status st = reading_init(&r, adapter, files, file, err);
    for (uint32_t i = 0; st == SEAM_OK && i < seam_adapter_tensor_count(adapter); i++) {
        seam_adapter_tensor tensor;
        seam_adapter_describe(&tensor, adapter, i);
        st = tensor_read(r.values, &r.index, &tensor, file, err);
        if (st == SEAM_OK) {
            st = seam_adapter_write(adapter, stream, i, r.values);
        }
    }
    reading_deinit(&r);
    return st;
}

seam_status seam_peft_compare(const seam_adapter *adapter, const seam_peft_files *files,
                              seam_error *err) {
    SEAM_TRY(config_compare(adapter, files, err));
    return seam_adapter_weights_compare(adapter, files, SEAM_PEFT_WEIGHTS_NAME, err);
}

seam_status seam_peft_import(seam_adapter *adapter, seam_stream *stream,
                             const seam_peft_files *files, seam_error *err) {
    SEAM_TRY(config_compare(adapter, files, err));
    return seam_adapter_weights_take(adapter, stream, files, SEAM_PEFT_WEIGHTS_NAME, err);
}
