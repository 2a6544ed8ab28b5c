/* One function a message of types.proto, in its order of fields. */
#include "session_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "config_hash.h"
#include "config_range.h"
#include "exchange.h"
#include "frame.h"
#include "step_key.h"
#include "try.h"

#define NAME_BYTES_MAX 100

static seam_status number_check(const char *field, double value, double min, double max,
                                seam_error *err) {
    if (!isfinite(value) || value < min || value > max) {
        return seam_error_set(err, SEAM_E_ARG, "%s: %g is not in %g..%g", field, value, min, max);
    }
    return SEAM_OK;
}

static seam_status lora_read(seam_lora_config *ret, const Seam__V1__LoraConfig *message,
                             seam_error *err) {
    if (message == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "config.lora: missing");
    }
    SEAM_TRY(seam_config_range_check("config.lora.rank", "lora.rank", message->rank, err));
    SEAM_TRY(seam_config_range_check("config.lora.alpha", "lora.alpha", message->alpha, err));
    uint32_t targets = 0;
    for (size_t i = 0; i < message->n_targets; i++) {
        const int target = (int)message->targets[i];
        if (target < 1 || target > SEAM_LORA_TARGETS) {
            return seam_error_set(err, SEAM_E_ARG, "config.lora.targets: %d is no projection",
                                  target);
        }
        targets |= 1u << (target - 1); /* PROJECTION_Q is 1, SEAM_LORA_Q is bit 0, and so on */
    }
    if (targets == 0) {
        return seam_error_set(err, SEAM_E_ARG, "config.lora.targets: at least one is needed");
    }
    SEAM_TRY(seam_config_range_check("config.lora.dropout", "lora.dropout", message->dropout, err));
    *ret = (seam_lora_config){.rank = message->rank,
                              .alpha = message->alpha,
                              .targets = targets,
                              .seed = message->seed,
                              .rslora = message->rslora,
                              .dropout = message->dropout};
    return SEAM_OK;
}

static seam_status full_read(seam_adapter_config *ret, const Seam__V1__SessionConfig *message,
                             seam_error *err) {
    if (message->lora != NULL || message->prefix != NULL) {
        return seam_error_set(err, SEAM_E_ARG, "config.full: %s is there too; one adapter",
                              message->lora != NULL ? "lora" : "prefix");
    }
    if (message->topology == SEAM__V1__TOPOLOGY__TOPOLOGY_ADAPTER_EXCHANGE) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.full: with ADAPTER_EXCHANGE what is trained is the client's");
    }
    if (message->fp8) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.fp8: of frozen products; with full no product is frozen");
    }
    *ret = (seam_adapter_config){.kind = SEAM_ADAPTER_FULL};
    return SEAM_OK;
}

/* The adapter: one of the three messages. */
static seam_status adapter_read(seam_adapter_config *ret, const Seam__V1__SessionConfig *message,
                                const seam_model *model, seam_error *err) {
    const Seam__V1__PrefixConfig *prefix = message->prefix;
    if (message->full) {
        return full_read(ret, message, err);
    }
    if (prefix == NULL) {
        SEAM_TRY(lora_read(&ret->lora, message->lora, err));
        return seam_lora_targets_check(ret->lora.targets, model->config, "config.lora.targets",
                                       err);
    }
    if (message->lora != NULL) {
        return seam_error_set(err, SEAM_E_ARG, "config.prefix: lora is there too; one adapter");
    }
    SEAM_TRY(seam_config_range_check("config.prefix.virtual_tokens", "prefix.virtual_tokens",
                                     prefix->virtual_tokens, err));
    const char *field = NULL;
    const uint32_t room = seam_model_config_prefix_room(&field, model->config);
    if (prefix->virtual_tokens >= room) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.prefix.virtual_tokens: %u leave none of the model's %s, %u",
                              prefix->virtual_tokens, field, room);
    }
    *ret =
        (seam_adapter_config){.kind = SEAM_ADAPTER_PREFIX,
                              .prefix = {.tokens = prefix->virtual_tokens, .seed = prefix->seed}};
    return SEAM_OK;
}

static seam_status optimizer_check(const Seam__V1__OptimizerConfig *message, seam_error *err) {
    SEAM_TRY(seam_config_range_check("lr", "optimizer.lr", message->lr, err));
    SEAM_TRY(seam_config_range_check("beta1", "optimizer.beta1", message->beta1, err));
    SEAM_TRY(seam_config_range_check("beta2", "optimizer.beta2", message->beta2, err));
    SEAM_TRY(seam_config_range_check("eps", "optimizer.eps", message->eps, err));
    SEAM_TRY(seam_config_range_check("weight_decay", "optimizer.weight_decay",
                                     message->weight_decay, err));
    SEAM_TRY(seam_config_range_check("clip_norm", "optimizer.clip_norm", message->clip_norm, err));
    const int schedule = (int)message->schedule;
    if (schedule < SEAM_SCHEDULE_CONSTANT || schedule > SEAM_SCHEDULE_COSINE) {
        return seam_error_set(err, SEAM_E_ARG, "schedule: %d is not constant, linear or cosine",
                              schedule);
    }
    return schedule == SEAM_SCHEDULE_CONSTANT || message->total_steps > message->warmup_steps
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_ARG, "total_steps: must exceed warmup_steps");
}

seam_status seam_optimizer_config_read(seam_optimizer_config *ret,
                                       const Seam__V1__OptimizerConfig *message, const char *field,
                                       seam_error *err) {
    if (message == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "%s: missing", field);
    }
    const seam_status st = optimizer_check(message, err);
    if (st != SEAM_OK) {
        char text[SEAM_ERROR_TEXT_BYTES];
        (void)snprintf(text, sizeof text, "%s", err != NULL ? err->text : "");
        return seam_error_set(err, st, "%s.%s", field, text);
    }
    *ret = (seam_optimizer_config){.lr = message->lr,
                                   .beta1 = message->beta1,
                                   .beta2 = message->beta2,
                                   .eps = message->eps,
                                   .weight_decay = message->weight_decay,
                                   .clip_norm = message->clip_norm,
                                   .schedule = (seam_schedule)message->schedule,
                                   .warmup_steps = message->warmup_steps,
                                   .total_steps = message->total_steps};
    return SEAM_OK;
}

void seam_optimizer_config_write(Seam__V1__OptimizerConfig *ret,
                                 const seam_optimizer_config *config) {
    seam__v1__optimizer_config__init(ret);
    ret->lr = config->lr;
    ret->beta1 = config->beta1;
    ret->beta2 = config->beta2;
    ret->eps = config->eps;
    ret->weight_decay = config->weight_decay;
    ret->clip_norm = config->clip_norm;
    ret->schedule = (Seam__V1__Schedule)config->schedule;
    ret->warmup_steps = config->warmup_steps;
    ret->total_steps = config->total_steps;
}

static seam_status amaq_read(seam_session_config *ret, const Seam__V1__AmaqConfig *message,
                             seam_error *err) {
    if (message == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "config.codec.amaq: missing");
    }
    const int loss = (int)message->bits_loss;
    const int clipping = (int)message->clipping;
    const int signal = (int)message->gate_signal;
    if (loss != SEAM_BITS_LOSS_L2 && loss != SEAM_BITS_LOSS_L1) {
        return seam_error_set(err, SEAM_E_ARG, "config.codec.amaq.bits_loss: %d is not l2 or l1",
                              loss);
    }
    if (clipping < 1 || clipping > 2) {
        return seam_error_set(err, SEAM_E_ARG, "config.codec.amaq.clipping: %d is not soft or hard",
                              clipping);
    }
    if (signal < 1 || signal > 2) {
        return seam_error_set(
            err, SEAM_E_ARG, "config.codec.amaq.gate_signal: %d is not surrogate or exact", signal);
    }
    ret->gates = (seam_gates_config){.bits_min = message->bits_min,
                                     .bits_max = message->bits_max,
                                     .bits_start = message->bits_start,
                                     .alpha = message->alpha,
                                     .loss = (seam_bits_loss)loss,
                                     .beta1 = 0.9f,
                                     .beta2 = 0.999f,
                                     .eps = 1e-8f};
    const seam_status st = seam_gates_config_check(&ret->gates, err);
    if (st != SEAM_OK) {
        char text[SEAM_ERROR_TEXT_BYTES] = "invalid";
        if (err != NULL) {
            memcpy(text, err->text, sizeof text);
        }
        return seam_error_set(err, st, "config.codec.amaq.%.400s", text);
    }
    SEAM_TRY(number_check("config.codec.amaq.bits_target", message->bits_target, message->bits_min,
                          message->bits_max, err));
    SEAM_TRY(
        seam_config_range_check("config.codec.amaq.beta", "codec.amaq.beta", message->beta, err));
    SEAM_TRY(seam_config_range_check("config.codec.amaq.bits_lr", "codec.amaq.bits_lr",
                                     message->bits_lr, err));
    SEAM_TRY(seam_config_range_check("config.codec.amaq.alloc_lag_steps",
                                     "codec.amaq.alloc_lag_steps", message->alloc_lag_steps, err));
    ret->beta = message->beta;
    ret->bits_lr = message->bits_lr;
    ret->alloc_lag_steps = message->alloc_lag_steps;
    return SEAM_OK;
}

static seam_codec_plan plan_of(const Seam__V1__SessionConfig *config) {
    const Seam__V1__CodecConfig *message = config->codec;
    static const Seam__V1__AmaqConfig no_amaq = SEAM__V1__AMAQ_CONFIG__INIT;
    static const Seam__V1__AqsgdConfig no_aqsgd = SEAM__V1__AQSGD_CONFIG__INIT;
    const Seam__V1__AmaqConfig *amaq = message->amaq != NULL ? message->amaq : &no_amaq;
    const Seam__V1__AqsgdConfig *aqsgd = message->aqsgd != NULL ? message->aqsgd : &no_aqsgd;
    const int in =
        (int)(message->codec_fwd_in != SEAM__V1__CODEC__CODEC_UNSPECIFIED ? message->codec_fwd_in
                                                                          : message->codec);
    const seam_codec_id out = (seam_codec_id)message->codec;
    return (seam_codec_plan){
        .topology = (uint32_t)config->topology,
        .resend_parameters = config->resend_parameters,
        .tail_layers = config->tail_layers,
        .all_layer_bits = config->all_layer_bits,
        .prefix_bits = config->prefix_bits,
        .codec_in = (seam_codec_id)in,
        .codec_out = out,
        .bits = seam_codec_fixed_bits(out, message->bits),
        .group = message->group,
        .entropy = (uint32_t)message->entropy,
        .send_input_gradient = message->send_input_gradient,
        .dictionary_rows_max = message->dictionary_rows_max,
        .cache_bytes_max = aqsgd->cache_bytes_max,
        .cache_format = (uint32_t)aqsgd->cache_format,
        .cache_bits = aqsgd->cache_bits,
        .allocator = (uint32_t)amaq->allocator,
        .granularity = (uint32_t)amaq->granularity,
        .steps_to_target = amaq->steps_to_target,
        /* Other codecs keep nothing that an exact signal would be formed with. */
        .gate_signal_exact = seam_codec_has_gates(out) &&
                             amaq->gate_signal == SEAM__V1__GATE_SIGNAL__GATE_SIGNAL_EXACT,
    };
}

/* What a codec keeps from step to step, against the operator's limit. */
static seam_status state_check(const seam_session_config *config, const seam_session_limits *limits,
                               seam_error *err) {
    const seam_codec_plan *plan = &config->codec;
    const unsigned long long limit = limits->cache_bytes_max;
    if (plan->codec_out == SEAM_CODEC_AQSGD && plan->cache_bytes_max > limits->cache_bytes_max) {
        return seam_error_set(err, SEAM_E_LIMIT,
                              "config.codec.aqsgd.cache_bytes_max: %llu, this server allows %llu",
                              (unsigned long long)plan->cache_bytes_max, limit);
    }
    const uint64_t row_bytes = 2 * (uint64_t)config->model->config->hidden;
    if (plan->codec_in == SEAM_CODEC_DICTIONARY &&
        plan->dictionary_rows_max * row_bytes > limits->cache_bytes_max) {
        return seam_error_set(
            err, SEAM_E_LIMIT,
            "config.codec.dictionary_rows_max: %u rows of %llu bytes, this server "
            "allows %llu bytes",
            plan->dictionary_rows_max, (unsigned long long)row_bytes, limit);
    }
    return SEAM_OK;
}

static seam_status codec_read(seam_session_config *ret, const Seam__V1__SessionConfig *config,
                              const seam_session_limits *limits, seam_error *err) {
    const Seam__V1__CodecConfig *message = config->codec;
    if (message == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "config.codec: missing");
    }
    ret->codec = plan_of(config);
    ret->codec.front = ret->front_layers > 0;
    ret->codec.front_trained = ret->front_layers > 0 && ret->client_trains;
    ret->labelled_rows_only = message->labelled_rows_only;
    ret->seed = message->seed;
    const bool boundary = seam_codec_plan_has_in(&ret->codec); /* modules: seam_exchange_check */
    SEAM_TRY(seam_codec_plan_check(&ret->codec, boundary ? ret->model->config->hidden : 0, err));
    SEAM_TRY(state_check(ret, limits, err));
    return seam_codec_has_gates(ret->codec.codec_out) ? amaq_read(ret, message->amaq, err)
                                                      : SEAM_OK;
}

static seam_status limits_read(seam_session_config *ret, const Seam__V1__Limits *message,
                               const seam_session_limits *limits, seam_error *err) {
    if (message == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "config.limits: missing");
    }
    SEAM_TRY(number_check("config.limits.rows_per_micro_max", message->rows_per_micro_max, 1,
                          limits->rows_max, err));
    SEAM_TRY(number_check("config.limits.sequences_per_micro_max", message->sequences_per_micro_max,
                          1, message->rows_per_micro_max, err));
    SEAM_TRY(number_check("config.limits.micros_per_step_max", message->micros_per_step_max, 1,
                          SEAM_MICROS_MAX - (ret->client_trains ? 1 : 0), err));
    ret->limits =
        (seam_layout_limits){.rows_max = message->rows_per_micro_max,
                             .sequences_max = message->sequences_per_micro_max,
                             .micros_max = message->micros_per_step_max,
                             .positions_max = seam_session_config_context(ret),
                             .sample_ids_needed = ret->codec.codec_out == SEAM_CODEC_AQSGD,
                             .row_sources_taken = seam_codec_plan_takes_row_sources(&ret->codec),
                             .labels_needed = seam_codec_plan_is_one_pass(&ret->codec),
                             .vocab_count = ret->model->config->vocab_count};
    SEAM_TRY(number_check("config.limits.pipeline_depth", message->pipeline_depth, 0,
                          SEAM_PIPELINE_DEPTH_MAX, err));
    SEAM_TRY(seam_codec_plan_check_depth(&ret->codec, message->pipeline_depth, err));
    ret->pipeline_depth = message->pipeline_depth;
    ret->cache_dir = limits->cache_dir;
    const uint32_t channels = ret->model->config->hidden;
    const seam_status st = seam_coder_channels_check(channels);
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "config.model: %u channels do not fit a chunk", channels);
    }
    return SEAM_OK;
}

/* What a topology shows to this server must be allowed at both ends: the client's word. */
static seam_status consent_check(const Seam__V1__SessionConfig *message, seam_error *err) {
    const bool text = message->topology == SEAM__V1__TOPOLOGY__TOPOLOGY_ADAPTER_EXCHANGE;
    const bool labels = message->topology == SEAM__V1__TOPOLOGY__TOPOLOGY_VANILLA;
    const int consent = (int)message->consent;
    if (consent < 0 || consent > SEAM__V1__CONSENT__CONSENT_TEXT) {
        return seam_error_set(err, SEAM_E_ARG, "config.consent: %d is not labels or text", consent);
    }
    if (text && consent != SEAM__V1__CONSENT__CONSENT_TEXT) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.consent: ADAPTER_EXCHANGE shows text and labels to the "
                              "server; the client must say TEXT");
    }
    if (labels && consent == SEAM__V1__CONSENT__CONSENT_UNSPECIFIED) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.consent: VANILLA shows labels to the server; the client must "
                              "say LABELS");
    }
    return SEAM_OK;
}

/* And this server's. */
static seam_status allowed_check(uint32_t topology, const seam_session_limits *limits,
                                 seam_error *err) {
    const bool text = topology == SEAM_TOPOLOGY_ADAPTER_EXCHANGE;
    const bool labels = topology == SEAM_TOPOLOGY_VANILLA;
    if (text && !limits->allow_text) {
        return seam_error_set(err, SEAM_E_DENIED,
                              "config.topology: ADAPTER_EXCHANGE shows text and labels, which this "
                              "server does not take (seamd --allow-text)");
    }
    if (labels && !limits->allow_labels && !limits->allow_text) {
        return seam_error_set(err, SEAM_E_DENIED,
                              "config.topology: VANILLA shows labels, which this server does not "
                              "take (seamd --allow-labels)");
    }
    return SEAM_OK;
}

seam_status seam_session_config_check_allowed(const seam_session_config *config,
                                              const seam_session_limits *limits, seam_error *err) {
    return allowed_check(config->codec.topology, limits, err);
}

static seam_status topology_check(const Seam__V1__SessionConfig *message, const seam_model *model,
                                  const seam_session_limits *limits, seam_error *err) {
    SEAM_TRY(consent_check(message, err));
    SEAM_TRY(allowed_check((uint32_t)message->topology, limits, err));
    switch (message->topology) {
    case SEAM__V1__TOPOLOGY__TOPOLOGY_UNSPECIFIED: /* the default of SPEC 3.4 */
    case SEAM__V1__TOPOLOGY__TOPOLOGY_U_SHAPED:
    case SEAM__V1__TOPOLOGY__TOPOLOGY_VANILLA:
    case SEAM__V1__TOPOLOGY__TOPOLOGY_ADAPTER_EXCHANGE:
        break;
    default:
        return seam_error_set(err, SEAM_E_ARG, "config.topology: %d is no topology",
                              (int)message->topology);
    }
    const uint32_t layers = model->config->layers;
    SEAM_TRY(number_check("config.front_layers", message->front_layers, 0, layers - 1, err));
    return number_check("config.tail_layers", message->tail_layers, 0,
                        layers - 1 - message->front_layers, err);
}

/* Which blocks are the client's, and whose have LoRA. */
static seam_status split_read(seam_session_config *ret, const Seam__V1__SessionConfig *message,
                              seam_error *err) {
    const bool has_client_blocks = message->front_layers > 0 || message->tail_layers > 0;
    int side = (int)message->lora_side;
    if (side < 0 || side > SEAM__V1__LORA_SIDE__LORA_SIDE_BOTH) {
        return seam_error_set(err, SEAM_E_ARG, "config.lora_side: %d is not server, client or both",
                              side);
    }
    if (!has_client_blocks && side > SEAM__V1__LORA_SIDE__LORA_SIDE_SERVER) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.lora_side: %s, but front_layers and tail_layers are 0",
                              side == SEAM__V1__LORA_SIDE__LORA_SIDE_CLIENT ? "client" : "both");
    }
    if (message->full && side > SEAM__V1__LORA_SIDE__LORA_SIDE_SERVER) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.lora_side: %s, but with full the client's blocks are frozen",
                              side == SEAM__V1__LORA_SIDE__LORA_SIDE_CLIENT ? "client" : "both");
    }
    if (side == SEAM__V1__LORA_SIDE__LORA_SIDE_UNSPECIFIED && has_client_blocks) {
        side = message->full ? SEAM__V1__LORA_SIDE__LORA_SIDE_SERVER
                             : SEAM__V1__LORA_SIDE__LORA_SIDE_BOTH;
    }
    if (has_client_blocks && message->prefix != NULL &&
        side != SEAM__V1__LORA_SIDE__LORA_SIDE_BOTH) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.lora_side: %s, but a prefix is of all blocks, at both ends",
                              side == SEAM__V1__LORA_SIDE__LORA_SIDE_CLIENT ? "client" : "server");
    }
    ret->front_layers = message->front_layers;
    ret->tail_layers = message->tail_layers;
    ret->client_trains = side > SEAM__V1__LORA_SIDE__LORA_SIDE_SERVER;
    ret->server_trains = side != SEAM__V1__LORA_SIDE__LORA_SIDE_CLIENT;
    return SEAM_OK;
}

/* A target of gates that the server has for itself: the presets by target are those of the other
 * gates, between them the nearer.  bits 0: off. */
typedef struct own_gates {
    const char *field; /* "all_layer": of _bits and _steps */
    float bits;
    uint32_t steps;
} own_gates;

static seam_status own_gates_read(seam_gates_config *ret, const own_gates *own, seam_error *err) {
    char field[64];
    (void)snprintf(field, sizeof field, "config.%s_steps", own->field);
    if (own->bits == 0.0f) {
        return own->steps == 0
                   ? SEAM_OK
                   : seam_error_set(err, SEAM_E_ARG, "%s: only with %s_bits", field, own->field);
    }
    const bool preset = seam_gates_preset(ret, own->bits < 4.0f ? 3.0f : 4.0f);
    SEAM_ASSERT(preset);
    /* seam_codec_plan_check */
    SEAM_ASSERT(own->bits > ret->bits_min && own->bits < ret->bits_start);
    return seam_config_range_check(field, field + strlen("config."), own->steps, err);
}

static seam_status layers_read(seam_session_config *ret, const Seam__V1__SessionConfig *message,
                               seam_error *err) {
    const own_gates own = {"all_layer", message->all_layer_bits, message->all_layer_steps};
    SEAM_TRY(own_gates_read(&ret->layer_gates, &own, err));
    ret->all_layer_bits = own.bits;
    ret->all_layer_steps = own.steps;
    if (own.bits != 0.0f && seam_session_config_layer_sites(ret) == 0) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.all_layer_bits: the server has one block, and no boundary "
                              "between blocks");
    }
    return SEAM_OK;
}

static seam_status prefix_gates_read(seam_session_config *ret,
                                     const Seam__V1__SessionConfig *message, seam_error *err) {
    const own_gates own = {"prefix", message->prefix_bits, message->prefix_steps};
    SEAM_TRY(own_gates_read(&ret->prefix_gates, &own, err));
    if (own.bits != 0.0f && ret->adapter.kind != SEAM_ADAPTER_PREFIX) {
        return seam_error_set(err, SEAM_E_ARG, "config.prefix_bits: the session has no prefix");
    }
    ret->prefix_bits = own.bits;
    ret->prefix_steps = own.steps;
    return SEAM_OK;
}

seam_status seam_session_config_read(seam_session_config *ret_config,
                                     const Seam__V1__SessionConfig *message,
                                     const seam_registry *registry,
                                     const seam_session_limits *limits, seam_error *err) {
    seam_session_config config = {0};
    if (message == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "config: missing");
    }
    if (strlen(message->name) > NAME_BYTES_MAX) {
        return seam_error_set(err, SEAM_E_ARG, "config.name: longer than %d bytes", NAME_BYTES_MAX);
    }
    config.model = seam_registry_find(registry, message->model);
    if (config.model == NULL) {
        return seam_error_set(err, SEAM_E_NOT_FOUND,
                              "config.model: \"%.100s\" is not served here (see ListModels)",
                              message->model);
    }
    SEAM_TRY(topology_check(message, config.model, limits, err));
    SEAM_TRY(split_read(&config, message, err));
    SEAM_TRY(adapter_read(&config.adapter, message, config.model, err));
    SEAM_TRY(
        seam_optimizer_config_read(&config.optimizer, message->optimizer, "config.optimizer", err));
    SEAM_TRY(codec_read(&config, message, limits, err));
    SEAM_TRY(limits_read(&config, message->limits, limits, err));
    SEAM_TRY(seam_exchange_check(&config, err));
    SEAM_TRY(layers_read(&config, message, err));
    SEAM_TRY(prefix_gates_read(&config, message, err));
    config.recompute = message->recompute;
    if (message->fp8 && !seam_backend_ops(seam_blocks_backend(config.model->blocks))->fp8) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              "config.fp8: this server keeps no weights in FP8 (seamd --fp8, on a "
                              "device that has such products)");
    }
    config.fp8 = message->fp8;
    config.hash = seam_config_hash(message);
    *ret_config = config;
    return SEAM_OK;
}

seam_codec_id seam_session_config_codec(const seam_session_config *config, uint16_t site) {
    const bool outer = site == SEAM_SITE_FWD_IN || site == SEAM_SITE_BWD_IN;
    return seam_codec_plan_codec(&config->codec, outer);
}

uint64_t seam_session_config_cache_bytes(const seam_session_config *config, uint16_t site) {
    const bool gradient = site == SEAM_SITE_BWD_OUT || site == SEAM_SITE_BWD_IN;
    const bool cached = seam_session_config_codec(config, site) == SEAM_CODEC_AQSGD && !gradient;
    return cached ? config->codec.cache_bytes_max : 0;
}

seam_coder_config seam_session_config_coder(const seam_session_config *config, uint16_t site) {
    const seam_codec_id codec = seam_session_config_codec(config, site);
    return (seam_coder_config){
        .codec = codec,
        .encoder = site == SEAM_SITE_FWD_OUT || site == SEAM_SITE_BWD_IN,
        .gradient = site == SEAM_SITE_BWD_OUT || site == SEAM_SITE_BWD_IN,
        .channels = config->model->config->hidden,
        .rows_max = config->limits.rows_max,
        .state_rows_max = config->limits.rows_max,
        .sequences_max = config->limits.sequences_max,
        .storage_bytes = (size_t)seam_session_config_cache_bytes(config, site),
        .bits_max =
            seam_codec_has_gates(codec) ? (uint32_t)config->gates.bits_max : config->codec.bits,
        .plan = &config->codec,
    };
}

uint32_t seam_session_config_context(const seam_session_config *config) {
    return seam_model_config_positions(config->model->config,
                                       seam_adapter_config_tokens(&config->adapter));
}

seam_memory_blocks seam_session_config_blocks(const seam_session_config *config) {
    const seam_backend *backend = seam_blocks_backend(config->model->blocks);
    return (seam_memory_blocks){.model = config->model->config,
                                .ops = seam_backend_ops(backend),
                                .layer_begin = config->front_layers,
                                .layer_end = config->model->config->layers - config->tail_layers};
}

seam_status seam_session_config_view(seam_blocks **ret_view, const seam_session_config *config) {
    return seam_blocks_view_create(ret_view, config->model->blocks, config->front_layers,
                                   config->model->config->layers - config->tail_layers);
}

uint32_t seam_session_config_width_count(const seam_session_config *config) {
    return seam_codec_plan_width_count(&config->codec, config->model->config->hidden,
                                       config->limits.rows_max);
}

uint32_t seam_session_config_layer_sites(const seam_session_config *config) {
    const uint32_t client_layers = config->front_layers + config->tail_layers;
    return config->all_layer_bits > 0.0f ? config->model->config->layers - client_layers - 1 : 0;
}

bool seam_session_config_has_prefix_gates(const seam_session_config *config) {
    return config->prefix_bits > 0.0f;
}

bool seam_session_config_is_one_pass(const seam_session_config *config) {
    return seam_codec_plan_is_one_pass(&config->codec);
}

bool seam_session_config_backward_reply(const seam_session_config *config) {
    return seam_codec_plan_has_input_gradient(&config->codec) ||
           seam_codec_plan_has_signal(&config->codec);
}

bool seam_session_config_keeps_out(const seam_session_config *config) {
    const seam_codec_plan *const plan = &config->codec;
    return seam_codec_plan_has_gates_out(plan) && plan->allocator != SEAM_ALLOCATOR_WATERFILL &&
           (plan->gate_signal_exact || plan->steps_to_target == 0);
}
