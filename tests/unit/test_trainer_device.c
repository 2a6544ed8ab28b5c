/* Goal: a trainer whose rows stay on the device sends the bytes, and reaches the adapter, gates and
 * widths, of one whose codec is the host's.
 * Method: the same micro-batches through both, for every codec that stays and for some that do not,
 * and with head and loss at the server; replies, state hash and reports must be equal to the bit.
 * The device is the first argument; "cpu" gets the table of device_fake.h.  A machine without the
 * device skips. */
#include <stdio.h>

#include "device_fake.h"
#include "trainer_fixture.h"

static const char *device_name = "cpu";

static int device_setup(void **state) {
    const int status = fixture_open(state, &model_config, device_name);
    fixture *f = *state;
    f->model.head = f->engine.head;
    return status;
}

/* What a step showed: its last replies, byte for byte, and its report. */
typedef struct shown {
    uint8_t *replies[2];
    size_t bytes[2];
    seam_step_result result;
    uint8_t widths[T];
} shown;

static void reply_keep(shown *s, int at, const seam_reply *reply) {
    s->bytes[at] = reply->used_bytes;
    s->replies[at] = test_malloc(reply->used_bytes + 1);
    memcpy(s->replies[at], reply->bytes, reply->used_bytes);
}

/* A micro-batch of VANILLA: rows of site 0 and labels in, gate signal or gradient and loss out. */
SEAM_ON_GPU static void one_pass_run(seam_step_result *ret, fixture *f, seam_trainer *trainer,
                                     const seam_session_config *config, const float *x,
                                     uint32_t micro) {
    seam_arena arena;
    seam_reply reply = client_reply(&arena);
    seam_error err = {0};
    uint32_t labels[T];
    float *decoded = test_calloc((size_t)T * C, sizeof *decoded);
    for (uint32_t i = 0; i < f->labelled; i++) {
        labels[i] = (7 * i + micro) % model_config.vocab_count;
    }
    seam_trainer_select(trainer, micro, 0);
    micro_set(f, trainer, 0, micro, 2);
    seam_trainer_micro(trainer)->layout.labels = labels;
    const seam_tensor_encode_args forward = {
        .header = {.phase = SEAM_PHASE_FORWARD, .rows = T, .micro = micro},
        .alloc = alloc_of(trainer, SEAM_SITE_FWD_IN, 0),
        .x = x};
    stage(decoded, &reply, trainer, config, &forward);
    seam_test_check(seam_trainer_pass(ret, trainer, f->engine.stream, &err), "pass", &err);
    test_free(decoded);
    seam_arena_deinit(&arena);
}

SEAM_ON_GPU static shown step_show(fixture *f, const seam_session_config *config) {
    float *x = values_new("x", 0.5f), *g = values_new("g", 1e-4f);
    seam_trainer *trainer = trainer_open(f, config);
    const seam_budget budget = {.bits_loss_active = true,
                                .beta = config->beta,
                                .bits_lr = config->bits_lr,
                                .bits_total = 5 * C + 3};
    seam_error err = {0};
    shown s = {0};
    assert_int_equal(seam_trainer_set_budget(trainer, &budget, 0, &err), SEAM_OK);
    pass p = pass_new();
    if (seam_session_config_is_one_pass(config)) {
        one_pass_run(&p.result, f, trainer, config, x, 0);
        reply_keep(&s, 0, seam_trainer_forward_reply(trainer, 0));
        one_pass_run(&p.result, f, trainer, config, g, 1);
        reply_keep(&s, 1, seam_trainer_forward_reply(trainer, 1));
        assert_true(s.bytes[0] > 0 && s.bytes[1] > 0);
    } else {
        run(&p, f, trainer, config, x, g, 0, 2);
        run(&p, f, trainer, config, g, x, 1, 2);
        reply_keep(&s, 0, seam_trainer_forward_reply(trainer, 0));
        reply_keep(&s, 1, seam_trainer_backward_reply(trainer, 0));
    }
    s.result = p.result;
    if (p.result.proposal != NULL) {
        memcpy(s.widths, p.result.proposal->widths, C);
    }
    s.result.proposal = NULL;
    s.result.compute_seconds = s.result.codec_seconds = 0;
    pass_free(&p);
    seam_trainer_destroy(trainer);
    test_free(x);
    test_free(g);
    return s;
}

/* The config with the codec of the host, and with that of the device. */
SEAM_ON_GPU static void both_check(fixture *f, const seam_session_config *config,
                                   const seam_device_codec *table) {
    device_fake_put(f->engine.backend, NULL);
    shown host = step_show(f, config);
    device_fake_put(f->engine.backend, table);
    shown device = step_show(f, config);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(device.bytes[i], host.bytes[i]);
        assert_memory_equal(device.replies[i], host.replies[i], host.bytes[i]);
        test_free(host.replies[i]);
        test_free(device.replies[i]);
    }
    assert_true(device.result.state_hash == host.result.state_hash);
    assert_true(device.result.grad_norm == host.result.grad_norm);
    assert_int_equal(device.result.gate_bits_total, host.result.gate_bits_total);
    assert_true(device.result.gate_pull == host.result.gate_pull);
    assert_true(device.result.cost_sum == host.result.cost_sum);
    assert_memory_equal(device.widths, host.widths, C);
}

/* The table under test, how often it has spread the rows of site 0, and how often gathered others.
 */
static seam_device_codec counted;
static seam_status (*rows_gather)(seam_stream *stream, float *ret, const seam_device_rows *rows);
static uint32_t spreads, gathers;

static seam_status rows_gather_counted(seam_stream *stream, float *ret,
                                       const seam_device_rows *rows) {
    spreads += ret == rows->x;
    gathers += ret != rows->x;
    return rows_gather(stream, ret, rows);
}

/* Rows 0..22 are their own, of the others every fifth is. */
static uint32_t sources_fill(uint32_t *ret_sources) {
    uint32_t distinct = 0;
    for (uint32_t row = 0; row < T; row++) {
        ret_sources[row] = row < 23 || row % 5 == 0 ? distinct++ : row * 7 % 23;
    }
    return distinct;
}

SEAM_ON_GPU static void codecs_check(void **state, bool labelled_rows_only, bool rans,
                                     bool sources) {
    static const struct {
        seam_codec_id in, out;
        bool exact, waterfill, token;
    } rows[] = {
        {SEAM_CODEC_F32, SEAM_CODEC_F32, false, false, false},
        {SEAM_CODEC_F32, SEAM_CODEC_F32, true, false, false},
        {SEAM_CODEC_BF16, SEAM_CODEC_BF16, false, false, false},
        {SEAM_CODEC_AFFINE, SEAM_CODEC_AFFINE, false, false, false},
        {SEAM_CODEC_AMAQ, SEAM_CODEC_AMAQ, false, false, false},
        {SEAM_CODEC_AMAQ, SEAM_CODEC_AMAQ, true, false, false},
        {SEAM_CODEC_AMAQ, SEAM_CODEC_AMAQ, false, true, false},
        {SEAM_CODEC_BF16, SEAM_CODEC_AMAQ, false, false, false},
        {SEAM_CODEC_GROUP, SEAM_CODEC_GROUP, false, false, false}, /* the host's */
        {SEAM_CODEC_BF16, SEAM_CODEC_CHANNEL, false, false, false},
        {SEAM_CODEC_AMAQ, SEAM_CODEC_AMAQ, false, false, true},
        {SEAM_CODEC_BF16, SEAM_CODEC_AMAQ, false, false, true},
    };
    fixture *f = *state;
    const seam_device_codec *const own = seam_backend_ops(f->engine.backend)->codec;
    uint32_t row_sources[T];
    counted = own != NULL ? *own : device_fake;
    rows_gather = counted.rows_gather;
    counted.rows_gather = rows_gather_counted;
    f->rows_in = sources_fill(row_sources);
    f->row_sources = sources ? row_sources : NULL;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (sources && rows[i].token) {
            continue; /* which knows no distinct rows */
        }
        spreads = 0;
        seam_session_config config = config_of(f, rows[i].out);
        config.labelled_rows_only = labelled_rows_only;
        config.codec.codec_in = rows[i].in;
        config.codec.gate_signal_exact = rows[i].exact;
        config.codec.entropy = rans ? SEAM_ENTROPY_RANS : SEAM_ENTROPY_NONE;
        if (rows[i].waterfill) {
            config.codec.allocator = SEAM_ALLOCATOR_WATERFILL;
        }
        if (rows[i].token) {
            config.codec.granularity = SEAM_GRANULARITY_TOKEN;
        }
        both_check(f, &config, &counted);
        /* Two micro-batches, where the device has the codec of site 0. */
        assert_int_equal(spreads, sources && seam_codec_has_device(rows[i].in) ? 2 : 0);
    }
    f->row_sources = NULL;
    device_fake_put(f->engine.backend, own);
}

SEAM_ON_GPU static void test_step__labelled_rows_travel__as_the_host(void **state) {
    codecs_check(state, true, false, false);
}

SEAM_ON_GPU static void test_step__all_rows_travel__as_the_host(void **state) {
    codecs_check(state, false, false, false);
}

SEAM_ON_GPU static void test_step__entropy_coded__as_the_host(void **state) {
    codecs_check(state, true, true, false);
}

SEAM_ON_GPU static void test_step__equal_rows_come_once__as_the_host(void **state) {
    codecs_check(state, true, false, true);
    codecs_check(state, false, true, true);
}

/* The labelled rows are gathered, and their gradient spread, on the device or on the host. */
SEAM_ON_GPU static void test_step__vanilla__as_the_host(void **state) {
    static const seam_codec_id codecs[] = {SEAM_CODEC_F32, SEAM_CODEC_BF16, SEAM_CODEC_AFFINE,
                                           SEAM_CODEC_AMAQ, SEAM_CODEC_GROUP /* the host's */};
    fixture *f = *state;
    const seam_device_codec *const own = seam_backend_ops(f->engine.backend)->codec;
    counted = own != NULL ? *own : device_fake;
    rows_gather = counted.rows_gather;
    counted.rows_gather = rows_gather_counted;
    for (size_t i = 0; i < sizeof codecs / sizeof codecs[0]; i++) {
        seam_session_config config = config_of(f, codecs[i]);
        config.codec.topology = SEAM_TOPOLOGY_VANILLA;
        config.limits.labels_needed = true;
        gathers = 0;
        both_check(f, &config, &counted);
        assert_int_equal(gathers, 2); /* one a micro-batch, and none by the host's branch */
    }
    device_fake_put(f->engine.backend, own);
}

SEAM_ON_GPU static void test_create__each_allocation_fails__error_and_no_leak(void **state) {
    fixture *f = *state;
    seam_session_config config = config_of(f, SEAM_CODEC_AMAQ);
    config.codec.gate_signal_exact = true;
    const seam_device_codec *const own = seam_backend_ops(f->engine.backend)->codec;
    device_fake_put(f->engine.backend, own != NULL ? own : &device_fake);
    check_create_fails(f, &config);
    device_fake_put(f->engine.backend, own);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_step__labelled_rows_travel__as_the_host, device_setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_step__all_rows_travel__as_the_host, device_setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_step__entropy_coded__as_the_host, device_setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_step__equal_rows_come_once__as_the_host, device_setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_step__vanilla__as_the_host, device_setup, teardown),
        cmocka_unit_test_setup_teardown(test_create__each_allocation_fails__error_and_no_leak,
                                        device_setup, teardown),
    };
    device_name = argc > 1 ? argv[1] : "cpu";
    const seam_backend_options options = {.device = device_name};
    seam_backend *backend = NULL;
    seam_error err = {0};
    const seam_status st = seam_backend_create(&backend, &options, &err);
    if (st != SEAM_OK) {
        (void)printf("%s: %s\n", st == SEAM_E_UNIMPLEMENTED ? "skipped" : "failed", err.text);
        return st == SEAM_E_UNIMPLEMENTED ? 77 : 1;
    }
    seam_backend_destroy(backend);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
