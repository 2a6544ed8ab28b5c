/* A GGUF file of the llama architecture as Hugging Face config and tensor names. */
#ifndef SEAM_GGUF_LLAMA_H
#define SEAM_GGUF_LLAMA_H

#include "gguf.h"
#include "model_config.h"
#include "tensor_index.h"

/* Metadata -> config (name left empty), directory -> index.  SEAM_E_NOT_FOUND, SEAM_E_FORMAT,
 * SEAM_E_ARG, SEAM_E_UNIMPLEMENTED (architecture, RoPE scaling, experts, unknown tensor names),
 * SEAM_E_MEMORY; the key or tensor is named. */
seam_status seam_gguf_llama_read(seam_model_config *ret_config, seam_tensor_index *index,
                                 const seam_gguf *gguf, seam_error *err);

#endif
