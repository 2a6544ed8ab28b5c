/* A mutex, a condition and a singly linked list: the queue holds a handful of jobs.
 * Read next: train_step.c, what the jobs of a Train stream run. */
#include "engine.h"

#include <pthread.h>
#include <string.h>

#include "arena.h"
#include "try.h"

struct seam_engine {
    seam_backend *backend;
    seam_stream *stream;
    pthread_t thread;
    bool thread_started;
    pthread_mutex_t mu;
    pthread_cond_t changed;
    uint32_t jobs_max;
    uint32_t job_count;    /* guarded by mu; waiting, without the running one */
    seam_job *head, *tail; /* guarded by mu */
    bool stopping, ended;  /* guarded by mu */
};

/* The gpu role is being this thread. */
SEAM_ROLE_BEGINS(seam_gpu_role) static void gpu_begin(void) {}
SEAM_ROLE_ENDS(seam_gpu_role) static void gpu_end(void) {}

static void *engine_main(void *user);

seam_status seam_engine_create(seam_engine **ret_engine, seam_backend *backend, uint32_t jobs_max,
                               seam_error *err) {
    seam_engine *engine = seam_mem_zalloc(1, sizeof *engine);
    if (engine == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "engine: out of memory");
    }
    engine->backend = backend;
    engine->jobs_max = jobs_max;
    (void)pthread_mutex_init(&engine->mu, NULL);
    (void)pthread_cond_init(&engine->changed, NULL);
    seam_status st = seam_backend_ops(backend)->stream_create(&engine->stream, backend);
    if (st == SEAM_OK && pthread_create(&engine->thread, NULL, engine_main, engine) != 0) {
        st = SEAM_E_INTERNAL;
    }
    engine->thread_started = st == SEAM_OK;
    if (st != SEAM_OK) {
        seam_engine_destroy(engine);
        return seam_error_set(err, st, "engine: cannot start: %s", seam_status_text(st));
    }
    *ret_engine = engine;
    return SEAM_OK;
}

void seam_engine_stop(seam_engine *engine) {
    if (engine == NULL || !engine->thread_started) {
        return;
    }
    (void)pthread_mutex_lock(&engine->mu);
    engine->stopping = true;
    (void)pthread_cond_signal(&engine->changed);
    (void)pthread_mutex_unlock(&engine->mu);
    (void)pthread_join(engine->thread, NULL);
    engine->thread_started = false;
}

void seam_engine_destroy(seam_engine *gift_engine) {
    if (gift_engine == NULL) {
        return;
    }
    seam_engine_stop(gift_engine);
    SEAM_ASSERT(gift_engine->head == NULL);
    if (gift_engine->stream != NULL) {
        seam_backend_ops(gift_engine->backend)->stream_destroy(gift_engine->stream);
    }
    (void)pthread_cond_destroy(&gift_engine->changed);
    (void)pthread_mutex_destroy(&gift_engine->mu);
    seam_mem_free(gift_engine);
}

seam_status seam_engine_post(seam_engine *engine, seam_job *job) {
    SEAM_ASSERT(job->run != NULL);
    SEAM_ASSERT(job->finished != NULL);
    seam_status st = SEAM_OK;
    (void)pthread_mutex_lock(&engine->mu);
    if (engine->ended || engine->job_count == engine->jobs_max) {
        st = SEAM_E_LIMIT;
    } else {
        job->next = NULL;
        job->engine = engine;
        job->published = false;
        job->status = SEAM_OK;
        memset(&job->err, 0, sizeof job->err);
        if (engine->tail != NULL) {
            engine->tail->next = job;
        } else {
            engine->head = job;
        }
        engine->tail = job;
        engine->job_count++;
        (void)pthread_cond_signal(&engine->changed);
    }
    (void)pthread_mutex_unlock(&engine->mu);
    return st;
}

void seam_job_publish(seam_job *job) {
    pthread_mutex_t *mu = &job->engine->mu;
    (void)pthread_mutex_lock(mu);
    job->published = true;
    (void)pthread_mutex_unlock(mu);
}

void seam_job_take(seam_job *job) {
    (void)pthread_mutex_lock(&job->engine->mu);
    SEAM_ASSERT(job->published);
    job->published = false;
    (void)pthread_mutex_unlock(&job->engine->mu);
}

bool seam_job_is_published(seam_job *job) {
    (void)pthread_mutex_lock(&job->engine->mu);
    const bool published = job->published;
    (void)pthread_mutex_unlock(&job->engine->mu);
    return published;
}

seam_backend *seam_engine_backend(const seam_engine *engine) {
    return engine->backend;
}

/* The next job; NULL when the engine stops and nothing is left. */
static seam_job *job_take(seam_engine *engine) {
    (void)pthread_mutex_lock(&engine->mu);
    while (engine->head == NULL && !engine->stopping) {
        (void)pthread_cond_wait(&engine->changed, &engine->mu);
    }
    seam_job *job = engine->head;
    engine->ended = job == NULL;
    if (job != NULL) {
        engine->head = job->next;
        engine->tail = engine->head != NULL ? engine->tail : NULL;
        engine->job_count--;
        job->next = NULL;
    }
    (void)pthread_mutex_unlock(&engine->mu);
    return job;
}

static void *engine_main(void *user) {
    seam_engine *engine = user;
    gpu_begin();
    for (seam_job *job = job_take(engine); job != NULL; job = job_take(engine)) {
        job->status = job->run(job, engine->stream);
        job->finished(job); /* the job may be gone from here on */
    }
    gpu_end();
    return NULL;
}
