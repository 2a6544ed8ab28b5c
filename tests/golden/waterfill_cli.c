/* Answers waterfill cases from stdin on stdout, for test_waterfill_live.py.  All little-endian.
 *
 *   case:   u32 channels, updates, bits_min, bits_max; f64 mean_bits; u64 values here, values
 * there, values used here, values used there; of the other site: u32 live, f64 sum; then for each
 * update: u32 rows, micros; f32 squares (C), spans (C) answer: f32 weights (C), spans (C); u32
 * live; f64 sum; u32 total here, total there; u8 widths (C) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "waterfill.h"

static void bytes_read(uint8_t *ret, size_t count) {
    if (fread(ret, 1, count, stdin) != count) {
        (void)fprintf(stderr, "waterfill_cli: the case ends too early\n");
        exit(1);
    }
}

static uint32_t u32_read(void) {
    uint8_t bytes[4];
    bytes_read(bytes, sizeof bytes);
    return seam_get_u32(bytes);
}

static uint64_t u64_read(void) {
    uint8_t bytes[8];
    bytes_read(bytes, sizeof bytes);
    return seam_get_u64(bytes);
}

static double f64_read(void) {
    const uint64_t bits = u64_read();
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void floats_read(float *ret, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        uint8_t bytes[4];
        bytes_read(bytes, sizeof bytes);
        ret[i] = seam_get_f32(bytes);
    }
}

static void u32_write(uint32_t value) {
    uint8_t bytes[4];
    seam_put_u32(bytes, value);
    (void)fwrite(bytes, 1, sizeof bytes, stdout);
}

static void answer_write(seam_waterfill *fill, seam_waterfill_share shares[2], double mean) {
    const uint32_t C = fill->channels;
    uint8_t *state = seam_mem_alloc(seam_waterfill_state_bytes(C)), sum[8];
    uint8_t *widths = seam_mem_alloc(C);
    uint32_t totals[2];
    uint64_t bits;
    shares[0].sum = seam_waterfill_sum(&shares[0].live, fill);
    seam_waterfill_totals(totals, shares, 2, mean);
    seam_waterfill_widths(widths, fill, totals[0], shares[0].bits_min, shares[0].bits_max);
    seam_waterfill_save(state, fill);
    (void)fwrite(state + 8, 1, seam_waterfill_state_bytes(C) - 8, stdout);
    u32_write(shares[0].live);
    memcpy(&bits, &shares[0].sum, sizeof bits);
    seam_put_u64(sum, bits);
    (void)fwrite(sum, 1, sizeof sum, stdout);
    u32_write(totals[0]);
    u32_write(totals[1]);
    (void)fwrite(widths, 1, C, stdout);
    seam_mem_free(widths);
    seam_mem_free(state);
}

int main(void) {
    for (int next = fgetc(stdin); next != EOF; next = fgetc(stdin)) {
        (void)ungetc(next, stdin);
        const uint32_t C = u32_read(), updates = u32_read();
        seam_waterfill_share shares[2] = {{.channels = C}, {.channels = C}};
        shares[0].bits_min = shares[1].bits_min = (uint8_t)u32_read();
        shares[0].bits_max = shares[1].bits_max = (uint8_t)u32_read();
        const double mean = f64_read();
        shares[0].values = u64_read();
        shares[1].values = u64_read();
        shares[0].values_used = u64_read();
        shares[1].values_used = u64_read();
        shares[1].live = u32_read();
        shares[1].sum = f64_read();
        seam_waterfill fill;
        float *sums = seam_mem_zalloc(2 * (size_t)C, sizeof *sums);
        if (sums == NULL || seam_waterfill_init(&fill, C) != SEAM_OK) {
            return 1;
        }
        for (uint32_t u = 0; u < updates; u++) {
            seam_waterfill_update_args args = {.squares = sums, .spans = sums + C};
            args.rows = u32_read();
            args.micros = u32_read();
            floats_read(sums, 2 * C);
            seam_waterfill_update(&fill, &args);
        }
        answer_write(&fill, shares, mean);
        seam_waterfill_deinit(&fill);
        seam_mem_free(sums);
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
