/* Limits and identity of a model's shape; see model_config.h. */
#include "model_config.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "bytes.h"
#include "family.h"
#include "try.h"

/* Generous for every family; they keep products of sizes far from overflow. */
enum {
    VOCAB_MAX = 1 << 20,
    HIDDEN_MAX = 1 << 16,
    INTERMEDIATE_MAX = 1 << 18,
    HEADS_MAX = 1 << 10,
    CONTEXT_MAX = 1 << 24,
};

/* Of frequencies: published ones are below 100. */
static const double ROPE_FACTOR_MAX = 1e6;

static seam_status range_check(const char *field, uint32_t value, uint32_t value_max,
                               seam_error *err) {
    if (value < 1 || value > value_max) {
        return seam_error_set(err, SEAM_E_ARG, "%s = %u is outside 1..%u", field, value, value_max);
    }
    return SEAM_OK;
}

static seam_status ids_check(const seam_model_config *c, seam_error *err) {
    const int64_t end = c->vocab_count;
    if (c->bos_id < -1 || c->bos_id >= end) {
        return seam_error_set(err, SEAM_E_ARG, "bos id %lld is outside the vocabulary",
                              (long long)c->bos_id);
    }
    if (c->eos_count > SEAM_EOS_IDS_MAX ||
        c->eos_id != (c->eos_count > 0 ? (int64_t)c->eos_ids[0] : -1)) {
        return seam_error_set(err, SEAM_E_ARG, "eos ids are inconsistent");
    }
    for (uint32_t i = 0; i < c->eos_count; i++) {
        if (c->eos_ids[i] >= c->vocab_count) {
            return seam_error_set(err, SEAM_E_ARG, "eos id %u is outside the vocabulary",
                                  c->eos_ids[i]);
        }
    }
    return SEAM_OK;
}

static seam_status rope_check(const seam_model_config *c, seam_error *err) {
    const seam_rope_scaling *rope = &c->rope;
    if (!(c->rope_theta >= 1.0 && isfinite(c->rope_theta))) {
        return seam_error_set(err, SEAM_E_ARG, "rope_theta = %g is below 1 or not finite",
                              c->rope_theta);
    }
    if (!rope->on) {
        return SEAM_OK;
    }
    if (!(rope->attention_factor > 0.0 && rope->attention_factor <= ROPE_FACTOR_MAX)) {
        return seam_error_set(err, SEAM_E_ARG, "RoPE's attention_factor = %g is outside (0, %g]",
                              rope->attention_factor, ROPE_FACTOR_MAX);
    }
    for (uint32_t i = 0; i < c->head_dim / 2; i++) {
        const double long_factor = rope->long_from != 0 ? rope->long_factor[i] : 1.0;
        if (!(rope->factor[i] > 0.0 && rope->factor[i] <= ROPE_FACTOR_MAX && long_factor > 0.0 &&
              long_factor <= ROPE_FACTOR_MAX)) {
            return seam_error_set(err, SEAM_E_ARG, "RoPE's factor %u is outside (0, %g]", i,
                                  ROPE_FACTOR_MAX);
        }
    }
    if (rope->long_from >= c->context_max) {
        return seam_error_set(err, SEAM_E_ARG,
                              "RoPE's second set begins at %u, the context has %u positions",
                              rope->long_from, c->context_max);
    }
    return SEAM_OK;
}

static seam_status window_check(const seam_model_config *c, seam_error *err) {
    if (c->window > CONTEXT_MAX || c->window_layers > c->layers ||
        (c->window == 0) != (c->window_layers == 0)) {
        return seam_error_set(err, SEAM_E_ARG, "sliding_window = %u of %u layers is inconsistent",
                              c->window, c->window_layers);
    }
    return SEAM_OK;
}

uint32_t seam_model_config_window(const seam_model_config *config, uint32_t layer) {
    return layer + config->window_layers >= config->layers ? config->window : 0;
}

uint32_t seam_model_config_prefix_room(const char **ret_field, const seam_model_config *config) {
    const seam_model_config *c = config;
    uint32_t room = c->context_max;
    *ret_field = "max_position_embeddings";
    if (c->window != 0 && c->window < room) { /* position w is the first that does not see all */
        room = c->window;
        *ret_field = "sliding_window";
    }
    if (c->rope.on && c->rope.long_from != 0 && c->rope.long_from < room) {
        room = c->rope.long_from;
        *ret_field = "original_max_position_embeddings";
    }
    return room;
}

uint32_t seam_model_config_positions(const seam_model_config *config, uint32_t prefix_tokens) {
    const char *field = NULL;
    const uint32_t room =
        prefix_tokens != 0 ? seam_model_config_prefix_room(&field, config) : config->context_max;
    return room > prefix_tokens ? room - prefix_tokens : 0;
}

seam_status seam_model_config_check(const seam_model_config *config, seam_error *err) {
    const seam_model_config *c = config;
    if (seam_family_find(c->architecture) == NULL) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED, "architecture %s is not supported",
                              c->architecture);
    }
    SEAM_TRY(range_check("vocab_size", c->vocab_count, VOCAB_MAX, err));
    SEAM_TRY(range_check("hidden_size", c->hidden, HIDDEN_MAX, err));
    SEAM_TRY(range_check("intermediate_size", c->intermediate, INTERMEDIATE_MAX, err));
    SEAM_TRY(range_check("num_hidden_layers", c->layers, SEAM_LAYERS_MAX, err));
    SEAM_TRY(range_check("num_attention_heads", c->heads, HEADS_MAX, err));
    SEAM_TRY(range_check("num_key_value_heads", c->kv_heads, c->heads, err));
    SEAM_TRY(range_check("head_dim", c->head_dim, SEAM_HEAD_DIM_MAX, err));
    SEAM_TRY(range_check("max_position_embeddings", c->context_max, CONTEXT_MAX, err));
    if (c->heads % c->kv_heads != 0) {
        return seam_error_set(err, SEAM_E_ARG,
                              "num_key_value_heads = %u does not divide num_attention_heads = %u",
                              c->kv_heads, c->heads);
    }
    if (c->head_dim % 2 != 0) {
        return seam_error_set(err, SEAM_E_ARG, "head_dim = %u is odd", c->head_dim);
    }
    if (!(c->rms_eps > 0.0F && c->rms_eps < 1.0F)) {
        return seam_error_set(err, SEAM_E_ARG, "rms_norm_eps = %g is outside (0, 1)",
                              (double)c->rms_eps);
    }
    SEAM_TRY(rope_check(c, err));
    SEAM_TRY(window_check(c, err));
    return ids_check(c, err);
}

static uint64_t u32_hash(uint64_t hash, uint32_t value) {
    uint8_t bytes[4];
    seam_put_u32(bytes, value);
    return seam_hash64(hash, bytes, sizeof bytes);
}

/* In steps of 1/256: files of one model state its factors as formulas or as f32. */
static uint32_t factor_round(double factor) {
    return (uint32_t)(256.0 * factor + 0.5);
}

/* What a plain Llama does not have. */
static uint64_t more_identity(uint64_t hash, const seam_model_config *c) {
    const seam_rope_scaling *rope = &c->rope;
    const uint32_t pairs = rope->on ? c->head_dim / 2 : 0;
    const size_t chars = strlen(c->architecture);
    hash = u32_hash(hash, (uint32_t)chars);
    hash = seam_hash64(hash, c->architecture, chars);
    hash = u32_hash(hash, c->window);
    hash = u32_hash(hash, c->window_layers);
    hash = u32_hash(hash, pairs);
    if (rope->on) {
        hash = u32_hash(hash, factor_round(rope->attention_factor));
        hash = u32_hash(hash, rope->long_from);
    }
    for (uint32_t i = 0; i < pairs; i++) {
        hash = u32_hash(hash, factor_round(rope->factor[i]));
    }
    for (uint32_t i = 0; rope->long_from != 0 && i < pairs; i++) {
        hash = u32_hash(hash, factor_round(rope->long_factor[i]));
    }
    return hash;
}

uint64_t seam_model_config_identity(const seam_model_config *config) {
    const uint32_t sizes[] = {config->vocab_count, config->hidden, config->intermediate,
                              config->layers,      config->heads,  config->kv_heads,
                              config->head_dim};
    uint8_t bytes[sizeof(sizes) + 4 + 8];
    size_t at = 0;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++, at += 4) {
        seam_put_u32(bytes + at, sizes[i]);
    }
    seam_put_f32(bytes + at, config->rms_eps);
    uint64_t theta_bits;
    memcpy(&theta_bits, &config->rope_theta, sizeof(theta_bits));
    seam_put_u64(bytes + at + 4, theta_bits);
    const uint64_t identity = seam_hash64(SEAM_HASH64_INIT, bytes, sizeof(bytes));
    const bool plain =
        strcmp(config->architecture, "llama") == 0 && !config->rope.on && config->window == 0;
    return plain ? identity : more_identity(identity, config);
}
