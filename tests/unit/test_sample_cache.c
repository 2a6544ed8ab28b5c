/* Goal: the cache keeps what was used last within its cap, never loses a block, and is the same
 * function of its calls everywhere.  Method: random puts of entries of 1..9 blocks against a plain
 * list of (id, blocks) in order of use; contents of every block are checked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "arena.h"
#include "codec_fixture.h"
#include "sample_cache.h"

enum { BLOCKS = 37, BLOCK_BYTES = 3, IDS = 30 };

/* The reference: most recently used first. */
typedef struct model {
    uint64_t ids[BLOCKS];
    uint32_t blocks[BLOCKS];
    uint32_t count;
} model;

static void model_remove(model *m, uint32_t at) {
    m->count--;
    memmove(m->ids + at, m->ids + at + 1, (m->count - at) * sizeof *m->ids);
    memmove(m->blocks + at, m->blocks + at + 1, (m->count - at) * sizeof *m->blocks);
}

static void model_put(model *m, uint64_t id, uint32_t blocks) {
    for (uint32_t i = 0; i < m->count; i++) {
        if (m->ids[i] == id) {
            model_remove(m, i);
            break;
        }
    }
    if (blocks > BLOCKS) {
        return;
    }
    for (;;) {
        uint32_t used = 0;
        for (uint32_t i = 0; i < m->count; i++) {
            used += m->blocks[i];
        }
        if (used + blocks <= BLOCKS) {
            break;
        }
        m->count--;
    }
    memmove(m->ids + 1, m->ids, m->count * sizeof *m->ids);
    memmove(m->blocks + 1, m->blocks, m->count * sizeof *m->blocks);
    m->ids[0] = id;
    m->blocks[0] = blocks;
    m->count++;
}

static void entry_fill(seam_sample_cache *cache, uint32_t entry, uint64_t id, uint32_t blocks) {
    uint32_t block = seam_sample_cache_block_first(cache, entry);
    for (uint32_t i = 0; i < blocks; i++) {
        memset(seam_sample_cache_bytes(cache, block), (int)(id * 7 + i), BLOCK_BYTES);
        block = seam_sample_cache_block_next(cache, block);
    }
    assert_int_equal(block, SEAM_CACHE_NONE);
    seam_sample_cache_note(cache, entry)->rows = blocks;
}

static void entry_check(seam_sample_cache *cache, uint32_t entry, uint64_t id, uint32_t blocks) {
    uint32_t block = seam_sample_cache_block_first(cache, entry);
    for (uint32_t i = 0; i < blocks; i++) {
        uint8_t expected[BLOCK_BYTES];
        memset(expected, (int)(id * 7 + i), BLOCK_BYTES);
        assert_memory_equal(seam_sample_cache_bytes(cache, block), expected, BLOCK_BYTES);
        block = seam_sample_cache_block_next(cache, block);
    }
    assert_int_equal(seam_sample_cache_note(cache, entry)->rows, blocks);
}

static void test_put__any_order__as_a_list_by_use(void **state) {
    (void)state;
    static uint8_t storage[BLOCKS * BLOCK_BYTES + 2]; /* a rest below a block is not used */
    seam_sample_cache *cache = NULL;
    model m = {.count = 0};
    uint64_t random = 77;
    assert_int_equal(seam_sample_cache_create(&cache, storage, sizeof storage, BLOCK_BYTES),
                     SEAM_OK);
    for (uint32_t step = 0; step < 20000; step++) {
        const uint64_t id = (uint64_t)(fixture_next(&random) % IDS) << 33;
        const uint32_t blocks = step % 97 == 5 ? BLOCKS + 1 : 1 + fixture_next(&random) % 9;
        const uint32_t entry = seam_sample_cache_put(cache, id, blocks);
        model_put(&m, id, blocks);
        assert_int_equal(entry == SEAM_CACHE_NONE, blocks > BLOCKS);
        if (entry != SEAM_CACHE_NONE) {
            entry_fill(cache, entry, id, blocks);
        }
        assert_int_equal(seam_sample_cache_entry_count(cache), m.count);
        for (uint32_t i = 0; i < m.count; i++) {
            const uint32_t found = seam_sample_cache_find(cache, m.ids[i]);
            assert_int_not_equal(found, SEAM_CACHE_NONE);
            entry_check(cache, found, m.ids[i], m.blocks[i]);
        }
    }
    seam_sample_cache_clear(cache);
    assert_int_equal(seam_sample_cache_entry_count(cache), 0);
    assert_int_equal(seam_sample_cache_find(cache, m.ids[0]), SEAM_CACHE_NONE);
    assert_int_not_equal(seam_sample_cache_put(cache, 5, BLOCKS), SEAM_CACHE_NONE);
    seam_sample_cache_destroy(cache);
}

static void test_put__no_room_at_all__nothing_is_kept(void **state) {
    (void)state;
    uint8_t storage[2];
    seam_sample_cache *cache = NULL;
    assert_int_equal(seam_sample_cache_create(&cache, storage, 2, 3), SEAM_OK);
    assert_int_equal(seam_sample_cache_put(cache, 1, 1), SEAM_CACHE_NONE);
    assert_int_equal(seam_sample_cache_find(cache, 1), SEAM_CACHE_NONE);
    seam_sample_cache_destroy(cache);
}

static void test_create__bad_sizes__refused(void **state) {
    (void)state;
    uint8_t storage[8];
    seam_sample_cache *cache = NULL;
    assert_int_equal(seam_sample_cache_create(&cache, storage, (size_t)UINT32_MAX * 2, 2),
                     SEAM_E_LIMIT);
    assert_true(seam_sample_cache_memory_bytes(1 << 20, 1 << 10) >= 1024 * 40);
    seam_mem_fail_after(0);
    assert_int_equal(seam_sample_cache_create(&cache, storage, 8, 2), SEAM_E_MEMORY);
    seam_mem_fail_after(-1);
    assert_null(cache);
    seam_sample_cache_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put__any_order__as_a_list_by_use),
        cmocka_unit_test(test_put__no_room_at_all__nothing_is_kept),
        cmocka_unit_test(test_create__bad_sizes__refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
