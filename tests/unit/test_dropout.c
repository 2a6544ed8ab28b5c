/* Goal: dropout is part of training alone, and depends on nothing but what it is said to.
 * Method: one model by formula on the reference and the CPU; losses of a micro-batch, which differ
 * as soon as a mask does.  The mask itself: tests/ops (against the reference, to the bit) and
 * tests/oracle/check_model.py (against NumPy and peft). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "synthetic_model.h"

enum { ROWS = 12 };

static const seam_model_config config = {.architecture = "llama",
                                         .vocab_count = 31,
                                         .hidden = 32,
                                         .intermediate = 40,
                                         .layers = 2,
                                         .heads = 2,
                                         .kv_heads = 1,
                                         .head_dim = 16,
                                         .context_max = 32,
                                         .rms_eps = 1e-5f,
                                         .rope_theta = 10000.0,
                                         .bos_id = -1,
                                         .eos_id = -1};
static const seam_adapter_config dropping = {
    .lora = {.rank = 4, .alpha = 8, .targets = 0x7f, .seed = 11, .dropout = 0.5f}};

static double loss_of(seam_test_engine *e, const seam_adapter_config *lora, const seam_draw *draw) {
    static const uint32_t seq_begin[] = {0, 5, ROWS};
    uint32_t ids[ROWS], targets[ROWS], positions[ROWS];
    for (uint32_t t = 0; t < ROWS; t++) {
        ids[t] = t % config.vocab_count;
        targets[t] = (t + 1) % config.vocab_count;
        positions[t] = t;
    }
    const seam_test_text text = {.batch = {.rows = ROWS,
                                           .seq_count = 2,
                                           .seq_begin = seq_begin,
                                           .positions = positions,
                                           .draw = draw},
                                 .ids = ids,
                                 .targets = targets};
    seam_adapter *const adapter = seam_test_adapter_synthetic(e, lora);
    const double loss = seam_test_forward(e, adapter, &text);
    seam_adapter_destroy(adapter);
    return loss;
}

static void with_engine(const char *device, seam_dtype act, void (*fn)(seam_test_engine *e)) {
    const seam_backend_options options = {.device = device, .act = act, .threads = 2};
    const seam_tensor_source source = seam_synthetic_source(&config);
    seam_test_engine engine;
    assert_true(seam_test_engine_open(&engine, &options, &source, &dropping, ROWS));
    fn(&engine);
    seam_test_engine_close(&engine);
}

static void evaluation_check(seam_test_engine *e) {
    seam_adapter_config without = dropping;
    without.lora.dropout = 0;
    const seam_draw draw = {.step = 3};
    assert_true(loss_of(e, &dropping, NULL) == loss_of(e, &without, NULL));
    assert_true(loss_of(e, &without, &draw) == loss_of(e, &without, NULL));
    assert_true(loss_of(e, &dropping, &draw) != loss_of(e, &without, NULL));
}

static void test_dropout__no_draw__drops_nothing(void **state) {
    (void)state;
    with_engine("ref", SEAM_F64, evaluation_check);
    with_engine("cpu", SEAM_F32, evaluation_check);
}

static void draws_check(seam_test_engine *e) {
    const seam_draw draws[] = {{.step = 3, .micro = 1},
                               {.step = 4, .micro = 1},
                               {.step = 3, .micro = 2},
                               {.step = 3 + (UINT64_C(1) << 32), .micro = 1}};
    seam_adapter_config seeded = dropping;
    seeded.lora.seed++;
    const double loss = loss_of(e, &dropping, &draws[0]);
    assert_true(loss == loss_of(e, &dropping, &draws[0]));
    assert_true(loss != loss_of(e, &seeded, &draws[0]));
    for (size_t i = 1; i < sizeof draws / sizeof *draws; i++) {
        assert_true(loss != loss_of(e, &dropping, &draws[i]));
    }
}

static void test_dropout__same_draw__same_bits_and_no_other(void **state) {
    (void)state;
    with_engine("ref", SEAM_F64, draws_check);
    with_engine("cpu", SEAM_F32, draws_check);
}

static void test_adapter_create__bad_dropout__is_refused(void **state) {
    (void)state;
    const float bad[] = {-0.1f, 0.96f, 1.0f, NAN};
    const seam_backend_options options = {.device = "ref", .act = SEAM_F64};
    const seam_tensor_source source = seam_synthetic_source(&config);
    seam_test_engine engine;
    assert_true(seam_test_engine_open(&engine, &options, &source, &dropping, ROWS));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        seam_adapter_config lora = dropping;
        seam_adapter *adapter = NULL;
        seam_error err = {.status = SEAM_OK};
        lora.lora.dropout = bad[i];
        assert_int_equal(seam_adapter_create(&adapter, engine.blocks, &lora, &err), SEAM_E_ARG);
        assert_non_null(strstr(err.text, "lora.dropout"));
    }
    seam_test_engine_close(&engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dropout__no_draw__drops_nothing),
        cmocka_unit_test(test_dropout__same_draw__same_bits_and_no_other),
        cmocka_unit_test(test_adapter_create__bad_dropout__is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
