/* One log line is formatted on the stack and written with one write(): lines of several threads
 * never mix. */
#include "log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 1024

static _Atomic int level_max = SEAM_LOG_INFO;

static const char *level_name(seam_log_level level) {
    static const char *const names[] = {"none", "error", "warn", "info", "debug"};
    return names[level];
}

void seam_log_set_level(seam_log_level level) {
    atomic_store(&level_max, (int)level);
}

void seam_log(seam_log_level level, const char *event, const char *format, ...) {
    if ((int)level > atomic_load_explicit(&level_max, memory_order_relaxed)) {
        return;
    }
    struct timespec now = {0};
    struct tm utc = {0};
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &utc);
    char line[LINE_BYTES];
    size_t used = strftime(line, sizeof line, "time=%Y-%m-%dT%H:%M:%S", &utc);
    int count = snprintf(line + used, sizeof line - used, ".%03ldZ level=%s event=%s ",
                         now.tv_nsec / 1000000, level_name(level), event);
    used += count > 0 ? (size_t)count : 0;
    va_list args;
    va_start(args, format);
    count = vsnprintf(line + used, sizeof line - used - 1, format, args);
    va_end(args);
    used += count > 0 ? (size_t)count : 0;
    if (used > sizeof line - 2) {
        used = sizeof line - 2;
    }
    line[used++] = '\n';
    const ssize_t written = write(STDERR_FILENO, line, used);
    (void)written; /* a full or closed stderr must not stop the server */
}

const char *seam_log_text(char *ret, size_t count, const char *text) {
    size_t used = 0;
    for (; *text != '\0' && used + 1 < count; text++) {
        const unsigned char c = (unsigned char)*text;
        ret[used++] = (c < 0x20 || c == 0x7f || c == '"' || c == '\\') ? '?' : (char)c;
    }
    ret[used] = '\0';
    return ret;
}
