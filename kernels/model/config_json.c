/* Reading config.json; see config_json.h.
 *
 * What all families have is read here: the sizes, and a table of fields that must have their
 * neutral value, those of other families included, which occur in files that only claim to be one
 * of ours. RoPE: config_rope.c.  Fields of one family: family/. */
#include "config_json.h"

#include <math.h>
#include <string.h>

#include "config_reader.h"
#include "config_rope.h"
#include "family.h"
#include "json_read.h"
#include "try.h"

#define CONFIG_JSON_MAX (4 << 20)

typedef seam_config_reader reader;

static const seam_config_neutral NEUTRAL[] = {
    {"mlp_bias", SEAM_NEUTRAL_FALSE},
    {"hidden_act", SEAM_NEUTRAL_SILU},
    {"hidden_activation", SEAM_NEUTRAL_SILU},
    {"partial_rotary_factor", SEAM_NEUTRAL_ONE},
    {"rope_interleaved", SEAM_NEUTRAL_FALSE},
    {"attention_dropout", SEAM_NEUTRAL_ZERO},
    {"embedding_multiplier", SEAM_NEUTRAL_ONE},
    {"attention_multiplier", SEAM_NEUTRAL_NULL},
    {"residual_multiplier", SEAM_NEUTRAL_ONE},
    {"logits_scaling", SEAM_NEUTRAL_ONE},
    {"logit_scale", SEAM_NEUTRAL_ONE},
    {"attn_logit_softcapping", SEAM_NEUTRAL_NULL},
    {"final_logit_softcapping", SEAM_NEUTRAL_NULL},
    {"query_pre_attn_scalar", SEAM_NEUTRAL_NULL},
    {"clip_qkv", SEAM_NEUTRAL_NULL},
    {"qk_layernorm", SEAM_NEUTRAL_FALSE},
    {"use_qk_norm", SEAM_NEUTRAL_FALSE},
    {"qk_norm", SEAM_NEUTRAL_FALSE},
    {"no_rope_layers", SEAM_NEUTRAL_NULL},
    {"num_experts", SEAM_NEUTRAL_NULL},
    {"num_local_experts", SEAM_NEUTRAL_NULL},
    {"quantization_config", SEAM_NEUTRAL_NULL},
    {"pretraining_tp", SEAM_NEUTRAL_ONE},
};

static seam_status family_read(const seam_family **ret_family, const reader *r);
static seam_status sizes_read(seam_model_config *config, const reader *r,
                              const seam_family *family);
static seam_status ids_read(seam_model_config *config, const reader *r);

static seam_status config_read(seam_model_config *config, const reader *r) {
    const seam_family *family = NULL;
    SEAM_TRY(family_read(&family, r));
    SEAM_ASSERT(family != NULL);
    (void)strncpy(config->architecture, family->name, sizeof config->architecture - 1);
    SEAM_TRY(seam_config_check_neutral(r, NEUTRAL, sizeof NEUTRAL / sizeof NEUTRAL[0]));
    SEAM_TRY(sizes_read(config, r, family));
    SEAM_TRY(seam_config_read_rope(config, r, family));
    SEAM_TRY(family->read_config(config, r));
    SEAM_TRY(ids_read(config, r));
    const seam_status st = seam_model_config_check(config, r->err);
    return st == SEAM_OK ? st : seam_error_prefix(r->err, st, "%s", r->file);
}

seam_status seam_config_json_parse(seam_model_config *ret_config, const void *bytes, size_t count,
                                   const char *file, seam_error *err) {
    json_t *root = NULL;
    seam_model_config config = {.bos_id = -1, .eos_id = -1};
    SEAM_TRY(seam_json_parse(&root, bytes, count, CONFIG_JSON_MAX, file, err));
    const reader r = {.root = root, .file = file, .err = err};
    const seam_status st = json_is_object(root)
                               ? config_read(&config, &r)
                               : seam_error_set(err, SEAM_E_FORMAT, "%s: not an object", file);
    json_decref(root);
    SEAM_TRY(st);
    *ret_config = config;
    return SEAM_OK;
}

/* By architectures, model_type, or both if they agree. */
static seam_status family_read(const seam_family **ret_family, const reader *r) {
    const json_t *names = seam_config_field(r, "architectures");
    const json_t *type = seam_config_field(r, "model_type");
    const seam_family *family = NULL;
    char classes[SEAM_FAMILY_TEXT_BYTES];
    seam_family_classes(classes);
    if (names != NULL) {
        const char *name = json_string_value(json_array_get(names, 0));
        if (json_array_size(names) != 1 || name == NULL) {
            return seam_config_malformed(r, "architectures", "a list of one name");
        }
        family = seam_family_of_class(name);
        if (family == NULL) {
            return seam_error_set(r->err, SEAM_E_UNIMPLEMENTED,
                                  "%s: architecture %.64s is not supported (%s are)", r->file, name,
                                  classes);
        }
    }
    if (type == NULL && names == NULL) {
        return seam_config_malformed(r, "model_type", "stated, or architectures");
    }
    if (type != NULL) {
        const char *text = json_string_value(type);
        const seam_family *of_type = text != NULL ? seam_family_find(text) : NULL;
        if (of_type == NULL || (family != NULL && of_type != family)) {
            return seam_error_set(r->err, SEAM_E_UNIMPLEMENTED,
                                  "%s: model_type: %.64s is not that of %s", r->file,
                                  text != NULL ? text : "(not a string)",
                                  family != NULL ? family->class_name : classes);
        }
        family = of_type;
    }
    *ret_family = family;
    return SEAM_OK;
}

static seam_status sizes_read(seam_model_config *config, const reader *r,
                              const seam_family *family) {
    SEAM_TRY(seam_config_u32(&config->vocab_count, r, "vocab_size", 0));
    SEAM_TRY(seam_config_u32(&config->hidden, r, "hidden_size", 0));
    SEAM_TRY(seam_config_u32(&config->intermediate, r, "intermediate_size", 0));
    SEAM_TRY(seam_config_u32(&config->layers, r, "num_hidden_layers", 0));
    SEAM_TRY(seam_config_u32(&config->heads, r, "num_attention_heads", 0));
    SEAM_TRY(seam_config_u32(&config->kv_heads, r, "num_key_value_heads", config->heads));
    SEAM_ASSERT(config->heads > 0); /* u32_read */
    if (seam_config_field(r, "head_dim") == NULL && config->hidden % config->heads != 0) {
        return seam_error_set(r->err, SEAM_E_ARG,
                              "%s: hidden_size is no multiple of num_attention_heads and head_dim "
                              "is not stated",
                              r->file);
    }
    SEAM_TRY(seam_config_u32(&config->head_dim, r, "head_dim",
                             config->hidden >= config->heads ? config->hidden / config->heads : 1));
    if (config->head_dim > SEAM_HEAD_DIM_MAX) {
        return seam_error_set(r->err, SEAM_E_ARG, "%s: head_dim = %u is above %d", r->file,
                              config->head_dim, SEAM_HEAD_DIM_MAX);
    }
    SEAM_TRY(
        seam_config_u32(&config->context_max, r, "max_position_embeddings", family->context_max));

    const json_t *eps = seam_config_field(r, "rms_norm_eps");
    if (eps != NULL && !json_is_number(eps)) {
        return seam_config_malformed(r, "rms_norm_eps", "a number");
    }
    config->rms_eps = eps == NULL ? family->rms_eps : (float)json_number_value(eps);

    return seam_config_bool(&config->tied, r, "tie_word_embeddings", false);
}

static seam_status id_read(int64_t *ret, const reader *r, const char *field, const json_t *value) {
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) > UINT32_MAX) {
        return seam_config_malformed(r, field, "a token id");
    }
    *ret = json_integer_value(value);
    return SEAM_OK;
}

static seam_status ids_read(seam_model_config *config, const reader *r) {
    const json_t *bos = seam_config_field(r, "bos_token_id");
    const json_t *eos = seam_config_field(r, "eos_token_id");
    if (bos != NULL) {
        SEAM_TRY(id_read(&config->bos_id, r, "bos_token_id", bos));
    }
    if (eos == NULL) {
        return SEAM_OK;
    }
    const size_t count = json_is_array(eos) ? json_array_size(eos) : 1;
    if (count > SEAM_EOS_IDS_MAX) {
        return seam_config_malformed(r, "eos_token_id", "at most 8 token ids");
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
