/* Goal: two ends that keep their caches have those of any recorded step again, bytes, order of use
 * and misses, in the same process or another one, and go on as if nothing had been; a log that is
 * torn, flipped or of another session is refused; nothing is told recorded that a disk that fails
 * does not have.
 * Method: two ends with two caches each that code against each other, small enough that samples are
 * evicted; every step's payloads and a hash of all entries in order of use are remembered; every
 * bit of a small log flipped, every truncation, every call that touches the disk made to fail
 * (disk_faults.h). */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "aqsgd.h"
#include "arena.h"
#include "bytes.h"
#include "cache_keeper.h"
#include "codec_fixture.h"
#include "disk_faults.h"
#include "sample_cache.h"
#include "whole_file.h"

enum { C = 6, ROWS = 64, S = 4, STORAGE = 1400, STEPS = 40, SAMPLES = 14, FILE_MAX = 1 << 16 };

static char folders[2][64];

typedef struct end {
    const char *folder;
    uint8_t storage[2][STORAGE];
    seam_coder *coders[2];
    seam_cache_keeper *keeper;
} end;

typedef struct record {
    seam_redo_place places[2]; /* of the ends */
    uint64_t caches, payloads; /* hashes; payloads: of the step that led here */
} record;

/* In memory where that can be had: a thousand flushes. */
static int setup(void **state) {
    (void)state;
    const char *root = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    for (int i = 0; i < 2; i++) {
        (void)snprintf(folders[i], sizeof folders[i], "%s/seam-keeper-XXXXXX", root);
        assert_non_null(mkdtemp(folders[i]));
    }
    disk_fault_at(UINT64_MAX, DISK_ERROR);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    seam_redo_logs_remove(folders[0], NULL);
    seam_redo_logs_remove(folders[1], NULL);
    return rmdir(folders[0]) + rmdir(folders[1]);
}

static void end_open(end *e, int side, uint32_t cache_bits) {
    seam_error err = {0};
    const seam_codec_plan plan = {.codec_in = SEAM_CODEC_AQSGD,
                                  .codec_out = SEAM_CODEC_AQSGD,
                                  .bits = 3,
                                  .cache_format =
                                      cache_bits > 0 ? SEAM_CACHE_QUANTIZED : SEAM_CACHE_FP16,
                                  .cache_bits = cache_bits};
    *e = (end){.folder = folders[side]};
    for (int i = 0; i < 2; i++) {
        const seam_coder_config config = {.codec = SEAM_CODEC_AQSGD,
                                          .encoder = i == side,
                                          .channels = C,
                                          .rows_max = ROWS,
                                          .state_rows_max = ROWS,
                                          .sequences_max = S,
                                          .storage = e->storage[i],
                                          .storage_bytes = cache_bits > 0 ? STORAGE / 3 : STORAGE,
                                          .bits_max = 3,
                                          .plan = &plan};
        assert_int_equal(seam_coder_create(&e->coders[i], &config), SEAM_OK);
    }
    assert_int_equal(seam_cache_keeper_create(&e->keeper, e->coders, 2, e->folder, 77, &err),
                     SEAM_OK);
    assert_non_null(e->keeper);
}

static void end_close(end *e) {
    seam_cache_keeper_destroy(e->keeper);
    seam_coder_destroy(e->coders[0]);
    seam_coder_destroy(e->coders[1]);
}

/* Everything that the next bit depends on, in order of use. */
static uint64_t caches_hash(const end *e) {
    uint64_t hash = SEAM_HASH64_INIT;
    for (int i = 0; i < 2; i++) {
        uint32_t entry = SEAM_CACHE_NONE;
        const uint8_t *tape = NULL;
        size_t bytes = 0;
        while (seam_aqsgd_entry_tape(&tape, &bytes, seam_coder_cache(e->coders[i]), &entry)) {
            hash = seam_hash64(hash, tape, bytes);
        }
        hash = seam_hash64(hash, "|", 1);
    }
    return hash;
}

/* One tensor of a step: `from` sends, `to` receives.  Returns the hash of its payloads. */
static uint64_t tensor(const end *from, const end *to, int cache, uint64_t step, uint64_t hash) {
    static float x[ROWS * C], got[ROWS * C];
    static uint8_t payload[8192];
    seam_aqsgd *const a = seam_coder_cache(from->coders[cache]);
    seam_aqsgd *const b = seam_coder_cache(to->coders[cache]);
    uint64_t random = 1 + 2 * step + 1000 * (uint64_t)cache, ids[S];
    uint32_t seq_rows[S], rows = 0;
    uint8_t range[ROWS / 8];
    for (uint32_t s = 0; s < S; s++) { /* now and then one twice, or with other rows */
        ids[s] = (uint64_t)(fixture_next(&random) % SAMPLES) << 40;
        seq_rows[s] = fixture_next(&random) % 29 == 0 ? 0 : 3 + (uint32_t)(ids[s] >> 40);
        rows += seq_rows[s];
    }
    rows += rows == 0 ? seq_rows[0] = 5 : 0;
    fixture_tensor(x, rows, C, step * 31 + (uint64_t)cache);
    for (size_t i = 0; i < sizeof range; i++) {
        range[i] = (uint8_t)(fixture_next(&random) | 0x11);
    }
    const seam_sequences sequences = {ids, seq_rows, S};
    assert_int_equal(seam_aqsgd_encode_begin(a, &sequences, x, rows, range), SEAM_OK);
    seam_aqsgd_decode_begin(b, &sequences, rows, range);
    for (uint32_t row = 0; row < rows; row += 32) {
        const uint32_t count = rows - row < 32 ? rows - row : 32;
        size_t bytes = 0;
        seam_error err = {0};
        seam_aqsgd_encode(&bytes, NULL, a, payload, x + (size_t)row * C, count);
        hash = seam_hash64(hash, payload, bytes);
        if (seam_aqsgd_decode(got, b, payload, bytes, count, &err) != SEAM_OK) {
            fail_msg("step %llu: %s", (unsigned long long)step, err.text);
        }
    }
    seam_aqsgd_commit(a);
    seam_aqsgd_commit(b);
    return hash;
}

static uint64_t step_run(end *ends, uint64_t step) {
    const uint64_t hash = tensor(&ends[0], &ends[1], 0, step, SEAM_HASH64_INIT);
    return tensor(&ends[1], &ends[0], 1, step, hash);
}

static void commit(record *ret, end *ends, uint64_t step_count) {
    seam_error err = {0};
    for (int i = 0; i < 2; i++) {
        seam_cache_keeper_mark(ends[i].keeper);
        assert_int_equal(seam_cache_keeper_save(&ret->places[i], ends[i].keeper, step_count, &err),
                         SEAM_OK);
        if (step_count % 16 == 1) {
            assert_int_equal(seam_cache_keeper_flush(ends[i].keeper, &err), SEAM_OK);
        }
    }
    ret->caches = caches_hash(&ends[0]);
    assert_true(caches_hash(&ends[1]) == ret->caches);
}

/* The undisturbed run. */
static void run(record records[STEPS + 1], end *ends, uint32_t cache_bits) {
    for (int i = 0; i < 2; i++) {
        end_open(&ends[i], i, cache_bits);
    }
    commit(&records[0], ends, 0);
    for (uint64_t step = 0; step < STEPS; step++) {
        records[step + 1].payloads = step_run(ends, step);
        commit(&records[step + 1], ends, step + 1);
    }
}

static void restore(end *ends, const record *r) {
    for (int i = 0; i < 2; i++) {
        seam_error err = {0};
        if (seam_cache_keeper_restore(ends[i].keeper, &r->places[i], &err) != SEAM_OK) {
            fail_msg("%s", err.text);
        }
        assert_true(caches_hash(&ends[i]) == r->caches);
    }
}

static void go_on(end *ends, const record *records, uint64_t from) {
    for (uint64_t step = from; step < STEPS && step < from + 3; step++) {
        record again;
        assert_true(step_run(ends, step) == records[step + 1].payloads);
        commit(&again, ends, step + 1);
        assert_true(again.caches == records[step + 1].caches);
    }
}

static void test_restore__every_step_in_any_process__goes_on_the_same(void **state) {
    (void)state;
    static record records[STEPS + 1];
    static end ends[2];
    for (uint32_t cache_bits = 0; cache_bits <= 5; cache_bits += 5) {
        run(records, ends, cache_bits);
        assert_true(seam_aqsgd_cached_count(seam_coder_cache(ends[0].coders[0])) < SAMPLES);
        for (uint64_t step = 0; step <= STEPS; step++) { /* in this process: back and forth */
            const uint64_t to = step * 17 % (STEPS + 1);
            restore(ends, &records[to]);
            go_on(ends, records, to);
        }
        for (uint64_t step = 0; step <= STEPS; step++) { /* in others, each behind a torn tail */
            end_close(&ends[0]);
            end_close(&ends[1]);
            end_open(&ends[0], 0, cache_bits);
            end_open(&ends[1], 1, cache_bits);
            restore(ends, &records[step]);
            if (step < STEPS) {
                (void)tensor(&ends[0], &ends[1], 0, step, 0); /* of a step that is not committed */
            }
        }
        /* What was written over and again leaves every place as it was. */
        restore(ends, &records[STEPS / 2]);
        go_on(ends, records, STEPS / 2);
        restore(ends, &records[STEPS]);
        end_close(&ends[0]);
        end_close(&ends[1]);
        (void)teardown(NULL);
        (void)setup(NULL);
    }
}

/* A replay that is less far ahead than the first time has the tensors of a step in another order.
 */
static void test_restore__replayed_in_another_order__every_place_stays(void **state) {
    (void)state;
    static record records[STEPS + 1];
    static end ends[2];
    run(records, ends, 0);
    for (uint64_t step = 0; step < STEPS; step++) {
        restore(ends, &records[step]);
        (void)tensor(&ends[1], &ends[0], 1, step, 0);
        (void)tensor(&ends[0], &ends[1], 0, step, 0);
        restore(ends, &records[step + 1]);
    }
    end_close(&ends[0]);
    end_close(&ends[1]);
}

static void test_rewind__step_dropped__as_at_the_mark(void **state) {
    (void)state;
    static record records[STEPS + 1];
    static end ends[2];
    seam_error err = {0};
    run(records, ends, 0);
    restore(ends, &records[9]);
    (void)tensor(&ends[0], &ends[1], 0, 9, 0);
    (void)tensor(&ends[1], &ends[0], 1, 9, 0);
    (void)tensor(&ends[0], &ends[1], 0, 33, 0);
    assert_true(caches_hash(&ends[0]) != records[9].caches);
    seam_redo_place place; /* a save in mid-step is of the mark */
    assert_int_equal(seam_cache_keeper_save(&place, ends[0].keeper, 9, &err), SEAM_OK);
    assert_memory_equal(&place, &records[9].places[0], sizeof place);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(seam_cache_keeper_rewind(ends[i].keeper, &err), SEAM_OK);
        assert_true(caches_hash(&ends[i]) == records[9].caches);
        assert_int_equal(seam_cache_keeper_rewind(ends[i].keeper, &err), SEAM_OK);
    }
    go_on(ends, records, 9);
    end_close(&ends[0]);
    end_close(&ends[1]);
}

/* Before the first save there is no way back, and every use says so until there is one. */
static void test_rewind__nothing_was_saved__lost_until_a_restore(void **state) {
    (void)state;
    static record records[STEPS + 1];
    static end ends[2];
    seam_error err = {0};
    seam_redo_place place;
    run(records, ends, 0);
    end_close(&ends[0]);
    end_close(&ends[1]);
    end_open(&ends[0], 0, 0);
    end_open(&ends[1], 1, 0);
    assert_int_equal(seam_cache_keeper_check(ends[0].keeper, &err), SEAM_OK);
    (void)tensor(&ends[0], &ends[1], 0, 0, 0);
    assert_int_equal(seam_cache_keeper_rewind(ends[0].keeper, &err), SEAM_E_DATA_LOSS);
    assert_int_equal(seam_cache_keeper_check(ends[0].keeper, &err), SEAM_E_DATA_LOSS);
    assert_int_equal(seam_cache_keeper_save(&place, ends[0].keeper, 1, &err), SEAM_E_DATA_LOSS);
    assert_non_null(strstr(err.text, "aqsgd"));
    restore(ends, &records[20]);
    assert_int_equal(seam_cache_keeper_check(ends[0].keeper, &err), SEAM_OK);
    go_on(ends, records, 20);
    end_close(&ends[0]);
    end_close(&ends[1]);
}

/* ---- files ---- */

static void path_of(char ret[160], int side, const seam_redo_place *place) {
    (void)snprintf(ret, 160, "%s/%020llu.%04llu.caches", folders[side],
                   (unsigned long long)place->step, (unsigned long long)place->number);
}

static void test_restore__every_bit_flipped_every_cut__refused(void **state) {
    (void)state;
    static record records[STEPS + 1];
    static end ends[2];
    static uint8_t whole[FILE_MAX], bytes[FILE_MAX];
    char path[160];
    seam_error err = {0};
    run(records, ends, 5);
    const seam_redo_place *place = &records[2].places[0];
    path_of(path, 0, place);
    (void)seam_test_file_read(whole, sizeof whole, "%s", path);
    const size_t count = (size_t)place->end;
    for (size_t i = 0; i < 8 * count; i++) {
        memcpy(bytes, whole, count);
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
        seam_test_file_write(bytes, count, "%s", path);
        assert_int_equal(seam_cache_keeper_restore(ends[0].keeper, place, &err), SEAM_E_CHECKSUM);
        assert_int_equal(seam_cache_keeper_check(ends[0].keeper, &err), SEAM_E_DATA_LOSS);
    }
    for (size_t cut = 0; cut < count; cut++) {
        seam_test_file_write(whole, cut, "%s", path);
        assert_int_equal(seam_cache_keeper_restore(ends[0].keeper, place, &err), SEAM_E_CHECKSUM);
    }
    seam_test_file_write(whole, count, "%s", path); /* just so long */
    assert_int_equal(seam_cache_keeper_restore(ends[0].keeper, place, &err), SEAM_OK);
    assert_true(caches_hash(&ends[0]) == records[2].caches);
    seam_redo_place other = *place; /* in the middle of a record, and another history */
    other.end -= 1;
    assert_int_equal(seam_cache_keeper_restore(ends[0].keeper, &other, &err), SEAM_E_CHECKSUM);
    other = *place;
    other.chain ^= 1;
    assert_int_equal(seam_cache_keeper_restore(ends[0].keeper, &other, &err), SEAM_E_CHECKSUM);
    other = *place;
    other.number = 9;
    assert_int_equal(seam_cache_keeper_restore(ends[0].keeper, &other, &err), SEAM_E_CHECKSUM);
    seam_cache_keeper *foreign = NULL;
    assert_int_equal(seam_cache_keeper_create(&foreign, ends[0].coders, 2, folders[0], 78, &err),
                     SEAM_OK);
    assert_int_equal(seam_cache_keeper_restore(foreign, place, &err), SEAM_E_CHECKSUM);
    seam_cache_keeper_destroy(foreign);
    end_close(&ends[0]);
    end_close(&ends[1]);
}

static uint32_t file_count(int side) {
    uint32_t count = 0;
    DIR *dir = opendir(folders[side]);
    assert_non_null(dir);
    while (readdir(dir) != NULL) {
        count++;
    }
    (void)closedir(dir);
    return count - 2;
}

/* A log that has outgrown its caches is followed by a new one, which alone is needed then. */
static void test_save__log_grows__new_file_and_the_old_one_goes(void **state) {
    (void)state;
    static record records[STEPS + 1];
    static end ends[2];
    record r;
    uint64_t step = STEPS;
    run(records, ends, 0);
    assert_int_equal(file_count(0), 1);
    do { /* some hundred steps: the smallest log is 128 KiB */
        (void)step_run(ends, step);
        commit(&r, ends, ++step);
        assert_true(step < 4000);
    } while (r.places[0].step == 0);
    assert_true(r.places[0].step == step && r.places[0].end < 8000);
    assert_int_equal(file_count(0), 2);
    seam_cache_keeper_forget(ends[0].keeper, step - 1); /* the step before may come back */
    assert_int_equal(file_count(0), 2);
    record later;
    const uint64_t payloads = step_run(ends, step);
    commit(&later, ends, step + 1);
    restore(ends, &records[STEPS]);
    restore(ends, &r);
    seam_cache_keeper_forget(ends[0].keeper, step);
    assert_int_equal(file_count(0), 1);
    end_close(&ends[0]);
    end_open(&ends[0], 0, 0);
    restore(ends, &r);
    assert_true(step_run(ends, step) == payloads);
    restore(ends, &later);
    end_close(&ends[0]);
    end_close(&ends[1]);
}

/* ---- a disk that fails ---- */

/* Steps with end 0's disk failing at one call; what was told recorded is there. */
static bool faulty_run(uint64_t number, disk_fault fault) {
    static end ends[2];
    static record records[8];
    seam_error err = {0};
    uint64_t told[8], told_count = 0;
    end_open(&ends[0], 0, 0);
    end_open(&ends[1], 1, 0);
    disk_fault_at(number, fault);
    for (uint64_t step = 0; step < 8; step++) {
        (void)(step > 0 ? step_run(ends, step - 1) : 0);
        seam_cache_keeper_mark(ends[0].keeper);
        records[step].caches = caches_hash(&ends[0]);
        if (seam_cache_keeper_save(&records[step].places[0], ends[0].keeper, step, &err) ==
                SEAM_OK &&
            seam_cache_keeper_flush(ends[0].keeper, &err) == SEAM_OK) {
            told[told_count++] = step;
        } else {
            assert_true(err.status == SEAM_E_IO && err.text[0] != '\0');
        }
    }
    const bool happened = disk_fault_happened();
    disk_fault_at(UINT64_MAX, DISK_ERROR);
    assert_true(fault == DISK_FULL || told_count >= 7);
    end_close(&ends[0]);
    end_open(&ends[0], 0, 0);
    for (uint64_t i = 0; i < told_count; i++) {
        const record *r = &records[told[i]];
        if (seam_cache_keeper_restore(ends[0].keeper, &r->places[0], &err) != SEAM_OK) {
            fail_msg("call %llu, step %llu: %s", (unsigned long long)number,
                     (unsigned long long)told[i], err.text);
        }
        assert_true(caches_hash(&ends[0]) == r->caches);
    }
    end_close(&ends[0]);
    end_close(&ends[1]);
    seam_redo_logs_remove(folders[0], NULL);
    return happened;
}

static void test_save__disk_fails_at_every_call__told_and_none_lost(void **state) {
    (void)state;
    for (disk_fault fault = DISK_FULL; fault < DISK_FAULTS; fault++) {
        uint64_t number = 0;
        while (faulty_run(number, fault)) {
            number++;
        }
        assert_true(number > 30); /* open, head; two records of two writes and a flush a step */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_restore__every_step_in_any_process__goes_on_the_same,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_restore__replayed_in_another_order__every_place_stays,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_rewind__step_dropped__as_at_the_mark, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rewind__nothing_was_saved__lost_until_a_restore, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_restore__every_bit_flipped_every_cut__refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_save__log_grows__new_file_and_the_old_one_goes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_save__disk_fails_at_every_call__told_and_none_lost,
                                        setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
