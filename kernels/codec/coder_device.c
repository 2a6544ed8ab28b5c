/* Payloads of rows that lie in a device's memory: f32, bf16, affine, amaq (coder.h, "rows on a
 * device").  The device makes and reads codes (kernels/include/device_codec.h) that are those of
 * coder_plain.c to the bit; the checks of what a peer sent are done here, on the host.
 *
 * Only range blocks and codes cross over, in chunks, through a ring of pinned pieces on the space's
 * own stream, so that copies run beside the tensor's stream and beside the host:
 *
 *   encode: the whole tensor's codes are queued; behind them the copies of the range block and of
 *           the first chunks.  Whenever a chunk is taken from its piece, a later one is queued.
 *   decode: a chunk is checked, put into a piece and copied; its rows are made behind that copy,
 *           while the host is at the next chunk.
 *
 * A piece is touched by the host only behind its event.  Nothing here waits for the device as a
 * whole; encode_begin waits for the range block, which says whether the values could be coded. */
#include <string.h>

#include "arena.h"
#include "coder_impl.h"
#include "device_codec.h"
#include "try.h"

#define PIECES 4u /* chunks that are on their way at once */

struct seam_coder_space {
    const seam_ops *ops;
    seam_backend *backend;
    uint32_t channels;
    size_t codes_bytes;
    seam_stream *copies;
    /* Of the device. */
    uint8_t *codes;
    void *work, *plane_begin;
    /* Pinned. */
    uint8_t *pieces; /* (PIECES, SEAM_PAYLOAD_BYTES_MAX); pinned, and so is what follows it */
    uint32_t *begin; /* (C + 1): what is copied to plane_begin */
    uint8_t *head;   /* status and range block, as they come */
    seam_event *piece_done[PIECES], *begin_done, *head_done, *rows_done, *copies_done;
    /* The tensor in work. */
    seam_device_work tensor_work;
    uint32_t chunks_queued, chunks_taken, row_queued; /* encode: of its copies */
};

/* ---- the space ---- */

static size_t range_bytes_max(uint32_t channels) {
    return 4 + 4 * (size_t)channels;
}

static size_t begin_bytes(uint32_t channels) {
    return ((size_t)channels + 1) * sizeof(uint32_t);
}

/* The device writes codes in words. */
static size_t words_bytes(size_t bytes) {
    return (bytes + 3) / 4 * 4;
}

static seam_status device_memory_take(seam_coder_space *s, size_t codes_bytes) {
    const seam_ops *ops = s->ops;
    SEAM_TRY(ops->mem_alloc((void **)&s->codes, s->backend, words_bytes(codes_bytes)));
    SEAM_TRY(ops->mem_alloc(&s->work, s->backend, ops->codec->work_bytes(s->channels)));
    return ops->mem_alloc(&s->plane_begin, s->backend, begin_bytes(s->channels));
}

static seam_status host_memory_take(seam_coder_space *s) {
    const size_t pieces_bytes = (size_t)PIECES * SEAM_PAYLOAD_BYTES_MAX; /* whole words */
    const size_t begin = begin_bytes(s->channels), head = 4 + range_bytes_max(s->channels);
    SEAM_TRY(s->ops->host_alloc((void **)&s->pieces, s->backend, pieces_bytes + begin + head));
    s->begin = (uint32_t *)(s->pieces + pieces_bytes);
    s->head = s->pieces + pieces_bytes + begin;
    return SEAM_OK;
}

static seam_status events_create(seam_coder_space *s) {
    const seam_device_codec *codec = s->ops->codec;
    for (uint32_t i = 0; i < PIECES; i++) {
        SEAM_TRY(codec->event_create(&s->piece_done[i], s->backend));
    }
    SEAM_TRY(codec->event_create(&s->begin_done, s->backend));
    SEAM_TRY(codec->event_create(&s->head_done, s->backend));
    SEAM_TRY(codec->event_create(&s->rows_done, s->backend));
    return codec->event_create(&s->copies_done, s->backend);
}

seam_status seam_coder_space_create(seam_coder_space **ret_space, const seam_ops *ops,
                                    seam_backend *backend, uint32_t channels, size_t codes_bytes) {
    SEAM_ASSERT(ops->codec != NULL);
    seam_coder_space *s = seam_mem_zalloc(1, sizeof *s);
    seam_status st = SEAM_OK;
    if (s == NULL) {
        return SEAM_E_MEMORY;
    }
    s->ops = ops;
    s->backend = backend;
    s->channels = channels;
    s->codes_bytes = codes_bytes;
    SEAM_TRY_GOTO(device_memory_take(s, codes_bytes), st, fail);
    SEAM_TRY_GOTO(host_memory_take(s), st, fail);
    SEAM_TRY_GOTO(ops->stream_create(&s->copies, backend), st, fail);
    SEAM_TRY_GOTO(events_create(s), st, fail);
    *ret_space = s;
    return SEAM_OK;
fail:
    seam_coder_space_destroy(s);
    return st;
}

void seam_coder_space_destroy(seam_coder_space *gift_space) {
    seam_coder_space *s = gift_space;
    if (s == NULL) {
        return;
    }
    const seam_device_codec *codec = s->ops->codec;
    codec->event_destroy(s->copies_done);
    codec->event_destroy(s->rows_done);
    codec->event_destroy(s->head_done);
    codec->event_destroy(s->begin_done);
    for (uint32_t i = 0; i < PIECES; i++) {
        codec->event_destroy(s->piece_done[i]);
    }
    if (s->copies != NULL) {
        (void)s->ops->stream_sync(s->copies); /* a copy that nobody waited for */
        s->ops->stream_destroy(s->copies);
    }
    s->ops->host_free(s->backend, s->pieces);
    s->ops->mem_free(s->backend, s->plane_begin);
    s->ops->mem_free(s->backend, s->work);
    s->ops->mem_free(s->backend, s->codes);
    seam_mem_free(s);
}

void seam_coder_space_bytes(size_t *ret_device_bytes, size_t *ret_host_bytes, const seam_ops *ops,
                            uint32_t channels, size_t codes_bytes) {
    *ret_device_bytes =
        words_bytes(codes_bytes) + ops->codec->work_bytes(channels) + begin_bytes(channels);
    *ret_host_bytes = sizeof(seam_coder_space) + (size_t)PIECES * SEAM_PAYLOAD_BYTES_MAX +
                      begin_bytes(channels) + 4 + range_bytes_max(channels);
}

/* ---- a tensor ---- */

bool seam_codec_has_device(seam_codec_id id) {
    return seam_coder_ops_find(id) == &seam_coder_plain_ops;
}

static size_t head_bytes(const seam_coder *coder, const seam_coder_chunk *chunk) {
    return seam_coder_plain_ops.head_bytes(coder, chunk);
}

static size_t code_bytes(const seam_coder *coder, uint32_t rows) {
    return seam_codec_code_bytes(coder->tensor.codec, coder->widths, rows, coder->config.channels);
}

static seam_dtype code_type(const seam_coder *coder) {
    return coder->tensor.codec == SEAM_CODEC_F32 ? SEAM_F32 : SEAM_BF16;
}

/* Rows [begin, begin + count) of the tensor in work. */
static seam_device_rows rows_at(const seam_coder *coder, uint32_t begin, uint32_t count) {
    const seam_coder_place *place = coder->tensor.place;
    const uint32_t C = coder->config.channels;
    return (seam_device_rows){
        .x = place->list != NULL ? place->x : place->x + (size_t)begin * C,
        .type = SEAM_F32,
        .list = place->list != NULL ? place->list + begin : NULL,
        .rows = count,
        .C = C,
    };
}

/* The widths in force to the device, in the order of `stream`. */
static seam_status widths_put(seam_coder *coder, seam_stream *stream) {
    seam_coder_space *s = coder->config.space;
    const uint32_t C = coder->config.channels;
    SEAM_ASSERT(C == s->channels);
    SEAM_ASSERT(code_bytes(coder, coder->tensor.rows) <= s->codes_bytes);
    s->tensor_work = (seam_device_work){.bytes = s->work, .plane_begin = s->plane_begin};
    if (coder->widths == NULL) {
        return SEAM_OK;
    }
    SEAM_TRY(s->ops->codec->event_wait(s->begin_done));
    uint32_t planes = 0;
    uint8_t width_max = 0;
    for (uint32_t c = 0; c < C; c++) {
        const uint8_t width = coder->widths[c];
        SEAM_ASSERT(width >= 1 && width <= SEAM_BITS_MAX);
        s->begin[c] = planes;
        planes += width;
        width_max = width > width_max ? width : width_max;
    }
    s->begin[C] = planes;
    s->tensor_work.planes = planes;
    s->tensor_work.width_max = width_max;
    SEAM_TRY(s->ops->copy_in(stream, s->plane_begin, s->begin, begin_bytes(C)));
    return s->ops->codec->event_record(s->begin_done, stream);
}

/* What is queued on `to` from now on comes after what is queued on `from`. */
static seam_status order_put(const seam_coder_space *s, seam_stream *to, seam_stream *from,
                             seam_event *event) {
    SEAM_TRY(s->ops->codec->event_record(event, from));
    return s->ops->codec->event_follow(to, event);
}

static uint8_t *piece_at(const seam_coder_space *s, uint32_t chunk) {
    return s->pieces + (size_t)(chunk % PIECES) * SEAM_PAYLOAD_BYTES_MAX;
}

/* ---- encode ---- */

/* The copy of the next chunk's codes, if there is one. */
static seam_status copy_queue(seam_coder *coder) {
    seam_coder_space *s = coder->config.space;
    const uint32_t row = s->row_queued, left = coder->tensor.rows - row;
    const uint32_t rows_max = row == 0 ? coder->rows_first : coder->rows_other;
    const uint32_t count = left < rows_max ? left : rows_max;
    if (count == 0) {
        return SEAM_OK;
    }
    SEAM_TRY(s->ops->codec->copy_out_begin(s->copies, piece_at(s, s->chunks_queued),
                                           s->codes + code_bytes(coder, row),
                                           code_bytes(coder, count)));
    SEAM_TRY(s->ops->codec->event_record(s->piece_done[s->chunks_queued % PIECES], s->copies));
    s->row_queued += count;
    s->chunks_queued++;
    return SEAM_OK;
}

static seam_status codes_queue(seam_coder *coder) {
    seam_coder_space *s = coder->config.space;
    const seam_coder_place *place = coder->tensor.place;
    const seam_device_rows rows = rows_at(coder, 0, coder->tensor.rows);
    const seam_rounding rounding = coder->encode.rounding;
    if (!seam_codec_has_ranges(coder->tensor.codec)) {
        SEAM_ASSERT(place->decoded == NULL);
        return s->ops->codec->raw_encode(place->stream, &s->tensor_work, &rows, s->codes,
                                         code_type(coder));
    }
    seam_device_rows ranged = rows;
    if (place->range_list != NULL) {
        ranged.x = place->x;
        ranged.list = place->range_list;
        ranged.rows = place->range_count;
    }
    /* Rows' ids are their places in x: an index in the micro-batch, as WIRE.md 3.2 has it. */
    SEAM_ASSERT(rounding.row_ids == NULL && rounding.row_id_begin == 0);
    const seam_device_encode_args args = {.work = s->tensor_work,
                                          .rows = rows,
                                          .ranged = ranged,
                                          .codes = s->codes,
                                          .decoded = place->decoded,
                                          .stochastic = rounding.stochastic,
                                          .seed = rounding.seed,
                                          .step = rounding.step,
                                          .site = rounding.site,
                                          .micro = rounding.micro,
                                          .row_ids = place->list};
    return s->ops->codec->encode(place->stream, &args);
}

static seam_status device_encode_begin(seam_coder *coder) {
    seam_coder_space *s = coder->config.space;
    const seam_device_codec *codec = s->ops->codec;
    seam_stream *stream = coder->tensor.place->stream;
    const size_t range_bytes = seam_codec_range_bytes(coder->tensor.codec, coder->config.channels);
    const uint8_t *head = (uint8_t *)s->work + codec->head_offset(coder->config.channels);
    SEAM_TRY(order_put(s, stream, s->copies, s->copies_done)); /* codes of a tensor before */
    SEAM_TRY(widths_put(coder, stream));
    SEAM_TRY(codes_queue(coder));
    SEAM_TRY(order_put(s, s->copies, stream, s->rows_done));
    SEAM_TRY(codec->copy_out_begin(s->copies, s->head, head, 4 + range_bytes));
    SEAM_TRY(codec->event_record(s->head_done, s->copies));
    s->chunks_queued = s->chunks_taken = s->row_queued = 0;
    for (uint32_t i = 0; i < PIECES; i++) {
        SEAM_TRY(copy_queue(coder));
    }
    SEAM_TRY(codec->event_wait(s->head_done));
    uint32_t status = 0;
    memcpy(&status, s->head, sizeof status);
    memcpy(coder->head, s->head + 4, range_bytes);
    return status == 0 ? SEAM_OK : SEAM_E_NONFINITE;
}

static seam_status device_encode_chunk(seam_coder_chunk *chunk, uint8_t *ret_payload,
                                       float *ret_decoded, seam_coder *coder) {
    seam_coder_space *s = coder->config.space;
    SEAM_ASSERT(ret_decoded == NULL);
    SEAM_ASSERT(s->chunks_taken < s->chunks_queued);
    const size_t head = head_bytes(coder, chunk), codes = code_bytes(coder, chunk->row_count);
    memcpy(ret_payload, coder->head, head);
    SEAM_TRY(s->ops->codec->event_wait(s->piece_done[s->chunks_taken % PIECES]));
    memcpy(ret_payload + head, piece_at(s, s->chunks_taken), codes);
    chunk->payload_bytes = (uint32_t)(head + codes);
    s->chunks_taken++;
    return copy_queue(coder);
}

/* ---- decode ---- */

/* Are all values finite?  Of f32 and bf16 the two upper bytes say so: exponents of ones are not. */
static bool values_finite(const uint8_t *codes, size_t bytes, size_t value_bytes) {
    uint32_t special = 0;
    for (size_t i = value_bytes - 1; i < bytes; i += value_bytes) {
        special |= (uint32_t)((codes[i] & 0x7fu) == 0x7fu) & (uint32_t)codes[i - 1] >> 7;
    }
    return special == 0;
}

/* The bits that fill the last byte of a tail group are zeros. */
static bool padding_is_zero(const seam_coder *coder, const uint8_t *codes, uint32_t rows) {
    const uint64_t bits = (uint64_t)coder->tensor.alloc->bits_total * rows;
    return bits % 8 == 0 || codes[bits / 8] >> (bits % 8) == 0;
}

/* coder_plain.c's checks, on what the decoder there finds. */
static seam_status payload_check(seam_coder *coder, const seam_coder_chunk *chunk,
                                 const uint8_t *codes, seam_error *err) {
    const seam_codec_args args = {coder->tensor.codec, coder->config.channels, coder->widths,
                                  coder->head};
    if (!seam_codec_has_ranges(args.id)) {
        const size_t value_bytes = args.id == SEAM_CODEC_F32 ? 4 : 2;
        return values_finite(codes, code_bytes(coder, chunk->row_count), value_bytes)
                   ? SEAM_OK
                   : seam_error_set(err, SEAM_E_NONFINITE, "payload.values: %s",
                                    seam_status_text(SEAM_E_NONFINITE));
    }
    const seam_status st = seam_codec_steps(coder->scratch, &args);
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "payload.ranges: %s", seam_status_text(st));
    }
    return padding_is_zero(coder, codes, chunk->row_count)
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_FORMAT, "payload.codes: %s",
                                seam_status_text(SEAM_E_FORMAT));
}

/* The first chunk: widths, and the copies behind what the rows' stream still does with codes. */
static seam_status tensor_open(seam_coder *coder) {
    seam_coder_space *s = coder->config.space;
    s->chunks_queued = 0;
    SEAM_TRY(order_put(s, s->copies, coder->tensor.place->stream, s->rows_done));
    return widths_put(coder, s->copies);
}

/* The payload, in its piece, to the device. */
static seam_status payload_copy(seam_coder *coder, const uint8_t *piece, size_t head, size_t codes,
                                uint32_t row) {
    seam_coder_space *s = coder->config.space;
    const seam_device_codec *codec = s->ops->codec;
    uint8_t *ranges = (uint8_t *)s->work + codec->head_offset(coder->config.channels) + 4;
    if (head > 0) {
        SEAM_TRY(s->ops->copy_in(s->copies, ranges, piece, head));
    }
    return s->ops->copy_in(s->copies, s->codes + code_bytes(coder, row), piece + head, codes);
}

static seam_status rows_queue(seam_coder *coder, const seam_coder_chunk *chunk) {
    seam_coder_space *s = coder->config.space;
    seam_stream *stream = coder->tensor.place->stream;
    if (!seam_codec_has_ranges(coder->tensor.codec)) {
        const seam_device_rows rows = rows_at(coder, chunk->row_begin, chunk->row_count);
        return s->ops->codec->raw_decode(
            stream, &rows, s->codes + code_bytes(coder, chunk->row_begin), code_type(coder));
    }
    const seam_device_decode_args args = {.work = s->tensor_work,
                                          .rows = rows_at(coder, 0, coder->tensor.rows),
                                          .codes = s->codes,
                                          .row_begin = chunk->row_begin,
                                          .row_count = chunk->row_count};
    return s->ops->codec->decode(stream, &args);
}

static seam_status device_decode_chunk(float *ret_x, seam_coder *coder,
                                       const seam_coder_chunk *chunk, const uint8_t *payload,
                                       seam_error *err) {
    seam_coder_space *s = coder->config.space;
    const size_t head = head_bytes(coder, chunk), codes = code_bytes(coder, chunk->row_count);
    SEAM_ASSERT(ret_x == NULL);
    if (chunk->payload_bytes != head + codes) {
        return seam_error_set(err, SEAM_E_FORMAT, "payload.bytes: %u, %zu follow from the rows",
                              chunk->payload_bytes, head + codes);
    }
    memcpy(coder->head, payload, head);
    SEAM_TRY(payload_check(coder, chunk, payload + head, err));
    if (chunk->row_begin == 0) {
        SEAM_TRY(tensor_open(coder));
    }
    seam_event *const done = s->piece_done[s->chunks_queued % PIECES];
    uint8_t *const piece = piece_at(s, s->chunks_queued);
    s->chunks_queued++;
    SEAM_TRY(s->ops->codec->event_wait(done));
    memcpy(piece, payload, head + codes);
    SEAM_TRY(payload_copy(coder, piece, head, codes, chunk->row_begin));
    SEAM_TRY(order_put(s, coder->tensor.place->stream, s->copies, done));
    return rows_queue(coder, chunk);
}

/* ---- the rest is coder_plain.c's ---- */

static seam_coder_cost device_cost(const seam_coder_config *config, seam_codec_id codec,
                                   uint64_t bits_total) {
    return seam_coder_plain_ops.cost(config, codec, bits_total);
}

static seam_status device_steps(float *ret_steps, const seam_coder *coder) {
    return seam_coder_plain_ops.steps(ret_steps, coder);
}

static size_t device_scratch_bytes(const seam_coder_config *config) {
    return seam_coder_plain_ops.scratch_bytes(config);
}

const seam_coder_ops seam_coder_device_ops = {
    .cost = device_cost,
    .encode_begin = device_encode_begin,
    .head_bytes = head_bytes,
    .encode_chunk = device_encode_chunk,
    .decode_chunk = device_decode_chunk,
    .steps = device_steps,
    .scratch_bytes = device_scratch_bytes,
};
