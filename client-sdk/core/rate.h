/* Bits by bandwidth: the mean width at which a step's bytes cross the link in the time that there
 * is for them.
 *
 *   rate    bytes a second while the link works: bytes / (wire seconds - round trips * RTT)
 *   time    the requested step time less the compute time, or the compute time itself: the wire
 *           then takes no longer than what computes
 *   bits    (rate * time - fixed bytes) / (bytes a bit of mean width)
 *
 * Time, bytes and round trips of a step are the medians of the last SEAM_RATE_STEPS steps, so that
 * one slow or one large step does not move the answer; the link's rate is an average that answers
 * every sample.
 *
 * A link that slows down much is answered at once, one that slows down a little by the second
 * sample that says so; one that gets faster only by SEAM_RATE_PATIENCE samples in a row, and a
 * difference within the dead band is no reason to move at all: so noise moves nothing.
 *
 * Pure: decisions follow from the samples alone, which are what a journal has to keep; a replay
 * gives the recorded samples and never measures again. */
#ifndef SEAM_RATE_H
#define SEAM_RATE_H

#include <stdbool.h>
#include <stdint.h>

#define SEAM_RATE_PATIENCE  4
#define SEAM_RATE_STEPS     5
#define SEAM_RATE_DEAD_BITS 0.25
#define SEAM_RATE_DEAD_PART 0.1 /* of the bits, where that is more */

#define SEAM_RATE_STEP_SECONDS_MAX 86400.0f /* that may be requested */

typedef struct seam_rate_config {
    double bits_min, bits_max; /* of the answer */
    double step_seconds;       /* requested; 0: the wire time is to fit the compute time */
} seam_rate_config;

/* One step, as it went. */
typedef struct seam_rate_sample {
    uint64_t bytes;       /* both directions */
    uint64_t fixed_bytes; /* of them, those that do not depend on the widths */
    double mean_bits;     /* that the rest was sent with */
    double wire_seconds;  /* neither end computed */
    double compute_seconds;
    double rtt_seconds;
    uint32_t round_trips; /* that nothing could overlap */
} seam_rate_sample;

typedef struct seam_rate {
    seam_rate_config config;
    /* Of the last steps, in rings: what a step costs at any width. */
    double compute_seconds[SEAM_RATE_STEPS], wait_seconds[SEAM_RATE_STEPS];
    double fixed_bytes[SEAM_RATE_STEPS], bytes_a_bit[SEAM_RATE_STEPS];
    uint64_t step_count;
    double bytes_per_second;  /* estimate; 0: none yet */
    double bits;              /* the answer; 0: none yet */
    uint32_t rising, falling; /* samples in a row that ask for more, for less */
} seam_rate;

void seam_rate_init(seam_rate *rate, const seam_rate_config *config);
/* True: rate->bits has changed.  A sample without bytes, bits or time says nothing. */
bool seam_rate_judge(seam_rate *rate, const seam_rate_sample *sample);

#endif
