/* Frozen matrices from files into the device, by several threads at once.
 *
 * All threads together fill a buffer of host_alloc with pread, a slice each, and the last of them
 * has it copied to the device while they fill the next: copies are large, as the link wants them,
 * and the buffers few, so that little has to be pinned before the first copy.  Nothing is mapped (a
 * page fault a 4 KiB would be the bound) and nothing is converted on the host where the device can
 * (ops.h, weight_write).  The tensors of a stacked matrix land in their rows.  blocks.c decides
 * which matrices come this way. */
#ifndef SEAM_WEIGHT_LOAD_H
#define SEAM_WEIGHT_LOAD_H

#include "ops.h"

#define SEAM_LOAD_PARTS_MAX 3 /* q, k, v */

/* Values of one tensor, one after the other in an open file. */
typedef struct seam_load_part {
    const char *file; /* for texts */
    int fd;
    uint64_t offset; /* of the first value */
    seam_raw_type type;
    uint32_t rows; /* of the stack */
} seam_load_part;

typedef struct seam_load_matrix {
    seam_weight **ret_weight; /* written as its loading begins: the caller destroys it, whatever
                                 comes of it */
    uint32_t C;
    uint32_t lora_pad; /* weight_begin's */
    uint32_t part_count;
    seam_load_part parts[SEAM_LOAD_PARTS_MAX]; /* one under the other */
} seam_load_matrix;

typedef struct seam_load_options {
    uint32_t threads;   /* 0: the machine's cores, at most SEAM_LOAD_THREADS_DEFAULT */
    uint32_t buffers;   /* 0: SEAM_LOAD_BUFFERS, at most one more than threads; 2 at least */
    size_t piece_bytes; /* 0: SEAM_LOAD_PIECE_BYTES; of a buffer, and a copy */
    size_t slice_bytes; /* 0: SEAM_LOAD_SLICE_BYTES; what a thread reads at a time */
    uint32_t ahead;     /* 0: SEAM_LOAD_AHEAD; matrices that are begun before theirs are read */
} seam_load_options;
#define SEAM_LOAD_THREADS_DEFAULT 12u
#define SEAM_LOAD_THREADS_MAX     64u
#define SEAM_LOAD_BUFFERS         8u
#define SEAM_LOAD_BUFFERS_MAX     32u
#define SEAM_LOAD_PIECE_BYTES     ((size_t)8 << 20)
#define SEAM_LOAD_SLICE_BYTES     ((size_t)512 << 10)
#define SEAM_LOAD_AHEAD           2u

/* Loads `count` matrices for both products.  SEAM_E_IO (a file ends early, cannot be read),
 * SEAM_E_MEMORY, SEAM_E_DEVICE_LOST; matrices that had begun are the caller's. */
seam_status seam_weight_load(seam_backend *backend, const seam_load_matrix *matrices,
                             uint32_t count, const seam_load_options *options, seam_error *err);

#endif
