/* The client process around client_proto.h: its state and its journal. */
#include <string.h>

#include "sim_internal.h"

/* ---- client process ---- */

void sim_client_start(world *w) {
    client *c = &w->c;
    const seam_client_proto_config config = {.committed_step_count = c->journal_count,
                                             .epoch_seen = c->journal_epoch,
                                             .site_forward_reply = SITE_FWD_OUT,
                                             .site_backward_reply = SITE_FWD_IN,
                                             .backward_reply = w->backward_reply,
                                             .has_norm = w->has_norm,
                                             .one_pass = w->one_pass,
                                             .pipeline_depth = w->depth,
                                             .now_ms = w->now_ms};
    seam_client_proto_init(&c->cp, &config);
    c->state = c->journal_state[c->journal_count];
    memset(c->partial, 0, sizeof c->partial);
    c->table = 0;
    c->went_back = false;
    memset(c->kept, 0, sizeof c->kept);
    c->stream = 0;
    c->tx = (seam_credit_tx){0};
    c->rx = (seam_credit_rx){0};
    c->broken = false;
    c->confirm_due = false;
}

void sim_client_crash(world *w) {
    sim_stream_cut(w, SEAM_E_UNAVAILABLE);
    w->down.count = 0;
    w->result.client_crashes++;
    sim_client_start(w);
}

static void client_tell(world *w, const msg *m) {
    client *c = &w->c;
    if (!c->broken) {
        msg copy = *m;
        copy.stream = c->stream;
        sim_send(w, &w->up, &copy);
    }
}

/* A frame has come and been read. */
static void client_consume(world *w, uint64_t bytes) {
    client *c = &w->c;
    msg grant = {.kind = MSG_CREDIT};
    const uint64_t before = c->rx.granted;
    if (seam_credit_rx_take(&c->rx, bytes, NULL) != SEAM_OK) {
        sim_broken(w, "the server has overrun its credit");
        return;
    }
    seam_credit_rx_consume(&c->rx, bytes);
    if (seam_credit_rx_grant(&grant.credit, &c->rx)) {
        grant.credit_more = grant.credit - before;
        w->result.grants++;
        client_tell(w, &grant);
    }
}

static void client_granted(world *w, const msg *m) {
    client *c = &w->c;
    if (w->bug == SIM_BUG_CREDIT_ADDS) {
        c->tx.limit += m->credit_more;
    } else {
        seam_credit_tx_grant(&c->tx, m->credit);
    }
}

static void client_attached(world *w, const msg *m) {
    client *c = &w->c;
    c->journal_epoch = m->attached.epoch;
    c->went_back = m->attached.action == SEAM_ATTACH_ROLLBACK;
    const uint64_t sent = c->tx.sent;
    seam_credit_tx_open(&c->tx, m->credit);
    c->tx.sent = w->bug == SIM_BUG_CREDIT_STAYS ? sent : 0;
}

void sim_client_receive(world *w) {
    client *c = &w->c;
    msg m;
    bool is_new = false;
    seam_status st = SEAM_OK;
    if (!sim_take(&w->down, &m)) {
        if (c->broken) {
            c->stream = 0;
            c->broken = false;
            seam_client_proto_stream_lost(&c->cp,
                                          &(seam_stream_lost_args){.status = c->broken_status,
                                                                   .random = (uint32_t)sim_draw(w),
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
        client_attached(w, &m);
        break;
    case MSG_CREDIT:
        client_granted(w, &m);
        break;
    case MSG_TENSOR:
        client_consume(w, sim_frame_bytes(&m));
        st = seam_client_proto_reply(&is_new, &c->cp, m.key, m.digest, w->now_ms, NULL);
        if (is_new) {
            const bool forward = m.key.phase == SEAM_PHASE_FORWARD;
            uint64_t *const partial = &c->partial[forward ? 0 : 1];
            *partial = sim_mix(*partial, m.digest);
            c->replies[m.key.micro] = forward ? m.digest : c->replies[m.key.micro];
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
        sim_broken(w, seam_status_name(st));
    }
}

static void client_journal(world *w, uint64_t step) {
    client *c = &w->c;
    if (sim_chance(w, 10) &&
        sim_chance(w, w->crash_rate)) { /* in the middle of the write: the torn record is cut off */
        sim_client_crash(w);
        return;
    }
    memset(c->kept, 0, sizeof c->kept);
    c->state = sim_mix(c->state, sim_mix(c->partial[0], c->partial[1]));
    memset(c->partial, 0, sizeof c->partial);
    const bool flushed = w->bug != SIM_BUG_LATE_JOURNAL || sim_chance(w, 500);
    if (flushed) {
        c->journal_count = step + 1;
        c->journal_state[step + 1] = c->state;
        c->journal_hash[step + 1] = c->commit_hash;
        if (c->journal_hash_count < step + 1) {
            c->journal_hash_count = step + 1;
        }
    }
    if (c->state != w->truth_client[step + 1]) {
        sim_broken(w, "the client's state left the history");
    }
    seam_client_proto_journaled(&c->cp);
    if (c->durable_told > 0 && c->durable_told <= step + 1 && sim_chance(w, 500)) {
        client_tell(w, &(msg){.kind = MSG_CONFIRM, .key = {.step = c->durable_told}});
    }
}

/* What was sent before is kept, because the table has moved on since. */
static void client_encode(world *w, msg *ret, const seam_client_action *a) {
    client *c = &w->c;
    ret->value = ret->digest = sim_forward_digest(c->state, a->step, a->micro);
    if (!w->codec_state) {
        return;
    }
    if (!c->kept[a->micro] || w->bug == SIM_BUG_ENCODE_AGAIN) {
        c->kept[a->micro] = true;
        c->kept_digest[a->micro] = sim_mix(ret->value, c->table);
        c->kept_table[a->micro] = c->table++;
    }
    ret->digest = c->kept_digest[a->micro];
    ret->table = c->kept_table[a->micro];
}

static void client_send(world *w, const seam_client_action *a) {
    client *c = &w->c;
    msg m = {.kind = MSG_TENSOR, .key = {.step = a->step, .micro = a->micro}};
    switch (a->kind) {
    case SEAM_CLIENT_SEND_ATTACH:
        m.kind = MSG_ATTACH;
        m.credit = SEAM_CREDIT_BYTES_MIN;
        seam_credit_rx_open(&c->rx, SEAM_CREDIT_BYTES_MIN);
        m.attach = (seam_attach_args){.epoch_seen = a->epoch_seen,
                                      .committed_step_count = a->committed_step_count,
                                      .config_hash = 7,
                                      .model_identity = 8,
                                      .step_in_flight = a->step_in_flight};
        break;
    case SEAM_CLIENT_SEND_STEP_BEGIN:
        m.kind = MSG_BEGIN;
        m.digest = sim_begin_digest(a->step);
        m.micro_count = w->micros[a->step];
        m.pipeline_depth = w->depth_held;
        break;
    case SEAM_CLIENT_SEND_FORWARD:
        m.key.phase = SEAM_PHASE_FORWARD;
        m.key.site = SITE_FWD_IN;
        client_encode(w, &m, a);
        break;
    default:
        m.key.phase = SEAM_PHASE_BACKWARD;
        m.key.site = SITE_BWD_OUT;
        m.digest = m.value = a->micro < w->micros[a->step]
                                 ? sim_backward_digest(c->state, c->replies[a->micro])
                                 : sim_norm_digest(w, c->state, c->partial);
        break;
    }
    const uint64_t bytes = sim_frame_bytes(&m);
    if (bytes > 0 && !seam_credit_tx_fits(&c->tx, bytes)) {
        w->result.credit_waits++;
        sim_client_receive(w); /* the grant that it waits for, and all before it */
        return;
    }
    if (bytes > 0) {
        seam_credit_tx_add(&c->tx, bytes);
    }
    client_tell(w, &m);
    seam_client_proto_done(&c->cp, a);
}

/* How far ahead is the client's affair, step by step, also when it does a step again; what it will
 * never be again it says (the server then has no memory for it), and holds to in every step after,
 * whatever process or server there is. */
static void client_begin(world *w, uint64_t step) {
    const uint64_t drawn = sim_draw(w);
    const uint32_t most = w->depth_held > 0 ? w->depth_held : w->depth;
    const bool less = (drawn >> 32 & 15u) == 0;
    w->depth_held = less ? 1 + (uint32_t)((drawn >> 40) % most) : most;
    w->result.lowered += w->depth_held < most;
    const seam_begin_step_args args = {.step = step,
                                       .micro_count = w->micros[step],
                                       .ahead = 1 + (uint32_t)(drawn % w->depth_held),
                                       .now_ms = w->now_ms};
    if (seam_client_proto_begin_step(&w->c.cp, &args, NULL) != SEAM_OK) {
        sim_broken(w, "a step cannot begin");
    }
    w->result.ahead += args.ahead > 1 && args.micro_count > 1;
}

/* A session without a store dies with what its client has lost; others when they are deleted or
 * parked too long, or when the disk has lost them. */
static bool client_may_end(const world *w, seam_status st) {
    return (st == SEAM_E_GONE && (!w->with_store || w->may_expire)) ||
           (st == SEAM_E_DATA_LOSS && w->may_lose);
}

void sim_client_act(world *w) {
    client *c = &w->c;
    seam_client_action a;
    seam_client_proto_next(&a, &c->cp, w->now_ms);
    switch (a.kind) {
    case SEAM_CLIENT_CONNECT:
        if (!w->server_up) {
            seam_client_proto_stream_lost(&c->cp,
                                          &(seam_stream_lost_args){.status = SEAM_E_UNAVAILABLE,
                                                                   .random = (uint32_t)sim_draw(w),
                                                                   .now_ms = w->now_ms});
            break;
        }
        c->stream = ++w->last_stream;
        c->broken = false;
        seam_client_proto_done(&c->cp, &a);
        break;
    case SEAM_CLIENT_RECEIVE:
        sim_client_receive(w);
        break;
    case SEAM_CLIENT_BACK_OFF:
        w->now_ms += 1 + sim_draw(w) % a.wait_ms;
        break;
    case SEAM_CLIENT_RESTORE:
        c->state = c->journal_state[a.step];
        memset(c->partial, 0, sizeof c->partial);
        if (c->went_back) {
            c->table = 0;
            memset(c->kept, 0, sizeof c->kept);
        }
        c->journal_count = a.step;
        seam_client_proto_restored(&c->cp, a.step, w->now_ms);
        break;
    case SEAM_CLIENT_JOURNAL:
        client_journal(w, a.step);
        break;
    case SEAM_CLIENT_IDLE:
        if (a.step < w->steps) {
            client_begin(w, a.step);
        }
        break;
    case SEAM_CLIENT_STOPPED:
        if (client_may_end(w, seam_client_proto_error(&c->cp)->status)) {
            w->result.ended = true;
        } else {
            sim_broken(w, seam_status_name(seam_client_proto_error(&c->cp)->status));
        }
        break;
    case SEAM_CLIENT_SEND_BACKWARD:
        if (a.micro == w->micros[a.step] && w->backward_reply &&
            c->cp.replies < 2 * w->micros[a.step]) {
            sim_client_receive(w); /* the norm is of gradients that have not come */
            break;
        }
        client_send(w, &a);
        break;
    default:
        client_send(w, &a);
        break;
    }
}
