/* Plan, creation and the small shared accessors; the math is in train_step.c. */
#include "trainer.h"

#include <string.h>

#include "message_limits.h"
#include "trainer_internal.h"
#include "try.h"

/* Largest wire size of a tensor of any site. */
static size_t tensor_bytes_max(const seam_session_config *config) {
    size_t largest = 0;
    for (uint32_t site = 0; site < SEAM_SITE_COUNT; site++) {
        const seam_coder_config coder = seam_session_config_coder(config, (uint16_t)site);
        const size_t bytes = seam_tensor_bytes_max(&coder, config->limits.rows_max);
        largest = bytes > largest ? bytes : largest;
    }
    return largest;
}

static uint32_t slot_count(const seam_session_config *config) {
    const uint32_t depth = config->pipeline_depth > 0 ? config->pipeline_depth : 1;
    return config->slots_kept > 0 ? config->slots_kept : depth;
}

static void config_take(seam_trainer *t, const seam_session_config *config) {
    SEAM_ASSERT(config->slots_kept <= SEAM_PIPELINE_DEPTH_MAX);
    t->config = config;
    t->optimizer = config->optimizer;
    t->backend = seam_blocks_backend(config->model->blocks);
    t->ops = seam_backend_ops(t->backend);
    t->channels = config->model->config->hidden;
    t->width_count = seam_session_config_width_count(config);
    t->by_token = seam_codec_plan_codec(&config->codec, false) == SEAM_CODEC_AMAQ_TOKEN;
    t->depth = config->pipeline_depth > 0 ? config->pipeline_depth : 1;
    t->staging_count = t->depth > 1 ? SEAM_STAGING_MAX : 1;
    t->answer_count = seam_step_backward_kept(t->depth);
    seam_trainer_select(t, 0, 0);
}

/* Layout arrays of a micro-batch. */
static void micro_carve(seam_micro *micro, seam_arena *arena, const seam_session_config *config) {
    const seam_layout_limits *limits = &config->limits;
    const bool has_tail = config->tail_layers > 0;
    micro->out_rows = seam_arena_take(arena, limits->rows_max * sizeof(uint32_t));
    micro->bitmap_memory = seam_arena_take(arena, has_tail ? limits->rows_max / 8 + 1 : 0);
    micro->sequence_out = seam_arena_take(arena, limits->sequences_max * sizeof(uint32_t));
}

/* Tensors on their way in and out. */
static void messages_carve(seam_trainer *t, seam_arena *arena) {
    const seam_session_config *config = t->config;
    const size_t tensor_bytes = tensor_bytes_max(config);
    const uint32_t chunks = seam_coder_chunks_max(config->limits.rows_max);
    const bool gradient = seam_codec_plan_has_input_gradient(&config->codec);
    const size_t signal_bytes = t->width_count * sizeof(float) + 2 * SEAM_FRAME_HEADER_BYTES;
    for (uint32_t i = 0; i < t->staging_count; i++) {
        seam_staging *in = &t->stagings[i];
        in->capacity_bytes =
            tensor_bytes + seam_exchange_message_bytes(config) + SEAM_MESSAGE_BYTES_MAX;
        in->bytes = seam_arena_take(arena, in->capacity_bytes);
        in->chunks_max = chunks + seam_exchange_frame_count(config);
        in->chunks = seam_arena_take(arena, in->chunks_max * sizeof *in->chunks);
    }
    for (uint32_t i = 0; i < t->answer_count; i++) {
        seam_reply_carve(&t->answers[i], arena, signal_bytes + (gradient ? tensor_bytes : 0),
                         1 + (gradient ? chunks : 0));
    }
    /* Of one pass the forward reply is all that an answer has, and the loss. */
    const bool one_pass = seam_session_config_is_one_pass(config);
    const size_t pass_bytes = signal_bytes + (gradient ? tensor_bytes : 0) +
                              seam_one_pass_reply_bytes() + seam_exchange_answer_bytes(config);
    const uint32_t pass_chunks = 2 + (gradient ? chunks : 0) + seam_exchange_frame_count(config);
    for (uint32_t i = 0; i < t->depth; i++) {
        seam_reply_carve(&t->slots[i].forward_reply, arena, one_pass ? pass_bytes : tensor_bytes,
                         one_pass ? pass_chunks : chunks);
    }
}

static void slot_carve(trainer_slot *slot, const seam_trainer *t, seam_arena *arena) {
    const uint32_t rows = t->config->limits.rows_max;
    const size_t floats = (size_t)rows * t->channels * sizeof(float);
    const size_t step_floats = (t->by_token ? rows : t->channels) * sizeof(float);
    const size_t gates_bytes = t->by_token ? rows * sizeof(uint32_t) : 0;
    const bool kept = seam_session_config_keeps_out(t->config);
    micro_carve(&slot->micro, arena, t->config);
    slot->out_x = seam_arena_take(arena, kept ? floats : 0);
    slot->out_decoded = seam_arena_take(arena, kept ? floats : 0);
    slot->steps_in = seam_arena_take(arena, step_floats);
    slot->steps_out = seam_arena_take(arena, step_floats);
    slot->gates_in = seam_arena_take(arena, gates_bytes);
    slot->gates_out = seam_arena_take(arena, gates_bytes);
}

/* All host buffers, as views; with an empty arena this is the plan. */
static void carve(seam_trainer *t, seam_arena *arena) {
    const seam_session_config *config = t->config;
    const uint32_t rows = config->limits.rows_max;
    const size_t floats = (size_t)rows * t->channels * sizeof(float);
    const size_t width_floats = t->width_count * sizeof(float);
    messages_carve(t, arena);
    for (uint32_t i = 0; i < t->depth; i++) {
        slot_carve(&t->slots[i], t, arena);
    }
    micro_carve(&t->coming, arena, config);
    t->seq_begin = seam_arena_take(arena, (config->limits.sequences_max + 1) * sizeof(uint32_t));
    t->positions = seam_arena_take(arena, rows * sizeof(uint32_t));
    t->rows = seam_arena_take(arena, floats);
    t->packed = seam_arena_take(arena, floats);
    t->spans_out = seam_arena_take(arena, t->channels * sizeof(float));
    t->db_out = seam_arena_take(arena, width_floats);
    t->sums = seam_arena_take(arena, width_floats);
    t->signal = seam_arena_take(arena, width_floats);
    t->widths = seam_arena_take(arena, t->width_count);
    t->likeliest = seam_arena_take(
        arena, seam_session_config_is_one_pass(config) ? rows * sizeof(uint32_t) : 0);
    t->counts_out = seam_arena_take(arena, t->by_token ? t->width_count * sizeof(uint32_t) : 0);
    t->weights_out = seam_arena_take(arena, t->by_token ? width_floats : 0);
    seam_trainer_device_carve(t, arena);
    seam_layers_carve(t, arena);
}

static seam_activations_options acts_options(const seam_session_config *config) {
    return (seam_activations_options){.adapter = &config->adapter,
                                      .rows_max = config->limits.rows_max,
                                      .seqs_max = config->limits.sequences_max,
                                      .recompute = config->recompute,
                                      .fp8 = config->fp8,
                                      .sets = config->pipeline_depth};
}

/* Activations of the slots after the first, which have the boundary rows in common. */
static seam_status acts_plan_more(seam_memory_plan *plan, const seam_trainer *t,
                                  const seam_memory_blocks *blocks,
                                  const seam_activations_options *acts) {
    seam_memory_plan one = {0};
    const size_t x = (size_t)acts->rows_max * t->channels * seam_dtype_bytes(blocks->ops->acc);
    SEAM_TRY(seam_memory_plan_training(&one, blocks, acts));
    const uint64_t more = slot_count(t->config) - 1;
    plan->device[SEAM_MEMORY_ACTIVATIONS] += more * (one.device[SEAM_MEMORY_ACTIVATIONS] - x);
    plan->host[SEAM_MEMORY_ACTIVATIONS] += more * one.host[SEAM_MEMORY_ACTIVATIONS];
    return SEAM_OK;
}

seam_status seam_trainer_plan(seam_memory_plan *plan, const seam_session_config *config) {
    seam_trainer trainer = {0};
    seam_arena arena = {0};
    config_take(&trainer, config);
    carve(&trainer, &arena);
    plan->host[SEAM_MEMORY_CODEC] += sizeof trainer + arena.used_bytes;
    for (uint32_t site = 0; site < SEAM_SITE_COUNT; site++) {
        const seam_coder_config coder = seam_session_config_coder(config, (uint16_t)site);
        plan->host[SEAM_MEMORY_CODEC] += seam_coder_memory_bytes(&coder);
        plan->host[SEAM_MEMORY_CACHE] += config->cache_dir == NULL ? coder.storage_bytes : 0;
    }
    seam_trainer_device_plan(plan, &trainer);
    seam_layers_plan(plan, &trainer);
    seam_one_pass_plan(plan, &trainer);
    const seam_memory_blocks blocks = seam_session_config_blocks(config);
    if (seam_session_config_has_prefix_gates(config)) {
        seam_prefix_quantizer_plan(plan, &blocks, &config->adapter.prefix,
                                   config->codec.gate_signal_exact, trainer.ops->codec != NULL);
    }
    seam_exchange_plan(plan, config);
    const seam_activations_options acts = acts_options(config);
    SEAM_TRY(seam_memory_plan_training(plan, &blocks, &acts));
    return acts_plan_more(plan, &trainer, &blocks, &acts);
}

static seam_status coder_create(seam_trainer *t, uint16_t site, seam_error *err) {
    seam_coder_config coder = seam_session_config_coder(t->config, site);
    const seam_status st =
        seam_storage_open(&t->caches[site], t->config->cache_dir, coder.storage_bytes, err);
    if (st != SEAM_OK) {
        return seam_error_prefix(err, st, "cache of site %u", site);
    }
    coder.storage = t->caches[site].bytes;
    coder.space = t->device.space;
    return seam_coder_create(&t->coders[site], &coder);
}

static seam_status sites_create(seam_trainer *t, seam_error *err) {
    seam_site_config config = {
        .site_id = SEAM_SITE_FWD_IN,
        .codec = seam_session_config_codec(t->config, SEAM_SITE_FWD_IN),
        .width_count = t->width_count,
        .bits_fixed = (uint8_t)t->config->codec.bits,
        .gates = t->config->gates,
        .waterfill = t->config->codec.allocator == SEAM_ALLOCATOR_WATERFILL,
        .owner = false,
    };
    SEAM_TRY(seam_site_create(&t->site_in, &config, err));
    config.site_id = SEAM_SITE_FWD_OUT;
    config.codec = seam_session_config_codec(t->config, SEAM_SITE_FWD_OUT);
    config.owner = true;
    SEAM_TRY(seam_site_create(&t->site_out, &config, err));
    if (t->by_token) {
        seam_site_gates(t->site_out)->weights = t->weights_out;
    }
    for (uint32_t site = 0; site < SEAM_SITE_COUNT; site++) {
        SEAM_TRY(coder_create(t, (uint16_t)site, err));
    }
    return SEAM_OK;
}

static seam_status prefix_create(seam_trainer *t) {
    const seam_session_config *config = t->config;
    const seam_prefix_quantizer_config prefix = {.gates = config->prefix_gates,
                                                 .bits_target = config->prefix_bits,
                                                 .steps_to_target = config->prefix_steps,
                                                 .exact = config->codec.gate_signal_exact};
    return seam_session_config_has_prefix_gates(config)
               ? seam_prefix_quantizer_create(&t->prefix, t->adapter, &prefix)
               : SEAM_OK;
}

SEAM_ON_GPU static seam_status fill(seam_trainer *t, seam_stream *stream, seam_error *err) {
    const seam_session_config *config = t->config;
    const size_t x_count = (size_t)config->limits.rows_max * t->channels;
    seam_arena plan = {0};
    carve(t, &plan);
    SEAM_TRY(seam_arena_init(&t->arena, plan.used_bytes));
    carve(t, &t->arena);
    SEAM_TRY(seam_session_config_view(&t->blocks, config));
    SEAM_TRY(seam_adapter_create(&t->adapter, t->blocks, &config->adapter, err));
    const seam_activations_options acts = acts_options(config);
    for (; t->slot_acts_count < slot_count(config); t->slot_acts_count++) {
        SEAM_TRY(seam_activations_create(&t->slot_acts[t->slot_acts_count], t->blocks, &acts, err));
    }
    SEAM_TRY(seam_trainer_device_create(t));
    SEAM_TRY(sites_create(t, err));
    SEAM_TRY(seam_one_pass_create(t));
    SEAM_TRY(seam_exchange_create(&t->exchange, config, t->adapter, err));
    SEAM_TRY(seam_layers_create(t, stream));
    SEAM_TRY(prefix_create(t));
    SEAM_TRY(t->ops->mem_alloc(&t->x, t->backend, x_count * seam_dtype_bytes(t->ops->acc)));
    return seam_trainer_refresh(t, stream);
}

seam_status seam_trainer_create(seam_trainer **ret_trainer, const seam_session_config *config,
                                seam_stream *stream, seam_error *err) {
    seam_trainer *t = seam_mem_zalloc(1, sizeof *t);
    if (t == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "session: out of memory");
    }
    config_take(t, config);
    t->budget =
        (seam_budget){.bits_loss_active = true, .beta = config->beta, .bits_lr = config->bits_lr};
    const seam_status st = fill(t, stream, err);
    if (st != SEAM_OK) {
        seam_trainer_destroy(t);
        return seam_error_prefix(err, st, "session");
    }
    *ret_trainer = t;
    return SEAM_OK;
}

bool seam_trainer_trim(seam_trainer *trainer) {
    const uint32_t before = trainer->slot_acts_count;
    while (trainer->slot_acts_count > slot_count(trainer->config)) {
        seam_activations_destroy(trainer->slot_acts[--trainer->slot_acts_count]);
    }
    return trainer->slot_acts_count < before;
}

void seam_trainer_destroy(seam_trainer *gift_trainer) {
    if (gift_trainer == NULL) {
        return;
    }
    seam_trainer *t = gift_trainer;
    seam_prefix_quantizer_destroy(t->prefix);
    seam_layers_destroy(t);
    seam_exchange_destroy(&t->exchange);
    seam_one_pass_destroy(t);
    t->ops->mem_free(t->backend, t->x);
    seam_cache_keeper_destroy(t->keeper);
    for (uint32_t site = 0; site < SEAM_SITE_COUNT; site++) {
        seam_coder_destroy(t->coders[site]);
        seam_storage_close(&t->caches[site]);
    }
    seam_trainer_device_destroy(t);
    seam_site_destroy(t->site_out);
    seam_site_destroy(t->site_in);
    while (t->slot_acts_count > 0) {
        seam_activations_destroy(t->slot_acts[--t->slot_acts_count]);
    }
    seam_adapter_destroy(t->adapter);
    seam_blocks_destroy(t->blocks);
    seam_arena_deinit(&t->arena);
    seam_mem_free(t);
}

void seam_trainer_select(seam_trainer *trainer, uint32_t micro, uint32_t staging_idx) {
    SEAM_ASSERT(staging_idx < trainer->staging_count);
    trainer->at = &trainer->slots[micro % trainer->depth];
    trainer->acts = trainer->slot_acts[micro % slot_count(trainer->config)];
    trainer->in = &trainer->stagings[staging_idx];
    trainer->answer = seam_session_config_is_one_pass(trainer->config)
                          ? &trainer->at->forward_reply
                          : seam_trainer_backward_reply(trainer, micro);
}

void seam_trainer_set_optimizer(seam_trainer *trainer, const seam_optimizer_config *optimizer) {
    trainer->optimizer = *optimizer;
}

uint32_t seam_trainer_staging_count(const seam_trainer *trainer) {
    return trainer->staging_count;
}

seam_staging *seam_trainer_staging(seam_trainer *trainer, uint32_t idx) {
    SEAM_ASSERT(idx < trainer->staging_count);
    return &trainer->stagings[idx];
}

seam_micro *seam_trainer_coming(seam_trainer *trainer) {
    return &trainer->coming;
}

seam_micro *seam_trainer_micro(seam_trainer *trainer) {
    return &trainer->at->micro;
}

seam_reply *seam_trainer_forward_reply(seam_trainer *trainer, uint32_t micro) {
    return &trainer->slots[micro % trainer->depth].forward_reply;
}

seam_reply *seam_trainer_backward_reply(seam_trainer *trainer, uint32_t micro) {
    return &trainer->answers[micro % trainer->answer_count];
}

void seam_trainer_drop_replies(seam_trainer *trainer) {
    for (uint32_t i = 0; i < trainer->depth; i++) {
        seam_reply_clear(&trainer->slots[i].forward_reply);
    }
    for (uint32_t i = 0; i < trainer->answer_count; i++) {
        seam_reply_clear(&trainer->answers[i]);
    }
}

seam_site *seam_trainer_site(seam_trainer *trainer, uint16_t forward_site) {
    return forward_site == SEAM_SITE_FWD_IN ? trainer->site_in : trainer->site_out;
}

seam_adapter *seam_trainer_adapter(seam_trainer *trainer) {
    return trainer->adapter;
}

const struct trainer_exchange *seam_trainer_exchange(const seam_trainer *trainer) {
    return &trainer->exchange;
}

seam_adapter *seam_trainer_adapter_used(const seam_trainer *trainer) {
    return trainer->config->server_trains ? trainer->adapter : NULL;
}

const seam_blocks *seam_trainer_layers(const seam_trainer *trainer) {
    return trainer->blocks;
}

uint64_t seam_trainer_state_hash(const seam_trainer *trainer) {
    return trainer->state_hash;
}

uint32_t seam_trainer_rows_out(const seam_trainer *trainer, const seam_micro *micro) {
    return trainer->config->labelled_rows_only ? micro->out_count : micro->layout.rows;
}

seam_status seam_trainer_set_budget(seam_trainer *trainer, const seam_budget *budget,
                                    uint64_t step_now, seam_error *err) {
    seam_budget *next = &trainer->budget_next;
    if (budget->effective_step < step_now) {
        return SEAM_OK;
    }
    if (trainer->has_budget_next && next->effective_step != budget->effective_step) {
        if (next->effective_step > step_now) {
            return seam_error_set(err, SEAM_E_STATE,
                                  "budget.effective_step: %llu, the budget for %llu is not yet in "
                                  "force",
                                  (unsigned long long)budget->effective_step,
                                  (unsigned long long)next->effective_step);
        }
        trainer->budget = *next;
    }
    *next = *budget;
    trainer->has_budget_next = true;
    return SEAM_OK;
}

seam_status seam_trainer_keep_caches(seam_trainer *trainer, const char *folder, uint64_t owner,
                                     seam_error *err) {
    SEAM_ASSERT(trainer->keeper == NULL);
    return seam_cache_keeper_create(&trainer->keeper, trainer->coders, SEAM_SITE_COUNT, folder,
                                    owner, err);
}

seam_cache_keeper *seam_trainer_keeper(const seam_trainer *trainer) {
    return trainer->keeper;
}

seam_status seam_trainer_abort_step(seam_trainer *trainer, seam_stream *stream) {
    SEAM_TRY(seam_trainer_drop_step(trainer, stream));
    if (trainer->keeper != NULL) {
        return seam_cache_keeper_rewind(trainer->keeper, NULL);
    }
    /* Replies of the step may never have reached a client that no longer holds it. */
    seam_coder_forget(trainer->coders[SEAM_SITE_FWD_OUT]);
    return SEAM_OK;
}

seam_status seam_trainer_drop_step(seam_trainer *trainer, seam_stream *stream) {
    trainer->compute_seconds = trainer->codec_seconds = 0;
    memset(trainer->db_out, 0, trainer->width_count * sizeof(float));
    memset(trainer->counts_out, 0, trainer->by_token ? trainer->width_count * sizeof(uint32_t) : 0);
    memset(trainer->spans_out, 0, trainer->channels * sizeof(float));
    trainer->rows_out = 0;
    seam_gate_group_abort(&trainer->layers.group);
    return seam_adapter_clear_gradient(trainer->adapter, stream);
}

seam_status seam_trainer_refresh(seam_trainer *trainer, seam_stream *stream) {
    if (trainer->prefix != NULL) {
        SEAM_TRY(seam_prefix_quantizer_refresh(trainer->prefix, stream));
    }
    return seam_adapter_state_hash(&trainer->state_hash, trainer->adapter, stream);
}
