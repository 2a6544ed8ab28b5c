/* Loading frozen matrices from the page cache into the device, beside what the link gives.
 *
 *   bench_load DEVICE [GIB] [THREADS[:BUFFERS[:PIECE_MIB[:SLICE_KIB[:AHEAD]]]]...]
 *
 * Writes a file of 4 GiB of random bf16 values to /tmp (TMPDIR), reads it once, and loads GIB of it
 * [13, the blocks of Llama-3-8B; the file over and over] as that model's matrices (gate|up stacked
 * of two tensors) by weight_load.c, for every setting (what is left out or 0: the loader's own) and
 * with the loader's own settings; median and best of 5.  Everything is timed: taking the device's
 * and the pinned memory, threads, algorithms.
 * The ceiling, in the same run: copies from one pinned buffer, one after the other on one stream,
 * before and after.  Then: f16, which the device casts; where the device has FP8, bf16 of a backend
 * that makes those copies too; and what the loader's parts take alone: pread by the threads into
 * memory that is not pinned, pinning a buffer, taking the device's memory. */
#include <fcntl.h>
#include <pthread.h>
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

static void load_row(const bench *b, const char *name, seam_raw_type type,
                     const seam_load_options *options) {
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
    (void)printf("%-8s %2u threads, %2u buffers of %4.1f MiB, slices of %4zu KiB, %u ahead (0: "
                 "own): %6.2f GB/s "
                 "median, %6.2f best, %.1f ms, %.3f of the pinned rate\n",
                 name, options->threads, options->buffers, (double)options->piece_bytes / 0x1p20,
                 options->slice_bytes >> 10, options->ahead, rates[RUNS / 2] * 1e-9,
                 rates[RUNS - 1] * 1e-9, (double)bytes / rates[RUNS / 2] * 1e3,
                 rates[RUNS / 2] / b->pinned_rate);
    (void)fflush(stdout);
}

typedef struct part_reader {
    const bench *b;
    uint32_t idx, threads;
    uint8_t *room;
} part_reader;

static void *part_read(void *user) {
    const part_reader *r = user;
    const size_t step = SEAM_LOAD_SLICE_BYTES;
    for (size_t at = r->idx * step; at < FILE_BYTES; at += r->threads * step) {
        SEAM_ASSERT(pread(r->b->fd, r->room, step, (off_t)at) == (ssize_t)step);
    }
    return NULL;
}

/* What reading alone gives: each thread into one slice of its own, which stays in its cache. */
static void read_row(const bench *b, uint32_t threads) {
    part_reader readers[SEAM_LOAD_THREADS_MAX];
    pthread_t ids[SEAM_LOAD_THREADS_MAX];
    double best = 0.0;
    for (uint32_t i = 0; i < threads; i++) {
        readers[i] = (part_reader){b, i, threads, seam_mem_alloc_huge(SEAM_LOAD_SLICE_BYTES)};
        SEAM_ASSERT(readers[i].room != NULL);
    }
    for (int run = 0; run < RUNS; run++) {
        const double begin = now_seconds();
        for (uint32_t i = 0; i < threads; i++) {
            SEAM_ASSERT(pthread_create(&ids[i], NULL, part_read, &readers[i]) == 0);
        }
        for (uint32_t i = 0; i < threads; i++) {
            SEAM_ASSERT(pthread_join(ids[i], NULL) == 0);
        }
        const double rate = (double)FILE_BYTES / (now_seconds() - begin);
        best = rate > best ? rate : best;
    }
    for (uint32_t i = 0; i < threads; i++) {
        seam_mem_free(readers[i].room);
    }
    (void)printf("read alone, %2u threads: %6.2f GB/s best\n", threads, best * 1e-9);
}

static void pinned_row(const bench *b) {
    enum { COUNT = 4 };
    void *ptr[COUNT] = {NULL};
    const double begin = now_seconds();
    for (int i = 0; i < COUNT; i++) {
        must(b->ops->host_alloc(&ptr[i], b->backend, SEAM_LOAD_PIECE_BYTES), "pinned", NULL);
    }
    const double pinned = now_seconds();
    for (int i = 0; i < COUNT; i++) {
        b->ops->host_free(b->backend, ptr[i]);
    }
    (void)printf("a buffer of %zu MiB: pinned in %.2f ms, let go in %.2f\n",
                 SEAM_LOAD_PIECE_BYTES >> 20, (pinned - begin) * 1e3 / COUNT,
                 (now_seconds() - pinned) * 1e3 / COUNT);
}

/* Of device memory, as matrices of the model and larger; one alone after another. */
static void taken_row(const bench *b, size_t bytes) {
    enum { COUNT = 8 };
    void *ptr[COUNT] = {NULL};
    double most = 0;
    const double begin = now_seconds();
    for (int i = 0; i < COUNT; i++) {
        const double one = now_seconds();
        must(b->ops->mem_alloc(&ptr[i], b->backend, bytes), "device memory", NULL);
        most = now_seconds() - one > most ? now_seconds() - one : most;
    }
    const double taken = now_seconds();
    for (int i = 0; i < COUNT; i++) {
        b->ops->mem_free(b->backend, ptr[i]);
    }
    (void)printf("%zu MiB of the device: taken in %.2f ms, %.2f at most, let go in %.2f\n",
                 bytes >> 20, (taken - begin) * 1e3 / COUNT, most * 1e3,
                 (now_seconds() - taken) * 1e3 / COUNT);
}

/* Of its own settings, with the copies in FP8 that weight_end makes; nothing where there are none.
 */
static void fp8_row(const bench *b, const char *device) {
    static const seam_load_options own = {0};
    const seam_backend_options options = {.device = device, .fp8 = true};
    bench with = *b;
    seam_error err = {0};
    const seam_status st = seam_backend_create(&with.backend, &options, &err);
    if (st != SEAM_OK) {
        must(st == SEAM_E_UNIMPLEMENTED ? SEAM_OK : st, "backend", &err);
        (void)printf("FP8: %s\n", err.text);
        return;
    }
    with.ops = seam_backend_ops(with.backend);
    load_row(&with, "bf16+FP8", SEAM_RAW_BF16, &own);
    seam_backend_destroy(with.backend);
}

static seam_load_options setting_of(const char *text) {
    unsigned long number[5] = {0};
    char *at = (char *)text;
    for (int i = 0; i < 5 && *at != '\0'; i++) {
        number[i] = strtoul(at, &at, 10);
        at += *at == ':' ? 1 : 0;
    }
    if (*at != '\0' || number[0] > SEAM_LOAD_THREADS_MAX) {
        (void)fprintf(stderr, "bench_load: '%s' is no setting\n", text);
        exit(2);
    }
    return (seam_load_options){.threads = (uint32_t)number[0],
                               .buffers = (uint32_t)number[1],
                               .piece_bytes = number[2] << 20,
                               .slice_bytes = number[3] << 10,
                               .ahead = (uint32_t)number[4]};
}

static int file_open(void) {
    const char *folder = getenv("TMPDIR");
    char path[512];
    (void)snprintf(path, sizeof path, "%s/bench_load_XXXXXX", folder != NULL ? folder : "/tmp");
    const int fd = mkstemp(path);
    SEAM_ASSERT(fd >= 0);
    (void)unlink(path);
    return fd;
}

int main(int argc, char **argv) {
    static const seam_load_options own = {0};
    const char *device = argc > 1 ? argv[1] : "cpu";
    const seam_backend_options options = {.device = device};
    const double gib = argc > 2 ? strtod(argv[2], NULL) : 13.0;
    bench b = {.load_bytes = (size_t)(gib * 64) << 24};
    seam_error err = {0};
    must(seam_backend_create(&b.backend, &options, &err), "backend", &err);
    b.ops = seam_backend_ops(b.backend);
    b.fd = file_open();
    file_fill(&b);
    b.pinned_rate = pinned_rate(&b);
    (void)printf("%s\n%.2f GiB from page cache; pinned host to device: %.2f GB/s\n",
                 seam_backend_describe(b.backend), (double)b.load_bytes / 0x1p30,
                 b.pinned_rate * 1e-9);
    load_row(&b, "first", SEAM_RAW_BF16, &own);
    load_row(&b, "bf16", SEAM_RAW_BF16, &own);
    for (int i = 3; i < argc; i++) {
        const seam_load_options with = setting_of(argv[i]);
        load_row(&b, "bf16", SEAM_RAW_BF16, &with);
    }
    load_row(&b, "f16", SEAM_RAW_F16, &own);
    fp8_row(&b, device);
    for (uint32_t threads = 4; threads <= 16; threads += 4) {
        read_row(&b, threads);
    }
    pinned_row(&b);
    for (size_t mib = 2; mib <= 1024; mib *= 8) {
        taken_row(&b, mib << 20);
    }
    taken_row(&b, (size_t)C * F * 2);
    taken_row(&b, (size_t)C * F * 4);
    (void)printf("pinned host to device again: %.2f GB/s\n", pinned_rate(&b) * 1e-9);
    (void)close(b.fd);
    seam_backend_destroy(b.backend);
    return 0;
}
