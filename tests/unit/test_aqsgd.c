/* Goal: codec aqsgd does what aqsgd.h says: both ends hold the same values and caches through
 * visits, evictions, repeated samples, changed rows and abandoned tensors; labelled rows get the
 * same bits whatever the range mask leaves out; every malformed payload gives its named error.
 * Method: an encoder and a decoder side by side over many tensors, and a plain model of one sample
 * in double steps; patches of a small payload that is known byte by byte. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "aqsgd.h"
#include "aqsgd_quant.h"
#include "arena.h"
#include "bytes.h"
#include "codec_fixture.h"

enum { C = 7, ROWS = 128, S = 9, STORAGE = 4096, PAYLOAD_MAX = 8192 };

typedef struct ends {
    uint8_t storage[2][STORAGE];
    seam_aqsgd *encoder, *decoder;
} ends;

static seam_aqsgd *aqsgd_make(uint8_t *storage, size_t storage_bytes, uint32_t bits,
                              uint32_t cache_bits) {
    seam_aqsgd *a = NULL;
    const seam_aqsgd_config config = {.channels = C,
                                      .rows_max = ROWS,
                                      .sequences_max = S,
                                      .bits = bits,
                                      .cache_bits = cache_bits,
                                      .storage = storage,
                                      .storage_bytes = storage_bytes};
    assert_int_equal(seam_aqsgd_create(&a, &config), SEAM_OK);
    return a;
}

static void ends_init(ends *e, size_t storage_bytes, uint32_t bits, uint32_t cache_bits) {
    memset(e->storage[0], 0xaa, STORAGE); /* what the storage held before does not matter */
    memset(e->storage[1], 0x55, STORAGE);
    e->encoder = aqsgd_make(e->storage[0], storage_bytes, bits, cache_bits);
    e->decoder = aqsgd_make(e->storage[1], storage_bytes, bits, cache_bits);
}

static void ends_deinit(ends *e) {
    seam_aqsgd_destroy(e->encoder);
    seam_aqsgd_destroy(e->decoder);
}

/* One tensor through both ends in chunks; ret (rows, C): what the receiver sees.  Returns its
 * payload bytes. */
static size_t pass(float *ret, ends *e, const seam_sequences *sequences, const float *x,
                   uint32_t rows, const uint8_t *range_rows, uint32_t chunk) {
    static float announced[ROWS * C];
    static uint8_t payload[PAYLOAD_MAX];
    size_t total = 0;
    assert_int_equal(seam_aqsgd_encode_begin(e->encoder, sequences, x, rows, range_rows), SEAM_OK);
    seam_aqsgd_decode_begin(e->decoder, sequences, rows, range_rows);
    for (uint32_t row = 0; row < rows; row += chunk) {
        const uint32_t count = rows - row < chunk ? rows - row : chunk;
        const size_t at = (size_t)row * C;
        size_t bytes = 0;
        seam_error err = {0};
        seam_aqsgd_encode(&bytes, announced + at, e->encoder, payload, x + at, count);
        assert_true(bytes <= seam_aqsgd_rows_bytes_max(count, C) +
                                 (row == 0 ? seam_aqsgd_head_bytes_max(S, C) : 0));
        if (seam_aqsgd_decode(ret + at, e->decoder, payload, bytes, count, &err) != SEAM_OK) {
            fail_msg("%s", err.text);
        }
        total += bytes;
    }
    assert_memory_equal(ret, announced, (size_t)rows * C * sizeof *ret);
    assert_int_equal(seam_aqsgd_whole_count(e->encoder), seam_aqsgd_whole_count(e->decoder));
    seam_aqsgd_commit(e->encoder);
    seam_aqsgd_commit(e->decoder);
    assert_int_equal(seam_aqsgd_cached_count(e->encoder), seam_aqsgd_cached_count(e->decoder));
    return total;
}

static double error_max(const float *a, const float *b, uint32_t count) {
    double largest = 0.0;
    for (uint32_t i = 0; i < count; i++) {
        largest = fmax(largest, fabs((double)a[i] - b[i]));
    }
    return largest;
}

/* ---- visits ---- */

static void test_encode__first_visit_then_changes__error_shrinks(void **state) {
    (void)state;
    static ends e;
    static float x[64 * C], got[64 * C];
    const uint64_t ids[3] = {5, UINT64_MAX, 0};
    const uint32_t rows[3] = {20, 0, 44};
    const seam_sequences sequences = {ids, rows, 3};
    fixture_tensor(x, 64, C, 1);
    for (uint32_t chunk = 32; chunk <= 64; chunk += 32) {
        ends_init(&e, STORAGE, 3, 0);
        const size_t head = 4 + 1;
        assert_int_equal(pass(got, &e, &sequences, x, 64, NULL, chunk), head + 64 * C * 2);
        assert_int_equal(seam_aqsgd_whole_count(e.encoder), 2);
        for (uint32_t i = 0; i < 64 * C; i++) { /* whole: fp16 of x */
            uint8_t half[2];
            float expected;
            assert_true(seam_fp16_row_put(half, &x[i], 1));
            assert_true(seam_fp16_row_get(&expected, half, 1));
            assert_true(got[i] == expected);
        }
        /* The same x again and again: each visit quantizes what the last one left. */
        double before = INFINITY;
        for (uint32_t visit = 0; visit < 4; visit++) {
            x[3] += visit == 0 ? 40.0f : 0.0f;
            assert_int_equal(pass(got, &e, &sequences, x, 64, NULL, chunk),
                             head + 8 + 4 + 2 * C + 64 * C * 3 / 8);
            assert_int_equal(seam_aqsgd_whole_count(e.encoder), 0);
            const double error = error_max(got, x, 64 * C);
            assert_true(error < before / 2);
            before = error;
        }
        x[3] -= 40.0f;
        ends_deinit(&e);
    }
}

/* m + x^ by hand: one channel would do, C are alike. b = 2, half = 2. */
static void test_encode__one_change__by_hand(void **state) {
    (void)state;
    static ends e;
    float x[2 * C], got[2 * C];
    const uint64_t id = 9;
    const uint32_t rows = 2;
    const seam_sequences sequences = {&id, &rows, 1};
    ends_init(&e, STORAGE, 2, 0);
    for (uint32_t c = 0; c < C; c++) {
        x[c] = 1.0f;
        x[C + c] = -1.0f;
    }
    (void)pass(got, &e, &sequences, x, 2, NULL, 32);
    for (uint32_t c = 0; c < C; c++) {
        x[c] = 1.0f + 4.0f;      /* t = 2, clipped to 1: x^ = 2 */
        x[C + c] = -1.0f - 1.0f; /* t = -0.5, to even: 0 */
    }
    (void)pass(got, &e, &sequences, x, 2, NULL, 32);
    for (uint32_t c = 0; c < C; c++) {
        assert_true(got[c] == 3.0f);
        assert_true(got[C + c] == -1.0f);
    }
    ends_deinit(&e);
}

static void test_encode__beyond_fp16__refused_or_clipped(void **state) {
    (void)state;
    static ends e;
    float x[C] = {0}, got[C];
    const uint64_t id = 9;
    const uint32_t rows = 1;
    const seam_sequences sequences = {&id, &rows, 1};
    ends_init(&e, STORAGE, 1, 0);
    static const float bad[] = {NAN, INFINITY, -65520.0f};
    for (size_t i = 0; i < 3; i++) {
        x[3] = bad[i];
        assert_int_equal(seam_aqsgd_encode_begin(e.encoder, &sequences, x, 1, NULL),
                         SEAM_E_NONFINITE);
    }
    x[3] = -60000.0f;
    (void)pass(got, &e, &sequences, x, 1, NULL, 32);
    /* b = 1 gives {-s, 0}; the scale of 5519 is rounded up to 5520, so the sum leaves fp16. */
    x[3] = -65519.0f;
    (void)pass(got, &e, &sequences, x, 1, NULL, 32);
    assert_true(got[3] == -65504.0f);
    ends_deinit(&e);
}

/* ---- both ends over many tensors ---- */

typedef struct draw {
    uint64_t ids[S];
    uint32_t rows[S];
    seam_sequences sequences;
    uint32_t total;
    float x[ROWS * C];
} draw;

/* 1..S sequences of samples 0..11; a sample has 3 + id % 4 * 4 rows, now and then one less; values
 * drift from visit to visit.  Samples may repeat within a tensor. */
static void draw_next(draw *d, uint64_t *random, uint32_t visit) {
    d->total = 0;
    d->sequences = (seam_sequences){d->ids, d->rows, 1 + fixture_next(random) % S};
    for (uint32_t s = 0; s < d->sequences.count; s++) {
        d->ids[s] = fixture_next(random) % 12;
        d->rows[s] = (uint32_t)(3 + d->ids[s] % 4 * 4) - (fixture_next(random) % 16 == 0);
        if (fixture_next(random) % 10 == 0 && d->total > 0) {
            d->rows[s] = 0;
        }
        float *const x = d->x + (size_t)d->total * C;
        fixture_tensor(x, d->rows[s] == 0 ? 1 : d->rows[s], C, d->ids[s]);
        for (uint32_t i = 0; i < d->rows[s] * C; i++) {
            x[i] += 0.1f * fixture_normal(random) + 0.01f * (float)visit;
        }
        d->total += d->rows[s];
    }
    if (d->total == 0) {
        d->rows[0] = 1;
        d->total = 1;
    }
}

static void test_pass__evictions_repeats_and_changed_rows__ends_agree(void **state) {
    (void)state;
    static ends e;
    static draw d;
    static float got[ROWS * C];
    static const struct {
        size_t storage_bytes;
        uint32_t bits, cache_bits;
    } cases[] = {{STORAGE, 4, 0}, {700, 4, 0}, {100, 3, 0}, {5, 2, 0},
                 {1500, 4, 4},    {300, 3, 8}, {900, 8, 1}, {4000, 16, 16}};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        uint64_t random = 123;
        uint32_t changes = 0;
        ends_init(&e, cases[k].storage_bytes, cases[k].bits, cases[k].cache_bits);
        for (uint32_t visit = 0; visit < 200; visit++) {
            draw_next(&d, &random, visit);
            (void)pass(got, &e, &d.sequences, d.x, d.total, NULL, visit % 2 == 0 ? 32 : ROWS);
            changes += d.sequences.count - seam_aqsgd_whole_count(e.encoder);
        }
        assert_true(k == 3 ? seam_aqsgd_cached_count(e.encoder) == 0 : changes > 50);
        ends_deinit(&e);
    }
}

static void test_encode__repeated_sample__travels_whole_and_last_stays(void **state) {
    (void)state;
    static ends e;
    float x[6 * C], got[6 * C];
    const uint64_t ids[3] = {4, 4, 4};
    const uint32_t rows[3] = {2, 2, 2};
    const seam_sequences one = {ids, rows, 1}, three = {ids, rows, 3};
    ends_init(&e, STORAGE, 4, 0);
    fixture_tensor(x, 6, C, 2);
    (void)pass(got, &e, &one, x, 2, NULL, 32);
    (void)pass(got, &e, &three, x, 6, NULL, 32);
    assert_int_equal(seam_aqsgd_whole_count(e.encoder), 2); /* the first one is a change */
    /* The cache holds rows 4 and 5: their fp16 is exact at a change of nothing. */
    (void)pass(got, &e, &one, got + 4 * C, 2, NULL, 32);
    assert_int_equal(seam_aqsgd_whole_count(e.encoder), 0);
    fixture_tensor(x, 6, C, 2);
    for (uint32_t i = 0; i < 2 * C; i++) {
        assert_true(fabsf(got[i] - x[4 * C + i]) <= fabsf(x[4 * C + i]) * 0x1p-11f);
    }
    ends_deinit(&e);
}

static void test_commit__tensor_abandoned__cache_as_before(void **state) {
    (void)state;
    static ends e;
    static float x[40 * C], got[40 * C];
    static uint8_t payload[PAYLOAD_MAX], first[PAYLOAD_MAX], before[STORAGE];
    const uint64_t ids[2] = {1, 2};
    const uint32_t rows[2] = {30, 10};
    const seam_sequences sequences = {ids, rows, 2};
    for (uint32_t cache_bits = 0; cache_bits <= 4; cache_bits += 4) {
        size_t bytes = 0, first_bytes = 0;
        ends_init(&e, STORAGE, 4, cache_bits);
        fixture_tensor(x, 40, C, 1);
        (void)pass(got, &e, &sequences, x, 40, NULL, 64);
        fixture_tensor(x, 40, C, 2);
        memcpy(before, e.storage[1], STORAGE);
        for (uint32_t attempt = 0; attempt < 3; attempt++) {
            assert_int_equal(seam_aqsgd_encode_begin(e.encoder, &sequences, x, 40, NULL), SEAM_OK);
            seam_aqsgd_encode(&bytes, NULL, e.encoder, payload, x, 32);
            if (attempt == 0) {
                memcpy(first, payload, bytes);
                first_bytes = bytes;
            }
            assert_int_equal(bytes, first_bytes); /* the repetition is the same to the byte */
            assert_memory_equal(payload, first, bytes);
            seam_aqsgd_decode_begin(e.decoder, &sequences, 40, NULL);
            assert_int_equal(seam_aqsgd_decode(got, e.decoder, payload, bytes, 32, NULL), SEAM_OK);
            assert_int_equal(seam_aqsgd_decode(got, e.decoder, payload, bytes, 8, NULL),
                             SEAM_E_FORMAT);
            assert_memory_equal(e.storage[1], before, STORAGE);
        }
        (void)pass(got, &e, &sequences, x, 40, NULL, 64);
        assert_int_equal(seam_aqsgd_whole_count(e.decoder), 0);
        ends_deinit(&e);
    }
}

/* Labelled rows alone, or among others that the range mask leaves out: the same bits. */
static void test_encode__range_mask__rows_in_range_get_the_same_bits(void **state) {
    (void)state;
    static ends all, labelled;
    static float x[12 * C], picked[6 * C], got_all[12 * C], got[6 * C];
    const uint64_t ids[2] = {1, 2};
    const uint32_t rows_all[2] = {8, 4}, rows_labelled[2] = {4, 2};
    const uint8_t mask[2] = {0xaa, 0x0a}; /* rows 1, 3, 5, 7, 9, 11 */
    const seam_sequences sequences_all = {ids, rows_all, 2};
    const seam_sequences sequences = {ids, rows_labelled, 2};
    for (uint32_t cache_bits = 0; cache_bits <= 5; cache_bits += 5) {
        ends_init(&all, STORAGE, 3, cache_bits);
        ends_init(&labelled, STORAGE, 3, cache_bits);
        for (uint64_t visit = 0; visit < 4; visit++) {
            fixture_tensor(x, 12, C, visit);
            for (uint32_t i = 0; i < 6; i++) {
                x[2 * i * C] *= 100.0f; /* would widen the scale */
                memcpy(picked + (size_t)i * C, x + (2 * (size_t)i + 1) * C, C * sizeof *x);
            }
            (void)pass(got_all, &all, &sequences_all, x, 12, mask, 32);
            (void)pass(got, &labelled, &sequences, picked, 6, NULL, 32);
            for (uint32_t i = 0; i < 6; i++) {
                assert_memory_equal(got_all + (2 * (size_t)i + 1) * C, got + (size_t)i * C,
                                    C * sizeof *got);
            }
        }
        ends_deinit(&all);
        ends_deinit(&labelled);
    }
}

static void test_decode__encoder_restarted__takes_whole_rows_again(void **state) {
    (void)state;
    static ends e;
    static draw d;
    static float got[ROWS * C];
    uint64_t random = 5;
    uint32_t forgotten = 0;
    ends_init(&e, 700, 4, 0);
    for (uint32_t visit = 0; visit < 60; visit++) {
        if (visit == 20) { /* its cache is empty, the decoder's is not */
            seam_aqsgd_destroy(e.encoder);
            e.encoder = aqsgd_make(e.storage[0], 700, 4, 0);
        } else if (visit == 40) {
            seam_aqsgd_forget(e.encoder);
            assert_int_equal(seam_aqsgd_cached_count(e.encoder), 0);
        }
        draw_next(&d, &random, visit);
        static float announced[ROWS * C];
        uint8_t payload[PAYLOAD_MAX];
        size_t bytes = 0;
        seam_error err = {0};
        assert_int_equal(seam_aqsgd_encode_begin(e.encoder, &d.sequences, d.x, d.total, NULL),
                         SEAM_OK);
        seam_aqsgd_encode(&bytes, announced, e.encoder, payload, d.x, d.total);
        seam_aqsgd_decode_begin(e.decoder, &d.sequences, d.total, NULL);
        if (seam_aqsgd_decode(got, e.decoder, payload, bytes, d.total, &err) != SEAM_OK) {
            fail_msg("visit %u: %s", visit, err.text);
        }
        assert_memory_equal(got, announced, (size_t)d.total * C * sizeof *got);
        forgotten += seam_aqsgd_forgotten_count(e.decoder);
        assert_true(visit >= 20 || forgotten == 0);
        seam_aqsgd_commit(e.encoder);
        seam_aqsgd_commit(e.decoder);
    }
    assert_true(forgotten > 0); /* a decoder can tell */
    ends_deinit(&e);
}

/* ---- hostile payloads ---- */

/* Samples 7 (2 rows, cached), 8 (1 row, whole), 9 (no rows) and 10 (1 row, whole): the payload of
 * the test.  4 + 1 + 4 (tag of 7) + 18 (scales) = 27 bytes of head, 28 of whole rows, 2 * 7 codes
 * of 3 bits = 6 bytes with 6 bits of rest. */
enum { HEAD = 27, GOOD = HEAD + 28 + 6 };
static const uint64_t hostile_ids[4] = {7, 8, 9, 10};
static const uint32_t hostile_rows[4] = {2, 1, 0, 1};
static const seam_sequences hostile = {hostile_ids, hostile_rows, 4};

static void hostile_make(ends *e, uint8_t *payload) {
    static float x[4 * C], got[4 * C];
    const seam_sequences first = {hostile_ids, hostile_rows, 1};
    size_t bytes = 0;
    ends_init(e, STORAGE, 3, 0);
    fixture_tensor(x, 4, C, 1);
    (void)pass(got, e, &first, x, 2, NULL, 32);
    fixture_tensor(x, 4, C, 2);
    assert_int_equal(seam_aqsgd_encode_begin(e->encoder, &hostile, x, 4, NULL), SEAM_OK);
    seam_aqsgd_encode(&bytes, NULL, e->encoder, payload, x, 4);
    assert_int_equal(bytes, GOOD);
}

static void test_decode__malformed__named_error(void **state) {
    (void)state;
    static ends e;
    static const struct {
        uint32_t at, bits; /* 16 bits, LE, put over the good payload */
        uint32_t payload_bytes;
        seam_status expected;
        const char *text;
    } cases[] = {
        {0, 4, 4, SEAM_E_FORMAT, "aqsgd.head: 4 bytes"},
        {0, 4, HEAD - 1, SEAM_E_FORMAT, "aqsgd.head: 26 bytes of payload, 27 follow from it"},
        {0, 5, GOOD, SEAM_E_FORMAT, "aqsgd.sequences: 5, the step has 4"},
        {2, 1, GOOD, SEAM_E_FORMAT, "aqsgd.sequences: 65540"},
        {3, 0x1a00, GOOD, SEAM_E_FORMAT, "aqsgd.whole: the bits that fill"},
        {3, 0x0e00, GOOD, SEAM_E_FORMAT, "aqsgd.whole: sequence 2 has no rows"},
        {3, 0x0800, GOOD, SEAM_E_STATE, "aqsgd: sample 8 comes as a change, but is not cached"},
        {5, 0, GOOD, SEAM_E_STATE, "aqsgd: sample 7: the sender has cached other values"},
        {9, 111, GOOD, SEAM_E_FORMAT, "aqsgd.scales"},
        {11, 1, GOOD, SEAM_E_FORMAT, "aqsgd.scales"},
        {13, 0x7c00, GOOD, SEAM_E_NONFINITE, "aqsgd.scales"},
        {HEAD, 0x7c00, GOOD, SEAM_E_NONFINITE, "aqsgd.rows: a value of row 2 is not finite"},
        {HEAD + 14, 0xfe00, GOOD, SEAM_E_NONFINITE, "aqsgd.rows: a value of row 3"},
        {0, 4, GOOD - 1, SEAM_E_FORMAT, "aqsgd.payload: 60 bytes, 61 follow from the head"},
        {0, 4, GOOD + 1, SEAM_E_FORMAT, "aqsgd.payload: 62 bytes"},
        {GOOD - 1, 0xff, GOOD, SEAM_E_FORMAT, "aqsgd.codes: the bits that fill"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t good[GOOD + 2] = {0}, payload[GOOD + 2] = {0};
        float x[4 * C], again[4 * C];
        seam_error err = {0};
        hostile_make(&e, good);
        memcpy(payload, good, sizeof good);
        seam_put_u16(payload + cases[i].at, (uint16_t)cases[i].bits);
        seam_aqsgd_decode_begin(e.decoder, &hostile, 4, NULL);
        const seam_status st =
            seam_aqsgd_decode(x, e.decoder, payload, cases[i].payload_bytes, 4, &err);
        if (st != cases[i].expected || strstr(err.text, cases[i].text) == NULL) {
            fail_msg("case %zu: %s \"%s\"", i, seam_status_name(st), err.text);
        }
        seam_aqsgd_decode_begin(e.decoder, &hostile, 4, NULL);
        assert_int_equal(seam_aqsgd_decode(again, e.decoder, good, GOOD, 4, &err), SEAM_OK);
        ends_deinit(&e);
    }
}

static void test_decode__repeated_or_other_rows__refused(void **state) {
    (void)state;
    static ends e;
    uint8_t payload[GOOD + 2] = {0};
    float x[4 * C];
    seam_error err = {0};
    hostile_make(&e, payload);
    const uint64_t twice[4] = {8, 7, 9, 7};
    const uint32_t rows[4] = {1, 1, 0, 2};
    const seam_sequences repeated = {twice, rows, 4};
    payload[4] = 0x03; /* the first 7 whole, the second a change */
    seam_aqsgd_decode_begin(e.decoder, &repeated, 4, NULL);
    assert_int_equal(seam_aqsgd_decode(x, e.decoder, payload, GOOD, 4, &err), SEAM_E_FORMAT);
    assert_non_null(strstr(err.text, "sample 7 is repeated and must travel whole"));
    const uint32_t other[4] = {1, 2, 0, 1};
    const seam_sequences fewer = {hostile_ids, other, 4};
    payload[4] = 0x0a;
    seam_aqsgd_decode_begin(e.decoder, &fewer, 4, NULL);
    assert_int_equal(seam_aqsgd_decode(x, e.decoder, payload, GOOD, 4, &err), SEAM_E_STATE);
    assert_non_null(strstr(err.text, "sample 7 comes with 1 rows, 2 are cached here"));
    ends_deinit(&e);
}

static void test_decode__every_bit_flipped__finite_or_refused(void **state) {
    (void)state;
    static ends e;
    uint8_t payload[GOOD + 2] = {0};
    float x[4 * C];
    hostile_make(&e, payload);
    for (uint32_t bit = 0; bit < 8 * GOOD; bit++) {
        payload[bit / 8] ^= (uint8_t)(1u << bit % 8);
        seam_aqsgd_decode_begin(e.decoder, &hostile, 4, NULL);
        if (seam_aqsgd_decode(x, e.decoder, payload, GOOD, 4, NULL) == SEAM_OK) {
            for (uint32_t i = 0; i < 4 * C; i++) {
                assert_true(fabsf(x[i]) <= 65504.0f);
            }
        }
        payload[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ends_deinit(&e);
}

static void test_create__no_memory__refused(void **state) {
    (void)state;
    uint8_t storage[64];
    seam_aqsgd *a = NULL;
    size_t bytes = 0;
    const seam_aqsgd_config config = {.channels = C,
                                      .rows_max = ROWS,
                                      .sequences_max = S,
                                      .bits = 4,
                                      .storage = storage,
                                      .storage_bytes = sizeof storage};
    assert_int_equal(seam_aqsgd_memory_bytes(&bytes, &config), SEAM_OK);
    assert_true(bytes > ROWS * C * 2);
    for (int64_t allowed = 0; allowed < 2; allowed++) {
        seam_mem_fail_after(allowed);
        assert_int_equal(seam_aqsgd_create(&a, &config), SEAM_E_MEMORY);
        seam_mem_fail_after(-1);
        assert_null(a);
    }
    seam_aqsgd_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode__first_visit_then_changes__error_shrinks),
        cmocka_unit_test(test_encode__one_change__by_hand),
        cmocka_unit_test(test_encode__beyond_fp16__refused_or_clipped),
        cmocka_unit_test(test_pass__evictions_repeats_and_changed_rows__ends_agree),
        cmocka_unit_test(test_encode__repeated_sample__travels_whole_and_last_stays),
        cmocka_unit_test(test_commit__tensor_abandoned__cache_as_before),
        cmocka_unit_test(test_encode__range_mask__rows_in_range_get_the_same_bits),
        cmocka_unit_test(test_decode__encoder_restarted__takes_whole_rows_again),
        cmocka_unit_test(test_decode__malformed__named_error),
        cmocka_unit_test(test_decode__repeated_or_other_rows__refused),
        cmocka_unit_test(test_decode__every_bit_flipped__finite_or_refused),
        cmocka_unit_test(test_create__no_memory__refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
