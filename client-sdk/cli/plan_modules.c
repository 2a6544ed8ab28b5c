/* See plan_modules.h. */
#include "plan_modules.h"

uint32_t seam_plan_modules(seam_module_pair ret_pairs[SEAM_MODULE_LINK_SITES_MAX],
                           const seam_memory_blocks *blocks, const seam_adapter_config *adapter) {
    seam_adapter_site sites[SEAM_ADAPTER_SITES_MAX];
    const uint32_t count = seam_adapter_sites(sites, blocks, adapter);
    for (uint32_t i = 0; i < count; i++) {
        ret_pairs[i] = (seam_module_pair){.site = (uint16_t)sites[i].site,
                                          .gradient_site = (uint16_t)sites[i].gradient_site,
                                          .rows = sites[i].rows,
                                          .channels = sites[i].channels};
    }
    return count;
}
