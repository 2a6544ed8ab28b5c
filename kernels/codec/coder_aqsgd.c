/* Codec aqsgd as a coder: activations against the cache (aqsgd.c does the work), gradients without
 * one (here).  WIRE.md 3.6.
 *
 * AC-SGD quantizes gradients directly, to nearest and without error feedback, so the tensor's
 * rounding is not looked at.  Every width is the session's `bits` (allocation version 1). */
#include <math.h>
#include <string.h>

#include "aqsgd.h"
#include "aqsgd_quant.h"
#include "bit_string.h"
#include "bytes.h"
#include "coder_impl.h"
#include "try.h"

/* ---- gradients ---- */

/* Arrays of C, in scratch. */
typedef struct row_arrays {
    seam_scales scales;
    float *values; /* absmax while measuring */
    uint32_t *codes;
} row_arrays;

static size_t aqsgd_scratch_bytes(const seam_coder_config *config) {
    return 5 * (size_t)config->channels * sizeof(float);
}

static row_arrays arrays_of(const seam_coder *coder) {
    const size_t C = coder->config.channels;
    float *const floats = coder->scratch;
    return (row_arrays){.scales = {floats, floats + C, floats + 2 * C},
                        .values = floats + 3 * C,
                        .codes = (uint32_t *)coder->scratch + 4 * C};
}

static uint32_t bits_of(const seam_coder *coder) {
    return coder->widths[0];
}

/* Every value must be finite; the scales are those of the rows in range. */
static seam_status gradient_encode_begin(seam_coder *coder) {
    const uint32_t C = coder->config.channels;
    const row_arrays arrays = arrays_of(coder);
    float poison = 0.0f;
    memset(arrays.values, 0, C * sizeof *arrays.values);
    for (uint32_t row = 0; row < coder->tensor.rows; row++) {
        const float *x = coder->encode.x + (size_t)row * C;
        for (uint32_t c = 0; c < C; c++) {
            poison += x[c] * 0.0f;
        }
        if (seam_bitmap_has(coder->tensor.range_rows, row)) {
            seam_absmax_add(arrays.values, x, NULL, C);
        }
    }
    if (isnan(poison)) {
        return SEAM_E_NONFINITE;
    }
    return seam_scale_block_put(coder->head, arrays.values, C);
}

static size_t gradient_head_bytes(const seam_coder *coder, const seam_coder_chunk *chunk) {
    return chunk->row_begin == 0 ? seam_scale_block_bytes(coder->config.channels) : 0;
}

static size_t gradient_payload_bytes(const seam_coder *coder, const seam_coder_chunk *chunk) {
    return gradient_head_bytes(coder, chunk) +
           seam_bit_string_bytes((uint64_t)chunk->row_count * coder->config.channels,
                                 bits_of(coder));
}

static seam_status gradient_encode_chunk(seam_coder_chunk *chunk, uint8_t *ret_payload,
                                         float *ret_decoded, seam_coder *coder) {
    const uint32_t C = coder->config.channels, bits = bits_of(coder);
    row_arrays arrays = arrays_of(coder);
    const seam_status st = seam_scale_block_get(&arrays.scales, coder->head, C, bits);
    SEAM_ASSERT(st == SEAM_OK); /* our own */
    const size_t head = gradient_head_bytes(coder, chunk);
    memcpy(ret_payload, coder->head, head);
    seam_bit_writer writer = {.out = ret_payload + head};
    for (uint32_t i = 0; i < chunk->row_count; i++) {
        const float *x = coder->encode.x + (size_t)(chunk->row_begin + i) * C;
        seam_symmetric_quantize(arrays.codes, arrays.values, &arrays.scales, x, NULL, C, bits);
        seam_bits_put(&writer, arrays.codes, C, bits);
        if (ret_decoded != NULL) {
            memcpy(ret_decoded + (size_t)i * C, arrays.values, C * sizeof *arrays.values);
        }
    }
    seam_bits_put_end(&writer);
    chunk->payload_bytes = (uint32_t)gradient_payload_bytes(coder, chunk);
    SEAM_ASSERT(writer.out == ret_payload + chunk->payload_bytes);
    return SEAM_OK;
}

static seam_status gradient_decode_chunk(float *ret_x, seam_coder *coder,
                                         const seam_coder_chunk *chunk, const uint8_t *payload,
                                         seam_error *err) {
    const uint32_t C = coder->config.channels, bits = bits_of(coder);
    const size_t head = gradient_head_bytes(coder, chunk);
    const size_t expected = gradient_payload_bytes(coder, chunk);
    row_arrays arrays = arrays_of(coder);
    if (chunk->payload_bytes != expected) {
        return seam_error_set(err, SEAM_E_FORMAT, "aqsgd.payload: %u bytes, expected %zu",
                              chunk->payload_bytes, expected);
    }
    memcpy(coder->head, payload, head);
    const seam_status st = seam_scale_block_get(&arrays.scales, coder->head, C, bits);
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "aqsgd.scales: %s", seam_status_text(st));
    }
    seam_bit_reader reader = {.in = payload + head};
    for (uint32_t i = 0; i < chunk->row_count; i++) {
        seam_bits_get(arrays.codes, &reader, C, bits);
        seam_symmetric_dequantize(ret_x + (size_t)i * C, &arrays.scales, arrays.codes, C, bits);
    }
    return seam_bits_get_end(&reader)
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_FORMAT,
                                "aqsgd.codes: the bits that fill the last byte are not zero");
}

/* ---- both ---- */

static seam_aqsgd_config config_of(const seam_coder_config *config) {
    const bool quantized = config->plan->cache_format == SEAM_CACHE_QUANTIZED;
    return (seam_aqsgd_config){.channels = config->channels,
                               .rows_max = config->state_rows_max,
                               .sequences_max = config->sequences_max,
                               .bits = config->plan->bits,
                               .cache_bits = quantized ? config->plan->cache_bits : 0,
                               .storage = config->storage,
                               .storage_bytes = config->storage_bytes};
}

static seam_status aqsgd_state_create(void **ret_state, const seam_coder_config *config) {
    if (config->gradient) {
        return SEAM_OK;
    }
    const seam_aqsgd_config aqsgd_config = config_of(config);
    seam_aqsgd *aqsgd = NULL;
    SEAM_TRY(seam_aqsgd_create(&aqsgd, &aqsgd_config));
    *ret_state = aqsgd;
    return SEAM_OK;
}

static void aqsgd_state_destroy(void *gift_state) {
    seam_aqsgd_destroy(gift_state);
}

static size_t aqsgd_state_bytes(const seam_coder_config *config) {
    if (config->gradient) {
        return 0;
    }
    const seam_aqsgd_config aqsgd = config_of(config);
    size_t bytes = SIZE_MAX / 4; /* more than any plan allows */
    (void)seam_aqsgd_memory_bytes(&bytes, &aqsgd);
    return bytes;
}

static seam_coder_cost aqsgd_cost(const seam_coder_config *config, seam_codec_id codec,
                                  uint64_t bits_total) {
    (void)codec;
    if (config->gradient) {
        return (seam_coder_cost){
            .head_first = seam_scale_block_bytes(config->channels),
            .group = seam_coder_code_bytes(bits_total, SEAM_GROUP_ROWS),
        };
    }
    return (seam_coder_cost){
        .head_first = seam_aqsgd_head_bytes_max(config->sequences_max, config->channels),
        .group = seam_aqsgd_rows_bytes_max(SEAM_GROUP_ROWS, config->channels),
    };
}

static size_t aqsgd_payload_bytes(const seam_coder *coder, const seam_coder_chunk *chunk) {
    if (coder->config.gradient) {
        return gradient_payload_bytes(coder, chunk);
    }
    const uint32_t C = coder->config.channels;
    const size_t head =
        chunk->row_begin == 0 ? seam_aqsgd_head_bytes_max(coder->tensor.sequences.count, C) : 0;
    return head + seam_aqsgd_rows_bytes_max(chunk->row_count, C);
}

static seam_status aqsgd_encode_begin(seam_coder *coder) {
    if (coder->config.gradient) {
        return gradient_encode_begin(coder);
    }
    return seam_aqsgd_encode_begin(coder->state, &coder->tensor.sequences, coder->encode.x,
                                   coder->tensor.rows, coder->tensor.range_rows);
}

static seam_status aqsgd_encode_chunk(seam_coder_chunk *chunk, uint8_t *ret_payload,
                                      float *ret_decoded, seam_coder *coder) {
    if (coder->config.gradient) {
        return gradient_encode_chunk(chunk, ret_payload, ret_decoded, coder);
    }
    const float *x = coder->encode.x + (size_t)chunk->row_begin * coder->config.channels;
    size_t bytes = 0;
    seam_aqsgd_encode(&bytes, ret_decoded, coder->state, ret_payload, x, chunk->row_count);
    chunk->payload_bytes = (uint32_t)bytes;
    return SEAM_OK;
}

static void aqsgd_decode_begin(seam_coder *coder) {
    if (!coder->config.gradient) {
        seam_aqsgd_decode_begin(coder->state, &coder->tensor.sequences, coder->tensor.rows,
                                coder->tensor.range_rows);
    }
}

static seam_status aqsgd_decode_chunk(float *ret_x, seam_coder *coder,
                                      const seam_coder_chunk *chunk, const uint8_t *payload,
                                      seam_error *err) {
    if (coder->config.gradient) {
        return gradient_decode_chunk(ret_x, coder, chunk, payload, err);
    }
    return seam_aqsgd_decode(ret_x, coder->state, payload, chunk->payload_bytes, chunk->row_count,
                             err);
}

static void aqsgd_commit(seam_coder *coder) {
    if (!coder->config.gradient) {
        seam_aqsgd_commit(coder->state);
    }
}

static void aqsgd_forget(seam_coder *coder) {
    if (!coder->config.gradient) {
        seam_aqsgd_forget(coder->state);
    }
}

seam_aqsgd *seam_coder_cache(seam_coder *coder) {
    return coder != NULL && coder->config.codec == SEAM_CODEC_AQSGD ? coder->state : NULL;
}

const seam_coder_ops seam_coder_aqsgd_ops = {
    .cost = aqsgd_cost,
    .encode_begin = aqsgd_encode_begin,
    .payload_bytes = aqsgd_payload_bytes,
    .encode_chunk = aqsgd_encode_chunk,
    .decode_begin = aqsgd_decode_begin,
    .decode_chunk = aqsgd_decode_chunk,
    .scratch_bytes = aqsgd_scratch_bytes,
    .state_create = aqsgd_state_create,
    .state_destroy = aqsgd_state_destroy,
    .state_bytes = aqsgd_state_bytes,
    .commit = aqsgd_commit,
    .forget = aqsgd_forget,
};
