/* Goal: waterfill.h follows SPEC 3.1: averages, totals over sites, widths that meet a total within
 * bounds, defined results for channels never seen, exact state.
 * Method: averages and costs in double here; optimality by exchanging bits between channels; known
 * solutions; every saved byte. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arena.h"
#include "bytes.h"
#include "codec_fixture.h"
#include "waterfill.h"
#include "widths.h"

enum { C = 97 };

static uint32_t total_of(const uint8_t *widths, uint32_t channels) {
    uint32_t total = 0;
    for (uint32_t c = 0; c < channels; c++) {
        total += widths[c];
    }
    return total;
}

static float spread(uint64_t *seed, double decades) { /* 10^(+-decades) */
    return (float)pow(10.0, decades * (double)fixture_normal(seed));
}

/* One update with costs over many orders of magnitude. */
static seam_waterfill filled(uint32_t channels, uint64_t seed) {
    seam_waterfill fill;
    float *squares = test_malloc(channels * sizeof *squares);
    float *spans = test_malloc(channels * sizeof *spans);
    assert_int_equal(seam_waterfill_init(&fill, channels), SEAM_OK);
    for (uint32_t c = 0; c < channels; c++) {
        squares[c] = 1e-9f * spread(&seed, 1.0);
        spans[c] = spread(&seed, 0.3);
    }
    const seam_waterfill_update_args args = {
        .squares = squares, .rows = 100, .spans = spans, .micros = 1};
    seam_waterfill_update(&fill, &args);
    test_free(squares);
    test_free(spans);
    return fill;
}

static void test_update__eleven_steps__mean_then_decay(void **state) {
    (void)state;
    seam_waterfill fill;
    assert_int_equal(seam_waterfill_init(&fill, 2), SEAM_OK);
    double weight = 0.0, span = 0.0;
    for (uint32_t n = 1; n <= 30; n++) {
        const float squares[2] = {(float)n, NAN}, spans[2] = {3.0f * (float)n, -1.0f};
        const seam_waterfill_update_args args = {squares, 5, spans, 3};
        seam_waterfill_update(&fill, &args);
        const double rate = fmax(0.1, 1.0 / n);
        weight += rate * (n / 5.0 - weight);
        span += rate * (n - span);
        assert_true(fabs((double)fill.weights[0] / weight - 1.0) < 1e-5);
        assert_true(fabs((double)fill.spans[0] / span - 1.0) < 1e-5);
    }
    assert_true(fill.weights[1] == 0.0f && fill.spans[1] == 0.0f); /* not finite, negative */
    assert_int_equal(fill.step, 30);
    uint32_t live = 9;
    const double sum = seam_waterfill_sum(&live, &fill);
    assert_int_equal(live, 1);
    assert_true(fabs(sum - (0.5 * log2(weight) + log2(span))) < 1e-5);
    seam_waterfill_deinit(&fill);
    assert_null(fill.weights);
}

static void test_init__no_memory__error(void **state) {
    (void)state;
    seam_waterfill fill;
    seam_mem_fail_after(0);
    assert_int_equal(seam_waterfill_init(&fill, 4), SEAM_E_MEMORY);
    seam_mem_fail_after(-1);
}

static void test_add_spans__steps_and_widths__the_range(void **state) {
    (void)state;
    const float steps[3] = {0.5f, 0.0f, 2.0f};
    const uint8_t widths[3] = {1, 8, 3};
    float sums[3] = {1.0f, 0.0f, 0.0f};
    seam_waterfill_add_spans(sums, steps, widths, 3);
    assert_true(sums[0] == 1.5f && sums[1] == 0.0f && sums[2] == 14.0f);
}

/* Powers of four apart in cost are one bit apart; no bound is touched. */
static void test_widths__costs_a_bit_apart__a_bit_apart(void **state) {
    (void)state;
    seam_waterfill fill;
    assert_int_equal(seam_waterfill_init(&fill, 3), SEAM_OK);
    const float squares[3] = {1.0f, 0.25f, 1.0f}, spans[3] = {1.0f, 1.0f, 0.25f};
    const seam_waterfill_update_args args = {squares, 1, spans, 1};
    seam_waterfill_update(&fill, &args);
    uint8_t widths[3];
    seam_waterfill_widths(widths, &fill, 12, 1, 16);
    assert_int_equal(widths[0], 5);
    assert_int_equal(widths[1], 4);
    assert_int_equal(widths[2], 3);
    seam_waterfill_deinit(&fill);
}

static double distortion(const seam_waterfill *fill, const uint8_t *widths) {
    double sum = 0.0;
    for (uint32_t c = 0; c < fill->channels; c++) {
        const double span = fill->spans[c];
        sum += (double)fill->weights[c] * span * span * exp2(-2.0 * widths[c]);
    }
    return sum;
}

/* Every total that the bounds allow is met, and moving a bit from one channel to another gains
 * nothing beyond what rounding to whole bits costs. */
static void test_widths__every_total__met_within_bounds(void **state) {
    (void)state;
    seam_waterfill fill = filled(C, 7);
    uint8_t widths[C];
    for (uint32_t total = 2 * C; total <= 9 * C; total++) {
        seam_waterfill_widths(widths, &fill, total, 2, 9);
        assert_int_equal(total_of(widths, C), total);
        for (uint32_t c = 0; c < C; c++) {
            assert_in_range(widths[c], 2, 9);
        }
    }
    seam_waterfill_widths(widths, &fill, C, 2, 9); /* less than the bounds allow */
    assert_int_equal(total_of(widths, C), 2 * C);
    seam_waterfill_widths(widths, &fill, 20 * C, 2, 9);
    assert_int_equal(total_of(widths, C), 9 * C);
    seam_waterfill_deinit(&fill);
}

static void test_widths__bits_exchanged__never_better_by_much(void **state) {
    (void)state;
    seam_waterfill fill = filled(C, 11);
    uint8_t widths[C], uniform[C];
    seam_waterfill_widths(widths, &fill, 4 * C, 1, 16);
    memset(uniform, 4, C);
    const double best = distortion(&fill, widths);
    assert_true(best < 0.5 * distortion(&fill, uniform)); /* it is what the method is for */
    for (uint32_t from = 0; from < C; from++) {
        for (uint32_t to = 0; to < C; to++) {
            if (from != to && widths[from] > 1 && widths[to] < 16) {
                widths[from]--;
                widths[to]++;
                /* Two channels at the water level half a bit off each: 4 against 2 + 1/2. */
                assert_true(distortion(&fill, widths) > best * (1.0 - 2.0 / C));
                widths[from]++;
                widths[to]--;
            }
        }
    }
    seam_waterfill_deinit(&fill);
}

static void test_widths__channels_never_seen__least_width(void **state) {
    (void)state;
    seam_waterfill fill = filled(C, 3);
    uint8_t widths[C];
    fill.weights[5] = 0.0f;
    fill.spans[6] = 0.0f;
    fill.weights[7] = 0x1p-149f; /* the least that counts */
    seam_waterfill_widths(widths, &fill, 4 * C, 2, 8);
    assert_int_equal(total_of(widths, C), 4 * C);
    assert_int_equal(widths[5], 2);
    assert_int_equal(widths[6], 2);
    assert_int_equal(widths[7], 2);
    memset(fill.weights, 0, C * sizeof *fill.weights); /* none at all: the mean for each */
    seam_waterfill_widths(widths, &fill, 4 * C + 1, 2, 8);
    for (uint32_t c = 0; c < C; c++) {
        assert_int_equal(widths[c], c == 0 ? 5 : 4);
    }
    seam_waterfill_deinit(&fill);
}

static void test_totals__two_sites__one_level_and_the_mean(void **state) {
    (void)state;
    /* Site 1 costs two bits a channel more; twice the rows at site 0. */
    seam_waterfill_share shares[2] = {
        {2000, 2000, .channels = 100, .live = 100, .sum = -300, .bits_min = 1, .bits_max = 16},
        {1000, 1000, .channels = 100, .live = 100, .sum = -100, .bits_min = 1, .bits_max = 16},
    };
    uint32_t totals[2];
    seam_waterfill_totals(totals, shares, 2, 4.0);
    assert_int_equal(totals[0], 333); /* 4 - 2/3, 4 + 4/3 */
    assert_int_equal(totals[1], 533);
    shares[1].bits_max = 5; /* what site 1 may not take, site 0 gets */
    seam_waterfill_totals(totals, shares, 2, 4.0);
    assert_int_equal(totals[0], 350);
    assert_int_equal(totals[1], 500);
    shares[0].live = 50; /* the dead half has one bit */
    shares[0].sum = -150;
    seam_waterfill_totals(totals, shares, 2, 4.0);
    assert_int_equal(totals[0], 350);
    assert_int_equal(totals[1], 500);
    shares[1].live = 0; /* no opinion: the mean */
    shares[1].sum = 0;
    seam_waterfill_totals(totals, shares, 2, 4.0);
    assert_int_equal(totals[0], 400);
    assert_int_equal(totals[1], 400);
    seam_waterfill_totals(totals, shares, 2, 20.0); /* beyond every bound */
    assert_int_equal(totals[0], 50 * 16 + 50);
    seam_waterfill_totals(totals, &shares[0], 1, 3.25);
    assert_int_equal(totals[0], 325);
}

static void test_totals__rows_that_repeat__more_bits_for_what_is_sent(void **state) {
    (void)state;
    /* The same cost a row; each row that site 0 sends stands for 16: two bits more. */
    seam_waterfill_share shares[2] = {
        {1000, 16000, .channels = 100, .live = 100, .sum = -300, .bits_min = 1, .bits_max = 16},
        {3000, 3000, .channels = 100, .live = 100, .sum = -300, .bits_min = 1, .bits_max = 16},
    };
    uint32_t totals[2];
    seam_waterfill_totals(totals, shares, 2, 4.0);
    assert_int_equal(totals[0], 550);
    assert_int_equal(totals[1], 350);
    shares[0].live = 0; /* no opinion, however often its rows repeat */
    shares[0].sum = 0;
    seam_waterfill_totals(totals, shares, 2, 4.0);
    assert_int_equal(totals[0], 400);
    assert_int_equal(totals[1], 400);
}

/* Nudging a bit from one site's sent values to the other's must not lower the error of all rows. */
static void test_totals__rows_that_repeat__least_error_for_the_bits(void **state) {
    (void)state;
    const double costs[2] = {-3.0, -1.5}, rows[2] = {1500, 1000}, sent[2] = {250, 1000};
    seam_waterfill_share shares[2];
    double errors[3] = {0};
    uint32_t totals[2];
    for (uint32_t k = 0; k < 2; k++) {
        shares[k] = (seam_waterfill_share){.values = (uint64_t)sent[k] * 1000,
                                           .values_used = (uint64_t)rows[k] * 1000,
                                           .channels = 1000,
                                           .live = 1000,
                                           .sum = 1000 * costs[k],
                                           .bits_min = 1,
                                           .bits_max = 16};
    }
    seam_waterfill_totals(totals, shares, 2, 4.0);
    const double bits = sent[0] * (double)totals[0] + sent[1] * (double)totals[1];
    assert_true(fabs(bits / 1250e3 - 4.0) < 1e-3);
    for (int nudge = -1; nudge <= 1; nudge++) {
        for (uint32_t k = 0; k < 2; k++) {
            const double moved = 0.02 * nudge * (k == 0 ? 1.0 : -sent[0] / sent[1]);
            const double width = (double)totals[k] / 1e3 + moved;
            errors[nudge + 1] += rows[k] * exp2(2.0 * (costs[k] - width));
        }
    }
    assert_true(errors[1] < errors[0]);
    assert_true(errors[1] < errors[2]);
}

static void test_widths_round__ties_and_whole__lowest_first(void **state) {
    (void)state;
    const float bits[6] = {3.0f, 2.5f, 2.5f, 4.0f, 2.25f, 1.75f};
    uint8_t widths[6];
    seam_widths_round(widths, bits, 6); /* sum 16 */
    const uint8_t expected[6] = {3, 3, 2, 4, 2, 2};
    assert_memory_equal(widths, expected, 6);
    assert_int_equal(seam_widths_total(bits, 6), 16);
}

static void test_state__saved_and_loaded__same_and_checked(void **state) {
    (void)state;
    seam_waterfill fill = filled(C, 5), other;
    uint8_t bytes[8 + 8 * C], again[8 + 8 * C];
    assert_int_equal(seam_waterfill_state_bytes(C), sizeof bytes);
    seam_waterfill_save(bytes, &fill);
    assert_int_equal(seam_waterfill_init(&other, C), SEAM_OK);
    assert_int_equal(seam_waterfill_load(&other, bytes, sizeof bytes), SEAM_OK);
    seam_waterfill_save(again, &other);
    assert_memory_equal(bytes, again, sizeof bytes);
    assert_int_equal(other.step, 1);
    assert_int_equal(seam_waterfill_load(&other, bytes, sizeof bytes - 1), SEAM_E_FORMAT);
    for (uint32_t i = 0; i < 2 * C; i++) {
        uint8_t broken[sizeof bytes];
        memcpy(broken, bytes, sizeof bytes);
        seam_put_f32(broken + 8 + 4 * (size_t)i, i % 2 == 0 ? NAN : INFINITY);
        assert_int_equal(seam_waterfill_load(&other, broken, sizeof broken), SEAM_E_NONFINITE);
        seam_put_f32(broken + 8 + 4 * (size_t)i, -1.0f);
        assert_int_equal(seam_waterfill_load(&other, broken, sizeof broken), SEAM_E_FORMAT);
    }
    seam_waterfill_save(again, &other);
    assert_memory_equal(bytes, again, sizeof bytes); /* refused bytes change nothing */
    seam_waterfill_deinit(&fill);
    seam_waterfill_deinit(&other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_update__eleven_steps__mean_then_decay),
        cmocka_unit_test(test_init__no_memory__error),
        cmocka_unit_test(test_add_spans__steps_and_widths__the_range),
        cmocka_unit_test(test_widths__costs_a_bit_apart__a_bit_apart),
        cmocka_unit_test(test_widths__every_total__met_within_bounds),
        cmocka_unit_test(test_widths__bits_exchanged__never_better_by_much),
        cmocka_unit_test(test_widths__channels_never_seen__least_width),
        cmocka_unit_test(test_totals__two_sites__one_level_and_the_mean),
        cmocka_unit_test(test_totals__rows_that_repeat__more_bits_for_what_is_sent),
        cmocka_unit_test(test_totals__rows_that_repeat__least_error_for_the_bits),
        cmocka_unit_test(test_widths_round__ties_and_whole__lowest_first),
        cmocka_unit_test(test_state__saved_and_loaded__same_and_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
