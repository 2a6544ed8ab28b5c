/* Goal: codec dictionary is lossless against bf16, both ends' tables stay equal through failed,
 * abandoned and repeated tensors, and every malformed payload gives its named error.
 * Method: rows drawn from a small vocabulary, coded in chunks and compared with codec bf16;
 * patches of a payload that is known byte by byte; every flipped bit of one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "arena.h"
#include "bytes.h"
#include "codec.h"
#include "codec_fixture.h"
#include "dictionary.h"

enum { C = 5, VOCAB = 40, ROWS = 96, CHUNK = 64, PAYLOAD_MAX = 4096 };

typedef struct ends {
    seam_dictionary *encoder, *decoder;
    float vocab[VOCAB * C];
} ends;

static seam_dictionary *dictionary_make(uint32_t rows_max, bool encoder) {
    seam_dictionary *d = NULL;
    const seam_dictionary_config config = {
        .channels = C, .rows_max = rows_max, .chunk_rows_max = CHUNK, .encoder = encoder};
    assert_int_equal(seam_dictionary_create(&d, &config), SEAM_OK);
    return d;
}

static void ends_init(ends *e, uint32_t rows_max) {
    e->encoder = dictionary_make(rows_max, true);
    e->decoder = dictionary_make(rows_max, false);
    fixture_tensor(e->vocab, VOCAB, C, 3);
}

static void ends_deinit(ends *e) {
    seam_dictionary_destroy(e->encoder);
    seam_dictionary_destroy(e->decoder);
}

static void rows_of(float *ret, const ends *e, const uint32_t *tokens, uint32_t rows) {
    for (uint32_t i = 0; i < rows; i++) {
        memcpy(ret + (size_t)i * C, e->vocab + (size_t)tokens[i] * C, C * sizeof *ret);
    }
}

static void bf16_of(float *ret, const float *x, uint32_t rows) {
    static uint8_t codes[2 * ROWS * C];
    const seam_codec_args args = {.id = SEAM_CODEC_BF16, .channels = C};
    assert_int_equal(seam_codec_encode(codes, ret, &args, x, rows, &(seam_rounding){0}, NULL),
                     SEAM_OK);
}

/* One tensor through both ends in chunks of 64 rows; returns its payload bytes. */
static size_t pass(ends *e, const uint32_t *tokens, uint32_t rows) {
    static float x[ROWS * C], expected[ROWS * C], announced[ROWS * C], got[ROWS * C];
    static uint8_t payload[PAYLOAD_MAX];
    size_t total = 0;
    rows_of(x, e, tokens, rows);
    bf16_of(expected, x, rows);
    seam_dictionary_begin(e->encoder);
    seam_dictionary_begin(e->decoder);
    for (uint32_t row = 0; row < rows; row += CHUNK) {
        const uint32_t count = rows - row < CHUNK ? rows - row : CHUNK;
        const size_t at = (size_t)row * C;
        size_t bytes = 0;
        seam_error err = {0};
        assert_int_equal(
            seam_dictionary_encode(&bytes, announced + at, e->encoder, payload, x + at, count),
            SEAM_OK);
        assert_true(bytes <= seam_dictionary_chunk_bytes_max(count, C));
        if (seam_dictionary_decode(got + at, e->decoder, payload, bytes, count, &err) != SEAM_OK) {
            fail_msg("%s", err.text);
        }
        total += bytes;
    }
    seam_dictionary_commit(e->encoder);
    seam_dictionary_commit(e->decoder);
    assert_memory_equal(announced, expected, (size_t)rows * C * sizeof *x);
    assert_memory_equal(got, expected, (size_t)rows * C * sizeof *x);
    assert_int_equal(seam_dictionary_row_count(e->encoder), seam_dictionary_row_count(e->decoder));
    return total;
}

static void tokens_draw(uint32_t *ret, uint32_t rows, uint32_t vocab, uint64_t seed) {
    uint64_t state = seed * 2 + 1;
    for (uint32_t i = 0; i < rows; i++) {
        ret[i] = fixture_next(&state) % vocab;
    }
}

static void test_encode__rows_repeat__each_travels_once(void **state) {
    (void)state;
    ends e;
    uint32_t tokens[ROWS];
    ends_init(&e, VOCAB);
    for (uint32_t i = 0; i < ROWS; i++) {
        tokens[i] = i % VOCAB;
    }
    /* 64 rows of which 40 are new, at 6 bits (0..39 and the reserved one); then 32 known ones. */
    assert_int_equal(pass(&e, tokens, ROWS), 12 + 48 + 40 * 10 + 12 + 24);
    assert_int_equal(seam_dictionary_row_count(e.decoder), VOCAB);
    assert_int_equal(pass(&e, tokens, ROWS), 12 + 48 + 12 + 24);
    for (uint64_t seed = 0; seed < 20; seed++) {
        const uint32_t rows = 1 + (uint32_t)(seed * 5 % ROWS);
        tokens_draw(tokens, rows, VOCAB, seed);
        (void)pass(&e, tokens, rows);
    }
    ends_deinit(&e);
}

static void test_encode__table_full__new_rows_travel_inline(void **state) {
    (void)state;
    ends e;
    uint32_t tokens[ROWS];
    ends_init(&e, 7);
    for (uint64_t seed = 0; seed < 20; seed++) {
        tokens_draw(tokens, ROWS, VOCAB, seed);
        (void)pass(&e, tokens, ROWS);
        assert_int_equal(seam_dictionary_row_count(e.encoder), 7);
    }
    /* The first 7 stay: they cost 3 bits each, every other one a row of its own. */
    for (uint32_t i = 0; i < 10; i++) {
        tokens[i] = 39 - i;
    }
    ends_deinit(&e);
    ends_init(&e, 7);
    assert_int_equal(pass(&e, tokens, 10), 12 + 4 + 10 * 10);
    assert_int_equal(pass(&e, tokens, 10), 12 + 4 + 3 * 10);
    assert_int_equal(pass(&e, tokens, 7), 12 + 3);
    ends_deinit(&e);
    ends_init(&e, 1);
    assert_int_equal(pass(&e, tokens, 8), 12 + 1 + 8 * 10);
    ends_deinit(&e);
}

static void test_commit__tensor_abandoned__tables_as_before(void **state) {
    (void)state;
    ends e;
    uint32_t tokens[ROWS];
    static float x[ROWS * C], got[ROWS * C];
    uint8_t payload[PAYLOAD_MAX], first[PAYLOAD_MAX];
    size_t bytes = 0, first_bytes = 0;
    ends_init(&e, VOCAB);
    tokens_draw(tokens, 20, 10, 1);
    (void)pass(&e, tokens, 20);
    const uint32_t before = seam_dictionary_row_count(e.encoder);
    tokens_draw(tokens, CHUNK, VOCAB, 2);
    rows_of(x, &e, tokens, CHUNK);
    for (uint32_t attempt = 0; attempt < 3; attempt++) {
        seam_dictionary_begin(e.encoder);
        assert_int_equal(seam_dictionary_encode(&bytes, NULL, e.encoder, payload, x, CHUNK),
                         SEAM_OK);
        if (attempt == 0) {
            first_bytes = bytes;
            memcpy(first, payload, bytes);
        }
        assert_int_equal(bytes, first_bytes); /* the repetition is the same to the byte */
        assert_memory_equal(payload, first, bytes);
        assert_int_equal(seam_dictionary_row_count(e.encoder), before);
        seam_dictionary_begin(e.decoder);
        assert_int_equal(seam_dictionary_decode(got, e.decoder, payload, bytes, CHUNK, NULL),
                         SEAM_OK);
        assert_int_equal(seam_dictionary_row_count(e.decoder), before);
        /* A second chunk that is damaged ends the tensor; the first one's rows go with it. */
        payload[0] ^= 1;
        assert_int_not_equal(seam_dictionary_decode(got, e.decoder, payload, bytes, CHUNK, NULL),
                             SEAM_OK);
    }
    x[3 * C] = NAN;
    seam_dictionary_begin(e.encoder);
    assert_int_equal(seam_dictionary_encode(&bytes, NULL, e.encoder, payload, x, CHUNK),
                     SEAM_E_NONFINITE);
    tokens_draw(tokens, ROWS, VOCAB, 3);
    (void)pass(&e, tokens, ROWS);
    ends_deinit(&e);
}

static void test_decode__encoder_restarted__drops_what_it_lacks(void **state) {
    (void)state;
    ends e;
    uint32_t tokens[ROWS];
    ends_init(&e, VOCAB);
    tokens_draw(tokens, ROWS, VOCAB, 1);
    (void)pass(&e, tokens, ROWS);
    seam_dictionary_destroy(e.encoder);
    e.encoder = dictionary_make(VOCAB, true);
    tokens_draw(tokens, 10, VOCAB, 2);
    (void)pass(&e, tokens, 10); /* asserts that the tables are of one length again */
    assert_true(seam_dictionary_row_count(e.decoder) <= 10);
    tokens_draw(tokens, ROWS, VOCAB, 3);
    (void)pass(&e, tokens, ROWS);
    /* The other way round is an error: the decoder cannot know the rows. */
    seam_dictionary_destroy(e.decoder);
    e.decoder = dictionary_make(VOCAB, false);
    float x[2 * C], got[2 * C];
    uint8_t payload[PAYLOAD_MAX];
    size_t bytes = 0;
    seam_error err = {0};
    rows_of(x, &e, tokens, 2);
    seam_dictionary_begin(e.encoder);
    seam_dictionary_begin(e.decoder);
    assert_int_equal(seam_dictionary_encode(&bytes, NULL, e.encoder, payload, x, 2), SEAM_OK);
    assert_int_equal(seam_dictionary_decode(got, e.decoder, payload, bytes, 2, &err), SEAM_E_STATE);
    assert_non_null(strstr(err.text, "this one 0"));
    ends_deinit(&e);
}

/* ---- hostile payloads ---- */

/* A table of the rows 1.0 and 2.0 of one channel, room for 8; the tensor is rows 0, 2, 1, 2, 3 of
 * the table, of which 2 and 3 are new: 4 rows and the reserved index take 3 bits. */
static const uint8_t good[] = {2, 0, 0, 0,    2,    0,    0,    0,    0,
                               0, 0, 0, 0x50, 0x34, 0x40, 0x40, 0x80, 0x40};

static seam_dictionary *narrow_make(void) {
    static const uint8_t first[] = {0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 4, 0x80, 0x3f, 0, 0x40};
    seam_dictionary *d = NULL;
    const seam_dictionary_config config = {.channels = 1, .rows_max = 8, .chunk_rows_max = 8};
    float x[2];
    seam_error err = {0};
    assert_int_equal(seam_dictionary_create(&d, &config), SEAM_OK);
    seam_dictionary_begin(d);
    if (seam_dictionary_decode(x, d, first, sizeof first, 2, &err) != SEAM_OK) {
        fail_msg("%s", err.text);
    }
    seam_dictionary_commit(d);
    assert_true(x[0] == 1.0f && x[1] == 2.0f);
    return d;
}

static void test_decode__malformed__named_error(void **state) {
    (void)state;
    static const struct {
        uint32_t at, bits; /* 16 bits, LE, put over the good payload */
        uint32_t payload_bytes;
        seam_status expected;
        const char *text;
    } cases[] = {
        {0, 2, 11, SEAM_E_FORMAT, "dictionary.head: 11 bytes"},
        {0, 2, 17, SEAM_E_FORMAT, "dictionary.payload: 17 bytes, 18 follow"},
        {0, 2, 19, SEAM_E_FORMAT, "dictionary.payload: 19 bytes"},
        {0, 3, 18, SEAM_E_STATE, "dictionary: the sender's table has 3 rows, this one 2"},
        {0, 9, 18, SEAM_E_FORMAT, "dictionary.table_rows: 9 is above 8"},
        {4, 6, 18, SEAM_E_FORMAT, "dictionary.new_rows: 6 of 5 rows"},
        {6, 0x8000, 18, SEAM_E_FORMAT, "dictionary.new_rows"},
        {8, 4, 18, SEAM_E_FORMAT, "dictionary.inline_rows: 4 of 5 rows, 2 are new"},
        {8, 1, 18, SEAM_E_FORMAT, "dictionary.inline_rows: 1, but the table has room"},
        {12, 0xb450, 18, SEAM_E_FORMAT, "dictionary.indices: the bits that fill"},
        {12, 0x3455, 18, SEAM_E_FORMAT, "dictionary.indices: row 0 has 5, the table ends at 4"},
        {12, 0x2458, 18, SEAM_E_FORMAT, "dictionary.indices: row 1 has 3, the next new one is 2"},
        {12, 0x2450, 18, SEAM_E_FORMAT, "dictionary.indices: 1 of 2 new rows appear"},
        {12, 0x3454, 18, SEAM_E_FORMAT, "dictionary.indices: 1 inline rows, the head says 0"},
        {16, 0x7f80, 18, SEAM_E_NONFINITE, "dictionary.rows: a value of row 4 is not finite"},
        {0, 2, 18, SEAM_OK, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        seam_dictionary *d = narrow_make();
        uint8_t payload[20] = {0};
        float x[5];
        seam_error err = {0};
        memcpy(payload, good, sizeof good);
        seam_put_u16(payload + cases[i].at, (uint16_t)cases[i].bits);
        seam_dictionary_begin(d);
        const seam_status st =
            seam_dictionary_decode(x, d, payload, cases[i].payload_bytes, 5, &err);
        if (st != cases[i].expected || strstr(err.text, cases[i].text) == NULL) {
            fail_msg("case %zu: %s \"%s\"", i, seam_status_name(st), err.text);
        }
        assert_int_equal(seam_dictionary_row_count(d), 2);
        /* Whatever it was, the same tensor as it should be is then coded as if nothing had come. */
        const float expected[5] = {1.0f, 3.0f, 2.0f, 3.0f, 4.0f};
        seam_dictionary_begin(d);
        assert_int_equal(seam_dictionary_decode(x, d, good, sizeof good, 5, &err), SEAM_OK);
        assert_memory_equal(x, expected, sizeof x);
        seam_dictionary_commit(d);
        assert_int_equal(seam_dictionary_row_count(d), 4);
        seam_dictionary_destroy(d);
    }
}

/* A second chunk cannot take rows back; and no flipped bit crashes or adds more than it says. */
static void test_decode__every_bit_flipped__bounded(void **state) {
    (void)state;
    for (uint32_t bit = 0; bit < 8 * sizeof good; bit++) {
        seam_dictionary *d = narrow_make();
        uint8_t payload[sizeof good];
        float x[5];
        memcpy(payload, good, sizeof good);
        payload[bit / 8] ^= (uint8_t)(1u << bit % 8);
        seam_dictionary_begin(d);
        const seam_status st = seam_dictionary_decode(x, d, payload, sizeof payload, 5, NULL);
        if (st == SEAM_OK) {
            for (uint32_t i = 0; i < 5; i++) {
                assert_true(isfinite(x[i]));
            }
            seam_dictionary_commit(d);
            assert_true(seam_dictionary_row_count(d) <= 4);
        }
        seam_dictionary_destroy(d);
    }
    seam_dictionary *d = narrow_make();
    uint8_t payload[sizeof good];
    float x[5];
    seam_error err = {0};
    memcpy(payload, good, sizeof good);
    seam_dictionary_begin(d);
    assert_int_equal(seam_dictionary_decode(x, d, good, sizeof good, 5, NULL), SEAM_OK);
    assert_int_equal(seam_dictionary_decode(x, d, good, sizeof good, 5, &err), SEAM_E_FORMAT);
    assert_non_null(strstr(err.text, "dictionary.table_rows: 2 in the middle of a tensor"));
    seam_dictionary_destroy(d);
}

static void test_create__no_memory__refused(void **state) {
    (void)state;
    seam_dictionary *d = NULL;
    size_t bytes = 0;
    const seam_dictionary_config config = {
        .channels = C, .rows_max = 100, .chunk_rows_max = CHUNK, .encoder = true};
    assert_int_equal(seam_dictionary_memory_bytes(&bytes, &config), SEAM_OK);
    assert_true(bytes > 100 * C * 2 + 100 * 8);
    seam_mem_fail_after(0);
    assert_int_equal(seam_dictionary_create(&d, &config), SEAM_E_MEMORY);
    seam_mem_fail_after(-1);
    assert_null(d);
    seam_dictionary_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode__rows_repeat__each_travels_once),
        cmocka_unit_test(test_encode__table_full__new_rows_travel_inline),
        cmocka_unit_test(test_commit__tensor_abandoned__tables_as_before),
        cmocka_unit_test(test_decode__encoder_restarted__drops_what_it_lacks),
        cmocka_unit_test(test_decode__malformed__named_error),
        cmocka_unit_test(test_decode__every_bit_flipped__bounded),
        cmocka_unit_test(test_create__no_memory__refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
