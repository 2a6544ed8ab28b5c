/* The server process around server_proto.h: an engine of two operations, a reply cache, a disk. */
#include <string.h>

#include "sim_internal.h"
#include "try.h"

/* ---- server process ---- */

static void cache_drop(server *s) {
    for (uint32_t i = 0; i < DEPTH_MAX; i++) {
        s->forward[i].valid = false;
    }
    s->backward[0].valid = s->backward[1].valid = s->commit.valid = false;
}

/* Where the reply to a tensor is kept. */
static cached_reply *cache_at(world *w, seam_step_key key) {
    return key.phase == SEAM_PHASE_FORWARD ? &w->s.forward[key.micro % w->depth]
                                           : &w->s.backward[key.micro % 2];
}

static void server_send(world *w, const msg *m) {
    if (seam_server_proto_link(&w->s.sp) == SEAM_LINK_ATTACHED && w->s.stream == w->c.stream &&
        !w->c.broken) {
        msg copy = *m;
        copy.stream = w->s.stream;
        sim_send(w, &w->down, &copy);
    }
}

/* The newest checkpoint that is intact; the damaged ones above are found by reading them. */
static uint64_t newest_intact(world *w) {
    server *s = &w->s;
    uint64_t newest = 0;
    for (uint64_t i = 0; i <= STEPS; i++) {
        if (s->file_valid[i] && (!s->file_rotten[i] || w->bug == SIM_BUG_LOAD_ROTTEN)) {
            newest = i;
        }
    }
    for (uint64_t i = newest + 1; i <= STEPS; i++) {
        if (s->file_valid[i]) {
            w->result.rotten++;
            s->file_valid[i] = s->file_rotten[i] = false;
        }
    }
    return newest;
}

/* What is read; not the history's if it was damaged. */
static uint64_t file_load(const server *s, uint64_t step_count) {
    return s->file_rotten[step_count] ? ~s->file_state[step_count] : s->file_state[step_count];
}

void sim_server_start(world *w, bool first) {
    server *s = &w->s;
    const uint64_t newest = newest_intact(w);
    if (!s->file_valid[newest]) {
        sim_broken(w, "the server has no checkpoint to start from");
        return;
    }
    const seam_server_proto_config config = {
        .config_hash = 7,
        .model_identity = 8,
        .micros_max = MICROS_MAX,
        .site_forward = SITE_FWD_IN,
        .site_backward = SITE_BWD_OUT,
        .backward_reply = w->backward_reply,
        .pipeline_depth = w->depth,
        .keeps_codec_state = w->codec_state && w->bug != SIM_BUG_RESEND_STATE,
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
            sim_broken(w, "a checkpoint on disk is refused");
        }
    }
    if (!first) { /* as the service does: parked, then brought back */
        if (seam_server_proto_parked(&s->sp, w->now_ms) != SEAM_OK) {
            sim_broken(w, "a session on disk is not parked");
        }
        seam_server_proto_restored(&s->sp, newest, w->now_ms);
        s->sp.reloaded = w->bug != SIM_BUG_NO_REWIND;
    }
    s->told_durable = s->told_durable < newest ? s->told_durable : newest;
    s->state = file_load(s, newest);
    s->partial = 0;
    s->table = 0;
    s->work_count = 0;
    cache_drop(s);
    s->writing = false;
    s->stream = 0;
    w->server_up = true;
}

/* The newest of several checkpoints may rot while nobody looks. */
static void rot(world *w) {
    server *s = &w->s;
    uint64_t newest = 0;
    uint32_t intact = 0;
    for (uint64_t i = 0; i <= STEPS; i++) {
        if (s->file_valid[i] && !s->file_rotten[i]) {
            newest = i;
            intact++;
        }
    }
    if (intact > 1 && sim_chance(w, 100)) {
        s->file_rotten[newest] = true;
    }
}

void sim_server_crash(world *w) {
    w->server_up = false;
    w->s.writing = false; /* a torn file has no manifest: it is not there */
    sim_stream_cut(w, SEAM_E_UNAVAILABLE);
    w->up.count = w->late.count = 0;
    w->result.server_crashes++;
    if (w->s.told_durable > 0 && !w->s.file_valid[w->s.told_durable]) {
        sim_broken(w, "a step was told durable and is not on disk");
    }
    rot(w);
}

/* The stream has ended: what its client sent and the engine has not begun may be forgotten. */
void sim_server_withdraw(world *w) {
    server *s = &w->s;
    while (s->work_count > 1 && sim_chance(w, 700)) {
        const seam_step_key key = s->work[--s->work_count];
        seam_server_proto_withdraw(&s->sp, key.micro, key.phase);
        w->result.withdrawn++;
    }
}

static void server_end_stream(world *w, const msg *m, seam_status st) {
    if (m->stream == w->c.stream && !w->c.broken) {
        w->c.broken = true;
        w->c.broken_status = st;
    }
    if (m->stream == w->s.stream) {
        sim_server_withdraw(w);
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
        sim_send(w, &w->up, m); /* the service asks again when the engine is done */
        return;
    }
    sim_server_withdraw(w);
    s->epoch = v.epoch;
    s->stream = m->stream;
    if (v.drop_step && w->bug != SIM_BUG_KEEP_STEP) {
        s->partial = 0;
        cache_drop(s);
    }
    if (v.load_checkpoint) {
        if (!s->file_valid[v.load_step_count]) {
            sim_broken(w, "a checkpoint is needed that was deleted");
            return;
        }
        if (s->file_rotten[v.load_step_count] && w->bug != SIM_BUG_LOAD_ROTTEN) {
            seam_server_proto_durable_lost(&s->sp, v.load_step_count);
            s->file_valid[v.load_step_count] = s->file_rotten[v.load_step_count] = false;
            w->result.rotten++;
            server_attach(w, m); /* the one before */
            return;
        }
        s->state = file_load(s, v.load_step_count);
        s->partial = 0;
        cache_drop(s);
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
        const cached_reply *c = cache_at(w, m->key);
        if (!c->valid || c->key.step != m->key.step || c->key.micro != m->key.micro) {
            sim_broken(w, "the cached reply is not there");
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
    SEAM_ASSERT(s->work_count < WORK_MAX);
    s->work[s->work_count] = m->key;
    s->work_digest[s->work_count++] = m->value;
}

static void server_tensor(world *w, const msg *m, uint64_t epoch) {
    server *s = &w->s;
    seam_server_verdict v;
    seam_verdict peeked = 0;
    const seam_status peek_st = seam_server_proto_peek(&peeked, &s->sp, epoch, m->key, NULL);

    const seam_status st = seam_server_proto_tensor(&v, &s->sp, epoch, m->key, m->digest, NULL);
    if (st == SEAM_OK && (peek_st != SEAM_OK || peeked != v.verdict)) {
        sim_broken(w, "peek and tensor disagree");
    }
    if (st != SEAM_OK) {
        server_end_stream(w, m, st);
        return;
    }
    if (v.verdict != SEAM_VERDICT_RUN) {
        if (w->bug == SIM_BUG_RUN_AGAIN && v.verdict == SEAM_VERDICT_REPLY_CACHED &&
            m->key.phase == SEAM_PHASE_BACKWARD) {
            s->partial = sim_mix(s->partial, m->digest);
        }
        server_resend(w, m, &v);
        return;
    }
    if (v.drop_cache) {
        cache_drop(s);
    }
    if (w->codec_state && m->key.phase == SEAM_PHASE_FORWARD) {
        if (m->table > s->table) {
            sim_broken(w, "the decoder lacks rows that the encoder counts on");
        }
        s->table = m->table + 1;
    }
    server_work_add(s, m);
}

static void server_confirm(world *w, const msg *m, uint64_t epoch) {
    server *s = &w->s;
    uint64_t keep_from = 0;
    if (epoch == seam_server_proto_epoch(&s->sp) &&
        seam_server_proto_durable_confirm(&keep_from, &s->sp, m->key.step, NULL) == SEAM_OK) {
        for (uint64_t i = 0; i < keep_from; i++) {
            s->file_valid[i] = s->file_rotten[i] = false;
        }
    }
}

void sim_server_receive(world *w) {
    server *s = &w->s;
    msg m;
    const bool is_late = w->late.count > 0 && sim_chance(w, 300);
    if (!sim_take(is_late ? &w->late : &w->up, &m)) {
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
    s->state = sim_mix(s->state, s->partial);
    s->partial = 0;
    if (s->state != w->truth_server[step + 1]) {
        sim_broken(w, "the server's state left the history");
    }
    seam_server_proto_committed(&s->sp, step, s->state);
    if (w->with_store && !s->writing && sim_chance(w, 300)) {
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
    if (w->with_store && sim_chance(w, 5)) {
        sim_server_crash(w); /* applied, and nobody has heard of it */
        return;
    }
    server_send(w, &s->commit.reply);
}

/* The engine finishes its oldest work. */
void sim_server_engine(world *w) {
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
        s->partial = sim_mix(s->partial, digest);
        apply = seam_server_proto_backward_done(&s->sp, key.step, key.micro);
    }
    if (forward || w->backward_reply) {
        msg reply = {.kind = MSG_TENSOR, .key = key};
        reply.key.site = forward ? SITE_FWD_OUT : SITE_FWD_IN;
        reply.digest =
            forward ? sim_forward_reply(s->state, digest) : sim_backward_reply(s->state, digest);
        *cache_at(w, key) = (cached_reply){.valid = true, .key = key, .reply = reply};
        server_send(w, &reply);
    }
    if (apply) {
        server_commit(w, key.step);
    }
}

void sim_server_disk(world *w) {
    server *s = &w->s;
    if (s->writing && sim_chance(w, 300)) {
        s->writing = false;
        if (s->writing_step > seam_server_proto_committed_count(&s->sp)) {
            return; /* rolled back meanwhile */
        }
        if (sim_chance(w, 100)) { /* disk full, or a flush that failed: nothing is told */
            w->result.write_failures++;
            return;
        }
        s->file_rotten[s->writing_step] = false;
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
            s->file_rotten[count] = false;
            s->state = s->partial = 0; /* freed */
            s->table = 0;
            cache_drop(s);
            w->result.parks++;
        } else {
            s->file_valid[count] = false;
        }
    }
}
