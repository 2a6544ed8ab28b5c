/* One accumulator of 64 bits; see bit_string.h. */
#include "bit_string.h"

#include "try.h"

size_t seam_bit_string_bytes(uint64_t count, uint32_t width) {
    return (size_t)((count * width + 7) / 8);
}

void seam_bits_put(seam_bit_writer *writer, const uint32_t *values, size_t count, uint32_t width) {
    SEAM_ASSERT(width >= 1 && width <= SEAM_BIT_STRING_WIDTH_MAX);
    uint8_t *out = writer->out;
    uint64_t held = writer->held;
    uint32_t held_bits = writer->held_bits;
    for (size_t i = 0; i < count; i++) {
        held |= (uint64_t)values[i] << held_bits;
        held_bits += width;
        while (held_bits >= 8) {
            *out++ = (uint8_t)held;
            held >>= 8;
            held_bits -= 8;
        }
    }
    *writer = (seam_bit_writer){out, held, held_bits};
}

void seam_bits_put_end(seam_bit_writer *writer) {
    if (writer->held_bits > 0) {
        *writer->out++ = (uint8_t)writer->held;
    }
    writer->held = 0;
    writer->held_bits = 0;
}

void seam_bits_get(uint32_t *ret_values, seam_bit_reader *reader, size_t count, uint32_t width) {
    SEAM_ASSERT(width >= 1 && width <= SEAM_BIT_STRING_WIDTH_MAX);
    const uint64_t mask = (UINT64_C(1) << width) - 1;
    const uint8_t *in = reader->in;
    uint64_t held = reader->held;
    uint32_t held_bits = reader->held_bits;
    for (size_t i = 0; i < count; i++) {
        while (held_bits < width) {
            held |= (uint64_t)*in++ << held_bits;
            held_bits += 8;
        }
        ret_values[i] = (uint32_t)(held & mask);
        held >>= width;
        held_bits -= width;
    }
    *reader = (seam_bit_reader){in, held, held_bits};
}

bool seam_bits_get_end(const seam_bit_reader *reader) {
    return reader->held == 0; /* fewer than 8 bits are held: those of the last byte */
}
