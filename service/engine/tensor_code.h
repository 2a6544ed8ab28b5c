/* Tensors between wire messages and rows of floats: chunks in, chunks out.
 *
 * Incoming: the loop stages whole messages in memory of the session and notes where each chunk's
 * payload is; the engine decodes them (kernels/codec/coder.h).  Outgoing: the engine encodes into a
 * seam_reply, a run of ready stream messages that the loop sends and may send again (the reply
 * cache).  WIRE.md sections 2 and 3. */
#ifndef SEAM_TENSOR_CODE_H
#define SEAM_TENSOR_CODE_H

#include <stdint.h>

#include "arena.h"
#include "coder.h"
#include "frame.h"
#include "site.h"

typedef struct seam_chunk {
    const uint8_t *payload;
    seam_coder_chunk what;
} seam_chunk;

/* The chunk of a frame that has been opened and accepted. */
seam_chunk seam_chunk_of(const seam_frame_header *header, const uint8_t *payload);

/* Messages of one tensor, a single frame, or one after the other, ready to send. */
typedef struct seam_reply {
    uint8_t *bytes;
    size_t capacity_bytes, used_bytes;
    struct seam_reply_message {
        size_t offset;
        size_t message_bytes;
    } * messages;
    uint32_t messages_max, message_count;
} seam_reply;

/* Largest wire size of a tensor of `rows` rows, for plans. */
size_t seam_tensor_bytes_max(const seam_coder_config *config, uint32_t rows);
/* Views into an arena (also while planning). */
void seam_reply_carve(seam_reply *ret_reply, seam_arena *arena, size_t tensor_bytes_max,
                      uint32_t chunks_max);
void seam_reply_clear(seam_reply *reply);

typedef struct seam_tensor_decode_args {
    seam_coder *coder;
    const seam_chunk *chunks; /* in row order, complete */
    uint32_t chunk_count;
    seam_coder_tensor tensor; /* as seam_coder_decode_begin; rows are those of the chunks */
} seam_tensor_decode_args;
/* ret_x (rows, channels), NULL where the tensor has a place.  SEAM_E_FORMAT, SEAM_E_NONFINITE; err
 * says at which row. */
seam_status seam_tensor_decode(float *ret_x, const seam_tensor_decode_args *args, seam_error *err);

typedef struct seam_tensor_encode_args {
    seam_coder *coder;
    seam_frame_header header; /* kind, phase, codec, site, micro, step, rows, channels are set */
    const seam_alloc *alloc;  /* NULL for codecs without widths */
    seam_sequences sequences;
    const float *x;            /* (rows, channels) */
    const uint8_t *range_rows; /* bitmap, NULL: all rows */
    const uint32_t *row_gates; /* as seam_coder_tensor */
    seam_rounding rounding;
    float *decoded;                /* (rows, channels) or NULL */
    const seam_coder_place *place; /* as seam_coder_tensor */
} seam_tensor_encode_args;
/* The whole tensor into reply (cleared first).  SEAM_E_NONFINITE. */
seam_status seam_tensor_encode(seam_reply *reply, const seam_tensor_encode_args *args,
                               seam_error *err);
/* One single frame (gate signal) with this payload, behind what the reply holds. */
void seam_reply_add_frame(seam_reply *reply, const seam_frame_header *header, const void *payload,
                          uint32_t payload_bytes);

#endif
