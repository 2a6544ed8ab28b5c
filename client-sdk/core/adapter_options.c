/* The adapter that the options of seam.h ask for, as the config's message: LoRA, a prefix or the
 * blocks in full; where it is, for blocks may be the caller's, and how the server goes through its
 * own.  Part of session_options.c. */
#include "core.h"
#include "try.h"

#define ALL_LAYER_STEPS_DEFAULT 200u

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

void seam_config_training_read(seam_training_facts *ret_facts,
                               const Seam__V1__SessionConfig *message) {
    static const char *const schedules[] = {"constant", "constant", "linear", "cosine"};
    const Seam__V1__LoraConfig *const lora = message->lora;
    const Seam__V1__OptimizerConfig *const optimizer = message->optimizer;
    const uint32_t side = (uint32_t)message->lora_side;
    seam_training_facts facts = {.front_blocks = message->front_layers,
                                 .tail_blocks = message->tail_layers,
                                 .rows_per_micro_max = message->limits->rows_per_micro_max,
                                 .sequences_per_micro_max =
                                     message->limits->sequences_per_micro_max};
    const bool has_blocks = facts.front_blocks > 0 || facts.tail_blocks > 0;
    facts.client_trains =
        has_blocks && !message->full && side != SEAM__V1__LORA_SIDE__LORA_SIDE_SERVER;
    facts.server_trains = side != SEAM__V1__LORA_SIDE__LORA_SIDE_CLIENT;
    if (lora != NULL) {
        facts.lora_rank = lora->rank;
        facts.lora_alpha = lora->alpha;
        facts.lora_dropout = lora->dropout;
        facts.lora_rslora = lora->rslora;
        facts.lora_seed = lora->seed;
        for (size_t i = 0; i < lora->n_targets; i++) {
            const uint32_t target = (uint32_t)lora->targets[i];
            facts.lora_targets |= target >= 1 && target <= 9 ? 1u << (target - 1) : 0;
        }
    }
    if (message->prefix != NULL) {
        facts.prefix_tokens = message->prefix->virtual_tokens;
        facts.prefix_seed = message->prefix->seed;
    }
    if (optimizer != NULL) {
        const uint32_t schedule = (uint32_t)optimizer->schedule;
        facts.lr = optimizer->lr;
        facts.adam_beta1 = optimizer->beta1;
        facts.adam_beta2 = optimizer->beta2;
        facts.adam_eps = optimizer->eps;
        facts.weight_decay = optimizer->weight_decay;
        facts.clip_norm = optimizer->clip_norm;
        facts.schedule = schedules[schedule < 4 ? schedule : 0];
        facts.warmup_steps = optimizer->warmup_steps;
        facts.total_steps = optimizer->total_steps;
    }
    *ret_facts = facts;
}

static seam_status split_fill(Seam__V1__SessionConfig *config, const seam_session_options *o,
                              seam_error *err) {
    static const char *const sides[] = {"server", "client", "both"};
    int side = 0;
    config->front_layers = o->front_blocks;
    config->tail_layers = o->tail_blocks;
    if (o->front_blocks == 0 && o->tail_blocks == 0 && o->lora_side == NULL) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_config_pick(&side, "lora_side", o->lora_side, sides, 3, o->full ? 0 : 2, err));
    if (o->full && side != 0) {
        return seam_error_set(
            err, SEAM_E_ARG,
            "lora_side: %s, but in full fine-tuning the caller's blocks are frozen", sides[side]);
    }
    if (o->prefix_tokens != 0 && side != 2) {
        return seam_error_set(err, SEAM_E_ARG,
                              "lora_side: %s, but a prefix is of all blocks, at both ends",
                              sides[side]);
    }
    config->lora_side = (Seam__V1__LoraSide)(side + 1);
    return SEAM_OK;
}

seam_status seam_config_blocks_fill(Seam__V1__SessionConfig *config, const seam_session_options *o,
                                    seam_error *err) {
    const bool given = o->steps_to_target > 0 && o->steps_to_target <= UINT32_MAX;
    const uint32_t steps = given ? (uint32_t)o->steps_to_target : ALL_LAYER_STEPS_DEFAULT;
    config->recompute = o->recompute;
    config->fp8 = o->fp8;
    config->all_layer_bits = o->all_layer_bits;
    config->all_layer_steps = o->all_layer_steps;
    if (o->all_layer_bits != 0.0f && o->all_layer_steps == 0) {
        config->all_layer_steps = steps;
    }
    config->prefix_bits = o->prefix_bits;
    config->prefix_steps = o->prefix_steps;
    if (o->prefix_bits != 0.0f && o->prefix_steps == 0) {
        config->prefix_steps = steps;
    }
    return split_fill(config, o, err);
}
