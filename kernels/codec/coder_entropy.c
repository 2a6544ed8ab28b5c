/* The entropy coder behind a codec: a chunk's payload as the codec writes it <-> its head as it is
 * and a stream of rans.h in place of the codes.  WIRE.md 2 (field coding) and 3.4.
 *
 * A chunk whose stream would not be smaller travels as the codec wrote it, so what a tensor takes
 * at most does not depend on this stage.  The bytes are the same on every CPU (rans.h): a chunk
 * that is encoded again for a peer that lost it is the same frame. */
#include "arena.h"
#include "coder_impl.h"
#include "rans.h"
#include "try.h"

#include <string.h>

enum { CODING_PLANES = 0, CODING_RANS = 1 };

static bool is_on(const seam_coder_config *config) {
    return config->plan != NULL && config->plan->entropy == SEAM_ENTROPY_RANS &&
           seam_codec_has_planes(config->codec);
}

/* The largest payload of one chunk. */
static size_t payload_bytes_max(const seam_coder_config *config) {
    const size_t tensor = seam_coder_bytes_max(config, config->rows_max);
    return tensor < SEAM_PAYLOAD_BYTES_MAX ? tensor : SEAM_PAYLOAD_BYTES_MAX;
}

/* A stream may be a byte longer than what it codes. */
size_t seam_coder_entropy_bytes(const seam_coder_config *config) {
    return is_on(config) ? payload_bytes_max(config) + 1 + seam_rans_scratch_bytes(config->channels)
                         : 0;
}

seam_status seam_coder_entropy_create(seam_coder_entropy *ret, const seam_coder_config *config) {
    if (!is_on(config)) {
        return SEAM_OK;
    }
    ret->payload_bytes_max = payload_bytes_max(config);
    ret->payload = seam_mem_alloc(ret->payload_bytes_max + 1);
    ret->scratch = seam_mem_alloc_aligned(seam_rans_scratch_bytes(config->channels));
    return ret->payload != NULL && ret->scratch != NULL ? SEAM_OK : SEAM_E_MEMORY;
}

void seam_coder_entropy_destroy(seam_coder_entropy *entropy) {
    seam_mem_free(entropy->scratch);
    seam_mem_free(entropy->payload);
}

static seam_rans_args args_of(const seam_coder *coder, const seam_coder_chunk *chunk) {
    return (seam_rans_args){
        .widths = coder->widths, .rows = chunk->row_count, .channels = coder->config.channels};
}

/* f32 and bf16 may come in the place of the coder's codec. */
static bool is_coded(const seam_coder *coder) {
    return coder->entropy.scratch != NULL && coder->tensor.codec == coder->config.codec;
}

void seam_coder_entropy_encode(seam_coder_chunk *chunk, uint8_t *payload, seam_coder *coder) {
    if (!is_coded(coder)) {
        return;
    }
    const seam_rans_args args = args_of(coder, chunk);
    const size_t head = coder->ops->head_bytes(coder, chunk);
    size_t stream_bytes = 0;
    SEAM_ASSERT(chunk->payload_bytes <= coder->entropy.payload_bytes_max);
    seam_rans_encode(coder->entropy.payload, &stream_bytes, &args, payload + head,
                     coder->entropy.scratch);
    if (head + stream_bytes < chunk->payload_bytes) {
        memcpy(payload + head, coder->entropy.payload, stream_bytes);
        chunk->payload_bytes = (uint32_t)(head + stream_bytes);
        chunk->coding = CODING_RANS;
    }
}

seam_status seam_coder_entropy_decode(seam_coder_chunk *chunk, const uint8_t **payload,
                                      seam_coder *coder, seam_error *err) {
    if (chunk->coding != CODING_RANS || !is_coded(coder)) {
        return seam_error_set(err, SEAM_E_FORMAT, "coding %u: not of this session or codec",
                              chunk->coding);
    }
    const seam_rans_args args = args_of(coder, chunk);
    const size_t head = coder->ops->head_bytes(coder, chunk);
    const size_t bytes =
        head + seam_coder_code_bytes(coder->tensor.alloc->bits_total, chunk->row_count);
    if (bytes > coder->entropy.payload_bytes_max) {
        return seam_error_set(err, SEAM_E_FORMAT, "rans: the codes of %u rows are no chunk's",
                              chunk->row_count);
    }
    /* Also keeps a stream that only stores the codes away: coding 0 is the one form of that. */
    if (chunk->payload_bytes <= head || chunk->payload_bytes >= bytes) {
        return seam_error_set(err, SEAM_E_FORMAT, "rans: %u bytes are not between %zu and %zu",
                              chunk->payload_bytes, head, bytes);
    }
    memcpy(coder->entropy.payload, *payload, head);
    if (seam_rans_decode(coder->entropy.payload + head, &args, *payload + head,
                         chunk->payload_bytes - head, coder->entropy.scratch) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_FORMAT, "rans: not a stream of these codes");
    }
    *payload = coder->entropy.payload;
    chunk->payload_bytes = (uint32_t)bytes;
    chunk->coding = CODING_PLANES;
    return SEAM_OK;
}
