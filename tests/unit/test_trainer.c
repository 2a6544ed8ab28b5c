/* Goal: a session's micro-batch is what SPEC 3.1 says: the codec between the ends, the gates of
 * site 1, the surrogate signal of site 0, the savings that must not change a bit.
 * Method: a tiny synthetic model; an amaq trainer beside an f32 trainer that is fed the decoded
 * values, so that its outputs are the exact ones; formulas in double.  No network. */
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
#include "trainer_fixture.h"

SEAM_ON_GPU static void test_step__amaq__adapter_gates_and_signal_as_the_formulas(void **state) {
    fixture *f = *state;
    const seam_session_config amaq = config_of(f, SEAM_CODEC_AMAQ);
    seam_session_config exact = config_of(f, SEAM_CODEC_F32);
    exact.codec.gate_signal_exact = true;
    seam_trainer *a = trainer_open(f, &amaq), *b = trainer_open(f, &exact);
    pass pa = pass_new(), pb = pass_new();
    float db[C] = {0};
    for (uint32_t micro = 0; micro < 2; micro++) {
        float *x = values_new(micro == 0 ? "x0" : "x1", 0.5f);
        float *g = values_new(micro == 0 ? "g0" : "g1", 1e-4f);
        run(&pa, f, a, &amaq, x, g, micro, 2);
        float *g_rows = test_calloc((size_t)T * C, sizeof *g_rows);
        for (uint32_t row = 0, next = 0; row < T; row++) { /* decoded rows to their places */
            if (is_labelled(row)) {
                memcpy(g_rows + (size_t)row * C, pa.g + (size_t)next++ * C, C * sizeof(float));
            }
        }
        run(&pb, f, b, &exact, pa.in, g_rows, micro, 2);
        for (uint32_t c = 0; c < C; c++) {
            double sum = 0, squares = 0;
            for (uint32_t i = 0; i < f->labelled; i++) {
                const size_t at = (size_t)i * C + c;
                sum += (double)pa.g[at] * ((double)pa.out[at] - (double)pb.out[at]);
            }
            db[c] += (float)(-log(2) * kappa(8) * sum);
            for (uint32_t row = 0; row < T; row++) {
                squares += pow(pb.answer[(size_t)row * C + c], 2);
            }
            double lo = INFINITY, hi = -INFINITY; /* the grid's ends are decoded values */
            for (uint32_t row = 0; row < T; row++) {
                lo = fmin(lo, pa.in[(size_t)row * C + c]);
                hi = fmax(hi, pa.in[(size_t)row * C + c]);
            }
            const double step = (hi - lo) / 255;
            const double signal = -log(2) / 12 * 2 * f->labelled * kappa(8) * step * step * squares;
            /* Rounded outward, a range's outermost codes may stay unused: D as seen here is up to
             * 2/255 small, its square twice that. */
            assert_true(fabs(pa.answer[c] / signal - 1) < 0.02);
        }
        test_free(g_rows);
        test_free(x);
        test_free(g);
    }
    /* The same decoded values on both sides of the blocks: the same adapter to the bit. */
    assert_true(pa.result.state_hash == pb.result.state_hash);
    assert_true(pa.result.grad_norm > 0 && pa.result.grad_norm == pb.result.grad_norm);
    seam_gates gates = gates_after(&amaq, db);
    uint8_t widths[C];
    seam_gates_widths(widths, &gates, 0);
    assert_int_equal(pa.result.gate_bits_total, seam_gates_bits_total(&gates));
    assert_true(pa.result.gate_pull > 0 && pb.result.gate_pull == 0);
    assert_non_null(pa.result.proposal);
    assert_memory_equal(pa.result.proposal->widths, widths, C);
    assert_int_equal(pa.result.proposal->version, 2);
    assert_int_equal(pa.result.proposal->effective_step, 2);
    assert_true(pb.result.proposal == NULL && pb.result.gate_bits_total == 0);
    seam_gates_deinit(&gates);
    pass_free(&pa);
    pass_free(&pb);
    seam_trainer_destroy(a);
    seam_trainer_destroy(b);
}

/* Waterfill: the signal is sum g^2, the report has site 1's costs, the widths the told total. */
SEAM_ON_GPU static void test_step__waterfill__signal_report_and_total(void **state) {
    fixture *f = *state;
    float *x = values_new("x", 0.5f), *g = values_new("g", 1e-4f);
    float *g_rows = test_calloc((size_t)T * C, sizeof *g_rows);
    seam_session_config fill = config_of(f, SEAM_CODEC_AMAQ), exact = config_of(f, SEAM_CODEC_F32);
    fill.codec.allocator = SEAM_ALLOCATOR_WATERFILL;
    exact.codec.gate_signal_exact = true;
    seam_trainer *a = trainer_open(f, &fill), *b = trainer_open(f, &exact);
    pass pa = pass_new(), pb = pass_new();
    seam_error err = {0};
    const seam_budget budget = {.effective_step = 0, .bits_total = 5 * C + 3};
    assert_int_equal(seam_trainer_set_budget(a, &budget, 0, &err), SEAM_OK);
    run(&pa, f, a, &fill, x, g, 0, 1);
    for (uint32_t row = 0, next = 0; row < T; row++) { /* decoded rows to their places */
        if (is_labelled(row)) {
            memcpy(g_rows + (size_t)row * C, pa.g + (size_t)next++ * C, C * sizeof(float));
        }
    }
    run(&pb, f, b, &exact, pa.in, g_rows, 0, 1);
    double cost = 0;
    for (uint32_t c = 0; c < C; c++) {
        double squares = 0, own = 0, lo = INFINITY, hi = -INFINITY;
        for (uint32_t row = 0; row < T; row++) {
            squares += pow(pb.answer[(size_t)row * C + c], 2);
        }
        for (uint32_t i = 0; i < f->labelled; i++) {
            own += pow(pa.g[(size_t)i * C + c], 2);
            lo = fmin(lo, pa.out[(size_t)i * C + c]);
            hi = fmax(hi, pa.out[(size_t)i * C + c]);
        }
        cost += 0.5 * log2(own / f->labelled) + log2(hi - lo);
        assert_true(fabs(pa.answer[c] / squares - 1) < 1e-5);
    }
    assert_int_equal(pa.result.cost_channels, C);
    assert_true(fabs(pa.result.cost_sum - cost) < 0.02 * C); /* outermost codes may stay unused */
    assert_int_equal(pa.result.gate_bits_total, 5 * C + 3);
    assert_int_equal(pa.result.proposal->bits_total, 5 * C + 3);
    pass_free(&pa);
    pass_free(&pb);
    seam_trainer_destroy(a);
    seam_trainer_destroy(b);
    test_free(g_rows);
    test_free(x);
    test_free(g);
}

/* Codecs a site: bf16 in, amaq out.  Only site 1 has gates, so no signal goes back. */
SEAM_ON_GPU static void test_step__no_gates_at_site_0__site_1_as_with_them(void **state) {
    fixture *f = *state;
    float *x = values_new("x", 0.5f), *g = values_new("g", 1e-4f);
    for (uint32_t i = 0; i < T * C; i++) { /* values that bf16 keeps: the same input to both */
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0xffff0000u;
        memcpy(&x[i], &bits, sizeof bits);
    }
    seam_session_config mixed = config_of(f, SEAM_CODEC_AMAQ);
    mixed.codec.codec_in = SEAM_CODEC_BF16;
    assert_false(seam_session_config_backward_reply(&mixed));
    seam_session_config plain = config_of(f, SEAM_CODEC_AMAQ);
    plain.codec.codec_in = SEAM_CODEC_F32;
    seam_trainer *a = trainer_open(f, &mixed), *b = trainer_open(f, &plain);
    pass p = pass_new(), q = pass_new();
    run(&p, f, a, &mixed, x, g, 0, 1);
    run(&q, f, b, &plain, x, g, 0, 1);
    assert_memory_equal(p.in, x, sizeof(float) * T * C);
    assert_memory_equal(p.out, q.out, sizeof(float) * f->labelled * C);
    assert_true(p.result.state_hash == q.result.state_hash);
    assert_non_null(p.result.proposal);
    assert_memory_equal(p.result.proposal->widths, q.result.proposal->widths, C);
    assert_int_equal(seam_trainer_backward_reply(a, 0)->message_count, 0);
    pass_free(&p);
    pass_free(&q);
    seam_trainer_destroy(a);
    seam_trainer_destroy(b);
    test_free(x);
    test_free(g);
}

SEAM_ON_GPU static void test_labelled_rows_only__on_and_off__same_bits(void **state) {
    fixture *f = *state;
    const seam_codec_id codecs[] = {SEAM_CODEC_F32, SEAM_CODEC_BF16, SEAM_CODEC_AFFINE,
                                    SEAM_CODEC_AMAQ, SEAM_CODEC_AMAQ /* by token */};
    float *x = values_new("x", 0.5f), *g = values_new("g", 1e-4f);
    for (uint32_t row = 0; row < T; row++) {
        if (!is_labelled(row)) {
            memset(g + (size_t)row * C, 0, C * sizeof(float));
        }
    }
    for (size_t i = 0; i < sizeof codecs / sizeof codecs[0]; i++) {
        pass passes[2];
        uint8_t widths[2][T] = {{0}};
        const uint32_t width_count = i == 4 ? T : C;
        for (int all = 0; all < 2; all++) {
            seam_session_config config = config_of(f, codecs[i]);
            config.labelled_rows_only = all == 0;
            config.codec.granularity = i == 4 ? SEAM_GRANULARITY_TOKEN : SEAM_GRANULARITY_FEATURE;
            seam_trainer *trainer = trainer_open(f, &config);
            passes[all] = pass_new();
            run(&passes[all], f, trainer, &config, x, g, 0, 1);
            if (passes[all].result.proposal != NULL) {
                memcpy(widths[all], passes[all].result.proposal->widths, width_count);
            }
            seam_trainer_destroy(trainer);
        }
        assert_int_equal(passes[0].rows_out, f->labelled);
        assert_int_equal(passes[1].rows_out, T);
        assert_true(passes[0].result.state_hash == passes[1].result.state_hash);
        assert_int_equal(passes[0].result.gate_bits_total, passes[1].result.gate_bits_total);
        assert_memory_equal(widths[0], widths[1], width_count);
        assert_memory_equal(passes[0].answer, passes[1].answer, width_count * sizeof(float));
        pass_free(&passes[0]);
        pass_free(&passes[1]);
    }
    test_free(x);
    test_free(g);
}

/* A session that computes its layers again: every output, two micro-batches. */
SEAM_ON_GPU static void test_recompute__on_and_off__same_bits(void **state) {
    fixture *f = *state;
    float *x = values_new("x", 0.5f), *g = values_new("g", 1e-4f);
    pass passes[2];
    for (int recompute = 0; recompute < 2; recompute++) {
        seam_session_config config = config_of(f, SEAM_CODEC_AMAQ);
        config.codec.gate_signal_exact = true;
        config.recompute = recompute == 1;
        seam_trainer *trainer = trainer_open(f, &config);
        passes[recompute] = pass_new();
        for (uint32_t micro = 0; micro < 2; micro++) {
            run(&passes[recompute], f, trainer, &config, micro == 0 ? x : g, g, micro, 2);
        }
        seam_trainer_destroy(trainer);
    }
    const size_t bytes = (size_t)T * C * sizeof(float);
    assert_true(passes[0].result.state_hash == passes[1].result.state_hash);
    assert_memory_equal(passes[0].out, passes[1].out, bytes);
    assert_memory_equal(passes[0].answer, passes[1].answer, bytes);
    pass_free(&passes[0]);
    pass_free(&passes[1]);
    test_free(x);
    test_free(g);
}

/* bwd_in goes in front of the gate signal, with the bytes of gate_signal exact, and changes
 * nothing. */
SEAM_ON_GPU static void test_send_input_gradient__on_and_off__same_bits(void **state) {
    fixture *f = *state;
    float *x = values_new("x", 0.5f), *g = values_new("g", 1e-4f);
    enum { OFF, ON, EXACT, RUNS };
    for (int i = 0; i < 5; i++) {
        const bool gates = i < 3;
        pass passes[RUNS];
        uint8_t widths[RUNS][T] = {{0}};
        uint8_t *bytes[RUNS] = {NULL};
        size_t counts[RUNS] = {0};
        uint32_t messages[RUNS] = {0};
        for (int way = 0; way < (gates ? RUNS : EXACT); way++) {
            seam_session_config config = config_of(f, i == 3   ? SEAM_CODEC_BF16
                                                      : i == 4 ? SEAM_CODEC_AFFINE
                                                               : SEAM_CODEC_AMAQ);
            config.codec.allocator = i == 1 ? SEAM_ALLOCATOR_WATERFILL : SEAM_ALLOCATOR_GATES;
            config.codec.granularity = i == 2 ? SEAM_GRANULARITY_TOKEN : SEAM_GRANULARITY_FEATURE;
            config.codec.send_input_gradient = way == ON;
            config.codec.gate_signal_exact = way == EXACT;
            seam_trainer *trainer = trainer_open(f, &config);
            passes[way] = pass_new();
            run(&passes[way], f, trainer, &config, x, g, 0, 1);
            if (passes[way].result.proposal != NULL) {
                memcpy(widths[way], passes[way].result.proposal->widths, i == 2 ? T : C);
            }
            const seam_reply *reply = seam_trainer_backward_reply(trainer, 0);
            counts[way] = reply->used_bytes;
            messages[way] = reply->message_count;
            bytes[way] = test_calloc(counts[way] + 1, 1);
            memcpy(bytes[way], reply->bytes, counts[way]);
            seam_trainer_destroy(trainer);
        }
        assert_true(passes[OFF].result.state_hash == passes[ON].result.state_hash);
        assert_int_equal(passes[OFF].result.gate_bits_total, passes[ON].result.gate_bits_total);
        assert_memory_equal(widths[OFF], widths[ON], sizeof widths[ON]);
        assert_int_equal(messages[OFF], gates ? 1 : 0);
        assert_int_equal(messages[ON], gates ? 2 : 1);
        if (gates) { /* T rows are one chunk */
            assert_memory_equal(passes[OFF].answer, passes[ON].answer, C * sizeof(float));
            assert_int_equal(counts[ON], counts[EXACT] + counts[OFF]);
            assert_memory_equal(bytes[ON], bytes[EXACT], counts[EXACT]);
            assert_memory_equal(bytes[ON] + counts[EXACT], bytes[OFF], counts[OFF]);
        }
        for (int way = 0; way < (gates ? RUNS : EXACT); way++) {
            test_free(bytes[way]);
            pass_free(&passes[way]);
        }
    }
    test_free(x);
    test_free(g);
}

/* Three micro-batches one after another, and with the forward of others between. */
SEAM_ON_GPU static void test_pipeline__depths__same_bits(void **state) {
    fixture *f = *state;
    enum { MICROS = 3 };
    const seam_codec_id codecs[] = {SEAM_CODEC_BF16, SEAM_CODEC_GROUP, SEAM_CODEC_AMAQ};
    float *x[MICROS], *g[MICROS];
    for (uint32_t m = 0; m < MICROS; m++) {
        char name[] = {'x', (char)('0' + m), '\0'};
        x[m] = values_new(name, 0.5f);
        name[0] = 'g';
        g[m] = values_new(name, 1e-4f);
    }
    for (size_t i = 0; i < 2 * (sizeof codecs / sizeof codecs[0]); i++) {
        seam_session_config config = config_of(f, codecs[i / 2]);
        config.codec.allocator = i % 2 ? SEAM_ALLOCATOR_WATERFILL : SEAM_ALLOCATOR_GATES;
        config.limits.micros_max = MICROS;
        pass one[MICROS], many[MICROS];
        for (uint32_t depth = 1; depth <= MICROS; depth++) {
            pass *const p = depth == 1 ? one : many;
            config.pipeline_depth = depth;
            seam_trainer *trainer = trainer_open(f, &config);
            for (uint32_t m = 0, begun = 0; m < MICROS; m++) {
                p[m] = pass_new();
                for (; begun < MICROS && begun < m + depth; begun++) {
                    pass forward = pass_new();
                    run_forward(&forward, f, trainer, &config, x[begun], begun, MICROS);
                    if (depth > 1) {
                        assert_memory_equal(forward.out, one[begun].out,
                                            f->labelled * C * sizeof(float));
                    } else {
                        memcpy(p[m].out, forward.out, f->labelled * C * sizeof(float));
                    }
                    pass_free(&forward);
                }
                p[m].rows_out = f->labelled;
                run_backward(&p[m], f, trainer, &config, g[m], m);
                if (depth > 1) {
                    assert_memory_equal(many[m].answer, one[m].answer, C * sizeof(float));
                    assert_memory_equal(many[m].g, one[m].g, f->labelled * C * sizeof(float));
                }
            }
            const seam_step_result *last = &p[MICROS - 1].result;
            assert_true(last->state_hash == one[MICROS - 1].result.state_hash);
            assert_true(last->grad_norm == one[MICROS - 1].result.grad_norm);
            assert_true(last->cost_sum == one[MICROS - 1].result.cost_sum);
            seam_trainer_destroy(trainer);
            for (uint32_t m = 0; depth > 1 && m < MICROS; m++) {
                pass_free(&many[m]);
            }
        }
        for (uint32_t m = 0; m < MICROS; m++) {
            pass_free(&one[m]);
        }
    }
    for (uint32_t m = 0; m < MICROS; m++) {
        test_free(x[m]);
        test_free(g[m]);
    }
}

/* Rows of x that are equal, sent once and each time. */
SEAM_ON_GPU static void test_row_sources__with_and_without__same_bits(void **state) {
    fixture *f = *state;
    const seam_codec_id codecs[] = {SEAM_CODEC_F32, SEAM_CODEC_BF16, SEAM_CODEC_AFFINE,
                                    SEAM_CODEC_GROUP, SEAM_CODEC_AMAQ};
    uint32_t sources[T], rows_in = 0;
    float *x = values_new("x", 0.5f), *g = values_new("g", 1e-4f);
    float *distinct = test_calloc((size_t)T * C, sizeof *distinct);
    for (uint32_t row = 0; row < T; row++) {
        const uint32_t earlier = row * 7 % 23; /* of the first 23 rows each is its own */
        sources[row] = row < 23 || row % 5 == 0 ? rows_in++ : earlier;
        if (sources[row] < 23 && row >= 23) {
            memcpy(x + (size_t)row * C, x + (size_t)sources[row] * C, C * sizeof *x);
        }
        memcpy(distinct + (size_t)sources[row] * C, x + (size_t)row * C, C * sizeof *x);
    }
    for (size_t i = 0; i < sizeof codecs / sizeof codecs[0]; i++) {
        pass passes[2];
        uint8_t widths[2][C] = {{0}};
        const seam_session_config config = config_of(f, codecs[i]);
        for (int once = 0; once < 2; once++) {
            seam_trainer *trainer = trainer_open(f, &config);
            f->row_sources = once != 0 ? sources : NULL;
            f->rows_in = rows_in;
            passes[once] = pass_new();
            run(&passes[once], f, trainer, &config, once != 0 ? distinct : x, g, 0, 1);
            if (passes[once].result.proposal != NULL) {
                memcpy(widths[once], passes[once].result.proposal->widths, C);
            }
            seam_trainer_destroy(trainer);
        }
        assert_true(rows_in < T && passes[0].result.state_hash == passes[1].result.state_hash);
        assert_memory_equal(passes[0].out, passes[1].out, f->labelled * C * sizeof(float));
        assert_memory_equal(passes[0].answer, passes[1].answer, C * sizeof(float));
        assert_memory_equal(widths[0], widths[1], C);
        pass_free(&passes[0]);
        pass_free(&passes[1]);
    }
    f->row_sources = NULL;
    test_free(distinct);
    test_free(x);
    test_free(g);
}

SEAM_ON_GPU static void test_abort_step__half_a_step__leaves_nothing(void **state) {
    fixture *f = *state;
    const seam_session_config config = config_of(f, SEAM_CODEC_AMAQ);
    float *x = values_new("x", 0.5f), *g = values_new("g", 1e-4f), *other = values_new("o", 2e-3f);
    seam_trainer *clean = trainer_open(f, &config), *broken = trainer_open(f, &config);
    pass p = pass_new(), q = pass_new();
    assert_true(seam_trainer_state_hash(clean) == seam_trainer_state_hash(broken));
    run(&p, f, clean, &config, x, g, 0, 1);
    run(&q, f, broken, &config, x, other, 0, 2);
    assert_int_equal(seam_trainer_abort_step(broken, f->engine.stream), SEAM_OK);
    run(&q, f, broken, &config, x, g, 0, 1);
    assert_true(p.result.state_hash == q.result.state_hash);
    assert_memory_equal(p.result.proposal->widths, q.result.proposal->widths, C);
    pass_free(&p);
    pass_free(&q);
    seam_trainer_destroy(clean);
    seam_trainer_destroy(broken);
    test_free(x);
    test_free(g);
    test_free(other);
}

SEAM_ON_GPU static void test_step__gradient_overflows__skipped_and_nothing_moves(void **state) {
    fixture *f = *state;
    const seam_session_config config = config_of(f, SEAM_CODEC_F32);
    float *x = values_new("x", 0.5f), *g = values_new("g", 1e37f);
    seam_trainer *trainer = trainer_open(f, &config);
    const uint64_t before = seam_trainer_state_hash(trainer);
    pass p = pass_new();
    run(&p, f, trainer, &config, x, g, 0, 1);
    assert_true(p.result.skipped);
    assert_true(p.result.state_hash == before);
    pass_free(&p);
    seam_trainer_destroy(trainer);
    test_free(x);
    test_free(g);
}

SEAM_ON_GPU static void test_budget__of_this_step__moves_the_gates(void **state) {
    fixture *f = *state;
    const seam_session_config config = config_of(f, SEAM_CODEC_AMAQ);
    float *x = values_new("x", 0.5f), *g = values_new("g", 1e-4f);
    pass p = pass_new();
    seam_error err = {0};
    seam_trainer *trainer = trainer_open(f, &config);
    const seam_budget late = {.effective_step = 3, .beta = 1, .bits_lr = 1};
    seam_budget now = {.effective_step = 0, .beta = 0, .bits_lr = 0, .width_shift = -3};
    assert_int_equal(seam_trainer_set_budget(trainer, &late, 0, &err), SEAM_OK);
    assert_int_equal(seam_trainer_set_budget(trainer, &now, 0, &err), SEAM_E_STATE);
    seam_trainer_destroy(trainer);
    trainer = trainer_open(f, &config);
    assert_int_equal(seam_trainer_set_budget(trainer, &now, 0, &err), SEAM_OK);
    now.effective_step = 0;
    now.width_shift = 5;
    assert_int_equal(seam_trainer_set_budget(trainer, &now, 1, &err), SEAM_OK); /* over: ignored */
    run(&p, f, trainer, &config, x, g, 0, 1);
    assert_int_equal(p.result.gate_bits_total, 8 * C); /* lr 0: the gates stay */
    for (uint32_t c = 0; c < C; c++) {
        assert_int_equal(p.result.proposal->widths[c], 5); /* 8 - 3 */
    }
    pass_free(&p);
    seam_trainer_destroy(trainer);
    test_free(x);
    test_free(g);
}

SEAM_ON_GPU static void test_create__each_allocation_fails__error_and_no_leak(void **state) {
    fixture *f = *state;
    const seam_session_config config = config_of(f, SEAM_CODEC_AMAQ);
    check_create_fails(f, &config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_step__amaq__adapter_gates_and_signal_as_the_formulas,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_step__waterfill__signal_report_and_total, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_step__no_gates_at_site_0__site_1_as_with_them, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_labelled_rows_only__on_and_off__same_bits, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_recompute__on_and_off__same_bits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pipeline__depths__same_bits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_row_sources__with_and_without__same_bits, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_send_input_gradient__on_and_off__same_bits, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_abort_step__half_a_step__leaves_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_step__gradient_overflows__skipped_and_nothing_moves,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_budget__of_this_step__moves_the_gates, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_create__each_allocation_fails__error_and_no_leak,
                                        setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
