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

enum { FILE_MAX = 16384, CHANNELS = 64, ROWS = 128 };

typedef struct blob {
    uint8_t bytes[FILE_MAX];
    size_t count;
} blob;

static bool read_file(blob *ret, const char *name) {
    char path[512];
    (void)snprintf(path, sizeof path, SEAM_SOURCE_DIR "/proto/golden/%s", name);
    FILE *const file = fopen(path, "rb");
    if (file == NULL) {
        return false;
    }
    ret->count = fread(ret->bytes, 1, sizeof ret->bytes, file);
    (void)fclose(file);
    return ret->count < sizeof ret->bytes;
}

/* The expected status and name; the name is not longer in the text. */
static bool begins_with(const char *text, const char *expected) {
    const size_t count = strlen(expected);
    return strncmp(text, expected, count) == 0 && strchr(":[, ", text[count]) != NULL;
}

/* NAME.bin -> NAME.suffix */
static bool read_beside(blob *ret, const char *name, const char *suffix) {
    char other[128];
    (void)snprintf(other, sizeof other, "%.*s.%s", (int)(strlen(name) - 4), name, suffix);
    return read_file(ret, other);
}

static uint64_t hex_of(const char *text) {
    return strtoull(text, NULL, 16);
}

/* Decodes a chunk by the coder of its tensor, whose first chunk precedes in the manifest. */
static seam_status payload_decode(float *ret_x, const char *name, const seam_frame_header *h,
                                  const uint8_t *payload, seam_error *err) {
    /* make_frame_golden.py */
    static const seam_codec_plan plan = {.group = 4, .entropy = SEAM_ENTROPY_RANS};
    static seam_coder *coder;
    static blob widths;
    static seam_alloc alloc;
    static uint32_t row_gates[ROWS];
    const seam_codec_id codec = (seam_codec_id)h->codec;
    assert_true(h->channels <= CHANNELS && h->rows <= ROWS);
    if (seam_codec_has_widths(codec)) {
        assert_true(read_beside(&widths, name, "widths"));
        alloc = (seam_alloc){.widths = widths.bytes, .bits_total = h->alloc_bits_total};
    }
    if (codec == SEAM_CODEC_AMAQ_TOKEN) {
        static blob gates;
        assert_true(read_beside(&gates, name, "gates"));
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
    static blob values;
    seam_error err = {0};
    assert_true(read_beside(&values, name, "values"));
    if (payload_decode(decoded, name, h, payload, &err) != SEAM_OK) {
        fail_msg("%s: %s", name, err.text);
    }
    assert_int_equal(values.count, 4u * h->row_count * h->channels);
    for (size_t i = 0; i < values.count / 4; i++) {
        uint8_t bytes[4];
        seam_put_f32(bytes, decoded[(size_t)h->row_begin * h->channels + i]);
        assert_memory_equal(bytes, values.bytes + 4 * i, 4);
    }
}

/* A frame like any other whose payload the codec refuses. */
static void check_payload(const char *name, const blob *b, const char *expected) {
    static float decoded[ROWS * CHANNELS];
    seam_frame_header h = {0};
    const uint8_t *payload = NULL;
    seam_error err = {0};
    if (seam_frame_open(&h, &payload, b->bytes, b->count, &err) != SEAM_OK) {
        fail_msg("%s: %s", name, err.text);
    }
    const seam_status st = payload_decode(decoded, name, &h, payload, &err);
    char got[64 + SEAM_ERROR_TEXT_BYTES];
    (void)snprintf(got, sizeof got, "%s %s", seam_status_name(st), err.text);
    if (!begins_with(got, expected) || err.text[0] == '\0') {
        fail_msg("%s: \"%s\", expected \"%s\"", name, got, expected);
    }
}

static void check_frame(const char *name, const blob *b, uint64_t expected, bool is_later_chunk) {
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
    uint8_t again[FILE_MAX];
    memcpy(again, b->bytes, b->count);
    memset(again, 0xee, SEAM_FRAME_HEADER_BYTES);
    seam_frame_seal(again, &h);
    assert_memory_equal(again, b->bytes, b->count);
    if (h.kind == SEAM_FRAME_TENSOR) {
        check_values(name, &h, payload);
    }
}

static void check_bad(const char *name, const blob *b, const char *expected) {
    seam_frame_header h = {0};
    const uint8_t *payload = NULL;
    seam_error err = {0};
    char got[64 + SEAM_ERROR_TEXT_BYTES];
    const seam_status st = seam_frame_open(&h, &payload, b->bytes, b->count, &err);
    (void)snprintf(got, sizeof got, "%s %s", seam_status_name(st), err.text);
    if (!begins_with(got, expected)) {
        fail_msg("%s: \"%s\", expected \"%s\"", name, got, expected);
    }
}

static void check_message(const char *name, const blob *b, const char *expected, bool good) {
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

static void check_begin(const blob *b, uint64_t expected, bool labels) {
    const seam_layout_limits own = limits_of(labels);
    Seam__V1__TrainRequest *const request =
        seam__v1__train_request__unpack(NULL, b->count, b->bytes);
    assert_non_null(request);
    assert_int_equal(request->body_case, SEAM__V1__TRAIN_REQUEST__BODY_STEP_BEGIN);
    assert_true(request->step_begin->digest == expected);
    assert_int_equal(seam_step_begin_check(request->step_begin, &own, NULL), SEAM_OK);
    seam__v1__train_request__free_unpacked(request, NULL);
}

static void check_begin_bad(const char *name, const blob *b, const char *expected, bool labels) {
    const seam_layout_limits own = limits_of(labels);
    seam_error err = {0};
    char got[64 + SEAM_ERROR_TEXT_BYTES];
    Seam__V1__TrainRequest *const request =
        seam__v1__train_request__unpack(NULL, b->count, b->bytes);
    assert_non_null(request);
    const seam_status st = seam_step_begin_check(request->step_begin, &own, &err);
    seam__v1__train_request__free_unpacked(request, NULL);
    (void)snprintf(got, sizeof got, "%s %s", seam_status_name(st), err.text);
    if (!begins_with(got, expected)) {
        fail_msg("%s: \"%s\", expected \"%s\"", name, got, expected);
    }
}

/* A frame that opens, where the tensor of amaq_chunk0.bin is to begin or, with `next`, to go on. */
static void check_not_awaited(const char *name, const blob *b, const char *expected, bool next) {
    static blob chunk;
    seam_frame_header first, header;
    const uint8_t *payload = NULL;
    seam_error err = {0};
    char got[64 + SEAM_ERROR_TEXT_BYTES];
    bool complete = false;
    seam_tensor_rx rx;
    assert_true(read_file(&chunk, "amaq_chunk0.bin"));
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
    (void)snprintf(got, sizeof got, "%s %s", seam_status_name(st), err.text);
    if (!begins_with(got, expected)) {
        fail_msg("%s: \"%s\", expected \"%s\"", name, got, expected);
    }
}

/* The site and step of make_frame_golden.py; lines follow each other. */
static void check_alloc(seam_site *site, const char *name, const blob *b, const char *expected) {
    char *answer = NULL;
    seam_error err = {0};
    char got[64 + SEAM_ERROR_TEXT_BYTES];
    Seam__V1__TrainRequest *const request =
        seam__v1__train_request__unpack(NULL, b->count, b->bytes);
    assert_non_null(request);
    assert_int_equal(request->body_case, SEAM__V1__TRAIN_REQUEST__BODY_ALLOC_PROPOSE);
    const Seam__V1__AllocPropose *p = request->alloc_propose;
    const uint64_t step_now = strtoull(expected, &answer, 10);
    const seam_status st = seam_site_judge(site, p->version, p->effective_step, p->widths.data,
                                           (uint32_t)p->widths.len, p->hash, step_now, &err);
    seam__v1__train_request__free_unpacked(request, NULL);
    (void)snprintf(got, sizeof got, " %s%s%s", st == SEAM_OK ? "OK" : seam_status_name(st),
                   st == SEAM_OK ? "" : " ", err.text);
    if (!begins_with(got, answer)) {
        fail_msg("%s:%s, expected%s", name, got, answer);
    }
}

static void check_config(const blob *b, uint64_t expected) {
    Seam__V1__SessionConfig *const config =
        seam__v1__session_config__unpack(NULL, b->count, b->bytes);
    assert_non_null(config);
    assert_true(seam_config_hash(config) == expected);
    seam__v1__session_config__free_unpacked(config, NULL);
}

static void test_golden__every_file__as_the_manifest_says(void **state) {
    (void)state;
    static blob manifest;
    static blob file;
    uint32_t lines = 0;
    seam_site *site = NULL;
    seam_site_config site_config = {.codec = SEAM_CODEC_AMAQ, .width_count = 5};
    assert_true(seam_gates_preset(&site_config.gates, 3.0f));
    assert_int_equal(seam_site_create(&site, &site_config, NULL), SEAM_OK);
    assert_true(read_file(&manifest, "manifest.tsv"));
    manifest.bytes[manifest.count] = '\0';
    char *rest = (char *)manifest.bytes;
    for (char *line = strsep(&rest, "\n"); line != NULL && *line != '\0';
         line = strsep(&rest, "\n")) {
        const char *const name = strsep(&line, "\t");
        const char *const kind = strsep(&line, "\t");
        const char *const expected = line;
        assert_non_null(expected);
        assert_true(read_file(&file, name));
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
