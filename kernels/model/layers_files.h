/* What full fine-tuning leaves, as files in memory: the trained layers of a model.
 *
 * SEAM_LAYERS_WEIGHTS_NAME is safetensors in F32 (the master's values) with the names and shapes of
 * the model's own Hugging Face files; SEAM_LAYERS_CONFIG_NAME says of which model and layers:
 *
 *   {"format": "seam-trained-layers", "version": 1, "base_model_name_or_path": "...",
 *    "architecture": "llama", "layers": [0, 32], "model_layers": 32}
 *
 * merge.h makes a whole model of them and the base.  Both travel like PEFT's two files. */
#ifndef SEAM_LAYERS_FILES_H
#define SEAM_LAYERS_FILES_H

#include "peft.h"

#define SEAM_LAYERS_WEIGHTS_NAME "trained_layers.safetensors"
#define SEAM_LAYERS_CONFIG_NAME  "trained_layers.json"

/* As seam_peft_export and seam_peft_import, for a SEAM_ADAPTER_FULL; any other is SEAM_E_ARG.
 * import: the config must name the model's architecture and the adapter's layers. */
seam_status seam_layers_export(seam_peft_files *ret_files, const seam_adapter *adapter,
                               seam_stream *stream, const char *base_model, seam_error *err);
seam_status seam_layers_import(seam_adapter *adapter, seam_stream *stream,
                               const seam_peft_files *files, seam_error *err);

/* Either kind of files, by the adapter's. */
seam_status seam_adapter_export(seam_peft_files *ret_files, const seam_adapter *adapter,
                                seam_stream *stream, const char *base_model, seam_error *err);
seam_status seam_adapter_import(seam_adapter *adapter, seam_stream *stream,
                                const seam_peft_files *files, seam_error *err);
/* Names of the weights and of the config. */
typedef struct seam_adapter_file_names {
    const char *weights, *config;
} seam_adapter_file_names;
seam_adapter_file_names seam_adapter_files_of(const seam_adapter *adapter);

/* Checks a config file against a model: SEAM_E_FORMAT, naming the field. */
seam_status seam_layers_check_config(const uint8_t *config, size_t config_bytes,
                                     const seam_model_config *model, seam_error *err);

#endif
