/* `seam`: the command line of libseam.  Finds the command, shows help, turns statuses into exit
 * codes (cli.h lists them). */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const seam_command commands[] = {
    {NULL, "train", "fine-tune an adapter on a data file", seam_cmd_train},
    {NULL, "eval", "loss, perplexity and exact match of a session on a data file", seam_cmd_eval},
    {NULL, "generate", "continue a prompt with a session's adapter", seam_cmd_generate},
    {"bench", "codecs", "train once a codec and compare loss, widths, bytes, time",
     seam_cmd_bench_codecs},
    {NULL, "audit", "what the server's operator can recover of rows and labels", seam_cmd_audit},
    {NULL, "plan", "memory that a model and a session of it take", seam_cmd_plan},
    {NULL, "export", "write a session's adapter as a PEFT folder", seam_cmd_export},
    {NULL, "merge", "merge an adapter into its base model's files", seam_cmd_merge},
    {"session", "list", "sessions of a server", seam_cmd_session_list},
    {"session", "show", "one session", seam_cmd_session_show},
    {"session", "update", "change a session's optimizer from a step on", seam_cmd_session_update},
    {"session", "checkpoint", "write a checkpoint of a session now", seam_cmd_session_checkpoint},
    {"session", "delete", "delete a session", seam_cmd_session_delete},
    {"server", "info", "a server's version, device and load", seam_cmd_server_info},
    {"model", "list", "models that a server offers", seam_cmd_model_list},
    {"model", "pull", "download a model", seam_cmd_model_pull},
    {"data", "show", "what training would see of a data file", seam_cmd_data_show},
};
#define COMMAND_COUNT (sizeof commands / sizeof *commands)

static void help(void) {
    printf(
        "usage: seam COMMAND [options]\n\n"
        "Split fine-tuning: text, labels, embedding and head stay here; a Seam server holds the\n"
        "frozen blocks and trains the adapter.\n\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s%s%s", commands[i].group != NULL ? commands[i].group : "",
                 commands[i].group != NULL ? " " : "", commands[i].name);
        printf("  %-18s %s\n", name, commands[i].summary);
    }
    printf("\n`seam COMMAND --help` lists the options of a command; `seam version` prints %s.\n"
           "Exit codes: 0 done, 1 failed, 2 usage, 3 server not reachable, 4 input refused or not\n"
           "permitted, 5 file not there, readable or writable, 130 interrupted.\n",
           seam_version());
}

/* The commands of a group; false: there is no such group. */
static bool group_list(FILE *out, const char *group) {
    bool found = false;
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (commands[i].group == NULL || strcmp(commands[i].group, group) != 0) {
            continue;
        }
        if (!found) {
            fprintf(out, "usage: seam %s COMMAND [options]\n\n", group);
        }
        found = true;
        fprintf(out, "  %-18s %s\n", commands[i].name, commands[i].summary);
    }
    return found;
}

/* The command's exit code, or what a full disk makes of one that was done. */
static int output_end(int code) {
    const bool failed = ferror(stdout) != 0;
    if (fflush(stdout) == 0 && !failed) {
        return code;
    }
    fprintf(stderr, "seam: stdout: %s\n", failed ? "cannot be written" : strerror(errno));
    return code == SEAM_EXIT_OK ? SEAM_EXIT_IO : code;
}

int main(int argc, char **argv) {
    /* Buffers of a megabyte come and go with every step; without this malloc returns them to the
     * kernel each time, which halves the throughput of streams. */
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    if (argc < 2) {
        help();
        return SEAM_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        help();
        return SEAM_EXIT_OK;
    }
    if (strcmp(argv[1], "version") == 0 || strcmp(argv[1], "--version") == 0) {
        printf("seam %s\n", seam_version());
        return SEAM_EXIT_OK;
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const seam_command *const c = &commands[i];
        if (c->group == NULL && strcmp(c->name, argv[1]) == 0) {
            return output_end(c->run(argc, argv, 2));
        }
        if (c->group != NULL && argc > 2 && strcmp(c->group, argv[1]) == 0 &&
            strcmp(c->name, argv[2]) == 0) {
            return output_end(c->run(argc, argv, 3));
        }
    }
    const bool asks = argc > 2 && strcmp(argv[2], "--help") == 0;
    if ((argc == 2 || asks) && group_list(asks ? stdout : stderr, argv[1])) {
        return asks ? SEAM_EXIT_OK : SEAM_EXIT_USAGE;
    }
    fprintf(stderr, "seam: '%s%s%s' is no command; `seam --help` lists them\n", argv[1],
            argc > 2 ? " " : "", argc > 2 ? argv[2] : "");
    return SEAM_EXIT_USAGE;
}
