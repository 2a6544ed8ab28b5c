/* One PEFT adapter and its parts by layers: what two ends, each with LoRA in its own blocks, make
 * of theirs together, and the other way.  Files in memory, as peft.h has them; LoRA only. */
#ifndef SEAM_PEFT_PARTS_H
#define SEAM_PEFT_PARTS_H

#include "peft.h"

#define SEAM_PEFT_PARTS_MAX 3

/* The tensors of all parts under the config of `config_of` but for its layers (layers_to_transform;
 * null where they are all of the model's).  *ret_files is freed with
 * seam_peft_files_deinit.  SEAM_E_FORMAT (a part is none, a tensor is there twice), SEAM_E_MEMORY,
 * SEAM_E_LIMIT. */
seam_status seam_peft_join(seam_peft_files *ret_files, const seam_peft_files *config_of,
                           const seam_peft_files *parts, uint32_t part_count, uint32_t model_layers,
                           seam_error *err);
/* The tensors of layers [layer_begin, layer_end), and how many they are.  SEAM_E_FORMAT: not one.
 */
seam_status seam_peft_split(seam_peft_files *ret_files, uint32_t *ret_tensor_count,
                            const seam_peft_files *files, uint32_t layer_begin, uint32_t layer_end,
                            seam_error *err);
/* All tensors of an adapter's weights. */
seam_status seam_peft_tensor_count(uint32_t *ret_count, const seam_peft_files *files,
                                   seam_error *err);

#endif
