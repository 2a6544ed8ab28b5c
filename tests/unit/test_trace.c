/* Goal: the newest spans are kept, and the file is what a viewer of Chrome traces reads.
 * Method: spans of two lanes beyond the ring's size, the file parsed again; bad paths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "trace.h"

static const char *const lanes[] = {"one", "two"};

static double number_of(const json_t *object, const char *name) {
    return json_number_value(json_object_get(object, name));
}

static void test_write__more_spans_than_room__newest_in_order(void **state) {
    (void)state;
    enum { ROOM = 5, COUNT = 13 };
    char path[] = "/tmp/seam_trace_XXXXXX";
    (void)close(mkstemp(path));
    seam_trace *trace = NULL;
    seam_error err = {0};
    assert_int_equal(seam_trace_create(&trace, ROOM), SEAM_OK);
    const uint64_t outer_ns = seam_trace_begin(trace);
    for (uint32_t i = 0; i + 1 < COUNT; i++) {
        const seam_span span = {.name = "inner",
                                .begin_ns = seam_trace_begin(trace),
                                .step = 100 + i,
                                .micro = i,
                                .lane = i % 2};
        seam_trace_end(trace, &span);
    }
    const seam_span outer = {
        .name = "outer", .begin_ns = outer_ns, .step = 7, .micro = SEAM_TRACE_NO_MICRO};
    seam_trace_end(trace, &outer);
    assert_int_equal(seam_trace_write(trace, path, "test", lanes, 2, &err), SEAM_OK);
    seam_trace_destroy(trace);

    json_t *root = json_load_file(path, 0, NULL);
    const json_t *events = json_object_get(root, "traceEvents");
    assert_int_equal(json_array_size(events), 3 + ROOM); /* names of a process and two lanes */
    const json_t *last = json_array_get(events, 2 + ROOM);
    assert_string_equal(json_string_value(json_object_get(last, "name")), "outer");
    assert_null(json_object_get(json_object_get(last, "args"), "micro"));
    assert_true(number_of(json_object_get(last, "args"), "step") == 7);
    for (uint32_t i = 0; i + 1 < ROOM; i++) {
        const json_t *event = json_array_get(events, 3 + i);
        const uint32_t number = COUNT - ROOM + i;
        assert_string_equal(json_string_value(json_object_get(event, "ph")), "X");
        assert_true(number_of(event, "tid") == number % 2);
        assert_true(number_of(event, "pid") == (double)getpid());
        assert_true(number_of(json_object_get(event, "args"), "micro") == number);
        assert_true(number_of(json_object_get(event, "args"), "step") == 100 + number);
        /* Inside of the outer one, by the file's own times. */
        assert_true(number_of(event, "ts") >= number_of(last, "ts"));
        assert_true(number_of(event, "ts") + number_of(event, "dur") <=
                    number_of(last, "ts") + number_of(last, "dur") + 0.001);
    }
    json_decref(root);
    assert_int_equal(unlink(path), 0);
}

static void test_trace__none__costs_nothing(void **state) {
    (void)state;
    const seam_span span = {.name = "none", .begin_ns = seam_trace_begin(NULL)};
    assert_int_equal(span.begin_ns, 0);
    seam_trace_end(NULL, &span);
    seam_trace_destroy(NULL);
}

static void test_write__no_such_folder__io(void **state) {
    (void)state;
    seam_trace *trace = NULL;
    seam_error err = {0};
    assert_int_equal(seam_trace_create(&trace, 1), SEAM_OK);
    assert_int_equal(seam_trace_write(trace, "/nowhere/trace.json", "test", lanes, 2, &err),
                     SEAM_E_IO);
    assert_non_null(strstr(err.text, "/nowhere/trace.json"));
    assert_int_equal(seam_trace_write(trace, "/dev/full", "test", lanes, 2, &err), SEAM_E_IO);
    seam_trace_destroy(trace);
}

static void test_create__no_memory__error(void **state) {
    (void)state;
    for (int64_t n = 0; n < 2; n++) {
        seam_trace *trace = NULL;
        seam_mem_fail_after(n);
        assert_int_equal(seam_trace_create(&trace, 10), SEAM_E_MEMORY);
        seam_mem_fail_after(-1);
        assert_null(trace);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write__more_spans_than_room__newest_in_order),
        cmocka_unit_test(test_trace__none__costs_nothing),
        cmocka_unit_test(test_write__no_such_folder__io),
        cmocka_unit_test(test_create__no_memory__error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
