/* See exchange_trainer.h.  The gradient that counts is the one that travelled: the server steps the
 * same optimizer on the same bits, and its state hash at every commit says whether it did.
 * Adapter and moments are the session's own part (seam.h): they step when a commit comes, and stand
 * in its record. */
#include "exchange_trainer.h"

#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "file_map.h"
#include "peft.h"
#include "try.h"

#define PATH_BYTES 1200

struct seam_exchange_trainer {
    seam_session *session;
    seam_exchange_training training;
    seam_optimizer_config optimizer;
    seam_backend *backend;
    const seam_ops *ops;
    seam_stream *stream;
    seam_blocks *blocks; /* a shape */
    seam_adapter *adapter;
    seam_adapter_modules parameters, gradients;
    seam_module_memory *memory; /* (module_count) of both */
    bool is_part;               /* the session has it */
    char model_name[128];
};

static seam_adapter_config adapter_config(const seam_exchange_training *t) {
    seam_adapter_config config = {.kind = SEAM_ADAPTER_LORA,
                                  .lora = {.rank = t->lora_rank,
                                           .alpha = t->lora_alpha,
                                           .targets = t->lora_targets,
                                           .seed = t->adapter_seed,
                                           .rslora = t->lora_rslora,
                                           .dropout = t->lora_dropout}};
    if (t->prefix_tokens != 0) {
        config =
            (seam_adapter_config){.kind = SEAM_ADAPTER_PREFIX,
                                  .prefix = {.tokens = t->prefix_tokens, .seed = t->adapter_seed}};
    }
    return config;
}

static seam_status status_text(seam_status st, const char *what, seam_error *err) {
    return st == SEAM_OK ? SEAM_OK : seam_error_set(err, st, "%s: %s", what, seam_status_text(st));
}

/* Both ends' modules in the order of the stacks. */
static seam_status modules_tell(seam_exchange_trainer *t, seam_error *err) {
    const seam_adapter_modules *const p = &t->parameters;
    t->memory = seam_mem_zalloc(p->module_count, sizeof *t->memory);
    if (t->memory == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    uint32_t idx = 0;
    for (uint32_t s = 0; s < p->site_count; s++) {
        for (uint32_t i = 0; i < p->stacks[s].module_count; i++, idx++) {
            const seam_module *const module = &p->stacks[s].modules[i];
            t->memory[idx] =
                (seam_module_memory){.site = (uint16_t)p->sites[s].site,
                                     .rows = module->rows,
                                     .rank = module->rank,
                                     .by_columns = module->order == SEAM_MODULE_COLUMNS,
                                     .parameters = module->values,
                                     .gradient = t->gradients.stacks[s].modules[i].values};
        }
    }
    return seam_session_modules(t->session, t->memory, idx, err);
}

static seam_status fill(seam_exchange_trainer *t, const seam_model_config *model, seam_error *err) {
    const seam_exchange_training *const of = &t->training;
    const seam_backend_options options = {.device = "cpu", .act = SEAM_F32};
    const seam_adapter_config config = adapter_config(of);
    SEAM_TRY(seam_backend_create(&t->backend, &options, err));
    t->ops = seam_backend_ops(t->backend);
    SEAM_TRY(status_text(t->ops->stream_create(&t->stream, t->backend), "stream", err));
    SEAM_TRY(seam_adapter_blocks_create(&t->blocks, t->backend, model, err));
    SEAM_TRY(seam_adapter_create(&t->adapter, t->blocks, &config, err));
    const seam_memory_blocks shape = {.model = model, .ops = t->ops, .layer_end = model->layers};
    SEAM_TRY(status_text(seam_adapter_modules_create(&t->parameters, t->adapter, &shape),
                         "parameters", err));
    SEAM_TRY(status_text(seam_adapter_modules_create(&t->gradients, t->adapter, &shape),
                         "gradients", err));
    SEAM_TRY(status_text(seam_adapter_modules_fetch(&t->parameters, false, t->stream), "parameters",
                         err));
    t->optimizer = (seam_optimizer_config){.lr = of->lr,
                                           .beta1 = of->adam_beta1,
                                           .beta2 = of->adam_beta2,
                                           .eps = of->adam_eps,
                                           .weight_decay = of->weight_decay,
                                           .clip_norm = of->clip_norm,
                                           .schedule = (seam_schedule)of->schedule,
                                           .warmup_steps = of->warmup_steps,
                                           .total_steps = of->total_steps};
    (void)snprintf(t->model_name, sizeof t->model_name, "%s", model->name);
    return modules_tell(t, err);
}

/* ---- the own part of seam.h ---- */

/* The step of the optimizer.  SEAM_E_NONDETERMINISM: the server's adapter is another one now. */
static seam_status part_apply(void *user, const seam_step_report *report, seam_error *err) {
    seam_exchange_trainer *const t = user;
    uint64_t hash = 0;
    if (report->skipped) { /* zeros travelled */
        return SEAM_OK;
    }
    const float clip = seam_clip_factor(&t->optimizer, report->grad_norm);
    SEAM_TRY(
        status_text(seam_adapter_modules_store(&t->gradients, true, t->stream), "gradients", err));
    SEAM_TRY(status_text(
        seam_adapter_update(&hash, t->adapter, t->stream, &t->optimizer, report->step, clip),
        "optimizer", err));
    SEAM_TRY(status_text(seam_adapter_modules_fetch(&t->parameters, false, t->stream), "parameters",
                         err)); /* to be sent, or for their gates */
    if (t->training.resend_parameters || hash == report->state_hash) {
        return SEAM_OK; /* with the former the server has what it was sent, and no optimizer */
    }
    return seam_error_set(err, SEAM_E_NONDETERMINISM,
                          "step %llu: the server's adapter has state hash %016llx, this one "
                          "%016llx (resend_parameters does without)",
                          (unsigned long long)report->step, (unsigned long long)report->state_hash,
                          (unsigned long long)hash);
}

static seam_status part_save(uint8_t *ret_bytes, void *user) {
    const seam_exchange_trainer *const t = user;
    return seam_adapter_save_state(ret_bytes, t->adapter, t->stream);
}

static seam_status part_load(void *user, const uint8_t *bytes) {
    seam_exchange_trainer *const t = user;
    SEAM_TRY(seam_adapter_load_state(t->adapter, t->stream, bytes,
                                     seam_adapter_state_bytes(t->adapter)));
    return seam_adapter_modules_fetch(&t->parameters, false, t->stream);
}

static seam_status part_tell(seam_exchange_trainer *t, seam_error *err) {
    seam_own_part part = SEAM_OWN_PART_INIT;
    part.user = t;
    part.apply = part_apply;
    part.state_bytes = seam_adapter_state_bytes(t->adapter);
    part.save = part_save;
    part.load = part_load;
    const seam_status st = seam_session_own(t->session, &part, err);
    t->is_part = st == SEAM_OK;
    return st;
}

seam_status seam_exchange_trainer_create(seam_exchange_trainer **ret_trainer, seam_session *session,
                                         const seam_model_config *model, seam_error *err) {
    seam_exchange_trainer *const t = seam_mem_zalloc(1, sizeof *t);
    if (t == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    t->session = session;
    t->training.struct_bytes = sizeof t->training;
    seam_status st = seam_session_exchange_training(&t->training, session);
    st = st == SEAM_OK ? fill(t, model, err) : st;
    st = st == SEAM_OK ? part_tell(t, err) : st;
    if (st != SEAM_OK) {
        seam_exchange_trainer_destroy(t);
        return st;
    }
    *ret_trainer = t;
    return SEAM_OK;
}

void seam_exchange_trainer_destroy(seam_exchange_trainer *gift_trainer) {
    if (gift_trainer == NULL) {
        return;
    }
    seam_exchange_trainer *const t = gift_trainer;
    if (t->is_part) {
        (void)seam_session_own(t->session, NULL, NULL);
    }
    seam_mem_free(t->memory);
    seam_adapter_modules_destroy(&t->gradients);
    seam_adapter_modules_destroy(&t->parameters);
    seam_adapter_destroy(t->adapter);
    seam_blocks_destroy(t->blocks);
    if (t->stream != NULL) {
        t->ops->stream_destroy(t->stream);
    }
    seam_backend_destroy(t->backend);
    seam_mem_free(t);
}

/* ---- Files ---- */

static seam_status path_of(char ret[PATH_BYTES], const char *directory, const char *name,
                           seam_error *err) {
    const int count = snprintf(ret, PATH_BYTES, "%s/%s", directory, name);
    return count > 0 && count < PATH_BYTES
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_IO, "%.300s: the path is too long", directory);
}

seam_status seam_exchange_trainer_export(seam_peft_files *ret_files, uint64_t *ret_state_hash,
                                         const seam_exchange_trainer *trainer, seam_error *err) {
    SEAM_TRY(status_text(seam_adapter_state_hash(ret_state_hash, trainer->adapter, trainer->stream),
                         "adapter", err));
    return seam_peft_export(ret_files, trainer->adapter, trainer->stream, trainer->model_name, err);
}

static seam_status files_import(seam_exchange_trainer *t, const char *directory,
                                seam_file_map maps[2], seam_error *err) {
    char path[PATH_BYTES];
    SEAM_TRY(path_of(path, directory, SEAM_PEFT_WEIGHTS_NAME, err));
    SEAM_TRY(seam_file_map_open(&maps[0], path, err));
    SEAM_TRY(path_of(path, directory, SEAM_PEFT_CONFIG_NAME, err));
    SEAM_TRY(seam_file_map_open(&maps[1], path, err));
    const seam_peft_files files = {.weights = (uint8_t *)(uintptr_t)maps[0].bytes,
                                   .weights_bytes = maps[0].count,
                                   .config = (uint8_t *)(uintptr_t)maps[1].bytes,
                                   .config_bytes = maps[1].count};
    return seam_peft_import(t->adapter, t->stream, &files, err);
}

seam_status seam_exchange_trainer_import(seam_exchange_trainer *trainer, const char *directory,
                                         seam_error *err) {
    seam_exchange_trainer *const t = trainer;
    seam_file_map maps[2] = {0};
    if (seam_session_committed_steps(t->session) > 0) {
        return seam_error_set(err, SEAM_E_STATE, "an adapter is imported before the first step");
    }
    const seam_status st = files_import(t, directory, maps, err);
    seam_file_map_close(&maps[1]);
    seam_file_map_close(&maps[0]);
    SEAM_TRY(st);
    SEAM_TRY(status_text(seam_adapter_modules_fetch(&t->parameters, false, t->stream), "parameters",
                         err));
    /* Told again, so that what a step goes back to is the new start. */
    SEAM_TRY(seam_session_own(t->session, NULL, err));
    t->is_part = false;
    return part_tell(t, err);
}
