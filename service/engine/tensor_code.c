/* Frames and messages around the payloads of kernels/codec/coder.h. */
#include "tensor_code.h"

#include <string.h>

#include "try.h"
#include "walk.h"

#define CHUNK_OVERHEAD_BYTES (SEAM_FRAME_HEADER_BYTES + 16)

_Static_assert(SEAM_PAYLOAD_BYTES_MAX == SEAM_CHUNK_BYTES_MAX, "a payload fits a frame");

size_t seam_tensor_bytes_max(const seam_coder_config *config, uint32_t rows) {
    return seam_coder_bytes_max(config, rows) +
           (size_t)seam_coder_chunks_max(rows) * CHUNK_OVERHEAD_BYTES;
}

seam_chunk seam_chunk_of(const seam_frame_header *header, const uint8_t *payload) {
    return (seam_chunk){.payload = payload,
                        .what = {.row_begin = header->row_begin,
                                 .row_count = header->row_count,
                                 .payload_bytes = header->payload_bytes,
                                 .coding = header->coding}};
}

void seam_reply_carve(seam_reply *ret_reply, seam_arena *arena, size_t tensor_bytes_max,
                      uint32_t chunks_max) {
    ret_reply->capacity_bytes = tensor_bytes_max;
    ret_reply->bytes = seam_arena_take(arena, tensor_bytes_max);
    ret_reply->messages_max = chunks_max;
    ret_reply->messages = seam_arena_take(arena, chunks_max * sizeof *ret_reply->messages);
    seam_reply_clear(ret_reply);
}

void seam_reply_clear(seam_reply *reply) {
    reply->used_bytes = 0;
    reply->message_count = 0;
}

seam_status seam_tensor_decode(float *ret_x, const seam_tensor_decode_args *args, seam_error *err) {
    const seam_coder_chunk *last = &args->chunks[args->chunk_count - 1].what;
    seam_coder_tensor tensor = args->tensor;
    tensor.rows = last->row_begin + last->row_count;
    seam_coder_decode_begin(args->coder, &tensor);
    for (uint32_t i = 0; i < args->chunk_count; i++) {
        const seam_chunk *chunk = &args->chunks[i];
        const seam_status st =
            seam_coder_decode_chunk(ret_x, args->coder, &chunk->what, chunk->payload, err);
        if (st != SEAM_OK) {
            return seam_error_prefix(err, st, "frame: payload of row %u", chunk->what.row_begin);
        }
    }
    seam_coder_commit(args->coder);
    return SEAM_OK;
}

/* Room for one more message; the frame's address. */
static uint8_t *message_begin(const seam_reply *reply) {
    SEAM_ASSERT(reply->message_count < reply->messages_max);
    SEAM_ASSERT(reply->used_bytes + CHUNK_OVERHEAD_BYTES <= reply->capacity_bytes);
    return reply->bytes + reply->used_bytes + SEAM_MESSAGE_HEADER_BYTES_MAX;
}

static size_t payload_room(const seam_reply *reply, const uint8_t *frame) {
    return reply->capacity_bytes - (size_t)(frame - reply->bytes) - SEAM_FRAME_HEADER_BYTES;
}

static void message_end(seam_reply *reply, uint8_t *frame, const seam_frame_header *header) {
    const size_t frame_bytes = SEAM_FRAME_HEADER_BYTES + (size_t)header->payload_bytes;
    seam_frame_seal(frame, header);
    const uint8_t *begin = seam_message_header_put(frame, frame_bytes);
    reply->messages[reply->message_count++] = (struct seam_reply_message){
        .offset = (size_t)(begin - reply->bytes),
        .message_bytes = (size_t)(frame - begin) + frame_bytes,
    };
    reply->used_bytes = (size_t)(frame - reply->bytes) + frame_bytes;
}

static seam_status chunk_encode(seam_reply *reply, seam_frame_header *header,
                                const seam_tensor_encode_args *args) {
    uint8_t *frame = message_begin(reply);
    seam_coder_chunk chunk;
    SEAM_TRY(seam_coder_encode_chunk(&chunk, frame + SEAM_FRAME_HEADER_BYTES,
                                     payload_room(reply, frame), args->decoded, args->coder));
    header->coding = chunk.coding;
    header->row_begin = chunk.row_begin;
    header->row_count = chunk.row_count;
    header->payload_bytes = chunk.payload_bytes;
    message_end(reply, frame, header);
    return SEAM_OK;
}

seam_status seam_tensor_encode(seam_reply *reply, const seam_tensor_encode_args *args,
                               seam_error *err) {
    seam_frame_header header = args->header;
    const seam_coder_encode_args tensor = {
        .tensor = {.codec = (seam_codec_id)header.codec,
                   .alloc = args->alloc,
                   .rows = header.rows,
                   .sequences = args->sequences,
                   .range_rows = args->range_rows,
                   .row_gates = args->row_gates,
                   .place = args->place},
        .x = args->x,
        .rounding = args->rounding,
    };
    if (args->alloc != NULL) {
        header.alloc_version = args->alloc->version;
        header.alloc_bits_total = args->alloc->bits_total;
        header.alloc_hash = args->alloc->hash;
    }
    seam_reply_clear(reply);
    seam_status st = seam_coder_encode_begin(args->coder, &tensor);
    SEAM_ASSERT(st != SEAM_E_LIMIT); /* judged when the session was created */
    while (st == SEAM_OK && !seam_coder_is_done(args->coder)) {
        st = chunk_encode(reply, &header, args);
    }
    if (st != SEAM_OK) {
        seam_reply_clear(reply);
        return seam_error_set(err, st, "site %u: cannot encode: %s", header.site,
                              seam_status_text(st));
    }
    seam_coder_commit(args->coder);
    return SEAM_OK;
}

void seam_reply_add_frame(seam_reply *reply, const seam_frame_header *header, const void *payload,
                          uint32_t payload_bytes) {
    seam_frame_header sealed = *header;
    sealed.payload_bytes = payload_bytes;
    uint8_t *frame = message_begin(reply);
    SEAM_ASSERT(payload_bytes <= payload_room(reply, frame));
    memcpy(frame + SEAM_FRAME_HEADER_BYTES, payload, payload_bytes);
    message_end(reply, frame, &sealed);
}
