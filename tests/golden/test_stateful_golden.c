/* Goal: the sessions of dictionary and aqsgd in proto/golden, made from WIRE.md by
 * tests/oracle/stateful_golden.py, decode in C to the values beside them, and their malformed
 * frames give the errors that the manifest names and change nothing.  Method: the lines of
 * manifest.tsv in order, one decoder a class. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "aqsgd.h"
#include "aqsgd_quant.h"
#include "bit_string.h"
#include "bytes.h"
#include "codec.h"
#include "dictionary.h"
#include "frame.h"
#include "whole_file.h"

enum { ROWS = 64, S = 8, TABLE_ROWS = 4, BITS = 3, CACHE_BYTES = 90 };

typedef struct decoders {
    seam_dictionary *dictionary;
    seam_aqsgd *aqsgd, *aqsgd4;
    uint8_t storage[2][CACHE_BYTES];
} decoders;

static seam_aqsgd *aqsgd_make(uint8_t *storage, uint32_t cache_bits) {
    seam_aqsgd *a = NULL;
    const seam_aqsgd_config config = {.channels = 3,
                                      .rows_max = ROWS,
                                      .sequences_max = S,
                                      .bits = BITS,
                                      .cache_bits = cache_bits,
                                      .storage = storage,
                                      .storage_bytes = CACHE_BYTES};
    assert_int_equal(seam_aqsgd_create(&a, &config), SEAM_OK);
    return a;
}

static void sequences_begin(seam_aqsgd *a, const char *name, uint32_t rows) {
    static seam_golden_file file;
    uint64_t ids[S];
    uint32_t counts[S];
    seam_golden_read_beside(&file, name, "sequences");
    const uint32_t count = (uint32_t)(file.count / 12);
    assert_in_range(count, 1, S);
    for (uint32_t i = 0; i < count; i++) {
        ids[i] = seam_get_u64(file.bytes + 12 * (size_t)i);
        counts[i] = seam_get_u32(file.bytes + 12 * (size_t)i + 8);
    }
    seam_aqsgd_decode_begin(a, &(seam_sequences){ids, counts, count}, rows, NULL);
}

/* A gradient of aqsgd: scale block and codes. */
static void gradient_decode(float *ret, const seam_frame_header *h, const uint8_t *payload) {
    float scale[3], lowest[3], top[3];
    uint32_t codes[3];
    seam_scales scales = {scale, lowest, top};
    assert_int_equal(h->channels, 3);
    assert_int_equal(seam_scale_block_get(&scales, payload, 3, BITS), SEAM_OK);
    assert_int_equal(h->payload_bytes,
                     seam_scale_block_bytes(3) + seam_bit_string_bytes(3 * h->row_count, BITS));
    seam_bit_reader reader = {.in = payload + seam_scale_block_bytes(3)};
    for (uint32_t i = 0; i < h->row_count; i++) {
        seam_bits_get(codes, &reader, 3, BITS);
        seam_symmetric_dequantize(ret + 3 * (size_t)i, &scales, codes, 3, BITS);
    }
    assert_true(seam_bits_get_end(&reader));
}

static seam_status decode(float *ret, decoders *d, const char *name, const char *kind,
                          const seam_frame_header *h, const uint8_t *payload, seam_error *err) {
    if (strncmp(kind, "dictionary", 10) == 0) {
        if (h->row_begin == 0) {
            seam_dictionary_begin(d->dictionary);
        }
        return seam_dictionary_decode(ret, d->dictionary, payload, h->payload_bytes, h->row_count,
                                      err);
    }
    seam_aqsgd *const a = strcmp(kind, "aqsgd4") == 0 ? d->aqsgd4 : d->aqsgd;
    if (h->row_begin == 0) {
        sequences_begin(a, name, h->rows);
    }
    return seam_aqsgd_decode(ret, a, payload, h->payload_bytes, h->row_count, err);
}

static void commit(decoders *d, const char *kind) {
    if (strcmp(kind, "dictionary") == 0) {
        seam_dictionary_commit(d->dictionary);
    } else {
        seam_aqsgd_commit(strcmp(kind, "aqsgd4") == 0 ? d->aqsgd4 : d->aqsgd);
    }
}

static void check_good(decoders *d, const char *name, const char *kind,
                       const seam_golden_file *file, const char *expected) {
    static uint64_t digest;
    float x[ROWS * 3] = {0};
    seam_frame_header h = {0};
    const uint8_t *payload = NULL;
    seam_error err = {0};
    if (seam_frame_open(&h, &payload, file->bytes, file->count, &err) != SEAM_OK) {
        fail_msg("%s: %s", name, err.text);
    }
    digest = seam_frame_digest_add(h.row_begin == 0 ? SEAM_HASH64_INIT : digest,
                                   seam_frame_crc(file->bytes));
    assert_true(digest == strtoull(expected, NULL, 16));
    if (strcmp(kind, "gradient") == 0) {
        gradient_decode(x, &h, payload);
    } else if (decode(x, d, name, kind, &h, payload, &err) != SEAM_OK) {
        fail_msg("%s: %s", name, err.text);
    } else if (h.row_begin + h.row_count == h.rows) {
        commit(d, kind);
    }
    seam_golden_check_values(name, x, (size_t)h.row_count * h.channels);
}

static void check_bad(decoders *d, const char *name, const char *kind, const seam_golden_file *file,
                      const char *expected) {
    float x[ROWS * 3];
    seam_frame_header h = {0};
    const uint8_t *payload = NULL;
    seam_error err = {0};
    assert_int_equal(seam_frame_open(&h, &payload, file->bytes, file->count, &err), SEAM_OK);
    const seam_status st = decode(x, d, name, kind, &h, payload, &err);
    seam_golden_check_status(name, expected, st, &err);
}

static void test_golden__stateful_sessions__as_the_manifest_says(void **state) {
    (void)state;
    static seam_golden_file manifest, file;
    static decoders d;
    uint32_t good = 0, bad = 0;
    const seam_dictionary_config dictionary = {
        .channels = 2, .rows_max = TABLE_ROWS, .chunk_rows_max = ROWS};
    assert_int_equal(seam_dictionary_create(&d.dictionary, &dictionary), SEAM_OK);
    d.aqsgd = aqsgd_make(d.storage[0], 0);
    d.aqsgd4 = aqsgd_make(d.storage[1], 4);
    seam_golden_read(&manifest, "manifest.tsv");
    manifest.bytes[manifest.count] = '\0';
    char *rest = (char *)manifest.bytes;
    for (char *line = strsep(&rest, "\n"); line != NULL && *line != '\0';
         line = strsep(&rest, "\n")) {
        const char *const name = strsep(&line, "\t");
        const char *const kind = strsep(&line, "\t");
        const bool stateful = strncmp(kind, "dictionary", 10) == 0 ||
                              strncmp(kind, "aqsgd", 5) == 0 || strcmp(kind, "gradient") == 0;
        if (!stateful) {
            continue;
        }
        seam_golden_read(&file, "%s", name);
        if (strstr(kind, "_bad") != NULL) {
            check_bad(&d, name, kind, &file, line);
            bad++;
        } else {
            check_good(&d, name, kind, &file, line);
            good++;
        }
    }
    assert_int_equal(good, 4 + 6 + 6 + 1);
    assert_int_equal(bad, 11 + 15);
    seam_dictionary_destroy(d.dictionary);
    seam_aqsgd_destroy(d.aqsgd);
    seam_aqsgd_destroy(d.aqsgd4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden__stateful_sessions__as_the_manifest_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
