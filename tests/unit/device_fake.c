/* See device_fake.h. */
#include "device_fake.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "codec.h"
#include "try.h"

struct seam_event {
    bool recorded;
};

void device_fake_put(seam_backend *backend, const seam_device_codec *codec) {
    ((seam_ops *)(uintptr_t)seam_backend_ops(backend))->codec = codec;
}

/* A work block is the head alone. */
static size_t fake_work_bytes(uint32_t channels) {
    return 8 + 4 * (size_t)channels;
}

static size_t fake_head_offset(uint32_t channels) {
    (void)channels;
    return 0;
}

/* A device has this memory: no fault of the test's allocations reaches it. */
static void *take(size_t bytes) {
    void *ptr = aligned_alloc(64, (bytes / 64 + 1) * 64);
    SEAM_ASSERT(ptr != NULL);
    return ptr;
}

static float *rows_gather(const seam_device_rows *rows) {
    const size_t row_bytes = rows->C * sizeof(float);
    float *dense = take((size_t)rows->rows * row_bytes);
    SEAM_ASSERT(rows->type == SEAM_F32);
    for (uint32_t i = 0; i < rows->rows; i++) {
        const size_t from = rows->list != NULL ? rows->list[i] : i;
        memcpy(dense + (size_t)i * rows->C, (float *)rows->x + from * rows->C, row_bytes);
    }
    return dense;
}

/* Dense rows [begin, begin + count) to their places. */
static void rows_scatter(const seam_device_rows *rows, const float *dense, uint32_t begin,
                         uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        const size_t to = rows->list != NULL ? rows->list[begin + i] : begin + i;
        if (to != SEAM_DEVICE_ROW_NONE) {
            memcpy((float *)rows->x + to * rows->C, dense + (size_t)i * rows->C,
                   rows->C * sizeof(float));
        }
    }
}

/* What a call of codec.h needs; release frees its parts. */
typedef struct host_call {
    seam_codec_args args;
    uint8_t *widths;
    void *scratch;
} host_call;

static host_call host_call_open(const seam_device_work *work, uint32_t C) {
    host_call call = {.widths = take(C), .scratch = take(seam_codec_scratch_bytes(C))};
    for (uint32_t c = 0; c < C; c++) {
        call.widths[c] = (uint8_t)(work->plane_begin[c + 1] - work->plane_begin[c]);
        SEAM_ASSERT(call.widths[c] <= work->width_max);
    }
    SEAM_ASSERT(work->planes == work->plane_begin[C]);
    call.args = (seam_codec_args){SEAM_CODEC_AMAQ, C, call.widths, (uint8_t *)work->bytes + 4};
    return call;
}

static void host_call_close(host_call *call) {
    free(call->widths);
    free(call->scratch);
}

static void status_put(const seam_device_work *work, bool good) {
    const uint32_t status = good ? 0 : 1;
    memcpy(work->bytes, &status, sizeof status);
}

static seam_status ranges_measure(const seam_device_encode_args *a) {
    uint8_t *ranges = (uint8_t *)a->work.bytes + 4;
    if (a->ranged.rows == 0) {
        memset(ranges, 0, 4 + 4 * (size_t)a->ranged.C);
        return SEAM_OK;
    }
    float *ranged = rows_gather(&a->ranged);
    const seam_status st =
        seam_codec_measure(ranges, SEAM_CODEC_AMAQ, ranged, a->ranged.rows, a->ranged.C, NULL);
    free(ranged);
    return st;
}

static seam_status fake_encode(seam_stream *stream, const seam_device_encode_args *a) {
    (void)stream;
    float *rows = rows_gather(&a->rows);
    host_call call = host_call_open(&a->work, a->rows.C);
    const seam_rounding rounding = {.stochastic = a->stochastic,
                                    .seed = a->seed,
                                    .step = a->step,
                                    .site = a->site,
                                    .micro = a->micro,
                                    .row_ids = a->row_ids,
                                    .row_id_begin = a->row_id_begin};
    const bool good = ranges_measure(a) == SEAM_OK &&
                      seam_codec_encode(a->codes, a->decoded, &call.args, rows, a->rows.rows,
                                        &rounding, call.scratch) == SEAM_OK;
    status_put(&a->work, good);
    host_call_close(&call);
    free(rows);
    return SEAM_OK;
}

static seam_status fake_decode(seam_stream *stream, const seam_device_decode_args *a) {
    (void)stream;
    const uint32_t C = a->rows.C;
    float *dense = take((size_t)a->row_count * C * sizeof(float));
    host_call call = host_call_open(&a->work, C);
    const uint8_t *codes = (const uint8_t *)a->codes +
                           seam_codec_code_bytes(SEAM_CODEC_AMAQ, call.widths, a->row_begin, C);
    const seam_status st =
        seam_codec_decode(dense, &call.args, codes,
                          seam_codec_code_bytes(SEAM_CODEC_AMAQ, call.widths, a->row_count, C),
                          a->row_count, call.scratch);
    SEAM_ASSERT(st == SEAM_OK); /* the caller has checked */
    rows_scatter(&a->rows, dense, a->row_begin, a->row_count);
    host_call_close(&call);
    free(dense);
    return SEAM_OK;
}

static seam_codec_args raw_args(const seam_device_rows *rows, seam_dtype code_type) {
    return (seam_codec_args){.id = code_type == SEAM_F32 ? SEAM_CODEC_F32 : SEAM_CODEC_BF16,
                             .channels = rows->C};
}

static seam_status fake_raw_encode(seam_stream *stream, const seam_device_work *work,
                                   const seam_device_rows *rows, void *codes,
                                   seam_dtype code_type) {
    (void)stream;
    float *dense = rows_gather(rows);
    const seam_rounding nearest = {.stochastic = false};
    const seam_codec_args args = raw_args(rows, code_type);
    status_put(work,
               seam_codec_encode(codes, NULL, &args, dense, rows->rows, &nearest, NULL) == SEAM_OK);
    free(dense);
    return SEAM_OK;
}

static seam_status fake_raw_decode(seam_stream *stream, const seam_device_rows *rows,
                                   const void *codes, seam_dtype code_type) {
    (void)stream;
    float *dense = take((size_t)rows->rows * rows->C * sizeof(float));
    const seam_codec_args args = raw_args(rows, code_type);
    const size_t bytes = seam_codec_code_bytes(args.id, NULL, rows->rows, rows->C);
    const seam_status st = seam_codec_decode(dense, &args, codes, bytes, rows->rows, NULL);
    SEAM_ASSERT(st == SEAM_OK);
    rows_scatter(rows, dense, 0, rows->rows);
    free(dense);
    return SEAM_OK;
}

static seam_status fake_rows_gather(seam_stream *stream, float *ret, const seam_device_rows *rows) {
    (void)stream;
    float *dense = rows_gather(rows);
    memcpy(ret, dense, (size_t)rows->rows * rows->C * sizeof *ret);
    free(dense);
    return SEAM_OK;
}

static seam_status fake_gate_errors(seam_stream *stream, double *ret_sums,
                                    const seam_device_rows *g, const float *x,
                                    const float *decoded) {
    (void)stream;
    float *dense = rows_gather(g);
    memset(ret_sums, 0, g->C * sizeof *ret_sums);
    for (size_t i = 0; i < (size_t)g->rows * g->C; i++) {
        const double error = x != NULL ? (double)decoded[i] - (double)x[i] : (double)dense[i];
        ret_sums[i % g->C] += (double)dense[i] * error;
    }
    free(dense);
    return SEAM_OK;
}

static seam_status fake_gate_squares(seam_stream *stream, double *ret_sums,
                                     const seam_device_rows *g) {
    return fake_gate_errors(stream, ret_sums, g, NULL, NULL);
}

static seam_status fake_copy_out_begin(seam_stream *stream, void *host, const void *device,
                                       size_t bytes) {
    (void)stream;
    memcpy(host, device, bytes);
    return SEAM_OK;
}

static seam_status fake_event_create(seam_event **ret_event, seam_backend *backend) {
    (void)backend;
    *ret_event = seam_mem_zalloc(1, sizeof **ret_event);
    return *ret_event != NULL ? SEAM_OK : SEAM_E_MEMORY;
}

static void fake_event_destroy(seam_event *gift_event) {
    seam_mem_free(gift_event);
}

static seam_status fake_event_record(seam_event *event, seam_stream *stream) {
    (void)stream;
    event->recorded = true;
    return SEAM_OK;
}

static seam_status fake_event_follow(seam_stream *stream, seam_event *event) {
    (void)stream;
    SEAM_ASSERT(event->recorded);
    return SEAM_OK;
}

static seam_status fake_event_wait(seam_event *event) {
    SEAM_ASSERT(event != NULL); /* one that was never recorded is over */
    return SEAM_OK;
}

const seam_device_codec device_fake = {
    .work_bytes = fake_work_bytes,
    .head_offset = fake_head_offset,
    .encode = fake_encode,
    .decode = fake_decode,
    .raw_encode = fake_raw_encode,
    .raw_decode = fake_raw_decode,
    .rows_gather = fake_rows_gather,
    .gate_squares = fake_gate_squares,
    .gate_errors = fake_gate_errors,
    .copy_out_begin = fake_copy_out_begin,
    .event_create = fake_event_create,
    .event_destroy = fake_event_destroy,
    .event_record = fake_event_record,
    .event_follow = fake_event_follow,
    .event_wait = fake_event_wait,
};
