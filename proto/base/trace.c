/* See trace.h.  Spans are recorded when they end, so that an inner one stands before the outer one;
 * who reads them sorts by begin. */
#include "trace.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "arena.h"
#include "try.h"

typedef struct record {
    seam_span span;
    uint64_t end_ns;
} record;

struct seam_trace {
    pthread_mutex_t mu;
    uint64_t count;  /* guarded by mu; ever recorded */
    record *records; /* guarded by mu; (records_max), the newest at (count - 1) % records_max */
    uint32_t records_max;
};

static uint64_t now_ns(void) {
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

seam_status seam_trace_create(seam_trace **ret_trace, uint32_t spans_max) {
    SEAM_ASSERT(spans_max >= 1);
    SEAM_ASSERT(spans_max <= SEAM_TRACE_SPANS_MAX);
    seam_trace *const trace = seam_mem_zalloc(1, sizeof *trace);
    record *const records = seam_mem_zalloc(spans_max, sizeof *records);
    if (trace == NULL || records == NULL) {
        seam_mem_free(records);
        seam_mem_free(trace);
        return SEAM_E_MEMORY;
    }
    (void)pthread_mutex_init(&trace->mu, NULL);
    trace->records = records;
    trace->records_max = spans_max;
    *ret_trace = trace;
    return SEAM_OK;
}

void seam_trace_destroy(seam_trace *gift_trace) {
    if (gift_trace != NULL) {
        (void)pthread_mutex_destroy(&gift_trace->mu);
        seam_mem_free(gift_trace->records);
        seam_mem_free(gift_trace);
    }
}

uint64_t seam_trace_begin(const seam_trace *trace) {
    return trace != NULL ? now_ns() : 0;
}

void seam_trace_end(seam_trace *trace, const seam_span *span) {
    if (trace == NULL) {
        return;
    }
    const uint64_t end_ns = now_ns();
    SEAM_ASSERT(span->begin_ns <= end_ns);
    SEAM_ASSERT(span->lane < SEAM_TRACE_LANES_MAX);
    (void)pthread_mutex_lock(&trace->mu);
    trace->records[trace->count++ % trace->records_max] = (record){*span, end_ns};
    (void)pthread_mutex_unlock(&trace->mu);
}

/* The format's times are microseconds; three digits keep the nanoseconds. */
static void record_put(FILE *file, const record *r, int pid) {
    const uint64_t duration_ns = r->end_ns - r->span.begin_ns;
    (void)fprintf(file,
                  ",\n{\"ph\":\"X\",\"pid\":%d,\"tid\":%" PRIu32 ",\"ts\":%" PRIu64
                  ".%03u,\"dur\":%" PRIu64 ".%03u,\"name\":\"%s\",\"args\":{\"step\":%" PRIu64,
                  pid, r->span.lane, r->span.begin_ns / 1000, (unsigned)(r->span.begin_ns % 1000),
                  duration_ns / 1000, (unsigned)(duration_ns % 1000), r->span.name, r->span.step);
    if (r->span.micro != SEAM_TRACE_NO_MICRO) {
        (void)fprintf(file, ",\"micro\":%" PRIu32, r->span.micro);
    }
    (void)fputs("}}", file);
}

static void events_put(FILE *file, const seam_trace *trace, const char *process,
                       const char *const *lanes, uint32_t lane_count) {
    const int pid = (int)getpid();
    const uint64_t kept = trace->count < trace->records_max ? trace->count : trace->records_max;
    (void)fprintf(file,
                  "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n"
                  "{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_name\",\"args\":{\"name\":\"%s\"}}",
                  pid, process);
    for (uint32_t lane = 0; lane < lane_count; lane++) {
        (void)fprintf(file,
                      ",\n{\"ph\":\"M\",\"pid\":%d,\"tid\":%" PRIu32
                      ",\"name\":\"thread_name\",\"args\":{\"name\":\"%s\"}}",
                      pid, lane, lanes[lane]);
    }
    for (uint64_t i = trace->count - kept; i < trace->count; i++) {
        record_put(file, &trace->records[i % trace->records_max], pid);
    }
    (void)fputs("\n]}\n", file);
}

seam_status seam_trace_write(seam_trace *trace, const char *path, const char *process,
                             const char *const *lanes, uint32_t lane_count, seam_error *err) {
    SEAM_ASSERT(lane_count <= SEAM_TRACE_LANES_MAX);
    FILE *const file = fopen(path, "w");
    if (file == NULL) {
        return seam_error_set(err, SEAM_E_IO, "timeline %s: cannot be created", path);
    }
    (void)pthread_mutex_lock(&trace->mu);
    events_put(file, trace, process, lanes, lane_count);
    (void)pthread_mutex_unlock(&trace->mu);
    const bool written = ferror(file) == 0;
    return fclose(file) == 0 && written
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_IO, "timeline %s: cannot be written", path);
}
