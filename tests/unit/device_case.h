/* A device with a codec, and a codec_case.h case whose rows, widths and codes lie there.  For test
 * programs only. */
#ifndef SEAM_TEST_DEVICE_CASE_H
#define SEAM_TEST_DEVICE_CASE_H

#include <stdio.h>

#include "codec_case.h"

#include "device_codec.h"

static const seam_ops *ops;
static seam_backend *backend;
static seam_stream *stream;

/* The device is the first argument, cuda:0 without; 77: this machine has none. */
static int device_open(int argc, char **argv) {
    const seam_backend_options options = {.device = argc > 1 ? argv[1] : "cuda:0"};
    seam_error err = {0};
    const seam_status st = seam_backend_create(&backend, &options, &err);
    if (st == SEAM_E_UNIMPLEMENTED) {
        (void)printf("skipped: %s\n", err.text);
        return 77;
    }
    if (st != SEAM_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    ops = seam_backend_ops(backend);
    if (ops->codec == NULL || ops->stream_create(&stream, backend) != SEAM_OK) {
        (void)fprintf(stderr, "no codec on %s\n", options.device);
        return 1;
    }
    return 0;
}

static void device_close(void) {
    ops->stream_destroy(stream);
    seam_backend_destroy(backend);
}

/* ---- device memory ---- */

static void *device_alloc(size_t bytes) {
    void *ptr = NULL;
    assert_int_equal(ops->mem_alloc(&ptr, backend, bytes), SEAM_OK);
    return ptr;
}

static void *device_put(const void *host, size_t bytes) {
    void *ptr = device_alloc(bytes);
    assert_int_equal(ops->copy_in(stream, ptr, host, bytes), SEAM_OK);
    assert_int_equal(ops->stream_sync(stream), SEAM_OK);
    return ptr;
}

static void device_get(void *host, const void *device, size_t bytes) {
    assert_int_equal(ops->copy_out(stream, host, device, bytes), SEAM_OK);
}

/* ---- a case on the device ---- */

typedef struct device_case {
    const codec_case *k;
    seam_device_work work;
    void *x, *decoded, *codes;
    uint32_t *list, *row_ids;
    uint32_t x_rows;
    seam_dtype type;
    uint8_t *got; /* host: bytes that come back */
    size_t codes_bytes;
} device_case;

/* The case's rows lie in x at list (NULL: one after another) of x_rows rows of other values. */
static void device_init(device_case *d, const codec_case *k, seam_dtype type, const uint32_t *list,
                        uint32_t x_rows) {
    const uint32_t C = k->channels;
    const size_t bytes = seam_dtype_bytes(type), row_bytes = C * bytes;
    *d = (device_case){.k = k, .type = type, .x_rows = x_rows};
    uint32_t *begin = test_malloc((C + 1) * sizeof *begin);
    begin[0] = 0;
    for (uint32_t c = 0; c < C; c++) {
        begin[c + 1] = begin[c] + k->widths[c];
        d->work.width_max = k->widths[c] > d->work.width_max ? k->widths[c] : d->work.width_max;
    }
    uint8_t *x = test_malloc(x_rows * row_bytes);
    memset(x, 0x41, x_rows * row_bytes);
    for (uint32_t i = 0; i < k->rows; i++) {
        uint8_t *to = x + (list != NULL ? list[i] : i) * row_bytes;
        for (uint32_t c = 0; c < C; c++) {
            const float value = k->x[(size_t)i * C + c];
            const uint16_t half = seam_bf16_from_f32(value);
            memcpy(to + c * bytes, type == SEAM_F32 ? (const void *)&value : (const void *)&half,
                   bytes);
        }
    }
    d->codes_bytes = (k->codes_bytes + 3) / 4 * 4;
    d->got = test_malloc(d->codes_bytes + x_rows * C * sizeof(float));
    d->x = device_put(x, x_rows * row_bytes);
    d->decoded = device_alloc((size_t)k->rows * C * sizeof(float));
    d->codes = device_alloc(d->codes_bytes);
    d->work.bytes = device_alloc(ops->codec->work_bytes(C));
    d->work.planes = begin[C];
    d->work.plane_begin = device_put(begin, (C + 1) * sizeof *begin);
    d->list = list != NULL ? device_put(list, k->rows * sizeof *list) : NULL;
    test_free(begin);
    test_free(x);
}

static void device_deinit(device_case *d) {
    void *const parts[] = {d->x,
                           d->decoded,
                           d->codes,
                           d->work.bytes,
                           d->list,
                           d->row_ids,
                           (void *)(uintptr_t)d->work.plane_begin};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        ops->mem_free(backend, parts[i]);
    }
    test_free(d->got);
}

static seam_device_rows rows_of(const device_case *d) {
    return (seam_device_rows){d->x, d->type, d->list, d->k->rows, d->k->channels};
}

static uint32_t status_get(const device_case *d) {
    uint32_t status = 77;
    const uint8_t *head = (uint8_t *)d->work.bytes + ops->codec->head_offset(d->k->channels);
    device_get(&status, head, sizeof status);
    return status;
}

#endif
