/* Stacks out of an adapter's tensors: see adapter_modules.h.  An adapter's tensors stand in the
 * order of the stacks already: layers, in a layer the targets, A before B. */
#include "adapter_modules.h"

#include <string.h>

#include "arena.h"
#include "blocks_internal.h"
#include "try.h"

static void shape_of(seam_blocks *ret_blocks, const seam_memory_blocks *blocks) {
    const seam_blocks_shape shape = {.config = blocks->model,
                                     .ops = blocks->ops,
                                     .layer_begin = blocks->layer_begin,
                                     .layer_end = blocks->layer_end};
    seam_blocks_shape_init(ret_blocks, &shape);
}

uint32_t seam_adapter_sites(seam_module_pair ret_sites[SEAM_MODULE_LINK_SITES_MAX],
                            const seam_memory_blocks *blocks, const seam_adapter_config *config) {
    seam_blocks b;
    shape_of(&b, blocks);
    if (config->kind == SEAM_ADAPTER_PREFIX) {
        ret_sites[0] = (seam_module_pair){.site = SEAM_SITE_PREFIX,
                                          .gradient_site = SEAM_SITE_PREFIX_GRADIENT,
                                          .rows = (uint64_t)config->prefix.tokens * b.layer_count,
                                          .channels = 2 * b.kv_cols};
        return 1;
    }
    seam_module_pair *const a = &ret_sites[0], *const out = &ret_sites[1];
    *a = (seam_module_pair){.site = SEAM_SITE_LORA_A,
                            .gradient_site = SEAM_SITE_LORA_A_GRADIENT,
                            .channels = config->lora.rank};
    *out = (seam_module_pair){.site = SEAM_SITE_LORA_B,
                              .gradient_site = SEAM_SITE_LORA_B_GRADIENT,
                              .channels = config->lora.rank};
    for (uint32_t t = 0; t < SEAM_LORA_TARGETS; t++) {
        if ((config->lora.targets >> t & 1) != 0) {
            const seam_lora_shape shape = seam_lora_target_shape(&b, t);
            a->rows += (uint64_t)shape.in * b.layer_count;
            out->rows += (uint64_t)shape.out * b.layer_count;
        }
    }
    return 2;
}

seam_status seam_adapter_blocks_create(seam_blocks **ret_blocks, seam_backend *backend,
                                       const seam_model_config *config, seam_error *err) {
    SEAM_TRY(seam_model_config_check(config, err));
    seam_blocks *const blocks = seam_mem_zalloc(1, sizeof *blocks);
    if (blocks == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "no memory for an adapter");
    }
    const seam_blocks_shape shape = {
        .config = config, .ops = seam_backend_ops(backend), .layer_end = config->layers};
    seam_blocks_shape_init(blocks, &shape);
    blocks->backend = backend;
    *ret_blocks = blocks;
    return SEAM_OK;
}

/* ---- in memory ---- */

typedef struct counts {
    size_t values, tensor;
    uint32_t modules;
} counts;

static counts counts_of(const seam_memory_blocks *blocks, const seam_adapter_config *config) {
    seam_module_pair sites[SEAM_MODULE_LINK_SITES_MAX];
    const uint32_t site_count = seam_adapter_sites(sites, blocks, config);
    const uint32_t layers = blocks->layer_end - blocks->layer_begin;
    counts ret = {.modules = layers};
    for (uint32_t i = 0; i < site_count; i++) {
        ret.values += (size_t)sites[i].rows * sites[i].channels;
    }
    if (config->kind == SEAM_ADAPTER_PREFIX) {
        ret.tensor = ret.values; /* it is one tensor */
    } else {
        ret.modules *= 2 * (uint32_t)__builtin_popcount(config->lora.targets);
    }
    return ret;
}

size_t seam_adapter_modules_bytes(const seam_memory_blocks *blocks,
                                  const seam_adapter_config *config) {
    const counts c = counts_of(blocks, config);
    return (c.values + c.tensor) * sizeof(float) + c.modules * sizeof(seam_module);
}

static void stacks_fill_prefix(seam_adapter_modules *m) {
    const uint32_t channels = m->sites[0].channels;
    const uint32_t tokens = (uint32_t)(m->sites[0].rows / m->module_count);
    for (uint32_t layer = 0; layer < m->module_count; layer++) {
        m->modules[layer] = (seam_module){.name = "prefix",
                                          .rows = tokens,
                                          .rank = channels,
                                          .order = SEAM_MODULE_ROWS,
                                          .values = m->values + (size_t)layer * tokens * channels};
    }
    m->stacks[0] = (seam_module_stack){
        .modules = m->modules, .module_count = m->module_count, .tensor_rows_max = SEAM_ROWS_MAX};
}

/* Tensor i of the adapter is module i / 2 of site i % 2. */
static void stacks_fill_lora(seam_adapter_modules *m) {
    const uint32_t half = m->module_count / 2;
    float *at = m->values;
    for (uint32_t i = 0; i < m->module_count; i++) {
        const seam_adapter_slot *slot = &m->adapter->slots[i];
        m->modules[i % 2 * half + i / 2] =
            (seam_module){.name = slot->is_b ? "lora_B" : "lora_A",
                          .rows = slot->is_b ? slot->rows : slot->cols,
                          .rank = slot->is_b ? slot->cols : slot->rows,
                          .order = slot->is_b ? SEAM_MODULE_ROWS : SEAM_MODULE_COLUMNS,
                          .values = at};
        at += (size_t)slot->rows * slot->cols;
    }
    for (uint32_t s = 0; s < 2; s++) {
        m->stacks[s] = (seam_module_stack){.modules = m->modules + (size_t)s * half,
                                           .module_count = half,
                                           .tensor_rows_max = SEAM_ROWS_MAX};
    }
}

seam_status seam_adapter_modules_create(seam_adapter_modules *ret_modules, seam_adapter *adapter,
                                        const seam_memory_blocks *blocks) {
    const counts c = counts_of(blocks, &adapter->config);
    seam_adapter_modules *const m = ret_modules;
    *m = (seam_adapter_modules){.adapter = adapter, .module_count = c.modules};
    m->site_count = seam_adapter_sites(m->sites, blocks, &adapter->config);
    m->modules = seam_mem_zalloc(c.modules, sizeof *m->modules);
    m->values = seam_mem_zalloc(c.values, sizeof(float));
    m->tensor = c.tensor > 0 ? seam_mem_zalloc(c.tensor, sizeof(float)) : NULL;
    if (m->modules == NULL || m->values == NULL || (c.tensor > 0 && m->tensor == NULL)) {
        seam_adapter_modules_destroy(m);
        return SEAM_E_MEMORY;
    }
    if (adapter->config.kind == SEAM_ADAPTER_PREFIX) {
        stacks_fill_prefix(m);
    } else {
        SEAM_ASSERT(c.modules == adapter->slot_count);
        stacks_fill_lora(m);
    }
    for (uint32_t s = 0; s < m->site_count; s++) {
        if (seam_module_stack_check(&m->stacks[s], NULL) != SEAM_OK) {
            seam_adapter_modules_destroy(m);
            return SEAM_E_LIMIT;
        }
    }
    return SEAM_OK;
}

void seam_adapter_modules_destroy(seam_adapter_modules *modules) {
    seam_mem_free(modules->tensor);
    seam_mem_free(modules->values);
    seam_mem_free(modules->modules);
    modules->tensor = modules->values = NULL;
    modules->modules = NULL;
}

/* A prefix's tensor has a token's layers side by side; the modules have them apart. */
static void prefix_repack(seam_adapter_modules *m, bool to_modules) {
    const uint32_t channels = m->sites[0].channels;
    const uint32_t tokens = m->modules[0].rows;
    for (uint32_t layer = 0; layer < m->module_count; layer++) {
        for (uint32_t token = 0; token < tokens; token++) {
            float *const whole = m->tensor + ((size_t)token * m->module_count + layer) * channels;
            float *const own = m->modules[layer].values + (size_t)token * channels;
            memcpy(to_modules ? own : whole, to_modules ? whole : own, channels * sizeof(float));
        }
    }
}

static float *tensor_values(seam_adapter_modules *m, uint32_t tensor_idx) {
    const uint32_t half = m->module_count / 2;
    return m->tensor != NULL ? m->tensor
                             : m->modules[tensor_idx % 2 * half + tensor_idx / 2].values;
}

seam_status seam_adapter_modules_fetch(seam_adapter_modules *modules, bool gradient,
                                       seam_stream *stream) {
    const seam_adapter *const adapter = modules->adapter;
    for (uint32_t i = 0; i < adapter->slot_count; i++) {
        float *const to = tensor_values(modules, i);
        SEAM_TRY(gradient ? seam_adapter_read_gradient(to, adapter, stream, i)
                          : seam_adapter_read(to, adapter, stream, i));
    }
    if (modules->tensor != NULL) {
        prefix_repack(modules, true);
    }
    return SEAM_OK;
}

seam_status seam_adapter_modules_store(seam_adapter_modules *modules, bool gradient,
                                       seam_stream *stream) {
    seam_adapter *const adapter = modules->adapter;
    if (modules->tensor != NULL) {
        prefix_repack(modules, false);
    }
    for (uint32_t i = 0; i < adapter->slot_count; i++) {
        const float *const from = tensor_values(modules, i);
        SEAM_TRY(gradient ? seam_adapter_write_gradient(adapter, stream, i, from)
                          : seam_adapter_write(adapter, stream, i, from));
    }
    return SEAM_OK;
}
