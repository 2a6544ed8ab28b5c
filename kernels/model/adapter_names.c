/* Which tensors an adapter has: LoRA's targets, their shapes, and their names in PEFT. */
#include <stdio.h>
#include <string.h>

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
        {"self_attn.qkv_proj", C, blocks->qkv_cols, 0},
        {"mlp.gate_up_proj", C, 2 * F, 0},
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
    ret_tensor->is_vector = slot->module != NULL && slot->rows == 1;
    if (adapter->config.kind == SEAM_ADAPTER_PREFIX) {
        (void)snprintf(ret_tensor->name, sizeof ret_tensor->name, "prompt_embeddings");
        return;
    }
    const uint32_t layer = adapter->blocks->layer_begin + slot->layer;
    if (slot->module != NULL) {
        (void)snprintf(ret_tensor->name, sizeof ret_tensor->name, "model.layers.%u.%s.%s", layer,
                       slot->module, slot->part);
        return;
    }
    const int chars = snprintf(ret_tensor->name, sizeof ret_tensor->name,
                               "base_model.model.model.layers.%u.%s.lora_%c.weight", layer,
                               seam_lora_target_shape(adapter->blocks, slot->target_idx).module,
                               slot->is_b ? 'B' : 'A');
    SEAM_ASSERT(chars > 0 && (size_t)chars < sizeof ret_tensor->name);
}

const char *const seam_peft_module_names[SEAM_LORA_TARGETS] = {
    "q_proj",  "k_proj",    "v_proj",   "o_proj",      "gate_proj",
    "up_proj", "down_proj", "qkv_proj", "gate_up_proj"};

uint32_t seam_lora_targets_of(const seam_model_config *config) {
    const seam_family *family = seam_family_find(config->architecture);
    SEAM_ASSERT(family != NULL);
    return family->lora_targets;
}

/* "q, k, ...". */
static void targets_text(char ret[96], uint32_t targets) {
    static const char *const names[SEAM_LORA_TARGETS] = {"q",  "k",    "v",   "o",      "gate",
                                                         "up", "down", "qkv", "gate_up"};
    ret[0] = '\0';
    for (uint32_t t = 0; t < SEAM_LORA_TARGETS; t++) {
        if ((targets >> t & 1) != 0) {
            const size_t used = strlen(ret);
            (void)snprintf(ret + used, 96 - used, "%s%s", used == 0 ? "" : ", ", names[t]);
        }
    }
}

seam_status seam_lora_targets_check(uint32_t targets, const seam_model_config *config,
                                    const char *field, seam_error *err) {
    const uint32_t known = seam_lora_targets_of(config);
    if (targets != 0 && (targets & ~known) == 0) {
        return SEAM_OK;
    }
    char got[96], want[96];
    targets_text(got, targets);
    targets_text(want, known);
    return seam_error_set(err, SEAM_E_ARG,
                          "%s: %s: must be at least one of %s, which %s models have", field,
                          targets == 0 ? "none" : got, want, config->architecture);
}

seam_layer_range seam_adapter_layers(const seam_adapter *adapter) {
    const seam_blocks *b = adapter->blocks;
    return (seam_layer_range){b->layer_begin, b->layer_begin + b->layer_count, b->config.layers,
                              &b->config};
}

seam_prefix_shape seam_adapter_prefix_shape(const seam_adapter *adapter) {
    const seam_blocks *b = adapter->blocks;
    return (seam_prefix_shape){b->config.kv_heads, b->kv_cols, b->layer_count};
}
