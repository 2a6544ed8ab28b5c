/* A client: opening, and the unary calls about a server.  seam.h documents every function. */
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "arena.h"
#include "core.h"
#include "try.h"

#define UNARY_TIMEOUT_MS     60000u
#define PROGRESS_TIMEOUT_MS  300000u
#define RECONNECT_TIMEOUT_MS 60000u
#define PAGES_MAX            1000u
#define AT_ONCE_MS           3000u /* above CONNECT_WAIT_MS, the transport's for a connection */

static seam_status options_check(const seam_client_options *options, seam_error *err);
static void copy(char *ret, size_t capacity, const char *text);

const char *seam_version(void) {
    return SEAM_VERSION;
}

const char *seam_describe(seam_status st) {
    return seam_status_text(st);
}

seam_status seam_client_open(seam_client **ret_client, const seam_client_options *options,
                             seam_error *err) {
    if (ret_client == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "ret_client is NULL");
    }
    SEAM_TRY(options_check(options, err));
    seam_client *const client = seam_mem_zalloc(1, sizeof *client);
    if (client == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    client->net = &seam_transport_grpc;
    client->log = options->log;
    client->log_user = options->log_user;
    client->stop = options->stop;
    client->stop_user = options->stop_user;
    client->reconnect_timeout_ms =
        options->reconnect_timeout_ms != 0 ? options->reconnect_timeout_ms : RECONNECT_TIMEOUT_MS;
    client->credit_bytes =
        options->credit_bytes != 0 ? options->credit_bytes : SEAM_CREDIT_BYTES_DEFAULT;
    copy(client->address, sizeof client->address, options->address);
    const seam_transport_options transport = {
        .address = options->address,
        .plaintext = options->plaintext,
        .ca_file = options->ca_file,
        .cert_file = options->cert_file,
        .key_file = options->key_file,
        .server_name = options->server_name,
        .token = options->token,
        .unary_timeout_ms =
            options->unary_timeout_ms != 0 ? options->unary_timeout_ms : UNARY_TIMEOUT_MS,
        .progress_timeout_ms =
            options->progress_timeout_ms != 0 ? options->progress_timeout_ms : PROGRESS_TIMEOUT_MS,
    };
    const seam_status st = client->net->open(&client->transport, &transport, err);
    if (st != SEAM_OK) {
        seam_mem_free(client);
        return st;
    }
    *ret_client = client;
    return SEAM_OK;
}

void seam_client_close(seam_client *gift_client) {
    if (gift_client != NULL) {
        gift_client->net->close(gift_client->transport);
        seam_mem_free(gift_client);
    }
}

/* gRPC would take http:// for a host's name, and of a port the last 16 bits. */
static bool address_is_valid(const char *address) {
    const char *const colon = address != NULL ? strrchr(address, ':') : NULL;
    if (colon == NULL || address[0] == ':' || strlen(address) >= SEAM_ADDRESS_BYTES ||
        strncmp(address, "http://", 7) == 0 || strncmp(address, "https://", 8) == 0) {
        return false;
    }
    if (strncmp(address, "unix:", 5) == 0) {
        return true;
    }
    const size_t count = strspn(colon + 1, "0123456789");
    const unsigned long port = strtoul(colon + 1, NULL, 10);
    return count >= 1 && count <= 5 && colon[1 + count] == '\0' && port >= 1 && port <= UINT16_MAX;
}

/* A header carries nothing else, and gRPC refuses such a call as a caller's mistake. */
static seam_status token_check(const char *token, seam_error *err) {
    for (size_t i = 0; token != NULL && token[i] != '\0'; i++) {
        if (token[i] < 0x20 || token[i] > 0x7e) {
            return seam_error_set(err, SEAM_E_ARG,
                                  "token: byte %zu is no printable ASCII character, which a bearer "
                                  "key is made of (seam: --token-file, variable SEAM_TOKEN)",
                                  i + 1);
        }
    }
    return SEAM_OK;
}

static seam_status options_check(const seam_client_options *options, seam_error *err) {
    if (options == NULL || options->struct_bytes != sizeof *options) {
        return seam_error_set(err, SEAM_E_ARG, "options: start from SEAM_CLIENT_OPTIONS_INIT");
    }
    if (!address_is_valid(options->address)) {
        return seam_error_set(err, SEAM_E_ARG, "address: '%s' is not host:port, port 1 to 65535",
                              options->address == NULL ? "" : options->address);
    }
    if (options->plaintext && !options->plaintext_forced &&
        !seam_address_is_loopback(options->address)) {
        return seam_error_set(err, SEAM_E_ARG,
                              "plaintext: %s is not the loopback address; use TLS or force it",
                              options->address);
    }
    if (options->plaintext && (options->ca_file != NULL || options->cert_file != NULL)) {
        return seam_error_set(
            err, SEAM_E_ARG,
            "plaintext: certificates have no use without TLS (seam: --ca or --cert, "
            "or --insecure)");
    }
    if (options->credit_bytes != 0 && (options->credit_bytes < SEAM_CREDIT_BYTES_MIN ||
                                       options->credit_bytes > SEAM_CREDIT_BYTES_MAX)) {
        return seam_error_set(err, SEAM_E_ARG, "credit_bytes: %llu is not in %u..%u",
                              (unsigned long long)options->credit_bytes, SEAM_CREDIT_BYTES_MIN,
                              SEAM_CREDIT_BYTES_MAX);
    }
    if ((options->cert_file == NULL) != (options->key_file == NULL)) {
        return seam_error_set(err, SEAM_E_ARG,
                              "cert_file and key_file go together (seam: --cert, --key)");
    }
    return token_check(options->token, err);
}

void seam_client_bytes(uint64_t *ret_sent, uint64_t *ret_received, const seam_client *client) {
    seam_transport_counts counts = {0};
    if (client != NULL) {
        counts = client->net->counts(client->transport);
    }
    if (ret_sent != NULL) {
        *ret_sent = counts.bytes_sent;
    }
    if (ret_received != NULL) {
        *ret_received = counts.bytes_received;
    }
}

/* Calls of several threads may end at once: the quickest stays. */
static void rtt_note(seam_client *client, double seconds) {
    double known = client->rtt_seconds;
    while ((known == 0.0 || seconds < known) &&
           !atomic_compare_exchange_weak(&client->rtt_seconds, &known, seconds)) {
    }
}

static bool is_cancelled(void *session) {
    return seam_session_check_cancel(session, NULL) != SEAM_OK;
}

/* What changes something there carries a request_id, so that a repetition changes nothing more. */
static seam_status call_until_answered(seam_buffer *ret_response, seam_client *client,
                                       const seam_client_request *request,
                                       const seam_buffer *packed, seam_error *err) {
    seam_repeat repeat = {
        .method = request->method,
        .session = request->session,
        .at_once = request->at_once,
        .begin_ms = seam_now_ms(),
    };
    for (;;) {
        seam_unary_call call = {.method = request->method,
                                .request = packed->data,
                                .request_count = packed->count,
                                .stop = request->session != NULL ? is_cancelled : NULL,
                                .stop_user = request->session};
        const double begin = seam_now_seconds();
        const seam_status st = client->net->unary(client->transport, &call, ret_response, err);
        const double seconds = seam_now_seconds() - begin;
        if (st == SEAM_OK) {
            rtt_note(client, seconds);
            return SEAM_OK;
        }
        if (request->session != NULL) {
            SEAM_TRY(seam_session_check_cancel(request->session, err)); /* it says so better */
        }
        repeat.has_hung = repeat.has_hung || seconds * 1e3 >= AT_ONCE_MS;
        SEAM_TRY(seam_repeat_wait(&repeat, client, st, call.retry_after_ms, err));
    }
}

seam_status seam_client_ask(ProtobufCMessage **ret_message, seam_client *client,
                            const seam_client_request *request, seam_error *err) {
    seam_buffer packed = {0}, response = {0};
    seam_status st = seam_message_pack(&packed, request->message);
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "out of memory");
    }
    st = call_until_answered(&response, client, request, &packed, err);
    if (st == SEAM_OK) {
        *ret_message =
            protobuf_c_message_unpack(request->answer, NULL, response.count, response.data);
        if (*ret_message == NULL) {
            st = seam_error_set(err, SEAM_E_FORMAT, "%s: the answer is no valid message",
                                request->method);
        }
    }
    seam_buffer_deinit(&response);
    seam_buffer_deinit(&packed);
    return st;
}

seam_status seam_client_call(ProtobufCMessage **ret_message, seam_client *client,
                             const char *method, const ProtobufCMessage *request,
                             const ProtobufCMessageDescriptor *answer, seam_error *err) {
    const seam_client_request asked = {.method = method, .message = request, .answer = answer};
    return seam_client_ask(ret_message, client, &asked, err);
}

double seam_client_rtt_seconds(const seam_client *client) {
    return client != NULL ? client->rtt_seconds : 0.0;
}

seam_status seam_client_server_info(seam_server_info *ret_info, seam_client *client,
                                    seam_error *err) {
    if (ret_info == NULL || client == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "ret_info or client is NULL");
    }
    const Seam__V1__GetServerInfoRequest request = SEAM__V1__GET_SERVER_INFO_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    SEAM_TRY(seam_client_call(&message, client, "GetServerInfo", &request.base,
                              &seam__v1__get_server_info_response__descriptor, err));
    const Seam__V1__GetServerInfoResponse *const r =
        (const Seam__V1__GetServerInfoResponse *)message;
    *ret_info = (seam_server_info){
        .memory_bytes_total = r->memory_bytes_total,
        .memory_bytes_free = r->memory_bytes_free,
        .session_count = r->session_count,
        .rows_max = r->rows_max,
        .allows_labels = r->allows_labels,
        .allows_text = r->allows_text,
    };
    copy(ret_info->version, sizeof ret_info->version, r->version);
    copy(ret_info->device, sizeof ret_info->device, r->device);
    protobuf_c_message_free_unpacked(message, NULL);
    return SEAM_OK;
}

seam_status seam_client_models(seam_model_info *ret_models, uint32_t *ret_count,
                               seam_client *client, uint32_t capacity, seam_error *err) {
    if (ret_count == NULL || client == NULL || (ret_models == NULL && capacity > 0)) {
        return seam_error_set(err, SEAM_E_ARG, "ret_models, ret_count or client is NULL");
    }
    const Seam__V1__ListModelsRequest request = SEAM__V1__LIST_MODELS_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    SEAM_TRY(seam_client_call(&message, client, "ListModels", &request.base,
                              &seam__v1__list_models_response__descriptor, err));
    const Seam__V1__ListModelsResponse *const r = (const Seam__V1__ListModelsResponse *)message;
    for (size_t i = 0; i < r->n_models && i < capacity; i++) {
        const Seam__V1__ModelInfo *const m = r->models[i];
        ret_models[i] = (seam_model_info){
            .layers = m->layers,
            .hidden = m->hidden,
            .heads = m->heads,
            .kv_heads = m->kv_heads,
            .vocab = m->vocab,
            .context_max = m->context_max,
            .identity = m->identity,
            .weight_bytes = m->weight_bytes,
        };
        copy(ret_models[i].id, sizeof ret_models[i].id, m->id);
        copy(ret_models[i].architecture, sizeof ret_models[i].architecture, m->architecture);
    }
    *ret_count = (uint32_t)r->n_models;
    protobuf_c_message_free_unpacked(message, NULL);
    return SEAM_OK;
}

seam_status seam_client_sessions(seam_client *client, seam_session_visit_fn *visit, void *user,
                                 seam_error *err) {
    if (client == NULL || visit == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "client or visit is NULL");
    }
    char token[256] = "";
    for (uint32_t page = 0; page < PAGES_MAX; page++) {
        Seam__V1__ListSessionsRequest request = SEAM__V1__LIST_SESSIONS_REQUEST__INIT;
        request.page_token = token;
        ProtobufCMessage *message = NULL;
        SEAM_TRY(seam_client_call(&message, client, "ListSessions", &request.base,
                                  &seam__v1__list_sessions_response__descriptor, err));
        const Seam__V1__ListSessionsResponse *const r =
            (const Seam__V1__ListSessionsResponse *)message;
        for (size_t i = 0; i < r->n_sessions; i++) {
            seam_session_info info;
            seam_session_info_fill(&info, r->sessions[i]);
            visit(user, &info);
        }
        copy(token, sizeof token, r->next_page_token);
        protobuf_c_message_free_unpacked(message, NULL);
        if (token[0] == '\0') {
            return SEAM_OK;
        }
    }
    return seam_error_set(err, SEAM_E_LIMIT, "ListSessions: more than %u pages", PAGES_MAX);
}

seam_status seam_client_delete_session(seam_client *client, const char *session_id,
                                       const uint8_t *secret, seam_error *err) {
    if (client == NULL || session_id == NULL || secret == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "client, session_id or secret is NULL");
    }
    Seam__V1__DeleteSessionRequest request = SEAM__V1__DELETE_SESSION_REQUEST__INIT;
    char request_id[33];
    seam_request_id(request_id);
    request.request_id = request_id;
    request.session_id = (char *)(uintptr_t)session_id;
    request.session_secret.data = (uint8_t *)(uintptr_t)secret;
    request.session_secret.len = SEAM_SECRET_BYTES;
    ProtobufCMessage *message = NULL;
    SEAM_TRY(seam_client_call(&message, client, "DeleteSession", &request.base,
                              &seam__v1__delete_session_response__descriptor, err));
    protobuf_c_message_free_unpacked(message, NULL);
    return SEAM_OK;
}

void seam_session_info_fill(seam_session_info *ret_info, const Seam__V1__Session *session) {
    static const char *const states[] = {"unknown", "ready",   "stepping", "detached",
                                         "parked",  "expired", "frozen"};
    *ret_info = (seam_session_info){
        .committed_step_count = session->committed_step_count,
        .memory_bytes = session->memory_bytes,
        .tokens = session->tokens,
    };
    copy(ret_info->id, sizeof ret_info->id, session->id);
    const size_t state = (size_t)session->state;
    copy(ret_info->state, sizeof ret_info->state,
         states[state < sizeof states / sizeof *states ? state : 0]);
    if (session->config == NULL) {
        return;
    }
    copy(ret_info->name, sizeof ret_info->name, session->config->name);
    copy(ret_info->model, sizeof ret_info->model, session->config->model);
    if (session->config->codec != NULL) {
        const char *const codec = seam_codec_name((seam_codec_id)session->config->codec->codec);
        copy(ret_info->codec, sizeof ret_info->codec, codec != NULL ? codec : "unknown");
    }
    if (session->config->lora != NULL) {
        ret_info->lora_rank = session->config->lora->rank;
    }
}

/* ---- Small things ---- */

static void copy(char *ret, size_t capacity, const char *text) {
    const size_t count = strnlen(text, capacity - 1);
    memcpy(ret, text, count);
    ret[count] = '\0';
}

void seam_client_log(const seam_client *client, const char *format, ...) {
    if (client->log == NULL) {
        return;
    }
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    client->log(client->log_user, text);
}

uint32_t seam_random_u32(void) {
    uint32_t value = 0;
    while (getrandom(&value, sizeof value, 0) != (ssize_t)sizeof value) {
        SEAM_ASSERT(errno == EINTR);
    }
    return value;
}

void seam_request_id(char ret_id[33]) {
    for (int i = 0; i < 4; i++) {
        snprintf(ret_id + (ptrdiff_t)8 * i, 9, "%08x", seam_random_u32());
    }
}

uint64_t seam_now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

double seam_now_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

seam_status seam_message_pack(seam_buffer *ret_bytes, const ProtobufCMessage *message) {
    const size_t count = protobuf_c_message_get_packed_size(message);
    ret_bytes->count = 0;
    SEAM_TRY(seam_buffer_reserve(ret_bytes, count));
    ret_bytes->count = protobuf_c_message_pack(message, ret_bytes->data);
    return SEAM_OK;
}
