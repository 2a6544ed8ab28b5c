/* Tensors <-> frames: headers around what kernels/codec/coder.h makes and reads.  WIRE.md 2.
 * Read next: link.c, which sends the frames. */
#include <string.h>

#include "bytes.h"
#include "core.h"
#include "frame.h"
#include "try.h"
#include "walk.h"

_Static_assert(SEAM_PAYLOAD_BYTES_MAX == SEAM_CHUNK_BYTES_MAX, "a payload fits a frame");

static seam_status chunk_encode(seam_buffer *ret_frames, float *ret_decoded,
                                uint64_t *ret_payload_bytes, seam_session *session,
                                const seam_tensor_args *args);

seam_status seam_tensor_encode(seam_buffer *ret_frames, float *ret_decoded,
                               uint64_t *ret_payload_bytes, seam_session *session,
                               const seam_tensor_args *args, const float *x, seam_error *err) {
    const seam_site_row *const site = &session->sites[args->site_idx];
    const seam_coder_encode_args tensor = {
        .tensor = {.codec = args->codec,
                   .alloc = args->alloc,
                   .rows = args->rows,
                   .sequences = args->sequences,
                   .range_rows = args->range_rows,
                   .row_gates = args->row_gates},
        .x = x,
        .x_bf16 = args->x_bf16,
        .rounding = {.stochastic = args->stochastic,
                     .seed = args->seed,
                     .step = args->step,
                     .site = site->id,
                     .micro = (uint16_t)args->micro,
                     .row_ids = args->row_ids},
    };
    seam_coder *const coder = args->coder != NULL ? args->coder : site->coder;
    seam_status st = seam_coder_encode_begin(coder, &tensor);
    while (st == SEAM_OK && !seam_coder_is_done(coder)) {
        st = chunk_encode(ret_frames, ret_decoded, ret_payload_bytes, session, args);
    }
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "tensor of micro-batch %u, phase %u: %s", args->micro,
                              args->phase, seam_status_text(st));
    }
    seam_coder_commit(coder);
    return SEAM_OK;
}

static seam_status chunk_encode(seam_buffer *ret_frames, float *ret_decoded,
                                uint64_t *ret_payload_bytes, seam_session *session,
                                const seam_tensor_args *args) {
    const seam_site_row *const site = &session->sites[args->site_idx];
    seam_coder *const coder = args->coder != NULL ? args->coder : site->coder;
    const bool has_widths = seam_codec_has_widths(args->codec);
    seam_coder_chunk chunk;
    SEAM_TRY(seam_coder_encode_chunk(&chunk, session->frame + SEAM_FRAME_HEADER_BYTES,
                                     SEAM_CHUNK_BYTES_MAX, ret_decoded, coder));
    const seam_frame_header header = {
        .kind = SEAM_FRAME_TENSOR,
        .phase = args->phase,
        .codec = (uint8_t)args->codec,
        .coding = chunk.coding,
        .site = site->id,
        .micro = args->micro,
        .step = args->step,
        .rows = args->rows,
        .channels = session->channels,
        .row_begin = chunk.row_begin,
        .row_count = chunk.row_count,
        .alloc_version = has_widths ? args->alloc->version : 0,
        .alloc_bits_total = has_widths ? args->alloc->bits_total : 0,
        .alloc_hash = has_widths ? args->alloc->hash : 0,
        .payload_bytes = chunk.payload_bytes,
    };
    seam_frame_seal(session->frame, &header);
    *ret_payload_bytes += chunk.payload_bytes;
    return seam_buffer_add(ret_frames, session->frame,
                           SEAM_FRAME_HEADER_BYTES + (size_t)chunk.payload_bytes);
}

seam_status seam_tensor_alloc(const seam_alloc **ret_alloc, const seam_site *site,
                              const seam_frame_header *header, seam_error *err) {
    if (!seam_codec_has_widths((seam_codec_id)header->codec)) {
        *ret_alloc = NULL;
        return SEAM_OK;
    }
    const seam_status st =
        seam_site_alloc_find(ret_alloc, site, header->alloc_version, header->alloc_hash);
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "site %u: allocation version %u of a frame: %s",
                              header->site, header->alloc_version, seam_status_text(st));
    }
    return SEAM_OK;
}

seam_status seam_tensor_decode(float *ret_x, seam_coder *coder, const seam_coder_tensor *tensor,
                               const seam_frame_header *header, const uint8_t *payload,
                               seam_error *err) {
    const seam_coder_chunk chunk = {.row_begin = header->row_begin,
                                    .row_count = header->row_count,
                                    .payload_bytes = header->payload_bytes,
                                    .coding = header->coding};
    if (header->row_begin == 0) {
        seam_coder_decode_begin(coder, tensor);
    }
    const seam_status st = seam_coder_decode_chunk(ret_x, coder, &chunk, payload, err);
    return st == SEAM_OK ? SEAM_OK : seam_error_prefix(err, st, "site %u: payload", header->site);
}

size_t seam_frame_bytes_at(const seam_buffer *frames, size_t offset) {
    return SEAM_FRAME_HEADER_BYTES + seam_get_u32(frames->data + offset + 56);
}

seam_status seam_frame_send(seam_session *session, seam_stream_call *stream, const uint8_t *frame,
                            size_t frame_bytes, seam_error *err) {
    uint8_t head[SEAM_MESSAGE_HEADER_BYTES_MAX];
    const uint8_t *const begin = seam_message_header_put(head + sizeof head, frame_bytes);
    return session->client->net->stream_send(stream, begin, (size_t)(head + sizeof head - begin),
                                             frame, frame_bytes, err);
}
