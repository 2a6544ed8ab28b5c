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

typedef struct seam_plan_server_args {
    const seam_plan_options *options; /* they say micro-batches and sequences */
    const seam_model_config *model;
    bool bf16_table;  /* every value of the embedding is one of bf16 */
    uint32_t targets; /* of LoRA, else not read */
} seam_plan_server_args;
/* Of codecs that go together (plan_wire.h judges them).  SEAM_E_ARG, SEAM_E_LIMIT: err names the
 * option. */
seam_status seam_plan_server_make(seam_plan_server *ret_plan, const seam_plan_server_args *args,
                                  seam_error *err);

#endif
