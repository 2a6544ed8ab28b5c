/* Goal: gates of transmitted modules: both signals are the derivative of the loss by a width, and
 * both ends of an exchange have the same widths at every step.
 * Method: finite differences over real-valued widths of a linear layer's loss, whose weights are
 * quantized as LoRA's A and B are, in pieces that end within modules; a run of steps of two links
 * whose frames and proposals go from the one to the other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "codec_fixture.h"
#include "module_signal.h"
#include "widths.h"

enum { RANK = 3, IN = 50000, OUT = 30000, ROWS = IN + OUT, LABELS = 64, STEPS = 12 };

static const seam_gates_config gates = {.bits_min = 1.0f,
                                        .bits_max = 16.0f,
                                        .bits_start = 8.0f,
                                        .alpha = 1.0f,
                                        .loss = SEAM_BITS_LOSS_L2,
                                        .beta1 = 0.9f,
                                        .beta2 = 0.999f,
                                        .eps = 1e-8f};
static const seam_module_pair pair = {.site = SEAM_SITE_LORA_A,
                                      .gradient_site = SEAM_SITE_LORA_A_GRADIENT,
                                      .rows = ROWS,
                                      .channels = RANK};

/* A module of columns and one of rows, as parameters and as gradients. */
typedef struct both {
    float *values[2];
    seam_module modules[2];
    seam_module_stack stack;
} both;

static void both_init(both *b) {
    static const uint32_t rows[2] = {IN, OUT};
    for (int i = 0; i < 2; i++) {
        b->values[i] = test_calloc((size_t)rows[i] * RANK, sizeof(float));
        b->modules[i] = (seam_module){
            "m", rows[i], RANK, i == 0 ? SEAM_MODULE_COLUMNS : SEAM_MODULE_ROWS, b->values[i]};
    }
    b->stack = (seam_module_stack){b->modules, 2, SEAM_ROWS_MAX};
}

static void both_deinit(both *b) {
    test_free(b->values[0]);
    test_free(b->values[1]);
}

static float *at(const both *b, uint32_t row, uint32_t c) {
    return row < IN ? &b->values[0][c * IN + row] : &b->values[1][(row - IN) * RANK + c];
}

/* Channel c has scale 2^(c + exponent). */
static void fill(both *b, uint64_t seed, int exponent) {
    for (uint32_t row = 0; row < ROWS; row++) {
        for (uint32_t c = 0; c < RANK; c++) {
            *at(b, row, c) = ldexpf(fixture_normal(&seed), (int)c + exponent);
        }
    }
}

/* ---- signals ---- */

/* 1/2 sum_i h_i e_i^2 of a channel whose rows are quantized at a real-valued width, by tensors:
 * the loss of a layer with inputs of second moment h, from its minimum on. */
static double loss_at(const both *parameters, uint32_t c, double bits, const float *h) {
    const uint32_t most = parameters->stack.tensor_rows_max;
    double loss = 0;
    for (uint32_t begin = 0; begin < ROWS; begin += most) {
        const uint32_t end = ROWS - begin < most ? ROWS : begin + most;
        double low = INFINITY, high = -INFINITY;
        for (uint32_t row = begin; row < end; row++) {
            low = fmin(low, (double)*at(parameters, row, c));
            high = fmax(high, (double)*at(parameters, row, c));
        }
        const double levels = exp2(bits) - 1.0, step = (high - low) / levels;
        for (uint32_t row = begin; row < end; row++) {
            const double x = (double)*at(parameters, row, c);
            const double error = low + fmin(rint((x - low) / step), levels) * step - x;
            loss += 0.5 * (double)h[row] * error * error;
        }
    }
    return loss;
}

static double difference(const both *parameters, uint32_t c, double bits, const float *h) {
    return (loss_at(parameters, c, bits + 0.2, h) - loss_at(parameters, c, bits - 0.2, h)) / 0.4;
}

static seam_status frame_drop(void *user, uint32_t tensor_idx, uint32_t tensor_rows,
                              const seam_coder_chunk *chunk, const uint8_t *payload) {
    (void)user, (void)tensor_idx, (void)tensor_rows, (void)chunk, (void)payload;
    return SEAM_OK;
}

static seam_codec_plan plan_of(bool resend, uint32_t allocator) {
    return (seam_codec_plan){.topology = SEAM_TOPOLOGY_ADAPTER_EXCHANGE,
                             .resend_parameters = resend,
                             .codec_in = SEAM_CODEC_AMAQ,
                             .codec_out = SEAM_CODEC_AMAQ,
                             .allocator = allocator};
}

static seam_module_link link_of(const seam_codec_plan *plan, bool server) {
    seam_module_link link;
    const seam_module_link_options options = {.pairs = &pair,
                                              .pair_count = 1,
                                              .plan = plan,
                                              .gates = &gates,
                                              .server = server,
                                              .seed = 5};
    assert_int_equal(seam_module_link_check(&options, NULL), SEAM_OK);
    assert_int_equal(seam_module_link_create(&link, &options, NULL), SEAM_OK);
    return link;
}

/* New widths, agreed and in force from `step` on. */
static void widths_agree(seam_module_link *link, const uint8_t *widths, uint64_t step) {
    const seam_alloc *alloc = NULL;
    bool proposed = false;
    assert_int_equal(seam_site_propose(&alloc, &proposed, link->sites[0], widths, step), SEAM_OK);
    assert_true(proposed);
    assert_int_equal(seam_site_acked(link->sites[0], alloc->version), SEAM_OK);
}

static void test_take__exact__near_differences_of_the_loss(void **state) {
    (void)state;
    static float h[ROWS];
    both parameters, gradients;
    uint64_t seed = 11;
    both_init(&parameters);
    both_init(&gradients);
    fill(&parameters, 3, 0);
    for (uint32_t row = 0; row < ROWS; row++) {
        h[row] = 0.5f + fabsf(fixture_normal(&seed));
    }
    const seam_codec_plan plan = plan_of(true, SEAM_ALLOCATOR_GATES);
    seam_module_link link = link_of(&plan, false);
    seam_module_signal signal;
    assert_int_equal(seam_module_signal_create(&signal, &pair, true), SEAM_OK);
    for (uint8_t width = 3; width <= 7; width++) {
        const uint8_t widths[RANK] = {width, (uint8_t)(width + 1), width};
        widths_agree(&link, widths, width);
        seam_module_bytes bytes = {0};
        const seam_module_link_args args = {
            .step = width, .ret_decoded = &signal.as_sent, .take = frame_drop};
        assert_int_equal(seam_module_link_encode(&bytes, &link, &parameters.stack, &args), SEAM_OK);
        for (uint32_t row = 0; row < ROWS; row++) {
            for (uint32_t c = 0; c < RANK; c++) {
                *at(&gradients, row, c) =
                    h[row] * (signal.decoded[row * RANK + c] - *at(&parameters, row, c));
            }
        }
        const seam_module_signal_args take = {&parameters.stack, &gradients.stack, widths, LABELS};
        seam_module_signal_take(&signal, &take);
        /* A difference over +-0.2 bit of what falls as 4^-b is 1.3 % too large; the rest is noise
         * of the rows, which the channels' mean has less of. */
        double ratios = 0;
        for (uint32_t c = 0; c < RANK; c++) {
            const double ratio = (double)signal.db[c] / difference(&parameters, c, widths[c], h);
            assert_true(fabs(ratio - 1.0) < 0.05);
            ratios += ratio / RANK;
        }
        assert_true(fabs(ratios - 1.0) < 0.03);
    }
    seam_module_signal_destroy(&signal);
    seam_module_link_destroy(&link);
    both_deinit(&gradients);
    both_deinit(&parameters);
}

/* y = w x + noise of variance 1, labels drawn from the model: a parameter's gradient of the mean
 * loss is the mean of x * noise over the labels, and the loss' curvature the mean of x^2. */
static void test_take__surrogate__near_differences_of_the_expected_loss(void **state) {
    (void)state;
    static float h[ROWS];
    both parameters, gradients;
    uint64_t seed = 21;
    both_init(&parameters);
    both_init(&gradients);
    fill(&parameters, 4, 0);
    parameters.stack.tensor_rows_max = gradients.stack.tensor_rows_max = 30000; /* ranges of each */
    for (uint32_t row = 0; row < ROWS; row++) {
        const double scale = 0.5 + (double)(row % 4);
        h[row] = (float)(scale * scale);
        for (uint32_t c = 0; c < RANK; c++) {
            double sum = 0;
            for (uint32_t n = 0; n < LABELS; n++) {
                const double x = scale * (double)fixture_normal(&seed);
                sum += x * (double)fixture_normal(&seed);
            }
            *at(&gradients, row, c) = (float)(sum / LABELS);
        }
    }
    const uint8_t widths[RANK] = {3, 4, 6};
    const seam_module_signal_args take = {&parameters.stack, &gradients.stack, widths, LABELS};
    seam_module_signal signal;
    assert_int_equal(seam_module_signal_create(&signal, &pair, false), SEAM_OK);
    for (int again = 0; again < 2; again++) { /* it is of this step alone */
        seam_module_signal_take(&signal, &take);
        for (uint32_t c = 0; c < RANK; c++) {
            const double expected = difference(&parameters, c, widths[c], h);
            assert_true(fabs((double)signal.db[c] / expected - 1.0) < 0.10);
        }
    }
    seam_module_signal_destroy(&signal);
    both_deinit(&gradients);
    both_deinit(&parameters);
}

static void test_create__each_allocation_fails__memory(void **state) {
    (void)state;
    seam_module_signal signal;
    int64_t count = 0;
    seam_status st = SEAM_E_MEMORY;
    for (; st != SEAM_OK; count++) {
        seam_mem_fail_after(count);
        st = seam_module_signal_create(&signal, &pair, true);
        assert_true(st == SEAM_OK || st == SEAM_E_MEMORY);
    }
    seam_mem_fail_after(-1);
    assert_int_equal(count, 4); /* sums, rows, decoded; then none fails */
    seam_module_signal_destroy(&signal);
}

/* ---- both ends ---- */

typedef struct receiver {
    seam_module_link *link;
    const seam_module_stack *stack;
    bool gradient;
    uint64_t step;
} receiver;

static seam_status frame_take(void *user, uint32_t tensor_idx, uint32_t tensor_rows,
                              const seam_coder_chunk *chunk, const uint8_t *payload) {
    const receiver *to = user;
    const seam_module_tensor tensor =
        seam_module_link_tensor(to->link, to->gradient, tensor_idx, to->step);
    bool complete = false;
    assert_int_equal(tensor.rows, tensor_rows);
    return seam_module_link_decode(&complete, to->link, to->stack, &tensor, to->gradient, chunk,
                                   payload, NULL);
}

/* From one end to the other; what the sender goes by is what the receiver has. */
static void send(seam_module_link *from, seam_module_link *link, const both *x, const both *to,
                 bool gradient, uint64_t step) {
    receiver user = {link, &to->stack, gradient, step};
    both decoded;
    both_init(&decoded);
    seam_module_bytes bytes = {0};
    const seam_module_link_args args = {.gradient = gradient,
                                        .step = step,
                                        .ret_decoded = &decoded.stack,
                                        .take = frame_take,
                                        .user = &user};
    const seam_alloc *const mine = seam_module_link_alloc(from, 0, gradient, step);
    const seam_alloc *const theirs = seam_module_link_alloc(link, 0, gradient, step);
    assert_true(mine->version == theirs->version && mine->hash == theirs->hash);
    assert_int_equal(seam_module_link_encode(&bytes, from, &x->stack, &args), SEAM_OK);
    assert_memory_equal(decoded.values[0], to->values[0], IN * RANK * sizeof(float));
    assert_memory_equal(decoded.values[1], to->values[1], OUT * RANK * sizeof(float));
    both_deinit(&decoded);
}

/* The owner's step; the peer judges what it proposes. */
static void widths_step(seam_module_link *client, seam_module_link *server,
                        const seam_module_signal *signal, uint64_t step) {
    const seam_gates_step_args args = {
        .db = signal->db, .lr = 0.5f, .beta = 1e4f, .bits_loss_active = true};
    uint8_t widths[RANK];
    const seam_alloc *alloc = NULL;
    bool proposed = false;
    seam_gates_step(seam_site_gates(client->sites[0]), &args);
    seam_gates_widths(widths, seam_site_gates(client->sites[0]), 0.0f);
    assert_int_equal(seam_site_propose(&alloc, &proposed, client->sites[0], widths, step + 2),
                     SEAM_OK);
    if (proposed) {
        assert_int_equal(seam_site_judge(server->sites[0], alloc->version, alloc->effective_step,
                                         alloc->widths, RANK, alloc->hash, step + 1, NULL),
                         SEAM_OK);
        if (step % 2 == 0) { /* without an answer there is nothing to encode with */
            assert_null(seam_module_link_alloc(client, 0, true, step + 2));
            assert_non_null(seam_module_link_alloc(client, 0, true, step + 1));
        }
        assert_int_equal(seam_site_acked(client->sites[0], alloc->version), SEAM_OK);
    }
}

static void test_exchange__steps_of_gates__both_ends_have_the_same_widths(void **state) {
    (void)state;
    both parameters, gradients, at_server, at_client;
    both_init(&parameters);
    both_init(&gradients);
    both_init(&at_server);
    both_init(&at_client);
    for (int resend = 0; resend < 2; resend++) {
        const seam_codec_plan plan = plan_of(resend == 1, SEAM_ALLOCATOR_GATES);
        seam_module_link client = link_of(&plan, false), server = link_of(&plan, true);
        seam_module_signal signal;
        assert_int_equal(seam_module_signal_create(&signal, &pair, false), SEAM_OK);
        fill(&parameters, 8, 0);
        for (uint64_t step = 0; step < STEPS; step++) {
            fill(&gradients, 100 + step, -12);
            send(&client, &server, &parameters, &at_server, false, step);
            send(&server, &client, &gradients, &at_client, true, step);
            const seam_alloc *const alloc = seam_module_link_alloc(&client, 0, true, step);
            const seam_module_signal_args args = {&parameters.stack, &at_client.stack,
                                                  alloc->widths, LABELS};
            seam_module_signal_take(&signal, &args);
            widths_step(&client, &server, &signal, step);
        }
        const seam_alloc *const last = seam_module_link_alloc(&server, 0, true, STEPS + 1);
        assert_true(last->version > 3 && last->bits_total < 8 * RANK);
        seam_module_signal_destroy(&signal);
        seam_module_link_destroy(&server);
        seam_module_link_destroy(&client);
    }
    both_deinit(&at_client);
    both_deinit(&at_server);
    both_deinit(&gradients);
    both_deinit(&parameters);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take__exact__near_differences_of_the_loss),
        cmocka_unit_test(test_take__surrogate__near_differences_of_the_expected_loss),
        cmocka_unit_test(test_create__each_allocation_fails__memory),
        cmocka_unit_test(test_exchange__steps_of_gates__both_ends_have_the_same_widths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
