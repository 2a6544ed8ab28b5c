/* Goal: storage in memory and in a file is zeroed, writable, leaves no name behind, and a directory
 * that cannot hold it is an error.  Method: both kinds, a missing directory, absurd sizes. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "storage.h"

static void test_open__memory_and_file__zeroed_and_writable(void **state) {
    (void)state;
    char directory[] = "/tmp/seam-test-storage-XXXXXX";
    assert_non_null(mkdtemp(directory));
    for (int i = 0; i < 2; i++) {
        seam_storage s = {0};
        seam_error err = {0};
        if (seam_storage_open(&s, i == 0 ? NULL : directory, 100000, &err) != SEAM_OK) {
            fail_msg("%s", err.text);
        }
        assert_int_equal(s.count, 100000);
        for (size_t at = 0; at < s.count; at += 997) {
            assert_int_equal(s.bytes[at], 0);
        }
        memset(s.bytes, 7, s.count);
        seam_storage_close(&s);
        assert_null(s.bytes);
        seam_storage_close(&s);
    }
    assert_int_equal(rmdir(directory), 0); /* nothing with a name was left in it */
}

static void test_open__nothing__no_bytes(void **state) {
    (void)state;
    seam_storage s = {.count = 5};
    assert_int_equal(seam_storage_open(&s, "/nowhere", 0, NULL), SEAM_OK);
    assert_null(s.bytes);
    assert_int_equal(s.count, 0);
}

static void test_open__cannot__named_error(void **state) {
    (void)state;
    seam_storage s = {0};
    seam_error err = {0};
    assert_int_equal(seam_storage_open(&s, "/nowhere/at/all", 10, &err), SEAM_E_IO);
    assert_non_null(strstr(err.text, "/nowhere/at/all: "));
    assert_int_equal(seam_storage_open(&s, "/tmp", (size_t)1 << 62, &err), SEAM_E_IO);
    assert_non_null(strstr(err.text, ": no room: "));
    assert_int_equal(seam_storage_open(&s, NULL, (size_t)1 << 62, &err), SEAM_E_MEMORY);
    assert_null(s.bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open__memory_and_file__zeroed_and_writable),
        cmocka_unit_test(test_open__nothing__no_bytes),
        cmocka_unit_test(test_open__cannot__named_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
