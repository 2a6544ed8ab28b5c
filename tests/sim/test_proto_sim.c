/* Goal: SPEC 4.1 holds for the two protocol machines under any order of losses, repetitions, cuts
 * and crashes, and every transition of both is taken.  Method: thousands of seeded worlds
 * (sim_world.h), each compared with the fault-free history; what they took against the table
 * (transitions.h); then the same with one bug planted, which must be found.
 *
 * SEAM_SIM_SEED=n runs one seed and prints its counts.  SEAM_SIM_SEEDS=n: so many worlds, from seed
 * SEAM_SIM_FIRST [1] on; with fewer than 2000 not every kind of trouble is met often enough to be
 * asked for.  SEAM_SIM_STEPS=n: steps of each world, at most SIM_STEPS_MAX. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sim_world.h"
#include "transitions.h"

enum { SEEDS = 4000, SEEDS_BUG = 2000, SEEDS_ENOUGH = 2000 };

static uint64_t asked(const char *name, uint64_t otherwise) {
    const char *const text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static uint32_t steps_asked(void) {
    const uint64_t steps = asked("SEAM_SIM_STEPS", SIM_STEPS);
    if (steps < 1 || steps > SIM_STEPS_MAX) {
        (void)fprintf(stderr, "SEAM_SIM_STEPS: %llu is not in 1..%d\n", (unsigned long long)steps,
                      SIM_STEPS_MAX);
        exit(2);
    }
    return (uint32_t)steps;
}

static void print(const char *name, uint64_t number, const sim_result *r) {
    (void)fprintf(
        stderr,
        "%s %llu: %s cuts %u server crashes %u client crashes %u parks %u rollbacks %u "
        "resends %u cached %u fenced %u grants %u waits for credit %u ahead %u withdrawn "
        "%u failed writes %u aborted steps %u damaged checkpoints %u, %u of them met by a "
        "running session\n",
        name, (unsigned long long)number, r->broken != NULL ? r->broken : "ok", r->cuts,
        r->server_crashes, r->client_crashes, r->parks, r->rollbacks, r->resends, r->cached,
        r->fenced, r->grants, r->credit_waits, r->ahead, r->withdrawn, r->write_failures, r->aborts,
        r->rotten, r->rotten_live);
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
    sum->lowered += r->lowered;
    sum->withdrawn += r->withdrawn;
    sum->write_failures += r->write_failures;
    sum->rotten += r->rotten;
    sum->rotten_live += r->rotten_live;
    sum->aborts += r->aborts;
    sum->steps_in_trouble += r->steps_in_trouble;
}

/* Every kind of trouble has been met in `worlds` worlds of one depth, or the test proves less than
 * it says. */
static void all_met(const sim_result *sum, uint32_t depth, uint32_t worlds) {
    assert_true(worlds > 0);
    assert_true(sum->cuts > worlds && sum->server_crashes > worlds && sum->client_crashes > worlds);
    assert_true(sum->parks > 100 && sum->rollbacks > 100 && sum->resends > 100);
    assert_true(sum->cached > 100 && sum->fenced > 100 && sum->withdrawn > 100);
    assert_true(sum->write_failures > 100 && sum->aborts > 100);
    assert_true(sum->rotten > 100 && sum->rotten_live > 10);
    assert_true(sum->grants > worlds && sum->credit_waits > 100);
    assert_true(depth == 1 ? sum->ahead == 0 : sum->ahead > worlds);
    assert_true(depth == 1 ? sum->lowered == 0 : sum->lowered > worlds / 4);
}

static void test_worlds__faults__history_is_kept(void **state) {
    (void)state;
    sim_result sums[SIM_DEPTH_MAX + 1] = {0}; /* by depth */
    uint32_t worlds[SIM_DEPTH_MAX + 1] = {0};
    uint64_t finished = 0, ended = 0, broken = 0, in_trouble = 0;
    const uint64_t seeds = asked("SEAM_SIM_SEEDS", SEEDS), first = asked("SEAM_SIM_FIRST", 1);
    const uint32_t steps = steps_asked();
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        const sim_result r = sim_run(seed, steps, SIM_BUG_NONE);
        if (r.broken != NULL) {
            print("seed", seed, &r);
        }
        broken += r.broken != NULL;
        finished += r.finished;
        ended += r.ended;
        worlds[r.depth]++;
        add(&sums[r.depth], &r);
        in_trouble += r.steps_in_trouble;
    }
    (void)fprintf(
        stderr,
        "worlds %llu of %u steps: finished %llu, ended before %llu; broken %llu; %.1f steps "
        "of each while faults came\n",
        (unsigned long long)seeds, steps, (unsigned long long)finished, (unsigned long long)ended,
        (unsigned long long)broken, (double)in_trouble / (double)seeds);
    for (uint32_t depth = 1; depth <= SIM_DEPTH_MAX; depth++) {
        (void)fprintf(stderr, "%u worlds of ", worlds[depth]);
        print("depth", depth, &sums[depth]);
        if (seeds >= SEEDS_ENOUGH) {
            all_met(&sums[depth], depth, worlds[depth]);
        }
    }
    assert_int_equal(broken, 0);
    assert_int_equal(finished + ended, seeds);
    if (seeds >= SEEDS_ENOUGH) {
        assert_true(finished > seeds * 8 / 10);
        assert_int_equal(transitions_check(TRANSITION_LINK, TRANSITION_CLIENT, TAKEN_BY_WORLDS), 0);
    }
}

static void test_worlds__planted_bug__is_found(void **state) {
    (void)state;
    const uint32_t steps = steps_asked();
    const uint64_t seeds = steps > SIM_STEPS ? SEEDS_BUG / 10 : SEEDS_BUG;
    transitions_pause(true);
    for (sim_bug bug = SIM_BUG_NONE + 1; bug < SIM_BUG_COUNT; bug++) {
        uint32_t found = 0;
        for (uint64_t seed = 1; seed <= seeds; seed++) {
            found += sim_run(seed, steps, bug).broken != NULL;
        }
        (void)fprintf(stderr, "bug \"%s\": found in %u of %llu worlds\n", sim_bug_name(bug), found,
                      (unsigned long long)seeds);
        assert_true(found > 0);
    }
}

int main(void) {
    const uint64_t seed = asked("SEAM_SIM_SEED", 0);
    if (seed != 0) {
        const sim_result r = sim_run(seed, steps_asked(), SIM_BUG_NONE);
        print("seed", seed, &r);
        return r.broken != NULL;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_worlds__faults__history_is_kept),
        cmocka_unit_test(test_worlds__planted_bug__is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
