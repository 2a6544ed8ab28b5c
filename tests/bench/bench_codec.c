/* Encode and decode rates of the codecs on one core against a memcpy of the bf16 source:
 *   bench_codec [ROWS] [CHANNELS] [RUNS]
 *
 * GB/s counts the bytes of the tensor in bf16, so that a ratio to memcpy says what the codec costs
 * against moving the uncompressed tensor once.  The ratios of encoding are of measuring the ranges
 * and encoding right after, as a sender does.
 * Every rate is the best of RUNS, in turn with memcpy, and divided by the best memcpy of the same
 * row.  Not in ctest.
 *
 * Encoding is from f32, or from bf16 as a client's embedding may stand: it reads 8 or 4 bytes a
 * value (once for the ranges, once more to quantize).  What is decoded is f32 always: 4 bytes are
 * written; memcpy reads 2 and writes 2.  The first lines say how fast this core does just that for
 * f32, which is the limit of the ratios below. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "affine_tile.h"
#include "arena.h"
#include "bytes.h"
#include "codec.h"

typedef struct bench {
    uint32_t rows, channels;
    bool bf16; /* what is encoded; else f32 */
    float *x, *decoded;
    uint16_t *x16; /* the same in bf16 */
    uint8_t *widths, *ranges, *codes, *source, *copy;
    void *scratch;
    seam_rounding rounding;
    seam_codec_args args;
    int runs;
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

static double seconds_of(bench *b, bench_call call) {
    const double begin = now_seconds();
    call(b);
    return now_seconds() - begin;
}

static double gigabytes(const bench *b, double seconds) {
    return 2e-9 * b->rows * b->channels / seconds;
}

static void call_memcpy(bench *b) {
    memcpy(b->copy, b->source, 2 * (size_t)b->rows * b->channels);
    __asm__ volatile("" : : "r"(b->copy) : "memory"); /* the copy has to happen */
}

static void call_measure(bench *b) {
    check(b->bf16
              ? seam_codec_measure_bf16(b->ranges, b->args.id, b->x16, b->rows, b->channels, NULL)
              : seam_codec_measure(b->ranges, b->args.id, b->x, b->rows, b->channels, NULL));
}

static void encode_into(bench *b, float *decoded) {
    check(b->bf16 ? seam_codec_encode_bf16(b->codes, decoded, &b->args, b->x16, b->rows,
                                           &b->rounding, b->scratch)
                  : seam_codec_encode(b->codes, decoded, &b->args, b->x, b->rows, &b->rounding,
                                      b->scratch));
}

static void call_encode(bench *b) {
    encode_into(b, NULL);
}

static void call_encode_decoded(bench *b) {
    encode_into(b, b->decoded);
}

static void call_decode(bench *b) {
    const size_t bytes = seam_codec_code_bytes(b->args.id, b->widths, b->rows, b->channels);
    check(seam_codec_decode(b->decoded, &b->args, b->codes, bytes, b->rows, b->scratch));
}

/* The bare loads of two passes over the f32 source. */
static void call_read_twice(bench *b) {
    typedef uint32_t lanes __attribute__((vector_size(16), may_alias));
    const size_t count = (size_t)b->rows * b->channels / 16 * 4;
    const lanes *x = (const lanes *)(const void *)b->x; /* looked at as bits only */
    for (int pass = 0; pass < 2; pass++) {
        lanes a = x[0], c = x[1], d = x[2], e = x[3];
        for (size_t i = 4; i < count; i += 4) {
            a |= x[i];
            c |= x[i + 1];
            d |= x[i + 2];
            e |= x[i + 3];
        }
        a |= c | d | e;
        __asm__ volatile("" : : "r"(a[0]) : "memory");
    }
}

static void call_store(bench *b) {
    memset(b->decoded, 1, sizeof(float) * b->rows * b->channels);
    __asm__ volatile("" : : "r"(b->decoded) : "memory");
}

/* The best seconds of each call, in turn with memcpy, whose best comes first. */
static void race(double *ret_best, bench *b, const bench_call *calls, uint32_t count) {
    for (uint32_t i = 0; i <= count; i++) {
        ret_best[i] = 1e9;
    }
    for (int run = 0; run < b->runs; run++) {
        for (uint32_t i = 0; i < count; i++) {
            const double copy = seconds_of(b, call_memcpy);
            ret_best[0] = copy < ret_best[0] ? copy : ret_best[0];
            const double seconds = seconds_of(b, calls[i]);
            ret_best[1 + i] = seconds < ret_best[1 + i] ? seconds : ret_best[1 + i];
        }
    }
}

static void call_encode_nearest(bench *b) {
    b->rounding.stochastic = false;
    call_encode(b);
}

static void call_encode_stochastic(bench *b) {
    b->rounding.stochastic = true;
    call_encode(b);
    b->rounding.stochastic = false;
}

/* What a sender does: the ranges, then the codes. */
static void call_both_nearest(bench *b) {
    call_measure(b);
    call_encode_nearest(b);
}

static void call_both_stochastic(bench *b) {
    call_measure(b);
    call_encode_stochastic(b);
}

static void print_limits(bench *b) {
    static const bench_call calls[] = {call_read_twice, call_store};
    double best[3];
    race(best, b, calls, 2);
    (void)printf(
        "memcpy of bf16 %.2f GB/s; f32 read twice %.2f (ratio at most %.2f), f32 stored by "
        "memset %.2f (%.2f)\n",
        gigabytes(b, best[0]), gigabytes(b, best[1]), best[0] / best[1], gigabytes(b, best[2]),
        best[0] / best[2]);
}

static void print_row(bench *b, const char *name) {
    static const bench_call calls[] = {call_measure,           call_encode_nearest,
                                       call_both_nearest,      call_encode_decoded,
                                       call_encode_stochastic, call_both_stochastic};
    static const bench_call decode_call[] = {call_decode};
    double best[7], decode[2];
    race(best, b, calls, 6);
    call_encode_nearest(b); /* what decode reads */
    race(decode, b, decode_call, 1);
    (void)printf("%-10s %7.2f %8.2f %8.2f %6.3f %8.2f %8.2f %6.3f %8.2f %6.3f\n", name,
                 gigabytes(b, best[0]), gigabytes(b, best[1]), gigabytes(b, best[2]),
                 best[0] / best[3], gigabytes(b, best[4]), gigabytes(b, best[5]), best[0] / best[6],
                 gigabytes(b, decode[1]), decode[0] / decode[1]);
}

/* The affine codec from rows of this type. */
static void print_widths(bench *b, const char *type) {
    static const uint8_t widths[] = {1, 2, 3, 4, 5, 6, 7, 8, 12, 16};
    char name[16];
    for (size_t i = 0; i < sizeof widths; i++) {
        const uint8_t width = widths[i];
        (void)snprintf(name, sizeof name, "%s %u", type, width);
        memset(b->widths, width, b->channels);
        print_row(b, name);
    }
    for (uint32_t c = 0; c < b->channels; c++) {
        b->widths[c] = (uint8_t)(2 + c * 7 % 5);
    }
    (void)snprintf(name, sizeof name, "%s 2..6", type);
    print_row(b, name);
    for (uint32_t c = 0; c < b->channels; c++) {
        b->widths[c] = (uint8_t)(1 + c * 7 % 16);
    }
    (void)snprintf(name, sizeof name, "%s 1..16", type);
    print_row(b, name);
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
               .rounding = {.seed = 1},
               .runs = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 30};
    const size_t values = (size_t)b.rows * b.channels;
    b.x = take(4 * values);
    b.decoded = take(4 * values);
    b.x16 = take(2 * values);
    b.codes = take(4 * values);
    b.source = take(2 * values);
    b.copy = take(2 * values);
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
        b.x16[i] = seam_bf16_from_f32(b.x[i]);
    }
    memset(b.source, 1, 2 * values);
    memset(b.decoded, 1, 4 * values);
    memset(b.copy, 1, 2 * values);
    memset(b.codes, 1, 4 * values);
    (void)printf("%u x %u, tile variant %s, best of %d; GB/s of bf16 source\n", b.rows, b.channels,
                 seam_tile_ops_best()->name, b.runs);
    print_limits(&b);
    (void)printf("ratio: to memcpy, measure and encode together; encode+ also writes the values\n");
    (void)printf("%-10s %7s %8s %8s %6s %8s %8s %6s %8s %6s\n", "codec", "memcpy", "measure",
                 "encode", "ratio", "encode+", "stoch.", "ratio", "decode", "ratio");
    b.args = (seam_codec_args){SEAM_CODEC_BF16, b.channels, NULL, NULL};
    print_row(&b, "codec bf16");
    b.args = (seam_codec_args){SEAM_CODEC_AMAQ, b.channels, b.widths, b.ranges};
    print_widths(&b, "f32");
    b.bf16 = true;
    print_widths(&b, "bf16");
    return 0;
}
