/* Bit strings of the stateful codecs: numbers of one width, one after another, least significant
 * bit first, the last byte filled with zeros.  WIRE.md 3.5 and 3.6.
 *
 * Not the bit planes of affine (codec_affine.c): here a row's numbers stand together. */
#ifndef SEAM_BIT_STRING_H
#define SEAM_BIT_STRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SEAM_BIT_STRING_WIDTH_MAX 32

/* ceil(count * width / 8). */
size_t seam_bit_string_bytes(uint64_t count, uint32_t width);

typedef struct seam_bit_writer {
    uint8_t *out;
    uint64_t held;
    uint32_t held_bits; /* below 8 between calls */
} seam_bit_writer;
/* Values must be below 2^width. */
void seam_bits_put(seam_bit_writer *writer, const uint32_t *values, size_t count, uint32_t width);
void seam_bits_put_end(seam_bit_writer *writer);

typedef struct seam_bit_reader {
    const uint8_t *in;
    uint64_t held;
    uint32_t held_bits;
} seam_bit_reader;
/* The caller has checked that seam_bit_string_bytes of everything are there. */
void seam_bits_get(uint32_t *ret_values, seam_bit_reader *reader, size_t count, uint32_t width);
/* After the last value: are the bits that fill its byte zero? */
bool seam_bits_get_end(const seam_bit_reader *reader);

#endif
