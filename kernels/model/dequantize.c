/* Values of weight files as f32; the layouts stand in dequantize.h.  Plain loops: one pass over
 * mapped pages, bound by memory. */
#include "dequantize.h"

#include "arena.h"
#include "bytes.h"
#include "try.h"

enum { BLOCK = 32 };

typedef struct type_info {
    uint32_t block_values, block_bytes;
} type_info;

static const type_info INFO[] = {
    [SEAM_TENSOR_OTHER] = {1, 1},     [SEAM_TENSOR_F32] = {1, 4},
    [SEAM_TENSOR_F16] = {1, 2},       [SEAM_TENSOR_BF16] = {1, 2},
    [SEAM_TENSOR_Q8_0] = {BLOCK, 34}, [SEAM_TENSOR_Q4_0] = {BLOCK, 18},
    [SEAM_TENSOR_Q4_1] = {BLOCK, 20},
};

uint32_t seam_tensor_block_bytes(seam_tensor_type type) {
    return INFO[type].block_bytes;
}

bool seam_tensor_bytes(uint64_t *ret_bytes, seam_tensor_type type, uint64_t rows, uint64_t cols) {
    SEAM_ASSERT(type != SEAM_TENSOR_OTHER);
    const type_info info = INFO[type];
    size_t bytes;
    if (cols % info.block_values != 0 ||
        !seam_mul3_bytes(&bytes, rows, cols / info.block_values, info.block_bytes)) {
        return false;
    }
    *ret_bytes = bytes;
    return true;
}

static void q8_0_decode(float *ret, const uint8_t *block) {
    const float d = seam_fp16_to_f32(seam_get_u16(block));
    for (int i = 0; i < BLOCK; i++) {
        ret[i] = d * (float)(int8_t)block[2 + i];
    }
}

static void q4_0_decode(float *ret, const uint8_t *block) {
    const float d = seam_fp16_to_f32(seam_get_u16(block));
    for (int i = 0; i < BLOCK / 2; i++) {
        ret[i] = d * (float)((block[2 + i] & 15) - 8);
        ret[i + BLOCK / 2] = d * (float)((block[2 + i] >> 4) - 8);
    }
}

static void q4_1_decode(float *ret, const uint8_t *block) {
    const float d = seam_fp16_to_f32(seam_get_u16(block));
    const float m = seam_fp16_to_f32(seam_get_u16(block + 2));
    for (int i = 0; i < BLOCK / 2; i++) {
        ret[i] = d * (float)(block[4 + i] & 15) + m;
        ret[i + BLOCK / 2] = d * (float)(block[4 + i] >> 4) + m;
    }
}

void seam_dequantize(float *ret, seam_tensor_type type, const uint8_t *bytes, size_t count) {
    const size_t stride = INFO[type].block_bytes;
    SEAM_ASSERT(count % INFO[type].block_values == 0);
    switch (type) {
    case SEAM_TENSOR_F32:
        for (size_t i = 0; i < count; i++) {
            ret[i] = seam_get_f32(bytes + 4 * i);
        }
        return;
    case SEAM_TENSOR_F16:
        for (size_t i = 0; i < count; i++) {
            ret[i] = seam_fp16_to_f32(seam_get_u16(bytes + 2 * i));
        }
        return;
    case SEAM_TENSOR_BF16:
        for (size_t i = 0; i < count; i++) {
            ret[i] = seam_bf16_to_f32(seam_get_u16(bytes + 2 * i));
        }
        return;
    case SEAM_TENSOR_Q8_0:
        for (size_t b = 0; b < count / BLOCK; b++) {
            q8_0_decode(ret + b * BLOCK, bytes + b * stride);
        }
        return;
    case SEAM_TENSOR_Q4_0:
        for (size_t b = 0; b < count / BLOCK; b++) {
            q4_0_decode(ret + b * BLOCK, bytes + b * stride);
        }
        return;
    case SEAM_TENSOR_Q4_1:
        for (size_t b = 0; b < count / BLOCK; b++) {
            q4_1_decode(ret + b * BLOCK, bytes + b * stride);
        }
        return;
    case SEAM_TENSOR_OTHER:
        SEAM_ASSERT(type != SEAM_TENSOR_OTHER); /* callers refuse it by name */
    }
}
