/* The variants of affine_tile.h that are written by hand, one file an instruction set; only
 * affine_tile.c, which chooses, and those files include this. */
#ifndef SEAM_AFFINE_TILE_VARIANTS_H
#define SEAM_AFFINE_TILE_VARIANTS_H

#include "affine_tile.h"

#define SEAM_TILE_DECLARE(suffix)                                                                  \
    uint8_t *seam_tile_encode_group_##suffix(uint8_t *codes, uint8_t *codes_end, float *decoded,   \
                                             const void *x, const seam_tile_group *group,          \
                                             const seam_tile_draws *draws);                        \
    const uint8_t *seam_tile_decode_group_##suffix(float *x, const uint8_t *codes,                 \
                                                   const uint8_t *codes_end,                       \
                                                   const seam_tile_group *group, bool streaming);  \
    void seam_tile_widen_##suffix(float *lo, float *hi, float *sum, const seam_tile_sources *rows, \
                                  uint32_t count);                                                 \
    void seam_tile_widen_bf16_##suffix(int16_t *lo, int16_t *hi, const seam_tile_sources *rows,    \
                                       uint32_t count);

#if defined(__x86_64__)
/* AVX-512 DQ is left out: its 64-bit multiply, which compilers then pick, is slower. */
#define SEAM_TILE_AVX2   __attribute__((target("avx2")))
#define SEAM_TILE_AVX512 __attribute__((target("avx2,avx512f,avx512bw,avx512vl")))
#define SEAM_TILE_GFNI                                                                             \
    __attribute__((target("avx2,popcnt,avx512f,avx512bw,avx512vl,avx512vbmi,gfni")))
SEAM_TILE_DECLARE(avx2)
SEAM_TILE_DECLARE(avx512)
SEAM_TILE_DECLARE(gfni)
#elif defined(__aarch64__)
SEAM_TILE_DECLARE(neon)
#endif

#endif
