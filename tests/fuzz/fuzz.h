/* What fuzz targets share: the entry point and a reader that never runs past the input. */
#ifndef SEAM_TEST_FUZZ_H
#define SEAM_TEST_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t count);

typedef struct fuzz_input {
    const uint8_t *at;
    size_t left;
} fuzz_input;

/* The next `count` bytes; zeros where the input has ended. */
static inline void fuzz_take(void *ret, size_t count, fuzz_input *input) {
    const size_t have = count < input->left ? count : input->left;
    memset(ret, 0, count);
    if (have > 0) {
        memcpy(ret, input->at, have);
    }
    input->at += have;
    input->left -= have;
}

static inline uint32_t fuzz_u32(fuzz_input *input) {
    uint32_t value;
    fuzz_take(&value, sizeof value, input);
    return value;
}

static inline uint8_t fuzz_u8(fuzz_input *input) {
    uint8_t value;
    fuzz_take(&value, sizeof value, input);
    return value;
}

/* A property that must hold; a crash is what the fuzzer looks for. */
#define FUZZ_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);    \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#endif
