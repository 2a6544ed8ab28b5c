/* The safetensors container: u64 header length, JSON header, data.
 *
 * Checked as the format demands: header at most SEAM_SAFETENSORS_HEADER_MAX bytes and starting
 * with '{'; every tensor's byte count equals dtype x shape; the tensors tile the data section
 * without gap or overlap, to the last byte of the file. */
#ifndef SEAM_SAFETENSORS_H
#define SEAM_SAFETENSORS_H

#include "tensor_index.h"

#define SEAM_SAFETENSORS_HEADER_MAX 100000000

/* Adds the file's tensors to the index (entries borrow `bytes` and `file`).  Shapes of more than
 * two dimensions count as (product of all but the last, last).  SEAM_E_FORMAT, SEAM_E_LIMIT,
 * SEAM_E_UNIMPLEMENTED (a dtype whose width is not known), SEAM_E_MEMORY. */
seam_status seam_safetensors_parse(seam_tensor_index *index, const uint8_t *bytes, size_t count,
                                   const char *file, seam_error *err);

#endif
