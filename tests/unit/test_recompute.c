/* Goal: a micro-batch that computes its layers again, or makes the inputs of its adapted products
 * again, gives the bits of one that kept them: every gradient, the input's, and the adapter after
 * several steps. Method: the same model by formula, adapters and text twice, on the reference, the
 * CPU backend and, where there is one, a CUDA device; bits are compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "arena.h"
#include "blocks_internal.h"
#include "synthetic_model.h"

enum { ROWS = SEAM_TEST_ROWS, STEPS = 3 };

static const seam_model_config config = SEAM_TEST_SMALL(32, 48, 4);

typedef struct backend_case {
    const char *device;
    seam_dtype act;
} backend_case;

/* What steps leave: gradients before each step, dx, the adapter's hash. */
typedef struct outcome {
    uint64_t hash;
    size_t count;
    float *gradients;
    uint8_t dx[ROWS * 32 * sizeof(double)];
} outcome;

static const seam_optimizer_config optimizer = SEAM_TEST_OPTIMIZER;

static void steps_run(outcome *ret, seam_test_engine *e, const seam_adapter_config *lora) {
    seam_test_words words;
    seam_draw draw = {.micro = 1};
    seam_test_words_fill(&words, config.vocab_count);
    words.text.batch.draw = &draw;
    seam_adapter *const adapter = seam_test_adapter_synthetic(e, lora);
    const size_t tensors = seam_test_gradients(NULL, adapter, e->stream);
    ret->count = STEPS * tensors;
    ret->gradients = test_calloc(ret->count, sizeof *ret->gradients);
    for (uint64_t step = 0; step < STEPS; step++) {
        double norm = 0;
        draw.step = step;
        (void)seam_test_forward_backward(e, adapter, &words.text, 0.1f);
        (void)seam_test_gradients(ret->gradients + step * tensors, adapter, e->stream);
        seam_test_check(seam_adapter_step(&norm, &ret->hash, adapter, e->stream, &optimizer, step),
                        "step", NULL);
        assert_true(norm > 0);
    }
    const size_t dx_bytes = (size_t)ROWS * config.hidden * seam_dtype_bytes(e->ops->acc);
    seam_test_check(e->ops->copy_out(e->stream, ret->dx, e->x, dx_bytes), "copy", NULL);
    seam_test_check(e->ops->stream_sync(e->stream), "sync", NULL);
    seam_adapter_destroy(adapter);
}

/* Ways: kept, recomputed, and both with the inputs of adapted products made again, which in a type
 * as fine as acc is the same. */
static void bits_check(seam_test_engine *e, const seam_adapter_config *lora) {
    const bool exact = e->ops->act == e->ops->acc;
    seam_ops ops = *e->ops;
    outcome kept = {0};
    for (uint32_t way = 0; way < (exact ? 4 : 2); way++) {
        outcome now = {0};
        const seam_activations_options options = {
            .adapter = lora, .rows_max = ROWS, .seqs_max = 3, .recompute = way % 2 == 1};
        ops.remake = exact ? way >= 2 : ops.remake;
        e->blocks->ops = &ops;
        seam_test_engine_activations(e, &options);
        steps_run(way == 0 ? &kept : &now, e, lora);
        if (way > 0) {
            assert_int_equal(kept.count, now.count);
            assert_memory_equal(kept.gradients, now.gradients, kept.count * sizeof *kept.gradients);
            assert_memory_equal(kept.dx, now.dx, sizeof kept.dx);
            assert_true(kept.hash == now.hash && kept.hash != 0);
            test_free(now.gradients);
        }
    }
    e->blocks->ops = e->ops;
    test_free(kept.gradients);
}

static void test_recompute__any_targets__same_bits(void **state) {
    (void)state;
    static const backend_case backends[] = {{"ref", SEAM_F64},
                                            {"cpu", SEAM_F32},
                                            {"cpu", SEAM_BF16},
                                            {"cuda:0", SEAM_BF16},
                                            {"cuda:0", SEAM_F32}};
    /* Every other with dropout, which joins no product (cuda_join.cu). */
    static const uint32_t targets[] = {0x7f,
                                       0x7f,
                                       SEAM_LORA_DOWN,
                                       SEAM_LORA_Q | SEAM_LORA_V,
                                       SEAM_LORA_Q | SEAM_LORA_V,
                                       SEAM_LORA_O | SEAM_LORA_GATE};
    const seam_tensor_source source = seam_synthetic_source(&config);
    for (size_t b = 0; b < sizeof backends / sizeof *backends; b++) {
        const seam_adapter_config all = {
            .lora = {.rank = 8, .alpha = 16, .targets = 0x7f, .seed = 3}};
        const seam_backend_options options = {.device = backends[b].device,
                                              .act = backends[b].act,
                                              .threads = 2,
                                              .join_mlp_rank = all.lora.rank};
        seam_test_engine engine;
        if (!seam_test_engine_open(&engine, &options, &source, &all, ROWS)) {
            assert_true(b >= 2); /* no such device, no bf16 */
            continue;
        }
        for (size_t t = 0; t < sizeof targets / sizeof *targets; t++) {
            seam_adapter_config lora = all;
            lora.lora.targets = targets[t];
            lora.lora.dropout = t % 2 == 0 ? 0.25f : 0.0f;
            bits_check(&engine, &lora);
        }
        bits_check(&engine, &(seam_adapter_config){.kind = SEAM_ADAPTER_PREFIX,
                                                   .prefix = {.tokens = 5, .seed = 3}});
        seam_test_engine_close(&engine);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recompute__any_targets__same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
