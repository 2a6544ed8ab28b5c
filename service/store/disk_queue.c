/* A list, a mutex and a condition; see disk_queue.h. */
#include "disk_queue.h"

#include <pthread.h>

#include "arena.h"
#include "try.h"

struct seam_disk_queue {
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t changed;
    seam_disk_job *head, *tail; /* guarded by mu */
    bool stopping;              /* guarded by mu */
};

static seam_disk_job *job_take(seam_disk_queue *queue) {
    (void)pthread_mutex_lock(&queue->mu);
    while (queue->head == NULL && !queue->stopping) {
        (void)pthread_cond_wait(&queue->changed, &queue->mu);
    }
    seam_disk_job *job = queue->head;
    if (job != NULL) {
        queue->head = job->next;
        queue->tail = queue->head != NULL ? queue->tail : NULL;
    }
    (void)pthread_mutex_unlock(&queue->mu);
    return job;
}

static void *queue_main(void *user) {
    for (seam_disk_job *job = job_take(user); job != NULL; job = job_take(user)) {
        void *memory = job->gift_memory;
        job->run(job);
        if (memory == NULL) {
            atomic_store(&job->done, true); /* the job may be gone from here on */
        }
        seam_mem_free(memory);
    }
    return NULL;
}

seam_status seam_disk_queue_create(seam_disk_queue **ret_queue, seam_error *err) {
    seam_disk_queue *queue = seam_mem_zalloc(1, sizeof *queue);
    if (queue == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "disk queue: out of memory");
    }
    (void)pthread_mutex_init(&queue->mu, NULL);
    (void)pthread_cond_init(&queue->changed, NULL);
    if (pthread_create(&queue->thread, NULL, queue_main, queue) != 0) {
        (void)pthread_cond_destroy(&queue->changed);
        (void)pthread_mutex_destroy(&queue->mu);
        seam_mem_free(queue);
        return seam_error_set(err, SEAM_E_INTERNAL, "disk queue: cannot start its thread");
    }
    *ret_queue = queue;
    return SEAM_OK;
}

void seam_disk_queue_destroy(seam_disk_queue *gift_queue) {
    if (gift_queue == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&gift_queue->mu);
    gift_queue->stopping = true;
    (void)pthread_cond_signal(&gift_queue->changed);
    (void)pthread_mutex_unlock(&gift_queue->mu);
    (void)pthread_join(gift_queue->thread, NULL);
    SEAM_ASSERT(gift_queue->head == NULL);
    (void)pthread_cond_destroy(&gift_queue->changed);
    (void)pthread_mutex_destroy(&gift_queue->mu);
    seam_mem_free(gift_queue);
}

void seam_disk_queue_post(seam_disk_queue *queue, seam_disk_job *job) {
    SEAM_ASSERT(job->run != NULL);
    atomic_store(&job->done, false);
    job->next = NULL;
    (void)pthread_mutex_lock(&queue->mu);
    SEAM_ASSERT(!queue->stopping);
    if (queue->tail != NULL) {
        queue->tail->next = job;
    } else {
        queue->head = job;
    }
    queue->tail = job;
    (void)pthread_cond_signal(&queue->changed);
    (void)pthread_mutex_unlock(&queue->mu);
}

bool seam_disk_job_is_done(const seam_disk_job *job) {
    return atomic_load(&job->done);
}
