/* Goal: tensors of any size become chunks within the limits and come back; plans are large enough.
 * Method: every codec, few and many rows and channels, one chunk and several; lying chunks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "arena.h"
#include "tensor_code.h"
#include "walk.h"

typedef struct bench {
    seam_arena arena;
    seam_reply reply;
    float *x, *decoded, *back;
    seam_coder *coder;
    seam_chunk *chunks;
    seam_site *site;
    const seam_alloc *alloc;
} bench;

static void carve(bench *b, seam_arena *arena, const seam_coder_config *config) {
    const uint32_t rows = config->rows_max;
    const size_t floats = (size_t)rows * config->channels * sizeof(float);
    seam_reply_carve(&b->reply, arena, seam_tensor_bytes_max(config, rows),
                     seam_coder_chunks_max(rows));
    b->x = seam_arena_take(arena, floats);
    b->decoded = seam_arena_take(arena, floats);
    b->back = seam_arena_take(arena, floats);
    b->chunks = seam_arena_take(arena, seam_coder_chunks_max(rows) * sizeof *b->chunks);
}

static void bench_open(bench *b, seam_codec_id codec, uint8_t bits, uint32_t rows,
                       uint32_t channels) {
    const seam_coder_config coder = {
        .codec = codec, .channels = channels, .rows_max = rows, .bits_max = bits};
    seam_arena plan = {0};
    memset(b, 0, sizeof *b);
    carve(b, &plan, &coder);
    assert_int_equal(seam_arena_init(&b->arena, plan.used_bytes), SEAM_OK);
    carve(b, &b->arena, &coder);
    assert_int_equal(seam_coder_create(&b->coder, &coder), SEAM_OK);
    for (size_t i = 0; i < (size_t)rows * channels; i++) {
        b->x[i] = sinf((float)i * 0.37f) * (float)(1 + i % channels);
    }
    const seam_site_config config = {.codec = codec, .width_count = channels, .bits_fixed = bits};
    assert_int_equal(seam_site_create(&b->site, &config, NULL), SEAM_OK);
    b->alloc = seam_codec_has_widths(codec) ? seam_site_alloc_now(b->site) : NULL;
}

static void bench_close(bench *b) {
    seam_coder_destroy(b->coder);
    seam_site_destroy(b->site);
    seam_arena_deinit(&b->arena);
}

static seam_status encode(bench *b, seam_codec_id codec, uint32_t rows, uint32_t channels) {
    const seam_tensor_encode_args args = {
        .coder = b->coder,
        .header = {.kind = SEAM_FRAME_TENSOR,
                   .phase = SEAM_PHASE_FORWARD,
                   .codec = (uint8_t)codec,
                   .rows = rows,
                   .channels = channels},
        .alloc = b->alloc,
        .x = b->x,
        .decoded = b->decoded,
    };
    return seam_tensor_encode(&b->reply, &args, NULL);
}

/* The reply's messages as chunks; every rule of a frame is checked by seam_frame_open. */
static uint32_t receive(bench *b, uint32_t rows) {
    uint32_t row = 0;
    for (uint32_t i = 0; i < b->reply.message_count; i++) {
        seam_walk walk;
        seam_frame_header header;
        const uint8_t *payload = NULL;
        seam_error err = {0};
        const struct seam_reply_message *message = &b->reply.messages[i];
        assert_int_equal(seam_walk_message(&walk, b->reply.bytes + message->offset,
                                           message->message_bytes, &err),
                         SEAM_OK);
        assert_int_equal(seam_frame_open(&header, &payload, walk.body, walk.body_bytes, &err),
                         SEAM_OK);
        assert_int_equal(header.row_begin, row);
        assert_true(header.payload_bytes <= SEAM_CHUNK_BYTES_MAX);
        row += header.row_count;
        b->chunks[i] = seam_chunk_of(&header, payload);
    }
    assert_int_equal(row, rows);
    return b->reply.message_count;
}

static seam_tensor_decode_args decode_args(const bench *b, seam_codec_id codec, uint32_t count) {
    return (seam_tensor_decode_args){.coder = b->coder,
                                     .chunks = b->chunks,
                                     .chunk_count = count,
                                     .tensor = {.codec = codec, .alloc = b->alloc}};
}

static void test_encode__sizes_and_codecs__decode_gives_the_senders_values(void **state) {
    (void)state;
    static const struct {
        seam_codec_id codec;
        uint8_t bits;
        uint32_t rows, channels, chunks;
    } cases[] = {
        {SEAM_CODEC_F32, 0, 1, 1, 1},         {SEAM_CODEC_F32, 0, 33, 8192, 2},
        {SEAM_CODEC_F32, 0, 700, 577, 2},     {SEAM_CODEC_BF16, 0, 31, 3, 1},
        {SEAM_CODEC_BF16, 0, 1000, 1024, 2},  {SEAM_CODEC_AFFINE, 1, 32, 5, 1},
        {SEAM_CODEC_AFFINE, 16, 65, 9000, 3}, {SEAM_CODEC_AFFINE, 3, 2000, 2048, 2},
        {SEAM_CODEC_AFFINE, 7, 63, 1, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bench b;
        const uint32_t rows = cases[i].rows, channels = cases[i].channels;
        bench_open(&b, cases[i].codec, cases[i].bits, rows, channels);
        assert_int_equal(encode(&b, cases[i].codec, rows, channels), SEAM_OK);
        const uint32_t count = receive(&b, rows);
        assert_int_equal(count, cases[i].chunks);
        const seam_tensor_decode_args args = decode_args(&b, cases[i].codec, count);
        assert_int_equal(seam_tensor_decode(b.back, &args, NULL), SEAM_OK);
        assert_memory_equal(b.back, b.decoded, (size_t)rows * channels * sizeof(float));
        bench_close(&b);
    }
}

static void test_encode__not_finite__error_and_no_message(void **state) {
    (void)state;
    const seam_codec_id codecs[] = {SEAM_CODEC_F32, SEAM_CODEC_BF16, SEAM_CODEC_AFFINE};
    for (size_t i = 0; i < 3; i++) {
        bench b;
        bench_open(&b, codecs[i], 4, 40, 6);
        b.x[35 * 6 + 2] = NAN;
        assert_int_equal(encode(&b, codecs[i], 40, 6), SEAM_E_NONFINITE);
        assert_int_equal(b.reply.message_count, 0);
        bench_close(&b);
    }
}

static void test_decode__lying_chunk__error_that_names_the_row(void **state) {
    (void)state;
    bench b;
    seam_error err = {0};
    bench_open(&b, SEAM_CODEC_AFFINE, 4, 40, 6);
    assert_int_equal(encode(&b, SEAM_CODEC_AFFINE, 40, 6), SEAM_OK);
    const uint32_t count = receive(&b, 40);
    seam_tensor_decode_args args = decode_args(&b, SEAM_CODEC_AFFINE, count);
    b.chunks[0].what.payload_bytes--;
    assert_int_equal(seam_tensor_decode(b.back, &args, &err), SEAM_E_FORMAT);
    assert_non_null(strstr(err.text, "row 0"));
    b.chunks[0].what.payload_bytes = 3; /* less than the range block */
    assert_int_equal(seam_tensor_decode(b.back, &args, &err), SEAM_E_FORMAT);
    assert_non_null(strstr(err.text, "row 0"));
    bench_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode__sizes_and_codecs__decode_gives_the_senders_values),
        cmocka_unit_test(test_encode__not_finite__error_and_no_message),
        cmocka_unit_test(test_decode__lying_chunk__error_that_names_the_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
