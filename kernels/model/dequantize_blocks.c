/* Blocks of 32 values: see dequantize_blocks.h. */
#include "dequantize_blocks.h"

#include "bytes.h"

enum { BLOCK = 32, HALF = BLOCK / 2 };

const int8_t seam_iq4_table[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113};

void seam_q8_0_decode(float *ret, const uint8_t *block) {
    const float d = seam_fp16_to_f32(seam_get_u16(block));
    for (int i = 0; i < BLOCK; i++) {
        ret[i] = d * (float)(int8_t)block[2 + i];
    }
}

void seam_q4_0_decode(float *ret, const uint8_t *block) {
    const float d = seam_fp16_to_f32(seam_get_u16(block));
    for (int i = 0; i < HALF; i++) {
        ret[i] = d * (float)((block[2 + i] & 15) - 8);
        ret[i + HALF] = d * (float)((block[2 + i] >> 4) - 8);
    }
}

void seam_q4_1_decode(float *ret, const uint8_t *block) {
    const float d = seam_fp16_to_f32(seam_get_u16(block));
    const float m = seam_fp16_to_f32(seam_get_u16(block + 2));
    for (int i = 0; i < HALF; i++) {
        ret[i] = d * (float)(block[4 + i] & 15) + m;
        ret[i + HALF] = d * (float)(block[4 + i] >> 4) + m;
    }
}

/* Codes of 5 bits. */
static void fifth_bits_add(int codes[BLOCK], uint32_t bits, const uint8_t *low) {
    for (int i = 0; i < HALF; i++) {
        codes[i] = (low[i] & 15) | (int)(bits >> i & 1) << 4;
        codes[i + HALF] = low[i] >> 4 | (int)(bits >> (i + HALF) & 1) << 4;
    }
}

void seam_q5_0_decode(float *ret, const uint8_t *block) {
    const float d = seam_fp16_to_f32(seam_get_u16(block));
    int codes[BLOCK];
    fifth_bits_add(codes, seam_get_u32(block + 2), block + 6);
    for (int i = 0; i < BLOCK; i++) {
        ret[i] = d * (float)(codes[i] - 16);
    }
}

void seam_q5_1_decode(float *ret, const uint8_t *block) {
    const float d = seam_fp16_to_f32(seam_get_u16(block));
    const float m = seam_fp16_to_f32(seam_get_u16(block + 2));
    int codes[BLOCK];
    fifth_bits_add(codes, seam_get_u32(block + 4), block + 8);
    for (int i = 0; i < BLOCK; i++) {
        ret[i] = d * (float)codes[i] + m;
    }
}

void seam_iq4_nl_decode(float *ret, const uint8_t *block) {
    const float d = seam_fp16_to_f32(seam_get_u16(block));
    for (int i = 0; i < HALF; i++) {
        ret[i] = d * (float)seam_iq4_table[block[2 + i] & 15];
        ret[i + HALF] = d * (float)seam_iq4_table[block[2 + i] >> 4];
    }
}
