/* The rate controller: see rate.h. */
#include "rate.h"

#include <math.h>

#include "try.h"

#define BLEND_SLOWER  0.4 /* of a new sample in the estimate's logarithm: a fall counts at once */
#define BLEND_FASTER  0.3
#define WIRE_MIN      1e-4 /* seconds: below it the clock and the scheduler are what is measured */
#define DROP_PART     0.25 /* of the bits: more is answered at once */
#define FALL_PATIENCE 2
#define TIME_USED     0.9 /* of the time that there is: the estimate is no promise */

void seam_rate_init(seam_rate *rate, const seam_rate_config *config) {
    SEAM_ASSERT(config->bits_min >= 1.0);
    SEAM_ASSERT(config->bits_max >= config->bits_min);
    *rate = (seam_rate){.config = *config};
}

/* Seconds of the wire time that do not depend on the bytes.  RTT is an estimate, and one taken
 * while a connection was set up: it explains at most half.  At the bits in force the model is right
 * however the time is split; only what it says of other bits depends on it. */
static double waits_of(const seam_rate_sample *sample) {
    const double waits = fmax(sample->rtt_seconds, 0.0) * (double)sample->round_trips;
    return fmin(waits, 0.5 * sample->wire_seconds);
}

/* False: the sample says nothing. */
static bool estimate(seam_rate *rate, const seam_rate_sample *sample) {
    const bool finite = isfinite(sample->wire_seconds) && isfinite(sample->compute_seconds) &&
                        isfinite(sample->rtt_seconds) && isfinite(sample->mean_bits);
    if (!finite || sample->bytes <= sample->fixed_bytes || sample->mean_bits <= 0.0 ||
        sample->wire_seconds <= 0.0 || sample->compute_seconds < 0.0) {
        return false;
    }
    const double busy = fmax(sample->wire_seconds - waits_of(sample), WIRE_MIN);
    const double now = (double)sample->bytes / busy;
    if (rate->bytes_per_second == 0.0) {
        rate->bytes_per_second = now;
        return true;
    }
    const double blend = now < rate->bytes_per_second ? BLEND_SLOWER : BLEND_FASTER;
    rate->bytes_per_second *= pow(now / rate->bytes_per_second, blend);
    return true;
}

static void step_keep(seam_rate *rate, const seam_rate_sample *sample) {
    const uint64_t at = rate->step_count % SEAM_RATE_STEPS;
    rate->compute_seconds[at] = sample->compute_seconds;
    rate->wait_seconds[at] = waits_of(sample);
    rate->fixed_bytes[at] = (double)sample->fixed_bytes;
    rate->bytes_a_bit[at] = (double)(sample->bytes - sample->fixed_bytes) / sample->mean_bits;
    rate->step_count++;
}

/* Of the steps that one of the rings holds. */
static double median_of(const double *ring, const seam_rate *rate) {
    double sorted[SEAM_RATE_STEPS] = {0};
    const uint64_t kept = rate->step_count;
    const uint32_t count = kept < SEAM_RATE_STEPS ? (uint32_t)kept : SEAM_RATE_STEPS;
    SEAM_ASSERT(count >= 1);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = i;
        for (; at > 0 && sorted[at - 1] > ring[i]; at--) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = ring[i];
    }
    return 0.5 * (sorted[(count - 1) / 2] + sorted[count / 2]);
}

/* Mean bits whose bytes cross in the time that there is. */
static double affordable(const seam_rate *rate) {
    const seam_rate_config *const config = &rate->config;
    const double compute = median_of(rate->compute_seconds, rate);
    const double waits = median_of(rate->wait_seconds, rate);
    const double fixed_bytes = median_of(rate->fixed_bytes, rate);
    const double bytes_a_bit = median_of(rate->bytes_a_bit, rate);
    const double time = config->step_seconds > 0.0 ? config->step_seconds - compute : compute;
    const double bytes = rate->bytes_per_second * fmax(TIME_USED * time - waits, 0.0);
    const double bits = (bytes - fixed_bytes) / bytes_a_bit;
    return fmin(fmax(bits, config->bits_min), config->bits_max);
}

bool seam_rate_judge(seam_rate *rate, const seam_rate_sample *sample) {
    if (!estimate(rate, sample)) {
        return false;
    }
    const seam_rate_config *const config = &rate->config;
    step_keep(rate, sample);
    const double bits = affordable(rate);
    if (rate->bits == 0.0) {
        rate->bits = bits;
        return true;
    }
    const double difference = bits - rate->bits;
    /* A bound is a reason to go the last bit of the way. */
    const bool at_bound = bits == config->bits_min || bits == config->bits_max;
    const bool differs =
        fabs(difference) > fmax(SEAM_RATE_DEAD_BITS, SEAM_RATE_DEAD_PART * rate->bits) ||
        (at_bound && difference != 0.0);
    rate->rising = differs && difference > 0.0 ? rate->rising + 1 : 0;
    rate->falling = differs && difference < 0.0 ? rate->falling + 1 : 0;
    const bool drop = difference < -DROP_PART * rate->bits;
    if (!drop && rate->rising < SEAM_RATE_PATIENCE && rate->falling < FALL_PATIENCE) {
        return false;
    }
    rate->rising = rate->falling = 0;
    rate->bits = bits;
    return true;
}
