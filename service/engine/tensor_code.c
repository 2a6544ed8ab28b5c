/* Chunks: the first carries the range block; every one but the last has whole groups of rows. */
#include "tensor_code.h"

#include <string.h>

#include "try.h"
#include "walk.h"

#define CHUNK_OVERHEAD_BYTES (SEAM_FRAME_HEADER_BYTES + 16)

size_t seam_tensor_bytes_max(seam_codec_id codec, uint32_t bits_max, uint32_t rows,
                             uint32_t channels) {
    const uint32_t bits = codec == SEAM_CODEC_F32 ? 32 : codec == SEAM_CODEC_BF16 ? 16 : bits_max;
    return ((size_t)rows * channels * bits + 7) / 8 + seam_codec_range_bytes(codec, channels) +
           (size_t)seam_tensor_chunks_max(rows) * CHUNK_OVERHEAD_BYTES;
}

uint32_t seam_tensor_chunks_max(uint32_t rows) {
    return rows / SEAM_GROUP_ROWS + 1;
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
    const size_t range_bytes = seam_codec_range_bytes(args->codec, args->channels);
    const seam_codec_args codec = {
        .id = args->codec,
        .channels = args->channels,
        .widths = args->alloc != NULL ? args->alloc->widths : NULL,
        .ranges = range_bytes > 0 ? args->chunks[0].payload : NULL,
    };
    for (uint32_t i = 0; i < args->chunk_count; i++) {
        const seam_chunk *chunk = &args->chunks[i];
        const size_t skip = i == 0 ? range_bytes : 0;
        if (chunk->payload_bytes < skip) {
            return seam_error_set(err, SEAM_E_FORMAT, "frame: no room for the range block");
        }
        const seam_status st = seam_codec_decode(
            ret_x + (size_t)chunk->row_begin * args->channels, &codec, chunk->payload + skip,
            chunk->payload_bytes - skip, chunk->row_count, args->scratch);
        if (st != SEAM_OK) {
            return seam_error_set(err, st, "frame: payload of row %u: %s", chunk->row_begin,
                                  seam_status_text(st));
        }
    }
    return SEAM_OK;
}

/* Room for one more message with this payload; the frame's address. */
static uint8_t *message_begin(const seam_reply *reply, size_t payload_bytes) {
    SEAM_ASSERT(reply->message_count < reply->messages_max);
    SEAM_ASSERT(reply->used_bytes + CHUNK_OVERHEAD_BYTES + payload_bytes <= reply->capacity_bytes);
    return reply->bytes + reply->used_bytes + SEAM_MESSAGE_HEADER_BYTES_MAX;
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
                                const seam_tensor_encode_args *args, const seam_codec_args *codec,
                                size_t range_bytes) {
    const size_t first = (size_t)header->row_begin * header->channels;
    const size_t code_bytes =
        seam_codec_code_bytes(codec->id, codec->widths, header->row_count, header->channels);
    uint8_t *frame = message_begin(reply, range_bytes + code_bytes);
    uint8_t *payload = frame + SEAM_FRAME_HEADER_BYTES;
    if (range_bytes > 0) {
        memcpy(payload, args->ranges, range_bytes);
    }
    seam_rounding rounding = args->rounding;
    if (rounding.row_ids != NULL) {
        rounding.row_ids += header->row_begin;
    } else {
        rounding.row_id_begin += header->row_begin;
    }
    SEAM_TRY(seam_codec_encode(payload + range_bytes,
                               args->decoded != NULL ? args->decoded + first : NULL, codec,
                               args->x + first, header->row_count, &rounding, args->scratch));
    header->payload_bytes = (uint32_t)(range_bytes + code_bytes);
    message_end(reply, frame, header);
    return SEAM_OK;
}

seam_status seam_tensor_encode(seam_reply *reply, const seam_tensor_encode_args *args,
                               seam_error *err) {
    seam_frame_header header = args->header;
    const uint32_t channels = header.channels;
    const seam_codec_id id = (seam_codec_id)header.codec;
    const size_t range_bytes = seam_codec_range_bytes(id, channels);
    const seam_codec_args codec = {
        .id = id,
        .channels = channels,
        .widths = args->alloc != NULL ? args->alloc->widths : NULL,
        .ranges = range_bytes > 0 ? args->ranges : NULL,
    };
    if (args->alloc != NULL) {
        header.alloc_version = args->alloc->version;
        header.alloc_bits_total = args->alloc->bits_total;
        header.alloc_hash = args->alloc->hash;
    }
    seam_reply_clear(reply);
    uint32_t rows_first = 0, rows_other = 0;
    seam_status st =
        seam_frame_chunk_rows(&rows_first, &rows_other, range_bytes,
                              seam_codec_code_bytes(id, codec.widths, SEAM_GROUP_ROWS, channels));
    SEAM_ASSERT(st == SEAM_OK); /* judged when the session was created */
    if (range_bytes > 0) {
        st = seam_codec_measure(args->ranges, id, args->x, header.rows, channels, args->range_rows);
    }
    for (uint32_t row = 0; st == SEAM_OK && row < header.rows; row += header.row_count) {
        const uint32_t rows_max = row == 0 ? rows_first : rows_other;
        header.row_begin = row;
        header.row_count = header.rows - row < rows_max ? header.rows - row : rows_max;
        st = chunk_encode(reply, &header, args, &codec, row == 0 ? range_bytes : 0);
    }
    if (st != SEAM_OK) {
        seam_reply_clear(reply);
        return seam_error_set(err, st, "site %u: cannot encode: %s", header.site,
                              seam_status_text(st));
    }
    return SEAM_OK;
}

void seam_frame_reply(seam_reply *reply, const seam_frame_header *header, const void *payload,
                      uint32_t payload_bytes) {
    seam_frame_header sealed = *header;
    sealed.payload_bytes = payload_bytes;
    seam_reply_clear(reply);
    uint8_t *frame = message_begin(reply, payload_bytes);
    memcpy(frame + SEAM_FRAME_HEADER_BYTES, payload, payload_bytes);
    message_end(reply, frame, &sealed);
}
