/* Codec dictionary as a coder: dictionary.c does the work.  One end codes in one direction, so a
 * coder has a table with a hash (encoder) or without one. */
#include "coder_impl.h"
#include "dictionary.h"
#include "try.h"

static seam_dictionary_config config_of(const seam_coder_config *config) {
    return (seam_dictionary_config){.channels = config->channels,
                                    .rows_max = config->plan->dictionary_rows_max,
                                    .chunk_rows_max = config->state_rows_max,
                                    .encoder = config->encoder};
}

static seam_status dictionary_state_create(void **ret_state, const seam_coder_config *config) {
    const seam_dictionary_config dictionary_config = config_of(config);
    seam_dictionary *dictionary = NULL;
    SEAM_TRY(seam_dictionary_create(&dictionary, &dictionary_config));
    *ret_state = dictionary;
    return SEAM_OK;
}

static void dictionary_state_destroy(void *gift_state) {
    seam_dictionary_destroy(gift_state);
}

static size_t dictionary_state_bytes(const seam_coder_config *config) {
    const seam_dictionary_config dictionary = config_of(config);
    size_t bytes = SIZE_MAX / 4; /* more than any plan allows */
    (void)seam_dictionary_memory_bytes(&bytes, &dictionary);
    return bytes;
}

static seam_coder_cost dictionary_cost(const seam_coder_config *config, seam_codec_id codec,
                                       uint64_t bits_total) {
    (void)codec;
    (void)bits_total;
    const size_t group = seam_dictionary_chunk_bytes_max(SEAM_GROUP_ROWS, config->channels);
    return (seam_coder_cost){.head_first = SEAM_DICTIONARY_HEAD_BYTES,
                             .head_other = SEAM_DICTIONARY_HEAD_BYTES,
                             .group = group - SEAM_DICTIONARY_HEAD_BYTES};
}

static size_t dictionary_payload_bytes(const seam_coder *coder, const seam_coder_chunk *chunk) {
    return seam_dictionary_chunk_bytes_max(chunk->row_count, coder->config.channels);
}

static seam_status dictionary_encode_begin(seam_coder *coder) {
    seam_dictionary_begin(coder->state);
    return SEAM_OK;
}

static seam_status dictionary_encode_chunk(seam_coder_chunk *chunk, uint8_t *ret_payload,
                                           float *ret_decoded, seam_coder *coder) {
    const float *x = coder->encode.x + (size_t)chunk->row_begin * coder->config.channels;
    size_t bytes = 0;
    SEAM_TRY(seam_dictionary_encode(&bytes, ret_decoded, coder->state, ret_payload, x,
                                    chunk->row_count));
    chunk->payload_bytes = (uint32_t)bytes;
    return SEAM_OK;
}

static void dictionary_decode_begin(seam_coder *coder) {
    seam_dictionary_begin(coder->state);
}

static seam_status dictionary_decode_chunk(float *ret_x, seam_coder *coder,
                                           const seam_coder_chunk *chunk, const uint8_t *payload,
                                           seam_error *err) {
    return seam_dictionary_decode(ret_x, coder->state, payload, chunk->payload_bytes,
                                  chunk->row_count, err);
}

static void dictionary_commit(seam_coder *coder) {
    seam_dictionary_commit(coder->state);
}

static void dictionary_forget(seam_coder *coder) {
    seam_dictionary_clear(coder->state);
}

static size_t dictionary_scratch_bytes(const seam_coder_config *config) {
    (void)config;
    return 0;
}

const seam_coder_ops seam_coder_dictionary_ops = {
    .cost = dictionary_cost,
    .encode_begin = dictionary_encode_begin,
    .payload_bytes = dictionary_payload_bytes,
    .encode_chunk = dictionary_encode_chunk,
    .decode_begin = dictionary_decode_begin,
    .decode_chunk = dictionary_decode_chunk,
    .scratch_bytes = dictionary_scratch_bytes,
    .state_create = dictionary_state_create,
    .state_destroy = dictionary_state_destroy,
    .state_bytes = dictionary_state_bytes,
    .commit = dictionary_commit,
    .forget = dictionary_forget,
};
