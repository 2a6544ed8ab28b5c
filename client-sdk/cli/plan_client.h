/* `seam plan`'s other half: what the client takes, by the same options. */
#ifndef SEAM_PLAN_CLIENT_H
#define SEAM_PLAN_CLIENT_H

#include "cli.h"
#include "client_plan.h"

typedef struct seam_plan_client {
    seam_client_memory memory;
    char backend[128]; /* what would run the products here */
} seam_plan_client;

typedef struct seam_plan_client_args {
    const seam_model_config *model;
    bool bf16_table; /* every value of the embedding is one of bf16 */
    bool f32;        /* products in f32 even where this processor has bf16 units */
    const seam_session_options *session;
} seam_plan_client_args;

/* A model's shape and the type of its embedding, of a folder or .gguf file; the weights are not
 * read.  What seam_weights_open returns. */
seam_status seam_plan_model_read(seam_model_config *ret_model, bool *ret_bf16_table,
                                 const char *path, seam_error *err);
/* On this machine's CPU.  SEAM_E_ARG, SEAM_E_LIMIT, SEAM_E_MEMORY; err names the field. */
seam_status seam_plan_client_make(seam_plan_client *ret_plan, const seam_plan_client_args *args,
                                  seam_error *err);
json_t *seam_plan_client_json(const seam_plan_client *plan);
void seam_plan_client_print(const seam_plan_client *plan);

#endif
