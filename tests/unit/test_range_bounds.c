/* Goal: bounds of the affine grids are rounded outward, and read as what was written, by every
 * instruction set alike.
 * Method: against bytes.h's conversions of one number at a time, for values around every fp16, for
 * every exponent, and for counts around the pieces that the loops work by. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "bytes.h"
#include "range_bounds.h"

enum { COUNT_MAX = 200 };

/* What one bound is written as. */
static uint16_t expected_half(float value, int exponent, bool up) {
    double scaled = fmin(fmax(ldexp((double)value, -exponent), -65504.0), 65504.0);
    if (scaled != 0.0 && fabs(scaled) < 0x1p-60) {
        scaled = copysign(0x1p-60, scaled); /* f32 would lose it */
    }
    const uint16_t half =
        up ? seam_fp16_from_f32_up((float)scaled) : seam_fp16_from_f32_down((float)scaled);
    return half == 0x8000u ? 0 : half;
}

static void put_check(const float *lo, const float *hi, uint32_t count, int exponent) {
    for (uint32_t idx = 0; seam_range_ops_variant(idx) != NULL; idx++) {
        uint8_t bytes[4 * COUNT_MAX + 1];
        memset(bytes, 0x5a, sizeof bytes);
        seam_range_ops_variant(idx)->put(bytes, lo, hi, count, ldexp(1.0, -exponent));
        for (uint32_t i = 0; i < count; i++) {
            assert_int_equal(seam_get_u16(bytes + 4 * i), expected_half(lo[i], exponent, false));
            assert_int_equal(seam_get_u16(bytes + 4 * i + 2), expected_half(hi[i], exponent, true));
        }
        assert_int_equal(bytes[4 * (size_t)count], 0x5a);
    }
}

static void test_bounds_put__around_every_fp16__outward(void **state) {
    (void)state;
    static const int exponents[] = {0, -163, -140, 37, 110};
    for (size_t e = 0; e < sizeof exponents / sizeof *exponents; e++) {
        float values[COUNT_MAX];
        uint32_t count = 0;
        for (uint32_t half = 0; half < 0x7c00; half++) {
            const float value = ldexpf(seam_fp16_to_f32((uint16_t)half), exponents[e]);
            const float around[] = {value, nextafterf(value, INFINITY), nextafterf(value, -1.0f)};
            for (size_t k = 0; k < 3; k++) {
                values[count++] = around[k];
                values[count++] = -around[k];
            }
            if (count + 6 > COUNT_MAX) {
                put_check(values, values, count, exponents[e]);
                count = 0;
            }
        }
    }
}

static void test_bounds_put__every_exponent_and_far_values__as_one_by_one(void **state) {
    (void)state;
    static const float values[] = {
        0.0f,  -0.0f,      0x1p-149f,    -0x1p-149f,     0x1.8p-148f, -0x1.8p-127f,    1.0f,
        -1.5f, 0x1.fffp3f, -0x1.ffep14f, 0x1.fffffep14f, 0x1p125f,    -0x1.fffffep124f};
    for (int exponent = -163; exponent <= 110; exponent++) {
        put_check(values, values, sizeof values / sizeof *values, exponent);
    }
}

static void test_bounds__counts_around_pieces__read_as_written(void **state) {
    (void)state;
    float lo[COUNT_MAX], hi[COUNT_MAX], again[2][COUNT_MAX + 1];
    uint8_t bytes[4 * COUNT_MAX];
    for (uint32_t count = 1; count <= COUNT_MAX; count++) {
        const int exponent = (int)(count * 7 % 270) - 160;
        for (uint32_t i = 0; i < count; i++) {
            lo[i] = ldexpf(-1.0f - 0.001f * (float)(i * count), exponent + 5);
            hi[i] = ldexpf(0.37f * (float)i, exponent + 5);
        }
        put_check(lo, hi, count, exponent);
        seam_range_bounds_put(bytes, lo, hi, count, exponent);
        for (uint32_t idx = 0; seam_range_ops_variant(idx) != NULL; idx++) {
            again[0][count] = again[1][count] = 7.0f;
            assert_int_equal(seam_range_ops_variant(idx)->get(again[0], again[1], bytes, count,
                                                              ldexp(1.0, exponent)),
                             count);
            for (uint32_t i = 0; i < count; i++) {
                for (size_t k = 0; k < 2; k++) {
                    const double half =
                        (double)seam_fp16_to_f32(seam_get_u16(bytes + 4 * i + 2 * k));
                    assert_true(again[k][i] == (float)ldexp(half, exponent));
                }
                assert_true(again[0][i] <= lo[i] && again[1][i] >= hi[i]);
            }
            assert_true(again[0][count] == 7.0f && again[1][count] == 7.0f);
        }
    }
}

static void test_bounds_get__every_fp16__as_one_by_one(void **state) {
    (void)state;
    static const int exponents[] = {0, -163, -149, -126, 110};
    for (size_t e = 0; e < sizeof exponents / sizeof *exponents; e++) {
        for (uint32_t half = 0; half < 0x10000; half++) {
            if ((half & 0x7c00u) == 0x7c00u) {
                continue;
            }
            for (uint32_t idx = 0; seam_range_ops_variant(idx) != NULL; idx++) {
                float lo = 1.0f, hi = 1.0f;
                uint8_t bytes[4];
                seam_put_u32(bytes, half | half << 16);
                assert_int_equal(
                    seam_range_ops_variant(idx)->get(&lo, &hi, bytes, 1, ldexp(1.0, exponents[e])),
                    1);
                const float expected =
                    (float)ldexp((double)seam_fp16_to_f32((uint16_t)half), exponents[e]);
                assert_memory_equal(&lo, &expected, sizeof lo); /* the sign of 0 too */
                assert_memory_equal(&hi, &expected, sizeof hi);
            }
        }
    }
}

static void test_bounds_get__refused__by_its_first(void **state) {
    (void)state;
    static const uint16_t bad[] = {0x7c00, 0xfc00, 0x7e00, 0xffff};
    float lo[COUNT_MAX], hi[COUNT_MAX];
    uint8_t bytes[4 * COUNT_MAX];
    for (uint32_t at = 0; at < COUNT_MAX; at++) {
        memset(bytes, 0, sizeof bytes);
        seam_put_u16(bytes + 4 * at + (at % 2 != 0 ? 2 : 0), bad[at % 4]);
        assert_int_equal(seam_range_bounds_get(lo, hi, bytes, COUNT_MAX, 1.0), SEAM_E_NONFINITE);
        assert_int_equal(seam_range_bounds_get(lo, hi, bytes, at, 1.0), SEAM_OK);
        for (uint32_t before = 0; before < at; before += 13) {
            uint8_t copy[sizeof bytes];
            memcpy(copy, bytes, sizeof bytes);
            seam_put_u32(copy + 4 * before, 0xbc003c00u); /* lo = 1, hi = -1 */
            assert_int_equal(seam_range_bounds_get(lo, hi, copy, COUNT_MAX, 1.0), SEAM_E_FORMAT);
        }
    }
}

static void test_head__exponents__in_bounds_only(void **state) {
    (void)state;
    uint8_t head[4];
    int exponent = 0;
    double unit = 0.0;
    assert_int_equal(seam_range_head_put(head, &exponent, 0.0f), SEAM_OK);
    assert_int_equal(exponent, 0);
    assert_int_equal(seam_range_head_put(head, &exponent, 0x1p125f), SEAM_E_NONFINITE);
    for (int e = -149; e < 125; e++) { /* M in 2^(k + 14) .. 2^(k + 15) */
        assert_int_equal(seam_range_head_put(head, &exponent, ldexpf(1.0f, e)), SEAM_OK);
        assert_int_equal(exponent, e - 14);
        assert_int_equal(seam_range_head_get(&unit, head), SEAM_OK);
        assert_true(unit == ldexp(1.0, e - 14));
    }
    seam_put_u32(head, 111);
    assert_int_equal(seam_range_head_get(&unit, head), SEAM_E_FORMAT);
    seam_put_u32(head, (uint16_t)-164);
    assert_int_equal(seam_range_head_get(&unit, head), SEAM_E_FORMAT);
    seam_put_u32(head, 1u << 16);
    assert_int_equal(seam_range_head_get(&unit, head), SEAM_E_FORMAT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds_put__around_every_fp16__outward),
        cmocka_unit_test(test_bounds_put__every_exponent_and_far_values__as_one_by_one),
        cmocka_unit_test(test_bounds__counts_around_pieces__read_as_written),
        cmocka_unit_test(test_bounds_get__every_fp16__as_one_by_one),
        cmocka_unit_test(test_bounds_get__refused__by_its_first),
        cmocka_unit_test(test_head__exponents__in_bounds_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
