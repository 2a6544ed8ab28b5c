/* Random numbers, what messages are computed from, and the streams that carry them. */
#include <string.h>

#include "sim_internal.h"

void sim_broken(world *w, const char *what) {
    if (w->result.broken == NULL) {
        w->result.broken = what;
    }
}

/* splitmix64 */
uint64_t sim_draw(world *w) {
    uint64_t z = (w->random += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

bool sim_chance(world *w, uint32_t of_thousand) {
    return sim_draw(w) % 1000 < of_thousand;
}

uint64_t sim_mix(uint64_t a, uint64_t b) {
    uint64_t z = (a ^ (b + UINT64_C(0x9e3779b97f4a7c15) + (a << 6) + (a >> 2)));
    z = (z ^ (z >> 31)) * UINT64_C(0x7fb5d329728ea185);
    return z ^ (z >> 27);
}

/* ---- what the messages are computed from ---- */

uint64_t sim_forward_digest(uint64_t client_state, uint64_t step, uint32_t micro) {
    return sim_mix(sim_mix(client_state, step), micro);
}
uint64_t sim_forward_reply(uint64_t server_state, uint64_t forward) {
    return sim_mix(server_state, sim_mix(forward, 11));
}
uint64_t sim_backward_digest(uint64_t client_state, uint64_t reply) {
    return sim_mix(client_state, sim_mix(reply, 22));
}
uint64_t sim_backward_reply(uint64_t server_state, uint64_t backward) {
    return sim_mix(server_state, sim_mix(backward, 33));
}
uint64_t sim_norm_digest(const world *w, uint64_t client_state, const uint64_t replies[2]) {
    return sim_mix(client_state, sim_mix(replies[w->one_pass ? 0 : 1], 55));
}
uint64_t sim_begin_digest(uint64_t step) {
    return sim_mix(44, step);
}

void sim_truth_compute(world *w) {
    for (uint64_t step = 0; step < w->steps; step++) {
        const uint64_t s = w->truth_server[step];
        const uint64_t c = w->truth_client[step];
        uint64_t s_partial = 0;
        uint64_t c_partial[2] = {0, 0};
        for (uint32_t m = 0; m < w->micros[step]; m++) {
            const uint64_t forward = sim_forward_digest(c, step, m);
            const uint64_t reply = sim_forward_reply(s, forward);
            const uint64_t back = w->one_pass ? forward : sim_backward_digest(c, reply);
            s_partial = sim_mix(s_partial, back);
            c_partial[0] = sim_mix(c_partial[0], reply);
            if (w->backward_reply) {
                c_partial[1] = sim_mix(c_partial[1], sim_backward_reply(s, back));
            }
        }
        if (w->has_norm) {
            s_partial = sim_mix(s_partial, sim_norm_digest(w, c, c_partial));
        }
        w->truth_server[step + 1] = sim_mix(s, s_partial);
        w->truth_client[step + 1] = sim_mix(c, sim_mix(c_partial[0], c_partial[1]));
    }
}

/* ---- streams ---- */

void sim_send(world *w, queue *q, const msg *m) {
    if (q->count < QUEUE_MAX) {
        q->items[q->count++] = *m;
        q->recent[q->sent_count++ % RECENT_MAX] = *m;
    } else {
        sim_broken(w, "a queue grows without bound");
    }
}

void sim_repeat(world *w, queue *q) {
    const msg again = q->recent[sim_draw(w) % RECENT_MAX];
    if (again.stream != 0 && again.stream == w->c.stream && !w->c.broken &&
        again.kind != MSG_ATTACH && again.kind != MSG_ATTACHED) {
        const uint64_t bytes = sim_frame_bytes(&again);
        seam_credit_tx *const tx = q == &w->up ? &w->c.tx : &w->s.tx;
        if (bytes > 0 && !seam_credit_tx_fits(tx, bytes)) {
            return; /* the sender would wait */
        }
        if (bytes > 0) {
            seam_credit_tx_add(tx, bytes);
        }
        sim_send(w, q, &again);
    }
}

/* Between a sixteenth and a half of the window. */
uint64_t sim_frame_bytes(const msg *m) {
    const uint64_t eighths = 1 + (m->key.step + m->key.micro + 3u * m->key.phase) % 8;
    return m->kind == MSG_TENSOR ? SEAM_CREDIT_BYTES_MIN / 16 * eighths : 0;
}

bool sim_take(queue *q, msg *ret) {
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
void sim_stream_cut(world *w, seam_status why) {
    if (w->c.stream == 0 || w->c.broken) {
        return;
    }
    w->c.broken = true;
    w->c.broken_status = why;
    w->down.count = (uint32_t)(sim_draw(w) % (w->down.count + 1));
    const uint32_t kept = (uint32_t)(sim_draw(w) % (w->up.count + 1));
    for (uint32_t i = 0; i < kept && w->late.count < QUEUE_MAX; i++) {
        if (w->up.items[i].stream == w->c.stream) {
            w->late.items[w->late.count++] = w->up.items[i];
        }
    }
    w->up.count = 0;
    w->result.cuts++;
}
