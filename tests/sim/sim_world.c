/* See sim_world.h.  One turn of the world is one random event; faults stop after a while, so that
 * every world must come to its end. */
#include "sim_internal.h"

/* ---- the world ---- */

static void faults(world *w) {
    if (sim_chance(w, 12)) {
        sim_stream_cut(w, SEAM_E_UNAVAILABLE);
    }
    if (sim_chance(w, 20)) { /* repeated by the sender */
        sim_repeat(w, &w->up);
    }
    if (sim_chance(w, 20)) {
        sim_repeat(w, &w->down);
    }
    if (w->with_store && w->server_up && sim_chance(w, 4)) {
        sim_server_crash(w);
    }
    if (sim_chance(w, 4)) {
        sim_client_crash(w);
    }
    if (sim_chance(w, 3)) {
        w->now_ms += 4000; /* long enough for the lease */
    }
}

/* Which states of the machines the world has met. */
static void seen(world *w) {
    uint32_t micro = 0;
    seam_client_action action;
    seam_client_proto copy = w->c.cp; /* next may stop it when its time is over */
    seam_client_proto_next(&action, &copy, w->now_ms);
    w->result.actions |= 1u << action.kind;
    if (w->server_up) {
        w->result.links |= 1u << seam_server_proto_link(&w->s.sp);
        w->result.phases |= 1u << seam_server_proto_phase(&micro, &w->s.sp);
    }
}

static void turn(world *w) {
    w->now_ms += sim_draw(w) % 5;
    seen(w);
    if (!w->server_up) {
        if (sim_chance(w, 100)) {
            sim_server_start(w, false);
        }
        sim_client_act(w);
        return;
    }
    /* The server notices a broken stream at some time, or when a newer one attaches. */
    if (w->c.broken && w->s.stream == w->c.stream && sim_chance(w, 300)) {
        sim_server_withdraw(w);
        seam_server_proto_stream_lost(&w->s.sp, seam_server_proto_epoch(&w->s.sp), w->now_ms);
    }
    switch (sim_draw(w) % 4) {
    case 0:
        sim_server_receive(w);
        break;
    case 1:
        sim_server_engine(w);
        break;
    case 2:
        sim_server_disk(w);
        break;
    default:
        sim_client_act(w);
        /* A real client waits for messages also while it has something to send. */
        if (w->down.count > 0 && w->c.cp.stream_open && sim_chance(w, 300)) {
            sim_client_receive(w);
        }
        break;
    }
}

sim_result sim_run(uint64_t seed, sim_bug bug) {
    world w = {.random = seed * 2 + 1, .bug = bug};
    w.with_store = sim_chance(&w, 700);
    w.one_pass = seed % 4 == 3;
    w.backward_reply = sim_chance(&w, 500) && !w.one_pass;
    w.depth = 1 + (uint32_t)(sim_draw(&w) % DEPTH_MAX);
    w.result.depth = w.depth;
    w.codec_state = sim_chance(&w, 500);
    w.has_norm = sim_chance(&w, 500) && !w.one_pass;
    w.engine_rate = sim_chance(&w, 500) ? 1000 : 300;
    for (uint32_t i = 0; i < STEPS; i++) {
        w.micros[i] = 1 + (uint32_t)(sim_draw(&w) % MICROS_MAX);
    }
    w.truth_server[0] = sim_draw(&w);
    w.truth_client[0] = sim_draw(&w);
    sim_truth_compute(&w);
    w.s.file_valid[0] = true; /* the initial state can always be made again */
    w.s.file_state[0] = w.truth_server[0];
    w.c.journal_state[0] = w.truth_client[0];
    sim_server_start(&w, true);
    sim_client_start(&w);
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
        sim_broken(&w, "the server's last state is not that of the history");
    }
    if (w.result.broken == NULL && !w.result.finished && !w.result.gone) {
        sim_broken(&w, "no progress");
    }
    return w.result;
}

const char *sim_bug_name(sim_bug bug) {
    static const char *const names[SIM_BUG_COUNT] = {
        "none",         "run again",    "keep step",    "early durable",
        "late journal", "no fence",     "delete early", "no rewind",
        "resend state", "load rotten",  "forget work",  "keep work",
        "one reply",    "encode again", "credit adds",  "credit stays"};
    return names[bug];
}
