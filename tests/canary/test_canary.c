/* Goal: prove that a failing assertion fails the run.  Method: assert what is false; ctest is told
 * that this program fails (WILL_FAIL), so a pass here is a failure there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_canary__always__fails(void **state) {
    (void)state;
    assert_int_equal(1, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_canary__always__fails)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
