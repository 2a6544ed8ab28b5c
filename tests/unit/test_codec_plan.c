/* Goal: codec_plan.h accepts what this release does and refuses the rest by the field's name.
 * Method: one valid plan a codec, changed field by field. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "codec_plan.h"

static seam_codec_plan plan_of(seam_codec_id codec) {
    return (seam_codec_plan){.codec_in = codec,
                             .codec_out = codec,
                             .bits = 4,
                             .cache_bytes_max = 1,
                             .cache_format = SEAM_CACHE_FP16};
}

/* text: behind the prefix, which names the message. */
static void refused_by(const char *prefix, const seam_codec_plan *plan, seam_status expected,
                       const char *text) {
    seam_error err = {0};
    assert_int_equal(seam_codec_plan_check(plan, 96, &err), expected);
    assert_memory_equal(err.text, prefix, strlen(prefix));
    assert_memory_equal(err.text + strlen(prefix), text, strlen(text));
}

static void refused(const seam_codec_plan *plan, seam_status expected, const char *text) {
    refused_by("config.codec.", plan, expected, text);
}

static void test_plan_check__every_codec__ok_when_implemented(void **state) {
    (void)state;
    for (int id = 1; id < SEAM_CODEC_DICTIONARY; id++) { /* amaq_token is amaq's */
        const seam_codec_plan plan = plan_of((seam_codec_id)id);
        const bool there = seam_codec_is_implemented((seam_codec_id)id);
        if (there) {
            assert_int_equal(seam_codec_plan_check(&plan, 96, NULL), SEAM_OK);
        } else {
            refused(&plan, SEAM_E_UNIMPLEMENTED, "codec: ");
        }
    }
    seam_codec_plan plan = plan_of(SEAM_CODEC_AMAQ);
    plan.entropy = SEAM_ENTROPY_NONE;
    plan.allocator = SEAM_ALLOCATOR_GATES;
    plan.granularity = SEAM_GRANULARITY_FEATURE;
    plan.gate_signal_exact = true;
    assert_int_equal(seam_codec_plan_check(&plan, 96, NULL), SEAM_OK);
    plan.gate_signal_exact = false;
    plan.codec_in = SEAM_CODEC_F32;
    assert_int_equal(seam_codec_plan_check(&plan, 96, NULL), SEAM_OK);
    plan.codec_in = SEAM_CODEC_BF16;
    assert_int_equal(seam_codec_plan_check(&plan, 96, NULL), SEAM_OK);
}

static void test_plan_check__wrong_value__arg_names_the_field(void **state) {
    (void)state;
    const seam_codec_plan amaq = plan_of(SEAM_CODEC_AMAQ);
    seam_codec_plan plan = plan_of((seam_codec_id)0);
    refused(&plan, SEAM_E_ARG, "codec: 0");
    plan = plan_of((seam_codec_id)77);
    refused(&plan, SEAM_E_ARG, "codec: 77");
    plan = plan_of(SEAM_CODEC_DICTIONARY);
    refused(&plan, SEAM_E_ARG, "codec: dictionary");
    plan = amaq;
    plan.codec_in = SEAM_CODEC_AFFINE;
    refused(&plan, SEAM_E_ARG, "codec_fwd_in: affine");
    plan.codec_in = (seam_codec_id)77;
    refused(&plan, SEAM_E_ARG, "codec_fwd_in: no codec");
    plan.codec_in = SEAM_CODEC_BF16;
    plan.gate_signal_exact = true;
    refused(&plan, SEAM_E_ARG, "amaq.gate_signal: exact, but bf16");
    plan = amaq;
    plan.allocator = 3;
    refused(&plan, SEAM_E_ARG, "amaq.allocator: 3");
    plan = amaq;
    plan.granularity = 3;
    refused(&plan, SEAM_E_ARG, "amaq.granularity: 3");
    plan = amaq;
    plan.entropy = 3;
    refused(&plan, SEAM_E_ARG, "entropy: 3");
    static const seam_codec_id unplaned[] = {SEAM_CODEC_F32, SEAM_CODEC_BF16, SEAM_CODEC_AQSGD};
    for (size_t i = 0; i < sizeof unplaned / sizeof *unplaned; i++) {
        plan = plan_of(unplaned[i]);
        plan.entropy = SEAM_ENTROPY_RANS;
        refused(&plan, SEAM_E_ARG, "entropy: rans, but ");
    }
    for (int id = SEAM_CODEC_AFFINE; id <= SEAM_CODEC_AQSGD; id++) {
        plan = plan_of((seam_codec_id)id);
        plan.bits = 0;
        if (id != SEAM_CODEC_AMAQ) {
            refused(&plan, SEAM_E_ARG, "bits: 0");
            plan.bits = 17;
            refused(&plan, SEAM_E_ARG, "bits: 17");
        }
    }
    plan = plan_of(SEAM_CODEC_GROUP);
    plan.group = 7;
    refused(&plan, SEAM_E_ARG, "group: 7");
    plan = plan_of(SEAM_CODEC_AQSGD);
    plan.cache_format = 0;
    refused(&plan, SEAM_E_ARG, "aqsgd.cache_format: 0");
    plan.cache_format = SEAM_CACHE_QUANTIZED;
    refused(&plan, SEAM_E_ARG, "aqsgd.cache_bits: 0");
    plan = amaq;
    plan.codec_in = SEAM_CODEC_DICTIONARY;
    refused(&plan, SEAM_E_ARG, "dictionary_rows_max: 0");
    plan.dictionary_rows_max = (1u << 20) + 1;
    refused(&plan, SEAM_E_ARG, "dictionary_rows_max: 1048577");
    plan.dictionary_rows_max = 1;
    assert_int_equal(seam_codec_plan_check(&plan, 96, NULL), SEAM_OK);
    plan.send_input_gradient = true;
    refused(&plan, SEAM_E_ARG, "send_input_gradient: dictionary of fwd_in");
    plan.send_input_gradient = false;
    plan.front = true;
    refused(&plan, SEAM_E_ARG, "codec_fwd_in: dictionary, but behind front blocks");
}

/* Behind blocks no row is another's, and what is trained there needs its gradient. */
static void test_plan_front__trained_or_not__rows_and_gradient(void **state) {
    (void)state;
    seam_codec_plan plan = plan_of(SEAM_CODEC_AMAQ);
    assert_true(seam_codec_plan_takes_row_sources(&plan));
    plan.front = true;
    assert_int_equal(seam_codec_plan_check(&plan, 96, NULL), SEAM_OK);
    assert_false(seam_codec_plan_takes_row_sources(&plan));
    assert_false(seam_codec_plan_has_input_gradient(&plan));
    plan.front_trained = true;
    assert_true(seam_codec_plan_has_input_gradient(&plan));
    assert_true(seam_codec_plan_has_signal(&plan));
}

static void test_plan_answer__signal_and_switch__what_answers_a_backward_tensor(void **state) {
    (void)state;
    for (int i = 0; i < 8; i++) { /* gates at site 0, exact, the switch */
        const bool gates = (i & 1) != 0, exact = (i & 2) != 0, sent = (i & 4) != 0;
        seam_codec_plan plan = plan_of(SEAM_CODEC_AMAQ);
        plan.codec_in = gates ? SEAM_CODEC_AMAQ : SEAM_CODEC_BF16;
        plan.gate_signal_exact = exact;
        plan.send_input_gradient = sent;
        if (gates || !exact) { /* exact without gates is refused */
            assert_int_equal(seam_codec_plan_check(&plan, 96, NULL), SEAM_OK);
            assert_true(seam_codec_plan_has_input_gradient(&plan) == (exact || sent));
            assert_true(seam_codec_plan_has_signal(&plan) == (gates && !exact));
        }
    }
}

/* Bit planes at one of the two pairs of sites are enough. */
static void test_plan_check__rans__codecs_with_bit_planes(void **state) {
    (void)state;
    for (int id = SEAM_CODEC_AFFINE; id <= SEAM_CODEC_GROUP; id++) {
        seam_codec_plan plan = plan_of((seam_codec_id)id);
        assert_int_equal(seam_codec_plan_coding_max(&plan), 0);
        plan.entropy = SEAM_ENTROPY_NONE;
        assert_int_equal(seam_codec_plan_coding_max(&plan), 0);
        plan.entropy = SEAM_ENTROPY_RANS;
        assert_int_equal(seam_codec_plan_coding_max(&plan), 1);
        assert_int_equal(seam_codec_plan_check(&plan, 96, NULL), SEAM_OK);
        plan.codec_in = SEAM_CODEC_BF16;
        assert_int_equal(seam_codec_plan_check(&plan, 96, NULL), SEAM_OK);
    }
}

static void test_plan_check__granularity_token__gates_without_entropy_coder(void **state) {
    (void)state;
    seam_codec_plan plan = plan_of(SEAM_CODEC_AMAQ);
    assert_int_equal(seam_codec_plan_codec(&plan, true), SEAM_CODEC_AMAQ);
    assert_int_equal(seam_codec_plan_width_count(&plan, 96, 4096), 96);
    plan.granularity = SEAM_GRANULARITY_TOKEN;
    assert_int_equal(seam_codec_plan_check(&plan, 96, NULL), SEAM_OK);
    plan.gate_signal_exact = true;
    assert_int_equal(seam_codec_plan_check(&plan, 96, NULL), SEAM_OK);
    assert_int_equal(seam_codec_plan_codec(&plan, true), SEAM_CODEC_AMAQ_TOKEN);
    assert_int_equal(seam_codec_plan_codec(&plan, false), SEAM_CODEC_AMAQ_TOKEN);
    assert_int_equal(seam_codec_plan_width_count(&plan, 96, 4096), SEAM_POSITIONS_MAX);
    assert_int_equal(seam_codec_plan_width_count(&plan, 96, 300), 300);
    plan.allocator = SEAM_ALLOCATOR_WATERFILL;
    refused(&plan, SEAM_E_ARG, "amaq.allocator: waterfill, but granularity token");
    plan.allocator = SEAM_ALLOCATOR_GATES;
    plan.entropy = SEAM_ENTROPY_RANS;
    refused(&plan, SEAM_E_ARG, "entropy: rans, but ");
    plan.entropy = SEAM_ENTROPY_NONE;
    plan.gate_signal_exact = false;
    plan.codec_in = SEAM_CODEC_BF16;
    assert_int_equal(seam_codec_plan_check(&plan, 96, NULL), SEAM_OK);
    assert_int_equal(seam_codec_plan_codec(&plan, true), SEAM_CODEC_BF16);
    plan = plan_of(SEAM_CODEC_AFFINE); /* nothing of amaq is looked at */
    plan.granularity = SEAM_GRANULARITY_TOKEN;
    assert_int_equal(seam_codec_plan_codec(&plan, false), SEAM_CODEC_AFFINE);
    plan = plan_of(SEAM_CODEC_AMAQ_TOKEN);
    refused(&plan, SEAM_E_ARG, "codec: amaq_token is amaq with granularity token");
}

static void test_plan_check_depth__gradients_waited_for__one(void **state) {
    (void)state;
    seam_codec_plan plan = plan_of(SEAM_CODEC_AMAQ);
    seam_error err = {0};
    assert_int_equal(seam_codec_plan_check_depth(&plan, 8, NULL), SEAM_OK);
    plan.gate_signal_exact = true;
    assert_int_equal(seam_codec_plan_check_depth(&plan, 1, NULL), SEAM_OK);
    assert_int_equal(seam_codec_plan_check_depth(&plan, 2, &err), SEAM_E_ARG);
    assert_non_null(strstr(err.text, "config.limits.pipeline_depth: 2, but with"));
    plan = plan_of(SEAM_CODEC_BF16);
    plan.send_input_gradient = true;
    assert_int_equal(seam_codec_plan_check_depth(&plan, 2, NULL), SEAM_E_ARG);
}

static void test_plan_check__topologies__sites_and_codecs(void **state) {
    (void)state;
    seam_codec_plan plan = plan_of(SEAM_CODEC_AMAQ);
    assert_true(seam_codec_plan_has_in(&plan) && seam_codec_plan_has_out(&plan));
    plan.topology = SEAM_TOPOLOGY_VANILLA;
    assert_int_equal(seam_codec_plan_check(&plan, 96, NULL), SEAM_OK);
    assert_true(seam_codec_plan_is_one_pass(&plan) && seam_codec_plan_has_gates_in(&plan));
    assert_false(seam_codec_plan_has_out(&plan) || seam_codec_plan_has_gates_out(&plan));
    assert_true(seam_codec_plan_has_signal(&plan));
    plan.tail_layers = 2;
    refused_by("config.", &plan, SEAM_E_ARG, "tail_layers: 2, but with VANILLA");
    plan = plan_of(SEAM_CODEC_AFFINE);
    plan.tail_layers = 2;
    assert_int_equal(seam_codec_plan_check(&plan, 96, NULL), SEAM_OK);
    plan.topology = SEAM_TOPOLOGY_ADAPTER_EXCHANGE;
    refused_by("config.", &plan, SEAM_E_ARG, "tail_layers: with ADAPTER_EXCHANGE");
    plan.tail_layers = 0;
    plan.front = true;
    refused_by("config.", &plan, SEAM_E_ARG, "front_layers: with ADAPTER_EXCHANGE");
    plan.front = false;
    plan.all_layer_bits = 4;
    refused_by("config.", &plan, SEAM_E_UNIMPLEMENTED,
               "all_layer_bits: not with topology ADAPTER_EXCHANGE");
    plan.all_layer_bits = 0;
    plan.prefix_bits = 4;
    refused_by("config.", &plan, SEAM_E_UNIMPLEMENTED,
               "prefix_bits: not with topology ADAPTER_EXCHANGE");
    plan.topology = SEAM_TOPOLOGY_U_SHAPED;
    assert_int_equal(seam_codec_plan_check(&plan, 96, NULL), SEAM_OK);
    plan.prefix_bits = 0;
    plan.topology = SEAM_TOPOLOGY_ADAPTER_EXCHANGE;
    assert_int_equal(seam_codec_plan_check(&plan, 16, NULL), SEAM_OK);
    assert_int_equal(seam_codec_plan_module_codec(&plan, false), SEAM_CODEC_F32);
    assert_int_equal(seam_codec_plan_module_codec(&plan, true), SEAM_CODEC_AFFINE);
    assert_int_equal(seam_codec_plan_codec(&plan, true), SEAM_CODEC_BF16);
    assert_false(seam_codec_plan_has_in(&plan) || seam_codec_plan_takes_row_sources(&plan));
    plan.resend_parameters = true;
    assert_int_equal(seam_codec_plan_module_codec(&plan, false), SEAM_CODEC_AFFINE);
    plan.codec_in = SEAM_CODEC_BF16;
    refused(&plan, SEAM_E_ARG, "codec_fwd_in: ADAPTER_EXCHANGE");
    plan.codec_in = plan.codec_out;
    plan.send_input_gradient = true;
    refused(&plan, SEAM_E_ARG, "send_input_gradient: ADAPTER_EXCHANGE");
    plan = plan_of(SEAM_CODEC_AMAQ);
    plan.topology = SEAM_TOPOLOGY_ADAPTER_EXCHANGE;
    assert_int_equal(seam_codec_plan_check(&plan, 16, NULL), SEAM_OK);
    assert_true(seam_codec_plan_has_gates_modules(&plan));
    assert_false(seam_codec_plan_has_gates_in(&plan) || seam_codec_plan_has_signal(&plan));
    plan.gate_signal_exact = true;
    refused(&plan, SEAM_E_ARG, "amaq.gate_signal: exact, but without");
    plan.resend_parameters = true;
    assert_int_equal(seam_codec_plan_check(&plan, 16, NULL), SEAM_OK);
    assert_false(seam_codec_plan_has_input_gradient(&plan) || seam_codec_plan_is_exact_in(&plan));
    plan.granularity = SEAM_GRANULARITY_TOKEN;
    refused(&plan, SEAM_E_ARG, "codec: amaq goes by samples");
}

static void test_plan_check__own_gates__above_1_below_8(void **state) {
    (void)state;
    static const float bad[] = {1, 8, 9, -4, INFINITY, NAN};
    seam_codec_plan plan = plan_of(SEAM_CODEC_BF16);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        plan.all_layer_bits = bad[i];
        refused_by("config.", &plan, SEAM_E_ARG, "all_layer_bits: ");
        plan.all_layer_bits = 0;
        plan.prefix_bits = bad[i];
        refused_by("config.", &plan, SEAM_E_ARG, "prefix_bits: ");
        plan.prefix_bits = 0;
    }
    plan.all_layer_bits = 1.01f;
    plan.prefix_bits = 7.99f;
    assert_int_equal(seam_codec_plan_check(&plan, 96, NULL), SEAM_OK);
}

static void test_group__of_channels__divides_them(void **state) {
    (void)state;
    static const uint32_t rows[][3] = {
        {0, 4096, 128}, {0, 576, 96}, {0, 48, 48}, {0, 131, 1}, {0, 1, 1},
        {64, 576, 64},  {7, 48, 0},   {96, 48, 0}, {1, 131, 1}, {2048, 2048, 2048},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(seam_codec_group(rows[i][0], rows[i][1]), rows[i][2]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan_check__every_codec__ok_when_implemented),
        cmocka_unit_test(test_plan_check__wrong_value__arg_names_the_field),
        cmocka_unit_test(test_plan_answer__signal_and_switch__what_answers_a_backward_tensor),
        cmocka_unit_test(test_plan_check__rans__codecs_with_bit_planes),
        cmocka_unit_test(test_plan_check__granularity_token__gates_without_entropy_coder),
        cmocka_unit_test(test_plan_check_depth__gradients_waited_for__one),
        cmocka_unit_test(test_plan_check__topologies__sites_and_codecs),
        cmocka_unit_test(test_plan_check__own_gates__above_1_below_8),
        cmocka_unit_test(test_plan_front__trained_or_not__rows_and_gradient),
        cmocka_unit_test(test_group__of_channels__divides_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
