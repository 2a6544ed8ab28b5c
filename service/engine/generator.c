/* One request = one pass; the order of work is that of train_step.c's forward half. */
#include "generator.h"

#include <string.h>

#include "message_limits.h"
#include "try.h"

struct seam_generator {
    const seam_session_config *config;
    seam_trainer *trainer;
    seam_generator_options options;
    const seam_ops *ops;
    seam_backend *backend;
    seam_arena arena;
    seam_activations *acts; /* Forward */
    seam_kv_cache *cache;   /* Generate */
    uint32_t channels;
    void *x; /* (rows, C) acc, device */
    seam_staging in;
    seam_generator_request request;
    seam_reply reply;
    uint32_t *seq_begin;             /* (rows + 1) */
    uint32_t *positions, *row_slots; /* (rows) */
    uint32_t *slot_rows;             /* (slots): positions that are filled */
    float *rows, *packed;            /* (rows, C) */
    seam_coder *coder_in, *coder_out;
};

seam_status seam_generator_options_check(const seam_generator_options *options,
                                         const seam_session_config *config, uint32_t rows_max,
                                         seam_error *err) {
    const uint32_t context = seam_session_config_context(config);
    if (options->rows_max == 0 || options->rows_max > rows_max) {
        return seam_error_set(err, SEAM_E_ARG, "open.rows_max: %u is not in 1..%u",
                              options->rows_max, rows_max);
    }
    if (options->positions_max == 0 || options->positions_max > context) {
        return seam_error_set(err, SEAM_E_ARG, "open.positions_max: %u is not in 1..%u",
                              options->positions_max, context);
    }
    if (options->cached && (options->slot_count == 0 || options->slot_count > SEAM_SLOTS_MAX)) {
        return seam_error_set(err, SEAM_E_ARG, "open.slot_count: %u is not in 1..%u",
                              options->slot_count, SEAM_SLOTS_MAX);
    }
    return SEAM_OK;
}

/* The coder of a forward site in phase 3: a codec with a cache codes as its gradients do. */
static seam_coder_config coder_config(const seam_generator *g, uint16_t site) {
    seam_coder_config config = seam_session_config_coder(g->config, site);
    config.codec = seam_codec_has_requests(config.codec) ? config.codec : SEAM_CODEC_BF16;
    config.gradient = true;
    config.storage_bytes = 0;
    config.rows_max = g->options.rows_max;
    return config;
}

/* Largest wire size of a tensor: f32, which may always come, or of a session's codec. */
static size_t tensor_bytes_max(const seam_generator *g) {
    size_t largest = 0;
    static const uint16_t sites[] = {SEAM_SITE_FWD_IN, SEAM_SITE_FWD_OUT};
    for (size_t i = 0; i < sizeof sites / sizeof sites[0]; i++) {
        seam_coder_config config = coder_config(g, sites[i]);
        const size_t own = seam_tensor_bytes_max(&config, config.rows_max);
        config.codec = SEAM_CODEC_F32;
        const size_t f32 = seam_tensor_bytes_max(&config, config.rows_max);
        largest = own > largest ? own : largest;
        largest = f32 > largest ? f32 : largest;
    }
    return largest;
}

/* All host buffers, as views; with an empty arena this is the plan. */
static void carve(seam_generator *g, seam_arena *arena) {
    const uint32_t rows = g->options.rows_max;
    const uint32_t channels = g->config->model->config->hidden;
    const size_t floats = (size_t)rows * channels * sizeof(float);
    const size_t tensor_bytes = tensor_bytes_max(g);
    const uint32_t chunks = seam_coder_chunks_max(rows);
    g->in.capacity_bytes = tensor_bytes + SEAM_MESSAGE_BYTES_MAX;
    g->in.bytes = seam_arena_take(arena, g->in.capacity_bytes);
    g->in.chunks_max = chunks;
    g->in.chunks = seam_arena_take(arena, chunks * sizeof *g->in.chunks);
    seam_reply_carve(&g->reply, arena, tensor_bytes, chunks);
    g->request.rows_out = seam_arena_take(arena, rows * sizeof(uint32_t));
    g->seq_begin = seam_arena_take(arena, ((size_t)rows + 1) * sizeof(uint32_t));
    g->positions = seam_arena_take(arena, rows * sizeof(uint32_t));
    g->row_slots = seam_arena_take(arena, rows * sizeof(uint32_t));
    g->slot_rows = seam_arena_take(arena, g->options.slot_count * sizeof(uint32_t));
    g->rows = seam_arena_take(arena, floats);
    g->packed = seam_arena_take(arena, floats);
}

/* Cache positions of a slot: a prefix stands before the text. */
static uint32_t cache_positions(const seam_session_config *config,
                                const seam_generator_options *options) {
    return options->positions_max + seam_adapter_config_tokens(&config->adapter);
}

/* The memory of one layer, in which rows pass through all. */
static seam_activations_options acts_options(const seam_generator_options *options) {
    return (seam_activations_options){.rows_max = options->rows_max, .seqs_max = options->rows_max};
}

seam_status seam_generator_plan(seam_memory_plan *plan, const seam_session_config *config,
                                const seam_generator_options *options) {
    const seam_ops *ops = seam_backend_ops(seam_blocks_backend(config->model->blocks));
    seam_blocks *blocks = NULL;
    seam_generator generator = {.config = config, .options = *options};
    seam_arena arena = {0};
    carve(&generator, &arena);
    const seam_coder_config in = coder_config(&generator, SEAM_SITE_FWD_IN);
    const seam_coder_config out = coder_config(&generator, SEAM_SITE_FWD_OUT);
    plan->host[SEAM_MEMORY_CODEC] += sizeof generator + arena.used_bytes +
                                     seam_coder_memory_bytes(&in) + seam_coder_memory_bytes(&out);
    const seam_activations_options acts = acts_options(options);
    SEAM_TRY(seam_session_config_view(&blocks, config));
    const size_t acts_bytes = seam_activations_bytes(blocks, &acts);
    const size_t acts_host_bytes = seam_activations_host_bytes(blocks, &acts);
    const size_t keys_bytes =
        options->cached
            ? seam_kv_cache_bytes(blocks, options->slot_count, cache_positions(config, options))
            : 0;
    seam_blocks_destroy(blocks);
    if (acts_bytes == 0 || (options->cached && keys_bytes == 0)) {
        return SEAM_E_LIMIT;
    }
    if (ops->repeat != NULL) {
        const seam_memory_blocks shape = seam_session_config_blocks(config);
        seam_memory_plan_repeats(plan, &shape, &config->adapter);
    }
    plan->host[SEAM_MEMORY_ACTIVATIONS] += acts_host_bytes;
    plan->device[SEAM_MEMORY_KEYS] += keys_bytes;
    plan->device[SEAM_MEMORY_ACTIVATIONS] += acts_bytes + (size_t)options->rows_max *
                                                              config->model->config->hidden *
                                                              seam_dtype_bytes(ops->acc);
    return SEAM_OK;
}

static seam_status fill(seam_generator *g, seam_error *err) {
    const seam_generator_options *options = &g->options;
    const seam_blocks *blocks = seam_trainer_layers(g->trainer);
    const size_t x_count = (size_t)options->rows_max * g->channels;
    seam_arena plan = {0};
    carve(g, &plan);
    SEAM_TRY(seam_arena_init(&g->arena, plan.used_bytes));
    carve(g, &g->arena);
    const seam_coder_config in = coder_config(g, SEAM_SITE_FWD_IN);
    const seam_coder_config out = coder_config(g, SEAM_SITE_FWD_OUT);
    SEAM_TRY(seam_coder_create(&g->coder_in, &in));
    SEAM_TRY(seam_coder_create(&g->coder_out, &out));
    if (options->cached) {
        SEAM_TRY(seam_kv_cache_create(&g->cache, blocks, options->slot_count,
                                      cache_positions(g->config, options), options->rows_max, err));
    } else {
        const seam_activations_options acts = acts_options(options);
        SEAM_TRY(seam_activations_create(&g->acts, blocks, &acts, err));
    }
    return g->ops->mem_alloc(&g->x, g->backend, x_count * seam_dtype_bytes(g->ops->acc));
}

seam_status seam_generator_create(seam_generator **ret_generator, const seam_session_config *config,
                                  seam_trainer *trainer, const seam_generator_options *options,
                                  seam_error *err) {
    seam_generator *g = seam_mem_zalloc(1, sizeof *g);
    if (g == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "open: out of memory");
    }
    g->config = config;
    g->trainer = trainer;
    g->options = *options;
    g->backend = seam_blocks_backend(config->model->blocks);
    g->ops = seam_backend_ops(g->backend);
    g->channels = config->model->config->hidden;
    const seam_status st = fill(g, err);
    if (st != SEAM_OK) {
        seam_generator_destroy(g);
        return seam_error_prefix(err, st, "open");
    }
    *ret_generator = g;
    return SEAM_OK;
}

void seam_generator_destroy(seam_generator *gift_generator) {
    if (gift_generator == NULL) {
        return;
    }
    seam_generator *g = gift_generator;
    g->ops->mem_free(g->backend, g->x);
    seam_coder_destroy(g->coder_out);
    seam_coder_destroy(g->coder_in);
    seam_activations_destroy(g->acts);
    seam_kv_cache_destroy(g->cache);
    seam_arena_deinit(&g->arena);
    seam_mem_free(g);
}

seam_staging *seam_generator_staging(seam_generator *generator) {
    return &generator->in;
}

seam_generator_request *seam_generator_request_of(seam_generator *generator) {
    return &generator->request;
}

seam_reply *seam_generator_reply(seam_generator *generator) {
    return &generator->reply;
}

seam_status seam_generator_slots_check(const seam_generator *generator,
                                       const seam_request_layout *layout, seam_error *err) {
    for (uint32_t i = 0; generator->options.cached && i < layout->sequence_count; i++) {
        const uint32_t first = layout->first_positions != NULL ? layout->first_positions[i] : 0;
        const uint32_t filled = generator->slot_rows[layout->slots[i]];
        if (first > filled) {
            return seam_error_set(err, SEAM_E_ARG,
                                  "first_positions[%u]: %u, slot %u is filled up to %u", i, first,
                                  layout->slots[i], filled);
        }
        const uint32_t end = first + layout->sequence_rows[i];
        if (!seam_kv_cache_takes(generator->cache, layout->slots[i], first, end)) {
            return seam_error_set(
                err, SEAM_E_ARG,
                "first_positions[%u]: %u, but position %u takes the second set of "
                "LongRoPE's factors: send the sequence again from 0",
                i, first, end - 1);
        }
    }
    return SEAM_OK;
}

/* ---- a request ---- */

/* Bounds, positions and slots row by row; afterwards the slots are filled up to here. */
static void rows_describe(seam_generator *g) {
    const seam_request_layout *layout = &g->request.layout;
    uint32_t row = 0;
    for (uint32_t s = 0; s < layout->sequence_count; s++) {
        const uint32_t first = layout->first_positions != NULL ? layout->first_positions[s] : 0;
        g->seq_begin[s] = row;
        for (uint32_t i = 0; i < layout->sequence_rows[s]; i++, row++) {
            g->positions[row] = first + i;
            g->row_slots[row] = g->options.cached ? layout->slots[s] : 0;
        }
        if (g->options.cached) {
            g->slot_rows[layout->slots[s]] = first + layout->sequence_rows[s];
        }
    }
    g->seq_begin[layout->sequence_count] = row;
    SEAM_ASSERT(row == layout->rows);
}

static bool is_quantizing(seam_codec_id id) {
    return seam_codec_has_widths(id);
}

static seam_status decode(seam_generator *g, seam_error *err) {
    const seam_frame_header *first = &g->request.first;
    const seam_codec_id codec = (seam_codec_id)first->codec;
    const seam_alloc *alloc = NULL;
    if (is_quantizing(codec)) {
        const seam_site *site = seam_trainer_site(g->trainer, SEAM_SITE_FWD_IN);
        const seam_status st =
            seam_site_alloc_find(&alloc, site, first->alloc_version, first->alloc_hash);
        if (st != SEAM_OK || alloc->bits_total != first->alloc_bits_total) {
            return seam_error_set(err, SEAM_E_STATE,
                                  "frame.alloc_version: %u with this hash is not live",
                                  first->alloc_version);
        }
    }
    const seam_tensor_decode_args args = {
        .coder = g->coder_in,
        .chunks = g->in.chunks,
        .chunk_count = g->in.chunk_count,
        .tensor = {.codec = codec, .alloc = alloc},
    };
    return seam_tensor_decode(g->rows, &args, err);
}

static seam_status blocks_run(seam_generator *g, seam_stream *stream) {
    const seam_blocks *blocks = seam_trainer_layers(g->trainer);
    seam_adapter *adapter = g->options.base_model ? NULL : seam_trainer_adapter_used(g->trainer);
    const seam_request_layout *layout = &g->request.layout;
    const size_t bytes = (size_t)layout->rows * g->channels * sizeof(float);
    SEAM_ASSERT(g->ops->acc == SEAM_F32);
    SEAM_TRY(g->ops->copy_in(stream, g->x, g->rows, bytes));
    if (g->options.cached) {
        SEAM_TRY(seam_blocks_forward_cached(blocks, adapter, g->cache, stream, g->x, layout->rows,
                                            g->row_slots, g->positions));
    } else {
        const seam_batch batch = {.rows = layout->rows,
                                  .seq_count = layout->sequence_count,
                                  .seq_begin = g->seq_begin,
                                  .positions = g->positions};
        SEAM_TRY(seam_blocks_forward(blocks, adapter, g->acts, stream, g->x, &batch));
    }
    SEAM_TRY(g->ops->copy_out(stream, g->rows, g->x, bytes));
    return g->ops->stream_sync(stream);
}

static seam_status encode(seam_generator *g, seam_error *err) {
    const seam_generator_request *request = &g->request;
    const uint32_t count = request->layout.rows_out_count;
    const bool small = count < SEAM_QUANTIZED_ROWS_MIN && is_quantizing(request->codec_out);
    const seam_codec_id codec = small ? SEAM_CODEC_BF16 : request->codec_out;
    for (uint32_t i = 0; i < count; i++) {
        memcpy(g->packed + (size_t)i * g->channels,
               g->rows + (size_t)request->rows_out[i] * g->channels, g->channels * sizeof(float));
    }
    const seam_tensor_encode_args args = {
        .coder = g->coder_out,
        .header = {.kind = SEAM_FRAME_TENSOR,
                   .phase = SEAM_PHASE_GENERATE,
                   .codec = (uint8_t)codec,
                   .site = SEAM_SITE_FWD_OUT,
                   .step = request->number,
                   .rows = count,
                   .channels = g->channels},
        .alloc = is_quantizing(codec)
                     ? seam_site_alloc_now(seam_trainer_site(g->trainer, SEAM_SITE_FWD_OUT))
                     : NULL,
        .x = g->packed,
    };
    return seam_tensor_encode(&g->reply, &args, err);
}

seam_status seam_generator_run(seam_generator *generator, seam_stream *stream, seam_error *err) {
    seam_generator *g = generator;
    SEAM_TRY(decode(g, err));
    rows_describe(g);
    SEAM_TRY(blocks_run(g, stream));
    return encode(g, err);
}
