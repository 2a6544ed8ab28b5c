/* Goal: no more than the window is ever on its way, a sender never waits for ever, and a grant may
 * come late, twice or not at all.  Method: both ends joined by a queue under drawn sizes, with
 * grants dropped and repeated; an overrun by one byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "credit.h"

static uint32_t drawn = 1;

static uint32_t draw(uint32_t below) {
    drawn = drawn * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)drawn * below) >> 32);
}

static void test_credit__grants_lost_and_repeated__bounded_and_alive(void **state) {
    (void)state;
    enum { WAITING_MAX = 4096 };
    static uint32_t waiting[WAITING_MAX];
    seam_credit_tx tx = {0};
    seam_credit_rx rx = {0};
    seam_credit_rx_open(&rx, SEAM_CREDIT_BYTES_MIN);
    seam_credit_tx_open(&tx, SEAM_CREDIT_BYTES_MIN);
    uint64_t older = 0, total = 0, waits = 0;
    uint32_t begin = 0, end = 0;
    for (uint32_t turn = 0; turn < 200000; turn++) {
        const uint32_t frame = 64 + draw(SEAM_CREDIT_BYTES_MIN / 2 - 63);
        if (seam_credit_tx_fits(&tx, frame) && end - begin < WAITING_MAX) {
            seam_credit_tx_add(&tx, frame);
            assert_int_equal(seam_credit_rx_take(&rx, frame, NULL), SEAM_OK);
            waiting[end++ % WAITING_MAX] = frame;
            total += frame;
        } else {
            waits++;
        }
        assert_true(rx.received - rx.consumed <= rx.window);
        if (begin < end && draw(2) == 0) {
            seam_credit_rx_consume(&rx, waiting[begin++ % WAITING_MAX]);
        }
        uint64_t limit = 0;
        if (seam_credit_rx_grant(&limit, &rx)) {
            older = draw(3) > 0 ? limit : older; /* a third never arrives on its own */
            seam_credit_tx_grant(&tx, older);
        } else {
            seam_credit_tx_grant(&tx, older); /* again */
        }
        if (begin == end && !seam_credit_tx_fits(&tx, SEAM_CREDIT_BYTES_MIN / 2)) {
            seam_credit_tx_grant(&tx, older = rx.granted); /* what a stream that stands delivers */
            assert_true(seam_credit_tx_fits(&tx, SEAM_CREDIT_BYTES_MIN / 2));
        }
    }
    assert_true(waits > 1000 && total > 1000ull * SEAM_CREDIT_BYTES_MIN);
}

static void test_rx_take__a_byte_too_many__named(void **state) {
    (void)state;
    seam_credit_rx rx = {0};
    seam_error err = {0};
    uint64_t limit = 0;
    assert_int_equal(seam_credit_rx_take(&rx, 1, &err),
                     SEAM_E_OUT_OF_SEQUENCE); /* not attached yet */
    assert_memory_equal(err.text, "credit: ", 8);
    seam_credit_rx_open(&rx, SEAM_CREDIT_BYTES_MIN);
    assert_int_equal(seam_credit_rx_take(&rx, SEAM_CREDIT_BYTES_MIN, NULL), SEAM_OK);
    assert_int_equal(seam_credit_rx_take(&rx, 1, &err), SEAM_E_OUT_OF_SEQUENCE);
    seam_credit_rx_consume(&rx, SEAM_CREDIT_BYTES_MIN / 4 - 1);
    assert_false(seam_credit_rx_grant(&limit, &rx));
    seam_credit_rx_consume(&rx, 1);
    assert_true(seam_credit_rx_grant(&limit, &rx));
    assert_int_equal(limit, SEAM_CREDIT_BYTES_MIN + SEAM_CREDIT_BYTES_MIN / 4);
    assert_false(seam_credit_rx_grant(&limit, &rx)); /* told once */
    assert_int_equal(seam_credit_rx_take(&rx, SEAM_CREDIT_BYTES_MIN / 4, NULL), SEAM_OK);
    assert_int_equal(seam_credit_rx_take(&rx, UINT64_MAX, &err), SEAM_E_OUT_OF_SEQUENCE);
}

static void test_tx__old_grant_or_no_counting__as_before(void **state) {
    (void)state;
    seam_credit_tx tx = {0};
    assert_false(seam_credit_tx_fits(&tx, 1));
    seam_credit_tx_open(&tx, 100);
    seam_credit_tx_add(&tx, 60);
    assert_false(seam_credit_tx_fits(&tx, 41));
    seam_credit_tx_grant(&tx, 120);
    seam_credit_tx_grant(&tx, 110);
    assert_true(seam_credit_tx_fits(&tx, 60));
    assert_false(seam_credit_tx_fits(&tx, 61));
    seam_credit_tx_grant(&tx, UINT64_MAX);
    assert_true(seam_credit_tx_fits(&tx, 1u << 30));
    seam_credit_tx_open(&tx, 0);
    assert_true(seam_credit_tx_fits(&tx, UINT64_MAX));
    seam_credit_tx_add(&tx, 1u << 30);
    assert_true(seam_credit_tx_fits(&tx, UINT64_MAX));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_credit__grants_lost_and_repeated__bounded_and_alive),
        cmocka_unit_test(test_rx_take__a_byte_too_many__named),
        cmocka_unit_test(test_tx__old_grant_or_no_counting__as_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
