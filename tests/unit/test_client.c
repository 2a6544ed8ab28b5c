/* Goal: what a client refuses before any server is asked, and what it says when there is none.
 * Method: the public API of seam.h, the transport's helpers, a port that nobody listens on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "grpc_transport.h"
#include "seam.h"
#include "transport.h"

static void test_seam_address_is_loopback__table(void **state) {
    (void)state;
    static const struct {
        const char *address;
        bool loopback;
    } cases[] = {
        {"localhost:1", true},        {"127.0.0.1:50051", true}, {"127.9.8.7:1", true},
        {"[::1]:50051", true},        {"unix:/tmp/x", true},     {"ipv4:127.0.0.1:1", true},
        {"127.example.org:1", false}, {"10.0.0.1:1", false},     {"localhost.evil:1", false},
        {"example.org:50051", false}, {"[::2]:1", false},        {"1127.0.0.1:1", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(seam_address_is_loopback(cases[i].address), cases[i].loopback);
    }
}

static void test_seam_client_open__bad_options__error_names_the_field(void **state) {
    (void)state;
    seam_client *client = NULL;
    seam_error err;
    seam_client_options options = SEAM_CLIENT_OPTIONS_INIT;
    assert_int_equal(seam_client_open(&client, &options, &err), SEAM_E_ARG);
    assert_non_null(strstr(err.text, "address"));
    options.address = "example.org:1";
    options.plaintext = true;
    assert_int_equal(seam_client_open(&client, &options, &err), SEAM_E_ARG);
    assert_non_null(strstr(err.text, "loopback"));
    options.plaintext = false;
    options.cert_file = "x.pem";
    assert_int_equal(seam_client_open(&client, &options, &err), SEAM_E_ARG);
    assert_non_null(strstr(err.text, "key_file"));
    options.key_file = "/nonexistent/x.key";
    assert_int_equal(seam_client_open(&client, &options, &err), SEAM_E_IO);
    assert_non_null(strstr(err.text, "x.pem"));
    assert_null(client);
    options.cert_file = options.key_file = NULL;
    options.ca_file = "/proc/self/cmdline"; /* no PEM: gRPC has no word for it at the first call */
    assert_int_equal(seam_client_open(&client, &options, &err), SEAM_E_FORMAT);
    assert_non_null(strstr(err.text, "/proc/self/cmdline"));
    options.ca_file = NULL;
    options.token = "key\xc3\xa9"; /* gRPC takes no call with it */
    assert_int_equal(seam_client_open(&client, &options, &err), SEAM_E_ARG);
    assert_non_null(strstr(err.text, "token: byte 4"));
    options.token = NULL;
    options.struct_bytes = 8;
    assert_int_equal(seam_client_open(&client, &options, &err), SEAM_E_ARG);
}

static void test_seam_client_open__addresses__host_and_port(void **state) {
    (void)state;
    static const char *const bad[] = {
        "nowhere",         "localhost:",   "localhost:0",        "localhost:65536",
        "localhost:99999", "localhost:1x", "http://localhost:1", ":50051"};
    static const char *const good[] = {"localhost:65535", "[::1]:1", "unix:/tmp/x",
                                       "ipv4:127.0.0.1:1", "dns:///example.org:1"};
    seam_client_options options = SEAM_CLIENT_OPTIONS_INIT;
    seam_error err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        seam_client *client = NULL;
        options.address = bad[i];
        assert_int_equal(seam_client_open(&client, &options, &err), SEAM_E_ARG);
        assert_non_null(strstr(err.text, bad[i]));
    }
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        seam_client *client = NULL;
        options.address = good[i];
        assert_int_equal(seam_client_open(&client, &options, &err), SEAM_OK);
        seam_client_close(client);
    }
}

static void test_seam_client_server_info__no_server__unavailable_with_address(void **state) {
    (void)state;
    seam_client_options options = SEAM_CLIENT_OPTIONS_INIT;
    options.address = "127.0.0.1:1"; /* tcpmux: nobody listens */
    options.plaintext = true;
    seam_client *client = NULL;
    seam_error err;
    assert_int_equal(seam_client_open(&client, &options, &err), SEAM_OK);
    seam_server_info info;
    assert_int_equal(seam_client_server_info(&info, client, &err), SEAM_E_UNAVAILABLE);
    assert_non_null(strstr(err.text, "127.0.0.1:1"));
    seam_client_close(client);
}

static void test_calls_without_status__null__nothing_or_zeros(void **state) {
    (void)state;
    uint64_t sent = 7, received = 7;
    seam_client_bytes(&sent, &received, NULL);
    assert_true(sent == 0 && received == 0);
    assert_null(seam_session_id(NULL));
    assert_null(seam_session_secret(NULL));
    assert_null(seam_session_topology(NULL));
    assert_int_equal(seam_session_channels(NULL), 0);
    assert_int_equal(seam_session_committed_steps(NULL), 0);
    assert_int_equal(seam_session_site_count(NULL), 0);
    seam_session_cancel(NULL);
    seam_session_on_commit(NULL, NULL, NULL);
    seam_training_facts facts = {.front_blocks = 7};
    seam_session_training(&facts, NULL);
    assert_int_equal(facts.front_blocks, 0);
    seam_session_training(NULL, NULL);
    seam_inference_options options = {.slot_count = 7};
    seam_inference_describe(&options, NULL);
    assert_int_equal(options.slot_count, 0);
    seam_inference_describe(NULL, NULL);
}

static void test_seam_session_resume__nowhere_to_put_it__no_server_is_asked(void **state) {
    (void)state;
    static const uint8_t secret[SEAM_SECRET_BYTES];
    seam_client_options options = SEAM_CLIENT_OPTIONS_INIT;
    options.address = "127.0.0.1:1";
    options.plaintext = true;
    seam_client *client = NULL;
    seam_error err;
    assert_int_equal(seam_client_open(&client, &options, &err), SEAM_OK);
    seam_client_bytes(NULL, NULL, client);
    assert_int_equal(seam_session_resume(NULL, client, "s1", secret, "/tmp", &err), SEAM_E_ARG);
    seam_client_close(client);
}

/* google.rpc.Status {3, "m", Any {ErrorInfo {reason, domain "seam.dev"}},
 * Any {BadRequest {{field "rank", description "d"}}}, Any {RetryInfo {Duration {5 s, 1 ns}}}},
 * written by hand. */
static size_t details_example(uint8_t ret[256], const char *domain, const char *reason) {
    static const char retry_type[] = "type.googleapis.com/google.rpc.RetryInfo";
    static const uint8_t retry[] = {0x0a, 4, 0x08, 5, 0x10, 1};
    static const char info_type[] = "type.googleapis.com/google.rpc.ErrorInfo";
    static const char bad_type[] = "type.googleapis.com/google.rpc.BadRequest";
    uint8_t info[64], bad[64];
    size_t n = 0, k = 0;
    const size_t domain_count = strlen(domain);
    info[n++] = 0x0a;
    info[n++] = (uint8_t)strlen(reason);
    memcpy(info + n, reason, strlen(reason));
    n += strlen(reason);
    info[n++] = 0x12;
    info[n++] = (uint8_t)domain_count;
    memcpy(info + n, domain, domain_count);
    n += domain_count;
    static const uint8_t violation[] = {0x0a, 9, 0x0a, 4, 'r', 'a', 'n', 'k', 0x12, 1, 'd'};
    memcpy(bad, violation, sizeof violation);
    k = sizeof violation;
    size_t at = 0;
    static const uint8_t head[] = {0x08, 3, 0x12, 1, 'm'};
    memcpy(ret, head, sizeof head);
    at += sizeof head;
    const struct {
        const char *type;
        const uint8_t *value;
        size_t count;
    } any[] = {{info_type, info, n}, {bad_type, bad, k}, {retry_type, retry, sizeof retry}};
    for (int i = 0; i < 3; i++) {
        const size_t type_count = strlen(any[i].type);
        ret[at++] = 0x1a;
        ret[at++] = (uint8_t)(4 + type_count + any[i].count);
        ret[at++] = 0x0a;
        ret[at++] = (uint8_t)type_count;
        memcpy(ret + at, any[i].type, type_count);
        at += type_count;
        ret[at++] = 0x12;
        ret[at++] = (uint8_t)any[i].count;
        memcpy(ret + at, any[i].value, any[i].count);
        at += any[i].count;
    }
    return at;
}

static void test_seam_status_details_read__example__reason_and_field(void **state) {
    (void)state;
    uint8_t bytes[256];
    seam_status_details details = {.retry_after_ms = 0};
    seam_status_details_read(&details, bytes, details_example(bytes, "seam.dev", "FENCED"));
    assert_string_equal(details.reason, "FENCED");
    assert_string_equal(details.message, "m");
    assert_string_equal(details.field, "rank");
    assert_int_equal(details.retry_after_ms, 5001); /* never shorter */
    seam_status_details other = {.retry_after_ms = 0};
    seam_status_details_read(&other, bytes, details_example(bytes, "evil.dev", "FENCED"));
    assert_string_equal(other.reason, "");
}

/* RetryInfo {Duration {seconds, nanos}} alone. */
/* A disk that is full there is not taken for one that is here; other words stay as they came. */
static void test_seam_call_end_status__reason_of_the_server__says_whose_disk(void **state) {
    (void)state;
    static const struct {
        const char *reason, *text;
        seam_status status;
    } cases[] = {{"IO", "at the server: cannot write x", SEAM_E_IO},
                 {"MEMORY", "at the server: cannot write x", SEAM_E_MEMORY},
                 {"ARG", "cannot write x", SEAM_E_ARG}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[256];
        const size_t count = details_example(bytes, "seam.dev", cases[i].reason);
        grpc_metadata md = {
            .key = grpc_slice_from_static_string("grpc-status-details-bin"),
            .value = grpc_slice_from_static_buffer(bytes, count),
        };
        const seam_call_end end = {.code = GRPC_STATUS_INTERNAL,
                                   .details = grpc_slice_from_static_string("cannot write x"),
                                   .trailing = {.count = 1, .capacity = 1, .metadata = &md}};
        seam_error err = {0};
        assert_int_equal(seam_call_end_status(&end, "a:1", "M", &err), cases[i].status);
        assert_string_equal(err.text, cases[i].text);
    }
}

static void test_seam_status_details_read__retry_delays__table(void **state) {
    (void)state;
    static const struct {
        uint8_t delay[24];
        size_t count;
        uint64_t ms;
    } cases[] = {
        {{0x08, 60}, 2, 60000},
        {{0x10, 0x80, 0x94, 0xeb, 0xdc, 0x03}, 6, 0}, /* 10^9 nanoseconds are none of a Duration */
        {{0x10, 1}, 2, 1},
        {{0x08, 0x80, 0x80, 0x80, 0x80, 0x10}, 6, UINT32_MAX},                    /* 2^32 s */
        {{0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, 11, 0}, /* -1 s */
        {{0x08}, 1, 0},
    };
    static const char type[] = "type.googleapis.com/google.rpc.RetryInfo";
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[96] = {0x1a, (uint8_t)(2 + sizeof type - 1 + 4 + cases[i].count), 0x0a,
                             sizeof type - 1};
        size_t at = 4;
        memcpy(bytes + at, type, sizeof type - 1);
        at += sizeof type - 1;
        bytes[at++] = 0x12;
        bytes[at++] = (uint8_t)(2 + cases[i].count);
        bytes[at++] = 0x0a;
        bytes[at++] = (uint8_t)cases[i].count;
        memcpy(bytes + at, cases[i].delay, cases[i].count);
        seam_status_details details = {.retry_after_ms = 0};
        seam_status_details_read(&details, bytes, at + cases[i].count);
        assert_true(details.retry_after_ms == cases[i].ms);
    }
}

/* Truncated and damaged details end the reading and never leave the bytes. */
static void test_seam_status_details_read__every_cut_and_flip__stays_inside(void **state) {
    (void)state;
    uint8_t bytes[256];
    const size_t count = details_example(bytes, "seam.dev", "FENCED");
    for (size_t cut = 0; cut < count; cut++) {
        seam_status_details details = {.retry_after_ms = 0};
        seam_status_details_read(&details, bytes, cut);
        assert_true(strlen(details.reason) < sizeof details.reason);
    }
    for (size_t bit = 0; bit < count * 8; bit++) {
        seam_status_details details = {.retry_after_ms = 0};
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        seam_status_details_read(&details, bytes, count);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_true(strlen(details.message) < sizeof details.message);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seam_address_is_loopback__table),
        cmocka_unit_test(test_seam_client_open__bad_options__error_names_the_field),
        cmocka_unit_test(test_seam_client_open__addresses__host_and_port),
        cmocka_unit_test(test_seam_client_server_info__no_server__unavailable_with_address),
        cmocka_unit_test(test_calls_without_status__null__nothing_or_zeros),
        cmocka_unit_test(test_seam_session_resume__nowhere_to_put_it__no_server_is_asked),
        cmocka_unit_test(test_seam_status_details_read__example__reason_and_field),
        cmocka_unit_test(test_seam_call_end_status__reason_of_the_server__says_whose_disk),
        cmocka_unit_test(test_seam_status_details_read__retry_delays__table),
        cmocka_unit_test(test_seam_status_details_read__every_cut_and_flip__stays_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
