/* Draws of the codec and of shuffles, a counter at a time; see kernels/include/philox.h. */
#include "philox.h"

#include <string.h>

#include "codec.h"

void seam_philox(uint32_t ret[4], const uint32_t counter[4], const uint32_t key[2]) {
    memcpy(ret, counter, 4 * sizeof *ret);
    seam_philox_draw(ret, key[0], key[1]);
}
