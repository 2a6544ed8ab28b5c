/* What the parts of the simulated world share: sim_world.c (faults, turns), sim_server.c and
 * sim_client.c (the two processes), sim_disk.c (checkpoints), sim_link.c (random numbers, messages,
 * streams). */
#ifndef SEAM_SIM_INTERNAL_H
#define SEAM_SIM_INTERNAL_H

#include "client_proto.h"
#include "credit.h"
#include "server_proto.h"
#include "sim_world.h"
#include "step_key.h"

enum {
    MICROS_MAX = 5,
    DEPTH_MAX = SIM_DEPTH_MAX,
    WORK_MAX = 2 * DEPTH_MAX + 1,
    QUEUE_MAX = 64,
    RECENT_MAX = 16,
    OUT_MAX = 32,
    STEPS_MAX = SIM_STEPS_MAX,
    STEP_FAULT_TURNS = 208, /* turns with faults, for each step of a world */
    STEP_TURNS_MAX = 3333,
    SITE_FWD_IN = 0,
    SITE_FWD_OUT = 1,
    SITE_BWD_OUT = 2,
};

typedef enum {
    MSG_ATTACH,
    MSG_ATTACHED,
    MSG_BEGIN,
    MSG_TENSOR,
    MSG_COMMIT,
    MSG_CONFIRM,
    MSG_CREDIT
} msg_kind;

typedef struct msg {
    msg_kind kind;
    uint64_t stream;
    seam_step_key key;
    uint64_t digest; /* of tensors and StepBegin; state hash of a Commit */
    uint64_t value; /* of a forward tensor: what it decodes to; its bytes depend on the table too */
    uint32_t table; /* of a forward tensor: rows that the receiver must have */
    uint64_t durable;
    uint64_t credit, credit_more; /* of a grant: the limit, and by how much it rose */
    uint32_t micro_count, pipeline_depth;
    seam_attach_args attach;
    seam_attached_args attached;
} msg;

typedef struct queue {
    msg items[QUEUE_MAX];
    uint32_t count;
    msg recent[RECENT_MAX]; /* sent, newest at sent_count - 1, modulo */
    uint64_t sent_count;
} queue;

typedef struct cached_reply {
    bool valid;
    seam_step_key key;
    msg reply;
} cached_reply;

typedef struct task {
    seam_step_key key;
    uint64_t value;
    uint32_t table;
    uint64_t stream; /* that its frame came by */
} task;

typedef struct server {
    seam_server_proto sp;
    uint64_t stream; /* that messages are accepted from and sent to */
    uint64_t state, partial;
    task work[WORK_MAX]; /* accepted, oldest first */
    uint32_t work_count;
    cached_reply forward[DEPTH_MAX], backward[2], commit;
    uint32_t table; /* of a codec that keeps state */
    /* What goes to the stream, in order: a reply waits for credit, and all behind it. */
    msg out[OUT_MAX];
    uint32_t out_count;
    seam_credit_tx tx;
    seam_credit_rx rx;
    bool table_falls; /* an aborted step is sent again: the encoder's older table */
    bool writing;     /* a checkpoint on its way to disk */
    uint64_t writing_step, writing_state;
    /* Disk. */
    bool file_valid[STEPS_MAX + 1];
    bool file_rotten[STEPS_MAX + 1]; /* found when it is read */
    uint64_t file_state[STEPS_MAX + 1];
    uint64_t epoch;
    uint64_t told_durable;
    bool has_ended; /* deleted, or expired: a later process knows */
} server;

typedef struct client {
    seam_client_proto cp;
    uint64_t stream; /* 0: none */
    seam_credit_tx tx;
    seam_credit_rx rx;
    bool broken; /* the stream was cut: noticed when the queue is empty */
    seam_status broken_status;
    uint64_t state, partial[2]; /* by phase: replies come in another order at another depth */
    uint64_t replies[MICROS_MAX];
    uint32_t table;        /* as the server's */
    bool kept[MICROS_MAX]; /* forward tensors of the step in flight */
    uint64_t kept_digest[MICROS_MAX];
    uint32_t kept_table[MICROS_MAX];
    bool went_back;
    uint64_t commit_hash, durable_told;
    bool confirm_due;
    /* Disk: the journal. */
    uint64_t journal_count, journal_epoch;
    uint64_t journal_state[STEPS_MAX + 1], journal_hash[STEPS_MAX + 1];
    uint64_t journal_hash_count; /* records that a replay is compared with */
} client;

typedef struct world {
    uint64_t random, now_ms;
    sim_bug bug;
    sim_result result;
    bool with_store, backward_reply, codec_state;
    bool may_expire, may_lose; /* parked for too long, deleted; no checkpoint is intact */
    uint32_t steps;
    uint32_t fault_rate;  /* of thousand turns: those that may bring a fault */
    uint32_t crash_rate;  /* of thousand: of the client's crashes that happen */
    bool has_norm;        /* the client trains too: a step ends with its share of the norm */
    bool one_pass;        /* no backward tensors */
    uint32_t depth;       /* of the session's pipeline */
    uint32_t depth_held;  /* what the client still needs of it */
    uint32_t engine_rate; /* of thousand: a slow engine has several tensors waiting for it */
    uint32_t micros[STEPS_MAX];
    uint64_t truth_server[STEPS_MAX + 1], truth_client[STEPS_MAX + 1];
    uint64_t last_stream;
    queue up, down;
    queue late;   /* of broken streams, on their way to the server */
    bool trouble; /* a fault may come this turn */
    bool server_up;
    server s;
    client c;
} world;

/* sim_link.c */
void sim_broken(world *w, const char *what); /* an invariant: the first one is kept */
uint64_t sim_draw(world *w);
bool sim_chance(world *w, uint32_t of_thousand);
uint64_t sim_mix(uint64_t a, uint64_t b);
void sim_send(world *w, queue *q, const msg *m);
void sim_repeat(world *w, queue *q); /* one of the messages that the stream has carried */
bool sim_take(queue *q, msg *ret);
uint64_t sim_frame_bytes(const msg *m); /* of a tensor's only frame; 0: a control message */
void sim_stream_cut(world *w, seam_status why);
void sim_truth_compute(world *w); /* the fault-free history */
/* What the messages are computed from. */
uint64_t sim_forward_digest(uint64_t client_state, uint64_t step, uint32_t micro);
uint64_t sim_forward_reply(uint64_t server_state, uint64_t forward);
uint64_t sim_backward_digest(uint64_t client_state, uint64_t reply);
uint64_t sim_backward_reply(uint64_t server_state, uint64_t backward);
uint64_t sim_norm_digest(const world *w, uint64_t client_state, const uint64_t replies[2]);
uint64_t sim_begin_digest(uint64_t step);

/* sim_server.c */
void sim_server_start(world *w, bool first); /* from its disk */
void sim_server_crash(world *w);
void sim_server_receive(world *w);
void sim_server_engine(world *w); /* finishes its oldest work */
void sim_server_disk(world *w);
void sim_server_withdraw(world *w);
void sim_server_delete(world *w); /* its client's owner ends the session */
void sim_server_flush(world *w);  /* what its credit allows */

/* sim_disk.c */
bool sim_disk_newest_intact(uint64_t *ret_newest, world *w); /* false: none; forgets damaged ones */
bool sim_disk_newest_is_rotten(const world *w);
void sim_disk_rot(world *w);
void sim_disk_rot_at(world *w, uint64_t step_count);

/* sim_client.c */
void sim_client_start(world *w); /* from its journal */
void sim_client_crash(world *w);
void sim_client_act(world *w);
void sim_client_receive(world *w);

#endif
