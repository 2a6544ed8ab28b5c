/* Bytes of wire and disk: little-endian reads and writes, checksums, hashes.
 *
 * Every function works on unaligned memory and on any host. Callers check bounds. */
#ifndef SEAM_BYTES_H
#define SEAM_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The bits of a float, and the other way. */
static inline uint32_t seam_f32_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
static inline float seam_f32_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The narrow ones stand in inner loops, where compilers make one load or store of them. */
static inline void seam_put_u16(uint8_t *ret, uint16_t value) {
    ret[0] = (uint8_t)value;
    ret[1] = (uint8_t)(value >> 8);
}
static inline void seam_put_u32(uint8_t *ret, uint32_t value) {
    seam_put_u16(ret, (uint16_t)value);
    seam_put_u16(ret + 2, (uint16_t)(value >> 16));
}
void seam_put_u64(uint8_t *ret, uint64_t value);
void seam_put_f32(uint8_t *ret, float value);
void seam_put_f64(uint8_t *ret, double value);
static inline uint16_t seam_get_u16(const uint8_t *bytes) {
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}
static inline uint32_t seam_get_u32(const uint8_t *bytes) {
    return (uint32_t)seam_get_u16(bytes) | (uint32_t)seam_get_u16(bytes + 2) << 16;
}
static inline uint64_t seam_get_u64(const uint8_t *bytes) {
    return (uint64_t)seam_get_u32(bytes) | (uint64_t)seam_get_u32(bytes + 4) << 32;
}
float seam_get_f32(const uint8_t *bytes);
double seam_get_f64(const uint8_t *bytes);

/* Bit `row` of a bitmap, the least significant bit of a byte first; NULL has every row. */
static inline bool seam_bitmap_has(const uint8_t *bitmap, uint32_t row) {
    return bitmap == NULL || ((uint32_t)bitmap[row / 8] >> row % 8 & 1u) != 0;
}

/* CRC-32C (Castagnoli, RFC 3720 B.4), reflected, init and final xor 0xffffffff; chainable: pass
 * the previous result, 0 at first. Hardware instructions where the CPU has them. */
uint32_t seam_crc32c(uint32_t crc, const void *bytes, size_t count);

/* FNV-1a, 64 bit. Start with SEAM_HASH64_INIT; chainable. For agreement between peers that
 * already trust the transport's integrity, not against forgery. */
#define SEAM_HASH64_INIT UINT64_C(0xcbf29ce484222325)
uint64_t seam_hash64(uint64_t hash, const void *bytes, size_t count);

/* bf16 <-> f32, round to nearest even; NaN stays NaN. */
uint16_t seam_bf16_from_f32(float value);
float seam_bf16_to_f32(uint16_t bits);
/* fp16 -> f32, exact. f32 -> fp16 rounded toward -inf / +inf; finite input beyond the range
 * gives the largest finite value on the inner side and infinity on the outer side. */
float seam_fp16_to_f32(uint16_t bits);
uint16_t seam_fp16_from_f32_down(float value);
uint16_t seam_fp16_from_f32_up(float value);

#endif
