/* RoPE of a config.json: rope_theta with rope_scaling, or the newer rope_parameters. */
#ifndef SEAM_CONFIG_ROPE_H
#define SEAM_CONFIG_ROPE_H

#include "config_reader.h"
#include "family.h"

/* Sets rope_theta and rope; config has its sizes.  SEAM_E_FORMAT, SEAM_E_UNIMPLEMENTED (a form that
 * the family does not have), with the field's name. */
seam_status seam_config_read_rope(seam_model_config *config, const seam_config_reader *r,
                                  const seam_family *family);

#endif
