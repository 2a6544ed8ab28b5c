/* Qwen2 and Qwen2.5: Llama's block with biases on q, k and v, and on request a window in the layers
 * from max_window_layers on (use_sliding_window; published models leave it off, and state a
 * sliding_window that then means nothing). */
#include "config_reader.h"
#include "family.h"
#include "gguf_model.h"
#include "lora_targets.h"
#include "try.h"

static const seam_family_tensor layer[] = {
    {"input_layernorm.weight", "attn_norm.weight", SEAM_DIM_ONE, SEAM_DIM_HIDDEN, false},
    {"self_attn.q_proj.weight", "attn_q.weight", SEAM_DIM_Q, SEAM_DIM_HIDDEN, false},
    {"self_attn.q_proj.bias", "attn_q.bias", SEAM_DIM_ONE, SEAM_DIM_Q, false},
    {"self_attn.k_proj.weight", "attn_k.weight", SEAM_DIM_KV, SEAM_DIM_HIDDEN, false},
    {"self_attn.k_proj.bias", "attn_k.bias", SEAM_DIM_ONE, SEAM_DIM_KV, false},
    {"self_attn.v_proj.weight", "attn_v.weight", SEAM_DIM_KV, SEAM_DIM_HIDDEN, false},
    {"self_attn.v_proj.bias", "attn_v.bias", SEAM_DIM_ONE, SEAM_DIM_KV, false},
    {"self_attn.o_proj.weight", "attn_output.weight", SEAM_DIM_HIDDEN, SEAM_DIM_Q, false},
    {"post_attention_layernorm.weight", "ffn_norm.weight", SEAM_DIM_ONE, SEAM_DIM_HIDDEN, false},
    {"mlp.gate_proj.weight", "ffn_gate.weight", SEAM_DIM_INTERMEDIATE, SEAM_DIM_HIDDEN, false},
    {"mlp.up_proj.weight", "ffn_up.weight", SEAM_DIM_INTERMEDIATE, SEAM_DIM_HIDDEN, false},
    {"mlp.down_proj.weight", "ffn_down.weight", SEAM_DIM_HIDDEN, SEAM_DIM_INTERMEDIATE, false},
};

static const seam_config_neutral neutral[] = {
    {"use_mrope", SEAM_NEUTRAL_FALSE},
    {"dual_chunk_attention_config", SEAM_NEUTRAL_NULL},
};

/* transformers: layer i has the window when i >= max_window_layers, unless layer_types says it. */
static seam_status read_config(seam_model_config *config, const seam_config_reader *r) {
    SEAM_TRY(seam_config_check_neutral(r, neutral, sizeof neutral / sizeof neutral[0]));
    bool use = false;
    SEAM_TRY(seam_config_bool(&use, r, "use_sliding_window", false));
    if (use) {
        uint32_t full = 0;
        SEAM_TRY(seam_config_u32(&config->window, r, "sliding_window", 4096));
        SEAM_TRY(seam_config_count(&full, r, "max_window_layers", 28));
        config->window_layers = full < config->layers ? config->layers - full : 0;
    }
    return seam_config_check_layer_types(r, config);
}

static seam_status read_gguf(seam_model_config *config, const seam_gguf *gguf, seam_error *err) {
    (void)config;
    return seam_gguf_check_zero(gguf, "qwen2.attention.sliding_window", err);
}

const seam_family seam_family_qwen2 = {
    .name = "qwen2",
    .class_name = "Qwen2ForCausalLM",
    .layer = layer,
    .layer_count = sizeof layer / sizeof layer[0],
    .qkv = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
    .gate_up = {"mlp.gate_proj", "mlp.up_proj"},
    .qkv_bias = true,
    .lora_targets = SEAM_LORA_Q | SEAM_LORA_K | SEAM_LORA_V | SEAM_LORA_O | SEAM_LORA_GATE |
                    SEAM_LORA_UP | SEAM_LORA_DOWN,
    .rope_forms = SEAM_ROPE_LINEAR,
    .rms_eps = 1e-6F,
    .context_max = 32768,
    .read_config = read_config,
    .read_gguf = read_gguf,
};
