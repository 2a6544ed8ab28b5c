/* How fast weight files become f32, type by type, on one core:
 *
 *   bench_dequantize [ROWS COLS]      4096 4096
 *
 * One line a type: the best of REPEATS, in values a second, in bytes read and written, and as a
 * share of what memcpy moves in the same run.  Values are written once each, as a model is loaded;
 * blocks are random bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "arena.h"
#include "dequantize.h"

enum { REPEATS = 5 };

static const char *const names[] = {"",     "f32",  "f16",    "bf16",  "q8_0", "q4_0",
                                    "q4_1", "q5_0", "q5_1",   "q2_k",  "q3_k", "q4_k",
                                    "q5_k", "q6_k", "iq4_nl", "iq4_xs"};

static double seconds_now(void) {
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Best seconds; type OTHER: a copy of as many bytes as floats are written. */
static double measure(float *ret, seam_tensor_type type, const uint8_t *bytes, size_t count) {
    double best = 1e30;
    for (int i = 0; i < REPEATS; i++) {
        const double begin = seconds_now();
        if (type == SEAM_TENSOR_OTHER) {
            memcpy(ret, bytes, count * sizeof *ret);
        } else {
            seam_dequantize(ret, type, bytes, count);
        }
        const double seconds = seconds_now() - begin;
        best = seconds < best ? seconds : best;
    }
    return best;
}

int main(int argc, char **argv) {
    const size_t rows = argc > 2 ? strtoul(argv[1], NULL, 10) : 4096;
    const size_t cols = argc > 2 ? strtoul(argv[2], NULL, 10) : 4096;
    const size_t count = rows * cols;
    float *values = seam_mem_zalloc(count, sizeof *values);
    uint8_t *bytes = seam_mem_zalloc(count, sizeof *values);
    if (values == NULL || bytes == NULL || count == 0 || cols % 256 != 0) {
        fprintf(stderr, "usage: %s [ROWS COLS]: COLS a multiple of 256, and memory\n", argv[0]);
        return 2;
    }
    uint64_t state = 1;
    for (size_t i = 0; i < count * sizeof *values; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        bytes[i] = (uint8_t)(state >> 56);
    }
    const double copy = 2.0 * (double)(count * sizeof *values) /
                        measure(values, SEAM_TENSOR_OTHER, bytes, count) / 1e9;
    printf("copy    %6.2f GB/s\n", copy);
    for (int type = SEAM_TENSOR_F32; type <= SEAM_TENSOR_IQ4_XS; type++) {
        uint64_t read = 0;
        (void)seam_tensor_bytes(&read, (seam_tensor_type)type, rows, cols);
        const double seconds = measure(values, (seam_tensor_type)type, bytes, count);
        const double moved = (double)(read + count * sizeof *values) / seconds / 1e9;
        printf("%-7s %6.2f Gvalues/s %6.2f GB/s %5.2f of the copy\n", names[type],
               (double)count / seconds / 1e9, moved, moved / copy);
    }
    seam_mem_free(bytes);
    seam_mem_free(values);
    return 0;
}
