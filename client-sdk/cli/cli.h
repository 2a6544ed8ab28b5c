/* The CLI `seam`: what its commands share.
 *
 *   seam_main.c     dispatch, help, exit codes        cli_args.c     option tables
 *   train_run.c     session, steps, files of a run    train_options.c  its options, presets
 *   train_adapter.c, train_check.c    what of them goes together
 *   train_depth.c   --pipeline-depth auto             train_presets.c  --preset
 *   adapter_shape.c what an adapter's files say
 *   shared_options.h    option rows of several commands  field_option.c  whose field an error names
 *   cmd_train.c     one run and its summary
 *   cmd_bench.c     bench codecs: many runs           bench_options.c, bench_rows.c  which
 *   bench_table.c   their figures, projected times    bench_markdown.c  the same for people
 *   cmd_eval.c, cmd_generate.c    use_session.c       a session to ask
 *   cmd_session.c   session .., server .., export     cmd_data.c       data show
 *   cmd_plan.c      plan: memory, bytes and time before a run  plan_options.c  its options
 *   plan_server.c, plan_client.c  memory of a session at either end
 *   plan_wire.c     bytes and time of its steps       plan_shapes.c    models by name
 *   run_prediction.c  the same in a run's report, and what became of it
 *   cmd_audit.c     audit: what the operator can recover    run_open.c    as a run opens it
 *   evaluate.c      loss and exact match of rows      exact_match.c    what counts as right
 *   evaluate_choices.c  accuracy of rows with choices  sampling.c     how texts are drawn
 *   run_report.c    report.json                       run_files.c      files of a run folder
 *   run_folder.c    whose the folder is               run_resume.c     train --resume
 *   run_data.c      the rows of a run's steps, and whether a resumed one has them
 *   progress.c      the line on the terminal
 *
 * Exit codes: 0 done; 1 failed; 2 wrong usage; 3 server not reachable or gone; 4 refused: data,
 * model, adapter or config, and what the server does not permit; 5 a file or folder is not there,
 * not readable or not writable; 130 interrupted. */
#ifndef SEAM_CLI_H
#define SEAM_CLI_H

#include <jansson.h>

#include "cli_args.h"
#include "seam.h"

#define SEAM_EXIT_OK          0
#define SEAM_EXIT_FAILED      1
#define SEAM_EXIT_USAGE       2
#define SEAM_EXIT_UNAVAILABLE 3
#define SEAM_EXIT_INPUT       4
#define SEAM_EXIT_IO          5
#define SEAM_EXIT_INTERRUPTED 130

/* Options of every command. */
typedef struct seam_common_options {
    bool json, quiet, help;
} seam_common_options;
extern const seam_arg_spec seam_common_specs[];

/* Options of commands that talk to a server. */
typedef struct seam_server_options {
    const char *server;
    bool insecure;
    const char *ca, *cert, *key, *server_name, *token_file;
    uint32_t timeout_s, reconnect_s, credit_mib;
} seam_server_options;
extern const seam_arg_spec seam_server_specs[];

typedef struct seam_command {
    const char *group; /* NULL, or "session", "bench", ...: the first word of the command */
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv, int first);
} seam_command;

int seam_cmd_train(int argc, char **argv, int first);
int seam_cmd_bench_codecs(int argc, char **argv, int first);
int seam_cmd_eval(int argc, char **argv, int first);
int seam_cmd_generate(int argc, char **argv, int first);
int seam_cmd_merge(int argc, char **argv, int first);
int seam_cmd_export(int argc, char **argv, int first);
int seam_cmd_session_list(int argc, char **argv, int first);
int seam_cmd_session_show(int argc, char **argv, int first);
int seam_cmd_session_update(int argc, char **argv, int first);
int seam_cmd_session_checkpoint(int argc, char **argv, int first);
int seam_cmd_session_delete(int argc, char **argv, int first);
int seam_cmd_server_info(int argc, char **argv, int first);
int seam_cmd_model_list(int argc, char **argv, int first);
int seam_cmd_model_pull(int argc, char **argv, int first);
int seam_cmd_audit(int argc, char **argv, int first);
int seam_cmd_plan(int argc, char **argv, int first);
int seam_cmd_data_show(int argc, char **argv, int first);

/* From here SIGINT and SIGTERM let the step in flight end, and end a wait for the server; a second
 * one ends the program at once, as is said on stderr. */
void seam_cli_catch_signals(const seam_common_options *options);
bool seam_cli_is_interrupted(void);

/* Loopback without --ca: plaintext; everything else TLS, unless --insecure.  The token comes from
 * --token-file or SEAM_TOKEN. */
seam_status seam_cli_connect(seam_client **ret_client, const seam_server_options *options,
                             const seam_common_options *common, seam_error *err);
/* As seam_cli_connect decides. */
bool seam_cli_is_plaintext(const seam_server_options *options);
/* Whether what an option names is there, before anything is done with it (path NULL: it names
 * nothing).  SEAM_E_IO names the option. */
seam_status seam_cli_path_check(const char *option, const char *path, seam_error *err);
/* Likewise whether a file of this path could be written, which is done at the end only. */
seam_status seam_cli_output_check(const char *option, const char *path, seam_error *err);
/* Rows that are too long are refused like other rows: SEAM_E_LIMIT becomes SEAM_E_ARG. */
seam_status seam_cli_data_status(seam_status st, seam_error *err);
/* Prints the error ("seam: ..." on stderr; with --json an object on stdout) and gives the exit
 * code.  st SEAM_OK: 0, prints nothing. */
int seam_cli_finish(seam_status st, const seam_error *err, const seam_common_options *common);
/* "seam: text" on stderr and the hint to --help; exit code 2. */
int seam_cli_usage(const seam_error *err, const char *command);
/* Writes JSON to stdout, with a newline. */
void seam_cli_print_json(const json_t *value);

#endif
