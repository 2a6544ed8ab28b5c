/* Chunks of packed codes for tests of the entropy coder, placed bit by bit from WIRE.md 3.2, with
 * shapes of distribution that the model has to tell apart.  For test programs only. */
#ifndef SEAM_TEST_RANS_FIXTURE_H
#define SEAM_TEST_RANS_FIXTURE_H

#include <stdint.h>
#include <string.h>

#include "codec_fixture.h"
#include "rans.h"

typedef enum rans_shape {
    RANS_SHAPE_NORMAL,  /* four deviations on either side fill the range */
    RANS_SHAPE_PEAKED,  /* an outlier stretches the range: a deviation is 1/64 of it */
    RANS_SHAPE_UNIFORM, /* does not shrink */
    RANS_SHAPE_ZERO,
    RANS_SHAPE_RARE, /* zero but for one code in 500 */
    RANS_SHAPE_ALL,  /* the channels take turns */
} rans_shape;

static inline uint32_t rans_code(uint64_t *state, rans_shape shape, uint32_t channel,
                                 uint32_t width) {
    const uint32_t top = (1u << width) - 1;
    const float normal = fixture_normal(state);
    const uint32_t random = fixture_next(state);
    float x = 0.0f;
    switch (shape == RANS_SHAPE_ALL ? (rans_shape)(channel % RANS_SHAPE_ALL) : shape) {
    case RANS_SHAPE_NORMAL:
        x = 0.5f + normal / 8.0f + 0.01f * (float)(channel % 9);
        break;
    case RANS_SHAPE_PEAKED:
        x = 0.3f + normal / 64.0f;
        break;
    case RANS_SHAPE_UNIFORM:
        return random & top;
    case RANS_SHAPE_RARE:
        return random % 500 == 0 ? random >> 9 & top : 0;
    case RANS_SHAPE_ZERO:
    case RANS_SHAPE_ALL:
        return 0;
    }
    x = x < 0.0f ? 0.0f : x > 1.0f ? 1.0f : x;
    return (uint32_t)(x * (float)top + 0.5f);
}

/* ret_codes: seam_rans_bytes_max(args) - 1 bytes. */
static inline void rans_fixture(uint8_t *ret_codes, const seam_rans_args *args, rans_shape shape,
                                uint64_t seed) {
    uint64_t state = 2 * seed + 1;
    memset(ret_codes, 0, seam_rans_bytes_max(args) - 1);
    size_t base = 0;
    for (uint32_t begin = 0; begin < args->rows; begin += 32) {
        const uint32_t n = args->rows - begin < 32 ? args->rows - begin : 32;
        for (uint32_t c = 0; c < args->channels; c++) {
            for (uint32_t i = 0; i < n; i++) {
                const uint32_t code = rans_code(&state, shape, c, args->widths[c]);
                for (uint32_t j = 0; j < args->widths[c]; j++) {
                    const size_t bit = base + (size_t)j * n + i;
                    ret_codes[bit / 8] = (uint8_t)(ret_codes[bit / 8] | (code >> j & 1) << bit % 8);
                }
            }
            base += (size_t)args->widths[c] * n;
        }
    }
}

#endif
