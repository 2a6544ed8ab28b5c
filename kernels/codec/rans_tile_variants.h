/* The loops of rans_tile.h that AVX-512 has of its own; only rans_tile.c, which chooses, and
 * rans_tile_avx512.c include this. */
#ifndef SEAM_RANS_TILE_VARIANTS_H
#define SEAM_RANS_TILE_VARIANTS_H

#include "rans_tile.h"

#if defined(__x86_64__)
uint8_t *seam_rans_encode_avx512(seam_rans_lanes *lanes, uint8_t *words, const uint8_t *units,
                                 uint32_t steps, const seam_rans_encode_entry *entries,
                                 const seam_rans_shuffles *shuffles);
/* The steps that it does; it stops where the loads of one more would leave the block's words. */
uint32_t seam_rans_decode_avx512(seam_rans_reader *reader, uint8_t *units, uint32_t steps,
                                 const seam_rans_decode_entry *entries);
#endif

#endif
