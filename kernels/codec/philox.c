/* Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011, section 4.  Counter-based: a value depends on key and counter alone, so a replay or
 * another thread order draws the same numbers.  philox_lanes.h has the same rounds on lanes. */
#include "codec.h"
#include "philox_lanes.h"

void seam_philox(uint32_t ret[4], const uint32_t counter[4], const uint32_t key[2]) {
    uint32_t x0 = counter[0], x1 = counter[1], x2 = counter[2], x3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)SEAM_PHILOX_MULTIPLIER_0 * x0;
        const uint64_t p1 = (uint64_t)SEAM_PHILOX_MULTIPLIER_1 * x2;
        const uint32_t y0 = (uint32_t)(p1 >> 32) ^ x1 ^ k0;
        const uint32_t y2 = (uint32_t)(p0 >> 32) ^ x3 ^ k1;
        x1 = (uint32_t)p1;
        x3 = (uint32_t)p0;
        x0 = y0;
        x2 = y2;
        k0 += SEAM_PHILOX_WEYL_0;
        k1 += SEAM_PHILOX_WEYL_1;
    }
    ret[0] = x0;
    ret[1] = x1;
    ret[2] = x2;
    ret[3] = x3;
}
