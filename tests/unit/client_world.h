/* A server for tests of the client: a transport that answers as one does, and lies where `world`
 * says so.  Included once by each program. */
#ifndef SEAM_TEST_CLIENT_WORLD_H
#define SEAM_TEST_CLIENT_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "config_hash.h"
#include "core.h"

#define CHANNELS 4u

/* The server: the config of its one session, packed, and what it says instead. */
static struct {
    uint8_t config[512];
    size_t config_bytes;
    Seam__V1__Topology topology; /* stated; 0: the session's */
    Seam__V1__Codec codec;       /* of its sites; 0: f32 */
    uint32_t bits;               /* of its config, stated; 0: the session's */
    uint64_t config_hash;        /* stated; 0: that of the stated config */
    uint64_t credit_bytes;
    uint32_t capabilities[5]; /* version, least and most bits, chunk, depth; version 0: none */
    uint32_t alloc_version;   /* stated of site 0 with hash 5; 0: not */
    uint8_t attach[1024];     /* what came first on the newest stream */
    size_t attach_bytes;
    bool refuses_more;       /* what comes behind an Attach is beyond a limit */
    uint32_t refusals;       /* Attaches that are refused before one is taken */
    uint64_t retry_after_ms; /* what a refusal asks for */
    bool reachable;          /* by a stream */
    uint32_t unary_losses;   /* calls that are lost before one is answered */
    seam_status unary_loss;  /* as what */
    uint64_t unary_retry_after_ms;
    uint32_t lost_count;
    uint8_t lost[512]; /* the first lost request */
    size_t lost_bytes;
    uint32_t stream_count, sent_count;
    uint64_t steps;        /* of the session, as an inference is told */
    bool has_attached;     /* on the stream at hand */
    bool imports;          /* it is of ImportAdapter */
    bool infers;           /* it is of Forward: the first one breaks, the next ones are refused */
    seam_session *cancels; /* while an answer is awaited, of a file's stream or a unary call */
    bool is_cancelled;     /* the stream at hand */
} world;

static uint8_t stream_token; /* its address stands for a stream */
static const uint8_t secret[SEAM_SECRET_BYTES] = {1};

static void answer(seam_buffer *ret, const ProtobufCMessage *message) {
    assert_int_equal(seam_message_pack(ret, message), SEAM_OK);
}

static void answer_session(seam_buffer *ret, bool created) {
    Seam__V1__SessionConfig *const config =
        seam__v1__session_config__unpack(NULL, world.config_bytes, world.config);
    assert_non_null(config);
    config->topology = world.topology != 0 ? world.topology : config->topology;
    config->codec->bits = world.bits != 0 ? world.bits : config->codec->bits;
    Seam__V1__Session session = SEAM__V1__SESSION__INIT;
    Seam__V1__Site sites[4];
    Seam__V1__Site *list[4];
    for (uint32_t i = 0; i < 4; i++) {
        seam__v1__site__init(&sites[i]);
        sites[i].id = i;
        sites[i].direction = (Seam__V1__SiteDirection)(i + 1);
        sites[i].channels = CHANNELS;
        sites[i].paired_forward_site = i == 0 || i == 3 ? 0 : 1;
        sites[i].codec = world.codec != 0 ? world.codec : SEAM__V1__CODEC__CODEC_F32;
        list[i] = &sites[i];
    }
    session.id = (char[]){"s1"};
    session.config = config;
    session.config_hash = world.config_hash != 0 ? world.config_hash : seam_config_hash(config);
    session.n_sites = 4;
    session.sites = list;
    Seam__V1__CreateSessionResponse create = SEAM__V1__CREATE_SESSION_RESPONSE__INIT;
    Seam__V1__GetSessionResponse get = SEAM__V1__GET_SESSION_RESPONSE__INIT;
    create.session = get.session = &session;
    create.session_secret = (ProtobufCBinaryData){sizeof secret, (uint8_t *)(uintptr_t)secret};
    answer(ret, created ? &create.base : &get.base);
    seam__v1__session_config__free_unpacked(config, NULL);
}

static seam_status fake_unary(seam_transport *transport, seam_unary_call *call,
                              seam_buffer *ret_response, seam_error *err) {
    const char *const method = call->method;
    const uint8_t *const request = call->request;
    const size_t request_count = call->request_count;
    (void)transport;
    if (world.lost_count > 0 && strcmp(method, "CreateSession") == 0) {
        assert_int_equal(request_count, world.lost_bytes);
        assert_memory_equal(request, world.lost, request_count);
    }
    if (world.lost_count < world.unary_losses) {
        assert_true(request_count <= sizeof world.lost);
        memcpy(world.lost, request, request_count);
        world.lost_bytes = request_count;
        world.lost_count++;
        call->retry_after_ms = world.unary_retry_after_ms;
        return seam_error_set(err, world.unary_loss, "the call was lost");
    }
    if (world.cancels != NULL) {
        assert_false(call->stop(call->stop_user));
        seam_session_cancel(world.cancels);
        assert_true(call->stop(call->stop_user));
        return seam_error_set(err, SEAM_E_CANCELLED, "nothing comes");
    }
    if (strcmp(method, "ListModels") == 0) {
        Seam__V1__ListModelsResponse models = SEAM__V1__LIST_MODELS_RESPONSE__INIT;
        Seam__V1__ModelInfo model = SEAM__V1__MODEL_INFO__INIT;
        Seam__V1__ModelInfo *list[1] = {&model};
        model.id = (char[]){"m"};
        model.identity = 5;
        models.n_models = 1;
        models.models = list;
        answer(ret_response, &models.base);
        return SEAM_OK;
    }
    const bool created = strcmp(method, "CreateSession") == 0;
    if (created) {
        Seam__V1__CreateSessionRequest *const r =
            seam__v1__create_session_request__unpack(NULL, request_count, request);
        assert_non_null(r);
        world.config_bytes = seam__v1__session_config__get_packed_size(r->config);
        assert_true(world.config_bytes <= sizeof world.config);
        (void)seam__v1__session_config__pack(r->config, world.config);
        seam__v1__create_session_request__free_unpacked(r, NULL);
    }
    answer_session(ret_response, created);
    return SEAM_OK;
}

static seam_status fake_stream_open(seam_stream_call **ret_call, seam_transport *transport,
                                    const char *method, seam_error *err) {
    (void)transport;
    world.imports = strcmp(method, "ImportAdapter") == 0;
    world.infers = strcmp(method, "Forward") == 0;
    world.stream_count++;
    world.has_attached = world.is_cancelled = false;
    if (!world.reachable) {
        return seam_error_set(err, SEAM_E_UNAVAILABLE, "nobody there");
    }
    *ret_call = (seam_stream_call *)(void *)&stream_token;
    return SEAM_OK;
}

static seam_status fake_stream_send(seam_stream_call *call, const uint8_t *head, size_t head_count,
                                    const uint8_t *body, size_t body_count, seam_error *err) {
    (void)call;
    (void)body;
    (void)body_count;
    (void)err;
    if (!world.has_attached) {
        assert_true(head_count <= sizeof world.attach);
        memcpy(world.attach, head, head_count);
        world.attach_bytes = head_count;
    }
    world.sent_count++;
    return SEAM_OK;
}

/* Opened, and no answer to a request. */
static seam_status inference_receive(seam_buffer *ret_bytes, bool *ret_message, seam_error *err) {
    if (world.has_attached) {
        return seam_error_set(err, world.stream_count == 1 ? SEAM_E_UNAVAILABLE : SEAM_E_DENIED,
                              "no answer on stream %u", world.stream_count);
    }
    if (world.stream_count > 1 && world.stream_count <= 1 + world.refusals) {
        return seam_error_set(err, SEAM_E_LIMIT, "no room");
    }
    Seam__V1__GenerateResponse response = SEAM__V1__GENERATE_RESPONSE__INIT;
    Seam__V1__GenerateOpened opened = SEAM__V1__GENERATE_OPENED__INIT;
    response.body_case = SEAM__V1__GENERATE_RESPONSE__BODY_OPENED;
    response.opened = &opened;
    opened.committed_step_count = world.steps;
    answer(ret_bytes, &response.base);
    *ret_message = world.has_attached = true;
    return SEAM_OK;
}

static seam_status fake_stream_receive(seam_stream_call *call, seam_buffer *ret_bytes,
                                       bool *ret_message, seam_error *err) {
    (void)call;
    if (world.cancels != NULL) {
        seam_session_cancel(world.cancels);
        return seam_error_set(err, world.is_cancelled ? SEAM_E_CANCELLED : SEAM_E_DEADLINE,
                              "nothing comes");
    }
    if (world.infers) {
        return inference_receive(ret_bytes, ret_message, err);
    }
    if (world.stream_count <= world.refusals) {
        return seam_error_set(err, SEAM_E_LIMIT, "no room");
    }
    if (world.imports) {
        Seam__V1__ImportAdapterResponse imported = SEAM__V1__IMPORT_ADAPTER_RESPONSE__INIT;
        imported.state_hash = 7;
        answer(ret_bytes, &imported.base);
        *ret_message = true;
        return SEAM_OK;
    }
    if (world.has_attached && world.refuses_more) {
        return seam_error_set(err, SEAM_E_LIMIT, "micros: too much");
    }
    if (world.has_attached) {
        return seam_error_set(err, SEAM_E_UNAVAILABLE, "nothing more comes");
    }
    Seam__V1__TrainResponse response = SEAM__V1__TRAIN_RESPONSE__INIT;
    Seam__V1__Attached attached = SEAM__V1__ATTACHED__INIT;
    attached.epoch = world.stream_count;
    attached.action = SEAM__V1__ATTACH_ACTION__ATTACH_ACTION_CONTINUE;
    attached.credit_bytes = world.credit_bytes;
    Seam__V1__Capabilities capabilities = SEAM__V1__CAPABILITIES__INIT;
    capabilities.protocol_version = world.capabilities[0];
    capabilities.bits_min = world.capabilities[1];
    capabilities.bits_max = world.capabilities[2];
    capabilities.chunk_bytes_max = world.capabilities[3];
    capabilities.pipeline_depth_max = world.capabilities[4];
    attached.capabilities = world.capabilities[0] != 0 ? &capabilities : NULL;
    Seam__V1__AllocVersion version = SEAM__V1__ALLOC_VERSION__INIT;
    Seam__V1__AllocVersion *versions[] = {&version};
    version.version = world.alloc_version;
    version.hash = 5;
    attached.n_allocations = world.alloc_version != 0;
    attached.allocations = versions;
    response.body_case = SEAM__V1__TRAIN_RESPONSE__BODY_ATTACHED;
    response.attached = &attached;
    answer(ret_bytes, &response.base);
    *ret_message = world.has_attached = true;
    return SEAM_OK;
}

static seam_status fake_stream_end(seam_stream_call *call, seam_error *err) {
    (void)call;
    (void)err;
    return SEAM_OK;
}

static uint64_t fake_stream_retry_after_ms(const seam_stream_call *call) {
    (void)call;
    if (world.infers) {
        return world.has_attached ? 0 : world.retry_after_ms;
    }
    const bool refused =
        world.has_attached ? world.refuses_more : world.stream_count <= world.refusals;
    return refused ? world.retry_after_ms : 0;
}

static void fake_stream_cancel(seam_stream_call *call) {
    (void)call;
    world.is_cancelled = true;
}

static void fake_stream_close(seam_stream_call *gift_call) {
    (void)gift_call;
}

static seam_transport_counts fake_counts(const seam_transport *transport) {
    (void)transport;
    return (seam_transport_counts){0};
}

static const seam_transport_ops fake = {.unary = fake_unary,
                                        .stream_open = fake_stream_open,
                                        .stream_send = fake_stream_send,
                                        .stream_end = fake_stream_end,
                                        .stream_receive = fake_stream_receive,
                                        .stream_retry_after_ms = fake_stream_retry_after_ms,
                                        .stream_cancel = fake_stream_cancel,
                                        .stream_close = fake_stream_close,
                                        .counts = fake_counts};
static seam_client client = {.net = &fake, .credit_bytes = SEAM_CREDIT_BYTES_DEFAULT};

static int setup(void **state) {
    (void)state;
    memset(&world, 0, sizeof world);
    client.reconnect_timeout_ms = 0;
    client.rtt_seconds = 0.0;
    client.log = NULL;
    client.stop = NULL;
    return 0;
}

static seam_session *create(const char *topology, const char *consent) {
    seam_session *session = NULL;
    seam_session_options options = SEAM_SESSION_OPTIONS_INIT;
    seam_error err = {0};
    options.model = "m";
    options.codec = "f32";
    options.topology = topology;
    options.consent = consent;
    options.rows_per_micro_max = 8;
    assert_int_equal(seam_session_create(&session, &client, &options, &err), SEAM_OK);
    return session;
}

static seam_status begin(seam_session *session, seam_error *err) {
    static const uint32_t sequence_rows[] = {2}, labels[] = {3};
    static const uint8_t labelled[] = {1};
    const seam_step_micro micro = {.sequence_count = 1,
                                   .sequence_rows = sequence_rows,
                                   .labelled_rows = labelled,
                                   .labels = labels};
    return seam_step_begin(session, &micro, 1, err);
}

static void says(const seam_error *err, const char *text) {
    if (strstr(err->text, text) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err->text, text);
    }
}

#endif
