/* An adapter as the module stacks that travel (codec/module_stack.h, WIRE.md 1.1): which sites it
 * has, and its parameters or gradients in memory of the host, module by module.
 *
 * LoRA has two sites, of all A and of all B, with the rank index as channel; a prefix one, a module
 * a layer, whose channels are the features of its key, then of its value.  Any thread that may use
 * the adapter. */
#ifndef SEAM_ADAPTER_MODULES_H
#define SEAM_ADAPTER_MODULES_H

#include "memory_plan.h"
#include "module_link.h"

/* The pairs of sites of an adapter that need not exist, as the site table has them; returns their
 * count.  LoRA or a prefix. */
uint32_t seam_adapter_sites(seam_module_pair ret_sites[SEAM_MODULE_LINK_SITES_MAX],
                            const seam_memory_blocks *blocks, const seam_adapter_config *config);
/* Blocks of this shape for seam_adapter_create, without weights: nothing goes through them. */
seam_status seam_adapter_blocks_create(seam_blocks **ret_blocks, seam_backend *backend,
                                       const seam_model_config *config, seam_error *err);

typedef struct seam_adapter_modules {
    seam_adapter *adapter;
    uint32_t site_count, module_count;
    seam_module_pair sites[SEAM_MODULE_LINK_SITES_MAX];
    seam_module_stack stacks[SEAM_MODULE_LINK_SITES_MAX]; /* their values are below */
    seam_module *modules;                                 /* (module_count), site by site */
    float *values;                                        /* all modules' */
    float *tensor;                                        /* one tensor of the adapter; prefixes */
} seam_adapter_modules;

/* What _create takes, for plans. */
size_t seam_adapter_modules_bytes(const seam_memory_blocks *blocks,
                                  const seam_adapter_config *config);
/* The adapter is borrowed.  SEAM_E_MEMORY, SEAM_E_LIMIT (too many rows to send). */
seam_status seam_adapter_modules_create(seam_adapter_modules *ret_modules, seam_adapter *adapter,
                                        const seam_memory_blocks *blocks);
void seam_adapter_modules_destroy(seam_adapter_modules *modules);
/* The adapter's parameters, or its accumulated gradients, to `values`, and back. */
seam_status seam_adapter_modules_fetch(seam_adapter_modules *modules, bool gradient,
                                       seam_stream *stream);
seam_status seam_adapter_modules_store(seam_adapter_modules *modules, bool gradient,
                                       seam_stream *stream);

#endif
