/* Goal: the codec's answers to what is not finite, malformed, unknown or not implemented, and the
 * two raw codecs.  Method: tables of damaged inputs, every flipped bit of a payload. */
#include "codec_case.h"

/* ---- raw codecs ---- */

static void test_raw__values__exact_or_rounded_to_even(void **state) {
    (void)state;
    const float x[6] = {1.0f, -0x1.01p0f, 0x1.03p0f, 0.0f, -0x1p-149f, 0x1.fdfffep127f};
    const float bf16[6] = {1.0f, -1.0f, 0x1.04p0f, 0.0f, -0.0f, 0x1.fep127f};
    uint8_t codes[24];
    float decoded[6], again[6];
    seam_codec_args args = {.id = SEAM_CODEC_F32, .channels = 3};
    assert_int_equal(seam_codec_code_bytes(SEAM_CODEC_F32, NULL, 2, 3), 24);
    assert_int_equal(seam_codec_encode(codes, decoded, &args, x, 2, &nearest, NULL), SEAM_OK);
    assert_int_equal(seam_codec_decode(again, &args, codes, 24, 2, NULL), SEAM_OK);
    assert_memory_equal(decoded, x, sizeof x);
    assert_memory_equal(again, x, sizeof x);
    args.id = SEAM_CODEC_BF16;
    assert_int_equal(seam_codec_code_bytes(SEAM_CODEC_BF16, NULL, 2, 3), 12);
    assert_int_equal(seam_codec_encode(codes, decoded, &args, x, 2, &nearest, NULL), SEAM_OK);
    assert_int_equal(seam_codec_decode(again, &args, codes, 12, 2, NULL), SEAM_OK);
    assert_memory_equal(decoded, bf16, sizeof x);
    assert_memory_equal(again, bf16, sizeof x);
    assert_int_equal(seam_codec_steps(decoded, &args), SEAM_OK);
    assert_true(decoded[0] == 0.0f && decoded[2] == 0.0f);
}

static void test_raw__not_finite__refused_by_both_ends(void **state) {
    (void)state;
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY, 3.4e38f};
    uint8_t codes[4];
    float x;
    for (size_t i = 0; i < 5; i++) {
        for (int id = SEAM_CODEC_F32; id <= SEAM_CODEC_BF16; id++) {
            const seam_codec_args args = {.id = (seam_codec_id)id, .channels = 1};
            const bool fits = id == SEAM_CODEC_F32 && i == 4;
            assert_int_equal(seam_codec_encode(codes, NULL, &args, &bad[i], 1, &nearest, NULL),
                             fits ? SEAM_OK : SEAM_E_NONFINITE);
        }
    }
    uint32_t nan_bits = 0x7fffffffu; /* rounding to bf16 would carry this one to -0 */
    memcpy(&x, &nan_bits, sizeof x);
    const seam_codec_args bf16 = {.id = SEAM_CODEC_BF16, .channels = 1};
    assert_int_equal(seam_codec_encode(codes, NULL, &bf16, &x, 1, &nearest, NULL),
                     SEAM_E_NONFINITE);
    seam_put_u16(codes, 0xff80);
    assert_int_equal(seam_codec_decode(&x, &bf16, codes, 2, 1, NULL), SEAM_E_NONFINITE);
    const seam_codec_args f32 = {.id = SEAM_CODEC_F32, .channels = 1};
    seam_put_u32(codes, 0x7f800001u);
    assert_int_equal(seam_codec_decode(&x, &f32, codes, 4, 1, NULL), SEAM_E_NONFINITE);
}

/* ---- bad input ---- */

static void test_encode__not_finite__refused_wherever_it_stands(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    codec_case k;
    case_init(&k, 35, 70, mixed, sizeof mixed);
    assert_int_equal(seam_codec_measure(k.ranges, SEAM_CODEC_AMAQ, k.x, 35, 70, NULL), SEAM_OK);
    for (size_t at = 0; at < 35 * 70; at += 97) {
        const float good = k.x[at];
        k.x[at] = bad[at % 3];
        assert_int_equal(seam_codec_encode(k.codes, NULL, &k.args, k.x, 35, &nearest, k.scratch),
                         SEAM_E_NONFINITE);
        k.x[at] = good;
    }
    case_deinit(&k);
}

static void test_decode__bad_range_block__refused(void **state) {
    (void)state;
    static const struct {
        uint32_t at;
        uint16_t bits;
        seam_status expected;
    } rows[] = {
        {0, 111, SEAM_E_FORMAT},
        {0, 0xff5c, SEAM_E_FORMAT}, /* k = -164 */
        {0, 0x8000, SEAM_E_FORMAT},
        {2, 1, SEAM_E_FORMAT},
        {4, 0x7c00, SEAM_E_NONFINITE},
        {6, 0xfc00, SEAM_E_NONFINITE},
        {8, 0x7e00, SEAM_E_NONFINITE},
        {4, 0x7bff, SEAM_E_FORMAT}, /* lo above hi */
        {0, 110, SEAM_OK},
        {0, 0xff5d, SEAM_OK}, /* k = -163 */
    };
    codec_case k;
    case_init(&k, 33, 2, mixed, sizeof mixed);
    case_check(&k, &nearest);
    uint8_t good[4 + 4 * 2];
    float steps[2];
    memcpy(good, k.ranges, sizeof good);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        memcpy(k.ranges, good, sizeof good);
        seam_put_u16(k.ranges + rows[i].at, rows[i].bits);
        assert_int_equal(seam_codec_decode(k.again, &k.args, k.codes, k.codes_bytes, 33, k.scratch),
                         rows[i].expected);
        assert_int_equal(seam_codec_steps(steps, &k.args), rows[i].expected);
        assert_int_equal(seam_codec_encode(k.codes, NULL, &k.args, k.x, 33, &nearest, k.scratch),
                         rows[i].expected);
    }
    case_deinit(&k);
}

static void test_decode__wrong_count_or_padding__format(void **state) {
    (void)state;
    const uint8_t widths[] = {3, 2};
    codec_case k;
    case_init(&k, 33, 2, widths, 2); /* 165 bits: 3 bits of padding */
    case_check(&k, &nearest);
    for (size_t count = 0; count < k.codes_bytes + 3; count++) {
        if (count != k.codes_bytes) {
            assert_int_equal(seam_codec_decode(k.again, &k.args, k.codes, count, 33, k.scratch),
                             SEAM_E_FORMAT);
        }
    }
    for (uint32_t bit = 5; bit < 8; bit++) {
        k.codes[k.codes_bytes - 1] ^= (uint8_t)(1u << bit);
        assert_int_equal(seam_codec_decode(k.again, &k.args, k.codes, k.codes_bytes, 33, k.scratch),
                         SEAM_E_FORMAT);
        k.codes[k.codes_bytes - 1] ^= (uint8_t)(1u << bit);
    }
    const seam_codec_args raw = {.id = SEAM_CODEC_BF16, .channels = 2};
    assert_int_equal(seam_codec_decode(k.again, &raw, k.codes, 7, 2, k.scratch), SEAM_E_FORMAT);
    case_deinit(&k);
}

static void test_decode__every_flipped_bit__changes_one_value(void **state) {
    (void)state;
    codec_case k;
    case_init(&k, 40, 7, mixed, sizeof mixed);
    case_check(&k, &nearest);
    size_t bits = 0;
    for (uint32_t c = 0; c < 7; c++) {
        bits += k.widths[c] * 40u;
    }
    for (size_t bit = 0; bit < bits; bit++) {
        k.codes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(seam_codec_decode(k.again, &k.args, k.codes, k.codes_bytes, 40, k.scratch),
                         SEAM_OK);
        k.codes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        uint32_t changed = 0, constant = 0;
        for (size_t i = 0; i < 280; i++) {
            changed += k.again[i] != k.decoded[i];
        }
        /* Channel 6 is constant: its codes are ignored. */
        const size_t in_group = bit < 32 * bits / 40 ? bit / 32 : (bit - 32 * bits / 40) / 8;
        constant = in_group >= bits / 40 - k.widths[6];
        assert_int_equal(changed, constant ? 0 : 1);
    }
    case_deinit(&k);
}

/* ---- names and unimplemented codecs ---- */

static void test_names__every_codec__there_and_back(void **state) {
    (void)state;
    static const char *const names[] = {"f32",     "bf16",  "affine", "amaq",       "tensor",
                                        "channel", "group", "aqsgd",  "dictionary", "amaq_token"};
    for (int i = 0; i < 10; i++) {
        seam_codec_id id = SEAM_CODEC_F32;
        assert_true(seam_codec_from_name(&id, names[i]));
        assert_int_equal(id, i + 1);
        assert_string_equal(seam_codec_name(id), names[i]);
        assert_true(seam_codec_is_implemented(id));
        assert_int_equal(seam_codec_has_ranges(id), i == 2 || i == 3);
        assert_int_equal(seam_codec_has_widths(id), (i >= 2 && i <= 7) || i == 9);
        assert_int_equal(seam_codec_has_gates(id), i == 3 || i == 9);
        assert_int_equal(seam_codec_has_state(id), i == 7 || i == 8);
        assert_int_equal(seam_codec_has_requests(id), i < 8);
        assert_int_equal(seam_codec_range_bytes(id, 5), i == 2 || i == 3 ? 24 : 0);
    }
    seam_codec_id id = SEAM_CODEC_F32;
    assert_false(seam_codec_from_name(&id, "AMAQ"));
    assert_null(seam_codec_name((seam_codec_id)11));
    assert_false(seam_codec_is_implemented((seam_codec_id)0));
}

/* codec.h's own functions serve four codecs; coder.h the others. */
static void test_other_codecs__any_call__unimplemented(void **state) {
    (void)state;
    const float x = 1.0f;
    float out = 0.0f;
    uint8_t bytes[8] = {0};
    for (int id = SEAM_CODEC_TENSOR; id <= SEAM_CODEC_LAST + 1; id++) {
        const seam_codec_args args = {.id = (seam_codec_id)id, .channels = 1};
        assert_int_equal(seam_codec_measure(bytes, args.id, &x, 1, 1, NULL), SEAM_E_UNIMPLEMENTED);
        assert_int_equal(seam_codec_encode(bytes, NULL, &args, &x, 1, &nearest, NULL),
                         SEAM_E_UNIMPLEMENTED);
        assert_int_equal(seam_codec_decode(&out, &args, bytes, 1, 1, NULL), SEAM_E_UNIMPLEMENTED);
        assert_int_equal(seam_codec_steps(&out, &args), SEAM_E_UNIMPLEMENTED);
        assert_int_equal(seam_codec_code_bytes(args.id, NULL, 1, 1), 0);
    }
}

static void test_measure__codec_without_ranges__writes_nothing(void **state) {
    (void)state;
    const float x = NAN;
    assert_int_equal(seam_codec_measure(NULL, SEAM_CODEC_BF16, &x, 1, 1, NULL), SEAM_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raw__values__exact_or_rounded_to_even),
        cmocka_unit_test(test_raw__not_finite__refused_by_both_ends),
        cmocka_unit_test(test_encode__not_finite__refused_wherever_it_stands),
        cmocka_unit_test(test_decode__bad_range_block__refused),
        cmocka_unit_test(test_decode__wrong_count_or_padding__format),
        cmocka_unit_test(test_decode__every_flipped_bit__changes_one_value),
        cmocka_unit_test(test_names__every_codec__there_and_back),
        cmocka_unit_test(test_other_codecs__any_call__unimplemented),
        cmocka_unit_test(test_measure__codec_without_ranges__writes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
