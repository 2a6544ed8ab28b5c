/* Bit planes of tiles in wire order: WIRE.md 3.2, "Codes".  Internal to codec/.
 *
 * A full group of 32 rows holds for each channel, in order, w words of 32 bits; a tail group is one
 * bit string.  Both follow from writing the planes of one tile after another. */
#ifndef SEAM_BIT_PLANES_H
#define SEAM_BIT_PLANES_H

#include <stdbool.h>
#include <stdint.h>

typedef struct seam_plane_writer {
    uint8_t *out;
    uint64_t held;
    uint32_t held_bits; /* below 8 between calls */
} seam_plane_writer;

/* Planes of one tile (affine_tile.h: planes[j * 64 + lane]), `lanes` of it; widths (lanes) each
 * 1..16; `rows` of the group, 1..32. */
void seam_planes_put(seam_plane_writer *writer, const uint32_t *planes, const uint8_t *widths,
                     uint32_t lanes, uint32_t rows);
/* After the last tile: the rest of the last byte is zeros. */
void seam_planes_put_end(seam_plane_writer *writer);

typedef struct seam_plane_reader {
    const uint8_t *in;
    uint64_t held;
    uint32_t held_bits;
} seam_plane_reader;

/* ret_planes (16 * 64), cleared first.  The caller has checked the count of bytes. */
void seam_planes_get(uint32_t *ret_planes, seam_plane_reader *reader, const uint8_t *widths,
                     uint32_t lanes, uint32_t rows);
/* After the last tile: are the bits that fill the last byte zeros? */
bool seam_planes_get_end(const seam_plane_reader *reader);

/* Bit j of byte i to bit i of byte j. */
uint64_t seam_bits_transpose(uint64_t x);

#endif
