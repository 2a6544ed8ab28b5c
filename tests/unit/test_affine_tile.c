/* Goal: every instruction-set variant of affine_tile.h gives the bits of the base one.
 * Method: groups of odd shapes, all widths and mixtures, constant channels, values outside the
 * range and not finite go through each variant that runs here; codes, values and bounds must be
 * equal byte for byte, and no byte outside the buffers may change.  The same values cut to bf16
 * must give what the base one gives for them as f32, decoded values rounded.  test_codec.c holds
 * the base one against an encoder written from WIRE.md.  Codec bf16: against bytes.h, a value at a
 * time. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "affine_tile.h"
#include "arena.h"
#include "bytes.h"
#include "codec_fixture.h"

static const uint8_t mixed[] = {1, 16, 3, 8, 9, 4, 2, 7, 5, 12, 6};

enum { ROWS = SEAM_GROUP_ROWS, CHANNELS_MAX = 1100, LD_PAD = 3, GUARD = 64 };

typedef struct tile_case {
    uint32_t channels;
    size_t ld, codes_bytes;
    float *x, *decoded[2], *grids;
    uint8_t *widths, *codes[2];
    seam_tile_group group;
    seam_tile_draws draws;
} tile_case;

/* Channel c's width is pattern[c % count]; every 5th channel is constant when asked. */
static void tile_init(tile_case *k, uint32_t channels, const uint8_t *pattern, uint32_t count,
                      bool constants) {
    const size_t padded = (channels + 7) / 8 * 8; /* 32 bytes, no more */
    *k = (tile_case){.channels = channels, .ld = channels + LD_PAD};
    const size_t values = ROWS * k->ld;
    k->x = test_malloc(values * sizeof(float));
    fixture_tensor(k->x, ROWS, (uint32_t)k->ld, channels);
    k->grids = seam_mem_alloc_aligned(4 * padded * sizeof(float));
    assert_non_null(k->grids);
    memset(k->grids, 0, 4 * padded * sizeof(float));
    k->widths = test_malloc(channels);
    float *lo = k->grids, *inverse = lo + padded, *step = lo + 2 * padded,
          *levels = lo + 3 * padded;
    for (uint32_t c = 0; c < channels; c++) {
        k->widths[c] = pattern[c % count];
        k->codes_bytes += 4u * k->widths[c];
        lo[c] = -2.0f - 0.125f * (float)(c % 7); /* some values lie outside */
        if (!constants || c % 5 != 0) {
            levels[c] = (float)((1u << k->widths[c]) - 1);
            step[c] = (4.0f + (float)(c % 3)) / levels[c];
            inverse[c] = 1.0f / step[c];
        }
    }
    for (int i = 0; i < 2; i++) {
        k->decoded[i] = test_malloc(values * sizeof(float));
        k->codes[i] = test_malloc(k->codes_bytes + GUARD);
    }
    k->group = (seam_tile_group){
        .channels = channels,
        .ld = k->ld,
        .grid = {lo, inverse, step, levels},
        .widths = k->widths,
    };
    k->draws =
        (seam_tile_draws){.eighth_begin = 5, .word2 = 3, .word3 = 9, .seed = 0x8877665544ull};
    for (uint32_t i = 0; i < ROWS; i++) {
        k->draws.row_ids[i] = 1000 + 3 * i;
    }
}

static void tile_deinit(tile_case *k) {
    for (int i = 0; i < 2; i++) {
        test_free(k->decoded[i]);
        test_free(k->codes[i]);
    }
    test_free(k->widths);
    seam_mem_free(k->grids);
    test_free(k->x);
}

/* One encode into codes[at] and decoded[at]; whether all was finite. */
static bool tile_encode(tile_case *k, const seam_tile_ops *ops, int at, bool drawn, bool decode) {
    memset(k->codes[at], 0x5a, k->codes_bytes + GUARD);
    memset(k->decoded[at], 0x5a, ROWS * k->ld * sizeof(float));
    uint8_t *const end = k->codes[at] + k->codes_bytes;
    const uint8_t *next = ops->encode_group(k->codes[at], end, decode ? k->decoded[at] : NULL, k->x,
                                            &k->group, drawn ? &k->draws : NULL);
    for (int i = 0; i < GUARD; i++) {
        assert_int_equal(end[i], 0x5a);
    }
    assert_true(next == NULL || next == end);
    return next != NULL;
}

static void tile_check(tile_case *k, const seam_tile_ops *ops) {
    const seam_tile_ops *base = seam_tile_ops_variant(0);
    const size_t values_bytes = ROWS * k->ld * sizeof(float);
    for (int drawn = 0; drawn < 2; drawn++) {
        assert_true(tile_encode(k, base, 0, drawn != 0, true));
        assert_true(tile_encode(k, ops, 1, drawn != 0, true));
        assert_memory_equal(k->codes[1], k->codes[0], k->codes_bytes);
        assert_memory_equal(k->decoded[1], k->decoded[0], values_bytes); /* the padding too */
        assert_true(tile_encode(k, ops, 1, drawn != 0, false));
        assert_memory_equal(k->codes[1], k->codes[0], k->codes_bytes);
    }
    /* An exact copy of the codes: a load that runs over is seen by the address sanitizer. */
    uint8_t *exact = test_malloc(k->codes_bytes);
    memcpy(exact, k->codes[0], k->codes_bytes);
    for (int streaming = 0; streaming < 2; streaming++) {
        memset(k->decoded[1], 0x5a, values_bytes);
        assert_ptr_equal(ops->decode_group(k->decoded[1], exact, exact + k->codes_bytes, &k->group,
                                           streaming != 0),
                         exact + k->codes_bytes);
        assert_memory_equal(k->decoded[1], k->decoded[0], values_bytes);
    }
    test_free(exact);
}

/* A copy of the case whose values are the upper halves of k's, as f32; returns them as bf16. */
static uint16_t *bf16_case(tile_case *ret, const tile_case *k) {
    const size_t values = ROWS * k->ld;
    uint16_t *halves = test_malloc(values * sizeof *halves);
    *ret = *k;
    ret->x = test_malloc(values * sizeof(float));
    for (size_t i = 0; i < values; i++) {
        uint32_t bits;
        memcpy(&bits, &k->x[i], sizeof bits);
        halves[i] = (uint16_t)(bits >> 16);
        ret->x[i] = seam_bf16_to_f32(halves[i]);
    }
    return halves;
}

static void bf16_check(const tile_case *from, const seam_tile_ops *ops) {
    tile_case k;
    uint16_t *x = bf16_case(&k, from);
    const size_t values_bytes = ROWS * k.ld * sizeof(float);
    seam_tile_group group = k.group;
    group.type = SEAM_VALUE_BF16;
    uint8_t *const end = k.codes[1] + k.codes_bytes;
    for (int drawn = 0; drawn < 2; drawn++) {
        assert_true(tile_encode(&k, seam_tile_ops_variant(0), 0, drawn != 0, true));
        for (int decode = 0; decode < 2; decode++) {
            memset(k.codes[1], 0x5a, k.codes_bytes + GUARD);
            memset(k.decoded[1], 0x5a, values_bytes);
            assert_ptr_equal(ops->encode_group(k.codes[1], end, decode != 0 ? k.decoded[1] : NULL,
                                               x, &group, drawn != 0 ? &k.draws : NULL),
                             end);
            assert_memory_equal(k.codes[1], k.codes[0], k.codes_bytes);
            assert_int_equal(*end, 0x5a);
        }
        assert_memory_equal(k.decoded[1], k.decoded[0], values_bytes); /* the padding too */
    }
    test_free(k.x);
    test_free(x);
}

/* With every variant but the base one; bf16 with that one too. */
static void variants_check(uint32_t channels, const uint8_t *pattern, uint32_t count,
                           bool constants) {
    for (uint32_t idx = 1; seam_tile_ops_variant(idx) != NULL; idx++) {
        tile_case k;
        tile_init(&k, channels, pattern, count, constants);
        tile_check(&k, seam_tile_ops_variant(idx));
        bf16_check(&k, seam_tile_ops_variant(idx));
        bf16_check(&k, seam_tile_ops_variant(0));
        tile_deinit(&k);
    }
}

static const uint32_t shapes[] = {1, 7, 8, 9, 15, 16, 24, 63, 64, 70, 129, CHANNELS_MAX};

static void test_variants__every_width__same_bits(void **state) {
    (void)state;
    for (uint8_t width = 1; width <= 16; width++) {
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            variants_check(shapes[i], &width, 1, width % 2 != 0);
        }
    }
}

static void test_variants__mixed_widths__same_bits(void **state) {
    (void)state;
    static const uint8_t narrow[] = {2, 6, 3, 8, 1, 4, 7, 5, 2};
    static const uint8_t nibbles[] = {1, 4, 2, 3, 4};
    /* Blocks of eight: all small, all wide, one wide, up to a byte. */
    static const uint8_t blocks[] = {1,  2,  3, 4, 4, 3, 2, 1, 9, 10, 11, 12, 13, 14, 15, 16,
                                     16, 16, 1, 1, 1, 1, 1, 9, 8, 5,  6,  7,  8,  1,  2,  3};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        variants_check(shapes[i], narrow, sizeof narrow, true);
        variants_check(shapes[i], nibbles, sizeof nibbles, true);
        variants_check(shapes[i], mixed, sizeof mixed, false);
        variants_check(shapes[i], blocks, sizeof blocks, true);
    }
}

static void test_variants__huge_values__clamped_alike(void **state) {
    (void)state;
    /* The last ones are where units of 2^-16 leave an int32. */
    static const float far[] = {3.4e38f,  -3.4e38f,     1e10f,   -1e10f,   70000.0f,
                                -40000.f, 0x1p-149f,    -0.0f,   70.0f,    0x1.fp31f,
                                -0x1p31f, 0x1.fffep14f, 0x1p15f, -0x1p15f, 0x1p16f};
    static const uint8_t patterns[] = {4, 8, 12, 3};
    for (uint32_t idx = 1; seam_tile_ops_variant(idx) != NULL; idx++) {
        for (size_t i = 0; i < sizeof far / sizeof far[0]; i++) {
            for (uint32_t at = 0; at < sizeof patterns; at++) {
                tile_case k;
                tile_init(&k, 96, &patterns[at], 1, true);
                for (uint32_t row = at; row < ROWS; row += 3) {
                    k.x[row * k.ld + (row * 11 + i) % 96] = far[i];
                }
                tile_check(&k, seam_tile_ops_variant(idx));
                bf16_check(&k, seam_tile_ops_variant(idx));
                tile_deinit(&k);
            }
        }
    }
}

/* Whole steps above and below what units of 2^-16 and an int32 hold, and fractions beside them. */
static void test_variants__drawn_at_the_end_of_int32__clamped_alike(void **state) {
    (void)state;
    static const uint8_t patterns[] = {4, 8, 12, 16};
    for (uint32_t idx = 1; seam_tile_ops_variant(idx) != NULL; idx++) {
        for (uint32_t at = 0; at < sizeof patterns; at++) {
            tile_case k;
            tile_init(&k, 96, &patterns[at], 1, true);
            for (size_t i = 0; i < ROWS * k.ld; i++) {
                const uint32_t c = (uint32_t)(i % k.ld) % 96;
                const float steps = (i % 2 == 0 ? 32766.0f : -32769.0f) + (float)(i % 97) / 32;
                k.x[i] = k.group.grid.lo[c] + steps * k.group.grid.step[c];
            }
            tile_check(&k, seam_tile_ops_variant(idx));
            tile_deinit(&k);
        }
    }
}

/* A grid of whole numbers: what lies on it stays, whatever is drawn.  Enough values that the
 * largest draw, which brings v + u nearest to the next number, comes up several times. */
static void test_encode_group__drawn_on_the_grid__stays(void **state) {
    (void)state;
    enum { CHANNELS = CHANNELS_MAX, SEEDS = 8 };
    for (uint8_t width = 1; width <= 16; width++) {
        tile_case k;
        tile_init(&k, CHANNELS, &width, 1, false);
        const uint32_t levels = (1u << width) - 1;
        float *const grids = k.grids;
        for (uint32_t c = 0; c < CHANNELS; c++) {
            grids[k.group.grid.lo - grids + c] = 0.0f;
            grids[k.group.grid.inverse - grids + c] = 1.0f;
            grids[k.group.grid.step - grids + c] = 1.0f;
        }
        for (uint32_t seed = 0; seed < SEEDS; seed++) {
            for (size_t i = 0; i < ROWS * k.ld; i++) {
                k.x[i] = (float)(levels - (uint32_t)(i * (7 + seed)) % (levels + 1));
            }
            k.draws.seed = seed;
            for (uint32_t idx = 0; seam_tile_ops_variant(idx) != NULL; idx++) {
                assert_true(tile_encode(&k, seam_tile_ops_variant(idx), 0, true, true));
                for (size_t row = 0; row < ROWS; row++) {
                    assert_memory_equal(k.decoded[0] + row * k.ld, k.x + row * k.ld,
                                        CHANNELS * sizeof(float));
                }
            }
        }
        tile_deinit(&k);
    }
}

/* Every draw of 16 bits once would round a fraction f up round(2^16 f) times. */
static void test_round_drawn__any_fraction__up_by_its_share_of_the_draws(void **state) {
    (void)state;
    static const double fractions[] = {0.0,       0x1p-18, 0x1p-17 * 1.5, 0.25,
                                       1.0 / 3.0, 0.5,     0.9,           1.0 - 0x1p-17 * 1.5};
    for (uint32_t whole = 0; whole < 64; whole += 21) {
        for (size_t i = 0; i < sizeof fractions / sizeof fractions[0]; i++) {
            const float t = (float)(whole + fractions[i]);
            uint32_t up = 0;
            for (uint32_t half = 0; half < 65536; half++) {
                up += seam_tile_round_drawn(t, (uint16_t)half) - whole;
            }
            assert_int_equal(up, lround(((double)t - whole) * 65536.0));
        }
    }
}

static void bf16_refuse_check(const tile_case *from, const seam_tile_ops *ops) {
    tile_case k;
    uint16_t *x = bf16_case(&k, from);
    seam_tile_group group = k.group;
    group.type = SEAM_VALUE_BF16;
    uint8_t *const end = k.codes[1] + k.codes_bytes;
    assert_null(ops->encode_group(k.codes[1], end, NULL, x, &group, NULL));
    assert_null(ops->encode_group(k.codes[1], end, k.decoded[1], x, &group, &k.draws));
    test_free(k.x);
    test_free(x);
}

static void test_variants__not_finite__all_refuse(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    static const uint8_t patterns[] = {3, 8, 13};
    for (uint32_t idx = 0; seam_tile_ops_variant(idx) != NULL; idx++) {
        for (size_t i = 0; i < 3 * 3; i++) {
            tile_case k;
            tile_init(&k, 85, &patterns[i / 3], 1, true);
            for (uint32_t at = 0; at < ROWS; at++) { /* every row; constant channels too */
                const size_t place = at * k.ld + at * 7 % 85;
                const float before = k.x[place];
                k.x[place] = bad[i % 3];
                assert_false(tile_encode(&k, seam_tile_ops_variant(idx), 1, false, false));
                assert_false(tile_encode(&k, seam_tile_ops_variant(idx), 1, true, true));
                bf16_refuse_check(&k, seam_tile_ops_variant(idx));
                k.x[place] = before;
            }
            assert_true(tile_encode(&k, seam_tile_ops_variant(idx), 1, false, false));
            tile_deinit(&k);
        }
    }
}

static void test_variants__decoded_in_place__same_bits(void **state) {
    (void)state;
    for (uint32_t idx = 1; seam_tile_ops_variant(idx) != NULL; idx++) {
        tile_case k;
        tile_init(&k, 333, mixed, sizeof mixed, true);
        assert_true(tile_encode(&k, seam_tile_ops_variant(0), 0, false, true));
        memset(k.codes[1], 0, k.codes_bytes);
        assert_non_null(seam_tile_ops_variant(idx)->encode_group(
            k.codes[1], k.codes[1] + k.codes_bytes, k.x, k.x, &k.group, NULL));
        assert_memory_equal(k.codes[1], k.codes[0], k.codes_bytes);
        for (size_t i = 0; i < ROWS; i++) {
            assert_memory_equal(k.x + i * k.ld, k.decoded[0] + i * k.ld, 333 * sizeof(float));
        }
        tile_deinit(&k);
    }
}

/* Rows that begin at a multiple of 32 bytes, which streaming stores ask for. */
static void test_variants__aligned_streaming__same_values(void **state) {
    (void)state;
    const uint8_t width = 5;
    for (uint32_t idx = 1; seam_tile_ops_variant(idx) != NULL; idx++) {
        tile_case k;
        tile_init(&k, 72, &width, 1, false);
        assert_true(tile_encode(&k, seam_tile_ops_variant(0), 0, false, true));
        float *x = seam_mem_alloc_aligned(ROWS * 72 * sizeof(float));
        assert_non_null(x);
        k.group.ld = 72;
        (void)seam_tile_ops_variant(idx)->decode_group(x, k.codes[0], k.codes[0] + k.codes_bytes,
                                                       &k.group, true);
        for (size_t i = 0; i < ROWS; i++) {
            assert_memory_equal(x + i * 72, k.decoded[0] + i * k.ld, 72 * sizeof(float));
        }
        seam_mem_free(x);
        tile_deinit(&k);
    }
}

static void test_variants__widen__same_bounds(void **state) {
    (void)state;
    enum { COUNT_MAX = 77, TAKEN_MAX = SEAM_TILE_WIDEN_ROWS };
    float x[TAKEN_MAX][COUNT_MAX], bounds[2][3][COUNT_MAX];
    for (uint32_t idx = 1; seam_tile_ops_variant(idx) != NULL; idx++) {
        for (uint32_t count = 1; count <= COUNT_MAX; count++) {
            for (uint32_t rows = 0; rows <= TAKEN_MAX; rows++) {
                const seam_tile_sources taken = {{x[0], x[1], x[2], x[3]}, rows};
                fixture_tensor(x[0], TAKEN_MAX, COUNT_MAX, count + rows);
                x[1][count / 2] = count % 3 == 0 ? INFINITY : 0.5f;
                for (int at = 0; at < 2; at++) {
                    memset(bounds[at], 0, sizeof bounds[at]);
                    seam_tile_ops_variant(at == 0 ? 0 : idx)
                        ->widen(bounds[at][0], bounds[at][1], bounds[at][2], &taken, count);
                }
                assert_memory_equal(bounds[1], bounds[0], sizeof bounds[0]);
                assert_int_equal(isfinite(bounds[1][2][count / 2]) != 0,
                                 count % 3 != 0 || rows < 2);
            }
        }
    }
}

/* Every bf16 there is, in rows of 77 and of fewer. */
static void test_variants__widen_bf16__same_bounds_in_order(void **state) {
    (void)state;
    enum { COUNT_MAX = 77, TAKEN_MAX = SEAM_TILE_WIDEN_ROWS };
    uint16_t x[TAKEN_MAX][COUNT_MAX];
    int16_t lo[COUNT_MAX], hi[COUNT_MAX];
    for (uint32_t idx = 0; seam_tile_ops_variant(idx) != NULL; idx++) {
        uint16_t next = 0;
        for (uint32_t i = 0; i < 65536 / TAKEN_MAX; i++) {
            const uint32_t count = 1 + i % COUNT_MAX, rows = i % 5;
            const seam_tile_sources taken = {{x[0], x[1], x[2], x[3]}, rows};
            for (uint32_t k = 0; k < TAKEN_MAX * COUNT_MAX; k++, next += 7919) {
                x[k / COUNT_MAX][k % COUNT_MAX] = next;
            }
            memset(lo, 0, sizeof lo);
            memset(hi, 0, sizeof hi);
            seam_tile_ops_variant(idx)->widen_bf16(lo, hi, &taken, count);
            for (uint32_t c = 0; c < COUNT_MAX; c++) {
                int16_t least = 0, most = 0;
                for (uint32_t row = 0; row < rows && c < count; row++) {
                    const int16_t place = seam_tile_order(x[row][c]);
                    least = place < least ? place : least;
                    most = place > most ? place : most;
                }
                assert_int_equal(lo[c], least);
                assert_int_equal(hi[c], most);
            }
        }
    }
}

/* Words of f32 from which bf16 values, ties and both sides of them come, in rows of any length at
 * odd addresses: codes and values as those of one value at a time. */
static void test_variants__bf16__as_value_by_value(void **state) {
    (void)state;
    enum { COUNT_MAX = 203 };
    static const uint32_t lows[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    float x[COUNT_MAX + 1], decoded[COUNT_MAX + 1], back[COUNT_MAX + 1];
    uint8_t codes[2 * COUNT_MAX + 2];
    for (uint32_t idx = 0; seam_tile_ops_variant(idx) != NULL; idx++) {
        const seam_tile_ops *const ops = seam_tile_ops_variant(idx);
        uint16_t high = 0;
        for (uint32_t turn = 0; turn < 2048; turn++) {
            const uint32_t count = turn % (COUNT_MAX + 1);
            for (uint32_t i = 0; i < count; i++, high += 7919) {
                const bool largest = (high & 0x7f80u) >= 0x7f00u; /* rounds to infinity, or is it */
                const uint32_t bits =
                    (uint32_t)(high & (largest ? 0xfeffu : 0xffffu)) << 16 | lows[(turn + i) % 6];
                memcpy(&x[i], &bits, sizeof bits);
            }
            memset(codes, 0xa5, sizeof codes);
            decoded[count] = back[count] = x[count] = 7.0f;
            assert_true(ops->bf16_encode(codes + 1, decoded, x, count));
            assert_true(ops->bf16_decode(back, codes + 1, count));
            assert_true(codes[0] == 0xa5 && codes[2 * count + 1] == 0xa5);
            for (uint32_t i = 0; i < count; i++) {
                const uint16_t half = seam_bf16_from_f32(x[i]);
                assert_int_equal(seam_get_u16(codes + 1 + 2 * i), half);
                const float value = seam_bf16_to_f32(half);
                assert_memory_equal(&decoded[i], &value, sizeof value);
            }
            assert_memory_equal(back, decoded, (count + 1) * sizeof *back);
            assert_true(ops->bf16_encode(codes + 1, x, x, count)); /* in place */
            assert_memory_equal(x, decoded, (count + 1) * sizeof *x);
        }
    }
}

static void test_variants__bf16_not_finite__refused_wherever_it_stands(void **state) {
    (void)state;
    enum { COUNT = 150 };
    /* infinities, NaNs of the smallest and the largest mantissa, what rounds to infinity */
    static const uint32_t bad[] = {0x7f800000u, 0xff800000u, 0x7f800001u, 0x7fffffffu,
                                   0xffffffffu, 0x7f7f8000u, 0xff7fffffu};
    float x[COUNT] = {0}, back[COUNT];
    uint8_t codes[2 * COUNT] = {0};
    for (uint32_t idx = 0; seam_tile_ops_variant(idx) != NULL; idx++) {
        const seam_tile_ops *const ops = seam_tile_ops_variant(idx);
        for (uint32_t i = 0; i < COUNT; i++) {
            for (uint32_t k = 0; k < sizeof bad / sizeof *bad; k++) {
                memcpy(&x[i], &bad[k], sizeof bad[k]);
                assert_false(ops->bf16_encode(codes, NULL, x, COUNT));
            }
            const uint32_t largest = 0x7f7f7fffu;
            memcpy(&x[i], &largest, sizeof largest);
            assert_true(ops->bf16_encode(codes, NULL, x, COUNT));
            x[i] = 0.0f;
            for (uint32_t k = 0; k < 5; k++) {
                seam_put_u16(codes + 2 * i, (uint16_t)(bad[k] >> 16));
                assert_false(ops->bf16_decode(back, codes, COUNT));
            }
            seam_put_u16(codes + 2 * i, 0);
        }
        assert_true(ops->bf16_decode(back, codes, COUNT));
    }
}

static void test_order__finite_values__as_floats(void **state) {
    (void)state;
    static const uint16_t rising[] = {0xffff, 0xff80, 0xff7f, 0xbf80, 0x8001, 0x8000,
                                      0x0000, 0x0001, 0x3f80, 0x7f7f, 0x7f80, 0x7fff};
    for (size_t i = 0; i < sizeof rising / sizeof *rising; i++) {
        const int16_t place = seam_tile_order(rising[i]);
        assert_true(i == 0 || place > seam_tile_order(rising[i - 1]));
        assert_int_equal((uint16_t)seam_tile_order((uint16_t)place), rising[i]);
    }
}

static void test_variants__best__is_the_last(void **state) {
    (void)state;
    uint32_t count = 0;
    while (seam_tile_ops_variant(count) != NULL) {
        assert_non_null(seam_tile_ops_variant(count)->name);
        count++;
    }
    assert_true(count >= 1);
    assert_ptr_equal(seam_tile_ops_best(), seam_tile_ops_variant(count - 1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variants__every_width__same_bits),
        cmocka_unit_test(test_variants__mixed_widths__same_bits),
        cmocka_unit_test(test_variants__huge_values__clamped_alike),
        cmocka_unit_test(test_variants__drawn_at_the_end_of_int32__clamped_alike),
        cmocka_unit_test(test_encode_group__drawn_on_the_grid__stays),
        cmocka_unit_test(test_round_drawn__any_fraction__up_by_its_share_of_the_draws),
        cmocka_unit_test(test_variants__not_finite__all_refuse),
        cmocka_unit_test(test_variants__decoded_in_place__same_bits),
        cmocka_unit_test(test_variants__aligned_streaming__same_values),
        cmocka_unit_test(test_variants__widen__same_bounds),
        cmocka_unit_test(test_variants__widen_bf16__same_bounds_in_order),
        cmocka_unit_test(test_variants__bf16__as_value_by_value),
        cmocka_unit_test(test_variants__bf16_not_finite__refused_wherever_it_stands),
        cmocka_unit_test(test_order__finite_values__as_floats),
        cmocka_unit_test(test_variants__best__is_the_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
