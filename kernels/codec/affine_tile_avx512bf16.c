/* affine_tile.h's groups for AVX-512 VL with conversions to bf16: affine_tile_x86.h is the source.
 */
#include "affine_tile_variants.h"

#if defined(__x86_64__)
#define SEAM_TILE_TARGET SEAM_TILE_AVX512BF16
#define SEAM_TILE_TERNARY
#define SEAM_TILE_BF16
#define SEAM_TILE_NAME(verb) seam_tile_##verb##_avx512bf16
#include "affine_tile_x86.h"
#endif
