/* Sum of squares in double: PIECES partial sums of a fixed split, then those in order. */
#include "cpu_ops.h"

#define PIECES 256u

typedef struct squares_job {
    const float *x;
    size_t count, piece;
    double *sums; /* (PIECES) */
} squares_job;

static void squares_range(const void *context, size_t begin, size_t end) {
    const squares_job *job = context;
    double lane[8] = {0.0};
    size_t i = begin;
    for (; i + 8 <= end; i += 8) {
        for (uint32_t j = 0; j < 8; j++) {
            const double x = (double)job->x[i + j];
            lane[j] += x * x;
        }
    }
    for (; i < end; i++) {
        const double x = (double)job->x[i];
        lane[0] += x * x;
    }
    double sum = 0.0;
    for (uint32_t j = 0; j < 8; j++) {
        sum += lane[j];
    }
    job->sums[begin / job->piece] = sum;
}

seam_status CPU_FN(sum_squares)(seam_stream *stream, double *ret_sum, const void *x, size_t count) {
    double sums[PIECES] = {0.0};
    const size_t piece = count / PIECES + 1;
    const squares_job job = {.x = x, .count = count, .piece = piece, .sums = sums};
    seam_cpu_ranges(stream, count, piece, squares_range, &job);
    double sum = 0.0;
    for (uint32_t i = 0; i < PIECES; i++) {
        sum += sums[i];
    }
    *ret_sum = sum;
    return SEAM_OK;
}
