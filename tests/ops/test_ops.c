/* Every op of one backend: test_ops <device> <act or 0> [linear|attention|prefix|trained|rows|fp8].
 *
 * Goal: the op table's promises (ops.h).  Method, for each case of the tables cases_*.c:
 *   - outputs against the double reference on the same inputs, to the case's tolerance;
 *   - on the reference itself: gradients against central differences of the forward op along a
 *     random direction, in double;
 *   - bits equal for 1, 2 and 3 threads, for a row computed alone, and for a sequence alone;
 *   - bits equal for two streams used by two threads at the same time.
 * A device that this machine or build lacks is skipped (exit 77).  The canary is a comparison that
 * must fail. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

static const char *device_name;
static seam_dtype device_act;
static uint32_t failures;

static void failed(const op_case *c, const char *what, const char *output_name, double error) {
    (void)fprintf(stderr, "FAILED %s %s: %s %s: error %.3g\n", device_name, c->name, what,
                  output_name, error);
    failures++;
}

static seam_backend *backend_of(const char *device, seam_dtype act, uint32_t threads) {
    const seam_backend_options options = {.device = device, .act = act, .threads = threads};
    seam_backend *backend = NULL;
    seam_error err = {.status = SEAM_OK};
    const seam_status st = seam_backend_create(&backend, &options, &err);
    if (st != SEAM_OK) {
        /* A CUDA device that is there must work. */
        const bool lacks = strncmp(device, "cuda", 4) != 0 || st == SEAM_E_UNIMPLEMENTED;
        (void)printf("%s: %s\n", lacks ? "SKIPPED" : "FAILED", err.text);
        exit(lacks ? 77 : 1);
    }
    return backend;
}

static double tolerance(const op_case *c, const run *r) {
    if (r->ops->acc == SEAM_F64) {
        return 0.0; /* the reference equals itself */
    }
    return r->ops->act == SEAM_BF16 ? c->bf16_tol : c->f32_tol;
}

static void check_reference(const op_case *c, const run *got, const run *want) {
    CHECK(got->out_count == want->out_count && want->out_count > 0);
    for (uint32_t i = 0; i < want->out_count; i++) {
        const output *out = &got->out[i];
        const double error = relative_error(out->x, want->out[i].x, out->rows * out->cols);
        if (!(error <= tolerance(c, got))) {
            failed(c, "against the reference:", out->name, error);
        }
    }
}

static void check_same_bits(const op_case *c, const char *what, const run *x, const run *y) {
    CHECK(x->out_count == y->out_count);
    for (uint32_t i = 0; i < x->out_count; i++) {
        const output *out = &x->out[i];
        if (memcmp(out->x, y->out[i].x, out->rows * out->cols * sizeof(double)) != 0) {
            failed(c, what, out->name, relative_error(y->out[i].x, out->x, out->rows * out->cols));
        }
    }
}

static void check_rows_alone(const op_case *c, seam_backend *backend, const run *all) {
    const uint32_t lone[3] = {0, c->T / 2, c->T - 1};
    for (uint32_t k = 0; k < 3; k++) {
        run one;
        run_open(&one, backend);
        c->fn(&one, c, lone[k], 1);
        for (uint32_t i = 0; i < all->out_count; i++) {
            const output *out = &all->out[i];
            if (out->rows == c->T && one.out[i].rows == 1 &&
                memcmp(out->x + lone[k] * out->cols, one.out[i].x, out->cols * sizeof(double)) !=
                    0) {
                failed(c, "a row alone:", out->name, 0.0);
            }
        }
        run_close(&one);
    }
}

/* The second sequence of an attention case. */
static void check_sequence_alone(const op_case *c, seam_backend *backend) {
    const uint32_t row0 = c->size[3], T = c->size[4];
    run all, one;
    run_open(&all, backend);
    run_open(&one, backend);
    c->fn(&all, c, 0, c->T);
    c->fn(&one, c, row0, T);
    for (uint32_t i = 0; i < all.out_count; i++) {
        const output *out = &all.out[i];
        CHECK(out->rows == c->T && one.out[i].rows == T);
        if (memcmp(out->x + row0 * out->cols, one.out[i].x, T * out->cols * sizeof(double)) != 0) {
            failed(c, "a sequence alone:", out->name, 0.0);
        }
    }
    run_close(&one);
    run_close(&all);
}

/* The scalar that the gradients of a case belong to: sum of dy * y over outputs with an upstream
 * gradient; for cross-entropy the mean-like sum that grad_scale makes. */
static double objective(const run *r) {
    double sum = 0.0;
    for (uint32_t i = 0; i < r->out_count; i++) {
        const output *out = &r->out[i];
        for (size_t k = 0; k < out->rows * out->cols; k++) {
            if (strcmp(out->name, "loss") == 0) {
                sum += 0.25 * out->x[k];
            } else if (out->dy_seed != 0) {
                const size_t idx = k / out->cols * out->ld + k % out->cols;
                sum += out->x[k] * input_value(out->dy_seed, idx, 1.0);
            }
        }
    }
    return sum;
}

static double objective_at(const op_case *c, seam_backend *ref, uint32_t seed, double nudge) {
    run r;
    run_open(&r, ref);
    r.nudge_seed = seed;
    r.nudge = nudge;
    c->fn(&r, c, 0, c->T);
    const double sum = objective(&r);
    run_close(&r);
    return sum;
}

/* Along the random direction of an input: central difference, error of order nudge^2. */
static void check_gradients(const op_case *c, seam_backend *ref, const run *base) {
    uint32_t checked = 0;
    for (uint32_t i = 0; i < base->out_count; i++) {
        const output *out = &base->out[i];
        const uint32_t seed = out->grad_seed;
        if (seed == 0) {
            continue;
        }
        double slope = 0.0, size = 0.0;
        for (size_t k = 0; k < out->rows; k++) {
            for (size_t j = 0; j < out->cols; j++) {
                const double x = out->x[k * out->cols + j] * direction_value(seed, k * out->ld + j);
                slope += x;
                size += x * x;
            }
        }
        const double nudge = 1e-5;
        const double difference =
            (objective_at(c, ref, seed, nudge) - objective_at(c, ref, seed, -nudge)) / (2 * nudge);
        if (!(fabs(difference - slope) <= 1e-6 * (sqrt(size) + fabs(slope)))) {
            failed(c, "finite difference:", out->name, difference - slope);
        }
        checked++;
    }
    CHECK(checked > 0);
}

static void check_case(const op_case *c, seam_backend *backend, seam_backend *const *others,
                       seam_backend *ref) {
    run want, got;
    run_open(&want, ref);
    run_open(&got, backend);
    c->fn(&want, c, 0, c->T);
    c->fn(&got, c, 0, c->T);
    check_reference(c, &got, &want);
    for (uint32_t i = 0; i < 2; i++) {
        run other;
        run_open(&other, others[i]);
        c->fn(&other, c, 0, c->T);
        check_same_bits(c, "other thread count:", &got, &other);
        run_close(&other);
    }
    if (c->rows_alone) {
        check_rows_alone(c, backend, &got);
    }
    if (!c->no_gradient_check && got.ops->acc == SEAM_F64) {
        check_gradients(c, ref, &want);
    }
    run_close(&got);
    run_close(&want);
}

/* ---- Two streams at once ---- */
typedef struct stream_user {
    seam_backend *backend;
    const op_case *c;
    run r;
} stream_user;

static void *stream_user_main(void *arg) {
    stream_user *user = arg;
    for (uint32_t i = 0; i < 5; i++) {
        if (i > 0) {
            run_close(&user->r);
        }
        run_open(&user->r, user->backend);
        user->c->fn(&user->r, user->c, 0, user->c->T);
    }
    return NULL;
}

static void check_two_streams(seam_backend *backend) {
    const op_case *cases[2] = {&linear_cases[5], &attention_cases[3]};
    stream_user user[2];
    pthread_t thread[2];
    for (uint32_t i = 0; i < 2; i++) {
        user[i] = (stream_user){.backend = backend, .c = cases[i]};
        CHECK(pthread_create(&thread[i], NULL, stream_user_main, &user[i]) == 0);
    }
    for (uint32_t i = 0; i < 2; i++) {
        CHECK(pthread_join(thread[i], NULL) == 0);
        run alone;
        run_open(&alone, backend);
        cases[i]->fn(&alone, cases[i], 0, cases[i]->T);
        check_same_bits(cases[i], "two streams at once:", &alone, &user[i].r);
        run_close(&alone);
        run_close(&user[i].r);
    }
}

/* What a LoRA share far below y's last place changes, on average, is the share: a product that is
 * rounded before the share is added loses half of it (slope 0.5).  The roundings of 24,576 values
 * leave the slope uncertain by 0.02. */
static void check_small_share(seam_backend *backend, seam_backend *ref) {
    run want, got;
    double along = 0.0, size = 0.0;
    run_open(&want, ref);
    run_open(&got, backend);
    linear_small_share(&want);
    linear_small_share(&got);
    for (size_t i = 0; i < want.out[0].rows * want.out[0].cols; i++) {
        const double share = want.out[1].x[i] - want.out[0].x[i];
        along += (got.out[1].x[i] - got.out[0].x[i]) * share;
        size += share * share;
    }
    (void)printf("small share: slope %.3f\n", along / size);
    CHECK(fabs(along / size - 1.0) < 0.1);
    run_close(&got);
    run_close(&want);
}

/* One wrong element of 1,000 must be seen at every tolerance of the tables. */
static void check_canary(void) {
    double want[1000], got[1000];
    for (size_t i = 0; i < 1000; i++) {
        want[i] = got[i] = input_value(1, i, 1.0);
    }
    CHECK(relative_error(got, want, 1000) == 0.0);
    got[500] += 2.0;
    CHECK(relative_error(got, want, 1000) > 5e-2);
    got[500] = NAN;
    CHECK(isinf(relative_error(got, want, 1000)));
}

static void check_picker(void) {
    seam_backend *backend = NULL;
    seam_error err;
    const seam_backend_options unknown = {.device = "tpu"}, none = {.device = NULL};
    const seam_backend_options f64 = {.device = "cpu", .act = SEAM_F64};
    const seam_backend_options fp8 = {.device = "cpu", .fp8 = true};
    const seam_backend_options cuda = {.device = "cuda:0"}, isa = {.device = "cpu:z80"};
    CHECK(seam_backend_create(&backend, &unknown, &err) == SEAM_E_ARG);
    CHECK(strstr(err.text, "tpu") != NULL);
    CHECK(seam_backend_create(&backend, &none, &err) == SEAM_E_ARG);
    CHECK(seam_backend_create(&backend, &f64, &err) == SEAM_E_ARG);
    CHECK(seam_backend_create(&backend, &isa, &err) == SEAM_E_ARG);
    CHECK(seam_backend_create(&backend, &fp8, &err) == SEAM_E_UNIMPLEMENTED);
    CHECK(strstr(err.text, "FP8") != NULL);
    const seam_status st = seam_backend_create(&backend, &cuda, &err);
    CHECK(st == SEAM_OK || st == SEAM_E_UNIMPLEMENTED); /* by build and machine */
    if (st == SEAM_OK) {
        seam_backend_destroy(backend);
    } else {
        CHECK(strstr(err.text, "cuda:0") != NULL);
    }
}

static void check_table(const op_case *cases, size_t count, seam_backend *backend,
                        seam_backend *const *others, seam_backend *ref) {
    for (size_t i = 0; i < count; i++) {
        check_case(&cases[i], backend, others, ref);
    }
}

/* The reference's rounding itself: e4m3 moves an operand by 2.6 % of its norm on average, a product
 * of two by 3.7 %. */
static void check_fp8_rounding(seam_backend *ref) {
    const op_case *c = &fp8_cases[1];
    run exact, rounded;
    run_open(&exact, ref);
    run_open(&rounded, ref);
    linear_cases[0].fn(&exact, c, 0, c->T);
    c->fn(&rounded, c, 0, c->T);
    for (uint32_t i = 0; i < exact.out_count; i++) {
        const output *want = &exact.out[i];
        const double error = relative_error(rounded.out[i].x, want->x, want->rows * want->cols);
        CHECK(error > 0.02 && error < 0.05);
    }
    run_close(&rounded);
    run_close(&exact);
}

/* Frozen products in FP8, where the device has them. */
static void check_fp8(void) {
    seam_backend_options options = {.device = device_name, .act = device_act, .fp8 = true};
    seam_backend *backends[3] = {NULL}, *ref = NULL;
    seam_error err = {.status = SEAM_OK};
    for (uint32_t i = 0; i < 3; i++) {
        options.threads = i + 1;
        const seam_status st = seam_backend_create(&backends[i], &options, &err);
        if (st != SEAM_OK) {
            CHECK(i == 0 && (st == SEAM_E_UNIMPLEMENTED || device_act == SEAM_F32));
            (void)printf("SKIPPED fp8: %s\n", err.text);
            return;
        }
        CHECK(seam_backend_ops(backends[i])->fp8);
    }
    options = (seam_backend_options){.device = "ref", .fp8 = true};
    CHECK(seam_backend_create(&ref, &options, &err) == SEAM_OK);
    check_fp8_rounding(ref);
    check_table(fp8_cases, fp8_case_count, backends[0], &backends[1], ref);
    failures += fp8_weight_check(backends[0], ref);
    if (strncmp(device_name, "cuda", 4) == 0) {
        failures += fp8_rows_check(backends[0]);
    }
    seam_backend_destroy(ref);
    for (uint32_t i = 0; i < 3; i++) {
        seam_backend_destroy(backends[i]);
    }
}

/* The whole, or one group of cases: a tool that makes kernels slow needs not run them all, nor read
 * what other people's kernels write (cuBLASLt's, in linear and fp8). */
static bool group_runs(const char *only, const char *group) {
    return only == NULL || strcmp(only, group) == 0;
}

static void check_groups(const char *only, seam_backend *backend, seam_backend *const *others,
                         seam_backend *ref) {
    if (group_runs(only, "linear")) {
        check_table(linear_cases, linear_case_count, backend, others, ref);
        check_small_share(backend, ref);
    }
    if (group_runs(only, "attention")) {
        check_table(attention_cases, attention_case_count, backend, others, ref);
        for (size_t i = 0; i < attention_case_count; i++) {
            if (attention_cases[i].size[4] > 0) { /* more than one sequence */
                check_sequence_alone(&attention_cases[i], backend);
            }
        }
    }
    if (group_runs(only, "prefix")) {
        check_table(prefix_cases, prefix_case_count, backend, others, ref);
    }
    if (group_runs(only, "trained")) {
        check_table(trained_cases, trained_case_count, backend, others, ref);
    }
    if (group_runs(only, "rows")) {
        check_table(row_cases, row_case_count, backend, others, ref);
    }
    if (group_runs(only, "fp8")) {
        check_fp8();
    }
}

static bool is_group(const char *name) {
    static const char *const groups[] = {"linear", "attention", "prefix", "trained", "rows", "fp8"};
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
        if (strcmp(name, groups[i]) == 0) {
            return true;
        }
    }
    return false;
}

int main(int argc, char **argv) {
    CHECK(argc == 3 || (argc == 4 && is_group(argv[3])));
    device_name = argv[1];
    device_act = strcmp(argv[2], "bf16") == 0  ? SEAM_BF16
                 : strcmp(argv[2], "f32") == 0 ? SEAM_F32
                                               : (seam_dtype)0;
    const char *only = argc == 4 ? argv[3] : NULL;
    check_canary();
    if (only == NULL) {
        check_picker();
    }
    seam_backend *ref = backend_of("ref", 0, 0);
    seam_backend *backend = backend_of(device_name, device_act, 2);
    seam_backend *others[2] = {backend_of(device_name, device_act, 1),
                               backend_of(device_name, device_act, 3)};
    (void)printf("%s\n", seam_backend_describe(backend));
    check_groups(only, backend, others, ref);
    if (only == NULL) {
        check_two_streams(backend);
    }
    seam_backend_destroy(others[1]);
    seam_backend_destroy(others[0]);
    seam_backend_destroy(backend);
    seam_backend_destroy(ref);
    (void)printf("%u failed\n", failures);
    return failures == 0 ? 0 : 1;
}
