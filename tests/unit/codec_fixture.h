/* Inputs shared by the codec's tests: a small generator and tensors with awkward channels. */
#ifndef SEAM_TEST_CODEC_FIXTURE_H
#define SEAM_TEST_CODEC_FIXTURE_H

#include <stddef.h>
#include <stdint.h>

/* xorshift64*: good enough for inputs, the same on every machine. */
static inline uint32_t fixture_next(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (uint32_t)(*state * UINT64_C(0x2545f4914f6cdd1d) >> 32);
}

/* Roughly normal, |x| < 6. */
static inline float fixture_normal(uint64_t *state) {
    float sum = 0.0f;
    for (int i = 0; i < 12; i++) {
        sum += (float)(fixture_next(state) >> 8) * 0x1p-24f;
    }
    return sum - 6.0f;
}

/* Channel c has scale 4^(c % 5 - 2) and mean c % 3; every seventh is constant. */
static inline void fixture_tensor(float *ret, uint32_t rows, uint32_t channels, uint64_t seed) {
    uint64_t state = seed * 2 + 1;
    static const float scales[5] = {0.0625f, 0.25f, 1.0f, 4.0f, 16.0f};
    for (uint32_t t = 0; t < rows; t++) {
        for (uint32_t c = 0; c < channels; c++) {
            const float x = fixture_normal(&state) * scales[c % 5] + (float)(c % 3);
            ret[(size_t)t * channels + c] = c % 7 == 6 ? 0.5f : x;
        }
    }
}

#endif
