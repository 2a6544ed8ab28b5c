/* Goal: SPEC 4.1 holds for the two protocol machines under any order of losses, repetitions, cuts
 * and crashes.  Method: thousands of seeded worlds (sim_world.h), each compared with the fault-free
 * history; then the same with one bug planted, which must be found.
 *
 * SEAM_SIM_SEED=n runs one seed and prints its counts; SEAM_SIM_SEEDS=n so many worlds. */
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

static void print(uint64_t seed, const sim_result *r) {
    (void)fprintf(stderr,
                  "seed %llu: %s cuts %u server crashes %u client crashes %u parks %u rollbacks %u "
                  "resends %u cached %u fenced %u ahead %u withdrawn %u\n",
                  (unsigned long long)seed, r->broken != NULL ? r->broken : "ok", r->cuts,
                  r->server_crashes, r->client_crashes, r->parks, r->rollbacks, r->resends,
                  r->cached, r->fenced, r->ahead, r->withdrawn);
}

static void test_worlds__faults__history_is_kept(void **state) {
    (void)state;
    sim_result sum = {0};
    uint32_t finished = 0;
    uint32_t gone = 0;
    const char *const asked = getenv("SEAM_SIM_SEEDS");
    const uint64_t seeds = asked != NULL ? strtoull(asked, NULL, 10) : SEEDS;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        const sim_result r = sim_run(seed, SIM_BUG_NONE);
        if (r.broken != NULL) {
            print(seed, &r);
        }
        assert_null(r.broken);
        finished += r.finished;
        gone += r.gone;
        sum.cuts += r.cuts;
        sum.server_crashes += r.server_crashes;
        sum.client_crashes += r.client_crashes;
        sum.parks += r.parks;
        sum.rollbacks += r.rollbacks;
        sum.resends += r.resends;
        sum.cached += r.cached;
        sum.fenced += r.fenced;
        sum.ahead += r.ahead;
        sum.withdrawn += r.withdrawn;
        sum.write_failures += r.write_failures;
        sum.rotten += r.rotten;
        sum.links |= r.links;
        sum.phases |= r.phases;
        sum.actions |= r.actions;
    }
    print(0, &sum);
    (void)fprintf(stderr,
                  "worlds %llu: finished %u, ended without a store %u; failed writes %u, damaged "
                  "checkpoints %u\n",
                  (unsigned long long)seeds, finished, gone, sum.write_failures, sum.rotten);
    /* Every kind of trouble has been met, or the test proves less than it says. */
    assert_true(sum.cuts > seeds && sum.server_crashes > seeds && sum.client_crashes > seeds);
    assert_true(sum.parks > 100 && sum.rollbacks > 100 && sum.resends > 100);
    assert_true(sum.cached > 100 && sum.fenced > 100);
    assert_true(sum.ahead > seeds && sum.withdrawn > 100);
    assert_true(sum.write_failures > 100 && sum.rotten > 100);
    /* Every state of both machines but those that end a session, and APPLYING, which is over before
     * anybody looks. */
    assert_int_equal(sum.links,
                     1u << SEAM_LINK_DETACHED | 1u << SEAM_LINK_ATTACHED | 1u << SEAM_LINK_PARKED);
    assert_int_equal(sum.phases, (1u << SEAM_SERVER_APPLYING) - 1u);
    assert_int_equal(sum.actions, (1u << (SEAM_CLIENT_STOPPED + 1)) - 2u);
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
        print(strtoull(seed, NULL, 10), &r);
        return r.broken != NULL;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_worlds__faults__history_is_kept),
        cmocka_unit_test(test_worlds__planted_bug__is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
