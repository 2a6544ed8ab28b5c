/* Goal: AMAQ's gates follow the loss, not only beta (SPEC 3.1).  Method: the two boundaries of
 * tests/support/stories_run.h, AMAQ from 6 to 3 bits with the exact signal at the output and the
 * surrogate at the input.  Afterwards the learned widths are permuted among the channels of each
 * site: same bytes on the wire, and the test loss must rise by more than the noise of the whole
 * procedure over seeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "codec.h"
#include "gates.h"
#include "stories_run.h"

enum { STEPS = 600, SEEDS = 3, PERMUTATIONS = 5, SKIPPED = 77 };

static const float target_bits = 3.0f;

typedef struct run { /* a run and the gates of its two sites */
    stories_run *sites;
    seam_gates in, out;
} run;

static void gates_update(stories_site *s, seam_gates *gates, const float *db, bool active) {
    const seam_gates_step_args args = {
        .db = db, .lr = 0.02f, .beta = 0.02f, .bits_loss_active = active};
    seam_gates_step(gates, &args);
    seam_gates_widths(s->widths, gates, 0.0f);
}

static double gate_mean(const run *r) {
    const double total = seam_gates_bits_total(&r->in) + seam_gates_bits_total(&r->out);
    return total / (2.0 * (double)r->sites->w->channels);
}

static void train_step(run *r, uint64_t seed, uint64_t step) {
    (void)stories_run_step(r->sites, seed, step);
    const bool active = gate_mean(r) > (double)target_bits; /* soft clipping */
    gates_update(&r->sites->in, &r->in, r->sites->in.db_surrogate, active);
    gates_update(&r->sites->out, &r->out, r->sites->out.db_exact, active);
}

static run run_create(const stories_world *w, uint64_t seed) {
    seam_gates_config gates;
    run r = {.sites = stories_run_create(w, seed)};
    assert_true(seam_gates_preset(&gates, target_bits));
    assert_int_equal(seam_gates_init(&r.in, &gates, w->channels), SEAM_OK);
    assert_int_equal(seam_gates_init(&r.out, &gates, w->channels), SEAM_OK);
    seam_gates_widths(r.sites->in.widths, &r.in, 0.0f);
    seam_gates_widths(r.sites->out.widths, &r.out, 0.0f);
    return r;
}

static void run_destroy(run *r) {
    seam_gates_deinit(&r->in);
    seam_gates_deinit(&r->out);
    stories_run_destroy(r->sites);
}

/* Fisher-Yates with Philox; the total, and so the bytes on the wire, stay the same. */
static void permute(uint8_t *widths, uint32_t count, uint32_t seed, uint32_t stream) {
    for (uint32_t i = count - 1; i > 0; i--) {
        const uint32_t counter[4] = {i, stream, 0, 0};
        const uint32_t key[2] = {seed, 99};
        uint32_t random[4];
        seam_philox(random, counter, key);
        const uint32_t j = random[0] % (i + 1);
        const uint8_t kept = widths[i];
        widths[i] = widths[j];
        widths[j] = kept;
    }
}

static void test_gates__widths_permuted__test_loss_rises(void **state) {
    const stories_world *w = *state;
    const uint32_t C = w->channels;
    double learned[SEEDS], rise_min = INFINITY, rise_sum = 0, mean = 0, spread = 0;
    for (uint32_t seed = 0; seed < SEEDS; seed++) {
        run r = run_create(w, seed);
        for (uint64_t step = 0; step < STEPS; step++) {
            train_step(&r, seed, step);
        }
        const double bits = gate_mean(&r);
        assert_true(fabs(bits - (double)target_bits) <= 0.1);
        learned[seed] = stories_run_test_loss(r.sites);
        uint8_t in[STORIES_CHANNELS_MAX], out[STORIES_CHANNELS_MAX];
        memcpy(in, r.sites->in.widths, C);
        memcpy(out, r.sites->out.widths, C);
        double permuted = 0;
        for (uint32_t p = 0; p < PERMUTATIONS; p++) {
            memcpy(r.sites->in.widths, in, C);
            memcpy(r.sites->out.widths, out, C);
            permute(r.sites->in.widths, C, p, 0);
            permute(r.sites->out.widths, C, p, 1);
            permuted += stories_run_test_loss(r.sites) / PERMUTATIONS;
        }
        const double rise = permuted - learned[seed];
        rise_min = fmin(rise_min, rise);
        rise_sum += rise;
        mean += learned[seed] / SEEDS;
        print_message("seed %u: mean bits %.3f, test loss learned %.4f, permuted %.4f\n", seed,
                      bits, learned[seed], permuted);
        run_destroy(&r);
    }
    for (uint32_t seed = 0; seed < SEEDS; seed++) {
        spread += (learned[seed] - mean) * (learned[seed] - mean) / (SEEDS - 1);
    }
    print_message("rise by permuting %.4f (least %.4f), seed noise (one sigma) %.4f\n",
                  rise_sum / SEEDS, rise_min, sqrt(spread));
    assert_true(rise_min > 0.0);                        /* in every seed */
    assert_true(rise_sum / SEEDS > 2.0 * sqrt(spread)); /* and beyond two sigma */
}

static int world_setup(void **state) {
    static stories_world w;
    *state = &w;
    return stories_world_open(&w) ? 0 : -1;
}

static int world_teardown(void **state) {
    stories_world_close(*state);
    return 0;
}

int main(void) {
    if (!stories_data_present()) {
        (void)printf("skipped: no shared data\n");
        return SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gates__widths_permuted__test_loss_rises),
    };
    return cmocka_run_group_tests(tests, world_setup, world_teardown);
}
