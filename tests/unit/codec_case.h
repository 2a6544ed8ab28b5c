/* One tensor with all its buffers, and the slow encoder that codec tests compare with: written from
 * WIRE.md one value at a time, without planes or tiles.  For test programs only. */
#ifndef SEAM_TEST_CODEC_CASE_H
#define SEAM_TEST_CODEC_CASE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arena.h"
#include "bytes.h"
#include "codec.h"
#include "codec_fixture.h"
#include "slow_parts.h"

static const seam_rounding nearest = {.stochastic = false};
static const uint8_t mixed[] = {1, 16, 3, 8, 9, 4, 2, 7, 5, 12, 6};

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
    q = fminf(fmaxf(slow_round(q, rounding, row_id, c), 0.0f), levels);
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
                const uint32_t row_id = slow_row_id(rounding, row);
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

static inline void case_check(codec_case *k, const seam_rounding *rounding) {
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

#endif
