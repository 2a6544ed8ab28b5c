/* Goal: the small parts of the server that read or write bytes of strangers: the descriptor walk,
 * error details, bearer keys.
 * Method: known bytes, every truncation, the embedded descriptors; details unpacked again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "auth.h"
#include "descriptor_set.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "proto_bytes.h"
#include "rpc_details.h"

static void test_pb_read__each_wire_type__and_every_truncation(void **state) {
    (void)state;
    const uint8_t message[] = {0x08, 0x96, 0x01,                       /* 1: 150 */
                               0x12, 0x03, 'a',  'b', 'c',             /* 2: "abc" */
                               0x1d, 1,    0,    0,   0,               /* 3: fixed32 */
                               0x21, 2,    0,    0,   0,   0, 0, 0, 0, /* 4: fixed64 */
                               0xfa, 0x7f, 0x00};                      /* 2047: "" */
    const size_t ends[] = {3, 8, 13, 22, 25};
    for (size_t cut = 0; cut <= sizeof message; cut++) {
        const uint8_t *at = message;
        size_t left = cut, fields = 0;
        seam_pb_field field;
        while (seam_pb_read(&field, &at, &left)) {
            fields++;
        }
        bool whole = cut == 0;
        size_t expected = 0;
        for (size_t i = 0; i < 5; i++) {
            whole = whole || ends[i] == cut;
            expected += ends[i] <= cut ? 1 : 0;
        }
        assert_int_equal(fields, expected);
        assert_int_equal(left == 0, whole); /* a cut field stays unread */
    }
    const uint8_t *at = message;
    size_t left = sizeof message;
    seam_pb_field field;
    assert_true(seam_pb_read(&field, &at, &left) && field.number == 1 && field.value == 150);
    assert_true(seam_pb_read(&field, &at, &left) && seam_pb_text_is(&field, "abc"));
    assert_false(seam_pb_text_is(&field, "ab"));
    assert_true(seam_pb_read(&field, &at, &left) && field.value == 1 && field.wire_type == 5);
    assert_true(seam_pb_read(&field, &at, &left) && field.value == 2 && field.wire_type == 1);
    assert_true(seam_pb_read(&field, &at, &left) && field.number == 2047 && field.count == 0);
}

static void test_pb_read__malformed__false(void **state) {
    (void)state;
    const uint8_t cases[][11] = {
        {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, /* endless varint */
        {0x0b},                                                             /* group */
        {0x0f},                                                             /* wire type 7 */
        {0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, /* huge count */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const uint8_t *at = cases[i];
        size_t left = sizeof cases[i];
        seam_pb_field field;
        assert_false(seam_pb_read(&field, &at, &left));
        assert_int_equal(left, sizeof cases[i]);
    }
}

static void test_pb_read__embedded_descriptors__walk_to_the_end(void **state) {
    (void)state;
    const uint8_t *at = seam_descriptor_set;
    size_t left = seam_descriptor_set_bytes, files = 0, services = 0;
    seam_pb_field file, field;
    while (seam_pb_read(&file, &at, &left)) {
        const uint8_t *inner = file.bytes;
        size_t inner_left = file.count;
        while (seam_pb_read(&field, &inner, &inner_left)) {
            services += field.number == 6 ? 1 : 0;
        }
        assert_int_equal(inner_left, 0);
        files++;
    }
    assert_int_equal(left, 0);
    assert_true(files >= 8 && services == 4); /* Seam, Health, reflection twice */
}

static void details_check(seam_status st, const char *text, const char *field, bool retry) {
    uint8_t bytes[SEAM_DETAILS_BYTES_MAX];
    const size_t count = seam_details_encode(bytes, st, text);
    Google__Rpc__Status *status = google__rpc__status__unpack(NULL, count, bytes);
    assert_non_null(status);
    assert_int_equal(status->code, seam_status_grpc_code(st));
    assert_string_equal(status->message, text);
    const size_t expected = 1u + (field[0] != '\0' ? 1u : 0u) + (retry ? 1u : 0u);
    assert_int_equal(status->n_details, expected);
    Google__Rpc__ErrorInfo *info = google__rpc__error_info__unpack(
        NULL, status->details[0]->value.len, status->details[0]->value.data);
    assert_string_equal(info->reason, seam_status_name(st));
    assert_string_equal(info->domain, "seam.dev");
    google__rpc__error_info__free_unpacked(info, NULL);
    if (field[0] != '\0') {
        Google__Rpc__BadRequest *request = google__rpc__bad_request__unpack(
            NULL, status->details[1]->value.len, status->details[1]->value.data);
        assert_string_equal(request->field_violations[0]->field, field);
        google__rpc__bad_request__free_unpacked(request, NULL);
    }
    google__rpc__status__free_unpacked(status, NULL);
}

static void test_details__texts__field_and_retry(void **state) {
    (void)state;
    char longest[SEAM_ERROR_TEXT_BYTES];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    details_check(SEAM_E_ARG, "config.lora.rank: 0 is not in 1..256", "config.lora.rank", false);
    details_check(SEAM_E_ARG, "micros[2].sequence_rows[5]: 0", "micros[2].sequence_rows[5]", false);
    details_check(SEAM_E_ARG, "config.codec.amaq.bits_min 1, bits_max 0: outside 1..16",
                  "config.codec.amaq.bits_min", false);
    details_check(SEAM_E_LIMIT, "all 2 sessions are taken (sessions-max)", "", true);
    details_check(SEAM_E_LIMIT, "config.codec.aqsgd.cache_bytes_max: 9, this server allows 8",
                  "config.codec.aqsgd.cache_bytes_max", false);
    details_check(SEAM_E_MEMORY, "session: out of memory", "session", true);
    details_check(SEAM_E_FENCED, "a newer attach owns the session", "", false);
    details_check(SEAM_E_UNAVAILABLE, longest, "", true);
    char field[101], text[SEAM_ERROR_TEXT_BYTES];
    memset(field, 'b', 100);
    field[100] = '\0';
    (void)snprintf(text, sizeof text, "%s: the longest field there is", field);
    details_check(SEAM_E_ARG, text, field, false);
}

static void test_details_text__peer_bytes__printable(void **state) {
    (void)state;
    seam_error err = {0};
    char text[SEAM_ERROR_TEXT_BYTES];
    (void)seam_error_set(&err, SEAM_E_ARG, "name \xff\x01\n is bad");
    seam_details_text(text, sizeof text, SEAM_E_ARG, &err);
    assert_string_equal(text, "name ??? is bad");
    seam_details_text(text, sizeof text, SEAM_E_GONE, NULL);
    assert_string_equal(text, seam_status_text(SEAM_E_GONE));
}

static void test_auth__keys_of_a_file__only_those(void **state) {
    (void)state;
    seam_auth *auth = NULL;
    seam_error err = {0};
    char path[] = "/tmp/seam_keys_XXXXXX";
    const int fd = mkstemp(path);
    /* sha256 of "abc" */
    const char text[] = "# keys\n\n"
                        "  BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD # a\n";
    assert_true(fd >= 0 && write(fd, text, sizeof text - 1) == (ssize_t)(sizeof text - 1));
    assert_int_equal(seam_auth_create(&auth, path, &err), SEAM_OK);
    assert_int_equal(seam_auth_check(auth, "Bearer abc", 10, &err), SEAM_OK);
    assert_int_equal(seam_auth_check(auth, "Bearer abd", 10, &err), SEAM_E_UNAUTHENTICATED);
    assert_int_equal(seam_auth_check(auth, "Bearer ", 7, &err), SEAM_E_UNAUTHENTICATED);
    assert_int_equal(seam_auth_check(auth, "bearer abc", 10, &err), SEAM_E_UNAUTHENTICATED);
    assert_int_equal(seam_auth_check(auth, NULL, 0, &err), SEAM_E_UNAUTHENTICATED);
    seam_auth_destroy(auth);
    assert_true(write(fd, "12zz\n", 5) == 5);
    (void)close(fd);
    assert_int_equal(seam_auth_create(&auth, path, &err), SEAM_E_FORMAT);
    assert_non_null(strstr(err.text, ":4"));
    (void)unlink(path);
    assert_int_equal(seam_auth_create(&auth, path, &err), SEAM_E_IO);
    assert_int_equal(seam_auth_create(&auth, "", &err), SEAM_OK);
    assert_int_equal(seam_auth_check(auth, NULL, 0, &err), SEAM_OK); /* no file: open */
    seam_auth_destroy(auth);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pb_read__each_wire_type__and_every_truncation),
        cmocka_unit_test(test_pb_read__malformed__false),
        cmocka_unit_test(test_pb_read__embedded_descriptors__walk_to_the_end),
        cmocka_unit_test(test_details__texts__field_and_retry),
        cmocka_unit_test(test_details_text__peer_bytes__printable),
        cmocka_unit_test(test_auth__keys_of_a_file__only_those),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
