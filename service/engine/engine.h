/* The engine: one thread that owns the device, and its bounded queue of jobs.
 *
 * A job is one micro-batch (or a session's creation, an export, ...).  A session or stream has at
 * most one job at a time and the queue is first in, first out, so that sessions take turns: round
 * robin by construction.  Nothing here knows what a job computes: rpc/ and session.c fill `run`
 * with functions that call train_step.c, generator.c and the like. */
#ifndef SEAM_ENGINE_H
#define SEAM_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "ops.h"
#include "roles.h"
#include "seam_status.h"

typedef struct seam_engine seam_engine;
typedef struct seam_job seam_job;
struct seam_job {
    seam_status (*run)(seam_job *job, seam_stream *stream); /* gpu role; texts go to job->err */
    /* Engine thread, after run: gives the job back.  Publishes it (seam_job_publish) after its last
     * look at what the poster owns, then wakes the poster; never blocks. */
    void (*finished)(seam_job *job);
    void *user, *user2; /* of the poster */
    seam_status status; /* of run */
    seam_error err;
    seam_engine *engine; /* below: of engine.c */
    bool published;      /* guarded by the engine's mutex */
    seam_job *next;
};

/* Starts the thread.  backend is borrowed.  SEAM_E_MEMORY, SEAM_E_INTERNAL (no thread). */
seam_status seam_engine_create(seam_engine **ret_engine, seam_backend *backend, uint32_t jobs_max,
                               seam_error *err);
/* Runs what is queued and what comes meanwhile, then ends the thread; jobs may still be taken. NULL
 * is fine. */
void seam_engine_stop(seam_engine *engine);
/* Stops it, if it has not been; whoever takes jobs has ended. */
void seam_engine_destroy(seam_engine *gift_engine);
/* Append a job; it belongs to the engine until `finished`.  SEAM_E_LIMIT: the queue is full, or
 * the engine has ended. */
seam_status seam_engine_post(seam_engine *engine, seam_job *job) SEAM_ON_LOOP;
/* The way back: status, err and everything that `run` wrote are the poster's again. */
void seam_job_publish(seam_job *job) SEAM_ON_GPU;
void seam_job_take(seam_job *job) SEAM_ON_LOOP;
/* Can it be taken?  For a poster that nobody wakes. */
bool seam_job_is_published(seam_job *job) SEAM_ON_LOOP;
seam_backend *seam_engine_backend(const seam_engine *engine);

#endif
