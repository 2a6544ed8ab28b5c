/* Encodes tensors from stdin by a coder, for test_symmetric_live.py and the oracle.
 *
 * In, little-endian: codec, bits, rows, channels, group, stochastic, site, micro (u32 each), seed,
 * step (u64), x (f32).  Out: chunk count; for each chunk rows, payload bytes (u32), payload; then
 * the decoded values (f32), which the coder's own decoder has given back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "coder.h"
#include "try.h"

typedef struct record {
    uint32_t codec, bits, rows, channels, group, stochastic, site, micro;
    uint64_t seed, step;
} record;

_Static_assert(sizeof(record) == 48, "read as it stands: test machines are little-endian");

typedef struct buffers {
    float *x, *decoded, *again;
    uint8_t *widths, *payload;
    seam_coder_chunk *chunks;
    uint8_t **payloads;
    seam_coder *encoder, *decoder;
} buffers;

static seam_status work(uint32_t *ret_count, buffers *b, const record *r) {
    const seam_codec_plan plan = {.group = r->group};
    const seam_coder_config config = {.codec = (seam_codec_id)r->codec,
                                      .channels = r->channels,
                                      .rows_max = r->rows,
                                      .bits_max = r->bits,
                                      .plan = &plan};
    const seam_alloc alloc = {.widths = b->widths, .bits_total = r->bits * r->channels};
    const seam_coder_encode_args args = {
        .tensor = {.codec = config.codec, .alloc = &alloc, .rows = r->rows},
        .x = b->x,
        .rounding = {.stochastic = r->stochastic != 0,
                     .seed = r->seed,
                     .step = r->step,
                     .site = (uint16_t)r->site,
                     .micro = (uint16_t)r->micro}};
    uint32_t count = 0;
    SEAM_TRY(seam_coder_create(&b->encoder, &config));
    SEAM_TRY(seam_coder_create(&b->decoder, &config));
    SEAM_TRY(seam_coder_encode_begin(b->encoder, &args));
    seam_coder_decode_begin(b->decoder, &args.tensor);
    while (!seam_coder_is_done(b->encoder)) {
        seam_coder_chunk *chunk = &b->chunks[count];
        SEAM_TRY(seam_coder_encode_chunk(chunk, b->payload, SEAM_PAYLOAD_BYTES_MAX, b->decoded,
                                         b->encoder));
        SEAM_TRY(seam_coder_decode_chunk(b->again, b->decoder, chunk, b->payload, NULL));
        b->payloads[count] = seam_mem_alloc(chunk->payload_bytes);
        memcpy(b->payloads[count++], b->payload, chunk->payload_bytes);
    }
    *ret_count = count;
    return memcmp(b->again, b->decoded, 4 * (size_t)r->rows * r->channels) == 0
               ? SEAM_OK
               : SEAM_E_NONDETERMINISM;
}

static void answer(const buffers *b, const record *r, uint32_t count) {
    (void)fwrite(&count, 4, 1, stdout);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t head[2] = {b->chunks[i].row_count, b->chunks[i].payload_bytes};
        (void)fwrite(head, 4, 2, stdout);
        (void)fwrite(b->payloads[i], 1, b->chunks[i].payload_bytes, stdout);
        seam_mem_free(b->payloads[i]);
    }
    (void)fwrite(b->decoded, 4, (size_t)r->rows * r->channels, stdout);
}

/* Any failure ends the program: it serves tests alone. */
static bool one(const record *r) {
    const size_t values = (size_t)r->rows * r->channels;
    const uint32_t chunks_max = seam_coder_chunks_max(r->rows);
    buffers b = {.x = seam_mem_zalloc(values, 4),
                 .decoded = seam_mem_zalloc(values, 4),
                 .again = seam_mem_zalloc(values, 4),
                 .widths = seam_mem_zalloc(r->channels, 1),
                 .payload = seam_mem_alloc(SEAM_PAYLOAD_BYTES_MAX),
                 .chunks = seam_mem_zalloc(chunks_max, sizeof *b.chunks),
                 .payloads = seam_mem_zalloc(chunks_max, sizeof *b.payloads)};
    uint32_t count = 0;
    if (fread(b.x, 4, values, stdin) != values) {
        return false;
    }
    memset(b.widths, (int)r->bits, r->channels);
    const seam_status st = work(&count, &b, r);
    if (st == SEAM_OK) {
        answer(&b, r, count);
    } else {
        (void)fprintf(stderr, "coder_cli: %s\n", seam_status_text(st));
    }
    seam_coder_destroy(b.decoder);
    seam_coder_destroy(b.encoder);
    seam_mem_free(b.payloads);
    seam_mem_free(b.chunks);
    seam_mem_free(b.payload);
    seam_mem_free(b.widths);
    seam_mem_free(b.again);
    seam_mem_free(b.decoded);
    seam_mem_free(b.x);
    return st == SEAM_OK;
}

int main(void) {
    record r;
    while (fread(&r, sizeof r, 1, stdin) == 1) {
        if (!one(&r)) {
            return 1;
        }
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
