/* What a session must be to take an adapter, as its files say. */
#ifndef SEAM_ADAPTER_SHAPE_H
#define SEAM_ADAPTER_SHAPE_H

#include "seam.h"
#include "seam_model.h"

/* Into the fields of session that say what is trained: trained layers, a prefix's tokens, or LoRA's
 * rank, alpha and targets.  SEAM_E_IO, SEAM_E_FORMAT. */
seam_status seam_adapter_shape(seam_session_options *session, const char *directory,
                               seam_error *err);

#endif
