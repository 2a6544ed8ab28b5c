/* Tensors <-> frames: measure, cut into chunks, code, seal; and the reverse.  WIRE.md 2 and 3. */
#include <string.h>

#include "bytes.h"
#include "core.h"
#include "frame.h"
#include "try.h"
#include "walk.h"

static seam_status chunk_encode(seam_buffer *ret_frames, float *ret_decoded, seam_session *session,
                                const seam_tensor_args *args, const float *x, uint32_t row,
                                uint32_t row_count, uint32_t *ret_payload_bytes);

seam_status seam_tensor_encode(seam_buffer *ret_frames, float *ret_decoded,
                               uint64_t *ret_payload_bytes, seam_session *session,
                               const seam_tensor_args *args, const float *x, seam_error *err) {
    const size_t range_bytes = seam_codec_range_bytes(args->codec, args->channels);
    const size_t group_bytes =
        seam_codec_code_bytes(args->codec, args->alloc->widths, SEAM_GROUP_ROWS, args->channels);
    uint32_t rows_first = 0, rows_other = 0;
    seam_status st = seam_frame_chunk_rows(&rows_first, &rows_other, range_bytes, group_bytes);
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "32 rows of %u channels do not fit into a frame",
                              args->channels);
    }
    if (range_bytes > 0) {
        st = seam_codec_measure(session->ranges, args->codec, x, args->rows, args->channels,
                                args->range_rows);
    }
    for (uint32_t row = 0; st == SEAM_OK && row < args->rows;) {
        const uint32_t rows_max = row == 0 ? rows_first : rows_other;
        const uint32_t row_count = args->rows - row < rows_max ? args->rows - row : rows_max;
        uint32_t payload_bytes = 0;
        st =
            chunk_encode(ret_frames, ret_decoded, session, args, x, row, row_count, &payload_bytes);
        *ret_payload_bytes += payload_bytes;
        row += row_count;
    }
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "tensor of micro-batch %u, phase %u: %s", args->micro,
                              args->phase, seam_status_text(st));
    }
    return SEAM_OK;
}

static seam_status chunk_encode(seam_buffer *ret_frames, float *ret_decoded, seam_session *session,
                                const seam_tensor_args *args, const float *x, uint32_t row,
                                uint32_t row_count, uint32_t *ret_payload_bytes) {
    const uint32_t C = args->channels;
    const size_t range_bytes = row == 0 ? seam_codec_range_bytes(args->codec, C) : 0;
    const size_t code_bytes = seam_codec_code_bytes(args->codec, args->alloc->widths, row_count, C);
    const bool ranged = seam_codec_has_widths(args->codec);
    const seam_codec_args codec = {.id = args->codec,
                                   .channels = C,
                                   .widths = args->alloc->widths,
                                   .ranges = ranged ? session->ranges : NULL};
    const seam_rounding rounding = {
        .stochastic = args->stochastic,
        .seed = args->seed,
        .step = args->step,
        .site = session->sites[args->site_idx].id,
        .micro = (uint16_t)args->micro,
        .row_ids = args->row_ids != NULL ? args->row_ids + row : NULL,
        .row_id_begin = row,
    };
    const seam_frame_header header = {
        .kind = SEAM_FRAME_TENSOR,
        .phase = args->phase,
        .codec = (uint8_t)args->codec,
        .site = session->sites[args->site_idx].id,
        .micro = args->micro,
        .step = args->step,
        .rows = args->rows,
        .channels = C,
        .row_begin = row,
        .row_count = row_count,
        .alloc_version = ranged ? args->alloc->version : 0,
        .alloc_bits_total = ranged ? args->alloc->bits_total : 0,
        .alloc_hash = ranged ? args->alloc->hash : 0,
        .payload_bytes = (uint32_t)(range_bytes + code_bytes),
    };
    uint8_t *const payload = session->frame + SEAM_FRAME_HEADER_BYTES;
    memcpy(payload, session->ranges, range_bytes);
    float *const decoded = ret_decoded != NULL ? ret_decoded + (size_t)row * C : NULL;
    SEAM_TRY(seam_codec_encode(payload + range_bytes, decoded, &codec, x + (size_t)row * C,
                               row_count, &rounding, session->scratch));
    seam_frame_seal(session->frame, &header);
    *ret_payload_bytes = header.payload_bytes;
    return seam_buffer_add(ret_frames, session->frame,
                           SEAM_FRAME_HEADER_BYTES + header.payload_bytes);
}

seam_status seam_tensor_widths(const uint8_t **ret_widths, const seam_site *site,
                               const seam_frame_header *header, seam_error *err) {
    if (!seam_codec_has_widths((seam_codec_id)header->codec)) {
        *ret_widths = NULL;
        return SEAM_OK;
    }
    const seam_alloc *alloc = NULL;
    const seam_status st =
        seam_site_alloc_find(&alloc, site, header->alloc_version, header->alloc_hash);
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "site %u: allocation version %u of a frame: %s",
                              header->site, header->alloc_version, seam_status_text(st));
    }
    *ret_widths = alloc->widths;
    return SEAM_OK;
}

seam_status seam_tensor_decode(float *ret_x, uint8_t *ranges, void *scratch,
                               const seam_frame_header *header, const uint8_t *payload,
                               const uint8_t *widths, seam_error *err) {
    const seam_codec_id id = (seam_codec_id)header->codec;
    const size_t range_bytes =
        header->row_begin == 0 ? seam_codec_range_bytes(id, header->channels) : 0;
    if (header->payload_bytes < range_bytes) {
        return seam_error_set(err, SEAM_E_FORMAT, "site %u: payload_bytes %u is less than ranges",
                              header->site, header->payload_bytes);
    }
    if (range_bytes > 0) {
        memcpy(ranges, payload, range_bytes);
    }
    const seam_codec_args args = {.id = id,
                                  .channels = header->channels,
                                  .widths = widths,
                                  .ranges = seam_codec_has_ranges(id) ? ranges : NULL};
    const seam_status st = seam_codec_decode(
        ret_x + (size_t)header->row_begin * header->channels, &args, payload + range_bytes,
        header->payload_bytes - range_bytes, header->row_count, scratch);
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "site %u: payload: %s", header->site, seam_status_text(st));
    }
    return SEAM_OK;
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
