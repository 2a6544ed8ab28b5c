/* See sim_world.h.  One turn of the world is one random event; faults stop after a while, so that
 * every world must come to its end. */
#include "sim_world.h"

#include <string.h>

#include "client_proto.h"
#include "server_proto.h"
#include "step_key.h"
#include "try.h"

enum {
    STEPS = 12,
    MICROS_MAX = 3,
    QUEUE_MAX = 64,
    FAULT_TURNS = 2500,
    TURNS_MAX = 40000,
    SITE_FWD_IN = 0,
    SITE_FWD_OUT = 1,
    SITE_BWD_OUT = 2,
};

typedef enum { MSG_ATTACH, MSG_ATTACHED, MSG_BEGIN, MSG_TENSOR, MSG_COMMIT, MSG_CONFIRM } msg_kind;

typedef struct msg {
    msg_kind kind;
    uint64_t stream;
    seam_step_key key;
    uint64_t digest; /* of tensors and StepBegin; state hash of a Commit */
    uint64_t durable;
    uint32_t micro_count;
    seam_attach_args attach;
    seam_attached_args attached;
} msg;

typedef struct queue {
    msg items[QUEUE_MAX];
    uint32_t count;
} queue;

typedef struct cached_reply {
    bool valid;
    seam_step_key key;
    msg reply;
} cached_reply;

typedef struct server {
    seam_server_proto sp;
    uint64_t stream; /* that messages are accepted from and sent to */
    uint64_t state, partial;
    seam_step_key work[4]; /* accepted, oldest first */
    uint64_t work_digest[4];
    uint32_t work_count;
    cached_reply cache[2], commit;
    bool writing; /* a checkpoint on its way to disk */
    uint64_t writing_step, writing_state;
    /* Disk. */
    bool file_valid[STEPS + 1];
    uint64_t file_state[STEPS + 1];
    uint64_t epoch;
    uint64_t told_durable;
} server;

typedef struct client {
    seam_client_proto cp;
    uint64_t stream; /* 0: none */
    bool broken;     /* the stream was cut: noticed when the queue is empty */
    seam_status broken_status;
    uint64_t state, partial, last_reply;
    uint64_t commit_hash, durable_told;
    bool confirm_due;
    /* Disk: the journal. */
    uint64_t journal_count, journal_epoch;
    uint64_t journal_state[STEPS + 1], journal_hash[STEPS + 1];
    uint64_t journal_hash_count; /* records that a replay is compared with */
} client;

typedef struct world {
    uint64_t random, now_ms;
    sim_bug bug;
    sim_result result;
    bool with_store, backward_reply;
    uint32_t micros[STEPS];
    uint64_t truth_server[STEPS + 1], truth_client[STEPS + 1];
    uint64_t last_stream;
    queue up, down;
    queue late; /* of broken streams, on their way to the server */
    bool server_up;
    server s;
    client c;
} world;

static void broken(world *w, const char *what) {
    if (w->result.broken == NULL) {
        w->result.broken = what;
    }
}

/* splitmix64 */
static uint64_t draw(world *w) {
    uint64_t z = (w->random += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static bool chance(world *w, uint32_t of_thousand) {
    return draw(w) % 1000 < of_thousand;
}

static uint64_t mix(uint64_t a, uint64_t b) {
    uint64_t z = (a ^ (b + UINT64_C(0x9e3779b97f4a7c15) + (a << 6) + (a >> 2)));
    z = (z ^ (z >> 31)) * UINT64_C(0x7fb5d329728ea185);
    return z ^ (z >> 27);
}

/* ---- what the messages are computed from ---- */

static uint64_t forward_digest(uint64_t client_state, uint64_t step, uint32_t micro) {
    return mix(mix(client_state, step), micro);
}
static uint64_t forward_reply(uint64_t server_state, uint64_t forward) {
    return mix(server_state, mix(forward, 11));
}
static uint64_t backward_digest(uint64_t client_state, uint64_t reply) {
    return mix(client_state, mix(reply, 22));
}
static uint64_t backward_reply(uint64_t server_state, uint64_t backward) {
    return mix(server_state, mix(backward, 33));
}
static uint64_t begin_digest(uint64_t step) {
    return mix(44, step);
}

static void truth_compute(world *w) {
    for (uint64_t step = 0; step < STEPS; step++) {
        const uint64_t s = w->truth_server[step];
        const uint64_t c = w->truth_client[step];
        uint64_t s_partial = 0;
        uint64_t c_partial = 0;
        for (uint32_t m = 0; m < w->micros[step]; m++) {
            const uint64_t reply = forward_reply(s, forward_digest(c, step, m));
            const uint64_t back = backward_digest(c, reply);
            s_partial = mix(s_partial, back);
            c_partial = mix(c_partial, reply);
            if (w->backward_reply) {
                c_partial = mix(c_partial, backward_reply(s, back));
            }
        }
        w->truth_server[step + 1] = mix(s, s_partial);
        w->truth_client[step + 1] = mix(c, c_partial);
    }
}

/* ---- streams ---- */

static void send_to(world *w, queue *q, const msg *m) {
    if (q->count < QUEUE_MAX) {
        q->items[q->count++] = *m;
    } else {
        broken(w, "a queue grows without bound");
    }
}

static bool take_from(queue *q, msg *ret) {
    if (q->count == 0) {
        return false;
    }
    *ret = q->items[0];
    q->count--;
    memmove(q->items, q->items + 1, q->count * sizeof q->items[0]);
    return true;
}

/* The client's current stream breaks; a random part of what is under way is lost.  What is left of
 * the way to the server arrives late, perhaps after the next stream's first messages. */
static void stream_cut(world *w, seam_status why) {
    if (w->c.stream == 0 || w->c.broken) {
        return;
    }
    w->c.broken = true;
    w->c.broken_status = why;
    w->down.count = (uint32_t)(draw(w) % (w->down.count + 1));
    const uint32_t kept = (uint32_t)(draw(w) % (w->up.count + 1));
    for (uint32_t i = 0; i < kept && w->late.count < QUEUE_MAX; i++) {
        if (w->up.items[i].stream == w->c.stream) {
            w->late.items[w->late.count++] = w->up.items[i];
        }
    }
    w->up.count = 0;
    w->result.cuts++;
}

/* ---- server process ---- */

static void server_send(world *w, const msg *m) {
    if (seam_server_proto_link(&w->s.sp) == SEAM_LINK_ATTACHED && w->s.stream == w->c.stream &&
        !w->c.broken) {
        msg copy = *m;
        copy.stream = w->s.stream;
        send_to(w, &w->down, &copy);
    }
}

static void server_start(world *w) {
    server *s = &w->s;
    uint64_t newest = 0;
    for (uint64_t i = 0; i <= STEPS; i++) {
        newest = s->file_valid[i] ? i : newest;
    }
    if (!s->file_valid[newest]) {
        broken(w, "the server has no checkpoint to start from");
        return;
    }
    const seam_server_proto_config config = {
        .config_hash = 7,
        .model_identity = 8,
        .micros_max = MICROS_MAX,
        .site_forward = SITE_FWD_IN,
        .site_backward = SITE_BWD_OUT,
        .backward_reply = w->backward_reply,
        .can_park = w->with_store,
        .lease_ms = w->with_store ? 3000 : UINT64_C(1) << 40,
        .park_ms = UINT64_C(1) << 40,
        .committed_step_count = newest,
        .epoch = s->epoch,
        .now_ms = w->now_ms,
    };
    seam_server_proto_init(&s->sp, &config);
    for (uint64_t i = 0; i <= STEPS && w->with_store; i++) {
        if (s->file_valid[i] && seam_server_proto_durable_add(&s->sp, i) != SEAM_OK) {
            broken(w, "a checkpoint on disk is refused");
        }
    }
    s->state = s->file_state[newest];
    s->partial = 0;
    s->work_count = 0;
    s->cache[0].valid = s->cache[1].valid = s->commit.valid = false;
    s->writing = false;
    s->stream = 0;
    w->server_up = true;
}

static void server_crash(world *w) {
    w->server_up = false;
    w->s.writing = false;
    stream_cut(w, SEAM_E_UNAVAILABLE);
    w->up.count = w->late.count = 0;
    w->result.server_crashes++;
    if (w->s.told_durable > 0 && !w->s.file_valid[w->s.told_durable]) {
        broken(w, "a step was told durable and is not on disk");
    }
}

static void server_end_stream(world *w, const msg *m, seam_status st) {
    if (m->stream == w->c.stream && !w->c.broken) {
        w->c.broken = true;
        w->c.broken_status = st;
    }
    if (m->stream == w->s.stream) {
        seam_server_proto_stream_lost(&w->s.sp, seam_server_proto_epoch(&w->s.sp), w->now_ms);
    }
}

static void server_attach(world *w, const msg *m) {
    server *s = &w->s;
    seam_attach_verdict v;
    seam_attach_args args = m->attach;
    args.now_ms = w->now_ms;
    const seam_status st = seam_server_proto_attach(&v, &s->sp, &args, NULL);
    if (st != SEAM_OK) {
        server_end_stream(w, m, st);
        return;
    }
    if (v.action == SEAM_ATTACH_WAIT) {
        send_to(w, &w->up, m); /* the service asks again when the engine is done */
        return;
    }
    s->epoch = v.epoch;
    s->stream = m->stream;
    if (v.drop_step && w->bug != SIM_BUG_KEEP_STEP) {
        s->partial = 0;
        s->cache[0].valid = s->cache[1].valid = false;
    }
    if (v.load_checkpoint) {
        if (!s->file_valid[v.load_step_count]) {
            broken(w, "a checkpoint is needed that was deleted");
            return;
        }
        s->state = s->file_state[v.load_step_count];
        s->partial = 0;
        s->cache[0].valid = s->cache[1].valid = s->commit.valid = false;
        seam_server_proto_restored(&s->sp, v.load_step_count, w->now_ms);
        for (uint64_t i = v.load_step_count + 1; i <= STEPS; i++) {
            s->file_valid[i] = false;
        }
        s->told_durable = s->told_durable < v.load_step_count ? s->told_durable : v.load_step_count;
    }
    w->result.rollbacks += v.action == SEAM_ATTACH_ROLLBACK;
    w->result.resends += v.action == SEAM_ATTACH_RESEND;
    server_send(
        w, &(msg){.kind = MSG_ATTACHED,
                  .durable = s->told_durable,
                  .attached = {.action = v.action,
                               .epoch = v.epoch,
                               .committed_step_count = seam_server_proto_committed_count(&s->sp),
                               .rollback_step = v.rollback_step}});
}

static void server_resend(world *w, const msg *m, const seam_server_verdict *v) {
    server *s = &w->s;
    if (v->verdict == SEAM_VERDICT_REPLY_CACHED) {
        const cached_reply *c = &s->cache[m->key.phase == SEAM_PHASE_FORWARD ? 0 : 1];
        if (!c->valid || c->key.step != m->key.step || c->key.micro != m->key.micro) {
            broken(w, "the cached reply is not there");
            return;
        }
        w->result.cached++;
        server_send(w, &c->reply);
    }
    if (v->resend_commit && s->commit.valid) {
        server_send(w, &s->commit.reply);
    }
}

static void server_work_add(server *s, const msg *m) {
    SEAM_ASSERT(s->work_count < 4);
    s->work[s->work_count] = m->key;
    s->work_digest[s->work_count++] = m->digest;
}

static void server_tensor(world *w, const msg *m, uint64_t epoch) {
    server *s = &w->s;
    seam_server_verdict v;
    seam_verdict peeked = 0;
    const seam_status peek_st = seam_server_proto_peek(&peeked, &s->sp, epoch, m->key, NULL);
    const seam_status st = seam_server_proto_tensor(&v, &s->sp, epoch, m->key, m->digest, NULL);
    if (st == SEAM_OK && (peek_st != SEAM_OK || peeked != v.verdict)) {
        broken(w, "peek and tensor disagree");
    }
    if (st != SEAM_OK) {
        server_end_stream(w, m, st);
        return;
    }
    if (v.verdict != SEAM_VERDICT_RUN) {
        if (w->bug == SIM_BUG_RUN_AGAIN && v.verdict == SEAM_VERDICT_REPLY_CACHED &&
            m->key.phase == SEAM_PHASE_BACKWARD) {
            s->partial = mix(s->partial, m->digest);
        }
        server_resend(w, m, &v);
        return;
    }
    if (v.drop_cache) {
        s->cache[0].valid = s->cache[1].valid = s->commit.valid = false;
    }
    server_work_add(s, m);
}

static void server_confirm(world *w, const msg *m, uint64_t epoch) {
    server *s = &w->s;
    uint64_t keep_from = 0;
    if (epoch == seam_server_proto_epoch(&s->sp) &&
        seam_server_proto_durable_confirm(&keep_from, &s->sp, m->key.step, NULL) == SEAM_OK) {
        for (uint64_t i = 0; i < keep_from; i++) {
            s->file_valid[i] = false;
        }
    }
}

static void server_receive(world *w) {
    server *s = &w->s;
    msg m;
    const bool is_late = w->late.count > 0 && chance(w, 300);
    if (!take_from(is_late ? &w->late : &w->up, &m)) {
        return;
    }
    if (m.kind == MSG_ATTACH && m.stream < s->stream) {
        return; /* its connection is closed: nobody waits for the answer */
    }
    if (m.kind == MSG_ATTACH) {
        server_attach(w, &m);
        return;
    }
    const bool current = m.stream == s->stream || w->bug == SIM_BUG_NO_FENCE;
    const uint64_t epoch = seam_server_proto_epoch(&s->sp) - (current ? 0u : 1u);
    if (!current) {
        w->result.fenced++;
    }
    if (m.kind == MSG_BEGIN) {
        seam_server_verdict v;
        const seam_step_begin_args args = {
            .epoch = epoch, .step = m.key.step, .digest = m.digest, .micro_count = m.micro_count};
        const seam_status st = seam_server_proto_step_begin(&v, &s->sp, &args, NULL);
        if (st != SEAM_OK) {
            server_end_stream(w, &m, st);
        } else {
            server_resend(w, &m, &v);
        }
    } else if (m.kind == MSG_TENSOR) {
        server_tensor(w, &m, epoch);
    } else {
        server_confirm(w, &m, epoch);
    }
}

static void server_commit(world *w, uint64_t step) {
    server *s = &w->s;
    s->state = mix(s->state, s->partial);
    s->partial = 0;
    if (s->state != w->truth_server[step + 1]) {
        broken(w, "the server's state left the history");
    }
    seam_server_proto_committed(&s->sp, step, s->state);
    if (w->with_store && !s->writing && chance(w, 300)) {
        s->writing = true;
        s->writing_step = step + 1;
        s->writing_state = s->state;
        if (w->bug == SIM_BUG_EARLY_DURABLE) {
            s->told_durable = step + 1;
        }
    }
    s->commit = (cached_reply){
        .valid = true, .reply = {.kind = MSG_COMMIT, .key = {.step = step}, .digest = s->state}};
    s->commit.reply.durable = s->told_durable;
    server_send(w, &s->commit.reply);
}

/* The engine finishes its oldest work. */
static void server_engine(world *w) {
    server *s = &w->s;
    if (s->work_count == 0) {
        return;
    }
    const seam_step_key key = s->work[0];
    const uint64_t digest = s->work_digest[0];
    s->work_count--;
    memmove(s->work, s->work + 1, s->work_count * sizeof s->work[0]);
    memmove(s->work_digest, s->work_digest + 1, s->work_count * sizeof s->work_digest[0]);
    const bool forward = key.phase == SEAM_PHASE_FORWARD;
    bool apply = false;
    if (forward) {
        seam_server_proto_forward_done(&s->sp, key.step, key.micro);
    } else {
        s->partial = mix(s->partial, digest);
        apply = seam_server_proto_backward_done(&s->sp, key.step, key.micro);
    }
    if (forward || w->backward_reply) {
        msg reply = {.kind = MSG_TENSOR, .key = key};
        reply.key.site = forward ? SITE_FWD_OUT : SITE_FWD_IN;
        reply.digest = forward ? forward_reply(s->state, digest) : backward_reply(s->state, digest);
        s->cache[forward ? 0 : 1] = (cached_reply){.valid = true, .key = key, .reply = reply};
        server_send(w, &reply);
    }
    if (apply) {
        server_commit(w, key.step);
    }
}

static void server_disk(world *w) {
    server *s = &w->s;
    if (s->writing && chance(w, 300)) {
        s->writing = false;
        if (s->writing_step > seam_server_proto_committed_count(&s->sp)) {
            return; /* rolled back meanwhile */
        }
        s->file_valid[s->writing_step] = true;
        s->file_state[s->writing_step] = s->writing_state;
        if (seam_server_proto_durable_add(&s->sp, s->writing_step) != SEAM_OK) {
            s->file_valid[s->writing_step] = false;
            return;
        }
        s->told_durable = s->told_durable > s->writing_step ? s->told_durable : s->writing_step;
        if (w->bug == SIM_BUG_DELETE_EARLY) {
            for (uint64_t i = 0; i < s->writing_step; i++) {
                s->file_valid[i] = false;
            }
        }
    }
    if (seam_server_proto_tick(&s->sp, w->now_ms) == SEAM_LEASE_PARK && !s->writing) {
        const uint64_t count = seam_server_proto_committed_count(&s->sp);
        s->file_valid[count] = true;
        s->file_state[count] = s->state;
        if (seam_server_proto_durable_add(&s->sp, count) == SEAM_OK &&
            seam_server_proto_parked(&s->sp, w->now_ms) == SEAM_OK) {
            s->told_durable = count;
            s->state = s->partial = 0; /* freed */
            s->cache[0].valid = s->cache[1].valid = s->commit.valid = false;
            w->result.parks++;
        } else {
            s->file_valid[count] = false;
        }
    }
}

/* ---- client process ---- */

static void client_start(world *w) {
    client *c = &w->c;
    const seam_client_proto_config config = {.committed_step_count = c->journal_count,
                                             .epoch_seen = c->journal_epoch,
                                             .site_forward_reply = SITE_FWD_OUT,
                                             .site_backward_reply = SITE_FWD_IN,
                                             .backward_reply = w->backward_reply,
                                             .now_ms = w->now_ms};
    seam_client_proto_init(&c->cp, &config);
    c->state = c->journal_state[c->journal_count];
    c->partial = 0;
    c->stream = 0;
    c->broken = false;
    c->confirm_due = false;
}

static void client_crash(world *w) {
    stream_cut(w, SEAM_E_UNAVAILABLE);
    w->down.count = 0;
    w->result.client_crashes++;
    client_start(w);
}

static void client_tell(world *w, const msg *m) {
    client *c = &w->c;
    if (!c->broken) {
        msg copy = *m;
        copy.stream = c->stream;
        send_to(w, &w->up, &copy);
    }
}

static void client_receive(world *w) {
    client *c = &w->c;
    msg m;
    bool is_new = false;
    seam_status st = SEAM_OK;
    if (!take_from(&w->down, &m)) {
        if (c->broken) {
            c->stream = 0;
            c->broken = false;
            seam_client_proto_stream_lost(&c->cp,
                                          &(seam_stream_lost_args){.status = c->broken_status,
                                                                   .random = (uint32_t)draw(w),
                                                                   .now_ms = w->now_ms});
        }
        return;
    }
    if (m.stream != c->stream) {
        return;
    }
    switch (m.kind) {
    case MSG_ATTACHED:
        m.attached.now_ms = w->now_ms;
        st = seam_client_proto_attached(&c->cp, &m.attached, NULL);
        c->journal_epoch = m.attached.epoch;
        break;
    case MSG_TENSOR:
        st = seam_client_proto_reply(&is_new, &c->cp, m.key, m.digest, w->now_ms, NULL);
        if (is_new) {
            c->partial = mix(c->partial, m.digest);
            c->last_reply = m.key.phase == SEAM_PHASE_FORWARD ? m.digest : c->last_reply;
        }
        break;
    default: {
        const bool replay = m.key.step < c->journal_hash_count;
        st = seam_client_proto_commit(&is_new, &c->cp, m.key.step, m.digest,
                                      replay ? &c->journal_hash[m.key.step + 1] : NULL, w->now_ms,
                                      NULL);
        if (is_new) {
            c->commit_hash = m.digest;
            c->durable_told = m.durable;
        }
        break;
    }
    }
    if (st != SEAM_OK) {
        broken(w, seam_status_name(st));
    }
}

static void client_journal(world *w, uint64_t step) {
    client *c = &w->c;
    c->state = mix(c->state, c->partial);
    c->partial = 0;
    const bool flushed = w->bug != SIM_BUG_LATE_JOURNAL || chance(w, 500);
    if (flushed) {
        c->journal_count = step + 1;
        c->journal_state[step + 1] = c->state;
        c->journal_hash[step + 1] = c->commit_hash;
        if (c->journal_hash_count < step + 1) {
            c->journal_hash_count = step + 1;
        }
    }
    if (c->state != w->truth_client[step + 1]) {
        broken(w, "the client's state left the history");
    }
    seam_client_proto_journaled(&c->cp);
    if (c->durable_told > 0 && c->durable_told <= step + 1 && chance(w, 500)) {
        client_tell(w, &(msg){.kind = MSG_CONFIRM, .key = {.step = c->durable_told}});
    }
}

static void client_send(world *w, const seam_client_action *a) {
    client *c = &w->c;
    msg m = {.kind = MSG_TENSOR, .key = {.step = a->step, .micro = a->micro}};
    switch (a->kind) {
    case SEAM_CLIENT_SEND_ATTACH:
        m.kind = MSG_ATTACH;
        m.attach = (seam_attach_args){.epoch_seen = a->epoch_seen,
                                      .committed_step_count = a->committed_step_count,
                                      .config_hash = 7,
                                      .model_identity = 8,
                                      .step_in_flight = a->step_in_flight};
        break;
    case SEAM_CLIENT_SEND_STEP_BEGIN:
        m.kind = MSG_BEGIN;
        m.digest = begin_digest(a->step);
        m.micro_count = w->micros[a->step];
        break;
    case SEAM_CLIENT_SEND_FORWARD:
        m.key.phase = SEAM_PHASE_FORWARD;
        m.key.site = SITE_FWD_IN;
        m.digest = forward_digest(c->state, a->step, a->micro);
        break;
    default:
        m.key.phase = SEAM_PHASE_BACKWARD;
        m.key.site = SITE_BWD_OUT;
        m.digest = backward_digest(c->state, c->last_reply);
        break;
    }
    client_tell(w, &m);
    seam_client_proto_done(&c->cp, a);
}

static void client_act(world *w) {
    client *c = &w->c;
    seam_client_action a;
    seam_client_proto_next(&a, &c->cp, w->now_ms);
    switch (a.kind) {
    case SEAM_CLIENT_CONNECT:
        if (!w->server_up) {
            seam_client_proto_stream_lost(&c->cp,
                                          &(seam_stream_lost_args){.status = SEAM_E_UNAVAILABLE,
                                                                   .random = (uint32_t)draw(w),
                                                                   .now_ms = w->now_ms});
            break;
        }
        c->stream = ++w->last_stream;
        c->broken = false;
        seam_client_proto_done(&c->cp, &a);
        break;
    case SEAM_CLIENT_RECEIVE:
        client_receive(w);
        break;
    case SEAM_CLIENT_BACK_OFF:
        w->now_ms += 1 + draw(w) % a.wait_ms;
        break;
    case SEAM_CLIENT_RESTORE:
        c->state = c->journal_state[a.step];
        c->partial = 0;
        c->journal_count = a.step;
        seam_client_proto_restored(&c->cp, a.step, w->now_ms);
        break;
    case SEAM_CLIENT_JOURNAL:
        client_journal(w, a.step);
        break;
    case SEAM_CLIENT_IDLE:
        if (a.step < STEPS && seam_client_proto_begin_step(&c->cp, a.step, w->micros[a.step],
                                                           w->now_ms, NULL) != SEAM_OK) {
            broken(w, "a step cannot begin");
        }
        break;
    case SEAM_CLIENT_STOPPED:
        if (seam_client_proto_error(&c->cp)->status == SEAM_E_GONE && !w->with_store) {
            w->result.gone = true;
        } else {
            broken(w, seam_status_name(seam_client_proto_error(&c->cp)->status));
        }
        break;
    default:
        client_send(w, &a);
        break;
    }
}

/* ---- the world ---- */

static void faults(world *w) {
    if (chance(w, 12)) {
        stream_cut(w, SEAM_E_UNAVAILABLE);
    }
    if (chance(w, 20) && w->up.count > 0 && w->up.items[w->up.count - 1].kind != MSG_ATTACH) {
        const msg again = w->up.items[w->up.count - 1]; /* repeated by the sender */
        send_to(w, &w->up, &again);
    }
    if (chance(w, 20) && w->down.count > 0 &&
        w->down.items[w->down.count - 1].kind != MSG_ATTACHED) {
        const msg again = w->down.items[w->down.count - 1];
        send_to(w, &w->down, &again);
    }
    if (w->with_store && w->server_up && chance(w, 4)) {
        server_crash(w);
    }
    if (chance(w, 4)) {
        client_crash(w);
    }
    if (chance(w, 3)) {
        w->now_ms += 4000; /* long enough for the lease */
    }
}

static void turn(world *w) {
    w->now_ms += draw(w) % 5;
    if (!w->server_up) {
        if (chance(w, 100)) {
            server_start(w);
        }
        client_act(w);
        return;
    }
    /* The server notices a broken stream at some time, or when a newer one attaches. */
    if (w->c.broken && w->s.stream == w->c.stream && chance(w, 300)) {
        seam_server_proto_stream_lost(&w->s.sp, seam_server_proto_epoch(&w->s.sp), w->now_ms);
    }
    switch (draw(w) % 4) {
    case 0:
        server_receive(w);
        break;
    case 1:
        server_engine(w);
        break;
    case 2:
        server_disk(w);
        break;
    default:
        client_act(w);
        /* A real client waits for messages also while it has something to send. */
        if (w->down.count > 0 && w->c.cp.stream_open && chance(w, 300)) {
            client_receive(w);
        }
        break;
    }
}

sim_result sim_run(uint64_t seed, sim_bug bug) {
    world w = {.random = seed * 2 + 1, .bug = bug};
    w.with_store = chance(&w, 700);
    w.backward_reply = chance(&w, 500);
    for (uint32_t i = 0; i < STEPS; i++) {
        w.micros[i] = 1 + (uint32_t)(draw(&w) % MICROS_MAX);
    }
    w.truth_server[0] = draw(&w);
    w.truth_client[0] = draw(&w);
    truth_compute(&w);
    w.s.file_valid[0] = true; /* the initial state can always be made again */
    w.s.file_state[0] = w.truth_server[0];
    w.c.journal_state[0] = w.truth_client[0];
    server_start(&w);
    client_start(&w);
    for (uint32_t i = 0; i < TURNS_MAX && w.result.broken == NULL && !w.result.gone; i++) {
        if (i < FAULT_TURNS) {
            faults(&w);
        }
        turn(&w);
        w.result.finished = seam_client_proto_committed_count(&w.c.cp) == STEPS;
        if (w.result.finished && i >= FAULT_TURNS) {
            break;
        }
    }
    if (w.result.finished && w.server_up && seam_server_proto_link(&w.s.sp) == SEAM_LINK_ATTACHED &&
        w.s.state != w.truth_server[seam_server_proto_committed_count(&w.s.sp)]) {
        broken(&w, "the server's last state is not that of the history");
    }
    if (w.result.broken == NULL && !w.result.finished && !w.result.gone) {
        broken(&w, "no progress");
    }
    return w.result;
}

const char *sim_bug_name(sim_bug bug) {
    static const char *const names[SIM_BUG_COUNT] = {"none",          "run again",    "keep step",
                                                     "early durable", "late journal", "no fence",
                                                     "delete early"};
    return names[bug];
}
