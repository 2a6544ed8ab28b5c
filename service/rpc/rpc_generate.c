/* Forward and Generate: open, then request after request, one at a time.
 *
 * A request is computed with the adapter after the last Commit.  Where an Attach makes the session
 * load an earlier state its calls end before (seam_generates_end): no slot has keys of steps that
 * are undone.
 *
 * The two calls differ in their first message's meaning (a cache or none); their messages have the
 * same numbers, so both are read as GenerateRequest and answered as GenerateResponse. */
#include <string.h>

#include "arena.h"
#include "generator.h"
#include "log.h"
#include "rpc_methods.h"
#include "rpc_server.h"
#include "tensor_rx.h"
#include "try.h"
#include "walk.h"

#define OUTBOX_MESSAGES 2

typedef Seam__V1__GenerateRequest generate_request;

typedef struct generate {
    seam_session *session; /* a reference */
    seam_generator_options options;
    seam_generator *generator; /* NULL until the opening job is done */
    seam_memory_plan reserved;
    bool opened; /* GenerateOpened is due or sent */
    bool draining;
    generate_request *request; /* keeps the arrays of the layout */
    uint64_t request_next;
    bool rows_known; /* GenerateRows has come, its tensor is awaited */
    bool rx_open;
    seam_tensor_rx rx;
    const seam_reply *out_reply;
    uint32_t out_next;
} generate;

static void settle(seam_call *call) SEAM_ON_LOOP;
static bool is_gone(seam_call *call) SEAM_ON_LOOP;
static void generate_free(seam_call *call) SEAM_ON_LOOP;

static bool is_cached(const seam_call *call) {
    return strcmp(strrchr(call->method->path, '/'), "/Generate") == 0;
}

/* ---- open ---- */

SEAM_ON_GPU static seam_status open_run(seam_job *job, seam_stream *stream) {
    generate *g = ((seam_call *)job->user)->state;
    (void)stream;
    return seam_generator_create(&g->generator, &g->session->config, g->session->trainer,
                                 &g->options, &job->err);
}

SEAM_ON_LOOP static void job_post(seam_call *call,
                                  seam_status (*run)(seam_job *job, seam_stream *stream)) {
    generate *g = call->state;
    call->job.run = run;
    call->job.user = call;
    g->session->busy = true;
    if (seam_call_post(call) != SEAM_OK) {
        g->session->busy = false;
    }
}

/* Everything that GenerateOpen asks for, judged; memory is reserved. */
SEAM_ON_LOOP static seam_status open_read(generate *g, seam_call *call,
                                          const Seam__V1__GenerateOpen *open, bool *ret_wakes,
                                          grpc_byte_buffer *message, seam_error *err) {
    seam_sessions *sessions = seam_server_sessions(call->server);
    if (seam_server_is_draining(call->server)) {
        return seam_error_set(err, SEAM_E_UNAVAILABLE, "the server is stopping");
    }
    SEAM_TRY(seam_sessions_find(&g->session, sessions, open->session_id, open->session_secret.data,
                                open->session_secret.len, err));
    *ret_wakes = seam_call_wakes(call, message, g->session);
    if (*ret_wakes) {
        return SEAM_OK;
    }
    const seam_session_config *config = &g->session->config;
    if (config->codec.resend_parameters && !open->base_model) {
        return seam_error_set(err, SEAM_E_STATE,
                              "base_model: with resend_parameters the server has no adapter of "
                              "after the last step");
    }
    g->options = (seam_generator_options){
        .cached = is_cached(call),
        .base_model = open->base_model,
        .slot_count = is_cached(call) ? open->slot_count : 0,
        .positions_max =
            open->positions_max != 0 ? open->positions_max : seam_session_config_context(config),
        .rows_max = open->rows_max != 0 ? open->rows_max : config->limits.rows_max,
    };
    SEAM_TRY(seam_generator_options_check(&g->options, config,
                                          seam_sessions_limits(sessions).rows_max, err));
    seam_memory_plan plan = {0};
    if (seam_generator_plan(&plan, config, &g->options) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_LIMIT, "open: too large to address");
    }
    SEAM_TRY(seam_sessions_reserve(sessions, &plan, "stream", err));
    g->reserved = plan;
    return SEAM_OK;
}

SEAM_ON_LOOP static void on_open(seam_call *call, grpc_byte_buffer *message) {
    generate *g = call->state;
    seam_error err = {0};
    seam_status st = SEAM_OK;
    bool wakes = false;
    generate_request *request =
        (generate_request *)seam_message_unpack(&seam__v1__generate_request__descriptor, message);
    if (request == NULL) {
        st = seam_error_set(&err, SEAM_E_FORMAT, "GenerateRequest: malformed protobuf");
    } else if (request->body_case != SEAM__V1__GENERATE_REQUEST__BODY_OPEN) {
        st = seam_error_set(&err, SEAM_E_OUT_OF_SEQUENCE, "open: must be the first message");
    } else {
        st = open_read(g, call, request->open, &wakes, message, &err);
    }
    if (request != NULL) {
        seam__v1__generate_request__free_unpacked(request, NULL);
    }
    if (st != SEAM_OK) {
        seam_call_fail(call, st, &err);
    } else if (wakes) { /* the message comes again, to a call without state */
        generate_free(call);
    } else if (g->session->busy) {
        seam_call_await(call, g->session); /* on_idle posts the opening job */
    } else {
        job_post(call, open_run);
    }
}

SEAM_ON_LOOP static void opened_send(seam_call *call) {
    const generate *g = call->state;
    Seam__V1__Codec codecs[SEAM_CODEC_LAST];
    Seam__V1__Capabilities capabilities;
    Seam__V1__GenerateOpened opened = SEAM__V1__GENERATE_OPENED__INIT;
    Seam__V1__GenerateResponse response = SEAM__V1__GENERATE_RESPONSE__INIT;
    seam_capabilities_init(&capabilities, codecs);
    opened.capabilities = &capabilities;
    opened.committed_step_count = seam_server_proto_committed_count(&g->session->proto);
    response.body_case = SEAM__V1__GENERATE_RESPONSE__BODY_OPENED;
    response.opened = &opened;
    (void)seam_call_send_message(call, &response.base);
}

/* ---- requests ---- */

static seam_status on_rows(generate *g, const uint8_t *bytes, size_t count, seam_error *err) {
    seam_generator_request *to = seam_generator_request_of(g->generator);
    const seam_layout_limits limits = {
        .rows_max = g->options.rows_max,
        .sequences_max = g->options.rows_max,
        .micros_max = 1,
        .positions_max = g->options.positions_max,
    };
    if (g->rows_known) {
        return seam_error_set(err, SEAM_E_OUT_OF_SEQUENCE,
                              "rows: the tensor of request %llu is expected",
                              (unsigned long long)g->request_next);
    }
    if (g->request != NULL) {
        seam__v1__generate_request__free_unpacked(g->request, NULL);
    }
    g->request = seam__v1__generate_request__unpack(NULL, count, bytes);
    if (g->request == NULL || g->request->body_case != SEAM__V1__GENERATE_REQUEST__BODY_ROWS) {
        return seam_error_set(err, SEAM_E_FORMAT, "GenerateRequest: rows or a frame is expected");
    }
    const Seam__V1__GenerateRows *rows = g->request->rows;
    const int codec = (int)rows->codec_out;
    const seam_codec_id own = seam_session_config_codec(&g->session->config, SEAM_SITE_FWD_OUT);
    SEAM_TRY(seam_request_layout_read(&to->layout, to->rows_out, rows, g->request_next,
                                      g->options.slot_count, &limits, err));
    SEAM_TRY(seam_generator_slots_check(g->generator, &to->layout, err));
    if (codec != 0 && codec != SEAM_CODEC_F32 && codec != SEAM_CODEC_BF16 &&
        (codec != (int)own || !seam_codec_has_requests(own))) {
        return seam_error_set(err, SEAM_E_ARG,
                              "rows.codec_out: %d is not f32, bf16 or the session's codec", codec);
    }
    to->number = g->request_next;
    to->codec_out = (seam_codec_id)codec; /* 0: as the request's frames */
    g->rows_known = true;
    return SEAM_OK;
}

SEAM_ON_GPU static seam_status request_run(seam_job *job, seam_stream *stream) {
    const generate *g = ((seam_call *)job->user)->state;
    return seam_generator_run(g->generator, stream, &job->err);
}

static seam_status tensor_begin(generate *g, const seam_frame_header *header, seam_error *err) {
    seam_generator_request *request = seam_generator_request_of(g->generator);
    if (!g->rows_known) {
        return seam_error_set(err, SEAM_E_OUT_OF_SEQUENCE, "frame: GenerateRows comes first");
    }
    uint32_t codecs = 1u << SEAM_CODEC_F32 | 1u << SEAM_CODEC_BF16;
    const seam_codec_id own = seam_session_config_codec(&g->session->config, SEAM_SITE_FWD_IN);
    if (request->layout.rows >= SEAM_QUANTIZED_ROWS_MIN && seam_codec_has_requests(own)) {
        codecs |= 1u << own;
    }
    const seam_tensor_expect expect = {
        .kind = SEAM_FRAME_TENSOR,
        .phase = SEAM_PHASE_GENERATE,
        .site = SEAM_SITE_FWD_IN,
        .step = g->request_next,
        .rows = request->layout.rows,
        .channels = g->session->config.model->config->hidden,
        .codec_mask = codecs,
        .coding_max = seam_codec_plan_coding_max(&g->session->config.codec),
    };
    seam_tensor_rx_init(&g->rx, &expect);
    request->first = *header;
    g->rx_open = true;
    return SEAM_OK;
}

SEAM_ON_LOOP static seam_status on_frame(seam_call *call, const seam_walk *walk,
                                         size_t message_bytes, seam_error *err) {
    generate *g = call->state;
    seam_staging *in = seam_generator_staging(g->generator);
    seam_generator_request *request = seam_generator_request_of(g->generator);
    seam_frame_header header;
    const uint8_t *payload = NULL;
    bool complete = false;
    SEAM_TRY(seam_frame_open(&header, &payload, walk->body, walk->body_bytes, err));
    if (!g->rx_open) {
        SEAM_TRY(tensor_begin(g, &header, err));
    }
    SEAM_TRY(seam_tensor_rx_add(&complete, &g->rx, &header, seam_frame_crc(walk->body), err));
    SEAM_ASSERT(in->chunk_count < in->chunks_max);
    in->chunks[in->chunk_count++] = seam_chunk_of(&header, payload);
    in->used_bytes += message_bytes;
    if (complete) {
        if (request->codec_out == 0) {
            request->codec_out = (seam_codec_id)header.codec;
        }
        g->rx_open = g->rows_known = false;
        g->request_next++;
        job_post(call, request_run);
    }
    return SEAM_OK;
}

void seam_on_generate(seam_call *call, grpc_byte_buffer *message) {
    generate *g = call->state;
    seam_error err = {0};
    if (g == NULL) {
        g = seam_mem_zalloc(1, sizeof *g);
        if (g == NULL) {
            seam_call_fail(call, SEAM_E_MEMORY, NULL);
            return;
        }
        call->state = g;
        on_open(call, message);
        return;
    }
    if (is_gone(call)) {
        return;
    }
    if (g->session->busy) {
        seam_call_hold(call, message, g->session);
        return;
    }
    seam_staging *in = seam_generator_staging(g->generator);
    if (!g->rx_open) {
        in->used_bytes = 0;
        in->chunk_count = 0;
    }
    uint8_t *bytes = in->bytes + in->used_bytes;
    size_t count = 0;
    seam_walk walk;
    seam_status st = seam_message_copy(&count, bytes, in->capacity_bytes - in->used_bytes, message);
    if (st == SEAM_OK) {
        st = seam_walk_message(&walk, bytes, count, &err);
    }
    if (st == SEAM_OK) {
        st = walk.field == SEAM_MESSAGE_FRAME_FIELD ? on_frame(call, &walk, count, &err)
                                                    : on_rows(g, bytes, count, &err);
    }
    if (st != SEAM_OK) {
        seam_call_fail(call, st, &err);
        return;
    }
    settle(call);
}

/* ---- jobs and sending ---- */

/* Send what is due, then ask for the next message. */
static void settle(seam_call *call) {
    generate *g = call->state;
    if (call->finishing || call->closed || call->job_running || !g->opened) {
        return;
    }
    while (g->out_reply != NULL && call->outbox_count < OUTBOX_MESSAGES) {
        if (g->out_next == g->out_reply->message_count) {
            g->out_reply = NULL;
            break;
        }
        const struct seam_reply_message *message = &g->out_reply->messages[g->out_next++];
        (void)seam_call_send(call, g->out_reply->bytes + message->offset, message->message_bytes);
    }
    if (g->out_reply != NULL || !seam_call_is_sent(call)) {
        return;
    }
    if (g->draining) {
        seam_error err = {0};
        (void)seam_error_set(&err, SEAM_E_UNAVAILABLE, "the server is stopping");
        seam_call_fail(call, SEAM_E_UNAVAILABLE, &err);
    } else if (!call->receiving && call->held == NULL) {
        seam_call_receive(call);
    }
}

SEAM_ON_LOOP static void job_done(seam_call *call) {
    generate *g = call->state;
    if (call->job.status != SEAM_OK) {
        seam_call_fail(call, call->job.status, &call->job.err);
    } else if (!g->opened) {
        g->opened = true;
        opened_send(call);
    } else {
        g->session->row_count += seam_generator_request_of(g->generator)->layout.rows;
        g->out_reply = seam_generator_reply(g->generator);
        g->out_next = 0;
    }
    settle(call);
}

void seam_on_generate_job(seam_call *call) {
    seam_session *session = ((generate *)call->state)->session;
    seam_session_ref(session);
    session->busy = false;
    if (!is_gone(call)) {
        job_done(call);
        if (call->closed) {
            generate_free(call);
        }
    }
    seam_train_session_idle(call->server, session);
    seam_session_unref(session);
}

void seam_on_generate_idle(seam_call *call) {
    if (!is_gone(call)) {
        job_post(call, open_run);
    }
}

void seam_on_generate_sent(seam_call *call) {
    if (call->state != NULL) {
        settle(call);
    }
}

void seam_on_generate_drain(seam_call *call) {
    generate *g = call->state;
    if (g == NULL || !g->opened) {
        seam_error err = {0};
        (void)seam_error_set(&err, SEAM_E_UNAVAILABLE, "the server is stopping");
        seam_call_fail(call, SEAM_E_UNAVAILABLE, &err);
        return;
    }
    g->draining = true;
    settle(call);
}

/* ---- end ---- */

/* With an error, and without waiting for the client to see it: what it has goes now, or when its
 * job has run. */
SEAM_ON_LOOP static void generate_end(seam_call *call, seam_status st, const char *text) {
    seam_error err = {0};
    (void)seam_error_set(&err, st, "%s", text);
    seam_call_fail(call, st, &err);
    if (!call->job_running) {
        generate_free(call);
    }
}

/* True: its session was deleted, or the session's time was over; so the call ends. */
static bool is_gone(seam_call *call) {
    const generate *g = call->state;
    const bool gone = g->session->deleted;
    if (gone) {
        generate_end(call, SEAM_E_GONE, "the session was deleted");
    }
    return gone;
}

typedef struct generates_ending {
    const seam_session *session;
    seam_status st;
    const char *text;
} generates_ending;

SEAM_ON_LOOP static void call_end(seam_call *call, void *user) {
    const generates_ending *ending = user;
    const generate *g = call->method->on_message == seam_on_generate ? call->state : NULL;
    if (g != NULL && g->session == ending->session) {
        generate_end(call, ending->st, ending->text);
    }
}

void seam_generates_end(seam_server *server, const seam_session *session, seam_status st,
                        const char *text) {
    generates_ending ending = {.session = session, .st = st, .text = text};
    seam_server_each_call(server, call_end, &ending);
}

static void generate_free(seam_call *call) {
    generate *g = call->state;
    call->state = NULL;
    seam_generator_destroy(g->generator);
    if (g->session != NULL) {
        seam_sessions_unreserve(seam_server_sessions(call->server), &g->reserved);
        seam_session_unref(g->session);
    }
    if (g->request != NULL) {
        seam__v1__generate_request__free_unpacked(g->request, NULL);
    }
    seam_mem_free(g);
}

void seam_on_generate_close(seam_call *call) {
    if (call->state != NULL && !call->job_running) {
        generate_free(call);
    }
}
