/* A pool of threads that runs the tasks of one op at a time.
 *
 * Why not OpenMP: client and server are two processes that take turns on the same cores, so a
 * waiting thread must stop spinning soon and a descheduled one must not be waited for.  Here a
 * task belongs to whoever claims it first, a worker that does not wake in time is simply not
 * needed, and idle workers sleep after SEAM_POOL_SPIN_COUNT looks.  Which thread runs a task
 * never changes a result: a task owns its outputs. */
#ifndef SEAM_POOL_H
#define SEAM_POOL_H

#include <stdint.h>

#include "seam_status.h"

#define SEAM_POOL_THREADS_MAX 256

typedef struct seam_pool seam_pool;

/* thread_idx < threads: at most one running task a pool job has it (for scratch memory). */
typedef void (*seam_pool_fn)(void *context, uint32_t task_idx, uint32_t thread_idx);

/* threads counts the caller of run: threads - 1 workers are started.  SEAM_E_MEMORY (also when
 * a thread cannot be started). */
seam_status seam_pool_create(seam_pool **ret_pool, uint32_t threads);
void seam_pool_destroy(seam_pool *gift_pool);
uint32_t seam_pool_threads(const seam_pool *pool);

/* Runs fn for every task index; returns when all are done.  Any thread: when another caller has
 * the workers, this one runs its tasks alone, as thread 0.  Denormals are zero in the tasks. */
void seam_pool_run(seam_pool *pool, uint32_t task_count, seam_pool_fn fn, void *context);

#endif
