/* What of `seam train`'s options does not go together, said in the options' own names before
 * anything is loaded.  Part of train_options.c.  The rest is judged by the core and the server
 * (core/session_options.c, service/session/session_config.c).  Read next: config_range.h. */
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "config_range.h"
#include "dictionary.h"
#include "gates.h"
#include "rate.h"
#include "step_key.h"
#include "train_options.h"
#include "try.h"

#define CACHE_BYTES_MAX (UINT64_C(1) << 60) /* so that sums of caches do not wrap */

#define WIDTHS_FIXED "affine, tensor, channel, group, aqsgd"

/* Options that only these codecs have. */
static const struct {
    const char *option, *codecs;
} codec_options[] = {
    {"bits", WIDTHS_FIXED},    {"group", "group"},        {"cache-bytes", "aqsgd"},
    {"cache-format", "aqsgd"}, {"cache-dir", "aqsgd"},    {"cache-bits", "aqsgd"},
    {"target", "amaq"},        {"bits-min", "amaq"},      {"bits-max", "amaq"},
    {"bits-start", "amaq"},    {"beta", "amaq"},          {"bits-lr", "amaq"},
    {"beta-after", "amaq"},    {"bits-lr-after", "amaq"}, {"gate-alpha", "amaq"},
    {"bits-loss", "amaq"},     {"clip", "amaq"},          {"gate-signal", "amaq"},
    {"allocator", "amaq"},     {"granularity", "amaq"},   {"steps-to-target", "amaq"},
    {"rate", "amaq"},          {"rate-bits-min", "amaq"}, {"rate-bits-max", "amaq"},
    {"step-seconds", "amaq"},  {"alloc-lag", "amaq"},
};

/* Is the word one of the list? */
static bool is_listed(const char *list, const char *word) {
    const size_t count = strlen(word);
    for (const char *at = list; (at = strstr(at, word)) != NULL; at += count) {
        const bool begins = at == list || at[-1] == ' ';
        if (begins && (at[count] == '\0' || at[count] == ',')) {
            return true;
        }
    }
    return false;
}

static seam_status option_refuse(const char *option, const char *codec, const char *codecs,
                                 seam_error *err) {
    const char *hint = "";
    if (strcmp(option, "bits") == 0 && strcmp(codec, "amaq") == 0) {
        hint = "; amaq's mean width is --target";
    } else if (strcmp(option, "target") == 0 && is_listed(WIDTHS_FIXED, codec)) {
        hint = "; this one's width is --bits";
    }
    return seam_error_set(err, SEAM_E_ARG, "--%s: with --codec %s it has no use (of %s)%s", option,
                          codec, codecs, hint);
}

/* Options that only gates have. */
static seam_status allocator_check(const seam_train_options *o, const json_t *given,
                                   seam_error *err) {
    static const char *const gates[] = {"beta",       "bits-lr",   "beta-after", "bits-lr-after",
                                        "gate-alpha", "bits-loss", "clip"};
    if (o->allocator == NULL || strcmp(o->allocator, "waterfill") != 0) {
        return SEAM_OK;
    }
    for (size_t i = 0; i < sizeof gates / sizeof *gates; i++) {
        if (json_object_get(given, gates[i]) != NULL) {
            return seam_error_set(err, SEAM_E_ARG,
                                  "--%s: with --allocator waterfill it has no use (of gates)",
                                  gates[i]);
        }
    }
    return SEAM_OK;
}

/* given: what the command line has, before defaults. */
static seam_status codec_check(const seam_train_options *o, const json_t *given, seam_error *err) {
    const char *const codec = seam_train_codec(o);
    for (size_t i = 0; i < sizeof codec_options / sizeof *codec_options; i++) {
        const char *const option = codec_options[i].option;
        /* The layers' own gates go by it as well. */
        const bool own = o->all_layer_bits != 0.0f || o->prefix_bits != 0.0f;
        const bool layers = own && strcmp(option, "steps-to-target") == 0;
        if (json_object_get(given, option) != NULL && !layers &&
            !is_listed(codec_options[i].codecs, codec)) {
            return option_refuse(option, codec, codec_options[i].codecs, err);
        }
    }
    SEAM_TRY(allocator_check(o, given, err));
    if (o->dictionary_rows != 0 && !o->dictionary) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--dictionary-rows: has no use without --dictionary "
                              "on");
    }
    const bool quantized = o->cache_format != NULL && strcmp(o->cache_format, "quantized") == 0;
    if (o->cache_bits != 0 && !quantized) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--cache-bits: has no use without --cache-format quantized");
    }
    if (o->prefix_steps != 0 && o->prefix_bits == 0.0f) {
        return seam_error_set(err, SEAM_E_ARG, "--prefix-steps: has no use without --prefix-bits");
    }
    if (o->all_layer_steps != 0 && o->all_layer_bits == 0.0f) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--all-layer-steps: has no use without --all-layer-bits");
    }
    return SEAM_OK;
}

/* What gates.h says of the numbers, in the options' names. */
static seam_status gates_check(const seam_gates_config *range, float alpha, seam_error *err) {
    seam_gates_config gates = *range;
    gates.alpha = 1.0f;
    gates.loss = SEAM_BITS_LOSS_L2;
    gates.eps = 1.0f;
    seam_status st = seam_gates_config_check(&gates, err);
    if (st != SEAM_OK) {
        return seam_error_prefix(err, st, "--bits-min, --bits-max, --bits-start");
    }
    gates.alpha = alpha != 0.0f ? alpha : gates.alpha;
    st = seam_gates_config_check(&gates, err);
    return st == SEAM_OK ? SEAM_OK : seam_error_prefix(err, st, "--gate-alpha");
}

static seam_status target_check(const seam_train_options *o, seam_error *err) {
    const float target = o->target != 0.0f ? o->target : 4.0f;
    seam_gates_config range = {
        .bits_min = o->bits_min, .bits_max = o->bits_max, .bits_start = o->bits_start};
    const int count = (o->bits_min != 0.0f) + (o->bits_max != 0.0f) + (o->bits_start != 0.0f);
    if (count != 0 && count != 3) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--bits-min, --bits-max and --bits-start go together");
    }
    if (count == 0 && !seam_gates_preset(&range, target)) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--target: %g has no preset (4 and 3 have one): give --bits-min, "
                              "--bits-max and --bits-start with it",
                              (double)target);
    }
    SEAM_TRY(gates_check(&range, o->gate_alpha, err));
    if (!(target > range.bits_min && target < range.bits_start)) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--target: %g is not between --bits-min %g and --bits-start %g",
                              (double)target, (double)range.bits_min, (double)range.bits_start);
    }
    return SEAM_OK;
}

/* Bounds of the codecs, codec_plan.c's. */
static seam_status counts_check(const seam_train_options *o, seam_error *err) {
    const struct {
        const char *option;
        uint32_t value, max;
    } counts[] = {{"bits", o->bits, SEAM_BITS_MAX},
                  {"cache-bits", o->cache_bits, SEAM_BITS_MAX},
                  {"dictionary-rows", o->dictionary_rows, SEAM_DICTIONARY_ROWS_MAX}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        if (counts[i].value > counts[i].max) {
            return seam_error_set(err, SEAM_E_ARG, "--%s: %u is not in 1..%u", counts[i].option,
                                  counts[i].value, counts[i].max);
        }
    }
    if (o->cache_bytes > CACHE_BYTES_MAX) {
        return seam_error_set(err, SEAM_E_ARG, "--cache-bytes: %llu is more than %llu",
                              (unsigned long long)o->cache_bytes,
                              (unsigned long long)CACHE_BYTES_MAX);
    }
    if (!(o->step_seconds <= SEAM_RATE_STEP_SECONDS_MAX)) {
        return seam_error_set(err, SEAM_E_ARG, "--step-seconds: %g is more than %g",
                              (double)o->step_seconds, (double)SEAM_RATE_STEP_SECONDS_MAX);
    }
    return SEAM_OK;
}

seam_status seam_train_ranges_check(const seam_train_options *options, seam_error *err) {
    const seam_train_options *const o = options;
    const struct {
        const char *option, *field;
        double value; /* 0: not given, or of those that may be 0 */
    } numbers[] = {
        {"--rank", "lora.rank", o->rank},
        {"--alpha", "lora.alpha", (double)o->alpha},
        {"--dropout", "lora.dropout", (double)o->dropout},
        {"--prefix-tokens", "prefix.virtual_tokens", o->prefix_tokens},
        {"--lr", "optimizer.lr", (double)o->lr},
        {"--adam-beta1", "optimizer.beta1", (double)o->adam_beta1},
        {"--adam-beta2", "optimizer.beta2", (double)o->adam_beta2},
        {"--adam-eps", "optimizer.eps", (double)o->adam_eps},
        {"--weight-decay", "optimizer.weight_decay", (double)o->weight_decay},
        {"--clip-norm", "optimizer.clip_norm", (double)o->clip_norm},
        {"--beta", "codec.amaq.beta", (double)o->beta},
        {"--beta-after", "codec.amaq.beta", (double)o->beta_after},
        {"--bits-lr", "codec.amaq.bits_lr", (double)o->bits_lr},
        {"--bits-lr-after", "codec.amaq.bits_lr", (double)o->bits_lr_after},
        {"--alloc-lag", "codec.amaq.alloc_lag_steps", o->alloc_lag},
        {"--all-layer-steps", "all_layer_steps", o->all_layer_steps},
        {"--prefix-steps", "prefix_steps", o->prefix_steps},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (numbers[i].value != 0.0) {
            SEAM_TRY(seam_config_range_check(numbers[i].option, numbers[i].field, numbers[i].value,
                                             err));
        }
    }
    const bool falls = o->schedule != NULL && strcmp(o->schedule, "constant") != 0;
    if (falls && o->warmup >= o->steps) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--warmup: %llu steps leave --schedule %.40s none of --steps %u",
                              (unsigned long long)o->warmup, o->schedule, o->steps);
    }
    return counts_check(o, err);
}

seam_status seam_train_depth_read(uint32_t *ret_depth, const seam_train_options *options,
                                  seam_error *err) {
    const char *const text = options->pipeline_depth;
    if (text == NULL || strcmp(text, "auto") == 0) {
        *ret_depth = 0;
        return SEAM_OK;
    }
    char *end = NULL;
    const unsigned long depth = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || depth < 1 ||
        depth > SEAM_PIPELINE_DEPTH_MAX) {
        return seam_error_set(err, SEAM_E_ARG, "--pipeline-depth: '%.40s' is not 1 to %u or auto",
                              text, SEAM_PIPELINE_DEPTH_MAX);
    }
    *ret_depth = (uint32_t)depth;
    return SEAM_OK;
}

/* Options that go with another one. */
static seam_status pairs_check(const seam_train_options *o, seam_error *err) {
    const bool rate_auto = o->rate != NULL && strcmp(o->rate, "auto") == 0;
    const bool evaluates = o->eval_data != NULL;
    const struct {
        const char *option, *of;
        bool given, has_use;
    } pairs[] = {
        {"rtt-ms", "mbit", o->rtt_ms != 0.0f, o->mbit != 0.0f},
        {"eval-rows", "eval-data", o->eval_rows != 0, evaluates},
        {"eval-slots", "eval-data", o->eval_slots != 0, evaluates},
        {"eval-new-tokens", "eval-data", o->eval_new_tokens != 0, evaluates},
        {"rate-bits-min", "rate auto", o->rate_bits_min != 0.0f, rate_auto},
        {"rate-bits-max", "rate auto", o->rate_bits_max != 0.0f, rate_auto},
        {"step-seconds", "rate auto", o->step_seconds != 0.0f, rate_auto},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if (pairs[i].given && !pairs[i].has_use) {
            return seam_error_set(err, SEAM_E_ARG, "--%s: has no use without --%s", pairs[i].option,
                                  pairs[i].of);
        }
    }
    return SEAM_OK;
}

seam_status seam_train_given_check(const seam_train_options *options, seam_error *err) {
    const seam_train_options *const o = options;
    uint32_t depth = 0;
    json_t *const given = seam_train_options_typed(o);
    const seam_status st = codec_check(o, given, err);
    json_decref(given);
    SEAM_TRY(st);
    SEAM_TRY(pairs_check(o, err));
    if (strcmp(seam_train_codec(o), "amaq") == 0) {
        SEAM_TRY(target_check(o, err));
    }
    if (o->tokens_max == 1) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--tokens-max: a row of 1 token has none that could be predicted");
    }
    return seam_train_depth_read(&depth, o, err);
}
