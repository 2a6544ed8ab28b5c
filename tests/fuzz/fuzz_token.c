/* Decode hostile payloads of codec amaq_token; what decodes must be finite and encode back to what
 * encode announced.  Then encode the input as floats: either refused, or it decodes to exactly
 * that.
 *
 * Input: rows u8, channels u8, flags u8, gate count u8, split u8, a width u8 for each gate, a gate
 * u8 for each row, then the payloads of one chunk or two (flag 2: with a byte too many).  Flag 1:
 * instead seed u32, step u32, first row u8, a bitmap of the rows in range, floats; flag 2 with it:
 * rounded stochastically. */
#include <math.h>

#include "coder.h"
#include "fuzz.h"
#include "try.h"

enum { ROWS_MAX = 70, C_MAX = 67, GATES_MAX = 20, VALUES_MAX = ROWS_MAX * C_MAX };

static float x[VALUES_MAX], decoded[VALUES_MAX], again[VALUES_MAX], steps[ROWS_MAX];
static uint8_t bytes[4 * VALUES_MAX + 64];

typedef struct token_case {
    uint32_t rows, channels, split;
    uint8_t widths[GATES_MAX];
    uint32_t gates[ROWS_MAX];
    seam_alloc alloc;
    seam_coder_tensor tensor;
    seam_coder *coder;
} token_case;

static void case_open(token_case *k, fuzz_input *input) {
    const uint32_t gate_count = 1 + fuzz_u8(input) % GATES_MAX;
    k->split = (fuzz_u8(input) & 1) != 0 && k->rows > SEAM_GROUP_ROWS ? SEAM_GROUP_ROWS : k->rows;
    k->alloc = (seam_alloc){.widths = k->widths};
    for (uint32_t p = 0; p < gate_count; p++) {
        k->widths[p] = (uint8_t)(1 + (fuzz_u8(input) & 15));
        k->alloc.bits_total += k->widths[p];
    }
    for (uint32_t t = 0; t < k->rows; t++) {
        k->gates[t] = fuzz_u8(input) % gate_count;
    }
    k->tensor = (seam_coder_tensor){
        .codec = SEAM_CODEC_AMAQ_TOKEN, .alloc = &k->alloc, .rows = k->rows, .row_gates = k->gates};
    const seam_coder_config config = {.codec = SEAM_CODEC_AMAQ_TOKEN,
                                      .channels = k->channels,
                                      .rows_max = ROWS_MAX,
                                      .state_rows_max = ROWS_MAX,
                                      .bits_max = SEAM_BITS_MAX};
    FUZZ_CHECK(seam_coder_create(&k->coder, &config) == SEAM_OK);
}

/* Encode x; what comes is decoded to what encode announced, with the same steps. */
static seam_status encode(token_case *k, const seam_rounding *rounding, const uint8_t *mask) {
    const size_t values = (size_t)k->rows * k->channels;
    float own[ROWS_MAX];
    seam_coder_chunk chunk;
    seam_coder_encode_args args = {.tensor = k->tensor, .x = x, .rounding = *rounding};
    args.tensor.range_rows = mask;
    SEAM_TRY(seam_coder_encode_begin(k->coder, &args));
    FUZZ_CHECK(seam_coder_encode_chunk(&chunk, bytes, sizeof bytes, decoded, k->coder) == SEAM_OK);
    FUZZ_CHECK(seam_coder_is_done(k->coder));
    FUZZ_CHECK(seam_coder_steps(own, k->coder) == SEAM_OK);
    seam_coder_decode_begin(k->coder, &k->tensor);
    FUZZ_CHECK(seam_coder_decode_chunk(again, k->coder, &chunk, bytes, NULL) == SEAM_OK);
    FUZZ_CHECK(seam_coder_steps(steps, k->coder) == SEAM_OK);
    FUZZ_CHECK(memcmp(again, decoded, values * sizeof *again) == 0);
    FUZZ_CHECK(memcmp(steps, own, k->rows * sizeof *steps) == 0);
    return SEAM_OK;
}

static void decode_hostile(token_case *k, bool wrong_count, fuzz_input *input) {
    const seam_rounding nearest = {.stochastic = false};
    const size_t values = (size_t)k->rows * k->channels;
    seam_coder_decode_begin(k->coder, &k->tensor);
    for (uint32_t row = 0; row < k->rows;) {
        const uint32_t left = k->rows - row;
        seam_coder_chunk chunk = {.row_begin = row, .row_count = left < k->split ? left : k->split};
        uint32_t widths = 0;
        for (uint32_t i = 0; i < chunk.row_count; i++) {
            widths += k->widths[k->gates[row + i]];
        }
        chunk.payload_bytes = 4 + 4 * chunk.row_count + (widths * k->channels + 7) / 8;
        chunk.payload_bytes += wrong_count ? 1 : 0;
        uint8_t *const payload = malloc(chunk.payload_bytes); /* exact, for the sanitizer */
        FUZZ_CHECK(payload != NULL);
        fuzz_take(payload, chunk.payload_bytes, input);
        const seam_status st = seam_coder_decode_chunk(x, k->coder, &chunk, payload, NULL);
        free(payload);
        FUZZ_CHECK(!wrong_count || st == SEAM_E_FORMAT);
        if (st != SEAM_OK) {
            FUZZ_CHECK(st == SEAM_E_FORMAT || st == SEAM_E_NONFINITE);
            return;
        }
        row += chunk.row_count;
    }
    bool small = true;
    for (size_t i = 0; i < values; i++) {
        FUZZ_CHECK(isfinite(x[i]));
        small = small && fabsf(x[i]) < 0x1p125f;
    }
    FUZZ_CHECK((encode(k, &nearest, NULL) == SEAM_OK) == small);
}

static void encode_any(token_case *k, bool stochastic, fuzz_input *input) {
    uint8_t mask[(ROWS_MAX + 7) / 8];
    const seam_rounding rounding = {.stochastic = stochastic,
                                    .seed = fuzz_u32(input),
                                    .step = fuzz_u32(input),
                                    .row_id_begin = fuzz_u8(input)};
    fuzz_take(mask, sizeof mask, input);
    fuzz_take(x, (size_t)k->rows * k->channels * sizeof *x, input);
    const seam_status st = encode(k, &rounding, mask);
    FUZZ_CHECK(st == SEAM_OK || st == SEAM_E_NONFINITE);
    for (size_t i = 0; st == SEAM_OK && i < (size_t)k->rows * k->channels; i++) {
        FUZZ_CHECK(isfinite(decoded[i]));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t count) {
    fuzz_input input = {data, count};
    token_case k = {.rows = 1 + fuzz_u8(&input) % ROWS_MAX,
                    .channels = 1 + fuzz_u8(&input) % C_MAX};
    const uint8_t flags = fuzz_u8(&input);
    case_open(&k, &input);
    if ((flags & 1) != 0) {
        encode_any(&k, (flags & 2) != 0, &input);
    } else {
        decode_hostile(&k, (flags & 2) != 0, &input);
    }
    seam_coder_destroy(k.coder);
    return 0;
}
