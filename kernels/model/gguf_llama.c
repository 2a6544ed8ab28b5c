/* Names and keys of llama.cpp's llama architecture -> Hugging Face; see gguf_llama.h.
 *
 * Rows of q and k: llama.cpp's converter stores them so that RoPE pairs adjacent elements. Row
 * 2j + p of a head there is row j + p D/2 in Hugging Face order (j < D/2, p in 0..1); the index
 * entry carries D and weights.c reads the rows through that map. */
#include "gguf_llama.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "try.h"

static const struct {
    const char *gguf, *hf;
} GLOBALS[] = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};

static const struct {
    const char *gguf, *hf;
    bool permuted;
} LAYER[] = {
    {"attn_norm.weight", "input_layernorm.weight", false},
    {"attn_q.weight", "self_attn.q_proj.weight", true},
    {"attn_k.weight", "self_attn.k_proj.weight", true},
    {"attn_v.weight", "self_attn.v_proj.weight", false},
    {"attn_output.weight", "self_attn.o_proj.weight", false},
    {"ffn_norm.weight", "post_attention_layernorm.weight", false},
    {"ffn_gate.weight", "mlp.gate_proj.weight", false},
    {"ffn_up.weight", "mlp.up_proj.weight", false},
    {"ffn_down.weight", "mlp.down_proj.weight", false},
};

/* fallback 0: the key is required. */
static seam_status u32_get(uint32_t *ret, const seam_gguf *gguf, const char *key, uint32_t fallback,
                           seam_error *err) {
    uint64_t value = fallback;
    if (fallback == 0 || seam_gguf_has(gguf, key)) {
        SEAM_TRY(seam_gguf_get_u64(&value, gguf, key, err));
    }
    if (value > UINT32_MAX) {
        return seam_error_set(err, SEAM_E_ARG, "%s: key %s is too large", seam_gguf_file(gguf),
                              key);
    }
    *ret = (uint32_t)value;
    return SEAM_OK;
}

static seam_status unsupported(const seam_gguf *gguf, const char *key, seam_error *err) {
    return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                          "%s: key %s: this value changes the math and is not supported",
                          seam_gguf_file(gguf), key);
}

/* Keys that only have neutral values here. */
static seam_status neutral_check(const seam_gguf *gguf, seam_error *err) {
    static const char *const ZERO[] = {"llama.expert_count", "llama.attention.sliding_window"};
    static const char *const ONE[] = {"llama.rope.scaling.factor", "llama.rope.scale_linear",
                                      "llama.embedding_scale",     "llama.residual_scale",
                                      "llama.logit_scale",         "llama.attention.scale"};
    for (size_t i = 0; i < sizeof(ZERO) / sizeof(ZERO[0]); i++) {
        uint64_t value = 0;
        if (seam_gguf_has(gguf, ZERO[i])) {
            SEAM_TRY(seam_gguf_get_u64(&value, gguf, ZERO[i], err));
        }
        if (value != 0) {
            return unsupported(gguf, ZERO[i], err);
        }
    }
    for (size_t i = 0; i < sizeof(ONE) / sizeof(ONE[0]); i++) {
        double value = 1.0;
        if (seam_gguf_has(gguf, ONE[i])) {
            SEAM_TRY(seam_gguf_get_f64(&value, gguf, ONE[i], err));
        }
        if (value != 1.0) {
            return unsupported(gguf, ONE[i], err);
        }
    }
    if (seam_gguf_has(gguf, "llama.rope.scaling.type")) {
        seam_gguf_string type;
        SEAM_TRY(seam_gguf_get_string(&type, gguf, "llama.rope.scaling.type", err));
        if (!seam_gguf_string_is(type, "none")) {
            return unsupported(gguf, "llama.rope.scaling.type", err);
        }
    }
    uint32_t splits = 0;
    SEAM_TRY(u32_get(&splits, gguf, "split.count", 1, err));
    return splits > 1 ? unsupported(gguf, "split.count", err) : SEAM_OK;
}

/* An optional token id of the tokenizer section; -1 when absent. */
static seam_status id_get(int64_t *ret, const seam_gguf *gguf, const char *key, seam_error *err) {
    *ret = -1;
    if (seam_gguf_has(gguf, key)) {
        uint32_t id = 0;
        SEAM_TRY(u32_get(&id, gguf, key, 0, err));
        *ret = id;
    }
    return SEAM_OK;
}

static seam_status head_dim_read(seam_model_config *c, const seam_gguf *gguf, seam_error *err) {
    uint32_t rope = 0;
    uint32_t value = 0;
    if (c->heads == 0 ||
        (!seam_gguf_has(gguf, "llama.attention.key_length") && c->hidden % c->heads != 0)) {
        return seam_error_set(err, SEAM_E_ARG, "%s: llama.attention.head_count is invalid",
                              seam_gguf_file(gguf));
    }
    const uint32_t fallback = c->hidden >= c->heads ? c->hidden / c->heads : 1;
    SEAM_TRY(u32_get(&c->head_dim, gguf, "llama.attention.key_length", fallback, err));
    const uint32_t head_dim = c->head_dim > 0 ? c->head_dim : 1;
    SEAM_TRY(u32_get(&value, gguf, "llama.attention.value_length", head_dim, err));
    SEAM_TRY(u32_get(&rope, gguf, "llama.rope.dimension_count", head_dim, err));
    if (value != c->head_dim) {
        return unsupported(gguf, "llama.attention.value_length", err);
    }
    return rope != c->head_dim ? unsupported(gguf, "llama.rope.dimension_count", err) : SEAM_OK;
}

static seam_status vocab_read(seam_model_config *c, const seam_gguf *gguf, seam_error *err) {
    for (size_t i = 0; i < seam_gguf_tensor_count(gguf); i++) {
        const seam_gguf_tensor *t = seam_gguf_tensor_at(gguf, i);
        if (seam_gguf_string_is(t->name, GLOBALS[0].gguf) && t->dims[1] <= UINT32_MAX) {
            c->vocab_count = (uint32_t)t->dims[1];
        }
        if (seam_gguf_string_is(t->name, GLOBALS[2].gguf)) {
            c->tied = false;
        }
    }
    if (c->vocab_count == 0) {
        return seam_error_set(err, SEAM_E_NOT_FOUND, "%s: tensor %s is missing",
                              seam_gguf_file(gguf), GLOBALS[0].gguf);
    }
    return SEAM_OK;
}

static seam_status config_read(seam_model_config *c, const seam_gguf *gguf, seam_error *err) {
    seam_gguf_string architecture;
    SEAM_TRY(seam_gguf_get_string(&architecture, gguf, "general.architecture", err));
    if (!seam_gguf_string_is(architecture, "llama")) {
        return seam_error_set(
            err, SEAM_E_UNIMPLEMENTED, "%s: architecture %.*s is not supported (llama is)",
            seam_gguf_file(gguf), (int)(architecture.bytes < 64 ? architecture.bytes : 64),
            architecture.text);
    }
    SEAM_TRY(neutral_check(gguf, err));
    SEAM_TRY(u32_get(&c->layers, gguf, "llama.block_count", 0, err));
    SEAM_TRY(u32_get(&c->context_max, gguf, "llama.context_length", 0, err));
    SEAM_TRY(u32_get(&c->hidden, gguf, "llama.embedding_length", 0, err));
    SEAM_TRY(u32_get(&c->intermediate, gguf, "llama.feed_forward_length", 0, err));
    SEAM_TRY(u32_get(&c->heads, gguf, "llama.attention.head_count", 0, err));
    SEAM_TRY(u32_get(&c->kv_heads, gguf, "llama.attention.head_count_kv",
                     c->heads > 0 ? c->heads : 1, err));
    SEAM_TRY(head_dim_read(c, gguf, err));
    double eps = 0.0;
    SEAM_TRY(seam_gguf_get_f64(&eps, gguf, "llama.attention.layer_norm_rms_epsilon", err));
    c->rms_eps = (float)eps;
    c->rope_theta = 10000.0;
    if (seam_gguf_has(gguf, "llama.rope.freq_base")) {
        SEAM_TRY(seam_gguf_get_f64(&c->rope_theta, gguf, "llama.rope.freq_base", err));
    }
    SEAM_TRY(vocab_read(c, gguf, err));
    SEAM_TRY(id_get(&c->bos_id, gguf, "tokenizer.ggml.bos_token_id", err));
    SEAM_TRY(id_get(&c->eos_id, gguf, "tokenizer.ggml.eos_token_id", err));
    if (c->eos_id >= 0) {
        c->eos_count = 1;
        c->eos_ids[0] = (uint32_t)c->eos_id;
    }
    const seam_status st = seam_model_config_check(c, err);
    return st == SEAM_OK ? st : seam_error_prefix(err, st, "%s", seam_gguf_file(gguf));
}

/* "blk.<layer>.<rest>": the layer number in plain decimal, and the rest; false if it is not. */
static bool layer_split(unsigned *ret_layer, const char **ret_rest, const char *name) {
    if (strncmp(name, "blk.", 4) != 0 || name[4] < '0' || name[4] > '9') {
        return false;
    }
    char *end;
    const unsigned long layer = strtoul(name + 4, &end, 10);
    if (layer >= SEAM_LAYERS_MAX || *end != '.' || (name[4] == '0' && end != name + 5)) {
        return false;
    }
    *ret_layer = (unsigned)layer;
    *ret_rest = end + 1;
    return true;
}

/* Writes the Hugging Face name; false for a name that the architecture does not have. */
static bool name_map(seam_tensor_entry *entry, const char *name, const seam_model_config *config) {
    for (size_t i = 0; i < sizeof(GLOBALS) / sizeof(GLOBALS[0]); i++) {
        if (strcmp(name, GLOBALS[i].gguf) == 0) {
            (void)snprintf(entry->name, sizeof(entry->name), "%s", GLOBALS[i].hf);
            return true;
        }
    }
    unsigned layer;
    const char *rest;
    if (!layer_split(&layer, &rest, name)) {
        return false;
    }
    for (size_t i = 0; i < sizeof(LAYER) / sizeof(LAYER[0]); i++) {
        if (strcmp(rest, LAYER[i].gguf) == 0) {
            (void)snprintf(entry->name, sizeof(entry->name), "model.layers.%u.%s", layer,
                           LAYER[i].hf);
            entry->unpermute_head_dim = LAYER[i].permuted ? config->head_dim : 0;
            return true;
        }
    }
    return false;
}

static seam_status tensor_add(seam_tensor_index *index, const seam_gguf_tensor *t,
                              const seam_model_config *config, const char *file, seam_error *err) {
    char name[SEAM_NAME_BYTES];
    seam_tensor_entry entry = {.file = file, .type = t->type, .bytes = t->bytes};
    (void)snprintf(name, sizeof(name), "%.*s", (int)t->name.bytes, t->name.text);
    if (!name_map(&entry, name, config)) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              "%s: tensor %s is not part of the plain llama architecture", file,
                              name);
    }
    (void)snprintf(entry.type_name, sizeof(entry.type_name), "type %u", t->type_id);
    if (t->dim_count > 2 && (t->dims[2] != 1 || t->dims[3] != 1)) {
        return seam_error_set(err, SEAM_E_FORMAT, "%s: tensor %s has more than two dimensions",
                              file, name);
    }
    entry.rows = t->dims[1];
    entry.cols = t->dims[0];
    return seam_tensor_index_add(index, &entry, err);
}

seam_status seam_gguf_llama_read(seam_model_config *ret_config, seam_tensor_index *index,
                                 const seam_gguf *gguf, seam_error *err) {
    seam_model_config config = {.architecture = "llama", .tied = true, .bos_id = -1, .eos_id = -1};
    SEAM_TRY(config_read(&config, gguf, err));
    for (size_t i = 0; i < seam_gguf_tensor_count(gguf); i++) {
        SEAM_TRY(
            tensor_add(index, seam_gguf_tensor_at(gguf, i), &config, seam_gguf_file(gguf), err));
    }
    *ret_config = config;
    return SEAM_OK;
}
