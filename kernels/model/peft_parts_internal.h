/* Internal to model/: what the parts of LoRA (peft_parts.c) and of a prefix (peft_prefix_parts.c)
 * have in common. */
#ifndef SEAM_PEFT_PARTS_INTERNAL_H
#define SEAM_PEFT_PARTS_INTERNAL_H

#include <jansson.h>

#include "peft_parts.h"

/* The config's bytes; of the files nothing else changes.  SEAM_E_MEMORY. */
seam_status seam_peft_config_dump(seam_peft_files *files, const json_t *root, seam_error *err);

/* seam_peft_join and seam_peft_split for a prefix; the parts come in the order of their layers. */
seam_status seam_peft_prefix_join(seam_peft_files *ret_files, const seam_peft_files *config_of,
                                  const seam_peft_files *parts, uint32_t part_count,
                                  uint32_t model_layers, seam_error *err);
seam_status seam_peft_prefix_split(seam_peft_files *ret_files, const seam_peft_files *files,
                                   const seam_peft_range *range, seam_error *err);

#endif
