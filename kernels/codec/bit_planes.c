/* See bit_planes.h. */
#include "bit_planes.h"

#include <string.h>

#include "affine_tile.h"
#include "bytes.h"

#define LANES SEAM_TILE_LANES

void seam_planes_put(seam_plane_writer *writer, const uint32_t *planes, const uint8_t *widths,
                     uint32_t lanes, uint32_t rows) {
    for (uint32_t l = 0; l < lanes; l++) {
        for (uint32_t j = 0; j < widths[l]; j++) {
            const uint32_t bits = planes[j * LANES + l];
            if (rows == SEAM_GROUP_ROWS) { /* whole words: nothing is held */
                seam_put_u32(writer->out, bits);
                writer->out += 4;
                continue;
            }
            writer->held |= (uint64_t)bits << writer->held_bits;
            writer->held_bits += rows;
            while (writer->held_bits >= 8) {
                *writer->out++ = (uint8_t)writer->held;
                writer->held >>= 8;
                writer->held_bits -= 8;
            }
        }
    }
}

void seam_planes_put_end(seam_plane_writer *writer) {
    if (writer->held_bits > 0) {
        *writer->out++ = (uint8_t)writer->held;
        writer->held_bits = 0;
    }
}

void seam_planes_get(uint32_t *ret_planes, seam_plane_reader *reader, const uint8_t *widths,
                     uint32_t lanes, uint32_t rows) {
    memset(ret_planes, 0, 16 * LANES * sizeof *ret_planes);
    for (uint32_t l = 0; l < lanes; l++) {
        for (uint32_t j = 0; j < widths[l]; j++) {
            if (rows == SEAM_GROUP_ROWS) {
                ret_planes[j * LANES + l] = seam_get_u32(reader->in);
                reader->in += 4;
                continue;
            }
            while (reader->held_bits < rows) {
                reader->held |= (uint64_t)*reader->in++ << reader->held_bits;
                reader->held_bits += 8;
            }
            ret_planes[j * LANES + l] = (uint32_t)(reader->held & ((UINT64_C(1) << rows) - 1));
            reader->held >>= rows;
            reader->held_bits -= rows;
        }
    }
}

bool seam_planes_get_end(const seam_plane_reader *reader) {
    return reader->held == 0;
}

/* Warren, Hacker's Delight, 7-3. */
uint64_t seam_bits_transpose(uint64_t x) {
    uint64_t t = (x ^ (x >> 7)) & UINT64_C(0x00aa00aa00aa00aa);
    x ^= t ^ (t << 7);
    t = (x ^ (x >> 14)) & UINT64_C(0x0000cccc0000cccc);
    x ^= t ^ (t << 14);
    t = (x ^ (x >> 28)) & UINT64_C(0x00000000f0f0f0f0);
    return x ^ t ^ (t << 28);
}
