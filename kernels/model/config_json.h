/* config.json of a Hugging Face model of one of the families (family/) -> seam_model_config. */
#ifndef SEAM_CONFIG_JSON_H
#define SEAM_CONFIG_JSON_H

#include <stddef.h>

#include "model_config.h"

/* Missing fields take the defaults of transformers' config class; fields that would change the math
 * are refused by name.  `file` is for error texts; ret_config->name is left empty. SEAM_E_FORMAT,
 * SEAM_E_ARG, SEAM_E_UNIMPLEMENTED, SEAM_E_LIMIT. */
seam_status seam_config_json_parse(seam_model_config *ret_config, const void *bytes, size_t count,
                                   const char *file, seam_error *err);

#endif
