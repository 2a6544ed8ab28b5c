/* Finding a frame inside a stream message without unpacking, and writing the few bytes that make a
 * frame a stream message.
 *
 * Every stream message of seam/v1/stream.proto is one oneof, so its bytes are exactly one
 * length-delimited field.  Field 15 is the frame: it is used in place.  Any other is a control
 * message and goes to protobuf-c.  Nothing here knows gRPC; any thread; no allocation. */
#ifndef SEAM_WALK_H
#define SEAM_WALK_H

#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

#define SEAM_MESSAGE_FRAME_FIELD 15u
/* Tag and longest varint length in front of a frame. */
#define SEAM_MESSAGE_HEADER_BYTES_MAX 6u

typedef struct seam_walk {
    uint32_t field;      /* number of the only field, 1..15 */
    const uint8_t *body; /* contents of the field, inside the message */
    size_t body_bytes;
} seam_walk;

/* Judge the bytes of a TrainRequest, TrainResponse, Forward* or Generate* message: exactly one
 * length-delimited field with number 1..15, its length minimal and ending where the message ends.
 * `field` = SEAM_MESSAGE_FRAME_FIELD: body is a frame (for seam_frame_open).  Otherwise unpack the
 * whole message with protobuf-c.  SEAM_E_FORMAT: empty, malformed or overlong varint, other wire
 * type, other field, bytes missing, a second field. */
seam_status seam_walk_message(seam_walk *ret_walk, const uint8_t *message, size_t count,
                              seam_error *err);

/* Bytes of the frame in a well-formed message of so many bytes that carries one. */
size_t seam_message_frame_bytes(size_t message_bytes);
/* Bytes of tag and length in front of a frame of frame_bytes (below 2^32). */
size_t seam_message_header_bytes(size_t frame_bytes);
/* Write them so that they end at `frame`: the message starts at the returned address, frame -
 * seam_message_header_bytes(frame_bytes). The room must be there. */
uint8_t *seam_message_header_put(uint8_t *frame, size_t frame_bytes);

#endif
