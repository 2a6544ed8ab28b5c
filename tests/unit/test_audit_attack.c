/* Goal: rows of a public table are recognised in what a stream carries of them, and the search is
 * the one that its header states.
 * Method: a random table of several pieces; its rows with no error, with a small and with a huge
 * one; searches against the distances in double; labels out of the gradient of a softmax head
 * behind an RMSNorm, made here in double. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "audit_attack.h"

enum { V = 2 * SEAM_AUDIT_PIECE_ROWS + 77, C = 24, T = 150, K = SEAM_AUDIT_GUESSES };

typedef struct world {
    seam_backend *backend;
    float table[V][C], x[T][C], norm[C];
    uint32_t truth[T], guesses[T][K];
    uint32_t reads, count; /* count: rows that the table has */
} world;

static uint64_t drawn;

static uint32_t draw(void) { /* Knuth's MMIX generator */
    drawn = drawn * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(drawn >> 32);
}

/* About a normal one: the sum of twelve uniform draws. */
static float normal(void) {
    float sum = -6.0f;
    for (int i = 0; i < 12; i++) {
        sum += (float)draw() / 4294967296.0f;
    }
    return sum;
}

static seam_status table_read(float *ret_rows, void *user, uint32_t begin, uint32_t count,
                              seam_error *err) {
    (void)err;
    world *const w = user;
    assert_true(count >= 1 && count <= SEAM_AUDIT_PIECE_ROWS && begin + count <= w->count);
    memcpy(ret_rows, w->table[begin], (size_t)count * sizeof w->table[0]);
    w->reads++;
    return SEAM_OK;
}

static seam_status table_fail(float *ret_rows, void *user, uint32_t begin, uint32_t count,
                              seam_error *err) {
    (void)ret_rows, (void)user, (void)begin, (void)count;
    return seam_error_set(err, SEAM_E_IO, "no table");
}

static seam_audit_table table_of(world *w) {
    return (seam_audit_table){.count = w->count, .channels = C, .read = table_read, .user = w};
}

static int setup(void **state) {
    world *const w = calloc(1, sizeof *w);
    const seam_backend_options options = {.device = "cpu", .act = SEAM_F32, .threads = 1};
    assert_int_equal(seam_backend_create(&w->backend, &options, NULL), SEAM_OK);
    drawn = 5;
    w->count = V;
    for (uint32_t j = 0; j < V; j++) {
        for (uint32_t c = 0; c < C; c++) {
            w->table[j][c] = normal();
        }
    }
    for (uint32_t c = 0; c < C; c++) {
        w->norm[c] = 1.0f + 0.3f * normal();
    }
    *state = w;
    return 0;
}

static int teardown(void **state) {
    world *const w = *state;
    seam_backend_destroy(w->backend);
    free(w);
    return 0;
}

static void rows_draw(world *w, float scale, float noise) {
    for (uint32_t t = 0; t < T; t++) {
        w->truth[t] = draw() % w->count;
        for (uint32_t c = 0; c < C; c++) {
            w->x[t][c] = scale * w->table[w->truth[t]][c] + noise * normal();
        }
    }
}

static void search(world *w, bool cosine) {
    const seam_audit_table table = table_of(w);
    const seam_audit_rows rows = {.x = w->x[0], .rows = T, .cosine = cosine};
    assert_int_equal(seam_audit_search(w->guesses[0], w->backend, &table, &rows, NULL), SEAM_OK);
}

static uint32_t found(const world *w) {
    uint32_t count = 0;
    for (uint32_t t = 0; t < T; t++) {
        count += w->guesses[t][0] == w->truth[t];
    }
    return count;
}

static void test_search__noise__falls_from_all_to_chance(void **state) {
    world *const w = *state;
    rows_draw(w, 1.0f, 0.0f);
    search(w, false);
    assert_true(w->reads > 2);
    assert_int_equal(found(w), T);
    rows_draw(w, 1.0f, 0.2f);
    search(w, false);
    assert_int_equal(found(w), T);
    rows_draw(w, 1.0f, 1.0f);
    search(w, false);
    const uint32_t some = found(w);
    assert_true(some > T / 20 && some < T);
    rows_draw(w, 1.0f, 100.0f);
    search(w, false);
    assert_true(found(w) < T / 20);
}

static void test_search__five_guesses__the_nearest_in_order(void **state) {
    world *const w = *state;
    rows_draw(w, 1.0f, 1.0f);
    search(w, false);
    for (uint32_t t = 0; t < T; t++) {
        double last = 0.0;
        for (uint32_t k = 0; k < K; k++) {
            double mine = 0.0;
            uint32_t nearer = 0;
            for (uint32_t c = 0; c < C; c++) {
                mine += pow((double)w->x[t][c] - (double)w->table[w->guesses[t][k]][c], 2.0);
            }
            for (uint32_t j = 0; j < V; j++) {
                double other = 0.0;
                for (uint32_t c = 0; c < C; c++) {
                    other += pow((double)w->x[t][c] - (double)w->table[j][c], 2.0);
                }
                nearer += other < mine - 1e-3; /* f32 products */
            }
            assert_true(nearer <= k && mine >= last - 1e-3);
            last = mine;
        }
    }
}

/* Behind another length only the direction tells; rows that are zero are no guess. */
static void test_search__cosine__any_length(void **state) {
    world *const w = *state;
    memset(w->table[3], 0, sizeof w->table[3]);
    rows_draw(w, 0.01f, 0.0f);
    search(w, true);
    for (uint32_t t = 0; t < T; t++) {
        assert_true(w->truth[t] == 3 || w->guesses[t][0] == w->truth[t]);
    }
    search(w, false);
    assert_true(found(w) < T / 20);
}

static void test_search__few_rows__no_more_guesses(void **state) {
    world *const w = *state;
    w->count = 3;
    rows_draw(w, 1.0f, 0.0f);
    search(w, false);
    assert_int_equal(found(w), T);
    memset(w->table[1], 0, sizeof w->table[1]);
    search(w, true);
    for (uint32_t t = 0; t < T; t++) {
        assert_true(w->guesses[t][1] < 3 && w->guesses[t][1] != 1);
        assert_int_equal(w->guesses[t][2], UINT32_MAX);
        assert_int_equal(w->guesses[t][K - 1], UINT32_MAX);
    }
}

static void test_search__table_fails__its_error(void **state) {
    world *const w = *state;
    seam_error err = {0};
    const seam_audit_table table = {.count = V, .channels = C, .read = table_fail, .user = w};
    const seam_audit_rows rows = {.x = w->x[0], .rows = T};
    assert_int_equal(seam_audit_search(w->guesses[0], w->backend, &table, &rows, &err), SEAM_E_IO);
    assert_string_equal(err.text, "no table");
}

static bool always(void) {
    return true;
}

static void test_search__stopped__cancelled(void **state) {
    world *const w = *state;
    seam_error err = {0};
    const seam_audit_table table = {
        .count = V, .channels = C, .read = table_fail, .user = w, .is_stopped = always};
    const seam_audit_rows rows = {.x = w->x[0], .rows = T};
    assert_int_equal(seam_audit_search(w->guesses[0], w->backend, &table, &rows, &err),
                     SEAM_E_CANCELLED);
    assert_string_equal(err.text, "interrupted");
}

/* ---- labels ---- */

/* J^T (sum_j p_j w_j - w_label) of loss -log softmax(W rmsnorm(y)) in double; the table holds norm
 * * w_j. */
static void gradient(double ret[C], const world *w, const float y[C], float eps, uint32_t label) {
    double logits[V], sum = 0.0, mean = 0.0, along = 0.0, d[C] = {0};
    for (uint32_t c = 0; c < C; c++) {
        mean += (double)y[c] * (double)y[c] / C;
    }
    const double rstd = 1.0 / sqrt(mean + (double)eps);
    for (uint32_t j = 0; j < V; j++) {
        logits[j] = 0.0;
        for (uint32_t c = 0; c < C; c++) {
            logits[j] += (double)w->table[j][c] * (double)y[c] * rstd;
        }
        sum += exp(logits[j]);
    }
    for (uint32_t j = 0; j < V; j++) {
        const double p = exp(logits[j]) / sum - (j == label ? 1.0 : 0.0);
        for (uint32_t c = 0; c < C; c++) {
            d[c] += p * (double)w->table[j][c];
        }
    }
    for (uint32_t c = 0; c < C; c++) {
        along += d[c] * (double)y[c];
    }
    for (uint32_t c = 0; c < C; c++) {
        ret[c] = rstd * d[c] - (double)y[c] * rstd * rstd * rstd * along / C;
    }
}

/* Labels that the gradients of rows y give, with noise of this size in units of their own. */
static uint32_t labels_found(world *w, float noise) {
    static float y[T][C], difference[T][C], x[T][C], across[T][C], weight[T], lost[T];
    const float eps = 0.1f;
    for (uint32_t t = 0; t < T; t++) {
        double given[C], chosen[C], square = 0.0;
        w->truth[t] = draw() % V;
        for (uint32_t c = 0; c < C; c++) {
            y[t][c] = 0.2f * normal();
        }
        gradient(given, w, y[t], eps, w->truth[t]);
        gradient(chosen, w, y[t], eps, 7);
        for (uint32_t c = 0; c < C; c++) {
            square += given[c] * given[c] / C;
        }
        for (uint32_t c = 0; c < C; c++) {
            difference[t][c] =
                (float)(chosen[c] - given[c] - (double)noise * sqrt(square) * (double)normal());
        }
    }
    const seam_audit_gradients gradients = {.y = y[0],
                                            .difference = difference[0],
                                            .chosen = w->table[7],
                                            .rows = T,
                                            .channels = C,
                                            .rms_eps = eps};
    seam_audit_gradient_rows(x[0], across[0], weight, lost, &gradients);
    const seam_audit_table table = table_of(w);
    const seam_audit_rows rows = {
        .x = x[0], .rows = T, .weight = weight, .across = across[0], .lost = lost};
    assert_int_equal(seam_audit_search(w->guesses[0], w->backend, &table, &rows, NULL), SEAM_OK);
    return found(w);
}

static void test_gradient_rows__softmax_behind_a_norm__the_label(void **state) {
    world *const w = *state;
    for (uint32_t j = 0; j < V;
         j++) { /* rows of very different length: the nearest, not the longest */
        for (uint32_t c = 0; c < C; c++) {
            w->table[j][c] *= w->norm[c] * (0.3f + (float)(j % 10) / 5.0f);
        }
    }
    assert_int_equal(labels_found(w, 0.0f), T);
    assert_true(labels_found(w, 0.1f) > T * 9 / 10);
    assert_true(labels_found(w, 30.0f) < T / 20);
}

/* Weight 0 leaves the product: the token that the model itself thinks likeliest. */
static void test_search__weight_zero__largest_product(void **state) {
    world *const w = *state;
    static float weight[T];
    rows_draw(w, 1.0f, 0.5f);
    const seam_audit_table table = table_of(w);
    const seam_audit_rows rows = {.x = w->x[0], .rows = T, .weight = weight};
    assert_int_equal(seam_audit_search(w->guesses[0], w->backend, &table, &rows, NULL), SEAM_OK);
    for (uint32_t t = 0; t < T; t++) {
        double best = -1e30, mine = 0.0;
        for (uint32_t j = 0; j < V; j++) {
            double product = 0.0;
            for (uint32_t c = 0; c < C; c++) {
                product += (double)w->x[t][c] * (double)w->table[j][c];
            }
            best = product > best ? product : best;
            mine = j == w->guesses[t][0] ? product : mine;
        }
        assert_true(mine > best - 1e-3);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_search__noise__falls_from_all_to_chance, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_search__five_guesses__the_nearest_in_order, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_search__cosine__any_length, setup, teardown),
        cmocka_unit_test_setup_teardown(test_search__few_rows__no_more_guesses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_search__table_fails__its_error, setup, teardown),
        cmocka_unit_test_setup_teardown(test_search__weight_zero__largest_product, setup, teardown),
        cmocka_unit_test_setup_teardown(test_search__stopped__cancelled, setup, teardown),
        cmocka_unit_test_setup_teardown(test_search__weight_zero__largest_product, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gradient_rows__softmax_behind_a_norm__the_label, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
