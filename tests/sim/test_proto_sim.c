/* Goal: SPEC 4.1 holds for the two protocol machines under any order of losses, repetitions, cuts
 * and crashes.  Method: thousands of seeded worlds (sim_world.h), each compared with the fault-free
 * history; then the same with one bug planted, which must be found.
 *
 * SEAM_SIM_SEED=n runs one seed and prints its counts; SEAM_SIM_SEEDS=n so many worlds, at
 * least 2000: with fewer not every kind of trouble is met often enough. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "client_proto.h"
#include "server_proto.h"
#include "sim_world.h"

enum { SEEDS = 4000, SEEDS_BUG = 2000 };

static void print(const char *name, uint64_t number, const sim_result *r) {
    (void)fprintf(stderr,
                  "%s %llu: %s cuts %u server crashes %u client crashes %u parks %u rollbacks %u "
                  "resends %u cached %u fenced %u grants %u waits for credit %u ahead %u withdrawn "
                  "%u failed writes %u damaged "
                  "checkpoints %u, %u of them met by a running session\n",
                  name, (unsigned long long)number, r->broken != NULL ? r->broken : "ok", r->cuts,
                  r->server_crashes, r->client_crashes, r->parks, r->rollbacks, r->resends,
                  r->cached, r->fenced, r->grants, r->credit_waits, r->ahead, r->withdrawn,
                  r->write_failures, r->rotten, r->rotten_live);
}

static void add(sim_result *sum, const sim_result *r) {
    sum->cuts += r->cuts;
    sum->server_crashes += r->server_crashes;
    sum->client_crashes += r->client_crashes;
    sum->parks += r->parks;
    sum->rollbacks += r->rollbacks;
    sum->resends += r->resends;
    sum->cached += r->cached;
    sum->fenced += r->fenced;
    sum->grants += r->grants;
    sum->credit_waits += r->credit_waits;
    sum->ahead += r->ahead;
    sum->withdrawn += r->withdrawn;
    sum->write_failures += r->write_failures;
    sum->rotten += r->rotten;
    sum->rotten_live += r->rotten_live;
    sum->links |= r->links;
    sum->phases |= r->phases;
    sum->actions |= r->actions;
}

/* Every kind of trouble has been met in `worlds` worlds of one depth, or the test proves less than
 * it says. */
static void all_met(const sim_result *sum, uint32_t depth, uint32_t worlds) {
    assert_true(worlds > 0);
    assert_true(sum->cuts > worlds && sum->server_crashes > worlds && sum->client_crashes > worlds);
    assert_true(sum->parks > 100 && sum->rollbacks > 100 && sum->resends > 100);
    assert_true(sum->cached > 100 && sum->fenced > 100 && sum->withdrawn > 100);
    assert_true(sum->write_failures > 100 && sum->rotten > 100 && sum->rotten_live > 10);
    assert_true(sum->grants > worlds && sum->credit_waits > 100);
    assert_true(depth == 1 ? sum->ahead == 0 : sum->ahead > worlds);
    /* Every state of both machines but those that end a session, and APPLYING, which is over before
     * anybody looks. */
    assert_int_equal(sum->links,
                     1u << SEAM_LINK_DETACHED | 1u << SEAM_LINK_ATTACHED | 1u << SEAM_LINK_PARKED);
    assert_int_equal(sum->phases, (1u << SEAM_SERVER_APPLYING) - 1u);
    assert_int_equal(sum->actions, (1u << (SEAM_CLIENT_STOPPED + 1)) - 2u);
}

static void test_worlds__faults__history_is_kept(void **state) {
    (void)state;
    sim_result sums[SIM_DEPTH_MAX + 1] = {0}; /* by depth */
    uint32_t worlds[SIM_DEPTH_MAX + 1] = {0};
    uint32_t finished = 0;
    uint32_t gone = 0;
    const char *const asked = getenv("SEAM_SIM_SEEDS");
    const uint64_t seeds = asked != NULL ? strtoull(asked, NULL, 10) : SEEDS;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        const sim_result r = sim_run(seed, SIM_BUG_NONE);
        if (r.broken != NULL) {
            print("seed", seed, &r);
        }
        assert_null(r.broken);
        finished += r.finished;
        gone += r.gone;
        worlds[r.depth]++;
        add(&sums[r.depth], &r);
    }
    (void)fprintf(stderr, "worlds %llu: finished %u, ended without a store %u\n",
                  (unsigned long long)seeds, finished, gone);
    for (uint32_t depth = 1; depth <= SIM_DEPTH_MAX; depth++) {
        (void)fprintf(stderr, "%u worlds of ", worlds[depth]);
        print("depth", depth, &sums[depth]);
        all_met(&sums[depth], depth, worlds[depth]);
    }
    assert_int_equal(finished + gone, seeds);
    assert_true(finished > seeds * 8 / 10);
}

static void test_worlds__planted_bug__is_found(void **state) {
    (void)state;
    for (sim_bug bug = SIM_BUG_NONE + 1; bug < SIM_BUG_COUNT; bug++) {
        uint32_t found = 0;
        for (uint64_t seed = 1; seed <= SEEDS_BUG; seed++) {
            found += sim_run(seed, bug).broken != NULL;
        }
        (void)fprintf(stderr, "bug \"%s\": found in %u of %d worlds\n", sim_bug_name(bug), found,
                      SEEDS_BUG);
        assert_true(found > 0);
    }
}

int main(void) {
    const char *const seed = getenv("SEAM_SIM_SEED");
    if (seed != NULL) {
        const sim_result r = sim_run(strtoull(seed, NULL, 10), SIM_BUG_NONE);
        print("seed", strtoull(seed, NULL, 10), &r);
        return r.broken != NULL;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_worlds__faults__history_is_kept),
        cmocka_unit_test(test_worlds__planted_bug__is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
