/* The hash of a session's config, which every attach compares.  WIRE.md section 6.  Pure; any
 * thread.  (The identity of a model is kernels/model/model_config.h.) */
#ifndef SEAM_CONFIG_HASH_H
#define SEAM_CONFIG_HASH_H

#include <stdint.h>

#include "seam/v1/types.pb-c.h"

/* Over the fields in the order of WIRE.md, never over a protobuf encoding.  An absent message
 * counts as one whose fields are all zero.  Hash the config as CreateSession returned it. */
uint64_t seam_config_hash(const Seam__V1__SessionConfig *config);

#endif
