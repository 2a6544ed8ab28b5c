/* Golden streams of the entropy coder: rans_golden check FILE | write FILE.
 *
 * check: the encoder still writes the file's streams to the byte, with every variant of its loops,
 * and they decode.  test_rans_golden.py decodes the same file in Python, from WIRE.md 3.4 alone.
 *
 * File: "SEAMRAN1", u32 count, then for each: u32 rows, u32 channels, widths (u8 each), u64 FNV-1a
 * of the packed codes, u32 stream bytes, stream. */
#include <stdio.h>
#include <stdlib.h>

#include "arena.h"
#include "bytes.h"
#include "rans_fixture.h"
#include "rans_impl.h"

#define FILE_BYTES_MAX (1u << 20)

typedef struct golden_case {
    uint32_t rows, channels;
    uint8_t width_min, width_max;
    rans_shape shape;
} golden_case;

static const golden_case cases[] = {
    {1, 1, 4, 4, RANS_SHAPE_NORMAL},     /* stored */
    {64, 32, 3, 3, RANS_SHAPE_PEAKED},   /* the example of WIRE.md */
    {33, 200, 3, 3, RANS_SHAPE_RARE},    /* zeros, stored planes and a tail */
    {96, 40, 1, 16, RANS_SHAPE_ALL},     /* several classes, stored planes, zeros */
    {160, 41, 8, 8, RANS_SHAPE_PEAKED},  /* more than 4 planes modelled */
    {610, 37, 2, 6, RANS_SHAPE_NORMAL},  /* odd counts of channels and groups, so padded units */
    {2112, 33, 2, 2, RANS_SHAPE_PEAKED}, /* two symbols only */
    {16448, 70, 1, 1, RANS_SHAPE_RARE},  /* two blocks */
};
enum { CASE_COUNT = sizeof cases / sizeof *cases };

static uint64_t fnv1a(const uint8_t *bytes, size_t count) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < count; i++) {
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

/* One record; 0: something does not hold. */
static size_t record_make(uint8_t *ret, const golden_case *golden) {
    uint8_t *widths = ret + 8;
    const seam_rans_args args = {widths, golden->rows, golden->channels};
    seam_put_u32(ret, golden->rows);
    seam_put_u32(ret + 4, golden->channels);
    for (uint32_t c = 0; c < golden->channels; c++) {
        const uint32_t span = golden->width_max - golden->width_min + 1u;
        widths[c] = (uint8_t)(golden->width_min + c * 7 % span);
    }
    const size_t codes_bytes = seam_rans_bytes_max(&args) - 1;
    uint8_t *codes = malloc(codes_bytes), *again = malloc(codes_bytes);
    uint8_t *other = malloc(codes_bytes + 1);
    void *scratch = seam_mem_alloc_aligned(seam_rans_scratch_bytes(golden->channels));
    uint8_t *at = widths + golden->channels;
    size_t bytes = 0;
    bool good = codes != NULL && again != NULL && other != NULL && scratch != NULL;
    if (good) {
        rans_fixture(codes, &args, golden->shape, golden->rows);
        seam_put_u64(at, fnv1a(codes, codes_bytes));
        seam_rans_encode(at + 12, &bytes, &args, codes, scratch);
        seam_put_u32(at + 8, (uint32_t)bytes);
    }
    for (uint32_t idx = 0; good && seam_rans_tile_variant(idx) != NULL; idx++) {
        const seam_rans_tile_ops *tile = seam_rans_tile_variant(idx);
        size_t other_bytes = 0;
        seam_rans_encode_by(other, &other_bytes, tile, &args, codes, scratch);
        good = other_bytes == bytes && memcmp(other, at + 12, bytes) == 0 &&
               seam_rans_decode_by(again, tile, &args, other, bytes, scratch) == SEAM_OK &&
               memcmp(again, codes, codes_bytes) == 0;
    }
    seam_mem_free(scratch);
    free(other);
    free(again);
    free(codes);
    return good ? (size_t)(at - ret) + 12 + bytes : 0;
}

int main(int argc, char **argv) {
    if (argc != 3 || (strcmp(argv[1], "check") != 0 && strcmp(argv[1], "write") != 0)) {
        (void)fprintf(stderr, "usage: rans_golden check|write FILE\n");
        return 2;
    }
    const bool writes = strcmp(argv[1], "write") == 0;
    uint8_t *made = malloc(FILE_BYTES_MAX), *read = malloc(FILE_BYTES_MAX);
    FILE *file = fopen(argv[2], writes ? "wb" : "rb");
    bool good = made != NULL && read != NULL && file != NULL;
    size_t bytes = 12;
    if (good) {
        memcpy(made, "SEAMRAN1", 8);
        seam_put_u32(made + 8, CASE_COUNT);
    }
    for (size_t i = 0; good && i < CASE_COUNT; i++) {
        const size_t more = record_make(made + bytes, &cases[i]);
        good = more != 0;
        bytes += more;
    }
    if (good && writes) {
        good = fwrite(made, 1, bytes, file) == bytes;
    } else if (good) {
        good = fread(read, 1, FILE_BYTES_MAX, file) == bytes && memcmp(read, made, bytes) == 0;
    }
    if (file != NULL) {
        good = fclose(file) == 0 && good;
    }
    free(read);
    free(made);
    (void)printf("%s: %zu bytes, %s\n", argv[2], bytes, good ? "same" : "DIFFERS");
    return good ? 0 : 1;
}
