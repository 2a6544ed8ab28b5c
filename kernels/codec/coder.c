/* Chunks of a tensor: see coder.h.  What a payload holds is coder_plain.c's and the other codecs'
 * business; here are the cuts, the plans and the checks that all share. */
#include "coder.h"

#include "arena.h"
#include "coder_impl.h"
#include "try.h"

/* The largest head that is kept: a range block. */
static size_t head_capacity(uint32_t channels) {
    return 4 + 4 * (size_t)channels;
}

static size_t scratch_bytes_max(const seam_coder_config *config) {
    const size_t own = seam_coder_ops_find(config->codec)->scratch_bytes(config);
    const size_t plain = seam_coder_plain_ops.scratch_bytes(config); /* f32, bf16 in its place */
    return own > plain ? own : plain;
}

seam_status seam_coder_create(seam_coder **ret_coder, const seam_coder_config *config) {
    SEAM_ASSERT(seam_coder_ops_find(config->codec) != NULL);
    SEAM_ASSERT(config->channels >= 1 && config->channels <= SEAM_CHANNELS_MAX);
    SEAM_ASSERT(config->rows_max >= 1 && config->rows_max <= SEAM_ROWS_MAX);
    SEAM_ASSERT(config->bits_max <= SEAM_BITS_MAX);
    seam_coder *coder = seam_mem_zalloc(1, sizeof *coder);
    if (coder == NULL) {
        return SEAM_E_MEMORY;
    }
    coder->config = *config;
    if (config->plan != NULL) {
        coder->plan = *config->plan;
    }
    coder->config.plan = &coder->plan;
    coder->head = seam_mem_zalloc(1, head_capacity(config->channels));
    coder->scratch = seam_mem_alloc_aligned(scratch_bytes_max(&coder->config));
    seam_status st = coder->head != NULL && coder->scratch != NULL ? SEAM_OK : SEAM_E_MEMORY;
    const seam_coder_ops *ops = seam_coder_ops_find(config->codec);
    if (st == SEAM_OK) {
        st = seam_coder_entropy_create(&coder->entropy, &coder->config);
    }
    if (st == SEAM_OK && ops->state_create != NULL) {
        st = ops->state_create(&coder->state, &coder->config);
    }
    if (st != SEAM_OK) {
        seam_coder_destroy(coder);
        return st;
    }
    *ret_coder = coder;
    return SEAM_OK;
}

void seam_coder_destroy(seam_coder *gift_coder) {
    if (gift_coder == NULL) {
        return;
    }
    const seam_coder_ops *ops = seam_coder_ops_find(gift_coder->config.codec);
    if (ops->state_destroy != NULL) {
        ops->state_destroy(gift_coder->state);
    }
    seam_coder_entropy_destroy(&gift_coder->entropy);
    seam_mem_free(gift_coder->scratch);
    seam_mem_free(gift_coder->head);
    seam_mem_free(gift_coder);
}

size_t seam_coder_memory_bytes(const seam_coder_config *config) {
    const seam_coder_ops *ops = seam_coder_ops_find(config->codec);
    const size_t state = ops->state_bytes != NULL ? ops->state_bytes(config) : 0;
    return sizeof(seam_coder) + head_capacity(config->channels) + scratch_bytes_max(config) +
           seam_coder_entropy_bytes(config) + state;
}

/* ---- sizes ---- */

size_t seam_coder_code_bytes(uint64_t bits_total, uint32_t rows) {
    return (size_t)((bits_total * rows + 7) / 8); /* below 2^21 * 2^20 */
}

uint32_t seam_coder_chunks_max(uint32_t rows) {
    return rows / SEAM_GROUP_ROWS + 1;
}

size_t seam_coder_bytes_max(const seam_coder_config *config, uint32_t rows) {
    const uint64_t bits_total = (uint64_t)config->channels * config->bits_max;
    const seam_coder_cost cost =
        seam_coder_ops_find(config->codec)->cost(config, config->codec, bits_total);
    const size_t groups = seam_coder_chunks_max(rows);
    return cost.head_first + groups * (cost.head_other + cost.group);
}

/* Rows of the first chunk and of the others: whole groups, as many as fit. */
static seam_status chunk_rows(uint32_t *ret_first, uint32_t *ret_other,
                              const seam_coder_cost *cost) {
    const size_t groups_max = SEAM_ROWS_MAX / SEAM_GROUP_ROWS;
    const size_t head_max =
        cost->head_first > cost->head_other ? cost->head_first : cost->head_other;
    SEAM_ASSERT(cost->group > 0);
    if (head_max > SEAM_PAYLOAD_BYTES_MAX || cost->group > SEAM_PAYLOAD_BYTES_MAX - head_max) {
        return SEAM_E_LIMIT;
    }
    size_t first = (SEAM_PAYLOAD_BYTES_MAX - cost->head_first) / cost->group;
    size_t other = (SEAM_PAYLOAD_BYTES_MAX - cost->head_other) / cost->group;
    first = first < groups_max ? first : groups_max;
    other = other < groups_max ? other : groups_max;
    *ret_first = (uint32_t)first * SEAM_GROUP_ROWS;
    *ret_other = (uint32_t)other * SEAM_GROUP_ROWS;
    return SEAM_OK;
}

seam_status seam_coder_channels_check(uint32_t channels) {
    uint32_t first = 0, other = 0;
    /* f32 is the largest; the heads of the others take less than what their codes leave. */
    const seam_coder_cost cost = {.head_first = head_capacity(channels),
                                  .group = (size_t)channels * SEAM_GROUP_ROWS * sizeof(float)};
    return chunk_rows(&first, &other, &cost);
}

/* ---- a tensor ---- */

static uint32_t sequence_rows_total(const seam_sequences *sequences) {
    uint32_t total = 0;
    for (uint32_t i = 0; i < sequences->count; i++) {
        total += sequences->rows[i];
    }
    return total;
}

static void tensor_begin(seam_coder *coder, const seam_coder_tensor *tensor) {
    const bool own = tensor->codec == coder->config.codec;
    SEAM_ASSERT(own || tensor->codec == SEAM_CODEC_F32 || tensor->codec == SEAM_CODEC_BF16);
    SEAM_ASSERT(tensor->rows >= 1 && tensor->rows <= coder->config.rows_max);
    SEAM_ASSERT(tensor->sequences.count == 0 ||
                sequence_rows_total(&tensor->sequences) == tensor->rows);
    SEAM_ASSERT(tensor->place == NULL || coder->config.space != NULL);
    SEAM_ASSERT(tensor->place == NULL || seam_codec_has_device(tensor->codec));
    coder->tensor = *tensor;
    coder->ops =
        tensor->place != NULL ? &seam_coder_device_ops : seam_coder_ops_find(tensor->codec);
    SEAM_ASSERT(tensor->codec != SEAM_CODEC_AMAQ_TOKEN || tensor->row_gates != NULL);
    coder->widths = seam_codec_has_widths(tensor->codec) ? tensor->alloc->widths : NULL;
    coder->row_next = 0;
}

bool seam_coder_is_done(const seam_coder *coder) {
    return coder->row_next == coder->tensor.rows;
}

seam_rounding seam_coder_rounding_at(const seam_coder *coder, uint32_t row) {
    seam_rounding rounding = coder->encode.rounding;
    if (rounding.row_ids != NULL) {
        rounding.row_ids += row;
    } else {
        rounding.row_id_begin += row;
    }
    return rounding;
}

/* Of the widest row; 0 without widths. */
static uint64_t row_bits_max(const seam_coder *coder) {
    const seam_coder_tensor *tensor = &coder->tensor;
    if (tensor->codec != SEAM_CODEC_AMAQ_TOKEN) {
        return coder->widths != NULL ? tensor->alloc->bits_total : 0;
    }
    uint64_t width = 0;
    SEAM_ASSERT(coder->widths != NULL);
    for (uint32_t row = 0; row < tensor->rows; row++) {
        const uint8_t own = coder->widths[tensor->row_gates[row]];
        width = own > width ? own : width;
    }
    return width * coder->config.channels;
}

/* Where the tensor that was begun is cut. */
static seam_status cuts_make(seam_coder *coder) {
    const seam_coder_cost cost =
        coder->ops->cost(&coder->config, coder->tensor.codec, row_bits_max(coder));
    return chunk_rows(&coder->rows_first, &coder->rows_other, &cost);
}

static seam_coder_chunk chunk_next(const seam_coder *coder) {
    const uint32_t row = coder->row_next, left = coder->tensor.rows - row;
    const uint32_t rows_max = row == 0 ? coder->rows_first : coder->rows_other;
    return (seam_coder_chunk){.row_begin = row, .row_count = left < rows_max ? left : rows_max};
}

seam_status seam_coder_chunk_plan(seam_coder_chunk *ret_chunk, const seam_coder_config *config,
                                  const seam_coder_tensor *tensor, uint32_t row_begin) {
    seam_coder coder = {.config = *config}; /* without memory: nothing is coded */
    seam_coder_tensor on_host = *tensor;
    on_host.place = NULL;
    if (config->plan != NULL) {
        coder.plan = *config->plan;
    }
    coder.config.plan = &coder.plan;
    tensor_begin(&coder, &on_host);
    SEAM_TRY(cuts_make(&coder));
    coder.row_next = row_begin;
    SEAM_ASSERT(!seam_coder_is_done(&coder));
    seam_coder_chunk chunk = chunk_next(&coder);
    chunk.payload_bytes = (uint32_t)coder.ops->payload_bytes(&coder, &chunk);
    *ret_chunk = chunk;
    return SEAM_OK;
}

bool seam_coder_goes_by_state(const seam_coder_config *config) {
    return seam_codec_has_state(config->codec) &&
           !(config->codec == SEAM_CODEC_AQSGD && config->gradient);
}

seam_status seam_coder_encode_begin(seam_coder *coder, const seam_coder_encode_args *args) {
    SEAM_ASSERT(args->x_bf16 == NULL || seam_codec_has_ranges(args->tensor.codec));
    tensor_begin(coder, &args->tensor);
    coder->encode = *args;
    SEAM_TRY(cuts_make(coder));
    return coder->ops->encode_begin(coder);
}

seam_status seam_coder_encode_chunk(seam_coder_chunk *ret_chunk, uint8_t *ret_payload,
                                    size_t capacity, float *ret_decoded, seam_coder *coder) {
    SEAM_ASSERT(!seam_coder_is_done(coder));
    seam_coder_chunk chunk = chunk_next(coder);
    float *decoded =
        ret_decoded != NULL ? ret_decoded + (size_t)chunk.row_begin * coder->config.channels : NULL;
    SEAM_TRY(coder->ops->encode_chunk(&chunk, ret_payload, decoded, coder));
    SEAM_ASSERT(chunk.payload_bytes <= capacity && chunk.payload_bytes <= SEAM_PAYLOAD_BYTES_MAX);
    seam_coder_entropy_encode(&chunk, ret_payload, coder);
    coder->row_next += chunk.row_count;
    *ret_chunk = chunk;
    return SEAM_OK;
}

void seam_coder_decode_begin(seam_coder *coder, const seam_coder_tensor *tensor) {
    tensor_begin(coder, tensor);
    if (coder->ops->decode_begin != NULL) {
        coder->ops->decode_begin(coder);
    }
}

seam_status seam_coder_decode_chunk(float *ret_x, seam_coder *coder, const seam_coder_chunk *chunk,
                                    const uint8_t *payload, seam_error *err) {
    SEAM_ASSERT(chunk->row_begin == coder->row_next);
    SEAM_ASSERT(chunk->row_count >= 1);
    SEAM_ASSERT(chunk->row_count <= coder->tensor.rows - coder->row_next);
    seam_coder_chunk plain = *chunk;
    if (chunk->coding != 0) {
        SEAM_TRY(seam_coder_entropy_decode(&plain, &payload, coder, err));
    }
    seam_error why = {0};
    float *x = ret_x != NULL ? ret_x + (size_t)chunk->row_begin * coder->config.channels : NULL;
    const seam_status st = coder->ops->decode_chunk(x, coder, &plain, payload, &why);
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "%s",
                              why.status != SEAM_OK ? why.text : seam_status_text(st));
    }
    coder->row_next += chunk->row_count;
    return SEAM_OK;
}

void seam_coder_commit(seam_coder *coder) {
    SEAM_ASSERT(coder->ops != NULL && seam_coder_is_done(coder));
    if (coder->ops->commit != NULL) {
        coder->ops->commit(coder);
    }
}

void seam_coder_forget(seam_coder *coder) {
    const seam_coder_ops *ops = seam_coder_ops_find(coder->config.codec);
    if (ops->forget != NULL) {
        ops->forget(coder);
    }
}

double seam_coder_mean_bits(const seam_coder *coder) {
    const seam_coder_tensor *tensor = &coder->tensor;
    SEAM_ASSERT(coder->widths != NULL);
    if (tensor->codec != SEAM_CODEC_AMAQ_TOKEN) {
        return (double)tensor->alloc->bits_total / (double)coder->config.channels;
    }
    uint64_t bits = 0;
    for (uint32_t row = 0; row < tensor->rows; row++) {
        bits += coder->widths[tensor->row_gates[row]];
    }
    return (double)bits / (double)tensor->rows;
}

seam_status seam_coder_steps(float *ret_steps, const seam_coder *coder) {
    SEAM_ASSERT(coder->ops != NULL && coder->ops->steps != NULL);
    return coder->ops->steps(ret_steps, coder);
}
