/* Goal: codec amaq_token is what WIRE.md 3.7 says for every shape and width, its decoder takes no
 * byte for another, and its gates' gradients are those of the loss. Method: each tensor against a
 * slow coder written here from that text, one value at a time; every truncation and every flipped
 * bit of a payload; sums of the gates against double loops and finite differences. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "codec_fixture.h"
#include "coder.h"
#include "slow_parts.h"
#include "token_gates.h"

enum { ROWS_MAX = 80, C_MAX = 140, VALUES_MAX = ROWS_MAX * C_MAX, GATES = 16 };

/* One tensor of one chunk; samples of up to 21 rows, gates of all widths. */
typedef struct bench {
    uint32_t rows, channels;
    const uint8_t *range_rows;
    seam_rounding rounding;
    uint8_t widths[GATES];
    uint32_t gates[ROWS_MAX];
    float x[VALUES_MAX], decoded[VALUES_MAX], again[VALUES_MAX], steps[ROWS_MAX];
    uint8_t payload[4 * VALUES_MAX];
    seam_coder_chunk chunk;
    seam_error err;
} bench;

static bench b; /* large */

static void set_up(uint32_t rows, uint32_t channels) {
    memset(&b, 0, sizeof b);
    b.rows = rows;
    b.channels = channels;
    uint32_t sequences[ROWS_MAX] = {0}, count = 0;
    for (uint32_t left = rows; left > 0; left -= sequences[count++]) {
        sequences[count] = left < 21 - 4 * count ? left : 21 - 4 * count;
    }
    seam_token_gates_fill(b.gates, sequences, count, NULL, GATES);
    for (uint32_t p = 0; p < GATES; p++) {
        b.widths[p] = (uint8_t)(1 + p * 7 % 16);
    }
    fixture_tensor(b.x, rows, channels, rows * 31u + channels);
}

static uint32_t bits_total(void) {
    uint32_t total = 0;
    for (uint32_t p = 0; p < GATES; p++) {
        total += b.widths[p];
    }
    return total;
}

/* Encodes, or (ret_decode) decodes from a block of its own: a sanitizer sees reads beyond it. */
static seam_status run(seam_status *ret_decode) {
    const seam_alloc alloc = {.widths = b.widths, .bits_total = bits_total()};
    const seam_coder_config config = {.codec = SEAM_CODEC_AMAQ_TOKEN,
                                      .channels = b.channels,
                                      .rows_max = b.rows,
                                      .state_rows_max = b.rows,
                                      .bits_max = SEAM_BITS_MAX};
    const seam_coder_encode_args args = {.tensor = {.codec = SEAM_CODEC_AMAQ_TOKEN,
                                                    .alloc = &alloc,
                                                    .rows = b.rows,
                                                    .range_rows = b.range_rows,
                                                    .row_gates = b.gates},
                                         .x = b.x,
                                         .rounding = b.rounding};
    seam_coder *coder = NULL;
    assert_int_equal(seam_coder_create(&coder, &config), SEAM_OK);
    seam_status st = SEAM_OK;
    if (ret_decode == NULL) {
        st = seam_coder_encode_begin(coder, &args);
        if (st == SEAM_OK) {
            st = seam_coder_encode_chunk(&b.chunk, b.payload, sizeof b.payload, b.decoded, coder);
        }
    } else {
        uint8_t *payload = test_malloc(b.chunk.payload_bytes + 1);
        memcpy(payload, b.payload, b.chunk.payload_bytes);
        b.err = (seam_error){0};
        seam_coder_decode_begin(coder, &args.tensor);
        *ret_decode = seam_coder_decode_chunk(b.again, coder, &b.chunk, payload, &b.err);
        assert_true((*ret_decode != SEAM_OK) == (b.err.text[0] != '\0'));
        st = *ret_decode;
        test_free(payload);
    }
    if (st == SEAM_OK) {
        assert_int_equal(seam_coder_steps(b.steps, coder), SEAM_OK);
    }
    seam_coder_destroy(coder);
    return st;
}

static seam_status encode(void) {
    return run(NULL);
}

static seam_status decode(void) {
    seam_status st = SEAM_OK;
    (void)run(&st);
    return st;
}

/* ---- the slow coder ---- */

static int exponent_of(void) {
    const double largest = slow_largest(b.x, b.range_rows, b.rows, b.channels);
    return largest > 0 ? (int)floor(log2(largest)) - 14 : 0;
}

/* The largest fp16 that is not above the value >= 0. */
static uint16_t fp16_below(double value) {
    const uint16_t above = slow_fp16_above(value);
    return (double)seam_fp16_to_f32(above) > value ? (uint16_t)(above - 1) : above;
}

static uint16_t bound_of(uint32_t row, bool hi) {
    double value = (double)b.x[row * b.channels];
    for (uint32_t c = 1; c < b.channels; c++) {
        const double own = (double)b.x[row * b.channels + c];
        value = hi ? fmax(value, own) : fmin(value, own);
    }
    value = ldexp(value, -exponent_of());
    const bool outward = hi == (value > 0); /* away from zero */
    const uint16_t magnitude = outward ? slow_fp16_above(fabs(value)) : fp16_below(fabs(value));
    return magnitude == 0 ? 0 : (uint16_t)(magnitude | (value < 0 ? 0x8000u : 0u));
}

typedef struct slow_grid {
    float lo, step, levels;
} slow_grid;

static slow_grid grid_of(uint32_t row) {
    const int k = exponent_of();
    const float lo = ldexpf(seam_fp16_to_f32(bound_of(row, false)), k);
    const float hi = ldexpf(seam_fp16_to_f32(bound_of(row, true)), k);
    const float levels = (float)((1 << b.widths[b.gates[row]]) - 1);
    const float step = (hi - lo) / levels;
    return (slow_grid){lo, step < FLT_MIN ? 0.0f : step, levels};
}

static uint32_t code_of(const slow_grid *grid, float x, uint32_t row, uint32_t c) {
    if (grid->step == 0.0f) {
        return 0;
    }
    const float inverse = 1.0f / grid->step;
    const float t =
        slow_round((x - grid->lo) * inverse, &b.rounding, slow_row_id(&b.rounding, row), c);
    return (uint32_t)fminf(fmaxf(t, 0.0f), grid->levels);
}

/* Code of a value as it stands in the payload. */
static uint32_t wire_code(uint32_t row, uint32_t c) {
    const uint32_t group = c / 32;
    const uint32_t n = b.channels - 32 * group < 32 ? b.channels - 32 * group : 32;
    size_t before = 0, total = 0;
    for (uint32_t t = 0; t < b.rows; t++) {
        before += t < row ? b.widths[b.gates[t]] : 0;
        total += b.widths[b.gates[t]];
    }
    const size_t base = 8 * (4 + 4 * (size_t)b.rows) + 32 * group * total;
    uint32_t code = 0;
    for (uint32_t j = 0; j < b.widths[b.gates[row]]; j++) {
        const size_t bit = base + (before + j) * n + c % 32;
        code |= (uint32_t)(b.payload[bit / 8] >> bit % 8 & 1) << j;
    }
    return code;
}

static void check(void) {
    assert_int_equal(encode(), SEAM_OK);
    size_t widths = 0;
    for (uint32_t t = 0; t < b.rows; t++) {
        widths += b.widths[b.gates[t]];
    }
    assert_int_equal(b.chunk.row_count, b.rows);
    assert_int_equal(b.chunk.payload_bytes, 4 + 4 * b.rows + (widths * b.channels + 7) / 8);
    assert_int_equal((int16_t)seam_get_u16(b.payload), exponent_of());
    assert_int_equal(seam_get_u16(b.payload + 2), 0);
    for (uint32_t row = 0; row < b.rows; row += 1 + b.rows / 40) {
        const slow_grid grid = grid_of(row);
        assert_int_equal(seam_get_u16(b.payload + 4 + 4 * row), bound_of(row, false));
        assert_int_equal(seam_get_u16(b.payload + 6 + 4 * row), bound_of(row, true));
        assert_true(b.steps[row] == grid.step);
        for (uint32_t c = row % 3; c < b.channels; c += 3) {
            const size_t at = (size_t)row * b.channels + c;
            const uint32_t code = code_of(&grid, b.x[at], row, c);
            assert_int_equal(wire_code(row, c), code);
            assert_true(b.decoded[at] == grid.lo + (float)code * grid.step);
        }
    }
    float steps[ROWS_MAX];
    memcpy(steps, b.steps, sizeof steps);
    assert_int_equal(decode(), SEAM_OK);
    assert_memory_equal(b.again, b.decoded, (size_t)b.rows * b.channels * sizeof(float));
    assert_memory_equal(b.steps, steps, b.rows * sizeof(float));
}

/* ---- the codec ---- */

static void test_encode__shapes__equal_slow_coder(void **state) {
    (void)state;
    static const uint32_t shapes[][2] = {{1, 1},   {1, 131},  {31, 96}, {32, 64},
                                         {33, 65}, {64, 129}, {65, 3},  {80, 140},
                                         {2, 31},  {3, 32},   {37, 33}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        set_up(shapes[s][0], shapes[s][1]);
        check();
    }
}

static void test_encode__every_width__equals_slow_coder(void **state) {
    (void)state;
    for (uint8_t width = 1; width <= 16; width++) {
        set_up(5, 70);
        memset(b.widths, width, sizeof b.widths);
        check();
    }
}

static void test_encode__stochastic__equals_slow_coder(void **state) {
    (void)state;
    uint32_t ids[40];
    set_up(40, 131);
    b.rounding = (seam_rounding){.stochastic = true,
                                 .seed = UINT64_C(0x123456789abcdef0),
                                 .step = UINT64_C(0x100000007),
                                 .site = 2,
                                 .micro = 513,
                                 .row_id_begin = 96};
    check();
    for (uint32_t t = 0; t < 40; t++) {
        ids[t] = 5 + 3 * t;
    }
    b.rounding.row_ids = ids;
    check();
}

/* A row has the same bytes whether the rows between travel or not. */
static void test_encode__rows_left_out__same_codes(void **state) {
    (void)state;
    static const uint8_t labelled[] = {0x96, 0x2d, 0x0f};
    float all[20 * 37];
    uint32_t ids[20], count = 0;
    set_up(20, 37);
    b.range_rows = labelled;
    b.rounding = (seam_rounding){.stochastic = true, .seed = 3, .step = 4, .site = 2};
    check();
    memcpy(all, b.decoded, sizeof all);
    for (uint32_t t = 0; t < 20; t++) {
        if (seam_bitmap_has(labelled, t)) {
            ids[count] = t;
            b.gates[count] = b.gates[t];
            memmove(b.x + (size_t)count * 37, b.x + (size_t)t * 37, 37 * sizeof(float));
            count++;
        }
    }
    b.rows = count;
    b.range_rows = NULL;
    b.rounding.row_ids = ids;
    check();
    for (uint32_t i = 0; i < count; i++) {
        assert_memory_equal(b.decoded + (size_t)i * 37, all + (size_t)ids[i] * 37,
                            37 * sizeof(float));
    }
}

static void test_encode__rows_out_of_range__saturate(void **state) {
    (void)state;
    static const uint8_t some[] = {0x2d, 0xff, 0x0f}, none[3] = {0};
    set_up(20, 40);
    b.range_rows = some;
    b.x[1 * 40 + 3] = 3e38f; /* row 1 is not in range */
    b.x[4 * 40] = -3e38f;
    for (uint32_t c = 0; c < 40; c++) {
        b.x[6 * 40 + c] = 2e38f + (float)c * 1e36f; /* nothing but huge */
    }
    check();
    for (size_t v = 0; v < 20u * 40; v++) {
        assert_true(isfinite(b.again[v]));
    }
    b.range_rows = none;
    check();
}

static void test_encode__awkward_values__defined_results(void **state) {
    (void)state;
    static const float values[] = {0.0f,      -0.0f,           1.0f,      -3.25f,   0x1p-149f,
                                   0x1p-126f, 0x1.fffffep124f, -0x1p124f, 65504.0f, 0.1f};
    for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
        set_up(33, 35);
        for (size_t at = 0; at < 33u * 35; at++) {
            b.x[at] = values[v] * (at % 3 == 1 ? -1.0f : 1.0f) * (at % 3 == 2 ? 0.5f : 1.0f);
        }
        for (uint32_t c = 0; c < 35; c++) {
            b.x[5 * 35 + c] = values[v]; /* constant: no grid */
        }
        check();
        const slow_grid grid = grid_of(5);
        for (uint32_t c = 0; grid.step == 0.0f && c < 35; c++) {
            assert_true(b.again[5 * 35 + c] == grid.lo);
        }
    }
}

static void test_encode__not_finite_or_beyond_2_125__nonfinite(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY, 0x1p125f, -3e38f};
    static const uint8_t first_only[] = {1};
    for (size_t v = 0; v < sizeof bad / sizeof bad[0]; v++) {
        for (uint32_t at = 70; at < 210; at += 23) {
            set_up(3, 70);
            b.x[at] = bad[v];
            assert_int_equal(encode(), SEAM_E_NONFINITE);
            b.range_rows = first_only; /* a row out of range must be finite and no more */
            assert_int_equal(encode(), v < 3 ? SEAM_E_NONFINITE : SEAM_OK);
        }
    }
}

/* Half a step, and what f32 loses of (x - lo)/D and of lo + q*D where they have 16 bits: 2^-7. */
static void test_encode__error__at_most_half_a_step(void **state) {
    (void)state;
    set_up(60, 96);
    assert_int_equal(encode(), SEAM_OK);
    for (uint32_t at = 0; at < 60u * 96; at++) {
        const float step = b.steps[at / 96];
        assert_true(fabsf(b.decoded[at] - b.x[at]) <= (0.5f + 0x1p-7f) * step);
    }
}

static void test_decode__every_truncation__format(void **state) {
    (void)state;
    set_up(7, 37);
    assert_int_equal(encode(), SEAM_OK);
    const uint32_t good = b.chunk.payload_bytes;
    for (uint32_t bytes = 0; bytes < good; bytes++) {
        b.chunk.payload_bytes = bytes;
        assert_int_equal(decode(), SEAM_E_FORMAT);
    }
    b.chunk.payload_bytes = good + 1;
    assert_int_equal(decode(), SEAM_E_FORMAT);
    b.chunk.payload_bytes = good;
    assert_int_equal(decode(), SEAM_OK);
}

/* Rows of `again` whose bits are not those of `decoded`. */
static uint32_t rows_differing(void) {
    const size_t row_bytes = b.channels * sizeof(float);
    const uint8_t *const again = (const uint8_t *)b.again;
    const uint8_t *const decoded = (const uint8_t *)b.decoded;
    uint32_t count = 0;
    for (uint32_t t = 0; t < b.rows; t++) {
        count += memcmp(again + t * row_bytes, decoded + t * row_bytes, row_bytes) != 0;
    }
    return count;
}

/* A bit of the codes changes that row alone; one of the head or of the padding is refused or
 * changes what it stands for, but no bit goes unseen. */
static void test_decode__every_flipped_bit__refused_or_another_tensor(void **state) {
    (void)state;
    set_up(7, 37);
    assert_int_equal(encode(), SEAM_OK);
    for (uint32_t bit = 0; bit < 8 * b.chunk.payload_bytes; bit++) {
        b.payload[bit / 8] ^= (uint8_t)(1u << bit % 8);
        const seam_status st = decode();
        assert_true(st == SEAM_OK || st == SEAM_E_FORMAT || st == SEAM_E_NONFINITE);
        if (st == SEAM_OK) {
            const uint32_t rows_changed = rows_differing();
            assert_true(rows_changed > 0);
            assert_true(bit < 16 || rows_changed == 1); /* but for k */
            for (size_t v = 0; v < 7u * 37; v++) {
                assert_true(isfinite(b.again[v]));
            }
        }
        b.payload[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void test_decode__bad_range_block__refused(void **state) {
    (void)state;
    static const struct {
        uint32_t at;
        uint16_t bits;
        seam_status expected;
    } rows[] = {
        {0, 111, SEAM_E_FORMAT},         {0, (uint16_t)-164, SEAM_E_FORMAT},
        {2, 1, SEAM_E_FORMAT},           {4, 0x7bff, SEAM_E_FORMAT},
        {4, 0x7c00, SEAM_E_NONFINITE},   {6, 0x7e00, SEAM_E_NONFINITE},
        {130, 0xfc00, SEAM_E_NONFINITE}, {0, 110, SEAM_OK},
        {0, (uint16_t)-163, SEAM_OK},
    };
    set_up(33, 4);
    assert_int_equal(encode(), SEAM_OK);
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        const uint16_t good = seam_get_u16(b.payload + rows[r].at);
        seam_put_u16(b.payload + rows[r].at, rows[r].bits);
        assert_int_equal(decode(), rows[r].expected);
        seam_put_u16(b.payload + rows[r].at, good);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode__shapes__equal_slow_coder),
        cmocka_unit_test(test_encode__every_width__equals_slow_coder),
        cmocka_unit_test(test_encode__stochastic__equals_slow_coder),
        cmocka_unit_test(test_encode__rows_left_out__same_codes),
        cmocka_unit_test(test_encode__rows_out_of_range__saturate),
        cmocka_unit_test(test_encode__awkward_values__defined_results),
        cmocka_unit_test(test_encode__not_finite_or_beyond_2_125__nonfinite),
        cmocka_unit_test(test_encode__error__at_most_half_a_step),
        cmocka_unit_test(test_decode__every_truncation__format),
        cmocka_unit_test(test_decode__every_flipped_bit__refused_or_another_tensor),
        cmocka_unit_test(test_decode__bad_range_block__refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
