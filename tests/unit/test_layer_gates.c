/* Goal: in all-layer mode every boundary between two blocks carries what its codec would send, but
 * for the first row of each sequence, which stays as it is and out of ranges and gradients; the
 * gate gradients are the formulas' and the loss's own, the widths fall to the target, and bits do
 * not depend on recompute, on the pipeline, on a checkpoint between, or on whose codec it is.
 * Method: a tiny model of four blocks; the hook of the trainer is wrapped, so that the test sees
 * (and shifts) what passes each boundary; finite differences of a linear loss behind the last one.
 * The device is the first argument; "cpu" gets the table of device_fake.h.  A machine without the
 * device skips. */
#include "device_fake.h"
#include "steps_fixture.h"
#include "trainer_internal.h"
#include "try.h"

enum { LAYERS = 4, K = LAYERS - 1, VALUES = T * C };

static const char *device_name = "cpu";

static int layers_setup(void **state) {
    seam_model_config config = model_config;
    config.layers = LAYERS;
    return fixture_open(state, &config, device_name);
}

static seam_session_config layers_config(const fixture *f, float bits, uint32_t steps, bool exact) {
    seam_session_config config = config_of(f, SEAM_CODEC_F32);
    config.all_layer_bits = bits;
    config.all_layer_steps = steps;
    config.codec.gate_signal_exact = exact;
    assert_true(seam_gates_preset(&config.layer_gates, 4));
    return config;
}

/* ---- what passes the boundaries ---- */

typedef struct seen {
    seam_trainer *trainer;
    seam_layer_hook hook; /* the trainer's own */
    float x[K][VALUES], decoded[K][VALUES], dx[K][VALUES];
    uint32_t forwards, backwards;
    /* Finite differences: direction * amount is added behind the last boundary. */
    float amount;
    float direction[VALUES];
} seen;

static void rows_read(float *ret, const seam_trainer *t, seam_stream *stream, const void *rows) {
    seam_test_check(t->ops->copy_out(stream, ret, rows, VALUES * sizeof(float)), "copy", NULL);
    seam_test_check(t->ops->stream_sync(stream), "sync", NULL);
}

static seam_status seen_forward(void *context, uint32_t layer, seam_stream *stream, void *x) {
    seen *s = context;
    float shifted[VALUES];
    assert_int_equal(layer, s->forwards % K);
    s->forwards++;
    rows_read(s->x[layer], s->trainer, stream, x);
    SEAM_TRY(s->hook.forward(s->hook.context, layer, stream, x));
    rows_read(s->decoded[layer], s->trainer, stream, x);
    if (layer + 1 < K || s->amount == 0) {
        return SEAM_OK;
    }
    for (uint32_t i = 0; i < VALUES; i++) {
        shifted[i] = s->decoded[layer][i] + s->amount * s->direction[i];
    }
    return s->trainer->ops->copy_in(stream, x, shifted, sizeof shifted);
}

static seam_status seen_backward(void *context, uint32_t layer, seam_stream *stream,
                                 const void *dx) {
    seen *s = context;
    assert_int_equal(layer, K - 1 - s->backwards % K);
    s->backwards++;
    rows_read(s->dx[layer], s->trainer, stream, dx);
    return s->hook.backward(s->hook.context, layer, stream, dx);
}

static seen *seen_new(seam_trainer *trainer) {
    seen *s = test_calloc(1, sizeof *s);
    s->trainer = trainer;
    s->hook = trainer->layers.hook;
    trainer->layers.hook =
        (seam_layer_hook){.context = s, .forward = seen_forward, .backward = seen_backward};
    return s;
}

/* ---- forward and gradients ---- */

/* Is it the first of a sequence? */
static bool is_first(uint32_t row) {
    return row == 0 || row == sequence_rows[0] || row == sequence_rows[0] + sequence_rows[1];
}

/* x as its amaq tensor of `rows` rows would arrive, by the host's codec; ret_steps (C): D. */
static void round_trip(float *ret, float *ret_steps, const float *x, uint32_t rows,
                       const uint8_t *widths) {
    uint8_t ranges[4 + 4 * C], codes[VALUES * 2];
    seam_codec_args args = {.id = SEAM_CODEC_AMAQ, .channels = C, .widths = widths};
    const seam_rounding nearest = {.stochastic = false};
    void *scratch = NULL;
    assert_int_equal(posix_memalign(&scratch, 64, seam_codec_scratch_bytes(C)), 0);
    assert_int_equal(seam_codec_range_bytes(SEAM_CODEC_AMAQ, C), sizeof ranges);
    assert_int_equal(seam_codec_measure(ranges, SEAM_CODEC_AMAQ, x, rows, C, NULL), SEAM_OK);
    args.ranges = ranges;
    const size_t count = seam_codec_code_bytes(SEAM_CODEC_AMAQ, widths, rows, C);
    assert_true(count <= sizeof codes);
    assert_int_equal(seam_codec_encode(codes, NULL, &args, x, rows, &nearest, scratch), SEAM_OK);
    assert_int_equal(seam_codec_decode(ret, &args, codes, count, rows, scratch), SEAM_OK);
    assert_int_equal(seam_codec_steps(ret_steps, &args), SEAM_OK);
    free(scratch);
}

/* What x (T, C) is behind a boundary: ret; ret_steps (C): D. */
static void expected_rows(float *ret, float *ret_steps, const float *x, const uint8_t *widths) {
    float packed[VALUES];
    uint32_t count = 0, next = 0;
    for (uint32_t row = 0; row < T; row++) {
        if (!is_first(row)) {
            memcpy(packed + count++ * C, x + row * C, C * sizeof *x);
        }
    }
    round_trip(packed, ret_steps, packed, count, widths);
    for (uint32_t row = 0; row < T; row++) {
        memcpy(ret + row * C, is_first(row) ? x + row * C : packed + next++ * C, C * sizeof *x);
    }
    assert_int_equal(next, count);
    assert_true(count > 0 && count < T);
}

/* The first of two micro-batches, so that nothing is applied yet; widths of every size. */
SEAM_ON_GPU static void boundaries_check(fixture *f, bool exact) {
    const seam_session_config config = layers_config(f, 4, 50, exact);
    float *x = values_new("x", 0.5f), *g = values_new("g", 0.02f);
    float decoded[VALUES], steps[C];
    seam_trainer *trainer = trainer_open(f, &config);
    seen *s = seen_new(trainer);
    pass p = pass_new();
    assert_int_equal(trainer->layers.count, K);
    for (uint32_t i = 0; i < K * C; i++) {
        assert_int_equal(trainer->layers.group.widths[i], 8); /* the start, on which gates stand */
    }
    run(&p, f, trainer, &config, x, g, 0, 2);
    assert_int_equal(s->forwards, K);
    assert_int_equal(s->backwards, K);
    for (uint32_t l = 0; l < K; l++) {
        const float *db = trainer->layers.group.db + (size_t)l * C;
        expected_rows(decoded, steps, s->x[l], trainer->layers.group.widths + (size_t)l * C);
        assert_memory_equal(decoded, s->decoded[l], sizeof decoded);
        for (uint32_t c = 0; c < C; c++) {
            double squares = 0, errors = 0;
            for (uint32_t t = 0; t < T; t++) {
                const uint32_t at = t * C + c;
                const double dx = is_first(t) ? 0 : s->dx[l][at];
                squares += dx * dx;
                errors += dx * ((double)s->decoded[l][at] - (double)s->x[l][at]);
            }
            const double D = steps[c], n = 2.0 * f->labelled; /* N_lab of the step */
            const double expected = exact ? -log(2) * kappa(8) * errors
                                          : -(log(2) / 12) * n * kappa(8) * D * D * squares;
            assert_true(expected != 0 && fabs(db[c] - expected) <= 1e-5 * fabs(expected) + 1e-18);
        }
    }
    pass_free(&p);
    test_free(s);
    seam_trainer_destroy(trainer);
    test_free(x);
    test_free(g);
}

SEAM_ON_GPU static void test_boundary__surrogate__codec_and_formula(void **state) {
    boundaries_check(*state, false);
}

SEAM_ON_GPU static void test_boundary__exact__codec_and_formula(void **state) {
    boundaries_check(*state, true);
}

/* Nothing is left to quantize. */
SEAM_ON_GPU static void boundary_alone_check(fixture *f, bool exact) {
    const uint32_t ones[] = {1, 1, 1};
    const seam_session_config config = layers_config(f, 4, 50, exact);
    float *x = values_new("x", 0.5f), *g = values_new("g", 0.02f);
    float before[VALUES], after[VALUES], db[K * C];
    seam_trainer *trainer = trainer_open(f, &config);
    const seam_layer_hook *hook = &trainer->layers.hook;
    pass p = pass_new();
    run(&p, f, trainer, &config, x, g, 0, 2);
    memcpy(db, trainer->layers.group.db, sizeof db);
    seam_micro_layout *layout = &trainer->at->micro.layout;
    layout->rows = layout->sequence_count = 3;
    layout->sequence_rows = ones;
    rows_read(before, trainer, f->engine.stream, trainer->x);
    assert_int_equal(hook->forward(hook->context, 0, f->engine.stream, trainer->x), SEAM_OK);
    assert_int_equal(seam_layers_forward_end(trainer, f->engine.stream), SEAM_OK);
    assert_int_equal(hook->backward(hook->context, 0, f->engine.stream, trainer->x), SEAM_OK);
    assert_int_equal(seam_layers_backward_end(trainer, f->engine.stream), SEAM_OK);
    rows_read(after, trainer, f->engine.stream, trainer->x);
    assert_memory_equal(before, after, sizeof before);
    assert_memory_equal(db, trainer->layers.group.db, sizeof db);
    pass_free(&p);
    seam_trainer_destroy(trainer);
    test_free(x);
    test_free(g);
}

SEAM_ON_GPU static void test_boundary__sequences_of_one_row__stay(void **state) {
    boundary_alone_check(*state, false);
    boundary_alone_check(*state, true);
}

/* sum of g * y over the labelled rows, y the blocks' output with the last boundary shifted. */
SEAM_ON_GPU static double loss_at(float amount, fixture *f, seam_trainer *trainer, seen *s, pass *p,
                                  const seam_session_config *config, const float *x) {
    float y[VALUES];
    double loss = 0;
    s->amount = amount;
    run_forward(p, f, trainer, config, x, 0, 2);
    rows_read(y, trainer, f->engine.stream, trainer->x);
    for (uint32_t row = 0, next = 0; row < T; row++) {
        for (uint32_t c = 0; c < C && is_labelled(row); c++) {
            loss += (double)y[row * C + c] * (double)p->g[next * C + c];
        }
        next += is_labelled(row);
    }
    s->amount = 0;
    return loss;
}

/* A width that is a little larger moves x^ by -ln2 kappa e: SPEC 3.1.  Behind the last boundary
 * there is a block and no rounding, so that the loss has a derivative. */
SEAM_ON_GPU static void test_gradient__exact__finite_differences(void **state) {
    fixture *f = *state;
    const seam_session_config config = layers_config(f, 4, 50, true);
    float *x = values_new("x", 0.5f), *g = values_new("g", 0.02f);
    seam_trainer *trainer = trainer_open(f, &config);
    seen *s = seen_new(trainer);
    pass p = pass_new();
    double largest = 0, worst = 0;
    run(&p, f, trainer, &config, x, g, 0, 2);
    float db[C];
    memcpy(db, trainer->layers.group.db + (K - 1) * C, sizeof db);
    for (uint32_t c = 0; c < C; c++) {
        memset(s->direction, 0, sizeof s->direction);
        for (uint32_t at = c; at < VALUES; at += C) {
            s->direction[at] =
                (float)(-log(2) * kappa(8) * (double)(s->decoded[K - 1][at] - s->x[K - 1][at]));
        }
        const double up = loss_at(1, f, trainer, s, &p, &config, x);
        const double down = loss_at(-1, f, trainer, s, &p, &config, x);
        largest = fmax(largest, fabs(db[c]));
        worst = fmax(worst, fabs((up - down) / 2 - db[c]));
    }
    /* f32 rounding of y against differences of 1e-3 of it. */
    assert_true(largest > 0 && worst <= 2e-2 * largest);
    pass_free(&p);
    test_free(s);
    seam_trainer_destroy(trainer);
    test_free(x);
    test_free(g);
}

/* ---- steps ---- */

SEAM_ON_GPU static void test_steps__recompute_pipeline_checkpoint__same_bits(void **state) {
    fixture *f = *state;
    for (int exact = 0; exact < 2; exact++) {
        seam_session_config config = layers_config(f, 4, 6, exact == 1);
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

/* The same rows by the host's codec and by the device's. */
SEAM_ON_GPU static void test_steps__codec_of_the_device__same_bits(void **state) {
    fixture *f = *state;
    const seam_device_codec *const own = seam_backend_ops(f->engine.backend)->codec;
    for (int exact = 0; exact < 2; exact++) {
        const seam_session_config config = layers_config(f, 4, 6, exact == 1);
        device_fake_put(f->engine.backend, NULL);
        const image host = steps_image(f, &config, 6, false);
        device_fake_put(f->engine.backend, own != NULL ? own : &device_fake);
        same_image(steps_image(f, &config, 6, false), &host);
        test_free(host.bytes);
    }
    device_fake_put(f->engine.backend, own);
}

/* With a pipeline the second's forward comes before the first's backward. */
SEAM_ON_GPU static void
test_steps__micro_batches_of_other_sequences__each_by_its_own(void **state) {
    static const uint32_t odd_rows[] = {9, 60, 1};
    fixture *f = *state;
    const seam_device_codec *const own = seam_backend_ops(f->engine.backend)->codec;
    seam_session_config config = layers_config(f, 4, 6, false);
    f->odd_rows = odd_rows;
    device_fake_put(f->engine.backend, NULL);
    const image expected = steps_image(f, &config, 6, false);
    config.pipeline_depth = 2;
    same_image(steps_image(f, &config, 6, false), &expected);
    device_fake_put(f->engine.backend, own != NULL ? own : &device_fake);
    same_image(steps_image(f, &config, 6, false), &expected);
    device_fake_put(f->engine.backend, own);
    test_free(expected.bytes);
}

SEAM_ON_GPU static void test_steps__to_target__every_layer_reported(void **state) {
    enum { STEPS = 40 };
    fixture *f = *state;
    const seam_session_config config = layers_config(f, 4, STEPS, false);
    seam_trainer *trainer = trainer_open(f, &config);
    double mean = 0, before = 0;
    uint32_t gates[K] = {8 * C, 8 * C, 8 * C};
    uint32_t spread = 0;
    for (uint32_t i = 0; i < STEPS + 5; i++) {
        const seam_step_result result = step_run(f, trainer, &config, i);
        before = mean;
        mean = 0;
        spread = 0;
        assert_int_equal(result.layer_count, K);
        for (uint32_t l = 0; l < K; l++) {
            const seam_gate_report *report = &result.layers[l];
            assert_int_equal(report->site, SEAM_SITE_LAYER_FIRST + l);
            assert_int_equal(report->bits_total, gates[l]); /* what the gates said before */
            assert_true(report->bits_min >= 1 && report->bits_min <= report->bits_max);
            gates[l] = report->gate_bits_total;
            spread += report->bits_max - report->bits_min;
            mean += (double)report->bits_total / (K * C);
        }
    }
    assert_true(fabs(mean - 4) <= 0.1 && fabs(before - 4) <= 0.1); /* SPEC 3.1: 4 +- 0.1 */
    assert_true(spread > 0); /* channels of different ranges have different widths */
    seam_trainer_destroy(trainer);
}

/* A gradient that is not finite: gates and pace stay with the adapter. */
SEAM_ON_GPU static void test_step__gradient_overflows__gates_stay(void **state) {
    fixture *f = *state;
    const seam_session_config config = layers_config(f, 4, 10, false);
    seam_trainer *trainer = trainer_open(f, &config);
    (void)step_run(f, trainer, &config, 0);
    (void)step_run(f, trainer, &config, 1);
    const image before = image_of(f, trainer);
    float *x = values_new("x", 0.5f), *g = values_new("g", 1.2e37f);
    pass p = pass_new();
    run(&p, f, trainer, &config, x, g, 0, 1);
    assert_true(p.result.skipped);
    assert_int_equal(p.result.layer_count, K);
    same_image(image_of(f, trainer), &before);
    test_free(before.bytes);
    pass_free(&p);
    seam_trainer_destroy(trainer);
    test_free(x);
    test_free(g);
}

/* Half a step that is dropped leaves no gate gradient to the next one. */
SEAM_ON_GPU static void test_abort_step__half_a_step__leaves_nothing(void **state) {
    fixture *f = *state;
    const seam_session_config config = layers_config(f, 4, 6, false);
    const image expected = steps_image(f, &config, 3, false);
    seam_trainer *trainer = trainer_open(f, &config);
    float *x = values_new("x", 0.5f), *g = values_new("g", 0.02f);
    pass p = pass_new();
    for (uint32_t i = 0; i < 3; i++) {
        run(&p, f, trainer, &config, x, g, 0, 2);
        assert_int_equal(seam_trainer_abort_step(trainer, f->engine.stream), SEAM_OK);
        (void)step_run(f, trainer, &config, i);
    }
    same_image(image_of(f, trainer), &expected);
    test_free(expected.bytes);
    pass_free(&p);
    seam_trainer_destroy(trainer);
    test_free(x);
    test_free(g);
}

SEAM_ON_GPU static void test_create__each_allocation_fails__error_and_no_leak(void **state) {
    fixture *f = *state;
    const seam_session_config config = layers_config(f, 4, 6, true);
    const seam_device_codec *const own = seam_backend_ops(f->engine.backend)->codec;
    device_fake_put(f->engine.backend, own != NULL ? own : &device_fake);
    check_create_fails(f, &config);
    device_fake_put(f->engine.backend, own);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, layers_setup, teardown)

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        CASE(test_boundary__surrogate__codec_and_formula),
        CASE(test_boundary__exact__codec_and_formula),
        CASE(test_boundary__sequences_of_one_row__stay),
        CASE(test_gradient__exact__finite_differences),
        CASE(test_steps__recompute_pipeline_checkpoint__same_bits),
        CASE(test_steps__codec_of_the_device__same_bits),
        CASE(test_steps__micro_batches_of_other_sequences__each_by_its_own),
        CASE(test_steps__to_target__every_layer_reported),
        CASE(test_step__gradient_overflows__gates_stay),
        CASE(test_abort_step__half_a_step__leaves_nothing),
        CASE(test_create__each_allocation_fails__error_and_no_leak),
    };
    device_name = argc > 1 ? argv[1] : "cpu";
    if (!device_is_here(device_name)) {
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
