/* Goal: the bytes of proto/golden, built from WIRE.md by tests/oracle/make_frame_golden.py, mean in
 * C what the manifest says.  Method: every line of the manifest; tensor payloads are decoded by the
 * codec and compared bit by bit; good frames are sealed again and must come out the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bytes.h"
#include "coder.h"
#include "config_hash.h"
#include "frame.h"
#include "seam/v1/stream.pb-c.h"
#include "site.h"
#include "step_layout.h"
#include "tensor_rx.h"
#include "walk.h"
#include "whole_file.h"

enum { CHANNELS = 64, ROWS = 128 };

static uint64_t hex_of(const char *text) {
    return strtoull(text, NULL, 16);
}

/* Decodes a chunk by the coder of its tensor, whose first chunk precedes in the manifest. */
static seam_status payload_decode(float *ret_x, const char *name, const seam_frame_header *h,
                                  const uint8_t *payload, seam_error *err) {
    /* make_frame_golden.py */
    static const seam_codec_plan plan = {.group = 4, .entropy = SEAM_ENTROPY_RANS};
    static seam_coder *coder;
    static seam_golden_file widths;
    static seam_alloc alloc;
    static uint32_t row_gates[ROWS];
    const seam_codec_id codec = (seam_codec_id)h->codec;
    assert_true(h->channels <= CHANNELS && h->rows <= ROWS);
    if (seam_codec_has_widths(codec)) {
        seam_golden_read_beside(&widths, name, "widths");
        alloc = (seam_alloc){.widths = widths.bytes, .bits_total = h->alloc_bits_total};
    }
    if (codec == SEAM_CODEC_AMAQ_TOKEN) {
        static seam_golden_file gates;
        seam_golden_read_beside(&gates, name, "gates");
        assert_int_equal(gates.count, h->rows);
        for (uint32_t row = 0; row < h->rows; row++) {
            row_gates[row] = gates.bytes[row];
            assert_true(row_gates[row] < widths.count);
        }
    }
    if (h->row_begin == 0) {
        const seam_coder_config config = {.codec = codec,
                                          .channels = h->channels,
                                          .rows_max = h->rows,
                                          .bits_max = SEAM_BITS_MAX,
                                          .plan = &plan};
        const seam_coder_tensor tensor = {
            .codec = codec, .alloc = &alloc, .rows = h->rows, .row_gates = row_gates};
        seam_coder_destroy(coder);
        assert_int_equal(seam_coder_create(&coder, &config), SEAM_OK);
        seam_coder_decode_begin(coder, &tensor);
    }
    const seam_coder_chunk chunk = {.row_begin = h->row_begin,
                                    .row_count = h->row_count,
                                    .payload_bytes = h->payload_bytes,
                                    .coding = h->coding};
    return seam_coder_decode_chunk(ret_x, coder, &chunk, payload, err);
}

static void check_values(const char *name, const seam_frame_header *h, const uint8_t *payload) {
    static float decoded[ROWS * CHANNELS];
    seam_error err = {0};
    if (payload_decode(decoded, name, h, payload, &err) != SEAM_OK) {
        fail_msg("%s: %s", name, err.text);
    }
    seam_golden_check_values(name, decoded + (size_t)h->row_begin * h->channels,
                             (size_t)h->row_count * h->channels);
}

/* A frame like any other whose payload the codec refuses. */
static void check_payload(const char *name, const seam_golden_file *b, const char *expected) {
    static float decoded[ROWS * CHANNELS];
    seam_frame_header h = {0};
    const uint8_t *payload = NULL;
    seam_error err = {0};
    if (seam_frame_open(&h, &payload, b->bytes, b->count, &err) != SEAM_OK) {
        fail_msg("%s: %s", name, err.text);
    }
    const seam_status st = payload_decode(decoded, name, &h, payload, &err);
    seam_golden_check_status(name, expected, st, &err);
    assert_true(err.text[0] != '\0');
}

static void check_frame(const char *name, const seam_golden_file *b, uint64_t expected,
                        bool is_later_chunk) {
    static uint64_t digest;
    seam_frame_header h = {0};
    const uint8_t *payload = NULL;
    seam_error err = {0};
    if (seam_frame_open(&h, &payload, b->bytes, b->count, &err) != SEAM_OK) {
        fail_msg("%s: %s", name, err.text);
    }
    digest =
        seam_frame_digest_add(is_later_chunk ? digest : SEAM_HASH64_INIT, seam_frame_crc(b->bytes));
    assert_true(digest == expected);
    uint8_t again[SEAM_GOLDEN_FILE_MAX];
    memcpy(again, b->bytes, b->count);
    memset(again, 0xee, SEAM_FRAME_HEADER_BYTES);
    seam_frame_seal(again, &h);
    assert_memory_equal(again, b->bytes, b->count);
    if (h.kind == SEAM_FRAME_TENSOR) {
        check_values(name, &h, payload);
    }
}

static void check_bad(const char *name, const seam_golden_file *b, const char *expected) {
    seam_frame_header h = {0};
    const uint8_t *payload = NULL;
    seam_error err = {0};
    const seam_status st = seam_frame_open(&h, &payload, b->bytes, b->count, &err);
    seam_golden_check_status(name, expected, st, &err);
}

static void check_message(const char *name, const seam_golden_file *b, const char *expected,
                          bool good) {
    seam_walk walk = {0};
    seam_error err = {0};
    const seam_status st = seam_walk_message(&walk, b->bytes, b->count, &err);
    char got[SEAM_ERROR_TEXT_BYTES];
    if (good) {
        assert_int_equal(st, SEAM_OK);
        (void)snprintf(got, sizeof got, "%u %zu", walk.field, walk.body_bytes);
    } else {
        assert_int_equal(st, SEAM_E_FORMAT);
        (void)snprintf(got, sizeof got, "%s", err.text);
    }
    if (strstr(got, expected) == NULL) {
        fail_msg("%s: \"%s\", expected \"%s\"", name, got, expected);
    }
}

/* Of the session that the files of kind begin and begin_bad are judged in. */
static const seam_layout_limits limits = {.rows_max = 64,
                                          .sequences_max = 8,
                                          .micros_max = 2,
                                          .positions_max = 64,
                                          .row_sources_taken = true};

/* Of kinds labels and labels_bad: the server has the loss. */
static seam_layout_limits limits_of(bool labels) {
    seam_layout_limits ret = limits;
    ret.labels_needed = labels;
    ret.vocab_count = 96;
    return ret;
}

static void check_begin(const seam_golden_file *b, uint64_t expected, bool labels) {
    const seam_layout_limits own = limits_of(labels);
    Seam__V1__TrainRequest *const request =
        seam__v1__train_request__unpack(NULL, b->count, b->bytes);
    assert_non_null(request);
    assert_int_equal(request->body_case, SEAM__V1__TRAIN_REQUEST__BODY_STEP_BEGIN);
    assert_true(request->step_begin->digest == expected);
    assert_int_equal(seam_step_begin_check(request->step_begin, &own, NULL), SEAM_OK);
    seam__v1__train_request__free_unpacked(request, NULL);
}

static void check_begin_bad(const char *name, const seam_golden_file *b, const char *expected,
                            bool labels) {
    const seam_layout_limits own = limits_of(labels);
    seam_error err = {0};
    Seam__V1__TrainRequest *const request =
        seam__v1__train_request__unpack(NULL, b->count, b->bytes);
    assert_non_null(request);
    const seam_status st = seam_step_begin_check(request->step_begin, &own, &err);
    seam__v1__train_request__free_unpacked(request, NULL);
    seam_golden_check_status(name, expected, st, &err);
}

/* A frame that opens, where the tensor of amaq_chunk0.bin is to begin or, with `next`, to go on. */
static void check_not_awaited(const char *name, const seam_golden_file *b, const char *expected,
                              bool next) {
    static seam_golden_file chunk;
    seam_frame_header first, header;
    const uint8_t *payload = NULL;
    seam_error err = {0};
    bool complete = false;
    seam_tensor_rx rx;
    seam_golden_read(&chunk, "amaq_chunk0.bin");
    assert_int_equal(seam_frame_open(&first, &payload, chunk.bytes, chunk.count, NULL), SEAM_OK);
    assert_int_equal(seam_frame_open(&header, &payload, b->bytes, b->count, NULL), SEAM_OK);
    const seam_tensor_expect expect = {.kind = first.kind,
                                       .phase = first.phase,
                                       .site = first.site,
                                       .step = first.step,
                                       .micro = first.micro,
                                       .rows = first.rows,
                                       .channels = first.channels,
                                       .codec_mask = 1u << first.codec};
    seam_tensor_rx_init(&rx, &expect);
    if (next) {
        assert_int_equal(seam_tensor_rx_add(&complete, &rx, &first, 0, NULL), SEAM_OK);
    }
    const seam_status st = seam_tensor_rx_add(&complete, &rx, &header, 0, &err);
    seam_golden_check_status(name, expected, st, &err);
}

/* The site and step of make_frame_golden.py; lines follow each other. */
static void check_alloc(seam_site *site, const char *name, const seam_golden_file *b,
                        const char *expected) {
    char *answer = NULL;
    seam_error err = {0};
    Seam__V1__TrainRequest *const request =
        seam__v1__train_request__unpack(NULL, b->count, b->bytes);
    assert_non_null(request);
    assert_int_equal(request->body_case, SEAM__V1__TRAIN_REQUEST__BODY_ALLOC_PROPOSE);
    const Seam__V1__AllocPropose *p = request->alloc_propose;
    const uint64_t step_now = strtoull(expected, &answer, 10);
    const seam_status st = seam_site_judge(site, p->version, p->effective_step, p->widths.data,
                                           (uint32_t)p->widths.len, p->hash, step_now, &err);
    seam__v1__train_request__free_unpacked(request, NULL);
    seam_golden_check_status(name, answer + 1 /* a space */, st, &err);
}

static void check_config(const seam_golden_file *b, uint64_t expected) {
    Seam__V1__SessionConfig *const config =
        seam__v1__session_config__unpack(NULL, b->count, b->bytes);
    assert_non_null(config);
    assert_true(seam_config_hash(config) == expected);
    seam__v1__session_config__free_unpacked(config, NULL);
}

static void test_golden__every_file__as_the_manifest_says(void **state) {
    (void)state;
    static seam_golden_file manifest;
    static seam_golden_file file;
    uint32_t lines = 0;
    seam_site *site = NULL;
    seam_site_config site_config = {.codec = SEAM_CODEC_AMAQ, .width_count = 5};
    assert_true(seam_gates_preset(&site_config.gates, 3.0f));
    assert_int_equal(seam_site_create(&site, &site_config, NULL), SEAM_OK);
    seam_golden_read(&manifest, "manifest.tsv");
    manifest.bytes[manifest.count] = '\0';
    char *rest = (char *)manifest.bytes;
    for (char *line = strsep(&rest, "\n"); line != NULL && *line != '\0';
         line = strsep(&rest, "\n")) {
        const char *const name = strsep(&line, "\t");
        const char *const kind = strsep(&line, "\t");
        const char *const expected = line;
        assert_non_null(expected);
        seam_golden_read(&file, "%s", name);
        lines++;
        if (strcmp(kind, "frame") == 0 || strcmp(kind, "chunk") == 0) {
            check_frame(name, &file, hex_of(expected), strcmp(kind, "chunk") == 0);
        } else if (strcmp(kind, "bad") == 0) {
            check_bad(name, &file, expected);
        } else if (strcmp(kind, "payload") == 0) {
            check_payload(name, &file, expected);
        } else if (strcmp(kind, "message") == 0 || strcmp(kind, "badmsg") == 0) {
            check_message(name, &file, expected, strcmp(kind, "message") == 0);
        } else if (strcmp(kind, "begin") == 0) {
            check_begin(&file, hex_of(expected), false);
        } else if (strcmp(kind, "labels") == 0) {
            check_begin(&file, hex_of(expected), true);
        } else if (strcmp(kind, "alloc") == 0) {
            check_alloc(site, name, &file, expected);
        } else if (strcmp(kind, "begin_bad") == 0) {
            check_begin_bad(name, &file, expected, false);
        } else if (strcmp(kind, "labels_bad") == 0) {
            check_begin_bad(name, &file, expected, true);
        } else if (strcmp(kind, "first_bad") == 0 || strcmp(kind, "next_bad") == 0) {
            check_not_awaited(name, &file, expected, strcmp(kind, "next_bad") == 0);
        } else if (strcmp(kind, "config") != 0) { /* test_stateful_golden.c has these */
            assert_non_null(
                strstr("dictionary dictionary_bad aqsgd aqsgd_bad aqsgd4 gradient", kind));
        } else {
            check_config(&file, hex_of(expected));
        }
    }
    assert_true(lines >= 243);
    seam_site_destroy(site);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden__every_file__as_the_manifest_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
