/* A GGUF file of one of the families (family/) as Hugging Face config and tensor names. */
#ifndef SEAM_GGUF_MODEL_H
#define SEAM_GGUF_MODEL_H

#include "gguf.h"
#include "model_config.h"
#include "tensor_index.h"

/* Metadata -> config (name left empty), directory -> index.  SEAM_E_NOT_FOUND, SEAM_E_FORMAT,
 * SEAM_E_ARG, SEAM_E_UNIMPLEMENTED (architecture, form of RoPE, experts, unknown tensor names),
 * SEAM_E_MEMORY; the key or tensor is named. */
seam_status seam_gguf_model_read(seam_model_config *ret_config, seam_tensor_index *index,
                                 const seam_gguf *gguf, seam_error *err);

/* For families: an integer that must be absent or 0.  SEAM_E_UNIMPLEMENTED. */
seam_status seam_gguf_check_zero(const seam_gguf *gguf, const char *key, seam_error *err);

#endif
