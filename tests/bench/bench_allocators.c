/* Bit allocators compared at equal mean width on the 260K model of tests/support/stories_run.h:
 * the test loss of bf16, affine, the gates' variants and waterfill.  Run by hand:
 *
 *   bench_allocators [key=value...]   policies=affine,gates,... bits=3 seeds=2 steps=600 fall=200
 *
 * One line a run: policy, seed, mean and spread of the widths of the last allocation, the step at
 * which the mean first was at the target, test loss (mean of the last 5 times, 20 steps apart: one
 * point moves by 0.01).  Sites hold an allocation for LAG steps as on the wire.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gates.h"
#include "pace.h"
#include "stories_run.h"
#include "waterfill.h"

enum { LAG = 2, TESTS = 5, TEST_EVERY = 20, SKIPPED = 77 };

typedef struct policy {
    const char *name;
    bool coded, gates, waterfill;
    bool paced;      /* pace.h sets beta and bits_lr; else beta 0.02, bits_lr 0.02 */
    bool l1;         /* else L2 */
    bool surrogate;  /* at the output too */
    bool refined;    /* the surrogate at b_c, not at the integer widths */
    bool per_site;   /* waterfill: every site has the mean */
    bool from_start; /* gates begin at waterfill's allocation, after 10 steps */
} policy;

static const policy policies[] = {
    {.name = "bf16"},
    {.name = "affine", .coded = true},
    {.name = "gates", .coded = true, .gates = true},
    {.name = "gates-l1", .coded = true, .gates = true, .l1 = true},
    {.name = "gates-sur", .coded = true, .gates = true, .surrogate = true},
    {.name = "gates-l1-sur", .coded = true, .gates = true, .l1 = true, .surrogate = true},
    {.name = "paced-l2", .coded = true, .gates = true, .paced = true},
    {.name = "paced-l2-sur", .coded = true, .gates = true, .paced = true, .surrogate = true},
    {.name = "paced-l1", .coded = true, .gates = true, .paced = true, .l1 = true},
    {.name = "paced-l1-sur",
     .coded = true,
     .gates = true,
     .paced = true,
     .l1 = true,
     .surrogate = true},
    {.name = "paced-l1-fine",
     .coded = true,
     .gates = true,
     .paced = true,
     .l1 = true,
     .surrogate = true,
     .refined = true},
    {.name = "paced-l2-fine",
     .coded = true,
     .gates = true,
     .paced = true,
     .surrogate = true,
     .refined = true},
    {.name = "paced-start",
     .coded = true,
     .gates = true,
     .paced = true,
     .l1 = true,
     .surrogate = true,
     .refined = true,
     .from_start = true},
    {.name = "waterfill", .coded = true, .waterfill = true},
    {.name = "waterfill-site", .coded = true, .waterfill = true, .per_site = true},
};

typedef struct options {
    const char *policies;
    float bits;
    uint32_t seeds, steps, fall;
    bool verbose;
} options;

typedef struct owner { /* of a forward site */
    stories_site *site;
    seam_gates gates;
    seam_waterfill fill;
    uint32_t rows;
} owner;

typedef struct trial {
    const policy *policy;
    const options *options;
    stories_run *run;
    owner owners[2];
    seam_gates_config config;
    seam_pace pace;
    uint64_t reached;
} trial;

static double gates_mean(const trial *t) {
    const double in = seam_gates_bits_total(&t->owners[0].gates);
    const double out = seam_gates_bits_total(&t->owners[1].gates);
    const double rows_in = t->owners[0].rows, rows_out = t->owners[1].rows;
    return (rows_in * in + rows_out * out) / ((rows_in + rows_out) * t->run->w->channels);
}

static void fill_update(trial *t) {
    for (uint32_t k = 0; k < 2; k++) {
        owner *o = &t->owners[k];
        const seam_waterfill_update_args args = {
            .squares = o->site->squares, .rows = o->rows, .spans = o->site->spans, .micros = 1};
        seam_waterfill_update(&o->fill, &args);
    }
}

static void fill_widths(trial *t, double mean) {
    const uint32_t C = t->run->w->channels;
    const uint8_t low = (uint8_t)ceilf(t->config.bits_min);
    const uint8_t high = (uint8_t)floorf(t->config.bits_max);
    seam_waterfill_share shares[2];
    uint32_t totals[2];
    for (uint32_t k = 0; k < 2; k++) {
        const uint64_t values = (uint64_t)t->owners[k].rows * C; /* every row is sent here */
        shares[k] = (seam_waterfill_share){.values = values,
                                           .values_used = values,
                                           .channels = C,
                                           .bits_min = low,
                                           .bits_max = high};
        shares[k].sum = seam_waterfill_sum(&shares[k].live, &t->owners[k].fill);
    }
    seam_waterfill_totals(totals, shares, 2, mean);
    for (uint32_t k = 0; k < 2; k++) {
        const uint32_t total = t->policy->per_site ? (uint32_t)lrint(mean * C) : totals[k];
        seam_waterfill_widths(t->owners[k].site->widths, &t->owners[k].fill, total, low, high);
    }
}

/* The gates' scalars from the widths in force. */
static void gates_start(trial *t) {
    const double min = t->config.bits_min, max = t->config.bits_max;
    for (uint32_t k = 0; k < 2; k++) {
        owner *o = &t->owners[k];
        for (uint32_t c = 0; c < t->run->w->channels; c++) {
            const double bits = fmin(fmax(o->site->widths[c], min + 0.25), max - 0.25);
            o->gates.q[c] = (float)log((bits - min) / (max - bits));
        }
    }
}

static void gates_update(trial *t, uint64_t step) {
    const policy *p = t->policy;
    const uint32_t C = t->run->w->channels;
    const double rows_mean = 0.5 * ((double)t->owners[0].rows + (double)t->owners[1].rows);
    const bool active =
        p->paced ? seam_pace_acts(&t->pace) : gates_mean(t) > (double)t->options->bits;
    double pull = 0.0;
    for (uint32_t k = 0; k < 2; k++) {
        owner *o = &t->owners[k];
        const double weight = p->paced ? o->rows / rows_mean : 1.0;
        float *db = k == 0 || p->surrogate ? o->site->db_surrogate : o->site->db_exact;
        if (p->refined) {
            seam_gates_refine(db, &o->gates, o->site->widths);
        }
        const bool reached = t->reached > 0;
        const seam_gates_step_args args = {.db = db,
                                           .lr = p->paced  ? (float)t->pace.bits_lr
                                                 : reached ? 0.005f
                                                           : 0.02f,
                                           .beta = p->paced  ? (float)(t->pace.price * weight)
                                                   : reached ? 0.005f
                                                             : 0.02f,
                                           .bits_loss_active = active,
                                           .relative = p->paced};
        seam_gates_step(&o->gates, &args);
        for (uint32_t c = 0; k == 0 && c < C; c++) {
            pull += fabs((double)db[c]) / weight;
        }
    }
    if (p->paced) {
        if (!p->l1) {
            pull /= 2.0 * gates_mean(t);
        }
        seam_pace_judge(&t->pace, step, gates_mean(t), pull);
    }
    if (t->options->verbose && step % 20 == 0) {
        printf("  step %llu mean %.4f ref %.4f beta %.3e lr %.4f\n", (unsigned long long)step,
               gates_mean(t), seam_pace_bits(&t->pace.config, step + 1), t->pace.price,
               t->pace.bits_lr);
    }
    if (step % LAG == 0) {
        for (uint32_t k = 0; k < 2; k++) {
            seam_gates_widths(t->owners[k].site->widths, &t->owners[k].gates, 0.0f);
        }
    }
}

static void policy_step(trial *t, uint64_t step) {
    const policy *p = t->policy;
    if (p->waterfill || p->from_start) {
        fill_update(t);
    }
    if (p->waterfill && step % LAG == 0) {
        fill_widths(t, seam_pace_bits(&t->pace.config, step + 1));
    }
    if (p->from_start && step == 9) {
        fill_widths(t, (double)t->config.bits_start);
        gates_start(t);
    } else if (p->gates && (!p->from_start || step >= 10)) {
        gates_update(t, step);
    }
    if (p->gates && t->reached == 0 && gates_mean(t) <= (double)t->options->bits) {
        t->reached = step + 1;
    }
}

static double site_mean(const owner *o, uint32_t channels) {
    double total = 0;
    for (uint32_t c = 0; c < channels; c++) {
        total += o->site->widths[c];
    }
    return total / channels;
}

/* Standard deviation of the widths: what an allocation makes of the channels' differences. */
static double site_spread(const owner *o, uint32_t channels) {
    const double mean = site_mean(o, channels);
    double squares = 0;
    for (uint32_t c = 0; c < channels; c++) {
        squares += (o->site->widths[c] - mean) * (o->site->widths[c] - mean);
    }
    return sqrt(squares / channels);
}

static double trial_run(const stories_world *w, const policy *p, const options *o, uint32_t seed) {
    trial t = {.policy = p, .options = o, .run = stories_run_create(w, seed)};
    t.run->gradients_coded = true;
    (void)seam_gates_preset(&t.config, o->bits);
    t.config.loss = p->l1 ? SEAM_BITS_LOSS_L1 : SEAM_BITS_LOSS_L2;
    const double min = t.config.bits_min, max = t.config.bits_max, start = t.config.bits_start;
    const double target = o->bits;
    const seam_pace_config pace = {.bits_start = start,
                                   .bits_target = target,
                                   .steps_to_target = o->fall,
                                   .shape = SEAM_PACE_LINEAR,
                                   .price_default = 0.02,
                                   .logit_distance = fabs(log((start - min) / (max - start)) -
                                                          log((target - min) / (max - target)))};
    seam_pace_init(&t.pace, &pace);
    for (uint32_t k = 0; k < 2; k++) {
        t.owners[k].site = k == 0 ? &t.run->in : &t.run->out;
        t.owners[k].rows = k == 0 ? STORIES_ROWS : STORIES_LABELLED;
        (void)seam_gates_init(&t.owners[k].gates, &t.config, w->channels);
        (void)seam_waterfill_init(&t.owners[k].fill, w->channels);
        if (p->coded) {
            const double width = p->gates || p->waterfill ? start : target;
            memset(t.owners[k].site->widths, (int)width, w->channels);
        }
    }
    double loss = 0;
    for (uint64_t step = 0; step < o->steps; step++) {
        (void)stories_run_step(t.run, seed, step);
        policy_step(&t, step);
        const uint64_t left = o->steps - 1 - step;
        if (left % TEST_EVERY == 0 && left / TEST_EVERY < TESTS) {
            loss += stories_run_test_loss(t.run) / TESTS;
        }
    }
    printf("%-15s bits %g seed %u: in %.3f +- %.2f, out %.3f +- %.2f, target at step %llu, "
           "test loss %.4f\n",
           p->name, (double)o->bits, seed, site_mean(&t.owners[0], w->channels),
           site_spread(&t.owners[0], w->channels), site_mean(&t.owners[1], w->channels),
           site_spread(&t.owners[1], w->channels), (unsigned long long)t.reached, loss);
    (void)fflush(stdout);
    for (uint32_t k = 0; k < 2; k++) {
        seam_gates_deinit(&t.owners[k].gates);
        seam_waterfill_deinit(&t.owners[k].fill);
    }
    stories_run_destroy(t.run);
    return loss;
}

static bool named(const char *list, const char *name) {
    const size_t bytes = strlen(name);
    for (const char *at = list; at != NULL && *at != 0; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, bytes) == 0 && (at[bytes] == ',' || at[bytes] == 0)) {
            return true;
        }
    }
    return false;
}

static options options_read(int argc, char **argv) {
    options o = {.policies = NULL, .bits = 3.0f, .seeds = 2, .steps = 600, .fall = 200};
    for (int i = 1; i < argc; i++) {
        const char *value = strchr(argv[i], '=');
        const uint32_t number = value != NULL ? (uint32_t)strtoul(value + 1, NULL, 10) : 0;
        if (strncmp(argv[i], "policies=", 9) == 0) {
            o.policies = value + 1;
        } else if (strncmp(argv[i], "bits=", 5) == 0) {
            o.bits = (float)number;
        } else if (strncmp(argv[i], "seeds=", 6) == 0) {
            o.seeds = number;
        } else if (strncmp(argv[i], "steps=", 6) == 0) {
            o.steps = number;
        } else if (strncmp(argv[i], "fall=", 5) == 0) {
            o.fall = number;
        } else if (strncmp(argv[i], "verbose=", 8) == 0) {
            o.verbose = number != 0;
        } else {
            (void)fprintf(stderr, "bench_allocators: %s?\n", argv[i]);
            exit(2);
        }
    }
    if ((o.bits != 3.0f && o.bits != 4.0f) || o.seeds < 1 || o.steps <= TESTS * TEST_EVERY ||
        o.fall < 1) {
        (void)fprintf(stderr,
                      "bench_allocators: bits 3 or 4; seeds, fall from 1, steps above 100\n");
        exit(2);
    }
    return o;
}

int main(int argc, char **argv) {
    const options o = options_read(argc, argv);
    stories_world w;
    if (!stories_data_present()) {
        (void)printf("skipped: no shared data\n");
        return SKIPPED;
    }
    if (!stories_world_open(&w)) {
        return 1;
    }
    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++) {
        if (o.policies != NULL && !named(o.policies, policies[i].name)) {
            continue;
        }
        double sum = 0;
        for (uint32_t seed = 0; seed < o.seeds; seed++) {
            sum += trial_run(&w, &policies[i], &o, seed) / o.seeds;
        }
        printf("%-15s bits %g: mean test loss %.4f\n", policies[i].name, (double)o.bits, sum);
    }
    stories_world_close(&w);
    return 0;
}
