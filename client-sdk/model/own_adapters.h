/* Internal to model/: LoRA in the blocks of this end, with its optimizer: what a session calls the
 * caller's own part (seam.h). */
#ifndef SEAM_OWN_ADAPTERS_H
#define SEAM_OWN_ADAPTERS_H

#include "local_model.h"

typedef struct seam_own_adapters {
    seam_model *model;
    seam_adapter *front, *tail; /* NULL: no such blocks */
    seam_optimizer_config optimizer;
} seam_own_adapters;

/* LoRA as the session has it, in the model's front and tail blocks; the model's adapters are these
 * until deinit.  SEAM_E_MEMORY, and what an adapter's creation returns. */
seam_status seam_own_adapters_init(seam_own_adapters *own, seam_model *model,
                                   const seam_training_facts *facts, seam_error *err);
void seam_own_adapters_deinit(seam_own_adapters *own);
/* Points into own. */
seam_own_part seam_own_adapters_part(seam_own_adapters *own);
/* What a step that was given up has added. */
seam_status seam_own_adapters_drop(seam_own_adapters *own);
/* The session's LoRA as the kernels want it. */
seam_adapter_config seam_own_adapter_config(const seam_training_facts *facts);

#endif
