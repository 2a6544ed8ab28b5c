/* Goal: codec.h holds for every width, shape, rounding and bad input.
 * Method: each payload is compared bit by bit with a slow encoder written here from WIRE.md
 * (one value at a time, no planes, no tiles), decoded again and damaged; every instruction-set
 * variant of the tile loops must give the same bits. */
#include "codec_case.h"

#include "affine_tile.h"

static void test_encode__every_width__equals_slow_encoder(void **state) {
    (void)state;
    for (uint8_t width = 1; width <= 16; width++) {
        codec_case k;
        case_init(&k, 37, 70, &width, 1);
        case_check(&k, &nearest);
        case_deinit(&k);
    }
}

static void test_encode__mixed_widths_and_every_tail__equals_slow_encoder(void **state) {
    (void)state;
    for (uint32_t rows = 1; rows <= 66; rows++) {
        codec_case k;
        case_init(&k, rows, 1 + rows * 3 % 131, mixed, sizeof mixed);
        case_check(&k, &nearest);
        case_deinit(&k);
    }
}

static void test_encode__stochastic__equals_slow_encoder(void **state) {
    (void)state;
    const seam_rounding rounding = {.stochastic = true,
                                    .seed = UINT64_C(0x123456789abcdef0),
                                    .step = UINT64_C(0x100000007),
                                    .site = 2,
                                    .micro = 513,
                                    .row_id_begin = 96};
    for (uint32_t rows = 1; rows <= 64; rows += 7) {
        codec_case k;
        case_init(&k, rows, 129, mixed, sizeof mixed);
        case_check(&k, &rounding);
        uint32_t ids[64];
        for (uint32_t i = 0; i < rows; i++) {
            ids[i] = 5 + 3 * i;
        }
        seam_rounding by_id = rounding;
        by_id.row_ids = ids;
        case_check(&k, &by_id);
        case_deinit(&k);
    }
}

static void test_encode__stochastic__mean_error_is_zero(void **state) {
    (void)state;
    const uint8_t width = 2;
    codec_case k;
    case_init(&k, 4096, 4, &width, 1);
    for (size_t i = 0; i < 4096u * 4; i++) {
        k.x[i] = i < 8 ? (float)(i % 2) : 0.4f; /* range 0..1, D = 1/3: 0.4 lies at 1.2 D */
    }
    const seam_rounding rounding = {.stochastic = true, .seed = 7};
    assert_int_equal(seam_codec_measure(k.ranges, SEAM_CODEC_AMAQ, k.x, 4096, 4, NULL), SEAM_OK);
    assert_int_equal(
        seam_codec_encode(k.codes, k.decoded, &k.args, k.x, 4096, &rounding, k.scratch), SEAM_OK);
    double sum = 0.0;
    for (size_t i = 8; i < 4096u * 4; i++) {
        sum += (double)k.decoded[i] - 0.4;
    }
    /* Standard deviation of a value D*sqrt(0.2*0.8) = 0.133, of the mean 0.00104: 4 of them. */
    assert_true(fabs(sum / (4096 * 4 - 8)) < 0.0042);
    case_deinit(&k);
}

static void test_encode__chunks_of_whole_groups__concatenate_to_the_whole(void **state) {
    (void)state;
    codec_case k;
    case_init(&k, 101, 67, mixed, sizeof mixed);
    seam_rounding rounding = {.stochastic = true, .seed = 3, .site = 3};
    case_check(&k, &rounding);
    case_deinit(&k);
    case_init(&k, 101, 67, mixed, sizeof mixed);
    assert_int_equal(seam_codec_measure(k.ranges, SEAM_CODEC_AMAQ, k.x, 101, 67, NULL), SEAM_OK);
    slow_encode(k.slow_codes, k.slow_decoded, &k.args, k.x, 101, &rounding);
    size_t used = 0;
    for (uint32_t row = 0; row < 101; row += 64) {
        const uint32_t count = 101 - row < 64 ? 101 - row : 64;
        rounding.row_id_begin = row;
        assert_int_equal(seam_codec_encode(k.codes + used, NULL, &k.args, k.x + (size_t)row * 67,
                                           count, &rounding, k.scratch),
                         SEAM_OK);
        used += seam_codec_code_bytes(SEAM_CODEC_AMAQ, k.widths, count, 67);
    }
    assert_int_equal(used, k.codes_bytes);
    assert_memory_equal(k.codes, k.slow_codes, used);
    case_deinit(&k);
}

static void test_tile_variants__same_input__same_bits(void **state) {
    (void)state;
    enum { LANES = SEAM_TILE_LANES, VALUES = 32 * LANES };
    static float x[VALUES], out[2][VALUES];
    static uint16_t draws[2][VALUES];
    static uint32_t planes[2][16 * LANES];
    static float lo[LANES], inverse[LANES], step[LANES], levels[LANES];
    fixture_tensor(x, 32, LANES, 5);
    for (uint32_t l = 0; l < LANES; l++) {
        levels[l] = (float)((2u << l % 16) - 1);
        lo[l] = -20.0f;
        step[l] = 40.0f / levels[l];
        inverse[l] = 1.0f / step[l];
    }
    const seam_tile_grid grid = {lo, inverse, step, levels};
    const seam_tile_rows rows = {32, LANES};
    for (uint32_t idx = 0; seam_tile_ops_variant(idx) != NULL; idx++) {
        const seam_tile_ops *ops = seam_tile_ops_variant(idx);
        const uint32_t at = idx == 0 ? 0 : 1;
        float poison[LANES] = {0};
        for (uint32_t i = 0; i < 32; i++) {
            ops->draw(draws[at] + (size_t)i * LANES, 16, i, 3, 4, UINT64_C(0x8877665544));
        }
        ops->encode(planes[at], poison, out[at], x, &rows, &grid, draws[at], true);
        assert_memory_equal(draws[at], draws[0], sizeof draws[0]);
        assert_memory_equal(planes[at], planes[0], sizeof planes[0]);
        assert_memory_equal(out[at], out[0], sizeof out[0]);
        static uint32_t copy[16 * LANES];
        memcpy(copy, planes[at], sizeof copy);
        memset(out[at], 0, sizeof out[at]);
        ops->decode(out[at], &rows, copy, &grid, true);
        assert_memory_equal(out[at], out[0], sizeof out[0]);
    }
}

/* ---- ranges ---- */

static void test_measure__any_scale__bounds_hold_every_value(void **state) {
    (void)state;
    static const int exponents[] = {-149, -140, -126, -60, -27, 0, 14, 60, 124};
    for (size_t e = 0; e < sizeof exponents / sizeof exponents[0]; e++) {
        float x[3 * 8];
        uint8_t ranges[4 + 4 * 8];
        uint64_t s = 9 + e;
        for (size_t i = 0; i < 24; i++) {
            x[i] = ldexpf(fixture_normal(&s) / 6.0f, exponents[e] - (int)(i % 8) * 3);
        }
        assert_int_equal(seam_codec_measure(ranges, SEAM_CODEC_AFFINE, x, 3, 8, NULL), SEAM_OK);
        const double scale = ldexp(1.0, (int16_t)seam_get_u16(ranges));
        for (size_t i = 0; i < 24; i++) { /* bounds as real numbers, before they become f32 */
            const uint8_t *bounds = ranges + 4 + 4 * (i % 8);
            assert_true((double)seam_fp16_to_f32(seam_get_u16(bounds)) * scale <= (double)x[i]);
            assert_true((double)seam_fp16_to_f32(seam_get_u16(bounds + 2)) * scale >= (double)x[i]);
        }
    }
}

static void test_measure__rows_in_range_only__others_are_clamped(void **state) {
    (void)state;
    const uint8_t width = 4, in_range[] = {0x05};
    codec_case k;
    case_init(&k, 4, 2, &width, 1);
    const float x[8] = {-1.0f, 2.0f, 3e38f, -3e38f, 1.0f, 4.0f, 0.0f, 100.0f};
    assert_int_equal(seam_codec_measure(k.ranges, SEAM_CODEC_AMAQ, x, 4, 2, in_range), SEAM_OK);
    assert_int_equal(seam_codec_encode(k.codes, k.decoded, &k.args, x, 4, &nearest, k.scratch),
                     SEAM_OK);
    const float expected[8] = {-1.0f, 2.0f, 1.0f, 2.0f, 1.0f, 4.0f, 0.0f, 4.0f};
    for (size_t i = 0; i < 8; i++) {
        assert_true(fabsf(k.decoded[i] - expected[i]) < 0.07f);
    }
    case_deinit(&k);
}

static void test_measure__no_row_in_range__all_zero(void **state) {
    (void)state;
    const uint8_t none[] = {0}, zeros[4 + 4 * 3] = {0};
    const float x[6] = {1, NAN, 3, 4, INFINITY, 6};
    uint8_t ranges[4 + 4 * 3];
    memset(ranges, 0xff, sizeof ranges);
    assert_int_equal(seam_codec_measure(ranges, SEAM_CODEC_AMAQ, x, 2, 3, none), SEAM_OK);
    assert_memory_equal(ranges, zeros, sizeof zeros);
}

static void test_measure__more_channels_than_a_block__equals_single_columns(void **state) {
    (void)state;
    enum { C = 5000, ROWS = 3 };
    float *x = test_malloc(sizeof(float) * ROWS * C);
    uint8_t *ranges = test_malloc(4 + 4 * C);
    fixture_tensor(x, ROWS, C, 77);
    assert_int_equal(seam_codec_measure(ranges, SEAM_CODEC_AMAQ, x, ROWS, C, NULL), SEAM_OK);
    const int k = (int16_t)seam_get_u16(ranges);
    for (uint32_t c = 0; c < C; c++) {
        float lo = x[c], hi = x[c];
        for (uint32_t t = 1; t < ROWS; t++) {
            lo = fminf(lo, x[t * C + c]);
            hi = fmaxf(hi, x[t * C + c]);
        }
        assert_int_equal(seam_get_u16(ranges + 4 + 4 * c), seam_fp16_from_f32_down(ldexpf(lo, -k)));
        assert_int_equal(seam_get_u16(ranges + 6 + 4 * c), seam_fp16_from_f32_up(ldexpf(hi, -k)));
    }
    test_free(x);
    test_free(ranges);
}

static void test_measure__tiny_beside_huge__rounds_outward(void **state) {
    (void)state;
    const float x[3] = {0x1p100f, 0x1p-140f, -0x1p-140f};
    uint8_t ranges[4 + 4 * 3];
    assert_int_equal(seam_codec_measure(ranges, SEAM_CODEC_AMAQ, x, 1, 3, NULL), SEAM_OK);
    assert_int_equal((int16_t)seam_get_u16(ranges), 86);
    assert_int_equal(seam_get_u16(ranges + 8), 0);       /* lo of 2^-140: 0 */
    assert_int_equal(seam_get_u16(ranges + 10), 1);      /* hi: the smallest fp16 */
    assert_int_equal(seam_get_u16(ranges + 12), 0x8001); /* lo of -2^-140 */
    assert_int_equal(seam_get_u16(ranges + 14), 0);      /* hi: +0, never -0 */
}

static void test_measure__not_finite_or_beyond_2_125__nonfinite(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY, 0x1p125f, -3e38f};
    uint8_t ranges[4 + 4 * 70];
    float x[2 * 70];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        for (uint32_t at = 0; at < 140; at += 23) {
            fixture_tensor(x, 2, 70, 1);
            x[at] = bad[i];
            assert_int_equal(seam_codec_measure(ranges, SEAM_CODEC_AMAQ, x, 2, 70, NULL),
                             SEAM_E_NONFINITE);
        }
    }
    fixture_tensor(x, 2, 70, 1);
    x[0] = nextafterf(0x1p125f, 0.0f);
    assert_int_equal(seam_codec_measure(ranges, SEAM_CODEC_AMAQ, x, 2, 70, NULL), SEAM_OK);
}

static void test_measure__sum_of_a_column_overflows__ok(void **state) {
    (void)state;
    enum { ROWS = 37, C = 11 };
    uint8_t ranges[4 + 4 * C];
    float x[ROWS * C];
    for (size_t i = 0; i < ROWS * C; i++) {
        x[i] = 0x1p124f; /* 37 of them are 2^129.2; the sum serves to find what is not finite */
    }
    assert_int_equal(seam_codec_measure(ranges, SEAM_CODEC_AMAQ, x, ROWS, C, NULL), SEAM_OK);
    assert_int_equal((int16_t)seam_get_u16(ranges), 124 - 14);
    x[36 * C + 10] = NAN;
    assert_int_equal(seam_codec_measure(ranges, SEAM_CODEC_AMAQ, x, ROWS, C, NULL),
                     SEAM_E_NONFINITE);
    uint8_t in_range[(ROWS + 7) / 8];
    memset(in_range, 0xff, sizeof in_range);
    in_range[4] = 0x0f; /* all but row 36 */
    assert_int_equal(seam_codec_measure(ranges, SEAM_CODEC_AMAQ, x, ROWS, C, in_range), SEAM_OK);
}

/* Everything of a bf16 tensor against the f32 functions on its values. */
static void bf16_case_check(codec_case *k, const uint8_t *range_rows,
                            const seam_rounding *rounding) {
    const size_t values = (size_t)k->rows * k->channels;
    const size_t ranges_bytes = seam_codec_range_bytes(SEAM_CODEC_AMAQ, k->channels);
    uint16_t *x = test_malloc(values * sizeof *x);
    float *out = test_malloc(values * sizeof *out);
    uint8_t *ranges = test_malloc(ranges_bytes);
    for (size_t i = 0; i < values; i++) {
        x[i] = seam_bf16_from_f32(k->x[i]);
        k->x[i] = seam_bf16_to_f32(x[i]);
    }
    assert_int_equal(
        seam_codec_measure(ranges, SEAM_CODEC_AMAQ, k->x, k->rows, k->channels, range_rows),
        SEAM_OK);
    assert_int_equal(
        seam_codec_measure_bf16(k->ranges, SEAM_CODEC_AMAQ, x, k->rows, k->channels, range_rows),
        SEAM_OK);
    assert_memory_equal(k->ranges, ranges, ranges_bytes);
    assert_int_equal(
        seam_codec_encode(k->slow_codes, k->decoded, &k->args, k->x, k->rows, rounding, k->scratch),
        SEAM_OK);
    assert_int_equal(
        seam_codec_encode_bf16(k->codes, out, &k->args, x, k->rows, rounding, k->scratch), SEAM_OK);
    assert_memory_equal(k->codes, k->slow_codes, k->codes_bytes);
    assert_memory_equal(out, k->decoded, values * sizeof *out);
    test_free(x);
    test_free(out);
    test_free(ranges);
}

static void test_bf16__every_tail_and_mask__codes_of_the_f32_values(void **state) {
    (void)state;
    const seam_rounding drawn = {.stochastic = true, .seed = 9, .step = 4, .site = 1};
    uint8_t range_rows[9];
    memset(range_rows, 0x6d, sizeof range_rows);
    for (uint32_t rows = 1; rows <= 66; rows++) {
        codec_case k;
        case_init(&k, rows, 1 + rows * 3 % 131, mixed, sizeof mixed);
        bf16_case_check(&k, NULL, &nearest);
        bf16_case_check(&k, range_rows, &drawn);
        case_deinit(&k);
    }
}

static void test_bf16__special_values__codes_of_the_f32_values(void **state) {
    (void)state;
    static const float values[] = {0.0f,      -0.0f,     1.0f,        -3.25f,    0x1p-133f,
                                   0x1p-126f, 0x1p-130f, 0x1.fep124f, -0x1p124f, 0x1.02p-126f};
    const uint8_t width = 5;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        codec_case k;
        case_init(&k, 37, 19, &width, 1);
        for (size_t j = 0; j < (size_t)37 * 19; j++) {
            k.x[j] = values[i] * (j % 3 == 1 ? -1.0f : 1.0f) * (j % 5 == 2 ? 0.5f : 1.0f);
        }
        bf16_case_check(&k, NULL, &nearest);
        case_deinit(&k);
    }
}

static void test_bf16__not_finite_or_beyond_2_125__nonfinite(void **state) {
    (void)state;
    static const uint16_t bad[] = {0x7f80, 0xff80, 0x7fc0, 0xff81, 0x7e00, 0xfe00}; /* 2^125 too */
    const uint8_t width = 4;
    codec_case k;
    case_init(&k, 35, 70, &width, 1);
    uint16_t *x = test_malloc((size_t)35 * 70 * sizeof *x);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        for (size_t at = 0; at < (size_t)35 * 70; at += 97) {
            memset(x, 0, (size_t)35 * 70 * sizeof *x);
            x[at] = bad[i];
            assert_int_equal(seam_codec_measure_bf16(k.ranges, SEAM_CODEC_AMAQ, x, 35, 70, NULL),
                             SEAM_E_NONFINITE);
            memset(k.ranges, 0, seam_codec_range_bytes(SEAM_CODEC_AMAQ, 70));
            const seam_status st =
                seam_codec_encode_bf16(k.codes, NULL, &k.args, x, 35, &nearest, k.scratch);
            assert_int_equal(st, i < 4 ? SEAM_E_NONFINITE : SEAM_OK);
        }
    }
    memset(x, 0, (size_t)35 * 70 * sizeof *x);
    x[3] = 0x7f80; /* of row 0, which the second mask leaves out */
    uint8_t in_range[5] = {0xff, 0xff, 0xff, 0xff, 0xff};
    assert_int_equal(seam_codec_measure_bf16(k.ranges, SEAM_CODEC_AMAQ, x, 35, 70, in_range),
                     SEAM_E_NONFINITE);
    in_range[0] = 0xfe;
    assert_int_equal(seam_codec_measure_bf16(k.ranges, SEAM_CODEC_AMAQ, x, 35, 70, in_range),
                     SEAM_OK);
    test_free(x);
    case_deinit(&k);
}

static void test_round_trip__special_tensors__defined_results(void **state) {
    (void)state;
    static const float values[] = {0.0f,      -0.0f,           1.0f,      -3.25f,   0x1p-149f,
                                   0x1p-126f, 0x1.fffffep124f, -0x1p124f, 65504.0f, 0.1f};
    const uint8_t width = 5;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        codec_case k;
        case_init(&k, 33, 3, &width, 1);
        for (size_t j = 0; j < 99; j++) {
            k.x[j] = values[i] * (j % 3 == 1 ? -1.0f : 1.0f) * (j % 3 == 2 ? 0.5f : 1.0f);
        }
        case_check(&k, &nearest);
        /* A constant channel comes back within one fp16 step of itself. */
        for (size_t j = 0; j < 99; j++) {
            assert_true(fabsf(k.again[j] - k.decoded[j % 3]) == 0.0f);
            assert_true(isfinite(k.again[j]));
        }
        assert_true(fabsf(k.again[0] - values[i]) <= fabsf(values[i]) * 0x1p-10f);
        case_deinit(&k);
    }
}

static void test_round_trip__error__at_most_half_a_step(void **state) {
    (void)state;
    codec_case k;
    case_init(&k, 50, 96, mixed, sizeof mixed);
    float steps[96];
    float *x = test_malloc(50 * 96 * sizeof *x);
    memcpy(x, k.x, 50 * 96 * sizeof *x);
    case_check(&k, &nearest);
    assert_int_equal(seam_codec_steps(steps, &k.args), SEAM_OK);
    for (size_t i = 0; i < 50 * 96; i++) { /* 2^-22 of the range for the roundings of x^ */
        const float step = steps[i % 96];
        const float slack = 0x1p-22f * (fabsf(x[i]) + step * 65536.0f);
        assert_true(fabsf(k.decoded[i] - x[i]) <= 0.5f * step + slack);
    }
    test_free(x);
    case_deinit(&k);
}

static void test_round_trip__2_20_rows__bytes_and_values(void **state) {
    (void)state;
    const uint8_t widths[2] = {3, 1};
    codec_case k;
    case_init(&k, SEAM_ROWS_MAX, 2, widths, 2);
    assert_int_equal(k.codes_bytes, (size_t)SEAM_ROWS_MAX / 8 * 4);
    case_check(&k, &nearest);
    case_deinit(&k);
}

/* Known answers of the Random123 distribution (kat_vectors, philox4x32 10). */
static void test_philox__known_answers(void **state) {
    (void)state;
    static const uint32_t rows[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d,
         0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09,
         0x94fdcceb, 0x5001e420, 0x24126ea1},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        seam_philox(out, rows[i], rows[i] + 4);
        assert_memory_equal(out, rows[i] + 6, sizeof out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode__every_width__equals_slow_encoder),
        cmocka_unit_test(test_encode__mixed_widths_and_every_tail__equals_slow_encoder),
        cmocka_unit_test(test_encode__stochastic__equals_slow_encoder),
        cmocka_unit_test(test_encode__stochastic__mean_error_is_zero),
        cmocka_unit_test(test_encode__chunks_of_whole_groups__concatenate_to_the_whole),
        cmocka_unit_test(test_tile_variants__same_input__same_bits),
        cmocka_unit_test(test_measure__any_scale__bounds_hold_every_value),
        cmocka_unit_test(test_measure__rows_in_range_only__others_are_clamped),
        cmocka_unit_test(test_measure__no_row_in_range__all_zero),
        cmocka_unit_test(test_measure__more_channels_than_a_block__equals_single_columns),
        cmocka_unit_test(test_measure__tiny_beside_huge__rounds_outward),
        cmocka_unit_test(test_measure__not_finite_or_beyond_2_125__nonfinite),
        cmocka_unit_test(test_measure__sum_of_a_column_overflows__ok),
        cmocka_unit_test(test_bf16__every_tail_and_mask__codes_of_the_f32_values),
        cmocka_unit_test(test_bf16__special_values__codes_of_the_f32_values),
        cmocka_unit_test(test_bf16__not_finite_or_beyond_2_125__nonfinite),
        cmocka_unit_test(test_round_trip__special_tensors__defined_results),
        cmocka_unit_test(test_round_trip__error__at_most_half_a_step),
        cmocka_unit_test(test_round_trip__2_20_rows__bytes_and_values),
        cmocka_unit_test(test_philox__known_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
