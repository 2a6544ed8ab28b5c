/* A timeline of steps: spans of work in a ring that is taken once, written as Chrome trace events
 * (chrome://tracing, Perfetto).
 *
 * Terms.  Lane: a row of the picture; spans of one lane nest or follow each other.  Times are those
 * of the machine's monotonic clock, so that the files of two processes of one machine show one
 * timeline when their events are put together (tests/bench/timeline.py).
 * Any thread; a span costs one look at the clock at each end and one short lock.  Nothing is
 * allocated but by create. */
#ifndef SEAM_TRACE_H
#define SEAM_TRACE_H

#include <stdint.h>

#include "seam_status.h"

#define SEAM_TRACE_LANES_MAX 4u
#define SEAM_TRACE_SPANS_MAX (1u << 20)
#define SEAM_TRACE_NO_MICRO  UINT32_MAX /* a span of the whole step */

typedef struct seam_trace seam_trace;

typedef struct seam_span {
    const char *name; /* static text, without quotes */
    uint64_t begin_ns;
    uint64_t step;
    uint32_t micro, lane;
} seam_span;

/* The newest spans_max spans are kept, 1..SEAM_TRACE_SPANS_MAX (asserted).  SEAM_E_MEMORY. */
seam_status seam_trace_create(seam_trace **ret_trace, uint32_t spans_max);
void seam_trace_destroy(seam_trace *gift_trace); /* NULL is fine */

/* The time of a span's begin; 0 without a trace, which costs nothing. */
uint64_t seam_trace_begin(const seam_trace *trace);
/* The span ends now.  Nothing where trace is NULL. */
void seam_trace_end(seam_trace *trace, const seam_span *span);

/* One process, named `process`, with lanes of these names.  SEAM_E_IO. */
seam_status seam_trace_write(seam_trace *trace, const char *path, const char *process,
                             const char *const *lanes, uint32_t lane_count, seam_error *err);

#endif
