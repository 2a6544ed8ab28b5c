/* See field_option.h. */
#include "field_option.h"

#include <stddef.h>
#include <string.h>

#define PLACES_MAX 3 /* words of where it happened, before a field */

static const struct {
    const char *field, *option;
} fields[] = {
    /* of the config, as servers have it */
    {"config.name", "name"},
    {"config.model", "server-model"},
    {"config.fp8", "fp8"},
    {"config.topology", "topology"},
    {"config.consent", "consent"},
    {"config.resend_parameters", "resend-parameters"},
    {"config.front_layers", "front-blocks"},
    {"config.tail_layers", "tail-blocks"},
    {"config.lora_side", "lora-side"},
    {"config.lora.targets", "targets"},
    {"config.prefix.virtual_tokens", "prefix-tokens"},
    {"config.all_layer_bits", "all-layer-bits"},
    {"config.prefix_bits", "prefix-bits"},
    {"config.limits.rows_per_micro_max", "rows-max"},
    {"config.limits.sequences_per_micro_max", "batch"},
    {"config.limits.micros_per_step_max", "batch"},
    {"config.limits.pipeline_depth", "pipeline-depth"},
    {"config.codec.codec", "codec"},
    {"config.codec.codec_fwd_in", "codec-fwd-in"},
    {"config.codec.group", "group"},
    {"config.codec.entropy", "entropy"},
    {"config.codec.send_input_gradient", "elide-input-gradient"},
    {"config.codec.dictionary_rows_max", "dictionary-rows"},
    {"config.codec.aqsgd.cache_bytes_max", "cache-bytes"},
    {"config.codec.amaq.allocator", "allocator"},
    {"config.codec.amaq.granularity", "granularity"},
    {"config.codec.amaq.gate_signal", "gate-signal"},
    /* of the core's own options */
    {"codec", "codec"},
    {"codec_fwd_in", "codec-fwd-in"},
    {"entropy", "entropy"},
    {"allocator", "allocator"},
    {"granularity", "granularity"},
    {"cache_format", "cache-format"},
    {"bits_loss", "bits-loss"},
    {"clip", "clip"},
    {"gate_signal", "gate-signal"},
    {"schedule", "schedule"},
    {"lora_side", "lora-side"},
    {"rate", "rate"},
    {"rate_bits_min", "rate-bits-min"},
    {"effective_step", "at-step"}, /* of UpdateSession */
};

static const char *option_find(const char *field, size_t count) {
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (strlen(fields[i].field) == count && memcmp(fields[i].field, field, count) == 0) {
            return fields[i].option;
        }
    }
    return NULL;
}

const char *seam_field_option(const char *text) {
    const char *at = strstr(text, "--") == NULL ? text : NULL;
    for (int i = 0; at != NULL && i < PLACES_MAX; i++) {
        const char *const end = strstr(at, ": ");
        const char *const option = end != NULL ? option_find(at, (size_t)(end - at)) : NULL;
        if (option != NULL) {
            return option;
        }
        at = end != NULL ? end + 2 : NULL;
    }
    return NULL;
}
