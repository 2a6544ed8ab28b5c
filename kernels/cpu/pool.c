/* The pool's one job slot.
 *
 * `claim` holds (job number << 32 | next task).  A thread takes a task by compare-and-swap on
 * it, so a worker that wakes late can only fail: the number has moved on.  fn and context are
 * read before the swap and are valid if it succeeds: a rewrite of the slot changes `claim` before
 * and after, and no value of it ever comes back. */
#include "pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "arena.h"
#include "try.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* About 20 us of looking before a thread sleeps; a wake-up costs 5 to 50 us. */
#define SEAM_POOL_SPIN_COUNT 400u

typedef struct worker {
    seam_pool *pool;
    pthread_t thread;
    uint32_t thread_idx;
} worker;

struct seam_pool {
    uint32_t threads, started;
    pthread_mutex_t busy; /* held by the caller that has the workers */
    pthread_mutex_t mu;   /* of the two conditions */
    pthread_cond_t wake, finish;
    _Atomic uint64_t claim;
    _Atomic uint32_t done, task_count;
    _Atomic seam_pool_fn fn;
    _Atomic(void *) context;
    _Atomic uint32_t sleepers;
    _Atomic bool caller_sleeps, stop;
    worker workers[SEAM_POOL_THREADS_MAX];
};

static void *worker_main(void *arg);

static void pause_briefly(void) {
#if defined(__x86_64__)
    _mm_pause();
#endif
}

/* Denormals behind a masked softmax cost 35 times a normal operation. */
static uint64_t denormals_off(void) {
#if defined(__x86_64__)
    const uint32_t saved = _mm_getcsr();
    _mm_setcsr(saved | 0x8040u); /* FTZ, DAZ */
    return saved;
#elif defined(__aarch64__)
    uint64_t saved;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
    __asm__ volatile("msr fpcr, %0" : : "r"(saved | (UINT64_C(1) << 24)));
    return saved;
#else
    return 0;
#endif
}

static void denormals_restore(uint64_t saved) {
#if defined(__x86_64__)
    _mm_setcsr((uint32_t)saved);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(saved));
#else
    (void)saved;
#endif
}

seam_status seam_pool_create(seam_pool **ret_pool, uint32_t threads) {
    SEAM_ASSERT(threads >= 1 && threads <= SEAM_POOL_THREADS_MAX);
    seam_pool *pool = seam_mem_zalloc(1, sizeof *pool);
    if (pool == NULL) {
        return SEAM_E_MEMORY;
    }
    pool->threads = threads;
    (void)pthread_mutex_init(&pool->busy, NULL);
    (void)pthread_mutex_init(&pool->mu, NULL);
    (void)pthread_cond_init(&pool->wake, NULL);
    (void)pthread_cond_init(&pool->finish, NULL);
    for (uint32_t i = 0; i + 1 < threads; i++) {
        worker *w = &pool->workers[i];
        *w = (worker){.pool = pool, .thread_idx = i + 1};
        if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
            seam_pool_destroy(pool);
            return SEAM_E_MEMORY;
        }
        pool->started++;
    }
    *ret_pool = pool;
    return SEAM_OK;
}

void seam_pool_destroy(seam_pool *gift_pool) {
    if (gift_pool == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&gift_pool->mu);
    atomic_store(&gift_pool->stop, true);
    (void)pthread_cond_broadcast(&gift_pool->wake);
    (void)pthread_mutex_unlock(&gift_pool->mu);
    for (uint32_t i = 0; i < gift_pool->started; i++) {
        (void)pthread_join(gift_pool->workers[i].thread, NULL);
    }
    (void)pthread_cond_destroy(&gift_pool->finish);
    (void)pthread_cond_destroy(&gift_pool->wake);
    (void)pthread_mutex_destroy(&gift_pool->mu);
    (void)pthread_mutex_destroy(&gift_pool->busy);
    seam_mem_free(gift_pool);
}

uint32_t seam_pool_threads(const seam_pool *pool) {
    return pool->threads;
}

/* Claims and runs tasks of job `number` until none is left. */
static void run_tasks(seam_pool *pool, uint32_t number, uint32_t thread_idx) {
    for (;;) {
        uint64_t claim = atomic_load(&pool->claim);
        const seam_pool_fn fn = atomic_load(&pool->fn);
        void *context = atomic_load(&pool->context);
        const uint32_t task_count = atomic_load(&pool->task_count);
        const uint32_t task_idx = (uint32_t)claim;
        if ((uint32_t)(claim >> 32) != number || task_idx >= task_count) {
            return;
        }
        if (!atomic_compare_exchange_strong(&pool->claim, &claim, claim + 1)) {
            continue;
        }
        fn(context, task_idx, thread_idx);
        if (atomic_fetch_add(&pool->done, 1) + 1 == task_count &&
            atomic_load(&pool->caller_sleeps)) {
            (void)pthread_mutex_lock(&pool->mu);
            (void)pthread_cond_signal(&pool->finish);
            (void)pthread_mutex_unlock(&pool->mu);
        }
    }
}

static uint32_t job_number(seam_pool *pool) {
    return (uint32_t)(atomic_load(&pool->claim) >> 32);
}

/* Waits for a job other than `last`; false: stop. */
static bool next_job(seam_pool *pool, uint32_t last) {
    for (uint32_t i = 0; i < SEAM_POOL_SPIN_COUNT; i++) {
        if (job_number(pool) != last) {
            return true;
        }
        pause_briefly();
    }
    (void)pthread_mutex_lock(&pool->mu);
    (void)atomic_fetch_add(&pool->sleepers, 1);
    while (job_number(pool) == last && !atomic_load(&pool->stop)) {
        (void)pthread_cond_wait(&pool->wake, &pool->mu);
    }
    (void)atomic_fetch_sub(&pool->sleepers, 1);
    (void)pthread_mutex_unlock(&pool->mu);
    return !atomic_load(&pool->stop);
}

static void *worker_main(void *arg) {
    const worker *self = arg;
    uint32_t last = 0;
    (void)denormals_off();
    while (next_job(self->pool, last)) {
        last = job_number(self->pool);
        run_tasks(self->pool, last, self->thread_idx);
    }
    return NULL;
}

/* All tasks are claimed; some may still run elsewhere. */
static void wait_done(seam_pool *pool, uint32_t task_count) {
    for (uint32_t i = 0; i < SEAM_POOL_SPIN_COUNT; i++) {
        if (atomic_load(&pool->done) == task_count) {
            return;
        }
        pause_briefly();
    }
    (void)pthread_mutex_lock(&pool->mu);
    atomic_store(&pool->caller_sleeps, true);
    while (atomic_load(&pool->done) != task_count) {
        (void)pthread_cond_wait(&pool->finish, &pool->mu);
    }
    atomic_store(&pool->caller_sleeps, false);
    (void)pthread_mutex_unlock(&pool->mu);
}

static void run_shared(seam_pool *pool, uint32_t task_count, seam_pool_fn fn, void *context) {
    const uint32_t old = job_number(pool);
    const uint32_t number = old == UINT32_MAX ? 1 : old + 1; /* workers start at 0 */
    /* Nothing can be claimed, nor a late swap succeed, while the slot is rewritten. */
    atomic_store(&pool->claim, (uint64_t)old << 32 | UINT32_MAX);
    atomic_store(&pool->done, 0);
    atomic_store(&pool->fn, fn);
    atomic_store(&pool->context, context);
    atomic_store(&pool->task_count, task_count);
    atomic_store(&pool->claim, (uint64_t)number << 32);
    if (atomic_load(&pool->sleepers) > 0) {
        (void)pthread_mutex_lock(&pool->mu);
        (void)pthread_cond_broadcast(&pool->wake);
        (void)pthread_mutex_unlock(&pool->mu);
    }
    run_tasks(pool, number, 0);
    wait_done(pool, task_count);
}

void seam_pool_run(seam_pool *pool, uint32_t task_count, seam_pool_fn fn, void *context) {
    const uint64_t saved = denormals_off();
    if (pool->threads > 1 && task_count > 1 && pthread_mutex_trylock(&pool->busy) == 0) {
        run_shared(pool, task_count, fn, context);
        (void)pthread_mutex_unlock(&pool->busy);
    } else {
        for (uint32_t i = 0; i < task_count; i++) {
            fn(context, i, 0);
        }
    }
    denormals_restore(saved);
}
