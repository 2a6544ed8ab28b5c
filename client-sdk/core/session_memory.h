/* What a session will take at this end, for plans: `seam plan`, model/client_plan.c.  Not part of
 * libseam's manual. */
#ifndef SEAM_SESSION_MEMORY_H
#define SEAM_SESSION_MEMORY_H

#include "module_link.h"
#include "seam.h"

/* A session that there is no server for. */
typedef struct seam_sketch_args {
    const seam_session_options *options;
    uint32_t channels;             /* the model's hidden size */
    const seam_module_pair *pairs; /* read with topology adapter_exchange */
    uint32_t pair_count;
} seam_sketch_args;

/* What a session of these options takes of this process at most, before there is one, beside what
 * gRPC has: when it is created; caches of codec aqsgd (files where it has a cache_dir); and what a
 * step of micros_per_step_max full micro-batches adds, kept until its commit. */
typedef struct seam_session_memory {
    uint64_t fixed_bytes, cache_bytes, step_bytes;
    seam_training_facts training; /* of such a session */
    uint32_t pipeline_depth;
} seam_session_memory;
/* SEAM_E_ARG (err names the field; topology adapter_exchange without pairs), SEAM_E_UNIMPLEMENTED,
 * SEAM_E_LIMIT (rows that no frame holds), SEAM_E_MEMORY. */
seam_status seam_session_memory_plan(seam_session_memory *ret_memory, const seam_sketch_args *args,
                                     seam_error *err);

#endif
