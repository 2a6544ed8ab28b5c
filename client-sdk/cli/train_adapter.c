/* What of `seam train`'s options says which adapter is trained, and where.  Part of
 * train_options.c. */
#include <string.h>

#include "train_options.h"
#include "try.h"

seam_status seam_train_adapter_check(const seam_train_options *options, seam_error *err) {
    const seam_train_options *const o = options;
    const bool lora =
        o->rank != 0 || o->alpha != 0.0f || o->targets != NULL || o->rslora || o->dropout != 0.0f;
    if (o->full && o->prefix_tokens != 0) {
        return seam_error_set(err, SEAM_E_ARG, "--full and --prefix-tokens: one of the two");
    }
    if (o->prefix_bits != 0.0f && o->prefix_tokens == 0) {
        return seam_error_set(err, SEAM_E_ARG, "--prefix-bits: only with --prefix-tokens");
    }
    if (o->prefix_bits != 0.0f && o->topology != NULL &&
        strcmp(o->topology, "adapter_exchange") == 0) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--prefix-bits: with topology adapter_exchange the prefix travels, "
                              "and --codec amaq quantizes it (with --resend-parameters)");
    }
    if (o->full && o->fp8) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--fp8: of frozen products; with --full no product is frozen");
    }
    const bool has_blocks = o->front_blocks != 0 || o->tail_blocks != 0;
    if (o->prefix_tokens != 0 && o->lora_side != NULL && strcmp(o->lora_side, "both") != 0) {
        return seam_error_set(
            err, SEAM_E_ARG,
            "--lora-side: with --prefix-tokens both ends have their blocks' part, "
            "for a prefix is of all blocks");
    }
    if (o->full && o->lora_side != NULL && strcmp(o->lora_side, "server") != 0) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--lora-side: with --full the blocks that are here are frozen");
    }
    if (o->lora_side != NULL && !has_blocks) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--lora-side: without --front-blocks or --tail-blocks all of LoRA is "
                              "the server's");
    }
    if (o->full && o->topology != NULL && strcmp(o->topology, "adapter_exchange") == 0) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--full: with topology adapter_exchange what is trained is here");
    }
    if (lora && (o->full || o->prefix_tokens != 0)) {
        return seam_error_set(err, SEAM_E_ARG,
                              "%s: --rank, --alpha, --targets, --rslora and --dropout are LoRA's; "
                              "an adapter is one of the two",
                              o->full ? "--full" : "--prefix-tokens");
    }
    return SEAM_OK;
}

seam_status seam_targets_parse(uint32_t *ret_targets, const char *text, seam_error *err) {
    static const char *const names[] = {"q", "k", "v", "o", "gate", "up", "down", "qkv", "gate_up"};
    const uint32_t name_count = sizeof names / sizeof *names;
    uint32_t targets = 0;
    for (const char *at = text; *at != '\0';) {
        const size_t count = strcspn(at, ",");
        uint32_t bit = 0;
        while (bit < name_count &&
               (strlen(names[bit]) != count || memcmp(at, names[bit], count) != 0)) {
            bit++;
        }
        if (bit == name_count) {
            return seam_error_set(err, SEAM_E_ARG,
                                  "--targets: '%.*s' is not of "
                                  "q,k,v,o,gate,up,down,qkv,gate_up",
                                  (int)count, at);
        }
        targets |= 1u << bit;
        at += count + (at[count] == ',');
    }
    if (targets == 0) {
        return seam_error_set(err, SEAM_E_ARG, "--targets: empty");
    }
    *ret_targets = targets;
    return SEAM_OK;
}

uint32_t seam_targets_default(const seam_model_facts *facts) {
    const uint32_t usual = facts->lora_targets & (SEAM_TARGET_Q | SEAM_TARGET_V);
    return usual != 0 ? usual : facts->lora_targets & SEAM_TARGET_QKV;
}
