/* See use_session.h. */
#include "use_session.h"

#include <stdio.h>
#include <string.h>

#include "adapter_shape.h"
#include "local_model.h"
#include "run_files.h"
#include "run_folder.h"
#include "shared_options.h"
#include "train_options.h"
#include "try.h"

#define MODELS_MAX 64

const seam_arg_spec seam_use_specs[] = {
    {"model", SEAM_ARG_TEXT, offsetof(seam_use_options, model), "PATH",
     "model folder or .gguf file; only its embedding, norm and head are loaded, and the blocks "
     "that "
     "the run has here"},
    {"run", SEAM_ARG_TEXT, offsetof(seam_use_options, run), "DIR",
     "the session of this run folder, as trained"},
    {"adapter", SEAM_ARG_TEXT, offsetof(seam_use_options, adapter), "DIR",
     "a PEFT adapter or trained layers; with neither of the two: the base model"},
    SEAM_OPTION_SERVER_MODEL(seam_use_options),
    {"codec", SEAM_ARG_TEXT, offsetof(seam_use_options, codec), "NAME",
     "f32, bf16, or the session's own [bf16]"},
    {"threads", SEAM_ARG_U32, offsetof(seam_use_options, threads), "N",
     "threads of the head; 0: all cores [0]"},
    {"f32", SEAM_ARG_FLAG, offsetof(seam_use_options, f32), NULL,
     "compute the head in f32 even with bf16 units"},
    {"device", SEAM_ARG_TEXT, offsetof(seam_use_options, device), "NAME",
     "what computes the head: cpu, or cuda:N where built with CUDA [cpu]"},
    {NULL, SEAM_ARG_FLAG, 0, NULL, NULL},
};

static seam_status model_open(seam_use *use, const seam_use_options *options, uint32_t front_blocks,
                              uint32_t tail_blocks, seam_error *err);
static seam_status own_part_open(seam_use *use, const seam_use_options *options,
                                 const seam_session_file *file, seam_error *err);
static seam_status session_new(seam_use *use, const seam_use_options *options,
                               const seam_session_options *shape, seam_error *err);

seam_status seam_use_check(const seam_use_options *options, seam_error *err) {
    return options->run == NULL || options->adapter == NULL
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_ARG, "--run and --adapter exclude each other");
}

seam_status seam_use_open(seam_use *ret_use, seam_use_options *options, seam_error *err) {
    seam_use *const use = ret_use;
    *use = (seam_use){.tokenizer = NULL};
    SEAM_TRY(seam_cli_path_check("model", options->model, err));
    SEAM_TRY(seam_cli_path_check("run", options->run, err));
    SEAM_TRY(seam_cli_path_check("adapter", options->adapter, err));
    options->codec = options->codec != NULL ? options->codec : "bf16";
    SEAM_TRY(seam_tokenizer_open(&use->tokenizer, options->model, err));
    if (options->run == NULL) {
        seam_session_options session = SEAM_SESSION_OPTIONS_INIT;
        if (options->adapter != NULL) {
            SEAM_TRY(seam_adapter_shape(&session, options->adapter, err));
        }
        SEAM_TRY(model_open(use, options, session.front_blocks, session.tail_blocks, err));
        SEAM_TRY(seam_cli_connect(&use->client, &options->server, &options->common, err));
        return session_new(use, options, &session, err);
    }
    seam_session_file file;
    SEAM_TRY(seam_session_file_read(&file, options->run, err));
    if (options->server.server == NULL) {
        options->server.server = file.server;
    }
    SEAM_TRY(seam_cli_connect(&use->client, &options->server, &options->common, err));
    SEAM_TRY(seam_session_attach(&use->session, use->client, file.id, file.secret, err));
    SEAM_TRY(seam_run_folder_steps_check(options->run, use->session, err));
    seam_training_facts facts;
    seam_session_training(&facts, use->session);
    SEAM_TRY(model_open(use, options, facts.front_blocks, facts.tail_blocks, err));
    SEAM_TRY(seam_model_of_session(use->model_id, use->client, use->session, use->model, err));
    return facts.client_trains ? own_part_open(use, options, &file, err) : SEAM_OK;
}

/* With the blocks that the session leaves to this end. */
static seam_status model_open(seam_use *use, const seam_use_options *options, uint32_t front_blocks,
                              uint32_t tail_blocks, seam_error *err) {
    seam_model_options model = SEAM_MODEL_OPTIONS_INIT;
    model.path = options->model;
    model.threads = options->threads;
    model.f32 = options->f32;
    model.device = options->device;
    model.front_blocks = front_blocks;
    model.tail_blocks = tail_blocks;
    return seam_model_open(&use->model, &model, err);
}

/* What the run has trained on this end is in its journal. */
static seam_status own_part_open(seam_use *use, const seam_use_options *options,
                                 const seam_session_file *file, seam_error *err) {
    seam_session_close(use->session);
    use->session = NULL;
    SEAM_TRY(
        seam_session_resume(&use->session, use->client, file->id, file->secret, options->run, err));
    return seam_trainer_create(&use->trainer, use->session, use->model, err);
}

void seam_use_close(seam_use *use) {
    seam_trainer_destroy(use->trainer);
    if (use->temporary && use->session != NULL) {
        (void)seam_session_delete(use->session, NULL);
    } else {
        seam_session_close(use->session);
    }
    seam_client_close(use->client);
    seam_model_close(use->model);
    seam_tokenizer_close(use->tokenizer);
    *use = (seam_use){.tokenizer = NULL};
}

/* shape: of the adapter's session, or as options begin where there is none. */
static seam_status session_new(seam_use *use, const seam_use_options *options,
                               const seam_session_options *shape, seam_error *err) {
    seam_model_facts facts;
    seam_model_describe(&facts, use->model);
    SEAM_TRY(seam_model_find(use->model_id, use->client, options->server_model, &facts, err));
    use->renewal = (seam_renewal){.options = *shape, .adapter = options->adapter};
    seam_session_options *const session = &use->renewal.options;
    session->model = use->model_id;
    session->model_identity = facts.identity;
    session->codec = options->codec;
    session->rows_per_micro_max = 64; /* nothing is trained */
    if (options->adapter == NULL) {
        session->lora_rank = 1;
        session->lora_targets = seam_targets_default(&facts);
    }
    SEAM_TRY(seam_session_create(&use->session, use->client, session, err));
    use->temporary = true;
    use->base_model = options->adapter == NULL;
    seam_session_renew_by(use->session, &use->renewal);
    return options->adapter != NULL ? seam_session_import(use->session, options->adapter, NULL, err)
                                    : SEAM_OK;
}

seam_status seam_model_of_session(char ret_id[128], seam_client *client, seam_session *session,
                                  const seam_model *model, seam_error *err) {
    seam_session_info info;
    seam_model_facts facts;
    SEAM_TRY(seam_session_info_get(&info, session, err));
    seam_model_describe(&facts, model);
    return seam_model_find(ret_id, client, info.model, &facts, err);
}

uint32_t seam_use_positions(const seam_model *model, const seam_session *session) {
    seam_training_facts facts;
    seam_session_training(&facts, session);
    return seam_model_config_positions(seam_model_config_of(model), facts.prefix_tokens);
}

static void name_add(char *names, size_t bytes, const char *name) {
    const size_t used = strlen(names);
    snprintf(names + used, bytes - used, "%s%.60s", used > 0 ? ", " : "", name);
}

seam_status seam_model_find(char ret_id[128], seam_client *client, const char *name,
                            const seam_model_facts *facts, seam_error *err) {
    seam_model_info models[MODELS_MAX];
    uint32_t count = 0;
    SEAM_TRY(seam_client_models(models, &count, client, MODELS_MAX, err));
    count = count < MODELS_MAX ? count : MODELS_MAX;
    char names[256] = "", equals[256] = "";
    uint32_t equal_count = 0, found = count;
    for (uint32_t i = 0; i < count; i++) {
        const bool equal = models[i].identity == facts->identity;
        name_add(names, sizeof names, models[i].id);
        if (equal) {
            name_add(equals, sizeof equals, models[i].id);
            equal_count++;
        }
        if (name != NULL ? strcmp(models[i].id, name) == 0 : equal) {
            found = i;
        }
    }
    if (found == count) {
        return name != NULL
                   ? seam_error_set(err, SEAM_E_NOT_FOUND,
                                    "model: the server has no '%s'; it has %s", name, names)
                   : seam_error_set(err, SEAM_E_NOT_FOUND,
                                    "model: the server has none that equals '%s'; it has %s",
                                    facts->name, names);
    }
    if (models[found].identity != facts->identity) {
        return seam_error_set(err, SEAM_E_ARG,
                              "model: the server's '%s' has another shape than '%s'",
                              models[found].id, facts->name);
    }
    if (name == NULL && equal_count > 1) {
        return seam_error_set(
            err, SEAM_E_ARG,
            "model: several of the server's have the shape of '%s', and may differ "
            "in their weights: %s; say which one by --server-model",
            facts->name, equals);
    }
    memcpy(ret_id, models[found].id, sizeof models[found].id);
    return SEAM_OK;
}
