/* See own_adapters.h.  Both adapters step as one: their squares are summed, front first, and their
 * states stand one behind the other. */
#include "own_adapters.h"

#include <string.h>

#include "arena.h"
#include "try.h"

static seam_optimizer_config optimizer_of(const seam_training_facts *facts) {
    return (seam_optimizer_config){
        .lr = facts->lr,
        .beta1 = facts->adam_beta1,
        .beta2 = facts->adam_beta2,
        .eps = facts->adam_eps,
        .weight_decay = facts->weight_decay,
        .clip_norm = facts->clip_norm,
        .schedule = strcmp(facts->schedule, "linear") == 0   ? SEAM_SCHEDULE_LINEAR
                    : strcmp(facts->schedule, "cosine") == 0 ? SEAM_SCHEDULE_COSINE
                                                             : SEAM_SCHEDULE_CONSTANT,
        .warmup_steps = facts->warmup_steps,
        .total_steps = facts->total_steps};
}

seam_adapter_config seam_own_adapter_config(const seam_training_facts *facts) {
    if (facts->prefix_tokens != 0) {
        return (seam_adapter_config){
            .kind = SEAM_ADAPTER_PREFIX,
            .prefix = {.tokens = facts->prefix_tokens, .seed = facts->prefix_seed}};
    }
    return (seam_adapter_config){.kind = SEAM_ADAPTER_LORA,
                                 .lora = {.rank = facts->lora_rank,
                                          .alpha = facts->lora_alpha,
                                          .targets = facts->lora_targets,
                                          .seed = facts->lora_seed,
                                          .rslora = facts->lora_rslora,
                                          .dropout = facts->lora_dropout}};
}

void seam_own_activations(seam_activations_options *ret_options, seam_adapter_config *ret_config,
                          const seam_training_facts *facts, bool is_tail) {
    *ret_config = facts->client_trains
                      ? seam_own_adapter_config(facts)
                      : (seam_adapter_config){.kind = SEAM_ADAPTER_LORA}; /* of no projection */
    *ret_options = (seam_activations_options){
        .adapter = is_tail || facts->client_trains ? ret_config : NULL, /* a frozen front: none */
        .rows_max = facts->rows_per_micro_max,
        .seqs_max = facts->sequences_per_micro_max};
}

uint32_t seam_own_front_sets(const seam_training_facts *facts, uint32_t depth) {
    return facts->front_blocks == 0 ? 0 : facts->client_trains ? depth : 1;
}

seam_status seam_own_adapters_init(seam_own_adapters *own, seam_model *model,
                                   const seam_training_facts *facts, seam_error *err) {
    const seam_adapter_config config = seam_own_adapter_config(facts);
    *own = (seam_own_adapters){.model = model, .optimizer = optimizer_of(facts)};
    seam_status st = SEAM_OK;
    if (model->front != NULL) {
        st = seam_adapter_create(&own->front, model->front, &config, err);
    }
    if (st == SEAM_OK && model->tail != NULL) {
        st = seam_adapter_create(&own->tail, model->tail, &config, err);
    }
    if (st != SEAM_OK) {
        seam_own_adapters_deinit(own);
        return st;
    }
    model->front_adapter = own->front;
    model->tail_adapter = own->tail;
    return SEAM_OK;
}

void seam_own_adapters_deinit(seam_own_adapters *own) {
    if (own->model != NULL) {
        own->model->front_adapter = own->model->tail_adapter = NULL;
    }
    seam_adapter_destroy(own->tail);
    seam_adapter_destroy(own->front);
    *own = (seam_own_adapters){.model = NULL};
}

/* ---- the part of seam.h ---- */

static seam_status own_squares(double *ret_sum, void *user) {
    const seam_own_adapters *const own = user;
    const seam_adapter *const adapters[] = {own->front, own->tail};
    double total = 0.0;
    for (int i = 0; i < 2; i++) {
        double sum = 0.0;
        if (adapters[i] != NULL) {
            SEAM_TRY(seam_adapter_gradient_squares(&sum, adapters[i], own->model->stream));
        }
        total += sum;
    }
    *ret_sum = total;
    return SEAM_OK;
}

seam_status seam_own_adapters_drop(seam_own_adapters *own) {
    seam_adapter *const adapters[] = {own->front, own->tail};
    for (int i = 0; i < 2; i++) {
        if (adapters[i] != NULL) {
            SEAM_TRY(seam_adapter_clear_gradient(adapters[i], own->model->stream));
        }
    }
    return SEAM_OK;
}

static seam_status own_step(seam_own_adapters *own, const seam_step_report *report) {
    seam_adapter *const adapters[] = {own->front, own->tail};
    if (report->skipped) {
        return seam_own_adapters_drop(own);
    }
    for (int i = 0; i < 2; i++) {
        uint64_t hash = 0; /* of no use: a replay compares the whole state */
        if (adapters[i] != NULL) {
            SEAM_TRY(seam_adapter_update(&hash, adapters[i], own->model->stream, &own->optimizer,
                                         report->step, report->clip_factor));
        }
    }
    return SEAM_OK;
}

static seam_status own_apply(void *user, const seam_step_report *report, seam_error *err) {
    const seam_status st = own_step(user, report);
    return st == SEAM_OK ? SEAM_OK : seam_error_set(err, st, "%s", seam_status_text(st));
}

static size_t state_bytes(const seam_adapter *adapter) {
    return adapter != NULL ? seam_adapter_state_bytes(adapter) : 0;
}

static seam_status own_save(uint8_t *ret_bytes, void *user) {
    const seam_own_adapters *const own = user;
    seam_stream *const stream = own->model->stream;
    if (own->front != NULL) {
        SEAM_TRY(seam_adapter_save_state(ret_bytes, own->front, stream));
    }
    return own->tail != NULL
               ? seam_adapter_save_state(ret_bytes + state_bytes(own->front), own->tail, stream)
               : SEAM_OK;
}

static seam_status own_load(void *user, const uint8_t *bytes) {
    seam_own_adapters *const own = user;
    seam_stream *const stream = own->model->stream;
    const size_t front_bytes = state_bytes(own->front);
    if (own->front != NULL) {
        SEAM_TRY(seam_adapter_load_state(own->front, stream, bytes, front_bytes));
    }
    return own->tail != NULL ? seam_adapter_load_state(own->tail, stream, bytes + front_bytes,
                                                       state_bytes(own->tail))
                             : SEAM_OK;
}

seam_own_part seam_own_adapters_part(seam_own_adapters *own) {
    seam_own_part part = SEAM_OWN_PART_INIT;
    part.user = own;
    part.squares = own_squares;
    part.apply = own_apply;
    part.state_bytes = state_bytes(own->front) + state_bytes(own->tail);
    part.save = own_save;
    part.load = own_load;
    return part;
}
