/* Goal: codec.h holds for every width, shape, rounding and bad input.
 * Method: each payload is compared bit by bit with a slow encoder written here from WIRE.md
 * (one value at a time, no planes, no tiles), decoded again and damaged; every instruction-set
 * variant of the tile loops must give the same bits. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "affine_tile.h"
#include "arena.h"
#include "bytes.h"
#include "codec.h"
#include "codec_fixture.h"

static const seam_rounding nearest = {.stochastic = false};

/* ---- the slow encoder ---- */

static float slow_bound(const uint8_t *ranges, uint32_t c, bool hi) {
    const int k = (int16_t)seam_get_u16(ranges);
    return ldexpf(seam_fp16_to_f32(seam_get_u16(ranges + 4 + 4 * c + (hi ? 2 : 0))), k);
}

static uint32_t slow_code(float *ret_decoded, float x, const seam_codec_args *args, uint32_t c,
                          const seam_rounding *rounding, uint32_t row_id) {
    const float lo = slow_bound(args->ranges, c, false), hi = slow_bound(args->ranges, c, true);
    const float levels = (float)((1 << args->widths[c]) - 1);
    const float step = (hi - lo) / levels;
    if (step < 0x1p-126f) {
        *ret_decoded = lo;
        return 0;
    }
    const float inverse = 1.0f / step;
    float q = (x - lo) * inverse;
    if (rounding->stochastic) {
        uint32_t words[4];
        const uint32_t counter[4] = {c / 4, row_id,
                                     (uint32_t)rounding->site | (uint32_t)rounding->micro << 16,
                                     (uint32_t)rounding->step};
        const uint32_t key[2] = {(uint32_t)rounding->seed, (uint32_t)(rounding->seed >> 32)};
        seam_philox(words, counter, key);
        const float u = (float)(words[c % 4] >> 8) * 0x1p-24f;
        q = floorf(q + u);
    } else {
        q = rintf(q);
    }
    q = fminf(fmaxf(q, 0.0f), levels);
    *ret_decoded = lo + q * step;
    return (uint32_t)q;
}

static void slow_bit_set(uint8_t *codes, size_t bit, uint32_t value) {
    codes[bit / 8] = (uint8_t)(codes[bit / 8] | value << (bit % 8));
}

static void slow_encode(uint8_t *ret_codes, float *ret_decoded, const seam_codec_args *args,
                        const float *x, uint32_t rows, const seam_rounding *rounding) {
    const uint32_t C = args->channels;
    memset(ret_codes, 0, seam_codec_code_bytes(args->id, args->widths, rows, C));
    size_t base = 0; /* first bit of the group */
    for (uint32_t begin = 0; begin < rows; begin += 32) {
        const uint32_t n = rows - begin < 32 ? rows - begin : 32;
        size_t before = 0; /* bits a row of the channels in front */
        for (uint32_t c = 0; c < C; c++) {
            for (uint32_t i = 0; i < n; i++) {
                const uint32_t row = begin + i;
                const uint32_t row_id = rounding->row_ids != NULL ? rounding->row_ids[row]
                                                                  : rounding->row_id_begin + row;
                const size_t at = (size_t)row * C + c;
                const uint32_t q = slow_code(&ret_decoded[at], x[at], args, c, rounding, row_id);
                for (uint32_t j = 0; j < args->widths[c]; j++) {
                    slow_bit_set(ret_codes, base + (before + j) * n + i, q >> j & 1);
                }
            }
            before += args->widths[c];
        }
        base += before * n;
    }
}

/* ---- one case: all buffers ---- */

typedef struct codec_case {
    uint32_t rows, channels;
    float *x, *decoded, *slow_decoded, *again;
    uint8_t *widths, *ranges, *codes, *slow_codes;
    size_t codes_bytes;
    void *scratch;
    seam_codec_args args;
} codec_case;

static void case_init(codec_case *k, uint32_t rows, uint32_t channels, const uint8_t *pattern,
                      uint32_t pattern_count) {
    const size_t values = (size_t)rows * channels;
    memset(k, 0, sizeof *k);
    k->rows = rows;
    k->channels = channels;
    k->x = test_malloc(values * sizeof *k->x);
    k->decoded = test_malloc(values * sizeof *k->x);
    k->slow_decoded = test_malloc(values * sizeof *k->x);
    k->again = test_malloc(values * sizeof *k->x);
    k->widths = test_malloc(channels);
    for (uint32_t c = 0; c < channels; c++) {
        k->widths[c] = pattern[c % pattern_count];
    }
    k->ranges = test_malloc(seam_codec_range_bytes(SEAM_CODEC_AMAQ, channels));
    k->codes_bytes = seam_codec_code_bytes(SEAM_CODEC_AMAQ, k->widths, rows, channels);
    k->codes = test_malloc(k->codes_bytes);
    k->slow_codes = test_malloc(k->codes_bytes);
    k->scratch = seam_mem_alloc_aligned(seam_codec_scratch_bytes(channels));
    assert_non_null(k->scratch);
    k->args = (seam_codec_args){SEAM_CODEC_AMAQ, channels, k->widths, k->ranges};
    fixture_tensor(k->x, rows, channels, rows * 1000u + channels);
}

static void case_deinit(codec_case *k) {
    test_free(k->x);
    test_free(k->decoded);
    test_free(k->slow_decoded);
    test_free(k->again);
    test_free(k->widths);
    test_free(k->ranges);
    test_free(k->codes);
    test_free(k->slow_codes);
    seam_mem_free(k->scratch);
}

static void case_check(codec_case *k, const seam_rounding *rounding) {
    const size_t values_bytes = (size_t)k->rows * k->channels * sizeof(float);
    assert_int_equal(
        seam_codec_measure(k->ranges, SEAM_CODEC_AMAQ, k->x, k->rows, k->channels, NULL), SEAM_OK);
    slow_encode(k->slow_codes, k->slow_decoded, &k->args, k->x, k->rows, rounding);
    assert_int_equal(
        seam_codec_encode(k->codes, k->decoded, &k->args, k->x, k->rows, rounding, k->scratch),
        SEAM_OK);
    assert_memory_equal(k->codes, k->slow_codes, k->codes_bytes);
    assert_memory_equal(k->decoded, k->slow_decoded, values_bytes);
    assert_int_equal(
        seam_codec_decode(k->again, &k->args, k->codes, k->codes_bytes, k->rows, k->scratch),
        SEAM_OK);
    assert_memory_equal(k->again, k->decoded, values_bytes);
    /* Without the decoded values, and with them in the place of x: the same bytes. */
    memset(k->codes, 0xaa, k->codes_bytes);
    assert_int_equal(
        seam_codec_encode(k->codes, NULL, &k->args, k->x, k->rows, rounding, k->scratch), SEAM_OK);
    assert_memory_equal(k->codes, k->slow_codes, k->codes_bytes);
    assert_int_equal(
        seam_codec_encode(k->codes, k->x, &k->args, k->x, k->rows, rounding, k->scratch), SEAM_OK);
    assert_memory_equal(k->codes, k->slow_codes, k->codes_bytes);
    assert_memory_equal(k->x, k->decoded, values_bytes);
}

static const uint8_t mixed[] = {1, 16, 3, 8, 9, 4, 2, 7, 5, 12, 6};

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
    static float x[VALUES], out[2][VALUES], uniforms[2][VALUES];
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
            ops->uniform(uniforms[at] + (size_t)i * LANES, 16, i, 3, 4, UINT64_C(0x8877665544));
        }
        ops->encode(planes[at], poison, out[at], x, &rows, &grid, uniforms[at], true);
        assert_memory_equal(uniforms[at], uniforms[0], sizeof uniforms[0]);
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
    static const char *const names[] = {"f32",    "bf16",    "affine", "amaq",
                                        "tensor", "channel", "group",  "aqsgd"};
    for (int i = 0; i < 8; i++) {
        seam_codec_id id = SEAM_CODEC_F32;
        assert_true(seam_codec_from_name(&id, names[i]));
        assert_int_equal(id, i + 1);
        assert_string_equal(seam_codec_name(id), names[i]);
        assert_int_equal(seam_codec_is_implemented(id), i < 4);
        assert_int_equal(seam_codec_has_ranges(id), i == 2 || i == 3);
        assert_int_equal(seam_codec_range_bytes(id, 5), i == 2 || i == 3 ? 24 : 0);
    }
    seam_codec_id id = SEAM_CODEC_F32;
    assert_false(seam_codec_from_name(&id, "AMAQ"));
    assert_null(seam_codec_name((seam_codec_id)9));
    assert_false(seam_codec_is_implemented((seam_codec_id)0));
}

static void test_later_codecs__any_call__unimplemented(void **state) {
    (void)state;
    const float x = 1.0f;
    float out = 0.0f;
    uint8_t bytes[8] = {0};
    for (int id = SEAM_CODEC_TENSOR; id <= SEAM_CODEC_AQSGD + 1; id++) {
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
        cmocka_unit_test(test_round_trip__special_tensors__defined_results),
        cmocka_unit_test(test_round_trip__error__at_most_half_a_step),
        cmocka_unit_test(test_round_trip__2_20_rows__bytes_and_values),
        cmocka_unit_test(test_raw__values__exact_or_rounded_to_even),
        cmocka_unit_test(test_raw__not_finite__refused_by_both_ends),
        cmocka_unit_test(test_encode__not_finite__refused_wherever_it_stands),
        cmocka_unit_test(test_decode__bad_range_block__refused),
        cmocka_unit_test(test_decode__wrong_count_or_padding__format),
        cmocka_unit_test(test_decode__every_flipped_bit__changes_one_value),
        cmocka_unit_test(test_names__every_codec__there_and_back),
        cmocka_unit_test(test_later_codecs__any_call__unimplemented),
        cmocka_unit_test(test_measure__codec_without_ranges__writes_nothing),
        cmocka_unit_test(test_philox__known_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
