/* Internal to model/: what a trainer is; split_trainer.c has its step, split_adapter.c its files.
 */
#ifndef SEAM_SPLIT_TRAINER_H
#define SEAM_SPLIT_TRAINER_H

#include "exchange_trainer.h"
#include "own_adapters.h"

#define SEAM_TRAINER_DEPTH_MAX 8 /* of a session's pipeline */

struct seam_trainer {
    seam_session *session;
    seam_model *model;
    seam_training_facts facts;
    seam_own_adapters own;           /* all NULL: the client trains nothing */
    bool is_part;                    /* the session has it */
    seam_exchange_trainer *exchange; /* topology adapter_exchange, else NULL */
    /* Of a micro-batch from its forward to its gradient, by micro % front_count. */
    seam_activations *front_acts[SEAM_TRAINER_DEPTH_MAX];
    uint32_t front_count; /* 0: no front blocks */
    seam_activations *tail_acts;
};

#endif
