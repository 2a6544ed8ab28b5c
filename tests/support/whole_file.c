/* See whole_file.h. */
#include "whole_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bytes.h"

#define PATH_BYTES 512

static FILE *file_open(const char *mode, const char *format, va_list words) {
    char path[PATH_BYTES];
    const int count = vsnprintf(path, sizeof path, format, words);
    assert_in_range(count, 1, sizeof path - 1);
    FILE *const file = fopen(path, mode);
    if (file == NULL) {
        fail_msg("%s cannot be opened", path);
    }
    return file;
}

static size_t bytes_read(void *ret, size_t bytes_max, const char *format, va_list words) {
    FILE *const file = file_open("rb", format, words);
    const size_t count = fread(ret, 1, bytes_max, file);
    assert_int_equal(ferror(file), 0);
    assert_int_equal(fclose(file), 0);
    assert_true(count < bytes_max);
    return count;
}

size_t seam_test_file_read(void *ret, size_t bytes_max, const char *path, ...) {
    va_list words;
    va_start(words, path);
    const size_t count = bytes_read(ret, bytes_max, path, words);
    va_end(words);
    return count;
}

void seam_test_file_write(const void *bytes, size_t count, const char *path, ...) {
    va_list words;
    va_start(words, path);
    FILE *const file = file_open("wb", path, words);
    va_end(words);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

void seam_golden_read(seam_golden_file *ret, const char *name, ...) {
    char path[PATH_BYTES] = SEAM_SOURCE_DIR "/proto/golden/";
    const size_t folder = strlen(path);
    va_list words;
    va_start(words, name);
    const int count = vsnprintf(path + folder, sizeof path - folder, name, words);
    va_end(words);
    assert_in_range(count, 1, sizeof path - folder - 1);
    ret->count = seam_test_file_read(ret->bytes, sizeof ret->bytes, "%s", path);
}

void seam_golden_read_beside(seam_golden_file *ret, const char *name, const char *suffix) {
    seam_golden_read(ret, "%.*s.%s", (int)(strlen(name) - 4), name, suffix);
}

void seam_golden_check_values(const char *name, const float *values, size_t count) {
    static seam_golden_file expected;
    seam_golden_read_beside(&expected, name, "values");
    assert_int_equal(expected.count, 4 * count);
    for (size_t i = 0; i < count; i++) {
        uint8_t bytes[4];
        seam_put_f32(bytes, values[i]);
        assert_memory_equal(bytes, expected.bytes + 4 * i, 4);
    }
}

void seam_golden_check_status(const char *name, const char *expected, seam_status st,
                              const seam_error *err) {
    char got[64 + SEAM_ERROR_TEXT_BYTES];
    const size_t count = strlen(expected);
    (void)snprintf(got, sizeof got, "%s %s", seam_status_name(st), err->text);
    if (strncmp(got, expected, count) != 0 || strchr(":[, ", got[count]) == NULL) {
        fail_msg("%s: \"%s\", expected \"%s\"", name, got, expected);
    }
}
