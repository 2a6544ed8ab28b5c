/* Times of a device's codec beside the copy of its tensor: bench_codec_cuda [DEVICE] [ROWS] [C].
 *
 * A call's bytes are those that must move: encoding reads the source twice (for the ranges, and to
 * quantize) and writes the codes, decoding reads the codes and writes the rows.  The last column of
 * each is bytes over time as a share of the rate of a copy of the bf16 tensor on the device
 * (cudaMemcpyAsync, bytes read plus bytes written), which runs in turn with them.
 *
 * Each time is the median of rounds; a round queues the call 24 times over three tensors, which
 * together are larger than L2, waits once and divides.  Not in ctest. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cuda_runtime_api.h>

#include "arena.h"
#include "bytes.h"
#include "codec.h"
#include "device_codec.h"
#include "try.h"

enum { TENSORS = 3, CALLS = 24, ROUNDS = 9 };

typedef struct bench {
    const seam_ops *ops;
    seam_backend *backend;
    seam_stream *stream;
    cudaStream_t queue; /* of the copy */
    uint32_t rows, C;
    float *x32[TENSORS];
    uint16_t *x16[TENSORS];
    void *codes[TENSORS], *out;
    double *sums;
    uint32_t *plane_begin;
    seam_device_work work;
    seam_dtype type;
    seam_device_encode_args encode;
} bench;

typedef void (*bench_call)(bench *b, uint32_t at);

static void must(seam_status st) {
    SEAM_ASSERT(st == SEAM_OK);
}

static void must_cuda(cudaError_t result) {
    SEAM_ASSERT(result == cudaSuccess);
}

static double now_s(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static seam_device_rows source(const bench *b, uint32_t at) {
    void *x = b->type == SEAM_BF16 ? (void *)b->x16[at] : (void *)b->x32[at];
    return (seam_device_rows){.x = x, .type = b->type, .rows = b->rows, .C = b->C};
}

static void call_copy(bench *b, uint32_t at) {
    must_cuda(cudaMemcpyAsync(b->out, b->x16[at], 2 * (size_t)b->rows * b->C,
                              cudaMemcpyDeviceToDevice, b->queue));
}

static void call_encode(bench *b, uint32_t at) {
    b->encode.work = b->work;
    b->encode.rows = b->encode.ranged = source(b, at);
    b->encode.codes = b->codes[at];
    must(b->ops->codec->encode(b->stream, &b->encode));
}

static void call_decode(bench *b, uint32_t at) {
    const seam_device_decode_args args = {
        .work = b->work,
        .rows = {.x = b->out, .type = b->type, .rows = b->rows, .C = b->C},
        .codes = b->codes[at],
        .row_count = b->rows};
    must(b->ops->codec->decode(b->stream, &args));
}

static void call_squares(bench *b, uint32_t at) {
    const seam_device_rows g = {.x = b->x32[at], .type = SEAM_F32, .rows = b->rows, .C = b->C};
    must(b->ops->codec->gate_squares(b->stream, b->sums, &g));
}

static double round_seconds(bench *b, bench_call call) {
    const double begin = now_s();
    for (uint32_t i = 0; i < CALLS; i++) {
        call(b, i % TENSORS);
    }
    must(b->ops->stream_sync(b->stream));
    must_cuda(cudaStreamSynchronize(b->queue));
    return (now_s() - begin) / CALLS;
}

static int order(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Medians of `count` calls, in turn. */
static void race(double *ret_seconds, bench *b, const bench_call *calls, uint32_t count) {
    double seconds[4][ROUNDS];
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < count; i++) {
            seconds[i][round] = round_seconds(b, calls[i]);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        qsort(seconds[i], ROUNDS, sizeof(double), order);
        ret_seconds[i] = seconds[i][ROUNDS / 2];
    }
}

/* Channel c has width low + c * 7 % count. */
static void widths_put(bench *b, uint32_t low, uint32_t count) {
    uint32_t *begin = seam_mem_alloc((b->C + 1) * sizeof *begin);
    SEAM_ASSERT(begin != NULL);
    begin[0] = 0;
    for (uint32_t c = 0; c < b->C; c++) {
        begin[c + 1] = begin[c] + low + c * 7 % count;
    }
    must(b->ops->copy_in(b->stream, b->plane_begin, begin, (b->C + 1) * sizeof *begin));
    must(b->ops->stream_sync(b->stream));
    b->work.plane_begin = b->plane_begin;
    b->work.planes = begin[b->C];
    b->work.width_max = (uint8_t)(low + count - 1);
    seam_mem_free(begin);
}

static void print_row(bench *b, const char *name) {
    static const bench_call calls[] = {call_copy, call_encode, call_decode, call_squares};
    double s[4];
    race(s, b, calls, 4);
    const double values = (double)b->rows * b->C;
    const double bytes = values * (double)seam_dtype_bytes(b->type);
    const double codes = (double)b->work.planes * b->rows / 8.0;
    const double rate = 4.0 * values / s[0];
    (void)printf("%-5s %-10s %-6s %8.1f %8.1f %6.2f %8.1f %6.2f %8.1f\n",
                 b->type == SEAM_BF16 ? "bf16" : "f32", name,
                 b->encode.stochastic ? "stoch." : "near", 1e6 * s[0], 1e6 * s[1],
                 (2.0 * bytes + codes) / s[1] / rate, 1e6 * s[2], (bytes + codes) / s[2] / rate,
                 1e6 * s[3]);
}

static void fill(bench *b) {
    const size_t values = (size_t)b->rows * b->C;
    float *x = seam_mem_alloc(4 * values);
    SEAM_ASSERT(x != NULL);
    for (uint32_t t = 0; t < TENSORS; t++) {
        uint32_t words[4] = {0};
        for (size_t i = 0; i < values; i++) {
            if (i % 4 == 0) {
                const uint32_t counter[4] = {(uint32_t)(i / 4), t, 0, 0}, key[2] = {1, 1};
                seam_philox(words, counter, key);
            }
            x[i] = (float)(int32_t)words[i % 4] * 0x1p-31f;
        }
        must(b->ops->mem_alloc((void **)&b->x32[t], b->backend, 4 * values));
        must(b->ops->mem_alloc((void **)&b->x16[t], b->backend, 2 * values));
        must(b->ops->mem_alloc(&b->codes[t], b->backend, 2 * values));
        must(b->ops->copy_in(b->stream, b->x32[t], x, 4 * values));
        must(b->ops->cast(b->stream, b->x16[t], SEAM_BF16, b->x32[t], SEAM_F32, values));
        must(b->ops->stream_sync(b->stream));
    }
    must(b->ops->mem_alloc(&b->out, b->backend, 4 * values));
    must(b->ops->mem_alloc(&b->work.bytes, b->backend, b->ops->codec->work_bytes(b->C)));
    must(b->ops->mem_alloc((void **)&b->plane_begin, b->backend, 4 * (b->C + 1)));
    must(b->ops->mem_alloc((void **)&b->sums, b->backend, 8 * b->C));
    seam_mem_free(x);
}

int main(int argc, char **argv) {
    const seam_backend_options options = {.device = argc > 1 ? argv[1] : "cuda:0"};
    bench b = {.rows = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 6144,
               .C = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 4096};
    seam_error err = {0};
    if (seam_backend_create(&b.backend, &options, &err) != SEAM_OK) {
        (void)fprintf(stderr, "bench_codec_cuda: %s\n", err.text);
        return 1;
    }
    b.ops = seam_backend_ops(b.backend);
    must(b.ops->stream_create(&b.stream, b.backend));
    must_cuda(cudaStreamCreateWithFlags(&b.queue, cudaStreamNonBlocking));
    fill(&b);
    (void)printf("%s; %u x %u; us, and the share of the copy's rate\n",
                 seam_backend_describe(b.backend), b.rows, b.C);
    (void)printf("%-5s %-10s %-6s %8s %8s %6s %8s %6s %8s\n", "rows", "widths", "round", "copy16",
                 "encode", "share", "decode", "share", "squares");
    for (int rounding = 0; rounding < 2; rounding++) {
        for (int type = 0; type < 2; type++) {
            b.type = type == 0 ? SEAM_BF16 : SEAM_F32;
            b.encode = (seam_device_encode_args){.stochastic = rounding != 0, .seed = 7};
            for (uint32_t width = 3; width <= 8; width++) {
                char name[16];
                (void)snprintf(name, sizeof name, "%u", width);
                widths_put(&b, width, 1);
                print_row(&b, name);
            }
            widths_put(&b, 2, 5);
            print_row(&b, "2..6");
            widths_put(&b, 1, 16);
            print_row(&b, "1..16");
        }
    }
    return 0;
}
