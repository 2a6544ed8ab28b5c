/* Field after field, in the order of their numbers; see config_hash.h and WIRE.md section 6. */
#include "config_hash.h"

#include <string.h>

#include "bytes.h"

static uint64_t add_u8(uint64_t hash, uint8_t value) {
    return seam_hash64(hash, &value, 1);
}

static uint64_t add_u32(uint64_t hash, uint32_t value) {
    uint8_t bytes[4];
    seam_put_u32(bytes, value);
    return seam_hash64(hash, bytes, sizeof bytes);
}

static uint64_t add_u64(uint64_t hash, uint64_t value) {
    uint8_t bytes[8];
    seam_put_u64(bytes, value);
    return seam_hash64(hash, bytes, sizeof bytes);
}

static uint64_t add_f32(uint64_t hash, float value) {
    uint8_t bytes[4];
    seam_put_f32(bytes, value);
    return seam_hash64(hash, bytes, sizeof bytes);
}

static uint64_t add_text(uint64_t hash, const char *text) {
    const size_t count = text != NULL ? strlen(text) : 0;
    return seam_hash64(add_u32(hash, (uint32_t)count), text != NULL ? text : "", count);
}

static uint64_t add_lora(uint64_t hash, const Seam__V1__LoraConfig *lora) {
    hash = add_u32(hash, lora->rank);
    hash = add_f32(hash, lora->alpha);
    hash = add_u32(hash, (uint32_t)lora->n_targets);
    for (size_t i = 0; i < lora->n_targets; i++) {
        hash = add_u32(hash, (uint32_t)lora->targets[i]);
    }
    hash = add_f32(hash, lora->dropout);
    hash = add_u64(hash, lora->seed);
    return add_u8(hash, lora->rslora != 0);
}

static uint64_t add_optimizer(uint64_t hash, const Seam__V1__OptimizerConfig *optimizer) {
    hash = add_f32(hash, optimizer->lr);
    hash = add_f32(hash, optimizer->beta1);
    hash = add_f32(hash, optimizer->beta2);
    hash = add_f32(hash, optimizer->eps);
    hash = add_f32(hash, optimizer->weight_decay);
    hash = add_f32(hash, optimizer->clip_norm);
    hash = add_u32(hash, (uint32_t)optimizer->schedule);
    hash = add_u64(hash, optimizer->warmup_steps);
    return add_u64(hash, optimizer->total_steps);
}

static uint64_t add_amaq(uint64_t hash, const Seam__V1__AmaqConfig *amaq) {
    hash = add_f32(hash, amaq->bits_min);
    hash = add_f32(hash, amaq->bits_max);
    hash = add_f32(hash, amaq->bits_start);
    hash = add_f32(hash, amaq->bits_target);
    hash = add_f32(hash, amaq->alpha);
    hash = add_f32(hash, amaq->beta);
    hash = add_f32(hash, amaq->bits_lr);
    hash = add_u32(hash, (uint32_t)amaq->bits_loss);
    hash = add_u32(hash, (uint32_t)amaq->clipping);
    hash = add_u32(hash, (uint32_t)amaq->gate_signal);
    hash = add_u32(hash, amaq->alloc_lag_steps);
    hash = add_u32(hash, (uint32_t)amaq->allocator);
    hash = add_u32(hash, (uint32_t)amaq->granularity);
    return add_u64(hash, amaq->steps_to_target);
}

static uint64_t add_codec(uint64_t hash, const Seam__V1__CodecConfig *codec) {
    static const Seam__V1__AmaqConfig no_amaq = SEAM__V1__AMAQ_CONFIG__INIT;
    static const Seam__V1__AqsgdConfig no_aqsgd = SEAM__V1__AQSGD_CONFIG__INIT;
    const Seam__V1__AqsgdConfig *aqsgd = codec->aqsgd != NULL ? codec->aqsgd : &no_aqsgd;
    hash = add_u32(hash, (uint32_t)codec->codec);
    hash = add_u32(hash, codec->bits);
    hash = add_amaq(hash, codec->amaq != NULL ? codec->amaq : &no_amaq);
    hash = add_u8(hash, codec->labelled_rows_only != 0);
    hash = add_u64(hash, codec->seed);
    hash = add_u32(hash, codec->group);
    hash = add_u64(hash, aqsgd->cache_bytes_max);
    hash = add_u32(hash, (uint32_t)aqsgd->cache_format);
    hash = add_u32(hash, aqsgd->cache_bits);
    hash = add_u32(hash, (uint32_t)codec->entropy);
    hash = add_u32(hash, (uint32_t)codec->codec_fwd_in);
    hash = add_u32(hash, codec->dictionary_rows_max);
    return add_u8(hash, codec->send_input_gradient != 0);
}

static uint64_t add_limits(uint64_t hash, const Seam__V1__Limits *limits) {
    hash = add_u32(hash, limits->rows_per_micro_max);
    hash = add_u32(hash, limits->sequences_per_micro_max);
    hash = add_u32(hash, limits->micros_per_step_max);
    return add_u32(hash, limits->pipeline_depth);
}

/* A field that came after sessions had been stored, by its number in types.proto: one that is not
 * set adds nothing, so that the hash of a config which does not know the field stays what it was.
 */
static uint64_t add_later(uint64_t hash, uint32_t number, uint32_t value) {
    return value == 0 ? hash : add_u32(add_u32(hash, number), value);
}

static uint32_t bits_of(float value) {
    uint8_t bytes[4];
    seam_put_f32(bytes, value);
    return seam_get_u32(bytes);
}

uint64_t seam_config_hash(const Seam__V1__SessionConfig *config) {
    static const Seam__V1__PrefixConfig no_prefix = SEAM__V1__PREFIX_CONFIG__INIT;
    const Seam__V1__PrefixConfig *prefix = config->prefix != NULL ? config->prefix : &no_prefix;
    static const Seam__V1__LoraConfig no_lora = SEAM__V1__LORA_CONFIG__INIT;
    static const Seam__V1__OptimizerConfig no_optimizer = SEAM__V1__OPTIMIZER_CONFIG__INIT;
    static const Seam__V1__CodecConfig no_codec = SEAM__V1__CODEC_CONFIG__INIT;
    static const Seam__V1__Limits no_limits = SEAM__V1__LIMITS__INIT;
    uint64_t hash = add_text(SEAM_HASH64_INIT, config->model);
    hash = add_u32(hash, (uint32_t)config->topology);
    hash = add_u32(hash, config->front_layers);
    hash = add_u32(hash, config->tail_layers);
    hash = add_lora(hash, config->lora != NULL ? config->lora : &no_lora);
    hash = add_optimizer(hash, config->optimizer != NULL ? config->optimizer : &no_optimizer);
    hash = add_codec(hash, config->codec != NULL ? config->codec : &no_codec);
    hash = add_limits(hash, config->limits != NULL ? config->limits : &no_limits);
    hash = add_text(hash, config->name);
    hash = add_u8(hash, config->recompute != 0);
    hash = add_u8(hash, config->fp8 != 0);
    hash = add_u32(hash, prefix->virtual_tokens);
    hash = add_u64(hash, prefix->seed);
    hash = add_later(hash, 13, (uint32_t)config->consent);
    hash = add_later(hash, 14, config->resend_parameters != 0);
    hash = add_later(hash, 15, (uint32_t)config->lora_side);
    hash = add_later(hash, 16, config->full != 0);
    hash = add_later(hash, 17, bits_of(config->all_layer_bits));
    hash = add_later(hash, 18, config->all_layer_steps);
    hash = add_later(hash, 19, bits_of(config->prefix_bits));
    return add_later(hash, 20, config->prefix_steps);
}
