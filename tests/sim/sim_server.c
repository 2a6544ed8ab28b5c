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
    const uint32_t kept = w->bug == SIM_BUG_ONE_REPLY ? 1 : w->depth;
    return key.phase == SEAM_PHASE_FORWARD ? &w->s.forward[key.micro % kept]
                                           : &w->s.backward[key.micro % 2];
}

static bool server_has_stream(const world *w) {
    return seam_server_proto_link(&w->s.sp) == SEAM_LINK_ATTACHED && w->s.stream == w->c.stream &&
           !w->c.broken;
}

/* Attached and grants; they wait for nothing. */
static void server_tell(world *w, const msg *m) {
    if (server_has_stream(w)) {
        msg copy = *m;
        copy.stream = w->s.stream;
        sim_send(w, &w->down, &copy);
    }
}

void sim_server_flush(world *w) {
    server *s = &w->s;
    while (s->out_count > 0) {
        const uint64_t bytes = sim_frame_bytes(&s->out[0]);
        if (bytes > 0 && !seam_credit_tx_fits(&s->tx, bytes)) {
            w->result.credit_waits++;
            return;
        }
        if (bytes > 0) {
            seam_credit_tx_add(&s->tx, bytes);
        }
        server_tell(w, &s->out[0]);
        s->out_count--;
        memmove(s->out, s->out + 1, s->out_count * sizeof s->out[0]);
    }
}

static void server_send(world *w, const msg *m) {
    server *s = &w->s;
    if (!server_has_stream(w)) {
        return;
    }
    if (s->out_count == OUT_MAX) {
        sim_broken(w, "the server's replies grow without bound");
        return;
    }
    s->out[s->out_count++] = *m;
    sim_server_flush(w);
}

/* The memory of a frame is free again. */
static void server_consume(world *w, const msg *m) {
    server *s = &w->s;
    msg grant = {.kind = MSG_CREDIT};
    const uint64_t before = s->rx.granted;
    if (m->stream != s->stream) {
        return; /* of a stream that is over */
    }
    seam_credit_rx_consume(&s->rx, sim_frame_bytes(m));
    if (seam_credit_rx_grant(&grant.credit, &s->rx)) {
        grant.credit_more = grant.credit - before;
        w->result.grants++;
        server_tell(w, &grant);
    }
}

/* Nothing goes back far enough: the session stays as it is until somebody decides. */
static void server_lose(world *w) {
    if (!w->may_lose) {
        sim_broken(w, "the server has no checkpoint to start from");
    }
    w->s.told_durable = 0;
    seam_server_proto_freeze(&w->s.sp, SEAM_E_DATA_LOSS);
}

/* The state is what is read: not the history's if that was damaged. */
static void file_load(server *s, uint64_t step_count) {
    const uint64_t state = s->file_state[step_count];
    s->state = s->file_rotten[step_count] ? ~state : state;
    s->partial = 0;
    s->table = 0;
    cache_drop(s);
    s->told_durable = s->told_durable < step_count ? s->told_durable : step_count;
}

void sim_server_start(world *w, bool first) {
    server *s = &w->s;
    uint64_t newest = 0;
    const bool found = sim_disk_newest_intact(&newest, w);
    const seam_server_proto_config config = {
        .config_hash = 7,
        .model_identity = 8,
        .micros_max = MICROS_MAX,
        .site_forward = SITE_FWD_IN,
        .site_backward = SITE_BWD_OUT,
        .one_pass = w->one_pass,
        .backward_reply = w->backward_reply,
        .has_norm = w->has_norm,
        .pipeline_depth = w->depth,
        .keeps_codec_state = w->codec_state && w->bug != SIM_BUG_RESEND_STATE,
        .can_park = w->with_store,
        .lease_ms = w->with_store || w->may_expire ? 3000 : UINT64_C(1) << 40,
        .park_ms = w->may_expire ? 9000 : UINT64_C(1) << 40,
        .committed_step_count = newest,
        .epoch = s->epoch,
        .now_ms = w->now_ms,
    };
    seam_server_proto_init(&s->sp, &config);
    for (uint64_t i = 0; i <= w->steps && w->with_store; i++) {
        if (s->file_valid[i] && seam_server_proto_durable_add(&s->sp, i) != SEAM_OK) {
            sim_broken(w, "a checkpoint on disk is refused");
        }
    }
    if (s->has_ended) {
        seam_server_proto_expire(&s->sp);
    } else if (!found) {
        server_lose(w);
    } else if (!first) { /* as the service does: parked, then brought back */
        if (seam_server_proto_parked(&s->sp, w->now_ms) != SEAM_OK) {
            sim_broken(w, "a session on disk is not parked");
        }
        seam_server_proto_restored(&s->sp, newest, w->now_ms);
        s->sp.reloaded = w->bug != SIM_BUG_NO_REWIND;
    }
    file_load(s, newest);
    s->work_count = s->out_count = 0;
    s->writing = false;
    s->stream = 0;
    s->tx = (seam_credit_tx){0};
    s->rx = (seam_credit_rx){0};
    w->server_up = true;
}

void sim_server_crash(world *w) {
    w->server_up = false;
    w->s.has_ended = seam_server_proto_link(&w->s.sp) == SEAM_LINK_EXPIRED;
    w->s.writing = false; /* a torn file has no manifest: it is not there */
    sim_stream_cut(w, SEAM_E_UNAVAILABLE);
    w->up.count = w->late.count = 0;
    w->result.server_crashes++;
    if (w->s.told_durable > 0 && !w->s.file_valid[w->s.told_durable]) {
        sim_broken(w, "a step was told durable and is not on disk");
    }
    sim_disk_rot(w);
}

/* Accepted and not finished: the machine asserts that it is told of no other tensor. */
static bool is_at_work(const world *w, seam_step_key key) {
    const seam_server_proto *sp = &w->s.sp;
    const int phase = key.phase == SEAM_PHASE_FORWARD ? 0 : 1;
    return sp->begun && key.step == sp->committed && key.micro >= sp->finished[phase] &&
           key.micro < sp->accepted[phase];
}

/* The stream has ended: what its client sent and the engine has not begun is forgotten.  The engine
 * may have begun the oldest; that others stay as well is allowed. */
void sim_server_withdraw(world *w) {
    server *s = &w->s;
    uint32_t count = s->work_count;
    while (count > 0 && sim_chance(w, 700)) {
        const seam_step_key key = s->work[--count].key;
        if (!is_at_work(w, key)) {
            sim_broken(w, "a tensor waits that the machine does not know");
            return;
        }
        if (w->bug != SIM_BUG_FORGET_WORK) {
            seam_server_proto_withdraw(&s->sp, key.micro, key.phase);
        }
        w->result.withdrawn++;
    }
    if (w->bug != SIM_BUG_KEEP_WORK) {
        s->work_count = count;
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

/* A parked session's newest intact checkpoint is loaded before anybody is answered, as the service
 * does.  The machine's own way, at attach, knows nothing of damage. */
static void server_wake(world *w) {
    server *s = &w->s;
    uint64_t durable = 0, newest = 0;
    const bool found = sim_disk_newest_intact(&newest, w);
    while (seam_server_proto_durable_newest(&durable, &s->sp) && (!found || durable > newest)) {
        seam_server_proto_durable_lost(&s->sp, durable);
    }
    if (!found) {
        server_lose(w);
        return;
    }
    file_load(s, newest);
    seam_server_proto_restored(&s->sp, newest, w->now_ms);
    s->sp.reloaded = w->bug != SIM_BUG_NO_REWIND;
}

static void server_attach(world *w, const msg *m, bool has_met_damage) {
    server *s = &w->s;
    seam_attach_verdict v;
    seam_attach_args args = m->attach;
    args.now_ms = w->now_ms;
    bool parked = seam_server_proto_link(&s->sp) == SEAM_LINK_PARKED;
    if (parked && (sim_disk_newest_is_rotten(w) || sim_chance(w, 500))) {
        server_wake(w);
        parked = false;
    }
    if (sim_chance(w, 500)) { /* the service does so before it asks */
        sim_server_withdraw(w);
    }
    seam_status st = seam_server_proto_attach(&v, &s->sp, &args, NULL);
    if (st == SEAM_E_GONE && has_met_damage) {
        st = SEAM_E_DATA_LOSS;
        server_lose(w);
    }
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
    s->out_count = 0;
    seam_credit_tx_open(&s->tx, m->credit);
    seam_credit_rx_open(&s->rx, SEAM_CREDIT_BYTES_MIN);
    if (v.drop_step && w->bug != SIM_BUG_KEEP_STEP) {
        s->partial = 0;
        cache_drop(s);
    }
    if (v.load_checkpoint) {
        if (!s->file_valid[v.load_step_count]) {
            sim_broken(w, "a checkpoint is needed that was deleted");
            return;
        }
        if (!parked) {
            sim_disk_rot_at(w, v.load_step_count);
        }
        if (s->file_rotten[v.load_step_count] && w->bug != SIM_BUG_LOAD_ROTTEN) {
            seam_server_proto_durable_lost(&s->sp, v.load_step_count);
            s->file_valid[v.load_step_count] = s->file_rotten[v.load_step_count] = false;
            w->result.rotten++;
            w->result.rotten_live++;
            server_attach(w, m, true); /* the one before */
            return;
        }
        file_load(s, v.load_step_count);
        seam_server_proto_restored(&s->sp, v.load_step_count, w->now_ms);
        for (uint64_t i = v.load_step_count + 1; i <= w->steps; i++) {
            s->file_valid[i] = s->file_rotten[i] = false;
        }
    }
    w->result.rollbacks += v.action == SEAM_ATTACH_ROLLBACK;
    w->result.resends += v.action == SEAM_ATTACH_RESEND;
    server_tell(
        w, &(msg){.kind = MSG_ATTACHED,
                  .credit = SEAM_CREDIT_BYTES_MIN,
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

static void server_work_add(world *w, const msg *m) {
    server *s = &w->s;
    if (s->work_count == WORK_MAX) {
        sim_broken(w, "more tensors are accepted than the depth allows");
        return;
    }
    s->work[s->work_count++] =
        (task){.key = m->key, .value = m->value, .table = m->table, .stream = m->stream};
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
        server_consume(w, m);
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
    server_work_add(w, m);
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
        server_attach(w, &m, false);
        return;
    }
    const bool current = m.stream == s->stream || w->bug == SIM_BUG_NO_FENCE;
    const uint64_t epoch = seam_server_proto_epoch(&s->sp) - (current ? 0u : 1u);
    if (!current) {
        w->result.fenced++;
    }
    if (m.kind == MSG_BEGIN) {
        seam_server_verdict v;
        const seam_step_begin_args args = {.epoch = epoch,
                                           .step = m.key.step,
                                           .digest = m.digest,
                                           .micro_count = m.micro_count,
                                           .pipeline_depth = m.pipeline_depth};
        const seam_status st = seam_server_proto_step_begin(&v, &s->sp, &args, NULL);
        if (st != SEAM_OK) {
            server_end_stream(w, &m, st);
        } else {
            server_resend(w, &m, &v);
        }
    } else if (m.kind == MSG_TENSOR) {
        if (m.stream == s->stream &&
            seam_credit_rx_take(&s->rx, sim_frame_bytes(&m), NULL) != SEAM_OK) {
            sim_broken(w, "the client has overrun its credit");
            return;
        }
        server_tensor(w, &m, epoch);
    } else if (m.kind == MSG_CREDIT) {
        if (m.stream == s->stream) {
            seam_credit_tx_grant(&s->tx, m.credit);
            sim_server_flush(w);
        }
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
    seam_server_proto_committed(&s->sp, step);
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

/* Each tensor is decoded once, in order; an encoder that begins anew says so. */
static void server_decode(world *w, const task *t) {
    server *s = &w->s;
    if (t->table > s->table || (t->table < s->table && t->table != 0 && !s->table_falls)) {
        sim_broken(w, "the decoder's rows are not those that the encoder counts on");
    }
    s->table = t->table + 1;
    s->table_falls = false;
}

/* The engine could not do it: the step begins anew, whoever sent it. */
static void server_work_failed(world *w) {
    server *s = &w->s;
    s->work_count = 0;
    seam_server_proto_abort_step(&s->sp);
    s->partial = 0;
    s->table_falls = true;
    cache_drop(s);
    w->result.aborts++;
    if (seam_server_proto_link(&s->sp) == SEAM_LINK_ATTACHED) {
        server_end_stream(w, &(msg){.stream = s->stream}, SEAM_E_INTERNAL);
    }
}

void sim_server_delete(world *w) {
    server *s = &w->s;
    s->work_count = s->out_count = 0;
    seam_server_proto_expire(&s->sp);
    sim_stream_cut(w, SEAM_E_UNAVAILABLE);
}

/* The reply whose place in the cache this one takes waits for credit yet. */
static bool place_is_going_out(world *w, seam_step_key key) {
    const server *s = &w->s;
    for (uint32_t i = 0; i < s->out_count; i++) {
        if (s->out[i].kind == MSG_TENSOR && cache_at(w, s->out[i].key) == cache_at(w, key)) {
            return true;
        }
    }
    return false;
}

/* The engine finishes its oldest work. */
void sim_server_engine(world *w) {
    server *s = &w->s;
    if (s->work_count == 0 || !sim_chance(w, w->engine_rate) ||
        (server_has_stream(w) && place_is_going_out(w, s->work[0].key))) {
        return;
    }
    const task t = s->work[0];
    server_consume(w, &(msg){.kind = MSG_TENSOR, .stream = t.stream, .key = t.key});
    const seam_step_key key = t.key;
    const uint64_t digest = t.value;
    if (w->trouble && sim_chance(w, 20)) {
        server_work_failed(w);
        return;
    }
    s->work_count--;
    memmove(s->work, s->work + 1, s->work_count * sizeof s->work[0]);
    const bool forward = key.phase == SEAM_PHASE_FORWARD;
    bool apply = false;
    if (!is_at_work(w, key) || key.micro != s->sp.finished[forward ? 0 : 1]) {
        sim_broken(w, "the engine works on what the machine does not expect");
        return;
    }
    if (forward) {
        if (w->codec_state) {
            server_decode(w, &t);
        }
        s->partial = w->one_pass ? sim_mix(s->partial, digest) : s->partial;
        apply = seam_server_proto_forward_done(&s->sp, key.step, key.micro);
    } else {
        s->partial = sim_mix(s->partial, digest);
        apply = seam_server_proto_backward_done(&s->sp, key.step, key.micro);
    }
    if (forward || (w->backward_reply && key.micro < w->micros[key.step])) {
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
        if (seam_server_proto_link(&s->sp) == SEAM_LINK_FROZEN) { /* it only loses its memory */
            (void)seam_server_proto_parked(&s->sp, w->now_ms);
            return;
        }
        uint64_t newest = 0, gone = 0;
        if ((!seam_server_proto_durable_newest(&newest, &s->sp) || newest != count) &&
            seam_server_proto_durable_make_room(&gone, &s->sp)) {
            s->file_valid[gone] = s->file_rotten[gone] = false;
        }
        s->file_valid[count] = true;
        s->file_state[count] = s->state;
        if (seam_server_proto_durable_add(&s->sp, count) == SEAM_OK &&
            seam_server_proto_parked(&s->sp, w->now_ms) == SEAM_OK) {
            s->told_durable = count;
            s->file_rotten[count] = false;
            s->state = s->partial = 0; /* freed */
            s->table = 0;
            cache_drop(s);
            sim_disk_rot(w);
            w->result.parks++;
        } else {
            s->file_valid[count] = false;
        }
    }
}
