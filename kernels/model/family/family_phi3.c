/* Phi-3 and Phi-3.5 (mini, medium): q|k|v and gate|up are one matrix each in the files, and one
 * module each to PEFT; LongRoPE in the versions with a long context; a window in all layers where
 * sliding_window is stated (Phi-3-mini-4k: 2047).
 *
 * As in transformers the pretraining context is original_max_position_embeddings outside of RoPE's
 * own fields, 4096 if absent.  Rotation of a part of a head (Phi-4-mini) is not done here. */
#include "config_reader.h"
#include "family.h"
#include "gguf_model.h"
#include "lora_targets.h"
#include "try.h"

static const seam_family_tensor layer[] = {
    {"input_layernorm.weight", "attn_norm.weight", SEAM_DIM_ONE, SEAM_DIM_HIDDEN, false},
    {"self_attn.qkv_proj.weight", "attn_qkv.weight", SEAM_DIM_QKV, SEAM_DIM_HIDDEN, false},
    {"self_attn.o_proj.weight", "attn_output.weight", SEAM_DIM_HIDDEN, SEAM_DIM_Q, false},
    {"post_attention_layernorm.weight", "ffn_norm.weight", SEAM_DIM_ONE, SEAM_DIM_HIDDEN, false},
    {"mlp.gate_up_proj.weight", "ffn_up.weight", SEAM_DIM_GATE_UP, SEAM_DIM_HIDDEN, false},
    {"mlp.down_proj.weight", "ffn_down.weight", SEAM_DIM_HIDDEN, SEAM_DIM_INTERMEDIATE, false},
};

static const seam_config_neutral neutral[] = {
    {"attention_bias", SEAM_NEUTRAL_FALSE},
    {"qkv_bias", SEAM_NEUTRAL_FALSE},
    {"resid_pdrop", SEAM_NEUTRAL_ZERO},
    {"embd_pdrop", SEAM_NEUTRAL_ZERO},
};

static void window_set(seam_model_config *config, uint32_t window) {
    const bool acts = window != 0 && window < config->context_max;
    config->window = acts ? window : 0;
    config->window_layers = acts ? config->layers : 0;
}

static seam_status read_config(seam_model_config *config, const seam_config_reader *r) {
    uint32_t window = 0;
    SEAM_TRY(seam_config_check_neutral(r, neutral, sizeof neutral / sizeof neutral[0]));
    if (seam_config_field(r, "sliding_window") != NULL) {
        SEAM_TRY(seam_config_u32(&window, r, "sliding_window", 0));
    }
    window_set(config, window);
    return SEAM_OK;
}

static seam_status read_gguf(seam_model_config *config, const seam_gguf *gguf, seam_error *err) {
    static const char key[] = "phi3.attention.sliding_window";
    uint64_t window = 0;
    if (seam_gguf_has(gguf, key)) {
        SEAM_TRY(seam_gguf_get_u64(&window, gguf, key, err));
    }
    window_set(config, window < UINT32_MAX ? (uint32_t)window : 0);
    return SEAM_OK;
}

const seam_family seam_family_phi3 = {
    .name = "phi3",
    .class_name = "Phi3ForCausalLM",
    .layer = layer,
    .layer_count = sizeof layer / sizeof layer[0],
    .qkv = {"self_attn.qkv_proj"},
    .gate_up = {"mlp.gate_up_proj"},
    .lora_targets = SEAM_LORA_QKV | SEAM_LORA_O | SEAM_LORA_GATE_UP | SEAM_LORA_DOWN,
    .rope_forms = SEAM_ROPE_LONGROPE,
    .rms_eps = 1e-5F,
    .context_max = 4096,
    .original_context = 4096,
    .read_config = read_config,
    .read_gguf = read_gguf,
};
