/* See run_resume.h. */
#include "run_resume.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "run_files.h"
#include "try.h"

#define ARGUMENTS_MAX 256

/* What may differ from the run's own command line; the rest decides its bits. */
static const char *const changeable[] = {
    "resume", "server", "threads",     "quiet",      "json",    "insecure",  "ca",
    "cert",   "key",    "server-name", "token-file", "timeout", "reconnect", "credit-mib"};

static bool is_option(const char *argument, const char *name) {
    const size_t count = strlen(name);
    return strncmp(argument, "--", 2) == 0 && strncmp(argument + 2, name, count) == 0 &&
           (argument[2 + count] == '\0' || argument[2 + count] == '=');
}

bool seam_run_is_resume(int argc, char **argv, int first) {
    for (int i = first; i < argc; i++) {
        if (is_option(argv[i], "resume")) {
            return true;
        }
    }
    return false;
}

seam_status seam_run_command_make(json_t **ret_command, int argc, char **argv, int first,
                                  seam_error *err) {
    char cwd[PATH_MAX];
    if (getcwd(cwd, sizeof cwd) == NULL) {
        return seam_error_set(err, SEAM_E_IO, "the working folder: %s", strerror(errno));
    }
    json_t *const arguments = json_array();
    for (int i = first; i < argc; i++) {
        json_array_append_new(arguments, json_string(argv[i]));
    }
    json_t *const value = json_pack("{s:s,s:o}", "folder", cwd, "arguments", arguments);
    if (value == NULL || json_array_size(arguments) != (size_t)(argc - first)) {
        json_decref(value);
        return seam_error_set(err, SEAM_E_ARG, "the working folder or an argument is no UTF-8");
    }
    *ret_command = value;
    return SEAM_OK;
}

static seam_status changes_check(int argc, char **argv, int first, seam_error *err) {
    for (int i = first; i < argc; i++) {
        bool known = strncmp(argv[i], "--", 2) != 0; /* the value of the option before */
        for (size_t c = 0; c < sizeof changeable / sizeof *changeable; c++) {
            known = known || is_option(argv[i], changeable[c]);
        }
        if (!known) {
            return seam_error_set(err, SEAM_E_ARG, "%.100s: a resumed run keeps its own", argv[i]);
        }
    }
    return SEAM_OK;
}

/* Both files are of one session, if the folder is as a run has left it. */
static seam_status command_session_check(const json_t *command, const char *folder,
                                         seam_error *err) {
    const char *const id = json_string_value(json_object_get(command, "session"));
    seam_session_file file;
    if (id == NULL) { /* of a release that did not say */
        return SEAM_OK;
    }
    SEAM_TRY(seam_session_file_read(&file, folder, err));
    return strcmp(id, file.id) == 0
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_CONFLICT,
                                "--resume: %.300s: command.json is of session %.60s, session.json "
                                "of %.60s",
                                folder, id, file.id);
}

/* A run writes both last, when all that can be refused has passed, and loses its session's when
 * that is deleted. */
static seam_status run_check(const char *folder, seam_error *err) {
    static const char *const names[] = {"command.json", "session.json"};
    char path[SEAM_RUN_PATH_BYTES];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        SEAM_TRY(seam_run_path(path, folder, names[i], err));
        if (access(path, R_OK) == 0) {
            continue;
        }
        return errno == ENOENT
                   ? seam_error_set(err, SEAM_E_NOT_FOUND,
                                    "--resume: %.300s holds no run to go on with (no %s): none "
                                    "began there, it ended before its session was kept, or its "
                                    "session was deleted; `seam train --out` begins one",
                                    folder, names[i])
                   : seam_error_set(err, SEAM_E_IO, "--resume: %.400s: %s", path, strerror(errno));
    }
    return SEAM_OK;
}

/* command.json of the folder; its path made absolute, because the working folder changes. */
static seam_status command_load(json_t **ret_value, char ret_folder[PATH_MAX], const char *folder,
                                seam_error *err) {
    char path[SEAM_RUN_PATH_BYTES];
    json_error_t why;
    if (folder == NULL || realpath(folder, ret_folder) == NULL) {
        return seam_error_set(err, SEAM_E_IO, "--resume: %.300s: %s", folder != NULL ? folder : "",
                              strerror(errno));
    }
    SEAM_TRY(run_check(ret_folder, err));
    SEAM_TRY(seam_run_path(path, ret_folder, "command.json", err));
    *ret_value = json_load_file(path, 0, &why);
    const char *cwd = json_string_value(json_object_get(*ret_value, "folder"));
    if (cwd == NULL || !json_is_array(json_object_get(*ret_value, "arguments"))) {
        return seam_error_set(err, SEAM_E_FORMAT, "--resume: %.400s is no command of seam", path);
    }
    return command_session_check(*ret_value, ret_folder, err);
}

/* The folder that the command was typed in, which relative paths go by. */
static seam_status folder_enter(const json_t *command, const seam_train_options *o,
                                seam_error *err) {
    const char *const cwd = json_string_value(json_object_get(command, "folder"));
    const struct {
        const char *option, *path;
    } paths[] = {
        {"model", o->model},         {"data", o->data},
        {"eval-data", o->eval_data}, {"adapter", o->adapter_stated == NULL ? o->adapter : NULL},
        {"trace", o->trace},         {"cache-dir", o->cache_dir},
        {"ca", o->server.ca},        {"cert", o->server.cert},
        {"key", o->server.key},      {"token-file", o->server.token_file}};
    if (chdir(cwd) == 0) {
        return SEAM_OK;
    }
    const int why = errno;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        if (paths[i].path != NULL && paths[i].path[0] != '/') {
            return seam_error_set(err, SEAM_E_NOT_FOUND,
                                  "--resume: the run's working folder, which --%s %.100s goes by, "
                                  "%.300s: %s",
                                  paths[i].option, paths[i].path, cwd, strerror(why));
        }
    }
    return SEAM_OK;
}

static seam_status command_parse(seam_train_options *ret, json_t *value, int argc, char **argv,
                                 int first, seam_error *err) {
    const char *arguments[ARGUMENTS_MAX];
    int count = 0;
    size_t idx = 0;
    json_t *item = NULL;
    json_array_foreach(json_object_get(value, "arguments"), idx, item) {
        if (count == ARGUMENTS_MAX || !json_is_string(item)) {
            return seam_error_set(err, SEAM_E_FORMAT, "--resume: command.json: bad arguments");
        }
        arguments[count++] = json_string_value(item);
    }
    seam_train_options_init(ret);
    SEAM_TRY(seam_train_options_read(ret, NULL, count, (char **)(uintptr_t)arguments, 0, err));
    return seam_train_options_read(ret, NULL, argc, argv, first, err);
}

seam_status seam_run_command_read(seam_train_options *ret_options, json_t **ret_texts, int argc,
                                  char **argv, int first, seam_error *err) {
    seam_train_options asked;
    char folder[PATH_MAX];
    json_t *value = NULL;
    seam_train_options_init(&asked);
    SEAM_TRY(seam_train_options_read(&asked, NULL, argc, argv, first, err));
    SEAM_TRY(changes_check(argc, argv, first, err));
    seam_status st = command_load(&value, folder, asked.resume, err);
    if (st == SEAM_OK) {
        st = command_parse(ret_options, value, argc, argv, first, err);
    }
    if (st == SEAM_OK) {
        ret_options->adapter_stated = json_object_get(value, "adapter");
        st = folder_enter(value, ret_options, err);
    }
    json_t *const out = st == SEAM_OK ? json_string(folder) : NULL;
    if (st == SEAM_OK && json_object_set_new(value, "out", out) != 0) {
        st = SEAM_E_MEMORY;
    }
    if (st == SEAM_OK) {
        ret_options->out = ret_options->resume = json_string_value(out);
        st = seam_train_options_finish(ret_options, err);
    }
    if (st != SEAM_OK) {
        json_decref(value);
        return st;
    }
    *ret_texts = value;
    return SEAM_OK;
}

seam_status seam_run_before_write(const char *out, json_t *evaluation, seam_error *err) {
    char path[SEAM_RUN_PATH_BYTES];
    SEAM_TRY(seam_run_path(path, out, "before.json", err));
    return seam_run_write_json(path, evaluation, 0644, err);
}

json_t *seam_run_before_read(const char *out) {
    char path[SEAM_RUN_PATH_BYTES];
    json_error_t why;
    return seam_run_path(path, out, "before.json", NULL) == SEAM_OK ? json_load_file(path, 0, &why)
                                                                    : NULL;
}
