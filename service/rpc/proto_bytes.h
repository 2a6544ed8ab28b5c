/* A minimal protobuf reader: reflection walks a FileDescriptorSet with it, for which no code is
 * generated.  Everything else goes through protobuf-c.
 * https://protobuf.dev/programming-guides/encoding/ */
#ifndef SEAM_PROTO_BYTES_H
#define SEAM_PROTO_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One field of a message. */
typedef struct seam_pb_field {
    uint32_t number, wire_type; /* 0 varint, 1 fixed64, 2 bytes, 5 fixed32 */
    uint64_t value;             /* varint, fixed */
    const uint8_t *bytes;       /* of wire type 2, inside the message */
    size_t count;
} seam_pb_field;

/* The field at *bytes (of *count left), which moves past it.  False at the end and for malformed
 * input: told apart by *count, zero only at a proper end. */
bool seam_pb_read(seam_pb_field *ret_field, const uint8_t **bytes, size_t *count);
/* Is the field's text exactly `text`? */
bool seam_pb_text_is(const seam_pb_field *field, const char *text);

#endif
