/* Goal: site.h negotiates allocations so that both ends use the same widths at every step.
 * Method: each rule alone, then owner and peer together under random proposals, lags, refusals,
 * repeated messages and save/load at any moment; damaged states; failing allocations. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arena.h"
#include "bytes.h"
#include "codec_fixture.h"
#include "site.h"

enum { C = 5 };

static seam_site *site_make(seam_codec_id codec, bool owner) {
    seam_site_config config = {
        .site_id = 1, .codec = codec, .width_count = C, .bits_fixed = 3, .owner = owner};
    assert_true(seam_gates_preset(&config.gates, 4.0f));
    seam_site *site = NULL;
    assert_int_equal(seam_site_create(&site, &config, NULL), SEAM_OK);
    return site;
}

static const seam_alloc *alloc_at(seam_site *site, uint64_t step) {
    const seam_alloc *alloc = NULL;
    assert_int_equal(seam_site_alloc_at(&alloc, site, step), SEAM_OK);
    return alloc;
}

static const seam_alloc *propose(seam_site *site, const uint8_t *widths, uint64_t step) {
    const seam_alloc *alloc = NULL;
    bool proposed = false;
    assert_int_equal(seam_site_propose(&alloc, &proposed, site, widths, step), SEAM_OK);
    assert_true(proposed);
    return alloc;
}

static seam_status judge(seam_site *peer, const seam_alloc *alloc, uint64_t step_now) {
    seam_error err = {0};
    const seam_status st = seam_site_judge(peer, alloc->version, alloc->effective_step,
                                           alloc->widths, C, alloc->hash, step_now, &err);
    assert_int_equal(err.text[0] != '\0', st != SEAM_OK);
    return st;
}

static const uint8_t w1[C] = {4, 5, 6, 7, 8}, w2[C] = {1, 2, 3, 4, 16};

static void test_hash__known_bytes__fnv(void **state) {
    (void)state;
    const uint8_t bytes[] = {C, 0, 0, 0, 4, 5, 6, 7, 8};
    assert_true(seam_alloc_hash(w1, C) == seam_hash64(SEAM_HASH64_INIT, bytes, sizeof bytes));
    assert_true(seam_alloc_hash(w1, C) != seam_alloc_hash(w2, C));
}

static void test_create__each_codec__version_1(void **state) {
    (void)state;
    for (int id = SEAM_CODEC_F32; id <= SEAM_CODEC_AMAQ; id++) {
        seam_site *site = site_make((seam_codec_id)id, true);
        const seam_alloc *alloc = alloc_at(site, 0);
        assert_ptr_equal(seam_site_alloc_now(site), alloc);
        if (id <= SEAM_CODEC_BF16) {
            assert_null(alloc->widths);
            assert_true(alloc->version == 0 && alloc->hash == 0 && alloc->bits_total == 0);
        } else {
            const uint8_t width = id == SEAM_CODEC_AFFINE ? 3 : 8;
            assert_int_equal(alloc->version, 1);
            assert_int_equal(alloc->bits_total, width * C);
            assert_int_equal(alloc->widths[C - 1], width);
            assert_true(alloc->hash == seam_alloc_hash(alloc->widths, C));
        }
        assert_int_equal(seam_site_gates(site) != NULL, id == SEAM_CODEC_AMAQ);
        assert_int_equal(seam_site_config_of(site)->width_count, C);
        seam_site_destroy(site);
    }
    seam_site *peer = site_make(SEAM_CODEC_AMAQ, false);
    assert_null(seam_site_gates(peer));
    seam_site_destroy(peer);
    seam_site_destroy(NULL);
}

static void test_create__start_between_two__half_goes_to_even(void **state) {
    (void)state;
    static const struct {
        float start;
        uint8_t width;
    } rows[] = {{4.5f, 4}, {5.5f, 6}, {6.6f, 7}, {1.2f, 2}};
    for (size_t i = 0; i < 4; i++) {
        seam_site_config config = {.codec = SEAM_CODEC_AMAQ, .width_count = 1};
        assert_true(seam_gates_preset(&config.gates, 4.0f));
        config.gates.bits_min = 1.1f; /* widths from 2 */
        config.gates.bits_start = rows[i].start;
        seam_site *site = NULL;
        assert_int_equal(seam_site_create(&site, &config, NULL), SEAM_OK);
        assert_int_equal(alloc_at(site, 0)->widths[0], rows[i].width);
        seam_site_destroy(site);
    }
}

static void test_create__bad_config__named(void **state) {
    (void)state;
    static const struct {
        int codec;
        uint32_t widths;
        uint8_t bits;
        float start;
        seam_status expected;
        const char *text;
    } rows[] = {
        {0, 4, 4, 8, SEAM_E_ARG, "codec"},
        {SEAM_CODEC_AQSGD, 4, 0, 8, SEAM_E_ARG, "codec.bits"},
        {SEAM_CODEC_BF16, 0, 4, 8, SEAM_E_ARG, "width_count"},
        {SEAM_CODEC_BF16, SEAM_CHANNELS_MAX + 1, 4, 8, SEAM_E_ARG, "width_count"},
        {SEAM_CODEC_AFFINE, 4, 0, 8, SEAM_E_ARG, "codec.bits"},
        {SEAM_CODEC_AFFINE, 4, 17, 8, SEAM_E_ARG, "codec.bits"},
        {SEAM_CODEC_GROUP, 4, 0, 8, SEAM_E_ARG, "codec.bits"},
        {SEAM_CODEC_AMAQ, 4, 4, 17, SEAM_E_ARG, "bits_start"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        seam_site_config config = {.codec = (seam_codec_id)rows[i].codec,
                                   .width_count = rows[i].widths,
                                   .bits_fixed = rows[i].bits};
        assert_true(seam_gates_preset(&config.gates, 4.0f));
        config.gates.bits_start = rows[i].start;
        seam_site *site = NULL;
        seam_error err = {0};
        assert_int_equal(seam_site_create(&site, &config, &err), rows[i].expected);
        assert_non_null(strstr(err.text, rows[i].text));
        assert_null(site);
    }
}

static void test_create__each_allocation_fails__memory(void **state) {
    (void)state;
    seam_site_config config = {.codec = SEAM_CODEC_AMAQ, .width_count = C, .owner = true};
    assert_true(seam_gates_preset(&config.gates, 4.0f));
    seam_site *site = NULL;
    int64_t count = 0;
    for (; site == NULL; count++) {
        seam_error err = {0};
        seam_mem_fail_after(count);
        const seam_status st = seam_site_create(&site, &config, &err);
        assert_int_equal(st, site == NULL ? SEAM_E_MEMORY : SEAM_OK);
        assert_true(count < 10);
    }
    seam_mem_fail_after(-1);
    assert_int_equal(count, 4); /* object, widths, gates; then none fails */
    seam_site_destroy(site);
}

static void test_propose__acknowledged__switches_at_its_step(void **state) {
    (void)state;
    seam_site *owner = site_make(SEAM_CODEC_AMAQ, true);
    seam_site *peer = site_make(SEAM_CODEC_AMAQ, false);
    const seam_alloc *alloc = propose(owner, w1, 3);
    assert_int_equal(alloc->version, 2);
    assert_int_equal(alloc->bits_total, 30);
    assert_ptr_equal(seam_site_unanswered(owner), alloc);
    assert_int_equal(alloc_at(owner, 2)->version, 1);
    const seam_alloc *now = NULL;
    assert_int_equal(seam_site_alloc_at(&now, owner, 3), SEAM_E_STATE); /* waits */
    assert_int_equal(judge(peer, alloc, 1), SEAM_OK);
    assert_int_equal(judge(peer, alloc, 1), SEAM_OK); /* asked again after a reconnect */
    assert_int_equal(seam_site_acked(owner, 1), SEAM_E_STATE);
    assert_int_equal(seam_site_acked(owner, 3), SEAM_E_STATE);
    assert_int_equal(seam_site_acked(owner, 2), SEAM_OK);
    assert_int_equal(seam_site_acked(owner, 2), SEAM_OK);
    assert_null(seam_site_unanswered(owner));
    assert_int_equal(alloc_at(peer, 2)->version, 1);
    const seam_alloc *found = NULL; /* both are live */
    assert_int_equal(seam_site_alloc_find(&found, peer, 2, alloc->hash), SEAM_OK);
    assert_int_equal(seam_site_alloc_find(&found, peer, 1, alloc_at(peer, 2)->hash), SEAM_OK);
    assert_int_equal(seam_site_alloc_find(&found, peer, 2, alloc->hash ^ 1), SEAM_E_CONFLICT);
    assert_int_equal(seam_site_alloc_find(&found, peer, 3, alloc->hash), SEAM_E_STATE);
    assert_int_equal(alloc_at(owner, 3)->version, 2);
    assert_memory_equal(alloc_at(peer, 3)->widths, w1, C);
    assert_int_equal(seam_site_alloc_find(&found, peer, 1, alloc->hash), SEAM_E_STATE);
    assert_int_equal(seam_site_alloc_at(&now, peer, 2), SEAM_E_STATE); /* steps never fall */
    assert_int_equal(judge(peer, alloc, 3), SEAM_OK);
    assert_int_equal(seam_site_acked(owner, 2), SEAM_OK);
    seam_site_destroy(owner);
    seam_site_destroy(peer);
}

static void test_propose__nothing_new_or_one_open__not_proposed(void **state) {
    (void)state;
    seam_site *owner = site_make(SEAM_CODEC_AMAQ, true);
    const seam_alloc *alloc = NULL;
    bool proposed = true;
    assert_int_equal(seam_site_propose(&alloc, &proposed, owner, alloc_at(owner, 0)->widths, 3),
                     SEAM_OK);
    assert_false(proposed);
    assert_int_equal(alloc->version, 1);
    assert_int_equal(seam_site_propose(&alloc, &proposed, owner, w1, 0), SEAM_E_STATE);
    (void)propose(owner, w1, 3);
    assert_int_equal(seam_site_propose(&alloc, &proposed, owner, w2, 4), SEAM_OK);
    assert_false(proposed); /* unanswered */
    assert_int_equal(alloc->version, 2);
    assert_memory_equal(alloc->widths, w1, C);
    assert_int_equal(seam_site_acked(owner, 2), SEAM_OK);
    assert_int_equal(seam_site_propose(&alloc, &proposed, owner, w2, 4), SEAM_OK);
    assert_false(proposed); /* not yet in force */
    assert_int_equal(alloc_at(owner, 3)->version, 2);
    assert_int_equal(propose(owner, w2, 5)->version, 3);
    seam_site_destroy(owner);
}

static void test_nacked__bounds__drop_and_clamp_later_ones(void **state) {
    (void)state;
    seam_site *owner = site_make(SEAM_CODEC_AMAQ, true);
    uint8_t low = 0, high = 0;
    (void)propose(owner, w2, 2);
    assert_int_equal(seam_site_nacked(owner, 1, 2, 8), SEAM_E_STATE);
    assert_int_equal(seam_site_nacked(owner, 2, 0, 8), SEAM_E_ARG);
    assert_int_equal(seam_site_nacked(owner, 2, 2, 17), SEAM_E_ARG);
    assert_int_equal(seam_site_nacked(owner, 2, 9, 8), SEAM_E_ARG);
    assert_non_null(seam_site_unanswered(owner));
    assert_int_equal(seam_site_nacked(owner, 2, 2, 8), SEAM_OK);
    assert_int_equal(seam_site_nacked(owner, 2, 2, 8), SEAM_E_STATE);
    assert_int_equal(alloc_at(owner, 2)->version, 1);
    seam_site_bounds(&low, &high, owner);
    assert_true(low == 2 && high == 8);
    const seam_alloc *alloc = propose(owner, w2, 4);
    const uint8_t clamped[C] = {2, 2, 3, 4, 8};
    assert_int_equal(alloc->version, 3);
    assert_memory_equal(alloc->widths, clamped, C);
    assert_true(alloc->hash == seam_alloc_hash(clamped, C));
    seam_site_destroy(owner);
}

static void test_judge__bad_proposal__says_why(void **state) {
    (void)state;
    seam_site *peer = site_make(SEAM_CODEC_AMAQ, false);
    uint8_t bad[C];
    memcpy(bad, w1, C);
    bad[3] = 17;
    seam_error err = {0};
    const uint64_t hash = seam_alloc_hash(w1, C), bad_hash = seam_alloc_hash(bad, C);
    assert_int_equal(seam_site_judge(peer, 3, 5, w1, C, hash, 0, &err), SEAM_E_STATE);
    assert_int_equal(seam_site_judge(peer, 1, 5, w1, C, hash, 0, &err), SEAM_E_STATE);
    assert_int_equal(seam_site_judge(peer, 0, 5, w1, C, hash, 0, &err), SEAM_E_STATE);
    assert_int_equal(seam_site_judge(peer, 2, 5, w1, C, hash, 5, &err), SEAM_E_STATE);
    assert_non_null(strstr(err.text, "effective_step"));
    assert_int_equal(seam_site_judge(peer, 2, 5, bad, C, bad_hash, 0, &err), SEAM_E_ARG);
    assert_non_null(strstr(err.text, "widths[3] 17"));
    assert_int_equal(seam_site_judge(peer, 2, 5, bad, C, bad_hash, 0, &err), SEAM_E_ARG);
    assert_int_equal(seam_site_judge(peer, 2, 5, w1, C, hash, 0, &err), SEAM_E_CONFLICT);
    assert_int_equal(seam_site_judge(peer, 3, 5, w1, C - 1, hash, 0, &err), SEAM_E_ARG);
    assert_non_null(strstr(err.text, "widths: "));
    assert_int_equal(seam_site_judge(peer, 4, 5, w1, C, hash ^ 1, 0, &err), SEAM_E_ARG);
    assert_non_null(strstr(err.text, "hash"));
    assert_int_equal(seam_site_judge(peer, 5, 5, w1, C, hash, 0, &err), SEAM_OK);
    assert_int_equal(seam_site_judge(peer, 5, 6, w1, C, hash, 0, &err), SEAM_E_CONFLICT);
    assert_int_equal(seam_site_judge(peer, 5, 5, w2, C, seam_alloc_hash(w2, C), 0, &err),
                     SEAM_E_CONFLICT);
    assert_int_equal(seam_site_judge(peer, 6, 9, w2, C, seam_alloc_hash(w2, C), 4, &err),
                     SEAM_E_STATE); /* 5 is not yet in force */
    assert_int_equal(seam_site_judge(peer, 6, 9, w2, C, seam_alloc_hash(w2, C), 5, &err), SEAM_OK);
    seam_site_destroy(peer);
}

static void test_judge__not_a_site_of_the_peer__state(void **state) {
    (void)state;
    const struct {
        seam_codec_id codec;
        bool owner;
    } rows[] = {{SEAM_CODEC_AMAQ, true}, {SEAM_CODEC_AFFINE, false}, {SEAM_CODEC_BF16, false}};
    for (size_t i = 0; i < 3; i++) {
        seam_site *site = site_make(rows[i].codec, rows[i].owner);
        seam_error err = {0};
        assert_int_equal(seam_site_judge(site, 2, 5, w1, C, seam_alloc_hash(w1, C), 0, &err),
                         SEAM_E_STATE);
        assert_int_equal(seam_site_acked(site, 0), SEAM_E_STATE);
        assert_int_equal(seam_site_acked(site, 1), SEAM_E_STATE);
        assert_int_equal(seam_site_nacked(site, 1, 1, 16), SEAM_E_STATE);
        seam_site_destroy(site);
    }
}

/* Save, load into a fresh site, and go on with that one. */
static seam_site *site_reload(seam_site *site) {
    const size_t count = seam_site_state_bytes(site);
    uint8_t *bytes = test_malloc(count), *again = test_malloc(count);
    seam_site_save(bytes, site);
    seam_site *fresh = NULL;
    assert_int_equal(seam_site_create(&fresh, seam_site_config_of(site), NULL), SEAM_OK);
    assert_int_equal(seam_site_load(fresh, bytes, count), SEAM_OK);
    seam_site_save(again, fresh);
    assert_memory_equal(bytes, again, count);
    seam_site_destroy(site);
    test_free(bytes);
    test_free(again);
    return fresh;
}

static void test_both_ends__random_run__same_widths_at_every_step(void **state) {
    (void)state;
    seam_site *owner = site_make(SEAM_CODEC_AMAQ, true);
    seam_site *peer = site_make(SEAM_CODEC_AMAQ, false);
    uint64_t seed = 31;
    uint32_t accepted = 0, refused = 0;
    for (uint64_t step = 0; step < 3000; step++) {
        const seam_alloc *alloc = NULL;
        if (seam_site_alloc_at(&alloc, owner, step) == SEAM_E_STATE) {
            const seam_alloc *open = seam_site_unanswered(owner);
            assert_non_null(open);
            /* The peer was told when it was made; one in eight is refused by hand. */
            if (fixture_next(&seed) % 8 == 0) {
                assert_int_equal(seam_site_nacked(owner, open->version, 1, 16), SEAM_OK);
                refused++;
                /* The peer has it, so a real one would have acknowledged: start it anew. */
                seam_site_destroy(peer);
                peer = site_make(SEAM_CODEC_AMAQ, false);
                seam_site_destroy(owner);
                owner = site_make(SEAM_CODEC_AMAQ, true);
            } else {
                assert_int_equal(judge(peer, open, step - 1), SEAM_OK);
                assert_int_equal(seam_site_acked(owner, open->version), SEAM_OK);
                accepted++;
            }
            alloc = alloc_at(owner, step);
        }
        const seam_alloc *other = alloc_at(peer, step);
        assert_int_equal(other->version, alloc->version);
        assert_memory_equal(other->widths, alloc->widths, C);
        const seam_alloc *found = NULL;
        assert_int_equal(seam_site_alloc_find(&found, peer, alloc->version, alloc->hash), SEAM_OK);
        assert_ptr_equal(found, other);
        uint8_t widths[C];
        for (uint32_t c = 0; c < C; c++) {
            widths[c] = (uint8_t)(1 + fixture_next(&seed) % 16);
        }
        bool proposed = false;
        const uint64_t effective = step + 1 + fixture_next(&seed) % 3;
        assert_int_equal(seam_site_propose(&alloc, &proposed, owner, widths, effective), SEAM_OK);
        if (proposed) {
            assert_int_equal(judge(peer, alloc, step), SEAM_OK);
        }
        if (fixture_next(&seed) % 4 == 0) {
            owner = site_reload(owner);
        }
        if (fixture_next(&seed) % 4 == 0) {
            peer = site_reload(peer);
        }
    }
    assert_true(accepted > 500 && refused > 50);
    seam_site_destroy(owner);
    seam_site_destroy(peer);
}

static void test_load__truncated_or_of_another_site__format(void **state) {
    (void)state;
    for (int id = SEAM_CODEC_F32; id <= SEAM_CODEC_AMAQ; id++) {
        seam_site *site = site_make((seam_codec_id)id, true);
        const size_t count = seam_site_state_bytes(site);
        uint8_t *bytes = test_malloc(count + 1);
        seam_site_save(bytes, site);
        for (size_t part = 0; part <= count + 1; part++) {
            assert_int_equal(seam_site_load(site, bytes, part),
                             part == count ? SEAM_OK : SEAM_E_FORMAT);
        }
        for (size_t at = 0; at < 12; at++) { /* format, site, codec, owner, channels */
            bytes[at] ^= 1;
            assert_int_equal(seam_site_load(site, bytes, count), SEAM_E_FORMAT);
            bytes[at] ^= 1;
        }
        test_free(bytes);
        seam_site_destroy(site);
    }
}

static void test_load__any_flipped_bit__refused_or_exactly_that_state(void **state) {
    (void)state;
    seam_site *site = site_make(SEAM_CODEC_AMAQ, true);
    (void)propose(site, w1, 3);
    const size_t count = seam_site_state_bytes(site);
    uint8_t *good = test_malloc(count), *bytes = test_malloc(count), *after = test_malloc(count);
    seam_site_save(good, site);
    for (size_t bit = 0; bit < count * 8; bit++) {
        memcpy(bytes, good, count);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(seam_site_load(site, good, count), SEAM_OK);
        const seam_status st = seam_site_load(site, bytes, count);
        seam_site_save(after, site);
        if (st == SEAM_OK) {
            const seam_alloc *alloc = seam_site_alloc_now(site);
            assert_true(alloc->hash == seam_alloc_hash(alloc->widths, C));
            if (bytes[12] != 0) { /* an unused slot is saved as zeros */
                assert_memory_equal(after, bytes, count);
            }
        } else {
            assert_true(st == SEAM_E_FORMAT || st == SEAM_E_NONFINITE);
            assert_memory_equal(after, good, count);
        }
    }
    test_free(good);
    test_free(bytes);
    test_free(after);
    seam_site_destroy(site);
}

/* The owner of a waterfill site: its state is saved with the allocations, and is not the gates'. */
static void test_state__waterfill__saved_and_loaded(void **state) {
    (void)state;
    seam_site_config config = {.codec = SEAM_CODEC_AMAQ, .width_count = C, .owner = true};
    assert_true(seam_gates_preset(&config.gates, 4.0f));
    seam_site *gates = NULL, *fill = NULL, *other = NULL, *affine = NULL;
    assert_int_equal(seam_site_create(&gates, &config, NULL), SEAM_OK);
    config.waterfill = true;
    assert_int_equal(seam_site_create(&fill, &config, NULL), SEAM_OK);
    assert_int_equal(seam_site_create(&other, &config, NULL), SEAM_OK);
    config.codec = SEAM_CODEC_AFFINE; /* an allocator is amaq's alone */
    config.bits_fixed = 3;
    assert_int_equal(seam_site_create(&affine, &config, NULL), SEAM_OK);
    assert_null(seam_site_gates(fill));
    assert_null(seam_site_waterfill(gates));
    assert_null(seam_site_waterfill(affine));
    seam_waterfill *const own = seam_site_waterfill(fill);
    const float squares[C] = {1, 2, 3, 4, 5}, spans[C] = {5, 4, 3, 2, 1};
    const seam_waterfill_update_args args = {squares, 2, spans, 1};
    seam_waterfill_update(own, &args);
    (void)propose(fill, w1, 3);
    assert_ptr_equal(seam_site_alloc_newest(fill), seam_site_unanswered(fill));
    uint8_t bytes[256], again[256];
    const size_t count = seam_site_state_bytes(fill);
    assert_true(count <= sizeof bytes);
    seam_site_save(bytes, fill);
    assert_int_equal(seam_site_load(gates, bytes, count), SEAM_E_FORMAT);
    assert_int_equal(seam_site_load(other, bytes, count), SEAM_OK);
    seam_site_save(again, other);
    assert_memory_equal(bytes, again, count);
    assert_true(seam_site_waterfill(other)->weights[4] == 2.5f);
    seam_site_save(bytes, gates);
    assert_int_equal(seam_site_load(fill, bytes, seam_site_state_bytes(gates)), SEAM_E_FORMAT);
    seam_site_destroy(gates);
    seam_site_destroy(fill);
    seam_site_destroy(other);
    seam_site_destroy(affine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hash__known_bytes__fnv),
        cmocka_unit_test(test_create__each_codec__version_1),
        cmocka_unit_test(test_create__start_between_two__half_goes_to_even),
        cmocka_unit_test(test_create__bad_config__named),
        cmocka_unit_test(test_create__each_allocation_fails__memory),
        cmocka_unit_test(test_propose__acknowledged__switches_at_its_step),
        cmocka_unit_test(test_propose__nothing_new_or_one_open__not_proposed),
        cmocka_unit_test(test_nacked__bounds__drop_and_clamp_later_ones),
        cmocka_unit_test(test_judge__bad_proposal__says_why),
        cmocka_unit_test(test_judge__not_a_site_of_the_peer__state),
        cmocka_unit_test(test_both_ends__random_run__same_widths_at_every_step),
        cmocka_unit_test(test_load__truncated_or_of_another_site__format),
        cmocka_unit_test(test_load__any_flipped_bit__refused_or_exactly_that_state),
        cmocka_unit_test(test_state__waterfill__saved_and_loaded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
