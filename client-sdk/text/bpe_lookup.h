/* The merge table's hashing, shared by its writer (bpe.c) and its reader (bpe_merge.c). */
#ifndef SEAM_BPE_LOOKUP_H
#define SEAM_BPE_LOOKUP_H

#include "bpe.h"

static inline uint64_t seam_bpe_merge_key(uint32_t left, uint32_t right) {
    return (uint64_t)left << 32 | right;
}

/* First slot to look at: Fibonacci hashing, high bits. */
static inline size_t seam_bpe_merge_slot(const seam_bpe *bpe, uint64_t key) {
    return (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 24) & bpe->merge_mask;
}

#endif
