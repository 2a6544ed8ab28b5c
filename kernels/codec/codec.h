/* Tensor codecs: rows x channels of f32, or bf16, to payload bytes and back.  SPEC: proto/WIRE.md
 * has every byte; a reader in another language needs only that document.
 *
 * This is the arithmetic of f32, bf16, affine and amaq; tensors of any codec, cut into chunks, are
 * coder.h's.  A payload is a range block (quantizing codecs only) and then codes.  Rows are coded
 * in groups of 32, all channels together, as bit planes, so that a tensor can be cut into chunks of
 * whole groups (proto/wire/frame.h).  Pure C, no compute library, no allocation, any thread. */
#ifndef SEAM_CODEC_H
#define SEAM_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

#define SEAM_GROUP_ROWS   32
#define SEAM_BITS_MAX     16
#define SEAM_ROWS_MAX     (1u << 20)
#define SEAM_CHANNELS_MAX (1u << 16)

/* Numbers are wire values. */
typedef enum seam_codec_id {
    SEAM_CODEC_F32 = 1,
    SEAM_CODEC_BF16 = 2,
    SEAM_CODEC_AFFINE = 3, /* per-channel affine, one fixed width */
    SEAM_CODEC_AMAQ = 4,   /* per-channel affine, widths by allocation (arXiv 2510.05468) */
    SEAM_CODEC_TENSOR = 5,
    SEAM_CODEC_CHANNEL = 6,
    SEAM_CODEC_GROUP = 7,
    SEAM_CODEC_AQSGD = 8,
    SEAM_CODEC_DICTIONARY = 9,  /* site fwd_in only */
    SEAM_CODEC_AMAQ_TOKEN = 10, /* amaq with granularity token: a range a row, a width a position */
} seam_codec_id;
#define SEAM_CODEC_LAST SEAM_CODEC_AMAQ_TOKEN

/* "amaq" <-> SEAM_CODEC_AMAQ; false / NULL for an unknown one.  Names of codecs that are not
 * implemented yet are known too: ask seam_codec_is_implemented. */
bool seam_codec_from_name(seam_codec_id *ret_id, const char *name);
const char *seam_codec_name(seam_codec_id id);
bool seam_codec_is_implemented(seam_codec_id id);
bool seam_codec_has_ranges(seam_codec_id id); /* affine, amaq */
/* Codes go by an allocation of widths: every codec but f32, bf16, dictionary.  Known for codecs
 * that are not implemented too. */
bool seam_codec_has_widths(seam_codec_id id);
/* A config's `bits`, where they are this codec's widths; else 0: any number may stand there, which
 * nobody has checked. */
uint32_t seam_codec_fixed_bits(seam_codec_id id, uint32_t bits);
/* Codes stand as bit planes of groups of 32 rows (WIRE.md 3.2), which an entropy coder may follow:
 * affine, amaq, tensor, channel, group. */
bool seam_codec_has_planes(seam_codec_id id);
bool seam_codec_has_gates(seam_codec_id id); /* amaq, amaq_token: the widths are negotiated */
/* dictionary, aqsgd: coded against what went before. */
bool seam_codec_has_state(seam_codec_id id);
/* Has a form that stands for itself, for requests (phase 3): every codec but dictionary and
 * amaq_token, whose widths go by places in a sample.  aqsgd's is that of its gradients. */
bool seam_codec_has_requests(seam_codec_id id);

/* The sequences of a tensor in order. */
typedef struct seam_sequences {
    const uint64_t *sample_ids; /* (count), or NULL: not told */
    const uint32_t *rows;       /* (count): rows that each has in the tensor, perhaps none */
    uint32_t count;
} seam_sequences;

/* Bytes of a tensor's range block: 4 + 4*C (exponent i16, zero u16, then C x {lo fp16, hi fp16}),
 * or 0 for codecs without ranges. */
size_t seam_codec_range_bytes(seam_codec_id id, uint32_t channels);
/* Bytes of the codes of `rows` rows: ceil(sum(widths)*rows/8); 4 or 2 a value for f32, bf16.
 * widths (C), each 1..16; NULL for f32 and bf16. */
size_t seam_codec_code_bytes(seam_codec_id id, const uint8_t *widths, uint32_t rows,
                             uint32_t channels);

/* Range block of a tensor x (rows, channels) over the rows whose range_rows bit is set (bitmap,
 * LSB first; NULL: all rows).  lo rounded down, hi rounded up to fp16 of value*2^-k.
 * No row in range: every lo = hi = 0.  Nothing is written for codecs without ranges.
 * SEAM_E_NONFINITE: a value in range is NaN, infinite, or 2^125 and more in magnitude (so that
 * hi - lo and 1/D stay finite).  SEAM_E_UNIMPLEMENTED. */
seam_status seam_codec_measure(uint8_t *ret_ranges, seam_codec_id id, const float *x, uint32_t rows,
                               uint32_t channels, const uint8_t *range_rows);

/* Where stochastic rounding takes its numbers: Philox4x32-10 with key = seed and counter =
 * (channel/8, row_id, site | micro << 16, step mod 2^32), 16 bits a channel: WIRE.md 3.2. */
typedef struct seam_rounding {
    bool stochastic; /* false: to nearest, ties to even; the rest is ignored */
    uint64_t seed, step;
    uint16_t site;
    uint16_t micro;
    const uint32_t *row_ids; /* original row of each row; NULL: row_id_begin + i */
    uint32_t row_id_begin;
} seam_rounding;

/* What encode and decode of one tensor share. */
typedef struct seam_codec_args {
    seam_codec_id id;
    uint32_t channels;
    const uint8_t *widths; /* (C), 1..16, or NULL for f32, bf16 */
    const uint8_t *ranges; /* range block as measured or received, or NULL */
} seam_codec_args;

/* Codes of `rows` rows of x into ret_codes (seam_codec_code_bytes of them).  Rows must begin at a
 * multiple of 32 of the tensor.  ret_decoded (rows, C) or NULL: the values that the receiver
 * will see; it may be x itself.  scratch: seam_codec_scratch_bytes(channels), 64-byte aligned.
 * Values outside the range (rows that were not measured) are clamped to it.
 * SEAM_E_NONFINITE for a value that is not finite (bf16: also one that rounds to infinity); the
 * range block is checked as by decode; SEAM_E_UNIMPLEMENTED.  Outputs then unspecified. */
seam_status seam_codec_encode(uint8_t *ret_codes, float *ret_decoded, const seam_codec_args *args,
                              const float *x, uint32_t rows, const seam_rounding *rounding,
                              void *scratch);
/* The reverse.  Checks the range block (finite, lo <= hi, exponent in bounds, zero bytes zero):
 * SEAM_E_NONFINITE, SEAM_E_FORMAT; codes_bytes must be exact and the unused bits of a tail's last
 * byte zero (SEAM_E_FORMAT); f32 and bf16 values must be finite (SEAM_E_NONFINITE);
 * SEAM_E_UNIMPLEMENTED.  ret_x is unspecified after an error. */
seam_status seam_codec_decode(float *ret_x, const seam_codec_args *args, const uint8_t *codes,
                              size_t codes_bytes, uint32_t rows, void *scratch);
size_t seam_codec_scratch_bytes(uint32_t channels);

/* The same for rows that are bf16 in memory (each value the upper half of its f32); affine and
 * amaq. Ranges, codes and decoded values are those of the values as f32. */
seam_status seam_codec_measure_bf16(uint8_t *ret_ranges, seam_codec_id id, const uint16_t *x,
                                    uint32_t rows, uint32_t channels, const uint8_t *range_rows);
seam_status seam_codec_encode_bf16(uint8_t *ret_codes, float *ret_decoded,
                                   const seam_codec_args *args, const uint16_t *x, uint32_t rows,
                                   const seam_rounding *rounding, void *scratch);

/* D_c (C) of a range block and widths: the step of each channel's grid, 0 for a constant one and
 * for codecs without ranges.  Errors as decode. */
seam_status seam_codec_steps(float *ret_steps, const seam_codec_args *args);

/* Philox4x32-10 (Salmon et al. 2011), the only random generator of Seam. */
void seam_philox(uint32_t ret[4], const uint32_t counter[4], const uint32_t key[2]);

#endif
