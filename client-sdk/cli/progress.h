/* The line that shows how a run goes: rewritten in place on a terminal, now and then a new line
 * elsewhere. Always stderr. */
#ifndef SEAM_PROGRESS_H
#define SEAM_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct seam_progress {
    bool quiet, terminal, dirty; /* dirty: the line has not been ended */
    double begin, printed;       /* seconds */
    uint64_t shown_count;        /* steps since the begin; a run that goes on made others before */
} seam_progress;

typedef struct seam_progress_step {
    uint64_t step, step_count; /* done, of */
    double loss, mean_bits;    /* mean_bits: of codes on the wire, both forward sites */
    double layer_bits;         /* between the server's blocks; 0: nothing is quantized there */
    double prefix_bits;        /* of a quantized prefix, or 0 */
    uint64_t bytes;            /* of the step, both directions */
    double tokens_per_second;
} seam_progress_step;

void seam_progress_init(seam_progress *progress, bool quiet);
/* Of every step, in order. */
void seam_progress_step_show(seam_progress *progress, const seam_progress_step *step);
/* A line of its own ("evaluating 120 rows"); ends a line in place first. */
void seam_progress_note(seam_progress *progress, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void seam_progress_end(seam_progress *progress);
double seam_progress_seconds(void); /* monotonic */

#endif
