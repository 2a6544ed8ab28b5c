/* Status codes of Seam: one table for the library, the wire and the server.
 *
 * Three classes, told apart by predicates, never by comparing numbers:
 *   -1..    the request failed; the session goes on.
 *   -100..  the session is dead; only close/destroy are allowed.
 *   -200..  the process must restart.
 * Every code names the canonical gRPC code that it travels as. WIRE.md lists the reasons. */
#ifndef SEAM_STATUS_H
#define SEAM_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Visible in the installed libraries. */
#define SEAM_API __attribute__((visibility("default")))

/* X(name, value, gRPC code, text) */
#define SEAM_STATUS_TABLE(X)                                                                       \
    X(SEAM_OK, 0, 0, "ok")                                                                         \
    X(SEAM_E_ARG, -1, 3, "an argument is invalid")                                                 \
    X(SEAM_E_FORMAT, -2, 3, "malformed bytes")                                                     \
    X(SEAM_E_CHECKSUM, -3, 15, "checksum mismatch")                                                \
    X(SEAM_E_NONFINITE, -4, 3, "a value is not finite")                                            \
    X(SEAM_E_NOT_FOUND, -5, 5, "not found")                                                        \
    X(SEAM_E_EXISTS, -6, 6, "already exists")                                                      \
    X(SEAM_E_LIMIT, -7, 8, "a limit was reached")                                                  \
    X(SEAM_E_MEMORY, -8, 8, "out of memory")                                                       \
    X(SEAM_E_STATE, -9, 9, "not possible in this state")                                           \
    X(SEAM_E_UNIMPLEMENTED, -10, 12, "not implemented")                                            \
    X(SEAM_E_UNAVAILABLE, -11, 14, "the peer is unavailable")                                      \
    X(SEAM_E_CANCELLED, -12, 1, "cancelled")                                                       \
    X(SEAM_E_DEADLINE, -13, 4, "no progress before the deadline")                                  \
    X(SEAM_E_UNAUTHENTICATED, -14, 16, "no valid credentials")                                     \
    X(SEAM_E_DENIED, -15, 7, "permission denied")                                                  \
    X(SEAM_E_IO, -16, 13, "input/output failed")                                                   \
    X(SEAM_E_ROLLED_BACK, -17, 10, "the session went back to an earlier step")                     \
    X(SEAM_E_FENCED, -100, 10, "a newer attach owns the session")                                  \
    X(SEAM_E_CONFLICT, -101, 10, "same key, different bytes")                                      \
    X(SEAM_E_OUT_OF_SEQUENCE, -102, 9, "message out of sequence")                                  \
    X(SEAM_E_NONDETERMINISM, -103, 15, "replay gave other bits")                                   \
    X(SEAM_E_GONE, -104, 5, "the session has ended")                                               \
    X(SEAM_E_DATA_LOSS, -105, 15, "no intact checkpoint is left")                                  \
    X(SEAM_E_DEVICE_LOST, -200, 14, "the compute device failed")                                   \
    X(SEAM_E_INTERNAL, -201, 13, "internal error")

#define SEAM_STATUS_ENUM(name, value, grpc, text) name = (value),
typedef enum seam_status { SEAM_STATUS_TABLE(SEAM_STATUS_ENUM) } seam_status;
#undef SEAM_STATUS_ENUM

/* Upper-case name without the SEAM_E_ prefix ("FENCED"), as in ErrorInfo.reason. Never NULL. */
SEAM_API const char *seam_status_name(seam_status st);
/* One English sentence fragment. Never NULL. */
SEAM_API const char *seam_status_text(seam_status st);
/* Canonical gRPC code 0..16; 2 (UNKNOWN) for a value outside the table. */
SEAM_API int seam_status_grpc_code(seam_status st);
/* The code whose name is `reason`; false if there is none. */
SEAM_API bool seam_status_from_name(seam_status *ret_status, const char *reason);
/* The best code for a bare gRPC status (a peer that sent no ErrorInfo). */
SEAM_API seam_status seam_status_from_grpc_code(int grpc_code);
/* Predicates of the classes above. */
SEAM_API bool seam_status_is_session_dead(seam_status st);
SEAM_API bool seam_status_is_process_dead(seam_status st);

/* An error that a person reads: what was wrong, with the name of the field, file or line.
 * Functions that judge user input take one as their last argument; NULL is fine. */
#define SEAM_ERROR_TEXT_BYTES 512
typedef struct seam_error {
    seam_status status;
    char text[SEAM_ERROR_TEXT_BYTES]; /* zero-terminated; empty when status is SEAM_OK */
} seam_error;

/* Fill *err (may be NULL) and return `st`, so that a caller can `return seam_error_set(...)`. */
SEAM_API seam_status seam_error_set(seam_error *err, seam_status st, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Put "prefix: " before the text of an error on its way up; returns err's status (or st). */
SEAM_API seam_status seam_error_prefix(seam_error *err, seam_status st, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#ifdef __clang_analyzer__
/* Clang's analyzer sees one file at a time: tell it that the status comes back as it went in, or it
 * follows errors as if they were successes. */
#define seam_error_set(err, st, ...)    ((void)seam_error_set(err, st, __VA_ARGS__), (st))
#define seam_error_prefix(err, st, ...) ((void)seam_error_prefix(err, st, __VA_ARGS__), (st))
#endif

#ifdef __cplusplus
}
#endif
#endif
