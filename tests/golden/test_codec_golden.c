/* Goal: kernels/codec gives what the NumPy oracle (tests/oracle/wire_numpy) gives.
 * Method: committed vectors.  Range blocks, codes and decoded values identical; gate gradients
 * within 1e-4 relative; widths of 100-step trajectories within 1e-3 bit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arena.h"
#include "codec_record.h"
#include "gates.h"

static FILE *golden_open(const char *name) {
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/tests/golden/%s", SEAM_SOURCE_DIR, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    return file;
}

/* 1e-4 relative; 1e-7 of the largest for sums that cancel; subnormals are not told apart. */
static void gradient_compare(const float *got, const float *expected, uint32_t channels) {
    float largest = 0.0f;
    for (uint32_t c = 0; c < channels; c++) {
        largest = isfinite(expected[c]) ? fmaxf(largest, fabsf(expected[c])) : largest;
    }
    for (uint32_t c = 0; c < channels; c++) {
        const float bound = 1e-4f * fabsf(expected[c]) + 1e-7f * largest + 0x1p-126f;
        const bool same = got[c] == expected[c]; /* both may be infinite at extreme scales */
        assert_true(same || fabsf(got[c] - expected[c]) <= bound);
    }
}

static void test_vectors__numpy__identical(void **state) {
    (void)state;
    FILE *file = golden_open("codec_vectors.bin");
    char magic[8];
    assert_int_equal(fread(magic, 1, sizeof magic, file), sizeof magic);
    assert_memory_equal(magic, "SEAMREC1", sizeof magic);
    const uint32_t count = word_read(file);
    assert_in_range(count, 50, 1000);
    for (uint32_t i = 0; i < count; i++) {
        codec_record record;
        codec_answer expected, got;
        codec_record_read(&record, file);
        codec_answer_read(&expected, &record, file);
        assert_int_equal(codec_record_answer(&got, &record), SEAM_OK);
        assert_memory_equal(got.ranges, expected.ranges, got.ranges_bytes);
        assert_memory_equal(got.codes, expected.codes, got.codes_bytes);
        assert_memory_equal(got.decoded, expected.decoded,
                            (size_t)record.rows * record.args.channels * sizeof(float));
        gradient_compare(got.exact, expected.exact, record.args.channels);
        gradient_compare(got.surrogate, expected.surrogate, record.args.channels);
        codec_answer_free(&got);
        codec_answer_free(&expected);
        codec_record_free(&record);
    }
    assert_int_equal(fgetc(file), EOF);
    (void)fclose(file);
}

/* ---- trajectories: codec_cases.py, trajectory() ---- */

enum { ROWS = 24, C = 12, STEPS = 100 };

static void trajectory_inputs(float *ret, uint32_t step) {
    const uint32_t key[2] = {1, 2};
    for (uint32_t t = 0; t < ROWS; t++) {
        for (uint32_t c = 0; c < C; c++) {
            const uint32_t counter[4] = {c, t, step, 0x5ea4};
            uint32_t words[4];
            seam_philox(words, counter, key);
            double sum = 0.0;
            for (int i = 0; i < 3; i++) {
                sum += (words[i] >> 8) * 0x1p-24;
            }
            ret[t * C + c] = (float)sum * ldexpf(1.0f, (int)(c % 6) - 3);
        }
    }
}

/* dL/db of one step under the given widths. */
static void trajectory_gradient(float *ret_db, const uint8_t *widths, uint32_t step, bool surrogate,
                                void *scratch) {
    static float x[ROWS * C], decoded[ROWS * C], g[ROWS * C], sums[C], steps[C];
    static uint8_t ranges[4 + 4 * C], codes[ROWS * C * 2];
    const seam_rounding nearest = {.stochastic = false};
    const seam_codec_args args = {SEAM_CODEC_AMAQ, C, widths, ranges};
    trajectory_inputs(x, step);
    assert_int_equal(seam_codec_measure(ranges, SEAM_CODEC_AMAQ, x, ROWS, C, NULL), SEAM_OK);
    assert_int_equal(seam_codec_encode(codes, decoded, &args, x, ROWS, &nearest, scratch), SEAM_OK);
    assert_int_equal(seam_codec_steps(steps, &args), SEAM_OK);
    for (uint32_t i = 0; i < ROWS * C; i++) {
        const float weight = ldexpf(1.0f, 2 * (int)(i % C % 3) + 2);
        g[i] = weight * (decoded[i] - x[i]) / (float)ROWS;
    }
    memset(ret_db, 0, C * sizeof *ret_db);
    memset(sums, 0, sizeof sums);
    if (surrogate) {
        seam_gates_add_squares(sums, g, ROWS, C);
        seam_gates_surrogate(ret_db, sums, steps, widths, ROWS, C);
    } else {
        seam_gates_add_exact(ret_db, g, x, decoded, widths, ROWS, C);
    }
}

static void trajectory_run(FILE *file, void *scratch) {
    const uint32_t target = word_read(file), surrogate = word_read(file), loss = word_read(file);
    float rates[2]; /* lr, beta */
    words_read(rates, 2, file);
    seam_gates_config config;
    assert_true(seam_gates_preset(&config, (float)target));
    config.loss = (seam_bits_loss)loss;
    seam_gates gates;
    assert_int_equal(seam_gates_init(&gates, &config, C), SEAM_OK);
    for (uint32_t step = 0; step < STEPS; step++) {
        uint8_t widths[C], expected_widths[C];
        float db[C], bits[C], expected_bits[C];
        assert_int_equal(fread(expected_widths, 1, C, file), C);
        words_read(expected_bits, C, file);
        seam_gates_widths(widths, &gates, 0.0f);
        assert_memory_equal(widths, expected_widths, C);
        uint32_t total = 0;
        for (uint32_t c = 0; c < C; c++) {
            total += widths[c];
        }
        trajectory_gradient(db, widths, step, surrogate != 0, scratch);
        seam_gates_step(&gates,
                        &(seam_gates_step_args){db, rates[0], rates[1], total > target * C, false});
        seam_gates_bits(bits, &gates);
        for (uint32_t c = 0; c < C; c++) {
            assert_true(fabsf(bits[c] - expected_bits[c]) < 1e-3f);
        }
    }
    seam_gates_deinit(&gates);
}

static void test_trajectories__numpy__within_a_thousandth_bit(void **state) {
    (void)state;
    FILE *file = golden_open("codec_trajectory.bin");
    void *scratch = seam_mem_alloc_aligned(seam_codec_scratch_bytes(C));
    assert_non_null(scratch);
    const uint32_t count = word_read(file);
    assert_int_equal(count, 2);
    for (uint32_t i = 0; i < count; i++) {
        trajectory_run(file, scratch);
    }
    assert_int_equal(fgetc(file), EOF);
    seam_mem_free(scratch);
    (void)fclose(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors__numpy__identical),
        cmocka_unit_test(test_trajectories__numpy__within_a_thousandth_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
