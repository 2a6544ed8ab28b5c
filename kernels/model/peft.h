/* PEFT adapter files, in memory: what peft, vLLM and transformers load.
 *
 * Two files: SEAM_PEFT_WEIGHTS_NAME (safetensors, F32, keys as seam_adapter_describe names them)
 * and SEAM_PEFT_CONFIG_NAME (JSON).  The server streams these bytes; the client writes them with
 * seam_file_write_atomic (base/file_write.h).  Full fine-tuning has files of its own:
 * layers_files.h. */
#ifndef SEAM_PEFT_H
#define SEAM_PEFT_H

#include <stddef.h>
#include <stdint.h>

#include "blocks.h"

#define SEAM_PEFT_WEIGHTS_NAME "adapter_model.safetensors"
#define SEAM_PEFT_CONFIG_NAME  "adapter_config.json"

typedef struct seam_peft_files {
    uint8_t *weights, *config; /* config is not zero-terminated */
    size_t weights_bytes, config_bytes;
} seam_peft_files;

/* *ret_files is freed with seam_peft_files_deinit, and would be taken by an import: that was tried.
 * base_model: what goes into base_model_name_or_path.  SEAM_E_MEMORY, SEAM_E_LIMIT,
 * SEAM_E_DEVICE_LOST, SEAM_E_NONFINITE (a value of the adapter, named), SEAM_E_ARG (full
 * fine-tuning). */
seam_status seam_peft_export(seam_peft_files *ret_files, const seam_adapter *adapter,
                             seam_stream *stream, const char *base_model, seam_error *err);
void seam_peft_files_deinit(seam_peft_files *files);

/* LoRA's rank, alpha, rslora and targets, or a prefix's tokens, of a config file, for
 * seam_adapter_create (seed and dropout 0: what an adapter was trained with is no part of what it
 * computes).  SEAM_E_FORMAT for bad JSON or a missing field; SEAM_E_UNIMPLEMENTED, with the field's
 * name, for what changes the math and is not done here (use_dora, rank_pattern, bias,
 * modules_to_save, prefix_projection, ...). */
seam_status seam_peft_read_config(seam_adapter_config *ret_config, const uint8_t *config,
                                  size_t config_bytes, seam_error *err);

/* Sets every tensor of an adapter.  The config must have the adapter's rank, alpha, rslora and
 * targets, or be a prefix of its tokens on its model; the weights exactly its keys and shapes, F32,
 * F16 or BF16, finite: SEAM_E_FORMAT, SEAM_E_NONFINITE, with the key in err; nothing is changed
 * then.  Moments and step count are left as they are. */
seam_status seam_peft_import(seam_adapter *adapter, seam_stream *stream,
                             const seam_peft_files *files, seam_error *err);

#endif
