/* Floor and largest fractions: see widths.h. */
#include "widths.h"

#include <math.h>
#include <string.h>

uint32_t seam_widths_total(const float *bits, uint32_t width_count) {
    double sum = 0.0;
    for (uint32_t c = 0; c < width_count; c++) {
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

static uint32_t keys_at_least(const float *bits, uint32_t width_count, uint32_t key) {
    uint32_t count = 0;
    for (uint32_t c = 0; c < width_count; c++) {
        count += fraction_key(bits[c]) >= key;
    }
    return count;
}

/* The largest key that at least `count` widths reach, found bit by bit: no sort, no memory. */
static uint32_t key_select(const float *bits, uint32_t width_count, uint32_t count) {
    uint32_t key = 0;
    for (uint32_t bit = 1u << 29; bit != 0; bit >>= 1) {
        if (keys_at_least(bits, width_count, key | bit) >= count) {
            key |= bit;
        }
    }
    return key;
}

void seam_widths_round(uint8_t *ret_widths, const float *bits, uint32_t width_count) {
    uint32_t floors = 0;
    for (uint32_t c = 0; c < width_count; c++) {
        ret_widths[c] = (uint8_t)bits[c];
        floors += ret_widths[c];
    }
    /* The sum of fractions is below the count of widths that have one, so one at a whole
     * number, such as one at a bound, never goes up. */
    const uint32_t raise = seam_widths_total(bits, width_count) - floors;
    if (raise == 0) {
        return;
    }
    const uint32_t key = key_select(bits, width_count, raise);
    uint32_t ties = raise - (key < UINT32_MAX ? keys_at_least(bits, width_count, key + 1) : 0);
    for (uint32_t c = 0; c < width_count; c++) {
        const uint32_t own = fraction_key(bits[c]);
        if (own > key || (own == key && ties > 0)) {
            ties -= own == key;
            ret_widths[c]++;
        }
    }
}
