/* `seam plan`'s first half: what a model and a session of it take on a server. */
#ifndef SEAM_PLAN_SERVER_H
#define SEAM_PLAN_SERVER_H

#include "memory_plan.h"
#include "plan_options.h"

typedef struct seam_plan_server {
    uint64_t weight_bytes;
    seam_memory_plan session;
    uint64_t sessions, rows_largest; /* with --memory */
} seam_plan_server;

/* The options say micro-batches and sequences.  targets: of LoRA, else not read.  SEAM_E_ARG,
 * SEAM_E_LIMIT: err names the option. */
seam_status seam_plan_server_make(seam_plan_server *ret_plan, const seam_plan_options *options,
                                  const seam_model_config *model, uint32_t targets,
                                  seam_error *err);

#endif
