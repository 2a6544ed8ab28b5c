/* See disk_faults.h. */
#include "disk_faults.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CALLS_MAX 4096

int __real_open(const char *path, int flags, ...);
ssize_t __real_write(int fd, const void *bytes, size_t count);
int __real_fsync(int fd);
int __real_fdatasync(int fd);
int __real_rename(const char *from, const char *to);
int __wrap_open(const char *path, int flags, mode_t mode);
ssize_t __wrap_write(int fd, const void *bytes, size_t count);
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_rename(const char *from, const char *to);

static uint64_t number_at = UINT64_MAX, number_now;
static disk_fault kind;
static bool happened;
static char calls[CALLS_MAX + 1];

void disk_fault_at(uint64_t number, disk_fault fault) {
    number_at = number;
    number_now = 0;
    kind = fault;
    happened = false;
    memset(calls, 0, sizeof calls);
}

uint64_t disk_call_count(void) {
    return number_now;
}

bool disk_fault_happened(void) {
    return happened;
}

const char *disk_calls(void) {
    return calls;
}

/* Counts the call; true: it fails, errno is set. */
static bool fails(char letter) {
    const bool now = number_now == number_at || (happened && kind == DISK_FULL && letter == 'w');
    if (number_now < CALLS_MAX) {
        calls[number_now] = letter;
    }
    number_now++;
    happened = happened || now;
    errno = now ? (kind == DISK_FULL ? ENOSPC : EIO) : errno;
    return now;
}

/* open's third argument is where a variadic one would be; it means nothing without O_CREAT. */
int __wrap_open(const char *path, int flags, mode_t mode) {
    if ((flags & O_CREAT) != 0 && fails('o')) {
        return -1;
    }
    return __real_open(path, flags, mode);
}

ssize_t __wrap_write(int fd, const void *bytes, size_t count) {
    const bool first = !happened;
    if (!fails('w')) {
        return __real_write(fd, bytes, count);
    }
    return kind == DISK_FULL && first && count > 1 ? __real_write(fd, bytes, count / 2) : -1;
}

static int sync_wrapped(int fd) {
    struct stat info;
    const bool folder = fstat(fd, &info) == 0 && S_ISDIR(info.st_mode);
    return fails(folder ? 'd' : 's') ? -1 : __real_fsync(fd);
}

int __wrap_fsync(int fd) {
    return sync_wrapped(fd);
}

int __wrap_fdatasync(int fd) {
    return sync_wrapped(fd);
}

int __wrap_rename(const char *from, const char *to) {
    return fails('r') ? -1 : __real_rename(from, to);
}
