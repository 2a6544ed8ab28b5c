/* Writes the safetensors container into memory: u64 LE header length, JSON header, tensors.
 *
 * Reading it is weights.h's part.  Any thread. */
#ifndef SEAM_SAFETENSORS_WRITE_H
#define SEAM_SAFETENSORS_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

typedef struct seam_safetensors_entry {
    const char *name;    /* needs no JSON escape: asserted */
    uint32_t rows, cols; /* rows 0: a vector, of shape [cols] */
} seam_safetensors_entry;

/* Lays out a file of F32 tensors in the given order, metadata {"format": "pt"}.
 * *ret_bytes (the caller frees it with seam_mem_free) has the header filled in and zeros for
 * data; *ret_data_begin is the offset of the first tensor, a multiple of 8; the others follow
 * without gaps.  SEAM_E_MEMORY, SEAM_E_LIMIT. */
seam_status seam_safetensors_layout(uint8_t **ret_bytes, size_t *ret_count, size_t *ret_data_begin,
                                    const seam_safetensors_entry *entries, size_t entry_count);

#endif
