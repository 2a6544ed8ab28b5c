/* google.rpc.Status and its details from the generated messages, packed on the stack. */
#include "rpc_details.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "try.h"

#define PART_BYTES (SEAM_DETAILS_BYTES_MAX / 3)

void seam_details_text(char *ret, size_t capacity_bytes, seam_status st, const seam_error *err) {
    const char *text = err != NULL && err->text[0] != '\0' ? err->text : seam_status_text(st);
    size_t used = 0;
    for (; text[used] != '\0' && used + 1 < capacity_bytes; used++) {
        const unsigned char c = (unsigned char)text[used];
        ret[used] = (char)(c < 0x20 || c > 0x7e ? '?' : c);
    }
    ret[used] = '\0';
}

void seam_details_field(char *ret, size_t capacity_bytes, const char *text) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789_.[]";
    const size_t count = strspn(text, allowed);
    ret[0] = '\0';
    const bool names_field =
        text[count] == ':' || (text[count] == ' ' && strncmp(text, "config.", 7) == 0);
    if (count > 0 && count < capacity_bytes && names_field) {
        memcpy(ret, text, count);
        ret[count] = '\0';
    }
}

/* ret = Any of `message`, whose packed bytes go into `bytes` (PART_BYTES). */
static void any_init(Google__Protobuf__Any *ret, char *type_url, uint8_t *bytes,
                     const ProtobufCMessage *message) {
    SEAM_ASSERT(protobuf_c_message_get_packed_size(message) <= PART_BYTES);
    google__protobuf__any__init(ret);
    ret->type_url = type_url;
    ret->value.data = bytes;
    ret->value.len = protobuf_c_message_pack(message, bytes);
}

size_t seam_details_encode(uint8_t *ret, seam_status st, const char *text) {
    static char info_url[] = "type.googleapis.com/google.rpc.ErrorInfo";
    static char request_url[] = "type.googleapis.com/google.rpc.BadRequest";
    static char retry_url[] = "type.googleapis.com/google.rpc.RetryInfo";
    static char domain[] = "seam.dev";
    static char empty[] = "";
    uint8_t parts[3][PART_BYTES];
    Google__Protobuf__Any anys[3];
    Google__Protobuf__Any *details[] = {&anys[0], &anys[1], &anys[2]};
    Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
    char field[128];
    char message[SEAM_ERROR_TEXT_BYTES];
    char reason[64];
    (void)snprintf(message, sizeof message, "%s", text);
    (void)snprintf(reason, sizeof reason, "%s", seam_status_name(st));
    seam_details_field(field, sizeof field, text);
    status.code = seam_status_grpc_code(st);
    status.message = message;
    status.details = details;

    Google__Rpc__ErrorInfo info = GOOGLE__RPC__ERROR_INFO__INIT;
    info.reason = reason;
    info.domain = domain;
    any_init(&anys[status.n_details++], info_url, parts[0], &info.base);

    Google__Rpc__BadRequest__FieldViolation violation =
        GOOGLE__RPC__BAD_REQUEST__FIELD_VIOLATION__INIT;
    Google__Rpc__BadRequest__FieldViolation *violations[] = {&violation};
    Google__Rpc__BadRequest request = GOOGLE__RPC__BAD_REQUEST__INIT;
    if (field[0] != '\0') {
        violation.field = field;
        violation.description = empty; /* the status message has it */
        request.field_violations = violations;
        request.n_field_violations = 1;
        any_init(&anys[status.n_details++], request_url, parts[1], &request.base);
    }
    Google__Protobuf__Duration delay = GOOGLE__PROTOBUF__DURATION__INIT;
    Google__Rpc__RetryInfo retry = GOOGLE__RPC__RETRY_INFO__INIT;
    /* A field that is too large stays so; room that others have, memory and a server come back. */
    const bool passes = st == SEAM_E_LIMIT ? field[0] == '\0' : status.code == 8;
    if (passes || status.code == 14) { /* RESOURCE_EXHAUSTED, UNAVAILABLE */
        delay.seconds = SEAM_RETRY_DELAY_SECONDS;
        retry.retry_delay = &delay;
        any_init(&anys[status.n_details++], retry_url, parts[2], &retry.base);
    }
    SEAM_ASSERT(google__rpc__status__get_packed_size(&status) <= SEAM_DETAILS_BYTES_MAX);
    return google__rpc__status__pack(&status, ret);
}
