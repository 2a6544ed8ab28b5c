/* Little-endian access, CRC-32C, FNV-1a and half-precision conversions; see bytes.h. */
#include "bytes.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

void seam_put_u64(uint8_t *ret, uint64_t value) {
    seam_put_u32(ret, (uint32_t)value);
    seam_put_u32(ret + 4, (uint32_t)(value >> 32));
}

void seam_put_f32(uint8_t *ret, float value) {
    seam_put_u32(ret, seam_f32_bits(value));
}

void seam_put_f64(uint8_t *ret, double value) {
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof bits);
    seam_put_u64(ret, bits);
}

double seam_get_f64(const uint8_t *bytes) {
    const uint64_t bits = seam_get_u64(bytes);
    double value = 0;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float seam_get_f32(const uint8_t *bytes) {
    return seam_f32_of_bits(seam_get_u32(bytes));
}

/* ---- CRC-32C ---- */

#define CRC32C_POLYNOMIAL 0x82f63b78u /* reflected 0x1edc6f41 */

static uint32_t crc32c_portable(uint32_t state, const uint8_t *bytes, size_t count) {
    /* Half-byte table: small enough to build on the stack, so no static state to guard. */
    uint32_t table[16];
    for (uint32_t i = 0; i < 16; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 4; bit++) {
            c = (c >> 1) ^ ((c & 1) != 0 ? CRC32C_POLYNOMIAL : 0);
        }
        table[i] = c;
    }
    for (size_t i = 0; i < count; i++) {
        state ^= bytes[i];
        state = (state >> 4) ^ table[state & 15];
        state = (state >> 4) ^ table[state & 15];
    }
    return state;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t state, const uint8_t *bytes,
                                                               size_t count) {
    uint64_t wide = state;
    for (; count >= 8; bytes += 8, count -= 8) {
        wide = __builtin_ia32_crc32di(wide, seam_get_u64(bytes));
    }
    uint32_t narrow = (uint32_t)wide;
    for (; count > 0; bytes++, count--) {
        narrow = __builtin_ia32_crc32qi(narrow, *bytes);
    }
    return narrow;
}
#endif

uint32_t seam_crc32c(uint32_t crc, const void *bytes, size_t count) {
    const uint32_t state = ~crc;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) {
        return ~crc32c_sse42(state, bytes, count);
    }
#endif
    return ~crc32c_portable(state, bytes, count);
}

uint64_t seam_hash64(uint64_t hash, const void *bytes, size_t count) {
    const uint8_t *p = bytes;
    for (size_t i = 0; i < count; i++) {
        hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

/* ---- bf16, fp16 ---- */

uint16_t seam_bf16_from_f32(float value) {
    const uint32_t bits = seam_f32_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)(bits >> 16 | 0x40u); /* quiet NaN */
    }
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

float seam_bf16_to_f32(uint16_t bits) {
    return seam_f32_of_bits((uint32_t)bits << 16);
}

float seam_fp16_to_f32(uint16_t bits) {
    const uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
    const uint32_t exponent = bits >> 10 & 31u;
    const uint32_t mantissa = bits & 0x3ffu;
    if (exponent == 31) {
        return seam_f32_of_bits(sign | 0x7f800000u | mantissa << 13);
    }
    if (exponent != 0) {
        return seam_f32_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    }
    const float magnitude = (float)mantissa * 0x1p-24f; /* exact */
    return sign != 0 ? -magnitude : magnitude;
}

/* fp16 of the magnitude, rounded toward zero, and whether anything was cut off. */
static uint16_t fp16_truncate(bool *ret_inexact, float magnitude) {
    if (magnitude >= 65504.0f) {
        *ret_inexact = magnitude > 65504.0f;
        return 0x7bff;
    }
    if (magnitude < 0x1p-14f) { /* subnormal in fp16: units of 2^-24 */
        const float units = floorf(magnitude * 0x1p24f);
        *ret_inexact = units != magnitude * 0x1p24f;
        return (uint16_t)units;
    }
    const uint32_t bits = seam_f32_bits(magnitude);
    *ret_inexact = (bits & 0x1fffu) != 0;
    return (uint16_t)((bits >> 13) - (112u << 10));
}

static uint16_t fp16_directed(float value, bool up) {
    if (isnan(value)) {
        return 0x7e00;
    }
    const uint16_t sign = signbit(value) ? 0x8000u : 0;
    if (isinf(value)) {
        return sign | 0x7c00u;
    }
    bool inexact = false;
    uint16_t magnitude = fp16_truncate(&inexact, fabsf(value));
    const bool away = inexact && (up ? sign == 0 : sign != 0);
    if (away) {
        magnitude++; /* the largest finite value steps to infinity */
    }
    return sign | magnitude;
}

uint16_t seam_fp16_from_f32_down(float value) {
    return fp16_directed(value, false);
}

uint16_t seam_fp16_from_f32_up(float value) {
    return fp16_directed(value, true);
}
