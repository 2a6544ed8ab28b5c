/* Decode hostile streams: refused, or both variants of the loops give the same codes, whose tail
 * is clean.  Then encode the input as codes: what comes out must decode to it, on both variants.
 *
 * Input: rows u8, channels u8, flags u8, widths (a nibble each), then the stream or the codes. */
#include "arena.h"
#include "fuzz.h"
#include "rans_impl.h"

enum { ROWS_MAX = 255, C_MAX = 41, CODES_MAX = ROWS_MAX * C_MAX * 2 };

static uint8_t codes[CODES_MAX], again[CODES_MAX], stream[CODES_MAX + 1], other[CODES_MAX + 1];

static void decode_hostile(const seam_rans_args *args, const fuzz_input *input, void *scratch) {
    const size_t codes_bytes = seam_rans_bytes_max(args) - 1;
    /* A copy of the exact length, so that the sanitizer sees what lies behind. */
    uint8_t *exact = malloc(input->left + 1);
    FUZZ_CHECK(exact != NULL);
    uint8_t *at = exact + 1; /* odd, as a payload may be */
    if (input->left > 0) {
        memcpy(at, input->at, input->left);
    }
    const seam_status st = seam_rans_decode(codes, args, at, input->left, scratch);
    FUZZ_CHECK(st == SEAM_OK || st == SEAM_E_FORMAT);
    FUZZ_CHECK(seam_rans_decode_by(again, seam_rans_tile_variant(0), args, at, input->left,
                                   scratch) == st);
    FUZZ_CHECK(st != SEAM_OK || memcmp(codes, again, codes_bytes) == 0);
    free(exact);
}

static void encode_any(const seam_rans_args *args, fuzz_input *input, void *scratch) {
    const size_t codes_bytes = seam_rans_bytes_max(args) - 1;
    size_t bits = 0;
    size_t bytes = 0;
    size_t other_bytes = 0;
    fuzz_take(codes, codes_bytes, input);
    for (uint32_t c = 0; c < args->channels; c++) {
        bits += (size_t)args->widths[c] * args->rows;
    }
    if (bits % 8 != 0) {
        codes[codes_bytes - 1] &= (uint8_t)((1u << bits % 8) - 1);
    }
    seam_rans_encode(stream, &bytes, args, codes, scratch);
    FUZZ_CHECK(bytes <= codes_bytes + 1);
    seam_rans_encode_by(other, &other_bytes, seam_rans_tile_variant(0), args, codes, scratch);
    FUZZ_CHECK(bytes == other_bytes);
    FUZZ_CHECK(memcmp(stream, other, bytes) == 0);
    FUZZ_CHECK(seam_rans_decode(again, args, stream, bytes, scratch) == SEAM_OK);
    FUZZ_CHECK(memcmp(again, codes, codes_bytes) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t count) {
    fuzz_input input = {data, count};
    uint8_t widths[C_MAX + 1];
    const uint32_t rows = 1 + fuzz_u8(&input) % ROWS_MAX;
    const uint32_t channels = 1 + fuzz_u8(&input) % C_MAX;
    const uint8_t flags = fuzz_u8(&input);
    for (uint32_t c = 0; c < channels; c += 2) {
        const uint8_t pair = fuzz_u8(&input);
        widths[c] = (uint8_t)(1 + (pair & 15));
        widths[c + 1] = (uint8_t)(1 + (pair >> 4));
    }
    const seam_rans_args args = {widths, rows, channels};
    static void *scratch; /* kept: 180 KB fresh for each input cost more than the decoding */
    if (scratch == NULL) {
        scratch = seam_mem_alloc_aligned(seam_rans_scratch_bytes(C_MAX));
        FUZZ_CHECK(scratch != NULL);
    }
    if ((flags & 1) != 0) {
        encode_any(&args, &input, scratch);
    } else {
        decode_hostile(&args, &input, scratch);
    }
    return 0;
}
