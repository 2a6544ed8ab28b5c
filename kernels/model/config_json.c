/* Reading config.json; see config_json.h.
 *
 * Three tables decide: what must be there, what has a default, and what must have its neutral
 * value.  A field in none of them is one that the Llama decoder of transformers does not read. */
#include "config_json.h"

#include <math.h>
#include <string.h>

#include "json_read.h"
#include "try.h"

#define CONFIG_JSON_MAX (4 << 20)

typedef struct reader {
    json_t *root;
    const char *file;
    seam_error *err;
} reader;

/* Fields that must be absent, null, or equal to this JSON value, since the blocks here compute
 * nothing else.  Those of other families occur in files that only claim to be Llama. */
static const struct neutral {
    const char *field;
    enum { IS_FALSE, IS_ONE, IS_ZERO, IS_SILU, IS_NULL } value;
} NEUTRAL[] = {
    {"attention_bias", IS_FALSE},
    {"mlp_bias", IS_FALSE},
    {"qkv_bias", IS_FALSE},
    {"hidden_act", IS_SILU},
    {"hidden_activation", IS_SILU},
    {"use_sliding_window", IS_FALSE},
    {"partial_rotary_factor", IS_ONE},
    {"rope_interleaved", IS_FALSE},
    {"attention_dropout", IS_ZERO},
    {"embedding_multiplier", IS_ONE},
    {"attention_multiplier", IS_NULL},
    {"residual_multiplier", IS_ONE},
    {"logits_scaling", IS_ONE},
    {"logit_scale", IS_ONE},
    {"attn_logit_softcapping", IS_NULL},
    {"final_logit_softcapping", IS_NULL},
    {"query_pre_attn_scalar", IS_NULL},
    {"clip_qkv", IS_NULL},
    {"qk_layernorm", IS_FALSE},
    {"use_qk_norm", IS_FALSE},
    {"qk_norm", IS_FALSE},
    {"no_rope_layers", IS_NULL},
    {"num_experts", IS_NULL},
    {"num_local_experts", IS_NULL},
    {"quantization_config", IS_NULL},
    {"pretraining_tp", IS_ONE},
};

static seam_status architecture_check(const reader *r);
static seam_status neutral_check(const reader *r);
static seam_status window_check(const reader *r);
static seam_status sizes_read(seam_model_config *config, const reader *r);
static seam_status rope_read(seam_model_config *config, const reader *r);
static seam_status ids_read(seam_model_config *config, const reader *r);

static seam_status config_read(seam_model_config *config, const reader *r) {
    SEAM_TRY(architecture_check(r));
    SEAM_TRY(neutral_check(r));
    SEAM_TRY(window_check(r));
    SEAM_TRY(sizes_read(config, r));
    SEAM_TRY(rope_read(config, r));
    SEAM_TRY(ids_read(config, r));
    const seam_status st = seam_model_config_check(config, r->err);
    return st == SEAM_OK ? st : seam_error_prefix(r->err, st, "%s", r->file);
}

seam_status seam_config_json_parse(seam_model_config *ret_config, const void *bytes, size_t count,
                                   const char *file, seam_error *err) {
    reader r = {.file = file, .err = err};
    seam_model_config config = {.architecture = "llama", .bos_id = -1, .eos_id = -1};
    SEAM_TRY(seam_json_parse(&r.root, bytes, count, CONFIG_JSON_MAX, file, err));
    const seam_status st = json_is_object(r.root)
                               ? config_read(&config, &r)
                               : seam_error_set(err, SEAM_E_FORMAT, "%s: not an object", file);
    json_decref(r.root);
    SEAM_TRY(st);
    *ret_config = config;
    return SEAM_OK;
}

/* NULL for an absent field and for null. */
static const json_t *field_get(const reader *r, const char *field) {
    const json_t *value = json_object_get(r->root, field);
    return json_is_null(value) ? NULL : value;
}

static seam_status refuse(const reader *r, const char *field, const char *why) {
    return seam_error_set(r->err, SEAM_E_UNIMPLEMENTED, "%s: %s: %s", r->file, field, why);
}

static seam_status malformed(const reader *r, const char *field, const char *want) {
    return seam_error_set(r->err, SEAM_E_FORMAT, "%s: %s: must be %s", r->file, field, want);
}

static seam_status architecture_check(const reader *r) {
    const json_t *names = field_get(r, "architectures");
    if (names != NULL) {
        const char *name = json_string_value(json_array_get(names, 0));
        if (json_array_size(names) != 1 || name == NULL) {
            return malformed(r, "architectures", "a list of one name");
        }
        if (strcmp(name, "LlamaForCausalLM") != 0) {
            return seam_error_set(r->err, SEAM_E_UNIMPLEMENTED,
                                  "%s: architecture %.64s is not supported (LlamaForCausalLM is)",
                                  r->file, name);
        }
    }
    const json_t *type = field_get(r, "model_type");
    if (type == NULL && names == NULL) {
        return malformed(r, "model_type", "\"llama\"");
    }
    if (type != NULL && (!json_is_string(type) || strcmp(json_string_value(type), "llama") != 0)) {
        return refuse(r, "model_type", "only \"llama\" is supported");
    }
    return SEAM_OK;
}

static bool is_neutral(const json_t *value, int neutral) {
    switch (neutral) {
    case IS_FALSE:
        return json_is_false(value);
    case IS_ONE:
        return json_is_number(value) && json_number_value(value) == 1.0;
    case IS_ZERO:
        return json_is_number(value) && json_number_value(value) == 0.0;
    case IS_SILU:
        return json_is_string(value) && (strcmp(json_string_value(value), "silu") == 0 ||
                                         strcmp(json_string_value(value), "swish") == 0);
    default:
        return false; /* only null, which field_get turned into absent */
    }
}

static seam_status neutral_check(const reader *r) {
    for (size_t i = 0; i < sizeof(NEUTRAL) / sizeof(NEUTRAL[0]); i++) {
        const json_t *value = field_get(r, NEUTRAL[i].field);
        if (value != NULL && !is_neutral(value, (int)NEUTRAL[i].value)) {
            return refuse(r, NEUTRAL[i].field, "this value changes the math and is not supported");
        }
    }
    return SEAM_OK;
}

static seam_status window_check(const reader *r) {
    if (field_get(r, "sliding_window") != NULL && field_get(r, "use_sliding_window") == NULL) {
        return refuse(r, "sliding_window", "sliding-window attention is not supported");
    }
    const json_t *types = field_get(r, "layer_types");
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        if (type == NULL || strcmp(type, "full_attention") != 0) {
            return refuse(r, "layer_types", "only full_attention is supported");
        }
    }
    return SEAM_OK;
}

/* fallback 0: the field is required. */
static seam_status u32_read(uint32_t *ret, const reader *r, const char *field, uint32_t fallback) {
    const json_t *value = field_get(r, field);
    if (value == NULL && fallback > 0) {
        *ret = fallback;
        return SEAM_OK;
    }
    if (!json_is_integer(value) || json_integer_value(value) < 1 ||
        json_integer_value(value) > UINT32_MAX) {
        return malformed(r, field, "a positive integer");
    }
    *ret = (uint32_t)json_integer_value(value);
    return SEAM_OK;
}

static seam_status sizes_read(seam_model_config *config, const reader *r) {
    SEAM_TRY(u32_read(&config->vocab_count, r, "vocab_size", 0));
    SEAM_TRY(u32_read(&config->hidden, r, "hidden_size", 0));
    SEAM_TRY(u32_read(&config->intermediate, r, "intermediate_size", 0));
    SEAM_TRY(u32_read(&config->layers, r, "num_hidden_layers", 0));
    SEAM_TRY(u32_read(&config->heads, r, "num_attention_heads", 0));
    SEAM_TRY(u32_read(&config->kv_heads, r, "num_key_value_heads", config->heads));
    SEAM_ASSERT(config->heads > 0); /* u32_read */
    if (field_get(r, "head_dim") == NULL && config->hidden % config->heads != 0) {
        return seam_error_set(r->err, SEAM_E_ARG,
                              "%s: hidden_size is no multiple of num_attention_heads and head_dim "
                              "is not stated",
                              r->file);
    }
    SEAM_TRY(u32_read(&config->head_dim, r, "head_dim",
                      config->hidden >= config->heads ? config->hidden / config->heads : 1));
    SEAM_TRY(u32_read(&config->context_max, r, "max_position_embeddings", 2048));

    const json_t *eps = field_get(r, "rms_norm_eps");
    if (eps != NULL && !json_is_number(eps)) {
        return malformed(r, "rms_norm_eps", "a number");
    }
    config->rms_eps = eps == NULL ? 1e-6F : (float)json_number_value(eps);

    const json_t *tied = field_get(r, "tie_word_embeddings");
    if (tied != NULL && !json_is_boolean(tied)) {
        return malformed(r, "tie_word_embeddings", "true or false");
    }
    config->tied = json_is_true(tied);
    return SEAM_OK;
}

/* One object of the older `rope_scaling` or the newer `rope_parameters` form. */
static seam_status rope_object_check(const reader *r, const char *field, const json_t *object) {
    if (!json_is_object(object)) {
        return malformed(r, field, "an object");
    }
    const json_t *type = json_object_get(object, "rope_type");
    if (type == NULL) {
        type = json_object_get(object, "type");
    }
    const char *text = type == NULL ? "default" : json_string_value(type);
    if (text == NULL || (strcmp(text, "default") != 0 && strcmp(text, "none") != 0)) {
        return refuse(r, field, "only the default rope_type is supported");
    }
    const json_t *partial = json_object_get(object, "partial_rotary_factor");
    if (partial != NULL && !json_is_null(partial) && !is_neutral(partial, IS_ONE)) {
        return refuse(r, field, "partial_rotary_factor other than 1 is not supported");
    }
    const json_t *factor = json_object_get(object, "factor");
    if (factor != NULL && !json_is_null(factor) && !is_neutral(factor, IS_ONE)) {
        return refuse(r, field, "a scaling factor is not supported");
    }
    return SEAM_OK;
}

static seam_status rope_read(seam_model_config *config, const reader *r) {
    const json_t *theta = field_get(r, "rope_theta");
    const json_t *scaling = field_get(r, "rope_scaling");
    const json_t *parameters = field_get(r, "rope_parameters");
    if (scaling != NULL) {
        SEAM_TRY(rope_object_check(r, "rope_scaling", scaling));
    }
    if (parameters != NULL) {
        SEAM_TRY(rope_object_check(r, "rope_parameters", parameters));
        const json_t *inner = json_object_get(parameters, "rope_theta");
        if (inner != NULL && theta != NULL &&
            (!json_is_number(inner) || json_number_value(inner) != json_number_value(theta))) {
            return malformed(r, "rope_parameters", "in agreement with rope_theta");
        }
        theta = inner != NULL ? inner : theta;
    }
    if (theta != NULL && !json_is_number(theta)) {
        return malformed(r, "rope_theta", "a number");
    }
    config->rope_theta = theta == NULL ? 10000.0 : json_number_value(theta);
    return SEAM_OK;
}

static seam_status id_read(int64_t *ret, const reader *r, const char *field, const json_t *value) {
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) > UINT32_MAX) {
        return malformed(r, field, "a token id");
    }
    *ret = json_integer_value(value);
    return SEAM_OK;
}

static seam_status ids_read(seam_model_config *config, const reader *r) {
    const json_t *bos = field_get(r, "bos_token_id");
    const json_t *eos = field_get(r, "eos_token_id");
    if (bos != NULL) {
        SEAM_TRY(id_read(&config->bos_id, r, "bos_token_id", bos));
    }
    if (eos == NULL) {
        return SEAM_OK;
    }
    const size_t count = json_is_array(eos) ? json_array_size(eos) : 1;
    if (count > SEAM_EOS_IDS_MAX) {
        return malformed(r, "eos_token_id", "at most 8 token ids");
    }
    for (size_t i = 0; i < count; i++) {
        int64_t id = 0;
        SEAM_TRY(
            id_read(&id, r, "eos_token_id", json_is_array(eos) ? json_array_get(eos, i) : eos));
        config->eos_ids[config->eos_count++] = (uint32_t)id;
    }
    config->eos_id = config->eos_count > 0 ? (int64_t)config->eos_ids[0] : -1;
    return SEAM_OK;
}
