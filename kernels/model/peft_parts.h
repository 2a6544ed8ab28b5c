/* One PEFT adapter and its parts by layers: what two ends, each with LoRA or a prefix in its own
 * blocks, make of theirs together, and the other way.  Files in memory, as peft.h has them; a part
 * of a prefix has the layers' columns and their count in its config, and is of no use alone. */
#ifndef SEAM_PEFT_PARTS_H
#define SEAM_PEFT_PARTS_H

#include "peft.h"

#define SEAM_PEFT_PARTS_MAX 3

/* The tensors of all parts, which come in the order of their layers, under the config of
 * `config_of` but for its layers (LoRA: layers_to_transform, null where they are all of the
 * model's; a prefix: num_layers).  *ret_files is freed with seam_peft_files_deinit.  SEAM_E_FORMAT
 * (a part is none, a tensor is there twice, a prefix lacks layers), SEAM_E_MEMORY, SEAM_E_LIMIT. */
seam_status seam_peft_join(seam_peft_files *ret_files, const seam_peft_files *config_of,
                           const seam_peft_files *parts, uint32_t part_count, uint32_t model_layers,
                           seam_error *err);

typedef struct seam_peft_range {
    uint32_t begin, end; /* layers, begin < end <= model_layers */
    uint32_t model_layers;
} seam_peft_range;
/* The tensors of the layers, and of how many tensors of the file they are all: of a prefix, whose
 * one tensor has every layer, 1 with its last layer, else 0.  SEAM_E_FORMAT: not one. */
seam_status seam_peft_split(seam_peft_files *ret_files, uint32_t *ret_tensor_count,
                            const seam_peft_files *files, const seam_peft_range *range,
                            seam_error *err);
/* All tensors of an adapter's weights. */
seam_status seam_peft_tensor_count(uint32_t *ret_count, const seam_peft_files *files,
                                   seam_error *err);

#endif
