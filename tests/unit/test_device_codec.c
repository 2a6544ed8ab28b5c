/* Goal: a device's codec (device_codec.h) makes and reads the codes of kernels/codec, bit for bit.
 * Method: tensors of test_codec.c's kind go through both; range blocks, codes and decoded values
 * must be equal byte for byte, from f32 and bf16 rows, whole and by row lists.  Device: the first
 * argument, cuda:0 without; a machine that has none skips. */
#include "device_case.h"

static const seam_rounding drawn = {.stochastic = true,
                                    .seed = UINT64_C(0x123456789abcdef0),
                                    .step = UINT64_C(0x100000007),
                                    .site = 2,
                                    .micro = 513,
                                    .row_id_begin = 96};

/* Measures over `ranged` and encodes; what the status says. */
static uint32_t device_encode(device_case *d, const seam_device_rows *ranged,
                              const seam_rounding *rounding, float *decoded) {
    const seam_device_encode_args args = {.work = d->work,
                                          .rows = rows_of(d),
                                          .ranged = *ranged,
                                          .codes = d->codes,
                                          .decoded = decoded,
                                          .stochastic = rounding->stochastic,
                                          .seed = rounding->seed,
                                          .step = rounding->step,
                                          .site = rounding->site,
                                          .micro = rounding->micro,
                                          .row_ids = d->row_ids,
                                          .row_id_begin = rounding->row_id_begin};
    assert_int_equal(ops->codec->encode(stream, &args), SEAM_OK);
    return status_get(d);
}

static void device_decode(device_case *d, uint32_t row_begin, uint32_t row_count) {
    const seam_device_decode_args args = {.work = d->work,
                                          .rows = rows_of(d),
                                          .codes = d->codes,
                                          .row_begin = row_begin,
                                          .row_count = row_count};
    assert_int_equal(ops->codec->decode(stream, &args), SEAM_OK);
}

/* The case's ranges, codes and decoded values are the host's; the device's must be the same. */
static void device_compare(device_case *d, const float *decoded) {
    const codec_case *k = d->k;
    const uint8_t *head = (uint8_t *)d->work.bytes + ops->codec->head_offset(k->channels);
    const size_t range_bytes = seam_codec_range_bytes(SEAM_CODEC_AMAQ, k->channels);
    uint8_t *ranges = test_malloc(range_bytes);
    device_get(ranges, head + 4, range_bytes);
    assert_memory_equal(ranges, k->ranges, range_bytes);
    test_free(ranges);
    device_get(d->got, d->codes, k->codes_bytes);
    assert_memory_equal(d->got, k->codes, k->codes_bytes);
    if (decoded != NULL) {
        const size_t bytes = (size_t)k->rows * k->channels * sizeof(float);
        device_get(d->got, decoded, bytes);
        assert_memory_equal(d->got, k->decoded, bytes);
    }
}

/* Decodes into x, whose rows the list names must be the case's and whose others stay 0x41. */
static void device_decode_compare(device_case *d, const uint32_t *list) {
    const codec_case *k = d->k;
    const size_t bytes = seam_dtype_bytes(d->type), row_bytes = k->channels * bytes;
    uint8_t *expected = test_malloc(d->x_rows * row_bytes);
    memset(expected, 0x41, d->x_rows * row_bytes);
    for (uint32_t i = 0; i < k->rows; i++) {
        for (uint32_t c = 0; c < k->channels; c++) {
            const float value = k->decoded[(size_t)i * k->channels + c];
            const uint16_t half = seam_bf16_from_f32(value);
            memcpy(expected + (list != NULL ? list[i] : i) * row_bytes + c * bytes,
                   d->type == SEAM_F32 ? (const void *)&value : (const void *)&half, bytes);
        }
    }
    const uint32_t cut = k->rows / 64 * 32; /* in two chunks */
    if (cut > 0) {
        device_decode(d, 0, cut);
    }
    device_decode(d, cut, k->rows - cut);
    device_get(d->got, d->x, d->x_rows * row_bytes);
    assert_memory_equal(d->got, expected, d->x_rows * row_bytes);
    test_free(expected);
}

/* Host and device encode the case and decode it; x is rounded to bf16 where it is the source. */
static void both_check(codec_case *k, seam_dtype type, const seam_rounding *rounding,
                       const uint32_t *list, uint32_t x_rows) {
    const size_t values = (size_t)k->rows * k->channels;
    for (size_t i = 0; type == SEAM_BF16 && i < values; i++) {
        k->x[i] = seam_bf16_to_f32(seam_bf16_from_f32(k->x[i]));
    }
    assert_int_equal(
        seam_codec_measure(k->ranges, SEAM_CODEC_AMAQ, k->x, k->rows, k->channels, NULL), SEAM_OK);
    assert_int_equal(
        seam_codec_encode(k->codes, k->decoded, &k->args, k->x, k->rows, rounding, k->scratch),
        SEAM_OK);
    device_case d;
    device_init(&d, k, type, list, x_rows);
    if (rounding->row_ids != NULL) {
        d.row_ids = device_put(rounding->row_ids, k->rows * sizeof(uint32_t));
    }
    const seam_device_rows rows = rows_of(&d);
    assert_int_equal(device_encode(&d, &rows, rounding, NULL), 0);
    device_compare(&d, NULL);
    assert_int_equal(device_encode(&d, &rows, rounding, d.decoded), 0);
    device_compare(&d, d.decoded);
    device_decode_compare(&d, list);
    device_deinit(&d);
}

static void shape_check(uint32_t rows, uint32_t channels, const uint8_t *pattern, uint32_t count,
                        const seam_rounding *rounding) {
    static const seam_dtype types[] = {SEAM_F32, SEAM_BF16};
    for (size_t i = 0; i < 2; i++) {
        codec_case k;
        case_init(&k, rows, channels, pattern, count);
        both_check(&k, types[i], rounding, NULL, rows);
        case_deinit(&k);
    }
}

/* ---- codes ---- */

static void test_encode__every_width__same_bytes(void **state) {
    (void)state;
    for (uint8_t width = 1; width <= 16; width++) {
        shape_check(37, 70, &width, 1, &nearest);
        shape_check(64, 132, &width, 1, &drawn);
    }
}

static void test_encode__mixed_widths_and_every_tail__same_bytes(void **state) {
    (void)state;
    for (uint32_t rows = 1; rows <= 66; rows++) {
        shape_check(rows, 1 + rows * 3 % 131, mixed, sizeof mixed, &nearest);
        shape_check(rows, 4 * (1 + rows % 40), mixed, sizeof mixed, &drawn);
    }
}

/* Rows on 16 bytes, of bf16 too: drawn, each of up to 7 bits, up to 8 and above has its kernel. */
static const uint8_t seven[] = {2, 6, 3, 7, 1, 4, 5}, eight[] = {8, 3, 7, 1};

static void test_encode__drawn_rows_on_16_bytes__same_bytes(void **state) {
    (void)state;
    for (uint8_t width = 1; width <= 16; width++) {
        shape_check(64, 136, &width, 1, &drawn);
    }
    for (uint32_t rows = 1; rows <= 66; rows++) {
        shape_check(rows, 8 * (1 + rows % 37), seven, sizeof seven, &drawn);
        shape_check(rows, 8 * (1 + rows % 35), eight, sizeof eight, &drawn);
    }
    shape_check(1030, 264, seven, sizeof seven, &drawn);
    shape_check(33, 8192, seven, sizeof seven, &drawn);
    shape_check(300, 4096, eight, sizeof eight, &drawn);
}

/* Few values, all of them whole steps or close to one, the two ends of the range the most. */
static void test_encode__drawn_at_the_ends_of_the_range__same_bytes(void **state) {
    (void)state;
    for (uint8_t width = 1; width <= 16; width++) {
        for (uint32_t seed = 1; seed <= 3; seed++) {
            codec_case k;
            case_init(&k, 2048, 136, &width, 1);
            for (size_t i = 0; i < (size_t)k.rows * k.channels; i++) {
                const float top = 1.0f + (float)(i % k.channels) * 0.25f;
                k.x[i] = i % 5 == seed ? 0.0f : i % 3 == 0 ? top / 4 : top;
            }
            seam_rounding rounding = drawn;
            rounding.seed = seed;
            both_check(&k, seed == 1 ? SEAM_F32 : SEAM_BF16, &rounding, NULL, k.rows);
            case_deinit(&k);
        }
    }
}

static void test_encode__many_groups__same_bytes(void **state) {
    (void)state;
    static const uint8_t narrow[] = {2, 6, 3, 8, 1, 4, 7, 5, 2};
    shape_check(300, 4096, narrow, sizeof narrow, &nearest);
    shape_check(300, 4096, mixed, sizeof mixed, &drawn);
    shape_check(545, 1100, mixed, sizeof mixed, &nearest);
    shape_check(1030, 260, narrow, sizeof narrow, &drawn);
    shape_check(33, 8193, narrow, sizeof narrow, &drawn);
}

static void test_encode__2_20_rows__same_bytes(void **state) {
    (void)state;
    static const uint8_t widths[] = {3, 1};
    codec_case k;
    case_init(&k, SEAM_ROWS_MAX, 2, widths, 2);
    both_check(&k, SEAM_F32, &nearest, NULL, SEAM_ROWS_MAX);
    case_deinit(&k);
}

static void test_encode__rows_by_list__same_bytes(void **state) {
    (void)state;
    uint32_t list[70], ids[70];
    for (uint32_t i = 0; i < 70; i++) {
        list[i] = 3 * i + i % 3;
        ids[i] = 5 + 7 * i;
    }
    for (uint32_t rows = 1; rows <= 70; rows += 23) {
        seam_rounding by_id = drawn;
        by_id.row_ids = ids;
        codec_case k;
        case_init(&k, rows, 136, mixed, sizeof mixed);
        both_check(&k, SEAM_F32, &by_id, list, 212);
        case_deinit(&k);
        case_init(&k, rows, 77, mixed, sizeof mixed);
        both_check(&k, SEAM_BF16, &by_id, list, 212);
        case_deinit(&k);
        case_init(&k, rows, 136, seven, sizeof seven);
        both_check(&k, SEAM_BF16, &by_id, list, 212);
        case_deinit(&k);
    }
}

static void test_encode__decoded_in_place__same_values(void **state) {
    (void)state;
    codec_case k;
    case_init(&k, 75, 140, mixed, sizeof mixed);
    assert_int_equal(seam_codec_measure(k.ranges, SEAM_CODEC_AMAQ, k.x, 75, 140, NULL), SEAM_OK);
    assert_int_equal(seam_codec_encode(k.codes, k.decoded, &k.args, k.x, 75, &nearest, k.scratch),
                     SEAM_OK);
    device_case d;
    device_init(&d, &k, SEAM_F32, NULL, 75);
    const seam_device_rows rows = rows_of(&d);
    assert_int_equal(device_encode(&d, &rows, &nearest, d.x), 0);
    device_compare(&d, d.x);
    device_deinit(&d);
    case_deinit(&k);
}

static void test_decode__row_of_list_is_none__not_written(void **state) {
    (void)state;
    const uint32_t list[3] = {4, SEAM_DEVICE_ROW_NONE, 0};
    const uint32_t places[3] = {4, 5, 0};
    uint32_t x[6 * 8];
    const uint8_t width = 5;
    codec_case k;
    case_init(&k, 3, 8, &width, 1);
    assert_int_equal(seam_codec_measure(k.ranges, SEAM_CODEC_AMAQ, k.x, 3, 8, NULL), SEAM_OK);
    assert_int_equal(seam_codec_encode(k.codes, k.decoded, &k.args, k.x, 3, &nearest, k.scratch),
                     SEAM_OK);
    device_case d;
    device_init(&d, &k, SEAM_F32, places, 6);
    const seam_device_rows rows = rows_of(&d);
    assert_int_equal(device_encode(&d, &rows, &nearest, NULL), 0);
    assert_int_equal(ops->zero(stream, d.x, sizeof x), SEAM_OK);
    assert_int_equal(ops->copy_in(stream, d.list, list, sizeof list), SEAM_OK);
    device_decode(&d, 0, 3);
    device_get(x, d.x, sizeof x);
    assert_memory_equal(x + 32, k.decoded, 32);
    assert_memory_equal(x, k.decoded + 16, 32);
    for (uint32_t i = 8; i < 48; i++) {
        assert_true(x[i] == 0 || i / 8 == 4);
    }
    device_deinit(&d);
    case_deinit(&k);
}

/* ---- ranges ---- */

/* x (rows, channels) through both; false where both refuse. */
static bool values_check(const float *x, uint32_t rows, uint32_t channels) {
    const uint8_t width = 5;
    codec_case k;
    case_init(&k, rows, channels, &width, 1);
    memcpy(k.x, x, (size_t)rows * channels * sizeof *x);
    const bool good =
        seam_codec_measure(k.ranges, SEAM_CODEC_AMAQ, x, rows, channels, NULL) == SEAM_OK;
    if (good) {
        both_check(&k, SEAM_F32, &nearest, NULL, rows);
    } else {
        device_case d;
        device_init(&d, &k, SEAM_F32, NULL, rows);
        const seam_device_rows all = rows_of(&d);
        assert_int_equal(device_encode(&d, &all, &nearest, NULL), 1);
        device_deinit(&d);
    }
    case_deinit(&k);
    return good;
}

static void test_measure__any_scale__same_bytes(void **state) {
    (void)state;
    static const int exponents[] = {-149, -140, -126, -60, -27, 0, 14, 60, 124};
    for (size_t e = 0; e < sizeof exponents / sizeof exponents[0]; e++) {
        float x[35 * 8];
        uint64_t s = 9 + e;
        for (size_t i = 0; i < 35 * 8; i++) {
            x[i] = ldexpf(fixture_normal(&s) / 6.0f, exponents[e] - (int)(i % 8) * 3);
        }
        assert_true(values_check(x, 35, 8));
        assert_true(values_check(x, 40, 7));
    }
    const float apart[3] = {0x1p100f, 0x1p-140f, -0x1p-140f};
    assert_true(values_check(apart, 1, 3));
}

static void test_measure__special_tensors__same_bytes(void **state) {
    (void)state;
    static const float values[] = {0.0f,      -0.0f,           1.0f,      -3.25f,   0x1p-149f,
                                   0x1p-126f, 0x1.fffffep124f, -0x1p124f, 65504.0f, 0.1f};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        float x[99];
        for (size_t j = 0; j < 99; j++) {
            x[j] = values[i] * (j % 3 == 1 ? -1.0f : 1.0f) * (j % 3 == 2 ? 0.5f : 1.0f);
        }
        assert_true(values_check(x, 33, 3));
    }
}

static void test_measure__not_finite_or_beyond_2_125__refused(void **state) {
    (void)state;
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY, 0x1p125f, -3e38f};
    static float x[70 * 72];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        for (uint32_t at = 0; at < 70 * 72; at += 997) {
            fixture_tensor(x, 70, 72, 1);
            x[at] = bad[i];
            assert_false(values_check(x, 70, 72));
            assert_false(values_check(x, 72, 70));
        }
    }
}

static void test_measure__bf16_not_finite__refused(void **state) {
    (void)state;
    static const uint16_t bad[] = {0x7fc0, 0xffc1, 0x7f80, 0xff80};
    const uint8_t width = 4;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        for (uint32_t channels = 9; channels <= 16; channels += 7) {
            codec_case k;
            device_case d;
            case_init(&k, 70, channels, &width, 1);
            device_init(&d, &k, SEAM_BF16, NULL, 70);
            const seam_device_rows rows = rows_of(&d);
            uint8_t *const at = (uint8_t *)d.x + 2 * (size_t)(33 * channels + i);
            assert_int_equal(ops->copy_in(stream, at, &bad[i], 2), SEAM_OK);
            assert_int_equal(device_encode(&d, &rows, &nearest, NULL), 1);
            device_deinit(&d);
            case_deinit(&k);
        }
    }
}

static void test_measure__rows_in_range_only__others_are_clamped(void **state) {
    (void)state;
    const uint8_t in_range[] = {0x25, 0x80, 0, 0, 0x10};
    const uint32_t list[] = {0, 2, 5, 15, 36};
    codec_case k;
    case_init(&k, 40, 24, mixed, sizeof mixed);
    k.x[24 + 3] = 3e38f;
    k.x[24 + 4] = -3.4e38f;
    assert_int_equal(seam_codec_measure(k.ranges, SEAM_CODEC_AMAQ, k.x, 40, 24, in_range), SEAM_OK);
    assert_int_equal(seam_codec_encode(k.codes, k.decoded, &k.args, k.x, 40, &nearest, k.scratch),
                     SEAM_OK);
    device_case d;
    device_init(&d, &k, SEAM_F32, NULL, 40);
    seam_device_rows ranged = {d.x, SEAM_F32, device_put(list, sizeof list), 5, 24};
    assert_int_equal(device_encode(&d, &ranged, &nearest, d.decoded), 0);
    device_compare(&d, d.decoded);
    assert_int_equal(device_encode(&d, &ranged, &nearest, NULL), 0);
    device_compare(&d, NULL);
    const float bad = NAN; /* in no range, but in the tensor */
    assert_int_equal(ops->copy_in(stream, (float *)d.x + 24 * 7 + 23, &bad, 4), SEAM_OK);
    assert_int_equal(device_encode(&d, &ranged, &nearest, NULL), 1);
    ops->mem_free(backend, (void *)(uintptr_t)ranged.list);
    device_deinit(&d);
    case_deinit(&k);
}

static void test_measure__no_row_in_range__all_zero(void **state) {
    (void)state;
    const uint8_t none[5] = {0};
    codec_case k;
    case_init(&k, 40, 24, mixed, sizeof mixed);
    assert_int_equal(seam_codec_measure(k.ranges, SEAM_CODEC_AMAQ, k.x, 40, 24, none), SEAM_OK);
    assert_int_equal(seam_codec_encode(k.codes, k.decoded, &k.args, k.x, 40, &nearest, k.scratch),
                     SEAM_OK);
    device_case d;
    device_init(&d, &k, SEAM_F32, NULL, 40);
    const seam_device_rows ranged = {d.x, SEAM_F32, NULL, 0, 24};
    assert_int_equal(device_encode(&d, &ranged, &nearest, d.decoded), 0);
    device_compare(&d, d.decoded);
    device_deinit(&d);
    case_deinit(&k);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode__every_width__same_bytes),
        cmocka_unit_test(test_encode__mixed_widths_and_every_tail__same_bytes),
        cmocka_unit_test(test_encode__drawn_rows_on_16_bytes__same_bytes),
        cmocka_unit_test(test_encode__drawn_at_the_ends_of_the_range__same_bytes),
        cmocka_unit_test(test_encode__many_groups__same_bytes),
        cmocka_unit_test(test_encode__2_20_rows__same_bytes),
        cmocka_unit_test(test_encode__rows_by_list__same_bytes),
        cmocka_unit_test(test_encode__decoded_in_place__same_values),
        cmocka_unit_test(test_decode__row_of_list_is_none__not_written),
        cmocka_unit_test(test_measure__any_scale__same_bytes),
        cmocka_unit_test(test_measure__special_tensors__same_bytes),
        cmocka_unit_test(test_measure__not_finite_or_beyond_2_125__refused),
        cmocka_unit_test(test_measure__bf16_not_finite__refused),
        cmocka_unit_test(test_measure__rows_in_range_only__others_are_clamped),
        cmocka_unit_test(test_measure__no_row_in_range__all_zero),
    };
    const int lacking = device_open(argc, argv);
    if (lacking != 0) {
        return lacking;
    }
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    device_close();
    return failed;
}
