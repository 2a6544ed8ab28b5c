/* Blocks of the quantized types of GGUF, one at a time, to f32 in the order of operations of ggml's
 * own (each product and sum rounded).  h: IEEE half, little-endian; q: codes.
 *
 * Blocks of 32 values:
 *   Q8_0    h d, 32 int8 q                                     x = d q
 *   Q4_0    h d, 16 bytes                                      x = d (q - 8)
 *   Q4_1    h d, h m, 16 bytes                                 x = d q + m
 *   Q5_0    h d, u32 fifth bits, 16 bytes                      x = d (q - 16)
 *   Q5_1    h d, h m, u32 fifth bits, 16 bytes                 x = d q + m
 *   IQ4_NL  h d, 16 bytes                                      x = d table[q]
 * Value i < 16 is the low half of byte i, value i + 16 the high half; its fifth bit is bit i.
 *
 * Blocks of 256, in groups of 16 or 32 values that have a scale s, some a minimum m, of 4 or 6
 * bits: Q2_K    16 bytes (s low, m high half), 64 bytes, h d, h e  x = (d s) q - (e m) Q3_K    32
 * bytes of third bits, 64 bytes, 12 bytes, h d    x = (d (s - 32)) (q - 4) Q4_K    h d, h e, 12
 * bytes, 128 bytes                      x = (d s) q - (e m) Q5_K    h d, h e, 12 bytes, 32 bytes of
 * fifth bits, 128    x = (d s) q - (e m) Q6_K    128 bytes low, 64 bytes high, 16 int8 s, h d x =
 * (d s) (q - 32) IQ4_XS  h d, u16 and 4 bytes of s, 128 bytes               x = (d (s - 32))
 * table[q] Source: ggml's block structures; the functions say where each code stands. */
#ifndef SEAM_DEQUANTIZE_BLOCKS_H
#define SEAM_DEQUANTIZE_BLOCKS_H

#include <stdint.h>

typedef void seam_block_decode_fn(float *ret, const uint8_t *block);

/* dequantize_blocks.c */
seam_block_decode_fn seam_q8_0_decode, seam_q4_0_decode, seam_q4_1_decode, seam_q5_0_decode,
    seam_q5_1_decode, seam_iq4_nl_decode;
/* dequantize_k.c */
seam_block_decode_fn seam_q2_k_decode, seam_q3_k_decode, seam_q4_k_decode, seam_q5_k_decode,
    seam_q6_k_decode, seam_iq4_xs_decode;

/* Of the IQ4 types. */
extern const int8_t seam_iq4_table[16];

#endif
