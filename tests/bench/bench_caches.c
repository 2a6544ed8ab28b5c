/* What keeping the caches of codec aqsgd costs a step, in bytes and milliseconds, at the shape of
 * SmolLM2-135M: 640 samples of 384 rows and 576 channels, 8 a step, 4 bits.  One end with one cache
 * (a session has two at each end), without a keeper and with one whose log is flushed every step,
 * as the client does; then what coming back takes.
 *
 *   bench_caches [FOLDER [EPOCHS]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "aqsgd.h"
#include "cache_keeper.h"
#include "storage.h"

enum { C = 576, SEQ_ROWS = 384, BATCH = 8, SAMPLES = 640, ROWS = SEQ_ROWS * BATCH };
static const size_t cache_bytes = (size_t)SAMPLES * SEQ_ROWS * C * 2;

static double ms_now(void) {
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static void check(seam_status st, const seam_error *err) {
    if (st != SEAM_OK) {
        fprintf(stderr, "bench_caches: %s: %s\n", seam_status_text(st), err->text);
        exit(1);
    }
}

static seam_coder *coder_make(seam_storage *storage) {
    seam_error err = {0};
    seam_coder *coder = NULL;
    const seam_codec_plan plan = {.codec_in = SEAM_CODEC_AQSGD,
                                  .codec_out = SEAM_CODEC_AQSGD,
                                  .bits = 4,
                                  .cache_format = SEAM_CACHE_FP16};
    check(seam_storage_open(storage, NULL, cache_bytes, &err), &err);
    const seam_coder_config config = {.codec = SEAM_CODEC_AQSGD,
                                      .encoder = true,
                                      .channels = C,
                                      .rows_max = ROWS,
                                      .state_rows_max = ROWS,
                                      .sequences_max = BATCH,
                                      .storage = storage->bytes,
                                      .storage_bytes = storage->count,
                                      .bits_max = 4,
                                      .plan = &plan};
    check(seam_coder_create(&coder, &config), &err);
    return coder;
}

/* One tensor of the step; returns its payload bytes. */
static size_t tensor(seam_aqsgd *a, const float *x, uint32_t step) {
    static uint8_t payload[1 << 20];
    uint64_t ids[BATCH];
    uint32_t rows[BATCH];
    size_t total = 0;
    for (uint32_t i = 0; i < BATCH; i++) {
        ids[i] = (step * BATCH + i) % SAMPLES;
        rows[i] = SEQ_ROWS;
    }
    const seam_sequences sequences = {ids, rows, BATCH};
    const seam_error none = {0};
    check(seam_aqsgd_encode_begin(a, &sequences, x, ROWS, NULL), &none);
    for (uint32_t row = 0; row < ROWS; row += 256) {
        size_t bytes = 0;
        seam_aqsgd_encode(&bytes, NULL, a, payload, x + (size_t)row * C, 256);
        total += bytes;
    }
    seam_aqsgd_commit(a);
    return total;
}

typedef struct cost {
    double tensor_ms, save_ms, flush_ms, flush_ms_max;
    size_t payload_bytes;
    uint64_t log_bytes;
} cost;

/* An epoch; without a keeper only the codec is timed. */
static cost epoch_run(seam_cache_keeper *k, seam_redo_place *place, seam_aqsgd *a, const float *x,
                      uint32_t epoch) {
    cost sum = {0};
    seam_error err = {0};
    for (uint32_t i = 0; i < SAMPLES / BATCH; i++) {
        const seam_redo_place before = *place;
        const double begin = ms_now();
        sum.payload_bytes += tensor(a, x + (epoch * 7 + i) % 64, i);
        const double done = ms_now();
        sum.tensor_ms += done - begin;
        if (k == NULL) {
            continue;
        }
        seam_cache_keeper_mark(k);
        check(seam_cache_keeper_save(place, k, epoch * SAMPLES + i + 1, &err), &err);
        const double saved = ms_now();
        check(seam_cache_keeper_flush(k, &err), &err);
        const double flushed = ms_now() - saved;
        sum.save_ms += saved - done;
        sum.flush_ms += flushed;
        sum.flush_ms_max = flushed > sum.flush_ms_max ? flushed : sum.flush_ms_max;
        sum.log_bytes += place->step == before.step ? place->end - before.end : place->end;
    }
    return sum;
}

int main(int argc, char **argv) {
    const char *folder = argc > 1 ? argv[1] : "/tmp/seam-bench-caches";
    const uint32_t epochs = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 8;
    const double steps = (double)SAMPLES / BATCH;
    seam_error err = {0};
    seam_storage storage[2];
    seam_coder *coders[2] = {coder_make(&storage[0]), coder_make(&storage[1])};
    float *x = calloc((size_t)ROWS * C + 64, sizeof *x);
    if (x == NULL) {
        return 1;
    }
    uint64_t random = 1;
    for (size_t i = 0; i < (size_t)ROWS * C + 64; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        x[i] = (float)(random >> 40) * 0x1p-24f - 0.5f;
    }
    seam_cache_keeper *k = NULL;
    seam_redo_place place, nowhere = {.end = 0};
    check(seam_cache_keeper_create(&k, coders, 1, folder, 1, &err), &err);
    check(seam_cache_keeper_save(&place, k, 0, &err), &err);
    printf("a step: epoch, payload bytes, log bytes, ms codec alone, codec and log, new file, "
           "flush, longest flush\n");
    for (uint32_t e = 0; e < epochs; e++) {
        const cost bare = epoch_run(NULL, &nowhere, seam_coder_cache(coders[1]), x, e);
        const cost kept = epoch_run(k, &place, seam_coder_cache(coders[0]), x, e);
        printf("%u %.0f %.0f %.2f %.2f %.2f %.2f %.2f\n", e, (double)kept.payload_bytes / steps,
               (double)kept.log_bytes / steps, bare.tensor_ms / steps, kept.tensor_ms / steps,
               kept.save_ms / steps, kept.flush_ms / steps, kept.flush_ms_max);
        const double begin = ms_now();
        check(seam_cache_keeper_restore(k, &place, &err), &err);
        printf("  back from %.0f MB in %.0f ms\n", (double)place.end / 1e6, ms_now() - begin);
    }
    seam_cache_keeper_destroy(k);
    seam_redo_logs_remove(folder, NULL);
    seam_coder_destroy(coders[0]);
    seam_coder_destroy(coders[1]);
    seam_storage_close(&storage[0]);
    seam_storage_close(&storage[1]);
    free(x);
    return 0;
}
