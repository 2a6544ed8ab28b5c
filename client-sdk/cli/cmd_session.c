/* Commands about servers and sessions: server info, model list, session list, show, update,
 * checkpoint and delete, export. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "cli.h"
#include "config_range.h"
#include "run_files.h"
#include "run_folder.h"
#include "try.h"

#define MODELS_MAX 256

typedef struct admin_options {
    seam_common_options common;
    seam_server_options server;
    const char *run, *out;
    uint64_t at_step;         /* UINT64_MAX: the next one */
    seam_optimizer optimizer; /* NaN, NULL, UINT64_MAX: as it was */
} admin_options;

static const seam_arg_spec run_specs[] = {
    {"run", SEAM_ARG_TEXT, offsetof(admin_options, run), "DIR",
     "the run folder whose session is meant (or its session.json)"},
    {NULL, SEAM_ARG_FLAG, 0, NULL, NULL},
};

static const seam_arg_spec no_specs[] = {{NULL, SEAM_ARG_FLAG, 0, NULL, NULL}};

static const seam_arg_spec export_specs[] = {
    {"out", SEAM_ARG_TEXT, offsetof(admin_options, out), "DIR",
     "where the adapter goes [RUN/adapter]"},
    {NULL, SEAM_ARG_FLAG, 0, NULL, NULL},
};

static const seam_arg_spec update_specs[] = {
    {"at-step", SEAM_ARG_U64, offsetof(admin_options, at_step), "N",
     "the first step that goes by it, which has not begun; what was said of later ones goes [the "
     "next one that begins]"},
    {"lr", SEAM_ARG_F32, offsetof(admin_options, optimizer.lr), "X", "learning rate"},
    {"schedule", SEAM_ARG_TEXT, offsetof(admin_options, optimizer.schedule), "NAME",
     "constant, linear, cosine"},
    {"warmup", SEAM_ARG_U64, offsetof(admin_options, optimizer.warmup_steps), "N",
     "steps of warm-up, from the session's first"},
    {"steps", SEAM_ARG_U64, offsetof(admin_options, optimizer.total_steps), "N",
     "where linear and cosine end, from the session's first"},
    {"weight-decay", SEAM_ARG_F32, offsetof(admin_options, optimizer.weight_decay), "X",
     "decoupled weight decay"},
    {"clip-norm", SEAM_ARG_F32, offsetof(admin_options, optimizer.clip_norm), "X",
     "global gradient norm; 0: no limit"},
    {NULL, SEAM_ARG_FLAG, 0, NULL, NULL},
};

/* What a command does with a connected client. */
typedef seam_status admin_fn(seam_client *client, const admin_options *options, seam_error *err);

typedef struct admin_command {
    const char *name, *summary;
    bool needs_run;
    admin_fn *act;
    const seam_arg_spec *specs; /* of its own; NULL: none */
    seam_status (*check)(const admin_options *options, seam_error *err); /* of these, or NULL */
} admin_command;

static int run(const admin_command *command, int argc, char **argv, int first) {
    admin_options o = {.at_step = UINT64_MAX,
                       .optimizer = {.lr = NAN,
                                     .weight_decay = NAN,
                                     .clip_norm = NAN,
                                     .warmup_steps = UINT64_MAX,
                                     .total_steps = UINT64_MAX}};
    seam_error err = {0};
    const seam_arg_table tables[] = {{seam_common_specs, &o.common},
                                     {seam_server_specs, &o.server},
                                     {command->needs_run ? run_specs : no_specs, &o},
                                     {command->specs != NULL ? command->specs : no_specs, &o}};
    uint32_t count = 0;
    const char *positional[1];
    seam_status st = seam_args_parse(&count, positional, command->needs_run ? 1 : 0, tables, 4,
                                     argc, argv, first, &err);
    o.run = count == 1 ? positional[0] : o.run;
    if (st == SEAM_OK && o.common.help) {
        printf("usage: seam %s%s [options]\n\n%s.\n\n", command->name,
               command->needs_run ? " RUN" : "", command->summary);
        seam_args_help(tables[3].specs);
        seam_args_help(seam_server_specs);
        seam_args_help(seam_common_specs);
        seam_args_help(tables[2].specs);
        return SEAM_EXIT_OK;
    }
    if (st == SEAM_OK && command->needs_run && o.run == NULL) {
        st = seam_error_set(&err, SEAM_E_ARG, "which run? give its folder");
    }
    if (st == SEAM_OK && command->check != NULL) {
        st = command->check(&o, &err);
    }
    if (st != SEAM_OK) {
        return seam_cli_usage(&err, command->name);
    }
    seam_session_file file = {.server = ""};
    if (command->needs_run) {
        st = seam_session_file_read(&file, o.run, &err);
        if (st != SEAM_OK) {
            return seam_cli_finish(st, &err, &o.common);
        }
        o.server.server = o.server.server != NULL ? o.server.server : file.server;
    }
    seam_client *client = NULL;
    st = seam_cli_connect(&client, &o.server, &o.common, &err);
    if (st == SEAM_OK) {
        st = command->act(client, &o, &err);
    }
    seam_client_close(client);
    return seam_cli_finish(st, &err, &o.common);
}

/* ---- Servers ---- */

static seam_status server_info(seam_client *client, const admin_options *options, seam_error *err) {
    seam_server_info info;
    SEAM_TRY(seam_client_server_info(&info, client, err));
    if (options->common.json) {
        json_t *const value =
            json_pack("{s:s,s:s,s:I,s:I,s:i,s:i,s:b,s:b}", "version", info.version, "device",
                      info.device, "memory_bytes_total", (json_int_t)info.memory_bytes_total,
                      "memory_bytes_free", (json_int_t)info.memory_bytes_free, "session_count",
                      (int)info.session_count, "rows_max", (int)info.rows_max, "allows_labels",
                      info.allows_labels, "allows_text", info.allows_text);
        seam_cli_print_json(value);
        json_decref(value);
        return SEAM_OK;
    }
    printf("version   %s\ndevice    %s\nmemory    %.2f of %.2f GB free\nsessions  %u\nrows      %u "
           "at most in a micro-batch\nmay see   %s\n",
           info.version, info.device, (double)info.memory_bytes_free / 1e9,
           (double)info.memory_bytes_total / 1e9, info.session_count, info.rows_max,
           info.allows_text     ? "text and labels, of sessions that consent"
           : info.allows_labels ? "labels, of sessions that consent"
                                : "neither text nor labels");
    return SEAM_OK;
}

static seam_status model_list(seam_client *client, const admin_options *options, seam_error *err) {
    seam_model_info *const models = seam_mem_zalloc(MODELS_MAX, sizeof *models);
    if (models == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    uint32_t count = 0;
    const seam_status st = seam_client_models(models, &count, client, MODELS_MAX, err);
    json_t *const list = json_array();
    for (uint32_t i = 0; st == SEAM_OK && i < count && i < MODELS_MAX; i++) {
        const seam_model_info *const m = &models[i];
        char identity[17];
        snprintf(identity, sizeof identity, "%016llx", (unsigned long long)m->identity);
        if (options->common.json) {
            json_array_append_new(
                list, json_pack("{s:s,s:s,s:i,s:i,s:i,s:i,s:s,s:I}", "id", m->id, "architecture",
                                m->architecture, "layers", (int)m->layers, "hidden", (int)m->hidden,
                                "vocab", (int)m->vocab, "context_max", (int)m->context_max,
                                "identity", identity, "weight_bytes", (json_int_t)m->weight_bytes));
        } else {
            printf("%-32s %s, %u layers x %u, vocabulary %u, context %u, identity %s\n", m->id,
                   m->architecture, m->layers, m->hidden, m->vocab, m->context_max, identity);
        }
    }
    if (st == SEAM_OK && options->common.json) {
        json_t *const value = json_pack("{s:O}", "models", list);
        seam_cli_print_json(value);
        json_decref(value);
    }
    json_decref(list);
    seam_mem_free(models);
    return st;
}

/* ---- Sessions ---- */

static json_t *session_json(const seam_session_info *info) {
    return json_pack("{s:s,s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:i}", "id", info->id, "name", info->name,
                     "model", info->model, "codec", info->codec, "state", info->state,
                     "committed_step_count", (json_int_t)info->committed_step_count, "memory_bytes",
                     (json_int_t)info->memory_bytes, "tokens", (json_int_t)info->tokens,
                     "lora_rank", (int)info->lora_rank);
}

static void session_visit(void *user, const seam_session_info *info) {
    json_array_append_new(user, session_json(info));
}

/* A name is whatever somebody else gave: nothing in it moves the cursor or ends the line. */
static void name_clean(char *name) {
    for (unsigned char *c = (unsigned char *)name; *c != '\0'; c++) {
        const bool c1 = c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0; /* U+0080 to U+009F */
        if (c1) {
            *c++ = ' ';
        }
        *c = c1 || *c < 0x20 || *c == 0x7f ? ' ' : *c;
    }
}

static void session_print(const json_t *s) {
    char name[sizeof((seam_session_info *)0)->name];
    snprintf(name, sizeof name, "%s", json_string_value(json_object_get(s, "name")));
    name_clean(name);
    printf("%-34s %-10s %-24s %-7s %6lld steps  %10lld tokens  %s\n",
           json_string_value(json_object_get(s, "id")),
           json_string_value(json_object_get(s, "state")),
           json_string_value(json_object_get(s, "model")),
           json_string_value(json_object_get(s, "codec")),
           (long long)json_integer_value(json_object_get(s, "committed_step_count")),
           (long long)json_integer_value(json_object_get(s, "tokens")), name);
}

static seam_status session_list(seam_client *client, const admin_options *options,
                                seam_error *err) {
    json_t *const list = json_array();
    const seam_status st = seam_client_sessions(client, session_visit, list, err);
    if (st == SEAM_OK && options->common.json) {
        json_t *const value = json_pack("{s:O}", "sessions", list);
        seam_cli_print_json(value);
        json_decref(value);
    } else if (st == SEAM_OK) {
        size_t i = 0;
        json_t *s = NULL;
        json_array_foreach(list, i, s) {
            session_print(s);
        }
    }
    json_decref(list);
    return st;
}

static seam_status attach(seam_session **ret_session, seam_client *client,
                          const admin_options *options, seam_error *err) {
    seam_session_file file;
    SEAM_TRY(seam_session_file_read(&file, options->run, err));
    return seam_session_attach(ret_session, client, file.id, file.secret, err);
}

static json_t *update_json(const seam_optimizer_update *update) {
    const seam_optimizer *const o = &update->optimizer;
    return json_pack("{s:I,s:f,s:s,s:I,s:I,s:f,s:f}", "effective_step", (json_int_t)update->step,
                     "lr", (double)o->lr, "schedule", o->schedule, "warmup",
                     (json_int_t)o->warmup_steps, "steps", (json_int_t)o->total_steps,
                     "weight_decay", (double)o->weight_decay, "clip_norm", (double)o->clip_norm);
}

static void update_print(const seam_optimizer_update *update) {
    const seam_optimizer *const o = &update->optimizer;
    printf("from step %llu on: lr %g, %s, warmup %llu, steps %llu, weight-decay %g, clip-norm %g\n",
           (unsigned long long)update->step, (double)o->lr, o->schedule,
           (unsigned long long)o->warmup_steps, (unsigned long long)o->total_steps,
           (double)o->weight_decay, (double)o->clip_norm);
}

static seam_status session_show(seam_client *client, const admin_options *options,
                                seam_error *err) {
    seam_session *session = NULL;
    SEAM_TRY(attach(&session, client, options, err));
    seam_session_info info;
    seam_optimizer_update updates[SEAM_OPTIMIZER_UPDATES_MAX];
    uint32_t count = 0;
    seam_status st = seam_session_info_get(&info, session, err);
    if (st == SEAM_OK) {
        st = seam_session_updates(updates, &count, session, SEAM_OPTIMIZER_UPDATES_MAX, err);
    }
    seam_session_close(session);
    SEAM_TRY(st);
    json_t *const value = session_json(&info);
    json_t *const list = json_array();
    for (uint32_t i = 0; i < count; i++) {
        json_array_append_new(list, update_json(&updates[i]));
    }
    json_object_set_new(value, "updates", list);
    if (options->common.json) {
        seam_cli_print_json(value);
    } else {
        session_print(value);
        for (uint32_t i = 0; i < count; i++) {
            update_print(&updates[i]);
        }
    }
    json_decref(value);
    return SEAM_OK;
}

static seam_status session_delete(seam_client *client, const admin_options *options,
                                  seam_error *err) {
    seam_session_file file;
    SEAM_TRY(seam_session_file_read(&file, options->run, err));
    SEAM_TRY(seam_run_folder_delete(options->run, client, file.id, file.secret, err));
    if (options->common.json) {
        json_t *const value = json_pack("{s:s}", "deleted", file.id);
        seam_cli_print_json(value);
        json_decref(value);
    } else {
        printf("deleted %s\n", file.id);
    }
    return SEAM_OK;
}

static seam_status session_checkpoint(seam_client *client, const admin_options *options,
                                      seam_error *err) {
    seam_session *session = NULL;
    SEAM_TRY(attach(&session, client, options, err));
    uint64_t steps = 0;
    const seam_status st = seam_session_save_checkpoint(&steps, session, err);
    if (st == SEAM_OK && options->common.json) {
        json_t *const value = json_pack("{s:s,s:I}", "id", seam_session_id(session),
                                        "durable_step_count", (json_int_t)steps);
        seam_cli_print_json(value);
        json_decref(value);
    } else if (st == SEAM_OK) {
        printf("%s: durable after %llu steps\n", seam_session_id(session),
               (unsigned long long)steps);
    }
    seam_session_close(session);
    return st;
}

/* What was given in the place of what is in force; false: nothing was. */
static bool optimizer_change(seam_optimizer *optimizer, const seam_optimizer *given) {
    bool any = given->schedule != NULL;
    optimizer->schedule = any ? given->schedule : optimizer->schedule;
    float *const rates[] = {&optimizer->lr, &optimizer->weight_decay, &optimizer->clip_norm};
    const float given_rates[] = {given->lr, given->weight_decay, given->clip_norm};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        if (!isnan(given_rates[i])) {
            *rates[i] = given_rates[i];
            any = true;
        }
    }
    uint64_t *const counts[] = {&optimizer->warmup_steps, &optimizer->total_steps};
    const uint64_t given_counts[] = {given->warmup_steps, given->total_steps};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        if (given_counts[i] != UINT64_MAX) {
            *counts[i] = given_counts[i];
            any = true;
        }
    }
    return any;
}

static seam_status update_check(const admin_options *options, seam_error *err) {
    const seam_optimizer *const given = &options->optimizer;
    seam_optimizer unused = {.struct_bytes = sizeof unused};
    if (!optimizer_change(&unused, given)) {
        return seam_error_set(err, SEAM_E_ARG, "what is to change? give --lr, or others of these");
    }
    if (options->at_step == 0) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--at-step: from 1; without it the next step that begins is the "
                              "first");
    }
    const struct {
        const char *option, *field;
        float value; /* NaN: not given */
    } rates[] = {{"--lr", "optimizer.lr", given->lr},
                 {"--weight-decay", "optimizer.weight_decay", given->weight_decay},
                 {"--clip-norm", "optimizer.clip_norm", given->clip_norm}};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        if (!isnan(rates[i].value)) {
            SEAM_TRY(seam_config_range_check(rates[i].option, rates[i].field,
                                             (double)rates[i].value, err));
        }
    }
    return SEAM_OK;
}

static seam_status session_update(seam_client *client, const admin_options *options,
                                  seam_error *err) {
    const uint64_t at_step = options->at_step != UINT64_MAX ? options->at_step : 0;
    seam_session *session = NULL;
    seam_optimizer_update update = {.optimizer.struct_bytes = sizeof update.optimizer};
    seam_optimizer *const o = &update.optimizer;
    SEAM_TRY(attach(&session, client, options, err));
    const uint64_t next = seam_session_committed_steps(session) + 1; /* it may have begun */
    seam_status st = seam_session_optimizer(o, session, at_step > 0 ? at_step : next, err);
    (void)optimizer_change(o, &options->optimizer);
    if (st == SEAM_OK) {
        st = seam_session_update(&update.step, session, at_step, o, err);
    }
    seam_session_close(session);
    SEAM_TRY(st);
    if (options->common.json) {
        json_t *const value = update_json(&update);
        seam_cli_print_json(value);
        json_decref(value);
    } else {
        update_print(&update);
    }
    return SEAM_OK;
}

static seam_status export_adapter(seam_client *client, const admin_options *options,
                                  seam_error *err) {
    char out[SEAM_RUN_PATH_BYTES];
    if (options->out != NULL) {
        snprintf(out, sizeof out, "%s", options->out);
    } else {
        SEAM_TRY(seam_run_path(out, options->run, "adapter", err));
    }
    seam_session *session = NULL;
    SEAM_TRY(attach(&session, client, options, err));
    uint64_t hash = 0;
    const uint64_t steps = seam_session_committed_steps(session);
    seam_training_facts facts;
    seam_session_training(&facts, session);
    if (facts.client_trains) { /* the server has no more than its part */
        seam_session_close(session);
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              "--run: a part of the adapter was trained in blocks of this end: the "
                              "run folder's adapter/ has both parts");
    }
    seam_status st = seam_run_folder_steps_check(options->run, session, err);
    st = st == SEAM_OK ? seam_session_export(session, out, &hash, err) : st;
    seam_session_close(session);
    SEAM_TRY(st);
    char hash_text[17];
    snprintf(hash_text, sizeof hash_text, "%016llx", (unsigned long long)hash);
    if (options->common.json) {
        json_t *const value = json_pack("{s:s,s:I,s:s}", "adapter", out, "committed_step_count",
                                        (json_int_t)steps, "state_hash", hash_text);
        seam_cli_print_json(value);
        json_decref(value);
    } else {
        printf("%s: adapter after %llu steps, state hash %s\n", out, (unsigned long long)steps,
               hash_text);
    }
    return SEAM_OK;
}

int seam_cmd_server_info(int argc, char **argv, int first) {
    static const admin_command c = {
        "server info", "A server's version, device and load", false, server_info, NULL, NULL};
    return run(&c, argc, argv, first);
}

int seam_cmd_model_list(int argc, char **argv, int first) {
    static const admin_command c = {
        "model list", "Models that a server offers", false, model_list, NULL, NULL};
    return run(&c, argc, argv, first);
}

int seam_cmd_session_list(int argc, char **argv, int first) {
    static const admin_command c = {
        "session list", "Sessions of a server", false, session_list, NULL, NULL};
    return run(&c, argc, argv, first);
}

int seam_cmd_session_show(int argc, char **argv, int first) {
    static const admin_command c = {
        "session show", "The session of a run", true, session_show, NULL, NULL};
    return run(&c, argc, argv, first);
}

int seam_cmd_session_update(int argc, char **argv, int first) {
    static const admin_command c = {"session update",
                                    "Change the optimizer of a run's session from a step on",
                                    true,
                                    session_update,
                                    update_specs,
                                    update_check};
    return run(&c, argc, argv, first);
}

int seam_cmd_session_delete(int argc, char **argv, int first) {
    static const admin_command c = {
        "session delete", "Delete the session of a run", true, session_delete, NULL, NULL};
    return run(&c, argc, argv, first);
}

int seam_cmd_session_checkpoint(int argc, char **argv, int first) {
    static const admin_command c = {"session checkpoint",
                                    "Have the server write a checkpoint of a run's session now",
                                    true,
                                    session_checkpoint,
                                    NULL,
                                    NULL};
    return run(&c, argc, argv, first);
}

int seam_cmd_export(int argc, char **argv, int first) {
    static const admin_command c = {
        "export",     "Write the adapter of a run's session as a PEFT folder",
        true,         export_adapter,
        export_specs, NULL};
    return run(&c, argc, argv, first);
}
