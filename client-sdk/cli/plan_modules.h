/* What of an adapter travels with topology adapter_exchange, before there is one: for plan_wire.c,
 * plan_server.c. */
#ifndef SEAM_PLAN_MODULES_H
#define SEAM_PLAN_MODULES_H

#include "adapter_modules.h"
#include "module_link.h"

/* The pairs of module sites, as the server's site table has them; returns their count.  LoRA or a
 * prefix of all of the model's blocks. */
uint32_t seam_plan_modules(seam_module_pair ret_pairs[SEAM_MODULE_LINK_SITES_MAX],
                           const seam_memory_blocks *blocks, const seam_adapter_config *adapter);

#endif
