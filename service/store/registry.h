/* The models that this server holds: frozen blocks, and heads where sessions may show labels,
 * loaded once, shared by all sessions. */
#ifndef SEAM_REGISTRY_H
#define SEAM_REGISTRY_H

#include <stdint.h>

#include "blocks.h"
#include "head.h"
#include "model_config.h"
#include "server_config.h"

typedef struct seam_model {
    const char *id; /* as ListModels names it */
    seam_blocks *blocks;
    seam_head *head; /* embedding, norm and head: with --allow-labels or --allow-text, else NULL */
    const seam_model_config *config; /* of blocks */
    uint64_t identity;               /* seam_model_config_identity */
    uint64_t weight_bytes;
} seam_model;

typedef struct seam_registry seam_registry;

/* Loads every model of the configuration; `loaded` is called before (model NULL) and after each.
 * Errors as seam_weights_open and seam_blocks_create, with the model's name before the text. */
seam_status seam_registry_create(seam_registry **ret_registry, seam_backend *backend,
                                 const seam_server_config *config,
                                 void (*loaded)(const seam_model_entry *entry,
                                                const seam_model *model, double seconds),
                                 seam_error *err);
void seam_registry_destroy(seam_registry *gift_registry);
uint32_t seam_registry_count(const seam_registry *registry);
const seam_model *seam_registry_at(const seam_registry *registry, uint32_t idx);
/* NULL: none of this name. */
const seam_model *seam_registry_find(const seam_registry *registry, const char *id);

#endif
