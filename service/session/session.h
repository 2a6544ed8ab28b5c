/* One session: its configuration, secret, protocol machine and trainer, and who uses it now.
 *
 * Lives from CreateSession until DeleteSession or the end of its lease.  Loop role, except that
 * the trainer belongs to the engine while `busy`.  References: the table, the attached stream,
 * every call that works with it.  The last one out posts a job that frees the memory. */
#ifndef SEAM_SESSION_H
#define SEAM_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "checkpoint.h"
#include "disk_queue.h"
#include "engine.h"
#include "prefix_quantizer.h"
#include "roles.h"
#include "seam/v1/service.pb-c.h"
#include "server_proto.h"
#include "session_config.h"
#include "trainer.h"
#include "trainer_state.h"

#define SEAM_SESSION_ID_BYTES     33 /* 32 hex digits */
#define SEAM_SESSION_SECRET_BYTES 32
#define SEAM_REQUEST_ID_BYTES     65
#define SEAM_UPDATES_MAX          32 /* of a session's optimizer, that are kept at once */
/* A report of each boundary between blocks, and of a prefix's keys and values. */
#define SEAM_COMMIT_BYTES_MAX (512 + 40 * (SEAM_LAYERS_MAX + SEAM_PREFIX_GATES))
#define SEAM_CONFIG_BYTES_MAX 4096 /* packed, of a session that is kept */

typedef struct seam_sessions seam_sessions;

/* An unpacked StepBegin of the step in flight, with its memory. */
typedef struct seam_step_memory {
    uint8_t *bytes;
    size_t capacity_bytes, used_bytes;
    const Seam__V1__StepBegin *begin;
} seam_step_memory;

/* A whole tensor that the protocol machine has accepted. */
typedef struct seam_work {
    seam_step_key key;
    uint32_t staging_idx;
    uint64_t begin_ns; /* timeline: waits since */
} seam_work;

/* Of UpdateSession (session_update.h): steps from effective_step on go by this optimizer. */
typedef struct seam_session_update {
    uint64_t effective_step;
    seam_optimizer_config optimizer;
    char request_id[SEAM_REQUEST_ID_BYTES];
} seam_session_update;

/* By rising steps.  All of the loop. */
typedef struct seam_session_updates {
    seam_session_update items[SEAM_UPDATES_MAX];
    uint32_t count;
} seam_session_updates;

/* Its part in the state directory; of session_disk.c and session_park.c.  All of the loop, but the
 * image and what stands beside it. */
typedef struct seam_session_disk {
    bool resident; /* has its memory: reserved in the budgets, built or being built */
    /* The image: of the engine while a job runs, of the disk queue while `writing`. */
    uint8_t *image;
    size_t image_capacity_bytes, image_bytes;
    seam_checkpoint_facts image_facts;
    /* The log of its caches: where the image has it, and its file, to be flushed before. */
    seam_redo_place image_caches;
    int caches_file;    /* has_caches: open */
    bool has_caches;    /* of codec aqsgd, not yet flushed */
    bool caches_broken; /* a flush has failed: the next image begins a new log */
    bool take_failed;   /* the last image could not be taken: write_err */
    double take_seconds, write_seconds;
    seam_status write_status;
    seam_error write_err;
    bool writing;
    seam_disk_job write_job;
    uint64_t taken_ms, commit_ms, cost_ms, retry_ms; /* the cadence */
    seam_redo_place durable_caches;                  /* image_caches of the newest durable one */
    /* SaveCheckpoint: calls that wait, writes that failed, and the last answer. */
    uint32_t save_call_count, write_error_count;
    char save_request_id[SEAM_REQUEST_ID_BYTES];
    uint64_t save_step_count;
    /* Loading: what is there, newest last, and how many of the newest could not be loaded. */
    uint64_t generations[SEAM_DURABLE_MAX];
    uint32_t generation_count, skipped_count;
    bool spoiled; /* a load has failed: the trainer is of no use, its memory is to go */
    bool waking;  /* a call builds and loads it: the trainer is the engine's */
    uint64_t restored_rows;
    bool parking, park_writes;
    seam_trainer_mark park_mark;
    seam_job park_job;
} seam_session_disk;

typedef struct seam_session {
    char id[SEAM_SESSION_ID_BYTES];
    uint8_t secret[SEAM_SESSION_SECRET_BYTES];
    char request_id[SEAM_REQUEST_ID_BYTES];
    seam_session_config config;
    Seam__V1__SessionConfig *message; /* as it was asked for; owned */
    uint64_t number;                  /* rises with each creation: the order of ListSessions */
    seam_memory_plan memory;          /* reserved in the budgets */
    uint64_t row_count;               /* served so far */
    seam_server_proto proto;
    seam_trainer *trainer; /* NULL while being created, and of a parked session */
    bool ready;            /* created: may be attached to */
    bool busy;             /* the engine works on the trainer */
    bool held;             /* a unary call's job does: what comes on the stream waits */
    seam_work work;        /* what it works on, or did last; staging_idx of no tensor: the count */
    seam_work queue[SEAM_STAGING_MAX]; /* what comes after it, of the attached stream, in order */
    uint32_t queue_count;
    seam_session_updates updates;
    /* Steps that were made, here, at the client by any Attach, or before by the state directory,
     * whatever a ROLLBACK has undone.  false: the client has not come since this process started;
     * it may have made more. */
    uint64_t made_step_count;
    bool made_known;
    bool withdrawn; /* some of it went with its stream: who waits is told by the next tick */
    bool deleted;   /* not found any more; in the table until nothing writes for it */
    struct seam_deletion *deletion; /* asked for, and waits for that; or NULL */
    void *stream;                   /* of rpc_train.c: the attached call, or NULL */
    void *stream_waiting;           /* the call that attaches when the engine is done, or NULL */
    /* Reply cache beside the trainer's two replies: the last Commit, as a whole message. */
    uint8_t commit[SEAM_COMMIT_BYTES_MAX];
    size_t commit_bytes;
    /* Two places for StepBegin: the one in force, and one to judge the next in. */
    seam_step_memory steps[2];
    uint32_t step_idx;
    seam_arena arena; /* of the steps and the image */
    seam_session_disk disk;
    seam_sessions *sessions;
    uint32_t refs;
    seam_job destroy_job;
    struct seam_session *next;
} seam_session;

/* Nothing is at work and nothing waits for it: calls may have the session. */
bool seam_session_is_idle(const seam_session *session) SEAM_ON_LOOP;
/* A staging for the next tensor; false: the others hold them all. */
bool seam_session_staging_free(uint32_t *ret_idx, const seam_session *session) SEAM_ON_LOOP;

void seam_session_ref(seam_session *session) SEAM_ON_LOOP;
void seam_session_unref(seam_session *session) SEAM_ON_LOOP;

/* Engine: take all memory of the session. */
seam_status seam_session_build(seam_session *session, seam_stream *stream,
                               seam_error *err) SEAM_ON_GPU;
/* Give it back (parking); the session is as before build. */
void seam_session_unbuild(seam_session *session);
/* Memory that a session of this configuration will take, with the image of one that is kept and
 * what may wait on its stream.  SEAM_E_LIMIT: not addressable. */
seam_status seam_session_plan(seam_memory_plan *ret_plan, const seam_session_config *config,
                              bool is_kept, uint64_t inbox_bytes);

/* Unpack a TrainRequest whose body is StepBegin into the spare place; bounded memory, no heap.
 * *ret_begin stays valid until the next call; adopt makes it the step in force.
 * SEAM_E_FORMAT, SEAM_E_LIMIT. */
seam_status seam_session_step_unpack(const Seam__V1__StepBegin **ret_begin, seam_session *session,
                                     const uint8_t *bytes, size_t count,
                                     seam_error *err) SEAM_ON_LOOP;
void seam_session_step_adopt(seam_session *session) SEAM_ON_LOOP;
const Seam__V1__StepBegin *seam_session_step(const seam_session *session);

#define SEAM_SITE_ROWS (SEAM_SITE_COUNT + 4 + SEAM_LAYERS_MAX + SEAM_PREFIX_GATES)

/* Fill a message that describes the session; arrays live in `ret_storage`. */
typedef struct seam_session_storage {
    Seam__V1__Session session;
    Seam__V1__Site sites[SEAM_SITE_ROWS]; /* of boundaries, modules and layers */
    Seam__V1__Site *site_list[SEAM_SITE_ROWS];
    Seam__V1__OptimizerUpdate updates[SEAM_UPDATES_MAX];
    Seam__V1__OptimizerUpdate *update_list[SEAM_UPDATES_MAX];
    Seam__V1__OptimizerConfig optimizers[SEAM_UPDATES_MAX];
} seam_session_storage;
void seam_session_describe(seam_session_storage *ret_storage, seam_session *session) SEAM_ON_LOOP;

#endif
