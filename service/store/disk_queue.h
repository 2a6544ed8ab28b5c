/* One thread that waits for the disk, so that neither loop nor engine has to: first in, first out.
 *
 * A job is the poster's memory and belongs to the queue until it says done; nobody is woken, the
 * poster looks (seam_disk_job_is_done).  What run reads and writes is the queue's meanwhile. */
#ifndef SEAM_DISK_QUEUE_H
#define SEAM_DISK_QUEUE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "seam_status.h"

typedef struct seam_disk_queue seam_disk_queue;
typedef struct seam_disk_job seam_disk_job;
struct seam_disk_job {
    void (*run)(seam_disk_job *job); /* the queue's thread */
    void *user;
    void *gift_memory;   /* freed after run, and nobody is told; NULL: done is set */
    seam_disk_job *next; /* of disk_queue.c, like the next one */
    atomic_bool done;
};

/* Starts the thread.  SEAM_E_MEMORY, SEAM_E_INTERNAL. */
seam_status seam_disk_queue_create(seam_disk_queue **ret_queue, seam_error *err);
/* Runs what is queued, then ends the thread.  NULL is fine. */
void seam_disk_queue_destroy(seam_disk_queue *gift_queue);
void seam_disk_queue_post(seam_disk_queue *queue, seam_disk_job *job);
bool seam_disk_job_is_done(const seam_disk_job *job);

#endif
