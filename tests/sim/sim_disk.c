/* The server's checkpoints on disk: which is intact, and how they rot; what is loaded from them is
 * sim_server.c's. */
#include "sim_internal.h"

/* The newest checkpoint that is intact; the damaged ones above are found by reading them.  False:
 * none is. */
bool sim_disk_newest_intact(uint64_t *ret_newest, world *w) {
    server *s = &w->s;
    uint64_t newest = 0;
    bool found = false;
    for (uint64_t i = 0; i <= w->steps; i++) {
        if (s->file_valid[i] && (!s->file_rotten[i] || w->bug == SIM_BUG_LOAD_ROTTEN)) {
            newest = i;
            found = true;
        }
    }
    for (uint64_t i = found ? newest + 1 : 0; i <= w->steps; i++) {
        if (s->file_valid[i]) {
            w->result.rotten++;
            s->file_valid[i] = s->file_rotten[i] = false;
        }
    }
    *ret_newest = newest;
    return found;
}

/* The newest of several checkpoints may rot while nobody looks. */
void sim_disk_rot(world *w) {
    server *s = &w->s;
    uint64_t newest = 0;
    uint32_t intact = 0;
    for (uint64_t i = 0; i <= w->steps; i++) {
        if (s->file_valid[i] && !s->file_rotten[i]) {
            newest = i;
            intact++;
        }
    }
    if ((intact > 1 || (intact > 0 && w->may_lose)) && sim_chance(w, 100)) {
        s->file_rotten[newest] = true;
    }
}

/* Is the newest checkpoint on disk a damaged one? */
bool sim_disk_newest_is_rotten(const world *w) {
    const server *s = &w->s;
    uint64_t newest = w->steps;
    while (newest > 0 && !s->file_valid[newest]) {
        newest--;
    }
    return s->file_rotten[newest];
}

/* Damage is met when a file is read, here while the session runs; there is one behind it, but in a
 * world that may lose. */
void sim_disk_rot_at(world *w, uint64_t step_count) {
    server *s = &w->s;
    uint64_t before = 0;
    if (((step_count > 0 && seam_server_proto_durable_find(&before, &s->sp, step_count - 1)) ||
         w->may_lose) &&
        sim_chance(w, 500)) {
        s->file_rotten[step_count] = true;
    }
}
