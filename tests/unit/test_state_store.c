/* Goal: sessions of the state directory are there again after a close, in order, with what they
 * were added with; one server at a time; every start has a higher epoch.  Method: a directory in
 * /tmp. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoint.h"
#include "disk_queue.h"
#include "state_store.h"

static char folder[64];

static int setup(void **state) {
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/seam-state-XXXXXX");
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    static const char *const names[] = {"lock", "sessions.db", "sessions.db-wal",
                                        "sessions.db-shm"};
    char path[160];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        (void)unlink(path);
    }
    (void)snprintf(path, sizeof path, "%s/sessions", folder);
    (void)rmdir(path);
    return rmdir(folder);
}

static seam_state_store *open_it(void) {
    seam_state_store *store = NULL;
    seam_error err = {0};
    assert_int_equal(seam_state_store_open(&store, folder, &err), SEAM_OK);
    return store;
}

static seam_status add(seam_state_store *store, const char *id) {
    static const uint8_t secret[32] = {1, 0, 3}, config[] = {9, 0, 8, 7};
    const seam_session_row row = {.id = id,
                                  .request_id = "",
                                  .secret = secret,
                                  .secret_bytes = sizeof secret,
                                  .config = config,
                                  .config_bytes = sizeof config,
                                  .config_hash = UINT64_C(0xf000000000000001)};
    seam_error err = {0};
    return seam_state_store_add(store, &row, &err);
}

typedef struct visited {
    uint32_t count;
    char ids[4][8];
} visited;

static seam_status visit(void *user, const seam_session_row *row) {
    visited *v = user;
    assert_in_range(v->count, 0, 3);
    (void)snprintf(v->ids[v->count++], 8, "%s", row->id);
    assert_int_equal(row->secret_bytes, 32);
    assert_int_equal(row->secret[0] + row->secret[2], 4);
    assert_int_equal(row->config_bytes, 4);
    assert_int_equal(row->config[3], 7);
    assert_true(row->config_hash == UINT64_C(0xf000000000000001));
    return SEAM_OK;
}

static void test_open__again__rows_in_order_and_epoch_above(void **state) {
    (void)state;
    seam_error err = {0};
    seam_state_store *store = open_it(), *other = NULL;
    const uint64_t epoch = seam_state_store_epoch(store);
    assert_true(epoch >= UINT64_C(1) << 32);
    assert_int_equal(seam_state_store_open(&other, folder, &err), SEAM_E_STATE);
    assert_non_null(strstr(err.text, "running server"));
    assert_int_equal(add(store, "b"), SEAM_OK);
    assert_int_equal(add(store, "a"), SEAM_OK);
    assert_int_equal(add(store, "c"), SEAM_OK);
    assert_int_equal(add(store, "a"), SEAM_E_EXISTS);
    struct stat info;
    char path[160];
    (void)snprintf(path, sizeof path, "%s/sessions.db", folder);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 077, 0); /* secrets */
    seam_state_store_close(store);
    store = open_it();
    assert_true(seam_state_store_epoch(store) > epoch);
    visited v = {0};
    assert_int_equal(seam_state_store_visit(store, visit, &v, &err), SEAM_OK);
    assert_int_equal(v.count, 3);
    assert_string_equal(v.ids[0], "b");
    assert_string_equal(v.ids[1], "a");
    assert_string_equal(v.ids[2], "c");
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(seam_state_store_remove(store, v.ids[i], "", &err), SEAM_OK);
    }
    assert_int_equal(seam_state_store_remove(store, "a", "", &err), SEAM_OK);
    v.count = 0;
    assert_int_equal(seam_state_store_visit(store, visit, &v, &err), SEAM_OK);
    assert_int_equal(v.count, 0);
    seam_state_store_close(store);
}

static void test_remove__with_checkpoints__folder_goes(void **state) {
    (void)state;
    char path[160];
    seam_error err = {0};
    seam_state_store *store = open_it();
    assert_int_equal(add(store, "x"), SEAM_OK);
    assert_int_equal(seam_state_store_folder(path, sizeof path, store, "x"), SEAM_OK);
    char small[8];
    assert_int_equal(seam_state_store_folder(small, sizeof small, store, "x"), SEAM_E_LIMIT);
    const seam_checkpoint_facts facts = {.step_count = 2, .device = "d"};
    assert_int_equal(seam_checkpoint_write(path, &facts, (const uint8_t *)"abc", 3, &err), SEAM_OK);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(seam_state_store_remove(store, "x", "", &err), SEAM_OK);
    assert_int_equal(access(path, F_OK), -1);
    seam_state_store_close(store);
}

typedef struct updates {
    uint32_t count;
    uint64_t steps[8];
    char last[16];
    uint8_t first_byte;
} updates;

static seam_status updates_visit(void *user, const seam_update_row *row) {
    updates *u = user;
    assert_in_range(u->count, 0, 7);
    assert_int_equal(row->optimizer_bytes, 3);
    u->steps[u->count++] = row->effective_step;
    (void)snprintf(u->last, sizeof u->last, "%s", row->request_id);
    u->first_byte = row->optimizer[0];
    return SEAM_OK;
}

static updates updates_of(seam_state_store *store, const char *id) {
    updates u = {0};
    seam_error err = {0};
    assert_int_equal(seam_state_store_visit_updates(store, id, updates_visit, &u, &err), SEAM_OK);
    return u;
}

static void update(seam_state_store *store, const char *id, uint64_t step, uint64_t floor,
                   const char *request_id) {
    const uint8_t optimizer[] = {(uint8_t)step, 0, 9};
    const seam_update_row row = {.id = id,
                                 .request_id = request_id,
                                 .effective_step = step,
                                 .optimizer = optimizer,
                                 .optimizer_bytes = sizeof optimizer};
    seam_error err = {0};
    assert_int_equal(seam_state_store_update(store, &row, floor, &err), SEAM_OK);
}

/* PRAGMA user_version of a database that nobody has open: big-endian, at byte 60 of its header. */
static uint32_t version_of(uint32_t changed_to) {
    char path[160];
    uint8_t bytes[4];
    (void)snprintf(path, sizeof path, "%s/sessions.db", folder);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, 60, SEEK_SET), 0);
    assert_int_equal(fread(bytes, 1, 4, file), 4);
    if (changed_to != 0) {
        const uint8_t other[4] = {0, 0, 0, (uint8_t)changed_to};
        assert_int_equal(fseek(file, 60, SEEK_SET), 0);
        assert_int_equal(fwrite(other, 1, 4, file), 4);
    }
    assert_int_equal(fclose(file), 0);
    return (uint32_t)bytes[2] << 8 | bytes[3];
}

static void test_update__releases_without__refuse_the_database(void **state) {
    (void)state;
    seam_error err = {0};
    seam_state_store *store = open_it();
    assert_int_equal(add(store, "a"), SEAM_OK);
    seam_state_store_close(store);
    assert_int_equal(version_of(0), 1); /* as the releases before take it */
    store = open_it();
    update(store, "a", 9, 0, "");
    seam_state_store_close(store);
    seam_state_store_close(open_it());
    assert_int_equal(version_of(3), 2);
    assert_int_equal(seam_state_store_open(&store, folder, &err), SEAM_E_UNIMPLEMENTED);
    assert_non_null(strstr(err.text, "later release"));
}

static void test_update__in_the_place_of_later_ones__and_those_below_the_floor_go(void **state) {
    (void)state;
    seam_error err = {0};
    seam_state_store *store = open_it();
    assert_int_equal(add(store, "a"), SEAM_OK);
    assert_int_equal(add(store, "b"), SEAM_OK);
    update(store, "a", 9, 0, "r9");
    update(store, "b", 1, 0, "");
    update(store, "a", 5, 0, "r5"); /* 9 was to come after it */
    update(store, "a", 5, 0, "again");
    update(store, "a", INT64_MAX, 0, "late");
    updates u = updates_of(store, "a");
    assert_int_equal(u.count, 2);
    assert_true(u.steps[0] == 5 && u.steps[1] == INT64_MAX);
    assert_string_equal(u.last, "late");
    update(store, "a", 7, 0, "r7");
    update(store, "a", 8, 7, "r8");
    seam_state_store_close(store);
    store = open_it();
    u = updates_of(store, "a");
    assert_int_equal(u.count, 2);
    assert_true(u.steps[0] == 7 && u.steps[1] == 8 && u.first_byte == 8);
    assert_int_equal(updates_of(store, "b").count, 1);
    assert_int_equal(seam_state_store_remove(store, "a", "", &err), SEAM_OK);
    assert_int_equal(updates_of(store, "a").count, 0);
    assert_int_equal(updates_of(store, "b").count, 1);
    assert_int_equal(seam_state_store_remove(store, "b", "", &err), SEAM_OK);
    seam_state_store_close(store);
}

static uint64_t made_of(seam_state_store *store, const char *id) {
    uint64_t count = 7;
    seam_error err = {0};
    assert_int_equal(seam_state_store_made(&count, store, id, &err), SEAM_OK);
    return count;
}

static void test_made__said_again__the_newest_until_it_is_removed(void **state) {
    (void)state;
    seam_error err = {0};
    seam_state_store *store = open_it();
    assert_int_equal(add(store, "a"), SEAM_OK);
    assert_int_equal(made_of(store, "a"), 0);
    assert_int_equal(seam_state_store_set_made(store, "a", 5, &err), SEAM_OK);
    assert_int_equal(seam_state_store_set_made(store, "a", UINT64_MAX, &err), SEAM_OK);
    assert_int_equal(seam_state_store_set_made(store, "b", 9, &err), SEAM_OK);
    seam_state_store_close(store);
    store = open_it();
    assert_int_equal(made_of(store, "a"), INT64_MAX);
    assert_int_equal(made_of(store, "b"), 9);
    assert_int_equal(seam_state_store_remove(store, "a", "", &err), SEAM_OK);
    assert_int_equal(made_of(store, "a"), 0);
    assert_int_equal(seam_state_store_remove(store, "b", "", &err), SEAM_OK);
    seam_state_store_close(store);
}

typedef struct noted {
    uint32_t count;
    char last[2][40];
} noted;

static seam_status noted_visit(void *user, const char *request_id, const char *id) {
    noted *n = user;
    n->count++;
    (void)snprintf(n->last[0], sizeof n->last[0], "%s", request_id);
    (void)snprintf(n->last[1], sizeof n->last[1], "%s", id);
    return SEAM_OK;
}

static void test_remove__with_request_ids__newest_are_remembered(void **state) {
    (void)state;
    seam_error err = {0};
    seam_state_store *store = open_it();
    char name[16];
    for (int i = 0; i < SEAM_DELETIONS_KEPT + 6; i++) {
        (void)snprintf(name, sizeof name, "r%d", i);
        assert_int_equal(add(store, "x"), SEAM_OK);
        assert_int_equal(seam_state_store_remove(store, "x", name, &err), SEAM_OK);
        assert_int_equal(seam_state_store_remove(store, "x", name, &err), SEAM_OK); /* once */
    }
    seam_state_store_close(store);
    store = open_it();
    noted n = {0};
    assert_int_equal(seam_state_store_visit_deletions(store, noted_visit, &n, &err), SEAM_OK);
    assert_int_equal(n.count, SEAM_DELETIONS_KEPT);
    assert_string_equal(n.last[0], name);
    assert_string_equal(n.last[1], "x");
    seam_state_store_close(store);
}

/* A process that ended between a row's end and that of the files. */
static void test_sweep__folder_without_a_row__goes(void **state) {
    (void)state;
    static const char id[2][33] = {"00112233445566778899aabbccddeeff",
                                   "ff112233445566778899aabbccddeeff"};
    char path[2][160];
    seam_error err = {0};
    seam_state_store *store = open_it();
    const seam_checkpoint_facts facts = {.step_count = 2, .device = "d"};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(seam_state_store_folder(path[i], sizeof path[i], store, id[i]), SEAM_OK);
        assert_int_equal(seam_checkpoint_write(path[i], &facts, (const uint8_t *)"abc", 3, &err),
                         SEAM_OK);
    }
    assert_int_equal(add(store, id[1]), SEAM_OK);
    uint32_t count = 0;
    assert_int_equal(seam_state_store_sweep(&count, store, &err), SEAM_OK);
    assert_int_equal(count, 1);
    assert_int_equal(access(path[0], F_OK), -1);
    assert_int_equal(access(path[1], F_OK), 0);
    assert_int_equal(seam_state_store_remove(store, id[1], "", &err), SEAM_OK);
    seam_state_store_close(store);
}

static void count_run(seam_disk_job *job) {
    ++*(uint32_t *)job->user;
}

static void test_queue__jobs__all_run_before_close(void **state) {
    (void)state;
    uint32_t count = 0;
    seam_disk_job jobs[5] = {0};
    seam_state_store *store = open_it();
    for (int i = 0; i < 5; i++) {
        jobs[i].run = count_run;
        jobs[i].user = &count;
        seam_disk_queue_post(seam_state_store_queue(store), &jobs[i]);
    }
    seam_state_store_close(store);
    assert_int_equal(count, 5);
    for (int i = 0; i < 5; i++) {
        assert_true(seam_disk_job_is_done(&jobs[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_open__again__rows_in_order_and_epoch_above, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_remove__with_checkpoints__folder_goes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_update__releases_without__refuse_the_database, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            test_update__in_the_place_of_later_ones__and_those_below_the_floor_go, setup, teardown),
        cmocka_unit_test_setup_teardown(test_made__said_again__the_newest_until_it_is_removed,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_remove__with_request_ids__newest_are_remembered, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_sweep__folder_without_a_row__goes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_queue__jobs__all_run_before_close, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
