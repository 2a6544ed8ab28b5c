/* Goal: a checkpoint is on the disk before it is told so, and a damaged one is never loaded: the
 * generation before is, or DATA_LOSS is the caller's word (CHECKSUM from every generation).
 * Method: small generations; every byte of both files flipped, every truncation; every call that
 * touches the disk made to fail, writing (disk_faults.h) and reading (read_faults.h), and their
 * order. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "arena.h"
#include "checkpoint.h"
#include "disk_faults.h"
#include "read_faults.h"
#include "whole_file.h"

enum { STATE_BYTES = 700, FILE_BYTES_MAX = 4096 };

static char folder[64];

static int setup(void **state) {
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/seam-checkpoint-XXXXXX");
    assert_non_null(mkdtemp(folder));
    disk_fault_at(UINT64_MAX, DISK_ERROR);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    disk_fault_at(UINT64_MAX, DISK_ERROR);
    seam_checkpoint_remove_all(folder);
    return access(folder, F_OK) == 0 ? -1 : 0; /* nothing of ours may be left */
}

static seam_status add(uint64_t step_count) {
    uint8_t bytes[STATE_BYTES];
    const seam_checkpoint_facts facts = {.step_count = step_count,
                                         .state_hash = 0xabc0 + step_count,
                                         .device = "cpu: test, 1 thread"};
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(i * 7 + step_count);
    }
    seam_error err = {0};
    return seam_checkpoint_write(folder, &facts, bytes, sizeof bytes, &err);
}

static seam_status load(uint64_t step_count) {
    uint8_t *bytes = NULL;
    size_t count = 0;
    seam_checkpoint_facts facts = {0};
    seam_error err = {0};
    const seam_status st = seam_checkpoint_read(&bytes, &count, &facts, folder, step_count, &err);
    if (st == SEAM_OK) { /* what is loaded is what was written, whatever happened to the disk */
        assert_int_equal(count, STATE_BYTES);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(bytes[i], (uint8_t)(i * 7 + step_count));
        }
        assert_true(facts.step_count == step_count);
        assert_true(facts.state_hash == 0xabc0 + step_count);
        assert_string_equal(facts.device, "cpu: test, 1 thread");
        seam_mem_free(bytes);
    } else {
        assert_true(err.text[0] != '\0');
    }
    return st;
}

/* The newest generation that loads; UINT64_MAX: none. */
static uint64_t newest_intact(void) {
    uint64_t steps[SEAM_CHECKPOINTS_MAX];
    uint32_t count = 0;
    assert_int_equal(seam_checkpoint_list(steps, &count, folder, NULL), SEAM_OK);
    while (count > 0 && load(steps[count - 1]) == SEAM_E_CHECKSUM) {
        count--;
    }
    return count > 0 ? steps[count - 1] : UINT64_MAX;
}

static void test_write__several__newest_is_found_and_removed(void **state) {
    (void)state;
    uint64_t steps[SEAM_CHECKPOINTS_MAX];
    uint32_t count = 0;
    assert_int_equal(seam_checkpoint_list(steps, &count, "/tmp/seam-no-such-folder", NULL),
                     SEAM_OK);
    assert_int_equal(count, 0);
    for (uint64_t step = 0; step < 3; step++) {
        assert_int_equal(add(step * 1000), SEAM_OK);
    }
    assert_int_equal(add(1000), SEAM_OK); /* again, after a rollback */
    assert_int_equal(seam_checkpoint_list(steps, &count, folder, NULL), SEAM_OK);
    assert_int_equal(count, 3);
    assert_true(steps[0] == 0 && steps[1] == 1000 && steps[2] == 2000);
    assert_true(newest_intact() == 2000);
    seam_checkpoint_remove(folder, 2000);
    assert_true(newest_intact() == 1000);
    assert_int_equal(load(2000), SEAM_E_CHECKSUM);
}

/* The manifest is the last to appear, and every name is flushed before the next file begins. */
static void test_write__order__file_folder_manifest_folder(void **state) {
    (void)state;
    disk_fault_at(UINT64_MAX, DISK_ERROR);
    assert_int_equal(add(5), SEAM_OK);
    assert_string_equal(disk_calls(), "owsrdowsrd");
}

static void test_read__every_byte_flipped_every_cut__generation_before(void **state) {
    (void)state;
    static const char *const suffixes[] = {"safetensors", "manifest"};
    assert_int_equal(add(3), SEAM_OK);
    assert_int_equal(add(8), SEAM_OK);
    for (int f = 0; f < 2; f++) {
        char path[160];
        uint8_t bytes[FILE_BYTES_MAX];
        (void)snprintf(path, sizeof path, "%s/00000000000000000008.%s", folder, suffixes[f]);
        const size_t count = seam_test_file_read(bytes, sizeof bytes, "%s", path);
        assert_true(count > 0);
        for (size_t i = 0; i < 8 * count; i++) {
            bytes[i / 8] ^= (uint8_t)(1u << i % 8);
            seam_test_file_write(bytes, count, "%s", path);
            assert_int_equal(load(8), SEAM_E_CHECKSUM);
            bytes[i / 8] ^= (uint8_t)(1u << i % 8);
        }
        for (size_t cut = 0; cut < count; cut++) {
            seam_test_file_write(bytes, cut, "%s", path);
            assert_int_equal(load(8), SEAM_E_CHECKSUM);
        }
        assert_true(newest_intact() == 3);
        bytes[count] = '\n';
        seam_test_file_write(bytes, count + 1, "%s", path);
        assert_int_equal(load(8), SEAM_E_CHECKSUM);
        seam_test_file_write(bytes, count, "%s", path);
        assert_true(newest_intact() == 8);
    }
    assert_int_equal(remove("/nonexistent/seam"), -1);
    seam_checkpoint_remove(folder, 3);
    char path[160];
    (void)snprintf(path, sizeof path, "%s/00000000000000000008.safetensors", folder);
    assert_int_equal(unlink(path), 0);
    assert_true(newest_intact() == UINT64_MAX); /* the caller says DATA_LOSS */
}

/* Whatever fails: SEAM_OK is said only of what is intact, and the generation before stays. */
static void test_write__disk_fails_at_every_call__nothing_told_that_is_not_there(void **state) {
    (void)state;
    for (disk_fault fault = DISK_FULL; fault < DISK_FAULTS; fault++) {
        uint32_t refused = 0;
        for (uint64_t number = 0;; number++) {
            assert_int_equal(add(3), SEAM_OK);
            disk_fault_at(number, fault);
            const seam_status st = add(9);
            const bool failed = disk_fault_happened();
            disk_fault_at(UINT64_MAX, fault);
            assert_int_equal(st, failed ? SEAM_E_IO : SEAM_OK);
            assert_int_equal(load(3), SEAM_OK);
            const seam_status loaded = load(9); /* it may have got to the disk, but was not told */
            assert_true(loaded == SEAM_OK || (failed && loaded == SEAM_E_CHECKSUM));
            refused += failed;
            seam_checkpoint_remove(folder, 9);
            if (!failed) {
                break;
            }
            assert_int_equal(add(9), SEAM_OK); /* a later try is not spoilt by what is left */
            assert_int_equal(load(9), SEAM_OK);
            seam_checkpoint_remove(folder, 9);
        }
        assert_int_equal(refused, 10);
    }
}

/* Unreadable is not damaged, and what may pass says nothing of the generation. */
static void test_read__disk_fails_at_every_call__says_whether_it_may_pass(void **state) {
    (void)state;
    static const struct {
        int error;
        seam_status st;
    } faults[] = {{EIO, SEAM_E_IO},       {EACCES, SEAM_E_IO},    {ENOENT, SEAM_E_CHECKSUM},
                  {EMFILE, SEAM_E_LIMIT}, {ENFILE, SEAM_E_LIMIT}, {ENOMEM, SEAM_E_MEMORY}};
    assert_int_equal(add(3), SEAM_OK);
    assert_int_equal(add(9), SEAM_OK);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        uint64_t refused = 0;
        for (;; refused++) {
            read_fault_at(refused, faults[i].error);
            const seam_status st = load(9);
            const bool failed = read_fault_happened();
            read_fault_at(UINT64_MAX, 0);
            assert_int_equal(st, failed ? faults[i].st : SEAM_OK);
            assert_int_equal(load(3), SEAM_OK);
            if (!failed) {
                break;
            }
        }
        assert_int_equal(refused, 4); /* open and read, manifest and state */
        assert_true(newest_intact() == 9);
    }
}

/* What a process that ended while it wrote has left; nothing else. */
static void test_sweep__a_write_that_did_not_end__goes(void **state) {
    (void)state;
    static const struct {
        const char *name;
        bool stays;
    } files[] = {
        {"00000000000000000004.safetensors.tmp", false},
        {"00000000000000000003.manifest.tmp", false},
        {"00000000000000000005.safetensors", false}, /* no manifest */
        {"00000000000000000003.safetensors", true},
        {"00000000000000000003.manifest", true},
        {"00000000000000000003.0001.caches", true},
        {"notes.tmp", true}, /* not ours */
    };
    char path[160];
    assert_int_equal(add(3), SEAM_OK);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, files[i].name);
        if (access(path, F_OK) != 0) {
            seam_test_file_write("x", 1, "%s", path);
        }
    }
    seam_checkpoint_sweep(folder);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, files[i].name);
        assert_int_equal(access(path, F_OK) == 0, files[i].stays);
    }
    assert_int_equal(load(3), SEAM_OK);
    (void)snprintf(path, sizeof path, "%s/notes.tmp", folder);
    assert_int_equal(unlink(path), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_write__several__newest_is_found_and_removed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_write__order__file_folder_manifest_folder, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_read__every_byte_flipped_every_cut__generation_before,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_write__disk_fails_at_every_call__nothing_told_that_is_not_there, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_read__disk_fails_at_every_call__says_whether_it_may_pass, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sweep__a_write_that_did_not_end__goes, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
