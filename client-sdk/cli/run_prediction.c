/* See run_prediction.h. */
#include "run_prediction.h"

#include <string.h>

#include "plan_client.h"
#include "plan_wire.h"
#include "try.h"

static seam_status wire_put(json_t *value, const seam_run_prediction_args *args,
                            const seam_model_config *model, seam_error *err) {
    const seam_train_options *const o = args->options;
    const seam_plan_link link = {
        .mbit = o->mbit, .rtt_ms = o->rtt_ms, .server_tokens_per_s = o->server_tokens_per_s};
    const seam_plan_wire_args wire_args = {.session = args->session,
                                           .model = model,
                                           .tls = args->tls,
                                           .steps = o->steps,
                                           .batcher = args->batcher};
    seam_plan_wire wire;
    SEAM_TRY(seam_plan_wire_make(&wire, &wire_args, err));
    json_object_set_new(value, "wire", seam_plan_wire_json(&wire));
    json_t *const time = seam_plan_time_json(&wire, &link);
    if (time != NULL) {
        json_object_set_new(value, "time", time);
    }
    return SEAM_OK;
}

static seam_status client_put(json_t *value, const seam_run_prediction_args *args,
                              const seam_model_config *model, bool bf16_table, seam_error *err) {
    seam_plan_client client;
    const seam_plan_client_args client_args = {.model = model,
                                               .bf16_table = bf16_table,
                                               .f32 = args->options->f32,
                                               .session = args->session};
    SEAM_TRY(seam_plan_client_make(&client, &client_args, err));
    json_object_set_new(value, "client", seam_plan_client_json(&client));
    return SEAM_OK;
}

void seam_run_prediction_make(seam_run_report *report, const seam_run_prediction_args *args) {
    const seam_train_options *const o = args->options;
    json_t *const value = json_object();
    const bool on_cpu = o->device == NULL || strncmp(o->device, "cpu", 3) == 0;
    seam_model_config model;
    bool bf16_table = false;
    seam_error err = {0};
    seam_status st = seam_plan_model_read(&model, &bf16_table, o->model, &err);
    st = st == SEAM_OK ? wire_put(value, args, &model, &err) : st;
    if (st == SEAM_OK && on_cpu) {
        st = client_put(value, args, &model, bf16_table, &err);
    }
    if (st != SEAM_OK) {
        json_object_set_new(value, "error", json_string(err.text));
    }
    seam_run_report_set(report, "prediction", value);
}

/* ---- the grade ---- */

static double number_of(const json_t *object, const char *name) {
    return json_number_value(json_object_get(object, name));
}

static void grade_put(json_t *grade, const char *name, double predicted, double measured) {
    if (predicted > 0.0) {
        json_object_set_new(grade, name,
                            json_pack("{s:f,s:f,s:f}", "predicted", predicted, "measured", measured,
                                      "ratio", measured / predicted));
    }
}

/* Payloads over the sites that this end sends on, or those of the server. */
static double payload_of(const json_t *sites, bool sent) {
    double sum = 0.0;
    for (uint32_t i = 0; i < SEAM_STEP_SITES; i++) {
        if (seam_plan_site_is_sent(i) == sent) {
            sum += number_of(json_object_get(sites, seam_plan_site_names[i]), "payload_bytes");
        }
    }
    return sum;
}

static void payload_grade(json_t *grade, const char *name, const json_t *wire, const json_t *steps,
                          bool sent) {
    double sum = 0.0;
    size_t idx = 0;
    const json_t *step = NULL;
    json_array_foreach(steps, idx, step) {
        sum += payload_of(json_object_get(step, "sites"), sent);
    }
    grade_put(grade, name, payload_of(json_object_get(wire, "sites"), sent),
              sum / (double)json_array_size(steps));
}

void seam_run_prediction_grade(seam_run_report *report) {
    json_t *const prediction = json_object_get(report->root, "prediction");
    const json_t *const wire = json_object_get(prediction, "wire");
    const double steps = (double)json_array_size(report->steps);
    if (prediction == NULL || steps == 0.0) {
        return;
    }
    json_t *const grade = json_object();
    grade_put(grade, "bytes_sent", number_of(json_object_get(wire, "sent"), "bytes"),
              (double)report->bytes_sent / steps);
    grade_put(grade, "bytes_received", number_of(json_object_get(wire, "received"), "bytes"),
              (double)report->bytes_received / steps);
    payload_grade(grade, "payload_sent", wire, report->steps, true);
    payload_grade(grade, "payload_received", wire, report->steps, false);
    grade_put(grade, "seconds", number_of(json_object_get(prediction, "time"), "seconds"),
              report->seconds / steps);
    grade_put(grade, "memory", number_of(json_object_get(prediction, "client"), "bytes"),
              number_of(report->root, "peak_rss_bytes"));
    json_object_set_new(prediction, "grade", grade);
}
