/* See exchange.h.  What a job does: input, gradients, the step; one_pass.c calls them. */
#include "exchange.h"

#include <math.h>
#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "trainer_internal.h"
#include "try.h"

/* ---- config ---- */

static bool is_exchange(const seam_session_config *config) {
    return config->codec.topology == SEAM_TOPOLOGY_ADAPTER_EXCHANGE;
}

uint32_t seam_exchange_pairs(seam_module_pair ret_pairs[SEAM_MODULE_LINK_SITES_MAX],
                             const seam_session_config *config) {
    const seam_memory_blocks blocks = seam_session_config_blocks(config);
    return is_exchange(config) ? seam_adapter_sites(ret_pairs, &blocks, &config->adapter) : 0;
}

typedef struct link_options {
    seam_module_pair pairs[SEAM_MODULE_LINK_SITES_MAX];
    seam_module_link_options options;
} link_options;

static void options_fill(link_options *ret, const seam_session_config *config) {
    ret->options = (seam_module_link_options){.pairs = ret->pairs,
                                              .pair_count = seam_exchange_pairs(ret->pairs, config),
                                              .plan = &config->codec,
                                              .gates = &config->gates,
                                              .server = true,
                                              .seed = config->seed};
}

seam_status seam_exchange_check(const seam_session_config *config, seam_error *err) {
    link_options o;
    if (!is_exchange(config)) {
        return SEAM_OK;
    }
    if (config->adapter.kind == SEAM_ADAPTER_FULL) {
        return seam_error_set(err, SEAM_E_ARG,
                              "config.topology: ADAPTER_EXCHANGE is for LoRA and prefixes");
    }
    options_fill(&o, config);
    return seam_module_link_check(&o.options, err);
}

#define TOKENS_BYTES(rows) (2 * SEAM_FRAME_HEADER_BYTES + 4 * (size_t)(rows))
#define FRAME_BYTES_MORE   (SEAM_FRAME_HEADER_BYTES + 32) /* a frame's header and message */

size_t seam_exchange_message_bytes(const seam_session_config *config) {
    link_options o;
    if (!is_exchange(config)) {
        return 0;
    }
    options_fill(&o, config);
    return seam_module_link_payload_bytes(&o.options, false) +
           (size_t)seam_module_link_frame_count(&o.options) * FRAME_BYTES_MORE +
           TOKENS_BYTES(config->limits.rows_max);
}

size_t seam_exchange_answer_bytes(const seam_session_config *config) {
    link_options o;
    if (!is_exchange(config)) {
        return 0;
    }
    options_fill(&o, config);
    return seam_module_link_payload_bytes(&o.options, true) +
           (size_t)seam_module_link_frame_count(&o.options) * FRAME_BYTES_MORE;
}

uint32_t seam_exchange_frame_count(const seam_session_config *config) {
    link_options o;
    if (!is_exchange(config)) {
        return 0;
    }
    options_fill(&o, config);
    return seam_module_link_frame_count(&o.options) + 1;
}

void seam_exchange_plan(seam_memory_plan *plan, const seam_session_config *config) {
    link_options o;
    if (!is_exchange(config)) {
        return;
    }
    const seam_memory_blocks blocks = seam_session_config_blocks(config);
    options_fill(&o, config);
    plan->host[SEAM_MEMORY_CODEC] +=
        seam_module_link_memory_bytes(&o.options) + config->limits.rows_max * sizeof(uint32_t);
    plan->host[SEAM_MEMORY_ADAPTER] += seam_adapter_modules_bytes(&blocks, &config->adapter);
}

seam_status seam_exchange_create(trainer_exchange *exchange, const seam_session_config *config,
                                 seam_adapter *adapter, seam_error *err) {
    link_options o;
    if (!is_exchange(config)) {
        return SEAM_OK;
    }
    const seam_memory_blocks blocks = seam_session_config_blocks(config);
    options_fill(&o, config);
    exchange->is_on = true;
    exchange->coding_max = seam_codec_plan_coding_max(&config->codec);
    exchange->tokens = seam_mem_zalloc(config->limits.rows_max, sizeof *exchange->tokens);
    if (exchange->tokens == NULL) {
        return SEAM_E_MEMORY;
    }
    SEAM_TRY(seam_module_link_create(&exchange->link, &o.options, err));
    return seam_adapter_modules_create(&exchange->modules, adapter, &blocks);
}

void seam_exchange_destroy(trainer_exchange *exchange) {
    seam_adapter_modules_destroy(&exchange->modules);
    seam_module_link_destroy(&exchange->link);
    seam_mem_free(exchange->tokens);
}

/* ---- reception: on the loop ---- */

uint32_t seam_exchange_parts(const trainer_exchange *exchange, const seam_session_config *config,
                             uint64_t step, uint32_t micro) {
    const bool brings = micro == 0 && (step == 0 || config->codec.resend_parameters);
    return exchange->is_on && brings ? seam_module_link_tensor_count(&exchange->link) : 0;
}

seam_tensor_expect seam_exchange_expect(const trainer_exchange *exchange, uint32_t part,
                                        uint32_t part_count, const seam_step_key *key,
                                        uint32_t token_rows) {
    if (part == part_count) {
        return (seam_tensor_expect){.kind = SEAM_FRAME_TOKENS,
                                    .phase = SEAM_PHASE_FORWARD,
                                    .site = SEAM_SITE_FWD_IN,
                                    .step = key->step,
                                    .micro = key->micro,
                                    .rows = token_rows,
                                    .channels = 1,
                                    .codec_mask = 1u << SEAM_CODEC_F32};
    }
    const seam_module_tensor tensor =
        seam_module_link_tensor(&exchange->link, false, part, key->step);
    return (seam_tensor_expect){.kind = SEAM_FRAME_TENSOR,
                                .phase = SEAM_PHASE_FORWARD,
                                .site = tensor.site,
                                .step = key->step,
                                .micro = tensor.tensor_idx,
                                .rows = tensor.rows,
                                .channels = tensor.channels,
                                .codec_mask = 1u << tensor.codec,
                                .coding_max = exchange->coding_max};
}

seam_status seam_exchange_alloc_check(const trainer_exchange *exchange, uint32_t part,
                                      const seam_frame_header *header, seam_error *err) {
    const seam_module_link *const link = &exchange->link;
    const uint32_t pair = seam_module_link_tensor(link, false, part, header->step).pair_idx;
    const seam_alloc *alloc = seam_module_link_alloc(link, pair, false, header->step);
    if (alloc == NULL) {
        return seam_error_set(err, SEAM_E_STATE, "frame.alloc_version: step %llu is over",
                              (unsigned long long)header->step);
    }
    if (header->alloc_version != alloc->version) {
        return seam_error_set(err, SEAM_E_STATE, "frame.alloc_version: %u, site %u has %u",
                              header->alloc_version, header->site, alloc->version);
    }
    if (header->alloc_hash != alloc->hash || header->alloc_bits_total != alloc->bits_total) {
        return seam_error_set(err, SEAM_E_ARG, "frame.alloc_hash: not that of version %u",
                              header->alloc_version);
    }
    return SEAM_OK;
}

seam_site *seam_exchange_site(const trainer_exchange *exchange, uint32_t site) {
    for (uint32_t i = 0; i < exchange->link.pair_count; i++) {
        if (exchange->link.pairs[i].site == site) {
            return exchange->link.sites[i];
        }
    }
    return NULL;
}

/* ---- jobs ---- */

/* The parameters that came become the adapter's.  A checkpoint that is asked for in the middle of
 * the step has them already, which changes nothing: the step made again brings them again. */
SEAM_ON_GPU static seam_status parameters_take(seam_trainer *t, uint32_t *chunk_idx, uint32_t parts,
                                               seam_stream *stream, seam_error *err) {
    trainer_exchange *const e = &t->exchange;
    for (uint32_t part = 0; part < parts; part++) {
        const seam_module_tensor tensor =
            seam_module_link_tensor(&e->link, false, part, t->at->micro.step);
        for (bool complete = false; !complete; (*chunk_idx)++) {
            SEAM_ASSERT(*chunk_idx < t->in->chunk_count);
            const seam_chunk *chunk = &t->in->chunks[*chunk_idx];
            const seam_status st =
                seam_module_link_decode(&complete, &e->link, &e->modules.stacks[tensor.pair_idx],
                                        &tensor, false, &chunk->what, chunk->payload, err);
            if (st != SEAM_OK) {
                return seam_error_prefix(err, st, "site %u: payload of row %u", tensor.site,
                                         chunk->what.row_begin);
            }
        }
    }
    if (parts == 0) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_adapter_modules_store(&e->modules, false, stream));
    return seam_trainer_refresh(t, stream);
}

seam_status seam_exchange_input(seam_trainer *t, seam_stream *stream, seam_error *err) {
    trainer_exchange *const e = &t->exchange;
    const seam_micro *micro = &t->at->micro;
    const uint32_t rows = micro->layout.rows, vocab = t->config->model->config->vocab_count;
    uint32_t chunk_idx = 0;
    SEAM_TRY(seam_trainer_device_begin(t, stream));
    SEAM_TRY(parameters_take(
        t, &chunk_idx, seam_exchange_parts(e, t->config, micro->step, micro->micro), stream, err));
    SEAM_ASSERT(chunk_idx + 1 == t->in->chunk_count); /* the tokens are one frame */
    const uint8_t *payload = t->in->chunks[chunk_idx].payload;
    for (uint32_t i = 0; i < rows; i++) {
        e->tokens[i] = seam_get_u32(payload + 4 * (size_t)i);
        if (e->tokens[i] >= vocab) {
            return seam_error_set(err, SEAM_E_ARG, "tokens[%u]: %u is not below %u", i,
                                  e->tokens[i], vocab);
        }
    }
    return seam_head_embed(t->config->model->head, stream, t->x, e->tokens, rows);
}

typedef struct take_to {
    seam_trainer *trainer;
    const seam_module_pair *pair;
    const seam_alloc *alloc;
} take_to;

static seam_status gradient_frame(void *user, uint32_t tensor_idx, uint32_t tensor_rows,
                                  const seam_coder_chunk *chunk, const uint8_t *payload) {
    const take_to *to = user;
    const seam_trainer *t = to->trainer;
    const seam_frame_header header = {.kind = SEAM_FRAME_TENSOR,
                                      .phase = SEAM_PHASE_BACKWARD,
                                      .codec = (uint8_t)t->exchange.link.codecs[true],
                                      .coding = chunk->coding,
                                      .site = to->pair->gradient_site,
                                      .micro = tensor_idx,
                                      .step = t->at->micro.step,
                                      .rows = tensor_rows,
                                      .channels = to->pair->channels,
                                      .row_begin = chunk->row_begin,
                                      .row_count = chunk->row_count,
                                      .alloc_version = to->alloc->version,
                                      .alloc_bits_total = to->alloc->bits_total,
                                      .alloc_hash = to->alloc->hash};
    seam_reply_add_frame(t->answer, &header, payload, chunk->payload_bytes);
    return SEAM_OK;
}

/* Gradients of the step as they are sent, into the answer and back into the adapter.  One that is
 * not finite is skipped by rule: zeros travel. */
seam_status seam_exchange_gradients(seam_trainer *t, seam_stream *stream, seam_error *err) {
    trainer_exchange *const e = &t->exchange;
    double squares = 0;
    seam_module_bytes bytes = {0};
    SEAM_TRY(seam_adapter_gradient_squares(&squares, t->adapter, stream));
    e->skipped = !isfinite(squares);
    if (e->skipped) {
        SEAM_TRY(seam_adapter_clear_gradient(t->adapter, stream));
    }
    SEAM_TRY(seam_adapter_modules_fetch(&e->modules, true, stream));
    for (uint32_t i = 0; i < e->link.pair_count; i++) {
        take_to to = {.trainer = t,
                      .pair = &e->link.pairs[i],
                      .alloc = seam_module_link_alloc(&e->link, i, true, t->at->micro.step)};
        const seam_module_link_args args = {.pair_idx = i,
                                            .gradient = true,
                                            .step = t->at->micro.step,
                                            .ret_decoded = &e->modules.stacks[i],
                                            .take = gradient_frame,
                                            .user = &to};
        const seam_status st =
            seam_module_link_encode(&bytes, &e->link, &e->modules.stacks[i], &args);
        if (st != SEAM_OK) {
            return seam_error_set(err, st, "site %u: cannot encode: %s", to.pair->gradient_site,
                                  seam_status_text(st));
        }
    }
    return seam_adapter_modules_store(&e->modules, true, stream);
}

seam_status seam_exchange_step(double *ret_norm, uint64_t *state_hash, seam_trainer *t,
                               seam_stream *stream) {
    const seam_optimizer_config *config = &t->config->optimizer;
    double squares = 0;
    if (t->exchange.skipped) { /* the gradient is zero */
        return SEAM_E_NONFINITE;
    }
    SEAM_TRY(seam_adapter_gradient_squares(&squares, t->adapter, stream));
    *ret_norm = sqrt(squares);
    if (t->config->codec.resend_parameters) { /* the client steps, and sends what comes of it */
        return seam_adapter_clear_gradient(t->adapter, stream);
    }
    return seam_adapter_update(state_hash, t->adapter, stream, config, t->at->micro.step,
                               seam_clip_factor(config, *ret_norm));
}
