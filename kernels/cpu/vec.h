/* Vectors and element types of one CPU variant.
 *
 * The op files of this folder are compiled once a variant (kernels.cmake): the same source, other
 * instruction flags and another `act`.  SEAM_VARIANT names it: base (x86-64-v2, aarch64), avx2,
 * avx512: act = f32; amx: act = bf16.  VL is the native vector length in floats, so compilers
 * never split a vector.  Results of two variants may differ in the last bits (FMA), never those of
 * two thread counts. */
#ifndef SEAM_VEC_H
#define SEAM_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define VL 16
#elif defined(__AVX2__)
#include <immintrin.h>
#define VL 8
#else
#define VL 4
#endif

#define CPU_CAT_(variant, name) seam_cpu_##variant##_##name
#define CPU_CAT(variant, name)  CPU_CAT_(variant, name)
#define CPU_FN(name)            CPU_CAT(SEAM_VARIANT, name) /* seam_cpu_avx2_rope */
#define CPU_INLINE              static inline __attribute__((always_inline, unused))

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef float vf_unaligned __attribute__((vector_size(VL * 4), aligned(4), may_alias));

CPU_INLINE vf vf_load(const float *p) {
    return *(const vf_unaligned *)p;
}

CPU_INLINE void vf_store(float *p, vf x) {
    *(vf_unaligned *)p = x;
}

CPU_INLINE vf vf_set(float x) {
    const vf zero = {0};
    return x - zero;
}

/* The first n < VL elements; the others are 0 / left alone. */
CPU_INLINE vf vf_load_n(const float *p, uint32_t n) {
    float x[VL] = {0};
    for (uint32_t i = 0; i < n; i++) {
        x[i] = p[i];
    }
    return vf_load(x);
}

CPU_INLINE void vf_store_n(float *p, vf x, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        p[i] = x[i];
    }
}

CPU_INLINE vf vf_select(vi mask, vf yes, vf no) {
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}

CPU_INLINE vf vf_max(vf x, vf y) {
#if VL == 16
    return (vf)_mm512_max_ps((__m512)x, (__m512)y);
#elif VL == 8
    return (vf)_mm256_max_ps((__m256)x, (__m256)y);
#else
    return vf_select(x > y, x, y);
#endif
}

CPU_INLINE vf vf_min(vf x, vf y) {
#if VL == 16
    return (vf)_mm512_min_ps((__m512)x, (__m512)y);
#elif VL == 8
    return (vf)_mm256_min_ps((__m256)x, (__m256)y);
#else
    return vf_select(x < y, x, y);
#endif
}

/* Lanes added pairwise, in one fixed order. */
CPU_INLINE float vf_sum(vf x) {
    float lane[VL];
    vf_store(lane, x);
    for (uint32_t w = VL / 2; w > 0; w /= 2) {
        for (uint32_t i = 0; i < w; i++) {
            lane[i] += lane[i + w];
        }
    }
    return lane[0];
}

/* e^x to about 2 units in the last place; 0 below -87.3, 2.4e38 above 88.4, NaN for NaN.
 * x = n ln2 + r, |r| <= ln2/2; e^r by its Taylor series to r^7 (remainder 5e-9 relative). */
CPU_INLINE vf vf_exp(vf x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    const vf low = vf_set(-87.3f), high = vf_set(88.37f);
    const vf clamped = vf_min(vf_max(x, low), high);
    const vf shifted = clamped * 1.44269504f + magic;
    const vf n = shifted - magic;
    const vf r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
    vf p = r * (1.0f / 5040.0f) + (1.0f / 720.0f);
    p = p * r + (1.0f / 120.0f);
    p = p * r + (1.0f / 24.0f);
    p = p * r + (1.0f / 6.0f);
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    const vi bits = (vi)p + ((vi)shifted << 23);
    return (vf)((bits & (vi)(x >= low)) | (vi)(x != x));
}

/* ---- act ---- */
#ifdef SEAM_VARIANT_BF16
typedef uint16_t act;
#define ACT_DTYPE SEAM_BF16

CPU_INLINE vf act_load(const act *p) {
    const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16);
}

CPU_INLINE void act_store(act *p, vf x) {
    const __m256bh y = _mm512_cvtneps_pbh((__m512)x);
    _mm256_storeu_si256((__m256i *)(void *)p, (__m256i)y);
}

/* Two neighbouring vectors: one whole cache line. */
CPU_INLINE void act_store_two(act *p, vf x, vf y) {
    _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh((__m512)y, (__m512)x));
}

CPU_INLINE vf act_load_n(const act *p, uint32_t n) {
    const __mmask16 mask = (__mmask16)((1u << n) - 1);
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p)), 16);
}

CPU_INLINE void act_store_n(act *p, vf x, uint32_t n) {
    const __mmask16 mask = (__mmask16)((1u << n) - 1);
    _mm256_mask_storeu_epi16(p, mask, (__m256i)_mm512_cvtneps_pbh((__m512)x));
}
#else
typedef float act;
#define ACT_DTYPE SEAM_F32

CPU_INLINE vf act_load(const act *p) {
    return vf_load(p);
}

CPU_INLINE void act_store(act *p, vf x) {
    vf_store(p, x);
}

CPU_INLINE void act_store_two(act *p, vf x, vf y) {
    vf_store(p, x);
    vf_store(p + VL, y);
}

CPU_INLINE vf act_load_n(const act *p, uint32_t n) {
    return vf_load_n(p, n);
}

CPU_INLINE void act_store_n(act *p, vf x, uint32_t n) {
    vf_store_n(p, x, n);
}
#endif

/* acc or act behind a void pointer, by a flag that is constant in a loop; n <= VL. */
CPU_INLINE vf any_load(const void *p, size_t i, _Bool is_acc, uint32_t n) {
    if (is_acc) {
        const float *f = (const float *)p + i;
        return n == VL ? vf_load(f) : vf_load_n(f, n);
    }
    const act *x = (const act *)p + i;
    return n == VL ? act_load(x) : act_load_n(x, n);
}

CPU_INLINE void any_store(void *p, size_t i, _Bool is_acc, vf x, uint32_t n) {
    if (is_acc) {
        float *f = (float *)p + i;
        n == VL ? vf_store(f, x) : vf_store_n(f, x, n);
    } else {
        act *y = (act *)p + i;
        n == VL ? act_store(y, x) : act_store_n(y, x, n);
    }
}

CPU_INLINE uint32_t min_u32(uint32_t x, uint32_t y) {
    return x < y ? x : y;
}

#endif
