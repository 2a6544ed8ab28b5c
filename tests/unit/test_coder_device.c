/* Goal: a coder of rows on a device gives the payloads of one of rows on the host, and reads them,
 * byte for byte; it refuses what that one refuses, with the same words.
 * Method: two coders side by side, tensors of many chunks, row lists, both entropy settings;
 * damaged payloads; the files of proto/golden; every allocation failing once.  The device is the
 * first argument; "cpu" gets the table of device_fake.h.  A machine without the device skips. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arena.h"
#include "bytes.h"
#include "codec_fixture.h"
#include "coder.h"
#include "device_fake.h"
#include "frame.h"
#include "try.h"
#include "whole_file.h"

static const seam_ops *ops;
static seam_backend *backend;
static seam_stream *stream;

enum { CHUNKS_MAX = 64 };

typedef struct payloads {
    uint8_t *bytes;
    size_t used;
    seam_coder_chunk chunks[CHUNKS_MAX];
    uint32_t count;
} payloads;

/* A tensor in both memories, and a coder for each. */
typedef struct fixture {
    seam_codec_id codec;
    uint32_t rows, C, x_rows; /* the tensor's, and those of x that hold it */
    seam_codec_plan plan;
    seam_coder_space *space;
    seam_coder *host, *device;
    uint8_t *widths;
    seam_alloc alloc;
    uint32_t *list; /* (rows): every second row of x */
    float *x, *packed, *decoded, *again;
    float *device_x, *device_decoded;
    uint32_t *device_list;
    payloads expected, got;
} fixture;

static void *device_alloc(size_t bytes) {
    void *ptr = NULL;
    assert_int_equal(ops->mem_alloc(&ptr, backend, bytes), SEAM_OK);
    return ptr;
}

static void device_put(void *device, const void *host, size_t bytes) {
    assert_int_equal(ops->copy_in(stream, device, host, bytes), SEAM_OK);
    assert_int_equal(ops->stream_sync(stream), SEAM_OK);
}

static void coders_open(fixture *f, size_t codes_bytes) {
    const seam_coder_config config = {.codec = f->codec,
                                      .encoder = true,
                                      .channels = f->C,
                                      .rows_max = f->rows,
                                      .bits_max = 16,
                                      .plan = &f->plan};
    seam_coder_config other = config;
    assert_int_equal(seam_coder_space_create(&f->space, ops, backend, f->C, codes_bytes), SEAM_OK);
    other.space = f->space;
    assert_int_equal(seam_coder_create(&f->host, &config), SEAM_OK);
    assert_int_equal(seam_coder_create(&f->device, &other), SEAM_OK);
}

static void open_as(fixture *f, seam_codec_id codec, uint32_t rows, uint32_t C, bool rans) {
    memset(f, 0, sizeof *f);
    f->codec = codec;
    f->rows = rows;
    f->C = C;
    f->x_rows = 2 * rows;
    f->plan = (seam_codec_plan){.entropy = rans ? SEAM_ENTROPY_RANS : SEAM_ENTROPY_NONE};
    const size_t x_bytes = (size_t)f->x_rows * C * sizeof(float);
    const size_t codes_bytes = x_bytes + 4 + 4 * (size_t)C + CHUNKS_MAX;
    f->widths = test_malloc(C);
    for (uint32_t c = 0; c < C; c++) {
        f->widths[c] = (uint8_t)(codec == SEAM_CODEC_AFFINE ? 4 : 1 + c * 7 % 12);
        f->alloc.bits_total += f->widths[c];
    }
    f->alloc.version = 1;
    f->alloc.widths = f->widths;
    f->x = test_malloc(x_bytes);
    f->packed = test_malloc(x_bytes);
    f->decoded = test_malloc(x_bytes);
    f->again = test_malloc(x_bytes);
    f->list = test_malloc(rows * sizeof *f->list);
    f->expected.bytes = test_malloc(codes_bytes);
    f->got.bytes = test_malloc(codes_bytes);
    fixture_tensor(f->x, f->x_rows, C, rows + C);
    for (uint32_t i = 0; i < rows; i++) {
        f->list[i] = 2 * i + 1;
        memcpy(f->packed + (size_t)i * C, f->x + (size_t)f->list[i] * C, C * sizeof(float));
    }
    f->device_x = device_alloc(x_bytes);
    f->device_decoded = device_alloc(x_bytes);
    f->device_list = device_alloc(rows * sizeof(uint32_t));
    device_put(f->device_x, f->x, x_bytes);
    device_put(f->device_list, f->list, rows * sizeof(uint32_t));
    coders_open(f, codes_bytes);
}

static void shut(fixture *f) {
    seam_coder_destroy(f->device);
    seam_coder_destroy(f->host);
    seam_coder_space_destroy(f->space);
    ops->mem_free(backend, f->device_list);
    ops->mem_free(backend, f->device_decoded);
    ops->mem_free(backend, f->device_x);
    test_free(f->got.bytes);
    test_free(f->expected.bytes);
    test_free(f->list);
    test_free(f->again);
    test_free(f->decoded);
    test_free(f->packed);
    test_free(f->x);
    test_free(f->widths);
}

static seam_status encode(payloads *ret, seam_coder *coder, const seam_coder_encode_args *args,
                          float *decoded) {
    ret->count = 0;
    ret->used = 0;
    seam_status st = seam_coder_encode_begin(coder, args);
    while (st == SEAM_OK && !seam_coder_is_done(coder)) {
        assert_true(ret->count < CHUNKS_MAX);
        seam_coder_chunk *chunk = &ret->chunks[ret->count++];
        st = seam_coder_encode_chunk(chunk, ret->bytes + ret->used, SEAM_PAYLOAD_BYTES_MAX, decoded,
                                     coder);
        ret->used += st == SEAM_OK ? chunk->payload_bytes : 0;
    }
    return st;
}

static seam_status decode(float *ret_x, seam_coder *coder, const seam_coder_tensor *tensor,
                          const payloads *from, seam_error *err) {
    const uint8_t *at = from->bytes;
    seam_coder_decode_begin(coder, tensor);
    for (uint32_t i = 0; i < from->count; i++) {
        SEAM_TRY(seam_coder_decode_chunk(ret_x, coder, &from->chunks[i], at, err));
        at += from->chunks[i].payload_bytes;
    }
    return SEAM_OK;
}

static void payloads_equal(const fixture *f) {
    assert_int_equal(f->got.count, f->expected.count);
    assert_int_equal(f->got.used, f->expected.used);
    for (uint32_t i = 0; i < f->got.count; i++) {
        const seam_coder_chunk *a = &f->got.chunks[i], *b = &f->expected.chunks[i];
        assert_int_equal(a->row_begin, b->row_begin);
        assert_int_equal(a->row_count, b->row_count);
        assert_int_equal(a->payload_bytes, b->payload_bytes);
        assert_int_equal(a->coding, b->coding);
    }
    assert_memory_equal(f->got.bytes, f->expected.bytes, f->got.used);
}

/* The packed rows by the host's coder, the rows of the list by the device's. */
static void both_encode(fixture *f, const seam_rounding *rounding) {
    const bool ranges = seam_codec_has_ranges(f->codec);
    const seam_coder_place place = {.stream = stream,
                                    .x = f->device_x,
                                    .list = f->device_list,
                                    .decoded = ranges ? f->device_decoded : NULL};
    seam_coder_encode_args args = {
        .tensor = {.codec = f->codec, .alloc = &f->alloc, .rows = f->rows},
        .x = f->packed,
        .rounding = *rounding};
    args.rounding.row_ids = f->list;
    assert_int_equal(encode(&f->expected, f->host, &args, f->decoded), SEAM_OK);
    args.x = NULL;
    args.rounding.row_ids = NULL; /* by the list */
    args.tensor.place = &place;
    assert_int_equal(encode(&f->got, f->device, &args, NULL), SEAM_OK);
    payloads_equal(f);
    if (ranges) {
        const size_t bytes = (size_t)f->rows * f->C * sizeof(float);
        assert_int_equal(ops->copy_out(stream, f->again, f->device_decoded, bytes), SEAM_OK);
        assert_memory_equal(f->again, f->decoded, bytes);
        float *steps[2] = {test_malloc(f->C * sizeof(float)), test_malloc(f->C * sizeof(float))};
        assert_int_equal(seam_coder_steps(steps[0], f->host), SEAM_OK);
        assert_int_equal(seam_coder_steps(steps[1], f->device), SEAM_OK);
        assert_memory_equal(steps[0], steps[1], f->C * sizeof(float));
        test_free(steps[0]);
        test_free(steps[1]);
    }
}

/* What came decodes to the places of the list; other rows stay. */
static void device_decode(fixture *f) {
    const size_t row_bytes = f->C * sizeof(float);
    const seam_coder_place place = {.stream = stream, .x = f->device_x, .list = f->device_list};
    const seam_coder_tensor tensor = {
        .codec = f->codec, .alloc = &f->alloc, .rows = f->rows, .place = &place};
    seam_error err = {0};
    assert_int_equal(ops->zero(stream, f->device_x, f->x_rows * row_bytes), SEAM_OK);
    assert_int_equal(decode(NULL, f->device, &tensor, &f->expected, &err), SEAM_OK);
    assert_int_equal(ops->copy_out(stream, f->again, f->device_x, f->x_rows * row_bytes), SEAM_OK);
    float *zeros = test_calloc(f->C, sizeof(float));
    for (uint32_t i = 0; i < f->rows; i++) {
        assert_memory_equal(f->again + (size_t)(2 * i + 1) * f->C, f->decoded + (size_t)i * f->C,
                            row_bytes);
        assert_memory_equal(f->again + (size_t)2 * i * f->C, zeros, row_bytes);
    }
    test_free(zeros);
    device_put(f->device_x, f->x, f->x_rows * row_bytes);
}

static const seam_codec_id codecs[] = {SEAM_CODEC_F32, SEAM_CODEC_BF16, SEAM_CODEC_AFFINE,
                                       SEAM_CODEC_AMAQ};

static void test_round_trip__many_chunks__payloads_of_the_host(void **state) {
    (void)state;
    static const uint32_t shapes[][2] = {{1, 1}, {33, 131}, {70, 64}, {1500, 1200}, {2011, 700}};
    const seam_rounding drawn = {.stochastic = true, .seed = 5, .step = 9, .site = 2, .micro = 3};
    const seam_rounding nearest = {.stochastic = false};
    for (size_t i = 0; i < sizeof codecs / sizeof codecs[0]; i++) {
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
            fixture f;
            open_as(&f, codecs[i], shapes[s][0], shapes[s][1], false);
            both_encode(&f, &drawn);
            device_decode(&f);
            both_encode(&f, &nearest);
            device_decode(&f);
            shut(&f);
        }
    }
}

static void test_round_trip__entropy_coded__payloads_of_the_host(void **state) {
    (void)state;
    const seam_rounding nearest = {.stochastic = false};
    for (size_t i = 2; i < sizeof codecs / sizeof codecs[0]; i++) {
        fixture f;
        open_as(&f, codecs[i], 1000, 320, true);
        both_encode(&f, &nearest);
        assert_int_equal(f.got.chunks[0].coding, 1);
        device_decode(&f);
        shut(&f);
    }
}

static void test_encode__ranges_over_some_rows__payloads_of_the_host(void **state) {
    (void)state;
    fixture f;
    open_as(&f, SEAM_CODEC_AMAQ, 70, 40, false);
    uint8_t in_range[9] = {0};
    uint32_t list[7];
    for (uint32_t i = 0; i < 7; i++) {
        list[i] = 10 * i + 3;
        in_range[list[i] / 8] = (uint8_t)(in_range[list[i] / 8] | 1u << list[i] % 8);
    }
    uint32_t *ranged = device_alloc(sizeof list);
    device_put(ranged, list, sizeof list);
    const seam_coder_place place = {
        .stream = stream, .x = f.device_x, .range_list = ranged, .range_count = 7};
    seam_coder_encode_args args = {
        .tensor = {.codec = f.codec, .alloc = &f.alloc, .rows = f.rows, .range_rows = in_range},
        .x = f.x};
    assert_int_equal(encode(&f.expected, f.host, &args, NULL), SEAM_OK);
    args.tensor.place = &place;
    assert_int_equal(encode(&f.got, f.device, &args, NULL), SEAM_OK);
    payloads_equal(&f);
    ops->mem_free(backend, ranged);
    shut(&f);
}

static void test_encode__not_finite__refused_and_the_next_is_right(void **state) {
    (void)state;
    const seam_rounding nearest = {.stochastic = false};
    for (size_t i = 0; i < sizeof codecs / sizeof codecs[0]; i++) {
        fixture f;
        open_as(&f, codecs[i], 1500, 1200, false);
        const float bad = INFINITY;
        const seam_coder_place place = {.stream = stream, .x = f.device_x};
        const seam_coder_encode_args args = {
            .tensor = {.codec = f.codec, .alloc = &f.alloc, .rows = f.rows, .place = &place}};
        device_put(f.device_x + 1234567, &bad, sizeof bad);
        assert_int_equal(encode(&f.got, f.device, &args, NULL), SEAM_E_NONFINITE);
        device_put(f.device_x + 1234567, f.x + 1234567, sizeof bad);
        both_encode(&f, &nearest);
        device_decode(&f);
        shut(&f);
    }
}

/* Both coders decode what is in `expected`: the same status and words, and an error. */
static void both_refuse(fixture *f) {
    const seam_coder_place place = {.stream = stream, .x = f->device_x};
    seam_coder_tensor tensor = {.codec = f->codec, .alloc = &f->alloc, .rows = f->rows};
    seam_error host = {0}, device = {0};
    const seam_status st = decode(f->again, f->host, &tensor, &f->expected, &host);
    tensor.place = &place;
    assert_true(st != SEAM_OK);
    assert_int_equal(decode(NULL, f->device, &tensor, &f->expected, &device), st);
    assert_string_equal(device.text, host.text);
}

static void test_decode__damaged__refused_as_by_the_host(void **state) {
    (void)state;
    const seam_rounding nearest = {.stochastic = false};
    fixture f;
    open_as(&f, SEAM_CODEC_AMAQ, 37, 9, false);
    both_encode(&f, &nearest);
    assert_int_equal(f.expected.count, 1);
    static const struct {
        size_t at;
        uint8_t with;
    } damages[] = {{1, 0x7f}, {2, 1}, {5, 0x7c}, {7, 0xfc}, {7, 0xf8}};
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        uint8_t *const byte = f.expected.bytes + damages[i].at, before = *byte;
        *byte = damages[i].with;
        both_refuse(&f);
        *byte = before;
    }
    f.expected.bytes[f.expected.used - 1] |= 0x80; /* padding of the tail */
    assert_true((uint64_t)f.alloc.bits_total * 37 % 8 != 0);
    both_refuse(&f);
    f.expected.chunks[0].payload_bytes--;
    both_refuse(&f);
    shut(&f);
    for (size_t i = 0; i < 2; i++) {
        open_as(&f, codecs[i], 7, 5, false);
        both_encode(&f, &nearest);
        const size_t value = i == 0 ? 4 : 2;
        memset(f.expected.bytes + 11 * value, 0xff, value);
        both_refuse(&f);
        shut(&f);
    }
}

/* ---- proto/golden ---- */

static void test_decode__golden_frames__their_values(void **state) {
    (void)state;
    static const char *const names[] = {"f32", "bf16", "affine", "amaq", "amaq_gradient"};
    static seam_golden_file frame, values, widths;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        seam_frame_header header = {0};
        const uint8_t *payload = NULL;
        seam_error err = {0};
        seam_golden_read(&frame, "%s.bin", names[i]);
        seam_golden_read(&values, "%s.values", names[i]);
        assert_int_equal(seam_frame_open(&header, &payload, frame.bytes, frame.count, &err),
                         SEAM_OK);
        fixture f;
        open_as(&f, (seam_codec_id)header.codec, header.rows, header.channels, false);
        if (seam_codec_has_widths(f.codec)) {
            seam_golden_read(&widths, "%s.widths", names[i]);
            memcpy(f.widths, widths.bytes, f.C);
            f.alloc.bits_total = header.alloc_bits_total;
        }
        f.got.bytes = test_realloc(f.got.bytes, frame.count);
        memcpy(f.got.bytes, payload, header.payload_bytes);
        f.got.count = 1;
        f.got.chunks[0] = (seam_coder_chunk){0, header.rows, header.payload_bytes, 0};
        const seam_coder_place place = {.stream = stream, .x = f.device_x};
        const seam_coder_tensor tensor = {
            .codec = f.codec, .alloc = &f.alloc, .rows = f.rows, .place = &place};
        assert_int_equal(decode(NULL, f.device, &tensor, &f.got, &err), SEAM_OK);
        assert_int_equal(ops->copy_out(stream, f.again, f.device_x, values.count), SEAM_OK);
        for (size_t v = 0; v < values.count / 4; v++) {
            assert_true(f.again[v] == seam_get_f32(values.bytes + 4 * v));
        }
        shut(&f);
    }
}

/* ---- memory ---- */

static void test_space_create__each_allocation_fails__error_and_no_leak(void **state) {
    (void)state;
    bool created = false;
    for (int64_t n = 0; !created; n++) {
        seam_coder_space *space = NULL;
        assert_true(n < 100);
        seam_mem_fail_after(n);
        const seam_status st = seam_coder_space_create(&space, ops, backend, 100, 1000);
        seam_mem_fail_after(-1);
        created = st == SEAM_OK;
        assert_true(created || (st == SEAM_E_MEMORY && space == NULL));
        seam_coder_space_destroy(space);
    }
    size_t device_bytes = 0, host_bytes = 0;
    seam_coder_space_bytes(&device_bytes, &host_bytes, ops, 100, 1000);
    assert_true(device_bytes >= 1000 + ops->codec->work_bytes(100));
    assert_true(host_bytes > 4u * SEAM_PAYLOAD_BYTES_MAX);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip__many_chunks__payloads_of_the_host),
        cmocka_unit_test(test_round_trip__entropy_coded__payloads_of_the_host),
        cmocka_unit_test(test_encode__ranges_over_some_rows__payloads_of_the_host),
        cmocka_unit_test(test_encode__not_finite__refused_and_the_next_is_right),
        cmocka_unit_test(test_decode__damaged__refused_as_by_the_host),
        cmocka_unit_test(test_decode__golden_frames__their_values),
        cmocka_unit_test(test_space_create__each_allocation_fails__error_and_no_leak),
    };
    const seam_backend_options options = {.device = argc > 1 ? argv[1] : "cpu"};
    seam_error err = {0};
    const seam_status st = seam_backend_create(&backend, &options, &err);
    if (st != SEAM_OK) {
        (void)printf("%s: %s\n", st == SEAM_E_UNIMPLEMENTED ? "skipped" : "failed", err.text);
        return st == SEAM_E_UNIMPLEMENTED ? 77 : 1;
    }
    ops = seam_backend_ops(backend);
    if (strcmp(options.device, "cpu") == 0) {
        device_fake_put(backend, &device_fake);
    }
    assert_int_equal(ops->stream_create(&stream, backend), SEAM_OK);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ops->stream_destroy(stream);
    seam_backend_destroy(backend);
    return failed;
}
