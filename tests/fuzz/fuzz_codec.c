/* Decode hostile payloads; what decodes must be finite where the format promises it and encode
 * back. Then encode the input as floats: either refused, or it decodes to exactly what encode
 * announced.
 *
 * Input: codec u8, rows u8, channels u8, flags u8, widths (a nibble each), then payload bytes. */
#include <math.h>

#include "arena.h"
#include "codec.h"
#include "fuzz.h"

enum { ROWS_MAX = 70, C_MAX = 67, VALUES_MAX = ROWS_MAX * C_MAX };

static float x[VALUES_MAX], decoded[VALUES_MAX], again[VALUES_MAX], steps[C_MAX];
static uint8_t ranges[4 + 4 * C_MAX], codes[4 * VALUES_MAX], recoded[4 * VALUES_MAX];

/* Payload as received: range block, then codes of the right or (flag) another count. */
static void decode_hostile(seam_codec_args *args, uint32_t rows, bool wrong_count,
                           fuzz_input *input, void *scratch) {
    const seam_rounding nearest = {.stochastic = false};
    const size_t values = (size_t)rows * args->channels;
    fuzz_take(ranges, sizeof ranges, input);
    size_t codes_bytes = seam_codec_code_bytes(args->id, args->widths, rows, args->channels);
    fuzz_take(codes, codes_bytes, input);
    codes_bytes += wrong_count ? 1 : 0;
    args->ranges = ranges;
    const seam_status st = seam_codec_decode(x, args, codes, codes_bytes, rows, scratch);
    FUZZ_CHECK(!wrong_count || st != SEAM_OK);
    if (st != SEAM_OK) {
        return;
    }
    FUZZ_CHECK(seam_codec_steps(steps, args) == SEAM_OK);
    for (size_t i = 0; i < values; i++) {
        FUZZ_CHECK(isfinite(x[i]));
    }
    FUZZ_CHECK(seam_codec_encode(recoded, decoded, args, x, rows, &nearest, scratch) == SEAM_OK);
    FUZZ_CHECK(seam_codec_decode(again, args, recoded, codes_bytes, rows, scratch) == SEAM_OK);
    FUZZ_CHECK(memcmp(again, decoded, values * sizeof *again) == 0);
}

static void encode_any(seam_codec_args *args, uint32_t rows, bool stochastic, fuzz_input *input,
                       void *scratch) {
    const size_t values = (size_t)rows * args->channels;
    uint8_t mask[(ROWS_MAX + 7) / 8];
    const seam_rounding rounding = {.stochastic = stochastic,
                                    .seed = fuzz_u32(input),
                                    .step = fuzz_u32(input),
                                    .row_id_begin = fuzz_u8(input)};
    fuzz_take(mask, sizeof mask, input);
    fuzz_take(x, values * sizeof *x, input);
    args->ranges = ranges;
    if (seam_codec_measure(ranges, args->id, x, rows, args->channels, mask) != SEAM_OK ||
        seam_codec_encode(codes, decoded, args, x, rows, &rounding, scratch) != SEAM_OK) {
        return;
    }
    const size_t codes_bytes = seam_codec_code_bytes(args->id, args->widths, rows, args->channels);
    FUZZ_CHECK(seam_codec_decode(again, args, codes, codes_bytes, rows, scratch) == SEAM_OK);
    FUZZ_CHECK(memcmp(again, decoded, values * sizeof *again) == 0);
    for (size_t i = 0; i < values; i++) {
        FUZZ_CHECK(isfinite(decoded[i]));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t count) {
    fuzz_input input = {data, count};
    uint8_t widths[C_MAX];
    seam_codec_args args = {.id = (seam_codec_id)(fuzz_u8(&input) % (SEAM_CODEC_LAST + 2))};
    const uint32_t rows = 1 + fuzz_u8(&input) % ROWS_MAX;
    args.channels = 1 + fuzz_u8(&input) % C_MAX;
    const uint8_t flags = fuzz_u8(&input);
    for (uint32_t c = 0; c < args.channels; c += 2) {
        const uint8_t pair = fuzz_u8(&input);
        widths[c] = (uint8_t)(1 + (pair & 15));
        if (c + 1 < args.channels) {
            widths[c + 1] = (uint8_t)(1 + (pair >> 4));
        }
    }
    args.widths = widths;
    void *scratch = seam_mem_alloc_aligned(seam_codec_scratch_bytes(args.channels));
    FUZZ_CHECK(scratch != NULL);
    if ((flags & 1) != 0) {
        encode_any(&args, rows, (flags & 2) != 0, &input, scratch);
    } else {
        decode_hostile(&args, rows, (flags & 2) != 0, &input, scratch);
    }
    seam_mem_free(scratch);
    return 0;
}
