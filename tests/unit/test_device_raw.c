/* Goal: what a device's codec does beside codes, f32 and bf16, gate sums, transfers, gives the bits
 * of kernels/codec.
 * Method: as test_device_codec.c, with the same devices. */
#include "device_case.h"

#include "gates.h"

/* ---- f32, bf16 ---- */

static void raw_check(uint32_t rows, uint32_t channels, seam_dtype type, seam_codec_id codec,
                      const uint32_t *list, uint32_t x_rows) {
    const seam_dtype code_type = codec == SEAM_CODEC_F32 ? SEAM_F32 : SEAM_BF16;
    const size_t values = (size_t)rows * channels;
    codec_case k;
    case_init(&k, rows, channels, mixed, sizeof mixed);
    test_free(k.codes);
    k.codes_bytes = seam_codec_code_bytes(codec, NULL, rows, channels);
    k.codes = test_malloc(k.codes_bytes);
    for (size_t i = 0; type == SEAM_BF16 && i < values; i++) {
        k.x[i] = seam_bf16_to_f32(seam_bf16_from_f32(k.x[i]));
    }
    const seam_codec_args args = {codec, channels, NULL, NULL};
    assert_int_equal(seam_codec_encode(k.codes, k.decoded, &args, k.x, rows, &nearest, k.scratch),
                     SEAM_OK);
    device_case d;
    device_init(&d, &k, type, list, x_rows);
    const seam_device_rows all = rows_of(&d);
    assert_int_equal(ops->codec->raw_encode(stream, &d.work, &all, d.codes, code_type), SEAM_OK);
    assert_int_equal(status_get(&d), 0);
    device_get(d.got, d.codes, k.codes_bytes);
    assert_memory_equal(d.got, k.codes, k.codes_bytes);
    if (codec == SEAM_CODEC_F32) {
        assert_int_equal(ops->codec->rows_gather(stream, d.decoded, &all), SEAM_OK);
        device_get(d.got, d.decoded, k.codes_bytes);
        assert_memory_equal(d.got, k.codes, k.codes_bytes);
    }
    assert_int_equal(ops->zero(stream, d.x, values * seam_dtype_bytes(type)), SEAM_OK);
    assert_int_equal(ops->codec->raw_decode(stream, &all, d.codes, code_type), SEAM_OK);
    for (uint32_t i = 0; type == SEAM_F32 && i < rows; i++) {
        const float *row = (float *)d.x + (size_t)(list != NULL ? list[i] : i) * channels;
        device_get(d.got, row, channels * sizeof(float));
        assert_memory_equal(d.got, k.decoded + (size_t)i * channels, channels * sizeof(float));
    }
    device_deinit(&d);
    case_deinit(&k);
}

static void test_raw__f32_and_bf16__same_bytes(void **state) {
    (void)state;
    const uint32_t list[] = {3, 0, 7, 8, 20};
    static const uint32_t channels[] = {1, 7, 8, 1028, 4096};
    for (size_t i = 0; i < sizeof channels / sizeof channels[0]; i++) {
        raw_check(5, channels[i], SEAM_F32, SEAM_CODEC_F32, list, 21);
        raw_check(33, channels[i], SEAM_F32, SEAM_CODEC_BF16, NULL, 33);
        raw_check(5, channels[i], SEAM_BF16, SEAM_CODEC_F32, list, 21);
        raw_check(33, channels[i], SEAM_BF16, SEAM_CODEC_BF16, NULL, 33);
    }
}

static void test_raw__not_finite__refused(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY, 3.4e38f};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        codec_case k;
        device_case d;
        case_init(&k, 9, 12, mixed, sizeof mixed);
        k.x[9 * 12 - 1] = bad[i];
        device_init(&d, &k, SEAM_F32, NULL, 9);
        const seam_device_rows all = rows_of(&d);
        void *codes = device_alloc(9 * 12 * 4);
        const uint32_t refused =
            isfinite(bad[i]) != 0 ? 0u : 1u; /* the largest rounds up in bf16 */
        (void)ops->codec->raw_encode(stream, &d.work, &all, codes, SEAM_F32);
        assert_int_equal(status_get(&d), refused);
        (void)ops->codec->raw_encode(stream, &d.work, &all, codes, SEAM_BF16);
        assert_int_equal(status_get(&d), 1);
        ops->mem_free(backend, codes);
        device_deinit(&d);
        case_deinit(&k);
    }
}

/* ---- gate sums ---- */

static void test_gate_sums__any_shape__same_bits(void **state) {
    (void)state;
    static const uint32_t shapes[][2] = {{1, 1}, {63, 31}, {64, 32}, {65, 33}, {700, 200}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        const uint32_t rows = shapes[s][0], C = shapes[s][1];
        const size_t values = (size_t)rows * C, bytes = values * sizeof(float);
        float *host[3], *sums = test_calloc(C, sizeof *sums);
        void *device[3], *device_sums = device_alloc(C * sizeof(double));
        double *got = test_malloc(C * sizeof *got);
        uint8_t *widths = test_malloc(C);
        memset(widths, 16, C); /* kappa nearly 1 */
        for (uint64_t i = 0; i < 3; i++) {
            host[i] = test_malloc(bytes);
            fixture_tensor(host[i], rows, C, 40 + i);
            device[i] = device_put(host[i], bytes);
        }
        const seam_device_rows g = {device[0], SEAM_F32, NULL, rows, C};
        assert_int_equal(ops->codec->gate_squares(stream, device_sums, &g), SEAM_OK);
        device_get(got, device_sums, C * sizeof *got);
        seam_gates_add_squares(sums, host[0], rows, C);
        for (uint32_t c = 0; c < C; c++) {
            assert_true(sums[c] == (float)got[c]);
        }
        assert_int_equal(ops->codec->gate_errors(stream, device_sums, &g, device[1], device[2]),
                         SEAM_OK);
        device_get(got, device_sums, C * sizeof *got);
        for (uint32_t c = 0; c < C; c++) {
            double sum = 0.0;
            for (size_t i = c; i < values; i += C) {
                const double error = (double)host[2][i] - (double)host[1][i];
                sum += (double)host[0][i] * error;
            }
            assert_true(sum == got[c]);
        }
        for (uint64_t i = 0; i < 3; i++) {
            test_free(host[i]);
            ops->mem_free(backend, device[i]);
        }
        ops->mem_free(backend, device_sums);
        test_free(sums);
        test_free(got);
        test_free(widths);
    }
}

/* ---- transfers ---- */

static void test_transfer__streams_in_step__bytes_arrive(void **state) {
    (void)state;
    enum { BYTES = 1 << 20 };
    seam_stream *other = NULL;
    seam_event *event = NULL;
    void *in = NULL, *out = NULL, *device = device_alloc(BYTES);
    assert_int_equal(ops->stream_create(&other, backend), SEAM_OK);
    assert_int_equal(ops->codec->event_create(&event, backend), SEAM_OK);
    assert_int_equal(ops->host_alloc(&in, backend, BYTES), SEAM_OK);
    assert_int_equal(ops->host_alloc(&out, backend, BYTES), SEAM_OK);
    for (int round = 1; round <= 20; round++) {
        memset(in, round, BYTES);
        assert_int_equal(ops->copy_in(stream, device, in, BYTES), SEAM_OK);
        assert_int_equal(ops->codec->event_record(event, stream), SEAM_OK);
        assert_int_equal(ops->codec->event_follow(other, event), SEAM_OK);
        assert_int_equal(ops->codec->copy_out_begin(other, out, device, BYTES), SEAM_OK);
        assert_int_equal(ops->codec->event_record(event, other), SEAM_OK);
        assert_int_equal(ops->codec->event_wait(event), SEAM_OK);
        assert_memory_equal(out, in, BYTES);
    }
    ops->host_free(backend, in);
    ops->host_free(backend, out);
    ops->codec->event_destroy(event);
    ops->stream_destroy(other);
    ops->mem_free(backend, device);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raw__f32_and_bf16__same_bytes),
        cmocka_unit_test(test_raw__not_finite__refused),
        cmocka_unit_test(test_gate_sums__any_shape__same_bits),
        cmocka_unit_test(test_transfer__streams_in_step__bytes_arrive),
    };
    const int lacking = device_open(argc, argv);
    if (lacking != 0) {
        return lacking;
    }
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    device_close();
    return failed;
}
