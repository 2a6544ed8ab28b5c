/* Goal: what families add to a config is read, and what would change the math is refused by name;
 * LongRoPE's two sets; which LoRA targets a model has, how much text a prefix leaves.
 * Method: config.json texts by a table, each a good file with fields put over its own; blocks by
 * formula on the reference.  That the math is right: tests/golden/test_model_golden.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "config_json.h"
#include "rope_table.h"
#include "synthetic_model.h"

#define LLAMA                                                                                      \
    "{'architectures': ['LlamaForCausalLM'], 'model_type': 'llama', 'vocab_size': 31, "            \
    "'hidden_size': 24, 'intermediate_size': 36, 'num_hidden_layers': 3, "                         \
    "'num_attention_heads': 3, 'num_key_value_heads': 1, 'max_position_embeddings': 64, "          \
    "'rope_theta': 10000.0}"
#define QWEN2                                                                                      \
    "{'architectures': ['Qwen2ForCausalLM'], 'model_type': 'qwen2', 'vocab_size': 31, "            \
    "'hidden_size': 24, 'intermediate_size': 36, 'num_hidden_layers': 3, "                         \
    "'num_attention_heads': 3, 'num_key_value_heads': 1, 'max_position_embeddings': 64}"
#define PHI3                                                                                       \
    "{'architectures': ['Phi3ForCausalLM'], 'model_type': 'phi3', 'vocab_size': 31, "              \
    "'hidden_size': 24, 'intermediate_size': 36, 'num_hidden_layers': 3, "                         \
    "'num_attention_heads': 3, 'max_position_embeddings': 64}"
#define LLAMA3_ROPE                                                                                \
    "'rope_type': 'llama3', 'factor': 8, 'low_freq_factor': 1, 'high_freq_factor': 4, "            \
    "'original_max_position_embeddings': 16"
#define LISTS "'short_factor': [1, 1, 1, 2], 'long_factor': [1.5, 2, 3, 4]"
#define LONGROPE                                                                                   \
    "'original_max_position_embeddings': 16, 'rope_scaling': {'type': 'longrope', " LISTS "}"

/* `base` with the fields of `more` put over its own. */
static seam_status parse(seam_model_config *ret_config, const char *base, const char *more,
                         seam_error *err) {
    char text[1024];
    json_error_t why;
    (void)snprintf(text, sizeof text, "{%s}", more);
    for (char *at = text; *at != '\0'; at++) {
        *at = *at == '\'' ? '"' : *at;
    }
    char *good = strdup(base);
    assert_non_null(good);
    for (char *at = good; *at != '\0'; at++) {
        *at = *at == '\'' ? '"' : *at;
    }
    json_t *root = json_loads(good, 0, &why);
    json_t *fields = json_loads(text, 0, &why);
    assert_non_null(root);
    assert_non_null(fields);
    assert_int_equal(json_object_update(root, fields), 0);
    char *file = json_dumps(root, 0);
    assert_non_null(file);
    const seam_status st = seam_config_json_parse(ret_config, file, strlen(file), "c.json", err);
    free(file);
    json_decref(fields);
    json_decref(root);
    free(good);
    return st;
}

static const struct field_case {
    const char *base, *more;
    seam_status status;
    const char *word;
} FIELD_CASES[] = {
    {LLAMA, "", SEAM_OK, NULL},
    {LLAMA, "'rope_scaling': {" LLAMA3_ROPE "}", SEAM_OK, NULL},
    {LLAMA, "'rope_parameters': {'rope_theta': 10000.0, " LLAMA3_ROPE "}", SEAM_OK, NULL},
    {LLAMA, "'rope_parameters': {'rope_theta': 20000.0, " LLAMA3_ROPE "}", SEAM_E_FORMAT,
     "rope_parameters.rope_theta"},
    {LLAMA, "'rope_scaling': {" LLAMA3_ROPE ", 'mscale': 2}", SEAM_E_UNIMPLEMENTED,
     "rope_scaling.mscale"},
    {LLAMA, "'rope_scaling': {" LLAMA3_ROPE ", 'partial_rotary_factor': 0.5}", SEAM_E_UNIMPLEMENTED,
     "rope_scaling.partial_rotary_factor"},
    {LLAMA, "'original_max_position_embeddings': 32, 'rope_scaling': {" LLAMA3_ROPE "}",
     SEAM_E_FORMAT, "rope_scaling.original_max_position_embeddings"},
    {LLAMA,
     "'rope_scaling': {'rope_type': 'llama3', 'factor': 8, 'low_freq_factor': 4, "
     "'high_freq_factor': 4}",
     SEAM_E_FORMAT, "rope_scaling.high_freq_factor"},
    {LLAMA, "'rope_scaling': {'rope_type': 'linear', 'factor': 2}, 'rope_parameters': {}",
     SEAM_E_FORMAT, "rope_parameters"},
    {LLAMA, "'rope_scaling': {'rope_type': 'dynamic', 'factor': 2}", SEAM_E_UNIMPLEMENTED,
     "dynamic"},
    {LLAMA, "'rope_scaling': {'rope_type': 'yarn', 'factor': 2}", SEAM_E_UNIMPLEMENTED, "yarn"},
    {LLAMA, LONGROPE, SEAM_E_UNIMPLEMENTED, "longrope is not supported in llama"},
    {LLAMA, "'rope_scaling': {'rope_type': 7}", SEAM_E_UNIMPLEMENTED, "rope_type"},
    {LLAMA, "'rope_scaling': 'linear'", SEAM_E_FORMAT, "rope_scaling"},
    {LLAMA, "'qkv_bias': true", SEAM_E_UNIMPLEMENTED, "qkv_bias"},
    {LLAMA, "'head_dim': 514", SEAM_E_ARG, "head_dim"},
    {LLAMA, "'architectures': ['Qwen2ForCausalLM']", SEAM_E_UNIMPLEMENTED, "model_type"},
    {LLAMA, "'architectures': null, 'model_type': null", SEAM_E_FORMAT, "model_type"},
    {QWEN2, "'sliding_window': 8, 'max_window_layers': 1", SEAM_OK, NULL},
    {QWEN2, "'use_sliding_window': 1", SEAM_E_FORMAT, "use_sliding_window"},
    {QWEN2, "'use_sliding_window': true, 'sliding_window': 0", SEAM_E_FORMAT, "sliding_window"},
    {QWEN2, "'use_sliding_window': true, 'max_window_layers': -1", SEAM_E_FORMAT,
     "max_window_layers"},
    {QWEN2,
     "'use_sliding_window': true, 'sliding_window': 5, 'max_window_layers': 1, 'layer_types': "
     "['sliding_attention', 'full_attention', 'full_attention']",
     SEAM_E_UNIMPLEMENTED, "layer_types"},
    {QWEN2, "'layer_types': ['full_attention']", SEAM_E_FORMAT, "layer_types"},
    {QWEN2, "'layer_types': ['full_attention', 'full_attention', 'sliding_attention']",
     SEAM_E_UNIMPLEMENTED, "layer_types"},
    {QWEN2, "'use_mrope': true", SEAM_E_UNIMPLEMENTED, "use_mrope"},
    {QWEN2, "'dual_chunk_attention_config': {}", SEAM_E_UNIMPLEMENTED,
     "dual_chunk_attention_config"},
    {QWEN2, "'rope_scaling': {'type': 'yarn', 'factor': 4}", SEAM_E_UNIMPLEMENTED, "yarn"},
    {PHI3, "'sliding_window': 9", SEAM_OK, NULL},
    {PHI3, "'sliding_window': -9", SEAM_E_FORMAT, "sliding_window"},
    {PHI3, LONGROPE, SEAM_OK, NULL},
    {PHI3, "'rope_scaling': {'type': 'su', " LISTS "}", SEAM_OK, NULL},
    {PHI3, "'rope_scaling': {'type': 'su', 'original_max_position_embeddings': 16, " LISTS "}",
     SEAM_E_FORMAT, "rope_scaling.original_max_position_embeddings"},
    {PHI3, "'rope_scaling': {'type': 'longrope', 'short_factor': [1, 1, 1, 2]}", SEAM_E_FORMAT,
     "rope_scaling.long_factor"},
    {PHI3, "'rope_scaling': {'type': 'longrope', 'short_factor': [1, 1, 1]}", SEAM_E_FORMAT,
     "rope_scaling.short_factor"},
    {PHI3, "'rope_scaling': {'type': 'su', 'short_factor': [1, 1, -1, 2]}", SEAM_E_FORMAT,
     "rope_scaling.short_factor"},
    {PHI3, "'rope_scaling': {'type': 'su', 'attention_factor': 0, " LISTS "}", SEAM_E_FORMAT,
     "rope_scaling.attention_factor"},
    {PHI3, "'rope_scaling': {'type': 'linear', 'factor': 2}", SEAM_E_UNIMPLEMENTED, "linear"},
    {PHI3, "'partial_rotary_factor': 0.75", SEAM_E_UNIMPLEMENTED, "partial_rotary_factor"},
    {PHI3, "'resid_pdrop': 0.1", SEAM_E_UNIMPLEMENTED, "resid_pdrop"},
    {PHI3, "'attention_bias': true", SEAM_E_UNIMPLEMENTED, "attention_bias"},
    {PHI3, "'architectures': ['Phi3SmallForCausalLM']", SEAM_E_UNIMPLEMENTED, "Phi3Small"},
};

static void test_config__fields_of_families__read_or_named(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof FIELD_CASES / sizeof FIELD_CASES[0]; i++) {
        seam_model_config config;
        seam_error err = {0};
        const seam_status st = parse(&config, FIELD_CASES[i].base, FIELD_CASES[i].more, &err);
        if (st != FIELD_CASES[i].status ||
            (st != SEAM_OK && (strstr(err.text, FIELD_CASES[i].word) == NULL ||
                               strstr(err.text, "c.json") == NULL))) {
            fail_msg("%s: %s: %s", FIELD_CASES[i].more, seam_status_name(st), err.text);
        }
    }
}

static void test_config__window__of_the_layers_that_have_it(void **state) {
    (void)state;
    seam_model_config c;
    assert_int_equal(parse(&c, QWEN2,
                           "'use_sliding_window': true, 'sliding_window': 5, "
                           "'max_window_layers': 2",
                           NULL),
                     SEAM_OK);
    assert_int_equal(seam_model_config_window(&c, 1), 0);
    assert_int_equal(seam_model_config_window(&c, 2), 5);
    assert_int_equal(parse(&c, QWEN2, "'use_sliding_window': false, 'sliding_window': 5", NULL),
                     SEAM_OK);
    assert_int_equal(seam_model_config_window(&c, 2), 0);
    assert_int_equal(parse(&c, PHI3, "'sliding_window': 5", NULL), SEAM_OK);
    assert_int_equal(seam_model_config_window(&c, 0), 5);
    assert_int_equal(parse(&c, PHI3, "'sliding_window': 64", NULL), SEAM_OK);
    assert_int_equal(seam_model_config_window(&c, 0), 0); /* no position can reach it */
}

static void test_config_identity__knows_the_family(void **state) {
    (void)state;
    static const struct {
        const char *base, *more;
    } CASES[] = {{LLAMA, ""},
                 {LLAMA, "'rope_scaling': {" LLAMA3_ROPE "}"},
                 {LLAMA, "'rope_scaling': {'type': 'linear', 'factor': 2}"},
                 {LLAMA, "'rope_scaling': {'type': 'linear', 'factor': 4}"},
                 {QWEN2, ""},
                 {QWEN2, "'use_sliding_window': true, 'sliding_window': 5, 'max_window_layers': 1"},
                 {QWEN2, "'use_sliding_window': true, 'sliding_window': 5, 'max_window_layers': 2"},
                 {PHI3, "'num_key_value_heads': 1, 'rms_norm_eps': 1e-6"},
                 {PHI3, "'num_key_value_heads': 1, 'rms_norm_eps': 1e-6, 'sliding_window': 5"},
                 {PHI3, "'num_key_value_heads': 1, 'rms_norm_eps': 1e-6, " LONGROPE}};
    uint64_t seen[sizeof CASES / sizeof CASES[0]];
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        seam_model_config c;
        assert_int_equal(parse(&c, CASES[i].base, CASES[i].more, NULL), SEAM_OK);
        seen[i] = seam_model_config_identity(&c);
        for (size_t j = 0; j < i; j++) {
            assert_true(seen[i] != seen[j]);
        }
    }
}

static void test_rope_table__longrope__two_sets(void **state) {
    (void)state;
    seam_model_config c;
    float table[(16 + 64) * 8];
    assert_int_equal(parse(&c, PHI3, LONGROPE, NULL), SEAM_OK);
    assert_int_equal(c.rope.long_from, 16);
    assert_true(fabs(c.rope.attention_factor - sqrt(1.0 + log(4.0) / log(16.0))) < 1e-12);
    assert_int_equal(seam_rope_table_rows(&c), 16 + 64);
    seam_rope_table_fill(table, &c);
    for (uint32_t is_long = 0; is_long < 2; is_long++) {
        const uint32_t position = is_long ? 63 : 15;
        const float *row = table + (size_t)seam_rope_table_row(&c, position, is_long != 0) * 8;
        for (uint32_t i = 0; i < 4; i++) {
            const double factor = is_long ? c.rope.long_factor[i] : c.rope.factor[i];
            const double angle = position * pow(10000.0, -2.0 * i / 8) / factor;
            assert_true(fabs((double)row[i] - c.rope.attention_factor * cos(angle)) < 1e-6);
            assert_true(fabs((double)row[4 + i] - c.rope.attention_factor * sin(angle)) < 1e-6);
        }
    }
}

typedef struct fixture {
    seam_backend *backend;
    seam_blocks *blocks;
    seam_stream *stream;
    float *x; /* device; f64 */
} fixture;

static void fixture_open(fixture *f, const seam_model_config *config) {
    const seam_backend_options options = {.device = "ref", .act = SEAM_F64};
    const seam_tensor_source source = seam_synthetic_source(config);
    seam_error err = {0};
    void *x = NULL;
    seam_test_check(seam_backend_create(&f->backend, &options, &err), "backend", &err);
    seam_test_check(
        seam_blocks_create_from(&f->blocks, f->backend, &source, 0, config->layers, &err), "blocks",
        &err);
    const seam_ops *ops = seam_backend_ops(f->backend);
    seam_test_check(ops->stream_create(&f->stream, f->backend), "stream", NULL);
    seam_test_check(ops->mem_alloc(&x, f->backend, (size_t)64 * config->hidden * sizeof(double)),
                    "rows", NULL);
    f->x = x;
}

static void fixture_close(fixture *f) {
    const seam_ops *ops = seam_backend_ops(f->backend);
    ops->mem_free(f->backend, f->x);
    ops->stream_destroy(f->stream);
    seam_blocks_destroy(f->blocks);
    seam_backend_destroy(f->backend);
}

static seam_status rows_run(const fixture *f, seam_kv_cache *cache, uint32_t slot, uint32_t first,
                            uint32_t end) {
    uint32_t slots[64], positions[64];
    for (uint32_t t = first; t < end; t++) {
        slots[t - first] = slot;
        positions[t - first] = t;
    }
    return seam_blocks_forward_cached(f->blocks, NULL, cache, f->stream, f->x, end - first, slots,
                                      positions);
}

static void test_cache__longrope__a_short_slot_cannot_go_on(void **state) {
    (void)state;
    fixture f;
    seam_model_config c;
    seam_kv_cache *cache = NULL;
    seam_error err = {0};
    assert_int_equal(parse(&c, PHI3, LONGROPE, NULL), SEAM_OK);
    fixture_open(&f, &c);
    seam_test_check(seam_kv_cache_create(&cache, f.blocks, 2, 64, 40, &err), "cache", &err);
    assert_int_equal(rows_run(&f, cache, 0, 0, 15), SEAM_OK);
    assert_int_equal(rows_run(&f, cache, 0, 15, 16), SEAM_OK);
    assert_false(seam_kv_cache_takes(cache, 0, 16, 17));
    assert_int_equal(rows_run(&f, cache, 0, 16, 17), SEAM_E_STATE);
    assert_int_equal(rows_run(&f, cache, 0, 15, 16), SEAM_OK); /* as it was */
    assert_true(seam_kv_cache_takes(cache, 0, 0, 17));
    assert_int_equal(rows_run(&f, cache, 0, 0, 17), SEAM_OK);
    assert_true(seam_kv_cache_takes(cache, 0, 17, 18));
    assert_int_equal(rows_run(&f, cache, 0, 17, 18), SEAM_OK);
    assert_false(seam_kv_cache_takes(cache, 1, 16, 17)); /* the other slot has its own state */
    assert_int_equal(rows_run(&f, cache, 1, 0, 16), SEAM_OK);
    assert_int_equal(rows_run(&f, cache, 1, 16, 17), SEAM_E_STATE);
    assert_int_equal(rows_run(&f, cache, 0, 0, 3), SEAM_OK); /* begun again, short */
    assert_false(seam_kv_cache_takes(cache, 0, 3, 17));
    seam_kv_cache_destroy(cache);
    fixture_close(&f);
}

static void test_adapter__targets_of_another_family__named(void **state) {
    (void)state;
    static const struct {
        const char *base;
        uint32_t targets;
        const char *word; /* NULL: fine */
    } CASES[] = {
        {LLAMA, SEAM_LORA_Q | SEAM_LORA_DOWN, NULL},
        {QWEN2, 0x7f, NULL},
        {PHI3, SEAM_LORA_QKV | SEAM_LORA_O | SEAM_LORA_GATE_UP | SEAM_LORA_DOWN, NULL},
        {PHI3, SEAM_LORA_Q | SEAM_LORA_V,
         "lora.targets: q, v: must be at least one of o, down, "
         "qkv, gate_up"},
        {LLAMA, SEAM_LORA_QKV, "lora.targets: qkv: must"},
        {LLAMA, 0, "lora.targets: none: must"},
        {LLAMA, 1u << SEAM_LORA_TARGETS, "lora.targets"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        fixture f;
        seam_model_config c;
        seam_error err = {0};
        seam_adapter *adapter = NULL;
        const seam_adapter_config lora = {
            .lora = {.rank = 2, .alpha = 4, .targets = CASES[i].targets}};
        assert_int_equal(parse(&c, CASES[i].base, "", NULL), SEAM_OK);
        fixture_open(&f, &c);
        const seam_status st = seam_adapter_create(&adapter, f.blocks, &lora, &err);
        assert_int_equal(st, CASES[i].word == NULL ? SEAM_OK : SEAM_E_ARG);
        assert_true(CASES[i].word == NULL || strstr(err.text, CASES[i].word) != NULL);
        if (st == SEAM_OK) {
            seam_adapter_tensor tensor;
            seam_adapter_describe(&tensor, adapter, 0);
            assert_non_null(strstr(tensor.name, ".lora_A.weight"));
        }
        seam_adapter_destroy(adapter);
        fixture_close(&f);
    }
}

/* `rows` rows of one sequence after the prefix, by a whole pass or by a cache; the result in f->x.
 */
static seam_status prefixed_run(fixture *f, seam_adapter *prefix, seam_kv_cache *cache,
                                uint32_t rows) {
    static const uint32_t slots[64] = {0};
    uint32_t positions[64];
    const uint32_t seq_begin[] = {0, rows};
    double *x = (double *)(void *)f->x;
    for (uint32_t i = 0; i < rows * seam_blocks_config(f->blocks)->hidden; i++) {
        x[i] = sin(i);
    }
    for (uint32_t t = 0; t < rows; t++) {
        positions[t] = t;
    }
    if (cache != NULL) {
        return seam_blocks_forward_cached(f->blocks, prefix, cache, f->stream, f->x, rows, slots,
                                          positions);
    }
    seam_activations *acts = NULL;
    const seam_activations_options options = {.rows_max = 64, .seqs_max = 1};
    const seam_batch batch = {
        .rows = rows, .seq_count = 1, .seq_begin = seq_begin, .positions = positions};
    seam_test_check(seam_activations_create(&acts, f->blocks, &options, NULL), "acts", NULL);
    const seam_status st = seam_blocks_forward(f->blocks, prefix, acts, f->stream, f->x, &batch);
    seam_activations_destroy(acts);
    return st;
}

static void prefix_check(fixture *f, seam_adapter *prefix, uint32_t text_max) {
    seam_kv_cache *cache = NULL;
    double whole[64 * 24];
    const size_t count = (size_t)text_max * seam_blocks_config(f->blocks)->hidden;
    seam_test_check(seam_kv_cache_create(&cache, f->blocks, 1, 64, 64, NULL), "cache", NULL);
    assert_int_equal(prefixed_run(f, prefix, NULL, text_max), SEAM_OK);
    memcpy(whole, f->x, count * sizeof *whole);
    assert_int_equal(prefixed_run(f, prefix, cache, text_max), SEAM_OK);
    for (size_t i = 0; i < count; i++) {
        assert_true(fabs(((const double *)(const void *)f->x)[i] - whole[i]) < 1e-9);
    }
    assert_int_equal(prefixed_run(f, prefix, NULL, text_max + 1), SEAM_E_ARG);
    assert_int_equal(prefixed_run(f, prefix, cache, text_max + 1), SEAM_E_ARG);
    seam_kv_cache_destroy(cache);
}

static void test_prefix__text_up_to_the_window_or_the_second_set__no_further(void **state) {
    (void)state;
    static const struct {
        const char *base, *more;
        uint32_t text_max; /* after a prefix of 5; 0: there is no room for one */
        const char *word;
    } CASES[] = {
        {LLAMA, "", 59, NULL},
        {PHI3, "'sliding_window': 64", 59, NULL}, /* which no position can reach */
        {PHI3, "'sliding_window': 9", 4, NULL},
        {PHI3, "'sliding_window': 5", 0, "below the model's sliding_window, 5"},
        {PHI3, LONGROPE, 11, NULL},
        {PHI3, LONGROPE ", 'sliding_window': 17", 11, NULL},
        {PHI3, LONGROPE ", 'sliding_window': 12", 7, NULL},
        {PHI3, "'original_max_position_embeddings': 4, 'rope_scaling': {'type': 'su', " LISTS "}",
         0, "below the model's original_max_position_embeddings, 4"},
        {QWEN2, "'use_sliding_window': true, 'sliding_window': 8, 'max_window_layers': 2", 3, NULL},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        fixture f;
        seam_model_config c;
        seam_error err = {0};
        seam_adapter *prefix = NULL;
        const seam_adapter_config of_5 = {.kind = SEAM_ADAPTER_PREFIX, .prefix = {.tokens = 5}};
        assert_int_equal(parse(&c, CASES[i].base, CASES[i].more, NULL), SEAM_OK);
        assert_int_equal(seam_model_config_positions(&c, 5), CASES[i].text_max);
        assert_int_equal(seam_model_config_positions(&c, 0), 64);
        fixture_open(&f, &c);
        assert_int_equal(seam_adapter_create(&prefix, f.blocks, &of_5, &err),
                         CASES[i].word == NULL ? SEAM_OK : SEAM_E_ARG);
        if (CASES[i].word == NULL) {
            prefix_check(&f, prefix, CASES[i].text_max);
        } else {
            assert_non_null(strstr(err.text, CASES[i].word));
        }
        seam_adapter_destroy(prefix);
        fixture_close(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config__fields_of_families__read_or_named),
        cmocka_unit_test(test_config__window__of_the_layers_that_have_it),
        cmocka_unit_test(test_config_identity__knows_the_family),
        cmocka_unit_test(test_rope_table__longrope__two_sets),
        cmocka_unit_test(test_cache__longrope__a_short_slot_cannot_go_on),
        cmocka_unit_test(test_adapter__targets_of_another_family__named),
        cmocka_unit_test(test_prefix__text_up_to_the_window_or_the_second_set__no_further),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
