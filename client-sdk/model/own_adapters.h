/* Internal to model/: LoRA or a prefix in the blocks of this end, with its optimizer: what a
 * session calls the caller's own part (seam.h). */
#ifndef SEAM_OWN_ADAPTERS_H
#define SEAM_OWN_ADAPTERS_H

#include "local_model.h"

typedef struct seam_own_adapters {
    seam_model *model;
    seam_adapter *front, *tail; /* NULL: no such blocks */
    seam_optimizer_config optimizer;
} seam_own_adapters;

/* LoRA or a prefix as the session has it, in the model's front and tail blocks; the model's
 * adapters are these until deinit.  SEAM_E_MEMORY, and what an adapter's creation returns. */
seam_status seam_own_adapters_init(seam_own_adapters *own, seam_model *model,
                                   const seam_training_facts *facts, seam_error *err);
void seam_own_adapters_deinit(seam_own_adapters *own);
/* Points into own. */
seam_own_part seam_own_adapters_part(seam_own_adapters *own);
/* What a step that was given up has added. */
seam_status seam_own_adapters_drop(seam_own_adapters *own);
/* What the session trains at this end, as the kernels want it. */
seam_adapter_config seam_own_adapter_config(const seam_training_facts *facts);

/* What a gradient needs of the blocks of this end, in the front or the tail; *ret_config is pointed
 * to by *ret_options.  And of how many micro-batches of the front at once: of each that may be on
 * its way, where something is trained there. */
void seam_own_activations(seam_activations_options *ret_options, seam_adapter_config *ret_config,
                          const seam_training_facts *facts, bool is_tail);
uint32_t seam_own_front_sets(const seam_training_facts *facts, uint32_t depth);

#endif
