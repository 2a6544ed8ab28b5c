/* Ends of calls: gRPC status, google.rpc.Status details and network faults to seam_status.
 *
 * The details are walked by hand: six message types of which a few fields matter do not justify
 * generated code.  Every length is checked; unknown fields are skipped. */
#include <stdio.h>
#include <string.h>

#include <grpc/support/alloc.h>

#include "grpc_transport.h"

/* A cursor over protobuf bytes. */
typedef struct reader {
    const uint8_t *at, *end;
} reader;

typedef struct field {
    uint32_t number;
    uint32_t wire_type;
    uint64_t value;       /* wire type 0 */
    const uint8_t *bytes; /* wire type 2 */
    size_t count;
} field;

static bool next_field(field *ret_field, reader *r);
static bool next_varint(uint64_t *ret_value, reader *r);
static void copy_text(char *ret_text, size_t capacity, const uint8_t *bytes, size_t count);
static void read_detail(seam_status_details *details, const uint8_t *bytes, size_t count);
static void read_error_info(seam_status_details *details, const uint8_t *bytes, size_t count);
static void read_bad_request(seam_status_details *details, const uint8_t *bytes, size_t count);
static void read_retry_info(seam_status_details *details, const uint8_t *bytes, size_t count);

void seam_call_end_init(seam_call_end *end) {
    *end = (seam_call_end){.details = grpc_empty_slice()};
    grpc_metadata_array_init(&end->trailing);
}

void seam_call_end_deinit(seam_call_end *end) {
    grpc_metadata_array_destroy(&end->trailing);
    grpc_slice_unref(end->details);
    gpr_free((void *)(uintptr_t)end->error_string);
    *end = (seam_call_end){.details = grpc_empty_slice()};
}

static void details_of(seam_status_details *ret_details, const seam_call_end *end) {
    *ret_details = (seam_status_details){.retry_after_ms = 0};
    for (size_t i = 0; i < end->trailing.count; i++) {
        const grpc_metadata *const md = &end->trailing.metadata[i];
        if (grpc_slice_str_cmp(md->key, "grpc-status-details-bin") == 0) {
            seam_status_details_read(ret_details, GRPC_SLICE_START_PTR(md->value),
                                     GRPC_SLICE_LENGTH(md->value));
        }
    }
}

uint64_t seam_call_end_retry_after_ms(const seam_call_end *end) {
    seam_status_details details;
    details_of(&details, end);
    return end->code == GRPC_STATUS_OK ? 0 : details.retry_after_ms;
}

seam_status seam_call_end_status(const seam_call_end *end, const char *address, const char *method,
                                 seam_error *err) {
    if (end->code == GRPC_STATUS_OK) {
        return SEAM_OK;
    }
    seam_status_details details;
    details_of(&details, end);
    char text[400];
    copy_text(text, sizeof text, GRPC_SLICE_START_PTR(end->details),
              GRPC_SLICE_LENGTH(end->details));
    seam_status st = seam_status_from_grpc_code((int)end->code);
    if (details.reason[0] != '\0' && seam_status_from_name(&st, details.reason)) {
        /* A disk or memory is short there, not here. */
        const char *const where = st == SEAM_E_IO || st == SEAM_E_MEMORY ? "at the server: " : "";
        return seam_error_set(err, st, "%s%s", where,
                              text[0] != '\0' ? text : seam_status_text(st));
    }
    if (st == SEAM_E_UNAVAILABLE) {
        return seam_error_set(err, st, "server %s is not reachable or has gone (%s): %s", address,
                              method, text);
    }
    return seam_error_set(err, st, "%s: %s", method, text[0] != '\0' ? text : "no reason given");
}

void seam_status_details_read(seam_status_details *ret_details, const uint8_t *bytes,
                              size_t count) {
    reader r = {bytes, bytes + count};
    field f;
    while (next_field(&f, &r)) { /* google.rpc.Status: code 1, message 2, details 3 */
        if (f.number == 2 && f.wire_type == 2) {
            copy_text(ret_details->message, sizeof ret_details->message, f.bytes, f.count);
        } else if (f.number == 3 && f.wire_type == 2) {
            read_detail(ret_details, f.bytes, f.count);
        }
    }
}

/* google.protobuf.Any: type_url 1, value 2. */
static void read_detail(seam_status_details *details, const uint8_t *bytes, size_t count) {
    char type[64] = "";
    field value = {0};
    reader r = {bytes, bytes + count};
    field f;
    while (next_field(&f, &r)) {
        if (f.number == 1 && f.wire_type == 2) {
            copy_text(type, sizeof type, f.bytes, f.count);
        } else if (f.number == 2 && f.wire_type == 2) {
            value = f;
        }
    }
    if (strcmp(type, "type.googleapis.com/google.rpc.ErrorInfo") == 0) {
        read_error_info(details, value.bytes, value.count);
    } else if (strcmp(type, "type.googleapis.com/google.rpc.BadRequest") == 0) {
        read_bad_request(details, value.bytes, value.count);
    } else if (strcmp(type, "type.googleapis.com/google.rpc.RetryInfo") == 0) {
        read_retry_info(details, value.bytes, value.count);
    }
}

/* reason 1, domain 2. */
static void read_error_info(seam_status_details *details, const uint8_t *bytes, size_t count) {
    char reason[sizeof details->reason] = "";
    char domain[32] = "";
    reader r = {bytes, bytes + count};
    field f;
    while (next_field(&f, &r)) {
        if (f.number == 1 && f.wire_type == 2) {
            copy_text(reason, sizeof reason, f.bytes, f.count);
        } else if (f.number == 2 && f.wire_type == 2) {
            copy_text(domain, sizeof domain, f.bytes, f.count);
        }
    }
    if (strcmp(domain, "seam.dev") == 0) {
        memcpy(details->reason, reason, sizeof reason);
    }
}

/* field_violations 1: field 1, description 2. */
static void read_bad_request(seam_status_details *details, const uint8_t *bytes, size_t count) {
    reader r = {bytes, bytes + count};
    field violation;
    while (details->field[0] == '\0' && next_field(&violation, &r)) {
        if (violation.number != 1 || violation.wire_type != 2) {
            continue;
        }
        reader inner = {violation.bytes, violation.bytes + violation.count};
        field f;
        while (next_field(&f, &inner)) {
            if (f.number == 1 && f.wire_type == 2) {
                copy_text(details->field, sizeof details->field, f.bytes, f.count);
            }
        }
    }
}

/* retry_delay 1: google.protobuf.Duration, seconds 1, nanos 2.  Rounded up; a negative one is none,
 * one beyond what a caller could count is the most. */
static void read_retry_info(seam_status_details *details, const uint8_t *bytes, size_t count) {
    reader r = {bytes, bytes + count};
    field f;
    while (next_field(&f, &r)) {
        if (f.number != 1 || f.wire_type != 2) {
            continue;
        }
        reader inner = {f.bytes, f.bytes + f.count};
        field part;
        uint64_t seconds = 0, nanos = 0;
        while (next_field(&part, &inner)) {
            seconds = part.number == 1 && part.wire_type == 0 ? part.value : seconds;
            nanos = part.number == 2 && part.wire_type == 0 ? part.value : nanos;
        }
        if (seconds > INT64_MAX || nanos >= 1000000000u) {
            continue;
        }
        details->retry_after_ms = seconds < UINT32_MAX / 1000u
                                      ? seconds * 1000u + (nanos + 999999u) / 1000000u
                                      : UINT32_MAX;
    }
}

static bool next_field(field *ret_field, reader *r) {
    uint64_t tag = 0;
    uint64_t count = 0;
    if (r->at == r->end || !next_varint(&tag, r) || tag >> 35 != 0) {
        return false;
    }
    *ret_field = (field){.number = (uint32_t)(tag >> 3), .wire_type = (uint32_t)(tag & 7)};
    switch (ret_field->wire_type) {
    case 0:
        return next_varint(&ret_field->value, r);
    case 1:
        count = 8;
        break;
    case 2:
        if (!next_varint(&count, r)) {
            return false;
        }
        break;
    case 5:
        count = 4;
        break;
    default:
        return false;
    }
    if (count > (size_t)(r->end - r->at)) {
        return false;
    }
    ret_field->bytes = r->at;
    ret_field->count = (size_t)count;
    r->at += count;
    return true;
}

static bool next_varint(uint64_t *ret_value, reader *r) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && r->at < r->end; shift += 7) {
        const uint8_t byte = *r->at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

/* Cuts to the capacity and replaces control characters: the text is shown to people. */
static void copy_text(char *ret_text, size_t capacity, const uint8_t *bytes, size_t count) {
    const size_t used = count < capacity - 1 ? count : capacity - 1;
    for (size_t i = 0; i < used; i++) {
        ret_text[i] = bytes[i] < 0x20 || bytes[i] == 0x7f ? ' ' : (char)bytes[i];
    }
    ret_text[used] = '\0';
}
