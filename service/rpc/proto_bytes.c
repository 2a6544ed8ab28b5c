/* Protobuf wire format, reading only, no allocation. */
#include "proto_bytes.h"

#include <string.h>

#include "bytes.h"

static bool varint_read(uint64_t *ret, const uint8_t **bytes, size_t *count) {
    uint64_t value = 0;
    for (size_t i = 0; i < *count && i < 10; i++) {
        value |= (uint64_t)((*bytes)[i] & 0x7f) << (7 * i);
        if ((*bytes)[i] < 0x80) {
            *ret = value;
            *bytes += i + 1;
            *count -= i + 1;
            return true;
        }
    }
    return false;
}

static bool field_read(seam_pb_field *ret_field, const uint8_t **bytes, size_t *count) {
    uint64_t key = 0;
    if (!varint_read(&key, bytes, count)) {
        return false;
    }
    seam_pb_field field = {.number = (uint32_t)(key >> 3), .wire_type = (uint32_t)(key & 7)};
    const size_t left = *count;
    size_t taken = 0;
    switch (field.wire_type) {
    case 0:
        if (!varint_read(&field.value, bytes, count)) {
            return false;
        }
        break;
    case 1:
    case 5:
        taken = field.wire_type == 1 ? 8 : 4;
        if (left < taken) {
            return false;
        }
        field.value = taken == 8 ? seam_get_u64(*bytes) : seam_get_u32(*bytes);
        break;
    case 2:
        if (!varint_read(&field.value, bytes, count) || field.value > *count) {
            return false;
        }
        field.bytes = *bytes;
        field.count = (size_t)field.value;
        taken = field.count;
        break;
    default:
        return false;
    }
    *bytes += taken;
    *count -= taken;
    *ret_field = field;
    return true;
}

bool seam_pb_read(seam_pb_field *ret_field, const uint8_t **bytes, size_t *count) {
    const uint8_t *at = *bytes;
    size_t left = *count;
    if (left == 0 || !field_read(ret_field, &at, &left)) {
        return false; /* a malformed field stays unread: *count tells */
    }
    *bytes = at;
    *count = left;
    return true;
}

bool seam_pb_text_is(const seam_pb_field *field, const char *text) {
    return field->wire_type == 2 && field->count == strlen(text) &&
           memcmp(field->bytes, text, field->count) == 0;
}
