/* The CPU backend's objects and the functions that each variant provides.
 *
 * Read vec.h for what a variant is, cpu.c for how one is chosen, tile.h for the product that
 * linear and attention are built from. */
#ifndef SEAM_CPU_H
#define SEAM_CPU_H

#include "backend.h"
#include "pool.h"
#include "try.h"

/* A frozen matrix in panels of one variant (tile.h), one copy a direction that was asked for. */
struct seam_weight {
    uint32_t N, C;
    void *forward;  /* of y = x W^T, or NULL */
    void *backward; /* of dx = dy W, or NULL */
    size_t bytes;
    float *rows; /* (N, C) between begin and end */
    bool wants_forward, wants_backward;
};

/* Workspace of a stream: grows at the first call of a new largest shape and is kept, so a step
 * whose shapes were seen before allocates nothing.  64-byte aligned, contents undefined; the
 * previous pointer is invalid.  SEAM_E_MEMORY. */
seam_status seam_cpu_scratch(void **ret_ptr, seam_stream *stream, size_t bytes);
seam_pool *seam_cpu_pool(const seam_stream *stream);
seam_pool *seam_cpu_backend_pool(const seam_backend *backend);

/* Runs fn(context, begin, end) over [0, count) in pieces of `grain`. */
typedef void (*seam_cpu_range_fn)(const void *context, size_t begin, size_t end);
void seam_cpu_ranges(seam_stream *stream, size_t count, size_t grain, seam_cpu_range_fn fn,
                     const void *context);

/* Fills the compute slots of `ops`; all others are cpu.c's. */
void seam_cpu_base_fill(seam_ops *ops);
#if defined(__x86_64__)
void seam_cpu_avx2_fill(seam_ops *ops);
void seam_cpu_avx512_fill(seam_ops *ops);
void seam_cpu_amx_fill(seam_ops *ops);
#endif

#endif
