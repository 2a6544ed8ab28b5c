/* Goal: the status table answers for every code, and errors read well at any length.
 * Method: the table itself, walked by its X-macro; texts that overflow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "seam_status.h"
#include "try.h"

#define STATUS_VALUE(name, value, grpc, text) {name, value, grpc, text},
static const struct {
    seam_status status;
    int value, grpc;
    const char *text;
} table[] = {SEAM_STATUS_TABLE(STATUS_VALUE)};
#undef STATUS_VALUE
#define ROW_COUNT (sizeof table / sizeof table[0])

static void test_table__every_code__name_and_number_there_and_back(void **state) {
    (void)state;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        seam_status found = SEAM_E_INTERNAL;
        assert_int_equal(table[i].status, table[i].value);
        assert_string_equal(seam_status_text(table[i].status), table[i].text);
        assert_int_equal(seam_status_grpc_code(table[i].status), table[i].grpc);
        assert_true(seam_status_from_name(&found, seam_status_name(table[i].status)));
        assert_int_equal(found, table[i].status);
        assert_in_range(table[i].grpc, 0, 16);
        const int value = table[i].value;
        assert_int_equal(seam_status_is_session_dead(table[i].status), value <= -100);
        assert_int_equal(seam_status_is_process_dead(table[i].status), value <= -200);
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(table[j].value, value);
            assert_string_not_equal(seam_status_name(table[j].status),
                                    seam_status_name(table[i].status));
        }
    }
    assert_string_equal(seam_status_name(SEAM_E_FENCED), "FENCED");
    assert_string_equal(seam_status_name(SEAM_OK), "OK");
}

static void test_table__unknown__defined_answers(void **state) {
    (void)state;
    const seam_status unknown = (seam_status)-99;
    seam_status found = SEAM_E_ARG;
    assert_string_equal(seam_status_name(unknown), "UNKNOWN");
    assert_string_equal(seam_status_text(unknown), "unknown status");
    assert_int_equal(seam_status_grpc_code(unknown), 2);
    assert_false(seam_status_from_name(&found, "SEAM_E_FENCED"));
    assert_int_equal(found, SEAM_E_ARG);
    assert_int_equal(seam_status_from_grpc_code(3), SEAM_E_ARG);
    assert_int_equal(seam_status_from_grpc_code(0), SEAM_OK);
    assert_int_equal(seam_status_from_grpc_code(99), SEAM_E_INTERNAL);
}

static void test_error_set__null_or_long__never_overflows(void **state) {
    (void)state;
    char text[2 * SEAM_ERROR_TEXT_BYTES];
    seam_error err;
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    assert_int_equal(seam_error_set(NULL, SEAM_E_IO, "%s", text), SEAM_E_IO);
    assert_int_equal(seam_error_set(&err, SEAM_E_IO, "%s", text), SEAM_E_IO);
    assert_int_equal(strlen(err.text), SEAM_ERROR_TEXT_BYTES - 1);
    assert_int_equal(seam_error_prefix(&err, SEAM_E_ARG, "%s", text), SEAM_E_IO);
    assert_int_equal(strlen(err.text), SEAM_ERROR_TEXT_BYTES - 1);
}

static void test_error_prefix__on_its_way_up__reads_from_outside_in(void **state) {
    (void)state;
    seam_error err = {0};
    (void)seam_error_set(&err, SEAM_E_FORMAT, "line %d: no colon", 7);
    assert_int_equal(seam_error_prefix(&err, SEAM_E_IO, "data.%s", "jsonl"), SEAM_E_FORMAT);
    assert_string_equal(err.text, "data.jsonl: line 7: no colon");
    seam_error empty = {0}; /* who failed said nothing: the code's own text */
    assert_int_equal(seam_error_prefix(&empty, SEAM_E_MEMORY, "model"), SEAM_E_MEMORY);
    assert_string_equal(empty.text, "model: out of memory");
    assert_int_equal(seam_error_prefix(NULL, SEAM_E_MEMORY, "model"), SEAM_E_MEMORY);
}

static seam_status forward(seam_status st, int *reached) {
    SEAM_TRY(st);
    *reached = 1;
    return SEAM_OK;
}

static void test_try__failed_call__returned_at_once(void **state) {
    (void)state;
    int reached = 0;
    assert_int_equal(forward(SEAM_E_LIMIT, &reached), SEAM_E_LIMIT);
    assert_int_equal(reached, 0);
    assert_int_equal(forward(SEAM_OK, &reached), SEAM_OK);
    assert_int_equal(reached, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table__every_code__name_and_number_there_and_back),
        cmocka_unit_test(test_table__unknown__defined_answers),
        cmocka_unit_test(test_error_set__null_or_long__never_overflows),
        cmocka_unit_test(test_error_prefix__on_its_way_up__reads_from_outside_in),
        cmocka_unit_test(test_try__failed_call__returned_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
