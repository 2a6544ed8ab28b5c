/* The memory of a session at this end: what is taken when it is created, what a step adds, and both
 * before there is a session.  Part of session_options.c, which knows the options. */
#include <string.h>

#include "arena.h"
#include "core.h"
#include "frame.h"
#include "session_memory.h"
#include "try.h"
#include "width_plan.h"

/* ---- what is taken at creation ---- */

/* What the layout of a step is kept in. */
static void layout_carve(seam_session *s, seam_arena *arena) {
    s->micros = seam_arena_take(arena, s->config.micros_max * sizeof *s->micros);
    s->gate_counts = seam_arena_take(arena, s->width_count * sizeof(uint32_t));
    s->gate_weights = seam_arena_take(arena, s->width_count * sizeof(float));
}

/* All arrays, as views; with an empty arena this is the plan. */
static void carve(seam_session *s, seam_arena *arena) {
    const size_t C = s->channels, P = s->width_count;
    const size_t rows_bytes = s->config.rows_max * C * sizeof(float);
    const bool has_dx = seam_codec_plan_has_input_gradient(&s->config.codec);
    const bool is_exact = seam_codec_plan_is_exact_in(&s->config.codec);
    layout_carve(s, arena);
    s->gate_sums = seam_arena_take(arena, P * sizeof(float));
    s->gate_signal = seam_arena_take(arena, P * sizeof(float));
    s->spans = seam_arena_take(arena, C * sizeof(float));
    s->steps = seam_arena_take(arena, C * sizeof(float));
    s->widths = seam_arena_take(arena, P);
    s->widths_used[0] = seam_arena_take(arena, P);
    s->widths_used[1] = seam_arena_take(arena, P);
    s->frame = seam_arena_take(arena, SEAM_FRAME_HEADER_BYTES + SEAM_CHUNK_BYTES_MAX);
    s->dx = has_dx ? seam_arena_take(arena, seam_session_dx_count(s) * rows_bytes) : NULL;
    s->x_kept = is_exact ? seam_arena_take(arena, rows_bytes) : NULL;
    s->x_decoded = is_exact ? seam_arena_take(arena, rows_bytes) : NULL;
}

/* Of the codec's cache at a site; 0: none. */
static uint64_t cache_bytes(const seam_session *s, uint32_t site_idx) {
    const bool forward = site_idx == s->fwd_in || site_idx == s->fwd_out;
    return s->sites[site_idx].codec == SEAM_CODEC_AQSGD && forward ? s->config.codec.cache_bytes_max
                                                                   : 0;
}

/* Inference may have more rows than a micro-batch: the coders take any. */
seam_coder_config seam_session_coder_config(const seam_session *session, uint32_t site_idx) {
    const seam_session *const s = session;
    const seam_site_row *const site = &s->sites[site_idx];
    return (seam_coder_config){
        .codec = site->codec,
        .encoder = site_idx == s->fwd_in || site_idx == s->bwd_out,
        .gradient = site_idx == s->bwd_out || site_idx == s->bwd_in,
        .channels = s->channels,
        .rows_max = SEAM_ROWS_MAX,
        .state_rows_max = s->config.rows_max,
        .sequences_max = s->config.sequences_max,
        .bits_max = SEAM_BITS_MAX,
        .storage = site->storage.bytes,
        .storage_bytes = (size_t)cache_bytes(s, site_idx),
        .plan = &s->config.codec,
    };
}

static seam_status coder_create(seam_session *s, uint32_t site_idx, seam_error *err) {
    seam_site_row *const site = &s->sites[site_idx];
    const uint64_t bytes = cache_bytes(s, site_idx);
    if (bytes > 0) {
        const seam_status st =
            bytes <= SIZE_MAX
                ? seam_storage_open(&site->storage, s->config.cache_dir, (size_t)bytes, err)
                : seam_error_set(err, SEAM_E_MEMORY, "%llu bytes", (unsigned long long)bytes);
        if (st != SEAM_OK) {
            return seam_error_prefix(err, st, "cache of codec aqsgd");
        }
    }
    const seam_coder_config config = seam_session_coder_config(s, site_idx);
    const seam_status st = seam_coder_create(&site->coder, &config);
    return st == SEAM_OK
               ? SEAM_OK
               : seam_error_set(err, st, "coder of site %u: %s", site->id, seam_status_text(st));
}

seam_status seam_session_memory_take(seam_session *session, seam_error *err) {
    seam_session *const s = session;
    seam_arena plan = {0};
    carve(s, &plan);
    const seam_status st = seam_arena_init(&s->memory, plan.used_bytes);
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "out of memory");
    }
    carve(s, &s->memory);
    const uint32_t used[] = {s->fwd_in, s->fwd_out, s->bwd_out, s->bwd_in};
    for (uint32_t i = 0; i < sizeof used / sizeof *used; i++) {
        SEAM_TRY(coder_create(s, used[i], err));
    }
    return SEAM_OK;
}

/* ---- before there is a session ---- */

/* The buffer of a tensor's frames, at most: it doubles when a chunk finds no room. */
static uint64_t frames_bytes(const seam_session *s, uint32_t site_idx) {
    const seam_coder_config coder = seam_session_coder_config(s, site_idx);
    const uint32_t rows = s->config.rows_max, chunks = seam_coder_chunks_max(rows);
    const uint64_t bytes =
        seam_coder_bytes_max(&coder, rows) + (uint64_t)chunks * SEAM_FRAME_HEADER_BYTES;
    uint64_t room = 1;
    while (room < chunks) {
        room *= 2;
    }
    return bytes / chunks * room;
}

/* Of each row: whether it is labelled and travels, its number there and back, its gates. */
#define LAYOUT_BYTES_ROW (8 * sizeof(uint32_t) + 2)
/* Of each distinct row its key; of its values those that are picked out, in bf16 or f32, and made
 * f32. */
#define DISTINCT_BYTES_ROW   (4 * sizeof(uint32_t))
#define DISTINCT_BYTES_VALUE (2 * sizeof(float))

/* A buffer that grows as seam_buffer_add has it. */
typedef struct growth {
    uint64_t used_bytes, capacity_bytes;
} growth;

static void growth_add(growth *g, uint64_t bytes) {
    g->used_bytes += bytes;
    if (g->used_bytes > g->capacity_bytes) {
        const uint64_t doubled = 2 * g->capacity_bytes;
        g->capacity_bytes = g->used_bytes > doubled ? g->used_bytes : doubled;
    }
}

/* The frames of all modules at the first step, whose widths are the largest: those of parameters
 * into *sent, of gradients the largest into *ret_largest. */
static seam_status modules_add(growth *sent, uint64_t *ret_largest, const seam_session *s,
                               bool gradient, seam_error *err) {
    const seam_module_link *const link = &s->exchange.link;
    seam_width_plan widths;
    seam_status st = seam_width_plan_init(&widths, s);
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "out of memory");
    }
    seam_width_plan_make(&widths, s, 0);
    for (uint32_t i = 0; st == SEAM_OK && i < seam_module_link_tensor_count(link); i++) {
        const seam_module_tensor of = seam_module_link_tensor(link, gradient, i, 0);
        const seam_coder_config coder = seam_exchange_coder_config(s, of.pair_idx, gradient);
        const seam_coder_tensor tensor = {
            .codec = of.codec, .alloc = &widths.allocs[of.pair_idx], .rows = of.rows};
        seam_coder_chunk chunk;
        for (uint32_t row = 0; row < of.rows; row += chunk.row_count) {
            st = seam_coder_chunk_plan(&chunk, &coder, &tensor, row);
            if (st != SEAM_OK) {
                st = seam_error_set(err, st, "site %u: %s", of.site, seam_status_text(st));
                break;
            }
            const uint64_t bytes = SEAM_FRAME_HEADER_BYTES + (uint64_t)chunk.payload_bytes;
            if (gradient) {
                *ret_largest = bytes > *ret_largest ? bytes : *ret_largest;
            } else {
                growth_add(sent, bytes);
            }
        }
    }
    seam_width_plan_deinit(&widths);
    return st;
}

/* In place of tensors token ids travel, the parameters in front of a step's first. */
static seam_status exchange_fill(seam_session_memory *ret, const seam_session *s, seam_error *err) {
    const uint64_t micros = s->config.micros_max, rows = s->config.rows_max;
    const uint64_t tokens = SEAM_FRAME_HEADER_BYTES + rows * sizeof(uint32_t);
    growth sent = {0};
    uint64_t largest = 0;
    SEAM_TRY(modules_add(&sent, &largest, s, false, err));
    SEAM_TRY(modules_add(&sent, &largest, s, true, err));
    growth_add(&sent, tokens);
    ret->fixed_bytes += seam_exchange_memory_bytes(s);
    ret->step_bytes +=
        sent.capacity_bytes + (micros - 1) * tokens + micros * rows * LAYOUT_BYTES_ROW + largest;
    return SEAM_OK;
}

static seam_status plan_fill(seam_session_memory *ret, seam_session *s, seam_error *err) {
    const bool one_pass = seam_codec_plan_is_one_pass(&s->config.codec);
    const bool kept = !one_pass && s->config.pipeline_depth > 1; /* before somebody waits */
    const uint64_t micros = s->config.micros_max, rows = s->config.rows_max;
    seam_arena plan = {0};
    carve(s, &plan);
    ret->fixed_bytes = sizeof *s + 4 * sizeof *s->sites + plan.used_bytes;
    for (uint32_t i = 0; i < 4; i++) {
        const seam_coder_config coder = seam_session_coder_config(s, i);
        ret->fixed_bytes += seam_coder_memory_bytes(&coder);
        ret->cache_bytes += cache_bytes(s, i);
    }
    if (s->exchange.is_on) {
        return exchange_fill(ret, s, err);
    }
    ret->step_bytes = micros * (frames_bytes(s, s->fwd_in) + rows * LAYOUT_BYTES_ROW +
                                (one_pass ? 0 : frames_bytes(s, s->bwd_out)) +
                                (kept ? frames_bytes(s, s->fwd_out) : 0));
    if (s->config.distinct_rows) {
        ret->step_bytes += rows * (DISTINCT_BYTES_ROW + s->channels * DISTINCT_BYTES_VALUE);
    }
    const uint64_t out = frames_bytes(s, s->fwd_out),
                   frame = SEAM_FRAME_HEADER_BYTES + SEAM_CHUNK_BYTES_MAX;
    ret->step_bytes += out < frame ? out : frame; /* a message that comes */
    return SEAM_OK;
}

static void sketch_fill(seam_session *s, const seam_core_config *config, uint32_t channels) {
    s->config = *config;
    s->channels = channels;
    s->width_count = seam_codec_plan_width_count(&config->codec, channels, config->rows_max);
    s->site_count = 4;
    s->fwd_in = 0;
    s->fwd_out = 1;
    s->bwd_out = 2;
    s->bwd_in = 3;
    for (uint32_t i = 0; i < 4; i++) {
        s->sites[i].id = (uint16_t)i;
        s->sites[i].codec = seam_codec_plan_codec(&config->codec, i == s->fwd_in || i == s->bwd_in);
    }
    s->by_token = s->sites[s->fwd_out].codec == SEAM_CODEC_AMAQ_TOKEN;
}

void seam_session_sketch_free(seam_session *gift_session) {
    if (gift_session != NULL) {
        seam_session_unplan(gift_session);
        seam_mem_free(gift_session);
    }
}

seam_status seam_session_sketch(seam_session **ret_session, const seam_sketch_args *args,
                                seam_error *err) {
    const uint32_t channels = args->channels;
    seam_config_message message;
    seam_core_config config;
    if (channels == 0 || channels > SEAM_CHANNELS_MAX) {
        return seam_error_set(err, SEAM_E_ARG, "channels: %u", channels);
    }
    SEAM_TRY(seam_config_from_options(&message, &config, args->options, err));
    const bool exchanges = !seam_codec_plan_has_in(&config.codec);
    if (exchanges && args->pair_count == 0) {
        return seam_error_set(err, SEAM_E_ARG,
                              "topology: of adapter_exchange no row passes this end");
    }
    SEAM_TRY(exchanges ? SEAM_OK : seam_codec_plan_check(&config.codec, channels, err));
    seam_session *const s = seam_mem_zalloc(1, sizeof *s);
    seam_status st = s != NULL ? SEAM_OK : SEAM_E_MEMORY;
    if (st == SEAM_OK) {
        s->sites = seam_mem_zalloc(4, sizeof *s->sites);
        st = s->sites != NULL ? SEAM_OK : SEAM_E_MEMORY;
    }
    if (st == SEAM_OK) {
        seam_arena plan = {0};
        sketch_fill(s, &config, channels);
        layout_carve(s, &plan);
        st = seam_arena_init(&s->memory, plan.used_bytes);
    }
    if (st != SEAM_OK) {
        seam_session_sketch_free(s);
        return seam_error_set(err, st, "out of memory");
    }
    layout_carve(s, &s->memory);
    st = exchanges ? seam_exchange_sketch(s, args->pairs, args->pair_count, err) : SEAM_OK;
    if (st != SEAM_OK) {
        seam_session_sketch_free(s);
        return st;
    }
    *ret_session = s;
    return SEAM_OK;
}

seam_status seam_session_memory_plan(seam_session_memory *ret_memory, const seam_sketch_args *args,
                                     seam_error *err) {
    seam_session *s = NULL;
    if (ret_memory == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "ret_memory is NULL");
    }
    SEAM_TRY(seam_session_sketch(&s, args, err));
    seam_session_memory memory = {.training = s->config.training,
                                  .pipeline_depth = s->config.pipeline_depth};
    const seam_status st = plan_fill(&memory, s, err);
    seam_session_sketch_free(s);
    SEAM_TRY(st);
    *ret_memory = memory;
    return SEAM_OK;
}

/* ---- the end ---- */

void seam_session_unplan(seam_session *session) {
    seam_record_close(session); /* before the coders */
    if (session->micros != NULL) {
        for (uint32_t m = 0; m < session->config.micros_max; m++) {
            seam_buffer_deinit(&session->micros[m].came);
            seam_buffer_deinit(&session->micros[m].sent[1]);
            seam_buffer_deinit(&session->micros[m].sent[0]);
            seam_buffer_deinit(&session->micros[m].ids);
            seam_buffer_deinit(&session->micros[m].sample_ids);
            seam_buffer_deinit(&session->micros[m].row_gates_out);
            seam_buffer_deinit(&session->micros[m].row_gates);
            seam_buffer_deinit(&session->micros[m].sequence_rows_out);
            seam_buffer_deinit(&session->micros[m].sequence_rows);
            seam_buffer_deinit(&session->micros[m].row_ids);
            seam_buffer_deinit(&session->micros[m].row_sources);
            seam_buffer_deinit(&session->micros[m].out_bitmap);
            seam_buffer_deinit(&session->micros[m].bitmap);
        }
    }
    seam_exchange_unplan(session);
    seam_arena_deinit(&session->memory);
    seam_site_destroy(session->site_out);
    seam_site_destroy(session->site_in);
    for (uint32_t i = 0; session->sites != NULL && i < session->site_count; i++) {
        seam_coder_destroy(session->sites[i].coder);
        seam_storage_close(&session->sites[i].storage);
    }
    seam_mem_free(session->sites);
    seam_buffer_deinit(&session->x_distinct);
    seam_buffer_deinit(&session->watched);
    seam_buffer_deinit(&session->x_wide);
    seam_buffer_deinit(&session->key_table);
    seam_buffer_deinit(&session->answers_next);
    seam_buffer_deinit(&session->answers);
    for (uint32_t i = 0; i < SEAM_OWNED_MAX; i++) {
        seam_buffer_deinit(&session->proposals[i]);
    }
    seam_buffer_deinit(&session->budget);
    seam_buffer_deinit(&session->norm);
    seam_buffer_deinit(&session->step_begin);
    seam_buffer_deinit(&session->inbox);
}
