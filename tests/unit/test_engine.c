/* Goal: jobs run once each, in order, on one thread, within the queue's bound, and come back.
 * Method: jobs that write down their order; a job that blocks until the queue is full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "engine.h"

enum { JOBS = 20 };

typedef struct log {
    pthread_mutex_t mu;
    pthread_cond_t changed;
    int order[JOBS], count, finished; /* guarded by mu */
    bool open;                        /* guarded by mu: the blocking job may go */
    pthread_t thread;                 /* of the first job */
} log;

typedef struct item {
    seam_job job;
    log *to;
    int number;
} item;

static seam_status note(seam_job *job, seam_stream *stream) {
    item *i = job->user;
    assert_non_null(stream);
    (void)pthread_mutex_lock(&i->to->mu);
    if (i->to->count == 0) {
        i->to->thread = pthread_self();
    }
    assert_true(pthread_equal(i->to->thread, pthread_self()));
    i->to->order[i->to->count++] = i->number;
    (void)pthread_mutex_unlock(&i->to->mu);
    return i->number % 2 == 0 ? SEAM_OK : seam_error_set(&job->err, SEAM_E_STATE, "odd");
}

static seam_status block(seam_job *job, seam_stream *stream) {
    item *i = job->user;
    const seam_status st = note(job, stream);
    (void)pthread_mutex_lock(&i->to->mu);
    (void)pthread_cond_broadcast(&i->to->changed);
    while (!i->to->open) {
        (void)pthread_cond_wait(&i->to->changed, &i->to->mu);
    }
    (void)pthread_mutex_unlock(&i->to->mu);
    return st;
}

SEAM_ON_GPU static void finished(seam_job *job) {
    log *to = ((item *)job->user)->to;
    seam_job_publish(job);
    (void)pthread_mutex_lock(&to->mu);
    to->finished++;
    (void)pthread_mutex_unlock(&to->mu);
}

static seam_backend *backend_open(void) {
    seam_backend *backend = NULL;
    const seam_backend_options options = {.device = "cpu", .act = SEAM_F32, .threads = 1};
    assert_int_equal(seam_backend_create(&backend, &options, NULL), SEAM_OK);
    return backend;
}

static void items_init(item items[JOBS], log *to) {
    memset(to, 0, sizeof *to);
    (void)pthread_mutex_init(&to->mu, NULL);
    (void)pthread_cond_init(&to->changed, NULL);
    memset(items, 0, JOBS * sizeof *items);
    for (int i = 0; i < JOBS; i++) {
        items[i] = (item){.to = to, .number = i};
        items[i].job = (seam_job){.run = note, .finished = finished, .user = &items[i]};
    }
}

SEAM_ON_LOOP static void test_post__many_jobs__run_in_order_and_come_back(void **state) {
    (void)state;
    log to;
    item items[JOBS];
    seam_engine *engine = NULL;
    seam_backend *backend = backend_open();
    items_init(items, &to);
    assert_int_equal(seam_engine_create(&engine, backend, JOBS, NULL), SEAM_OK);
    assert_ptr_equal(seam_engine_backend(engine), backend);
    for (int i = 0; i < JOBS; i++) {
        assert_int_equal(seam_engine_post(engine, &items[i].job), SEAM_OK);
    }
    for (bool done = false; !done;) {
        (void)pthread_mutex_lock(&to.mu);
        done = to.finished == JOBS;
        (void)pthread_mutex_unlock(&to.mu);
    }
    for (int i = 0; i < JOBS; i++) {
        seam_job_take(&items[i].job);
        assert_int_equal(to.order[i], i);
        assert_int_equal(items[i].job.status, i % 2 == 0 ? SEAM_OK : SEAM_E_STATE);
        assert_string_equal(items[i].job.err.text, i % 2 == 0 ? "" : "odd");
    }
    seam_engine_destroy(engine);
    seam_backend_destroy(backend);
}

SEAM_ON_LOOP static void test_post__queue_full__limit_and_the_rest_still_runs(void **state) {
    (void)state;
    log to;
    item items[JOBS];
    seam_engine *engine = NULL;
    seam_backend *backend = backend_open();
    items_init(items, &to);
    items[0].job.run = block;
    assert_int_equal(seam_engine_create(&engine, backend, 3, NULL), SEAM_OK);
    assert_int_equal(seam_engine_post(engine, &items[0].job), SEAM_OK);
    (void)pthread_mutex_lock(&to.mu);
    while (to.count == 0) { /* running, so no longer waiting in the queue */
        (void)pthread_cond_wait(&to.changed, &to.mu);
    }
    (void)pthread_mutex_unlock(&to.mu);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(seam_engine_post(engine, &items[i].job), SEAM_OK);
    }
    assert_int_equal(seam_engine_post(engine, &items[4].job), SEAM_E_LIMIT);
    (void)pthread_mutex_lock(&to.mu);
    to.open = true;
    (void)pthread_cond_broadcast(&to.changed);
    (void)pthread_mutex_unlock(&to.mu);
    seam_engine_destroy(engine); /* runs what is queued first */
    assert_int_equal(to.count, 4);
    assert_int_equal(to.finished, 4);
    seam_backend_destroy(backend);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_post__many_jobs__run_in_order_and_come_back),
        cmocka_unit_test(test_post__queue_full__limit_and_the_rest_still_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
