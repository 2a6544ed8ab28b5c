/* See range_bounds.h.  Without branches and by pieces that stay in cache, so that compilers make
 * vectors of it: one number after another takes longer than packing 32 rows of its channel. */
#include "range_bounds.h"

#include <float.h>
#include <math.h>

#include "affine_tile_variants.h"
#include "bytes.h"
#include "try.h"

#define EXPONENT_MIN (-163) /* the largest magnitude is 2^-149 */
#define EXPONENT_MAX 110    /* the largest magnitude is below 2^125 */
#define FP16_MAX     65504.0f
#define PIECE        64u
#define INLINE       static inline __attribute__((always_inline))

seam_status seam_range_head_put(uint8_t *ret_head, int *ret_exponent, float largest) {
    int exponent = 0;
    if (largest > 0.0f) {
        (void)frexpf(largest, &exponent); /* largest in [2^(e-1), 2^e) */
        exponent -= 15;
        if (exponent > EXPONENT_MAX) {
            return SEAM_E_NONFINITE;
        }
    }
    seam_put_u16(ret_head, (uint16_t)exponent);
    seam_put_u16(ret_head + 2, 0);
    *ret_exponent = exponent;
    return SEAM_OK;
}

seam_status seam_range_head_get(double *ret_unit, const uint8_t *head) {
    const int exponent = (int16_t)seam_get_u16(head);
    if (exponent < EXPONENT_MIN || exponent > EXPONENT_MAX || seam_get_u16(head + 2) != 0) {
        return SEAM_E_FORMAT;
    }
    *ret_unit = ldexp(1.0, exponent);
    return SEAM_OK;
}

/* fp16 of value * scale toward plus infinity or toward minus infinity.  The product is exact in
 * double; as f32 it loses bits only far below fp16's smallest, where all that counts is that it
 * was not zero. */
INLINE uint32_t fp16_directed(float value, double scale, bool up) {
    const float product = (float)(fabs((double)value) * scale);
    const float magnitude = product < FP16_MAX ? product : FP16_MAX;
    const uint32_t bits = seam_f32_bits(magnitude);
    /* Below 2^-14 fp16 counts in units of 2^-24. */
    const float units = (magnitude < 0x1p-14f ? magnitude : 0x1p-14f) * 0x1p24f;
    const uint32_t small = (uint32_t)(int32_t)units;
    const bool is_small = magnitude < 0x1p-14f;
    const uint32_t half = is_small ? small : (bits >> 13) - (112u << 10);
    /* Bits that are set where something was cut off. */
    const uint32_t cut =
        is_small ? seam_f32_bits((float)(int32_t)small) ^ seam_f32_bits(units) : bits & 0x1fffu;
    const uint32_t lost = cut | (half == 0 ? seam_f32_bits(value) & 0x7fffffffu : 0);
    const uint32_t sign = seam_f32_bits(value) >> 31;
    const uint32_t outward = up ? 1 - sign : sign;
    const uint32_t rounded = half + (lost != 0 ? outward : 0);
    return rounded != 0 ? rounded | sign << 15 : 0;
}

INLINE void put_body(uint8_t *ret_bounds, const float *lo, const float *hi, size_t count,
                     double scale) {
    uint32_t words[PIECE];
    for (size_t begin = 0; begin < count; begin += PIECE) {
        const size_t piece = count - begin < PIECE ? count - begin : PIECE;
        const float *lo_piece = lo + begin, *hi_piece = hi + begin;
        uint8_t *out = ret_bounds + SEAM_RANGE_BYTES * begin;
        for (size_t i = 0; i < piece; i++) {
            words[i] = fp16_directed(lo_piece[i], scale, false) |
                       fp16_directed(hi_piece[i], scale, true) << 16;
        }
        for (size_t i = 0; i < piece; i++) {
            seam_put_u32(out + SEAM_RANGE_BYTES * i, words[i]);
        }
    }
}

/* Finite ones only.  The exponent is shifted into f32's place, and made right by a product, which
 * serves subnormal ones too. */
INLINE float fp16_value(uint32_t half) {
    return seam_f32_of_bits(seam_f32_bits(seam_f32_of_bits((half & 0x7fffu) << 13) * 0x1p112f) |
                            (half & 0x8000u) << 16);
}

INLINE bool fp16_is_finite(uint32_t half) {
    return (half & 0x7c00u) != 0x7c00u;
}

/* Why one of them is refused. */
static seam_status bounds_refused(const uint8_t *bounds, size_t count) {
    for (size_t i = 0; i < count; i++, bounds += SEAM_RANGE_BYTES) {
        const uint32_t lo = seam_get_u16(bounds), hi = seam_get_u16(bounds + 2);
        if (!fp16_is_finite(lo) || !fp16_is_finite(hi)) {
            return SEAM_E_NONFINITE;
        }
        if (fp16_value(lo) > fp16_value(hi)) {
            return SEAM_E_FORMAT;
        }
    }
    SEAM_ASSERT(false); /* all of them are fine */
    return SEAM_E_FORMAT;
}

/* How many there are in front of a piece of which one is refused, or all. */
INLINE size_t get_body(float *ret_lo, float *ret_hi, const uint8_t *bounds, size_t count,
                       double unit) {
    uint32_t words[PIECE];
    for (size_t begin = 0; begin < count; begin += PIECE) {
        const size_t piece = count - begin < PIECE ? count - begin : PIECE;
        const uint8_t *in = bounds + SEAM_RANGE_BYTES * begin;
        float *restrict lo = ret_lo + begin, *restrict hi = ret_hi + begin;
        uint32_t refused = 0;
        for (size_t i = 0; i < piece; i++) {
            words[i] = seam_get_u32(in + SEAM_RANGE_BYTES * i);
        }
        for (size_t i = 0; i < piece; i++) {
            const uint32_t lo_half = words[i] & 0xffffu, hi_half = words[i] >> 16;
            const float lo_value = fp16_value(lo_half), hi_value = fp16_value(hi_half);
            lo[i] = (float)((double)lo_value * unit);
            hi[i] = (float)((double)hi_value * unit);
            refused |= fp16_is_finite(lo_half) && fp16_is_finite(hi_half) ? 0u : 1u;
            refused |= lo_value <= hi_value ? 0u : 1u;
        }
        if (refused != 0) {
            return begin;
        }
    }
    return count;
}

/* ---- by instruction set ---- */

#define DEFINE_BOUNDS(suffix, attributes)                                                          \
    attributes static void put_##suffix(uint8_t *ret_bounds, const float *lo, const float *hi,     \
                                        size_t count, double scale) {                              \
        put_body(ret_bounds, lo, hi, count, scale);                                                \
    }                                                                                              \
    attributes static size_t get_##suffix(float *ret_lo, float *ret_hi, const uint8_t *bounds,     \
                                          size_t count, double unit) {                             \
        return get_body(ret_lo, ret_hi, bounds, count, unit);                                      \
    }

#define NO_ATTRIBUTES
DEFINE_BOUNDS(base, NO_ATTRIBUTES)
static const seam_range_ops ops_base = {put_base, get_base};
#if defined(__x86_64__)
DEFINE_BOUNDS(avx2, SEAM_TILE_AVX2)
static const seam_range_ops ops_avx2 = {put_avx2, get_avx2};
#endif

const seam_range_ops *seam_range_ops_variant(uint32_t idx) {
    if (idx == 0) {
        return &ops_base;
    }
#if defined(__x86_64__)
    if (idx == 1 && __builtin_cpu_supports("avx2")) {
        return &ops_avx2;
    }
#endif
    return NULL;
}

static const seam_range_ops *ops_best(void) {
    const seam_range_ops *second = seam_range_ops_variant(1);
    return second != NULL ? second : seam_range_ops_variant(0);
}

void seam_range_bounds_put(uint8_t *ret_bounds, const float *lo, const float *hi, uint32_t count,
                           int exponent) {
    ops_best()->put(ret_bounds, lo, hi, count, ldexp(1.0, -exponent));
}

seam_status seam_range_bounds_get(float *ret_lo, float *ret_hi, const uint8_t *bounds,
                                  uint32_t count, double unit) {
    const size_t taken = ops_best()->get(ret_lo, ret_hi, bounds, count, unit);
    return taken == count ? SEAM_OK
                          : bounds_refused(bounds + SEAM_RANGE_BYTES * taken, count - taken);
}
