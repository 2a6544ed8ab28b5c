/* The adapter that the options of seam.h ask for, as the config's message: LoRA, a prefix or
 * the blocks in full.  Part
 * of session_options.c. */
#include "core.h"
#include "try.h"

seam_status seam_config_adapter_fill(seam_config_message *m, const seam_session_options *o,
                                     seam_error *err) {
    const bool lora = o->lora_rank != 0 || o->lora_alpha != 0.0f || o->lora_targets != 0 ||
                      o->lora_rslora || o->lora_dropout != 0.0f;
    if (o->full) {
        if (lora || o->prefix_tokens != 0) {
            return seam_error_set(err, SEAM_E_ARG,
                                  "full: a session trains its blocks in full, LoRA or a prefix");
        }
        if (o->fp8) {
            return seam_error_set(err, SEAM_E_ARG,
                                  "fp8: of frozen products; with full no product is frozen");
        }
        m->config.full = true;
        return SEAM_OK;
    }
    if (o->prefix_tokens != 0) {
        if (lora) {
            return seam_error_set(err, SEAM_E_ARG,
                                  "prefix_tokens: an adapter is LoRA or a prefix, not both");
        }
        m->prefix.virtual_tokens = o->prefix_tokens;
        m->prefix.seed = o->seed;
        m->config.prefix = &m->prefix;
        return SEAM_OK;
    }
    m->config.lora = &m->lora;
    m->lora.rank = o->lora_rank != 0 ? o->lora_rank : 16;
    m->lora.alpha = o->lora_alpha != 0.0f ? o->lora_alpha : 16.0f;
    m->lora.seed = o->seed;
    m->lora.rslora = o->lora_rslora;
    m->lora.dropout = o->lora_dropout;
    const uint32_t targets = o->lora_targets != 0 ? o->lora_targets : SEAM_TARGET_Q | SEAM_TARGET_V;
    if (targets >> 9 != 0) {
        return seam_error_set(err, SEAM_E_ARG, "lora_targets: unknown bits");
    }
    for (uint32_t i = 0; i < 9; i++) {
        if ((targets >> i & 1u) != 0) {
            m->targets[m->lora.n_targets++] = (Seam__V1__Projection)(i + 1);
        }
    }
    m->lora.targets = m->targets;
    return SEAM_OK;
}
