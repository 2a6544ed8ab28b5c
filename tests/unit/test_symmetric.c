/* Goal: codecs tensor, channel and group are what WIRE.md 3.3 says, at every width, for every shape
 * and for awkward values.
 * Method: each tensor against a slow coder written here from that text, one value at a time,
 * without tiles or planes; then tables of special tensors and of damaged scale blocks. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "codec_fixture.h"
#include "coder.h"
#include "slow_parts.h"

enum { ROWS_MAX = 80, C_MAX = 140, VALUES_MAX = ROWS_MAX * C_MAX };

static const seam_codec_id codecs[] = {SEAM_CODEC_TENSOR, SEAM_CODEC_CHANNEL, SEAM_CODEC_GROUP};

/* One tensor of one chunk. */
typedef struct bench {
    seam_codec_id codec;
    uint32_t rows, channels, group;
    uint8_t bits;
    const uint8_t *range_rows;
    seam_rounding rounding;
    float x[VALUES_MAX], decoded[VALUES_MAX], again[VALUES_MAX];
    uint8_t payload[4 * VALUES_MAX];
    seam_coder_chunk chunk;
} bench;

static bench b; /* large */

static void set_up(seam_codec_id codec, uint32_t rows, uint32_t channels, uint8_t bits) {
    b.codec = codec;
    b.rows = rows;
    b.channels = channels;
    b.group = 0;
    b.bits = bits;
    b.range_rows = NULL;
    b.rounding = (seam_rounding){.stochastic = false};
    fixture_tensor(b.x, rows, channels, rows * 31u + channels);
}

static seam_status run(seam_status *ret_decode) {
    static uint8_t widths[C_MAX];
    memset(widths, b.bits, sizeof widths);
    const seam_codec_plan plan = {.group = b.group};
    const seam_alloc alloc = {.widths = widths, .bits_total = b.bits * b.channels};
    const seam_coder_config config = {.codec = b.codec,
                                      .channels = b.channels,
                                      .rows_max = b.rows,
                                      .bits_max = b.bits,
                                      .plan = &plan};
    const seam_coder_encode_args args = {
        .tensor = {.codec = b.codec, .alloc = &alloc, .rows = b.rows, .range_rows = b.range_rows},
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
        seam_coder_decode_begin(coder, &args.tensor);
        *ret_decode = seam_coder_decode_chunk(b.again, coder, &b.chunk, b.payload, NULL);
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

static uint32_t group_of(void) {
    return seam_codec_group(b.group, b.channels);
}

/* Magnitude that the scale of a value stands for; row of a group's own, else over rows in range. */
static double absmax_of(uint32_t row, uint32_t c) {
    const uint32_t G = b.codec == SEAM_CODEC_GROUP ? group_of() : 1;
    double largest = 0;
    for (uint32_t t = 0; t < b.rows; t++) {
        const bool counts =
            b.codec == SEAM_CODEC_GROUP ? t == row : seam_bitmap_has(b.range_rows, t);
        for (uint32_t i = 0; counts && i < b.channels; i++) {
            if (b.codec == SEAM_CODEC_TENSOR || i / G == c / G) {
                largest = fmax(largest, fabs((double)b.x[t * b.channels + i]));
            }
        }
    }
    return largest;
}

static int exponent_of(void) {
    const double largest = slow_largest(b.x, b.range_rows, b.rows, b.channels);
    const double half = (ldexp(1, b.bits) - 1) / 2;
    return largest > 0 ? (int)floor(log2(largest / half)) - 14 : 0;
}

static float scale_of(uint32_t row, uint32_t c) {
    const double half = (ldexp(1, b.bits) - 1) / 2;
    const int k = exponent_of();
    const uint16_t bits = slow_fp16_above(ldexp(absmax_of(row, c) / half, -k));
    const float scale = (float)ldexp((double)seam_fp16_to_f32(bits), k);
    return scale < FLT_MIN ? 0.0f : scale;
}

static int code_of(float x, float scale, uint32_t row, uint32_t c) {
    if (scale == 0.0f) {
        return 0;
    }
    const float t = slow_round(x / scale, &b.rounding, slow_row_id(&b.rounding, row), c);
    const float half = ldexpf(1, b.bits - 1);
    return (int)fminf(fmaxf(t, -half), half - 1);
}

/* Bit `bit` of the code section. */
static int wire_bit(size_t head, size_t bit) {
    return b.payload[head + bit / 8] >> bit % 8 & 1;
}

static int wire_code(size_t head, uint32_t row, uint32_t c) {
    const uint32_t group = row / 32, n = b.rows - 32 * group < 32 ? b.rows - 32 * group : 32;
    const size_t base = (size_t)group * 32 * b.channels * b.bits;
    int code = 0;
    assert_in_range(b.bits, 1, 16);
    for (uint32_t j = 0; j < b.bits; j++) {
        code |= wire_bit(head, base + ((size_t)c * b.bits + j) * n + row % 32) << j;
    }
    return code - (int)(1u << b.bits >> 1);
}

static void check(void) {
    assert_int_equal(encode(), SEAM_OK);
    const uint32_t scales = b.codec == SEAM_CODEC_TENSOR    ? 1
                            : b.codec == SEAM_CODEC_CHANNEL ? b.channels
                                                            : b.rows * (b.channels / group_of());
    const size_t head = 4 + 2 * (size_t)scales;
    assert_int_equal(b.chunk.row_count, b.rows);
    assert_int_equal(b.chunk.payload_bytes, head + ((size_t)b.rows * b.channels * b.bits + 7) / 8);
    assert_int_equal((int16_t)seam_get_u16(b.payload), exponent_of());
    assert_int_equal(seam_get_u16(b.payload + 2), 0);
    for (uint32_t row = 0; row < b.rows; row += 7) { /* the slow coder is very slow */
        for (uint32_t c = row % 3; c < b.channels; c += 3) {
            const size_t at = (size_t)row * b.channels + c;
            const float scale = scale_of(row, c);
            const int code = code_of(b.x[at], scale, row, c);
            assert_int_equal(wire_code(head, row, c), code);
            assert_true(b.decoded[at] == (float)code * scale);
        }
    }
    assert_int_equal(decode(), SEAM_OK);
    assert_memory_equal(b.again, b.decoded, (size_t)b.rows * b.channels * sizeof(float));
}

/* ---- cases ---- */

static void test_encode__every_width__equals_slow_coder(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        for (uint8_t bits = 1; bits <= 16; bits++) {
            set_up(codecs[i], 37, 70, bits);
            check();
        }
    }
}

static void test_encode__shapes_and_groups__equal_slow_coder(void **state) {
    (void)state;
    static const uint32_t shapes[][3] = {{1, 1, 0},   {1, 131, 0},  {31, 96, 32}, {32, 64, 64},
                                         {33, 65, 5}, {64, 129, 0}, {65, 3, 1}};
    for (size_t i = 0; i < 3; i++) {
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
            set_up(codecs[i], shapes[s][0], shapes[s][1], (uint8_t)(3 + 2 * s));
            b.group = shapes[s][2];
            check();
        }
    }
}

static void test_encode__stochastic__equals_slow_coder(void **state) {
    (void)state;
    uint32_t ids[40];
    for (size_t i = 0; i < 3; i++) {
        set_up(codecs[i], 40, 131, 4);
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
}

/* A scale of 1 and all whole numbers: what lies on the grid stays, whatever is drawn.  Row 0 sets
 * the scale. */
static void test_encode__drawn_on_the_grid__stays(void **state) {
    (void)state;
    static const uint8_t bits[] = {2, 3, 5, 8, 11, 16};
    for (size_t at = 0; at < sizeof bits; at++) {
        set_up(SEAM_CODEC_TENSOR, ROWS_MAX, 131, bits[at]);
        const float half = (float)(1u << (bits[at] - 1));
        const uint32_t count = (1u << bits[at]) - 1;
        for (size_t v = 0; v < (size_t)ROWS_MAX * 131; v++) {
            b.x[v] = v < 131 ? half - 0.5f : (float)(v * 7 % count) - half + 1.0f;
        }
        for (uint32_t seed = 0; seed < 24; seed++) {
            b.rounding = (seam_rounding){.stochastic = true, .seed = seed, .site = 2};
            assert_int_equal(encode(), SEAM_OK);
            assert_memory_equal(b.decoded + 131, b.x + 131, sizeof(float) * 131 * (ROWS_MAX - 1));
        }
    }
}

static void test_encode__rows_in_range_only__others_are_clamped(void **state) {
    (void)state;
    static const uint8_t some[] = {0x2d, 0xff, 0x0f}, none[3] = {0};
    for (size_t i = 0; i < 3; i++) {
        set_up(codecs[i], 20, 12, 5);
        b.range_rows = some;
        b.x[1 * 12 + 3] = 3e38f; /* row 1 is not in range */
        b.x[4 * 12] = -3e38f;
        check();
        for (size_t v = 0; v < 20u * 12; v++) {
            assert_true(isfinite(b.again[v]));
        }
        b.range_rows = none;
        check();
    }
}

static void test_encode__awkward_values__defined_results(void **state) {
    (void)state;
    static const float values[] = {0.0f,      -0.0f,           1.0f,      -3.25f,   0x1p-149f,
                                   0x1p-126f, 0x1.fffffep123f, -0x1p123f, 65504.0f, 0.1f};
    for (size_t i = 0; i < 3; i++) {
        for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
            for (uint8_t bits = 1; bits <= 16; bits = (uint8_t)(bits + 5)) {
                set_up(codecs[i], 33, 3, bits);
                for (size_t at = 0; at < 99; at++) {
                    b.x[at] = values[v] * (at % 3 == 1 ? -1.0f : 1.0f) * (at % 3 == 2 ? 0.5f : 1);
                }
                check();
                for (size_t at = 0; at < 99; at++) { /* -0 would be another value of the bytes */
                    assert_true(isfinite(b.again[at]));
                    assert_true(b.again[at] != 0.0f || !signbit(b.again[at]));
                }
            }
        }
    }
}

static void test_encode__error__at_most_half_a_step(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        set_up(codecs[i], 50, 96, 6);
        assert_int_equal(encode(), SEAM_OK);
        for (uint32_t at = 0; at < 50u * 96; at++) {
            const float scale = scale_of(at / 96, at % 96);
            assert_true(fabsf(b.decoded[at] - b.x[at]) <= 0.5001f * scale);
        }
    }
}

static void test_encode__not_finite_or_beyond_2_124__nonfinite(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY, 0x1p124f, -3e38f};
    static const uint8_t first_only[] = {1};
    for (size_t i = 0; i < 3; i++) {
        for (size_t v = 0; v < sizeof bad / sizeof bad[0]; v++) {
            set_up(codecs[i], 3, 70, 4);
            b.x[75] = bad[v];
            assert_int_equal(encode(), SEAM_E_NONFINITE);
            b.range_rows = first_only; /* a row out of range must be finite and no more */
            assert_int_equal(encode(), v < 3 ? SEAM_E_NONFINITE : SEAM_OK);
        }
    }
}

static void test_decode__bad_scale_block__refused(void **state) {
    (void)state;
    static const struct {
        uint32_t at;
        uint16_t bits;
        seam_status expected;
    } rows[] = {
        {0, 111, SEAM_E_FORMAT},
        {0, (uint16_t)-179, SEAM_E_FORMAT},
        {0, 0x8000, SEAM_E_FORMAT},
        {2, 1, SEAM_E_FORMAT},
        {4, 0x8000, SEAM_E_FORMAT},
        {4, 0xbc00, SEAM_E_FORMAT},
        {4, 0x7c00, SEAM_E_NONFINITE},
        {4, 0x7e00, SEAM_E_NONFINITE},
        {0, 110, SEAM_OK},
        {0, (uint16_t)-178, SEAM_OK},
    };
    for (size_t i = 0; i < 3; i++) {
        set_up(codecs[i], 33, 4, 3);
        assert_int_equal(encode(), SEAM_OK);
        for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
            const uint16_t good = seam_get_u16(b.payload + rows[r].at);
            seam_put_u16(b.payload + rows[r].at, rows[r].bits);
            assert_int_equal(decode(), rows[r].expected);
            seam_put_u16(b.payload + rows[r].at, good);
        }
        /* The outermost code's value would be infinite: 65504 * 2^110 * 2^15. */
        b.bits = 16;
        assert_int_equal(encode(), SEAM_OK);
        seam_put_u16(b.payload, 110);
        seam_put_u16(b.payload + 4, 0x7bff);
        assert_int_equal(decode(), SEAM_E_NONFINITE);
    }
}

static void test_decode__padding_not_zero__format(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        set_up(codecs[i], 33, 3, 3); /* 297 bits: 7 bits of padding */
        assert_int_equal(encode(), SEAM_OK);
        for (uint32_t bit = 1; bit < 8; bit++) {
            b.payload[b.chunk.payload_bytes - 1] ^= (uint8_t)(1u << bit);
            assert_int_equal(decode(), SEAM_E_FORMAT);
            b.payload[b.chunk.payload_bytes - 1] ^= (uint8_t)(1u << bit);
        }
        assert_int_equal(decode(), SEAM_OK);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode__every_width__equals_slow_coder),
        cmocka_unit_test(test_encode__shapes_and_groups__equal_slow_coder),
        cmocka_unit_test(test_encode__stochastic__equals_slow_coder),
        cmocka_unit_test(test_encode__drawn_on_the_grid__stays),
        cmocka_unit_test(test_encode__rows_in_range_only__others_are_clamped),
        cmocka_unit_test(test_encode__awkward_values__defined_results),
        cmocka_unit_test(test_encode__error__at_most_half_a_step),
        cmocka_unit_test(test_encode__not_finite_or_beyond_2_124__nonfinite),
        cmocka_unit_test(test_decode__bad_scale_block__refused),
        cmocka_unit_test(test_decode__padding_not_zero__format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
