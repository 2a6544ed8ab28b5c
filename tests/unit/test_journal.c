/* Goal: the journal has every record that was added, and nothing that was not: a torn or damaged
 * tail is cut off, damage that leaves nothing is DATA_LOSS, a disk that fails is told; notes of
 * dropped records are all there but for those that damage hit. Method: small journals; every bit
 * flipped, every truncation of both files, every call that touches the disk made to fail
 * (disk_faults.h), old records dropped, then and again after the fault. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "disk_faults.h"
#include "journal.h"

enum { BODY_BYTES = 40, RECORDS = 4, FILE_BYTES_MAX = 4096, BIG_BYTES = 300 << 10 };

static char folder[64];

static int setup(void **state) {
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/seam-journal-XXXXXX");
    assert_non_null(mkdtemp(folder));
    disk_fault_at(UINT64_MAX, DISK_ERROR);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    static const char *const names[] = {"journal.bin", "journal.notes", "journal.lock"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        (void)unlink(path);
    }
    return rmdir(folder);
}

static void body_make(uint8_t *ret, size_t count, uint64_t step_count) {
    for (size_t i = 0; i < count; i++) {
        ret[i] = (uint8_t)(i * 5 + step_count * 3);
    }
}

static seam_status add_sized(seam_journal *journal, uint64_t step_count, size_t body_bytes) {
    char note[32];
    uint8_t *body = test_malloc(body_bytes);
    body_make(body, body_bytes, step_count);
    (void)snprintf(note, sizeof note, "step %llu", (unsigned long long)step_count);
    const seam_journal_record record = {.step_count = step_count,
                                        .state_hash = 1000 + step_count,
                                        .body = body,
                                        .body_bytes = body_bytes,
                                        .note = note,
                                        .note_bytes = step_count > 0 ? strlen(note) : 0};
    seam_error err = {0};
    const seam_status st = seam_journal_add(journal, &record, &err);
    test_free(body);
    return st;
}

/* All that the journal has is right, from its oldest record to its newest. */
static void contents_check(const seam_journal *journal, size_t body_bytes) {
    seam_buffer body = {0};
    uint8_t *expected = test_malloc(body_bytes);
    seam_error err = {0};
    for (uint64_t step = seam_journal_oldest(journal); step <= seam_journal_newest(journal);
         step++) {
        uint64_t hash = 0;
        assert_true(seam_journal_hash(&hash, journal, step));
        assert_true(hash == 1000 + step);
        assert_int_equal(seam_journal_read(&body, journal, step, &err), SEAM_OK);
        body_make(expected, body_bytes, step);
        assert_int_equal(body.count, body_bytes);
        assert_memory_equal(body.data, expected, body_bytes);
    }
    uint64_t hash = 0;
    assert_false(seam_journal_hash(&hash, journal, seam_journal_newest(journal) + 1));
    assert_int_equal(seam_journal_read(&body, journal, seam_journal_newest(journal) + 1, &err),
                     SEAM_E_DATA_LOSS);
    seam_buffer_deinit(&body);
    test_free(expected);
}

static seam_status note_count(void *user, uint64_t step_count, const void *note,
                              size_t note_bytes) {
    char expected[32];
    uint64_t *last = user;
    (void)snprintf(expected, sizeof expected, "step %llu", (unsigned long long)step_count);
    assert_int_equal(note_bytes, strlen(expected));
    assert_memory_equal(note, expected, note_bytes);
    assert_true(step_count == *last + 1);
    *last = step_count;
    return SEAM_OK;
}

static uint64_t notes_check(const seam_journal *journal) {
    uint64_t last = 0;
    assert_int_equal(seam_journal_visit(journal, note_count, &last, NULL), SEAM_OK);
    return last;
}

static seam_journal *create(void) {
    seam_journal *journal = NULL;
    seam_error err = {0};
    assert_int_equal(seam_journal_create(&journal, folder, 77, &err), SEAM_OK);
    return journal;
}

static void write_small(void) {
    seam_journal *journal = create();
    for (uint64_t step = 0; step < RECORDS; step++) {
        assert_int_equal(add_sized(journal, step, BODY_BYTES), SEAM_OK);
    }
    contents_check(journal, BODY_BYTES);
    seam_journal_close(journal);
}

static seam_status open_it(seam_journal **ret_journal, uint64_t *ret_cut) {
    seam_error err = {0};
    const seam_status st = seam_journal_open(ret_journal, ret_cut, folder, 77, &err);
    assert_true(st == SEAM_OK || err.text[0] != '\0');
    return st;
}

static void test_open__after_close__all_there(void **state) {
    (void)state;
    seam_journal *journal = NULL, *other = NULL;
    uint64_t cut = 0;
    uint64_t newest = 0;
    assert_int_equal(open_it(&journal, &cut), SEAM_E_NOT_FOUND);
    assert_int_equal(seam_journal_peek(&newest, folder, 77, NULL), SEAM_E_NOT_FOUND);
    write_small();
    assert_int_equal(open_it(&journal, &cut), SEAM_OK);
    assert_true(cut == 0);
    assert_true(seam_journal_newest(journal) == RECORDS - 1);
    contents_check(journal, BODY_BYTES);
    assert_true(notes_check(journal) == RECORDS - 1);
    assert_int_equal(open_it(&other, &cut), SEAM_E_STATE); /* one process at a time */
    assert_int_equal(seam_journal_peek(&newest, folder, 77, NULL), SEAM_OK); /* any that looks */
    assert_true(newest == RECORDS - 1);
    assert_int_equal(seam_journal_peek(&newest, folder, 78, NULL), SEAM_E_ARG);
    assert_int_equal(add_sized(journal, RECORDS, BODY_BYTES), SEAM_OK);
    seam_journal_close(journal);
    seam_error err = {0};
    assert_int_equal(seam_journal_open(&journal, &cut, folder, 78, &err), SEAM_E_ARG);
    assert_int_equal(open_it(&journal, &cut), SEAM_OK);
    assert_true(seam_journal_newest(journal) == RECORDS);
    seam_journal_close(journal);
    journal = create(); /* another run in the same folder */
    assert_true(notes_check(journal) == 0);
    seam_journal_close(journal);
}

static size_t file_read(uint8_t ret[FILE_BYTES_MAX], const char *name) {
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    const size_t count = fread(ret, 1, FILE_BYTES_MAX, file);
    assert_int_equal(fclose(file), 0);
    return count;
}

static void file_put(const char *name, const uint8_t *bytes, size_t count) {
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

/* Opens what was damaged: less than was written and all of it right, or DATA_LOSS. */
static void damaged_check(uint32_t *ret_lost, uint32_t *ret_shorter) {
    seam_journal *journal = NULL;
    uint64_t cut = 0;
    const seam_status st = open_it(&journal, &cut);
    if (st == SEAM_E_DATA_LOSS) {
        (*ret_lost)++;
        return;
    }
    assert_int_equal(st, SEAM_OK);
    assert_true(seam_journal_newest(journal) < RECORDS - 1);
    contents_check(journal, BODY_BYTES);
    /* It goes on from there. */
    assert_int_equal(add_sized(journal, seam_journal_newest(journal) + 1, BODY_BYTES), SEAM_OK);
    contents_check(journal, BODY_BYTES);
    (*ret_shorter)++;
    seam_journal_close(journal);
}

static void test_open__every_bit_flipped_every_cut__step_before_or_data_loss(void **state) {
    (void)state;
    uint8_t whole[FILE_BYTES_MAX], bytes[FILE_BYTES_MAX];
    uint32_t lost = 0, shorter = 0;
    write_small();
    const size_t count = file_read(whole, "journal.bin");
    for (size_t i = 0; i < 8 * count; i++) {
        memcpy(bytes, whole, count);
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
        file_put("journal.bin", bytes, count);
        damaged_check(&lost, &shorter);
    }
    assert_int_equal(lost + shorter, 8 * count);
    assert_true(lost > 0 && shorter > lost);
    lost = shorter = 0;
    for (size_t cut = 0; cut < count; cut++) {
        file_put("journal.bin", whole, cut);
        damaged_check(&lost, &shorter);
    }
    assert_int_equal(lost + shorter, count);
    memcpy(bytes, whole, count);
    memset(bytes + count, 0, 100); /* a hole behind the end, as a power cut may leave one */
    file_put("journal.bin", bytes, count + 100);
    seam_journal *journal = NULL;
    uint64_t cut_bytes = 0;
    assert_int_equal(open_it(&journal, &cut_bytes), SEAM_OK);
    assert_true(cut_bytes == 100 && seam_journal_newest(journal) == RECORDS - 1);
    seam_journal_close(journal);
}

/* A record that was told to be there is; a failed flush is never repeated. */
static void test_add__disk_fails_at_every_call__told_and_kept(void **state) {
    (void)state;
    for (disk_fault fault = DISK_FULL; fault < DISK_FAULTS; fault++) {
        for (uint64_t number = 0; number < 2; number++) {
            write_small();
            seam_journal *journal = NULL;
            uint64_t cut = 0;
            assert_int_equal(open_it(&journal, &cut), SEAM_OK);
            disk_fault_at(number, fault);
            assert_int_equal(add_sized(journal, RECORDS, BODY_BYTES), SEAM_E_IO);
            assert_true(disk_fault_happened());
            disk_fault_at(UINT64_MAX, fault);
            assert_int_equal(add_sized(journal, RECORDS, BODY_BYTES), SEAM_E_IO);
            assert_int_equal(disk_call_count(), 0);
            contents_check(journal, BODY_BYTES);
            seam_journal_close(journal);
            assert_int_equal(open_it(&journal, &cut), SEAM_OK);
            assert_true(seam_journal_newest(journal) == RECORDS - 1);
            contents_check(journal, BODY_BYTES);
            seam_journal_close(journal);
        }
    }
    for (uint64_t number = 0; number < 5; number++) { /* lock, file, its head, two flushes */
        seam_journal *journal = NULL;
        seam_error err = {0};
        disk_fault_at(number, DISK_ERROR);
        assert_int_equal(seam_journal_create(&journal, folder, 77, &err), SEAM_E_IO);
        disk_fault_at(UINT64_MAX, DISK_ERROR);
    }
}

static void big_make(void) {
    seam_journal *journal = create();
    for (uint64_t step = 0; step < 8; step++) {
        assert_int_equal(add_sized(journal, step, BIG_BYTES), SEAM_OK);
    }
    seam_journal_close(journal);
}

static void test_forget__old_records__dropped_and_notes_kept(void **state) {
    (void)state;
    seam_journal *journal = NULL;
    seam_error err = {0};
    uint64_t cut = 0;
    big_make();
    assert_int_equal(open_it(&journal, &cut), SEAM_OK);
    assert_int_equal(seam_journal_forget(journal, 2, &err), SEAM_OK); /* not worth it yet */
    assert_true(seam_journal_oldest(journal) == 0);
    assert_int_equal(seam_journal_forget(journal, 6, &err), SEAM_OK);
    assert_true(seam_journal_oldest(journal) == 6);
    contents_check(journal, BIG_BYTES);
    assert_true(notes_check(journal) == 7);
    assert_int_equal(add_sized(journal, 8, BIG_BYTES), SEAM_OK);
    seam_journal_close(journal);
    assert_int_equal(open_it(&journal, &cut), SEAM_OK);
    assert_true(seam_journal_oldest(journal) == 6 && seam_journal_newest(journal) == 8);
    contents_check(journal, BIG_BYTES);
    assert_true(notes_check(journal) == 8);
    seam_journal_close(journal);
}

/* Which of steps 1..31 have their notes. */
static seam_status note_mark(void *user, uint64_t step_count, const void *note, size_t note_bytes) {
    uint32_t *seen = user;
    char expected[32];
    (void)snprintf(expected, sizeof expected, "step %llu", (unsigned long long)step_count);
    assert_int_equal(note_bytes, strlen(expected));
    assert_memory_equal(note, expected, note_bytes);
    assert_true(step_count < 32 && *seen >> step_count == 0); /* rising */
    *seen |= UINT32_C(1) << step_count;
    return SEAM_OK;
}

static uint32_t notes_of_damaged(void) {
    seam_journal *journal = NULL;
    uint64_t cut = 0;
    uint32_t seen = 0;
    assert_int_equal(open_it(&journal, &cut), SEAM_OK);
    assert_true(cut == 0 && seam_journal_newest(journal) == 7);
    assert_int_equal(seam_journal_visit(journal, note_mark, &seen, NULL), SEAM_OK);
    seam_journal_close(journal);
    return seen;
}

static void test_notes__every_bit_flipped_every_cut__none_but_the_hit_lost(void **state) {
    (void)state;
    enum { NOTES = 5, ALL = 0xfe }; /* those of steps 1 to 5 are in journal.notes */
    uint8_t whole[FILE_BYTES_MAX], bytes[FILE_BYTES_MAX];
    seam_journal *journal = NULL;
    seam_error err = {0};
    uint64_t cut = 0;
    big_make();
    assert_int_equal(open_it(&journal, &cut), SEAM_OK);
    assert_int_equal(seam_journal_forget(journal, 6, &err), SEAM_OK);
    seam_journal_close(journal);
    const size_t count = file_read(whole, "journal.notes"), note_bytes = count / NOTES;
    assert_int_equal(count % NOTES, 0);
    for (size_t i = 0; i < 8 * count; i++) {
        memcpy(bytes, whole, count);
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
        file_put("journal.notes", bytes, count);
        const size_t hit = 1 + i / 8 / note_bytes;
        assert_int_equal(notes_of_damaged(), ALL & ~(1u << hit));
    }
    for (size_t left = 0; left < count; left++) {
        file_put("journal.notes", whole, left);
        const uint32_t kept = (1u << (1 + left / note_bytes)) - 2;
        assert_int_equal(notes_of_damaged(), kept | 0xc0);
    }
    for (size_t torn = 0; torn < note_bytes; torn++) { /* a tail that a write began */
        memcpy(bytes, whole, count);
        memcpy(bytes + count, whole, torn);
        file_put("journal.notes", bytes, count + torn);
        assert_int_equal(notes_of_damaged(), ALL);
    }
}

/* What was torn before the process ended does not stand before what comes after. */
static void test_forget__behind_a_torn_tail__all_notes_there(void **state) {
    (void)state;
    uint8_t bytes[FILE_BYTES_MAX];
    seam_journal *journal = NULL;
    seam_error err = {0};
    uint64_t cut = 0;
    for (size_t torn = 1; torn < 40; torn += 12) {
        big_make();
        assert_int_equal(open_it(&journal, &cut), SEAM_OK);
        assert_int_equal(seam_journal_forget(journal, 6, &err), SEAM_OK);
        seam_journal_close(journal);
        const size_t count = file_read(bytes, "journal.notes");
        memmove(bytes + count, bytes, torn);
        file_put("journal.notes", bytes, count + torn);
        assert_int_equal(open_it(&journal, &cut), SEAM_OK);
        for (uint64_t step = 8; step < 16; step++) {
            assert_int_equal(add_sized(journal, step, BIG_BYTES), SEAM_OK);
        }
        assert_int_equal(seam_journal_forget(journal, 14, &err), SEAM_OK);
        assert_true(seam_journal_oldest(journal) == 14 && notes_check(journal) == 15);
        seam_journal_close(journal);
        assert_int_equal(open_it(&journal, &cut), SEAM_OK);
        assert_true(notes_check(journal) == 15);
        seam_journal_close(journal);
    }
}

static void test_forget__disk_fails_at_every_call__nothing_lost(void **state) {
    (void)state;
    for (disk_fault fault = DISK_FULL; fault < DISK_FAULTS; fault++) {
        bool failed = true;
        for (uint64_t number = 0; failed; number++) {
            seam_journal *journal = NULL;
            seam_error err = {0};
            uint64_t cut = 0;
            big_make();
            assert_int_equal(open_it(&journal, &cut), SEAM_OK);
            disk_fault_at(number, fault);
            const seam_status st = seam_journal_forget(journal, 6, &err);
            failed = disk_fault_happened();
            disk_fault_at(UINT64_MAX, fault);
            assert_int_equal(st, failed ? SEAM_E_IO : SEAM_OK);
            contents_check(journal, BIG_BYTES);
            assert_true(notes_check(journal) == 7);
            if (number % 2 == 0) { /* the disk is well again: this process, or the next one */
                assert_int_equal(seam_journal_forget(journal, 6, &err), SEAM_OK);
                contents_check(journal, BIG_BYTES);
                assert_true(notes_check(journal) == 7);
            }
            seam_journal_close(journal);
            if (number % 2 == 1) {
                assert_int_equal(open_it(&journal, &cut), SEAM_OK);
                assert_int_equal(seam_journal_forget(journal, 6, &err), SEAM_OK);
                seam_journal_close(journal);
            }
            assert_int_equal(open_it(&journal, &cut), SEAM_OK);
            assert_true(seam_journal_newest(journal) == 7 && cut == 0);
            contents_check(journal, BIG_BYTES);
            assert_true(notes_check(journal) == 7);
            seam_journal_close(journal);
            assert_in_range(number, 0, 40);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_open__after_close__all_there, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_open__every_bit_flipped_every_cut__step_before_or_data_loss, setup, teardown),
        cmocka_unit_test_setup_teardown(test_add__disk_fails_at_every_call__told_and_kept, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_forget__old_records__dropped_and_notes_kept, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            test_notes__every_bit_flipped_every_cut__none_but_the_hit_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forget__behind_a_torn_tail__all_notes_there, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_forget__disk_fails_at_every_call__nothing_lost, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
