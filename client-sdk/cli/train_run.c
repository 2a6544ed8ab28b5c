/* See train_run.h; step_run is one step.  Read next: text/batcher.c (where its rows come from),
 * model/split_trainer.c (what becomes of them). */
#include "train_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "batcher.h"
#include "codec.h"
#include "directory.h"
#include "evaluate.h"
#include "json_text.h"
#include "local_model.h"
#include "progress.h"
#include "report_html.h"
#include "run_data.h"
#include "run_files.h"
#include "run_folder.h"
#include "run_open.h"
#include "run_prediction.h"
#include "run_report.h"
#include "run_resume.h"
#include "try.h"
#include "use_session.h"

#define EXAMPLES_MAX 12

typedef struct training {
    seam_train_options o;
    seam_progress progress;
    seam_tokenizer *tokenizer;
    seam_data *data, *eval_data;
    seam_batcher *batcher;
    seam_model *model;
    seam_model_facts facts;
    seam_client *client;
    seam_session *session;
    seam_trainer *trainer;
    seam_run_report report;
    char server_model[128]; /* as the server calls it */
    char adapter_path[SEAM_RUN_PATH_BYTES];
    uint64_t saved_steps; /* steps in the adapter that stands in the run folder; 0: none */
    seam_train_report last;
    uint32_t micro_count;           /* of the step in flight */
    double wire_bits;               /* of the last step */
    double layer_bits, prefix_bits; /* of it; 0: not in all-layer mode, the prefix is as it is */
    uint64_t state_hash;            /* after it; 0: no step yet */
    bool has_folder;                /* the run folder is this session's */
} training;

static seam_status prepare(training *t, seam_error *err);
static seam_status data_open(training *t, seam_error *err);
static seam_status session_open(training *t, seam_error *err);
static seam_status session_make(training *t, seam_error *err);
static seam_status session_resume(training *t, seam_error *err);
static void step_committed(void *user, const seam_step_report *report);
static seam_status train(training *t, seam_error *err);
static seam_status step_run(training *t, uint64_t step, seam_error *err);
static seam_status steps_run(training *t, seam_error *err);
static void went_back(training *t, seam_error *err);
static seam_status adapter_save(training *t, seam_error *err);
static seam_status evaluate(training *t, const char *name, const char *codec, bool base_model,
                            seam_error *err);
static seam_status evaluate_after(training *t, seam_error *err);
static seam_status report_write(training *t, const seam_error *why, seam_error *err);
static void interrupted_note(const training *t, seam_status st);
static void session_end(training *t, bool done);
static void training_free(training *t);

seam_status seam_run_train(json_t **ret_report, const seam_train_options *options,
                           seam_error *err) {
    training t = {.o = *options};
    *ret_report = NULL;
    seam_progress_init(&t.progress, options->common.quiet);
    seam_status st = seam_run_report_init(&t.report, err);
    if (st == SEAM_OK) {
        seam_run_report_set(&t.report, "options", seam_train_options_typed(options));
        st = prepare(&t, err);
    }
    if (st == SEAM_OK) {
        st = train(&t, err);
        if (st == SEAM_OK && t.o.trace != NULL) {
            st = seam_session_trace_write(t.session, t.o.trace, err);
        }
        seam_progress_end(&t.progress);
        seam_error write_err = {0};
        const seam_status written = report_write(&t, st == SEAM_OK ? NULL : err, &write_err);
        if (st == SEAM_OK && written != SEAM_OK) {
            st = written;
            *err = write_err;
        }
        if (st != SEAM_OK && t.saved_steps > 0 && !t.o.common.quiet) {
            fprintf(stderr, "seam: the adapter after %llu steps is kept in %s\n",
                    (unsigned long long)t.saved_steps, t.adapter_path);
        }
        interrupted_note(&t, st);
        *ret_report = json_incref(t.report.root);
    }
    session_end(&t, st == SEAM_OK && !seam_cli_is_interrupted());
    training_free(&t);
    return st;
}

/* How to go on, where a run of this folder can. */
static void interrupted_note(const training *t, seam_status st) {
    const seam_train_options *const o = &t->o;
    if (st == SEAM_OK && seam_cli_is_interrupted() && !o->delete_cut && !o->delete_session &&
        !o->common.quiet) {
        fprintf(stderr,
                "seam: interrupted after %llu of %u steps: `seam train --resume %s` goes on\n",
                (unsigned long long)seam_session_committed_steps(t->session), o->steps, o->out);
    }
}

/* ---- Preparation: everything that can be refused is refused before the first step ---- */

static bool is_exchange(const training *t) {
    return seam_train_exchanges(&t->o);
}

static seam_status prepare(training *t, seam_error *err) {
    const seam_train_options *const o = &t->o;
    SEAM_TRY(seam_run_paths_check(o, err));
    if (o->out[0] == '\0') { /* as of a variable that is not set */
        return seam_error_set(err, SEAM_E_ARG, "--out: names no folder");
    }
    SEAM_TRY(seam_directory_make(o->out, err));
    SEAM_TRY(seam_run_path(t->adapter_path, o->out, "adapter", err));
    if (o->resume == NULL) {
        SEAM_TRY(seam_run_folder_check(o->out, o->delete_cut, err));
    }
    SEAM_TRY(seam_tokenizer_open(&t->tokenizer, o->model, err));
    const seam_model_options model = seam_run_model_options(o);
    SEAM_TRY(seam_model_open(&t->model, &model, err));
    seam_model_describe(&t->facts, t->model);
    seam_train_options_scale(&t->o, t->facts.hidden);
    SEAM_TRY(seam_cli_data_status(data_open(t, err), err));
    const seam_run_data_rows rows = {.train = t->data, .eval = t->eval_data};
    SEAM_TRY(o->resume != NULL ? seam_run_data_check(o, &rows, err) : SEAM_OK);
    SEAM_TRY(seam_cli_connect(&t->client, &o->server, &o->common, err));
    SEAM_TRY(session_open(t, err));
    seam_progress_note(&t->progress, "%s: %u rows, %llu tokens; session %s on %s, codec %s",
                       o->data, seam_data_count(t->data),
                       (unsigned long long)seam_data_tokens_total(t->data),
                       seam_session_id(t->session), t->server_model, o->codec);
    return SEAM_OK;
}

static seam_status data_open(training *t, seam_error *err) {
    const seam_train_options *const o = &t->o;
    uint32_t limit = 0;
    SEAM_TRY(seam_run_tokens_limit(&limit, seam_model_config_of(t->model), o->prefix_tokens, err));
    SEAM_TRY(seam_run_rows_open(&t->data, &t->batcher, o, t->tokenizer, limit, err));
    if (o->eval_data == NULL) {
        return SEAM_OK;
    }
    const seam_data_options options = seam_run_data_options(o, limit, o->eval_rows);
    return seam_data_load(&t->eval_data, o->eval_data, t->tokenizer, &options, err);
}

/* A server without room for the activations of so many micro-batches may have it for half. */
static seam_status session_create(training *t, seam_session_options *options, seam_error *err) {
    const uint32_t micros = options->micros_per_step_max;
    uint32_t depth = 1;
    SEAM_TRY(seam_train_depth_choose(&depth, &options->pipeline_auto, &t->o, t->client, err));
    options->pipeline_depth = depth < micros ? depth : micros;
    seam_status st = seam_session_create(&t->session, t->client, options, err);
    while (st == SEAM_E_LIMIT && options->pipeline_auto && options->pipeline_depth > 1) {
        options->pipeline_depth /= 2;
        seam_progress_note(&t->progress, "%u micro-batches at a time: %s", options->pipeline_depth,
                           err->text);
        st = seam_session_create(&t->session, t->client, options, err);
    }
    return st;
}

static seam_status session_options(seam_session_options *ret_options, const training *t,
                                   seam_error *err) {
    const seam_run_rows rows = {.server_model = t->server_model,
                                .facts = &t->facts,
                                .data = t->data,
                                .batcher = t->batcher};
    return seam_run_session_options(ret_options, &t->o, &rows, err);
}

/* A new session; its journal begins when all that can be refused has passed. */
static seam_status session_make(training *t, seam_error *err) {
    const seam_train_options *const o = &t->o;
    seam_session_options options;
    SEAM_TRY(seam_model_find(t->server_model, t->client, o->server_model, &t->facts, err));
    SEAM_TRY(session_options(&options, t, err));
    SEAM_TRY(session_create(t, &options, err));
    SEAM_TRY(seam_trainer_create(&t->trainer, t->session, t->model, err));
    if (o->adapter != NULL) {
        SEAM_TRY(seam_trainer_import(t->trainer, o->adapter, err));
    }
    SEAM_TRY(seam_session_journal(t->session, o->out, err));
    if (o->command != NULL) {
        const seam_run_data_rows rows = {.train = t->data, .eval = t->eval_data};
        SEAM_TRY(seam_run_data_write(o, &rows, err));
    }
    SEAM_TRY(seam_run_folder_begin(o->out,
                                   o->server.server != NULL ? o->server.server : "127.0.0.1:50051",
                                   t->session, o->command, err));
    t->has_folder = true;
    return SEAM_OK;
}

/* A step of an earlier process: its note is the report's entry.  One that damage to the disk has
 * taken is missing from the report; the run has all that it needs. */
static seam_status note_take(void *user, uint64_t step_count, const void *bytes, size_t count) {
    training *const t = user;
    json_error_t why;
    json_t *const entry = json_loadb(bytes, count, 0, &why);
    const char *const hash = json_string_value(json_object_get(entry, "state_hash"));
    if (hash == NULL ||
        (uint64_t)json_integer_value(json_object_get(entry, "step")) != step_count - 1) {
        json_decref(entry);
        return SEAM_E_FORMAT;
    }
    t->state_hash = strtoull(hash, NULL, 16);
    seam_run_report_add(&t->report, entry);
    return SEAM_OK;
}

/* The run's own command line says what the server may see, not the server. */
static seam_status topology_take(training *t, seam_error *err) {
    const char *const stated = seam_session_topology(t->session);
    if (strcmp(stated, t->o.topology) != 0) {
        return seam_error_set(err, SEAM_E_CONFLICT,
                              "session.config.topology: the server says %s, the run was begun "
                              "with %s",
                              stated, t->o.topology);
    }
    return seam_session_consent(t->session, t->o.consent, err);
}

static seam_status session_resume(training *t, seam_error *err) {
    seam_session_file file;
    SEAM_TRY(seam_session_file_read(&file, t->o.out, err));
    t->has_folder = true; /* whatever comes, the session is the run's */
    SEAM_TRY(seam_session_resume(&t->session, t->client, file.id, file.secret, t->o.out, err));
    SEAM_TRY(seam_model_of_session(t->server_model, t->client, t->session, t->model, err));
    SEAM_TRY(topology_take(t, err));
    SEAM_TRY(seam_trainer_create(&t->trainer, t->session, t->model, err));
    const seam_status st = seam_session_notes(t->session, note_take, t, err);
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "%.300s: the notes of its steps are not whole", t->o.out);
    }
    const uint64_t committed = seam_session_committed_steps(t->session);
    const size_t noted = json_array_size(t->report.steps);
    if (noted < committed) {
        seam_progress_note(&t->progress,
                           "%.300s/journal.notes was damaged: %llu of %llu steps are missing from "
                           "the report",
                           t->o.out, (unsigned long long)(committed - noted),
                           (unsigned long long)committed);
    }
    json_t *const before = seam_run_before_read(t->o.out);
    if (before != NULL) {
        json_object_set_new(t->report.eval, "before", before);
    }
    seam_progress_note(&t->progress, "resumed after step %llu", (unsigned long long)committed);
    return SEAM_OK;
}

/* The same for a run that goes on as at its begin. */
static seam_status predict(training *t, seam_error *err) {
    uint32_t depth = 0;
    seam_session_options options;
    SEAM_TRY(session_options(&options, t, err));
    SEAM_TRY(seam_train_depth_read(&depth, &t->o, err));
    options.pipeline_auto = depth == 0;
    options.pipeline_depth = seam_session_pipeline_depth(t->session);
    const seam_run_prediction_args args = {.options = &t->o,
                                           .session = &options,
                                           .batcher = t->batcher,
                                           .tls = !seam_cli_is_plaintext(&t->o.server)};
    seam_run_prediction_make(&t->report, &args);
    return SEAM_OK;
}

static seam_status session_open(training *t, seam_error *err) {
    const seam_train_options *const o = &t->o;
    SEAM_TRY(o->resume != NULL ? session_resume(t, err) : session_make(t, err));
    seam_session_on_commit(t->session, step_committed, t);
    if (o->trace != NULL) {
        SEAM_TRY(seam_session_trace(t->session, 0, err));
    }
    seam_server_info info;
    SEAM_TRY(seam_client_server_info(&info, t->client, err));
    const seam_run_facts facts = {.options = o,
                                  .model = &t->facts,
                                  .server_model = t->server_model,
                                  .server = &info,
                                  .train_rows = seam_data_count(t->data),
                                  .eval_rows =
                                      t->eval_data != NULL ? seam_data_count(t->eval_data) : 0};
    seam_run_report_begin(&t->report, &facts);
    return predict(t, err);
}

/* ---- Steps ---- */

/* The run goes on from where the session has gone back to. */
static void went_back(training *t, seam_error *err) {
    const uint64_t step = seam_session_committed_steps(t->session);
    seam_progress_note(&t->progress, "the server lost steps: again from step %llu",
                       (unsigned long long)step);
    seam_run_report_cut(&t->report, step);
    *err = (seam_error){0};
}

/* From the session's step to the last one. */
static seam_status steps_run(training *t, seam_error *err) {
    const seam_train_options *const o = &t->o;
    uint64_t step = seam_session_committed_steps(t->session);
    while (step < o->steps && !seam_cli_is_interrupted()) {
        SEAM_TRY(step_run(t, step, err));
        step++;
        if (step % o->save_every == 0 && step < o->steps) {
            SEAM_TRY(adapter_save(t, err));
        }
    }
    return SEAM_OK;
}

static seam_status evaluate_before(training *t, seam_error *err) {
    const seam_train_options *const o = &t->o;
    if (t->eval_data == NULL || !o->eval_before || json_object_size(t->report.eval) > 0) {
        return SEAM_OK;
    }
    if (is_exchange(t) && o->adapter != NULL) {
        seam_progress_note(&t->progress,
                           "the server has no adapter before the first step: evaluate the start by "
                           "seam eval --adapter %s",
                           o->adapter);
        return SEAM_OK;
    }
    const bool f32 = strcmp(o->codec, "f32") == 0;
    SEAM_TRY(evaluate(t, "before", f32 ? "f32" : "bf16", o->adapter == NULL, err));
    return seam_run_before_write(o->out, json_object_get(t->report.eval, "before"), err);
}

/* A server that has lost steps says so in the way of an Attach: the run makes them again. */
static seam_status evaluate_last(training *t, seam_error *err) {
    const seam_status st = evaluate_after(t, err);
    seam_error why = {0};
    if (st != SEAM_E_STATE || seam_session_reattach(t->session, &why) != SEAM_E_ROLLED_BACK) {
        return st;
    }
    *err = why;
    return SEAM_E_ROLLED_BACK;
}

static seam_status train(training *t, seam_error *err) {
    SEAM_TRY(evaluate_before(t, err));
    const seam_train_options *const o = &t->o;
    seam_progress_init(&t->progress, o->common.quiet);
    seam_status st = SEAM_OK;
    do { /* a server that comes back behind the last save sends us back as well */
        st = steps_run(t, err);
        st = st == SEAM_OK ? adapter_save(t, err) : st;
        if (st == SEAM_OK && t->eval_data != NULL && !seam_cli_is_interrupted()) {
            st = evaluate_last(t, err);
        }
        if (st == SEAM_E_ROLLED_BACK) {
            went_back(t, err);
        }
    } while (st == SEAM_E_ROLLED_BACK);
    SEAM_TRY(st);
    seam_run_report_set(&t->report, "complete", json_boolean(!seam_cli_is_interrupted()));
    return SEAM_OK;
}

static seam_status step_run(training *t, uint64_t step, seam_error *err) {
    seam_step_batch batch;
    seam_batcher_step(&batch, t->batcher, step);
    seam_token_batch micros[SEAM_RUN_MICROS_MAX];
    seam_run_micros(micros, &batch);
    t->last = (seam_train_report)SEAM_TRAIN_REPORT_INIT;
    t->micro_count = batch.micro_count;
    seam_status st = seam_trainer_step(t->trainer, micros, batch.micro_count, &t->last, err);
    if (st != SEAM_OK) {
        return seam_error_prefix(err, st, "step %llu", (unsigned long long)step);
    }
    const seam_progress_step shown = {
        .step = step + 1,
        .step_count = t->o.steps,
        .loss = t->last.loss,
        .mean_bits = t->wire_bits,
        .layer_bits = t->layer_bits,
        .prefix_bits = t->prefix_bits,
        .bytes = t->last.step.bytes_sent + t->last.step.bytes_received,
        .tokens_per_second = (double)t->last.tokens / t->last.seconds,
    };
    seam_progress_step_show(&t->progress, &shown);
    return SEAM_OK;
}

/* Between commit and record: the step's entry is kept with the record, for a process after this. */
static void step_committed(void *user, const seam_step_report *report) {
    training *const t = user;
    t->last.step = *report;
    t->last.seconds = report->seconds; /* with the wait for this commit */
    t->state_hash = report->state_hash;
    json_t *const entry =
        seam_run_report_entry(&t->wire_bits, &t->last, t->micro_count, t->session);
    t->layer_bits = json_number_value(json_object_get(entry, "layer_mean_bits"));
    t->prefix_bits = json_number_value(json_object_get(entry, "prefix_mean_bits"));
    size_t count = 0;
    char *const text = seam_json_text(&count, entry, JSON_COMPACT);
    if (text != NULL) {
        (void)seam_session_note(t->session, text, count);
    }
    seam_mem_free(text);
    seam_run_report_add(&t->report, entry);
}

/* The adapter is here; the server's, which is evaluated after the last step, may be behind. */
static seam_status exchange_save(training *t, seam_error *err) {
    const uint64_t step = seam_session_committed_steps(t->session);
    SEAM_TRY(seam_directory_make(t->adapter_path, err));
    SEAM_TRY(seam_trainer_export(t->trainer, t->adapter_path, NULL, err));
    t->saved_steps = step;
    const bool is_read = step >= t->o.steps && t->eval_data != NULL;
    const seam_status st = is_read ? seam_session_reattach(t->session, err) : SEAM_OK;
    const bool same = seam_session_committed_steps(t->session) == step;
    return st == SEAM_E_ROLLED_BACK && same ? SEAM_OK : st;
}

/* What is saved must be what was committed last: a server that has restarted may be behind until
 * the session attaches again, which then says SEAM_E_ROLLED_BACK. */
static seam_status adapter_save(training *t, seam_error *err) {
    if (is_exchange(t)) {
        return exchange_save(t, err);
    }
    for (;;) {
        uint64_t hash = 0;
        seam_error why = {0};
        const seam_status st = seam_trainer_export(t->trainer, t->adapter_path, &hash, &why);
        if (st == SEAM_OK && (t->state_hash == 0 || hash == t->state_hash)) {
            t->saved_steps = seam_session_committed_steps(t->session);
            return SEAM_OK;
        }
        if (st != SEAM_OK && st != SEAM_E_UNAVAILABLE && st != SEAM_E_DEVICE_LOST) {
            *err = why;
            return st;
        }
        SEAM_TRY(seam_session_reattach(t->session, err)); /* waits as the steps do */
    }
}

/* ---- Evaluation and results ---- */

static seam_status evaluate(training *t, const char *name, const char *codec, bool base_model,
                            seam_error *err) {
    seam_progress_note(&t->progress, "evaluating %u rows (%s)", seam_data_count(t->eval_data),
                       name);
    const seam_evaluation_args args = {
        .client = t->client,
        .session = t->session,
        .model = t->model,
        .tokenizer = t->tokenizer,
        .data = t->eval_data,
        .codec = codec,
        .base_model = base_model,
        .exact_match = t->o.exact_match,
        .slots = t->o.eval_slots,
        .new_tokens_max = t->o.eval_new_tokens,
        .examples_max = EXAMPLES_MAX,
    };
    seam_evaluation evaluation;
    const seam_status st = seam_evaluate(&evaluation, &args, err);
    if (st != SEAM_OK) {
        return seam_error_prefix(err, st, "evaluation (%s)", name);
    }
    seam_run_report_eval(&t->report, name, &evaluation);
    char exact[32] = "", accuracy[32] = "";
    if (evaluation.has_exact_match) {
        snprintf(exact, sizeof exact, ", exact match %.1f %%", 100.0 * evaluation.exact_match);
    }
    if (evaluation.choice_rows > 0) {
        snprintf(accuracy, sizeof accuracy, ", accuracy %.1f %%", 100.0 * evaluation.accuracy);
    }
    seam_progress_note(&t->progress, "  loss %.4f, perplexity %.3f%s%s", evaluation.loss,
                       evaluation.perplexity, exact, accuracy);
    if (evaluation.promptless_rows > 0) {
        seam_progress_note(&t->progress, "  %u rows without a prompt have no generated text",
                           evaluation.promptless_rows);
    }
    seam_evaluation_deinit(&evaluation);
    return SEAM_OK;
}

static seam_status evaluate_after(training *t, seam_error *err) {
    if (is_exchange(t) && t->o.resend_parameters) {
        seam_progress_note(&t->progress,
                           "the server has no adapter of after the last step: evaluate by "
                           "seam eval --adapter %s",
                           t->adapter_path);
        return SEAM_OK;
    }
    const char *const codec = t->o.codec;
    seam_codec_id id = SEAM_CODEC_F32;
    const bool token = t->o.granularity != NULL && strcmp(t->o.granularity, "token") == 0;
    /* Requests of gates by token go in bf16 (WIRE.md 3.7): there is no second figure. */
    const bool quantizes = seam_codec_from_name(&id, codec) && seam_codec_has_widths(id) &&
                           !(token && id == SEAM_CODEC_AMAQ);
    if (!quantizes) {
        return evaluate(t, "after", codec, false, err);
    }
    /* Rows that come back out of the blocks are quantized in training with u_shaped only. */
    if (strcmp(t->o.topology, "u_shaped") != 0) {
        return evaluate(t, "after", "bf16", false, err);
    }
    if (strcmp(t->o.eval_quantized, "on") != 0) {
        SEAM_TRY(evaluate(t, "after", "bf16", false, err));
    }
    if (strcmp(t->o.eval_quantized, "off") != 0) {
        const bool alone = strcmp(t->o.eval_quantized, "on") == 0;
        SEAM_TRY(evaluate(t, alone ? "after" : "after_quantized", codec, false, err));
    }
    return SEAM_OK;
}

static seam_status report_write(training *t, const seam_error *why, seam_error *err) {
    char json_path[SEAM_RUN_PATH_BYTES], html_path[SEAM_RUN_PATH_BYTES];
    SEAM_TRY(seam_run_path(json_path, t->o.out, "report.json", err));
    SEAM_TRY(seam_run_path(html_path, t->o.out, "report.html", err));
    if (why != NULL) {
        seam_run_report_set(
            &t->report, "error",
            json_pack("{s:s,s:s}", "status", seam_status_name(why->status), "text", why->text));
    }
    seam_run_report_set(&t->report, "adapter_steps", json_integer((json_int_t)t->saved_steps));
    seam_run_report_set(&t->report, "adapter", json_string(t->adapter_path));
    SEAM_TRY(seam_run_report_write(&t->report, json_path, t->session, err));
    return seam_report_html_write(html_path, json_path, err);
}

/* A run that may go on keeps its session whatever was asked for, and says so; a session that no
 * run folder names is nobody's. */
static void session_end(training *t, bool done) {
    const seam_train_options *const o = &t->o;
    const bool can_go_on = !done && !o->delete_cut && t->has_folder;
    seam_trainer_destroy(t->trainer);
    t->trainer = NULL;
    if (t->session == NULL) {
        return;
    }
    if ((o->delete_session && !can_go_on) || !t->has_folder) {
        seam_error err = {0};
        /* A report that is not complete and a session.json would be a run to go on with.  The
         * folder is ours until the close. */
        const char *const folder = t->has_folder && !done ? o->out : NULL;
        if (seam_run_folder_delete(folder, t->client, seam_session_id(t->session),
                                   seam_session_secret(t->session), &err) != SEAM_OK) {
            fprintf(stderr, "seam: the session was not deleted: %s\n", err.text);
        }
    }
    seam_session_close(t->session);
    t->session = NULL;
    if (o->delete_session && can_go_on && !o->common.quiet) {
        fprintf(stderr,
                "seam: the session was kept, for the run is not done: `seam train --resume %s` "
                "goes on with it, `seam session delete --run %s` deletes it\n",
                o->out, o->out);
    }
}

static void training_free(training *t) {
    seam_run_report_deinit(&t->report);
    seam_client_close(t->client);
    seam_batcher_destroy(t->batcher);
    seam_data_destroy(t->eval_data);
    seam_data_destroy(t->data);
    seam_model_close(t->model);
    seam_tokenizer_close(t->tokenizer);
}
