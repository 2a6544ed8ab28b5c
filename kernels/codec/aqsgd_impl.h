/* What aqsgd.c and aqsgd_tape.c share. */
#ifndef SEAM_AQSGD_IMPL_H
#define SEAM_AQSGD_IMPL_H

#include "aqsgd.h"
#include "aqsgd_quant.h"
#include "sample_cache.h"

typedef struct row_cursor {
    uint32_t row, sequence; /* of the tensor; sequence SEQUENCE_NONE before the first row */
    uint32_t rows_left;     /* of the sequence */
    uint32_t block;         /* of the cached row that is next, if the sequence is a change */
} row_cursor;
#define SEQUENCE_NONE UINT32_MAX

struct seam_aqsgd {
    seam_aqsgd_config config;
    size_t row_bytes, block_bytes; /* of a row in fp16; as stored */
    uint32_t scale_blocks;         /* in front of an entry */
    seam_sample_cache *cache;

    /* The tensor in work. */
    bool open, head_done;
    uint32_t rows, sequence_count, whole_count;
    uint32_t forgotten_count; /* decoding: whole, though a change would have done */
    uint64_t tensor_count;    /* marks entries that this tensor names */
    uint64_t *sample_ids;     /* (sequences_max) */
    uint32_t *seq_rows;       /* (sequences_max) */
    uint32_t *entries;        /* (sequences_max): SEAM_CACHE_NONE where it travels whole */
    uint8_t *range_rows;      /* (rows_max) bits */
    uint8_t *staged;          /* (rows_max, C) fp16 */
    row_cursor cursor;
    seam_scales scales, cached; /* of the tensor; of the cursor's entry */

    uint8_t *block; /* a scale block */
    float *m, *change, *absmax;
    uint32_t *codes;

    /* The tensor in work as it will be told to commit_fn; also an entry on its way to a file. */
    seam_aqsgd_commit_fn *commit_fn; /* NULL: nothing is taped */
    void *commit_user;
    uint8_t *tape;
    size_t tape_used;
};

/* ---- aqsgd_tape.c ---- */

size_t seam_aqsgd_tape_bytes_max(const seam_aqsgd *a);
/* The tensor's sequences and rows in range stand in a; then its chunks one after another.  Nothing
 * where nobody asked for it. */
void seam_aqsgd_tape_begin(seam_aqsgd *a);
void seam_aqsgd_tape_add(seam_aqsgd *a, const uint8_t *payload, size_t payload_bytes,
                         uint32_t rows);

#endif
