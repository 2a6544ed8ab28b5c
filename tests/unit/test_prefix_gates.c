/* Goal: passes of a quantized prefix attend to what its codec would send and to nothing else, its
 * gradient goes straight through, the gate gradients are the formulas' and the loss's own, widths
 * fall to the target, and bits do not depend on recompute, on the pipeline, on a checkpoint
 * between, or on whose codec it is. Method: a tiny model of three blocks, a prefix of 13 tokens.  A
 * session without gates whose prefix is what the codec left must do the same; finite differences
 * shift the values that passes read. The device is the first argument; "cpu" gets the table of
 * device_fake.h.  A machine without the device skips. */
#include <stdio.h>

#include "device_fake.h"
#include "steps_fixture.h"
#include "trainer_internal.h"

enum { LAYERS = 3, TOKENS = 13, FEATURES = 40, CHANNELS = 2 * FEATURES, ROWS = TOKENS * LAYERS };
enum { VALUES = ROWS * CHANNELS };

static const char *device_name = "cpu";

static int prefix_setup(void **state) {
    seam_model_config config = model_config;
    config.layers = LAYERS;
    return fixture_open(state, &config, device_name);
}

static seam_session_config plain_config(const fixture *f) {
    seam_session_config config = config_of(f, SEAM_CODEC_F32);
    config.adapter =
        (seam_adapter_config){.kind = SEAM_ADAPTER_PREFIX, .prefix = {.tokens = TOKENS, .seed = 3}};
    config.limits.positions_max = 80 - TOKENS;
    return config;
}

static seam_session_config prefix_config(const fixture *f, uint32_t steps, bool exact) {
    seam_session_config config = plain_config(f);
    config.prefix_bits = 4;
    config.prefix_steps = steps;
    config.codec.gate_signal_exact = exact;
    assert_true(seam_gates_preset(&config.prefix_gates, 4));
    return config;
}

/* Gates of many sizes, so that widths are 1 to 11, and the values that they make. */
SEAM_ON_GPU static void gates_spread(fixture *f, seam_trainer *trainer) {
    seam_gate_group *group = seam_prefix_quantizer_group(trainer->prefix);
    uint8_t state[1 << 12];
    assert_true(seam_gate_group_state_bytes(group->count, group->channels) <= sizeof state);
    for (uint32_t i = 0; i < CHANNELS; i++) {
        group->gates[i / FEATURES].q[i % FEATURES] = -3.5f + 0.05f * (float)i;
    }
    seam_gate_group_save(state, group);
    assert_int_equal(seam_gate_group_load(group, state), SEAM_OK); /* widths go by the gates */
    assert_int_equal(seam_trainer_refresh(trainer, f->engine.stream), SEAM_OK);
}

static void device_read(float *ret, const fixture *f, const seam_trainer *t, const void *values) {
    seam_test_check(t->ops->copy_out(f->engine.stream, ret, values, VALUES * sizeof(float)), "copy",
                    NULL);
    seam_test_check(t->ops->stream_sync(f->engine.stream), "sync", NULL);
}

/* ---- forward and gradients ---- */

/* The prefix as its amaq tensor would arrive, by the host's codec; ret_steps: D. */
static void round_trip(float *ret, float *ret_steps, const float *x, const uint8_t *widths) {
    static uint8_t codes[VALUES * 2];
    uint8_t ranges[4 + 4 * CHANNELS];
    seam_codec_args args = {.id = SEAM_CODEC_AMAQ, .channels = CHANNELS, .widths = widths};
    const seam_rounding nearest = {.stochastic = false};
    void *scratch = NULL;
    assert_int_equal(posix_memalign(&scratch, 64, seam_codec_scratch_bytes(CHANNELS)), 0);
    assert_int_equal(seam_codec_measure(ranges, SEAM_CODEC_AMAQ, x, ROWS, CHANNELS, NULL), SEAM_OK);
    args.ranges = ranges;
    const size_t count = seam_codec_code_bytes(SEAM_CODEC_AMAQ, widths, ROWS, CHANNELS);
    assert_int_equal(seam_codec_encode(codes, NULL, &args, x, ROWS, &nearest, scratch), SEAM_OK);
    assert_int_equal(seam_codec_decode(ret, &args, codes, count, ROWS, scratch), SEAM_OK);
    assert_int_equal(seam_codec_steps(ret_steps, &args), SEAM_OK);
    free(scratch);
}

/* What stands beside the parameters: the codec's, at widths of every size. */
SEAM_ON_GPU static void test_values__spread_widths__of_the_codec(void **state) {
    fixture *f = *state;
    static float x[VALUES], found[VALUES], expected[VALUES];
    float steps[CHANNELS];
    const seam_session_config config = prefix_config(f, 50, false);
    seam_trainer *trainer = trainer_open(f, &config);
    const seam_gate_group *group = seam_prefix_quantizer_group(trainer->prefix);
    assert_int_equal(group->count, 2);
    assert_int_equal(group->channels, FEATURES);
    for (int spread = 0; spread < 2; spread++) {
        if (spread == 1) {
            gates_spread(f, trainer);
            assert_true(group->widths[0] < 3 && group->widths[CHANNELS - 1] > 9);
        }
        assert_int_equal(seam_adapter_read(x, trainer->adapter, f->engine.stream, 0), SEAM_OK);
        round_trip(expected, steps, x, group->widths);
        device_read(found, f, trainer, seam_prefix_quantizer_values(trainer->prefix));
        assert_memory_equal(found, expected, sizeof found);
    }
    /* An import: what passes read follows it. */
    seam_synthetic_fill(x, "imported", VALUES, 2.0f);
    seam_test_check(seam_adapter_write(trainer->adapter, f->engine.stream, 0, x), "write", NULL);
    assert_int_equal(seam_trainer_refresh(trainer, f->engine.stream), SEAM_OK);
    round_trip(expected, steps, x, group->widths);
    device_read(found, f, trainer, seam_prefix_quantizer_values(trainer->prefix));
    assert_memory_equal(found, expected, sizeof found);
    x[5] = INFINITY;
    seam_test_check(seam_adapter_write(trainer->adapter, f->engine.stream, 0, x), "write", NULL);
    assert_int_equal(seam_trainer_refresh(trainer, f->engine.stream), SEAM_E_NONFINITE);
    seam_trainer_destroy(trainer);
}

/* The session with gates, and one without whose prefix is what the codec left: the same output and
 * the same gradient of the prefix, to the bit; the parameters stay as they were. */
SEAM_ON_GPU static void test_pass__against_a_prefix_of_those_values__same_bits(void **state) {
    fixture *f = *state;
    static float values[VALUES], before[VALUES], after[VALUES], mine[VALUES], theirs[VALUES];
    for (int recompute = 0; recompute < 2; recompute++) {
        seam_session_config config = prefix_config(f, 50, false), plain = plain_config(f);
        config.recompute = plain.recompute = recompute == 1;
        float *x = values_new("x", 0.5f), *g = values_new("g", 0.02f);
        seam_trainer *trainer = trainer_open(f, &config), *other = trainer_open(f, &plain);
        pass p = pass_new(), q = pass_new();
        gates_spread(f, trainer);
        seam_stream *stream = f->engine.stream;
        device_read(values, f, trainer, seam_prefix_quantizer_values(trainer->prefix));
        assert_int_equal(seam_adapter_read(before, trainer->adapter, stream, 0), SEAM_OK);
        seam_test_check(seam_adapter_write(other->adapter, stream, 0, values), "write", NULL);
        run(&p, f, trainer, &config, x, g, 0, 2);
        run(&q, f, other, &plain, x, g, 0, 2);
        assert_memory_equal(p.out, q.out, p.rows_out * C * sizeof(float));
        assert_int_equal(seam_adapter_read_gradient(mine, trainer->adapter, stream, 0), SEAM_OK);
        assert_int_equal(seam_adapter_read_gradient(theirs, other->adapter, stream, 0), SEAM_OK);
        assert_memory_equal(mine, theirs, sizeof mine);
        assert_int_equal(seam_adapter_read(after, trainer->adapter, stream, 0), SEAM_OK);
        assert_memory_equal(after, before, sizeof after);
        assert_memory_not_equal(values, before, sizeof values);
        pass_free(&p);
        pass_free(&q);
        seam_trainer_destroy(trainer);
        seam_trainer_destroy(other);
        test_free(x);
        test_free(g);
    }
}

/* The first of two micro-batches, so that nothing is applied yet. */
SEAM_ON_GPU static void signal_check(fixture *f, bool exact) {
    static float x[VALUES], dx[VALUES], decoded[VALUES];
    float steps[CHANNELS];
    const seam_session_config config = prefix_config(f, 50, exact);
    float *rows = values_new("x", 0.5f), *g = values_new("g", 0.02f);
    seam_trainer *trainer = trainer_open(f, &config);
    pass p = pass_new();
    gates_spread(f, trainer);
    run(&p, f, trainer, &config, rows, g, 0, 2);
    const seam_gate_group *group = seam_prefix_quantizer_group(trainer->prefix);
    assert_int_equal(
        seam_prefix_quantizer_signal(trainer->prefix, f->engine.stream, 2 * f->labelled), SEAM_OK);
    assert_int_equal(seam_adapter_read(x, trainer->adapter, f->engine.stream, 0), SEAM_OK);
    assert_int_equal(seam_adapter_read_gradient(dx, trainer->adapter, f->engine.stream, 0),
                     SEAM_OK);
    round_trip(decoded, steps, x, group->widths);
    for (uint32_t c = 0; c < CHANNELS; c++) {
        double squares = 0, errors = 0;
        for (uint32_t at = c; at < VALUES; at += CHANNELS) {
            squares += (double)dx[at] * (double)dx[at];
            errors += (double)dx[at] * ((double)decoded[at] - (double)x[at]);
        }
        const double D = steps[c], n = 2.0 * f->labelled, k = kappa(group->widths[c]);
        const double expected =
            exact ? -log(2) * k * errors : -(log(2) / 12) * n * k * D * D * squares;
        assert_true(expected != 0 &&
                    fabs((double)group->db[c] - expected) <= 1e-5 * fabs(expected) + 1e-18);
    }
    pass_free(&p);
    seam_trainer_destroy(trainer);
    test_free(rows);
    test_free(g);
}

SEAM_ON_GPU static void test_signal__surrogate__formula(void **state) {
    signal_check(*state, false);
}

SEAM_ON_GPU static void test_signal__exact__formula(void **state) {
    signal_check(*state, true);
}

/* sum of g * y over the labelled rows, passes reading these values. */
SEAM_ON_GPU static double loss_at(const float *values, fixture *f, seam_trainer *trainer, pass *p,
                                  const seam_session_config *config, const float *x) {
    static float y[T * C];
    double loss = 0;
    const seam_ops *ops = trainer->ops;
    void *read = (void *)(uintptr_t)seam_prefix_quantizer_values(trainer->prefix);
    seam_test_check(ops->copy_in(f->engine.stream, read, values, VALUES * sizeof(float)), "copy",
                    NULL);
    run_forward(p, f, trainer, config, x, 0, 2);
    seam_test_check(ops->copy_out(f->engine.stream, y, trainer->x, sizeof y), "copy", NULL);
    seam_test_check(ops->stream_sync(f->engine.stream), "sync", NULL);
    for (uint32_t row = 0, next = 0; row < T; row++) {
        for (uint32_t c = 0; c < C && is_labelled(row); c++) {
            loss += (double)y[row * C + c] * (double)p->g[next * C + c];
        }
        next += is_labelled(row);
    }
    return loss;
}

/* A width that is a little larger moves x^ by -ln2 kappa e: SPEC 3.1.  All layers move together, as
 * the gate is theirs. */
SEAM_ON_GPU static void test_gradient__exact__finite_differences(void **state) {
    fixture *f = *state;
    static float x[VALUES], decoded[VALUES], shifted[VALUES];
    const seam_session_config config = prefix_config(f, 50, true);
    float *rows = values_new("x", 0.5f), *g = values_new("g", 0.02f);
    seam_trainer *trainer = trainer_open(f, &config);
    pass p = pass_new();
    double largest = 0, worst = 0;
    run(&p, f, trainer, &config, rows, g, 0, 2);
    const seam_gate_group *group = seam_prefix_quantizer_group(trainer->prefix);
    assert_int_equal(
        seam_prefix_quantizer_signal(trainer->prefix, f->engine.stream, 2 * f->labelled), SEAM_OK);
    assert_int_equal(seam_adapter_read(x, trainer->adapter, f->engine.stream, 0), SEAM_OK);
    device_read(decoded, f, trainer, seam_prefix_quantizer_values(trainer->prefix));
    for (uint32_t c = 0; c < CHANNELS; c++) {
        double difference = 0;
        for (int side = -1; side <= 1; side += 2) {
            memcpy(shifted, decoded, sizeof shifted);
            for (uint32_t at = c; at < VALUES; at += CHANNELS) {
                const double e = (double)decoded[at] - (double)x[at];
                shifted[at] += (float)(side * 4 * -log(2) * kappa(group->widths[c]) * e);
            }
            difference += side * loss_at(shifted, f, trainer, &p, &config, rows) / 8;
        }
        largest = fmax(largest, fabs((double)group->db[c]));
        worst = fmax(worst, fabs(difference - (double)group->db[c]));
    }
    /* f32 rounding of y against differences of 1e-3 of it. */
    assert_true(largest > 0 && worst <= 2e-2 * largest);
    pass_free(&p);
    seam_trainer_destroy(trainer);
    test_free(rows);
    test_free(g);
}

/* ---- steps ---- */

SEAM_ON_GPU static void test_steps__recompute_pipeline_checkpoint__same_bits(void **state) {
    fixture *f = *state;
    for (int exact = 0; exact < 2; exact++) {
        seam_session_config config = prefix_config(f, 6, exact == 1);
        const image expected = steps_image(f, &config, 8, false);
        same_image(steps_image(f, &config, 8, true), &expected);
        config.recompute = true;
        same_image(steps_image(f, &config, 8, false), &expected);
        if (exact == 0) {
            config.pipeline_depth = 2;
            same_image(steps_image(f, &config, 8, false), &expected);
        }
        test_free(expected.bytes);
    }
}

/* The same prefix by the host's codec and by the device's. */
SEAM_ON_GPU static void test_steps__codec_of_the_device__same_bits(void **state) {
    fixture *f = *state;
    const seam_device_codec *const own = seam_backend_ops(f->engine.backend)->codec;
    for (int exact = 0; exact < 2; exact++) {
        const seam_session_config config = prefix_config(f, 6, exact == 1);
        device_fake_put(f->engine.backend, NULL);
        const image host = steps_image(f, &config, 6, false);
        device_fake_put(f->engine.backend, own != NULL ? own : &device_fake);
        same_image(steps_image(f, &config, 6, false), &host);
        test_free(host.bytes);
    }
    device_fake_put(f->engine.backend, own);
}

/* Beside gates between the blocks: each has its own reports and state.  Of a fall of 0.1 bits a
 * step or more the mean swings by an eighth of a bit below the target before it settles. */
SEAM_ON_GPU static void test_steps__to_target__keys_and_values_reported(void **state) {
    enum { STEPS = 100 };
    fixture *f = *state;
    seam_session_config config = prefix_config(f, STEPS, false);
    config.all_layer_bits = 4;
    config.all_layer_steps = STEPS;
    assert_true(seam_gates_preset(&config.layer_gates, 4));
    seam_trainer *trainer = trainer_open(f, &config);
    double mean = 0;
    uint32_t gates[2] = {8 * FEATURES, 8 * FEATURES};
    uint32_t spread = 0;
    for (uint32_t i = 0; i < STEPS + 10; i++) {
        const seam_step_result result = step_run(f, trainer, &config, i);
        mean = 0;
        spread = 0;
        assert_int_equal(result.layer_count, LAYERS - 1);
        assert_int_equal(result.prefix_count, 2);
        for (uint32_t k = 0; k < 2; k++) {
            const seam_gate_report *report = &result.prefix[k];
            assert_int_equal(report->site, SEAM_SITE_PREFIX_KEYS + k);
            assert_int_equal(report->bits_total, gates[k]); /* what the gates said before */
            assert_true(report->bits_min >= 1 && report->bits_min <= report->bits_max);
            gates[k] = report->gate_bits_total;
            spread += report->bits_max - report->bits_min;
            mean += (double)report->bits_total / CHANNELS;
        }
    }
    assert_true(fabs(mean - 4) <= 0.1); /* SPEC 3.1: 4 +- 0.1 */
    assert_true(spread > 0);
    const image whole = image_of(f, trainer);
    seam_trainer *other = trainer_open(f, &config);
    seam_trainer_mark mark = {0};
    seam_error err = {0};
    seam_test_check(
        seam_trainer_state_load(other, &mark, whole.bytes, whole.count, f->engine.stream, &err),
        "load", &err);
    same_image(image_of(f, other), &whole);
    test_free(whole.bytes);
    seam_trainer_destroy(other);
    seam_trainer_destroy(trainer);
}

/* A gradient that is not finite: gates and pace stay with the prefix. */
SEAM_ON_GPU static void test_step__gradient_overflows__gates_stay(void **state) {
    fixture *f = *state;
    const seam_session_config config = prefix_config(f, 10, false);
    seam_trainer *trainer = trainer_open(f, &config);
    (void)step_run(f, trainer, &config, 0);
    (void)step_run(f, trainer, &config, 1);
    const image before = image_of(f, trainer);
    float *x = values_new("x", 0.5f), *g = values_new("g", 1.2e37f);
    pass p = pass_new();
    run(&p, f, trainer, &config, x, g, 0, 1);
    assert_true(p.result.skipped);
    assert_int_equal(p.result.prefix_count, 2);
    same_image(image_of(f, trainer), &before);
    test_free(before.bytes);
    pass_free(&p);
    seam_trainer_destroy(trainer);
    test_free(x);
    test_free(g);
}

SEAM_ON_GPU static void test_create__each_allocation_fails__error_and_no_leak(void **state) {
    fixture *f = *state;
    const seam_session_config config = prefix_config(f, 6, true);
    const seam_device_codec *const own = seam_backend_ops(f->engine.backend)->codec;
    check_create_fails(f, &config);
    device_fake_put(f->engine.backend, own != NULL ? own : &device_fake);
    check_create_fails(f, &config);
    device_fake_put(f->engine.backend, own);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, prefix_setup, teardown)

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        CASE(test_values__spread_widths__of_the_codec),
        CASE(test_pass__against_a_prefix_of_those_values__same_bits),
        CASE(test_signal__surrogate__formula),
        CASE(test_signal__exact__formula),
        CASE(test_gradient__exact__finite_differences),
        CASE(test_steps__recompute_pipeline_checkpoint__same_bits),
        CASE(test_steps__codec_of_the_device__same_bits),
        CASE(test_steps__to_target__keys_and_values_reported),
        CASE(test_step__gradient_overflows__gates_stay),
        CASE(test_create__each_allocation_fails__error_and_no_leak),
    };
    device_name = argc > 1 ? argv[1] : "cpu";
    if (!device_is_here(device_name)) {
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
