/* Goal: the entropy coder behind a codec changes bytes and nothing else: the same values, never
 * more bytes than without, every hostile stream refused.
 * Method: two coders that differ in the plan's entropy on the same tensors, every codec with bit
 * planes, several chunks; damaged payloads, each in a block of its own size; every allocation
 * failing once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "arena.h"
#include "codec_fixture.h"
#include "coder.h"

enum { CHUNKS_MAX = 64 };

typedef struct run {
    seam_codec_plan plan;
    seam_coder_config config;
    seam_coder *coder;
    seam_alloc alloc;
    float *decoded;
    uint8_t *payloads;
    seam_coder_chunk chunks[CHUNKS_MAX];
    uint32_t chunk_count;
    size_t used;
} run;

static const seam_codec_id planes[] = {SEAM_CODEC_AFFINE, SEAM_CODEC_AMAQ, SEAM_CODEC_TENSOR,
                                       SEAM_CODEC_CHANNEL, SEAM_CODEC_GROUP};
#define PLANES_COUNT (sizeof planes / sizeof *planes)

static void open_as(run *r, seam_codec_id codec, uint32_t entropy, uint32_t rows, uint32_t channels,
                    uint8_t *widths) {
    memset(r, 0, sizeof *r);
    r->plan = (seam_codec_plan){.entropy = entropy};
    r->config = (seam_coder_config){.codec = codec,
                                    .channels = channels,
                                    .rows_max = rows,
                                    .bits_max = SEAM_BITS_MAX,
                                    .plan = &r->plan};
    assert_int_equal(seam_coder_create(&r->coder, &r->config), SEAM_OK);
    r->alloc = (seam_alloc){.version = 1, .widths = widths};
    for (uint32_t c = 0; c < channels; c++) {
        r->alloc.bits_total += widths[c];
    }
    r->decoded = test_malloc((size_t)rows * channels * sizeof(float));
    r->payloads = test_malloc((size_t)rows * channels * sizeof(float) + 8 * (size_t)channels + 8);
}

static void shut(run *r) {
    seam_coder_destroy(r->coder);
    test_free(r->decoded);
    test_free(r->payloads);
}

static void encode(run *r, seam_codec_id codec, const float *x) {
    const seam_coder_encode_args args = {
        .tensor = {.codec = codec, .alloc = &r->alloc, .rows = r->config.rows_max}, .x = x};
    r->chunk_count = 0;
    r->used = 0;
    assert_int_equal(seam_coder_encode_begin(r->coder, &args), SEAM_OK);
    while (!seam_coder_is_done(r->coder)) {
        assert_true(r->chunk_count < CHUNKS_MAX);
        seam_coder_chunk *chunk = &r->chunks[r->chunk_count++];
        assert_int_equal(seam_coder_encode_chunk(chunk, r->payloads + r->used,
                                                 SEAM_PAYLOAD_BYTES_MAX, r->decoded, r->coder),
                         SEAM_OK);
        r->used += chunk->payload_bytes;
    }
}

static void decode_begin(const run *r, seam_codec_id codec) {
    const seam_coder_tensor tensor = {
        .codec = codec, .alloc = &r->alloc, .rows = r->config.rows_max};
    seam_coder_decode_begin(r->coder, &tensor);
}

/* One chunk from a block of exactly its bytes. */
static seam_status decode_chunk(float *ret_x, const run *r, const seam_coder_chunk *chunk,
                                const uint8_t *payload, const char *error) {
    uint8_t *exact = test_malloc(chunk->payload_bytes);
    seam_error err = {0};
    memcpy(exact, payload, chunk->payload_bytes);
    const seam_status st = seam_coder_decode_chunk(ret_x, r->coder, chunk, exact, &err);
    if (st != SEAM_OK && error != NULL) {
        assert_non_null(strstr(err.text, error));
    }
    test_free(exact);
    return st;
}

static void assert_decodes(run *r, seam_codec_id codec) {
    const size_t bytes = (size_t)r->config.rows_max * r->config.channels * sizeof(float);
    float *x = test_malloc(bytes);
    size_t at = 0;
    memset(x, 0xff, bytes);
    decode_begin(r, codec);
    for (uint32_t i = 0; i < r->chunk_count; i++) {
        assert_int_equal(decode_chunk(x, r, &r->chunks[i], r->payloads + at, NULL), SEAM_OK);
        at += r->chunks[i].payload_bytes;
    }
    assert_memory_equal(x, r->decoded, bytes);
    test_free(x);
}

static void test_encode__entropy_on__same_values_in_fewer_bytes(void **state) {
    (void)state;
    static const uint32_t shapes[][2] = {{64, 33}, {200, 96}, {1000, 1024}};
    for (size_t i = 0; i < PLANES_COUNT; i++) {
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            const uint32_t rows = shapes[s][0], channels = shapes[s][1];
            const size_t values = (size_t)rows * channels;
            const bool mixed = planes[i] == SEAM_CODEC_AFFINE || planes[i] == SEAM_CODEC_AMAQ;
            uint8_t widths[1024];
            for (uint32_t c = 0; c < channels; c++) {
                widths[c] = mixed ? (uint8_t)(3 + c % 11) : 9;
            }
            float *x = test_malloc(values * sizeof *x);
            fixture_tensor(x, rows, channels, rows);
            run plain, coded;
            open_as(&plain, planes[i], SEAM_ENTROPY_NONE, rows, channels, widths);
            open_as(&coded, planes[i], SEAM_ENTROPY_RANS, rows, channels, widths);
            encode(&plain, planes[i], x);
            encode(&coded, planes[i], x);
            assert_memory_equal(coded.decoded, plain.decoded, values * sizeof *x);
            assert_int_equal(coded.chunk_count, plain.chunk_count);
            for (uint32_t k = 0; k < coded.chunk_count; k++) {
                const seam_coder_chunk *a = &plain.chunks[k], *b = &coded.chunks[k];
                assert_int_equal(a->coding, 0);
                assert_int_equal(b->row_begin, a->row_begin);
                assert_int_equal(b->row_count, a->row_count);
                assert_true(b->coding == 1 ? b->payload_bytes < a->payload_bytes
                                           : b->payload_bytes == a->payload_bytes);
            }
            assert_true(rows < 200 || coded.used < plain.used);
            assert_true(rows < 1000 || coded.chunk_count > 1);
            assert_decodes(&coded, planes[i]);
            encode(&coded, SEAM_CODEC_BF16, x); /* in the codec's place: nothing to code */
            assert_int_equal(coded.chunks[0].coding, 0);
            assert_decodes(&coded, SEAM_CODEC_BF16);
            shut(&plain);
            shut(&coded);
            test_free(x);
        }
    }
}

/* Random codes and tensors of a few rows: coding 0, so a receiver needs no other rule. */
static void test_encode__does_not_shrink__as_without(void **state) {
    (void)state;
    uint8_t widths[8];
    float x[31 * 8];
    memset(widths, 5, sizeof widths);
    fixture_tensor(x, 31, 8, 3);
    for (size_t i = 0; i < PLANES_COUNT; i++) {
        run plain, coded;
        open_as(&plain, planes[i], 0, 31, 8, widths);
        open_as(&coded, planes[i], SEAM_ENTROPY_RANS, 31, 8, widths);
        encode(&plain, planes[i], x);
        encode(&coded, planes[i], x);
        assert_int_equal(coded.chunks[0].coding, 0);
        assert_int_equal(coded.used, plain.used);
        assert_memory_equal(coded.payloads, plain.payloads, plain.used);
        assert_decodes(&coded, planes[i]);
        shut(&plain);
        shut(&coded);
    }
}

static void test_decode__damaged_stream__format(void **state) {
    (void)state;
    uint8_t widths[40];
    static float x[96 * 40], got[96 * 40];
    memset(widths, 6, sizeof widths);
    fixture_tensor(x, 96, 40, 11);
    for (size_t i = 0; i < PLANES_COUNT; i++) {
        run r;
        open_as(&r, planes[i], SEAM_ENTROPY_RANS, 96, 40, widths);
        for (uint32_t v = 0; v < 96 * 40; v += 2) {
            x[v] *= 0.05f; /* peaked, so that every codec's codes shrink */
        }
        encode(&r, planes[i], x);
        assert_int_equal(r.chunk_count, 1);
        const seam_coder_chunk good = r.chunks[0];
        assert_int_equal(good.coding, 1);
        for (uint32_t bytes = 1; bytes < good.payload_bytes; bytes++) {
            seam_coder_chunk chunk = good;
            chunk.payload_bytes = bytes;
            decode_begin(&r, planes[i]);
            assert_int_equal(decode_chunk(got, &r, &chunk, r.payloads, "rans: "), SEAM_E_FORMAT);
        }
        seam_coder_chunk chunk = good;
        chunk.payload_bytes++; /* room for bf16's is there */
        decode_begin(&r, planes[i]);
        assert_int_equal(decode_chunk(got, &r, &chunk, r.payloads, "rans: "), SEAM_E_FORMAT);
        chunk = good;
        chunk.coding = 2;
        decode_begin(&r, planes[i]);
        assert_int_equal(decode_chunk(got, &r, &chunk, r.payloads, "coding 2"), SEAM_E_FORMAT);
        /* After all of these the coder decodes what is good. */
        assert_decodes(&r, planes[i]);
        shut(&r);
    }
}

/* A few bytes may not announce more codes than a payload holds. */
static void test_decode__more_rows_than_a_payload_holds__format(void **state) {
    (void)state;
    enum { ROWS = 1024, C = 1024 };
    static uint8_t widths[C];
    static const uint8_t zeros[200] = {1, 9}; /* one class, all codes zero */
    memset(widths, 16, sizeof widths);
    run r;
    float *x = test_malloc((size_t)ROWS * C * sizeof *x);
    open_as(&r, SEAM_CODEC_GROUP, SEAM_ENTROPY_RANS, ROWS, C, widths);
    const seam_coder_chunk chunk = {
        .row_count = ROWS, .payload_bytes = 4 + 2 * 8 * ROWS + 2, .coding = 1};
    uint8_t *payload = test_malloc(chunk.payload_bytes);
    memset(payload, 0, chunk.payload_bytes);
    memcpy(payload + chunk.payload_bytes - 2, zeros, 2);
    decode_begin(&r, SEAM_CODEC_GROUP);
    assert_int_equal(decode_chunk(x, &r, &chunk, payload, "rans: the codes of 1024 rows"),
                     SEAM_E_FORMAT);
    test_free(payload);
    test_free(x);
    shut(&r);
}

/* Sessions without one, codecs without planes, and f32, bf16 in the codec's place. */
static void test_decode__no_entropy_coder__format(void **state) {
    (void)state;
    uint8_t widths[8];
    float x[64 * 8];
    memset(widths, 4, sizeof widths);
    memset(x, 0, sizeof x);
    static const struct {
        seam_codec_id codec, tensor;
        uint32_t entropy;
    } cases[] = {{SEAM_CODEC_AMAQ, SEAM_CODEC_AMAQ, SEAM_ENTROPY_NONE},
                 {SEAM_CODEC_AMAQ, SEAM_CODEC_BF16, SEAM_ENTROPY_RANS},
                 {SEAM_CODEC_BF16, SEAM_CODEC_BF16, SEAM_ENTROPY_RANS},
                 {SEAM_CODEC_F32, SEAM_CODEC_F32, SEAM_ENTROPY_RANS}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        run r;
        open_as(&r, cases[i].codec, cases[i].entropy, 64, 8, widths);
        encode(&r, cases[i].tensor, x);
        assert_int_equal(r.chunks[0].coding, 0);
        r.chunks[0].coding = 1;
        decode_begin(&r, cases[i].tensor);
        assert_int_equal(decode_chunk(x, &r, &r.chunks[0], r.payloads, "coding 1"), SEAM_E_FORMAT);
        shut(&r);
    }
}

static void test_create__each_allocation_fails__memory(void **state) {
    (void)state;
    seam_codec_plan plan = {.entropy = SEAM_ENTROPY_RANS};
    seam_coder_config config = {
        .codec = SEAM_CODEC_AMAQ, .channels = 7, .rows_max = 64, .bits_max = 16, .plan = &plan};
    bool created = false;
    for (int64_t n = 0; !created; n++) {
        seam_coder *coder = NULL;
        assert_true(n < 10);
        seam_mem_fail_after(n);
        const seam_status st = seam_coder_create(&coder, &config);
        seam_mem_fail_after(-1);
        created = st == SEAM_OK;
        assert_true(created ? n == 5 : st == SEAM_E_MEMORY && coder == NULL);
        seam_coder_destroy(coder);
    }
    const size_t coded = seam_coder_memory_bytes(&config);
    plan.entropy = SEAM_ENTROPY_NONE;
    assert_true(coded > seam_coder_memory_bytes(&config) + seam_coder_bytes_max(&config, 64));
    plan.entropy = SEAM_ENTROPY_RANS;
    config.codec = SEAM_CODEC_BF16;
    const size_t raw = seam_coder_memory_bytes(&config);
    plan.entropy = SEAM_ENTROPY_NONE;
    assert_int_equal(raw, seam_coder_memory_bytes(&config));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode__entropy_on__same_values_in_fewer_bytes),
        cmocka_unit_test(test_encode__does_not_shrink__as_without),
        cmocka_unit_test(test_decode__damaged_stream__format),
        cmocka_unit_test(test_decode__more_rows_than_a_payload_holds__format),
        cmocka_unit_test(test_decode__no_entropy_coder__format),
        cmocka_unit_test(test_create__each_allocation_fails__memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
