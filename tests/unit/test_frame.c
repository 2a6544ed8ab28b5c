/* Goal: a frame that opens is exactly one that was sealed.  Method: round trips over every codec
 * and kind, every truncation, every flipped bit, a table of header rules each broken once, chunk
 * arithmetic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bytes.h"
#include "frame.h"

#define PAYLOAD_MAX 4096

static seam_frame_header tensor_header(uint8_t codec) {
    seam_frame_header h = {.kind = SEAM_FRAME_TENSOR,
                           .phase = SEAM_PHASE_FORWARD,
                           .codec = codec,
                           .site = 3,
                           .micro = 2,
                           .step = UINT64_C(0x1122334455667788),
                           .rows = 40,
                           .channels = 3,
                           .row_begin = 32,
                           .row_count = 8};
    if (codec >= 3) {
        h.alloc_version = 5;
        h.alloc_bits_total = 13;
        h.alloc_hash = 99;
        h.payload_bytes = 13; /* 8 * 13 / 8 */
    } else {
        h.payload_bytes = 8 * 3 * (codec == 1 ? 4 : 2);
    }
    return h;
}

static size_t seal(uint8_t *frame, const seam_frame_header *h) {
    for (uint32_t i = 0; i < h->payload_bytes; i++) {
        frame[SEAM_FRAME_HEADER_BYTES + i] = (uint8_t)(i * 7 + 1);
    }
    seam_frame_seal(frame, h);
    return SEAM_FRAME_HEADER_BYTES + h->payload_bytes;
}

static void test_open__sealed__same_header(void **state) {
    (void)state;
    uint8_t frame[SEAM_FRAME_HEADER_BYTES + PAYLOAD_MAX];
    for (uint8_t codec = 1; codec <= 4; codec++) {
        const seam_frame_header h = tensor_header(codec);
        const size_t count = seal(frame, &h);
        seam_frame_header got;
        const uint8_t *payload = NULL;
        memset(&got, 0, sizeof got);
        assert_int_equal(seam_frame_open(&got, &payload, frame, count, NULL), SEAM_OK);
        assert_ptr_equal(payload, frame + SEAM_FRAME_HEADER_BYTES);
        assert_int_equal(got.kind, h.kind);
        assert_int_equal(got.phase, h.phase);
        assert_int_equal(got.codec, h.codec);
        assert_int_equal(got.site, h.site);
        assert_int_equal(got.micro, h.micro);
        assert_true(got.step == h.step);
        assert_int_equal(got.rows, h.rows);
        assert_int_equal(got.channels, h.channels);
        assert_int_equal(got.row_begin, h.row_begin);
        assert_int_equal(got.row_count, h.row_count);
        assert_int_equal(got.alloc_version, h.alloc_version);
        assert_int_equal(got.alloc_bits_total, h.alloc_bits_total);
        assert_true(got.alloc_hash == h.alloc_hash);
        assert_int_equal(got.payload_bytes, h.payload_bytes);
    }
}

static void test_open__other_kinds__sizes_of_wire_md(void **state) {
    (void)state;
    uint8_t frame[SEAM_FRAME_HEADER_BYTES + PAYLOAD_MAX];
    const struct {
        uint8_t kind, codec;
        uint32_t channels, payload_bytes, rows;
    } cases[] = {{SEAM_FRAME_GATE_SIGNAL, 4, 5, 20, 1},
                 {SEAM_FRAME_GRAD_NORM, 1, 1, 8, 1},
                 {SEAM_FRAME_RANGE, 4, 5, 24, 1},
                 {SEAM_FRAME_LOSS, 1, 1, 16, 1},
                 {SEAM_FRAME_TOKENS, 1, 1, 20, 5}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        seam_frame_header h = {.kind = cases[i].kind,
                               .phase = SEAM_PHASE_BACKWARD,
                               .codec = cases[i].codec,
                               .rows = cases[i].rows,
                               .channels = cases[i].channels,
                               .row_count = cases[i].rows,
                               .payload_bytes = cases[i].payload_bytes};
        if (cases[i].codec == 4) {
            h.alloc_version = 1;
            h.alloc_bits_total = 40;
        }
        const size_t count = seal(frame, &h);
        seam_frame_header got;
        const uint8_t *payload = NULL;
        assert_int_equal(seam_frame_open(&got, &payload, frame, count, NULL), SEAM_OK);
        /* One byte less, with a header and CRC that agree with that, is no such frame. */
        seam_put_u32(frame + 56, h.payload_bytes - 1);
        assert_int_equal(seam_frame_open(&got, &payload, frame, count - 1, NULL), SEAM_E_FORMAT);
    }
}

static void test_open__truncated__error(void **state) {
    (void)state;
    uint8_t frame[SEAM_FRAME_HEADER_BYTES + PAYLOAD_MAX];
    const seam_frame_header h = tensor_header(4);
    const size_t count = seal(frame, &h);
    for (size_t n = 0; n < count; n++) {
        seam_frame_header got;
        const uint8_t *payload = NULL;
        /* From the heap: a sanitizer sees reads beyond n. */
        uint8_t *const copy = test_malloc(n + 1);
        memcpy(copy, frame, n);
        seam_error err = {0};
        assert_int_equal(seam_frame_open(&got, &payload, copy, n, &err), SEAM_E_FORMAT);
        assert_non_null(strstr(err.text, "frame"));
        test_free(copy);
    }
    assert_int_equal(
        seam_frame_open(&(seam_frame_header){0}, &(const uint8_t *){NULL}, frame, count + 1, NULL),
        SEAM_E_FORMAT);
}

static void test_open__flipped_bit__error(void **state) {
    (void)state;
    uint8_t frame[SEAM_FRAME_HEADER_BYTES + PAYLOAD_MAX];
    for (uint8_t codec = 1; codec <= 4; codec++) {
        const seam_frame_header h = tensor_header(codec);
        const size_t count = seal(frame, &h);
        for (size_t bit = 0; bit < 8 * count; bit++) {
            seam_frame_header got;
            const uint8_t *payload = NULL;
            frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
            const seam_status st = seam_frame_open(&got, &payload, frame, count, NULL);
            assert_true(st == SEAM_E_FORMAT || st == SEAM_E_CHECKSUM);
            frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

/* A header rule: bytes [at, at + count) replaced by value, CRC made right again. */
typedef struct rule_case {
    size_t at, bytes;
    uint32_t value;
    const char *field;
} rule_case;

static void test_open__rule_broken__names_the_field(void **state) {
    (void)state;
    static const rule_case cases[] = {
        {0, 1, 'X', "frame.magic"},
        {4, 1, 2, "frame.version"},
        {5, 1, 0, "frame.kind"},
        {5, 1, 5, "frame.rows"},
        {5, 1, 6, "frame.channels"},
        {5, 1, 7, "frame.kind"},
        {6, 1, 0, "frame.phase"},
        {6, 1, 4, "frame.phase"},
        {6, 1, 3, "frame.micro"},
        {7, 1, 0, "frame.codec"},
        {7, 1, 11, "frame.codec"},
        {10, 1, 2, "frame.coding"},
        {11, 1, 1, "frame.reserved"},
        {12, 4, 4096, "frame.micro"},
        {24, 4, 0, "frame.rows"},
        {24, 4, (1u << 20) + 1, "frame.rows"},
        {28, 4, 0, "frame.channels"},
        {28, 4, (1u << 16) + 1, "frame.channels"},
        {32, 4, 31, "frame.row_begin"},
        {32, 4, 64, "frame.row_begin"},
        {36, 4, 0, "frame.row_count"},
        {36, 4, 9, "frame.row_count"},
        {36, 4, 7, "frame.row_count"},
        {40, 4, 0, "frame.alloc_version"},
        {44, 4, 2, "frame.alloc_bits_total"},
        {44, 4, 49, "frame.alloc_bits_total"},
        {56, 4, 12, "frame.payload_bytes"},
        {56, 4, 0, "frame.payload_bytes"},
        {56, 4, (1u << 20) + 1, "frame.payload_bytes"},
    };
    uint8_t frame[SEAM_FRAME_HEADER_BYTES + PAYLOAD_MAX];
    const seam_frame_header h = tensor_header(4);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t count = seal(frame, &h);
        for (size_t b = 0; b < cases[i].bytes; b++) {
            frame[cases[i].at + b] = (uint8_t)(cases[i].value >> (8 * b));
        }
        seam_frame_header got;
        const uint8_t *payload = NULL;
        seam_error err = {0};
        assert_int_equal(seam_frame_open(&got, &payload, frame, count, &err), SEAM_E_FORMAT);
        assert_memory_equal(err.text, cases[i].field, strlen(cases[i].field));
    }
}

/* Coding 1: bit planes only, and a size between the head and what the planes would take. */
static void test_open__coded__smaller_than_planes(void **state) {
    (void)state;
    static const struct {
        uint8_t codec;
        uint32_t row_begin, payload_bytes;
        const char *error;
    } cases[] = {
        /* C = 3, 13 bits a row: the first 32 rows are 52 bytes of planes behind the head. */
        {1, 0, 5, "frame.coding"},
        {2, 0, 5, "frame.coding"},
        {3, 0, 16, "frame.payload_bytes: 16 are not above 16"},
        {3, 0, 17, NULL},
        {3, 0, 67, NULL},
        {3, 0, 68, "frame.payload_bytes: 68 are not below 68"},
        {4, 0, 67, NULL},
        {4, 32, 1, NULL},
        {4, 32, 12, NULL},
        {4, 32, 13, "frame.payload_bytes: 13 are not below 13"},
        {5, 0, 6, "frame.payload_bytes: 6 are not above 6"},
        {5, 0, 57, NULL},
        {5, 0, 58, "frame.payload_bytes: 58 are not below 58"},
        {6, 0, 10, "frame.payload_bytes: 10 are not above 10"},
        {6, 0, 61, NULL},
        {6, 0, 62, "frame.payload_bytes: 62 are not below 62"},
        {7, 0, 4, "frame.payload_bytes: 4 are not above 4"},
        {7, 0, 70, NULL}, /* the number of scales is not known here */
        {7, 32, 4, "frame.payload_bytes: 4 are not above 4"},
        {8, 0, 5, "frame.coding"},
        {9, 0, 5, "frame.coding"},
    };
    uint8_t frame[SEAM_FRAME_HEADER_BYTES + PAYLOAD_MAX] = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        seam_frame_header h = tensor_header(7); /* opens with any size: the bytes are changed */
        (void)seal(frame, &h);
        const size_t count = SEAM_FRAME_HEADER_BYTES + cases[i].payload_bytes;
        frame[7] = cases[i].codec;
        frame[10] = 1;
        seam_put_u32(frame + 32, cases[i].row_begin);
        seam_put_u32(frame + 36, cases[i].row_begin == 0 ? 32 : 8);
        seam_put_u32(frame + 56, cases[i].payload_bytes);
        if (cases[i].codec < 3 || cases[i].codec == 9) {
            memset(frame + 40, 0, 16);
        }
        seam_put_u32(frame + 60, 0);
        seam_put_u32(frame + 60, seam_crc32c(0, frame, count));
        seam_frame_header got;
        const uint8_t *payload = NULL;
        seam_error err = {0};
        const seam_status st = seam_frame_open(&got, &payload, frame, count, &err);
        if (cases[i].error == NULL) {
            assert_int_equal(st, SEAM_OK);
            assert_int_equal(got.coding, 1);
        } else {
            assert_int_equal(st, SEAM_E_FORMAT);
            assert_memory_equal(err.text, cases[i].error, strlen(cases[i].error));
        }
    }
}

/* A few bytes cannot stand for more codes than a frame holds. */
static void test_open__coded__rows_of_more_than_a_frame(void **state) {
    (void)state;
    uint8_t frame[SEAM_FRAME_HEADER_BYTES + PAYLOAD_MAX] = {0};
    seam_frame_header h = tensor_header(7);
    (void)seal(frame, &h);
    frame[10] = 1;
    seam_put_u32(frame + 24, 1u << 20);
    seam_put_u32(frame + 32, 0);
    seam_put_u32(frame + 36, 1u << 20); /* 13 bits a row: 1.7 MB */
    seam_put_u32(frame + 60, 0);
    seam_put_u32(frame + 60, seam_crc32c(0, frame, SEAM_FRAME_HEADER_BYTES + h.payload_bytes));
    const uint8_t *payload = NULL;
    seam_error err = {0};
    assert_int_equal(seam_frame_open(&h, &payload, frame,
                                     SEAM_FRAME_HEADER_BYTES + (size_t)h.payload_bytes, &err),
                     SEAM_E_FORMAT);
    assert_memory_equal(err.text, "frame.row_count: 1048576 rows", 29);
}

static void test_open__alloc_of_plain_codec__error(void **state) {
    (void)state;
    uint8_t frame[SEAM_FRAME_HEADER_BYTES + PAYLOAD_MAX];
    static const size_t offsets[] = {40, 44, 48, 55};
    const seam_frame_header h = tensor_header(2);
    for (size_t i = 0; i < 4; i++) {
        const size_t count = seal(frame, &h);
        seam_frame_header got;
        const uint8_t *payload = NULL;
        seam_error err = {0};
        frame[offsets[i]] = 1;
        assert_int_equal(seam_frame_open(&got, &payload, frame, count, &err), SEAM_E_FORMAT);
        assert_non_null(strstr(err.text, "frame.alloc_"));
    }
}

static void test_digest__two_frames__fnv_of_crcs(void **state) {
    (void)state;
    uint8_t crcs[8];
    seam_put_u32(crcs, 0x01020304);
    seam_put_u32(crcs + 4, 0xa0b0c0d0);
    uint64_t digest = seam_frame_digest_add(SEAM_HASH64_INIT, 0x01020304);
    digest = seam_frame_digest_add(digest, 0xa0b0c0d0);
    assert_true(digest == seam_hash64(SEAM_HASH64_INIT, crcs, sizeof crcs));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open__sealed__same_header),
        cmocka_unit_test(test_open__other_kinds__sizes_of_wire_md),
        cmocka_unit_test(test_open__truncated__error),
        cmocka_unit_test(test_open__flipped_bit__error),
        cmocka_unit_test(test_open__rule_broken__names_the_field),
        cmocka_unit_test(test_open__coded__smaller_than_planes),
        cmocka_unit_test(test_open__coded__rows_of_more_than_a_frame),
        cmocka_unit_test(test_open__alloc_of_plain_codec__error),
        cmocka_unit_test(test_digest__two_frames__fnv_of_crcs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
