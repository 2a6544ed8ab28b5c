/* Decode hostile payloads; what decodes must be finite where the format promises it and encode
 * back. Then encode the input as floats: either refused, or it decodes to exactly what encode
 * announced.  Codecs of coder.h alone go through a coder, as one chunk or two.
 *
 * Input: codec u8, rows u8, channels u8, flags u8, widths (a nibble each), then payload bytes;
 * with a coder the first width is everybody's (affine, amaq: own ones), and group u8, split u8
 * stand before the payload.  Flag 4: a coder with the entropy coder, its chunk as long as the
 * input. */
#include <math.h>

#include "arena.h"
#include "coder.h"
#include "fuzz.h"
#include "rans.h"
#include "try.h"

enum { ROWS_MAX = 70, C_MAX = 67, VALUES_MAX = ROWS_MAX * C_MAX };

static float x[VALUES_MAX], decoded[VALUES_MAX], again[VALUES_MAX], steps[C_MAX];
static uint8_t ranges[4 + 4 * C_MAX], codes[4 * VALUES_MAX + 64], recoded[4 * VALUES_MAX + 64];

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

/* ---- codecs of coder.h alone ---- */

typedef struct coder_case {
    seam_coder *coder;
    seam_coder_tensor tensor;
    seam_codec_plan plan;
    seam_alloc alloc;
    uint32_t split; /* rows of the first chunk */
} coder_case;

static void coder_open(coder_case *k, seam_codec_args *args, uint8_t *widths, uint32_t rows,
                       uint32_t entropy, fuzz_input *input) {
    if (args->id >= SEAM_CODEC_TENSOR) {
        memset(widths, widths[0], args->channels);
    }
    *k = (coder_case){.plan = {.group = fuzz_u8(input) % C_MAX, .entropy = entropy},
                      .alloc = {.widths = widths}};
    for (uint32_t c = 0; c < args->channels; c++) {
        k->alloc.bits_total += widths[c];
    }
    k->plan.group = seam_codec_group(k->plan.group, args->channels) != 0 ? k->plan.group : 0;
    k->split = (fuzz_u8(input) & 1) != 0 && rows > SEAM_GROUP_ROWS ? SEAM_GROUP_ROWS : rows;
    k->tensor = (seam_coder_tensor){.codec = args->id, .alloc = &k->alloc, .rows = rows};
    const seam_coder_config config = {.codec = args->id,
                                      .channels = args->channels,
                                      .rows_max = ROWS_MAX,
                                      .bits_max = SEAM_BITS_MAX,
                                      .plan = &k->plan};
    FUZZ_CHECK(seam_coder_create(&k->coder, &config) == SEAM_OK);
}

/* Encode x, which is finite; whole payloads are decoded to what encode announced. */
static seam_status coder_encode(coder_case *k, const seam_rounding *rounding, const uint8_t *mask) {
    seam_coder_chunk chunk;
    seam_coder_encode_args args = {.tensor = k->tensor, .x = x, .rounding = *rounding};
    args.tensor.range_rows = mask;
    SEAM_TRY(seam_coder_encode_begin(k->coder, &args));
    SEAM_TRY(seam_coder_encode_chunk(&chunk, recoded, sizeof recoded, decoded, k->coder));
    FUZZ_CHECK(seam_coder_is_done(k->coder));
    seam_coder_decode_begin(k->coder, &k->tensor);
    return seam_coder_decode_chunk(again, k->coder, &chunk, recoded, NULL);
}

static void coder_hostile(coder_case *k, const seam_codec_args *args, bool wrong_count,
                          fuzz_input *input) {
    const seam_rounding nearest = {.stochastic = false};
    const size_t values = (size_t)k->tensor.rows * args->channels;
    seam_coder_decode_begin(k->coder, &k->tensor);
    for (uint32_t row = 0; row < k->tensor.rows;) {
        const uint32_t left = k->tensor.rows - row;
        seam_coder_chunk chunk = {.row_begin = row, .row_count = left < k->split ? left : k->split};
        /* The bytes that there are, or what the codec would send of as many rows. */
        seam_coder_chunk own;
        const seam_coder_encode_args size = {
            .tensor = {.codec = args->id, .alloc = &k->alloc, .rows = chunk.row_count}, .x = x};
        memset(x, 0, values * sizeof *x);
        const seam_coder_config config = {.codec = args->id,
                                          .channels = args->channels,
                                          .rows_max = ROWS_MAX,
                                          .bits_max = SEAM_BITS_MAX,
                                          .plan = &k->plan};
        seam_coder *sizer = NULL;
        FUZZ_CHECK(seam_coder_create(&sizer, &config) == SEAM_OK);
        FUZZ_CHECK(seam_coder_encode_begin(sizer, &size) == SEAM_OK);
        FUZZ_CHECK(seam_coder_encode_chunk(&own, recoded, sizeof recoded, NULL, sizer) == SEAM_OK);
        seam_coder_destroy(sizer);
        const bool headless = row > 0 && args->id != SEAM_CODEC_GROUP;
        const size_t head = args->id == SEAM_CODEC_TENSOR ? 6 : 4 + 2 * (size_t)args->channels;
        chunk.payload_bytes = own.payload_bytes - (headless ? (uint32_t)head : 0);
        chunk.payload_bytes += wrong_count ? 1 : 0;
        fuzz_take(codes, chunk.payload_bytes, input);
        const seam_status st = seam_coder_decode_chunk(again, k->coder, &chunk, codes, NULL);
        FUZZ_CHECK(!wrong_count || st != SEAM_OK);
        if (st != SEAM_OK) {
            return;
        }
        row += chunk.row_count;
    }
    bool small = true;
    for (size_t i = 0; i < values; i++) {
        FUZZ_CHECK(isfinite(again[i]));
        small = small && fabsf(again[i]) < 0x1p124f;
        x[i] = again[i];
    }
    FUZZ_CHECK((coder_encode(k, &nearest, NULL) == SEAM_OK) == small);
    FUZZ_CHECK(!small || memcmp(again, decoded, values * sizeof *again) == 0);
}

static void coder_any(coder_case *k, const seam_codec_args *args, bool stochastic,
                      fuzz_input *input) {
    const size_t values = (size_t)k->tensor.rows * args->channels;
    uint8_t mask[(ROWS_MAX + 7) / 8];
    const seam_rounding rounding = {.stochastic = stochastic,
                                    .seed = fuzz_u32(input),
                                    .step = fuzz_u32(input),
                                    .row_id_begin = fuzz_u8(input)};
    fuzz_take(mask, sizeof mask, input);
    fuzz_take(x, values * sizeof *x, input);
    const seam_status st = coder_encode(k, &rounding, mask);
    FUZZ_CHECK(st == SEAM_OK || st == SEAM_E_NONFINITE);
    for (size_t i = 0; st == SEAM_OK && i < values; i++) {
        FUZZ_CHECK(isfinite(decoded[i]) && again[i] == decoded[i]);
    }
}

/* ---- coding 1 ---- */

static size_t head_bytes(const coder_case *k, const seam_codec_args *args) {
    const size_t C = args->channels;
    switch (args->id) {
    case SEAM_CODEC_TENSOR:
        return 6;
    case SEAM_CODEC_CHANNEL:
        return 4 + 2 * C;
    case SEAM_CODEC_GROUP:
        return 4 + 2 * k->tensor.rows * (C / seam_codec_group(k->plan.group, args->channels));
    default:
        return 4 + 4 * C;
    }
}

/* What decodes is what its planes, as rans.h gives them, decode to. */
static void coded_hostile(coder_case *k, const seam_codec_args *args, fuzz_input *input) {
    const uint32_t rows = k->tensor.rows;
    const size_t bytes = input->left < sizeof codes ? input->left : sizeof codes;
    const size_t head = head_bytes(k, args);
    const seam_coder_chunk chunk = {
        .row_count = rows, .payload_bytes = (uint32_t)bytes, .coding = 1};
    uint8_t *const payload = malloc(bytes + (bytes == 0)); /* exact, for the sanitizer */
    FUZZ_CHECK(payload != NULL);
    fuzz_take(payload, bytes, input);
    seam_coder_decode_begin(k->coder, &k->tensor);
    if (seam_coder_decode_chunk(again, k->coder, &chunk, payload, NULL) == SEAM_OK) {
        const seam_rans_args rans = {args->widths, rows, args->channels};
        const size_t planes = seam_rans_bytes_max(&rans) - 1;
        void *const scratch = seam_mem_alloc_aligned(seam_rans_scratch_bytes(args->channels));
        FUZZ_CHECK(scratch != NULL && bytes > head && bytes < head + planes);
        memcpy(recoded, payload, head);
        FUZZ_CHECK(seam_rans_decode(recoded + head, &rans, payload + head, bytes - head, scratch) ==
                   SEAM_OK);
        seam_mem_free(scratch);
        const seam_coder_chunk plain = {.row_count = rows,
                                        .payload_bytes = (uint32_t)(head + planes)};
        seam_coder_decode_begin(k->coder, &k->tensor);
        FUZZ_CHECK(seam_coder_decode_chunk(decoded, k->coder, &plain, recoded, NULL) == SEAM_OK);
        FUZZ_CHECK(memcmp(again, decoded, (size_t)rows * args->channels * sizeof *again) == 0);
    }
    free(payload);
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
    const bool is_coded = (flags & 4) != 0 && seam_codec_has_planes(args.id);
    if (is_coded || (args.id >= SEAM_CODEC_TENSOR && args.id <= SEAM_CODEC_GROUP)) {
        coder_case k;
        coder_open(&k, &args, widths, rows, is_coded ? SEAM_ENTROPY_RANS : SEAM_ENTROPY_NONE,
                   &input);
        if ((flags & 1) != 0) {
            coder_any(&k, &args, (flags & 2) != 0, &input);
        } else if (is_coded) {
            coded_hostile(&k, &args, &input);
        } else {
            coder_hostile(&k, &args, (flags & 2) != 0, &input);
        }
        seam_coder_destroy(k.coder);
        return 0;
    }
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
