/* Goal: bytes of wire and disk, checksums, hashes and half-precision conversions of proto/base.
 * Method: published check values; every 16-bit pattern; directed rounding against its definition.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bytes.h"

static void test_put__known_values__little_endian(void **state) {
    (void)state;
    uint8_t bytes[9] = {0};
    seam_put_u16(bytes + 1, 0x0102);
    assert_memory_equal(bytes + 1, "\x02\x01", 2);
    assert_int_equal(seam_get_u16(bytes + 1), 0x0102);
    seam_put_u32(bytes + 1, 0x01020384u);
    assert_memory_equal(bytes + 1, "\x84\x03\x02\x01", 4);
    assert_int_equal(seam_get_u32(bytes + 1), 0x01020384u);
    seam_put_u64(bytes + 1, UINT64_C(0xf102030405060788));
    assert_memory_equal(bytes + 1, "\x88\x07\x06\x05\x04\x03\x02\xf1", 8);
    assert_true(seam_get_u64(bytes + 1) == UINT64_C(0xf102030405060788));
    seam_put_f32(bytes + 1, -2.5f);
    assert_memory_equal(bytes + 1, "\x00\x00\x20\xc0", 4);
    assert_true(seam_get_f32(bytes + 1) == -2.5f);
}

static void test_crc32c__published_vectors__equal(void **state) {
    (void)state;
    uint8_t bytes[32];
    assert_int_equal(seam_crc32c(0, "123456789", 9), 0xe3069283u);
    assert_int_equal(seam_crc32c(0, "", 0), 0);
    memset(bytes, 0, sizeof bytes); /* RFC 3720, B.4 */
    assert_int_equal(seam_crc32c(0, bytes, 32), 0x8a9136aau);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(seam_crc32c(0, bytes, 32), 0x62a8ab43u);
    for (uint8_t i = 0; i < 32; i++) {
        bytes[i] = i;
    }
    assert_int_equal(seam_crc32c(0, bytes, 32), 0x46dd794eu);
}

static void test_crc32c__any_split__chains(void **state) {
    (void)state;
    uint8_t bytes[67];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(i * 37 + 11);
    }
    for (size_t begin = 0; begin < 9; begin++) { /* unaligned starts too */
        const uint32_t whole = seam_crc32c(0, bytes + begin, sizeof bytes - begin);
        for (size_t cut = begin; cut <= sizeof bytes; cut++) {
            const uint32_t head = seam_crc32c(0, bytes + begin, cut - begin);
            assert_int_equal(seam_crc32c(head, bytes + cut, sizeof bytes - cut), whole);
        }
    }
}

/* Bit by bit, so that the table and hardware variants have something independent. */
static uint32_t slow_crc32c(const uint8_t *bytes, size_t count) {
    uint32_t state = 0xffffffffu;
    for (size_t i = 0; i < count; i++) {
        state ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            state = (state >> 1) ^ ((state & 1) != 0 ? 0x82f63b78u : 0);
        }
    }
    return ~state;
}

static void test_crc32c__every_length__equals_bitwise(void **state) {
    (void)state;
    uint8_t bytes[300];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(i * i + 3);
    }
    for (size_t count = 0; count <= sizeof bytes; count++) {
        assert_int_equal(seam_crc32c(0, bytes, count), slow_crc32c(bytes, count));
    }
}

static void test_hash64__published_vectors__equal(void **state) {
    (void)state;
    assert_true(seam_hash64(SEAM_HASH64_INIT, "", 0) == UINT64_C(0xcbf29ce484222325));
    assert_true(seam_hash64(SEAM_HASH64_INIT, "a", 1) == UINT64_C(0xaf63dc4c8601ec8c));
    assert_true(seam_hash64(SEAM_HASH64_INIT, "foobar", 6) == UINT64_C(0x85944171f73967e8));
    const uint64_t foo = seam_hash64(SEAM_HASH64_INIT, "foo", 3);
    assert_true(seam_hash64(foo, "bar", 3) == UINT64_C(0x85944171f73967e8));
}

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void test_bf16__every_pattern__round_trips(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        const float value = seam_bf16_to_f32((uint16_t)bits);
        if (isnan(value)) {
            assert_true(isnan(seam_bf16_to_f32(seam_bf16_from_f32(value))));
        } else {
            assert_int_equal(seam_bf16_from_f32(value), bits);
        }
    }
}

static void test_bf16__between_two__nearest_then_even(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 0x7f7f; bits += 13) {
        const uint32_t low = bits << 16;
        assert_int_equal(seam_bf16_from_f32(float_of(low | 0x7fff)), bits);
        assert_int_equal(seam_bf16_from_f32(float_of(low | 0x8001)), bits + 1);
        assert_int_equal(seam_bf16_from_f32(float_of(low | 0x8000)), bits + (bits & 1));
    }
    assert_int_equal(seam_bf16_from_f32(float_of(0x7f7fffffu)), 0x7f80); /* to infinity */
    assert_true(isnan(seam_bf16_to_f32(seam_bf16_from_f32(float_of(0x7f800001u)))));
    assert_true(isnan(seam_bf16_to_f32(seam_bf16_from_f32(float_of(0x7fffffffu)))));
}

static void test_fp16__every_pattern__exact_both_ways(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        const uint32_t exponent = bits >> 10 & 31, mantissa = bits & 1023;
        const float value = seam_fp16_to_f32((uint16_t)bits);
        if (exponent == 31 && mantissa != 0) {
            assert_true(isnan(value));
            assert_true(isnan(seam_fp16_to_f32(seam_fp16_from_f32_up(value))));
            continue;
        }
        const float magnitude = exponent == 31 ? INFINITY
                                : exponent == 0
                                    ? ldexpf((float)mantissa, -24)
                                    : ldexpf((float)(1024 + mantissa), (int)exponent - 25);
        assert_true(value == (bits >> 15 != 0 ? -magnitude : magnitude));
        assert_int_equal(seam_fp16_from_f32_down(value), bits);
        assert_int_equal(seam_fp16_from_f32_up(value), bits);
    }
}

static void test_fp16__between_two__rounds_to_the_named_side(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 0x7bff; bits++) {
        const float low = seam_fp16_to_f32((uint16_t)bits);
        const float high = seam_fp16_to_f32((uint16_t)(bits + 1));
        const float inner[3] = {nextafterf(low, high), 0.5f * (low + high), nextafterf(high, low)};
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(seam_fp16_from_f32_down(inner[i]), bits);
            assert_int_equal(seam_fp16_from_f32_up(inner[i]), bits + 1);
            assert_int_equal(seam_fp16_from_f32_down(-inner[i]), 0x8000 | (bits + 1));
            assert_int_equal(seam_fp16_from_f32_up(-inner[i]), 0x8000 | bits);
        }
    }
}

static void test_fp16__beyond_the_range__largest_inside_infinity_outside(void **state) {
    (void)state;
    static const float beyond[] = {65505.0f, 1e9f, 3.4e38f};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(seam_fp16_from_f32_down(beyond[i]), 0x7bff);
        assert_int_equal(seam_fp16_from_f32_up(beyond[i]), 0x7c00);
        assert_int_equal(seam_fp16_from_f32_down(-beyond[i]), 0xfc00);
        assert_int_equal(seam_fp16_from_f32_up(-beyond[i]), 0xfbff);
    }
    assert_int_equal(seam_fp16_from_f32_up(0x1p-149f), 1);
    assert_int_equal(seam_fp16_from_f32_down(0x1p-149f), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put__known_values__little_endian),
        cmocka_unit_test(test_crc32c__published_vectors__equal),
        cmocka_unit_test(test_crc32c__any_split__chains),
        cmocka_unit_test(test_crc32c__every_length__equals_bitwise),
        cmocka_unit_test(test_hash64__published_vectors__equal),
        cmocka_unit_test(test_bf16__every_pattern__round_trips),
        cmocka_unit_test(test_bf16__between_two__nearest_then_even),
        cmocka_unit_test(test_fp16__every_pattern__exact_both_ways),
        cmocka_unit_test(test_fp16__between_two__rounds_to_the_named_side),
        cmocka_unit_test(test_fp16__beyond_the_range__largest_inside_infinity_outside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
