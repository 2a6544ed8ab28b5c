/* Blocks of 256 values: see dequantize_blocks.h. */
#include "bytes.h"
#include "dequantize_blocks.h"

enum { BLOCK = 256 };

/* 64 bytes of codes of 2 bits: value 128 n + 32 j + i is pair j (from the low end) of byte
 * 32 n + i.  Those of group g of 16 begin in this byte, at this bit. */
static const uint8_t *two_bits(int *ret_shift, const uint8_t *codes, int g) {
    *ret_shift = g % 8 / 2 * 2;
    return codes + 32 * (g / 8) + 16 * (g % 2);
}

void seam_q2_k_decode(float *ret, const uint8_t *block) {
    const uint8_t *const groups = block;
    const float d = seam_fp16_to_f32(seam_get_u16(block + 80));
    const float e = seam_fp16_to_f32(seam_get_u16(block + 82));
    for (int g = 0; g < BLOCK / 16; g++) {
        const float scale = d * (float)(groups[g] & 15), minimum = e * (float)(groups[g] >> 4);
        int shift;
        const uint8_t *const codes = two_bits(&shift, block + 16, g);
        for (int i = 0; i < 16; i++) {
            ret[16 * g + i] = scale * (float)(codes[i] >> shift & 3) - minimum;
        }
    }
}

/* 16 scales of 6 bits: the low 4 of scale g are a half of byte g % 8 (low for g < 8), the high 2
 * are pair g / 4 of byte 8 + g % 4. */
static int q3_k_scale(const uint8_t *scales, int g) {
    const int low = g < 8 ? scales[g] & 15 : scales[g - 8] >> 4;
    return low | (scales[8 + g % 4] >> (g / 4 * 2) & 3) << 4;
}

/* The third bit of value 32 j + i is bit j of byte i; where it is not set the value is 4 less. */
void seam_q3_k_decode(float *ret, const uint8_t *block) {
    const uint8_t *const scales = block + 96;
    const float d = seam_fp16_to_f32(seam_get_u16(block + 108));
    for (int g = 0; g < BLOCK / 16; g++) {
        const float scale = d * (float)(q3_k_scale(scales, g) - 32);
        const uint8_t *const high = block + 16 * (g % 2);
        int shift;
        const uint8_t *const codes = two_bits(&shift, block + 32, g);
        for (int i = 0; i < 16; i++) {
            const int code = (codes[i] >> shift & 3) | (high[i] >> (g / 2) & 1) << 2;
            ret[16 * g + i] = scale * (float)(code - 4);
        }
    }
}

/* Of Q4_K and Q5_K, 8 scales and 8 minima of 6 bits: those of the first four groups are the low 6
 * of bytes g and g + 4, whose high 2 are the high ones of the last four; the low 4 of these are the
 * halves of byte g + 4. */
static void k4_group(float *ret_scale, float *ret_minimum, const uint8_t *block, int g) {
    const uint8_t *const packed = block + 4;
    const float d = seam_fp16_to_f32(seam_get_u16(block));
    const float e = seam_fp16_to_f32(seam_get_u16(block + 2));
    const int scale = g < 4 ? packed[g] & 63 : (packed[g + 4] & 15) | packed[g - 4] >> 6 << 4;
    const int minimum = g < 4 ? packed[g + 4] & 63 : packed[g + 4] >> 4 | packed[g] >> 6 << 4;
    *ret_scale = d * (float)scale;
    *ret_minimum = e * (float)minimum;
}

/* Groups 2 j and 2 j + 1 are the low and the high halves of bytes 32 j to 32 j + 31. */
void seam_q4_k_decode(float *ret, const uint8_t *block) {
    const uint8_t *const codes = block + 16;
    for (int g = 0; g < BLOCK / 32; g++) {
        float scale, minimum;
        k4_group(&scale, &minimum, block, g);
        for (int i = 0; i < 32; i++) {
            const int code = codes[g / 2 * 32 + i] >> (g % 2 * 4) & 15;
            ret[32 * g + i] = scale * (float)code - minimum;
        }
    }
}

/* Likewise; the fifth bit of value 32 g + i is bit g of byte i of those. */
void seam_q5_k_decode(float *ret, const uint8_t *block) {
    const uint8_t *const high = block + 16, *const codes = block + 48;
    for (int g = 0; g < BLOCK / 32; g++) {
        float scale, minimum;
        k4_group(&scale, &minimum, block, g);
        for (int i = 0; i < 32; i++) {
            const int low = codes[g / 2 * 32 + i] >> (g % 2 * 4) & 15;
            const int code = low | (high[i] >> g & 1) << 4;
            ret[32 * g + i] = scale * (float)code - minimum;
        }
    }
}

/* Value 128 n + 32 j + i: its low 4 bits are of byte 64 n + 32 (j % 2) + i, the low half for j < 2;
 * the high 2 are pair j of byte 32 n + i. */
void seam_q6_k_decode(float *ret, const uint8_t *block) {
    const uint8_t *const codes = block, *const high = block + 128, *const scales = block + 192;
    const float d = seam_fp16_to_f32(seam_get_u16(block + 208));
    for (int g = 0; g < BLOCK / 16; g++) {
        const float scale = d * (float)(int8_t)scales[g];
        const int n = g / 8, j = g % 8 / 2;
        for (int i = 16 * (g % 2); i < 16 * (g % 2) + 16; i++) {
            const int low = codes[64 * n + 32 * (j % 2) + i] >> (j / 2 * 4) & 15;
            const int code = low | (high[32 * n + i] >> (2 * j) & 3) << 4;
            ret[128 * n + 32 * j + i] = scale * (float)(code - 32);
        }
    }
}

/* 8 scales of 6 bits: the low 4 of scale g are a half of byte g / 2, the high 2 pair g of the u16.
 */
void seam_iq4_xs_decode(float *ret, const uint8_t *block) {
    const uint8_t *const low = block + 4, *const codes = block + 8;
    const float d = seam_fp16_to_f32(seam_get_u16(block));
    const int high = seam_get_u16(block + 2);
    for (int g = 0; g < BLOCK / 32; g++) {
        const int bits = (low[g / 2] >> (g % 2 * 4) & 15) | (high >> (2 * g) & 3) << 4;
        const float scale = d * (float)(bits - 32);
        for (int i = 0; i < 16; i++) {
            const uint8_t byte = codes[16 * g + i];
            ret[32 * g + i] = scale * (float)seam_iq4_table[byte & 15];
            ret[32 * g + i + 16] = scale * (float)seam_iq4_table[byte >> 4];
        }
    }
}
