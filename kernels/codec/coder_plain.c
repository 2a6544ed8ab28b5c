/* The codecs of codec.h as coders: f32, bf16, affine, amaq.  Their head is the range block, in
 * front of the first chunk's codes. */
#include <string.h>

#include "coder_impl.h"
#include "try.h"

static seam_codec_args args_of(const seam_coder *coder) {
    const seam_codec_id id = coder->tensor.codec;
    return (seam_codec_args){.id = id,
                             .channels = coder->config.channels,
                             .widths = coder->widths,
                             .ranges = seam_codec_has_ranges(id) ? coder->head : NULL};
}

static size_t head_bytes(const seam_coder *coder, const seam_coder_chunk *chunk) {
    return chunk->row_begin == 0
               ? seam_codec_range_bytes(coder->tensor.codec, coder->config.channels)
               : 0;
}

static size_t payload_bytes(const seam_coder *coder, const seam_coder_chunk *chunk) {
    return head_bytes(coder, chunk) + seam_codec_code_bytes(coder->tensor.codec, coder->widths,
                                                            chunk->row_count,
                                                            coder->config.channels);
}

static seam_coder_cost plain_cost(const seam_coder_config *config, seam_codec_id codec,
                                  uint64_t bits_total) {
    const uint64_t bits = seam_codec_has_widths(codec)
                              ? bits_total
                              : (uint64_t)config->channels * (codec == SEAM_CODEC_F32 ? 32 : 16);
    return (seam_coder_cost){.head_first = seam_codec_range_bytes(codec, config->channels),
                             .group = seam_coder_code_bytes(bits, SEAM_GROUP_ROWS)};
}

static seam_status plain_encode_begin(seam_coder *coder) {
    const seam_coder_tensor *const t = &coder->tensor;
    const uint32_t channels = coder->config.channels;
    return coder->encode.x_bf16 != NULL
               ? seam_codec_measure_bf16(coder->head, t->codec, coder->encode.x_bf16, t->rows,
                                         channels, t->range_rows)
               : seam_codec_measure(coder->head, t->codec, coder->encode.x, t->rows, channels,
                                    t->range_rows);
}

static seam_status plain_encode_chunk(seam_coder_chunk *chunk, uint8_t *ret_payload,
                                      float *ret_decoded, seam_coder *coder) {
    const seam_codec_args args = args_of(coder);
    const size_t head = head_bytes(coder, chunk);
    const seam_rounding rounding = seam_coder_rounding_at(coder, chunk->row_begin);
    const size_t at = (size_t)chunk->row_begin * args.channels;
    memcpy(ret_payload, coder->head, head);
    chunk->payload_bytes = (uint32_t)payload_bytes(coder, chunk);
    if (coder->encode.x_bf16 != NULL) {
        return seam_codec_encode_bf16(ret_payload + head, ret_decoded, &args,
                                      coder->encode.x_bf16 + at, chunk->row_count, &rounding,
                                      coder->scratch);
    }
    return seam_codec_encode(ret_payload + head, ret_decoded, &args, coder->encode.x + at,
                             chunk->row_count, &rounding, coder->scratch);
}

/* Which part of a payload of the right size was refused.  ret_x, unspecified by now, takes steps.
 */
static const char *part_refused(float *ret_x, const seam_codec_args *args) {
    if (args->ranges == NULL) {
        return "values";
    }
    return seam_codec_steps(ret_x, args) != SEAM_OK ? "ranges" : "codes";
}

static seam_status plain_decode_chunk(float *ret_x, seam_coder *coder,
                                      const seam_coder_chunk *chunk, const uint8_t *payload,
                                      seam_error *err) {
    const seam_codec_args args = args_of(coder);
    const size_t head = head_bytes(coder, chunk);
    const size_t bytes = payload_bytes(coder, chunk);
    if (chunk->payload_bytes != bytes) {
        return seam_error_set(err, SEAM_E_FORMAT, "payload.bytes: %u, %zu follow from the rows",
                              chunk->payload_bytes, bytes);
    }
    memcpy(coder->head, payload, head);
    const seam_status st = seam_codec_decode(ret_x, &args, payload + head, bytes - head,
                                             chunk->row_count, coder->scratch);
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "payload.%s: %s", part_refused(ret_x, &args),
                              seam_status_text(st));
    }
    return SEAM_OK;
}

static seam_status plain_steps(float *ret_steps, const seam_coder *coder) {
    const seam_codec_args args = args_of(coder);
    return seam_codec_steps(ret_steps, &args);
}

static size_t plain_scratch_bytes(const seam_coder_config *config) {
    return seam_codec_scratch_bytes(config->channels);
}

const seam_coder_ops seam_coder_plain_ops = {
    .cost = plain_cost,
    .encode_begin = plain_encode_begin,
    .head_bytes = head_bytes,
    .payload_bytes = payload_bytes,
    .encode_chunk = plain_encode_chunk,
    .decode_chunk = plain_decode_chunk,
    .steps = plain_steps,
    .scratch_bytes = plain_scratch_bytes,
};
