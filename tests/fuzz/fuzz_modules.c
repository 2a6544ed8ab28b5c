/* Any bytes as frames of an adapter exchange's tensors, of parameters and of gradients, as both
 * ends take them: header rules, reception, decoding.  A tensor that comes to its end has written
 * every value of its modules, finite; one that does not has left them as they were.
 *
 * Input: a byte for codec and direction, one for bits and the entropy coder, one for the rows; then
 * chunks: rows u8 (groups of 32), payload bytes u16, coding u8, payload. */
#include <math.h>

#include "bytes.h"
#include "frame.h"
#include "fuzz.h"
#include "module_link.h"
#include "tensor_rx.h"

enum { RANK = 4, ROWS_MAX = 300, SITE = SEAM_SITE_LORA_A };

static const seam_codec_id codecs[] = {SEAM_CODEC_F32,     SEAM_CODEC_BF16,  SEAM_CODEC_AFFINE,
                                       SEAM_CODEC_CHANNEL, SEAM_CODEC_GROUP, SEAM_CODEC_TENSOR,
                                       SEAM_CODEC_AMAQ};
static uint8_t frame[SEAM_FRAME_HEADER_BYTES + 65536];
static float values[ROWS_MAX * RANK];

/* The next chunk as a frame whose CRC is right; its byte count. */
static size_t frame_take(fuzz_input *input, const seam_module_tensor *tensor,
                         const seam_alloc *alloc, bool gradient, uint32_t row_begin) {
    const uint32_t rows = 32 * (uint32_t)fuzz_u8(input);
    uint32_t bytes = fuzz_u8(input);
    bytes |= (uint32_t)fuzz_u8(input) << 8;
    const uint32_t left = tensor->rows - row_begin;
    memset(frame, 0, SEAM_FRAME_HEADER_BYTES);
    memcpy(frame, "SEAM", 4);
    frame[4] = 1;
    frame[5] = SEAM_FRAME_TENSOR;
    frame[6] = gradient ? SEAM_PHASE_BACKWARD : SEAM_PHASE_FORWARD;
    frame[7] = (uint8_t)tensor->codec;
    frame[10] = fuzz_u8(input);
    seam_put_u16(frame + 8, tensor->site);
    seam_put_u32(frame + 24, tensor->rows);
    seam_put_u32(frame + 28, tensor->channels);
    seam_put_u32(frame + 32, row_begin);
    seam_put_u32(frame + 36, rows < left ? rows : left);
    seam_put_u32(frame + 40, alloc->version);
    seam_put_u32(frame + 44, alloc->bits_total);
    seam_put_u64(frame + 48, alloc->hash);
    seam_put_u32(frame + 56, bytes);
    fuzz_take(frame + SEAM_FRAME_HEADER_BYTES, bytes, input);
    seam_put_u32(frame + 60, seam_crc32c(0, frame, SEAM_FRAME_HEADER_BYTES + (size_t)bytes));
    return SEAM_FRAME_HEADER_BYTES + (size_t)bytes;
}

/* False: the tensor is not whole. */
static bool tensor_receive(fuzz_input *input, seam_module_link *link,
                           const seam_module_stack *stack, const seam_module_tensor *tensor,
                           bool gradient) {
    const seam_tensor_expect expect = {.kind = SEAM_FRAME_TENSOR,
                                       .phase = gradient ? SEAM_PHASE_BACKWARD : SEAM_PHASE_FORWARD,
                                       .site = tensor->site,
                                       .rows = tensor->rows,
                                       .channels = tensor->channels,
                                       .codec_mask = 1u << tensor->codec,
                                       .coding_max = 1};
    const seam_alloc *const alloc =
        seam_module_link_alloc(link, tensor->pair_idx, gradient, tensor->step);
    seam_tensor_rx rx;
    bool came = false, complete = false;
    seam_tensor_rx_init(&rx, &expect);
    while (!came) {
        const size_t count = frame_take(input, tensor, alloc, gradient, rx.row_next);
        seam_frame_header header;
        const uint8_t *payload = NULL;
        seam_error err = {0};
        if (seam_frame_open(&header, &payload, frame, count, &err) != SEAM_OK) {
            return false;
        }
        FUZZ_CHECK(seam_tensor_rx_add(&came, &rx, &header, 0, &err) == SEAM_OK);
        const seam_coder_chunk chunk = {.row_begin = header.row_begin,
                                        .row_count = header.row_count,
                                        .payload_bytes = header.payload_bytes,
                                        .coding = header.coding};
        const seam_status st = seam_module_link_decode(&complete, link, stack, tensor, gradient,
                                                       &chunk, payload, &err);
        FUZZ_CHECK(st == SEAM_OK || st == SEAM_E_FORMAT || st == SEAM_E_NONFINITE);
        FUZZ_CHECK((st == SEAM_OK) == (err.text[0] == '\0'));
        if (st != SEAM_OK) {
            return false;
        }
        FUZZ_CHECK(complete == came);
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t count) {
    fuzz_input input = {data, count};
    const uint8_t what = fuzz_u8(&input), form = fuzz_u8(&input);
    const bool gradient = (what & 128) != 0;
    const seam_codec_id codec = codecs[what % (sizeof codecs / sizeof *codecs)];
    const bool coded = (form & 128) != 0 && seam_codec_has_widths(codec);
    const seam_codec_plan plan = {.topology = SEAM_TOPOLOGY_ADAPTER_EXCHANGE,
                                  .resend_parameters = true,
                                  .codec_in = codec,
                                  .codec_out = codec,
                                  .bits = 1 + form % 16u,
                                  .group = codec == SEAM_CODEC_GROUP ? 2 : 0,
                                  .entropy = coded ? SEAM_ENTROPY_RANS : SEAM_ENTROPY_NONE};
    const seam_module_pair pair = {.site = SITE,
                                   .gradient_site = SEAM_SITE_LORA_A_GRADIENT,
                                   .rows = 1 + fuzz_u8(&input),
                                   .channels = RANK};
    seam_gates_config gates = {.bits_min = 0};
    FUZZ_CHECK(seam_gates_preset(&gates, 4.0f));
    const seam_module_link_options options = {
        .pairs = &pair, .pair_count = 1, .plan = &plan, .gates = &gates, .server = !gradient};
    seam_module_link link;
    FUZZ_CHECK(seam_module_link_check(&options, NULL) == SEAM_OK);
    FUZZ_CHECK(seam_module_link_create(&link, &options, NULL) == SEAM_OK);
    const seam_module module = {.name = "fuzz",
                                .rows = (uint32_t)pair.rows,
                                .rank = RANK,
                                .order = gradient ? SEAM_MODULE_ROWS : SEAM_MODULE_COLUMNS,
                                .values = values};
    const seam_module_stack stack = {
        .modules = &module, .module_count = 1, .tensor_rows_max = SEAM_ROWS_MAX};
    for (uint32_t i = 0; i < ROWS_MAX * RANK; i++) {
        values[i] = INFINITY;
    }
    const seam_module_tensor tensor = seam_module_link_tensor(&link, gradient, 0, 0);
    const bool whole = tensor_receive(&input, &link, &stack, &tensor, gradient);
    for (uint32_t i = 0; i < pair.rows * RANK; i++) {
        FUZZ_CHECK(whole ? isfinite(values[i]) : isinf(values[i]));
    }
    seam_module_link_destroy(&link);
    return 0;
}
