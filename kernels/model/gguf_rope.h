/* RoPE of a GGUF file: its keys, and the tensors that llama.cpp keeps factors in. */
#ifndef SEAM_GGUF_ROPE_H
#define SEAM_GGUF_ROPE_H

#include "family.h"
#include "gguf.h"

/* Sets rope_theta and rope; config has its sizes and head_dim is at most SEAM_HEAD_DIM_MAX.
 * SEAM_E_FORMAT, SEAM_E_UNIMPLEMENTED, with the key's or tensor's name. */
seam_status seam_gguf_read_rope(seam_model_config *config, const seam_gguf *gguf,
                                const seam_family *family, seam_error *err);
/* Whether a tensor is one of those that seam_gguf_read_rope reads. */
bool seam_gguf_is_rope_tensor(const seam_gguf_tensor *tensor);

#endif
