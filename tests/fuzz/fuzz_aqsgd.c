/* A decoder of codec aqsgd over a sequence of tensors: honest ones, damaged ones, and hostile
 * bytes. Nothing crashes; what decodes is within fp16; an honest tensor decodes to what its encoder
 * announced as long as every tensor since the encoder's start was honest.
 *
 * Input: channels u8, bits u8, cache bits u8, cache bytes u16, then operations: opcode u8 and its
 * arguments. */
#include <math.h>

#include "aqsgd.h"
#include "arena.h"
#include "fuzz.h"

enum { C_MAX = 5, ROWS = 24, S = 6, PAYLOAD_MAX = 512, STORAGE_MAX = 600, OPERATIONS_MAX = 64 };

typedef struct world {
    seam_aqsgd *encoder, *decoder;
    uint8_t storage[2][STORAGE_MAX];
    seam_aqsgd_config config;
    bool together;
    uint64_t ids[S];
    uint32_t rows[S];
    seam_sequences sequences;
    uint32_t total;
} world;

static seam_aqsgd *aqsgd_make(world *w, int end) {
    seam_aqsgd *a = NULL;
    w->config.storage = w->storage[end];
    FUZZ_CHECK(seam_aqsgd_create(&a, &w->config) == SEAM_OK);
    return a;
}

static void sequences_draw(world *w, fuzz_input *input) {
    w->sequences = (seam_sequences){w->ids, w->rows, 1 + fuzz_u8(input) % S};
    w->total = 0;
    for (uint32_t s = 0; s < w->sequences.count; s++) {
        const uint8_t byte = fuzz_u8(input);
        w->ids[s] = byte % 8;
        w->rows[s] = byte / 8 % 4;
        w->total += w->rows[s];
    }
    if (w->total == 0) {
        w->rows[0] = w->total = 1;
    }
}

static void values_check(const world *w, const float *x) {
    for (uint32_t i = 0; i < w->total * w->config.channels; i++) {
        FUZZ_CHECK(fabsf(x[i]) <= 65504.0f);
    }
}

/* One tensor in one chunk; flips: bits of the payload that turn over. */
static void honest(world *w, fuzz_input *input, uint32_t flips, bool commit) {
    float x[ROWS * C_MAX] = {0}, announced[ROWS * C_MAX], got[ROWS * C_MAX];
    uint8_t payload[PAYLOAD_MAX], mask[(ROWS + 7) / 8];
    const size_t values = (size_t)w->total * w->config.channels;
    size_t bytes = 0;
    fuzz_take(mask, sizeof mask, input);
    fuzz_take(x, values * sizeof *x, input);
    if (seam_aqsgd_encode_begin(w->encoder, &w->sequences, x, w->total, mask) != SEAM_OK) {
        return;
    }
    seam_aqsgd_encode(&bytes, announced, w->encoder, payload, x, w->total);
    values_check(w, announced);
    for (uint32_t i = 0; i < flips; i++) {
        const uint32_t bit = fuzz_u32(input) % (uint32_t)(8 * bytes);
        payload[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    seam_aqsgd_decode_begin(w->decoder, &w->sequences, w->total, mask);
    const seam_status st = seam_aqsgd_decode(got, w->decoder, payload, bytes, w->total, NULL);
    if (flips == 0 && w->together) {
        FUZZ_CHECK(st == SEAM_OK);
        FUZZ_CHECK(memcmp(got, announced, values * sizeof *got) == 0);
    }
    if (st == SEAM_OK && flips == 0 && commit) {
        seam_aqsgd_commit(w->encoder);
        seam_aqsgd_commit(w->decoder);
    }
}

static void hostile(world *w, fuzz_input *input) {
    float got[ROWS * C_MAX];
    uint8_t payload[PAYLOAD_MAX];
    const uint8_t flags = fuzz_u8(input);
    const size_t bytes = fuzz_u8(input);
    fuzz_take(payload, sizeof payload, input);
    if ((flags & 1) != 0) { /* past the first check */
        payload[0] = (uint8_t)w->sequences.count;
        payload[1] = payload[2] = payload[3] = 0;
    }
    if ((flags & 4) != 0) { /* as a record of a log */
        payload[0] = (uint8_t)(1 + (flags >> 3 & 1));
        (void)seam_aqsgd_replay(w->decoder, payload, bytes, NULL);
        w->together = false;
        return;
    }
    seam_aqsgd_decode_begin(w->decoder, &w->sequences, w->total, NULL);
    if (seam_aqsgd_decode(got, w->decoder, payload, bytes, w->total, NULL) != SEAM_OK) {
        return;
    }
    values_check(w, got);
    if ((flags & 2) != 0) {
        seam_aqsgd_commit(w->decoder);
        w->together = false; /* the tags or the cap may tell them apart from now on */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t count) {
    fuzz_input input = {data, count};
    static world w;
    memset(&w, 0, sizeof w);
    w.together = true;
    w.config = (seam_aqsgd_config){.rows_max = ROWS, .sequences_max = S};
    w.config.channels = 1 + fuzz_u8(&input) % C_MAX;
    w.config.bits = 1 + fuzz_u8(&input) % 16;
    w.config.cache_bits = fuzz_u8(&input) % 17;
    w.config.storage_bytes = (fuzz_u8(&input) | (size_t)fuzz_u8(&input) << 8) % STORAGE_MAX;
    w.encoder = aqsgd_make(&w, 0);
    w.decoder = aqsgd_make(&w, 1);
    for (uint32_t i = 0; i < OPERATIONS_MAX && input.left > 0; i++) {
        const uint8_t opcode = fuzz_u8(&input);
        sequences_draw(&w, &input);
        switch (opcode % 4) {
        case 0:
            honest(&w, &input, 0, (opcode & 8) == 0);
            break;
        case 1:
            honest(&w, &input, 1 + opcode / 64, false);
            break;
        case 2:
            hostile(&w, &input);
            break;
        default: /* the encoder restarts: its cache is a part of the decoder's from now on */
            seam_aqsgd_destroy(w.encoder);
            w.encoder = aqsgd_make(&w, 0);
            w.together = true;
            break;
        }
    }
    seam_aqsgd_destroy(w.encoder);
    seam_aqsgd_destroy(w.decoder);
    return 0;
}
