/* Encode and decode rates of the codecs on one core, beside a memcpy of the bf16 source in the
 * same run:  bench_codec [ROWS] [CHANNELS]
 *
 * GB/s counts the bytes of the tensor in bf16, so that the ratio to memcpy says what the codec
 * costs against moving the uncompressed tensor once.  Best of several runs.  Not in ctest. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "affine_tile.h"
#include "arena.h"
#include "codec.h"

#define RUNS 9

typedef struct bench {
    uint32_t rows, channels;
    float *x, *decoded;
    uint8_t *widths, *ranges, *codes, *source;
    void *scratch;
    seam_rounding rounding;
    seam_codec_args args;
    double memcpy_rate;
} bench;

typedef void (*bench_call)(bench *b);

static double now_seconds(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void check(seam_status st) {
    if (st != SEAM_OK) {
        (void)fprintf(stderr, "bench_codec: %s\n", seam_status_text(st));
        exit(1);
    }
}

/* GB/s of bf16 source. */
static double rate(bench *b, bench_call call) {
    double best = 1e9;
    for (int run = 0; run < RUNS; run++) {
        const double begin = now_seconds();
        call(b);
        const double seconds = now_seconds() - begin;
        best = seconds < best ? seconds : best;
    }
    return 2e-9 * b->rows * b->channels / best;
}

static void call_memcpy(bench *b) {
    memcpy(b->codes, b->source, 2 * (size_t)b->rows * b->channels);
    __asm__ volatile("" : : "r"(b->codes) : "memory"); /* the copy has to happen */
}

static void call_measure(bench *b) {
    check(seam_codec_measure(b->ranges, b->args.id, b->x, b->rows, b->channels, NULL));
}

static void call_encode(bench *b) {
    check(seam_codec_encode(b->codes, NULL, &b->args, b->x, b->rows, &b->rounding, b->scratch));
}

static void call_encode_decoded(bench *b) {
    check(
        seam_codec_encode(b->codes, b->decoded, &b->args, b->x, b->rows, &b->rounding, b->scratch));
}

static void call_decode(bench *b) {
    const size_t bytes = seam_codec_code_bytes(b->args.id, b->widths, b->rows, b->channels);
    check(seam_codec_decode(b->decoded, &b->args, b->codes, bytes, b->rows, b->scratch));
}

static void print_row(bench *b, const char *name) {
    const bool ranges = seam_codec_has_ranges(b->args.id);
    const double measure = ranges ? rate(b, call_measure) : 0.0;
    b->rounding.stochastic = false;
    const double encode = rate(b, call_encode), both = rate(b, call_encode_decoded);
    b->rounding.stochastic = true;
    const double stochastic = rate(b, call_encode);
    b->rounding.stochastic = false;
    call_encode(b); /* what decode reads */
    const double decode = rate(b, call_decode);
    (void)printf("%-10s %8.2f %8.2f %6.2f %8.2f %8.2f %8.2f %6.2f\n", name, measure, encode,
                 encode / b->memcpy_rate, both, stochastic, decode, decode / b->memcpy_rate);
}

static void *take(size_t bytes) {
    void *ptr = seam_mem_alloc_aligned(bytes);
    if (ptr == NULL) {
        (void)fprintf(stderr, "bench_codec: out of memory\n");
        exit(1);
    }
    return ptr;
}

int main(int argc, char **argv) {
    bench b = {.rows = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 2048,
               .channels = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 4096,
               .rounding = {.seed = 1}};
    const size_t values = (size_t)b.rows * b.channels;
    b.x = take(4 * values);
    b.decoded = take(4 * values);
    b.codes = take(4 * values);
    b.source = take(2 * values);
    b.widths = take(b.channels);
    b.ranges = take(seam_codec_range_bytes(SEAM_CODEC_AMAQ, b.channels));
    b.scratch = take(seam_codec_scratch_bytes(b.channels));
    uint32_t words[4] = {0};
    for (size_t i = 0; i < values; i++) {
        if (i % 4 == 0) {
            const uint32_t counter[4] = {(uint32_t)(i / 4), 0, 0, 0}, key[2] = {1, 1};
            seam_philox(words, counter, key);
        }
        b.x[i] = (float)(int32_t)words[i % 4] * 0x1p-31f;
    }
    memset(b.source, 1, 2 * values);
    memset(b.decoded, 1, 4 * values);
    uint32_t variant = 0;
    while (seam_tile_ops_variant(variant + 1) != NULL) {
        variant++;
    }
    b.memcpy_rate = rate(&b, call_memcpy);
    (void)printf("%u x %u, tile variant %u (0 base, 1 AVX2, 2 AVX-512), memcpy of bf16 %.2f GB/s\n",
                 b.rows, b.channels, variant, b.memcpy_rate);
    (void)printf("GB/s of bf16 source; encode+ also writes the decoded values\n");
    (void)printf("%-10s %8s %8s %6s %8s %8s %8s %6s\n", "codec", "measure", "encode", "ratio",
                 "encode+", "stoch.", "decode", "ratio");
    b.args = (seam_codec_args){SEAM_CODEC_BF16, b.channels, NULL, NULL};
    print_row(&b, "bf16");
    b.args = (seam_codec_args){SEAM_CODEC_AMAQ, b.channels, b.widths, b.ranges};
    for (uint8_t width = 2; width <= 8; width++) {
        char name[16];
        (void)snprintf(name, sizeof name, "affine %u", width);
        memset(b.widths, width, b.channels);
        print_row(&b, name);
    }
    for (uint32_t c = 0; c < b.channels; c++) {
        b.widths[c] = (uint8_t)(2 + c * 7 % 5); /* 2..6, mean 4 */
    }
    print_row(&b, "mixed 4");
    for (uint32_t c = 0; c < b.channels; c++) {
        b.widths[c] = (uint8_t)(1 + c * 7 % 16);
    }
    print_row(&b, "mixed 8.5");
    return 0;
}
