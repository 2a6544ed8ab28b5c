/* What a session may ask of its codecs; see codec_plan.h.  Values that can never be right come
 * first (ARG), then what this release lacks (UNIMPLEMENTED). */
#include "codec_plan.h"

#include "dictionary.h"
#include "try.h"

#define GROUP_DEFAULT_MAX 128u
#define OWN_BITS_MIN      1 /* of the server's own gates: within their presets, gates.h */
#define OWN_BITS_MAX      8

static seam_status choice_check(const char *field, uint32_t value, uint32_t last, const char *names,
                                seam_error *err) {
    return value <= last ? SEAM_OK
                         : seam_error_set(err, SEAM_E_ARG, "config.codec.%s: %u is not %s", field,
                                          value, names);
}

static seam_status codecs_check(const seam_codec_plan *plan, seam_error *err) {
    const seam_codec_id in = plan->codec_in, out = plan->codec_out;
    if (seam_codec_name(out) == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "config.codec.codec: %d is no codec", (int)out);
    }
    if (out == SEAM_CODEC_DICTIONARY) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.codec.codec: dictionary serves codec_fwd_in only");
    }
    if (out == SEAM_CODEC_AMAQ_TOKEN) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.codec.codec: amaq_token is amaq with granularity token");
    }
    if (in != out && in != SEAM_CODEC_F32 && in != SEAM_CODEC_BF16 && in != SEAM_CODEC_DICTIONARY) {
        const char *name = seam_codec_name(in);
        return seam_error_set(
            err, SEAM_E_ARG,
            "config.codec.codec_fwd_in: %s (%d) is not f32, bf16, dictionary or the codec",
            name != NULL ? name : "no codec", (int)in);
    }
    return SEAM_OK;
}

static seam_status bits_check(const seam_codec_plan *plan, uint32_t channels, seam_error *err) {
    const seam_codec_id out = plan->codec_out;
    if (seam_codec_has_widths(out) && !seam_codec_has_gates(out) &&
        (plan->bits < 1 || plan->bits > SEAM_BITS_MAX)) {
        return seam_error_set(err, SEAM_E_ARG, "config.codec.bits: %u is not in 1..%d", plan->bits,
                              SEAM_BITS_MAX);
    }
    if (out == SEAM_CODEC_GROUP && channels != 0 && seam_codec_group(plan->group, channels) == 0) {
        return seam_error_set(err, SEAM_E_ARG, "config.codec.group: %u does not divide %u channels",
                              plan->group, channels);
    }
    if (out == SEAM_CODEC_AQSGD) {
        if (plan->cache_format < SEAM_CACHE_FP16 || plan->cache_format > SEAM_CACHE_QUANTIZED) {
            return seam_error_set(err, SEAM_E_ARG,
                                  "config.codec.aqsgd.cache_format: %u is not fp16 or quantized",
                                  plan->cache_format);
        }
        if (plan->cache_format == SEAM_CACHE_QUANTIZED &&
            (plan->cache_bits < 1 || plan->cache_bits > SEAM_BITS_MAX)) {
            return seam_error_set(err, SEAM_E_ARG,
                                  "config.codec.aqsgd.cache_bits: %u is not in 1..%d",
                                  plan->cache_bits, SEAM_BITS_MAX);
        }
    }
    return SEAM_OK;
}

static seam_status dictionary_check(const seam_codec_plan *plan, seam_error *err) {
    if (plan->codec_in == SEAM_CODEC_DICTIONARY &&
        (plan->dictionary_rows_max < 1 || plan->dictionary_rows_max > SEAM_DICTIONARY_ROWS_MAX)) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.codec.dictionary_rows_max: %u is not in 1..%u",
                              plan->dictionary_rows_max, SEAM_DICTIONARY_ROWS_MAX);
    }
    if (plan->codec_in == SEAM_CODEC_DICTIONARY && plan->front) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.codec.codec_fwd_in: dictionary, but behind front blocks no "
                              "row comes twice");
    }
    if (plan->codec_in == SEAM_CODEC_DICTIONARY && plan->send_input_gradient) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.codec.send_input_gradient: dictionary of fwd_in has no "
                              "gradients");
    }
    return SEAM_OK;
}

static seam_status amaq_check(const seam_codec_plan *plan, seam_error *err) {
    SEAM_TRY(choice_check("amaq.allocator", plan->allocator, SEAM_ALLOCATOR_WATERFILL,
                          "gates or waterfill", err));
    SEAM_TRY(choice_check("amaq.granularity", plan->granularity, SEAM_GRANULARITY_TOKEN,
                          "feature or token", err));
    if (plan->granularity == SEAM_GRANULARITY_TOKEN &&
        plan->allocator == SEAM_ALLOCATOR_WATERFILL) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.codec.amaq.allocator: waterfill, but granularity token has "
                              "gates only");
    }
    if (plan->gate_signal_exact && !seam_codec_has_gates(plan->codec_in)) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.codec.amaq.gate_signal: exact, but %s of fwd_in has no gates",
                              seam_codec_name(plan->codec_in));
    }
    return SEAM_OK;
}

/* It codes bit planes, so a site must have some. */
static seam_status entropy_check(const seam_codec_plan *plan, seam_error *err) {
    SEAM_TRY(choice_check("entropy", plan->entropy, SEAM_ENTROPY_RANS, "none or rans", err));
    const seam_codec_id out =
        seam_codec_plan_has_in(plan) ? seam_codec_plan_codec(plan, false) : plan->codec_out;
    if (plan->entropy == SEAM_ENTROPY_RANS && !seam_codec_has_planes(out)) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.codec.entropy: rans, but %s has no bit planes that it codes",
                              seam_codec_name(out));
    }
    return SEAM_OK;
}

static seam_status exchange_check(const seam_codec_plan *plan, seam_error *err);

/* What a topology asks of the codecs, and of what goes with them. */
static seam_status topology_check(const seam_codec_plan *plan, seam_error *err) {
    if (plan->resend_parameters && plan->topology != SEAM_TOPOLOGY_ADAPTER_EXCHANGE) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.resend_parameters: only ADAPTER_EXCHANGE has parameters to "
                              "send");
    }
    if (plan->topology == SEAM_TOPOLOGY_VANILLA && plan->tail_layers > 0) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.tail_layers: %u, but with VANILLA everything behind the "
                              "client's front is the server's",
                              plan->tail_layers);
    }
    return seam_codec_plan_has_in(plan) ? SEAM_OK : exchange_check(plan, err);
}

static seam_status exchange_check(const seam_codec_plan *plan, seam_error *err) {
    if (plan->front || plan->tail_layers > 0) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.%s_layers: with ADAPTER_EXCHANGE the server has the whole "
                              "model",
                              plan->front ? "front" : "tail");
    }
    const seam_codec_id codec = plan->codec_out;
    const char *name = seam_codec_name(codec);
    if (plan->codec_in != plan->codec_out) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.codec.codec_fwd_in: ADAPTER_EXCHANGE has no site fwd_in");
    }
    if (plan->send_input_gradient) {
        return seam_error_set(
            err, SEAM_E_ARG,
            "config.codec.send_input_gradient: ADAPTER_EXCHANGE has no site fwd_in");
    }
    if (seam_codec_has_state(codec) ||
        (codec == SEAM_CODEC_AMAQ && plan->granularity == SEAM_GRANULARITY_TOKEN)) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.codec.codec: %s goes by samples, modules have none", name);
    }
    if (plan->gate_signal_exact && !plan->resend_parameters) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.codec.amaq.gate_signal: exact, but without "
                              "resend_parameters no parameter is quantized");
    }
    return SEAM_OK;
}

/* Written so that a NaN fails. */
static seam_status own_bits_check(const char *field, float bits, seam_error *err) {
    return bits == 0.0f || (bits > OWN_BITS_MIN && bits < OWN_BITS_MAX)
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_ARG, "config.%s_bits: %g is not between %d and %d",
                                field, (double)bits, OWN_BITS_MIN, OWN_BITS_MAX);
}

/* Each of these lines goes when what it names is there. */
static seam_status implemented_check(const seam_codec_plan *plan, seam_error *err) {
    if (!seam_codec_is_implemented(plan->codec_out)) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              "config.codec.codec: %s is not implemented",
                              seam_codec_name(plan->codec_out));
    }
    if (!seam_codec_is_implemented(plan->codec_in)) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              "config.codec.codec_fwd_in: %s is not implemented",
                              seam_codec_name(plan->codec_in));
    }
    const bool all_layer = plan->all_layer_bits != 0.0f;
    if (!seam_codec_plan_has_in(plan) && (all_layer || plan->prefix_bits != 0.0f)) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              "config.%s_bits: not with topology ADAPTER_EXCHANGE",
                              all_layer ? "all_layer" : "prefix");
    }
    return SEAM_OK;
}

seam_status seam_codec_plan_check(const seam_codec_plan *plan, uint32_t channels, seam_error *err) {
    SEAM_TRY(codecs_check(plan, err));
    SEAM_TRY(bits_check(plan, channels, err));
    SEAM_TRY(dictionary_check(plan, err));
    SEAM_TRY(entropy_check(plan, err));
    if (seam_codec_has_gates(plan->codec_out)) {
        SEAM_TRY(amaq_check(plan, err));
    }
    SEAM_TRY(topology_check(plan, err));
    SEAM_TRY(own_bits_check("all_layer", plan->all_layer_bits, err));
    SEAM_TRY(own_bits_check("prefix", plan->prefix_bits, err));
    return implemented_check(plan, err);
}

seam_status seam_codec_plan_check_depth(const seam_codec_plan *plan, uint32_t pipeline_depth,
                                        seam_error *err) {
    const bool waits = seam_codec_plan_is_exact_in(plan) || plan->send_input_gradient;
    return pipeline_depth > 1 && waits
               ? seam_error_set(err, SEAM_E_ARG,
                                "config.limits.pipeline_depth: %u, but with gate_signal exact or "
                                "send_input_gradient each gradient is waited for",
                                pipeline_depth)
               : SEAM_OK;
}

bool seam_codec_plan_has_in(const seam_codec_plan *plan) {
    return plan->topology != SEAM_TOPOLOGY_ADAPTER_EXCHANGE;
}

bool seam_codec_plan_has_out(const seam_codec_plan *plan) {
    return !seam_codec_plan_is_one_pass(plan);
}

bool seam_codec_plan_has_gates_in(const seam_codec_plan *plan) {
    return seam_codec_plan_has_in(plan) && seam_codec_has_gates(plan->codec_in);
}

bool seam_codec_plan_has_gates_out(const seam_codec_plan *plan) {
    return seam_codec_plan_has_out(plan) && seam_codec_has_gates(plan->codec_out);
}

bool seam_codec_plan_has_gates_modules(const seam_codec_plan *plan) {
    return !seam_codec_plan_has_in(plan) && seam_codec_has_gates(plan->codec_out);
}

bool seam_codec_plan_has_gates(const seam_codec_plan *plan) {
    return seam_codec_plan_has_gates_in(plan) || seam_codec_plan_has_gates_out(plan) ||
           seam_codec_plan_has_gates_modules(plan);
}

bool seam_codec_plan_is_exact_in(const seam_codec_plan *plan) {
    return seam_codec_plan_has_in(plan) && plan->gate_signal_exact;
}

bool seam_codec_plan_is_one_pass(const seam_codec_plan *plan) {
    return plan->topology == SEAM_TOPOLOGY_VANILLA ||
           plan->topology == SEAM_TOPOLOGY_ADAPTER_EXCHANGE;
}

/* What travels once need not be cheap, and both ends must begin with the same bits. */
seam_codec_id seam_codec_plan_module_codec(const seam_codec_plan *plan, bool gradient) {
    return gradient || plan->resend_parameters ? plan->codec_out : SEAM_CODEC_F32;
}

seam_codec_id seam_codec_plan_codec(const seam_codec_plan *plan, bool outer) {
    const seam_codec_id codec = outer ? plan->codec_in : plan->codec_out;
    if (!seam_codec_plan_has_in(plan)) { /* requests only: the codec is the modules' */
        return codec == SEAM_CODEC_F32 ? codec : SEAM_CODEC_BF16;
    }
    const bool token = plan->granularity == SEAM_GRANULARITY_TOKEN;
    return token && codec == SEAM_CODEC_AMAQ ? SEAM_CODEC_AMAQ_TOKEN : codec;
}

uint32_t seam_codec_plan_width_count(const seam_codec_plan *plan, uint32_t channels,
                                     uint32_t rows_max) {
    if (seam_codec_plan_codec(plan, false) != SEAM_CODEC_AMAQ_TOKEN) {
        return channels;
    }
    return rows_max < SEAM_POSITIONS_MAX ? rows_max : SEAM_POSITIONS_MAX;
}

bool seam_codec_plan_has_input_gradient(const seam_codec_plan *plan) {
    return seam_codec_plan_is_exact_in(plan) || plan->send_input_gradient || plan->front_trained;
}

bool seam_codec_plan_has_signal(const seam_codec_plan *plan) {
    return seam_codec_plan_has_gates_in(plan) && !plan->gate_signal_exact;
}

bool seam_codec_plan_takes_row_sources(const seam_codec_plan *plan) {
    const seam_codec_id in = seam_codec_plan_codec(plan, true);
    return !plan->front && seam_codec_plan_has_in(plan) && in != SEAM_CODEC_AQSGD &&
           in != SEAM_CODEC_AMAQ_TOKEN && in != SEAM_CODEC_DICTIONARY;
}

uint8_t seam_codec_plan_coding_max(const seam_codec_plan *plan) {
    return plan->entropy == SEAM_ENTROPY_RANS ? 1 : 0;
}

uint32_t seam_codec_group(uint32_t group, uint32_t channels) {
    SEAM_ASSERT(channels >= 1);
    if (group != 0) {
        return channels % group == 0 ? group : 0;
    }
    uint32_t largest = channels < GROUP_DEFAULT_MAX ? channels : GROUP_DEFAULT_MAX;
    while (channels % largest != 0) {
        largest--;
    }
    return largest;
}
