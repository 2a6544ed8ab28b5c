/* Reverse water-filling: see waterfill.h.
 *
 * State is f32 (it is journaled exactly); every formula is evaluated in f64 and rounded once.  Both
 * searches for a level are the same: the sum of clamp(a + level) rises with the level, so bisect,
 * then solve exactly for what is not clamped, which makes the sum meet its total to f64. */
#include "waterfill.h"

#include <math.h>
#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "codec.h"
#include "try.h"
#include "widths.h"

#define BISECTIONS 64 /* the interval is at most 2^10 wide */

seam_status seam_waterfill_init(seam_waterfill *waterfill, uint32_t channels) {
    SEAM_ASSERT(channels >= 1);
    SEAM_ASSERT(channels <= SEAM_CHANNELS_MAX);
    float *block = seam_mem_zalloc(3 * (size_t)channels, sizeof *block);
    if (block == NULL) {
        return SEAM_E_MEMORY;
    }
    *waterfill = (seam_waterfill){
        .channels = channels,
        .weights = block,
        .spans = block + channels,
        .bits = block + 2 * (size_t)channels,
    };
    return SEAM_OK;
}

void seam_waterfill_deinit(seam_waterfill *waterfill) {
    seam_mem_free(waterfill->weights); /* spans and bits are parts of the same block */
    memset(waterfill, 0, sizeof *waterfill);
}

/* ---- averages ---- */

static double counted(float value) {
    return isfinite(value) && value > 0.0f ? (double)value : 0.0;
}

static float averaged(float old, double now, double rate) {
    const double value = (double)old + rate * (now - (double)old);
    return (float)fmin(fmax(value, 0.0), 0x1p127);
}

void seam_waterfill_add_spans(float *ret_sums, const float *steps, const uint8_t *widths,
                              uint32_t channels) {
    for (uint32_t c = 0; c < channels; c++) {
        ret_sums[c] += steps[c] * (float)((1u << widths[c]) - 1u);
    }
}

void seam_waterfill_update(seam_waterfill *waterfill, const seam_waterfill_update_args *args) {
    SEAM_ASSERT(args->rows > 0);
    SEAM_ASSERT(args->micros > 0);
    waterfill->step++;
    const double rate = fmax(1.0 - (double)SEAM_WATERFILL_DECAY, 1.0 / (double)waterfill->step);
    for (uint32_t c = 0; c < waterfill->channels; c++) {
        const double weight = counted(args->squares[c]) / (double)args->rows;
        const double span = counted(args->spans[c]) / (double)args->micros;
        waterfill->weights[c] = averaged(waterfill->weights[c], weight, rate);
        waterfill->spans[c] = averaged(waterfill->spans[c], span, rate);
    }
}

static bool is_live(const seam_waterfill *waterfill, uint32_t c) {
    return waterfill->weights[c] > 0.0f && waterfill->spans[c] > 0.0f;
}

/* a_c of a live channel. */
static double cost(const seam_waterfill *waterfill, uint32_t c) {
    return 0.5 * log2((double)waterfill->weights[c]) + log2((double)waterfill->spans[c]);
}

double seam_waterfill_sum(uint32_t *ret_live, const seam_waterfill *waterfill) {
    double sum = 0.0;
    uint32_t live = 0;
    for (uint32_t c = 0; c < waterfill->channels; c++) {
        if (is_live(waterfill, c)) {
            sum += cost(waterfill, c);
            live++;
        }
    }
    *ret_live = live;
    return sum;
}

/* ---- the level ---- */

/* One term of the sum: `count` values at clamp(height + level, low, high) each. */
typedef struct term {
    double height, count, low, high;
} term;

/* What the search asks for: term i of the caller's context. */
typedef term term_fn(const void *context, uint32_t i);

static double clamped_sum(term_fn *term_at, const void *context, uint32_t terms, double level) {
    double sum = 0.0;
    for (uint32_t i = 0; i < terms; i++) {
        const term t = term_at(context, i);
        sum += t.count * fmin(fmax(t.height + level, t.low), t.high);
    }
    return sum;
}

/* The level at which the clamped sum is `total`; outside of what the bounds allow, one that has
 * every term at its bound. */
static double level_solve(term_fn *term_at, const void *context, uint32_t terms, double total) {
    double below = INFINITY, above = -INFINITY;
    for (uint32_t i = 0; i < terms; i++) {
        const term t = term_at(context, i);
        below = fmin(below, t.low - t.height);
        above = fmax(above, t.high - t.height);
    }
    if (clamped_sum(term_at, context, terms, below) >= total) {
        return below;
    }
    if (clamped_sum(term_at, context, terms, above) <= total) {
        return above;
    }
    for (uint32_t i = 0; i < BISECTIONS; i++) {
        const double middle = 0.5 * (below + above);
        if (clamped_sum(term_at, context, terms, middle) < total) {
            below = middle;
        } else {
            above = middle;
        }
    }
    double free_count = 0.0, rest = total;
    for (uint32_t i = 0; i < terms; i++) {
        const term t = term_at(context, i);
        const double value = t.height + above;
        if (value > t.low && value < t.high) {
            free_count += t.count;
            rest -= t.count * t.height;
        } else {
            rest -= t.count * fmin(fmax(value, t.low), t.high);
        }
    }
    return free_count > 0.0 ? rest / free_count : above;
}

/* ---- widths of a site ---- */

typedef struct channel_context {
    const seam_waterfill *waterfill; /* bits holds a_c here, -infinity where there is none */
    double low, high;
} channel_context;

static term channel_term(const void *context, uint32_t c) {
    const channel_context *const k = context;
    const float height = k->waterfill->bits[c];
    if (isinf(height)) {
        return (term){.count = 1.0, .low = k->low, .high = k->low};
    }
    return (term){.height = (double)height, .count = 1.0, .low = k->low, .high = k->high};
}

void seam_waterfill_widths(uint8_t *ret_widths, const seam_waterfill *waterfill, uint32_t total,
                           uint8_t bits_min, uint8_t bits_max) {
    SEAM_ASSERT(bits_min >= 1);
    SEAM_ASSERT(bits_min <= bits_max);
    SEAM_ASSERT(bits_max <= SEAM_BITS_MAX);
    const uint32_t C = waterfill->channels;
    float *bits = waterfill->bits;
    uint32_t live = 0;
    (void)seam_waterfill_sum(&live, waterfill);
    for (uint32_t c = 0; c < C; c++) {
        bits[c] = is_live(waterfill, c) ? (float)cost(waterfill, c) : live == 0 ? 0.0f : -INFINITY;
    }
    const channel_context context = {waterfill, bits_min, bits_max};
    const double level = level_solve(channel_term, &context, C, (double)total);
    for (uint32_t c = 0; c < C; c++) {
        const term t = channel_term(&context, c);
        bits[c] = (float)fmin(fmax(t.height + level, t.low), t.high);
    }
    seam_widths_round(ret_widths, bits, C);
}

/* ---- totals of all sites ---- */

typedef struct share_context {
    const seam_waterfill_share *shares;
    double mean_bits;
} share_context;

/* The live channels of a site move together: one term, their mean height. */
static term share_term(const void *context, uint32_t k) {
    const share_context *const all = context;
    const seam_waterfill_share *const share = &all->shares[k];
    const double values = (double)share->values, live = (double)share->live;
    if (share->live == 0) {
        return (term){.count = values, .low = all->mean_bits, .high = all->mean_bits};
    }
    return (term){.height = share->sum / live + 0.5 * log2((double)share->values_used / values),
                  .count = values * live / (double)share->channels,
                  .low = (double)share->bits_min,
                  .high = (double)share->bits_max};
}

/* Bits of the channels of a site that have no cost. */
static double idle_bits(const seam_waterfill_share *share) {
    return share->live == 0 ? 0.0
                            : (double)share->bits_min * (double)(share->channels - share->live);
}

void seam_waterfill_totals(uint32_t *ret_totals, const seam_waterfill_share *shares, uint32_t count,
                           double mean_bits) {
    SEAM_ASSERT(count >= 1);
    const share_context context = {shares, mean_bits};
    double rest = 0.0; /* bits over all values that the terms share */
    for (uint32_t k = 0; k < count; k++) {
        const seam_waterfill_share *const share = &shares[k];
        SEAM_ASSERT(share->values > 0);
        SEAM_ASSERT(share->values_used >= share->values);
        SEAM_ASSERT(share->live <= share->channels);
        SEAM_ASSERT(isfinite(share->sum));
        const double rows = (double)share->values / (double)share->channels;
        rest += (double)share->values * mean_bits - rows * idle_bits(share);
    }
    const double level = level_solve(share_term, &context, count, rest);
    for (uint32_t k = 0; k < count; k++) {
        const seam_waterfill_share *const share = &shares[k];
        const term t = share_term(&context, k);
        const double mean = fmin(fmax(t.height + level, t.low), t.high);
        const uint32_t moving = share->live > 0 ? share->live : share->channels;
        ret_totals[k] = (uint32_t)rint(mean * (double)moving + idle_bits(share));
    }
}

/* ---- state ---- */

size_t seam_waterfill_state_bytes(uint32_t channels) {
    return 8 + 8 * (size_t)channels;
}

void seam_waterfill_save(uint8_t *ret, const seam_waterfill *waterfill) {
    seam_put_u64(ret, waterfill->step);
    for (size_t i = 0; i < 2 * (size_t)waterfill->channels; i++) {
        seam_put_f32(ret + 8 + 4 * i, waterfill->weights[i]); /* then the spans */
    }
}

seam_status seam_waterfill_load(seam_waterfill *waterfill, const uint8_t *bytes, size_t count) {
    if (count != seam_waterfill_state_bytes(waterfill->channels)) {
        return SEAM_E_FORMAT;
    }
    const size_t values = 2 * (size_t)waterfill->channels;
    for (size_t i = 0; i < values; i++) { /* all or nothing */
        const float value = seam_get_f32(bytes + 8 + 4 * i);
        if (!isfinite(value)) {
            return SEAM_E_NONFINITE;
        }
        if (value < 0.0f) {
            return SEAM_E_FORMAT;
        }
    }
    waterfill->step = seam_get_u64(bytes);
    for (size_t i = 0; i < values; i++) {
        waterfill->weights[i] = seam_get_f32(bytes + 8 + 4 * i);
    }
    return SEAM_OK;
}
