/* The server's log: one line an event on stderr, key=value, UTC time first.
 *
 *   time=2026-01-02T03:04:05.678Z level=info event=session_created session=5f.. memory_bytes=123
 *
 * Only rpc/, main.c and the admin code log, once an error, where it is handled.  Never tokens,
 * activations, gradients or keys.  Values with spaces are quoted by the caller with "%s" inside
 * escaped quotes; seam_log_text() makes a peer's text safe for that. */
#ifndef SEAM_LOG_H
#define SEAM_LOG_H

#include <stddef.h>

typedef enum seam_log_level {
    SEAM_LOG_ERROR = 1,
    SEAM_LOG_WARN = 2,
    SEAM_LOG_INFO = 3,
    SEAM_LOG_DEBUG = 4,
} seam_log_level;

/* Lines above this level are dropped.  The logger is the one global of the server. */
void seam_log_set_level(seam_log_level level);
/* Any thread; one write() a line. */
void seam_log(seam_log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* `text` without control characters and quotes, cut to count - 1 bytes.  Returns ret. */
const char *seam_log_text(char *ret, size_t count, const char *text);

#endif
