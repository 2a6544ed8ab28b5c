/* Lossless entropy coding of the codes that the affine codecs pack: one chunk in, one stream out.
 * WIRE.md 3.4 has every byte.  rans_impl.h is the inside.
 *
 * The coder sees codes, not values: the top bits of each code are coded with the frequencies of
 * its channel's class, the low bits travel as they are.  A chunk stands alone: classes and tables
 * are sent in it.  One that would not shrink is stored, one byte longer.
 *
 * Pure C, no allocation, any thread. */
#ifndef SEAM_RANS_H
#define SEAM_RANS_H

#include <stddef.h>
#include <stdint.h>

#include "codec.h"

/* One chunk: rows >= 1 that begin at a multiple of 32 of the tensor, codes of all channels. */
typedef struct seam_rans_args {
    const uint8_t *widths; /* (C), each 1..16 */
    uint32_t rows, channels;
} seam_rans_args;

/* Bytes that encode writes at most: one more than seam_codec_code_bytes, which must be below
 * 2^32 (a frame is far smaller). */
size_t seam_rans_bytes_max(const seam_rans_args *args);
/* Scratch of either direction, 64-byte aligned. */
size_t seam_rans_scratch_bytes(uint32_t channels);

/* codes: as seam_codec_encode packed them.  Never fails: the same bytes on every CPU. */
void seam_rans_encode(uint8_t *ret_stream, size_t *ret_bytes, const seam_rans_args *args,
                      const uint8_t *codes, void *scratch);
/* ret_codes: seam_codec_code_bytes of them, to the bit those that encode was given.
 * SEAM_E_FORMAT: not a stream of such a chunk, too short or too long; then ret_codes is
 * unspecified.  Its time is bounded by the sizes of codes and stream. */
seam_status seam_rans_decode(uint8_t *ret_codes, const seam_rans_args *args, const uint8_t *stream,
                             size_t stream_bytes, void *scratch);

#endif
