/* Topology adapter_exchange: the adapter and its optimizer, on this machine's CPU in f32, whatever
 * computes the head.  The blocks are the server's; here they are a shape without weights. */
#ifndef SEAM_EXCHANGE_TRAINER_H
#define SEAM_EXCHANGE_TRAINER_H

#include "adapter_modules.h"
#include "peft.h"
#include "seam_model.h"

typedef struct seam_exchange_trainer seam_exchange_trainer;

/* The session's adapter at its start, and its modules told to the session.  Both are borrowed.
 * SEAM_E_ARG, SEAM_E_UNIMPLEMENTED (what the server would refuse), SEAM_E_MEMORY. */
seam_status seam_exchange_trainer_create(seam_exchange_trainer **ret_trainer, seam_session *session,
                                         const seam_model_config *model, seam_error *err);
void seam_exchange_trainer_destroy(seam_exchange_trainer *gift_trainer);
/* After the commit that brought the step's gradients: the step of the optimizer.
 * SEAM_E_NONDETERMINISM: the server's adapter is another one now. */
seam_status seam_exchange_trainer_apply(seam_exchange_trainer *trainer,
                                        const seam_step_report *report, seam_error *err);
/* The adapter as PEFT's two files, and its state hash. */
seam_status seam_exchange_trainer_export(seam_peft_files *ret_files, uint64_t *ret_state_hash,
                                         const seam_exchange_trainer *trainer, seam_error *err);
/* SEAM_E_STATE: a step has been made. */
seam_status seam_exchange_trainer_import(seam_exchange_trainer *trainer, const char *directory,
                                         seam_error *err);

#endif
