/* Goal: the operator's options: flag > variable > file > default, and errors that name the place.
 * Method: argument vectors, variables and files of each kind; the rules across options. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server_config.h"

#define LOAD(ret, err, ...)                                                                        \
    load(ret, err, (char *const[]){(char *)(uintptr_t) "seamd", __VA_ARGS__, NULL})

static seam_status load(seam_server_config *ret, seam_error *err, char *const *args) {
    int count = 0;
    while (args[count] != NULL) {
        count++;
    }
    memset(err, 0, sizeof *err);
    return seam_server_config_load(ret, count, args, err);
}

static void test_load__nothing_given__defaults(void **state) {
    (void)state;
    seam_server_config config;
    seam_error err;
    char *const args[] = {(char *)(uintptr_t) "seamd", NULL};
    assert_int_equal(load(&config, &err, args), SEAM_OK);
    assert_string_equal(config.listen, "127.0.0.1:50051");
    assert_string_equal(config.device, "cpu");
    assert_int_equal(config.handshake_timeout_ms, 10000);
    assert_int_equal(config.lease_timeout_ms, 60000);
    assert_int_equal(config.model_count, 0);
    assert_int_equal(config.join_rank, 16);
    assert_int_equal(config.join_mlp_rank, 0);
}

static void test_load__all_places__the_highest_wins(void **state) {
    (void)state;
    char path[] = "/tmp/seam_config_XXXXXX";
    const int fd = mkstemp(path);
    const char text[] = "# comment\nsessions-max = 2   # two\n\nrows-max=100\nmodel = /m/file\n"
                        "device = file\nlog-level = debug\n";
    assert_true(fd >= 0 && write(fd, text, sizeof text - 1) == (ssize_t)(sizeof text - 1));
    (void)close(fd);
    seam_server_config config;
    seam_error err;
    (void)setenv("SEAM_ROWS_MAX", "200", 1);
    (void)setenv("SEAM_MODEL", "var=/m/var", 1);
    (void)setenv("SEAM_MEMORY_BUDGET", "3G", 1);
    const seam_status st = LOAD(&config, &err, (char *)"--config", path, (char *)"--device=flag",
                                (char *)"--insecure", (char *)"--dtype", (char *)"bf16");
    (void)unsetenv("SEAM_ROWS_MAX");
    (void)unsetenv("SEAM_MODEL");
    (void)unsetenv("SEAM_MEMORY_BUDGET");
    (void)unlink(path);
    assert_int_equal(st, SEAM_OK);
    assert_int_equal(config.sessions_max, 2);
    assert_int_equal(config.rows_max, 200);
    assert_int_equal(config.model_count, 1);
    assert_string_equal(config.models[0].id, "var");
    assert_string_equal(config.device, "flag");
    assert_true(config.memory_budget_bytes == UINT64_C(3) << 30);
    assert_true(config.insecure && config.dtype == SEAM_BF16 && config.log_level == 4);
}

/* What the Hub is asked for names the model too; a path on this machine may hold '@' and ':'. */
static void test_load__models__of_the_hub_named_by_their_repository(void **state) {
    (void)state;
    static const struct {
        const char *text, *id;
    } CASES[] = {{"org/name", "name"},
                 {"org/name@refs/pr/1", "name"},
                 {"org/name@main:q4/a.gguf", "name"},
                 {"org/name:a.gguf", "name"},
                 {"/srv/a@b/c:d", "c:d"},
                 {"./x@y", "x@y"}};
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        seam_server_config config;
        seam_error err = {0};
        assert_int_equal(LOAD(&config, &err, (char *)"--model", (char *)(uintptr_t)CASES[i].text),
                         SEAM_OK);
        assert_string_equal(config.models[0].id, CASES[i].id);
        assert_string_equal(config.models[0].path, CASES[i].text);
    }
}

static void test_load__models__named_by_flag_or_path(void **state) {
    (void)state;
    seam_server_config config;
    seam_error err;
    assert_int_equal(
        LOAD(&config, &err, (char *)"--model", (char *)"/a/b/smol/", (char *)"--model=x=/c/d.gguf"),
        SEAM_OK);
    assert_int_equal(config.model_count, 2);
    assert_string_equal(config.models[0].id, "smol");
    assert_string_equal(config.models[0].path, "/a/b/smol");
    assert_string_equal(config.models[1].id, "x");
    assert_string_equal(config.models[1].path, "/c/d.gguf");
    assert_int_equal(
        LOAD(&config, &err, (char *)"--model", (char *)"x=/a", (char *)"--model", (char *)"x=/b"),
        SEAM_E_ARG);
    assert_non_null(strstr(err.text, "twice"));
}

static void test_load__bad_values__named(void **state) {
    (void)state;
    static const struct {
        const char *arg, *text;
    } cases[] = {
        {"--sessions-max=0", "--sessions-max"},
        {"--sessions-max=1x", "--sessions-max"},
        {"--sessions-max=-1", "--sessions-max"},
        {"--rows-max=99999999", "--rows-max: \"99999999\" is not in 1..1048576"},
        {"--credit-bytes=0", "--credit-bytes: \"0\" is not in "},
        {"--credit-bytes=1K", "--credit-bytes"},
        {"--credit-bytes=999G", "--credit-bytes"},
        {"--memory-budget=1T", "--memory-budget"},
        {"--memory-budget=99999999999G", "budget"},
        {"--dtype=f16", "--dtype"},
        {"--join-rank=0", "--join-rank"},
        {"--join-rank=257", "--join-rank"},
        {"--join-mlp-rank=257", "--join-mlp-rank"},
        {"--log-level=loud", "--log-level"},
        {"--insecure=maybe", "--insecure"},
        {"--model==/x", "--model"},
        {"--model=", "--model"},
        {"--nonsense=1", "--nonsense"},
        {"stray", "stray"},
        {"--listen", "needs a value"},
        {"--config=/no/such/file", "/no/such/file"},
        {"--config=/tmp", "cannot read /tmp: Is a directory"},
        {"--model=\xff=/x", "--model"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        seam_server_config config;
        seam_error err;
        const seam_status st = LOAD(&config, &err, (char *)(uintptr_t)cases[i].arg);
        assert_true(st == SEAM_E_ARG || st == SEAM_E_IO);
        if (strstr(err.text, cases[i].text) == NULL) {
            fail_msg("%s: \"%s\" lacks \"%s\"", cases[i].arg, err.text, cases[i].text);
        }
    }
}

static seam_status check(seam_error *err, const char *listen, const char *cert, const char *key,
                         const char *ca, bool insecure, bool force) {
    seam_server_config config = {.insecure = insecure, .force_insecure = force, .model_count = 1};
    (void)snprintf(config.listen, sizeof config.listen, "%s", listen);
    (void)snprintf(config.tls_cert, sizeof config.tls_cert, "%s", cert);
    (void)snprintf(config.tls_key, sizeof config.tls_key, "%s", key);
    (void)snprintf(config.tls_client_ca, sizeof config.tls_client_ca, "%s", ca);
    memset(err, 0, sizeof *err);
    return seam_server_config_check(&config, err);
}

static void test_check__plaintext__only_on_loopback_unless_forced(void **state) {
    (void)state;
    seam_error err;
    const char *const loopback[] = {"127.0.0.1:1", "localhost:0", "[::1]:5", "127.9.9.9:1"};
    const char *const outside[] = {"0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.org:1",
                                   "localhost.example.org:1"};
    for (size_t i = 0; i < sizeof loopback / sizeof loopback[0]; i++) {
        assert_int_equal(check(&err, loopback[i], "", "", "", false, false), SEAM_OK);
    }
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++) {
        assert_int_equal(check(&err, outside[i], "", "", "", true, false), SEAM_E_ARG);
        assert_int_equal(check(&err, outside[i], "", "", "", false, true), SEAM_OK);
        assert_int_equal(check(&err, outside[i], "c", "k", "", false, false), SEAM_OK);
    }
    assert_int_equal(check(&err, "127.0.0.1:1", "c", "", "", false, false), SEAM_E_ARG);
    assert_int_equal(check(&err, "127.0.0.1:1", "", "k", "", false, false), SEAM_E_ARG);
    assert_int_equal(check(&err, "127.0.0.1:1", "", "", "ca", false, false), SEAM_E_ARG);
    assert_int_equal(check(&err, "127.0.0.1:1", "c", "k", "", true, false), SEAM_E_ARG);
    const char *const nowhere[] = {"nowhere",         "127.0.0.1:",   "127.0.0.1:65536",
                                   "127.0.0.1:99999", "localhost:1x", "localhost:-1"};
    for (size_t i = 0; i < sizeof nowhere / sizeof nowhere[0]; i++) {
        assert_int_equal(check(&err, nowhere[i], "", "", "", false, false), SEAM_E_ARG);
        assert_non_null(strstr(err.text, "HOST:PORT"));
    }
    assert_int_equal(check(&err, "127.0.0.1:65535", "", "", "", false, false), SEAM_OK);
    assert_int_equal(check(&err, "unix:/tmp/seamd", "", "", "", false, false), SEAM_OK);
}

static void test_check__fp8_and_room_for_lora__named(void **state) {
    (void)state;
    seam_error err;
    seam_server_config config = {.listen = "127.0.0.1:1",
                                 .insecure = true,
                                 .fp8 = true,
                                 .join_mlp_rank = 8,
                                 .model_count = 1};
    assert_int_equal(seam_server_config_check(&config, &err), SEAM_E_ARG);
    assert_non_null(strstr(err.text, "join-mlp-rank and fp8"));
    config.join_mlp_rank = 0;
    assert_int_equal(seam_server_config_check(&config, &err), SEAM_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load__nothing_given__defaults),
        cmocka_unit_test(test_load__all_places__the_highest_wins),
        cmocka_unit_test(test_load__models__of_the_hub_named_by_their_repository),
        cmocka_unit_test(test_load__models__named_by_flag_or_path),
        cmocka_unit_test(test_load__bad_values__named),
        cmocka_unit_test(test_check__plaintext__only_on_loopback_unless_forced),
        cmocka_unit_test(test_check__fp8_and_room_for_lora__named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
