/* Goal: a session with gates by token is what WIRE.md 3.7 says: the gates of site 1, the surrogate
 * signal of site 0, the labelled rows.
 * Method: as test_trainer.c, which has the other codecs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trainer_fixture.h"

/* What the formulas say of a pass, beside an exact one that was fed its decoded values. */
static void expect(float *ret_db, float *ret_weights, double *ret_signal, const fixture *f,
                   const seam_session_config *token, const pass *coded, const pass *exact) {
    const uint32_t *gates_in = row_gates_of(token, f, SEAM_SITE_FWD_IN);
    const uint32_t *gates_out = row_gates_of(token, f, SEAM_SITE_FWD_OUT);
    for (uint32_t i = 0; i < f->labelled; i++) {
        double sum = 0;
        for (uint32_t c = 0; c < C; c++) {
            const size_t at = (size_t)i * C + c;
            sum += (double)coded->g[at] * ((double)coded->out[at] - (double)exact->out[at]);
        }
        ret_db[gates_out[i]] += (float)(-log(2) * kappa(8) * sum);
        ret_weights[gates_out[i]] += 1.0f / (float)f->labelled;
    }
    for (uint32_t row = 0; row < T; row++) {
        double squares = 0, lo = INFINITY, hi = -INFINITY;
        for (uint32_t c = 0; c < C; c++) {
            const size_t at = (size_t)row * C + c;
            squares += pow((double)exact->answer[at], 2);
            lo = fmin(lo, (double)coded->in[at]);
            hi = fmax(hi, (double)coded->in[at]);
        }
        const double step = (hi - lo) / 255;
        ret_signal[gates_in[row]] -= log(2) / 12 * f->labelled * kappa(8) * step * step * squares;
    }
}

/* By token: gates of 70 positions, of which the samples reach 40; the surrogate of site 0 and the
 * exact gradient of site 1 by rows, a mean and a price that go by the labelled rows. */
SEAM_ON_GPU static void
test_step__granularity_token__gates_and_signal_as_the_formulas(void **state) {
    fixture *f = *state;
    seam_session_config token = config_of(f, SEAM_CODEC_AMAQ);
    seam_session_config exact = config_of(f, SEAM_CODEC_F32);
    token.codec.granularity = SEAM_GRANULARITY_TOKEN;
    exact.codec.gate_signal_exact = true;
    seam_trainer *a = trainer_open(f, &token), *b = trainer_open(f, &exact);
    pass pa = pass_new(), pb = pass_new();
    float *x = values_new("x0", 0.5f), *g = values_new("g0", 1e-4f);
    float *g_rows = test_calloc((size_t)T * C, sizeof *g_rows), db[T] = {0}, weights[T] = {0};
    double signal[T] = {0};
    run(&pa, f, a, &token, x, g, 0, 1);
    for (uint32_t row = 0, next = 0; row < T; row++) { /* decoded rows to their places */
        if (is_labelled(row)) {
            memcpy(g_rows + (size_t)row * C, pa.g + (size_t)next++ * C, C * sizeof(float));
        }
    }
    run(&pb, f, b, &exact, pa.in, g_rows, 0, 1);
    assert_true(pa.result.state_hash == pb.result.state_hash);
    expect(db, weights, signal, f, &token, &pa, &pb);
    for (uint32_t p = 0; p < T; p++) { /* the tolerance as for gates by channel above */
        assert_true(signal[p] == 0 ? pa.answer[p] == 0 : fabs(pa.answer[p] / signal[p] - 1) < 0.02);
        assert_true(p > 37 || signal[p] < 0); /* later ones have no label behind them */
        assert_true(p < 40 || signal[p] == 0);
    }
    seam_gates gates;
    assert_int_equal(seam_gates_init(&gates, &token.gates, T), SEAM_OK);
    gates.weights = weights;
    const seam_gates_step_args args = {
        .db = db, .lr = token.bits_lr, .beta = token.beta, .bits_loss_active = true};
    seam_gates_step(&gates, &args);
    uint8_t widths[T];
    seam_gates_widths(widths, &gates, 0);
    assert_int_equal(pa.result.gate_bits_total, lrint(seam_token_gates_mean(&gates) * T));
    assert_true(pa.result.gate_pull > 0);
    assert_non_null(pa.result.proposal);
    assert_memory_equal(pa.result.proposal->widths, widths, T);
    assert_true(widths[69] == 8 && widths[1] < 8); /* a place that no sample reaches stays */
    seam_gates_deinit(&gates);
    test_free(g_rows);
    test_free(x);
    test_free(g);
    pass_free(&pa);
    pass_free(&pb);
    seam_trainer_destroy(a);
    seam_trainer_destroy(b);
}

SEAM_ON_GPU static void test_labelled_rows_only__on_and_off__same_bits(void **state) {
    fixture *f = *state;
    float *x = values_new("x", 0.5f), *g = values_new("g", 1e-4f);
    for (uint32_t row = 0; row < T; row++) {
        if (!is_labelled(row)) {
            memset(g + (size_t)row * C, 0, C * sizeof(float));
        }
    }
    for (int exact = 0; exact < 2; exact++) {
        pass passes[2];
        uint8_t widths[2][T] = {{0}};
        for (int all = 0; all < 2; all++) {
            seam_session_config config = config_of(f, SEAM_CODEC_AMAQ);
            config.codec.granularity = SEAM_GRANULARITY_TOKEN;
            config.codec.gate_signal_exact = exact != 0;
            config.codec.steps_to_target = 10; /* site 1 too has the surrogate */
            config.labelled_rows_only = all == 0;
            seam_trainer *trainer = trainer_open(f, &config);
            passes[all] = pass_new();
            run(&passes[all], f, trainer, &config, x, g, 0, 1);
            assert_non_null(passes[all].result.proposal);
            memcpy(widths[all], passes[all].result.proposal->widths, T);
            seam_trainer_destroy(trainer);
        }
        assert_int_equal(passes[0].rows_out, f->labelled);
        assert_int_equal(passes[1].rows_out, T);
        assert_true(passes[0].result.state_hash == passes[1].result.state_hash);
        assert_true(passes[0].result.gate_pull == passes[1].result.gate_pull);
        assert_int_equal(passes[0].result.gate_bits_total, passes[1].result.gate_bits_total);
        assert_memory_equal(widths[0], widths[1], T);
        assert_memory_equal(passes[0].answer, passes[1].answer,
                            (exact != 0 ? T * C : T) * sizeof(float));
        pass_free(&passes[0]);
        pass_free(&passes[1]);
    }
    test_free(x);
    test_free(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_step__granularity_token__gates_and_signal_as_the_formulas, setup, teardown),
        cmocka_unit_test_setup_teardown(test_labelled_rows_only__on_and_off__same_bits, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
