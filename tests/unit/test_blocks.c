/* Goal: the block stack's own promises: gradients, bits, state, cache.
 * Method: gradients on the double reference against central differences of the loss, every LoRA
 * tensor and the input; all else by comparing bits or, for the cache, values on each backend. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "gradient_case.h"
#include "synthetic_model.h"

#define ROWS      SEAM_TEST_ROWS
#define LORA_ALL  0x7fu
#define STATE_MAX (1u << 20)

static const seam_model_config config = SEAM_TEST_ODD;

typedef struct fixture {
    seam_test_engine engine;
    seam_test_words words;
} fixture;

static bool fixture_open(fixture *f, const char *device, seam_dtype act,
                         const seam_adapter_config *lora) {
    const seam_tensor_source source = seam_synthetic_source(&config);
    const seam_backend_options options = {.device = device, .act = act, .threads = 2};
    if (!seam_test_engine_open(&f->engine, &options, &source, lora, ROWS)) {
        return false;
    }
    seam_test_words_fill(&f->words, config.vocab_count);
    return true;
}

/* ---- Gradients ---- */

static void gradient_check(const seam_adapter_config *lora) {
    fixture f;
    assert_true(fixture_open(&f, "ref", SEAM_F64, lora));
    seam_adapter *adapter = seam_test_adapter_synthetic(&f.engine, lora);
    (void)seam_test_forward_backward(&f.engine, adapter, &f.words.text, 1.0f);
    for (uint32_t tensor = 0; tensor < seam_adapter_tensor_count(adapter); tensor++) {
        gradient_case(&f.engine, adapter, &f.words.text, tensor);
    }
    seam_adapter_destroy(adapter);
    seam_test_engine_close(&f.engine);
}

static void test_backward__lora_on_all__equals_finite_differences(void **state) {
    (void)state;
    gradient_check(
        &(seam_adapter_config){.lora = {.rank = 3, .alpha = 5, .targets = LORA_ALL, .seed = 1}});
}

/* Some targets only: the shared normalised inputs must not be read for the others. */
static void test_backward__lora_on_some__equals_finite_differences(void **state) {
    (void)state;
    gradient_check(&(seam_adapter_config){
        .lora = {.rank = 1, .alpha = 2, .targets = SEAM_LORA_K | SEAM_LORA_UP, .seed = 1}});
    gradient_check(&(seam_adapter_config){
        .lora = {.rank = 2, .alpha = 2, .targets = SEAM_LORA_O | SEAM_LORA_DOWN, .seed = 1}});
}

static void test_backward__prefix__equals_finite_differences(void **state) {
    (void)state;
    gradient_check(
        &(seam_adapter_config){.kind = SEAM_ADAPTER_PREFIX, .prefix = {.tokens = 3, .seed = 1}});
}

/* Loss of an input of the blocks, given in double, from the reference's own memory. */
static double loss_of_input(fixture *f, seam_adapter *adapter, const double *input) {
    seam_test_engine *e = &f->engine;
    double loss = 0;
    uint32_t targets[ROWS];
    for (uint32_t t = 0; t < ROWS; t++) {
        targets[t] = f->words.ids[ROWS - 1 - t];
    }
    memcpy(e->x, input, sizeof(double) * ROWS * config.hidden);
    seam_test_check(
        seam_blocks_forward(e->blocks, adapter, e->acts, e->stream, e->x, &f->words.text.batch),
        "forward", NULL);
    seam_test_check(
        seam_head_loss(&loss, e->d_picked, NULL, e->head, e->stream, e->x, targets, ROWS, 1.0f),
        "loss", NULL);
    return loss;
}

/* Of each row apart, over more than one chunk of the head, against the softmax of its logits. */
static void test_head_row_losses__more_rows_than_a_chunk__softmax_of_logits(void **state) {
    (void)state;
    enum { MANY = 2 * SEAM_HEAD_CHUNK_ROWS + 5 };
    const seam_adapter_config lora = {
        .lora = {.rank = 1, .alpha = 1, .targets = SEAM_LORA_Q, .seed = 1}};
    fixture f;
    assert_true(fixture_open(&f, "ref", SEAM_F64, &lora));
    const seam_test_engine *const e = &f.engine;
    const uint32_t V = config.vocab_count;
    double *x = seam_mem_zalloc(MANY, config.hidden * sizeof *x);
    float *logits = seam_mem_zalloc(V, sizeof *logits);
    assert_non_null(x);
    assert_non_null(logits);
    uint32_t targets[MANY], argmax[MANY];
    double losses[MANY], sum = 0.0, total = 0.0;
    for (uint32_t i = 0; i < MANY * config.hidden; i++) {
        x[i] = (double)seam_synthetic_word("rows", i) * 0x1p-32 - 0.5;
    }
    for (uint32_t t = 0; t < MANY; t++) {
        targets[t] = seam_synthetic_word("targets", t) % V;
    }
    assert_int_equal(seam_head_row_losses(losses, argmax, e->head, e->stream, x, targets, MANY),
                     SEAM_OK);
    for (uint32_t t = 0; t < MANY; t++) {
        const double *row = x + (size_t)t * config.hidden;
        double mass = 0.0;
        uint32_t best = 0;
        assert_int_equal(seam_head_logits(logits, e->head, e->stream, row, 1), SEAM_OK);
        for (uint32_t v = 0; v < V; v++) {
            mass += exp((double)logits[v]);
            best = logits[v] > logits[best] ? v : best;
        }
        assert_true(fabs(log(mass) - (double)logits[targets[t]] - losses[t]) < 1e-5); /* f32 */
        assert_int_equal(argmax[t], best);
        total += losses[t];
    }
    assert_int_equal(seam_head_loss(&sum, NULL, NULL, e->head, e->stream, x, targets, MANY, 1.0f),
                     SEAM_OK);
    assert_true(sum == total);
    targets[MANY - 1] = V;
    assert_int_equal(seam_head_row_losses(losses, argmax, e->head, e->stream, x, targets, MANY),
                     SEAM_E_ARG);
    seam_mem_free(logits);
    seam_mem_free(x);
    seam_test_engine_close(&f.engine);
}

static void test_backward__input__equals_finite_differences(void **state) {
    (void)state;
    const seam_adapter_config lora = {
        .lora = {.rank = 2, .alpha = 3, .targets = SEAM_LORA_Q, .seed = 1}};
    fixture f;
    assert_true(fixture_open(&f, "ref", SEAM_F64, &lora));
    for (uint32_t with = 0; with < 2; with++) {
        seam_adapter *adapter = with == 0 ? NULL : seam_test_adapter_synthetic(&f.engine, &lora);
        const size_t count = (size_t)ROWS * config.hidden;
        double *input = seam_mem_zalloc(count, sizeof *input);
        assert_non_null(input);
        for (size_t i = 0; i < count; i++) {
            input[i] = (double)seam_synthetic_word("input", i) * 0x1p-32 - 0.5;
        }
        (void)loss_of_input(&f, adapter, input);
        double *dx = f.engine.d_picked;
        seam_test_check(seam_blocks_backward(f.engine.blocks, adapter, f.engine.acts,
                                             f.engine.stream, dx, &f.words.text.batch, false),
                        "backward", NULL);
        double *grad = seam_mem_zalloc(count, sizeof *grad);
        assert_non_null(grad);
        memcpy(grad, dx, count * sizeof *grad);
        for (uint32_t probe = 0; probe < 60; probe++) {
            const size_t i = seam_synthetic_word("probe", probe) % count;
            const double was = input[i];
            input[i] = was + 1e-4;
            const double high = loss_of_input(&f, adapter, input);
            input[i] = was - 1e-4;
            const double low = loss_of_input(&f, adapter, input);
            input[i] = was;
            const double expected = (high - low) / 2e-4;
            if (!(fabs(grad[i] - expected) <= 1e-6 * (1 + fabs(expected)))) {
                fail_msg("input %zu: gradient %.9g, differences say %.9g", i, grad[i], expected);
            }
        }
        seam_mem_free(grad);
        seam_mem_free(input);
        seam_adapter_destroy(adapter);
    }
    seam_test_engine_close(&f.engine);
}

/* ---- Bits ---- */

typedef struct backend_case {
    const char *device;
    seam_dtype act;
} backend_case;

static const backend_case backends[] = {{"ref", SEAM_F64}, {"cpu", SEAM_F32}, {"cpu", SEAM_BF16}};

static const seam_optimizer_config optimizer = {.lr = 1e-2f,
                                                .beta1 = 0.9f,
                                                .beta2 = 0.999f,
                                                .eps = 1e-8f,
                                                .weight_decay = 0.01f,
                                                .clip_norm = 1.0f,
                                                .schedule = SEAM_SCHEDULE_LINEAR,
                                                .total_steps = 10};

static uint64_t train_step(fixture *f, seam_adapter *adapter, uint64_t step) {
    return seam_test_step(&f->engine, adapter, &f->words.text, &optimizer, step);
}

static void test_adapters__interleaved__end_with_the_bits_of_running_alone(void **state) {
    (void)state;
    const seam_adapter_config loras[] = {
        {.lora = {.rank = 4, .alpha = 8, .targets = LORA_ALL, .seed = 7}},
        {.lora = {.rank = 4, .alpha = 3, .targets = SEAM_LORA_Q | SEAM_LORA_V, .seed = 9}}};
    for (size_t b = 0; b < 3; b++) {
        uint64_t alone[2] = {0, 0};
        uint64_t together[2] = {0, 0};
        fixture f;
        if (!fixture_open(&f, backends[b].device, backends[b].act, &loras[0])) {
            assert_int_equal(backends[b].act, SEAM_BF16); /* the only type a machine may lack */
            continue;
        }
        for (size_t i = 0; i < 2; i++) {
            seam_adapter *adapter = seam_test_adapter(&f.engine, &loras[i]);
            for (uint64_t step = 0; step < 3; step++) {
                alone[i] = train_step(&f, adapter, step);
            }
            seam_adapter_destroy(adapter);
        }
        seam_adapter *pair[2] = {seam_test_adapter(&f.engine, &loras[0]),
                                 seam_test_adapter(&f.engine, &loras[1])};
        for (uint64_t step = 0; step < 3; step++) {
            for (size_t i = 0; i < 2; i++) {
                together[i] = train_step(&f, pair[i], step);
            }
        }
        assert_int_equal(alone[0], together[0]);
        assert_int_equal(alone[1], together[1]);
        assert_int_not_equal(alone[0], alone[1]);
        seam_adapter_destroy(pair[1]);
        seam_adapter_destroy(pair[0]);
        seam_test_engine_close(&f.engine);
    }
}

static void test_state__saved_and_loaded__continues_with_the_same_bits(void **state) {
    (void)state;
    const seam_adapter_config lora = {
        .lora = {.rank = 5, .alpha = 8, .targets = LORA_ALL, .seed = 7}};
    static uint8_t bytes[STATE_MAX];
    for (size_t b = 0; b < 3; b++) {
        fixture f;
        if (!fixture_open(&f, backends[b].device, backends[b].act, &lora)) {
            assert_int_equal(backends[b].act, SEAM_BF16);
            continue;
        }
        seam_adapter *first = seam_test_adapter(&f.engine, &lora);
        seam_adapter *second = seam_test_adapter(&f.engine, &lora);
        (void)train_step(&f, first, 0);
        (void)train_step(&f, first, 1);
        const size_t count = seam_adapter_state_bytes(first);
        assert_true(count <= STATE_MAX);
        seam_test_check(seam_adapter_save_state(bytes, first, f.engine.stream), "save", NULL);
        seam_test_check(seam_adapter_load_state(second, f.engine.stream, bytes, count), "load",
                        NULL);
        assert_int_equal(train_step(&f, first, 2), train_step(&f, second, 2));
        /* Another step count, another rank, or missing bytes: refused. */
        assert_int_equal(seam_adapter_load_state(second, f.engine.stream, bytes, count - 1),
                         SEAM_E_FORMAT);
        bytes[16] ^= 1;
        assert_int_equal(seam_adapter_load_state(second, f.engine.stream, bytes, count),
                         SEAM_E_FORMAT);
        seam_adapter_destroy(second);
        seam_adapter_destroy(first);
        seam_test_engine_close(&f.engine);
    }
}

static void test_adapter__start__a_is_bounded_and_b_is_zero(void **state) {
    (void)state;
    const seam_adapter_config lora = {
        .lora = {.rank = 5, .alpha = 8, .targets = LORA_ALL, .seed = 7}};
    fixture f;
    assert_true(fixture_open(&f, "ref", SEAM_F64, &lora));
    seam_adapter *adapter = seam_test_adapter(&f.engine, &lora);
    for (uint32_t i = 0; i < seam_adapter_tensor_count(adapter); i++) {
        seam_adapter_tensor shape;
        seam_adapter_describe(&shape, adapter, i);
        const size_t count = (size_t)shape.rows * shape.cols;
        float *values = seam_mem_zalloc(count, sizeof *values);
        assert_non_null(values);
        seam_test_check(seam_adapter_read(values, adapter, f.engine.stream, i), "read", NULL);
        const double bound = i % 2 == 0 ? 1.0 / sqrt(shape.cols) : 0;
        double squares = 0;
        for (size_t j = 0; j < count; j++) {
            assert_true(fabs(values[j]) <= bound * (1 + 1e-7));
            squares += (double)values[j] * values[j];
        }
        /* A uniform variable's variance is bound^2/3; at least 130 of them: within 40 %. */
        const double variance = squares / (double)count;
        assert_true(fabs(variance - bound * bound / 3) <= 0.4 * bound * bound / 3);
        seam_mem_free(values);
    }
    seam_adapter_destroy(adapter);
    seam_test_engine_close(&f.engine);
}

static void test_step__gradient_not_finite__changes_nothing(void **state) {
    (void)state;
    const seam_adapter_config lora = {
        .lora = {.rank = 2, .alpha = 8, .targets = SEAM_LORA_V, .seed = 7}};
    fixture f;
    assert_true(fixture_open(&f, "ref", SEAM_F64, &lora));
    seam_adapter *adapter = seam_test_adapter(&f.engine, &lora);
    uint64_t before = 0;
    uint64_t after = 0;
    double norm = 0;
    seam_test_check(seam_adapter_state_hash(&before, adapter, f.engine.stream), "hash", NULL);
    (void)seam_test_forward_backward(&f.engine, adapter, &f.words.text, INFINITY);
    assert_int_equal(seam_adapter_step(&norm, &after, adapter, f.engine.stream, &optimizer, 0),
                     SEAM_E_NONFINITE);
    seam_test_check(seam_adapter_state_hash(&after, adapter, f.engine.stream), "hash", NULL);
    assert_int_equal(before, after);
    /* The bad gradient is gone: the next step is that of a fresh adapter. */
    seam_adapter *fresh = seam_test_adapter(&f.engine, &lora);
    assert_int_equal(train_step(&f, adapter, 0), train_step(&f, fresh, 0));
    seam_adapter_destroy(fresh);
    seam_adapter_destroy(adapter);
    seam_test_engine_close(&f.engine);
}

/* ---- Cache ---- */

/* Rows go in as a prompt of all three sequences at once and then one row a sequence a call, in
 * slots 4, 0, 2; the outputs must be those of the full forward. */
static void cache_check(fixture *f, seam_adapter *adapter, double bound) {
    seam_test_engine *e = &f->engine;
    static const uint32_t slot_of[] = {4, 0, 2};
    const size_t row = config.hidden * seam_dtype_bytes(e->ops->acc);
    uint8_t *full = seam_mem_zalloc(2 * ROWS, row);
    assert_non_null(full);
    uint8_t *cached = full + ROWS * row;
    const uint32_t *const seq_begin = f->words.text.batch.seq_begin;
    seam_kv_cache *cache = NULL;
    seam_error err = {.status = SEAM_OK};
    seam_test_check(seam_kv_cache_create(&cache, e->blocks, 5, 32, ROWS, &err), "cache", &err);
    seam_test_check(seam_head_embed(e->head, e->stream, e->x, f->words.ids, ROWS), "embed", NULL);
    seam_test_check(
        seam_blocks_forward(e->blocks, adapter, e->acts, e->stream, e->x, &f->words.text.batch),
        "forward", NULL);
    seam_test_check(e->ops->copy_out(e->stream, full, e->x, ROWS * row), "copy", NULL);
    for (uint32_t done = 0, round = 0; done < ROWS; round++) {
        uint32_t rows[ROWS], ids[ROWS], slots[ROWS], positions[ROWS];
        uint32_t count = 0;
        for (uint32_t s = 0; s < 3; s++) {
            const uint32_t prompt = (seq_begin[s + 1] - seq_begin[s] + 1) / 2;
            const uint32_t from = seq_begin[s] + (round == 0 ? 0 : prompt + round - 1);
            const uint32_t to = round == 0 ? from + prompt : from + 1;
            for (uint32_t t = from; t < to && t < seq_begin[s + 1]; t++, count++) {
                rows[count] = t;
                ids[count] = f->words.ids[t];
                slots[count] = slot_of[s];
                positions[count] = t - seq_begin[s];
            }
        }
        seam_test_check(seam_head_embed(e->head, e->stream, e->x, ids, count), "embed", NULL);
        seam_test_check(seam_blocks_forward_cached(e->blocks, adapter, cache, e->stream, e->x,
                                                   count, slots, positions),
                        "cached", NULL);
        for (uint32_t i = 0; i < count; i++) {
            seam_test_check(
                e->ops->copy_out(e->stream, cached + rows[i] * row, (uint8_t *)e->x + i * row, row),
                "copy", NULL);
        }
        done += count;
    }
    double worst = 0;
    double largest = 0;
    for (size_t i = 0; i < (size_t)ROWS * config.hidden; i++) {
        const bool wide = e->ops->acc == SEAM_F64;
        const double a =
            wide ? ((const double *)(void *)full)[i] : ((const float *)(void *)full)[i];
        const double b =
            wide ? ((const double *)(void *)cached)[i] : ((const float *)(void *)cached)[i];
        worst = fmax(worst, fabs(a - b));
        largest = fmax(largest, fabs(a));
    }
    if (!(worst <= bound * largest)) {
        fail_msg("cached differs by %.3g of %.3g", worst, largest);
    }
    assert_int_equal(seam_blocks_forward_cached(e->blocks, adapter, cache, e->stream, e->x, 1,
                                                (uint32_t[]){5}, (uint32_t[]){0}),
                     SEAM_E_ARG);
    assert_int_equal(seam_blocks_forward_cached(e->blocks, adapter, cache, e->stream, e->x, 1,
                                                (uint32_t[]){0}, (uint32_t[]){32}),
                     SEAM_E_ARG);
    seam_kv_cache_destroy(cache);
    seam_mem_free(full);
}

static void test_cached__prompt_then_single_rows__equals_full_forward(void **state) {
    (void)state;
    /* Double, f32 and bf16 rounding of sums in another order. */
    static const double bounds[] = {1e-12, 2e-5, 3e-2};
    const seam_adapter_config lora = {
        .lora = {.rank = 4, .alpha = 8, .targets = LORA_ALL, .seed = 7}};
    for (size_t b = 0; b < 3; b++) {
        fixture f;
        if (!fixture_open(&f, backends[b].device, backends[b].act, &lora)) {
            assert_int_equal(backends[b].act, SEAM_BF16);
            continue;
        }
        for (uint32_t s = 0; s < 3; s++) {
            const uint32_t *const seq_begin = f.words.text.batch.seq_begin;
            for (uint32_t t = seq_begin[s]; t < seq_begin[s + 1]; t++) {
                f.words.positions[t] = t - seq_begin[s];
            }
        }
        seam_adapter *adapter = seam_test_adapter_synthetic(&f.engine, &lora);
        seam_adapter *prefix = seam_test_adapter_synthetic(
            &f.engine, &(seam_adapter_config){.kind = SEAM_ADAPTER_PREFIX,
                                              .prefix = {.tokens = 3, .seed = 7}});
        cache_check(&f, NULL, bounds[b]);
        cache_check(&f, adapter, bounds[b]);
        cache_check(&f, prefix, bounds[b]);
        seam_adapter_destroy(prefix);
        seam_adapter_destroy(adapter);
        seam_test_engine_close(&f.engine);
    }
}

/* ---- Refusals ---- */

static void test_forward__bad_layout__is_refused(void **state) {
    (void)state;
    const seam_adapter_config lora = {
        .lora = {.rank = 2, .alpha = 8, .targets = SEAM_LORA_V, .seed = 7}};
    fixture f;
    assert_true(fixture_open(&f, "ref", SEAM_F64, &lora));
    static const uint32_t falling[] = {0, 12, 10, ROWS};
    static const uint32_t shifted[] = {1, 9, 10, ROWS};
    static const uint32_t shorter[] = {0, 9, 10, ROWS - 1};
    const uint32_t *const layouts[] = {falling, shifted, shorter};
    for (size_t i = 0; i < 3; i++) {
        seam_batch batch = f.words.text.batch;
        batch.seq_begin = layouts[i];
        assert_int_equal(seam_blocks_forward(f.engine.blocks, NULL, f.engine.acts, f.engine.stream,
                                             f.engine.x, &batch),
                         SEAM_E_ARG);
    }
    f.words.positions[3] = config.context_max;
    assert_int_equal(seam_blocks_forward(f.engine.blocks, NULL, f.engine.acts, f.engine.stream,
                                         f.engine.x, &f.words.text.batch),
                     SEAM_E_ARG);
    f.words.ids[0] = config.vocab_count;
    assert_int_equal(seam_head_embed(f.engine.head, f.engine.stream, f.engine.x, f.words.ids, ROWS),
                     SEAM_E_ARG);
    seam_test_engine_close(&f.engine);
}

static void test_create__memory_ends_anywhere__is_an_error_and_leaks_nothing(void **state) {
    (void)state;
    const seam_adapter_config lora = {
        .lora = {.rank = 2, .alpha = 8, .targets = SEAM_LORA_V, .seed = 7}};
    const seam_tensor_source source = seam_synthetic_source(&config);
    seam_backend *backend = NULL;
    const seam_backend_options options = {.device = "ref", .act = SEAM_F64};
    seam_test_check(seam_backend_create(&backend, &options, NULL), "backend", NULL);
    const seam_activations_options acts_options = {
        .adapter = &lora, .rows_max = 9, .seqs_max = 2, .recompute = true};
    seam_status st = SEAM_E_MEMORY;
    for (int64_t allowed = 0; st == SEAM_E_MEMORY; allowed++) {
        seam_error err = {.status = SEAM_OK};
        seam_blocks *blocks = NULL;
        seam_head *head = NULL;
        seam_adapter *adapter = NULL;
        seam_activations *acts = NULL;
        seam_kv_cache *cache = NULL;
        seam_mem_fail_after(allowed);
        st = seam_blocks_create_from(&blocks, backend, &source, 1, 3, &err);
        st = st != SEAM_OK ? st : seam_head_create_from(&head, backend, &source, &err);
        st = st != SEAM_OK ? st : seam_adapter_create(&adapter, blocks, &lora, &err);
        st = st != SEAM_OK ? st : seam_activations_create(&acts, blocks, &acts_options, &err);
        st = st != SEAM_OK ? st : seam_kv_cache_create(&cache, blocks, 2, 8, 4, &err);
        seam_mem_fail_after(-1);
        assert_true(st == SEAM_OK || err.text[0] != 0);
        seam_kv_cache_destroy(cache);
        seam_activations_destroy(acts);
        seam_adapter_destroy(adapter);
        seam_head_destroy(head);
        seam_blocks_destroy(blocks);
        assert_true(allowed < 1000);
    }
    assert_int_equal(st, SEAM_OK);
    seam_backend_destroy(backend);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backward__lora_on_all__equals_finite_differences),
        cmocka_unit_test(test_backward__lora_on_some__equals_finite_differences),
        cmocka_unit_test(test_backward__prefix__equals_finite_differences),
        cmocka_unit_test(test_head_row_losses__more_rows_than_a_chunk__softmax_of_logits),
        cmocka_unit_test(test_backward__input__equals_finite_differences),
        cmocka_unit_test(test_adapters__interleaved__end_with_the_bits_of_running_alone),
        cmocka_unit_test(test_state__saved_and_loaded__continues_with_the_same_bits),
        cmocka_unit_test(test_adapter__start__a_is_bounded_and_b_is_zero),
        cmocka_unit_test(test_step__gradient_not_finite__changes_nothing),
        cmocka_unit_test(test_cached__prompt_then_single_rows__equals_full_forward),
        cmocka_unit_test(test_forward__bad_layout__is_refused),
        cmocka_unit_test(test_create__memory_ends_anywhere__is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
