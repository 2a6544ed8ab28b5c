/* Goal: a coder cuts any tensor into payloads within the limits, decodes them to what encode
 * announced, and refuses what does not belong; plans are large enough.
 * Method: every codec that is implemented, shapes around the cuts; each payload against its plan;
 * damaged payloads; every allocation failing once. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "codec_fixture.h"
#include "coder.h"

/* A tensor, both ends' coders, and its payloads. */
typedef struct fixture {
    seam_codec_id codec;
    seam_coder *encoder, *decoder;
    seam_coder_config config; /* the encoder's */
    seam_codec_plan plan;
    uint8_t storage[2][4096];
    uint64_t sample_id;
    uint8_t *widths;
    uint32_t *row_gates; /* some of the channels' widths */
    seam_alloc alloc;
    float *x, *decoded, *again;
    uint8_t *payloads; /* one after another */
    size_t capacity, used;
    seam_coder_chunk *chunks;
    uint32_t chunk_count;
} fixture;

static void open_as(fixture *f, seam_codec_id codec, uint32_t rows, uint32_t channels,
                    uint8_t bits) {
    const size_t values = (size_t)rows * channels;
    memset(f, 0, sizeof *f);
    f->codec = codec;
    f->config = (seam_coder_config){
        .codec = codec,
        .encoder = true,
        .channels = channels,
        .rows_max = rows,
        .state_rows_max = rows,
        .sequences_max = 1,
        .bits_max = bits,
        .storage = f->storage[0],
        .storage_bytes = sizeof f->storage[0],
        .plan = &f->plan,
    };
    f->plan = (seam_codec_plan){.bits = bits, .dictionary_rows_max = 20};
    f->sample_id = 77;
    seam_coder_config other_end = f->config;
    other_end.encoder = false;
    other_end.storage = f->storage[1];
    assert_int_equal(seam_coder_create(&f->encoder, &f->config), SEAM_OK);
    assert_int_equal(seam_coder_create(&f->decoder, &other_end), SEAM_OK);
    f->widths = test_malloc(channels);
    memset(f->widths, bits, channels);
    f->row_gates = test_malloc(rows * sizeof *f->row_gates);
    for (uint32_t row = 0; row < rows; row++) {
        f->row_gates[row] = row * 5 % channels;
    }
    f->alloc =
        (seam_alloc){.version = 1, .widths = f->widths, .bits_total = (uint32_t)bits * channels};
    f->x = test_malloc(values * sizeof *f->x);
    f->decoded = test_malloc(values * sizeof *f->x);
    f->again = test_malloc(values * sizeof *f->x);
    seam_coder_config raw = f->config;
    raw.codec = SEAM_CODEC_BF16;
    const size_t own = seam_coder_bytes_max(&f->config, rows);
    const size_t other = seam_coder_bytes_max(&raw, rows);
    f->payloads = test_malloc(own > other ? own : other);
    f->chunks = test_malloc(seam_coder_chunks_max(rows) * sizeof *f->chunks);
    fixture_tensor(f->x, rows, channels, rows * 7u + channels);
}

static void shut(fixture *f) {
    seam_coder_destroy(f->decoder);
    seam_coder_destroy(f->encoder);
    test_free(f->chunks);
    test_free(f->payloads);
    test_free(f->again);
    test_free(f->decoded);
    test_free(f->x);
    test_free(f->row_gates);
    test_free(f->widths);
}

/* One sequence of all rows. */
static seam_coder_tensor tensor_of(const fixture *f, seam_codec_id codec) {
    return (seam_coder_tensor){.codec = codec,
                               .alloc = &f->alloc,
                               .rows = f->config.rows_max,
                               .sequences = {&f->sample_id, &f->config.rows_max, 1},
                               .row_gates = f->row_gates};
}

static seam_status encode(fixture *f, seam_codec_id codec, const seam_rounding *rounding) {
    const seam_coder_encode_args args = {
        .tensor = tensor_of(f, codec),
        .x = f->x,
        .rounding = *rounding,
    };
    seam_coder_config config = f->config;
    config.codec = codec;
    f->capacity = seam_coder_bytes_max(&config, config.rows_max); /* to the byte of the plan */
    f->used = 0;
    f->chunk_count = 0;
    seam_status st = seam_coder_encode_begin(f->encoder, &args);
    while (st == SEAM_OK && !seam_coder_is_done(f->encoder)) {
        assert_true(f->chunk_count < seam_coder_chunks_max(f->config.rows_max));
        seam_coder_chunk *chunk = &f->chunks[f->chunk_count++];
        st = seam_coder_encode_chunk(chunk, f->payloads + f->used, f->capacity - f->used,
                                     f->decoded, f->encoder);
        if (st == SEAM_OK) {
            assert_true(chunk->payload_bytes <= SEAM_PAYLOAD_BYTES_MAX);
            f->used += chunk->payload_bytes;
        }
    }
    return st;
}

/* Each payload from a block of its own: a sanitizer sees reads beyond it. */
static seam_status decode(fixture *f, seam_codec_id codec) {
    const seam_coder_tensor tensor = tensor_of(f, codec);
    size_t at = 0;
    seam_status st = SEAM_OK;
    seam_error err = {0};
    seam_coder_decode_begin(f->decoder, &tensor);
    for (uint32_t i = 0; st == SEAM_OK && i < f->chunk_count; i++) {
        uint8_t *payload = test_malloc(f->chunks[i].payload_bytes + 1);
        memcpy(payload, f->payloads + at, f->chunks[i].payload_bytes);
        st = seam_coder_decode_chunk(f->again, f->decoder, &f->chunks[i], payload, &err);
        assert_true((st != SEAM_OK) == (err.text[0] != '\0'));
        at += f->chunks[i].payload_bytes;
        test_free(payload);
    }
    return st;
}

/* The plan of each chunk is what encoding made of it; of a codec with state no less. */
static void assert_planned(const fixture *f, seam_codec_id codec) {
    seam_coder_config config = f->config;
    const seam_coder_tensor tensor = tensor_of(f, codec);
    config.codec = codec;
    for (uint32_t i = 0; i < f->chunk_count; i++) {
        const seam_coder_chunk *const made = &f->chunks[i];
        seam_coder_chunk planned;
        assert_int_equal(seam_coder_chunk_plan(&planned, &config, &tensor, made->row_begin),
                         SEAM_OK);
        assert_int_equal(planned.row_begin, made->row_begin);
        assert_int_equal(planned.row_count, made->row_count);
        assert_int_equal(planned.coding, 0);
        if (seam_coder_goes_by_state(&config)) {
            assert_true(planned.payload_bytes >= made->payload_bytes);
        } else {
            assert_int_equal(planned.payload_bytes, made->payload_bytes);
        }
    }
}

static void round_trip(fixture *f, seam_codec_id codec, const seam_rounding *rounding) {
    const size_t bytes = (size_t)f->config.rows_max * f->config.channels * sizeof(float);
    assert_int_equal(encode(f, codec, rounding), SEAM_OK);
    uint32_t row = 0;
    for (uint32_t i = 0; i < f->chunk_count; i++) {
        assert_int_equal(f->chunks[i].row_begin, row);
        assert_int_equal(f->chunks[i].coding, 0);
        row += f->chunks[i].row_count;
        assert_true(row % SEAM_GROUP_ROWS == 0 || i + 1 == f->chunk_count);
    }
    assert_int_equal(row, f->config.rows_max);
    assert_planned(f, codec);
    memset(f->again, 0xff, bytes);
    assert_int_equal(decode(f, codec), SEAM_OK);
    assert_true(seam_coder_is_done(f->decoder));
    assert_memory_equal(f->again, f->decoded, bytes);
    seam_coder_commit(f->encoder);
    seam_coder_commit(f->decoder);
}

static const seam_rounding nearest = {.stochastic = false};

static void test_round_trip__every_codec_and_shape__as_announced(void **state) {
    (void)state;
    static const uint32_t shapes[][2] = {{1, 1},    {31, 3},  {32, 96},
                                         {33, 131}, {70, 65}, {300, 2048}};
    const seam_rounding stochastic = {.stochastic = true, .seed = 5, .step = 9, .site = 2};
    for (int id = 1; id <= SEAM_CODEC_LAST; id++) {
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            if (!seam_codec_is_implemented((seam_codec_id)id)) {
                continue;
            }
            for (uint8_t bits = 1; bits <= 16; bits = (uint8_t)(bits * 2)) {
                fixture f;
                open_as(&f, (seam_codec_id)id, shapes[i][0], shapes[i][1], bits);
                round_trip(&f, f.codec, &nearest);
                round_trip(&f, f.codec, &stochastic);
                round_trip(&f, SEAM_CODEC_BF16, &nearest); /* in the codec's place */
                shut(&f);
            }
        }
    }
}

/* Several chunks, to nearest and stochastically. */
static void test_encode__rows_in_bf16__payloads_and_values_of_the_f32(void **state) {
    (void)state;
    enum { T = 1500, C = 700, BITS = 11 };
    uint16_t *const halves = test_malloc((size_t)T * C * sizeof *halves);
    uint8_t *const payload = test_malloc(SEAM_PAYLOAD_BYTES_MAX);
    float *const decoded = test_malloc((size_t)T * C * sizeof *decoded);
    for (int pass = 0; pass < 4; pass++) {
        const seam_rounding rounding = {.stochastic = pass % 2 == 1, .seed = 5, .step = 9};
        fixture f;
        open_as(&f, pass < 2 ? SEAM_CODEC_AMAQ : SEAM_CODEC_AFFINE, T, C, BITS);
        for (size_t i = 0; i < (size_t)T * C; i++) {
            halves[i] = seam_bf16_from_f32(f.x[i]);
            f.x[i] = seam_bf16_to_f32(halves[i]);
        }
        assert_int_equal(encode(&f, f.codec, &rounding), SEAM_OK);
        assert_true(f.chunk_count > 1);
        const seam_coder_encode_args args = {
            .tensor = tensor_of(&f, f.codec), .x_bf16 = halves, .rounding = rounding};
        assert_int_equal(seam_coder_encode_begin(f.encoder, &args), SEAM_OK);
        size_t at = 0;
        for (uint32_t i = 0; i < f.chunk_count; i++) {
            seam_coder_chunk chunk;
            assert_int_equal(seam_coder_encode_chunk(&chunk, payload, SEAM_PAYLOAD_BYTES_MAX,
                                                     decoded, f.encoder),
                             SEAM_OK);
            assert_int_equal(chunk.payload_bytes, f.chunks[i].payload_bytes);
            assert_memory_equal(payload, f.payloads + at, chunk.payload_bytes);
            at += chunk.payload_bytes;
        }
        assert_true(seam_coder_is_done(f.encoder));
        assert_memory_equal(decoded, f.decoded, (size_t)T * C * sizeof *decoded);
        shut(&f);
    }
    test_free(decoded);
    test_free(payload);
    test_free(halves);
}

static void test_encode__cuts__whole_groups_that_fit(void **state) {
    (void)state;
    static const struct {
        seam_codec_id codec;
        uint32_t rows, channels;
        uint8_t bits;
        uint32_t chunks, first, second; /* rows of the first two */
    } rows[] = {
        /* 576 channels of 8 bits: a group is 18432 bytes, 56 of them fit, with ranges too. */
        {SEAM_CODEC_AFFINE, 2000, 576, 8, 2, 56 * 32, 2000 - 56 * 32},
        /* 4096 of 16 bits: 4 groups fit to the byte, 3 beside the ranges. */
        {SEAM_CODEC_AFFINE, 250, 4096, 16, 3, 3 * 32, 4 * 32},
        {SEAM_CODEC_F32, 64, 8192, 0, 2, 32, 32},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fixture f;
        open_as(&f, rows[i].codec, rows[i].rows, rows[i].channels, rows[i].bits);
        round_trip(&f, f.codec, &nearest);
        assert_int_equal(f.chunk_count, rows[i].chunks);
        assert_int_equal(f.chunks[0].row_count, rows[i].first);
        assert_int_equal(f.chunks[1].row_count, rows[i].second);
        shut(&f);
    }
}

static void test_encode__group_larger_than_a_payload__limit(void **state) {
    (void)state;
    fixture f;
    open_as(&f, SEAM_CODEC_F32, 1, 8193, 0);
    assert_int_equal(encode(&f, SEAM_CODEC_F32, &nearest), SEAM_E_LIMIT);
    shut(&f);
    assert_int_equal(seam_coder_channels_check(4096), SEAM_OK);
    assert_int_equal(seam_coder_channels_check(8192), SEAM_E_LIMIT); /* no room for a head */
    assert_int_equal(seam_coder_channels_check(SEAM_CHANNELS_MAX), SEAM_E_LIMIT);
}

static void test_encode__not_finite__refused_wherever_it_stands(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int id = 1; id <= SEAM_CODEC_LAST; id++) {
        if (!seam_codec_is_implemented((seam_codec_id)id)) {
            continue;
        }
        fixture f;
        open_as(&f, (seam_codec_id)id, 35, 66, 4);
        for (size_t at = 0; at < 35u * 66; at += 101) {
            const float good = f.x[at];
            f.x[at] = bad[at % 3];
            assert_int_equal(encode(&f, f.codec, &nearest), SEAM_E_NONFINITE);
            f.x[at] = good;
        }
        round_trip(&f, f.codec, &nearest);
        shut(&f);
    }
}

static void test_decode__wrong_size_or_coding__format(void **state) {
    (void)state;
    for (int id = 1; id <= SEAM_CODEC_LAST; id++) {
        if (!seam_codec_is_implemented((seam_codec_id)id)) {
            continue;
        }
        fixture f;
        open_as(&f, (seam_codec_id)id, 33, 5, 3);
        assert_int_equal(encode(&f, f.codec, &nearest), SEAM_OK);
        assert_int_equal(f.chunk_count, 1);
        const uint32_t good = f.chunks[0].payload_bytes;
        for (uint32_t bytes = 0; bytes < good; bytes++) {
            f.chunks[0].payload_bytes = bytes;
            assert_int_equal(decode(&f, f.codec), SEAM_E_FORMAT);
        }
        f.chunks[0].payload_bytes = good;
        f.chunks[0].coding = 1;
        assert_int_equal(decode(&f, f.codec), SEAM_E_FORMAT);
        shut(&f);
    }
}

/* Without a commit a tensor costs what it cost; after one, what has changed. */
static void test_commit__codec_with_state__next_tensor_is_smaller(void **state) {
    (void)state;
    for (int id = SEAM_CODEC_AQSGD; id <= SEAM_CODEC_DICTIONARY; id++) {
        fixture f;
        open_as(&f, (seam_codec_id)id, 20, 65, 2);
        assert_int_equal(encode(&f, f.codec, &nearest), SEAM_OK);
        const size_t first = f.used;
        round_trip(&f, f.codec, &nearest);
        assert_int_equal(f.used, first);
        round_trip(&f, f.codec, &nearest);
        assert_true(f.used < first / 4);
        seam_coder_forget(f.encoder);
        round_trip(&f, f.codec, &nearest);
        assert_int_equal(f.used, first);
        shut(&f);
    }
}

/* Gradients of aqsgd have no cache: the same bytes every time. */
static void test_encode__aqsgd_gradient__no_state(void **state) {
    (void)state;
    fixture f;
    open_as(&f, SEAM_CODEC_AQSGD, 40, 5, 3);
    seam_coder_destroy(f.encoder);
    seam_coder_destroy(f.decoder);
    const size_t cached_bytes = seam_coder_memory_bytes(&f.config);
    f.config.gradient = true;
    f.config.storage_bytes = 0;
    assert_int_equal(seam_coder_create(&f.encoder, &f.config), SEAM_OK);
    assert_int_equal(seam_coder_create(&f.decoder, &f.config), SEAM_OK);
    assert_true(seam_coder_memory_bytes(&f.config) < cached_bytes);
    for (int i = 0; i < 3; i++) {
        round_trip(&f, f.codec, &nearest);
        assert_int_equal(f.used, 4 + 2 * 5 + 40 * 5 * 3 / 8);
    }
    f.payloads[2] = 1; /* the zero field of the scale block */
    assert_int_equal(decode(&f, f.codec), SEAM_E_FORMAT);
    f.x[7] = NAN;
    assert_int_equal(encode(&f, f.codec, &nearest), SEAM_E_NONFINITE);
    shut(&f);
}

static void test_steps__amaq__of_the_decoded_tensor(void **state) {
    (void)state;
    fixture f;
    float steps[5], expected[5];
    open_as(&f, SEAM_CODEC_AMAQ, 40, 5, 6);
    round_trip(&f, f.codec, &nearest);
    const seam_codec_args args = {
        .id = SEAM_CODEC_AMAQ, .channels = 5, .widths = f.widths, .ranges = f.payloads};
    assert_int_equal(seam_codec_steps(expected, &args), SEAM_OK);
    assert_int_equal(seam_coder_steps(steps, f.decoder), SEAM_OK);
    assert_memory_equal(steps, expected, sizeof steps);
    shut(&f);
}

static void test_create__each_allocation_fails__memory(void **state) {
    (void)state;
    const seam_coder_config config = {
        .codec = SEAM_CODEC_AMAQ, .channels = 7, .rows_max = 64, .bits_max = 16};
    bool created = false;
    for (int64_t n = 0; !created; n++) {
        seam_coder *coder = NULL;
        assert_true(n < 10);
        seam_mem_fail_after(n);
        const seam_status st = seam_coder_create(&coder, &config);
        seam_mem_fail_after(-1);
        created = st == SEAM_OK;
        assert_true(created ? n == 3 : st == SEAM_E_MEMORY && coder == NULL);
        seam_coder_destroy(coder);
    }
    assert_true(seam_coder_memory_bytes(&config) >= seam_codec_scratch_bytes(7) + 4 + 4 * 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip__every_codec_and_shape__as_announced),
        cmocka_unit_test(test_encode__rows_in_bf16__payloads_and_values_of_the_f32),
        cmocka_unit_test(test_encode__cuts__whole_groups_that_fit),
        cmocka_unit_test(test_encode__group_larger_than_a_payload__limit),
        cmocka_unit_test(test_encode__not_finite__refused_wherever_it_stands),
        cmocka_unit_test(test_decode__wrong_size_or_coding__format),
        cmocka_unit_test(test_commit__codec_with_state__next_tensor_is_smaller),
        cmocka_unit_test(test_encode__aqsgd_gradient__no_state),
        cmocka_unit_test(test_steps__amaq__of_the_decoded_tensor),
        cmocka_unit_test(test_create__each_allocation_fails__memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
