/* Files of full fine-tuning: see layers_files.h.  The weights' bytes are written and read as those
 * of any adapter, peft_export.c and peft_import.c; here is the config beside them. */
#include "layers_files.h"

#include <string.h>

#include <jansson.h>

#include "json_read.h"
#include "json_text.h"
#include "peft_names.h"
#include "try.h"

#define FORMAT           "seam-trained-layers"
#define VERSION          1
#define CONFIG_BYTES_MAX (1u << 20)

static seam_status kind_check(const seam_adapter *adapter, seam_error *err) {
    return seam_adapter_config_of(adapter)->kind == SEAM_ADAPTER_FULL
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_ARG,
                                SEAM_LAYERS_CONFIG_NAME
                                ": the session trains an adapter, not its blocks in full");
}

static seam_status config_write(seam_peft_files *files, const seam_adapter *adapter,
                                const char *base_model) {
    const seam_layer_range range = seam_adapter_layers(adapter);
    json_t *root = json_pack("{s:s, s:i, s:s, s:s, s:[i, i], s:i}", "format", FORMAT, "version",
                             VERSION, "base_model_name_or_path", base_model, "architecture",
                             range.model->architecture, "layers", (int)range.begin, (int)range.end,
                             "model_layers", (int)range.model_layers);
    files->config = (uint8_t *)seam_json_text(&files->config_bytes, root, JSON_INDENT(2));
    json_decref(root);
    return files->config != NULL ? SEAM_OK : SEAM_E_MEMORY;
}

seam_status seam_layers_export(seam_peft_files *ret_files, const seam_adapter *adapter,
                               seam_stream *stream, const char *base_model, seam_error *err) {
    seam_peft_files files = {0};
    seam_status st = SEAM_OK;
    SEAM_TRY(kind_check(adapter, err));
    SEAM_TRY_GOTO(seam_adapter_weights_write(&files, adapter, stream), st, fail);
    SEAM_TRY_GOTO(config_write(&files, adapter, base_model), st, fail);
    SEAM_TRY_GOTO(seam_adapter_weights_compare(adapter, &files, SEAM_LAYERS_WEIGHTS_NAME, err), st,
                  fail_named);
    *ret_files = files;
    return SEAM_OK;
fail:
    seam_peft_files_deinit(&files);
    return seam_error_set(err, st, "export of the layers: %s", seam_status_text(st));
fail_named: /* what was made does not load */
    seam_peft_files_deinit(&files);
    return seam_error_prefix(err, st, "export of the layers");
}

/* ---- reading ---- */

static seam_status field_failed(seam_error *err, const char *field, const char *want) {
    return seam_error_set(err, SEAM_E_FORMAT, SEAM_LAYERS_CONFIG_NAME ": %s: must be %s", field,
                          want);
}

static seam_status fields_check(uint32_t ret_layers[2], const json_t *root,
                                const seam_model_config *model, seam_error *err) {
    const char *format = json_string_value(json_object_get(root, "format"));
    const char *architecture = json_string_value(json_object_get(root, "architecture"));
    const json_t *layers = json_object_get(root, "layers");
    const json_int_t begin = json_integer_value(json_array_get(layers, 0));
    const json_int_t end = json_integer_value(json_array_get(layers, 1));
    if (format == NULL || strcmp(format, FORMAT) != 0) {
        return field_failed(err, "format", FORMAT);
    }
    if (json_integer_value(json_object_get(root, "version")) != VERSION) {
        return field_failed(err, "version", "1");
    }
    if (architecture == NULL || strcmp(architecture, model->architecture) != 0) {
        return field_failed(err, "architecture", model->architecture);
    }
    if (json_integer_value(json_object_get(root, "model_layers")) != (json_int_t)model->layers) {
        return field_failed(err, "model_layers", "those of the model");
    }
    if (json_array_size(layers) != 2 || begin < 0 || begin >= end ||
        end > (json_int_t)model->layers) {
        return field_failed(err, "layers", "a range of the model's");
    }
    ret_layers[0] = (uint32_t)begin;
    ret_layers[1] = (uint32_t)end;
    return SEAM_OK;
}

static seam_status config_read(uint32_t ret_layers[2], const uint8_t *config, size_t config_bytes,
                               const seam_model_config *model, seam_error *err) {
    json_t *root = NULL;
    SEAM_TRY(seam_json_parse(&root, config, config_bytes, CONFIG_BYTES_MAX, SEAM_LAYERS_CONFIG_NAME,
                             err));
    const seam_status st = fields_check(ret_layers, root, model, err);
    json_decref(root);
    return st;
}

seam_status seam_layers_check_config(const uint8_t *config, size_t config_bytes,
                                     const seam_model_config *model, seam_error *err) {
    uint32_t layers[2];
    return config_read(layers, config, config_bytes, model, err);
}

seam_status seam_layers_import(seam_adapter *adapter, seam_stream *stream,
                               const seam_peft_files *files, seam_error *err) {
    const seam_layer_range range = seam_adapter_layers(adapter);
    uint32_t layers[2];
    SEAM_TRY(kind_check(adapter, err));
    SEAM_TRY(config_read(layers, files->config, files->config_bytes, range.model, err));
    if (layers[0] != range.begin || layers[1] != range.end) {
        return field_failed(err, "layers", "the session's");
    }
    return seam_adapter_weights_take(adapter, stream, files, SEAM_LAYERS_WEIGHTS_NAME, err);
}

/* ---- by kind ---- */

static bool is_full(const seam_adapter *adapter) {
    return seam_adapter_config_of(adapter)->kind == SEAM_ADAPTER_FULL;
}

seam_status seam_adapter_export(seam_peft_files *ret_files, const seam_adapter *adapter,
                                seam_stream *stream, const char *base_model, seam_error *err) {
    return is_full(adapter) ? seam_layers_export(ret_files, adapter, stream, base_model, err)
                            : seam_peft_export(ret_files, adapter, stream, base_model, err);
}

seam_status seam_adapter_import(seam_adapter *adapter, seam_stream *stream,
                                const seam_peft_files *files, seam_error *err) {
    return is_full(adapter) ? seam_layers_import(adapter, stream, files, err)
                            : seam_peft_import(adapter, stream, files, err);
}

seam_adapter_file_names seam_adapter_files_of(const seam_adapter *adapter) {
    return is_full(adapter)
               ? (seam_adapter_file_names){SEAM_LAYERS_WEIGHTS_NAME, SEAM_LAYERS_CONFIG_NAME}
               : (seam_adapter_file_names){SEAM_PEFT_WEIGHTS_NAME, SEAM_PEFT_CONFIG_NAME};
}
