/* `seam merge`: an adapter merged into its base model, as a Hugging Face folder.  No server. */
#include <stdio.h>

#include "cli.h"
#include "directory.h"
#include "merge.h"

typedef struct merge_options {
    seam_common_options common;
    const char *model, *adapter, *out;
    uint64_t shard_bytes;
} merge_options;

static const seam_arg_spec merge_specs[] = {
    {"model", SEAM_ARG_TEXT, offsetof(merge_options, model), "PATH",
     "the base model, whole: a folder with config.json and safetensors"},
    {"adapter", SEAM_ARG_TEXT, offsetof(merge_options, adapter), "DIR",
     "a LoRA adapter in PEFT's format, or trained layers, as in a run's folder adapter/"},
    {"out", SEAM_ARG_TEXT, offsetof(merge_options, out), "DIR",
     "where the merged model goes; must hold no .safetensors"},
    {"shard-bytes", SEAM_ARG_U64, offsetof(merge_options, shard_bytes), "N",
     "tensors of a file, at most [4294967296]"},
    {NULL, SEAM_ARG_FLAG, 0, NULL, NULL},
};

static seam_status options_check(const merge_options *o, seam_error *err) {
    const struct {
        const char *name, *value;
    } needed[] = {{"model", o->model}, {"adapter", o->adapter}, {"out", o->out}};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        if (needed[i].value == NULL) {
            return seam_error_set(err, SEAM_E_ARG, "--%s is needed", needed[i].name);
        }
    }
    return SEAM_OK;
}

static void report_show(const merge_options *o, const seam_merge_report *r) {
    if (!o->common.json) {
        printf("%s: %u of %u tensors merged, %.3f GB in %u file%s, read back\n", o->out, r->merged,
               r->tensors, (double)r->bytes / 1e9, r->files, r->files == 1 ? "" : "s");
        return;
    }
    json_t *const value =
        json_pack("{s:s,s:i,s:i,s:i,s:I}", "out", o->out, "tensors", (int)r->tensors, "merged",
                  (int)r->merged, "files", (int)r->files, "bytes", (json_int_t)r->bytes);
    seam_cli_print_json(value);
    json_decref(value);
}

int seam_cmd_merge(int argc, char **argv, int first) {
    merge_options o = {.model = NULL};
    seam_error err = {0};
    const seam_arg_table tables[] = {{seam_common_specs, &o.common}, {merge_specs, &o}};
    uint32_t count = 0;
    seam_status st = seam_args_parse(&count, NULL, 0, tables, 2, argc, argv, first, &err);
    if (st == SEAM_OK && o.common.help) {
        printf("usage: seam merge --model PATH --adapter DIR --out DIR [options]\n\n"
               "Adds a LoRA adapter to the weights of its base model, or puts layers that were\n"
               "trained in full (seam train --full) in their place, and writes the whole model in\n"
               "the base's types, with its config and tokenizer: what transformers and vLLM load\n"
               "without PEFT.  Every file is read back before it gets its name.\n\n");
        seam_args_help(merge_specs);
        seam_args_help(seam_common_specs);
        return SEAM_EXIT_OK;
    }
    if (st == SEAM_OK) {
        st = options_check(&o, &err);
    }
    if (st != SEAM_OK) {
        return seam_cli_usage(&err, "merge");
    }
    const seam_merge_args args = {
        .base = o.model, .adapter = o.adapter, .out = o.out, .shard_bytes = o.shard_bytes};
    seam_merge_report report;
    st = seam_cli_path_check("model", o.model, &err);
    st = st == SEAM_OK ? seam_cli_path_check("adapter", o.adapter, &err) : st;
    if (st == SEAM_OK && o.out[0] == '\0') {
        st = seam_error_set(&err, SEAM_E_ARG, "--out: names no folder");
    }
    st = st == SEAM_OK ? seam_directory_make(o.out, &err) : st;
    if (st == SEAM_OK) {
        st = seam_merge(&report, &args, &err);
    }
    if (st == SEAM_OK) {
        report_show(&o, &report);
    }
    return seam_cli_finish(st, &err, &o.common);
}
