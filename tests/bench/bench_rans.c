/* The entropy coder beside zstd -3 and memcpy on the same packed codes, one core, one run:
 *
 *   bench_rans [FILE.f32 CHANNELS ROWS]      rows of f32, for example dumped activations
 *
 * Without a file: 2000 x 1024 values, normal, Laplace, and normal with an outlier in each channel
 * that stretches its range.  Codes by affine with ranges from min and max, widths 3, 4, 8 and mixed
 * (2..6, mean 4).  GB/s counts bytes of packed codes; best of RUNS.
 *
 * H class: empirical entropy of the codes, order 0, one distribution a width; H chan.: one a
 * channel, without what sending it would cost.  Columns `/H` are the coder's size to these.
 * zstd finds nothing in most packed codes, gives up early and stores them: then its times are
 * those of a copy, and its ratio 1.00 says so.  The last columns give zstd the codes a byte each
 * (the top 8 bits of wider ones), where its Huffman stage works; GB/s still of packed codes.
 * Not in ctest. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zstd.h>

#include "arena.h"
#include "rans.h"

#define RUNS 25

typedef struct bench {
    uint32_t rows, channels;
    float *x;
    uint8_t *widths, *ranges, *codes, *stream, *again, *packed, *bytes;
    size_t codes_bytes, stream_bytes, zstd_bytes, zstd_of_bytes, zstd_max;
    void *scratch, *rans_scratch;
    seam_rans_args args;
    ZSTD_CCtx *compressor;
    ZSTD_DCtx *decompressor;
} bench;

typedef void (*bench_call)(bench *b);

static void check(bool holds, const char *what) {
    if (!holds) {
        (void)fprintf(stderr, "bench_rans: %s\n", what);
        exit(1);
    }
}

static double now_seconds(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double rate(bench *b, bench_call call) {
    double best = 1e9;
    for (int run = 0; run < RUNS; run++) {
        const double begin = now_seconds();
        call(b);
        const double seconds = now_seconds() - begin;
        best = seconds < best ? seconds : best;
    }
    return 1e-9 * (double)b->codes_bytes / best;
}

static void call_memcpy(bench *b) {
    memcpy(b->again, b->codes, b->codes_bytes);
    __asm__ volatile("" : : "r"(b->again) : "memory"); /* the copy has to happen */
}

static void call_encode(bench *b) {
    seam_rans_encode(b->stream, &b->stream_bytes, &b->args, b->codes, b->rans_scratch);
}

static void call_decode(bench *b) {
    check(seam_rans_decode(b->again, &b->args, b->stream, b->stream_bytes, b->rans_scratch) ==
              SEAM_OK,
          "decode");
}

static void call_zstd_encode(bench *b) {
    b->zstd_bytes =
        ZSTD_compressCCtx(b->compressor, b->packed, b->zstd_max, b->codes, b->codes_bytes, 3);
    check(!ZSTD_isError(b->zstd_bytes), "zstd");
}

static void call_zstd_decode(bench *b) {
    const size_t bytes =
        ZSTD_decompressDCtx(b->decompressor, b->again, b->codes_bytes, b->packed, b->zstd_bytes);
    check(bytes == b->codes_bytes, "zstd");
}

static void call_zstd_encode_bytes(bench *b) {
    b->zstd_of_bytes = ZSTD_compressCCtx(b->compressor, b->packed, b->zstd_max, b->bytes,
                                         (size_t)b->rows * b->channels, 3);
    check(!ZSTD_isError(b->zstd_of_bytes), "zstd");
}

static void call_zstd_decode_bytes(bench *b) {
    const size_t values = (size_t)b->rows * b->channels;
    check(ZSTD_decompressDCtx(b->decompressor, b->bytes, values, b->packed, b->zstd_of_bytes) ==
              values,
          "zstd");
}

/* Code of a value, out of the packed form (WIRE.md 3.2). */
static uint32_t code_at(const bench *b, uint32_t row, uint32_t channel, size_t bits_before,
                        size_t bits_total) {
    const uint32_t group = row - row % 32;
    const uint32_t n = b->rows - group < 32 ? b->rows - group : 32;
    uint32_t code = 0;
    for (uint32_t j = 0; j < b->widths[channel]; j++) {
        const size_t bit = group * bits_total + (bits_before + j) * n + row % 32;
        code |= (uint32_t)(b->codes[bit / 8] >> (bit % 8) & 1) << j;
    }
    return code;
}

static double entropy_bits(const uint32_t *counts, double total) {
    double bits = 0.0;
    for (uint32_t s = 0; s < 65536; s++) {
        bits += counts[s] != 0 ? counts[s] * log2(total / counts[s]) : 0.0;
    }
    return bits;
}

/* Entropy in bytes by width class and by channel; the codes a byte each on the side. */
static void entropies(double *ret_class, double *ret_channel, bench *b) {
    static uint32_t by_width[17][65536], by_channel[65536];
    double width_total[17] = {0};
    size_t bits_total = 0;
    size_t bits_before = 0;
    double channel_bits = 0.0;
    memset(by_width, 0, sizeof by_width);
    for (uint32_t c = 0; c < b->channels; c++) {
        bits_total += b->widths[c];
    }
    for (uint32_t c = 0; c < b->channels; c++) {
        const uint32_t width = b->widths[c];
        memset(by_channel, 0, sizeof by_channel);
        for (uint32_t row = 0; row < b->rows; row++) {
            const uint32_t code = code_at(b, row, c, bits_before, bits_total);
            by_width[width][code]++;
            by_channel[code]++;
            b->bytes[(size_t)row * b->channels + c] =
                (uint8_t)(width > 8 ? code >> (width - 8) : code);
        }
        bits_before += width;
        width_total[width] += b->rows;
        channel_bits += entropy_bits(by_channel, b->rows);
    }
    *ret_class = 0.0;
    *ret_channel = channel_bits / 8.0;
    for (uint32_t width = 1; width <= 16; width++) {
        *ret_class += entropy_bits(by_width[width], width_total[width]) / 8.0;
    }
}

static void print_row(bench *b, const char *name, const char *width_name) {
    const seam_codec_args args = {SEAM_CODEC_AMAQ, b->channels, b->widths, b->ranges};
    const seam_rounding nearest = {.stochastic = false};
    double by_class = 0.0;
    double by_channel = 0.0;
    check(seam_codec_measure(b->ranges, args.id, b->x, b->rows, b->channels, NULL) == SEAM_OK &&
              seam_codec_encode(b->codes, NULL, &args, b->x, b->rows, &nearest, b->scratch) ==
                  SEAM_OK,
          "codec");
    b->codes_bytes = seam_rans_bytes_max(&b->args) - 1;
    entropies(&by_class, &by_channel, b);
    const double copy = rate(b, call_memcpy);
    const double encode = rate(b, call_encode), decode = rate(b, call_decode);
    check(memcmp(b->again, b->codes, b->codes_bytes) == 0, "decoded codes differ");
    const double zstd_encode = rate(b, call_zstd_encode), zstd_decode = rate(b, call_zstd_decode);
    const double bytes_encode = rate(b, call_zstd_encode_bytes);
    const double bytes_decode = rate(b, call_zstd_decode_bytes);
    const double packed = (double)b->codes_bytes;
    const double size = (double)b->stream_bytes;
    (void)printf("%-10s %-5s %8zu %6.3f %6.3f %6.3f %6.3f | %6.3f %5.2f %5.2f | %6.3f %5.2f %6.2f "
                 "| %6.3f %5.2f %5.2f | %6.1f\n",
                 name, width_name, b->codes_bytes, by_class / packed, by_channel / packed,
                 size / by_class, size / by_channel, size / packed, encode, decode,
                 (double)b->zstd_bytes / packed, zstd_encode, zstd_decode,
                 (double)b->zstd_of_bytes / packed, bytes_encode, bytes_decode, copy);
}

static void print_tensor(bench *b, const char *name) {
    static const uint8_t widths[] = {3, 4, 8};
    static const char *const names[] = {"3", "4", "8"};
    for (size_t i = 0; i < 3; i++) {
        memset(b->widths, widths[i], b->channels);
        print_row(b, name, names[i]);
    }
    for (uint32_t c = 0; c < b->channels; c++) {
        b->widths[c] = (uint8_t)(2 + c * 7 % 5);
    }
    print_row(b, name, "2..6");
}

static void *take(size_t bytes) {
    void *ptr = seam_mem_alloc_aligned(bytes);
    check(ptr != NULL, "out of memory");
    memset(ptr, 1, bytes);
    return ptr;
}

static void bench_init(bench *b) {
    const size_t values = (size_t)b->rows * b->channels;
    b->zstd_max = ZSTD_compressBound(2 * values);
    b->x = take(4 * values);
    b->codes = take(2 * values);
    b->again = take(2 * values);
    b->stream = take(2 * values + 1);
    b->packed = take(b->zstd_max);
    b->bytes = take(values);
    b->widths = take(b->channels);
    b->ranges = take(seam_codec_range_bytes(SEAM_CODEC_AMAQ, b->channels));
    b->scratch = take(seam_codec_scratch_bytes(b->channels));
    b->rans_scratch = take(seam_rans_scratch_bytes(b->channels));
    b->args = (seam_rans_args){b->widths, b->rows, b->channels};
    b->compressor = ZSTD_createCCtx();
    b->decompressor = ZSTD_createDCtx();
    check(b->compressor != NULL && b->decompressor != NULL, "out of memory");
}

/* Values by Philox: normal (Box and Muller 1958) or Laplace, or normal with outliers. */
static void synthetic(bench *b, int kind) {
    for (uint32_t row = 0; row < b->rows; row++) {
        for (uint32_t c = 0; c < b->channels; c++) {
            const uint32_t counter[4] = {c, row, (uint32_t)kind, 0}, key[2] = {1, 1};
            uint32_t words[4];
            seam_philox(words, counter, key);
            const double u = ((double)words[0] + 0.5) * 0x1p-32;
            const double v = ((double)words[1] + 0.5) * 0x1p-32;
            const double normal = sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
            const double laplace = v < 0.5 ? log(u) : -log(u);
            double x = kind == 1 ? laplace : normal;
            if (kind == 2 && row == c % b->rows) {
                x *= 5.0 + c % 36;
            }
            b->x[(size_t)row * b->channels + c] = (float)x;
        }
    }
}

int main(int argc, char **argv) {
    check(argc == 1 || argc == 4, "usage: bench_rans [FILE.f32 CHANNELS ROWS]");
    bench b = {.rows = argc > 1 ? (uint32_t)strtoul(argv[3], NULL, 10) : 2000,
               .channels = argc > 1 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1024};
    check(b.rows >= 1 && b.channels >= 1, "no rows or channels");
    bench_init(&b);
    (void)printf("%u x %u, zstd %s -3; sizes as parts of the packed codes, rates in GB/s of them\n",
                 b.rows, b.channels, ZSTD_versionString());
    (void)printf("%-10s %-5s %8s %6s %6s %6s %6s | %6s %5s %5s | %6s %5s %6s | %6s %5s %5s | %6s\n",
                 "tensor", "width", "bytes", "Hclass", "Hchan", "/Hcl", "/Hch", "rANS", "enc",
                 "dec", "zstd", "enc", "dec", "zstd B", "enc", "dec", "memcpy");
    if (argc > 1) {
        FILE *file = fopen(argv[1], "rb");
        const size_t values = (size_t)b.rows * b.channels;
        check(file != NULL && fread(b.x, 4, values, file) == values, argv[1]);
        (void)fclose(file);
        print_tensor(&b, "file");
        return 0;
    }
    static const char *const names[] = {"normal", "laplace", "stretched"};
    for (int kind = 0; kind < 3; kind++) {
        synthetic(&b, kind);
        print_tensor(&b, names[kind]);
    }
    return 0;
}
