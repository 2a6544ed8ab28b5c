/* Floor and largest fractions: see widths.h. */
#include "widths.h"

#include <math.h>
#include <string.h>

uint32_t seam_widths_total(const float *bits, uint32_t channels) {
    double sum = 0.0;
    for (uint32_t c = 0; c < channels; c++) {
        sum += (double)bits[c];
    }
    return (uint32_t)rint(sum);
}

static uint32_t fraction_key(float bits) {
    const float fraction = bits - floorf(bits); /* exact */
    uint32_t key;
    memcpy(&key, &fraction, sizeof key); /* ordered like the fraction: it is not negative */
    return key;
}

static uint32_t keys_at_least(const float *bits, uint32_t channels, uint32_t key) {
    uint32_t count = 0;
    for (uint32_t c = 0; c < channels; c++) {
        count += fraction_key(bits[c]) >= key;
    }
    return count;
}

/* The largest key that at least `count` channels reach, found bit by bit: no sort, no memory. */
static uint32_t key_select(const float *bits, uint32_t channels, uint32_t count) {
    uint32_t key = 0;
    for (uint32_t bit = 1u << 29; bit != 0; bit >>= 1) {
        if (keys_at_least(bits, channels, key | bit) >= count) {
            key |= bit;
        }
    }
    return key;
}

void seam_widths_round(uint8_t *ret_widths, const float *bits, uint32_t channels) {
    uint32_t floors = 0;
    for (uint32_t c = 0; c < channels; c++) {
        ret_widths[c] = (uint8_t)bits[c];
        floors += ret_widths[c];
    }
    /* The sum of fractions is below the count of channels that have one, so a channel at a whole
     * number, such as one at a bound, never goes up. */
    const uint32_t raise = seam_widths_total(bits, channels) - floors;
    if (raise == 0) {
        return;
    }
    const uint32_t key = key_select(bits, channels, raise);
    uint32_t ties = raise - (key < UINT32_MAX ? keys_at_least(bits, channels, key + 1) : 0);
    for (uint32_t c = 0; c < channels; c++) {
        const uint32_t own = fraction_key(bits[c]);
        if (own > key || (own == key && ties > 0)) {
            ties -= own == key;
            ret_widths[c]++;
        }
    }
}
