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
    if (sim_chance(w, 4) && sim_chance(w, w->crash_rate)) {
        sim_client_crash(w);
    }
    if (sim_chance(w, 3)) {
        /* Long enough for the lease; or for a parked session's. */
        w->now_ms += w->may_expire && sim_chance(w, 500) ? 14000 : 4000;
    }
    if (w->server_up && sim_chance(w, 5)) { /* another call with the session's secret */
        seam_server_proto_touch(&w->s.sp, w->now_ms);
    }
    if (w->server_up && w->may_expire && sim_chance(w, 1)) {
        sim_server_delete(w);
    }
}

static void turn(world *w) {
    w->now_ms += sim_draw(w) % 5;
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

/* A client's crash ends a session without a store: however long it is, about as many do. */
static void rates_draw(world *w) {
    static const uint32_t fault_rates[] = {1000, 300, 100};
    const uint32_t drawn = fault_rates[sim_draw(w) % 3];
    w->fault_rate = w->steps > SIM_STEPS ? drawn : 1000;
    w->crash_rate =
        w->with_store ? 1000 : 250 * SIM_STEPS / (w->steps > SIM_STEPS ? w->steps : SIM_STEPS);
}

static void world_init(world *w, uint64_t seed, uint32_t steps) {
    w->random = seed * 2 + 1;
    w->steps = steps;
    w->with_store = sim_chance(w, 700);
    w->may_expire = sim_chance(w, 80);
    w->may_lose = w->with_store && sim_chance(w, 50);
    rates_draw(w);
    w->one_pass = seed % 4 == 3;
    w->backward_reply = sim_chance(w, 500) && !w->one_pass;
    w->depth = 1 + (uint32_t)(sim_draw(w) % DEPTH_MAX);
    w->result.depth = w->depth;
    w->codec_state = sim_chance(w, 500);
    w->has_norm = sim_chance(w, 500);
    w->engine_rate = sim_chance(w, 500) ? 1000 : 300;
    for (uint32_t i = 0; i < w->steps; i++) {
        w->micros[i] = 1 + (uint32_t)(sim_draw(w) % MICROS_MAX);
    }
    w->truth_server[0] = sim_draw(w);
    w->truth_client[0] = sim_draw(w);
    sim_truth_compute(w);
    w->s.file_valid[0] = true; /* the initial state */
    w->s.file_state[0] = w->truth_server[0];
    w->c.journal_state[0] = w->truth_client[0];
    sim_server_start(w, true);
    sim_client_start(w);
}

sim_result sim_run(uint64_t seed, uint32_t steps, sim_bug bug) {
    world w = {.bug = bug};
    world_init(&w, seed, steps);
    const uint32_t turns_max = steps * STEP_TURNS_MAX, fault_turns = steps * STEP_FAULT_TURNS;
    for (uint32_t i = 0; i < turns_max && w.result.broken == NULL && !w.result.ended; i++) {
        w.trouble = i < fault_turns && sim_chance(&w, w.fault_rate);
        if (w.trouble) {
            faults(&w);
        }
        turn(&w);
        const uint64_t committed = seam_client_proto_committed_count(&w.c.cp);
        w.result.finished = committed == steps;
        if (i < fault_turns) {
            w.result.steps_in_trouble = committed;
        } else if (w.result.finished) {
            break;
        }
    }
    if (w.result.finished && w.server_up && seam_server_proto_link(&w.s.sp) == SEAM_LINK_ATTACHED &&
        w.s.state != w.truth_server[seam_server_proto_committed_count(&w.s.sp)]) {
        sim_broken(&w, "the server's last state is not that of the history");
    }
    w.result.ended = w.result.ended && !w.result.finished;
    if (w.result.broken == NULL && !w.result.finished && !w.result.ended) {
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
