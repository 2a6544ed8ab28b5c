/* Dropout's mask, reference: one value at a time, as ops.h says it. */
#include "ref.h"

/* Philox4x32-10: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". */
static void philox(uint32_t ret[4], const uint32_t counter[4], const uint32_t key[2]) {
    uint32_t x[4] = {counter[0], counter[1], counter[2], counter[3]};
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xd2511f53u * x[0], p1 = (uint64_t)0xcd9e8d57u * x[2];
        const uint32_t y[4] = {(uint32_t)(p1 >> 32) ^ x[1] ^ k0, (uint32_t)p1,
                               (uint32_t)(p0 >> 32) ^ x[3] ^ k1, (uint32_t)p0};
        for (int i = 0; i < 4; i++) {
            x[i] = y[i];
        }
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    for (int i = 0; i < 4; i++) {
        ret[i] = x[i];
    }
}

bool seam_ref_dropout_keeps(const seam_dropout *dropout, uint32_t row, uint32_t channel) {
    if (dropout->threshold == 0) {
        return true;
    }
    const uint32_t counter[4] = {channel / 8, row, dropout->place, SEAM_DROPOUT_STREAM};
    uint32_t words[4];
    philox(words, counter, dropout->key);
    return (words[channel % 8 / 2] >> channel % 2 * 16 & 0xffff) >= dropout->threshold;
}
