/* Frequencies, tables and class descriptions of the entropy coder: see rans_impl.h.  Everything
 * here is integer arithmetic that both ends repeat; WIRE.md 3.4 writes it down. */
#include <string.h>

#include "rans_impl.h"
#include "try.h"

#define WEIGHT_BITS 24u
#define ONE_WEIGHT  (1u << (WEIGHT_BITS - SEAM_RANS_PROB_BITS)) /* of frequency 1 */

seam_rans_unit seam_rans_unit_of(uint32_t kind) {
    static const uint8_t cells[9] = {0, 8, 4, 2, 2, 1, 1, 1, 1};
    SEAM_ASSERT(kind >= 1);
    SEAM_ASSERT(kind <= 8);
    return (seam_rans_unit){.planes = kind, .cells = cells[kind]};
}

/* Every present symbol gets 1; what a weight has above that shares the rest in proportion, by
 * differences of a rounded running sum, so that the total is exact without any correction. */
void seam_rans_scale(uint16_t *ret_freqs, const uint32_t *weights, uint32_t count) {
    uint32_t present = 0;
    uint64_t excess = 0;
    for (uint32_t s = 0; s < count; s++) {
        present += weights[s] != 0 ? 1 : 0;
        excess += weights[s] > ONE_WEIGHT ? weights[s] - ONE_WEIGHT : 0;
    }
    SEAM_ASSERT(present >= 2);
    SEAM_ASSERT(excess > 0);
    const uint64_t share = SEAM_RANS_PROB_SUM - present;
    uint64_t sum = 0;
    uint32_t given = 0;
    for (uint32_t s = 0; s < count; s++) {
        sum += weights[s] > ONE_WEIGHT ? weights[s] - ONE_WEIGHT : 0;
        const uint32_t upto = (uint32_t)(sum * share / excess);
        ret_freqs[s] = (uint16_t)((weights[s] != 0 ? 1 : 0) + (upto - given));
        given = upto;
    }
}

/* Weights of pairs from weights of `count` symbols, the first in the low bits. */
static void pairs_weigh(uint32_t *ret, const uint32_t *weights, uint32_t count) {
    for (uint32_t b = 0; b < count; b++) {
        for (uint32_t a = 0; a < count; a++) {
            const uint32_t product = (uint32_t)((uint64_t)weights[a] * weights[b] >> WEIGHT_BITS);
            const bool lost = product == 0 && weights[a] != 0 && weights[b] != 0;
            ret[b * count + a] = lost ? 1 : product;
        }
    }
}

void seam_rans_unit_freqs(uint16_t *ret_freqs, const seam_rans_class *cls) {
    uint32_t weights[SEAM_RANS_SYMBOLS_MAX], pairs[SEAM_RANS_SYMBOLS_MAX];
    const seam_rans_unit unit = seam_rans_unit_of(cls->kind);
    uint32_t count = 1u << cls->kind;
    for (uint32_t s = 0; s < count; s++) {
        weights[s] = (uint32_t)cls->freqs[s] * ONE_WEIGHT;
    }
    for (uint32_t cells = unit.cells; cells > 1; cells /= 2) {
        pairs_weigh(pairs, weights, count);
        count *= count;
        memcpy(weights, pairs, count * sizeof *weights);
    }
    seam_rans_scale(ret_freqs, weights, count);
}

void seam_rans_encode_table(seam_rans_encode_entry *ret, const uint16_t *freqs, uint32_t count) {
    uint32_t start = 0;
    memset(ret, 0, SEAM_RANS_SYMBOLS_MAX * sizeof *ret);
    for (uint32_t s = 0; s < count; s++) {
        const uint32_t freq = freqs[s];
        uint64_t reciprocal = UINT32_MAX;
        uint32_t shift = 0;
        uint32_t bias = start + SEAM_RANS_PROB_SUM - 1;
        if (freq >= 2) {
            while (1u << shift < freq) {
                shift++;
            }
            reciprocal = ((UINT64_C(1) << (shift + 31)) + freq - 1) / freq;
            shift--;
            bias = start;
        }
        ret[s] = reciprocal | (uint64_t)freq << 32 | (uint64_t)bias << 44 | (uint64_t)shift << 57;
        start += freq;
    }
    SEAM_ASSERT(start == SEAM_RANS_PROB_SUM);
}

/* Slots eight at a time; what runs over belongs to the next symbol, which comes next. */
void seam_rans_decode_table(seam_rans_decode_entry *ret, const uint16_t *freqs, uint32_t count) {
    uint32_t start = 0;
    for (uint32_t s = 0; s < count; s++) {
        const uint32_t entry = (uint32_t)freqs[s] << 20 | s << 12;
        for (uint32_t i = 0; i < freqs[s]; i += SEAM_RANS_TABLE_SLOP) {
            for (uint32_t k = 0; k < SEAM_RANS_TABLE_SLOP; k++) {
                ret[start + i + k] = entry + i + k;
            }
        }
        start += freqs[s];
    }
    SEAM_ASSERT(start == SEAM_RANS_PROB_SUM);
}

uint32_t seam_rans_pad_symbol(const seam_rans_class *cls) {
    uint32_t best = 0;
    for (uint32_t s = 1; s < 1u << cls->kind; s++) {
        best = cls->freqs[s] > cls->freqs[best] ? s : best;
    }
    return best;
}

/* Bit by bit: squaring the mantissa doubles its logarithm. */
uint32_t seam_rans_log2(uint32_t value) {
    SEAM_ASSERT(value >= 1);
    const uint32_t whole = 31 - (uint32_t)__builtin_clz(value);
    uint64_t mantissa = (uint64_t)value << (31 - whole); /* 1..2 in units of 2^-31 */
    uint32_t log = whole;
    for (uint32_t bit = 0; bit < 8; bit++) {
        mantissa = mantissa * mantissa >> 31;
        const uint32_t carry = (uint32_t)(mantissa >> 32); /* 0 or 1 */
        log = 2 * log + carry;
        mantissa >>= carry;
    }
    return log;
}

size_t seam_rans_class_write(uint8_t *ret, const seam_rans_class *cls) {
    uint8_t *at = ret;
    *at++ = (uint8_t)cls->kind;
    if (cls->kind >= 1 && cls->kind <= 8) {
        for (uint32_t s = 0; s < 1u << cls->kind; s++) {
            const uint32_t freq = cls->freqs[s];
            *at++ = (uint8_t)((freq & 127) | (freq >= 128 ? 128 : 0));
            if (freq >= 128) {
                *at++ = (uint8_t)(freq >> 7);
            }
        }
    }
    return (size_t)(at - ret);
}

/* One frequency: 7 bits and a flag, then, when flagged, the bits above. */
static seam_status freq_read(uint16_t *ret, const uint8_t **at, const uint8_t *end) {
    if (*at == end) {
        return SEAM_E_FORMAT;
    }
    uint32_t freq = *(*at)++;
    if (freq >= 128) {
        if (*at == end || **at == 0 || **at >= SEAM_RANS_PROB_SUM >> 7) {
            return SEAM_E_FORMAT; /* two bytes for what fits in one, or 4096 */
        }
        freq = (freq & 127) | (uint32_t) * (*at)++ << 7;
    }
    *ret = (uint16_t)freq;
    return SEAM_OK;
}

seam_status seam_rans_class_read(seam_rans_class *ret, const uint8_t **at, const uint8_t *end) {
    if (*at == end || **at > SEAM_RANS_KIND_ZERO) {
        return SEAM_E_FORMAT;
    }
    ret->kind = *(*at)++;
    if (ret->kind == 0 || ret->kind == SEAM_RANS_KIND_ZERO) {
        return SEAM_OK;
    }
    uint32_t sum = 0;
    for (uint32_t s = 0; s < 1u << ret->kind; s++) {
        SEAM_TRY(freq_read(&ret->freqs[s], at, end));
        sum += ret->freqs[s];
    }
    /* Each is below 4096, so two or more are not 0. */
    return sum == SEAM_RANS_PROB_SUM ? SEAM_OK : SEAM_E_FORMAT;
}
