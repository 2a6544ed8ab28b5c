/* A micro-batch's pass through the blocks as one that a backend may keep and queue again in one
 * piece (ops.h, repeat).  Its ops' arguments follow from what is in the key and from the
 * activations that the kept passes belong to; draws for dropout differ with every micro-batch and
 * a prefix is put into a cache only where a slot begins, so that those have their ops queued one by
 * one; so do passes through blocks of a session's own, and those that a hook takes part in. */
#include <string.h>

#include "blocks_internal.h"
#include "try.h"

typedef struct pass_key {
    const void *x, *param, *copy, *gradients, *prefix;
    uint64_t kind;
    uint64_t rank, targets, prefix_tokens;
    uint64_t scale; /* bits of the factor */
} pass_key;
_Static_assert(sizeof(pass_key) <= SEAM_REPEAT_KEY_BYTES_MAX, "a key of the op table");

static pass_key key_of(const seam_adapter *adapter, const void *x, uint32_t kind) {
    pass_key key = {.x = x, .kind = kind};
    if (adapter != NULL) {
        const seam_adapter_config *config = &adapter->config;
        key.param = adapter->param;
        key.copy = adapter->copy;
        key.gradients = adapter->grad;
        key.prefix_tokens = seam_adapter_config_tokens(config);
        if (config->kind == SEAM_ADAPTER_LORA) {
            const float scale = seam_lora_scale(&config->lora);
            uint32_t bits = 0;
            memcpy(&bits, &scale, sizeof bits);
            key.rank = config->lora.rank;
            key.targets = config->lora.targets;
            key.scale = bits;
        }
    }
    return key;
}

seam_status seam_blocks_repeat(seam_activations *acts, const seam_repeat_pass *pass) {
    const seam_ops *ops = acts->blocks->ops;
    const seam_adapter *adapter = pass->adapter;
    const bool draws = pass->batch != NULL && pass->batch->draw != NULL && adapter != NULL &&
                       adapter->config.kind == SEAM_ADAPTER_LORA &&
                       adapter->config.lora.dropout > 0;
    const bool begins = pass->kind == SEAM_REPEAT_CACHED && seam_prefix_tokens(adapter) > 0;
    const bool own = adapter != NULL && adapter->own != NULL; /* matrices that no key names */
    const bool hooked = pass->batch != NULL && pass->batch->hook != NULL; /* its ops go by widths */
    if (ops->repeat == NULL || draws || begins || own || hooked) {
        return pass->run(pass->context);
    }
    pass_key key = key_of(adapter, pass->x, pass->kind);
    key.prefix = pass->batch != NULL ? pass->batch->prefix : NULL;
    const seam_repeat_args args = {.repeats = &acts->repeats,
                                   .key = &key,
                                   .key_bytes = sizeof key,
                                   .positions = pass->turns,
                                   .seq_begin = pass->batch != NULL ? pass->batch->seq_begin : NULL,
                                   .slots = pass->slots,
                                   .slot_positions = pass->slot_positions,
                                   .T = pass->rows,
                                   .C = acts->blocks->config.hidden,
                                   .S = pass->batch != NULL ? pass->batch->seq_count : 0,
                                   .kept_max = acts->repeats_max,
                                   .run = pass->run,
                                   .context = pass->context};
    return ops->repeat(pass->stream, &args);
}
