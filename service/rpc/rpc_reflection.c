/* Server reflection, v1 and v1alpha (the same messages under two names), over the embedded
 * FileDescriptorSet.  An answer carries a file and all it imports, so that a client needs one
 * request a symbol. */
#include <string.h>

#include "descriptor_set.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "proto_bytes.h"
#include "rpc_methods.h"
#include "rpc_server.h"

#define FILES_MAX    64
#define SERVICES_MAX 16
#define NAME_BYTES   128
#define NOT_FOUND    5

#define REQUEST(kind)  GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##kind
#define RESPONSE(kind) GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##kind

typedef Grpc__Reflection__V1__ServerReflectionRequest reflection_request;
typedef Grpc__Reflection__V1__ServerReflectionResponse reflection_response;

/* Fields of FileDescriptorProto and below (google/protobuf/descriptor.proto). */
enum {
    FILE_NAME = 1,
    FILE_PACKAGE = 2,
    FILE_DEPENDENCY = 3,
    FILE_MESSAGE = 4,
    FILE_ENUM = 5,
    FILE_SERVICE = 6,
    ENTRY_NAME = 1
};

typedef struct file_view {
    const uint8_t *bytes;
    size_t count;
} file_view;

/* The next file of the set. */
static bool file_next(file_view *ret_file, const uint8_t **at, size_t *left) {
    seam_pb_field field;
    if (!seam_pb_read(&field, at, left)) {
        return false;
    }
    *ret_file = (file_view){.bytes = field.bytes, .count = field.count};
    return true;
}

/* First field `number` of a message; false: none. */
static bool field_find(seam_pb_field *ret_field, const uint8_t *bytes, size_t count,
                       uint32_t number) {
    while (seam_pb_read(ret_field, &bytes, &count)) {
        if (ret_field->number == number) {
            return true;
        }
    }
    return false;
}

/* "package.name" of an entry of a file; false when it does not fit. */
static bool full_name(char ret[NAME_BYTES], const file_view *file, const seam_pb_field *entry) {
    seam_pb_field package = {0}, name = {0};
    const bool has_package = field_find(&package, file->bytes, file->count, FILE_PACKAGE);
    if (!field_find(&name, entry->bytes, entry->count, ENTRY_NAME)) {
        return false;
    }
    const size_t prefix = has_package ? package.count + 1 : 0;
    if (prefix + name.count >= NAME_BYTES) {
        return false;
    }
    if (has_package) {
        memcpy(ret, package.bytes, package.count);
        ret[package.count] = '.';
    }
    memcpy(ret + prefix, name.bytes, name.count);
    ret[prefix + name.count] = '\0';
    return true;
}

/* Does the file define `symbol`, or a parent of it (a method's service, a field's message)? */
static bool file_defines(const file_view *file, const char *symbol) {
    const uint8_t *at = file->bytes;
    size_t left = file->count;
    seam_pb_field entry;
    char name[NAME_BYTES];
    while (seam_pb_read(&entry, &at, &left)) {
        if (entry.number != FILE_MESSAGE && entry.number != FILE_ENUM &&
            entry.number != FILE_SERVICE) {
            continue;
        }
        if (full_name(name, file, &entry) && strncmp(symbol, name, strlen(name)) == 0 &&
            (symbol[strlen(name)] == '\0' || symbol[strlen(name)] == '.')) {
            return true;
        }
    }
    return false;
}

static bool file_is_named(const file_view *file, const char *name) {
    seam_pb_field field;
    return field_find(&field, file->bytes, file->count, FILE_NAME) && seam_pb_text_is(&field, name);
}

/* A file by its name (by_name) or by a symbol that it defines. */
static bool file_find(file_view *ret_file, const char *text, bool by_name) {
    const uint8_t *at = seam_descriptor_set;
    size_t left = seam_descriptor_set_bytes;
    while (file_next(ret_file, &at, &left)) {
        if (by_name ? file_is_named(ret_file, text) : file_defines(ret_file, text)) {
            return true;
        }
    }
    return false;
}

/* `files` and everything they import, each once; returns the count. */
static size_t files_close(file_view files[FILES_MAX], size_t count) {
    for (size_t i = 0; i < count; i++) {
        const uint8_t *at = files[i].bytes;
        size_t left = files[i].count;
        seam_pb_field field;
        while (seam_pb_read(&field, &at, &left)) {
            char name[NAME_BYTES];
            file_view import;
            if (field.number != FILE_DEPENDENCY || field.count >= sizeof name) {
                continue;
            }
            memcpy(name, field.bytes, field.count);
            name[field.count] = '\0';
            bool found = file_find(&import, name, true);
            for (size_t j = 0; j < count && found; j++) {
                found = files[j].bytes != import.bytes;
            }
            if (found && count < FILES_MAX) {
                files[count++] = import;
            }
        }
    }
    return count;
}

SEAM_ON_LOOP static void files_answer(seam_call *call, reflection_response *response,
                                      const char *text, bool by_name) {
    file_view files[FILES_MAX];
    ProtobufCBinaryData list[FILES_MAX];
    char reason[] = "no such file or symbol";
    Grpc__Reflection__V1__ErrorResponse error = GRPC__REFLECTION__V1__ERROR_RESPONSE__INIT;
    Grpc__Reflection__V1__FileDescriptorResponse answer =
        GRPC__REFLECTION__V1__FILE_DESCRIPTOR_RESPONSE__INIT;
    if (file_find(&files[0], text, by_name)) {
        answer.n_file_descriptor_proto = files_close(files, 1);
        answer.file_descriptor_proto = list;
        for (size_t i = 0; i < answer.n_file_descriptor_proto; i++) {
            list[i].data = (uint8_t *)(uintptr_t)files[i].bytes;
            list[i].len = files[i].count;
        }
        response->message_response_case = RESPONSE(FILE_DESCRIPTOR_RESPONSE);
        response->file_descriptor_response = &answer;
    } else {
        error.error_code = NOT_FOUND;
        error.error_message = reason;
        response->message_response_case = RESPONSE(ERROR_RESPONSE);
        response->error_response = &error;
    }
    (void)seam_call_send_message(call, &response->base);
    response->file_descriptor_response = NULL; /* one member of the union: it lies on this stack */
}

SEAM_ON_LOOP static void services_answer(seam_call *call, reflection_response *response) {
    char names[SERVICES_MAX][NAME_BYTES];
    Grpc__Reflection__V1__ServiceResponse services[SERVICES_MAX];
    Grpc__Reflection__V1__ServiceResponse *list[SERVICES_MAX];
    Grpc__Reflection__V1__ListServiceResponse answer =
        GRPC__REFLECTION__V1__LIST_SERVICE_RESPONSE__INIT;
    const uint8_t *at = seam_descriptor_set;
    size_t left = seam_descriptor_set_bytes;
    file_view file;
    while (file_next(&file, &at, &left)) {
        const uint8_t *field_at = file.bytes;
        size_t field_left = file.count;
        seam_pb_field entry;
        while (seam_pb_read(&entry, &field_at, &field_left)) {
            const size_t i = answer.n_service;
            if (entry.number == FILE_SERVICE && i < SERVICES_MAX &&
                full_name(names[i], &file, &entry)) {
                grpc__reflection__v1__service_response__init(&services[i]);
                services[i].name = names[i];
                list[i] = &services[i];
                answer.n_service++;
            }
        }
    }
    answer.service = list;
    response->message_response_case = RESPONSE(LIST_SERVICES_RESPONSE);
    response->list_services_response = &answer;
    (void)seam_call_send_message(call, &response->base);
    response->list_services_response = NULL; /* it lies on this stack */
}

void seam_on_reflection(seam_call *call, grpc_byte_buffer *message) {
    reflection_request *request = (reflection_request *)seam_message_unpack(
        &grpc__reflection__v1__server_reflection_request__descriptor, message);
    seam_error err = {0};
    if (request == NULL) {
        (void)seam_error_set(&err, SEAM_E_FORMAT, "ServerReflectionRequest: malformed protobuf");
        seam_call_fail(call, SEAM_E_FORMAT, &err);
        return;
    }
    reflection_response response = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    response.valid_host = request->host;
    response.original_request = request;
    switch (request->message_request_case) {
    case REQUEST(FILE_BY_FILENAME):
        files_answer(call, &response, request->file_by_filename, true);
        break;
    case REQUEST(FILE_CONTAINING_SYMBOL):
        files_answer(call, &response, request->file_containing_symbol, false);
        break;
    case REQUEST(LIST_SERVICES):
        services_answer(call, &response);
        break;
    default: /* extensions: proto3 has none */
        files_answer(call, &response, "", true);
        break;
    }
    grpc__reflection__v1__server_reflection_request__free_unpacked(request, NULL);
}

void seam_on_reflection_sent(seam_call *call) {
    if (seam_call_is_sent(call)) {
        seam_call_receive(call);
    }
}

void seam_on_reflection_drain(seam_call *call) {
    seam_error err = {0};
    (void)seam_error_set(&err, SEAM_E_UNAVAILABLE, "the server is stopping");
    seam_call_fail(call, SEAM_E_UNAVAILABLE, &err);
}
