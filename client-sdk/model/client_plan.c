/* See client_plan.h.  Who owns a buffer says what it takes: kernels/model/head.c,
 * kernels/model/memory_plan.c, local_model.c, core/session_memory.c. */
#include "client_plan.h"

#include <string.h>

#include "adapter_modules.h"
#include "head.h"
#include "local_model.h"
#include "memory_plan.h"
#include "own_adapters.h"
#include "session_memory.h"
#include "split_trainer.h"
#include "try.h"

/* One stretch of blocks, with its adapter and the activations of `sets` micro-batches. */
static seam_status stretch_add(seam_client_memory *memory, const seam_memory_blocks *blocks,
                               const seam_training_facts *facts,
                               const seam_activations_options *acts, uint32_t sets) {
    seam_memory_plan plan = {0};
    if (blocks->layer_begin == blocks->layer_end) {
        return SEAM_OK;
    }
    memory->blocks += seam_memory_plan_packed(blocks);
    for (uint32_t i = 0; i < sets; i++) {
        SEAM_TRY(seam_memory_plan_activations(&plan, blocks, acts));
    }
    if (facts->client_trains) {
        const seam_adapter_config adapter = seam_own_adapter_config(facts);
        seam_memory_plan_adapter(&plan, blocks, &adapter);
        memory->record_bytes += plan.device[SEAM_MEMORY_MOMENTS] / 2 * 3;
    }
    memory->activations +=
        plan.device[SEAM_MEMORY_ACTIVATIONS] + plan.host[SEAM_MEMORY_ACTIVATIONS];
    memory->adapter += plan.device[SEAM_MEMORY_ADAPTER] + plan.host[SEAM_MEMORY_ADAPTER];
    memory->moments += plan.device[SEAM_MEMORY_MOMENTS];
    return SEAM_OK;
}

static seam_status blocks_add(seam_client_memory *memory, const seam_client_shape *shape,
                              const seam_training_facts *facts, uint32_t depth, seam_error *err) {
    const uint32_t layers = shape->model->layers;
    seam_activations_options acts;
    seam_adapter_config config;
    const seam_memory_blocks front = {
        .model = shape->model, .ops = shape->ops, .layer_end = facts->front_blocks};
    const seam_memory_blocks tail = {.model = shape->model,
                                     .ops = shape->ops,
                                     .layer_begin = layers - facts->tail_blocks,
                                     .layer_end = layers};
    seam_own_activations(&acts, &config, facts, true);
    seam_status st = stretch_add(memory, &tail, facts, &acts, 1);
    const uint32_t sets = seam_own_front_sets(facts, depth);
    seam_own_activations(&acts, &config, facts, false);
    acts.sets = sets;
    st = st == SEAM_OK ? stretch_add(memory, &front, facts, &acts, sets) : st;
    return st == SEAM_OK ? SEAM_OK
                         : seam_error_set(err, st, "blocks of this end: %s", seam_status_text(st));
}

/* ---- topology adapter_exchange ---- */

static seam_adapter_config exchange_adapter(const seam_session_options *o) {
    return (seam_adapter_config){.kind = o->prefix_tokens != 0 ? SEAM_ADAPTER_PREFIX
                                                               : SEAM_ADAPTER_LORA,
                                 .lora = {.rank = o->lora_rank, .targets = o->lora_targets},
                                 .prefix = {.tokens = o->prefix_tokens}};
}

uint32_t seam_client_modules(seam_module_pair ret_pairs[SEAM_MODULE_LINK_SITES_MAX],
                             const seam_model_config *model, const seam_session_options *options) {
    const seam_ops types = {.act = SEAM_F32, .acc = SEAM_F32}; /* shapes do not depend on them */
    const seam_memory_blocks blocks = {.model = model, .ops = &types, .layer_end = model->layers};
    const seam_adapter_config adapter = exchange_adapter(options);
    return seam_adapter_sites(ret_pairs, &blocks, &adapter);
}

/* What exchange_trainer.c takes, in f32. */
static void exchange_add(seam_client_memory *memory, const seam_client_shape *shape,
                         const seam_session_options *options) {
    seam_ops ops = *shape->ops;
    seam_memory_plan plan = {0};
    ops.act = SEAM_F32;
    const seam_memory_blocks blocks = {
        .model = shape->model, .ops = &ops, .layer_end = shape->model->layers};
    const seam_adapter_config adapter = exchange_adapter(options);
    seam_memory_plan_adapter(&plan, &blocks, &adapter);
    memory->adapter += plan.device[SEAM_MEMORY_ADAPTER] + plan.host[SEAM_MEMORY_ADAPTER];
    memory->moments += plan.device[SEAM_MEMORY_MOMENTS];
    memory->modules = 2 * seam_adapter_modules_bytes(&blocks, &adapter);
    memory->record_bytes += plan.device[SEAM_MEMORY_MOMENTS] / 2 * 3;
}

seam_status seam_client_plan(seam_client_memory *ret_memory, const seam_client_shape *shape,
                             const seam_session_options *options, seam_error *err) {
    seam_client_memory memory = {0};
    seam_session_memory session;
    seam_head_plan head;
    seam_module_pair pairs[SEAM_MODULE_LINK_SITES_MAX];
    seam_sketch_args sketch = {.options = options, .channels = shape->model->hidden};
    const bool exchanges =
        options->topology != NULL && strcmp(options->topology, "adapter_exchange") == 0;
    if (exchanges) {
        sketch.pairs = pairs;
        sketch.pair_count = seam_client_modules(pairs, shape->model, options);
    }
    SEAM_TRY(seam_session_memory_plan(&session, &sketch, err));
    const seam_training_facts *const facts = &session.training;
    if (facts->front_blocks >= shape->model->layers ||
        facts->tail_blocks >= shape->model->layers - facts->front_blocks) {
        return seam_error_set(err, SEAM_E_ARG,
                              "front_blocks %u and tail_blocks %u: of the model's %u blocks the "
                              "server has at least one",
                              facts->front_blocks, facts->tail_blocks, shape->model->layers);
    }
    seam_head_plan_make(&head, shape->model, shape->ops, shape->bf16_table);
    memory.embedding = head.table;
    memory.head = head.matrix + head.scratch;
    SEAM_TRY(blocks_add(&memory, shape, facts, session.pipeline_depth, err));
    if (exchanges) {
        exchange_add(&memory, shape, options);
    }
    memory.rows = seam_model_rows_bytes(shape->model->hidden, shape->rows,
                                        facts->front_blocks == 0 && shape->bf16_table);
    memory.session = session.fixed_bytes;
    memory.caches = session.cache_bytes;
    memory.tensors = session.step_bytes;
    memory.session += memory.record_bytes; /* the newest record, from which a step is made again */
    *ret_memory = memory;
    return SEAM_OK;
}

uint64_t seam_client_memory_bytes(const seam_client_memory *memory) {
    const seam_client_memory *const m = memory;
    return m->embedding + m->head + m->blocks + m->adapter + m->moments + m->activations +
           m->modules + m->rows + m->session + m->caches + m->tensors;
}
