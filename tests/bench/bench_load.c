/* Loading frozen matrices from the page cache into the device, beside what the link gives.
 *
 *   bench_load DEVICE [GIB] [THREADS...]
 *
 * Writes a file of 4 GiB of random bf16 values to /tmp, reads it once, and loads GIB of it [13, the
 * blocks of Llama-3-8B; the file over and over] as that model's matrices (gate|up stacked of two
 * tensors) by weight_load.c, for every count of threads and several sizes of pieces; median and
 * best of 5.  Everything is timed: taking the device's and the pinned memory, threads, algorithms.
 * The ceiling, in the same run: copies from one pinned buffer, one after the other on one stream.
 * The last line is f16, which the device casts. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "arena.h"
#include "try.h"
#include "weight_load.h"

enum { C = 4096, F = 14336, RUNS = 5, MATRICES_MAX = 256 };
#define COPY_BYTES ((size_t)64 << 20)
#define COPIES     32
#define FILE_BYTES ((size_t)4 << 30)

typedef struct bench {
    seam_backend *backend;
    const seam_ops *ops;
    int fd;
    size_t load_bytes;
    double pinned_rate; /* bytes a second */
} bench;

static void must(seam_status st, const char *what, const seam_error *err) {
    if (st != SEAM_OK) {
        (void)fprintf(stderr, "bench_load: %s: %s %s\n", what, seam_status_name(st),
                      err != NULL ? err->text : "");
        exit(1);
    }
}

static double now_seconds(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double pinned_rate(const bench *b) {
    seam_stream *stream = NULL;
    void *host = NULL, *device = NULL;
    double best = 0.0;
    must(b->ops->stream_create(&stream, b->backend), "stream", NULL);
    must(b->ops->host_alloc(&host, b->backend, COPY_BYTES), "pinned memory", NULL);
    must(b->ops->mem_alloc(&device, b->backend, COPY_BYTES), "device memory", NULL);
    memset(host, 0x5a, COPY_BYTES);
    for (int run = 0; run < RUNS; run++) {
        const double begin = now_seconds();
        for (int i = 0; i < COPIES; i++) {
            must(b->ops->copy_in(stream, device, host, COPY_BYTES), "copy", NULL);
        }
        must(b->ops->stream_sync(stream), "sync", NULL);
        const double rate = (double)COPY_BYTES * COPIES / (now_seconds() - begin);
        best = rate > best ? rate : best;
    }
    b->ops->mem_free(b->backend, device);
    b->ops->host_free(b->backend, host);
    b->ops->stream_destroy(stream);
    return best;
}

/* Random bits whose exponents are those of small finite values in bf16 and in f16. */
static void file_fill(const bench *b) {
    const size_t block = (size_t)16 << 20;
    uint64_t *values = seam_mem_alloc(block);
    SEAM_ASSERT(values != NULL);
    uint64_t state = 1;
    for (size_t done = 0; done < FILE_BYTES; done += block) {
        for (size_t i = 0; i < block / 8; i++) {
            state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            values[i] = (state ^ state >> 29) & UINT64_C(0xbfffbfffbfffbfff);
        }
        SEAM_ASSERT(pwrite(b->fd, values, block, (off_t)done) == (ssize_t)block);
    }
    for (size_t done = 0; done < FILE_BYTES; done += block) {
        SEAM_ASSERT(pread(b->fd, values, block, (off_t)done) == (ssize_t)block);
    }
    seam_mem_free(values);
}

/* down and gate|up in turn, load_bytes of them; their count. */
static uint32_t matrices_of(seam_load_matrix ret[MATRICES_MAX], seam_weight *weights[MATRICES_MAX],
                            size_t *ret_bytes, const bench *b, seam_raw_type type) {
    const size_t matrix = (size_t)C * F * 2;
    uint32_t count = 0;
    size_t offset = 0;
    while (count < MATRICES_MAX) {
        const bool wide = count % 2 == 1;
        const size_t bytes = wide ? 2 * matrix : matrix;
        if (offset + bytes > b->load_bytes) {
            break;
        }
        ret[count] = (seam_load_matrix){
            .ret_weight = &weights[count], .C = wide ? C : F, .part_count = wide ? 2 : 1};
        for (uint32_t p = 0; p < ret[count].part_count; p++) {
            ret[count].parts[p] = (seam_load_part){.file = "bench",
                                                   .fd = b->fd,
                                                   .offset = offset % (FILE_BYTES - matrix),
                                                   .type = type,
                                                   .rows = wide ? F : C};
            offset += matrix;
        }
        count++;
    }
    *ret_bytes = offset;
    return count;
}

static void load_row(const bench *b, seam_raw_type type, const seam_load_options *options) {
    static seam_load_matrix matrices[MATRICES_MAX];
    static seam_weight *weights[MATRICES_MAX];
    double rates[RUNS];
    size_t bytes = 0;
    seam_error err = {0};
    const uint32_t count = matrices_of(matrices, weights, &bytes, b, type);
    for (int run = 0; run < RUNS; run++) {
        const double begin = now_seconds();
        must(seam_weight_load(b->backend, matrices, count, options, &err), "load", &err);
        rates[run] = (double)bytes / (now_seconds() - begin);
        for (uint32_t i = 0; i < count; i++) {
            b->ops->weight_destroy(weights[i]);
        }
    }
    qsort(rates, RUNS, sizeof *rates, by_value);
    (void)printf("%-4s %2u threads, pieces of %4.1f MiB: %6.2f GB/s median, %6.2f best, "
                 "%.2f of the pinned rate\n",
                 type == SEAM_RAW_BF16 ? "bf16" : "f16", options->threads,
                 (double)options->piece_bytes / 0x1p20, rates[RUNS / 2] * 1e-9,
                 rates[RUNS - 1] * 1e-9, rates[RUNS / 2] / b->pinned_rate);
    (void)fflush(stdout);
}

int main(int argc, char **argv) {
    static const uint32_t defaults[] = {4, 8, 12, 16};
    static const size_t pieces[] = {(size_t)1 << 20, (size_t)2 << 20, (size_t)4 << 20};
    const seam_backend_options options = {.device = argc > 1 ? argv[1] : "cpu"};
    const double gib = argc > 2 ? strtod(argv[2], NULL) : 13.0;
    const uint32_t thread_rows = argc > 3 ? (uint32_t)(argc - 3) : 4;
    bench b = {.load_bytes = (size_t)(gib * 64) << 24};
    seam_error err = {0};
    char path[] = "/tmp/bench_load_XXXXXX";
    must(seam_backend_create(&b.backend, &options, &err), "backend", &err);
    b.ops = seam_backend_ops(b.backend);
    b.fd = mkstemp(path);
    SEAM_ASSERT(b.fd >= 0);
    (void)unlink(path);
    file_fill(&b);
    b.pinned_rate = pinned_rate(&b);
    (void)printf("%s\n%.2f GiB from page cache; pinned host to device: %.2f GB/s\n",
                 seam_backend_describe(b.backend), (double)b.load_bytes / 0x1p30,
                 b.pinned_rate * 1e-9);
    for (uint32_t t = 0; t < thread_rows; t++) {
        for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
            const seam_load_options with = {
                .threads = argc > 3 ? (uint32_t)strtoul(argv[3 + t], NULL, 10) : defaults[t],
                .piece_bytes = pieces[p]};
            load_row(&b, SEAM_RAW_BF16, &with);
        }
    }
    const seam_load_options last = {.threads = SEAM_LOAD_THREADS_DEFAULT,
                                    .piece_bytes = SEAM_LOAD_PIECE_BYTES};
    load_row(&b, SEAM_RAW_F16, &last);
    (void)close(b.fd);
    seam_backend_destroy(b.backend);
    return 0;
}
