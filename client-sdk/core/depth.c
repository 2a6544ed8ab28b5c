/* The choice of a depth: see depth.h.  settle.c takes the samples. */
#include "depth.h"

#include <math.h>

#include "try.h"

#define RTT_FAR      0.005 /* seconds: from here on the first step is worth a full pipeline */
#define FORWARD_PART 0.34  /* of the server's work on a micro-batch */
#define WIRE_MIN     1e-5  /* seconds of a tensor: less is what the clock says, not the link */
#define WAIT_MIN     1e-4  /* seconds: less is a reply that stood there */
#define SLACK        1.0   /* deeper than needed costs nothing: the room is there */

static void settle(seam_depth *depth);

static uint32_t depth_clamp(const seam_depth *depth, double value) {
    const uint32_t low = depth->max < SEAM_DEPTH_FIRST ? depth->max : SEAM_DEPTH_FIRST;
    return value >= (double)depth->max ? depth->max : value <= (double)low ? low : (uint32_t)value;
}

void seam_depth_init(seam_depth *depth, uint32_t max, double rtt_seconds) {
    SEAM_ASSERT(max >= 1);
    *depth = (seam_depth){.max = max};
    depth->ahead = rtt_seconds >= RTT_FAR ? max : depth_clamp(depth, SEAM_DEPTH_FIRST);
}

/* Of the wire; `other`: of the first reply's time, what its bytes did not take. */
static double second_a_byte_of(const seam_depth_sample *s, double other) {
    const double bytes = s->forward_bytes + s->reply_bytes;
    const double first = fmax(s->first_seconds - other, WIRE_MIN) / bytes;
    if (s->waited_seconds >= WAIT_MIN || !(s->others_bytes > 0.0)) {
        return first;
    }
    return fmin(first, fmax(s->others_seconds / s->others_bytes, WIRE_MIN / bytes));
}

/* Micro-batches that fill the loop; 0: the sample says nothing. */
static double ask_of(const seam_depth_sample *s) {
    const double bytes = s->forward_bytes + s->reply_bytes;
    const double part = s->one_pass ? 1.0 : FORWARD_PART; /* of the work, before the reply */
    const double other = fmax(s->rtt_seconds, 0.0) + part * s->server_seconds;
    const bool finite = isfinite(s->rtt_seconds) && isfinite(s->first_seconds) &&
                        isfinite(s->server_seconds) && isfinite(s->own_seconds) &&
                        isfinite(s->waited_seconds) && isfinite(s->others_seconds);
    if (!finite || !(bytes > 0.0) || s->first_seconds <= 0.0 || s->server_seconds < 0.0 ||
        s->own_seconds < 0.0 || !(s->backward_bytes >= 0.0)) {
        return 0.0;
    }
    const double second_a_byte = second_a_byte_of(s, other);
    const double first = fmin(s->first_seconds, other + second_a_byte * bytes);
    const double up = second_a_byte * (s->forward_bytes + s->backward_bytes);
    const double down = second_a_byte * s->reply_bytes;
    const double waits = (1.0 - part) * s->server_seconds; /* for a backward one before it */
    const double loop = first + s->own_seconds + second_a_byte * s->backward_bytes + waits;
    return loop / fmax(fmax(up, down), fmax(s->server_seconds, s->own_seconds));
}

static double median_of(const seam_depth *depth) {
    double sorted[SEAM_DEPTH_STEPS] = {0};
    const uint64_t kept = depth->step_count;
    const uint32_t count = kept < SEAM_DEPTH_STEPS ? (uint32_t)kept : SEAM_DEPTH_STEPS;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = i;
        for (; at > 0 && sorted[at - 1] > depth->asks[i]; at--) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = depth->asks[i];
    }
    return 0.5 * (sorted[(count - 1) / 2] + sorted[count / 2]);
}

void seam_depth_judge(seam_depth *depth, const seam_depth_sample *sample) {
    const double ask = ask_of(sample);
    if (ask <= 0.0) {
        return;
    }
    depth->asks[depth->step_count++ % SEAM_DEPTH_STEPS] = ask;
    const uint32_t wanted = depth_clamp(depth, ceil(median_of(depth) + SLACK));
    depth->falling = wanted < depth->ahead ? depth->falling + 1 : 0;
    if (wanted > depth->ahead) {
        depth->ahead = wanted;
    } else if (depth->falling >= SEAM_DEPTH_PATIENCE) {
        depth->ahead--;
        depth->falling = 0;
    }
    settle(depth);
}

static void settle(seam_depth *depth) {
    const bool below = depth->ahead < depth->max;
    depth->below = below ? depth->below + 1 : 0;
    depth->below_most = below && depth->ahead > depth->below_most ? depth->ahead
                        : below                                   ? depth->below_most
                                                                  : 0;
    if (depth->below >= SEAM_DEPTH_SETTLED) {
        depth->max = depth->below_most;
        depth->below = depth->below_most = 0;
    }
}
