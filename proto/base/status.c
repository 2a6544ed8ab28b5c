/* The status table's texts and the readable error. */
#include "seam_status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "try.h"

typedef struct status_row {
    seam_status status;
    int grpc_code;
    const char *name, *text;
} status_row;

#define STATUS_ROW(name, value, grpc, text) {name, grpc, #name, text},
static const status_row rows[] = {SEAM_STATUS_TABLE(STATUS_ROW)};
#undef STATUS_ROW
#define ROW_COUNT (sizeof rows / sizeof rows[0])

static const status_row *row_find(seam_status st) {
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (rows[i].status == st) {
            return &rows[i];
        }
    }
    return NULL;
}

/* "SEAM_E_FENCED" -> "FENCED", "SEAM_OK" -> "OK". */
static const char *short_name(const char *name) {
    static const char prefix[] = "SEAM_E_";
    if (strncmp(name, prefix, sizeof prefix - 1) == 0) {
        return name + sizeof prefix - 1;
    }
    return name + strlen("SEAM_");
}

const char *seam_status_name(seam_status st) {
    const status_row *row = row_find(st);
    return row != NULL ? short_name(row->name) : "UNKNOWN";
}

const char *seam_status_text(seam_status st) {
    const status_row *row = row_find(st);
    return row != NULL ? row->text : "unknown status";
}

int seam_status_grpc_code(seam_status st) {
    const status_row *row = row_find(st);
    return row != NULL ? row->grpc_code : 2;
}

bool seam_status_from_name(seam_status *ret_status, const char *reason) {
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (strcmp(short_name(rows[i].name), reason) == 0) {
            *ret_status = rows[i].status;
            return true;
        }
    }
    return false;
}

seam_status seam_status_from_grpc_code(int grpc_code) {
    /* Several codes share a number; the first row of the table is the general one. */
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (rows[i].grpc_code == grpc_code) {
            return rows[i].status;
        }
    }
    return SEAM_E_INTERNAL;
}

bool seam_status_is_session_dead(seam_status st) {
    return st <= -100;
}

bool seam_status_is_process_dead(seam_status st) {
    return st <= -200;
}

/* In parentheses: for the analyzer these are macros. */
seam_status(seam_error_set)(seam_error *err, seam_status st, const char *format, ...) {
    if (err != NULL) {
        va_list args;
        va_start(args, format);
        err->status = st;
        (void)vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
    }
    return st;
}

seam_status(seam_error_prefix)(seam_error *err, seam_status st, const char *format, ...) {
    if (err == NULL) {
        return st;
    }
    char whole[2 * SEAM_ERROR_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    const int prefix_count = vsnprintf(whole, SEAM_ERROR_TEXT_BYTES, format, args);
    va_end(args);
    size_t used = prefix_count > 0 ? (size_t)prefix_count : 0;
    if (used >= SEAM_ERROR_TEXT_BYTES) {
        used = SEAM_ERROR_TEXT_BYTES - 1;
    }
    if (err->status == SEAM_OK) {
        err->status = st;
        err->text[0] = '\0';
    }
    const char *text = err->text[0] != '\0' ? err->text : seam_status_text(st);
    (void)snprintf(whole + used, sizeof whole - used, ": %s", text);
    memcpy(err->text, whole, sizeof err->text - 1);
    err->text[sizeof err->text - 1] = '\0';
    return err->status;
}

void seam_assert_failed(const char *condition, const char *file, int line) {
    (void)fprintf(stderr, "seam: assertion failed: %s (%s:%d)\n", condition, file, line);
    abort();
}
