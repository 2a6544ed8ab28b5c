/* Names that export and import of PEFT files share. */
#ifndef SEAM_PEFT_NAMES_H
#define SEAM_PEFT_NAMES_H

#include "blocks.h"
#include "peft.h"

/* target_modules' words, in the order of the target bits. */
extern const char *const seam_peft_module_names[SEAM_LORA_TARGETS];

typedef struct seam_layer_range {
    uint32_t begin, end, model_layers;
    const seam_model_config *model;
} seam_layer_range;
/* Layers that the adapter is on. */
seam_layer_range seam_adapter_layers(const seam_adapter *adapter);

/* What PEFT's prefix config says of the model: heads and width of a token's keys, layers. */
typedef struct seam_prefix_shape {
    uint32_t heads, token_dim, layers;
} seam_prefix_shape;
seam_prefix_shape seam_adapter_prefix_shape(const seam_adapter *adapter);

/* Whether an import of the files would be taken: the config, and every tensor's name, shape and
 * values.  The errors are seam_peft_import's. */
seam_status seam_peft_compare(const seam_adapter *adapter, const seam_peft_files *files,
                              seam_error *err);

/* The weights file alone, whatever it is called (`file`, for texts): every tensor of the adapter in
 * F32; whether a file has exactly those, finite; and taking one over that has. */
seam_status seam_adapter_weights_write(seam_peft_files *files, const seam_adapter *adapter,
                                       seam_stream *stream);
seam_status seam_adapter_weights_compare(const seam_adapter *adapter, const seam_peft_files *files,
                                         const char *file, seam_error *err);
seam_status seam_adapter_weights_take(seam_adapter *adapter, seam_stream *stream,
                                      const seam_peft_files *files, const char *file,
                                      seam_error *err);

#endif
