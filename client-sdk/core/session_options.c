/* Options of seam.h <-> the SessionConfig message <-> what the core computes with.
 *
 * Defaults are applied here and nowhere else, so that the config that travels (and is hashed)
 * is complete.  The server judges it again; here only what the client itself relies on. */
#include <math.h>
#include <string.h>

#include "arena.h"
#include "core.h"
#include "frame.h"
#include "try.h"

#define ROWS_DEFAULT            4096u
#define SEQUENCES_DEFAULT       64u
#define AFTER_FACTOR            0.1f
#define RATE_BITS_LEAST         3.0f /* a slow link is no reason to train worse than affine 3 */
#define DICTIONARY_ROWS_DEFAULT 65536u
#define CACHE_BYTES_DEFAULT     (UINT64_C(1) << 30)

static seam_status rate_fill(seam_core_config *core, const seam_session_options *o,
                             seam_error *err);
static seam_pace_config pace_of(const seam_gates_config *gates, const Seam__V1__AmaqConfig *amaq);
static seam_codec_plan plan_of(const Seam__V1__SessionConfig *config);
static seam_status codec_fill(seam_config_message *m, const seam_session_options *o,
                              seam_error *err);
static seam_status codec_name_read(Seam__V1__Codec *ret_codec, const char *field, const char *name,
                                   seam_error *err);
static seam_status aqsgd_fill(seam_config_message *m, const seam_session_options *o,
                              seam_error *err);
static seam_status amaq_fill(Seam__V1__AmaqConfig *amaq, const seam_session_options *o,
                             seam_error *err);
static seam_status training_fill(seam_config_message *m, const seam_session_options *o,
                                 seam_error *err);
static seam_status sites_read(seam_session *session, const Seam__V1__Session *message,
                              seam_error *err);
static seam_status allocations_create(seam_session *session, seam_error *err);

static float or_f32(float value, float fallback) {
    return value != 0.0f ? value : fallback;
}

static uint32_t or_u32(uint32_t value, uint32_t fallback) {
    return value != 0 ? value : fallback;
}

seam_status seam_config_from_options(seam_config_message *ret_message, seam_core_config *ret_core,
                                     const seam_session_options *options, seam_error *err) {
    if (options == NULL || options->struct_bytes != sizeof *options) {
        return seam_error_set(err, SEAM_E_ARG, "options: start from SEAM_SESSION_OPTIONS_INIT");
    }
    seam_config_message *const m = ret_message;
    *m = (seam_config_message){
        .config = SEAM__V1__SESSION_CONFIG__INIT,
        .lora = SEAM__V1__LORA_CONFIG__INIT,
        .prefix = SEAM__V1__PREFIX_CONFIG__INIT,
        .optimizer = SEAM__V1__OPTIMIZER_CONFIG__INIT,
        .codec = SEAM__V1__CODEC_CONFIG__INIT,
        .amaq = SEAM__V1__AMAQ_CONFIG__INIT,
        .aqsgd = SEAM__V1__AQSGD_CONFIG__INIT,
        .limits = SEAM__V1__LIMITS__INIT,
    };
    m->config.model = (char *)(uintptr_t)(options->model != NULL ? options->model : "");
    m->config.name = (char *)(uintptr_t)(options->name != NULL ? options->name : "");
    SEAM_TRY(seam_config_topology_fill(m, options, err));
    m->config.optimizer = &m->optimizer;
    m->config.codec = &m->codec;
    m->config.limits = &m->limits;
    SEAM_TRY(seam_config_blocks_fill(&m->config, options, err));
    m->limits.rows_per_micro_max = or_u32(options->rows_per_micro_max, ROWS_DEFAULT);
    const uint32_t rows_max = m->limits.rows_per_micro_max; /* a sequence has at least one */
    m->limits.sequences_per_micro_max =
        or_u32(options->sequences_per_micro_max,
               rows_max < SEQUENCES_DEFAULT ? rows_max : SEQUENCES_DEFAULT);
    m->limits.micros_per_step_max = or_u32(options->micros_per_step_max, 1);
    m->limits.pipeline_depth = or_u32(options->pipeline_depth, 1);
    SEAM_TRY(training_fill(m, options, err));
    SEAM_TRY(codec_fill(m, options, err));
    SEAM_TRY(seam_config_from_message(ret_core, &m->config, err));
    ret_core->cache_dir = options->cache_dir;
    ret_core->distinct_rows = ret_core->distinct_rows && !options->repeat_rows;
    ret_core->arbiter.beta_after = or_f32(options->beta_after, m->amaq.beta * AFTER_FACTOR);
    ret_core->arbiter.bits_lr_after =
        or_f32(options->bits_lr_after, m->amaq.bits_lr * AFTER_FACTOR);
    return rate_fill(ret_core, options, err);
}

/* Rate and depth are the client's own affair: nothing of them is in the config. */
static seam_status rate_fill(seam_core_config *core, const seam_session_options *o,
                             seam_error *err) {
    core->depth_auto = o->pipeline_auto;
    if (!o->rate_auto) {
        return SEAM_OK;
    }
    if (!seam_codec_plan_has_gates(&core->codec) ||
        (core->codec.allocator != SEAM_ALLOCATOR_WATERFILL && core->codec.steps_to_target == 0)) {
        return seam_error_set(err, SEAM_E_ARG,
                              "rate: auto needs codec amaq with allocator waterfill or "
                              "steps_to_target");
    }
    const float high = or_f32(o->rate_bits_max, core->gates.bits_start);
    const float least = fmaxf(fminf(RATE_BITS_LEAST, high), core->gates.bits_min);
    const float low = or_f32(o->rate_bits_min, least);
    if (!(low >= core->gates.bits_min && low <= high && high <= core->gates.bits_max)) {
        return seam_error_set(
            err, SEAM_E_ARG, "rate_bits_min: %g, rate_bits_max %g: not rising within %g..%g",
            (double)low, (double)high, (double)core->gates.bits_min, (double)core->gates.bits_max);
    }
    if (!(o->step_seconds >= 0.0f && o->step_seconds <= SEAM_RATE_STEP_SECONDS_MAX)) {
        return seam_error_set(err, SEAM_E_ARG, "step_seconds: %g is not in 0..%g",
                              (double)o->step_seconds, (double)SEAM_RATE_STEP_SECONDS_MAX);
    }
    core->rate_auto = true;
    core->rate = (seam_rate_config){
        .bits_min = (double)low, .bits_max = (double)high, .step_seconds = (double)o->step_seconds};
    return SEAM_OK;
}

seam_status seam_config_from_message(seam_core_config *ret_core,
                                     const Seam__V1__SessionConfig *message, seam_error *err) {
    if (message->codec == NULL || message->limits == NULL) {
        return seam_error_set(err, SEAM_E_FORMAT, "config: codec or limits are missing");
    }
    const Seam__V1__CodecConfig *const codec = message->codec;
    const Seam__V1__Limits *const limits = message->limits;
    if (limits->rows_per_micro_max == 0 || limits->rows_per_micro_max > SEAM_ROWS_MAX ||
        limits->micros_per_step_max == 0 || limits->micros_per_step_max > SEAM_MICROS_MAX ||
        limits->sequences_per_micro_max == 0 || limits->pipeline_depth > SEAM_PIPELINE_DEPTH_MAX) {
        return seam_error_set(err, SEAM_E_ARG, "config.limits: out of range");
    }
    *ret_core = (seam_core_config){
        .codec = plan_of(message),
        .labelled_rows_only = codec->labelled_rows_only,
        .seed = codec->seed,
        .full = message->full,
        .lag_steps = 2,
        .rows_max = limits->rows_per_micro_max,
        .sequences_max = limits->sequences_per_micro_max,
        .micros_max = limits->micros_per_step_max,
        .pipeline_depth = or_u32(limits->pipeline_depth, 1),
    };
    seam_exchange_training_read(&ret_core->exchange_training, message);
    seam_training_facts *const training = &ret_core->training;
    seam_config_training_read(training, message);
    ret_core->codec.front = training->front_blocks > 0;
    ret_core->codec.front_trained = training->front_blocks > 0 && training->client_trains;
    SEAM_TRY(seam_codec_plan_check(&ret_core->codec, 0, err));
    SEAM_TRY(seam_codec_plan_check_depth(&ret_core->codec, limits->pipeline_depth, err));
    ret_core->sample_ids_needed = ret_core->codec.codec_out == SEAM_CODEC_AQSGD;
    ret_core->distinct_rows = seam_codec_plan_takes_row_sources(&ret_core->codec);
    if (!seam_codec_has_gates(ret_core->codec.codec_out)) {
        return SEAM_OK;
    }
    const Seam__V1__AmaqConfig *const amaq = codec->amaq;
    if (amaq == NULL || amaq->alloc_lag_steps < 2) {
        return seam_error_set(err, SEAM_E_ARG, "config.codec.amaq: missing, or lag below 2");
    }
    ret_core->gates = (seam_gates_config){
        .bits_min = amaq->bits_min,
        .bits_max = amaq->bits_max,
        .bits_start = amaq->bits_start,
        .alpha = amaq->alpha,
        .loss = (seam_bits_loss)amaq->bits_loss,
        .beta1 = 0.9f,
        .beta2 = 0.999f,
        .eps = 1e-8f,
    };
    ret_core->lag_steps = amaq->alloc_lag_steps;
    ret_core->arbiter = (seam_arbiter_config){
        .hard = amaq->clipping == SEAM__V1__CLIPPING__CLIPPING_HARD,
        .bits_target = amaq->bits_target,
        .beta = amaq->beta,
        .bits_lr = amaq->bits_lr,
        .beta_after = amaq->beta * AFTER_FACTOR,
        .bits_lr_after = amaq->bits_lr * AFTER_FACTOR,
        .l1 = amaq->bits_loss == SEAM__V1__BITS_LOSS__BITS_LOSS_L1,
        .pace = pace_of(&ret_core->gates, amaq),
        .lag_steps = amaq->alloc_lag_steps,
    };
    return seam_gates_config_check(&ret_core->gates, err);
}

static seam_pace_config pace_of(const seam_gates_config *gates, const Seam__V1__AmaqConfig *amaq) {
    return (seam_pace_config){
        .bits_start = (double)amaq->bits_start,
        .bits_target = (double)amaq->bits_target,
        .steps_to_target = amaq->steps_to_target,
        .shape = SEAM_PACE_LINEAR,
        .logit_distance = seam_gates_distance(gates, amaq->bits_target),
        .price_default = (double)amaq->beta,
    };
}

static seam_codec_plan plan_of(const Seam__V1__SessionConfig *config) {
    const Seam__V1__CodecConfig *const codec = config->codec;
    static const Seam__V1__AmaqConfig no_amaq = SEAM__V1__AMAQ_CONFIG__INIT;
    static const Seam__V1__AqsgdConfig no_aqsgd = SEAM__V1__AQSGD_CONFIG__INIT;
    const Seam__V1__AmaqConfig *const amaq = codec->amaq != NULL ? codec->amaq : &no_amaq;
    const Seam__V1__AqsgdConfig *const aqsgd = codec->aqsgd != NULL ? codec->aqsgd : &no_aqsgd;
    const int in =
        (int)(codec->codec_fwd_in != SEAM__V1__CODEC__CODEC_UNSPECIFIED ? codec->codec_fwd_in
                                                                        : codec->codec);
    return (seam_codec_plan){
        .topology = (uint32_t)config->topology,
        .resend_parameters = config->resend_parameters,
        .tail_layers = config->tail_layers,
        .all_layer_bits = config->all_layer_bits,
        .prefix_bits = config->prefix_bits,
        .codec_in = (seam_codec_id)in,
        .codec_out = (seam_codec_id)codec->codec,
        .bits = seam_codec_fixed_bits((seam_codec_id)codec->codec, codec->bits),
        .group = codec->group,
        .entropy = (uint32_t)codec->entropy,
        .send_input_gradient = codec->send_input_gradient,
        .dictionary_rows_max = codec->dictionary_rows_max,
        .cache_bytes_max = aqsgd->cache_bytes_max,
        .cache_format = (uint32_t)aqsgd->cache_format,
        .cache_bits = aqsgd->cache_bits,
        .allocator = (uint32_t)amaq->allocator,
        .granularity = (uint32_t)amaq->granularity,
        .steps_to_target = amaq->steps_to_target,
        /* Other codecs keep nothing that an exact signal would be formed with. */
        .gate_signal_exact = seam_codec_has_gates((seam_codec_id)codec->codec) &&
                             amaq->gate_signal == SEAM__V1__GATE_SIGNAL__GATE_SIGNAL_EXACT,
    };
}

static seam_status codec_fill(seam_config_message *m, const seam_session_options *o,
                              seam_error *err) {
    static const char *const entropies[] = {"none", "rans"};
    int entropy = 0;
    m->codec.codec = SEAM__V1__CODEC__CODEC_AMAQ;
    SEAM_TRY(codec_name_read(&m->codec.codec, "codec", o->codec, err));
    SEAM_TRY(codec_name_read(&m->codec.codec_fwd_in, "codec_fwd_in", o->codec_fwd_in, err));
    SEAM_TRY(seam_config_pick(&entropy, "entropy", o->entropy, entropies, 2, 0, err));
    m->codec.entropy = (Seam__V1__EntropyCoder)(entropy + 1);
    m->codec.labelled_rows_only = !o->all_rows;
    m->codec.send_input_gradient = o->send_input_gradient;
    m->codec.seed = o->seed;
    m->codec.group = o->group;
    if (m->codec.codec_fwd_in == SEAM__V1__CODEC__CODEC_DICTIONARY) {
        m->codec.dictionary_rows_max = or_u32(o->dictionary_rows_max, DICTIONARY_ROWS_DEFAULT);
    }
    const seam_codec_id id = (seam_codec_id)m->codec.codec;
    m->codec.bits = seam_codec_has_widths(id) && !seam_codec_has_gates(id) ? or_u32(o->bits, 4) : 0;
    if (id == SEAM_CODEC_AQSGD) {
        SEAM_TRY(aqsgd_fill(m, o, err));
    }
    if (!seam_codec_has_gates(id)) {
        return SEAM_OK;
    }
    m->codec.amaq = &m->amaq;
    return amaq_fill(&m->amaq, o, err);
}

/* NULL leaves *ret_codec as it is. */
static seam_status codec_name_read(Seam__V1__Codec *ret_codec, const char *field, const char *name,
                                   seam_error *err) {
    seam_codec_id id = SEAM_CODEC_F32;
    if (name == NULL) {
        return SEAM_OK;
    }
    if (!seam_codec_from_name(&id, name)) {
        return seam_error_set(err, SEAM_E_ARG,
                              "%s: '%s' is unknown (amaq, affine, group, bf16, ...)", field, name);
    }
    *ret_codec = (Seam__V1__Codec)id;
    return SEAM_OK;
}

static seam_status aqsgd_fill(seam_config_message *m, const seam_session_options *o,
                              seam_error *err) {
    static const char *const formats[] = {"fp16", "quantized"};
    int format = 0;
    SEAM_TRY(seam_config_pick(&format, "cache_format", o->cache_format, formats, 2, 0, err));
    m->aqsgd.cache_bytes_max = o->cache_bytes_max != 0 ? o->cache_bytes_max : CACHE_BYTES_DEFAULT;
    m->aqsgd.cache_format = (Seam__V1__CacheFormat)(format + 1);
    if (m->aqsgd.cache_format == SEAM__V1__CACHE_FORMAT__CACHE_FORMAT_QUANTIZED) {
        m->aqsgd.cache_bits = or_u32(o->cache_bits, 8);
    }
    m->codec.aqsgd = &m->aqsgd;
    return SEAM_OK;
}

static seam_status amaq_fill(Seam__V1__AmaqConfig *amaq, const seam_session_options *o,
                             seam_error *err) {
    static const char *const losses[] = {"l2", "l1"};
    static const char *const clips[] = {"soft", "hard"};
    static const char *const signals[] = {"surrogate", "exact"};
    static const char *const allocators[] = {"gates", "waterfill"};
    static const char *const granularities[] = {"feature", "token"};
    int loss = 0, clip = 0, signal = 0, allocator = 0, granularity = 0;
    SEAM_TRY(seam_config_pick(&allocator, "allocator", o->allocator, allocators, 2, 0, err));
    SEAM_TRY(
        seam_config_pick(&granularity, "granularity", o->granularity, granularities, 2, 0, err));
    SEAM_TRY(seam_config_pick(&loss, "bits_loss", o->bits_loss, losses, 2, 0, err));
    SEAM_TRY(seam_config_pick(&clip, "clip", o->clip, clips, 2, 0, err));
    SEAM_TRY(seam_config_pick(&signal, "gate_signal", o->gate_signal, signals, 2, 0, err));
    const float target = or_f32(o->bits_target, 4.0f);
    seam_gates_config preset = {
        .bits_min = o->bits_min, .bits_max = o->bits_max, .bits_start = o->bits_start};
    const bool custom = o->bits_min != 0.0f || o->bits_max != 0.0f || o->bits_start != 0.0f;
    if (!custom && !seam_gates_preset(&preset, target)) {
        return seam_error_set(err, SEAM_E_ARG,
                              "bits_target: %g has no preset; give bits_min, bits_max, bits_start",
                              (double)target);
    }
    if (!(target > preset.bits_min && target < preset.bits_start)) {
        return seam_error_set(err, SEAM_E_ARG, "bits_target: %g is not between bits_min and start",
                              (double)target);
    }
    amaq->bits_min = preset.bits_min;
    amaq->bits_max = preset.bits_max;
    amaq->bits_start = preset.bits_start;
    amaq->bits_target = target;
    amaq->alpha = or_f32(o->alpha, 1.0f);
    amaq->beta = or_f32(o->beta, 0.02f);
    amaq->bits_lr = or_f32(o->bits_lr, 0.01f);
    amaq->bits_loss = (Seam__V1__BitsLoss)(loss + 1);
    amaq->clipping = (Seam__V1__Clipping)(clip + 1);
    amaq->gate_signal = (Seam__V1__GateSignal)(signal + 1);
    amaq->alloc_lag_steps = or_u32(o->alloc_lag_steps, 2);
    amaq->allocator = (Seam__V1__Allocator)(allocator + 1);
    amaq->granularity = (Seam__V1__Granularity)(granularity + 1);
    amaq->steps_to_target = o->steps_to_target;
    return SEAM_OK;
}

static seam_status training_fill(seam_config_message *m, const seam_session_options *o,
                                 seam_error *err) {
    static const char *const schedules[] = {"constant", "linear", "cosine"};
    int schedule = 0;
    SEAM_TRY(seam_config_pick(&schedule, "schedule", o->schedule, schedules, 3, 0, err));
    m->optimizer.lr = or_f32(o->lr, 1e-4f);
    m->optimizer.beta1 = or_f32(o->adam_beta1, 0.9f);
    m->optimizer.beta2 = or_f32(o->adam_beta2, 0.999f);
    m->optimizer.eps = or_f32(o->adam_eps, 1e-8f);
    m->optimizer.weight_decay = o->weight_decay;
    m->optimizer.clip_norm = o->clip_norm;
    m->optimizer.schedule = (Seam__V1__Schedule)(schedule + 1);
    m->optimizer.warmup_steps = o->warmup_steps;
    m->optimizer.total_steps = o->total_steps;
    return seam_config_adapter_fill(m, o, err);
}

seam_status seam_config_pick(int *ret_value, const char *field, const char *text,
                             const char *const *names, int count, int if_null, seam_error *err) {
    if (text == NULL) {
        *ret_value = if_null;
        return SEAM_OK;
    }
    for (int i = 0; i < count; i++) {
        if (strcmp(text, names[i]) == 0) {
            *ret_value = i;
            return SEAM_OK;
        }
    }
    return seam_error_set(err, SEAM_E_ARG, "%s: '%s' is unknown (try '%s')", field, text,
                          names[if_null]);
}

/* ---- Site table and memory ---- */

seam_status seam_session_plan(seam_session *session, const Seam__V1__Session *message,
                              seam_error *err) {
    SEAM_TRY(sites_read(session, message, err));
    SEAM_TRY(seam_exchange_plan(session, err));
    if (!session->exchange.is_on) { /* else judged already */
        SEAM_TRY(seam_codec_plan_check(&session->config.codec, session->channels, err));
    }
    SEAM_TRY(allocations_create(session, err));
    SEAM_TRY(seam_session_memory_take(session, err));
    session->config.cache_dir = NULL; /* the caller's */
    if (session->by_token && seam_site_gates(session->site_in) != NULL) {
        seam_site_gates(session->site_in)->weights = session->gate_weights;
    }
    seam_arbiter_init(&session->arbiter, &session->config.arbiter);
    seam_depth_init(&session->depth, session->config.pipeline_depth, session->client->rtt_seconds);
    if (session->config.rate_auto) {
        seam_rate_init(&session->rate, &session->config.rate);
    }
    const seam_codec_plan *const plan = &session->config.codec;
    const bool has_signal = seam_codec_plan_has_signal(plan);
    const bool one_pass = seam_codec_plan_is_one_pass(plan);
    const seam_client_proto_config proto = {
        .committed_step_count = message->committed_step_count,
        .site_forward_reply = session->sites[one_pass ? session->fwd_in : session->fwd_out].id,
        .site_backward_reply = session->sites[has_signal ? session->fwd_in : session->bwd_in].id,
        .backward_reply = !one_pass && (has_signal || seam_codec_plan_has_input_gradient(plan)),
        .one_pass = one_pass,
        .has_norm = session->config.training.client_trains,
        .pipeline_depth = session->config.pipeline_depth,
        .give_up_ms = 0, /* link.c counts */
        .now_ms = seam_now_ms(),
    };
    seam_client_proto_init(&session->proto, &proto);
    return SEAM_OK;
}

static seam_status sites_read(seam_session *session, const Seam__V1__Session *message,
                              seam_error *err) {
    if (message->n_sites == 0 || message->n_sites > SEAM_SITE_ROWS_MAX) {
        return seam_error_set(err, SEAM_E_FORMAT, "the server's site table has %zu rows",
                              message->n_sites);
    }
    session->sites = seam_mem_zalloc(message->n_sites, sizeof *session->sites);
    if (session->sites == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    session->site_count = (uint32_t)message->n_sites;
    uint32_t found[9] = {0};
    for (uint32_t i = 0; i < session->site_count; i++) {
        const Seam__V1__Site *const site = message->sites[i];
        const uint32_t direction = (uint32_t)site->direction;
        const bool layer = direction == SEAM__V1__SITE_DIRECTION__SITE_DIRECTION_LAYER;
        const bool prefix = direction == SEAM__V1__SITE_DIRECTION__SITE_DIRECTION_PREFIX;
        const bool module = direction > 4 && !layer;
        if (direction < 1 || direction > 8 || site->id > UINT16_MAX || site->channels == 0 ||
            site->channels > SEAM_CHANNELS_MAX ||
            (!module && site->channels != message->sites[0]->channels)) {
            return seam_error_set(err, SEAM_E_FORMAT, "the server's site table: row %u", i);
        }
        const bool outer = site->direction == SEAM__V1__SITE_DIRECTION__SITE_DIRECTION_FWD_IN ||
                           site->direction == SEAM__V1__SITE_DIRECTION__SITE_DIRECTION_BWD_IN;
        const seam_codec_id codec =
            layer || prefix ? SEAM_CODEC_AMAQ
            : module        ? seam_codec_plan_module_codec(&session->config.codec, direction == 6)
                            : seam_codec_plan_codec(&session->config.codec, outer);
        if ((int)site->codec != (int)codec) {
            return seam_error_set(err, SEAM_E_FORMAT,
                                  "the server's site table: codec %d in row %u, expected %s",
                                  (int)site->codec, i, seam_codec_name(codec));
        }
        session->sites[i] = (seam_site_row){
            .id = (uint16_t)site->id,
            .paired_id = (uint16_t)site->paired_forward_site,
            .direction = site->direction,
            .boundary = site->boundary,
            .channels = site->channels,
            .codec = codec,
            .rows_all = site->rows,
        };
        seam_gates_row_name(&session->sites[i]);
        found[direction] = found[direction] == 0 ? i + 1 : found[direction];
    }
    if (found[1] == 0 || found[2] == 0 || found[3] == 0 || found[4] == 0) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED, "the server's sites are not U-shaped");
    }
    session->fwd_in = found[1] - 1;
    session->fwd_out = found[2] - 1;
    session->bwd_out = found[3] - 1;
    session->bwd_in = found[4] - 1;
    session->channels = session->sites[0].channels;
    session->width_count = seam_codec_plan_width_count(&session->config.codec, session->channels,
                                                       session->config.rows_max);
    session->by_token = session->sites[session->fwd_out].codec == SEAM_CODEC_AMAQ_TOKEN;
    return SEAM_OK;
}

static seam_status allocations_create(seam_session *session, seam_error *err) {
    seam_site_config config = {
        .site_id = session->sites[session->fwd_in].id,
        .codec = session->sites[session->fwd_in].codec,
        .width_count = session->width_count,
        .bits_fixed = (uint8_t)session->config.codec.bits,
        .gates = session->config.gates,
        .waterfill = session->config.codec.allocator == SEAM_ALLOCATOR_WATERFILL,
        .owner = true,
    };
    SEAM_TRY(seam_site_create(&session->site_in, &config, err));
    config.site_id = session->sites[session->fwd_out].id;
    config.codec = session->sites[session->fwd_out].codec;
    config.owner = false;
    return seam_site_create(&session->site_out, &config, err);
}
