/* Loops over the channels of a row, which the compiler turns into vector code; see aqsgd_quant.h.
 *
 * Rounding to an integer adds and takes away 1.5 * 2^23: exact, ties to even, for |t| < 2^22, and
 * t is clipped to 2^15 before. */
#include "aqsgd_quant.h"

#include <float.h>
#include <math.h>

#include "bytes.h"
#include "codec.h"
#include "range_bounds.h"
#include "try.h"

#define HEAD_BYTES    SEAM_RANGE_HEAD_BYTES
#define ROUND_MAGIC   12582912.0f
#define FP16_MAX_BITS 0x7bffu

/* ---- fp16 ---- */

/* To nearest even; finite, below 65520 in magnitude.  A normal result shifts the rounded bits; a
 * subnormal one lets an addition round: 0.5 has its last bit at 2^-24, fp16's smallest. */
static uint16_t fp16_of(float value) {
    const uint32_t bits = seam_f32_bits(value);
    const uint32_t magnitude = bits & 0x7fffffffu;
    const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
    const uint32_t subnormal = seam_f32_bits(seam_f32_of_bits(magnitude) + 0.5f) - 0x3f000000u;
    return (uint16_t)((magnitude < 0x38800000u ? subnormal : normal) | (bits >> 16 & 0x8000u));
}

/* Exponent and fraction move into f32's place; the product mends the bias, of subnormals too. */
static float fp16_value(uint16_t half) {
    const float magnitude = seam_f32_of_bits((half & 0x7fffu) << 13) * 0x1p112f;
    return seam_f32_of_bits(seam_f32_bits(magnitude) | (half & 0x8000u) << 16);
}

bool seam_fp16_row_put(uint8_t *ret, const float *x, uint32_t channels) {
    uint32_t beyond = 0;
    for (uint32_t c = 0; c < channels; c++) {
        /* 65520 and more rounds to infinity; so does a NaN's pattern, which is larger. */
        const bool large = (seam_f32_bits(x[c]) & 0x7fffffffu) >= 0x477ff000u;
        beyond |= large;
        const uint16_t sign = (uint16_t)(seam_f32_bits(x[c]) >> 16 & 0x8000u);
        const uint16_t half = large ? (uint16_t)(sign | FP16_MAX_BITS) : fp16_of(x[c]);
        ret[2 * c] = (uint8_t)half;
        ret[2 * c + 1] = (uint8_t)(half >> 8);
    }
    return beyond == 0;
}

bool seam_fp16_row_get(float *ret, const uint8_t *bytes, uint32_t channels) {
    uint32_t special = 0;
    for (uint32_t c = 0; c < channels; c++) {
        const uint16_t half = (uint16_t)(bytes[2 * c] | bytes[2 * c + 1] << 8);
        special |= (half & 0x7c00u) == 0x7c00u;
        ret[c] = fp16_value(half);
    }
    return special == 0;
}

/* ---- scales ---- */

size_t seam_scale_block_bytes(uint32_t channels) {
    return HEAD_BYTES + 2 * (size_t)channels;
}

seam_status seam_scale_block_put(uint8_t *ret_block, const float *absmax, uint32_t channels) {
    float largest = 0.0f;
    for (uint32_t c = 0; c < channels; c++) {
        if (isnan(absmax[c])) {
            return SEAM_E_NONFINITE;
        }
        largest = absmax[c] > largest ? absmax[c] : largest;
    }
    if (!isfinite(largest)) {
        return SEAM_E_NONFINITE;
    }
    int exponent = 0;
    SEAM_TRY(seam_range_head_put(ret_block, &exponent, largest));
    uint8_t *const out = ret_block + HEAD_BYTES;
    for (uint32_t c = 0; c < channels; c++) {
        /* Below 2^15.  What f32 rounds away here is far below fp16's smallest. */
        seam_put_u16(out + 2 * (size_t)c, fp16_of((float)ldexp((double)absmax[c], -exponent)));
    }
    return SEAM_OK;
}

seam_status seam_scale_block_get(seam_scales *ret_scales, const uint8_t *block, uint32_t channels,
                                 uint32_t bits) {
    SEAM_ASSERT(bits >= 1 && bits <= SEAM_BITS_MAX);
    const float half = (float)(1u << (bits - 1));
    double unit = 0.0;
    SEAM_TRY(seam_range_head_get(&unit, block));
    for (uint32_t c = 0; c < channels; c++) {
        const uint16_t scale_bits = seam_get_u16(block + HEAD_BYTES + 2 * (size_t)c);
        if ((scale_bits & 0x7c00u) == 0x7c00u) {
            return SEAM_E_NONFINITE;
        }
        if ((scale_bits & 0x8000u) != 0) {
            return SEAM_E_FORMAT;
        }
        const float scale = (float)((double)fp16_value(scale_bits) * unit);
        const bool dead = scale < FLT_MIN;
        ret_scales->scale[c] = dead ? 1.0f : scale;
        ret_scales->lowest[c] = dead ? 0.0f : -half;
        ret_scales->top[c] = dead ? 0.0f : half - 1.0f;
    }
    return SEAM_OK;
}

/* ---- rows ---- */

void seam_absmax_add(float *absmax, const float *x, const float *m, uint32_t channels) {
    for (uint32_t c = 0; c < channels; c++) {
        const float magnitude = fabsf(m != NULL ? x[c] - m[c] : x[c]);
        absmax[c] = magnitude > absmax[c] ? magnitude : absmax[c];
    }
}

void seam_symmetric_quantize(uint32_t *ret_codes, float *ret_values, const seam_scales *scales,
                             const float *x, const float *m, uint32_t channels, uint32_t bits) {
    const int32_t offset = 1 << (bits - 1);
    const float half = (float)offset, inverse = 1.0f / half;
    const float *scale = scales->scale, *lowest = scales->lowest, *top = scales->top;
    for (uint32_t c = 0; c < channels; c++) {
        float t = (m != NULL ? x[c] - m[c] : x[c]) / scale[c] * half;
        t = t > lowest[c] ? t : lowest[c];
        t = t < top[c] ? t : top[c];
        const float q = (t + ROUND_MAGIC) - ROUND_MAGIC;
        ret_codes[c] = (uint32_t)((int32_t)q + offset);
        ret_values[c] = q * inverse * scale[c];
    }
}

void seam_symmetric_dequantize(float *ret_values, const seam_scales *scales, const uint32_t *codes,
                               uint32_t channels, uint32_t bits) {
    const int32_t offset = 1 << (bits - 1);
    const float inverse = 1.0f / (float)offset;
    const float *scale = scales->scale, *lowest = scales->lowest, *top = scales->top;
    for (uint32_t c = 0; c < channels; c++) {
        float q = (float)((int32_t)codes[c] - offset);
        q = q > lowest[c] ? q : lowest[c]; /* a channel whose scale counts as 0 */
        q = q < top[c] ? q : top[c];
        ret_values[c] = q * inverse * scale[c];
    }
}
