/* `seam train`: one run (train_run.h) and its summary for people. */
#include <stdio.h>

#include "report_html.h"
#include "run_resume.h"
#include "train_run.h"

static void summary_print(const json_t *report, const char *out);
static void evaluations_print(const json_t *report);
static void groups_print(json_t *groups);
static void sites_print(const json_t *report);
static void grade_print(const json_t *grade);
static double number_of(const json_t *object, const char *name);

int seam_cmd_train(int argc, char **argv, int first) {
    seam_train_options o;
    seam_error err = {0};
    json_t *texts = NULL; /* of a resumed run's options */
    json_t *command = NULL;
    const bool resumes = seam_run_is_resume(argc, argv, first);
    seam_status st = resumes ? seam_run_command_read(&o, &texts, argc, argv, first, &err)
                             : seam_train_options_parse(&o, argc, argv, first, &err);
    if (st == SEAM_E_ARG) {
        return seam_cli_usage(&err, "train");
    }
    if (st == SEAM_OK && o.common.help) {
        seam_train_options_help();
        return SEAM_EXIT_OK;
    }
    if (st == SEAM_OK && !resumes) {
        st = seam_run_command_make(&command, argc, argv, first, &err);
        if (st == SEAM_OK && o.adapter != NULL && /* a run that goes on does not need its folder */
            json_object_set_new(command, "adapter", seam_train_adapter_json(&o)) != 0) {
            st = seam_error_set(&err, SEAM_E_MEMORY, "out of memory");
        }
        o.command = command;
    }
    if (st != SEAM_OK) {
        return seam_cli_finish(st, &err, &(seam_common_options){.quiet = false});
    }
    seam_cli_catch_signals(&o.common);
    json_t *report = NULL;
    st = seam_run_train(&report, &o, &err);
    if (st == SEAM_OK && o.common.json) {
        seam_cli_print_json(report);
    } else if (st == SEAM_OK) {
        summary_print(report, o.out);
    }
    json_decref(report);
    const int code = seam_cli_finish(st, &err, &o.common);
    json_decref(command);
    json_decref(texts);
    return code == SEAM_EXIT_OK && seam_cli_is_interrupted() ? SEAM_EXIT_INTERRUPTED : code;
}

static void summary_print(const json_t *report, const char *out) {
    const json_t *const totals = json_object_get(report, "totals");
    const double steps = number_of(totals, "steps");
    const double bytes = number_of(totals, "bytes_sent") + number_of(totals, "bytes_received");
    const double bf16 = number_of(totals, "bf16_bytes");
    evaluations_print(report);
    sites_print(report);
    if (steps > 0.0) { /* else interrupted before the first one ended */
        printf("\nbytes a step: %.1f KB of %.1f KB in bf16 (%.1f x less)\n", bytes / steps / 1e3,
               bf16 / steps / 1e3, bf16 / bytes);
        grade_print(json_object_get(json_object_get(report, "prediction"), "grade"));
        printf("speed:        %.0f tokens/s\n", number_of(totals, "tokens_per_second"));
    }
    printf("memory:       %.0f MB peak of this process\n",
           number_of(report, "peak_rss_bytes") / 1e6);
    printf("adapter:      %s\nreport:       %s/report.html\n",
           json_string_value(json_object_get(report, "adapter")), out);
}

/* How the prediction of before the first step did. */
static void grade_print(const json_t *grade) {
    const json_t *const sent = json_object_get(grade, "bytes_sent");
    const json_t *const received = json_object_get(grade, "bytes_received");
    if (sent != NULL && received != NULL) {
        printf("predicted:    %.1f KB a step sent (was %.3f of it), %.1f KB received (%.3f)\n",
               number_of(sent, "predicted") / 1e3, number_of(sent, "ratio"),
               number_of(received, "predicted") / 1e3, number_of(received, "ratio"));
    }
}

/* "12.5 %" in 12 columns, "-" of what is no number. */
static void share_print(const json_t *value) {
    char share[16] = "-";
    if (json_is_number(value)) {
        snprintf(share, sizeof share, "%.1f %%", 100.0 * json_number_value(value));
    }
    printf(" %12s", share);
}

static void losses_print(const json_t *steps) {
    const size_t count = json_array_size(steps);
    if (count != 0) { /* else interrupted before the first one ended */
        printf("\nloss          %.4f at the first step, %.4f at the last\n",
               number_of(json_array_get(steps, 0), "loss"),
               number_of(json_array_get(steps, count - 1), "loss"));
    }
}

static void evaluations_print(const json_t *report) {
    json_t *const evaluations = json_object_get(report, "eval");
    const char *name = NULL;
    json_t *value = NULL;
    bool has_choices = false;
    if (json_object_size(evaluations) == 0) { /* no rows for one were given */
        losses_print(json_object_get(report, "steps"));
        return;
    }
    json_object_foreach(evaluations, name, value) {
        has_choices = has_choices || json_is_number(json_object_get(value, "accuracy"));
    }
    printf("\n%-22s %12s %12s %12s", "evaluation", "loss", "perplexity", "exact match");
    if (has_choices) {
        printf(" %12s %12s", "accuracy", "by length");
    }
    printf("\n");
    json_object_foreach(evaluations, name, value) {
        printf("%-22s %12.4f %12.3f", name, number_of(value, "loss"),
               number_of(value, "perplexity"));
        share_print(json_object_get(value, "exact_match"));
        if (has_choices) {
            share_print(json_object_get(value, "accuracy"));
            share_print(json_object_get(value, "accuracy_norm"));
        }
        printf("\n");
        groups_print(json_object_get(value, "groups"));
    }
}

static void groups_print(json_t *groups) {
    const char *name = NULL;
    json_t *value = NULL;
    if (json_object_size(groups) > SEAM_REPORT_GROUPS_MAX) {
        return;
    }
    json_object_foreach(groups, name, value) {
        char share[16];
        snprintf(share, sizeof share, "%.1f %%", 100.0 * number_of(value, "exact_match"));
        printf("  %-20s %25.0f rows %7s\n", name, number_of(value, "rows"), share);
    }
}

static void sites_print(const json_t *report) {
    const json_t *const steps = json_object_get(report, "steps");
    if (json_array_size(steps) == 0) { /* interrupted before the first one ended */
        return;
    }
    printf("\n%-22s %12s %12s %12s\n", "last step", "mean bits", "payload KB", "rows");
    const char *name = NULL;
    json_t *site = NULL;
    json_t *const last = json_array_get(steps, json_array_size(steps) - 1);
    json_object_foreach(json_object_get(last, "sites"), name, site) {
        printf("%-22s %12.3f %12.1f %12.0f\n", name, number_of(site, "mean_bits"),
               number_of(site, "payload_bytes") / 1e3, number_of(site, "rows"));
    }
}

static double number_of(const json_t *object, const char *name) {
    return json_number_value(json_object_get(object, name));
}
