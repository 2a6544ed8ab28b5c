/* Goal: only the canonical bytes of a one-field message pass, and what the header writer makes is
 * what protobuf-c makes.  Method: comparison with protobuf-c at every length class; a table of
 * malformed messages; every truncation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "seam/v1/stream.pb-c.h"
#include "walk.h"

static void test_header_put__any_length__as_protobuf_packs(void **state) {
    (void)state;
    static const size_t lengths[] = {1, 64, 127, 128, 16383, 16384, 1048640, 2097151, 2097152};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        const size_t n = lengths[i];
        uint8_t *const frame = test_calloc(n, 1);
        frame[n - 1] = 0x5a;
        Seam__V1__TrainRequest request = SEAM__V1__TRAIN_REQUEST__INIT;
        request.body_case = SEAM__V1__TRAIN_REQUEST__BODY_FRAME;
        request.frame = (ProtobufCBinaryData){.len = n, .data = frame};
        const size_t packed_bytes = seam__v1__train_request__get_packed_size(&request);
        uint8_t *const packed = test_malloc(packed_bytes);
        seam__v1__train_request__pack(&request, packed);

        uint8_t *const room = test_malloc(SEAM_MESSAGE_HEADER_BYTES_MAX + n);
        memcpy(room + SEAM_MESSAGE_HEADER_BYTES_MAX, frame, n);
        const uint8_t *const message =
            seam_message_header_put(room + SEAM_MESSAGE_HEADER_BYTES_MAX, n);
        assert_int_equal(seam_message_header_bytes(n) + n, packed_bytes);
        assert_int_equal(seam_message_frame_bytes(packed_bytes), n);
        assert_memory_equal(message, packed, packed_bytes);

        seam_walk walk = {0};
        assert_int_equal(seam_walk_message(&walk, packed, packed_bytes, NULL), SEAM_OK);
        assert_int_equal(walk.field, SEAM_MESSAGE_FRAME_FIELD);
        assert_int_equal(walk.body_bytes, n);
        assert_ptr_equal(walk.body + n, packed + packed_bytes);
        test_free(room);
        test_free(packed);
        test_free(frame);
    }
}

static void test_message__control__field_and_body(void **state) {
    (void)state;
    Seam__V1__TrainRequest request = SEAM__V1__TRAIN_REQUEST__INIT;
    Seam__V1__Credit credit = SEAM__V1__CREDIT__INIT;
    credit.limit_bytes = 300;
    request.body_case = SEAM__V1__TRAIN_REQUEST__BODY_CREDIT;
    request.credit = &credit;
    uint8_t packed[32];
    const size_t n = seam__v1__train_request__pack(&request, packed);
    seam_walk walk = {0};
    assert_int_equal(seam_walk_message(&walk, packed, n, NULL), SEAM_OK);
    assert_int_equal(walk.field, 7);
    for (size_t cut = 0; cut < n; cut++) {
        assert_int_equal(seam_walk_message(&walk, packed, cut, NULL), SEAM_E_FORMAT);
    }
    Seam__V1__Detach detach = SEAM__V1__DETACH__INIT; /* an empty body is fine */
    request.body_case = SEAM__V1__TRAIN_REQUEST__BODY_DETACH;
    request.detach = &detach;
    const size_t empty = seam__v1__train_request__pack(&request, packed);
    assert_int_equal(seam_walk_message(&walk, packed, empty, NULL), SEAM_OK);
    assert_int_equal(walk.body_bytes, 0);
}

static void test_message__malformed__format_error(void **state) {
    (void)state;
    static const struct {
        uint8_t bytes[12];
        size_t count;
        const char *text;
    } cases[] = {
        {{0x7a}, 1, "malformed length"},
        {{0x80, 0x80, 0x80, 0x80, 0x80, 0x01}, 6, "malformed tag"},
        {{0xfa, 0x00, 0x00}, 3, "malformed tag"},                      /* not the shortest form */
        {{0x7a, 0x81, 0x00, 0x01}, 4, "malformed length"},             /* the same in the length */
        {{0x7a, 0xff, 0xff, 0xff, 0xff, 0x1f}, 6, "malformed length"}, /* above 2^32 */
        {{0x7a, 0xff, 0xff, 0xff, 0xff, 0x0f}, 6, "announced"},
        {{0x7a, 0x02, 0x01}, 3, "announced"},
        {{0x7a, 0x01, 0x01, 0x7a}, 4, "only one"},
        {{0x7a, 0x01, 0x01, 0x7a, 0x01, 0x01}, 6, "only one"}, /* the field twice */
        {{0x3a, 0x00, 0x7a, 0x01, 0x01}, 5, "only one"},
        {{0x78, 0x01}, 2, "wire type 0"},
        {{0x79, 0, 0, 0, 0, 0, 0, 0, 0}, 9, "wire type 1"},
        {{0x02, 0x00}, 2, "field 0"},
        {{0x82, 0x01, 0x00}, 3, "field 16"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        seam_walk walk = {0};
        seam_error err = {0};
        assert_int_equal(seam_walk_message(&walk, cases[i].bytes, cases[i].count, &err),
                         SEAM_E_FORMAT);
        if (strstr(err.text, cases[i].text) == NULL) {
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, err.text, cases[i].text);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_put__any_length__as_protobuf_packs),
        cmocka_unit_test(test_message__control__field_and_body),
        cmocka_unit_test(test_message__malformed__format_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
