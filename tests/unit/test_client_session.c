/* Goal: what a server states of a session is believed as far as it is that of its hash, and labels
 * leave only where the caller of this process has said so.
 * Method: a transport that answers as a server does, and lies where it is told to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config_hash.h"
#include "core.h"

#define CHANNELS 4u

/* The server: the config of its one session, packed, and what it says instead. */
static struct {
    uint8_t config[512];
    size_t config_bytes;
    Seam__V1__Topology topology; /* stated; 0: the session's */
    uint64_t config_hash;        /* stated; 0: that of the stated config */
    uint64_t credit_bytes;
    bool refuses_more;       /* what comes behind an Attach is beyond a limit */
    uint32_t refusals;       /* Attaches that are refused before one is taken */
    uint64_t retry_after_ms; /* what a refusal asks for */
    bool reachable;          /* by a stream */
    uint32_t unary_losses;   /* calls that are lost before one is answered */
    seam_status unary_loss;  /* as what */
    uint32_t lost_count;
    uint8_t lost[512]; /* the first lost request */
    size_t lost_bytes;
    uint32_t stream_count, sent_count;
    bool has_attached; /* on the stream at hand */
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
    Seam__V1__Session session = SEAM__V1__SESSION__INIT;
    Seam__V1__Site sites[4];
    Seam__V1__Site *list[4];
    for (uint32_t i = 0; i < 4; i++) {
        seam__v1__site__init(&sites[i]);
        sites[i].id = i;
        sites[i].direction = (Seam__V1__SiteDirection)(i + 1);
        sites[i].channels = CHANNELS;
        sites[i].paired_forward_site = i == 0 || i == 3 ? 0 : 1;
        sites[i].codec = SEAM__V1__CODEC__CODEC_F32;
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

static seam_status fake_unary(seam_transport *transport, const char *method, const uint8_t *request,
                              size_t request_count, seam_buffer *ret_response, seam_error *err) {
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
        return seam_error_set(err, world.unary_loss, "the call was lost");
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
    (void)method;
    world.stream_count++;
    world.has_attached = false;
    if (!world.reachable) {
        return seam_error_set(err, SEAM_E_UNAVAILABLE, "nobody there");
    }
    *ret_call = (seam_stream_call *)(void *)&stream_token;
    return SEAM_OK;
}

static seam_status fake_stream_send(seam_stream_call *call, const uint8_t *head, size_t head_count,
                                    const uint8_t *body, size_t body_count, seam_error *err) {
    (void)call;
    (void)head;
    (void)head_count;
    (void)body;
    (void)body_count;
    (void)err;
    world.sent_count++;
    return SEAM_OK;
}

static seam_status fake_stream_receive(seam_stream_call *call, seam_buffer *ret_bytes,
                                       bool *ret_message, seam_error *err) {
    (void)call;
    if (world.stream_count <= world.refusals) {
        return seam_error_set(err, SEAM_E_LIMIT, "no room");
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
    response.body_case = SEAM__V1__TRAIN_RESPONSE__BODY_ATTACHED;
    response.attached = &attached;
    answer(ret_bytes, &response.base);
    *ret_message = world.has_attached = true;
    return SEAM_OK;
}

static uint64_t fake_stream_retry_after_ms(const seam_stream_call *call) {
    (void)call;
    const bool refused =
        world.has_attached ? world.refuses_more : world.stream_count <= world.refusals;
    return refused ? world.retry_after_ms : 0;
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
                                        .stream_receive = fake_stream_receive,
                                        .stream_retry_after_ms = fake_stream_retry_after_ms,
                                        .stream_close = fake_stream_close,
                                        .counts = fake_counts};
static seam_client client = {.net = &fake, .credit_bytes = SEAM_CREDIT_BYTES_DEFAULT};

static int setup(void **state) {
    (void)state;
    memset(&world, 0, sizeof world);
    client.reconnect_timeout_ms = 0;
    client.rtt_seconds = 0.0;
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

static void test_create__stated_hash_of_another_config__refused(void **state) {
    (void)state;
    seam_session *session = NULL;
    seam_session_options options = SEAM_SESSION_OPTIONS_INIT;
    seam_error err = {0};
    options.model = "m";
    options.codec = "f32";
    world.config_hash = 7;
    assert_int_equal(seam_session_create(&session, &client, &options, &err), SEAM_E_FORMAT);
    says(&err, "session.config_hash");
    world.config_hash = 0;
    world.topology = SEAM__V1__TOPOLOGY__TOPOLOGY_VANILLA; /* with its own hash */
    assert_int_equal(seam_session_create(&session, &client, &options, &err), SEAM_E_FORMAT);
    says(&err, "session.config_hash");
    assert_null(session);
}

static void test_attach__config_is_not_of_its_hash__refused(void **state) {
    (void)state;
    seam_session *session = create("u_shaped", NULL);
    seam_error err = {0};
    world.config_hash = session->config_hash;
    seam_session_close(session);
    session = NULL;
    world.topology = SEAM__V1__TOPOLOGY__TOPOLOGY_VANILLA;
    assert_int_equal(seam_session_attach(&session, &client, "s1", secret, &err), SEAM_E_FORMAT);
    says(&err, "session.config_hash");
    assert_null(session);
    world.topology = SEAM__V1__TOPOLOGY__TOPOLOGY_U_SHAPED;
    assert_int_equal(seam_session_attach(&session, &client, "s1", secret, &err), SEAM_OK);
    seam_session_close(session);
}

static void test_step_begin__taken_up_without_consent__denied_before_a_stream(void **state) {
    (void)state;
    seam_session *session = create("vanilla", "labels");
    seam_error err = {0};
    assert_int_equal(begin(session, &err), SEAM_E_UNAVAILABLE); /* its options said it */
    assert_int_equal(world.stream_count, 1);
    seam_session_close(session);
    assert_int_equal(seam_session_attach(&session, &client, "s1", secret, &err), SEAM_OK);
    assert_string_equal(seam_session_topology(session), "vanilla");
    assert_int_equal(begin(session, &err), SEAM_E_DENIED);
    says(&err, "labels");
    assert_int_equal(seam_session_consent(session, "none", &err), SEAM_OK);
    assert_int_equal(begin(session, &err), SEAM_E_DENIED);
    assert_int_equal(seam_session_consent(session, "all", &err), SEAM_E_ARG);
    says(&err, "consent");
    assert_int_equal(begin(session, &err), SEAM_E_DENIED);
    assert_int_equal(world.stream_count, 1);
    assert_int_equal(seam_session_consent(session, "labels", &err), SEAM_OK);
    assert_int_equal(begin(session, &err), SEAM_E_UNAVAILABLE);
    assert_int_equal(world.stream_count, 2);
    seam_session_close(session);
}

static void test_resume__other_topology__journal_is_not_its(void **state) {
    (void)state;
    char folder[] = "/tmp/seam-session-XXXXXX";
    assert_non_null(mkdtemp(folder));
    seam_session *session = create("u_shaped", "labels"); /* allowed, and still not asked for */
    seam_error err = {0};
    assert_int_equal(seam_session_journal(session, folder, &err), SEAM_OK);
    const uint64_t hash = session->config_hash;
    seam_session_close(session);
    session = NULL;
    world.topology = SEAM__V1__TOPOLOGY__TOPOLOGY_VANILLA;
    assert_true(seam_session_resume(&session, &client, "s1", secret, folder, &err) != SEAM_OK);
    says(&err, "another session");
    world.config_hash = hash;
    assert_int_equal(seam_session_resume(&session, &client, "s1", secret, folder, &err),
                     SEAM_E_FORMAT);
    says(&err, "session.config_hash");
    assert_null(session);
    world.topology = 0;
    assert_int_equal(seam_session_resume(&session, &client, "s1", secret, folder, &err), SEAM_OK);
    seam_session_close(session);
    static const char *const names[] = {"journal.bin", "journal.notes", "journal.lock"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(folder), 0);
}

static void test_attached__credit_below_two_frames__refused(void **state) {
    (void)state;
    static const struct {
        uint64_t credit_bytes;
        seam_status st;
    } cases[] = {{0, SEAM_OK},
                 {1, SEAM_E_FORMAT},
                 {SEAM_CREDIT_BYTES_MIN - 1, SEAM_E_FORMAT},
                 {SEAM_CREDIT_BYTES_MIN, SEAM_OK}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        setup(NULL);
        world.reachable = true;
        world.credit_bytes = cases[i].credit_bytes;
        seam_session *const session = create("u_shaped", NULL);
        seam_error err = {0};
        assert_int_equal(begin(session, &err), cases[i].st);
        if (cases[i].st != SEAM_OK) {
            says(&err, "attached.credit_bytes");
        }
        assert_int_equal(world.sent_count, cases[i].st == SEAM_OK ? 2 : 1); /* Attach, StepBegin */
        seam_session_close(session);
    }
}

/* A limit with RetryInfo passes: no attach before its time, and none after the user's. */
static void test_attach__refused_with_retry_info__waits_and_goes_on(void **state) {
    (void)state;
    static const struct {
        uint64_t retry_after_ms;
        uint32_t reconnect_ms;
        seam_status st;
        uint32_t streams;
        const char *text;
    } cases[] = {{300, 60000, SEAM_OK, 3, ""},
                 {0, 60000, SEAM_E_LIMIT, 1, "no room"},
                 {5000, 4000, SEAM_E_LIMIT, 1, "given up"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        setup(NULL);
        world.reachable = true;
        world.refusals = 2;
        world.retry_after_ms = cases[i].retry_after_ms;
        client.reconnect_timeout_ms = cases[i].reconnect_ms;
        seam_session *const session = create("u_shaped", NULL);
        seam_error err = {0};
        const uint64_t begin_ms = seam_now_ms();
        assert_int_equal(begin(session, &err), cases[i].st);
        const uint64_t ms = seam_now_ms() - begin_ms;
        assert_int_equal(world.stream_count, cases[i].streams);
        assert_true(cases[i].st == SEAM_OK ? ms >= 2 * cases[i].retry_after_ms : ms < 1000);
        says(&err, cases[i].text);
        seam_session_close(session);
    }
}

/* The same of what was sent does not pass. */
static void test_step__beyond_a_limit__stops_whatever_retry_info_says(void **state) {
    (void)state;
    static const float x[2 * CHANNELS];
    float y[CHANNELS];
    world.reachable = world.refuses_more = true;
    world.retry_after_ms = 50;
    client.reconnect_timeout_ms = 60000;
    seam_session *const session = create("u_shaped", NULL);
    seam_error err = {0};
    assert_int_equal(begin(session, &err), SEAM_OK);
    assert_int_equal(seam_step_forward(session, y, 0, x, &err), SEAM_E_LIMIT);
    says(&err, "micros");
    assert_int_equal(world.stream_count, 1);
    seam_session_close(session);
}

static seam_session *create_auto(void) {
    seam_session *session = NULL;
    seam_session_options options = SEAM_SESSION_OPTIONS_INIT;
    seam_error err = {0};
    options.model = "m";
    options.codec = "f32";
    options.rows_per_micro_max = 8;
    options.pipeline_depth = 4;
    options.pipeline_auto = true;
    assert_int_equal(seam_session_create(&session, &client, &options, &err), SEAM_OK);
    return session;
}

static uint32_t announced_depth(const seam_session *session) {
    Seam__V1__TrainRequest *const request =
        seam__v1__train_request__unpack(NULL, session->step_begin.count, session->step_begin.data);
    assert_non_null(request);
    const uint32_t depth = request->step_begin->pipeline_depth;
    seam__v1__train_request__free_unpacked(request, NULL);
    return depth;
}

/* The third format lacks what a depth settles by, which comes last in it, and the caches' place at
 * the end. */
static void test_state_load__third_format__depth_has_not_settled(void **state) {
    (void)state;
    enum { SETTLED_AT = 184 + 8 + 192 + 8 * (4 * SEAM_RATE_STEPS + 5 + 5 + SEAM_DEPTH_STEPS) };
    seam_session *const session = create_auto();
    seam_buffer old = {0};
    session->depth.max = 3;
    session->depth.ahead = 2;
    session->depth.below = session->depth.below_most = 2;
    assert_int_equal(seam_state_save(&old, session), SEAM_OK);
    session->depth = (seam_depth){.max = 4, .ahead = 4};
    assert_int_equal(seam_state_load(session, &old), SEAM_OK);
    assert_int_equal(session->depth.below + session->depth.below_most, 4);
    old.data[0] = 3;
    memmove(old.data + SETTLED_AT, old.data + SETTLED_AT + 16, old.count - SETTLED_AT - 16);
    old.count -= 16 + SEAM_REDO_PLACE_BYTES;
    session->depth = (seam_depth){.max = 4, .ahead = 4};
    assert_int_equal(seam_state_load(session, &old), SEAM_OK);
    assert_true(session->depth.max == 3 && session->depth.ahead == 2);
    assert_int_equal(session->depth.below + session->depth.below_most, 0);
    seam_buffer_deinit(&old);
    seam_session_close(session);
}

/* What the server was told it could give back is not asked for again, whatever an older record
 * says; by another process neither, which has read the newest record first. */
static void test_step_begin__settled_then_an_older_record__stays_settled(void **state) {
    (void)state;
    world.reachable = true;
    seam_error err = {0};
    seam_buffer older = {0}, newer = {0};
    seam_session *session = create_auto();
    session->depth.ahead = 4;
    assert_int_equal(seam_state_save(&older, session), SEAM_OK);
    assert_int_equal(begin(session, &err), SEAM_OK);
    assert_int_equal(announced_depth(session), 4);
    seam_session_close(session);
    session = create_auto();
    session->depth.max = session->depth.ahead = 2;
    assert_int_equal(seam_state_save(&newer, session), SEAM_OK);
    assert_int_equal(begin(session, &err), SEAM_OK);
    assert_int_equal(announced_depth(session), 2);
    seam_session_close(session);
    session = create_auto();
    assert_int_equal(seam_state_load(session, &newer), SEAM_OK);
    assert_int_equal(seam_state_load(session, &older), SEAM_OK);
    assert_int_equal(session->depth.max, 4);
    assert_int_equal(seam_session_ahead(session), 2);
    static const uint32_t sequence_rows[] = {2};
    static const uint8_t labelled[] = {1};
    const seam_step_micro micro = {
        .sequence_count = 1, .sequence_rows = sequence_rows, .labelled_rows = labelled};
    assert_int_equal(seam_step_begin_ahead(session, &micro, 1, 3, &err), SEAM_E_LIMIT);
    says(&err, "ahead: 3 is not in 1..2");
    assert_int_equal(begin(session, &err), SEAM_OK);
    assert_int_equal(announced_depth(session), 2);
    seam_session_close(session);
    seam_buffer_deinit(&older);
    seam_buffer_deinit(&newer);
}

/* The first format has the same words but for three pieces, the last of them at the end. */
static void to_first_format(seam_buffer *state) {
    enum {
        USED_AT = 184, /* format, options, values of both sites: then values_used_in */
        ARBITER = 192, /* bytes of the arbiter behind it */
        RATE = 8 * (4 * SEAM_RATE_STEPS + 5),
        DEPTH = 8 * (7 + SEAM_DEPTH_STEPS),
    };
    const size_t depth_at = USED_AT + 8 + ARBITER + RATE;
    assert_true(state->count > depth_at + DEPTH);
    state->data[0] = 1;
    memmove(state->data + depth_at, state->data + depth_at + DEPTH,
            state->count - depth_at - DEPTH);
    state->count -= DEPTH + SEAM_REDO_PLACE_BYTES;
    memmove(state->data + USED_AT, state->data + USED_AT + 8, state->count - USED_AT - 8);
    state->count -= 8;
}

static void test_state_load__first_format_before_a_step__weights_count_every_row(void **state) {
    (void)state;
    seam_session *const session = create("u_shaped", NULL);
    seam_buffer now = {0}, old = {0};
    assert_int_equal(seam_state_save(&now, session), SEAM_OK);
    assert_int_equal(seam_buffer_add(&old, now.data, now.count), SEAM_OK);
    to_first_format(&old);
    for (int i = 0; i < 2; i++) { /* again: back to step 0 once more */
        assert_int_equal(seam_state_load(session, &old), SEAM_OK);
        seam_arbiter_weigh(&session->arbiter, 3, 5, 2);
        assert_int_equal(session->arbiter.values_in, 5);
        assert_int_equal(session->arbiter.values_used_in, 5);
    }
    assert_int_equal(seam_state_load(session, &now), SEAM_OK);
    seam_arbiter_weigh(&session->arbiter, 3, 5, 2);
    assert_int_equal(session->arbiter.values_in, 3);
    assert_int_equal(session->arbiter.values_used_in, 5);
    seam_buffer_deinit(&old);
    seam_buffer_deinit(&now);
    seam_session_close(session);
}

static void lose(uint32_t count, seam_status as, uint32_t reconnect_timeout_ms) {
    world.unary_losses = count;
    world.unary_loss = as;
    client.reconnect_timeout_ms = reconnect_timeout_ms;
}

static void test_create__server_away_for_two_calls__same_request_again(void **state) {
    (void)state;
    lose(2, SEAM_E_UNAVAILABLE, 5000);
    seam_session *const session = create("u_shaped", NULL);
    assert_int_equal(world.lost_count, 2);
    seam_session_close(session);
}

static void create_fails(seam_status expected) {
    seam_session *session = NULL;
    seam_session_options options = SEAM_SESSION_OPTIONS_INIT;
    seam_error err = {0};
    options.model = "m";
    options.codec = "f32";
    assert_int_equal(seam_session_create(&session, &client, &options, &err), expected);
    says(&err, "the call was lost");
}

static void test_create__server_stays_away__told_within_the_reconnect_time(void **state) {
    (void)state;
    lose(UINT32_MAX, SEAM_E_UNAVAILABLE, 400);
    const uint64_t begin_ms = seam_now_ms();
    create_fails(SEAM_E_UNAVAILABLE);
    const uint64_t lost_ms = seam_now_ms() - begin_ms;
    assert_true(world.lost_count >= 2);
    assert_true(lost_ms >= 400 && lost_ms < 4000);
}

static void test_create__refused__not_again(void **state) {
    (void)state;
    lose(UINT32_MAX, SEAM_E_DENIED, 5000);
    create_fails(SEAM_E_DENIED);
    assert_int_equal(world.lost_count, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_create__stated_hash_of_another_config__refused, setup),
        cmocka_unit_test_setup(test_attach__config_is_not_of_its_hash__refused, setup),
        cmocka_unit_test_setup(test_step_begin__taken_up_without_consent__denied_before_a_stream,
                               setup),
        cmocka_unit_test_setup(test_resume__other_topology__journal_is_not_its, setup),
        cmocka_unit_test_setup(test_state_load__first_format_before_a_step__weights_count_every_row,
                               setup),
        cmocka_unit_test_setup(test_state_load__third_format__depth_has_not_settled, setup),
        cmocka_unit_test_setup(test_step_begin__settled_then_an_older_record__stays_settled, setup),
        cmocka_unit_test_setup(test_attached__credit_below_two_frames__refused, setup),
        cmocka_unit_test_setup(test_attach__refused_with_retry_info__waits_and_goes_on, setup),
        cmocka_unit_test_setup(test_step__beyond_a_limit__stops_whatever_retry_info_says, setup),
        cmocka_unit_test_setup(test_create__server_away_for_two_calls__same_request_again, setup),
        cmocka_unit_test_setup(test_create__server_stays_away__told_within_the_reconnect_time,
                               setup),
        cmocka_unit_test_setup(test_create__refused__not_again, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
