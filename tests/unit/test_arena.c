/* Goal: arena.h: alignment, overflow, planned faults, and a plan that fits exactly.
 * Method: the same calls on a planning and on a real arena; products at the edge of size_t. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arena.h"

static void test_mul__at_the_edge__says_so(void **state) {
    (void)state;
    size_t bytes = 7;
    assert_true(seam_mul_bytes(&bytes, SIZE_MAX, 1));
    assert_true(bytes == SIZE_MAX);
    bytes = 7;
    assert_false(seam_mul_bytes(&bytes, SIZE_MAX / 2 + 1, 2));
    assert_false(seam_mul3_bytes(&bytes, (size_t)1 << 32, (size_t)1 << 31, 2));
    assert_false(seam_mul3_bytes(&bytes, 2, (size_t)1 << 32, (size_t)1 << 32));
    assert_int_equal(bytes, 7); /* untouched */
    assert_true(seam_mul3_bytes(&bytes, 3, 4, 5));
    assert_int_equal(bytes, 60);
}

static void test_alloc__too_much__null(void **state) {
    (void)state;
    assert_null(seam_mem_zalloc(SIZE_MAX / 2, 3));
    assert_null(seam_mem_alloc_aligned(SIZE_MAX - 10));
    assert_null(seam_mem_alloc_huge(SIZE_MAX - 10));
}

static void test_alloc__zero_bytes__pointers_that_differ(void **state) {
    (void)state;
    void *a = seam_mem_alloc(0), *b = seam_mem_zalloc(0, 8), *c = seam_mem_alloc_aligned(0);
    assert_true(a != NULL && b != NULL && c != NULL);
    assert_true(a != b && b != c && a != c);
    seam_mem_free(a);
    seam_mem_free(b);
    seam_mem_free(c);
    seam_mem_free(NULL);
}

static void test_alloc_aligned__any_count__aligned_and_zero(void **state) {
    (void)state;
    for (size_t count = 1; count < 300; count += 7) {
        uint8_t *bytes = seam_mem_alloc_aligned(count);
        assert_non_null(bytes);
        assert_int_equal((uintptr_t)bytes % 64, 0);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(bytes[i], 0);
        }
        memset(bytes, 0xff, count);
        seam_mem_free(bytes);
    }
}

static void test_alloc_huge__any_count__whole_pages_of_zeros(void **state) {
    (void)state;
    static const size_t counts[] = {0, 1, 2 << 20, (2 << 20) + 1};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        const size_t held = counts[i] > 2 << 20 ? 4 << 20 : 2 << 20;
        uint8_t *bytes = seam_mem_alloc_huge(counts[i]);
        assert_non_null(bytes);
        assert_int_equal((uintptr_t)bytes % (2 << 20), 0);
        for (size_t at = 0; at < held; at += 509) {
            assert_int_equal(bytes[at], 0);
        }
        memset(bytes, 0xff, held);
        seam_mem_free(bytes);
    }
}

static void test_fail_after__count__exactly_one_fails(void **state) {
    (void)state;
    void *kept[6] = {0};
    seam_mem_fail_after(2);
    kept[0] = seam_mem_alloc(8);
    kept[1] = seam_mem_zalloc(2, 4);
    kept[2] = seam_mem_strdup("third");
    kept[3] = seam_mem_alloc_aligned(8);
    kept[4] = seam_mem_realloc(kept[0], 16);
    assert_non_null(kept[1]);
    assert_null(kept[2]);
    assert_non_null(kept[3]);
    assert_non_null(kept[4]);
    seam_mem_fail_after(0);
    assert_null(seam_mem_realloc(kept[4], 32)); /* the old block stays */
    seam_mem_fail_after(-1);
    seam_mem_free(kept[1]);
    seam_mem_free(kept[3]);
    seam_mem_free(kept[4]);
    char *copy = seam_mem_strdup("copy");
    assert_string_equal(copy, "copy");
    seam_mem_free(copy);
}

static void plan(seam_arena *arena, void *ret[4]) {
    ret[0] = seam_arena_take(arena, 1);
    ret[1] = seam_arena_take(arena, 64);
    ret[2] = seam_arena_take(arena, 65);
    ret[3] = seam_arena_take(arena, 0);
}

static void test_arena__planned_then_taken__fits_exactly(void **state) {
    (void)state;
    seam_arena planning = {0}, arena = {0};
    void *views[4];
    plan(&planning, views);
    assert_null(views[0]);
    assert_int_equal(planning.used_bytes, 256);
    assert_int_equal(seam_arena_init(&arena, planning.used_bytes), SEAM_OK);
    plan(&arena, views);
    assert_int_equal(arena.used_bytes, arena.capacity_bytes);
    for (int i = 0; i < 4; i++) {
        assert_non_null(views[i]);
        assert_int_equal((uintptr_t)views[i] % 64, 0);
    }
    assert_ptr_equal((uint8_t *)views[1] - (uint8_t *)views[0], 64);
    assert_ptr_equal((uint8_t *)views[2] - (uint8_t *)views[1], 64);
    assert_null(seam_arena_take(&arena, 1)); /* full */
    seam_arena_deinit(&arena);
    assert_null(arena.base);
}

static void test_arena_init__no_memory__error(void **state) {
    (void)state;
    seam_arena arena = {0};
    seam_mem_fail_after(0);
    assert_int_equal(seam_arena_init(&arena, 64), SEAM_E_MEMORY);
    seam_mem_fail_after(-1);
    assert_null(arena.base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mul__at_the_edge__says_so),
        cmocka_unit_test(test_alloc__too_much__null),
        cmocka_unit_test(test_alloc__zero_bytes__pointers_that_differ),
        cmocka_unit_test(test_alloc_aligned__any_count__aligned_and_zero),
        cmocka_unit_test(test_alloc_huge__any_count__whole_pages_of_zeros),
        cmocka_unit_test(test_fail_after__count__exactly_one_fails),
        cmocka_unit_test(test_arena__planned_then_taken__fits_exactly),
        cmocka_unit_test(test_arena_init__no_memory__error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
