/* Goal: the quantizer Q of AQ-SGD and its fp16 rows do what their formulas say, at every edge.
 * Method: fp16 against all 65536 patterns and the midpoints between them; codes against the formula
 * in double; scale blocks patched by hand. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "aqsgd_quant.h"
#include "bit_string.h"
#include "bytes.h"
#include "codec.h"
#include "codec_fixture.h"

static uint16_t fp16_put(float value, bool expected) {
    uint8_t bytes[2];
    assert_int_equal(seam_fp16_row_put(bytes, &value, 1), expected);
    return seam_get_u16(bytes);
}

static void test_fp16_row__every_pattern__exact_and_to_even(void **state) {
    (void)state;
    for (uint32_t half = 0; half < 0x10000; half++) {
        uint8_t bytes[2];
        float value = 0.0f;
        seam_put_u16(bytes, (uint16_t)half);
        const bool finite = (half & 0x7c00) != 0x7c00;
        assert_int_equal(seam_fp16_row_get(&value, bytes, 1), finite);
        if (!finite) {
            continue;
        }
        assert_true(value == seam_fp16_to_f32((uint16_t)half));
        assert_int_equal(signbit(value) != 0, half >> 15);
        assert_int_equal(fp16_put(value, true), half);
        if ((half & 0x7fff) < 0x7bff) { /* halfway to the next one: to the even of the two */
            const float next = seam_fp16_to_f32((uint16_t)(half + 1));
            const float middle = (value + next) / 2;
            assert_int_equal(fp16_put(middle, true), half + (half & 1));
            assert_int_equal(fp16_put(nextafterf(middle, value), true), half);
            assert_int_equal(fp16_put(nextafterf(middle, next), true), half + 1);
        }
    }
}

static void test_fp16_row__beyond__largest_and_told(void **state) {
    (void)state;
    assert_int_equal(fp16_put(65519.996f, true), 0x7bff);
    assert_int_equal(fp16_put(65520.0f, false), 0x7bff);
    assert_int_equal(fp16_put(-FLT_MAX, false), 0xfbff);
    assert_int_equal(fp16_put(INFINITY, false), 0x7bff);
    (void)fp16_put(NAN, false);
}

/* x = 1, -1.5, 0, 0.25 under absmax as given, codes and values by hand: b = 3, half = 4. */
static void test_quantize__by_hand__codes_and_values(void **state) {
    (void)state;
    const float absmax[4] = {2.0f, 1.5f, 0.0f, 1.0f};
    const float x[4] = {1.25f, -1.5f, 7.0f, 1.0f};
    /* t = 2.5 -> 2 (even); -4; channel without a scale: 0; 4 is clipped to 3. */
    const uint32_t codes_expected[4] = {6, 0, 4, 7};
    const float values_expected[4] = {1.0f, -1.5f, 0.0f, 0.75f};
    float scale[4], lowest[4], top[4], values[4], again[4];
    uint32_t codes[4];
    uint8_t block[12];
    seam_scales scales = {scale, lowest, top};
    assert_int_equal(seam_scale_block_bytes(4), 12);
    assert_int_equal(seam_scale_block_put(block, absmax, 4), SEAM_OK);
    assert_int_equal((int16_t)seam_get_u16(block), 1 - 14);
    assert_int_equal(seam_scale_block_get(&scales, block, 4, 3), SEAM_OK);
    seam_symmetric_quantize(codes, values, &scales, x, NULL, 4, 3);
    assert_memory_equal(codes, codes_expected, sizeof codes);
    assert_memory_equal(values, values_expected, sizeof values);
    seam_symmetric_dequantize(again, &scales, codes, 4, 3);
    assert_memory_equal(again, values, sizeof values);
    codes[2] = 7; /* a channel without a scale decodes to 0 whatever comes */
    seam_symmetric_dequantize(again, &scales, codes, 4, 3);
    assert_memory_equal(again, values, sizeof values);
}

static void test_quantize__every_width__as_the_formula(void **state) {
    (void)state;
    enum { C = 70 };
    uint64_t random = 5;
    float x[C], m[C], absmax[C], scale[C], lowest[C], top[C], values[C], again[C];
    uint32_t codes[C];
    uint8_t block[4 + 2 * C];
    seam_scales scales = {scale, lowest, top};
    for (uint32_t trial = 0; trial < 320; trial++) {
        const uint32_t bits = 1 + trial % 16;
        const float unit = ldexpf(1.0f, (int)(trial % 7) * 15 - 60);
        memset(absmax, 0, sizeof absmax);
        for (uint32_t c = 0; c < C; c++) {
            x[c] = fixture_normal(&random) * unit * ldexpf(1.0f, (int)(c % 9) - 4);
            m[c] = fixture_normal(&random) * unit;
        }
        seam_absmax_add(absmax, x, m, C);
        assert_int_equal(seam_scale_block_put(block, absmax, C), SEAM_OK);
        assert_int_equal(seam_scale_block_get(&scales, block, C, bits), SEAM_OK);
        seam_symmetric_quantize(codes, values, &scales, x, m, C, bits);
        seam_symmetric_dequantize(again, &scales, codes, C, bits);
        assert_memory_equal(again, values, sizeof values);
        const double half = ldexp(1.0, (int)bits - 1);
        for (uint32_t c = 0; c < C; c++) {
            const double s = ldexp((double)seam_fp16_to_f32(seam_get_u16(block + 4 + 2 * c)),
                                   (int16_t)seam_get_u16(block));
            assert_true(fabs(s - absmax[c]) <= absmax[c] * 0x1p-11);
            assert_true(codes[c] < 1u << bits);
            const float t = (x[c] - m[c]) / (float)s * (float)half;
            const double q = fmin(fmax(rint((double)t), -half), half - 1);
            assert_true((double)codes[c] - half == q);
            assert_true(values[c] == (float)(q / half) * (float)s);
        }
    }
}

static void test_scale_block__bad__refused(void **state) {
    (void)state;
    static const struct {
        uint32_t at;
        uint16_t bits;
        seam_status expected;
    } cases[] = {
        {0, 111, SEAM_E_FORMAT},       {0, 0xff5c, SEAM_E_FORMAT},
        {2, 1, SEAM_E_FORMAT},         {4, 0x7c00, SEAM_E_NONFINITE},
        {6, 0x7e00, SEAM_E_NONFINITE}, {4, 0x8000, SEAM_E_FORMAT},
        {6, 0xbc00, SEAM_E_FORMAT},    {0, 110, SEAM_OK},
        {0, 0xff5d, SEAM_OK},
    };
    float scale[2], lowest[2], top[2];
    seam_scales scales = {scale, lowest, top};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t block[8] = {0, 0, 0, 0, 0, 0x3c, 0, 0x38};
        seam_put_u16(block + cases[i].at, cases[i].bits);
        assert_int_equal(seam_scale_block_get(&scales, block, 2, 4), cases[i].expected);
    }
    const float large[2] = {1.0f, 0x1p125f}, not_finite[2] = {NAN, 1.0f};
    const float tiny[2] = {0x1p-149f, 0.0f}, fits[2] = {0x1.fp124f, 0x1p-149f};
    uint8_t block[8];
    assert_int_equal(seam_scale_block_put(block, large, 2), SEAM_E_NONFINITE);
    assert_int_equal(seam_scale_block_put(block, not_finite, 2), SEAM_E_NONFINITE);
    assert_int_equal(seam_scale_block_put(block, tiny, 2), SEAM_OK);
    assert_int_equal(seam_scale_block_get(&scales, block, 2, 4), SEAM_OK);
    assert_true(top[0] == 0.0f); /* below 2^-126: counts as 0 */
    assert_int_equal(seam_scale_block_put(block, fits, 2), SEAM_OK);
    assert_int_equal(seam_get_u16(block + 6), 0);
}

static void test_bit_string__every_width__round_trip_and_zero_rest(void **state) {
    (void)state;
    uint64_t random = 9;
    for (uint32_t width = 1; width <= 32; width++) {
        uint32_t values[37], again[37];
        uint8_t bytes[37 * 4];
        for (uint32_t i = 0; i < 37; i++) {
            values[i] = fixture_next(&random) >> (32 - width);
        }
        seam_bit_writer writer = {.out = bytes};
        seam_bits_put(&writer, values, 5, width);
        seam_bits_put(&writer, values + 5, 32, width);
        seam_bits_put_end(&writer);
        const size_t count = seam_bit_string_bytes(37, width);
        assert_int_equal(writer.out - bytes, count);
        seam_bit_reader reader = {.in = bytes};
        seam_bits_get(again, &reader, 30, width);
        seam_bits_get(again + 30, &reader, 7, width);
        assert_memory_equal(again, values, sizeof values);
        assert_true(seam_bits_get_end(&reader));
        if (37 * width % 8 != 0) {
            bytes[count - 1] |= 0x80;
            reader = (seam_bit_reader){.in = bytes};
            seam_bits_get(again, &reader, 37, width);
            assert_false(seam_bits_get_end(&reader));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fp16_row__every_pattern__exact_and_to_even),
        cmocka_unit_test(test_fp16_row__beyond__largest_and_told),
        cmocka_unit_test(test_quantize__by_hand__codes_and_values),
        cmocka_unit_test(test_quantize__every_width__as_the_formula),
        cmocka_unit_test(test_scale_block__bad__refused),
        cmocka_unit_test(test_bit_string__every_width__round_trip_and_zero_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
