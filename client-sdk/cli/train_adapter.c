/* What of `seam train`'s options says which adapter is trained, and where.  Part of
 * train_options.c. */
#include <stdio.h>
#include <string.h>

#include "adapter_shape.h"
#include "train_options.h"
#include "try.h"

static const char *const target_names[] = {"q",  "k",    "v",   "o",      "gate",
                                           "up", "down", "qkv", "gate_up"};
#define TARGET_COUNT (sizeof target_names / sizeof *target_names)

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
    if (o->prefix_bits != 0.0f && seam_train_exchanges(o)) {
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
    if (o->full && seam_train_exchanges(o)) {
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

/* ---- Going on from an adapter ---- */

static seam_status differs(const seam_train_options *o, const char *option, const char *what,
                           seam_error *err) {
    return seam_error_set(err, SEAM_E_ARG, "--%s: not as --adapter %.300s, which is %s", option,
                          o->adapter, what);
}

/* A count that is given must be the adapter's. */
static seam_status count_take(uint32_t *count, const char *option, uint32_t of_adapter,
                              const seam_train_options *o, seam_error *err) {
    if (*count != 0 && *count != of_adapter) {
        return seam_error_set(err, SEAM_E_ARG, "--%s: is %u, --adapter %.300s has %u", option,
                              *count, o->adapter, of_adapter);
    }
    *count = of_adapter;
    return SEAM_OK;
}

static void targets_text(char ret_text[SEAM_TARGETS_TEXT_BYTES], uint32_t targets) {
    size_t used = 0;
    ret_text[0] = '\0';
    for (uint32_t i = 0; i < TARGET_COUNT; i++) {
        if ((targets >> i & 1u) != 0) {
            used += (size_t)snprintf(ret_text + used, SEAM_TARGETS_TEXT_BYTES - used, "%s%s",
                                     used > 0 ? "," : "", target_names[i]);
        }
    }
}

static seam_status lora_take(seam_train_options *o, const seam_session_options *shape,
                             seam_error *err) {
    uint32_t targets = shape->lora_targets;
    char text[SEAM_TARGETS_TEXT_BYTES];
    targets_text(text, targets);
    SEAM_TRY(count_take(&o->rank, "rank", shape->lora_rank, o, err));
    if (o->alpha != 0.0f && o->alpha != shape->lora_alpha) {
        return seam_error_set(err, SEAM_E_ARG, "--alpha: is %g, --adapter %.300s has %g",
                              (double)o->alpha, o->adapter, (double)shape->lora_alpha);
    }
    if (o->targets != NULL) {
        SEAM_TRY(seam_targets_parse(&targets, o->targets, err));
    }
    if (targets != shape->lora_targets) {
        return seam_error_set(err, SEAM_E_ARG, "--targets: is %.60s, --adapter %.300s has %s",
                              o->targets, o->adapter, text);
    }
    if (o->rslora && !shape->lora_rslora) {
        return differs(o, "rslora", "scaled by alpha / rank", err);
    }
    o->rslora = shape->lora_rslora;
    o->alpha = shape->lora_alpha;
    memcpy(o->targets_of_adapter, text, sizeof text);
    o->targets = o->targets_of_adapter;
    return SEAM_OK;
}

json_t *seam_train_adapter_json(const seam_train_options *options) {
    const seam_train_options *const o = options;
    if (o->full) {
        return json_pack("{s:b,s:i,s:i}", "full", 1, "front_blocks", (int)o->front_blocks,
                         "tail_blocks", (int)o->tail_blocks);
    }
    if (o->prefix_tokens != 0) {
        return json_pack("{s:i}", "prefix_tokens", (int)o->prefix_tokens);
    }
    return json_pack("{s:i,s:f,s:s,s:b}", "rank", (int)o->rank, "alpha", (double)o->alpha,
                     "targets", o->targets, "rslora", (int)o->rslora);
}

static bool count_read(uint32_t *ret_count, const json_t *stated, const char *name) {
    const json_int_t value = json_integer_value(json_object_get(stated, name));
    *ret_count = value >= 0 && value <= UINT32_MAX ? (uint32_t)value : 0;
    return (json_int_t)*ret_count == value;
}

/* What seam_train_adapter_json has written. */
static seam_status stated_read(seam_session_options *shape, const json_t *stated, seam_error *err) {
    const char *const targets = json_string_value(json_object_get(stated, "targets"));
    const bool counts = count_read(&shape->lora_rank, stated, "rank") &&
                        count_read(&shape->prefix_tokens, stated, "prefix_tokens") &&
                        count_read(&shape->front_blocks, stated, "front_blocks") &&
                        count_read(&shape->tail_blocks, stated, "tail_blocks");
    shape->full = json_is_true(json_object_get(stated, "full"));
    shape->lora_alpha = (float)json_number_value(json_object_get(stated, "alpha"));
    shape->lora_rslora = json_is_true(json_object_get(stated, "rslora"));
    const bool is_lora = shape->lora_rank != 0 && targets != NULL;
    if (!counts || shape->full + (shape->prefix_tokens != 0) + is_lora != 1) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              "--resume: command.json: adapter is none of LoRA, a prefix or "
                              "trained layers");
    }
    return is_lora ? seam_targets_parse(&shape->lora_targets, targets, err) : SEAM_OK;
}

static seam_status shape_read(seam_session_options *shape, const seam_train_options *o,
                              seam_error *err) {
    if (o->adapter_stated != NULL) {
        return stated_read(shape, o->adapter_stated, err);
    }
    SEAM_TRY(seam_cli_path_check("adapter", o->adapter, err));
    return seam_adapter_shape(shape, o->adapter, err);
}

seam_status seam_train_adapter_take(seam_train_options *options, seam_error *err) {
    seam_train_options *const o = options;
    seam_session_options shape = SEAM_SESSION_OPTIONS_INIT;
    if (o->adapter == NULL) {
        return SEAM_OK;
    }
    SEAM_TRY(shape_read(&shape, o, err));
    const bool lora = !shape.full && shape.prefix_tokens == 0;
    const char *const kind = lora ? "LoRA" : shape.full ? "trained layers" : "a prefix";
    if (o->full && !shape.full) {
        return differs(o, "full", kind, err);
    }
    if (o->prefix_tokens != 0 && shape.prefix_tokens == 0) {
        return differs(o, "prefix-tokens", kind, err);
    }
    const char *const of_lora = o->rank != 0         ? "rank"
                                : o->alpha != 0.0f   ? "alpha"
                                : o->targets != NULL ? "targets"
                                : o->rslora          ? "rslora"
                                                     : NULL;
    if (of_lora != NULL && !lora) {
        return differs(o, of_lora, kind, err);
    }
    if (lora) {
        return lora_take(o, &shape, err);
    }
    if (shape.prefix_tokens != 0) {
        return count_take(&o->prefix_tokens, "prefix-tokens", shape.prefix_tokens, o, err);
    }
    o->full = true;
    const bool has_blocks = o->front_blocks != 0 || o->tail_blocks != 0; /* then 0 is a count */
    if (has_blocks &&
        (o->front_blocks != shape.front_blocks || o->tail_blocks != shape.tail_blocks)) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--front-blocks, --tail-blocks: are %u and %u, --adapter %.300s has "
                              "%u and %u",
                              o->front_blocks, o->tail_blocks, o->adapter, shape.front_blocks,
                              shape.tail_blocks);
    }
    o->front_blocks = shape.front_blocks;
    o->tail_blocks = shape.tail_blocks;
    return SEAM_OK;
}

seam_status seam_targets_parse(uint32_t *ret_targets, const char *text, seam_error *err) {
    uint32_t targets = 0;
    for (const char *at = text; *at != '\0';) {
        const size_t count = strcspn(at, ",");
        uint32_t bit = 0;
        while (bit < TARGET_COUNT &&
               (strlen(target_names[bit]) != count || memcmp(at, target_names[bit], count) != 0)) {
            bit++;
        }
        if (bit == TARGET_COUNT) {
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
