/* Topology adapter_exchange: the adapter and its optimizer, on this machine's CPU in f32, whatever
 * computes the head.  The blocks are the server's; here they are a shape without weights. */
#ifndef SEAM_EXCHANGE_TRAINER_H
#define SEAM_EXCHANGE_TRAINER_H

#include "adapter_modules.h"
#include "peft.h"
#include "seam_model.h"

typedef struct seam_exchange_trainer seam_exchange_trainer;

/* The session's adapter, at its start or as the session's record has it; its modules are told to
 * the session, whose own part it is until destroyed.  Both are borrowed.  SEAM_E_ARG,
 * SEAM_E_UNIMPLEMENTED (what the server would refuse), SEAM_E_MEMORY, SEAM_E_STATE (steps were made
 * and are in no record of this process). */
seam_status seam_exchange_trainer_create(seam_exchange_trainer **ret_trainer, seam_session *session,
                                         const seam_model_config *model, seam_error *err);
void seam_exchange_trainer_destroy(seam_exchange_trainer *gift_trainer);
/* The adapter as PEFT's two files, and its state hash. */
seam_status seam_exchange_trainer_export(seam_peft_files *ret_files, uint64_t *ret_state_hash,
                                         const seam_exchange_trainer *trainer, seam_error *err);
/* SEAM_E_STATE: a step has been made. */
seam_status seam_exchange_trainer_import(seam_exchange_trainer *trainer, const char *directory,
                                         seam_error *err);

#endif
