/* See read_faults.h. */
#include "read_faults.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

FILE *__real_fopen(const char *path, const char *mode);
size_t __real_fread(void *ret, size_t size, size_t count, FILE *file);
FILE *__wrap_fopen(const char *path, const char *mode);
size_t __wrap_fread(void *ret, size_t size, size_t count, FILE *file);

static uint64_t number_at = UINT64_MAX, number_now;
static int error_at;
static bool happened;

void read_fault_at(uint64_t number, int error) {
    number_at = number;
    number_now = 0;
    error_at = error;
    happened = false;
}

bool read_fault_happened(void) {
    return happened;
}

static bool fails(void) {
    const bool now = number_now++ == number_at;
    happened = happened || now;
    return now;
}

FILE *__wrap_fopen(const char *path, const char *mode) {
    if (fails()) {
        errno = error_at;
        return NULL;
    }
    return __real_fopen(path, mode);
}

/* A folder in the file's place is what makes the stream itself say that it has failed. */
size_t __wrap_fread(void *ret, size_t size, size_t count, FILE *file) {
    if (!fails()) {
        return __real_fread(ret, size, count, file);
    }
    const int root = open("/", O_RDONLY | O_CLOEXEC);
    (void)dup2(root, fileno(file));
    (void)close(root);
    const size_t got = __real_fread(ret, size, count, file);
    errno = error_at;
    return got;
}
