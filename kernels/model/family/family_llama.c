/* Llama: Llama-2, Llama-3 and 3.1 (RoPE by frequency), SmolLM2 (tied head), TinyLlama, ...
 *
 * transformers' LlamaAttention can have biases (attention_bias, mlp_bias) and knows no window;
 * neither occurs in published models of the family, and a file that asks for one is refused.
 * llama.cpp stores the rows of q and k so that RoPE pairs neighbours (gguf_model.c). */
#include "config_reader.h"
#include "family.h"
#include "gguf_model.h"
#include "lora_targets.h"
#include "try.h"

static const seam_family_tensor layer[] = {
    {"input_layernorm.weight", "attn_norm.weight", SEAM_DIM_ONE, SEAM_DIM_HIDDEN, false},
    {"self_attn.q_proj.weight", "attn_q.weight", SEAM_DIM_Q, SEAM_DIM_HIDDEN, true},
    {"self_attn.k_proj.weight", "attn_k.weight", SEAM_DIM_KV, SEAM_DIM_HIDDEN, true},
    {"self_attn.v_proj.weight", "attn_v.weight", SEAM_DIM_KV, SEAM_DIM_HIDDEN, false},
    {"self_attn.o_proj.weight", "attn_output.weight", SEAM_DIM_HIDDEN, SEAM_DIM_Q, false},
    {"post_attention_layernorm.weight", "ffn_norm.weight", SEAM_DIM_ONE, SEAM_DIM_HIDDEN, false},
    {"mlp.gate_proj.weight", "ffn_gate.weight", SEAM_DIM_INTERMEDIATE, SEAM_DIM_HIDDEN, false},
    {"mlp.up_proj.weight", "ffn_up.weight", SEAM_DIM_INTERMEDIATE, SEAM_DIM_HIDDEN, false},
    {"mlp.down_proj.weight", "ffn_down.weight", SEAM_DIM_HIDDEN, SEAM_DIM_INTERMEDIATE, false},
};

static const seam_config_neutral neutral[] = {
    {"attention_bias", SEAM_NEUTRAL_FALSE},
    {"qkv_bias", SEAM_NEUTRAL_FALSE},
    {"use_sliding_window", SEAM_NEUTRAL_FALSE},
};

static seam_status read_config(seam_model_config *config, const seam_config_reader *r) {
    (void)config;
    SEAM_TRY(seam_config_check_neutral(r, neutral, sizeof neutral / sizeof neutral[0]));
    if (seam_config_field(r, "sliding_window") != NULL &&
        seam_config_field(r, "use_sliding_window") == NULL) {
        return seam_config_refuse(r, "sliding_window", "Llama's attention has no window");
    }
    return seam_config_check_layer_types(r, config);
}

static seam_status read_gguf(seam_model_config *config, const seam_gguf *gguf, seam_error *err) {
    (void)config;
    return seam_gguf_check_zero(gguf, "llama.attention.sliding_window", err);
}

const seam_family seam_family_llama = {
    .name = "llama",
    .class_name = "LlamaForCausalLM",
    .layer = layer,
    .layer_count = sizeof layer / sizeof layer[0],
    .qkv = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
    .gate_up = {"mlp.gate_proj", "mlp.up_proj"},
    .lora_targets = SEAM_LORA_Q | SEAM_LORA_K | SEAM_LORA_V | SEAM_LORA_O | SEAM_LORA_GATE |
                    SEAM_LORA_UP | SEAM_LORA_DOWN,
    .rope_forms = SEAM_ROPE_LINEAR | SEAM_ROPE_LLAMA3,
    .rms_eps = 1e-6F,
    .context_max = 2048,
    .read_config = read_config,
    .read_gguf = read_gguf,
};
