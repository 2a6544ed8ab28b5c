/* Which tensors an adapter has: LoRA's targets, their shapes, and their names in PEFT. */
#include <stdio.h>

#include "blocks_internal.h"
#include "peft_names.h"
#include "try.h"

seam_lora_shape seam_lora_target_shape(const seam_blocks *blocks, uint32_t target_idx) {
    const seam_model_config *c = &blocks->config;
    const uint32_t C = c->hidden;
    const uint32_t F = c->intermediate;
    const seam_lora_shape shapes[] = {
        {"self_attn.q_proj", C, blocks->q_cols, 0},
        {"self_attn.k_proj", C, blocks->kv_cols, blocks->q_cols},
        {"self_attn.v_proj", C, blocks->kv_cols, blocks->q_cols + blocks->kv_cols},
        {"self_attn.o_proj", blocks->q_cols, C, 0},
        {"mlp.gate_proj", C, F, 0},
        {"mlp.up_proj", C, F, F},
        {"mlp.down_proj", F, C, 0},
    };
    _Static_assert(sizeof shapes / sizeof shapes[0] == SEAM_LORA_TARGETS, "one shape a target");
    SEAM_ASSERT(target_idx < SEAM_LORA_TARGETS);
    return shapes[target_idx];
}

uint32_t seam_adapter_tensor_count(const seam_adapter *adapter) {
    return adapter->slot_count;
}

void seam_adapter_describe(seam_adapter_tensor *ret_tensor, const seam_adapter *adapter,
                           uint32_t tensor_idx) {
    SEAM_ASSERT(tensor_idx < adapter->slot_count);
    const seam_adapter_slot *slot = &adapter->slots[tensor_idx];
    ret_tensor->rows = slot->rows;
    ret_tensor->cols = slot->cols;
    if (adapter->config.prefix_tokens != 0) {
        (void)snprintf(ret_tensor->name, sizeof ret_tensor->name, "prompt_embeddings");
        return;
    }
    const int chars = snprintf(ret_tensor->name, sizeof ret_tensor->name,
                               "base_model.model.model.layers.%u.%s.lora_%c.weight",
                               adapter->blocks->layer_begin + slot->layer,
                               seam_lora_target_shape(adapter->blocks, slot->target_idx).module,
                               slot->is_b ? 'B' : 'A');
    SEAM_ASSERT(chars > 0 && (size_t)chars < sizeof ret_tensor->name);
}

const char *const seam_peft_module_names[SEAM_LORA_TARGETS] = {
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};

seam_layer_range seam_adapter_layers(const seam_adapter *adapter) {
    const seam_blocks *b = adapter->blocks;
    return (seam_layer_range){b->layer_begin, b->layer_begin + b->layer_count, b->config.layers};
}

seam_prefix_shape seam_adapter_prefix_shape(const seam_adapter *adapter) {
    const seam_blocks *b = adapter->blocks;
    return (seam_prefix_shape){b->config.kv_heads, b->kv_cols, b->layer_count};
}
