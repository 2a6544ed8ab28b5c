/* Options of `seam plan`: those of a run (train_options.h) that it asks about, and its own. */
#ifndef SEAM_PLAN_OPTIONS_H
#define SEAM_PLAN_OPTIONS_H

#include "train_options.h"

typedef struct seam_plan_options {
    seam_train_options run;            /* its `device` is not asked for */
    const char *shape;                 /* of plan_shapes.h, in the place of run.model */
    const char *device, *dtype;        /* of the server */
    uint32_t depth;                    /* of run.pipeline_depth; 0: auto */
    uint32_t micros, sequences;        /* 0: not given */
    uint32_t join_rank, join_mlp_rank; /* of the server; 0: not given */
    float memory_gib;                  /* 0: not given */
    bool plaintext;
} seam_plan_options;

/* Defaults that do not go by the rows, which may say micros, sequences and run.rows_max.  Help
 * asked for: nothing is checked.  SEAM_E_ARG names the option. */
seam_status seam_plan_options_parse(seam_plan_options *ret_options, int argc, char **argv,
                                    int first, seam_error *err);
void seam_plan_options_help(void);
/* What goes by the model.  SEAM_E_ARG names the option. */
seam_status seam_plan_split_check(const seam_plan_options *options, uint32_t layers,
                                  seam_error *err);
bool seam_plan_is_lora(const seam_plan_options *options);
bool seam_plan_on_cuda(const seam_plan_options *options); /* the server */

#endif
