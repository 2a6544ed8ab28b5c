/* The unary calls: unpack, judge, answer.  CreateSession alone needs the engine, which takes the
 * session's memory; the answer follows when it has. */
#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "host.h"
#include "log.h"
#include "rpc_methods.h"
#include "rpc_server.h"
#include "seam/v1/service.pb-c.h"
#include "session_disk.h"
#include "try.h"
#include "utf8.h"

#define PAGE_DEFAULT 100
#define PAGE_MAX     1000

/* Unpack or fail the call. */
SEAM_ON_LOOP static void *request_unpack(seam_call *call,
                                         const ProtobufCMessageDescriptor *descriptor,
                                         grpc_byte_buffer *message) {
    ProtobufCMessage *request = seam_message_unpack(descriptor, message);
    if (request == NULL) {
        seam_error err = {0};
        (void)seam_error_set(&err, SEAM_E_FORMAT, "%s: malformed protobuf", descriptor->short_name);
        seam_call_fail(call, SEAM_E_FORMAT, &err);
    }
    return request;
}

static void request_free(void *gift_request) {
    protobuf_c_message_free_unpacked(gift_request, NULL);
}

void seam_no_request(seam_call *call) {
    seam_error err = {0};
    (void)seam_error_set(&err, SEAM_E_FORMAT, "the call carries no request");
    seam_call_fail(call, SEAM_E_FORMAT, &err);
}

void seam_capabilities_init(Seam__V1__Capabilities *ret, Seam__V1__Codec codecs[SEAM_CODEC_LAST]) {
    seam__v1__capabilities__init(ret);
    ret->protocol_version = 1;
    ret->codecs = codecs;
    for (int id = 1; id <= SEAM_CODEC_LAST; id++) {
        if (seam_codec_is_implemented((seam_codec_id)id)) {
            codecs[ret->n_codecs++] = (Seam__V1__Codec)id;
        }
    }
    ret->bits_min = 1;
    ret->bits_max = SEAM_BITS_MAX;
    ret->chunk_bytes_max = SEAM_CHUNK_BYTES_MAX;
    ret->pipeline_depth_max = SEAM_PIPELINE_DEPTH_MAX;
}

void seam_on_get_server_info(seam_call *call, grpc_byte_buffer *message) {
    Seam__V1__GetServerInfoRequest *request =
        request_unpack(call, &seam__v1__get_server_info_request__descriptor, message);
    if (request == NULL) {
        return;
    }
    const seam_sessions *sessions = seam_server_sessions(call->server);
    const seam_backend *backend = seam_engine_backend(seam_server_engine(call->server));
    char version[] = SEAM_VERSION;
    char device[256];
    Seam__V1__Codec codecs[SEAM_CODEC_LAST];
    Seam__V1__Capabilities capabilities;
    Seam__V1__GetServerInfoResponse response = SEAM__V1__GET_SERVER_INFO_RESPONSE__INIT;
    seam_capabilities_init(&capabilities, codecs);
    response.version = version;
    response.device =
        (char *)(uintptr_t)seam_log_text(device, sizeof device, seam_backend_describe(backend));
    response.capabilities = &capabilities;
    response.memory_bytes_total = seam_sessions_memory_total(sessions);
    response.memory_bytes_free = seam_sessions_memory_free(sessions);
    response.session_count = seam_sessions_count(sessions);
    const seam_session_limits limits = seam_sessions_limits(sessions);
    response.rows_max = limits.rows_max;
    response.allows_labels = limits.allow_labels || limits.allow_text;
    response.allows_text = limits.allow_text;
    seam_call_reply(call, &response.base);
    request_free(request);
}

/* projections: room that the message borrows. */
static void model_describe(Seam__V1__ModelInfo *ret,
                           Seam__V1__Projection projections[SEAM_LORA_TARGETS],
                           const seam_model *model) {
    const seam_model_config *config = model->config;
    seam__v1__model_info__init(ret);
    ret->id = (char *)(uintptr_t)model->id;
    ret->architecture = (char *)(uintptr_t)config->architecture;
    ret->layers = config->layers;
    ret->hidden = config->hidden;
    ret->intermediate = config->intermediate;
    ret->heads = config->heads;
    ret->kv_heads = config->kv_heads;
    ret->head_dim = config->head_dim;
    ret->vocab = config->vocab_count;
    ret->context_max = config->context_max;
    ret->identity = model->identity;
    ret->weight_bytes = model->weight_bytes;
    ret->window = config->window;
    ret->window_layers = config->window_layers;
    ret->long_from = config->rope.on ? config->rope.long_from : 0;
    const uint32_t targets = seam_lora_targets_of(config);
    for (uint32_t t = 0; t < SEAM_LORA_TARGETS; t++) {
        if ((targets >> t & 1u) != 0) {
            projections[ret->n_projections++] = (Seam__V1__Projection)(t + 1);
        }
    }
    ret->projections = projections;
}

void seam_on_list_models(seam_call *call, grpc_byte_buffer *message) {
    Seam__V1__ListModelsRequest *request =
        request_unpack(call, &seam__v1__list_models_request__descriptor, message);
    if (request == NULL) {
        return;
    }
    const seam_registry *registry = seam_server_registry(call->server);
    Seam__V1__ModelInfo models[SEAM_MODELS_MAX];
    Seam__V1__ModelInfo *list[SEAM_MODELS_MAX];
    Seam__V1__Projection projections[SEAM_MODELS_MAX][SEAM_LORA_TARGETS];
    Seam__V1__ListModelsResponse response = SEAM__V1__LIST_MODELS_RESPONSE__INIT;
    response.n_models = seam_registry_count(registry);
    response.models = list;
    for (uint32_t i = 0; i < response.n_models; i++) {
        model_describe(&models[i], projections[i], seam_registry_at(registry, i));
        list[i] = &models[i];
    }
    seam_call_reply(call, &response.base);
    request_free(request);
}

/* ---- sessions ---- */

void seam_on_get_session(seam_call *call, grpc_byte_buffer *message) {
    Seam__V1__GetSessionRequest *request =
        request_unpack(call, &seam__v1__get_session_request__descriptor, message);
    if (request == NULL) {
        return;
    }
    seam_error err = {0};
    seam_session *session = NULL;
    const seam_status st =
        seam_sessions_find(&session, seam_server_sessions(call->server), request->session_id,
                           request->session_secret.data, request->session_secret.len, &err);
    request_free(request);
    if (st != SEAM_OK) {
        seam_call_fail(call, st, &err);
        return;
    }
    seam_session_storage storage;
    Seam__V1__GetSessionResponse response = SEAM__V1__GET_SESSION_RESPONSE__INIT;
    seam_session_describe(&storage, session);
    response.session = &storage.session;
    seam_call_reply(call, &response.base);
    seam_session_unref(session);
}

/* A page token is the number of the last session of the page before, in decimal. */
static seam_status token_parse(uint64_t *ret_number, const char *token, seam_error *err) {
    uint64_t number = 0;
    for (const char *c = token; *c != '\0'; c++) {
        if (*c < '0' || *c > '9' || number > UINT64_MAX / 10 - 1) {
            return seam_error_set(err, SEAM_E_ARG, "page_token: not one of this server");
        }
        number = number * 10 + (uint64_t)(*c - '0');
    }
    *ret_number = number;
    return SEAM_OK;
}

void seam_on_list_sessions(seam_call *call, grpc_byte_buffer *message) {
    Seam__V1__ListSessionsRequest *request =
        request_unpack(call, &seam__v1__list_sessions_request__descriptor, message);
    if (request == NULL) {
        return;
    }
    seam_error err = {0};
    const seam_sessions *sessions = seam_server_sessions(call->server);
    const uint32_t wanted = request->page_size == 0 ? PAGE_DEFAULT : request->page_size;
    const uint32_t page = wanted < PAGE_MAX ? wanted : PAGE_MAX;
    uint64_t number = 0;
    seam_status st = token_parse(&number, request->page_token, &err);
    request_free(request);
    seam_session_storage *storage = seam_mem_zalloc(page, sizeof *storage);
    Seam__V1__Session **list = (Seam__V1__Session **)seam_mem_zalloc(page, sizeof *list);
    if (st == SEAM_OK && (storage == NULL || list == NULL)) {
        st = SEAM_E_MEMORY;
    }
    if (st == SEAM_OK) {
        char token[24] = "";
        Seam__V1__ListSessionsResponse response = SEAM__V1__LIST_SESSIONS_RESPONSE__INIT;
        seam_session *session = seam_sessions_after(sessions, number);
        for (; session != NULL && response.n_sessions < page;
             session = seam_sessions_after(sessions, number)) {
            seam_session_describe(&storage[response.n_sessions], session);
            list[response.n_sessions] = &storage[response.n_sessions].session;
            response.n_sessions++;
            number = session->number;
        }
        if (session != NULL) {
            (void)snprintf(token, sizeof token, "%llu", (unsigned long long)number);
        }
        response.sessions = list;
        response.next_page_token = token;
        seam_call_reply(call, &response.base);
    } else {
        seam_call_fail(call, st, &err);
    }
    seam_mem_free(list);
    seam_mem_free(storage);
}

/* ---- CreateSession ---- */

SEAM_ON_LOOP static void session_reply(seam_call *call, seam_session *session) {
    seam_session_storage storage;
    Seam__V1__CreateSessionResponse response = SEAM__V1__CREATE_SESSION_RESPONSE__INIT;
    seam_session_describe(&storage, session);
    response.session = &storage.session;
    response.session_secret.data = session->secret;
    response.session_secret.len = sizeof session->secret;
    seam_call_reply(call, &response.base);
}

SEAM_ON_GPU static seam_status build_run(seam_job *job, seam_stream *stream) {
    SEAM_TRY(seam_session_build(job->user, stream, &job->err));
    return seam_session_store(job->user, stream, &job->err);
}

/* Judge and admit; *ret_session has a reference of the call. */
SEAM_ON_LOOP static seam_status create(seam_session **ret_session, bool *ret_known, seam_call *call,
                                       Seam__V1__CreateSessionRequest *request, seam_error *err) {
    seam_sessions *sessions = seam_server_sessions(call->server);
    const seam_session_limits limits = seam_sessions_limits(sessions);
    seam_session_config config;
    SEAM_TRY(seam_session_config_read(&config, request->config, seam_server_registry(call->server),
                                      &limits, err));
    const char *const name = request->config->name;
    if (seam_utf8_check(name, strlen(name)) < strlen(name)) { /* a list with it no one could read */
        return seam_error_set(err, SEAM_E_ARG, "config.name: not UTF-8"); /* stored ones go on */
    }
    if (request->model_identity != 0 && request->model_identity != config.model->identity) {
        return seam_error_set(err, SEAM_E_ARG,
                              "model_identity: this server's %s has another shape (%016llx)",
                              config.model->id, (unsigned long long)config.model->identity);
    }
    SEAM_TRY(seam_sessions_admit(ret_session, ret_known, sessions, request->request_id, &config,
                                 request->config, err));
    if (!*ret_known) {
        request->config = NULL; /* the session's now */
    }
    return SEAM_OK;
}

void seam_on_create_session(seam_call *call, grpc_byte_buffer *message) {
    Seam__V1__CreateSessionRequest *request =
        request_unpack(call, &seam__v1__create_session_request__descriptor, message);
    if (request == NULL) {
        return;
    }
    seam_error err = {0};
    seam_session *session = NULL;
    bool known = false;
    const seam_status st = create(&session, &known, call, request, &err);
    request_free(request);
    if (st != SEAM_OK) {
        seam_call_fail(call, st, &err);
        return;
    }
    call->state = session;
    if (known) {
        session_reply(call, session);
        return;
    }
    call->job.run = build_run;
    call->job.user = session;
    session->busy = true;
    if (seam_call_post(call) != SEAM_OK) {
        session->busy = false;
        seam_sessions_remove(seam_server_sessions(call->server), session);
    }
}

void seam_on_create_session_job(seam_call *call) {
    seam_session *session = call->state;
    seam_sessions *sessions = seam_server_sessions(call->server);
    session->busy = false;
    if (call->job.status == SEAM_OK) {
        const uint64_t bytes = seam_memory_plan_device_bytes(&session->memory) +
                               seam_memory_plan_host_bytes(&session->memory);
        seam_sessions_ready(sessions, session, seam_host_now_ms());
        seam_log(SEAM_LOG_INFO, "session_created", "session=%s model=%s codec=%s memory_bytes=%llu",
                 session->id, session->config.model->id,
                 seam_codec_name(seam_codec_plan_codec(&session->config.codec, false)),
                 (unsigned long long)bytes);
        session_reply(call, session);
    } else {
        seam_sessions_remove(sessions, session);
        seam_call_fail(call, call->job.status, &call->job.err);
    }
    if (call->closed) { /* the caller is gone; a repetition with its request_id finds the session */
        call->state = NULL;
        seam_session_unref(session);
    }
}

void seam_on_create_session_close(seam_call *call) {
    if (call->state != NULL && !call->job_running) {
        seam_session_unref(call->state);
        call->state = NULL;
    }
}
