/* The loops of rans_tile.h that AVX-512 has of its own; only rans_tile.c, which chooses, and
 * rans_tile_avx512.c include this. */
#ifndef SEAM_RANS_TILE_VARIANTS_H
#define SEAM_RANS_TILE_VARIANTS_H

#include "rans_tile.h"

/* `body` with the shapes that occur as constants, so that its loops unroll. */
#define SEAM_RANS_FOR_UNIT(unit, body, ...)                                                        \
    do {                                                                                           \
        if ((unit).planes == 4 && (unit).cells == 2) {                                             \
            body(__VA_ARGS__, 4, 2);                                                               \
        } else if ((unit).planes == 3 && (unit).cells == 2) {                                      \
            body(__VA_ARGS__, 3, 2);                                                               \
        } else if ((unit).planes == 2 && (unit).cells == 4) {                                      \
            body(__VA_ARGS__, 2, 4);                                                               \
        } else if ((unit).planes == 1 && (unit).cells == 8) {                                      \
            body(__VA_ARGS__, 1, 8);                                                               \
        } else {                                                                                   \
            body(__VA_ARGS__, (unit).planes, (unit).cells);                                        \
        }                                                                                          \
    } while (0)

#if defined(__x86_64__)
uint8_t *seam_rans_encode_avx512(seam_rans_lanes *lanes, uint8_t *words, const uint8_t *units,
                                 uint32_t steps, const seam_rans_encode_entry *entries,
                                 const seam_rans_shuffles *shuffles);
void seam_rans_decode_avx512(seam_rans_reader *const *readers, uint32_t count,
                             const seam_rans_shuffles *shuffles);
void seam_rans_write_avx512(uint8_t *codes, const uint8_t *units, const uint32_t *cells_at,
                            uint32_t steps, seam_rans_unit unit);
#endif

#endif
