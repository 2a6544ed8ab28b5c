/* A dictionary decoder over a sequence of tensors: honest ones, damaged ones, and hostile bytes.
 * Nothing crashes; what decodes is finite; a tensor that fails changes at most what a lower count
 * of table rows drops; an honest tensor after all that decodes to what its encoder announced.
 *
 * Input: channels u8, rows of the table u8, then operations: opcode u8 and its arguments. */
#include <math.h>

#include "bytes.h"
#include "codec.h"
#include "dictionary.h"
#include "fuzz.h"

enum { C_MAX = 5, ROWS = 24, PAYLOAD_MAX = 512, OPERATIONS_MAX = 64 };

typedef struct world {
    seam_dictionary *encoder, *decoder;
    uint32_t channels, rows_max;
    bool together; /* the decoder has every row that the encoder has */
} world;

static seam_dictionary *dictionary_make(const world *w, bool encoder) {
    seam_dictionary *d = NULL;
    const seam_dictionary_config config = {.channels = w->channels,
                                           .rows_max = w->rows_max,
                                           .chunk_rows_max = ROWS,
                                           .encoder = encoder};
    FUZZ_CHECK(seam_dictionary_create(&d, &config) == SEAM_OK);
    return d;
}

/* One chunk of rows from a small set; flips: bits of the payload that turn over. */
static void honest(world *w, fuzz_input *input, uint32_t flips, bool commit) {
    float x[ROWS * C_MAX], announced[ROWS * C_MAX], got[ROWS * C_MAX];
    uint8_t payload[PAYLOAD_MAX];
    const uint32_t rows = 1 + fuzz_u8(input) % ROWS;
    size_t bytes = 0;
    for (uint32_t i = 0; i < rows; i++) {
        const float value = (float)(fuzz_u8(input) % 32);
        for (uint32_t c = 0; c < w->channels; c++) {
            x[i * w->channels + c] = value - (float)c;
        }
    }
    seam_dictionary_begin(w->encoder);
    FUZZ_CHECK(seam_dictionary_encode(&bytes, announced, w->encoder, payload, x, rows) == SEAM_OK);
    FUZZ_CHECK(bytes <= seam_dictionary_chunk_bytes_max(rows, w->channels));
    for (uint32_t i = 0; i < flips; i++) {
        const uint32_t bit = fuzz_u32(input) % (uint32_t)(8 * bytes);
        payload[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    seam_dictionary_begin(w->decoder);
    const seam_status st = seam_dictionary_decode(got, w->decoder, payload, bytes, rows, NULL);
    if (flips == 0 && w->together) {
        FUZZ_CHECK(st == SEAM_OK);
        FUZZ_CHECK(memcmp(got, announced, (size_t)rows * w->channels * sizeof *got) == 0);
    }
    const bool both = st == SEAM_OK && flips == 0 && commit;
    if (both) {
        seam_dictionary_commit(w->encoder);
        seam_dictionary_commit(w->decoder);
    }
    if (flips > 0) { /* the damage may have dropped rows of the decoder */
        w->together = false;
    }
}

static void hostile(world *w, fuzz_input *input) {
    float got[ROWS * C_MAX];
    uint8_t payload[PAYLOAD_MAX];
    const uint32_t rows = 1 + fuzz_u8(input) % ROWS;
    const uint8_t flags = fuzz_u8(input);
    const size_t bytes = fuzz_u8(input);
    fuzz_take(payload, sizeof payload, input);
    const uint32_t before = seam_dictionary_row_count(w->decoder);
    seam_dictionary_begin(w->decoder);
    w->together = false;
    for (uint32_t chunk = 0; chunk < 1u + (flags & 1); chunk++) {
        if (seam_dictionary_decode(got, w->decoder, payload, bytes, rows, NULL) != SEAM_OK) {
            FUZZ_CHECK(seam_dictionary_row_count(w->decoder) <= before);
            return;
        }
    }
    for (uint32_t i = 0; i < rows * w->channels; i++) {
        FUZZ_CHECK(isfinite(got[i]));
    }
    if ((flags & 2) != 0) {
        seam_dictionary_commit(w->decoder);
        FUZZ_CHECK(seam_dictionary_row_count(w->decoder) <= w->rows_max);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t count) {
    fuzz_input input = {data, count};
    world w = {.together = true};
    w.channels = 1 + fuzz_u8(&input) % C_MAX;
    w.rows_max = 1 + fuzz_u8(&input) % 40;
    w.encoder = dictionary_make(&w, true);
    w.decoder = dictionary_make(&w, false);
    for (uint32_t i = 0; i < OPERATIONS_MAX && input.left > 0; i++) {
        const uint8_t opcode = fuzz_u8(&input);
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
        default: /* the encoder restarts: whatever the decoder has, they are together again */
            seam_dictionary_destroy(w.encoder);
            w.encoder = dictionary_make(&w, true);
            w.together = true;
            break;
        }
    }
    seam_dictionary_destroy(w.encoder);
    seam_dictionary_destroy(w.decoder);
    return 0;
}
