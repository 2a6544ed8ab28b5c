/* Limits and identity of a model's shape; see model_config.h. */
#include "model_config.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "bytes.h"
#include "try.h"

/* Generous for every Llama-family model; they keep products of sizes far from overflow. */
enum {
    VOCAB_MAX = 1 << 20,
    HIDDEN_MAX = 1 << 16,
    INTERMEDIATE_MAX = 1 << 18,
    HEADS_MAX = 1 << 10,
    HEAD_DIM_MAX = 512,
    CONTEXT_MAX = 1 << 24,
};

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

seam_status seam_model_config_check(const seam_model_config *config, seam_error *err) {
    const seam_model_config *c = config;
    if (strcmp(c->architecture, "llama") != 0) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED, "architecture %s is not supported",
                              c->architecture);
    }
    SEAM_TRY(range_check("vocab_size", c->vocab_count, VOCAB_MAX, err));
    SEAM_TRY(range_check("hidden_size", c->hidden, HIDDEN_MAX, err));
    SEAM_TRY(range_check("intermediate_size", c->intermediate, INTERMEDIATE_MAX, err));
    SEAM_TRY(range_check("num_hidden_layers", c->layers, SEAM_LAYERS_MAX, err));
    SEAM_TRY(range_check("num_attention_heads", c->heads, HEADS_MAX, err));
    SEAM_TRY(range_check("num_key_value_heads", c->kv_heads, c->heads, err));
    SEAM_TRY(range_check("head_dim", c->head_dim, HEAD_DIM_MAX, err));
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
    if (!(c->rope_theta >= 1.0 && isfinite(c->rope_theta))) {
        return seam_error_set(err, SEAM_E_ARG, "rope_theta = %g is below 1 or not finite",
                              c->rope_theta);
    }
    return ids_check(c, err);
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
    return seam_hash64(SEAM_HASH64_INIT, bytes, sizeof(bytes));
}
