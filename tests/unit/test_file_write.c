/* Goal: a file is replaced whole or stays as it was.
 * Method: write, overwrite, and fail in the middle: RLIMIT_FSIZE makes write() fail as a full
 * disk does (EFBIG for ENOSPC), also for root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "file_write.h"
#include "whole_file.h"

static char folder[] = "/tmp/seam-file-write-XXXXXX";
static char path[64];

static int group_begin(void **state) {
    (void)state;
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    (void)snprintf(path, sizeof path, "%s/file", folder);
    return 0;
}

static int group_end(void **state) {
    (void)state;
    (void)unlink(path);
    return rmdir(folder); /* fails when a temporary file was left behind */
}

static void assert_content(const char *expected) {
    char text[64] = "";
    const size_t count = seam_test_file_read(text, sizeof text, "%s", path);
    assert_int_equal(count, strlen(expected));
    assert_string_equal(text, expected);
}

static void test_write_atomic__new_and_old_file__has_the_bytes(void **state) {
    (void)state;
    assert_int_equal(seam_file_write_atomic(path, "first", 5, NULL), SEAM_OK);
    assert_content("first");
    assert_int_equal(seam_file_write_atomic(path, "2nd", 3, NULL), SEAM_OK);
    assert_content("2nd");
}

static void test_write_atomic__disk_full__keeps_the_old_file(void **state) {
    (void)state;
    assert_int_equal(seam_file_write_atomic(path, "old", 3, NULL), SEAM_OK);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    const struct rlimit small = {.rlim_cur = 1000, .rlim_max = before.rlim_max};
    static const char bytes[4000];
    seam_error err = {.status = SEAM_OK};
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const seam_status st = seam_file_write_atomic(path, bytes, sizeof bytes, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(st, SEAM_E_IO);
    assert_non_null(strstr(err.text, path));
    assert_content("old");
}

static void test_write_atomic__no_such_folder__says_which(void **state) {
    (void)state;
    seam_error err = {.status = SEAM_OK};
    assert_int_equal(seam_file_write_atomic("/nonexistent-folder/file", "x", 1, &err), SEAM_E_IO);
    assert_non_null(strstr(err.text, "/nonexistent-folder/file"));
}

static void test_write_atomic__path_too_long__is_refused(void **state) {
    (void)state;
    static char longest[8000];
    memset(longest, 'a', sizeof longest - 1);
    assert_int_equal(seam_file_write_atomic(longest, "x", 1, NULL), SEAM_E_LIMIT);
}

static void test_write_check__there_or_not__leaves_it_so(void **state) {
    (void)state;
    (void)unlink(path);
    assert_int_equal(seam_file_write_check(path, NULL), SEAM_OK);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(seam_file_write_atomic(path, "old", 3, NULL), SEAM_OK);
    assert_int_equal(seam_file_write_check(path, NULL), SEAM_OK);
    assert_content("old");
    assert_int_equal(seam_file_write_check("/dev/null", NULL), SEAM_OK);
    const char *const bad[] = {"/nonexistent-folder/file", folder};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        seam_error err = {0};
        assert_int_equal(seam_file_write_check(bad[i], &err), SEAM_E_IO);
        assert_non_null(strstr(err.text, bad[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_atomic__new_and_old_file__has_the_bytes),
        cmocka_unit_test(test_write_atomic__disk_full__keeps_the_old_file),
        cmocka_unit_test(test_write_atomic__no_such_folder__says_which),
        cmocka_unit_test(test_write_atomic__path_too_long__is_refused),
        cmocka_unit_test(test_write_check__there_or_not__leaves_it_so),
    };
    return cmocka_run_group_tests(tests, group_begin, group_end);
}
