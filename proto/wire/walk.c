/* One protobuf field, judged in place; see walk.h. */
#include "walk.h"

#include "try.h"

#define WIRE_TYPE_BYTES  2u
#define VARINT_BYTES_MAX 5 /* lengths and tags are below 2^32 */

/* Reads a varint below 2^32 in its shortest form; returns its bytes, 0 when malformed. */
static size_t varint_get(uint32_t *ret_value, const uint8_t *bytes, size_t count) {
    uint64_t value = 0;
    for (size_t i = 0; i < count && i < VARINT_BYTES_MAX; i++) {
        value |= (uint64_t)(bytes[i] & 0x7fu) << (7 * i);
        if ((bytes[i] & 0x80u) == 0) {
            if ((i > 0 && bytes[i] == 0) || value > UINT32_MAX) {
                return 0;
            }
            *ret_value = (uint32_t)value;
            return i + 1;
        }
    }
    return 0;
}

seam_status seam_walk_message(seam_walk *ret_walk, const uint8_t *message, size_t count,
                              seam_error *err) {
    if (count == 0) {
        return seam_error_set(err, SEAM_E_FORMAT, "message: empty");
    }
    uint32_t tag = 0;
    uint32_t body_bytes = 0;
    const size_t tag_bytes = varint_get(&tag, message, count);
    if (tag_bytes == 0) {
        return seam_error_set(err, SEAM_E_FORMAT, "message: malformed tag");
    }
    const uint32_t field = tag >> 3;
    if (field < 1 || field > SEAM_MESSAGE_FRAME_FIELD || (tag & 7u) != WIRE_TYPE_BYTES) {
        return seam_error_set(err, SEAM_E_FORMAT, "message: field %u of wire type %u", field,
                              tag & 7u);
    }
    const size_t length_bytes = varint_get(&body_bytes, message + tag_bytes, count - tag_bytes);
    if (length_bytes == 0) {
        return seam_error_set(err, SEAM_E_FORMAT, "message.field %u: malformed length", field);
    }
    const size_t left = count - tag_bytes - length_bytes;
    if (body_bytes > left) {
        return seam_error_set(err, SEAM_E_FORMAT, "message.field %u: %u bytes announced, %zu came",
                              field, body_bytes, left);
    }
    if (body_bytes < left) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              "message: %zu bytes after field %u, only one is allowed",
                              left - body_bytes, field);
    }
    *ret_walk = (seam_walk){
        .field = field, .body = message + tag_bytes + length_bytes, .body_bytes = body_bytes};
    return SEAM_OK;
}

size_t seam_message_frame_bytes(size_t message_bytes) {
    size_t header_bytes = 2;
    while (header_bytes < message_bytes &&
           seam_message_header_bytes(message_bytes - header_bytes) > header_bytes) {
        header_bytes++;
    }
    return message_bytes > header_bytes ? message_bytes - header_bytes : 0;
}

size_t seam_message_header_bytes(size_t frame_bytes) {
    SEAM_ASSERT(frame_bytes <= UINT32_MAX);
    size_t bytes = 2; /* the tag and the last byte of the length */
    for (size_t rest = frame_bytes >> 7; rest > 0; rest >>= 7) {
        bytes++;
    }
    return bytes;
}

uint8_t *seam_message_header_put(uint8_t *frame, size_t frame_bytes) {
    const size_t header_bytes = seam_message_header_bytes(frame_bytes);
    uint8_t *const message = frame - header_bytes;
    message[0] = (uint8_t)(SEAM_MESSAGE_FRAME_FIELD << 3 | WIRE_TYPE_BYTES);
    size_t rest = frame_bytes;
    for (size_t i = 1; i < header_bytes; i++, rest >>= 7) {
        message[i] = (uint8_t)((rest & 0x7fu) | (i + 1 < header_bytes ? 0x80u : 0u));
    }
    return message;
}
