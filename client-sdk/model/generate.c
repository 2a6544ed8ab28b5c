/* Token by token, many prompts at once: each request to the server has one row for every sequence
 * in flight and, as far as rows_max allows, whole prompts for the slots that are free.
 *
 * LongRoPE: a sequence that reaches rope.long_from is sent again from its first token, since all of
 * its keys take other factors then (blocks.h, seam_blocks_forward_cached); transformers' generate()
 * does the same.
 *
 * A stream that was lost has taken the server's keys with it: every sequence in flight begins again
 * with its prompt, and takes the tokens that were shown before instead of picking others. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "codec.h"
#include "local_model.h"
#include "try.h"

#define NO_PROMPT UINT32_MAX

typedef struct slot {
    uint32_t prompt_idx; /* NO_PROMPT: free */
    uint32_t position;   /* of the next row */
    uint32_t new_count;
    uint32_t token;       /* the next row's */
    uint32_t shown_count; /* new tokens that visit has had; above new_count while they come again */
    bool again;           /* to begin with its prompt */
} slot;

typedef struct candidate {
    float weight;
    uint32_t id;
} candidate;

typedef struct generation {
    seam_model *model;
    seam_inference *inference;
    seam_inference_options limits;
    const seam_prompt *prompts;
    uint32_t prompt_count, prompt_next;
    const seam_generation_options *options;
    seam_token_fn *visit;
    void *user;
    slot *slots;
    /* The request being built, (slot_count) each; ids: (rows_max). */
    uint32_t *request_slots, *sequence_rows, *first_positions, *ids;
    uint32_t *zeros;    /* targets that the head asks for and nobody uses */
    uint32_t long_from; /* 0: no sequence is sent again for its length */
    uint32_t *tokens;   /* (slot_count, positions_max + 1) what a slot has had so far */
    uint32_t sequence_count, rows;
    float *logits;               /* (SEAM_HEAD_CHUNK_ROWS, V): only when sampling */
    candidate *candidates;       /* (V) */
    seam_kv_cache *front, *tail; /* of this end's blocks; NULL: it has none */
    uint32_t *row_slots;         /* (rows_max) */
} generation;

static seam_status generation_check(const generation *g, seam_error *err);
static seam_status generation_take(generation *g);
static void generation_free(generation *g);
static void request_build(generation *g);
static void begin_again(generation *g);
static seam_status caches_take(generation *g, seam_error *err);
static seam_status rows_run(generation *g, const seam_rows_request *request, seam_error *err);
static seam_status tokens_pick(generation *g, seam_error *err);
static void token_take(generation *g, uint32_t slot_idx, uint32_t token);
static uint32_t sample(generation *g, const float *logits, const slot *s);

seam_status seam_model_generate(seam_model *model, seam_inference *inference,
                                const seam_prompt *prompts, uint32_t prompt_count,
                                const seam_generation_options *options, seam_token_fn *visit,
                                void *user, seam_error *err) {
    if (model == NULL || inference == NULL || prompts == NULL || options == NULL || visit == NULL ||
        options->struct_bytes != sizeof *options) {
        return seam_error_set(err, SEAM_E_ARG, "an argument is NULL, or options lack their _INIT");
    }
    generation g = {.model = model,
                    .inference = inference,
                    .prompts = prompts,
                    .prompt_count = prompt_count,
                    .options = options,
                    .visit = visit,
                    .user = user};
    seam_inference_describe(&g.limits, inference);
    const seam_rope_scaling *const rope = &seam_head_config(model->head)->rope;
    g.long_from = rope->on ? rope->long_from : 0;
    SEAM_TRY(generation_check(&g, err));
    SEAM_TRY(seam_model_reserve(model, g.limits.rows_max, err));
    seam_status st = generation_take(&g);
    if (st != SEAM_OK) {
        (void)seam_error_set(err, st, "out of memory");
    }
    st = st == SEAM_OK ? caches_take(&g, err) : st;
    for (request_build(&g); st == SEAM_OK && g.rows > 0; request_build(&g)) {
        const seam_rows_request request = {.sequence_count = g.sequence_count,
                                           .sequence_rows = g.sequence_rows,
                                           .slots = g.request_slots,
                                           .first_positions = g.first_positions};
        st = seam_model_embed(model, g.ids, g.rows, err);
        if (st == SEAM_OK) {
            st = rows_run(&g, &request, err);
        }
        if (st == SEAM_OK) {
            st = tokens_pick(&g, err);
        } else if (st == SEAM_E_ROLLED_BACK) {
            begin_again(&g);
            st = SEAM_OK;
        }
    }
    generation_free(&g);
    return st;
}

static void begin_again(generation *g) {
    for (uint32_t i = 0; i < g->limits.slot_count; i++) {
        slot *const s = &g->slots[i];
        const uint32_t shown = s->shown_count > s->new_count ? s->shown_count : s->new_count;
        *s = (slot){
            .prompt_idx = s->prompt_idx, .shown_count = shown, .again = s->prompt_idx != NO_PROMPT};
    }
}

/* Where a sequence may have to be sent again, one request must hold it beside the others' rows. */
static seam_status long_check(const generation *g, uint32_t prompt_idx, seam_error *err) {
    const uint32_t count = g->prompts[prompt_idx].count;
    const uint64_t end = (uint64_t)count + g->options->new_tokens_max;
    if (g->long_from == 0 || count > g->long_from || end <= g->long_from ||
        g->limits.positions_max <= g->long_from ||
        g->long_from < g->limits.rows_max - g->limits.slot_count) {
        return SEAM_OK;
    }
    return seam_error_set(err, SEAM_E_LIMIT,
                          "prompt %u: with its %u new tokens it may pass position %u, where this "
                          "model's LongRoPE changes and the sequence is sent again: the inference "
                          "has %u rows for %u slots",
                          prompt_idx, g->options->new_tokens_max, g->long_from, g->limits.rows_max,
                          g->limits.slot_count);
}

/* Comparisons that NaN fails. */
static seam_status options_check(const seam_generation_options *o, seam_error *err) {
    if (o->new_tokens_max == 0) {
        return seam_error_set(err, SEAM_E_ARG, "new_tokens_max: 0");
    }
    if (!(o->temperature >= 0.0f)) {
        return seam_error_set(err, SEAM_E_ARG, "temperature: %g", (double)o->temperature);
    }
    if (!(o->top_p >= 0.0f && o->top_p <= 1.0f)) {
        return seam_error_set(err, SEAM_E_ARG, "top_p: %g is not in 0..1", (double)o->top_p);
    }
    if (o->stop_ids == NULL && o->stop_count > 0) {
        return seam_error_set(err, SEAM_E_ARG, "stop_ids: NULL for %u", o->stop_count);
    }
    return SEAM_OK;
}

static seam_status generation_check(const generation *g, seam_error *err) {
    SEAM_TRY(options_check(g->options, err));
    SEAM_TRY(seam_model_fits(g->model, g->inference, err));
    if (g->limits.kind != SEAM_INFERENCE_GENERATE || g->limits.slot_count == 0 ||
        g->limits.slot_count > g->limits.rows_max) {
        return seam_error_set(err, SEAM_E_ARG, "inference: kind GENERATE with slots is needed");
    }
    for (uint32_t i = 0; i < g->prompt_count; i++) {
        const seam_prompt *const p = &g->prompts[i];
        if (p->ids == NULL || p->count == 0) {
            return seam_error_set(err, SEAM_E_ARG, "prompt %u is empty", i);
        }
        if (p->count > g->limits.rows_max - g->limits.slot_count ||
            p->count >= g->limits.positions_max) {
            return seam_error_set(
                err, SEAM_E_LIMIT,
                "prompt %u: %u tokens; the inference has %u positions and %u rows "
                "for %u slots",
                i, p->count, g->limits.positions_max, g->limits.rows_max, g->limits.slot_count);
        }
        SEAM_TRY(long_check(g, i, err));
        for (uint32_t t = 0; t < p->count; t++) {
            if (p->ids[t] >= g->model->vocab) {
                return seam_error_set(err, SEAM_E_ARG,
                                      "prompt %u: token %u is not in the vocabulary", i, p->ids[t]);
            }
        }
    }
    return SEAM_OK;
}

static seam_status generation_take(generation *g) {
    const uint32_t n = g->limits.slot_count;
    g->slots = seam_mem_zalloc(n, sizeof *g->slots);
    g->request_slots = seam_mem_zalloc(n, sizeof *g->request_slots);
    g->sequence_rows = seam_mem_zalloc(n, sizeof *g->sequence_rows);
    g->first_positions = seam_mem_zalloc(n, sizeof *g->first_positions);
    g->zeros = seam_mem_zalloc(n, sizeof *g->zeros);
    g->ids = seam_mem_zalloc(g->limits.rows_max, sizeof *g->ids);
    g->row_slots = seam_mem_zalloc(g->limits.rows_max, sizeof *g->row_slots);
    bool taken = g->slots != NULL && g->request_slots != NULL && g->sequence_rows != NULL &&
                 g->first_positions != NULL && g->zeros != NULL && g->ids != NULL &&
                 g->row_slots != NULL;
    g->tokens = seam_mem_zalloc(n, ((size_t)g->limits.positions_max + 1) * sizeof *g->tokens);
    taken = taken && g->tokens != NULL;
    if (g->options->temperature > 0.0f) {
        g->logits = seam_mem_zalloc(g->model->vocab, SEAM_HEAD_CHUNK_ROWS * sizeof *g->logits);
        g->candidates = seam_mem_zalloc(g->model->vocab, sizeof *g->candidates);
        taken = taken && g->logits != NULL && g->candidates != NULL;
    }
    for (uint32_t i = 0; taken && i < n; i++) {
        g->slots[i].prompt_idx = NO_PROMPT;
    }
    return taken ? SEAM_OK : SEAM_E_MEMORY;
}

/* Keys and values of this end's blocks, as the server has those of its own. */
static seam_status caches_take(generation *g, seam_error *err) {
    const seam_inference_options *const l = &g->limits;
    const seam_model *const model = g->model;
    const seam_adapter *const adapter =
        model->front_adapter != NULL ? model->front_adapter : model->tail_adapter;
    const bool adapted = adapter != NULL && !l->base_model;
    /* A prefix stands before the text. */
    const uint32_t positions_max =
        l->positions_max +
        (adapted ? seam_adapter_config_tokens(seam_adapter_config_of(adapter)) : 0);
    if (model->front != NULL) {
        SEAM_TRY(seam_kv_cache_create(&g->front, model->front, l->slot_count, positions_max,
                                      l->rows_max, err));
    }
    return model->tail != NULL ? seam_kv_cache_create(&g->tail, model->tail, l->slot_count,
                                                      positions_max, l->rows_max, err)
                               : SEAM_OK;
}

static void generation_free(generation *g) {
    seam_kv_cache_destroy(g->tail);
    seam_kv_cache_destroy(g->front);
    seam_mem_free(g->row_slots);
    seam_mem_free(g->candidates);
    seam_mem_free(g->logits);
    seam_mem_free(g->tokens);
    seam_mem_free(g->ids);
    seam_mem_free(g->zeros);
    seam_mem_free(g->first_positions);
    seam_mem_free(g->sequence_rows);
    seam_mem_free(g->request_slots);
    seam_mem_free(g->slots);
}

static uint32_t *slot_tokens(const generation *g, uint32_t slot_idx) {
    return g->tokens + (size_t)slot_idx * ((size_t)g->limits.positions_max + 1);
}

/* The slot's tokens from its next position on. */
static void tokens_keep(generation *g, uint32_t slot_idx, const uint32_t *ids, uint32_t count) {
    const uint32_t at = g->slots[slot_idx].position;
    if (at + count <= g->limits.positions_max + 1) {
        memcpy(slot_tokens(g, slot_idx) + at, ids, count * sizeof *ids);
    }
}

/* The next row is the first beyond the short factors, and the prompt had those. */
static bool is_sent_again(const generation *g, const slot *s) {
    return g->long_from != 0 && s->position == g->long_from;
}

/* Sequences in flight first: each needs one row only, and rows_max has room for all of them. */
static void request_build(generation *g) {
    g->sequence_count = g->rows = 0;
    if (g->ids == NULL) {
        return; /* generation_take has failed */
    }
    uint32_t waiting_rows = 0; /* kept free for slots that come later in this loop */
    for (uint32_t i = 0; i < g->limits.slot_count; i++) {
        waiting_rows += g->slots[i].prompt_idx != NO_PROMPT && !g->slots[i].again;
    }
    for (uint32_t i = 0; i < g->limits.slot_count; i++) {
        slot *const s = &g->slots[i];
        uint32_t rows = 1;
        const uint32_t *ids = &s->token;
        const uint32_t room = g->limits.rows_max - g->rows - waiting_rows;
        if (s->prompt_idx == NO_PROMPT) {
            if (g->prompt_next == g->prompt_count || g->prompts[g->prompt_next].count > room) {
                continue;
            }
            *s = (slot){.prompt_idx = g->prompt_next};
            rows = g->prompts[g->prompt_next].count;
            ids = g->prompts[g->prompt_next].ids;
            g->prompt_next++;
            tokens_keep(g, i, ids, rows);
        } else if (s->again) {
            if (g->prompts[s->prompt_idx].count > room) {
                continue; /* the next request */
            }
            s->again = false;
            rows = g->prompts[s->prompt_idx].count;
            ids = g->prompts[s->prompt_idx].ids;
        } else if (is_sent_again(g, s)) {
            if (g->long_from > room) { /* one row of the room is kept for it: the next request */
                continue;
            }
            waiting_rows--;
            rows = g->long_from + 1;
            ids = slot_tokens(g, i);
            s->position = 0;
        } else {
            waiting_rows--;
        }
        g->request_slots[g->sequence_count] = i;
        g->sequence_rows[g->sequence_count] = rows;
        g->first_positions[g->sequence_count] = s->position;
        g->sequence_count++;
        memcpy(g->ids + g->rows, ids, rows * sizeof *ids);
        g->rows += rows;
        s->position += rows;
    }
}

/* rows (T, C) of the request through blocks of this end. */
static seam_status own_blocks_run(generation *g, float *rows, bool is_tail, seam_error *err) {
    seam_model *const model = g->model;
    const seam_ops *const ops = model->ops;
    const size_t bytes = (size_t)g->rows * model->hidden * sizeof *rows;
    seam_adapter *const adapter = is_tail ? model->tail_adapter : model->front_adapter;
    seam_status st = ops->copy_in(model->stream, model->x, rows, bytes);
    if (st == SEAM_OK) {
        st = seam_blocks_forward_cached(is_tail ? model->tail : model->front,
                                        g->limits.base_model ? NULL : adapter,
                                        is_tail ? g->tail : g->front, model->stream, model->x,
                                        g->rows, g->row_slots, model->positions);
    }
    st = st == SEAM_OK ? ops->copy_out(model->stream, rows, model->x, bytes) : st;
    st = st == SEAM_OK ? ops->stream_sync(model->stream) : st;
    return st == SEAM_OK ? SEAM_OK
                         : seam_error_set(err, st, "blocks of this end: %s", seam_status_text(st));
}

/* host_x (T, C) to host_y (sequences, C): the last row of each.  A tail reads all rows. */
static seam_status rows_run(generation *g, const seam_rows_request *request, seam_error *err) {
    seam_model *const model = g->model;
    const size_t C = model->hidden;
    seam_rows_request own = *request;
    uint32_t row = 0;
    for (uint32_t s = 0; s < g->sequence_count; s++) {
        for (uint32_t i = 0; i < g->sequence_rows[s]; i++, row++) {
            g->row_slots[row] = g->request_slots[s];
            model->positions[row] = g->first_positions[s] + i;
        }
    }
    if (model->front != NULL) {
        SEAM_TRY(own_blocks_run(g, model->host_x, false, err));
    }
    if (model->tail == NULL) {
        return seam_inference_run(g->inference, model->host_y, model->host_x, request, err);
    }
    memset(model->bitmap, 0xff, g->rows / 8);
    model->bitmap[g->rows / 8] = (uint8_t)((1u << g->rows % 8) - 1u);
    own.labelled_rows = model->bitmap;
    SEAM_TRY(seam_inference_run(g->inference, model->host_all, model->host_x, &own, err));
    SEAM_TRY(own_blocks_run(g, model->host_all, true, err));
    uint32_t end = 0;
    for (uint32_t s = 0; s < g->sequence_count; s++) {
        end += g->sequence_rows[s];
        memcpy(model->host_y + s * C, model->host_all + (size_t)(end - 1) * C, C * sizeof(float));
    }
    return SEAM_OK;
}

static seam_status tokens_pick(generation *g, seam_error *err) {
    seam_model *const model = g->model;
    const size_t C = model->hidden;
    if (g->options->temperature <= 0.0f) {
        double loss = 0.0;
        const seam_head_pass pass = {.targets = g->zeros, .rows = g->sequence_count};
        SEAM_TRY(seam_model_head(&loss, model, &pass, err));
        for (uint32_t i = 0; i < g->sequence_count; i++) {
            token_take(g, g->request_slots[i], model->argmax[i]);
        }
        return SEAM_OK;
    }
    for (uint32_t begin = 0; begin < g->sequence_count; begin += SEAM_HEAD_CHUNK_ROWS) {
        const uint32_t left = g->sequence_count - begin;
        const uint32_t rows = left < SEAM_HEAD_CHUNK_ROWS ? left : SEAM_HEAD_CHUNK_ROWS;
        seam_status st = model->ops->copy_in(model->stream, model->y, model->host_y + begin * C,
                                             rows * C * sizeof(float));
        if (st == SEAM_OK) {
            st = seam_head_logits(g->logits, model->head, model->stream, model->y, rows);
        }
        if (st != SEAM_OK) {
            return seam_error_set(err, st, "head: %s", seam_status_text(st));
        }
        for (uint32_t i = 0; i < rows; i++) {
            const uint32_t slot_idx = g->request_slots[begin + i];
            const float *const logits = g->logits + (size_t)i * model->vocab;
            token_take(g, slot_idx, sample(g, logits, &g->slots[slot_idx]));
        }
    }
    return SEAM_OK;
}

static void token_take(generation *g, uint32_t slot_idx, uint32_t token) {
    slot *const s = &g->slots[slot_idx];
    const uint32_t prompt_idx = s->prompt_idx;
    if (s->new_count < s->shown_count) {
        s->token = slot_tokens(g, slot_idx)[s->position];
        s->new_count++;
        return;
    }
    for (uint32_t i = 0; i < g->options->stop_count; i++) {
        if (g->options->stop_ids[i] == token) {
            s->prompt_idx = NO_PROMPT;
            g->visit(g->user, prompt_idx, NULL, 0, true);
            return;
        }
    }
    s->token = token;
    tokens_keep(g, slot_idx, &token, 1);
    s->new_count++;
    const bool last =
        s->new_count >= g->options->new_tokens_max || s->position >= g->limits.positions_max;
    if (last) {
        s->prompt_idx = NO_PROMPT;
    }
    g->visit(g->user, prompt_idx, &token, 1, last);
}

static int by_weight(const void *a, const void *b) {
    const candidate *const x = a;
    const candidate *const y = b;
    if (x->weight != y->weight) {
        return x->weight < y->weight ? 1 : -1;
    }
    return x->id < y->id ? -1 : 1;
}

/* Nucleus sampling, Holtzman et al. 2019, arXiv:1904.09751.  The random number is keyed by prompt
 * and position, so that a text does not depend on what else is in flight. */
static uint32_t sample(generation *g, const float *logits, const slot *s) {
    const uint32_t V = g->model->vocab;
    float top = logits[0];
    for (uint32_t v = 1; v < V; v++) {
        top = logits[v] > top ? logits[v] : top;
    }
    double total = 0.0;
    for (uint32_t v = 0; v < V; v++) {
        const float weight = expf((logits[v] - top) / g->options->temperature);
        g->candidates[v] = (candidate){.weight = weight, .id = v};
        total += (double)weight;
    }
    qsort(g->candidates, V, sizeof *g->candidates, by_weight);
    const double wanted = total * (double)g->options->top_p;
    double nucleus = 0.0;
    uint32_t count = 0;
    while (count < V && (count == 0 || nucleus < wanted)) {
        nucleus += (double)g->candidates[count++].weight;
    }
    const uint32_t counter[4] = {s->position, s->prompt_idx, 0, 0};
    const uint32_t key[2] = {(uint32_t)g->options->seed, (uint32_t)(g->options->seed >> 32)};
    uint32_t words[4];
    seam_philox(words, counter, key);
    double left = nucleus * ((double)(words[0] >> 8) * 0x1p-24);
    uint32_t pick = 0;
    while (pick + 1 < count && left >= (double)g->candidates[pick].weight) {
        left -= (double)g->candidates[pick].weight;
        pick++;
    }
    return g->candidates[pick].id;
}
