/* The search by whole steps of search_products: which algorithms make a step of the blocks faster.
 *
 * A step of a large shape draws all the power that the card may, and its clock is what that leaves,
 * so that the energy of a product counts and not its cycles: an algorithm which is faster in short
 * turns with others can make the step slower (RESULTS.md).  First, each candidate runs alone
 * without a pause until the card is at its limit, where its time is its energy, and some more; the
 * fastest so of every product go into all layers together and are judged by the step's time, then,
 * while the seconds given last, single candidates: descent by coordinates, the products of a layer,
 * from what runs now.  A candidate and what is chosen so far take turns,
 *
 *   A B A B ... A      gain of a B: 1 - 2 B / (the A before + the A after),
 *
 * so that a drift of the card cancels; a turn begins with steps that are not measured.  A step's
 * gain is known ten times less well than a product's: a round has an error of NOISE, measured on an
 * H200.  It is taken when its mean is CERTAIN standard errors above nothing after ROUNDS_LEAST
 * rounds, and given up as soon as it cannot be.  Left out are candidates that are SLOWER_ALONE, and
 * those whose rows do not have the same bits at all counts. */
#include "search_products.cuh"

#include <algorithm>
#include <math.h>
#include <stdio.h>
#include <string.h>

extern "C" {
#include "blocks_step.h"
}

#define SEQS           16u /* of a step; times LENGTH they are SEARCH_ROWS */
#define LENGTH         384u
#define RANK           16u
#define HEAT_SECONDS   2.0
#define STEADY_ROUNDS  2u
#define STEADY_SETTLE  0.1 /* seconds */
#define STEADY_MEASURE 0.12
#define STEADY_LEAST   0.995f /* of the time of what runs now: what is less is no difference */
#define STEADY_WORTH   1.005f /* what is more is not tried in a step */
#define CANDIDATES     6u
#define SLOWER_ALONE   1.12f
#define ROUNDS_LEAST   4u
#define ROUNDS_MOST    10u
#define ROUNDS_BEST    24u /* for all the best alone together */
#define CERTAIN        2.5
#define LEAST_GAIN     4e-4
#define NOISE          5e-3 /* of a round: no smaller spread is believed */
#define PROOF_ROUNDS   4u

/* How long a turn is. */
typedef struct turn {
    double settle, measure; /* seconds */
} turn;
static const turn of_search = {0.15, 0.4}, of_proof = {0.5, 1.2};

/* A product of every layer and what it may run by: list[0] what runs now. */
typedef struct coordinate {
    uint32_t matrix; /* blocks_step_matrix's */
    search_task task;
    search_list list;
    size_t chosen;
    double gain, error; /* when it was taken */
} coordinate;

static blocks_step on;
static blocks_work work;
static std::vector<coordinate> coordinates;

/* ---- a step ---- */
static void algo_use(const coordinate &c, size_t which) {
    for (uint32_t layer = 0; layer < on.config.layers; layer++) {
        search_plan(&c.task, blocks_step_matrix(&on, layer, c.matrix))->algo = c.list[which].algo;
    }
}

/* Mean seconds of a step. */
static double turn_run(const turn &t) {
    double queued = 0.0, sum = 0.0;
    uint32_t steps = 0;
    while (sum < t.settle) {
        sum += blocks_work_seconds(&queued, &on, &work);
    }
    for (sum = 0.0; sum < t.measure; steps++) {
        sum += blocks_work_seconds(&queued, &on, &work);
    }
    return sum / steps;
}

static void model_open(const char *shape, uint32_t layers) {
    on.backend = search.backend;
    on.ops = search.ops;
    on.stream = search.stream;
    search_must(blocks_step_shape(&on, shape), "a step of this shape");
    on.config.layers = layers > 0 ? layers : on.config.layers;
    on.lora.lora.rank = RANK;
    on.lora.lora.alpha = RANK;
    on.lora.lora.targets = SEAM_LORA_Q | SEAM_LORA_V;
    on.lora.lora.seed = 1;
    blocks_step_open(&on);
    blocks_work_open(&work, &on, SEQS, LENGTH);
}

static void model_close(void) {
    blocks_work_check(&on, &work);
    blocks_work_close(&work, &on);
    blocks_step_close(&on);
}

/* ---- candidates ---- */
/* Times at the card's power, in turns; what runs now stays in front, the others fastest first. */
static void steady_run(coordinate *c) {
    for (uint32_t round = 0; round < STEADY_ROUNDS; round++) {
        for (search_candidate &one : c->list) {
            one.steady_us += search_steady_us(&c->task, &one, STEADY_SETTLE, STEADY_MEASURE) /
                             (float)STEADY_ROUNDS;
        }
    }
    std::sort(c->list.begin() + 1, c->list.end(),
              [](const search_candidate &a, const search_candidate &b) {
                  return a.steady_us < b.steady_us;
              });
}

static coordinate coordinate_make(uint32_t matrix, bool backward) {
    static const char *const names[] = {"qkv", "o", "gate_up", "down"};
    const bool acc = !backward && (matrix == 1 || matrix == 3);
    seam_weight *w = blocks_step_matrix(&on, 0, matrix);
    char name[64];
    coordinate c = {};
    (void)snprintf(name, sizeof name, "%s %s", on.config.name, names[matrix]);
    c.matrix = matrix;
    c.task = search_task_of(name, w, w->pad > 0 ? SEARCH_JOINED : SEARCH_BF16, backward, acc,
                            acc ? 1.0f : 0.0f);
    const seam_cuda_plan *plan = search_plan(&c.task, w);
    search_must(plan->found, "a product's plan");
    search_candidate now = {};
    now.algo = plan->algo;
    search_list all = search_candidates(&c.task);
    search_time(&all, &c.task);
    c.list.push_back(now);
    for (const search_candidate &other : all) {
        if (c.list.size() <= CANDIDATES && other.us <= SLOWER_ALONE * all[0].us &&
            memcmp(&other.algo, &now.algo, sizeof now.algo) != 0 &&
            search_bits_same(&c.task, &other)) {
            c.list.push_back(other);
        }
    }
    steady_run(&c);
    algo_use(c, 0);
    (void)fprintf(stderr,
                  "%s %s: %zu candidates of %zu; us at %u rows, alone at the card's power: ", name,
                  backward ? "backward" : "forward", c.list.size() - 1, all.size(), SEARCH_ROWS);
    for (const search_candidate &one : c.list) {
        (void)fprintf(stderr, "%.1f (%.0f) ", (double)one.steady_us, (double)one.us);
    }
    (void)fprintf(stderr, "\n");
    return c;
}

/* ---- the descent ---- */
typedef struct gains {
    double mean, error;
} gains;

static gains gains_of(const std::vector<double> &x) {
    double sum = 0.0, squares = 0.0;
    for (double v : x) {
        sum += v;
    }
    const double n = (double)x.size(), mean = sum / n;
    for (double v : x) {
        squares += (v - mean) * (v - mean);
    }
    const double spread = x.size() > 1 ? sqrt(squares / (n - 1)) : NOISE;
    return {mean, std::max(spread, NOISE) / sqrt(n)};
}

/* Whether `use(true)` makes a step faster than `use(false)`, which was in force for the turn of
 * `before` and is at the end. */
template <typename F>
static bool judge(gains *ret, const F &use, uint32_t rounds_most, double *before, double until) {
    std::vector<double> rounds;
    bool open = true, taken = false;
    while (open && rounds.size() < rounds_most && blocks_now_seconds() < until) {
        use(true);
        const double other = turn_run(of_search);
        use(false);
        const double after = turn_run(of_search);
        rounds.push_back(1.0 - 2.0 * other / (*before + after));
        *before = after;
        *ret = gains_of(rounds);
        taken = rounds.size() >= ROUNDS_LEAST && ret->mean > CERTAIN * ret->error;
        open = !taken && ret->mean + CERTAIN * ret->error > LEAST_GAIN;
    }
    (void)fprintf(stderr, "%6.1f s left: %.3f ms, %zu rounds, gain %+.2f +- %.2f %%%s",
                  until - blocks_now_seconds(), 1e3 * *before, rounds.size(), 100.0 * ret->mean,
                  100.0 * ret->error, taken ? ", taken" : "");
    return taken;
}

static bool candidate_try(coordinate *c, size_t which, double *before, double until) {
    const size_t chosen = c->chosen;
    gains g = {};
    const bool taken = judge(
        &g, [&](bool other) { algo_use(*c, other ? which : chosen); }, ROUNDS_MOST, before, until);
    (void)fprintf(stderr, ": %s %s %.1f us for %.1f\n", c->task.name,
                  c->task.product.backward ? "backward" : "forward",
                  (double)c->list[which].steady_us, (double)c->list[chosen].steady_us);
    if (taken) {
        c->chosen = which;
        c->gain = g.mean;
        c->error = g.error;
        algo_use(*c, which);
        *before = turn_run(of_search);
    }
    return taken;
}

/* The best of every product alone, together. */
static bool best_try(double *before, double until) {
    gains g = {};
    const auto best = [](const coordinate &c) {
        const bool better =
            c.list.size() > 1 && c.list[1].steady_us < STEADY_LEAST * c.list[0].steady_us;
        return better ? 1 : 0;
    };
    const auto use = [&](bool other) {
        for (const coordinate &c : coordinates) {
            algo_use(c, other ? best(c) : 0);
        }
    };
    const bool taken = judge(&g, use, ROUNDS_BEST, before, until);
    (void)fprintf(stderr, ": the best of each alone\n");
    for (coordinate &c : coordinates) {
        c.chosen = taken ? best(c) : 0;
        c.gain = g.mean;
        c.error = g.error;
    }
    if (taken) {
        use(true);
        *before = turn_run(of_search);
    }
    return taken;
}

/* Ranks as the candidates' times at the card's power; a second pass where the first has changed
 * something. */
static void descend(double until) {
    bool changed = true;
    (void)turn_run({HEAT_SECONDS, 0.1});
    double before = turn_run(of_search);
    (void)best_try(&before, until);
    for (uint32_t pass = 0; pass < 2 && changed; pass++) {
        changed = false;
        for (size_t rank = 0; rank <= CANDIDATES; rank++) {
            const size_t which = (rank + 1 - pass) % (CANDIDATES + 1);
            for (coordinate &c : coordinates) {
                if (which < c.list.size() && which != c.chosen && (which > 0 || pass > 0) &&
                    blocks_now_seconds() < until &&
                    c.list[which].steady_us < STEADY_WORTH * c.list[c.chosen].steady_us) {
                    changed = candidate_try(&c, which, &before, until) || changed;
                }
            }
        }
    }
}

static void rows_print(void) {
    for (const coordinate &c : coordinates) {
        search_list both = {c.list[c.chosen], c.list[0]};
        char note[96];
        (void)snprintf(note, sizeof note, "at the card's power %.1f (%.1f); step %+.2f +- %.2f %%",
                       (double)both[0].steady_us, (double)both[1].steady_us, 100.0 * c.gain,
                       100.0 * c.error);
        if (c.chosen > 0) {
            search_finals(&both, &c.task);
            search_row_print(&c.task, &both[0], &both[1], note);
            algo_use(c, c.chosen);
        }
    }
}

/* ---- the proof ---- */
static void all_use(bool found) {
    for (const coordinate &c : coordinates) {
        algo_use(c, found ? c.chosen : 0);
    }
}

static void prove(void) {
    std::vector<double> rounds;
    double without[PROOF_ROUNDS + 1], with[PROOF_ROUNDS], sum[2] = {};
    all_use(false);
    (void)turn_run({HEAT_SECONDS, 0.1});
    without[0] = turn_run(of_proof);
    for (uint32_t i = 0; i < PROOF_ROUNDS; i++) {
        all_use(true);
        with[i] = turn_run(of_proof);
        all_use(false);
        without[i + 1] = turn_run(of_proof);
        rounds.push_back(1.0 - 2.0 * with[i] / (without[i] + without[i + 1]));
        sum[0] += (without[i] + without[i + 1]) / 2;
        sum[1] += with[i];
    }
    const gains g = gains_of(rounds);
    (void)printf("/* %s, %u layers, %u x %u, ms a step in turns: %.2f and with the rows found %.2f "
                 "(%.0f tokens/s), %+.2f +- %.2f %%:",
                 on.config.name, on.config.layers, SEQS, LENGTH, 1e3 * sum[0] / PROOF_ROUNDS,
                 1e3 * sum[1] / PROOF_ROUNDS, SEARCH_ROWS * PROOF_ROUNDS / sum[1], 100.0 * g.mean,
                 100.0 * g.error);
    for (uint32_t i = 0; i < PROOF_ROUNDS; i++) {
        (void)printf(" %.2f %.2f", 1e3 * without[i], 1e3 * with[i]);
    }
    (void)printf(" %.2f */\n", 1e3 * without[PROOF_ROUNDS]);
    (void)fflush(stdout);
}

void search_by_steps(const search_steps_options *options) {
    static_assert(SEQS * LENGTH == SEARCH_ROWS, "one count for products and steps");
    model_open(options->shape, options->layers);
    for (uint32_t matrix : {2u, 3u, 0u, 1u}) { /* the largest first */
        for (int backward = 0; backward < 2; backward++) {
            coordinates.push_back(coordinate_make(matrix, backward == 1));
        }
    }
    descend(options->until);
    rows_print();
    for (uint32_t i = 0; i < options->proof_count; i++) {
        if (options->proof[i] != on.config.layers) {
            model_close();
            model_open(options->shape, options->proof[i]);
        }
        prove();
    }
    model_close();
}
