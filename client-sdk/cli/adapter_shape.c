/* See adapter_shape.h. */
#include "adapter_shape.h"

#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "run_files.h"
#include "try.h"

/* Blocks before and behind the trained ones are this end's, as they were when these were trained.
 */
static seam_status layers_shape(seam_session_options *session, const char *path, seam_error *err) {
    json_error_t why;
    json_t *const config = json_load_file(path, 0, &why);
    const json_t *const layers = json_object_get(config, "layers");
    const json_int_t begin = json_integer_value(json_array_get(layers, 0));
    const json_int_t end = json_integer_value(json_array_get(layers, 1));
    const json_int_t all = json_integer_value(json_object_get(config, "model_layers"));
    json_decref(config);
    if (begin < 0 || begin >= end || end > all || all > UINT32_MAX) {
        return seam_error_set(err, SEAM_E_FORMAT, "%.300s: layers or model_layers", path);
    }
    session->full = true;
    session->front_blocks = (uint32_t)begin;
    session->tail_blocks = (uint32_t)(all - end);
    return SEAM_OK;
}

/* 0: it is missing, not above 0, or more than fits. */
static uint32_t count_of(const json_t *config, const char *name) {
    const json_int_t count = json_integer_value(json_object_get(config, name));
    return count > 0 && count <= UINT32_MAX ? (uint32_t)count : 0;
}

seam_status seam_adapter_shape(seam_session_options *session, const char *directory,
                               seam_error *err) {
    static const char *const modules[] = {"q_proj",    "k_proj",    "v_proj",
                                          "o_proj",    "gate_proj", "up_proj",
                                          "down_proj", "qkv_proj",  "gate_up_proj"};
    char path[SEAM_RUN_PATH_BYTES];
    SEAM_TRY(seam_run_path(path, directory, "trained_layers.json", err));
    if (access(path, F_OK) == 0) {
        return layers_shape(session, path, err);
    }
    SEAM_TRY(seam_run_path(path, directory, "adapter_config.json", err));
    json_error_t why;
    json_t *const config = json_load_file(path, 0, &why);
    if (config == NULL) {
        return seam_error_set(err, why.line > 0 ? SEAM_E_FORMAT : SEAM_E_IO, "%.300s: %.100s", path,
                              why.text);
    }
    const char *const type = json_string_value(json_object_get(config, "peft_type"));
    if (type != NULL && strcmp(type, "PREFIX_TUNING") == 0) {
        session->prefix_tokens = count_of(config, "num_virtual_tokens");
        json_decref(config);
        return session->prefix_tokens > 0
                   ? SEAM_OK
                   : seam_error_set(err, SEAM_E_FORMAT, "%.300s: num_virtual_tokens", path);
    }
    const json_t *const targets = json_object_get(config, "target_modules");
    session->lora_rank = count_of(config, "r");
    session->lora_alpha = (float)json_number_value(json_object_get(config, "lora_alpha"));
    session->lora_rslora = json_is_true(json_object_get(config, "use_rslora"));
    uint32_t known = 0;
    session->lora_targets = 0;
    for (uint32_t i = 0; i < sizeof modules / sizeof *modules; i++) {
        for (size_t t = 0; t < json_array_size(targets); t++) {
            const char *const name = json_string_value(json_array_get(targets, t));
            if (name != NULL && strcmp(name, modules[i]) == 0) {
                session->lora_targets |= 1u << i;
                known++;
            }
        }
    }
    const bool good = session->lora_rank > 0 && session->lora_alpha > 0.0f && known > 0 &&
                      known == json_array_size(targets);
    json_decref(config);
    return good
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_FORMAT,
                                "%.300s: r, lora_alpha or target_modules is missing, out of range, "
                                "or names what has no LoRA here",
                                path);
}
