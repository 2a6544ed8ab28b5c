/* Topology adapter_exchange, the client's side: parameters and token ids out, gradients in.
 * WIRE.md 1.1, 4.1.  The caller owns the modules' memory and the optimizer
 * (model/exchange_trainer.c). Read next: kernels/codec/module_link.c; answer.c, which takes the
 * gradients. */
#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "core.h"
#include "frame.h"
#include "try.h"

static seam_status memory_take(seam_session *s, seam_error *err);

/* Pairs of module sites, in the table's order. */
static seam_status pairs_read(seam_module_pair ret_pairs[SEAM_MODULE_LINK_SITES_MAX],
                              uint32_t *ret_count, seam_session *s, seam_error *err) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->site_count; i++) {
        const seam_site_row *const row = &s->sites[i];
        if (row->direction != SEAM__V1__SITE_DIRECTION__SITE_DIRECTION_PARAMETERS) {
            continue;
        }
        uint32_t of = 0;
        while (of < s->site_count &&
               (s->sites[of].direction != SEAM__V1__SITE_DIRECTION__SITE_DIRECTION_GRADIENTS ||
                s->sites[of].paired_id != row->id)) {
            of++;
        }
        if (count == SEAM_MODULE_LINK_SITES_MAX || of == s->site_count ||
            s->sites[of].channels != row->channels || s->sites[of].rows_all != row->rows_all) {
            return seam_error_set(err, SEAM_E_FORMAT, "the server's site table: modules of row %u",
                                  i);
        }
        s->exchange.rows[count][0] = i;
        s->exchange.rows[count][1] = of;
        ret_pairs[count++] = (seam_module_pair){.site = row->id,
                                                .gradient_site = s->sites[of].id,
                                                .rows = row->rows_all,
                                                .channels = row->channels};
    }
    *ret_count = count;
    return SEAM_OK;
}

static seam_module_link_options link_options(const seam_session *s, const seam_module_pair *pairs,
                                             uint32_t pair_count) {
    return (seam_module_link_options){.pairs = pairs,
                                      .pair_count = pair_count,
                                      .plan = &s->config.codec,
                                      .gates = &s->config.gates,
                                      .server = false,
                                      .seed = s->config.seed};
}

seam_status seam_exchange_sketch(seam_session *session, const seam_module_pair *pairs,
                                 uint32_t pair_count, seam_error *err) {
    const seam_module_link_options options = link_options(session, pairs, pair_count);
    SEAM_TRY(seam_module_link_check(&options, err));
    seam_module_link_sketch(&session->exchange.link, &options);
    session->exchange.is_on = true;
    return SEAM_OK;
}

seam_coder_config seam_exchange_coder_config(const seam_session *session, uint32_t pair_idx,
                                             bool gradient) {
    const seam_module_link *const link = &session->exchange.link;
    const seam_module_link_options options = link_options(session, link->pairs, link->pair_count);
    return seam_module_link_coder_config(&options, pair_idx, gradient);
}

uint64_t seam_exchange_memory_bytes(const seam_session *session) {
    const seam_module_link *const link = &session->exchange.link;
    const seam_codec_plan *const plan = &session->config.codec;
    const seam_module_link_options options = link_options(session, link->pairs, link->pair_count);
    uint64_t bytes = seam_module_link_memory_bytes(&options);
    for (uint32_t i = 0; seam_codec_plan_has_gates_modules(plan) && i < link->pair_count; i++) {
        bytes += seam_module_signal_bytes(&link->pairs[i], plan->gate_signal_exact);
    }
    return bytes;
}

seam_status seam_exchange_plan(seam_session *session, seam_error *err) {
    seam_session *const s = session;
    seam_module_pair pairs[SEAM_MODULE_LINK_SITES_MAX];
    uint32_t count = 0;
    if (seam_codec_plan_has_in(&s->config.codec)) {
        return SEAM_OK;
    }
    SEAM_TRY(pairs_read(pairs, &count, s, err));
    const seam_module_link_options options = link_options(s, pairs, count);
    SEAM_TRY(seam_module_link_check(&options, err));
    SEAM_TRY(seam_module_link_create(&s->exchange.link, &options, err));
    s->exchange.is_on = true;
    return memory_take(s, err);
}

/* What gates go by. */
static seam_status memory_take(seam_session *s, seam_error *err) {
    seam_exchange *const e = &s->exchange;
    const bool gates = seam_codec_plan_has_gates_modules(&s->config.codec);
    uint32_t most = 0;
    seam_status st = SEAM_OK;
    for (uint32_t i = 0; i < e->link.pair_count && st == SEAM_OK; i++) {
        most = e->link.pairs[i].channels > most ? e->link.pairs[i].channels : most;
        e->widths_used[i] = seam_mem_zalloc(e->link.pairs[i].channels, 1);
        st = e->widths_used[i] != NULL ? SEAM_OK : SEAM_E_MEMORY;
        if (st == SEAM_OK && gates) {
            st = seam_module_signal_create(&e->signals[i], &e->link.pairs[i],
                                           s->config.codec.gate_signal_exact);
        }
    }
    e->widths = seam_mem_zalloc(most, 1);
    st = st == SEAM_OK && e->widths == NULL ? SEAM_E_MEMORY : st;
    return st == SEAM_OK ? SEAM_OK : seam_error_set(err, st, "modules: %s", seam_status_text(st));
}

void seam_exchange_unplan(seam_session *session) {
    seam_exchange *const e = &session->exchange;
    for (uint32_t i = 0; i < SEAM_MODULE_LINK_SITES_MAX; i++) {
        seam_module_signal_destroy(&e->signals[i]);
        seam_mem_free(e->widths_used[i]);
    }
    seam_mem_free(e->widths);
    seam_module_link_destroy(&e->link);
    seam_mem_free(e->modules);
}

/* ---- The caller's modules ---- */

static seam_status module_add(seam_session *s, const seam_module_memory *view, uint32_t idx,
                              uint32_t count, seam_error *err) {
    seam_exchange *const e = &s->exchange;
    uint32_t pair = 0;
    while (pair < e->link.pair_count && e->link.pairs[pair].site != view->site) {
        pair++;
    }
    if (pair == e->link.pair_count || view->rank != e->link.pairs[pair].channels) {
        return seam_error_set(err, SEAM_E_ARG, "modules[%u]: site %u, rank %u: not the session's",
                              idx, view->site, view->rank);
    }
    const bool opens = e->stacks[pair][0].module_count == 0;
    const seam_module of = {.name = "module",
                            .rows = view->rows,
                            .rank = view->rank,
                            .order = view->by_columns ? SEAM_MODULE_COLUMNS : SEAM_MODULE_ROWS};
    for (uint32_t gradient = 0; gradient < 2; gradient++) {
        seam_module *const module = &e->modules[gradient * count + idx];
        seam_module_stack *const stack = &e->stacks[pair][gradient];
        *module = of;
        module->values = gradient != 0 ? view->gradient : view->parameters;
        if (opens) {
            *stack = (seam_module_stack){.modules = module, .tensor_rows_max = SEAM_ROWS_MAX};
        }
        if (module != stack->modules + stack->module_count) {
            return seam_error_set(err, SEAM_E_ARG, "modules[%u]: those of a site stand together",
                                  idx);
        }
        stack->module_count++;
    }
    return SEAM_OK;
}

seam_status seam_session_modules(seam_session *session, const seam_module_memory *modules,
                                 uint32_t module_count, seam_error *err) {
    if (session == NULL || modules == NULL || module_count == 0) {
        return seam_error_set(err, SEAM_E_ARG, "session or modules is NULL, or module_count 0");
    }
    seam_exchange *const e = &session->exchange;
    if (!e->is_on || session->step_open) {
        return seam_error_set(err, SEAM_E_STATE, "modules: %s",
                              e->is_on ? "a step is open" : "the topology has none");
    }
    seam_mem_free(e->modules);
    memset(e->stacks, 0, sizeof e->stacks);
    e->modules = seam_mem_zalloc(2 * (size_t)module_count, sizeof *e->modules);
    if (e->modules == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    for (uint32_t i = 0; i < module_count; i++) {
        SEAM_TRY(module_add(session, &modules[i], i, module_count, err));
    }
    for (uint32_t i = 0; i < e->link.pair_count; i++) {
        for (uint32_t gradient = 0; gradient < 2; gradient++) {
            SEAM_TRY(seam_module_stack_check(&e->stacks[i][gradient], err));
        }
        if (seam_module_stack_rows(&e->stacks[i][0]) != e->link.pairs[i].rows) {
            return seam_error_set(err, SEAM_E_ARG, "modules: %llu rows at site %u, it has %llu",
                                  (unsigned long long)seam_module_stack_rows(&e->stacks[i][0]),
                                  e->link.pairs[i].site, (unsigned long long)e->link.pairs[i].rows);
        }
    }
    return SEAM_OK;
}

/* ---- A message ---- */

typedef struct take_to {
    seam_session *session;
    seam_buffer *frames;
    const seam_module_pair *pair;
    const seam_alloc *alloc;
    uint32_t row; /* of the site table */
} take_to;

static seam_status parameters_frame(void *user, uint32_t tensor_idx, uint32_t tensor_rows,
                                    const seam_coder_chunk *chunk, const uint8_t *payload) {
    const take_to *const to = user;
    seam_session *const s = to->session;
    const seam_frame_header header = {.kind = SEAM_FRAME_TENSOR,
                                      .phase = SEAM_PHASE_FORWARD,
                                      .codec = (uint8_t)s->exchange.link.codecs[0],
                                      .coding = chunk->coding,
                                      .site = to->pair->site,
                                      .micro = tensor_idx,
                                      .step = seam_session_committed_steps(s),
                                      .rows = tensor_rows,
                                      .channels = to->pair->channels,
                                      .row_begin = chunk->row_begin,
                                      .row_count = chunk->row_count,
                                      .alloc_version = to->alloc->version,
                                      .alloc_bits_total = to->alloc->bits_total,
                                      .alloc_hash = to->alloc->hash,
                                      .payload_bytes = chunk->payload_bytes};
    memcpy(s->frame + SEAM_FRAME_HEADER_BYTES, payload, chunk->payload_bytes);
    seam_frame_seal(s->frame, &header);
    s->sites[to->row].payload_bytes += chunk->payload_bytes;
    if (chunk->row_begin == 0) {
        seam_site_row_count(&s->sites[to->row], tensor_rows, to->alloc->version,
                            to->alloc->bits_total);
    }
    return seam_buffer_add(to->frames, s->frame,
                           SEAM_FRAME_HEADER_BYTES + (size_t)chunk->payload_bytes);
}

static seam_status parameters_encode(seam_session *s, seam_buffer *frames, seam_error *err) {
    seam_exchange *const e = &s->exchange;
    const uint64_t step = seam_session_committed_steps(s);
    seam_module_bytes bytes = {0};
    for (uint32_t i = 0; i < e->link.pair_count; i++) {
        take_to to = {.session = s,
                      .frames = frames,
                      .pair = &e->link.pairs[i],
                      .alloc = seam_module_link_alloc(&e->link, i, false, step),
                      .row = e->rows[i][0]};
        const seam_module_link_args args = {
            .pair_idx = i,
            .step = step,
            .ret_decoded = e->signals[i].decoded != NULL ? &e->signals[i].as_sent : NULL,
            .take = parameters_frame,
            .user = &to};
        const seam_status st = seam_module_link_encode(&bytes, &e->link, &e->stacks[i][0], &args);
        if (st != SEAM_OK) {
            return seam_error_set(err, st, "parameters of site %u: %s", to.pair->site,
                                  seam_status_text(st));
        }
    }
    return SEAM_OK;
}

/* The ids stand in the micro-batch's own memory as they travel. */
static seam_status tokens_encode(seam_session *s, seam_micro_state *state, uint32_t micro) {
    const seam_frame_header header = {.kind = SEAM_FRAME_TOKENS,
                                      .phase = SEAM_PHASE_FORWARD,
                                      .codec = SEAM_CODEC_F32,
                                      .site = s->sites[s->fwd_in].id,
                                      .micro = micro,
                                      .step = seam_session_committed_steps(s),
                                      .rows = state->rows,
                                      .channels = 1,
                                      .row_count = state->rows,
                                      .payload_bytes = 4 * state->rows};
    const uint32_t *const ids = (const uint32_t *)(const void *)state->ids.data;
    for (uint32_t t = 0; t < state->rows; t++) {
        seam_put_u32(s->frame + SEAM_FRAME_HEADER_BYTES + 4 * (size_t)t, ids[t]);
    }
    seam_frame_seal(s->frame, &header);
    return seam_buffer_add(&state->sent[0], s->frame,
                           SEAM_FRAME_HEADER_BYTES + 4 * (size_t)state->rows);
}

/* The widths that the step's modules travel with. */
static seam_status widths_await(seam_session *s, seam_error *err) {
    seam_exchange *const e = &s->exchange;
    const uint64_t step = seam_session_committed_steps(s);
    SEAM_TRY(seam_link_await_alloc(s, step, err));
    for (uint32_t i = 0; i < e->link.pair_count; i++) {
        const seam_alloc *const alloc = seam_module_link_alloc(&e->link, i, true, step);
        if (alloc->widths != NULL) {
            memcpy(e->widths_used[i], alloc->widths, e->link.pairs[i].channels);
        }
    }
    return SEAM_OK;
}

seam_status seam_step_tokens_begin(seam_session *session, uint32_t micro, seam_error *err) {
    if (session == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "session is NULL");
    }
    seam_session *const s = session;
    SEAM_TRY(seam_session_check(s, err));
    if (!s->exchange.is_on || s->exchange.modules == NULL) {
        return seam_error_set(err, SEAM_E_STATE,
                              "tokens: of topology adapter_exchange, after seam_session_modules");
    }
    if (!s->step_open || micro != s->forward_next || micro >= s->micro_count ||
        micro >= s->micro_next + s->ahead) {
        return seam_error_set(err, SEAM_E_STATE, "tokens of micro-batch %u are not due", micro);
    }
    seam_micro_state *const state = &s->micros[micro];
    SEAM_TRY(micro == 0 ? widths_await(s, err) : SEAM_OK);
    const double begin = seam_now_seconds();
    const uint64_t begin_ns = seam_trace_begin(s->trace);
    const bool brings = seam_session_committed_steps(s) == 0 || s->config.codec.resend_parameters;
    state->sent[0].count = 0;
    if (micro == 0 && brings) {
        SEAM_TRY(parameters_encode(s, &state->sent[0], err));
    }
    if (tokens_encode(s, state, micro) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    s->encode_seconds += seam_now_seconds() - begin;
    seam_session_span_end(s, "encode", micro, begin_ns);
    s->forward_next++;
    return seam_link_drive(s, SEAM_GOAL_SENT, err);
}

/* ---- An answer's tensors ---- */

uint32_t seam_exchange_parts(const seam_session *session, uint32_t micro) {
    const bool last = micro + 1 == session->micro_count;
    return session->exchange.is_on && last ? seam_module_link_tensor_count(&session->exchange.link)
                                           : 0;
}

seam_tensor_expect seam_exchange_expect(const seam_session *session, uint32_t part) {
    const uint64_t step = seam_session_committed_steps(session);
    const seam_module_tensor tensor =
        seam_module_link_tensor(&session->exchange.link, true, part, step);
    return (seam_tensor_expect){.kind = SEAM_FRAME_TENSOR,
                                .phase = SEAM_PHASE_BACKWARD,
                                .site = tensor.site,
                                .step = step,
                                .micro = tensor.tensor_idx,
                                .rows = tensor.rows,
                                .channels = tensor.channels,
                                .codec_mask = 1u << tensor.codec,
                                .coding_max = seam_codec_plan_coding_max(&session->config.codec)};
}

seam_status seam_exchange_take(seam_session *session, uint32_t part,
                               const seam_frame_header *header, const uint8_t *payload,
                               seam_error *err) {
    seam_session *const s = session;
    seam_exchange *const e = &s->exchange;
    const uint64_t step = seam_session_committed_steps(s);
    const seam_module_tensor tensor = seam_module_link_tensor(&e->link, true, part, step);
    const seam_alloc *const alloc = seam_module_link_alloc(&e->link, tensor.pair_idx, true, step);
    seam_site_row *const row = &s->sites[e->rows[tensor.pair_idx][1]];
    bool complete = false;
    if (alloc == NULL) { /* it is waited for with the tokens */
        return seam_error_set(err, SEAM_E_OUT_OF_SEQUENCE, "gradients of site %u before the tokens",
                              tensor.site);
    }
    if (header->alloc_version != alloc->version || header->alloc_hash != alloc->hash ||
        header->alloc_bits_total != alloc->bits_total) {
        return seam_error_set(err, SEAM_E_CONFLICT, "frame.alloc_hash: not that of version %u",
                              alloc->version);
    }
    const seam_coder_chunk chunk = {.row_begin = header->row_begin,
                                    .row_count = header->row_count,
                                    .payload_bytes = header->payload_bytes,
                                    .coding = header->coding};
    const double begin = seam_now_seconds();
    const seam_status st = seam_module_link_decode(
        &complete, &e->link, &e->stacks[tensor.pair_idx][1], &tensor, true, &chunk, payload, err);
    s->decode_seconds += seam_now_seconds() - begin;
    seam_answer_count(row, header);
    return st == SEAM_OK ? SEAM_OK : seam_error_prefix(err, st, "site %u: payload", header->site);
}

/* ---- What the session trains ---- */

seam_status seam_session_exchange_training(seam_exchange_training *ret_training,
                                           const seam_session *session) {
    if (ret_training == NULL || session == NULL ||
        ret_training->struct_bytes != sizeof *ret_training) {
        return SEAM_E_ARG;
    }
    *ret_training = session->config.exchange_training;
    ret_training->struct_bytes = sizeof *ret_training;
    return SEAM_OK;
}

void seam_exchange_training_read(seam_exchange_training *ret,
                                 const Seam__V1__SessionConfig *message) {
    static const Seam__V1__LoraConfig no_lora = SEAM__V1__LORA_CONFIG__INIT;
    static const Seam__V1__OptimizerConfig no_optimizer = SEAM__V1__OPTIMIZER_CONFIG__INIT;
    const Seam__V1__LoraConfig *const lora = message->lora != NULL ? message->lora : &no_lora;
    const Seam__V1__OptimizerConfig *const o =
        message->optimizer != NULL ? message->optimizer : &no_optimizer;
    *ret = (seam_exchange_training){
        .struct_bytes = sizeof *ret,
        .lora_rank = lora->rank,
        .lora_alpha = lora->alpha,
        .lora_rslora = lora->rslora,
        .lora_dropout = lora->dropout,
        .adapter_seed = message->prefix != NULL ? message->prefix->seed : lora->seed,
        .prefix_tokens = message->prefix != NULL ? message->prefix->virtual_tokens : 0,
        .lr = o->lr,
        .adam_beta1 = o->beta1,
        .adam_beta2 = o->beta2,
        .adam_eps = o->eps,
        .weight_decay = o->weight_decay,
        .clip_norm = o->clip_norm,
        .schedule = (uint32_t)o->schedule,
        .warmup_steps = o->warmup_steps,
        .total_steps = o->total_steps,
        .resend_parameters = message->resend_parameters,
    };
    for (size_t i = 0; i < lora->n_targets; i++) {
        ret->lora_targets |= 1u << ((uint32_t)lora->targets[i] - 1u) % 32u;
    }
}
