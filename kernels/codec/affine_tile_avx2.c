/* affine_tile.h's groups for AVX2: affine_tile_x86.h is the source. */
#include "affine_tile_variants.h"

#if defined(__x86_64__)
#define SEAM_TILE_TARGET     SEAM_TILE_AVX2
#define SEAM_TILE_NAME(verb) seam_tile_##verb##_avx2
#include "affine_tile_x86.h"
#endif
