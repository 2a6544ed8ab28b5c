/* Goal: the entropy coder gives back every chunk to the bit, shrinks what can shrink, writes the
 * same bytes with every variant of its loops, and refuses streams that are none.
 * Method: tables of shapes; every truncation and every flipped bit of small streams; the sizes
 * against the entropy of the codes.  Buffers are exact, so that the sanitizers see an overrun. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "arena.h"
#include "bytes.h"
#include "rans_fixture.h"
#include "rans_impl.h"

typedef struct chunk {
    seam_rans_args args;
    uint8_t *widths, *codes, *stream, *again;
    size_t codes_bytes, stream_bytes;
    void *scratch;
} chunk;

static void chunk_init(chunk *k, uint32_t rows, uint32_t channels, const uint8_t *widths,
                       uint32_t width_count, rans_shape shape) {
    memset(k, 0, sizeof *k);
    k->widths = test_malloc(channels);
    for (uint32_t c = 0; c < channels; c++) {
        k->widths[c] = widths[c % width_count];
    }
    k->args = (seam_rans_args){k->widths, rows, channels};
    k->codes_bytes = seam_rans_bytes_max(&k->args) - 1;
    k->codes = test_malloc(k->codes_bytes);
    k->again = test_malloc(k->codes_bytes);
    k->stream = test_malloc(k->codes_bytes + 1);
    k->scratch = seam_mem_alloc_aligned(seam_rans_scratch_bytes(channels));
    assert_non_null(k->scratch);
    rans_fixture(k->codes, &k->args, shape, rows * 31u + channels);
    seam_rans_encode(k->stream, &k->stream_bytes, &k->args, k->codes, k->scratch);
    assert_true(k->stream_bytes <= k->codes_bytes + 1);
}

static void chunk_deinit(chunk *k) {
    test_free(k->widths);
    test_free(k->codes);
    test_free(k->again);
    test_free(k->stream);
    seam_mem_free(k->scratch);
}

/* A copy of exactly `bytes` bytes, so that reading past its end is seen. */
static seam_status decode_exact(chunk *k, const uint8_t *stream, size_t bytes) {
    uint8_t *copy = test_malloc(bytes + (bytes == 0));
    memcpy(copy, stream, bytes);
    memset(k->again, 0xa5, k->codes_bytes);
    const seam_status st = seam_rans_decode(k->again, &k->args, copy, bytes, k->scratch);
    test_free(copy);
    return st;
}

static void chunk_check(chunk *k) {
    assert_int_equal(decode_exact(k, k->stream, k->stream_bytes), SEAM_OK);
    assert_memory_equal(k->again, k->codes, k->codes_bytes);
    uint8_t *other = test_malloc(k->codes_bytes + 1);
    for (uint32_t idx = 0; seam_rans_tile_variant(idx) != NULL; idx++) {
        const seam_rans_tile_ops *tile = seam_rans_tile_variant(idx);
        size_t bytes = 0;
        seam_rans_encode_by(other, &bytes, tile, &k->args, k->codes, k->scratch);
        assert_int_equal(bytes, k->stream_bytes);
        assert_memory_equal(other, k->stream, bytes);
        memset(k->again, 0xa5, k->codes_bytes);
        assert_int_equal(
            seam_rans_decode_by(k->again, tile, &k->args, k->stream, k->stream_bytes, k->scratch),
            SEAM_OK);
        assert_memory_equal(k->again, k->codes, k->codes_bytes);
    }
    test_free(other);
}

static const uint8_t mixed[] = {1, 16, 3, 8, 9, 4, 2, 7, 5, 12, 6};

static void test_rans__every_width_and_shape__round_trip(void **state) {
    (void)state;
    static const uint32_t rows[] = {1, 31, 32, 33, 64, 95, 300};
    for (uint8_t width = 1; width <= 17; width++) { /* 17: mixed */
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
            for (int shape = 0; shape <= RANS_SHAPE_ALL; shape++) {
                chunk k;
                const bool is_mixed = width == 17;
                chunk_init(&k, rows[r], 1 + 7 * (uint32_t)r, is_mixed ? mixed : &width,
                           is_mixed ? sizeof mixed : 1, (rans_shape)shape);
                chunk_check(&k);
                chunk_deinit(&k);
            }
        }
    }
}

static void test_rans__many_rows_or_channels__round_trip(void **state) {
    (void)state;
    static const uint32_t shapes[][2] = {
        {2000, 64}, {2000, 1}, {64, 3000}, {131072, 1}, {4127, 37}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        chunk k;
        chunk_init(&k, shapes[i][0], shapes[i][1], mixed, sizeof mixed, RANS_SHAPE_ALL);
        chunk_check(&k);
        chunk_deinit(&k);
    }
}

/* Order-0 entropy in bytes of all codes (of one width). */
static double entropy_bytes(const chunk *k) {
    const uint32_t width = k->widths[0];
    uint32_t *counts = test_calloc((size_t)1 << width, sizeof *counts);
    const size_t group_words = (size_t)width * k->args.channels;
    const uint32_t groups = k->args.rows / 32;
    for (size_t cell = 0; cell < (size_t)groups * k->args.channels; cell++) {
        const uint8_t *words = k->codes + 4 * (cell / k->args.channels) * group_words +
                               4 * (cell % k->args.channels) * width;
        for (uint32_t row = 0; row < 32; row++) {
            uint32_t code = 0;
            for (uint32_t j = 0; j < width; j++) {
                code |= ((uint32_t)words[4 * j + row / 8] >> (row % 8) & 1u) << j;
            }
            counts[code]++;
        }
    }
    const double total = 32.0 * groups * k->args.channels;
    double bits = 0.0;
    for (size_t s = 0; s < (size_t)1 << width; s++) {
        bits += counts[s] == 0 ? 0.0 : counts[s] * log2(total / counts[s]);
    }
    test_free(counts);
    return bits / 8.0;
}

/* Issue 3, section 4: within 1.03 of the empirical entropy. */
static void
test_rans_encode__normal_and_peaked_channels__within_3_percent_of_entropy(void **state) {
    (void)state;
    for (uint8_t width = 2; width <= 8; width++) {
        for (int shape = RANS_SHAPE_NORMAL; shape <= RANS_SHAPE_PEAKED; shape++) {
            chunk k;
            chunk_init(&k, 1984, 256, &width, 1, (rans_shape)shape);
            const double entropy = entropy_bytes(&k);
            if (entropy > 0.02 * (double)k.codes_bytes) { /* else headers are what is measured */
                assert_true((double)k.stream_bytes <= 1.03 * entropy);
            }
            chunk_deinit(&k);
        }
    }
}

static void test_rans_encode__nothing_to_gain__stored(void **state) {
    (void)state;
    const uint8_t width = 4;
    chunk k;
    chunk_init(&k, 512, 64, &width, 1, RANS_SHAPE_UNIFORM);
    assert_int_equal(k.stream_bytes, k.codes_bytes + 1);
    assert_int_equal(k.stream[0], 0);
    assert_memory_equal(k.stream + 1, k.codes, k.codes_bytes);
    chunk_check(&k);
    chunk_deinit(&k);
    chunk_init(&k, 31, 64, &width, 1, RANS_SHAPE_ZERO); /* no full group */
    assert_int_equal(k.stream[0], 0);
    chunk_deinit(&k);
}

static void test_rans_encode__constant_channels__cost_nothing(void **state) {
    (void)state;
    const uint8_t width = 12;
    chunk k;
    chunk_init(&k, 2016, 64, &width, 1, RANS_SHAPE_ZERO);
    assert_int_equal(k.stream_bytes, 2); /* one class, of zeros */
    chunk_check(&k);
    chunk_deinit(&k);
}

static void test_rans_decode__tail_bits_set__refused(void **state) {
    (void)state;
    const uint8_t width = 3;
    for (int coded = 0; coded < 2; coded++) { /* 33 rows: one row of 3 bits in the last byte */
        chunk k;
        chunk_init(&k, 33, 1, &width, 1, coded != 0 ? RANS_SHAPE_ZERO : RANS_SHAPE_UNIFORM);
        assert_int_equal(k.stream[0], coded);
        k.stream[k.stream_bytes - 1] |= 0x80;
        assert_int_equal(decode_exact(&k, k.stream, k.stream_bytes), SEAM_E_FORMAT);
        k.stream[k.stream_bytes - 1] = 4; /* the row's own bits */
        assert_int_equal(decode_exact(&k, k.stream, k.stream_bytes), SEAM_OK);
        chunk_deinit(&k);
    }
}

/* Streams of several classes, stored planes and a tail, small enough to try every bit. */
static void small_stream(chunk *k, int which) {
    static const uint8_t widths[] = {3, 6, 4, 1, 8};
    static const rans_shape shapes[] = {RANS_SHAPE_RARE, RANS_SHAPE_ALL, RANS_SHAPE_PEAKED};
    chunk_init(k, 97 + 32 * (uint32_t)which, 40, widths, sizeof widths, shapes[which]);
    assert_true(k->stream[0] > 0);
}

static void test_rans_decode__every_truncation__refused(void **state) {
    (void)state;
    for (int which = 0; which < 3; which++) {
        chunk k;
        small_stream(&k, which);
        for (size_t bytes = 0; bytes < k.stream_bytes; bytes++) {
            assert_int_equal(decode_exact(&k, k.stream, bytes), SEAM_E_FORMAT);
        }
        uint8_t *longer = test_calloc(k.stream_bytes + 1, 1);
        memcpy(longer, k.stream, k.stream_bytes);
        assert_int_equal(decode_exact(&k, longer, k.stream_bytes + 1), SEAM_E_FORMAT);
        test_free(longer);
        chunk_deinit(&k);
    }
}

/* A flipped bit is refused, or it lay in what travels as it is, and then decodes to other codes;
 * both variants agree about which. */
static void test_rans_decode__every_flipped_bit__refused_or_other_codes(void **state) {
    (void)state;
    for (int which = 0; which < 3; which++) {
        chunk k;
        small_stream(&k, which);
        uint8_t *other = test_malloc(k.codes_bytes);
        for (size_t bit = 0; bit < 8 * k.stream_bytes; bit++) {
            k.stream[bit / 8] ^= (uint8_t)(1u << bit % 8);
            const seam_status st = decode_exact(&k, k.stream, k.stream_bytes);
            assert_true(st == SEAM_OK || st == SEAM_E_FORMAT);
            assert_true(st != SEAM_OK || memcmp(k.again, k.codes, k.codes_bytes) != 0);
            assert_int_equal(seam_rans_decode_by(other, seam_rans_tile_variant(0), &k.args,
                                                 k.stream, k.stream_bytes, k.scratch),
                             st);
            assert_true(st != SEAM_OK || memcmp(k.again, other, k.codes_bytes) == 0);
            k.stream[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        test_free(other);
        chunk_deinit(&k);
    }
}

/* Offset of the block sizes of a stream that stores nothing and has no tail: they and the blocks
 * are its rest. */
static size_t sizes_at(const chunk *k, uint32_t *ret_blocks) {
    for (size_t at = 1; at < k->stream_bytes; at++) {
        uint64_t end = at;
        for (uint32_t blocks = 1; at + 4 * (size_t)blocks <= k->stream_bytes; blocks++) {
            end += 4 + (uint64_t)seam_get_u32(k->stream + at + 4 * (size_t)(blocks - 1));
            if (end == k->stream_bytes && blocks > SEAM_RANS_READERS_MAX) {
                *ret_blocks = blocks;
                return at;
            }
        }
    }
    return 0;
}

/* The block before it has no states behind it then, into which its loads could reach. */
static void test_rans_decode__last_block_too_short__refused(void **state) {
    (void)state;
    static const uint8_t widths[] = {4, 3};
    chunk k;
    chunk_init(&k, 1984, 320, widths, sizeof widths, RANS_SHAPE_NORMAL);
    uint32_t blocks = 0;
    const size_t at = sizes_at(&k, &blocks);
    assert_true(at > 0);
    uint8_t *last = k.stream + at + 4 * (size_t)(blocks - 1);
    const uint32_t last_bytes = seam_get_u32(last), before_bytes = seam_get_u32(last - 4);
    for (uint32_t bytes = 0; bytes < last_bytes; bytes += bytes < 200 ? 1 : 97) {
        seam_put_u32(last, bytes);
        seam_put_u32(last - 4, before_bytes + last_bytes - bytes);
        assert_int_equal(decode_exact(&k, k.stream, k.stream_bytes), SEAM_E_FORMAT);
    }
    chunk_deinit(&k);
}

static void test_rans_decode__malformed_heads__refused(void **state) {
    (void)state;
    const uint8_t width = 2;
    chunk k;
    chunk_init(&k, 32, 3, &width, 1, RANS_SHAPE_ZERO);
    static const struct {
        uint8_t bytes[32];
        size_t count;
    } bad[] = {
        {{33}, 1},                                     /* more classes than 32 */
        {{1, 10}, 2},                                  /* no such kind */
        {{1, 3, 0}, 3},                                /* frequencies end too early */
        {{1, 1, 1, 1}, 4},                             /* and do not sum to 4096 */
        {{1, 3, 1, 0xff, 0x1f, 0, 0, 0, 0, 0, 0}, 11}, /* more planes than the width */
        {{1, 1, 0x80, 0x20, 0}, 5},                    /* 4096 in one symbol */
        {{1, 1, 0x81, 0x00, 0xff, 0x1f}, 6},           /* 1 in two bytes */
        {{3, 9, 9, 9, 0x03}, 5},                       /* a class that is not there */
        {{2, 9, 9, 0x08}, 4},                          /* a bit behind the last channel */
        {{2, 9, 9}, 3},                                /* no channels' classes */
        {{1, 1, 0xff, 0x1f, 1}, 5},                    /* no block */
        {{1, 1, 0xff, 0x1f, 1, 0, 0, 0, 0}, 21},       /* a block of no bytes */
        {{1, 1, 0xff, 0x1f, 1, 2, [21] = 1}, 23},      /* one of two bytes: no states */
        {{1, 1, 0xff, 0x1f, 1, 9, 0, 0, 0}, 21},       /* a block past the end */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(decode_exact(&k, bad[i].bytes, bad[i].count), SEAM_E_FORMAT);
    }
    static const uint8_t good[] = {2, 9, 9, 0x05}; /* two classes of zeros */
    assert_int_equal(decode_exact(&k, good, sizeof good), SEAM_OK);
    assert_memory_equal(k.again, k.codes, k.codes_bytes);
    chunk_deinit(&k);
}

/* A division by every frequency over the states that can meet it, without the tables' help. */
static void test_encode_table__every_frequency__divides_exactly(void **state) {
    (void)state;
    seam_rans_encode_entry entries[SEAM_RANS_SYMBOLS_MAX];
    for (uint32_t freq = 1; freq < SEAM_RANS_PROB_SUM; freq++) {
        const uint16_t freqs[2] = {(uint16_t)freq, (uint16_t)(SEAM_RANS_PROB_SUM - freq)};
        seam_rans_encode_table(entries, freqs, 2);
        const uint32_t x_end = freq << 19; /* above, a word leaves first */
        for (uint32_t i = 0; i < 64; i++) {
            const uint32_t x = i < 32 ? x_end - 1 - i * freq : (x_end >> 4) + i * 9973u % x_end;
            if (x < SEAM_RANS_STATE_MIN >> 12 || x >= x_end) {
                continue;
            }
            seam_rans_lanes lanes;
            uint8_t units[SEAM_RANS_LANES] = {0}, words[80];
            for (uint32_t l = 0; l < SEAM_RANS_LANES; l++) {
                lanes.x[l] = x;
            }
            (void)seam_rans_tile_variant(0)->encode(&lanes, words + 80, units, 1, entries, NULL);
            assert_int_equal(lanes.x[0], (x / freq << SEAM_RANS_PROB_BITS) + x % freq);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rans__every_width_and_shape__round_trip),
        cmocka_unit_test(test_rans__many_rows_or_channels__round_trip),
        cmocka_unit_test(test_rans_encode__normal_and_peaked_channels__within_3_percent_of_entropy),
        cmocka_unit_test(test_rans_encode__nothing_to_gain__stored),
        cmocka_unit_test(test_rans_encode__constant_channels__cost_nothing),
        cmocka_unit_test(test_rans_decode__tail_bits_set__refused),
        cmocka_unit_test(test_rans_decode__every_truncation__refused),
        cmocka_unit_test(test_rans_decode__every_flipped_bit__refused_or_other_codes),
        cmocka_unit_test(test_rans_decode__last_block_too_short__refused),
        cmocka_unit_test(test_rans_decode__malformed_heads__refused),
        cmocka_unit_test(test_encode_table__every_frequency__divides_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
