/* Values of weight files as f32.  Plain loops: one pass over mapped pages, bound by memory. */
#include "dequantize.h"

#include "arena.h"
#include "bytes.h"
#include "dequantize_blocks.h"
#include "try.h"

typedef struct type_info {
    uint32_t block_values, block_bytes;
    seam_block_decode_fn *decode; /* of the quantized types */
} type_info;

static const type_info INFO[] = {
    [SEAM_TENSOR_OTHER] = {1, 1, NULL},
    [SEAM_TENSOR_F32] = {1, 4, NULL},
    [SEAM_TENSOR_F16] = {1, 2, NULL},
    [SEAM_TENSOR_BF16] = {1, 2, NULL},
    [SEAM_TENSOR_Q8_0] = {32, 34, seam_q8_0_decode},
    [SEAM_TENSOR_Q4_0] = {32, 18, seam_q4_0_decode},
    [SEAM_TENSOR_Q4_1] = {32, 20, seam_q4_1_decode},
    [SEAM_TENSOR_Q5_0] = {32, 22, seam_q5_0_decode},
    [SEAM_TENSOR_Q5_1] = {32, 24, seam_q5_1_decode},
    [SEAM_TENSOR_Q2_K] = {256, 84, seam_q2_k_decode},
    [SEAM_TENSOR_Q3_K] = {256, 110, seam_q3_k_decode},
    [SEAM_TENSOR_Q4_K] = {256, 144, seam_q4_k_decode},
    [SEAM_TENSOR_Q5_K] = {256, 176, seam_q5_k_decode},
    [SEAM_TENSOR_Q6_K] = {256, 210, seam_q6_k_decode},
    [SEAM_TENSOR_IQ4_NL] = {32, 18, seam_iq4_nl_decode},
    [SEAM_TENSOR_IQ4_XS] = {256, 136, seam_iq4_xs_decode},
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

/* As seam_fp16_to_f32, without its branches: a subnormal is what is beyond 2^-14 in the number that
 * has its mantissa there. */
static inline float f16_value(uint16_t bits) {
    const uint32_t sign = (bits & 0x8000u) << 16, exponent = bits & 0x7c00u;
    const uint32_t normal = ((bits & 0x7fffu) << 13) + (112u << 23);
    const float small = seam_f32_of_bits(normal + (1u << 23)) - 0x1p-14f;
    const uint32_t magnitude = exponent == 0         ? seam_f32_bits(small)
                               : exponent == 0x7c00u ? normal + (112u << 23)
                                                     : normal;
    return seam_f32_of_bits(sign | magnitude);
}

void seam_dequantize(float *ret, seam_tensor_type type, const uint8_t *bytes, size_t count) {
    const type_info info = INFO[type];
    SEAM_ASSERT(type != SEAM_TENSOR_OTHER); /* callers refuse it by name */
    SEAM_ASSERT(count % info.block_values == 0);
    switch (type) {
    case SEAM_TENSOR_F32:
        for (size_t i = 0; i < count; i++) {
            ret[i] = seam_f32_of_bits(seam_get_u32(bytes + 4 * i));
        }
        return;
    case SEAM_TENSOR_F16:
        for (size_t i = 0; i < count; i++) {
            ret[i] = f16_value(seam_get_u16(bytes + 2 * i));
        }
        return;
    case SEAM_TENSOR_BF16:
        for (size_t i = 0; i < count; i++) {
            ret[i] = seam_f32_of_bits((uint32_t)seam_get_u16(bytes + 2 * i) << 16);
        }
        return;
    default:
        for (size_t b = 0; b < count / info.block_values; b++) {
            info.decode(ret + b * info.block_values, bytes + b * info.block_bytes);
        }
    }
}
