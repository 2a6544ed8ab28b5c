/* Goal: a trainer that is loaded from a checkpoint goes on with the same bits, to the last byte of
 * its next checkpoint; what is not a state of its session is refused.
 * Method: a tiny synthetic model; each allocator; steps, a save, more steps, and the same steps in
 * another trainer that was loaded. */
#include "trainer_fixture.h"

#include "checkpoint.h"
#include "exchange.h"
#include "trainer_state.h"

typedef struct file {
    uint8_t *bytes;
    size_t count, capacity;
} file;

static file file_new(const seam_session_config *config) {
    file ret = {0};
    assert_int_equal(seam_trainer_state_bytes_max(&ret.capacity, config), SEAM_OK);
    ret.bytes = test_calloc(1, ret.capacity);
    return ret;
}

SEAM_ON_GPU static void save(file *ret, const fixture *f, seam_trainer *trainer, uint64_t steps) {
    const seam_trainer_mark mark = {.step_count = steps, .row_count = 1000 + steps};
    seam_error err = {0};
    assert_int_equal(seam_trainer_state_save(ret->bytes, &ret->count, ret->capacity, trainer, &mark,
                                             f->engine.stream, &err),
                     SEAM_OK);
    assert_true(ret->count > 64 && ret->count <= ret->capacity);
}

SEAM_ON_GPU static seam_status load(const file *from, const fixture *f, seam_trainer *trainer,
                                    uint64_t steps) {
    seam_trainer_mark mark = {0};
    seam_error err = {0};
    const seam_status st =
        seam_trainer_state_load(trainer, &mark, from->bytes, from->count, f->engine.stream, &err);
    if (st == SEAM_OK) {
        assert_true(mark.step_count == steps && mark.row_count == 1000 + steps);
    } else {
        assert_true(err.text[0] != '\0');
    }
    return st;
}

/* One whole step of two micro-batches.  The fixture's steps all have number 0: for the state that
 * makes no difference. */
SEAM_ON_GPU static uint64_t step(fixture *f, seam_trainer *trainer,
                                 const seam_session_config *config, const char *name) {
    pass p = pass_new();
    float *x = values_new(name, 0.5f), *g = values_new("gradient", 0.02f);
    for (uint32_t micro = 0; micro < 2; micro++) {
        run(&p, f, trainer, config, micro == 0 ? x : g, g, micro, 2);
    }
    const uint64_t hash = p.result.state_hash;
    test_free(x);
    test_free(g);
    pass_free(&p);
    return hash;
}

typedef enum way { AFFINE, GATES, GATES_EXACT, WATERFILL, TOKEN, WAYS } way;

static seam_session_config way_config(const fixture *f, way w) {
    seam_session_config config = config_of(f, w == AFFINE ? SEAM_CODEC_AFFINE : SEAM_CODEC_AMAQ);
    config.codec.gate_signal_exact = w == GATES_EXACT;
    if (w == WATERFILL) {
        config.codec.allocator = SEAM_ALLOCATOR_WATERFILL;
    }
    if (w == TOKEN) {
        config.codec.codec_in = config.codec.codec_out = SEAM_CODEC_AMAQ_TOKEN;
    }
    return config;
}

SEAM_ON_GPU static void test_load__every_allocator__next_checkpoint_is_the_same(void **state) {
    fixture *f = *state;
    for (way w = AFFINE; w < WAYS; w++) {
        const seam_session_config config = way_config(f, w);
        file begin = file_new(&config), early = file_new(&config), late = file_new(&config);
        file again = file_new(&config);
        seam_error err = {0};
        seam_trainer *a = trainer_open(f, &config), *b = trainer_open(f, &config);
        const seam_budget budget = {.effective_step = 0,
                                    .beta = 0.03f,
                                    .bits_lr = 0.5f,
                                    .width_shift = 0.25f,
                                    .bits_total = w == WATERFILL ? 3 * C : 0};
        if (w != AFFINE) {
            assert_int_equal(seam_trainer_set_budget(a, &budget, 0, &err), SEAM_OK);
        }
        save(&begin, f, a, 0); /* with a budget that is not in force yet */
        (void)step(f, a, &config, "first");
        save(&early, f, a, 1);
        const uint64_t hash = step(f, a, &config, "second");
        save(&late, f, a, 2);
        assert_true(early.count == late.count);
        assert_memory_not_equal(early.bytes, late.bytes, late.count);
        (void)step(f, b, &config, "other"); /* whatever it was before */
        assert_int_equal(load(&early, f, b, 1), SEAM_OK);
        save(&again, f, b, 1);
        assert_memory_equal(again.bytes, early.bytes, early.count);
        assert_true(step(f, b, &config, "second") == hash);
        save(&again, f, b, 2);
        assert_memory_equal(again.bytes, late.bytes, late.count);
        assert_int_equal(load(&begin, f, b, 0), SEAM_OK); /* from the very start */
        (void)step(f, b, &config, "first");
        assert_true(step(f, b, &config, "second") == hash);
        seam_trainer_destroy(a);
        seam_trainer_destroy(b);
        test_free(begin.bytes);
        test_free(early.bytes);
        test_free(late.bytes);
        test_free(again.bytes);
    }
}

SEAM_ON_GPU static void test_load__other_session_or_cut__refused(void **state) {
    fixture *f = *state;
    const seam_session_config config = way_config(f, GATES);
    seam_session_config other = config;
    other.adapter.lora.rank = 4;
    seam_session_config fixed = way_config(f, AFFINE);
    file from = file_new(&config);
    seam_trainer *a = trainer_open(f, &config), *b = trainer_open(f, &other);
    seam_trainer *c = trainer_open(f, &fixed);
    save(&from, f, a, 7);
    assert_int_equal(load(&from, f, b, 7), SEAM_E_FORMAT);
    assert_int_equal(load(&from, f, c, 7), SEAM_E_FORMAT);
    const size_t whole = from.count;
    for (from.count = 0; from.count < whole; from.count += 37) {
        assert_int_equal(load(&from, f, a, 7), SEAM_E_FORMAT);
    }
    from.count = whole;
    size_t used = 0;
    const seam_trainer_mark mark = {.step_count = 7};
    seam_error err = {0};
    assert_int_equal(
        seam_trainer_state_save(from.bytes, &used, 2000, a, &mark, f->engine.stream, &err),
        SEAM_E_LIMIT);
    seam_trainer_destroy(a);
    seam_trainer_destroy(b);
    seam_trainer_destroy(c);
    test_free(from.bytes);
}

/* ADAPTER_EXCHANGE: the widths of the modules' sites, agreed and in force, stand in the state. */
SEAM_ON_GPU static void test_load__exchange__widths_of_modules_are_kept(void **state) {
    fixture *f = *state;
    const seam_session_config plain = way_config(f, GATES);
    seam_session_config config = plain;
    config.codec.topology = SEAM_TOPOLOGY_ADAPTER_EXCHANGE;
    file begin = file_new(&config), moved = file_new(&config), again = file_new(&config);
    seam_trainer *a = trainer_open(f, &config), *b = trainer_open(f, &config);
    seam_trainer *c = trainer_open(f, &plain);
    static const uint16_t sites[] = {SEAM_SITE_LORA_A, SEAM_SITE_LORA_B};
    uint8_t widths[2][3] = {{3, 5, 7}, {4, 2, 6}};
    seam_error err = {0};
    save(&begin, f, a, 0);
    for (int i = 0; i < 2; i++) {
        seam_site *site = seam_exchange_site(seam_trainer_exchange(a), sites[i]);
        assert_non_null(site);
        assert_int_equal(
            seam_site_judge(site, 2, 9, widths[i], 3, seam_alloc_hash(widths[i], 3), 7, &err),
            SEAM_OK);
    }
    save(&moved, f, a, 7);
    assert_true(begin.count == moved.count);
    assert_memory_not_equal(begin.bytes, moved.bytes, moved.count);
    assert_int_equal(load(&moved, f, b, 7), SEAM_OK);
    save(&again, f, b, 7);
    assert_memory_equal(again.bytes, moved.bytes, moved.count);
    for (int i = 0; i < 2; i++) {
        const seam_alloc *alloc = NULL;
        seam_site *site = seam_exchange_site(seam_trainer_exchange(b), sites[i]);
        assert_int_equal(seam_site_alloc_at(&alloc, site, 8), SEAM_OK);
        assert_int_equal(alloc->version, 1);
        assert_int_equal(seam_site_alloc_at(&alloc, site, 9), SEAM_OK);
        assert_int_equal(alloc->version, 2);
        assert_memory_equal(alloc->widths, widths[i], 3);
    }
    save(&again, f, c, 7);
    assert_int_equal(load(&moved, f, c, 7), SEAM_E_FORMAT);
    assert_int_equal(load(&again, f, a, 7), SEAM_E_FORMAT);
    seam_trainer_destroy(c);
    seam_trainer_destroy(b);
    seam_trainer_destroy(a);
    test_free(again.bytes);
    test_free(moved.bytes);
    test_free(begin.bytes);
}

/* Full fine-tuning: the state is the blocks themselves, and is not that of LoRA. */
SEAM_ON_GPU static void test_load__full__next_checkpoint_is_the_same(void **state) {
    fixture *f = *state;
    seam_session_config config = way_config(f, WATERFILL);
    const seam_session_config other = config;
    config.adapter = (seam_adapter_config){.kind = SEAM_ADAPTER_FULL};
    file early = file_new(&config), late = file_new(&config), again = file_new(&config);
    seam_trainer *a = trainer_open(f, &config), *b = trainer_open(f, &config);
    seam_trainer *c = trainer_open(f, &other);
    (void)step(f, a, &config, "first");
    save(&early, f, a, 1);
    const uint64_t hash = step(f, a, &config, "second");
    save(&late, f, a, 2);
    (void)step(f, b, &config, "other");
    assert_int_equal(load(&early, f, b, 1), SEAM_OK);
    save(&again, f, b, 1);
    assert_memory_equal(again.bytes, early.bytes, early.count);
    assert_true(step(f, b, &config, "second") == hash);
    save(&again, f, b, 2);
    assert_memory_equal(again.bytes, late.bytes, late.count);
    assert_int_equal(load(&late, f, c, 2), SEAM_E_FORMAT);
    seam_trainer_destroy(c);
    seam_trainer_destroy(b);
    seam_trainer_destroy(a);
    test_free(again.bytes);
    test_free(late.bytes);
    test_free(early.bytes);
}

/* tests/golden/checkpoint_v1 was written by the first release that had checkpoints, after two steps
 * of a session with gates; `test_trainer_state write FOLDER` makes such a one. */
#define GOLDEN_FOLDER SEAM_SOURCE_DIR "/tests/golden/checkpoint_v1"
#define GOLDEN_STEPS  2

static seam_session_config golden_config(const fixture *f) {
    seam_session_config config = way_config(f, GATES);
    config.adapter =
        (seam_adapter_config){.lora = {.rank = 1, .alpha = 2, .targets = 1, .seed = 11}};
    return config;
}

SEAM_ON_GPU static void test_load__written_by_an_earlier_release__still_loads(void **state) {
    fixture *f = *state;
    const seam_session_config config = golden_config(f);
    seam_trainer *trainer = trainer_open(f, &config);
    seam_checkpoint_facts facts;
    seam_error err = {0};
    file from = {0};
    seam_test_check(
        seam_checkpoint_read(&from.bytes, &from.count, &facts, GOLDEN_FOLDER, GOLDEN_STEPS, &err),
        "golden checkpoint", &err);
    assert_int_equal(load(&from, f, trainer, GOLDEN_STEPS), SEAM_OK);
    const uint64_t before = seam_trainer_state_hash(trainer);
    assert_true(before != facts.state_hash); /* that release had another hash */
    file again = file_new(&config);
    save(&again, f, trainer, GOLDEN_STEPS);
    assert_int_equal(again.count, from.count);
    uint32_t others = 0; /* format and hash: nothing else has changed in the file */
    for (size_t i = 0; i < from.count; i++) {
        others += again.bytes[i] != from.bytes[i];
    }
    assert_in_range(others, 2, 9);
    test_free(again.bytes);
    const seam_alloc *alloc = alloc_of(trainer, SEAM_SITE_FWD_OUT, 0);
    assert_int_equal(alloc->version, 1);
    assert_true(step(f, trainer, &config, "third") != before);
    seam_mem_free(from.bytes);
    seam_trainer_destroy(trainer);
}

SEAM_ON_GPU static int golden_write(const char *folder) {
    void *state = NULL;
    seam_error err = {0};
    (void)setup(&state);
    fixture *f = state;
    const seam_session_config config = golden_config(f);
    file to = file_new(&config);
    seam_trainer *trainer = trainer_open(f, &config);
    (void)step(f, trainer, &config, "first");
    (void)step(f, trainer, &config, "second");
    save(&to, f, trainer, GOLDEN_STEPS);
    const seam_checkpoint_facts facts = {.step_count = GOLDEN_STEPS,
                                         .state_hash = seam_trainer_state_hash(trainer),
                                         .device = "cpu"};
    seam_test_check(seam_checkpoint_write(folder, &facts, to.bytes, to.count, &err), "write", &err);
    seam_trainer_destroy(trainer);
    test_free(to.bytes);
    return teardown(&state);
}

SEAM_WITHOUT_THREADS int main(int arg_count, char **args) {
    if (arg_count == 3 && strcmp(args[1], "write") == 0) {
        return golden_write(args[2]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_load__written_by_an_earlier_release__still_loads,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_load__every_allocator__next_checkpoint_is_the_same,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_load__full__next_checkpoint_is_the_same, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_load__exchange__widths_of_modules_are_kept, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_load__other_session_or_cut__refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
