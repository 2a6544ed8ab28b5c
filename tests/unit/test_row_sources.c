/* Goal: equal rows are found, gathered and spread again.
 * Method: keys drawn from few and from many, and such that they meet in the table; sources against
 * a search for the first equal key; a round trip of rows made of their keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "row_sources.h"

enum { ROWS = 700, CHANNELS = 3 };

static uint32_t key_of(uint32_t t, int kind) {
    const uint32_t mixed = t * 2246822519u ^ (t >> 3);
    return kind == 0   ? 7          /* one key */
           : kind == 1 ? t          /* all differ */
           : kind == 2 ? mixed % 40 /* few */
           : kind == 3
               ? mixed % 400 + (1u << 31)           /* many */
               : (mixed % 90) * 244002641u % 16384; /* close to multiples of 2^32 / golden */
}

static void test_find__keys__first_appearance_order(void **state) {
    (void)state;
    for (int kind = 0; kind < 5; kind++) {
        for (uint32_t rows = 1; rows <= ROWS; rows += rows < 20 ? 1 : 340) {
            uint32_t keys[ROWS], sources[ROWS], firsts[ROWS], distinct = 0;
            uint32_t *table = calloc(seam_row_sources_table_count(rows), sizeof *table);
            for (uint32_t t = 0; t < rows; t++) {
                keys[t] = key_of(t, kind);
            }
            const uint32_t count = seam_row_sources_find(sources, table, keys, rows);
            for (uint32_t t = 0; t < rows; t++) {
                uint32_t n = 0;
                while (n < distinct && keys[firsts[n]] != keys[t]) {
                    n++;
                }
                assert_int_equal(sources[t], n);
                if (n == distinct) {
                    firsts[distinct++] = t;
                }
            }
            assert_int_equal(count, distinct);
            free(table);
        }
    }
}

static void test_gather_spread__rows_of_keys__round_trip(void **state) {
    (void)state;
    for (int kind = 0; kind < 5; kind++) {
        static float x[ROWS][CHANNELS], y[ROWS][CHANNELS];
        static uint32_t keys[ROWS], sources[ROWS], table[2048];
        assert_true(seam_row_sources_table_count(ROWS) <= 2048);
        for (uint32_t t = 0; t < ROWS; t++) {
            keys[t] = key_of(t, kind);
            for (uint32_t c = 0; c < CHANNELS; c++) {
                x[t][c] = (float)(keys[t] % 65536) + 0.25f * (float)c;
                y[t][c] = -1.0f;
            }
        }
        const uint32_t count = seam_row_sources_find(sources, table, keys, ROWS);
        seam_row_sources_gather(y[0], x[0], sources, ROWS, sizeof x[0]);
        for (uint32_t t = count; t < ROWS; t++) { /* nothing behind the distinct rows */
            assert_true(y[t][0] == -1.0f);
        }
        seam_row_sources_spread(y[0], sources, ROWS, CHANNELS);
        assert_memory_equal(x, y, sizeof x);
        static uint32_t firsts[ROWS], origins[ROWS];
        seam_row_sources_places(firsts, origins, sources, ROWS);
        for (uint32_t t = 0; t < ROWS; t++) {
            uint32_t first = 0;
            while (keys[first] != keys[t]) {
                first++;
            }
            assert_int_equal(origins[t], first);
            assert_int_equal(firsts[sources[t]], first);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find__keys__first_appearance_order),
        cmocka_unit_test(test_gather_spread__rows_of_keys__round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
