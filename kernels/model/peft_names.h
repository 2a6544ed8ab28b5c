/* Names that export and import of PEFT files share. */
#ifndef SEAM_PEFT_NAMES_H
#define SEAM_PEFT_NAMES_H

#include "blocks.h"

/* target_modules' words, in the order of the target bits. */
extern const char *const seam_peft_module_names[SEAM_LORA_TARGETS];

typedef struct seam_layer_range {
    uint32_t begin, end, model_layers;
} seam_layer_range;
/* Layers that the adapter is on. */
seam_layer_range seam_adapter_layers(const seam_adapter *adapter);

#endif
