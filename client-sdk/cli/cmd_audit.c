/* `seam audit`: what the operator of a server can read out of the stream that `seam train` with the
 * same options would send it.
 *
 * A session of its own makes a few steps of training on the user's rows; the last one's tensors are
 * attacked as the server decodes them, and the session is deleted.  Nothing is written here.
 * Read next: model/audit.h (the attacks), run_open.h (what it shares with a run). */
#include <stdio.h>
#include <string.h>

#include "audit.h"
#include "codec.h"
#include "local_model.h"
#include "progress.h"
#include "run_open.h"
#include "try.h"
#include "use_session.h"

#define STEPS_WITH_GATES 8u /* so that widths are at the target, after 40 % of the steps */

#define STATEMENT                                                                                  \
    "With a public base model the operator of the server can reconstruct inputs and labels, at "   \
    "any bit width: quantization is not a defence. Blocks at the client and noise raise the cost " \
    "of an attack; this is by how much for the attacks above, and there are stronger ones. The "   \
    "strong options are a server of your own, and attested hardware."

typedef struct auditing {
    seam_train_options o;
    seam_progress progress;
    seam_tokenizer *tokenizer;
    seam_model *model;
    seam_model_facts facts;
    seam_data *data;
    seam_batcher *batcher;
    seam_client *client;
    seam_session *session;
    seam_trainer *trainer;
    seam_token_batch micros[SEAM_RUN_MICROS_MAX]; /* of the step that is attacked, to the end */
    seam_audit *audit;
    seam_audit_report report;
    json_t *sites;                 /* of the attacked step */
    bool shows_text, shows_labels; /* by its topology */
} auditing;

static seam_status options_parse(seam_train_options *ret_options, int argc, char **argv, int first,
                                 seam_error *err);
static seam_status prepare(auditing *a, seam_error *err);
static seam_status steps_run(auditing *a, seam_error *err);
static seam_status session_close(auditing *a, seam_error *err);
static void close_all(auditing *a);
static json_t *sites_json(const auditing *a);
static json_t *report_json(const auditing *a);
static void report_print(const auditing *a);

static void help(void) {
    printf(
        "usage: seam audit --server HOST:PORT --model PATH --data FILE [options]\n\n"
        "Attacks the stream that `seam train` with the same options would send, as an operator\n"
        "with the public model can: inputs by the nearest row of the embedding (with\n"
        "--front-blocks, of what those make of it), labels by the output gradient.  Prints the\n"
        "share that is recovered.  The rows are those of the last of a few steps, in a session\n"
        "that is deleted afterwards.\n\n"
        "Every option of `seam train --help` that bears on what travels holds, above all --batch,\n"
        "--codec, --bits, --target, --dictionary, --front-blocks, --tail-blocks, --topology,\n"
        "--adapter; --steps is the step that is attacked [1; 8 with amaq, whose widths are then\n"
        "at the target].\n\nServer and output:\n");
    seam_args_help(seam_server_specs);
    seam_args_help(seam_common_specs);
}

int seam_cmd_audit(int argc, char **argv, int first) {
    auditing a = {.session = NULL};
    seam_error err = {0};
    seam_status st = options_parse(&a.o, argc, argv, first, &err);
    if (st == SEAM_E_ARG) {
        return seam_cli_usage(&err, "audit");
    }
    if (st == SEAM_OK && a.o.common.help) {
        help();
        return SEAM_EXIT_OK;
    }
    seam_cli_catch_signals(&a.o.common);
    seam_progress_init(&a.progress, a.o.common.quiet);
    st = st == SEAM_OK ? prepare(&a, &err) : st;
    st = st == SEAM_OK ? steps_run(&a, &err) : st;
    if (st == SEAM_OK) { /* the attacks may take long, and need the server for nothing */
        a.sites = sites_json(&a);
        st = session_close(&a, &err);
    }
    st = st == SEAM_OK ? seam_audit_run(&a.report, a.audit, seam_cli_is_interrupted, &err) : st;
    seam_progress_end(&a.progress);
    if (st == SEAM_OK && a.o.common.json) {
        json_t *const value = report_json(&a);
        seam_cli_print_json(value);
        json_decref(value);
    } else if (st == SEAM_OK) {
        report_print(&a);
    }
    close_all(&a);
    return seam_cli_finish(st, &err, &a.o.common);
}

/* What only a run has, which leaves something behind. */
static seam_status options_refuse(const seam_train_options *o, seam_error *err) {
    const struct {
        const char *name;
        bool given;
    } options[] = {{"out", o->out != NULL},
                   {"resume", o->resume != NULL},
                   {"eval-data", o->eval_data != NULL},
                   {"trace", o->trace != NULL},
                   {"save-every", o->save_every != 0},
                   {"pipeline-depth", o->pipeline_depth != NULL}};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        if (options[i].given) {
            return seam_error_set(err, SEAM_E_ARG,
                                  "--%s: of seam train alone; an audit keeps nothing, and its "
                                  "micro-batches go one after another",
                                  options[i].name);
        }
    }
    return SEAM_OK;
}

static seam_status options_parse(seam_train_options *ret_options, int argc, char **argv, int first,
                                 seam_error *err) {
    seam_train_options *const o = ret_options;
    seam_train_options_init(o);
    SEAM_TRY(seam_train_options_read(o, NULL, argc, argv, first, err));
    if (o->common.help) {
        return SEAM_OK;
    }
    SEAM_TRY(options_refuse(o, err));
    SEAM_TRY(seam_train_given_check(o, err));
    seam_codec_id id = SEAM_CODEC_F32;
    const bool gates = seam_codec_from_name(&id, seam_train_codec(o)) && seam_codec_has_gates(id);
    o->steps = o->steps != 0 ? o->steps : gates ? STEPS_WITH_GATES : 1;
    o->out = ""; /* nothing goes there */
    return seam_train_options_finish(o, err);
}

/* ---- the stream ---- */

static seam_status session_open(auditing *a, seam_error *err) {
    char server_model[128];
    SEAM_TRY(seam_cli_connect(&a->client, &a->o.server, &a->o.common, err));
    SEAM_TRY(seam_model_find(server_model, a->client, a->o.server_model, &a->facts, err));
    const seam_run_rows rows = {
        .server_model = server_model, .facts = &a->facts, .data = a->data, .batcher = a->batcher};
    seam_session_options options;
    SEAM_TRY(seam_run_session_options(&options, &a->o, &rows, err));
    SEAM_TRY(seam_session_create(&a->session, a->client, &options, err));
    SEAM_TRY(seam_trainer_create(&a->trainer, a->session, a->model, err));
    return a->o.adapter != NULL ? seam_trainer_import(a->trainer, a->o.adapter, err) : SEAM_OK;
}

static seam_status prepare(auditing *a, seam_error *err) {
    SEAM_TRY(seam_run_paths_check(&a->o, err));
    a->shows_text = strcmp(a->o.topology, "adapter_exchange") == 0;
    a->shows_labels = strcmp(a->o.topology, "u_shaped") != 0;
    SEAM_TRY(seam_tokenizer_open(&a->tokenizer, a->o.model, err));
    const seam_model_options model = seam_run_model_options(&a->o);
    SEAM_TRY(seam_model_open(&a->model, &model, err));
    seam_model_describe(&a->facts, a->model);
    seam_train_options_scale(&a->o, a->facts.hidden);
    uint32_t limit = 0;
    SEAM_TRY(
        seam_run_tokens_limit(&limit, seam_model_config_of(a->model), a->o.prefix_tokens, err));
    SEAM_TRY(seam_cli_data_status(
        seam_run_rows_open(&a->data, &a->batcher, &a->o, a->tokenizer, limit, err), err));
    SEAM_TRY(seam_audit_create(&a->audit, a->model, &model, err));
    return a->shows_text ? SEAM_OK : session_open(a, err); /* then there is nothing to attack */
}

static seam_status steps_run(auditing *a, seam_error *err) {
    _Static_assert(SEAM_RUN_MICROS_MAX <= SEAM_AUDIT_MICROS_MAX, "a step fits an audit");
    for (uint32_t step = 0; step < a->o.steps; step++) {
        if (seam_cli_is_interrupted()) {
            return seam_error_set(err, SEAM_E_CANCELLED, "interrupted");
        }
        seam_step_batch batch;
        seam_batcher_step(&batch, a->batcher, step);
        seam_run_micros(a->micros, &batch);
        if (step + 1 == a->o.steps) {
            SEAM_TRY(seam_audit_begin(a->audit, a->micros, batch.micro_count, err));
            SEAM_TRY(a->session != NULL
                         ? seam_session_watch(a->session, seam_audit_see, a->audit, err)
                         : SEAM_OK);
            seam_progress_note(&a->progress, "attacking step %u: %llu tokens, %llu labels", step,
                               (unsigned long long)batch.rows_total,
                               (unsigned long long)batch.labelled_total);
        }
        seam_train_report report = SEAM_TRAIN_REPORT_INIT;
        if (a->session != NULL) {
            SEAM_TRY(seam_trainer_step(a->trainer, a->micros, batch.micro_count, &report, err));
        }
    }
    return SEAM_OK;
}

static seam_status session_close(auditing *a, seam_error *err) {
    seam_session *const session = a->session;
    seam_error inner = {0};
    seam_trainer_destroy(a->trainer);
    a->trainer = NULL;
    a->session = NULL;
    const seam_status st = session != NULL ? seam_session_delete(session, &inner) : SEAM_OK;
    return st == SEAM_OK || st == SEAM_E_NOT_FOUND
               ? SEAM_OK
               : seam_error_set(err, st, "the audit's session was not deleted: %.400s", inner.text);
}

static void close_all(auditing *a) {
    seam_error err = {0};
    if (session_close(a, &err) != SEAM_OK) {
        fprintf(stderr, "seam: %s\n", err.text);
    }
    json_decref(a->sites);
    seam_client_close(a->client);
    seam_audit_destroy(a->audit);
    seam_batcher_destroy(a->batcher);
    seam_data_destroy(a->data);
    seam_model_close(a->model);
    seam_tokenizer_close(a->tokenizer);
}

/* ---- the report ---- */

static const struct {
    seam_audit_attack attack;
    bool labels, guess; /* guess: without the row's own tensors, for comparison */
    const char *name, *text;
} attacks[] = {
    {SEAM_AUDIT_INPUT_ROWS, false, false, "embedding", "nearest row of the embedding"},
    {SEAM_AUDIT_INPUT_BLOCKS, false, false, "blocks", "nearest token behind the public blocks"},
    {SEAM_AUDIT_INPUT_CONTEXT, false, false, "context", "the same, in the context guessed so far"},
    {SEAM_AUDIT_INPUT_CHANCE, false, true, "chance", "chance: the most frequent tokens"},
    {SEAM_AUDIT_LABEL_GRADIENT, true, false, "gradient", "nearest row of the head, by gradient"},
    {SEAM_AUDIT_LABEL_INPUTS, true, false, "next_input", "the input of the next row"},
    {SEAM_AUDIT_LABEL_MODEL, true, true, "model", "the public model's guess, no gradient"},
    {SEAM_AUDIT_LABEL_CHANCE, true, true, "chance", "chance: the most frequent labels"},
};
_Static_assert(sizeof attacks / sizeof *attacks == SEAM_AUDIT_ATTACKS, "one a row");

static double share_of(uint64_t part, uint64_t count) {
    return count != 0 ? (double)part / (double)count : 0.0;
}

/* The best of the attacks; all of it where the topology shows it. */
static double recovered(const auditing *a, bool labels) {
    double best = (labels ? a->shows_labels : a->shows_text) ? 1.0 : 0.0;
    for (size_t i = 0; i < SEAM_AUDIT_ATTACKS; i++) {
        const seam_audit_share *const s = &a->report.shares[attacks[i].attack];
        const double share = share_of(s->first, s->count);
        best = attacks[i].labels == labels && !attacks[i].guess && share > best ? share : best;
    }
    return best;
}

static json_t *shares_json(const auditing *a, bool labels) {
    const bool shown = labels ? a->shows_labels : a->shows_text;
    json_t *const value = json_pack("{s:b,s:f}", "shown", shown, "recovered", recovered(a, labels));
    for (size_t i = 0; i < SEAM_AUDIT_ATTACKS; i++) {
        const seam_audit_share *const s = &a->report.shares[attacks[i].attack];
        if (attacks[i].labels == labels && s->count != 0) {
            json_object_set_new(value, attacks[i].name,
                                json_pack("{s:f,s:f}", "top1", share_of(s->first, s->count), "top5",
                                          share_of(s->among, s->count)));
        }
    }
    return value;
}

static json_t *sites_json(const auditing *a) {
    json_t *const sites = json_object();
    const uint32_t count = a->session != NULL ? seam_session_site_count(a->session) : 0;
    for (uint32_t i = 0; i < count; i++) {
        seam_site_state site;
        if (seam_session_site(&site, a->session, i) == SEAM_OK && site.rows > 0) {
            json_object_set_new(sites, site.name,
                                json_pack("{s:f,s:i,s:I}", "mean_bits", site.mean_bits, "rows",
                                          (int)site.rows, "payload_bytes",
                                          (json_int_t)site.payload_bytes));
        }
    }
    return sites;
}

static json_t *report_json(const auditing *a) {
    return json_pack("{s:s,s:s,s:s,s:i,s:i,s:i,s:I,s:I,s:o,s:o,s:o,s:s}", "model", a->facts.name,
                     "topology", a->o.topology, "codec", a->o.codec, "front_blocks",
                     (int)a->o.front_blocks, "tail_blocks", (int)a->o.tail_blocks, "step",
                     (int)a->o.steps - 1, "tokens", (json_int_t)a->report.tokens, "labelled_tokens",
                     (json_int_t)a->report.labels, "sites", json_incref(a->sites), "inputs",
                     shares_json(a, false), "labels", shares_json(a, true), "statement", STATEMENT);
}

static void shares_print(const auditing *a, bool labels) {
    const bool shown = labels ? a->shows_labels : a->shows_text;
    const uint64_t count = labels ? a->report.labels : a->report.tokens;
    printf("\n%s, %llu tokens\n", labels ? "labels" : "inputs", (unsigned long long)count);
    if (shown) {
        printf("  %-40s %8.1f %%\n", "sent as they are: topology and --consent", 100.0);
    }
    for (size_t i = 0; i < SEAM_AUDIT_ATTACKS; i++) {
        const seam_audit_share *const s = &a->report.shares[attacks[i].attack];
        if (attacks[i].labels == labels && s->count != 0) {
            printf("  %-40s %8.1f %% %8.1f %%\n", attacks[i].text,
                   100.0 * share_of(s->first, s->count), 100.0 * share_of(s->among, s->count));
        }
    }
}

static void report_print(const auditing *a) {
    printf("topology %s, codec %s, %u front and %u tail blocks here, step %u\n", a->o.topology,
           a->o.codec, a->o.front_blocks, a->o.tail_blocks, a->o.steps - 1);
    const char *name = NULL;
    json_t *site = NULL;
    json_object_foreach(a->sites, name, site) {
        printf("  %-8s %6.2f bits a value, %lld rows\n", name,
               json_real_value(json_object_get(site, "mean_bits")),
               (long long)json_integer_value(json_object_get(site, "rows")));
    }
    printf("\n%-42s %10s %10s", "what the operator recovers", "1st guess", "of five");
    shares_print(a, false);
    shares_print(a, true);
    if (a->o.tail_blocks != 0) {
        printf(
            "  (the gradient is that of the tail's input: the search takes it for the head's)\n");
    }
    printf("\n%s\n", STATEMENT);
}
