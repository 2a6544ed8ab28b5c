/* affine_tile.h's groups for AVX-512 VL on 256-bit vectors: affine_tile_x86.h is the source. */
#include "affine_tile_variants.h"

#if defined(__x86_64__)
#define SEAM_TILE_TARGET SEAM_TILE_AVX512
#define SEAM_TILE_TERNARY
#define SEAM_TILE_NAME(verb) seam_tile_##verb##_avx512
#include "affine_tile_x86.h"
#endif
