/* Goal: the gates of codec amaq_token get the gradients of the loss, and a price by their rows.
 * Method: sums against double loops over the formulas of WIRE.md 3.7; the exact gradient against
 * finite differences of a squared error; one step of weighted gates. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "bytes.h"
#include "codec_fixture.h"
#include "coder.h"
#include "token_gates.h"

static void test_gates_fill__samples__places_capped(void **state) {
    (void)state;
    static const uint32_t sequences[] = {3, 1, 5};
    static const uint8_t labelled[] = {0x5a, 0x01}; /* rows 1, 3, 4, 6, 8 */
    static const uint32_t all[] = {0, 1, 2, 0, 0, 1, 2, 3, 3}, some[] = {1, 0, 0, 2, 3};
    uint32_t gates[9];
    seam_token_gates_fill(gates, sequences, 3, NULL, 4);
    assert_memory_equal(gates, all, sizeof all);
    seam_token_gates_fill(gates, sequences, 3, labelled, 4);
    assert_memory_equal(gates, some, sizeof some);
    seam_token_gates_fill(gates, sequences, 3, NULL, 1);
    for (uint32_t t = 0; t < 9; t++) {
        assert_int_equal(gates[t], 0);
    }
}

static double kappa(uint8_t width) {
    return ldexp(1, width) / (ldexp(1, width) - 1);
}

static void test_add__sums__formulas_of_wire(void **state) {
    (void)state;
    enum { ROWS = 9, C = 37, P = 4 };
    static const uint32_t gates[ROWS] = {0, 1, 2, 0, 0, 1, 2, 3, 3};
    static const uint8_t widths[P] = {3, 7, 1, 12};
    static float g[ROWS * C], x[ROWS * C], decoded[ROWS * C], steps[ROWS];
    float exact[P] = {1, 2, 3, 4}, surrogate[P] = {5, 6, 7, 8};
    double want_exact[P] = {1, 2, 3, 4}, want_surrogate[P] = {5, 6, 7, 8};
    fixture_tensor(g, ROWS, C, 1);
    fixture_tensor(x, ROWS, C, 2);
    fixture_tensor(decoded, ROWS, C, 3);
    for (uint32_t t = 0; t < ROWS; t++) {
        steps[t] = 0.1f + 0.05f * (float)t;
        double errors = 0, squares = 0;
        for (uint32_t c = 0; c < C; c++) {
            const uint32_t at = t * C + c;
            errors += (double)g[at] * ((double)decoded[at] - (double)x[at]);
            squares += (double)g[at] * (double)g[at];
        }
        const double ln2 = log(2), k = kappa(widths[gates[t]]), D = (double)steps[t];
        want_exact[gates[t]] -= ln2 * k * errors;
        want_surrogate[gates[t]] -= ln2 / 12 * 50 * k * D * D * squares;
    }
    const seam_token_rows rows = {gates, ROWS, C};
    seam_token_gates_add_exact(exact, &rows, g, x, decoded, widths);
    seam_token_gates_add_surrogate(surrogate, &rows, g, steps, widths, 50);
    for (uint32_t p = 0; p < P; p++) { /* a few f32 additions */
        assert_true(fabs((double)exact[p] - want_exact[p]) <= 1e-5 * (1 + fabs(want_exact[p])));
        assert_true(fabs((double)surrogate[p] - want_surrogate[p]) <=
                    1e-5 * (1 + fabs(want_surrogate[p])));
    }
}

/* Squared error of a row on a grid of 2^bits - 1 levels, bits any real: what a gate moves. */
static double real_width_loss(const float *x, uint32_t count, double lo, double hi, double bits) {
    const double levels = exp2(bits) - 1, step = (hi - lo) / levels;
    double loss = 0;
    for (uint32_t c = 0; c < count; c++) {
        double q = rint(((double)x[c] - lo) / step);
        q = fmin(fmax(q, 0), levels);
        const double error = lo + q * step - (double)x[c];
        loss += error * error;
    }
    return loss;
}

/* Two positions, many rows each: the gradient of a gate is that of its own rows. */
static void test_add_exact__squared_error__within_3_percent_of_differences(void **state) {
    (void)state;
    enum { ROWS = 64, C = 2500, VALUES = ROWS * C };
    float *x = test_malloc(VALUES * sizeof *x), *decoded = test_malloc(VALUES * sizeof *x);
    float *g = test_malloc(VALUES * sizeof *x);
    uint32_t gates[ROWS];
    uint64_t seed = 12345;
    for (size_t v = 0; v < VALUES; v++) {
        x[v] = fixture_normal(&seed) * (float)(1 + v / C % 5);
    }
    for (uint32_t t = 0; t < ROWS; t++) {
        gates[t] = t % 3 == 1;
    }
    const seam_coder_config config = {.codec = SEAM_CODEC_AMAQ_TOKEN,
                                      .channels = C,
                                      .rows_max = ROWS,
                                      .state_rows_max = ROWS,
                                      .bits_max = 16};
    seam_coder *coder = NULL;
    assert_int_equal(seam_coder_create(&coder, &config), SEAM_OK);
    const size_t capacity = seam_coder_bytes_max(&config, ROWS);
    uint8_t *payload = test_malloc(capacity);
    for (uint8_t width = 3; width <= 7; width++) {
        uint8_t widths[] = {width, (uint8_t)(width + 1)};
        const seam_alloc alloc = {.widths = widths, .bits_total = 2u * width + 1};
        const seam_coder_encode_args args = {.tensor = {.codec = SEAM_CODEC_AMAQ_TOKEN,
                                                        .alloc = &alloc,
                                                        .rows = ROWS,
                                                        .row_gates = gates},
                                             .x = x};
        seam_coder_chunk chunk;
        assert_int_equal(seam_coder_encode_begin(coder, &args), SEAM_OK);
        assert_int_equal(seam_coder_encode_chunk(&chunk, payload, capacity, decoded, coder),
                         SEAM_OK);
        assert_int_equal(chunk.row_count, ROWS);
        for (size_t v = 0; v < VALUES; v++) {
            g[v] = 2.0f * (decoded[v] - x[v]);
        }
        float db[2] = {0};
        double difference[2] = {0};
        const seam_token_rows rows = {gates, ROWS, C};
        seam_token_gates_add_exact(db, &rows, g, x, decoded, widths);
        for (uint32_t t = 0; t < ROWS; t++) {
            const double unit = ldexp(1, (int16_t)seam_get_u16(payload));
            const double lo = (double)seam_fp16_to_f32(seam_get_u16(payload + 4 + 4 * t)) * unit;
            const double hi = (double)seam_fp16_to_f32(seam_get_u16(payload + 6 + 4 * t)) * unit;
            const float *row = x + (size_t)t * C;
            const double own = widths[gates[t]];
            difference[gates[t]] += (real_width_loss(row, C, lo, hi, own + 0.15) -
                                     real_width_loss(row, C, lo, hi, own - 0.15)) /
                                    0.3;
        }
        for (uint32_t p = 0; p < 2; p++) {
            assert_true(fabs((double)db[p] / difference[p] - 1.0) < 0.03);
        }
    }
    seam_coder_destroy(coder);
    test_free(payload);
    test_free(g);
    test_free(decoded);
    test_free(x);
}

/* Weights: the mean and the price of a gate go by its rows; one without rows has neither. */
static void test_weights__unequal_rows__mean_and_bits_loss_follow(void **state) {
    (void)state;
    enum { P = 3 };
    static const uint32_t at[] = {0, 0, 0, 1, 0};
    static const uint8_t labelled[] = {0x0f};
    uint32_t counts[P] = {0};
    float weights[P];
    const seam_token_rows rows = {at, 5, 1};
    seam_token_gates_add_counts(counts, &rows, labelled);
    assert_true(counts[0] == 3 && counts[1] == 1 && counts[2] == 0);
    const uint32_t many[P] = {1u << 26, (1u << 26) + 1, 0}; /* more than f32 counts to */
    seam_token_gates_weigh(weights, many, P);
    assert_true(fabsf(weights[0] - 0.5f) < 1e-6f && fabsf(weights[1] - 0.5f) < 1e-6f);
    seam_token_gates_weigh(weights, counts, P);
    assert_true(weights[0] == 0.75f && weights[1] == 0.25f && weights[2] == 0.0f);
    seam_gates gates;
    seam_gates_config config;
    assert_true(seam_gates_preset(&config, 4.0f));
    assert_int_equal(seam_gates_init(&gates, &config, P), SEAM_OK);
    gates.weights = weights;
    gates.q[1] = 1.0f;
    gates.q[2] = 5.0f;
    float bits[P];
    seam_gates_bits(bits, &gates);
    assert_true(fabs(seam_token_gates_mean(&gates) - 0.75 * (double)bits[0] -
                     0.25 * (double)bits[1]) < 1e-6);
    const float db[P] = {0};
    const float before = gates.q[2];
    const seam_gates_step_args args = {
        .db = db, .lr = 0.1f, .beta = 1.0f, .bits_loss_active = true};
    seam_gates_step(&gates, &args);
    /* m = 0.1 * weight * 2b * db/dQ */
    for (uint32_t p = 0; p < P; p++) {
        const double slope = ((double)bits[p] - 1) * (16 - (double)bits[p]) / 15;
        const double want = 0.1 * (double)weights[p] * 2 * (double)bits[p] * slope;
        assert_true(fabs((double)gates.m[p] - want) <= 1e-5 * want);
    }
    assert_true(gates.q[2] == before);
    seam_gates_deinit(&gates);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gates_fill__samples__places_capped),
        cmocka_unit_test(test_add__sums__formulas_of_wire),
        cmocka_unit_test(test_add_exact__squared_error__within_3_percent_of_differences),
        cmocka_unit_test(test_weights__unequal_rows__mean_and_bits_loss_follow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
