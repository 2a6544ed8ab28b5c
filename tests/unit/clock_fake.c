/* A clock that goes by what the program waits, in front of libc's (CMakeLists.txt): what is said of
 * waiting is true to the millisecond, however busy the machine, and no test waits.  One thread.
 *
 * Not for code whose loops end by the clock alone: a read takes a microsecond. */
#include <time.h>

#define READ_NS 1000

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now);
int __wrap_nanosleep(const struct timespec *wanted, struct timespec *ret_left);

static long long now_ns = 1000000000;

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now) {
    (void)clock;
    now_ns += READ_NS;
    *ret_now = (struct timespec){.tv_sec = (time_t)(now_ns / 1000000000),
                                 .tv_nsec = (long)(now_ns % 1000000000)};
    return 0;
}

int __wrap_nanosleep(const struct timespec *wanted, struct timespec *ret_left) {
    (void)ret_left;
    now_ns += (long long)wanted->tv_sec * 1000000000 + wanted->tv_nsec;
    return 0;
}
