/* Weight files are open only while their blocks are packed. */
#include "registry.h"

#include <string.h>

#include "arena.h"
#include "host.h"
#include "try.h"
#include "weights.h"

struct seam_registry {
    uint32_t count;
    seam_model models[SEAM_MODELS_MAX];
};

static seam_status model_load(seam_model *ret_model, const seam_model_entry *entry,
                              seam_backend *backend, bool with_head, seam_error *err) {
    seam_weights *weights = NULL;
    seam_blocks *blocks = NULL;
    seam_head *head = NULL;
    SEAM_TRY(seam_weights_open(&weights, entry->path, err));
    const uint32_t layers = seam_weights_config(weights)->layers;
    seam_status st = seam_blocks_create(&blocks, backend, weights, 0, layers, err);
    if (st == SEAM_OK && with_head) {
        st = seam_head_create(&head, backend, weights, err);
    }
    seam_weights_close(weights);
    if (st != SEAM_OK) {
        seam_blocks_destroy(blocks);
        return st;
    }
    ret_model->id = entry->id;
    ret_model->blocks = blocks;
    ret_model->head = head;
    ret_model->config = seam_blocks_config(blocks);
    ret_model->identity = seam_model_config_identity(ret_model->config);
    ret_model->weight_bytes =
        seam_blocks_bytes(blocks) + (head != NULL ? seam_head_bytes(head) : 0);
    return SEAM_OK;
}

seam_status seam_registry_create(seam_registry **ret_registry, seam_backend *backend,
                                 const seam_server_config *config,
                                 void (*loaded)(const seam_model_entry *entry,
                                                const seam_model *model, double seconds),
                                 seam_error *err) {
    seam_registry *registry = seam_mem_zalloc(1, sizeof *registry);
    if (registry == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "models: out of memory");
    }
    for (uint32_t i = 0; i < config->model_count; i++) {
        const seam_model_entry *entry = &config->models[i];
        const uint64_t begin_ms = seam_host_now_ms();
        loaded(entry, NULL, 0);
        const bool with_head = config->allow_labels || config->allow_text;
        const seam_status st = model_load(&registry->models[i], entry, backend, with_head, err);
        if (st != SEAM_OK) {
            seam_registry_destroy(registry);
            return seam_error_prefix(err, st, "model %s", entry->id);
        }
        registry->count++;
        loaded(entry, &registry->models[i], (double)(seam_host_now_ms() - begin_ms) / 1000.0);
    }
    *ret_registry = registry;
    return SEAM_OK;
}

void seam_registry_destroy(seam_registry *gift_registry) {
    if (gift_registry == NULL) {
        return;
    }
    for (uint32_t i = gift_registry->count; i-- > 0;) {
        seam_head_destroy(gift_registry->models[i].head);
        seam_blocks_destroy(gift_registry->models[i].blocks);
    }
    seam_mem_free(gift_registry);
}

uint32_t seam_registry_count(const seam_registry *registry) {
    return registry->count;
}

const seam_model *seam_registry_at(const seam_registry *registry, uint32_t idx) {
    SEAM_ASSERT(idx < registry->count);
    return &registry->models[idx];
}

const seam_model *seam_registry_find(const seam_registry *registry, const char *id) {
    for (uint32_t i = 0; i < registry->count; i++) {
        if (strcmp(registry->models[i].id, id) == 0) {
            return &registry->models[i];
        }
    }
    return NULL;
}
