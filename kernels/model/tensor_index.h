/* Where each tensor of an open model lies: filled by a file reader, sorted once, then looked up
 * by Hugging Face name.  Entries borrow the mapped bytes. */
#ifndef SEAM_TENSOR_INDEX_H
#define SEAM_TENSOR_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "dequantize.h"
#include "seam_status.h"

#define SEAM_TENSORS_MAX 65536

typedef struct seam_tensor_entry {
    char name[128]; /* SEAM_NAME_BYTES */
    char type_name[16];
    const char *file; /* borrowed; for error texts */
    seam_tensor_type type;
    uint32_t unpermute_head_dim; /* GGUF q and k: rows of a head are interleaved; 0: they are not */
    uint64_t rows, cols;         /* a vector has rows = 1 */
    const uint8_t *bytes;
} seam_tensor_entry;

typedef struct seam_tensor_index {
    seam_tensor_entry *entries;
    size_t count, capacity;
} seam_tensor_index;

void seam_tensor_index_deinit(seam_tensor_index *index);
/* Appends a copy.  SEAM_E_MEMORY, SEAM_E_LIMIT. */
seam_status seam_tensor_index_add(seam_tensor_index *index, const seam_tensor_entry *entry,
                                  seam_error *err);
/* Sorts by name; SEAM_E_FORMAT when two have the same. */
seam_status seam_tensor_index_finish(seam_tensor_index *index, seam_error *err);
/* NULL when absent.  After finish. */
const seam_tensor_entry *seam_tensor_index_find(const seam_tensor_index *index, const char *name);

#endif
